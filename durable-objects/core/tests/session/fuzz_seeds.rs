//! Every file of `fuzz/seeds/session` holds in an ordinary test run too; see `fuzz/src/session.rs`.

use std::path::Path;

use crate::{fuzz, seeds};

#[test]
fn every_seed_of_a_story_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
    seeds::feed(&folder, "session", fuzz::session);
}
