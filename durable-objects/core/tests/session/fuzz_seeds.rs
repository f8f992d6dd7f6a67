//! Every file of `fuzz/seeds/session` holds in an ordinary test run too; see `fuzz/src/session.rs`.

use std::path::Path;

use crate::fuzz;

#[test]
fn every_seed_of_a_story_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/session");
    let files: Vec<_> = std::fs::read_dir(&folder).expect("the folder is checked in").collect();
    assert!(!files.is_empty(), "no seeds in {}", folder.display());
    for file in files {
        let path = file.expect("the folder can be listed").path();
        let bytes = std::fs::read(&path).expect("a seed can be read");
        let result = std::panic::catch_unwind(|| fuzz::session(&bytes));
        assert!(result.is_ok(), "{} does not hold", path.display());
    }
}
