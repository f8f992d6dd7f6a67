//! Values that only the supervisor may know are looked for everywhere, from outside and from inside, while a sandbox
//! works.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::host::{Host, SECRET, isolations};
use crate::id;
use crate::support::forge::Forge;
use crate::support::model::{self, KEY};
use crate::support::sandbox::{Sandbox, config};
use crate::support::scan::{self, Canary, Findings};
use crate::support::session::{GIT_PASSWORD, Session, TOKEN};
use crate::support::signing_key::{COMMITTER, SigningKey};

const USERS_OWN: &str = "the-users-own-value-for-hooks-and-agent";
const MCP_HEADER: &str = "the-header-of-a-remote-mcp-server-9f2c";

fn canaries(signing: &SigningKey) -> Vec<Canary> {
    vec![
        Canary::new("the sandbox's token", TOKEN),
        Canary::new("the model's key", KEY),
        Canary::new("the credential for git", GIT_PASSWORD),
        Canary::new("the host's secret", SECRET),
        Canary::new("the signing key", &signing.secret()),
        Canary::new("the MCP server's header", MCP_HEADER),
    ]
}

fn users_own() -> [Canary; 1] {
    [Canary::new("the user's value", USERS_OWN)]
}

/// What a planted value does to the scan: without it, that nothing was found would say nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scan_finds_what_is_planted() {
    let session = Session::start().await;
    let sandbox = Sandbox::with_script(&session, "sleep 600");
    session.connected(1).await;
    let canaries = [Canary::new("the canary", "a-canary-that-was-planted")];
    let scan = || {
        let mut findings = Findings::new();
        scan::files(sandbox.folder.path(), &canaries, &mut findings);
        scan::processes(&sandbox.config.sandbox_id, &canaries, &mut findings);
        findings
    };
    assert_eq!(scan(), Findings::new());
    let plant = |script: &str| {
        let mut command = std::process::Command::new("sh");
        command.args(["-euc", script]).current_dir(sandbox.folder.path());
        command.env("OI_SANDBOX_ID", &sandbox.config.sandbox_id).stdout(std::process::Stdio::null());
        command.spawn().expect("sh runs")
    };
    // Each way once: a file, one that git compressed, base64 within a line, a name, a link, arguments, an environment.
    for (script, place) in [
        ("echo xa-canary-that-was-plantedx > home/file; exec sleep 60", "home/file"),
        (
            "git init -q workspace/r; cd workspace/r; echo a-canary-that-was-planted | git hash-object -w --stdin; exec sleep 60",
            "objects of",
        ),
        ("printf 'x-access-token:a-canary-that-was-planted' | base64 > tmp/header; exec sleep 60", "tmp/header"),
        ("touch tmp/a-canary-that-was-planted; exec sleep 60", "the name"),
        ("ln -s /nowhere/a-canary-that-was-planted run/link; exec sleep 60", "the link"),
        ("sleep 60; : a-canary-that-was-planted", "the arguments of"),
        ("SECRET=a-canary-that-was-planted exec sleep 60", "the environment of"),
    ] {
        let mut child = plant(script);
        let found = || scan().iter().any(|finding| finding.contains(place)).then_some(());
        crate::support::eventually(place, Duration::from_secs(10), found).await;
        child.kill().expect("killed");
        child.wait().expect("waited");
        for left in ["home/file", "workspace/r", "tmp/header", "tmp/a-canary-that-was-planted", "run/link"] {
            let path = sandbox.path(left);
            drop(if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) });
        }
        // What a shell has just started has the shell's arguments for a moment, and outlives it.
        let gone = || scan().is_empty().then_some(());
        crate::support::eventually(&format!("nothing after {place}"), Duration::from_secs(5), gone).await;
    }
}

fn opencode() -> PathBuf {
    PathBuf::from(std::env::var_os("OI_OPENCODE").expect("OI_OPENCODE names the OpenCode binary"))
}

/// Looks at processes again and again, since git's live for moments.
fn watch(
    sandbox_id: &str,
    canaries: Arc<Vec<Canary>>,
) -> (Arc<AtomicBool>, std::thread::JoinHandle<(Findings, usize)>) {
    let (end, sandbox_id) = (Arc::new(AtomicBool::new(false)), sandbox_id.to_owned());
    let ended = Arc::clone(&end);
    let watcher = std::thread::spawn(move || {
        let (mut findings, mut most) = (Findings::new(), 0);
        while !ended.load(Ordering::Relaxed) {
            most = most.max(scan::processes(&sandbox_id, &canaries, &mut findings));
            std::thread::sleep(Duration::from_millis(2));
        }
        (findings, most)
    });
    (end, watcher)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the OpenCode binary: set OI_OPENCODE"]
async fn no_value_of_the_platform_is_anywhere_while_a_sandbox_works() {
    let isolation = isolations()[0];
    let (session, forge) = (Session::start().await, Forge::start().await);
    let signing = SigningKey::generate();
    let canaries = Arc::new(canaries(&signing));
    *session.inner.signing.lock().expect("free") = Some(signing);
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("host.log");
    let host = Host::logging_to(isolation, folder, opencode(), &log).await;
    let mut config = config(&session, Some(&forge), &model::start().await);
    config.env.insert("THEIR_VALUE".to_owned(), USERS_OWN.to_owned());
    config.mcp_servers.push(oi_protocol::local_backend::SandboxMcpServer {
        id: "m1".to_owned(),
        name: "remote".to_owned(),
        kind: "remote".to_owned(),
        command: None,
        url: Some("http://127.0.0.1:9/mcp".to_owned()),
        env: [].into(),
        headers: [("Authorization".to_owned(), format!("Bearer {MCP_HEADER}"))].into(),
    });
    let (end, watcher) = watch(&config.sandbox_id, Arc::clone(&canaries));
    assert_eq!(host.create(&config).await.0, 201);
    session.booted().await;
    let everywhere = |when: &str| {
        let mut findings = Findings::new();
        // The folder of programs beside these holds this build's alone.
        let looked = scan::files(&host.state().join("sandboxes"), &canaries, &mut findings);
        assert!(looked > 20, "{when}: only {looked} files were looked at");
        scan::bytes("the log", &std::fs::read(&log).expect("there is a log"), &canaries, &mut findings);
        let taken = session.taken();
        for frame in taken.frames.iter().chain(&taken.loose) {
            scan::bytes("an event", frame.to_string().as_bytes(), &canaries, &mut findings);
        }
        for (_, body) in &taken.pull_requests {
            scan::bytes("a pull request", body.to_string().as_bytes(), &canaries, &mut findings);
        }
        for output in taken.outputs.values() {
            scan::bytes("an output", output.as_bytes(), &canaries, &mut findings);
        }
        drop(taken);
        assert_eq!(findings, Findings::new(), "{when}");
    };
    everywhere("after the boot");
    session.prompt(&id(1), "CANARY");
    let done = session.completed(&id(1)).await;
    assert_eq!(done["success"], true, "{done}");
    everywhere("after a prompt");

    let calls: Vec<(String, String)> = {
        let taken = session.taken();
        let completed = taken.frames.iter().filter(|f| f["type"] == "tool_call" && f["status"] == "completed");
        let text = |call: &serde_json::Value, key: &str| call[key].as_str().unwrap_or_default().to_owned();
        completed.map(|call| (text(call, "tool"), text(call, "output"))).collect()
    };
    let names: Vec<&str> = calls.iter().map(|(tool, _)| tool.as_str()).collect();
    assert_eq!(names, ["bash", "bash", "oi_create-pull-request"]);
    assert!(calls[0].1.contains("pushed"), "{}", calls[0].1);
    assert_eq!(forge.git("log -1 --format=%cn canary"), COMMITTER);
    assert!(forge.git("cat-file commit canary").contains("BEGIN SSH SIGNATURE"), "it was signed");
    // The probe opens its own memory, so that it could have opened the supervisor's.
    assert!(calls[1].1.contains("own memory: open"), "{}", calls[1].1);
    let alone = isolation == "bwrap" || !is_root();
    if alone {
        assert!(calls[1].1.contains("supervisor: environ closed, memory closed"), "{}", calls[1].1);
        assert!(!calls[1].1.contains("environ open") && !calls[1].1.contains("memory open"), "{}", calls[1].1);
    }

    let mut of_users = Findings::new();
    scan::processes(&config.sandbox_id, &users_own(), &mut of_users);
    assert!(of_users.iter().any(|finding| finding.contains("environment of")), "the agent has the users' own values");
    assert!(!of_users.iter().any(|finding| finding.contains("supervise")), "{of_users:?}");
    host.delete(&config.sandbox_id).await;
    end.store(true, Ordering::Relaxed);
    let (findings, most) = watcher.join().expect("it watched");
    assert_eq!(findings, Findings::new(), "in processes");
    assert!(most >= 4, "supervisor, OpenCode, tools, git: {most}");
    everywhere("after the end: what a snapshot would keep");
}

/// Whether this test may read every process anyway.
fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").expect("/proc")) == 0
}
