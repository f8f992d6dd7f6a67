//! The main job by hand, in Debian's Chromium, with two browsers at once.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use e2e::{Outcome, check, tool};
use tokio::process::Command;

use crate::World;

pub async fn two_browsers_do_the_main_job_by_hand(world: &World) -> Outcome {
    run_script(world, "two_browsers.mjs", Duration::from_secs(220), &[]).await
}

/// Runs a script of `browser/` against the page, with further variables.
pub async fn run_script(world: &World, script: &str, within: Duration, variables: &[(&str, &str)]) -> Outcome {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pictures = folder.join("../target/e2e-pictures");
    std::fs::create_dir_all(&pictures)?;
    let run = Command::new(tool("node")?)
        .arg(folder.join("browser").join(script))
        .env("PLAYWRIGHT_CORE", tool("playwrightCore")?)
        .env("CHROMIUM", tool("chromium")?)
        .env("BASE_URL", &world.stack.ready.base_url)
        .env("PICTURES", pictures)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(within, run).await??;
    check!(
        output.status.success(),
        "the browsers' script failed:\n{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
