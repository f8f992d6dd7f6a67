//! The local backend: its API, and what becomes of sandboxes when processes die.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use oi_protocol::local_backend::CreateSandboxRequest;
use reqwest::{Method, StatusCode};
use sandbox_bridge::host::cgroup::Cgroups;
use sandbox_bridge::host::isolation::{Isolation, IsolationChoice};
use sandbox_bridge::host::network::NetworkChoice;
use sandbox_bridge::host::processes::{self, ProcessId};
use serde_json::{Value, json};

use crate::id;
use crate::support::opencode::FakeOpenCode;
use crate::support::sandbox::{config, program, says_it_listens, stand_in};
use crate::support::session::{Session, TOKEN};
use crate::support::{eventually, sh};

pub const SECRET: &str = "the-secret-of-the-sandbox-host";

pub struct Host {
    folder: tempfile::TempDir,
    isolation: &'static str,
    options: Vec<String>,
    opencode: PathBuf,
    /// Where all that it and its sandboxes log goes, whatever the level.
    log: Option<PathBuf>,
    child: Option<Child>,
    pub url: String,
    http: reqwest::Client,
}

impl Host {
    pub async fn start(isolation: &'static str, opencode_script: &str) -> Self {
        Self::with_options(isolation, opencode_script, &[]).await
    }

    /// A host with further options.
    pub async fn with_options(isolation: &'static str, opencode_script: &str, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let opencode = stand_in(folder.path(), opencode_script);
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Self::with(isolation, folder, opencode, options).await
    }

    /// A host whose sandboxes get this OpenCode.
    pub async fn with_program(isolation: &'static str, folder: tempfile::TempDir, opencode: PathBuf) -> Self {
        Self::with(isolation, folder, opencode, Vec::new()).await
    }

    async fn with(isolation: &'static str, folder: tempfile::TempDir, opencode: PathBuf, options: Vec<String>) -> Self {
        let http = reqwest::Client::new();
        let mut host = Self { folder, isolation, options, opencode, log: None, child: None, url: String::new(), http };
        host.run().await;
        host
    }

    /// The same, with a log of everything.
    pub async fn logging_to(isolation: &'static str, folder: tempfile::TempDir, opencode: PathBuf, log: &Path) -> Self {
        let (http, log) = (reqwest::Client::new(), Some(log.to_owned()));
        let mut host =
            Self { folder, isolation, options: Vec::new(), opencode, log, child: None, url: String::new(), http };
        host.run().await;
        host
    }

    /// The process of the host itself.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("runs").id()
    }

    pub async fn run(&mut self) {
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        self.url = format!("http://127.0.0.1:{port}");
        let mut command = Command::new(program());
        if let Some(log) = &self.log {
            command.stderr(std::fs::File::create(log).expect("made"));
        }
        let child = command
            .args([
                "host",
                "--listen",
                &format!("127.0.0.1:{port}"),
                "--max-sandboxes",
                "2",
                "--isolation",
                self.isolation,
            ])
            .arg("--state-dir")
            .arg(self.state())
            .arg("--opencode")
            .arg(&self.opencode)
            .args(&self.options)
            .env("LOCAL_SANDBOX_SECRET", SECRET)
            .env("OI_LOG", if self.log.is_some() { "trace" } else { "error" })
            .stdin(Stdio::null())
            .spawn()
            .expect("the program starts");
        self.child = Some(child);
        for _ in 0..500 {
            if self.http.get(format!("{}/health", self.url)).send().await.is_ok_and(|a| a.status().is_success()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the host did not come up");
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub fn sandbox_folder(&self, id: &str) -> PathBuf {
        self.state().join("sandboxes").join(id)
    }

    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let mut request = self.http.request(method, format!("{}{path}", self.url)).bearer_auth(SECRET);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.expect("answered");
        let status = answer.status();
        (status, answer.json().await.expect("JSON"))
    }

    pub async fn text(&self, path: &str) -> String {
        let request = self.http.get(format!("{}{path}", self.url)).bearer_auth(SECRET);
        request.send().await.expect("answered").text().await.expect("text")
    }

    pub async fn create(&self, config: &CreateSandboxRequest) -> (StatusCode, Value) {
        self.call(Method::POST, "/v1/sandboxes", Some(serde_json::to_value(config).expect("JSON"))).await
    }

    pub async fn delete(&self, id: &str) {
        let (status, _) = self.call(Method::DELETE, &format!("/v1/sandboxes/{id}"), None).await;
        assert_eq!(status, StatusCode::OK);
    }

    pub async fn status(&self, id: &str) -> String {
        let (_, sandbox) = self.call(Method::GET, &format!("/v1/sandboxes/{id}"), None).await;
        sandbox["status"].as_str().expect("a status").to_owned()
    }

    pub fn end(&mut self, signal: &str) {
        let mut child = self.child.take().expect("runs");
        sh(self.folder.path(), &format!("kill -{signal} {}", child.id()));
        child.wait().expect("waited");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            drop(child.kill());
            drop(child.wait());
        }
        for entry in std::fs::read_dir(self.state().join("sandboxes")).into_iter().flatten().flatten() {
            processes::sweep(&entry.file_name().to_string_lossy());
        }
        // What the next host would remove.
        drop(Cgroups::probe(&self.state()));
    }
}

/// Ways of setting apart that work here.
pub fn isolations() -> Vec<&'static str> {
    match Isolation::probe(IsolationChoice::Auto, NetworkChoice::Open) {
        Some(Isolation::Bwrap { .. }) => vec!["bwrap", "none"],
        _ => vec!["none"],
    }
}

/// Processes of a sandbox: those that carry its mark.
pub fn alive(id: &str) -> Vec<ProcessId> {
    processes::marked(id).into_iter().filter_map(ProcessId::of).filter(|process| process.is_alive()).collect()
}

pub fn supervisor(id: &str) -> Option<u32> {
    alive(id).into_iter().map(|process| process.pid).find(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).nth(1) == Some(b"supervise")
    })
}

/// The played OpenCode listens outside.
fn reaching(opencode: &FakeOpenCode) -> [&str; 2] {
    ["--reach", opencode.url.trim_start_matches("http://")]
}

pub async fn played(isolation: &'static str) -> (Session, FakeOpenCode, Host, CreateSandboxRequest) {
    let (session, opencode) = (Session::start().await, FakeOpenCode::start().await);
    let host = Host::with_options(isolation, &says_it_listens(&opencode.url), &reaching(&opencode)).await;
    let config = config(&session, None, "http://127.0.0.1:9/v1");
    let (status, sandbox) = host.create(&config).await;
    assert_eq!((status, &sandbox["status"]), (StatusCode::CREATED, &json!("running")), "{sandbox}");
    session.booted().await;
    (session, opencode, host, config)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sandbox_is_made_once_shown_listed_and_stopped() {
    for isolation in isolations() {
        let (session, _opencode, host, config) = played(isolation).await;
        let name = &config.sandbox_id;
        let (status, again) = host.create(&config).await;
        assert_eq!((status, &again["sandboxId"]), (StatusCode::OK, &json!(name)));
        assert_eq!(session.taken().connections, 1, "the same sandbox is not started twice");
        let (_, listed) = host.call(Method::GET, &format!("/v1/sandboxes?sessionId={}", config.session_id), None).await;
        assert_eq!(listed["sandboxes"].as_array().map(Vec::len), Some(1));
        let (_, listed) = host.call(Method::GET, "/v1/sandboxes?sessionId=other", None).await;
        assert_eq!(listed, json!({"sandboxes": []}));
        assert!(!alive(name).is_empty());
        let (status, stopped) = host.call(Method::DELETE, &format!("/v1/sandboxes/{name}"), None).await;
        assert_eq!((status, stopped), (StatusCode::OK, json!({"status": "stopped"})));
        assert_eq!(alive(name), [], "{isolation}");
        assert_eq!(host.status(name).await, "stopped");
        let (status, _) = host.call(Method::DELETE, &format!("/v1/sandboxes/{name}"), None).await;
        assert_eq!(status, StatusCode::OK, "stopping twice is the same");
        assert!(host.sandbox_folder(name).join("workspace").is_dir(), "its folders stay");
    }
}

#[tokio::test]
async fn nobody_gets_in_without_the_secret_and_bad_input_changes_nothing() {
    let session = Session::start().await;
    let host = Host::start("none", "sleep 600").await;
    let good = serde_json::to_value(config(&session, None, "http://127.0.0.1:9/v1")).expect("JSON");
    for (method, path) in
        [("GET", "/v1/sandboxes"), ("POST", "/v1/sandboxes"), ("DELETE", "/v1/sandboxes/x"), ("GET", "/nowhere")]
    {
        for secret in ["", "wrong-secret-of-the-sandbox-ho", "the-secret-of-the-sandbox-hosu"] {
            let method: Method = method.parse().expect("a method");
            let answer = host.http.request(method, format!("{}{path}", host.url)).bearer_auth(secret).json(&good);
            let answer = answer.send().await.expect("answered");
            assert_eq!(answer.status(), 401, "{path}");
            let body: Value = answer.json().await.expect("JSON");
            assert_eq!(body["error"]["code"], "unauthorized");
        }
    }
    let with = |key: &str, value: Value| {
        let mut body = good.clone();
        body[key] = value;
        body
    };
    for (body, status, code) in [
        (json!([]), 400, "invalid_body"),
        (json!({}), 400, "invalid_body"),
        (with("timeoutSeconds", json!("x")), 400, "invalid_body"),
        (with("sandboxId", json!("../../etc")), 400, "invalid_id"),
        (with("sandboxId", json!("")), 400, "invalid_id"),
    ] {
        let (found, answer) = host.call(Method::POST, "/v1/sandboxes", Some(body)).await;
        assert_eq!((found.as_u16(), &answer["error"]["code"]), (status, &json!(code)), "{answer}");
        assert!(!answer.to_string().contains(TOKEN));
    }
    for (method, path, status) in [
        ("GET", "/v1/sandboxes/unknown", 404),
        ("DELETE", "/v1/sandboxes/unknown", 404),
        ("GET", "/v1/sandboxes?limit=x", 400),
        ("PUT", "/v1/sandboxes", 405),
        ("GET", "/v1/other", 404),
    ] {
        let (found, answer) = host.call(method.parse().expect("a method"), path, None).await;
        assert_eq!(found.as_u16(), status, "{method} {path}: {answer}");
        assert!(answer["error"]["message"].as_str().is_some_and(|text| !text.is_empty()));
    }
    // Its connection is closed with the answer, so it is none that others use.
    let large =
        reqwest::Client::new().post(format!("{}/v1/sandboxes", host.url)).bearer_auth(SECRET).body(vec![b'x'; 9 << 20]);
    assert_eq!(large.send().await.expect("answered").status(), 413);
    let (_, listed) = host.call(Method::GET, "/v1/sandboxes", None).await;
    assert_eq!(listed, json!({"sandboxes": []}));
}

#[tokio::test]
async fn there_is_a_limit_and_lists_have_pages() {
    let session = Session::start().await;
    let host = Host::start("none", "sleep 600").await;
    let mut names = Vec::new();
    for expected in [201, 201, 429] {
        let config = config(&session, None, "http://127.0.0.1:9/v1");
        let (status, answer) = host.create(&config).await;
        assert_eq!(status.as_u16(), expected, "{answer}");
        names.push(config.sandbox_id);
    }
    let (_, first) = host.call(Method::GET, "/v1/sandboxes?limit=1", None).await;
    let cursor = first["nextCursor"].as_str().expect("there is more");
    let (_, second) = host.call(Method::GET, &format!("/v1/sandboxes?limit=1&cursor={cursor}"), None).await;
    assert_eq!(
        [&first, &second].map(|page| page["sandboxes"][0]["sandboxId"].as_str()),
        [Some(&*names[0]), Some(&*names[1])]
    );
    assert!(second.get("nextCursor").is_none());
    host.call(Method::DELETE, &format!("/v1/sandboxes/{}", names[0]), None).await;
    let (status, _) = host.create(&config(&session, None, "http://127.0.0.1:9/v1")).await;
    assert_eq!(status, StatusCode::CREATED, "a stopped sandbox makes room");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_supervisor_is_started_again_and_its_prompt_ends() {
    for isolation in isolations() {
        let (session, opencode, host, config) = played(isolation).await;
        session.prompt(&id(1), "SLOW");
        session.frame("text", |frame| frame["type"] == "part_delta").await;
        let before = alive(&config.sandbox_id);
        opencode.die();
        let pid = supervisor(&config.sandbox_id).expect("runs");
        sh(host.folder.path(), &format!("kill -9 {pid}"));
        let done = session.completed(&id(1)).await;
        assert_eq!(done["error"], "The bridge restarted while the prompt ran.", "{isolation}");
        assert!(before.iter().all(|process| !process.is_alive()), "nothing of the first start is left");
        session.prompt(&id(2), "PLAIN");
        assert_eq!(session.completed(&id(2)).await["success"], true);
        assert_eq!(host.status(&config.sandbox_id).await, "running");
    }
}

#[tokio::test]
async fn a_supervisor_that_ends_at_once_is_given_up() {
    let session = Session::start().await;
    let host = Host::start("none", "sleep 600").await;
    let mut config = config(&session, None, "http://127.0.0.1:9/v1");
    config.control_plane_url = "ftp://nowhere".to_owned();
    host.create(&config).await;
    for _ in 0..600 {
        if host.status(&config.sandbox_id).await == "stopped" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it is started again and again");
}

#[tokio::test]
async fn a_sandbox_that_its_session_refuses_stops() {
    let (session, _opencode, host, config) = played("none").await;
    session.inner.refuse_with.store(410, std::sync::atomic::Ordering::Relaxed);
    session.cut();
    let name = config.sandbox_id.clone();
    eventually("its end", Duration::from_secs(30), || alive(&name).is_empty().then_some(())).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(host.status(&name).await, "stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sandboxes_end_with_their_host_however_it_ends() {
    for isolation in isolations() {
        for signal in ["TERM", "KILL"] {
            let (_session, _opencode, mut host, config) = played(isolation).await;
            let before = alive(&config.sandbox_id);
            host.end(signal);
            let ended = || before.iter().all(|process| !process.is_alive()).then_some(());
            if signal == "TERM" || isolation == "bwrap" {
                eventually("the end of all", Duration::from_secs(10), ended).await;
            }
            // What outlived a killed host is ended by the next.
            host.run().await;
            eventually("the end of all", Duration::from_secs(10), ended).await;
            assert_eq!(host.status(&config.sandbox_id).await, "stopped", "{isolation} {signal}");
            assert_eq!(alive(&config.sandbox_id), []);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_in_what_a_sandbox_sees_or_the_host_keeps() {
    for isolation in isolations() {
        let (_session, _opencode, host, config) = played(isolation).await;
        for process in alive(&config.sandbox_id) {
            for name in ["environ", "cmdline"] {
                let bytes = std::fs::read(format!("/proc/{}/{name}", process.pid)).unwrap_or_default();
                let text = String::from_utf8_lossy(&bytes);
                assert!(!text.contains(SECRET) && !text.contains(TOKEN), "{isolation}: {name} of {text}");
            }
        }
        let found = sh(&host.state(), &format!("grep -rlE '{SECRET}|{TOKEN}' --exclude=sandbox-bridge . || true"));
        assert_eq!(found, "");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sandbox_in_bubblewrap_sees_nothing_of_this_machine() {
    if !isolations().contains(&"bwrap") {
        return;
    }
    let (session, opencode) = (Session::start().await, FakeOpenCode::start().await);
    // What stands in for OpenCode looks around first.
    let marker = tempfile::NamedTempFile::new_in("/var/tmp").expect("a file");
    let script = format!(
        "cd /workspace; {{ ls / ; ls -A /home /root /etc/shadow {} /var/tmp; ls /proc | grep -c '^[0-9]'; \
         touch /usr/x; grep CapEff /proc/self/status; ls -A /tmp; \
         for p in /proc/[0-9]*; do if grep -qa supervise $p/cmdline; then head -c1 $p/mem; cat $p/environ; fi; done; }} > seen 2>&1\n{}",
        marker.path().display(),
        says_it_listens(&opencode.url)
    );
    let host = Host::with_options("bwrap", &script, &reaching(&opencode)).await;
    let config = config(&session, None, "http://127.0.0.1:9/v1");
    host.create(&config).await;
    session.booted().await;
    let seen =
        std::fs::read_to_string(host.sandbox_folder(&config.sandbox_id).join("workspace/seen")).expect("written");
    let cannot = |what: &str| seen.lines().any(|line| line.contains(what) && line.contains("No such file"));
    for hidden in ["/root", "/etc/shadow", "/var/tmp"] {
        assert!(cannot(hidden), "{hidden} is hidden: {seen}");
    }
    assert!(seen.contains("/home:\nagent"), "{seen}");
    assert!(seen.lines().any(|line| line.contains("/usr/x") && line.contains("Read-only")), "{seen}");
    assert!(seen.contains("CapEff:\t0000000000000000"), "{seen}");
    assert!(seen.lines().any(|line| line.contains("/mem") && line.contains("Permission denied")), "{seen}");
    let processes = seen.lines().find_map(|line| line.parse::<u32>().ok()).expect("a count");
    assert!(processes < 10, "only its own processes: {processes}");
    let state = host.state();
    assert!(!seen.contains(&*Path::new(&state).to_string_lossy()), "{seen}");
}
