//! Every file of `fuzz/seeds` holds in an ordinary test run too; crashing inputs are put there when they are mended.

#[path = "../../../fuzz/src/rest.rs"]
mod rest;
#[path = "../../../fuzz/src/seeds.rs"]
mod seeds;

use std::path::Path;

fn feed(target: &str, property: fn(&[u8])) {
    seeds::feed(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds"), target, property);
}

#[test]
fn every_seed_of_a_services_signature_holds() {
    feed("service_signature", rest::service_signature);
}

#[test]
fn every_seed_of_a_rest_body_holds() {
    feed("rest_body", rest::rest_body);
}
