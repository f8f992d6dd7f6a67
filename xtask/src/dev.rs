//! `cargo xtask dev`: the whole system on this machine, on loopback, until Ctrl-C.

mod backoff;
mod env_file;
mod ports;
mod probe;
mod processes;
mod ready_file;
mod secrets;
mod stack;
mod supervisor;
mod wrangler_config;

use std::fs::{self, File};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;

use crate::build;
use crate::failure::{Failure, Result};
use crate::interrupt;
use crate::places::Places;
use crate::program::{Program, find_on_path};
use crate::progress::{self, Outcome, human};
use crate::setup::{self, Ready, Wants};
use crate::stamps::{Inputs, Stamp};
use crate::workers::{DATABASES, Worker};

use ports::{Asked, Leases};
use secrets::Secrets;
pub use stack::MODEL_VARIABLES;
use stack::{Addresses, Ports, Stack};
use supervisor::Supervisor;

/// Name of the control plane's program in logs and the ready file.
const CONTROL_PLANE: &str = "control-plane";
/// How long all programs together may take to answer.
const START_DEADLINE: Duration = Duration::from_secs(240);

/// Run the whole system on this machine, on loopback, until Ctrl-C.
#[derive(Args)]
pub struct Options {
    /// For programs: open no browser.
    #[arg(long)]
    headless: bool,
    /// Write a JSON description of the running stack here when all is up.
    #[arg(long, value_name = "PATH")]
    ready_file: Option<PathBuf>,
    /// Keep secrets, databases, repositories, sandboxes and logs here.
    #[arg(long, value_name = "DIR", default_value = ".dev")]
    state_dir: PathBuf,
    /// Port of the page and the control plane; the others follow it. 0 chooses free ones for all.
    #[arg(long, default_value_t = 8787)]
    port: u16,
    /// Port of the local forge.
    #[arg(long)]
    forge_port: Option<u16>,
    /// Port of the stand-in for Google.
    #[arg(long)]
    google_port: Option<u16>,
    /// Port of the demo model.
    #[arg(long)]
    model_port: Option<u16>,
    /// Port of the sandbox host.
    #[arg(long)]
    sandbox_host_port: Option<u16>,
    /// Port of the Slack Worker.
    #[arg(long)]
    slack_port: Option<u16>,
    /// Port of the GitHub Worker.
    #[arg(long)]
    github_port: Option<u16>,
    /// Port of the Linear Worker.
    #[arg(long)]
    linear_port: Option<u16>,
    /// Start all three bots, also those whose secret (`SLACK_SIGNING_SECRET`, `GITHUB_WEBHOOK_SECRET`,
    /// `LINEAR_WEBHOOK_SECRET`) is not set.
    #[arg(long)]
    with_bots: bool,
    /// Use the demo model even when a real one is configured.
    #[arg(long)]
    demo_model: bool,
    /// Set a variable of the control plane; may be repeated. Not for secrets: arguments can be seen.
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = variable)]
    vars: Vec<(String, String)>,
    /// Start what was built last.
    #[arg(long)]
    no_build: bool,
}

fn variable(text: &str) -> std::result::Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    let fine = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    if name.is_empty() || !name.bytes().all(fine) || name.as_bytes()[0].is_ascii_digit() {
        return Err("the name may hold A-Z, 0-9 and _ only".into());
    }
    Ok((name.to_owned(), value.to_owned()))
}

pub fn run(places: &Places, options: &Options) -> Result<()> {
    let began = Instant::now();
    let state = std::path::absolute(places_relative(places, &options.state_dir))
        .map_err(Failure::file("find", &options.state_dir))?;
    let _alone = claim_state(&state)?;
    if let Some(path) = &options.ready_file {
        // One of an earlier run would lie.
        let _ = fs::remove_file(path);
    }
    // Before minutes of building: a taken port is known at once.
    let mut leases = Leases::new(places.cache.join("ports"))?;
    let mut secrets = Secrets::load_or_generate(&state.join("secrets.json"))?;
    let bots = wanted_bots(options.with_bots, &mut secrets);
    let played = played_backend();
    let ports = choose_ports(options, &mut leases, bots, played.is_none())?;

    let ready = setup::prepare(places, Wants { sandbox: true, browser: false, web: !options.no_build })?;
    if !options.no_build {
        build::everything(&ready)?;
    }
    let mut at = Addresses::of(&ports);
    if let Some((url, secret)) = played {
        at.sandbox_host = url;
        secrets.sandbox_host_secret = secret;
    }
    let stack = Stack { ready: &ready, state: &state, secrets: &secrets, ports, at, vars: &options.vars };
    migrate(&ready, &state, &stack)?;

    supervisor::adopt_orphans();
    let longest_pause = if options.headless { backoff::LONGEST_HEADLESS } else { backoff::LONGEST };
    let mut supervisor = Supervisor::start(stack.specs()?, longest_pause)?;
    let result = wait_until_up(&supervisor).and_then(|()| {
        announce(&stack, options, began);
        attend(&stack, options, &supervisor)
    });
    if let Some(path) = &options.ready_file {
        let _ = fs::remove_file(path);
    }
    progress::say("Stopping.");
    supervisor.stop();
    supervisor::sweep();
    // Ctrl-C is how this ends.
    match result {
        Err(Failure::Interrupted) => Ok(()),
        other => other,
    }
}

/// The default lies in the repository, whatever folder we were called in; another is where the person says.
fn places_relative(places: &Places, dir: &Path) -> PathBuf {
    if dir == Path::new(".dev") { places.root.join(dir) } else { dir.to_path_buf() }
}

/// One stack a state folder. The claim goes with the process.
fn claim_state(state: &Path) -> Result<File> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(Failure::file("make the folder", state))?;
    let path = state.join("lock");
    let file = File::create(&path).map_err(Failure::file("write", &path))?;
    file.try_lock().map_err(|_| {
        Failure::Missing(format!(
            "another `cargo xtask dev` uses `{}`: stop it, or choose another folder with `--state-dir`",
            state.display()
        ))
    })?;
    Ok(file)
}

#[derive(Clone, Copy)]
struct Bots {
    slack: bool,
    github: bool,
    linear: bool,
}

/// A bot runs when its secret is configured, which then takes the generated one's place.
fn wanted_bots(all: bool, secrets: &mut Secrets) -> Bots {
    let configured = |name: &str, secret: &mut String| {
        let value = std::env::var(name).ok().filter(|value| !value.is_empty());
        let wanted = all || value.is_some();
        if let Some(value) = value {
            *secret = value;
        }
        wanted
    };
    Bots {
        slack: configured("SLACK_SIGNING_SECRET", &mut secrets.slack_signing_secret),
        github: configured("GITHUB_WEBHOOK_SECRET", &mut secrets.github_webhook_secret),
        linear: configured("LINEAR_WEBHOOK_SECRET", &mut secrets.linear_webhook_secret),
    }
}

/// A sandbox backend that somebody else runs, a test for instance: no host of ours is started then.
fn played_backend() -> Option<(String, String)> {
    let var = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    var("OI_DEV_SANDBOX_URL").zip(var("OI_DEV_SANDBOX_SECRET"))
}

fn choose_ports(options: &Options, leases: &mut Leases, bots: Bots, host: bool) -> Result<Ports> {
    let base = options.port;
    let mut take = |what, flag, port, offset| leases.take(base, Asked { what, flag, port, offset });
    let demo = options.demo_model || !stack::real_model();
    let control_plane = take("the control plane", "--port", None, 0)?;
    let forge = take("the forge", "--forge-port", options.forge_port, 1)?;
    let google = take("the stand-in for Google", "--google-port", options.google_port, 7)?;
    let model = demo.then(|| take("the demo model", "--model-port", options.model_port, 2)).transpose()?;
    let sandbox_host =
        host.then(|| take("the sandbox host", "--sandbox-host-port", options.sandbox_host_port, 3)).transpose()?;
    let slack = bots.slack.then(|| take("the Slack Worker", "--slack-port", options.slack_port, 4)).transpose()?;
    let github = bots.github.then(|| take("the GitHub Worker", "--github-port", options.github_port, 5)).transpose()?;
    let linear = bots.linear.then(|| take("the Linear Worker", "--linear-port", options.linear_port, 6)).transpose()?;
    let inspectors = [leases.free()?, leases.free()?, leases.free()?, leases.free()?];
    Ok(Ports { control_plane, forge, google, model, sandbox_host, slack, github, linear, inspectors })
}

/// Skipped while neither the migrations nor the database's folder changed.
fn migrate(ready: &Ready, state: &Path, stack: &Stack<'_>) -> Result<()> {
    let root = &ready.places.root;
    progress::step("Migrating the local database", || {
        let inputs = Inputs::default()
            .path(root, &root.join(DATABASES[0].1))?
            .path(root, &root.join(DATABASES[1].1))?
            .path(root, &Worker::ControlPlane.config(&ready.places))?
            .finish();
        // Beside the database, so that both go together.
        let stamp = Stamp::new(&state.join("state/wrangler"), "migrated");
        if stamp.matches(&inputs) {
            return Ok(Outcome::Cached);
        }
        stack.migrate()?;
        stamp.write(&inputs)?;
        Ok(Outcome::Done)
    })?;
    Ok(())
}

fn wait_until_up(supervisor: &Supervisor) -> Result<()> {
    let started = Instant::now();
    while !supervisor.all_answer() {
        if let Some(why) = supervisor.board().gave_up {
            return Err(Failure::Missing(why));
        }
        if started.elapsed() > START_DEADLINE {
            return Err(Failure::Deadline {
                what: format!("starting {}", supervisor.silent().join(", ")),
                deadline: START_DEADLINE,
                tail: String::new(),
            });
        }
        if !interrupt::sleep(Duration::from_millis(50)) {
            return Err(Failure::Interrupted);
        }
    }
    Ok(())
}

/// Until somebody stops us: keeps the ready file true and buries orphans.
fn attend(stack: &Stack<'_>, options: &Options, supervisor: &Supervisor) -> Result<()> {
    let mut written = None;
    loop {
        let board = supervisor.board();
        if let Some(why) = board.gave_up {
            return Err(Failure::Missing(why));
        }
        if let Some(path) = &options.ready_file
            && written != Some(board.version)
        {
            ready_file::write(path, &stack.at, stack.secrets, stack.state, &board.pids)?;
            written = Some(board.version);
        }
        supervisor.reap_orphans();
        if !interrupt::sleep(Duration::from_millis(250)) {
            return Ok(());
        }
    }
}

fn announce(stack: &Stack<'_>, options: &Options, began: Instant) {
    let url = &stack.at.control_plane;
    progress::say(format_args!("\n  Open-Inspect is running: {url}\n  (up in {})\n", human(began.elapsed())));
    if stack.at.model.is_some() {
        progress::say(
            "  No model is configured, so a scripted demo model answers. Set ANTHROPIC_API_KEY, OPENAI_API_KEY or",
        );
        progress::say("  OPENAI_COMPATIBLE_BASE_URL for a real one.");
    }
    progress::say(format_args!("  Sign in as ada or grace. Forge: {}", stack.at.forge));
    progress::say(format_args!("  Logs: {}. Ctrl-C stops everything.", stack.state.join("logs").display()));
    let watched = !options.headless && std::env::var_os("CI").is_none() && std::io::stderr().is_terminal();
    let screen = std::env::var_os("DISPLAY").is_some() || std::env::var_os("WAYLAND_DISPLAY").is_some();
    if watched
        && screen
        && let Some(opener) = find_on_path("xdg-open")
    {
        // Nice to have; the line above is what counts.
        let _ = Program::new("opening the browser", opener, Duration::from_secs(5)).args([url]).succeeds();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_a_name_and_a_value() {
        assert_eq!(variable("EXECUTION_TIMEOUT_MS=1=2"), Ok(("EXECUTION_TIMEOUT_MS".into(), "1=2".into())));
        for wrong in ["NAME", "=x", "1A=x", "a=x", "A B=x"] {
            assert!(variable(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_state_folder_has_one_stack_at_a_time() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let state = dir.path().join("state");
        let claim = claim_state(&state).expect("free");
        assert!(claim_state(&state).expect_err("taken").to_string().contains("--state-dir"));
        drop(claim);
        claim_state(&state).expect("free again");
    }
}
