//! Every file of `fuzz/seeds` holds in an ordinary test run too; crashing inputs are put there when they are mended.

#[path = "../../fuzz/src/dotenv.rs"]
mod dotenv;
#[path = "../../fuzz/src/frames.rs"]
mod frames;
#[path = "../../fuzz/src/seeds.rs"]
mod seeds;

use std::path::Path;

fn feed(target: &str, property: fn(&[u8])) {
    seeds::feed(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds"), target, property);
}

#[test]
fn every_seed_of_a_clients_frame_holds() {
    feed("client_frame", frames::client_frame);
}

#[test]
fn every_seed_of_a_bridges_frame_holds() {
    feed("sandbox_frame", frames::sandbox_frame);
}

#[test]
fn every_seed_of_a_pasted_text_holds() {
    feed("dotenv", dotenv::dotenv);
}
