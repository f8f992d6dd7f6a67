//! A Worker's `wrangler.toml` as `wrangler dev` and the migrations get it from us: the same, but with whole paths, so that
//! it can lie in the state folder (where wrangler leaves its own files beside it), and without a build step.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::env_file::write_private;
use crate::failure::{Failure, Result};

/// Writes the changed configuration and returns where it is.
pub fn write(source: &Path, folder: &Path) -> Result<PathBuf> {
    let text = fs::read_to_string(source).map_err(Failure::file("read", source))?;
    let config: Value = toml::from_str(&text).map_err(|error| Failure::content(source, error))?;
    let base = source.parent().unwrap_or(Path::new("."));
    let config = relocate(config, base);
    let path = folder.join("wrangler.json");
    let bytes = serde_json::to_vec_pretty(&config).map_err(|error| Failure::content(source, error))?;
    write_private(&path, &bytes)?;
    Ok(path)
}

/// Paths in a configuration are relative to it.
fn relocate(mut config: Value, base: &Path) -> Value {
    if let Some(map) = config.as_object_mut() {
        // Built before: a second build under wrangler would change the file that it serves.
        map.remove("build");
        map.remove("dev");
        make_whole(map.get_mut("main"), base);
        make_whole(map.get_mut("assets").and_then(|assets| assets.get_mut("directory")), base);
        for database in map.get_mut("d1_databases").and_then(Value::as_array_mut).into_iter().flatten() {
            make_whole(database.get_mut("migrations_dir"), base);
        }
    }
    config
}

fn make_whole(path: Option<&mut Value>, base: &Path) {
    if let Some(path) = path
        && let Some(text) = path.as_str()
    {
        *path = base.join(text).to_string_lossy().into_owned().into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_whole_and_the_build_step_goes() {
        let config = toml::from_str(
            r#"
            name = "x"
            main = "workers/x/build/index.js"
            [build]
            command = "cargo xtask worker x"
            [assets]
            directory = "web/dist"
            not_found_handling = "single-page-application"
            [[d1_databases]]
            binding = "DB"
            migrations_dir = "d1-migrations"
            [vars]
            A = "workers/x"
            "#,
        )
        .expect("TOML");
        let expected = serde_json::json!({
            "name": "x",
            "main": "/repo/workers/x/build/index.js",
            "assets": {"directory": "/repo/web/dist", "not_found_handling": "single-page-application"},
            "d1_databases": [{"binding": "DB", "migrations_dir": "/repo/d1-migrations"}],
            "vars": {"A": "workers/x"},
        });
        assert_eq!(relocate(config, Path::new("/repo")), expected);
    }
}
