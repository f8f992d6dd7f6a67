//! Feeds the seeds of a target to what must hold of it, in an ordinary test run.

use std::path::Path;

/// Each file of the target's folder below `seeds`. The failure names it.
pub fn feed(seeds: &Path, target: &str, property: fn(&[u8])) {
    let folder = seeds.join(target);
    let files: Vec<_> = std::fs::read_dir(&folder).expect("the folder is checked in").collect();
    assert!(!files.is_empty(), "no seeds in {}", folder.display());
    for file in files {
        let path = file.expect("the folder can be listed").path();
        let bytes = std::fs::read(&path).expect("a seed can be read");
        let result = std::panic::catch_unwind(|| property(&bytes));
        assert!(result.is_ok(), "{} does not hold", path.display());
    }
}
