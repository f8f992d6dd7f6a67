//! The build of an image: what it does, what it tells, and to whom it tells nothing.

use std::io::Write as _;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use oi_protocol::local_backend::{BootFrom, CreateSandboxRequest, ImageBuild};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::environment::{assert_files_are_clean, assert_processes_are_clean, holds_secret};
use crate::support::eventually;
use crate::support::forge::Forge;
use crate::support::sandbox::{Sandbox, config, program};
use crate::support::session::{GIT_PASSWORD, Session};

const CALLBACK_TOKEN: &str = "0000111122223333444455556666777788889999aaaabbbbccccddddeeeeffff";

/// Where builds are told.
#[derive(Clone, Default)]
struct Callbacks {
    url: String,
    told: Arc<Mutex<Vec<(String, Value)>>>,
    /// Answers to give before 200.
    refusals: Arc<Mutex<Vec<u16>>>,
}

impl Callbacks {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let callbacks = Self { url: format!("http://{}", listener.local_addr().expect("bound")), ..Self::default() };
        let router = Router::new().route("/{kind}", post(take)).with_state(callbacks.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        callbacks
    }

    fn told(&self) -> Vec<(String, Value)> {
        self.told.lock().expect("no test panicked in it").clone()
    }

    async fn first(&self) -> (String, Value) {
        eventually("a callback", Duration::from_secs(30), || self.told().first().cloned()).await
    }
}

async fn take(
    State(callbacks): State<Callbacks>,
    axum::extract::Path(kind): axum::extract::Path<String>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> StatusCode {
    assert_eq!(headers["authorization"], format!("Bearer {CALLBACK_TOKEN}"));
    assert_eq!(headers["user-agent"], "open-inspect/repo-image-builder");
    callbacks.told.lock().expect("no test panicked in it").push((kind, body));
    let next = callbacks.refusals.lock().expect("no test panicked in it").pop();
    next.map_or(StatusCode::OK, |status| StatusCode::from_u16(status).expect("a status"))
}

struct World {
    session: Session,
    forge: Forge,
    callbacks: Callbacks,
}

async fn world() -> World {
    World { session: Session::start().await, forge: Forge::start().await, callbacks: Callbacks::start().await }
}

impl World {
    fn config(&self, timeout: Option<u32>) -> CreateSandboxRequest {
        let boot = BootFrom::Build(ImageBuild {
            build_id: "build-1".to_owned(),
            callback_url: format!("{}/complete", self.callbacks.url),
            failure_callback_url: format!("{}/failed", self.callbacks.url),
            callback_token: CALLBACK_TOKEN.to_owned(),
            provider_session_id: "machine-1".to_owned(),
            execution_timeout_seconds: timeout,
            clone_token: Some(GIT_PASSWORD.to_owned()),
            clone_username: None,
        });
        CreateSandboxRequest { boot, ..config(&self.session, Some(&self.forge), "http://127.0.0.1:9/v1") }
    }

    fn start(&self, timeout: Option<u32>) -> Sandbox {
        Sandbox::prepared(self.config(timeout), "http://127.0.0.1:9", |_| {})
    }

    fn setup(&self, script: &str) {
        let script = script.replace('\'', "'\\''");
        self.forge.change("api", &format!("mkdir .openinspect; printf '%s' '{script}' > .openinspect/setup.sh; echo 'touch ../started' > .openinspect/start.sh;"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_is_set_up_told_and_waits_for_its_end() {
    let world = world().await;
    world.setup("echo $OPENINSPECT_BOOT_MODE > ../setup; echo said-to-nobody");
    *world.callbacks.refusals.lock().unwrap() = vec![503];
    let mut sandbox = world.start(Some(60));
    eventually("both attempts", Duration::from_secs(30), || (world.callbacks.told().len() == 2).then_some(())).await;
    let (kind, body) = world.callbacks.first().await;
    assert_eq!(kind, "complete");
    let seconds = body["build_duration_seconds"].as_f64().expect("seconds");
    assert!(seconds > 0.0 && (seconds * 1000.0).fract().abs() < 1e-6, "{seconds}");
    let version = body["runtime_version"].as_str().expect("a version").to_owned();
    assert!(version.starts_with("v100"), "{version}");
    assert_eq!(
        body,
        json!({"build_id": "build-1", "build_duration_seconds": seconds, "runtime_version": version,
            "repository_shas": [{"repoOwner": "acme", "repoName": "api", "baseSha": world.forge.git("rev-parse main")}],
            "provider_session_id": "machine-1"})
    );
    assert_eq!(std::fs::read_to_string(sandbox.path("workspace/setup")).expect("it ran"), "build\n");
    assert!(!sandbox.path("workspace/started").exists(), "nothing is started");
    assert_eq!(world.session.taken().connections, 0, "there is no session to dial");
    assert!(assert_processes_are_clean(&sandbox) >= 1, "it lives, so that it can be kept");
    assert_files_are_clean(sandbox.folder.path());
    assert!(!sandbox.path("run/hooks").exists(), "what it printed is nowhere");
    sandbox.terminate();
    assert!(sandbox.ended().await.success());
    assert_eq!(world.callbacks.told().len(), 2, "its end is told to nobody");
    // What a session finds in the image is no session's work.
    let marks = crate::support::sh(&sandbox.path("workspace/api"), "git for-each-ref refs/open-inspect");
    assert_eq!(marks, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_that_fails_says_why_without_its_output_and_ends() {
    let cases = [
        ("echo the-$(echo secret); exit 4", None, "setup hook failed for acme/api in build mode", 13),
        ("sleep 30", Some(1), "image build exceeded its 1-second execution timeout", 16),
    ];
    for (script, timeout, expected, code) in cases {
        let world = world().await;
        world.setup(script);
        let mut sandbox = Sandbox::logged(world.config(timeout), "http://127.0.0.1:9");
        let (kind, body) = world.callbacks.first().await;
        assert_eq!(kind, "failed");
        assert_eq!(body, json!({"build_id": "build-1", "error": expected, "provider_session_id": "machine-1"}));
        assert_eq!(sandbox.ended().await.code(), Some(code), "{expected}");
        assert_eq!(world.callbacks.told().len(), 1);
        let log = std::fs::read_to_string(sandbox.path("log")).expect("kept");
        assert!(log.contains("hook.failed") || timeout.is_some(), "{log}");
        assert!(!log.contains("the-secret") && holds_secret(log.as_bytes()).is_none(), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_cancels_a_build_and_nobody_is_told() {
    let world = world().await;
    world.setup("touch ../began; sleep 60");
    let mut sandbox = world.start(None);
    let began = sandbox.path("workspace/began");
    eventually("the hook", Duration::from_secs(20), || began.exists().then_some(())).await;
    sandbox.terminate();
    assert!(sandbox.ended().await.success());
    assert!(world.callbacks.told().is_empty());
}

fn launch(folder: &std::path::Path, variables: &[(&str, &str)]) -> std::process::Child {
    std::process::Command::new(program())
        .args(["supervise", "--await-modal-image-build-token-stdin-v1"])
        .args(["--workspace", "workspace", "--home", "home", "--runtime-dir", "run", "--temporary-dir", "tmp"])
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("IMAGE_BUILD_MODE", "true")
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_that_waits_for_its_token_takes_one_line_and_keeps_it_in_memory() {
    let world = world().await;
    let folder = tempfile::tempdir().expect("a folder");
    let (complete, failed) = (format!("{}/complete", world.callbacks.url), format!("{}/failed", world.callbacks.url));
    let variables = [
        ("SANDBOX_ID", "sandbox-test-token"),
        ("OI_REPO_IMAGE_BUILD_ID", "build-2"),
        ("OI_REPO_IMAGE_CALLBACK_URL", &complete),
        ("OI_REPO_IMAGE_FAILURE_CALLBACK_URL", &failed),
        ("MODAL_SANDBOX_ID", "sb-modal"),
    ];
    let mut child = launch(folder.path(), &variables);
    let mut input = child.stdin.take().expect("piped");
    input.write_all(format!("{CALLBACK_TOKEN}\n").as_bytes()).expect("written");
    let (kind, body) = world.callbacks.first().await;
    assert_eq!(
        (kind.as_str(), &body["build_id"], &body["provider_session_id"]),
        ("complete", &json!("build-2"), &json!("sb-modal"))
    );
    assert_eq!(body["repository_shas"], json!([]));
    let environment = std::fs::read(format!("/proc/{}/environ", child.id())).expect("it runs, with the same id");
    let line = std::fs::read(format!("/proc/{}/cmdline", child.id())).expect("it runs");
    for bytes in [environment, line] {
        assert!(!String::from_utf8_lossy(&bytes).contains(CALLBACK_TOKEN));
        assert_eq!(holds_secret(&bytes), None);
    }
    crate::support::sh(folder.path(), &format!("kill -TERM {}", child.id()));
    assert!(child.wait().expect("it ends").success());

    for (text, variables, code) in
        [("not a token\n", &variables[..], 1), ("", &variables[..], 1), ("", &variables[..1], 1)]
    {
        let mut child = launch(folder.path(), variables);
        let mut input = child.stdin.take().expect("piped");
        drop(input.write_all(text.as_bytes()));
        drop(input);
        assert_eq!(child.wait().expect("it ends").code(), Some(code), "{text:?}");
    }
    // A signal while it waits is an orderly end. It says that it waits only in its log, so it is asked again.
    let mut child = launch(folder.path(), &variables);
    let _open = child.stdin.take().expect("piped");
    let status = eventually("its end", Duration::from_secs(20), || {
        let catches = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let catches = catches.lines().find_map(|line| line.strip_prefix("SigCgt:").map(str::trim).map(str::to_owned));
        let mask = catches.and_then(|mask| u64::from_str_radix(&mask, 16).ok()).unwrap_or_default();
        if mask & (1 << 14) != 0 {
            crate::support::sh(folder.path(), &format!("kill -TERM {} 2>/dev/null || true", child.id()));
        }
        child.try_wait().expect("waited")
    });
    assert_eq!(status.await.code(), Some(0));
    assert_eq!(world.callbacks.told().len(), 1);
}
