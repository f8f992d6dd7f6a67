//! Folders that only this user may look into.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

/// Makes one, with the folders above it that are not there. One that is there stays as it is.
pub fn create(path: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}
