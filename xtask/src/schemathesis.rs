//! `cargo xtask schemathesis`: requests made of our OpenAPI document, against the whole running system.

use std::path::Path;
use std::time::Duration;

use crate::failure::Result;
use crate::setup::Ready;
use crate::tests_run::end_to_end;

const DEADLINE: Duration = Duration::from_secs(60 * 60);

/// Make requests of the OpenAPI document, by a signed-in person and by a sandbox: none may be a server error, and each
/// answer is as the document says.
#[derive(clap::Args)]
pub struct Options {
    /// At least so many.
    #[arg(long, default_value_t = 10_000)]
    requests: u64,
    /// What is made up follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub fn run(ready: &Ready, binary: &Path, options: &Options) -> Result<()> {
    end_to_end(ready, "Schemathesis", DEADLINE)?
        .env("OI_SCHEMATHESIS", binary)
        .args(["run", "-q", "-p", "e2e", "--bin", "schemathesis", "--"])
        .args([options.requests.to_string(), options.seed.to_string()])
        .run()
}
