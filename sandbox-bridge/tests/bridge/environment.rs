//! No token of the platform is where the agent could see it.

use std::path::Path;

use sandbox_bridge::host::processes;

use crate::id;
use crate::support::forge::Forge;
use crate::support::model::KEY;
use crate::support::opencode::FakeOpenCode;
use crate::support::sandbox::{Sandbox, program, says_it_listens, stand_in};
use crate::support::session::{GIT_PASSWORD, SESSION_ID, Session, TOKEN};

const SECRETS: [&str; 3] = [TOKEN, KEY, GIT_PASSWORD];

pub fn holds_secret(bytes: &[u8]) -> Option<&'static str> {
    holds_one_of(bytes, &SECRETS)
}

fn holds_one_of<'s>(bytes: &[u8], secrets: &[&'s str]) -> Option<&'s str> {
    secrets.iter().copied().find(|secret| bytes.windows(secret.len()).any(|window| window == secret.as_bytes()))
}

/// Fails when a file below `folder` holds a secret.
pub fn assert_files_are_clean(folder: &Path) -> usize {
    assert_files_hold_none_of(folder, &SECRETS)
}

/// The same of these secrets.
pub fn assert_files_hold_none_of(folder: &Path, secrets: &[&str]) -> usize {
    let mut looked = 0;
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let kind = std::fs::symlink_metadata(&path).expect("there").file_type();
        if kind.is_dir() {
            looked += assert_files_hold_none_of(&path, secrets);
        } else if kind.is_file() {
            let bytes = std::fs::read(&path).expect("readable");
            assert_eq!(holds_one_of(&bytes, secrets), None, "in {}", path.display());
            looked += 1;
        }
    }
    looked
}

/// Processes that carry the sandbox's mark, and the supervisor; fails when one shows a secret.
pub fn assert_processes_are_clean(sandbox: &Sandbox) -> usize {
    assert_processes_hold_none_of(sandbox, &SECRETS)
}

/// The same of these secrets.
pub fn assert_processes_hold_none_of(sandbox: &Sandbox, secrets: &[&str]) -> usize {
    let mut pids = processes::marked(&sandbox.config.sandbox_id);
    if !pids.contains(&sandbox.pid()) {
        pids.push(sandbox.pid());
    }
    for pid in &pids {
        let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let (environment, line) = (read("environ"), read("cmdline"));
        assert_eq!(holds_one_of(&environment, secrets), None, "environment of {}", String::from_utf8_lossy(&line));
        assert_eq!(holds_one_of(&line, secrets), None, "arguments of {pid}");
    }
    pids.len()
}

#[tokio::test]
async fn no_token_is_in_arguments_environments_or_files() {
    let (session, forge, opencode) = (Session::start().await, Forge::start().await, FakeOpenCode::start().await);
    let sandbox = Sandbox::with_stand_in(&session, Some(&forge), &opencode.url);
    session.booted().await;
    session.prompt(&id(1), "PLAIN");
    session.completed(&id(1)).await;
    assert!(assert_processes_are_clean(&sandbox) >= 2, "the supervisor and its agent");
    assert!(assert_files_are_clean(sandbox.folder.path()) > 10);
}

#[tokio::test]
async fn the_journal_is_for_its_user_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let (session, opencode) = (Session::start().await, FakeOpenCode::start().await);
    let sandbox = Sandbox::with_stand_in(&session, None, &opencode.url);
    session.booted().await;
    for (name, mode) in [("run", 0o700), ("home", 0o700), ("run/journal", 0o600)] {
        let found = std::fs::metadata(sandbox.path(name)).expect("there").permissions().mode() & 0o777;
        assert_eq!(found, mode, "{name}");
    }
}

#[tokio::test]
async fn a_configuration_by_environment_does_not_stay_there() {
    let (session, opencode) = (Session::start().await, FakeOpenCode::start().await);
    let folder = tempfile::tempdir().expect("a folder");
    let agent = stand_in(folder.path(), &says_it_listens(&opencode.url));
    let mut child = std::process::Command::new(program())
        .args(["supervise", "--config-env", "--opencode"])
        .arg(agent)
        .args(["--workspace", "workspace", "--home", "home", "--runtime-dir", "run", "--temporary-dir", "tmp"])
        .current_dir(folder.path())
        .env("SANDBOX_ID", "sandbox-test-by-environment")
        .env("CONTROL_PLANE_URL", &session.url)
        .env("SANDBOX_AUTH_TOKEN", TOKEN)
        .env("SESSION_CONFIG", format!(r#"{{"session_id":"{SESSION_ID}","provider":"openai","model":"gpt-5.5"}}"#))
        .env("OPENAI_API_KEY", KEY)
        .env("OI_LOG", "warn")
        .spawn()
        .expect("the program starts");
    session.booted().await;
    let environment = std::fs::read(format!("/proc/{}/environ", child.id())).expect("it runs, with the same id");
    assert_eq!(holds_secret(&environment), None);
    child.kill().expect("killed");
    child.wait().expect("waited");
    sandbox_bridge::host::processes::sweep("sandbox-test-by-environment");
}

/// The figures are printed (`--nocapture`); a release build is named by `OI_BRIDGE_PROGRAM`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_supervisor_is_small_and_dials_at_once() {
    let (session, opencode) = (Session::start().await, FakeOpenCode::start().await);
    let started = std::time::Instant::now();
    let sandbox = Sandbox::with_stand_in(&session, None, &opencode.url);
    while session.taken().connections == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    let connected = started.elapsed();
    session.booted().await;
    session.prompt(&id(1), "PLAIN");
    session.completed(&id(1)).await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", sandbox.pid())).expect("runs");
    let resident = |key: &str| -> f64 {
        let line = status.lines().find(|line| line.starts_with(key)).expect("a line");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).expect("a number") / 1024.0
    };
    let (whole, private) = (resident("VmRSS:"), resident("RssAnon:"));
    eprintln!("connected after {connected:?}; {whole:.1} MiB resident, {private:.1} MiB of it its own");
    assert!(connected < std::time::Duration::from_secs(2), "{connected:?}");
    assert!(private < 16.0, "{private} MiB");
}
