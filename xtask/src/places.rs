//! Where things are: the repository, its build folders, and the user's cache.

use std::env;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};

/// The folders that every chore knows.
#[derive(Debug, Clone)]
pub struct Places {
    /// The repository.
    pub root: PathBuf,
    /// The user's cache of tools, shared by every clone.
    pub cache: PathBuf,
}

impl Places {
    pub fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .filter(|root| root.join("Cargo.toml").is_file())
            .map(Path::to_path_buf)
            .ok_or_else(|| {
                Failure::Missing("the repository has moved since `xtask` was built: run `cargo xtask` again".into())
            })?;
        let cache = cache_folder(&|name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
            .ok_or_else(|| Failure::Missing("no folder for the cache: set `HOME` or `OPEN_INSPECT_CACHE`".into()))?;
        Ok(Self { root, cache })
    }

    pub fn tools(&self) -> PathBuf {
        self.cache.join("tools")
    }

    /// Build folder of the native programs.
    pub fn target(&self) -> PathBuf {
        self.root.join("target")
    }

    /// Build folder of the Workers: another compiler may build them, which would otherwise rebuild everything.
    pub fn target_wasm(&self) -> PathBuf {
        self.root.join("target-wasm")
    }

    /// What a chore did last, to skip it next time.
    pub fn stamps(&self) -> PathBuf {
        self.target().join("xtask").join("stamps")
    }

    pub fn log(&self, name: &str) -> PathBuf {
        self.target().join("xtask").join("logs").join(format!("{name}.log"))
    }

    pub fn web(&self) -> PathBuf {
        self.root.join("web")
    }
}

fn cache_folder(var: &dyn Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    var("OPEN_INSPECT_CACHE")
        .or_else(|| var("XDG_CACHE_HOME").map(|dir| dir.join("open-inspect")))
        .or_else(|| var("HOME").map(|dir| dir.join(".cache").join("open-inspect")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_folder_follows_the_nearest_variable() {
        let with = |set: &'static [(&str, &str)]| {
            cache_folder(&move |name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| PathBuf::from(value)))
        };
        assert_eq!(with(&[("HOME", "/h")]), Some(PathBuf::from("/h/.cache/open-inspect")));
        assert_eq!(with(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), Some(PathBuf::from("/x/open-inspect")));
        assert_eq!(with(&[("XDG_CACHE_HOME", "/x"), ("OPEN_INSPECT_CACHE", "/o")]), Some(PathBuf::from("/o")));
        assert_eq!(with(&[]), None);
    }
}
