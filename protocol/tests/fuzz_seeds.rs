//! Every file of `fuzz/seeds` holds in an ordinary test run too; crashing inputs are put there when they are mended.

#[path = "../../fuzz/src/frames.rs"]
mod frames;

use std::path::Path;

fn feed(target: &str, property: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let files: Vec<_> = std::fs::read_dir(&folder).expect("the folder is checked in").collect();
    assert!(!files.is_empty(), "no seeds in {}", folder.display());
    for file in files {
        let path = file.expect("the folder can be listed").path();
        let bytes = std::fs::read(&path).expect("a seed can be read");
        let result = std::panic::catch_unwind(|| property(&bytes));
        assert!(result.is_ok(), "{} does not hold", path.display());
    }
}

#[test]
fn every_seed_of_a_clients_frame_holds() {
    feed("client_frame", frames::client_frame);
}

#[test]
fn every_seed_of_a_bridges_frame_holds() {
    feed("sandbox_frame", frames::sandbox_frame);
}
