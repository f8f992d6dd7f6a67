//! The packages of the page, in `web/node_modules`.

use super::node_tools::{NodeTools, npm_ci};
use super::prepend_path;
use crate::failure::Result;
use crate::places::Places;
use crate::progress::{self, Outcome};
use crate::stamps::{Stamp, file_hash};

pub fn dependencies(places: &Places, node: &NodeTools) -> Result<()> {
    let web = places.web();
    progress::step("Installing the page's packages", || {
        let lock = file_hash(&web.join("package-lock.json"))?;
        // Inside the folder that it speaks of, so that they go together.
        let stamp = Stamp::new(&web.join("node_modules"), ".lock-hash");
        if stamp.matches(&lock) {
            return Ok(Outcome::Cached);
        }
        npm_ci("installing the page's packages", &web, prepend_path(&[node.bin_dir()]))?
            .log(places.log("install-web"))
            .run()?;
        stamp.write(&lock)?;
        Ok(Outcome::Done)
    })?;
    Ok(())
}
