//! A sandbox: the real `sandbox-bridge supervise` in folders of its own.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use oi_protocol::local_backend::{CheckoutRepository, CreateSandboxRequest, ModelProvider, ProviderModel};
use sandbox_bridge::host::processes;

use super::forge::Forge;
use super::session::{SESSION_ID, Session, TOKEN};

/// The program under test: this build's, or the one that `OI_BRIDGE_PROGRAM` names.
pub fn program() -> PathBuf {
    std::env::var_os("OI_BRIDGE_PROGRAM").map_or_else(|| env!("CARGO_BIN_EXE_sandbox-bridge").into(), PathBuf::from)
}

pub struct Sandbox {
    pub folder: tempfile::TempDir,
    pub config: CreateSandboxRequest,
    opencode: PathBuf,
    /// Arguments of `supervise` beyond the places.
    arguments: Vec<String>,
    child: Option<Child>,
    /// Whether its log goes into the file `log`.
    keeps_log: bool,
}

/// A program in OpenCode's place.
pub fn stand_in(folder: &Path, script: &str) -> PathBuf {
    let path = folder.join("opencode");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("set");
    path
}

pub fn says_it_listens(url: &str) -> String {
    format!("echo opencode server listening on {url}\nexec sleep 600")
}

pub fn config(session: &Session, forge: Option<&Forge>, model_url: &str) -> CreateSandboxRequest {
    let repository = |forge: &Forge| CheckoutRepository {
        position: 0,
        repo_owner: "acme".to_owned(),
        repo_name: "api".to_owned(),
        branch: "main".to_owned(),
        clone_url: forge.clone_url(),
        base_sha: None,
    };
    CreateSandboxRequest {
        sandbox_id: format!("sandbox-test-{}", sandbox_bridge::random::hex::<6>()),
        session_id: SESSION_ID.to_owned(),
        generation: 1,
        control_plane_url: session.url.clone(),
        auth_token: TOKEN.to_owned(),
        timeout_seconds: 600,
        vcs_host: forge.map(|forge| forge.host.clone()).unwrap_or_default(),
        repositories: forge.map(repository).into_iter().collect(),
        model: "demo/scripted".to_owned(),
        model_providers: vec![ModelProvider {
            id: "demo".to_owned(),
            name: "Demo".to_owned(),
            npm: "@ai-sdk/openai-compatible".to_owned(),
            base_url: model_url.to_owned(),
            api_key: Some(super::model::KEY.to_owned()),
            models: vec![ProviderModel {
                id: "scripted".to_owned(),
                name: "Scripted".to_owned(),
                context_tokens: Some(128_000),
                output_tokens: Some(8192),
            }],
        }],
        env: [("MY_OWN".to_owned(), "user value".to_owned())].into(),
        ..CreateSandboxRequest::default()
    }
}

impl Sandbox {
    /// A sandbox with a stand-in for OpenCode whose API is at `url`.
    pub fn with_stand_in(session: &Session, forge: Option<&Forge>, url: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let opencode = stand_in(folder.path(), &says_it_listens(url));
        Self::started(folder, config(session, forge, "http://127.0.0.1:9/v1"), opencode)
    }

    /// A sandbox without a repository, with a script in OpenCode's place.
    pub fn with_script(session: &Session, script: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let opencode = stand_in(folder.path(), script);
        Self::started(folder, config(session, None, "http://127.0.0.1:9/v1"), opencode)
    }

    /// A sandbox of this configuration, with what `prepare` puts into its folders first.
    pub fn prepared(config: CreateSandboxRequest, url: &str, prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        prepare(folder.path());
        let opencode = stand_in(folder.path(), &says_it_listens(url));
        Self::started(folder, config, opencode)
    }

    /// A sandbox whose log is in the file `log`.
    pub fn logged(config: CreateSandboxRequest, url: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let opencode = stand_in(folder.path(), &says_it_listens(url));
        let mut sandbox = Self::new(folder, config, opencode);
        sandbox.keeps_log = true;
        sandbox.start();
        sandbox
    }

    /// A sandbox of this configuration, with this OpenCode and further arguments of `supervise`.
    pub fn configured(config: CreateSandboxRequest, opencode: &Path, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut sandbox = Self::new(folder, config, opencode.to_owned());
        sandbox.arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
        sandbox.start();
        sandbox
    }

    /// The same with the real OpenCode.
    pub fn prepared_with_opencode(config: CreateSandboxRequest, opencode: &Path, prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        prepare(folder.path());
        Self::started(folder, config, opencode.to_owned())
    }

    /// Asks it to end, as its backend does.
    pub fn terminate(&self) {
        super::sh(self.folder.path(), &format!("kill -TERM {}", self.pid()));
    }

    /// One that is not started yet.
    const fn new(folder: tempfile::TempDir, config: CreateSandboxRequest, opencode: PathBuf) -> Self {
        Self { folder, config, opencode, arguments: Vec::new(), child: None, keeps_log: false }
    }

    fn started(folder: tempfile::TempDir, config: CreateSandboxRequest, opencode: PathBuf) -> Self {
        let mut sandbox = Self::new(folder, config, opencode);
        sandbox.start();
        sandbox
    }

    /// Puts another OpenCode in the place of the stand-in, for the next start.
    pub fn replace_stand_in(&self, url: &str) {
        stand_in(self.folder.path(), &says_it_listens(url));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("started").id()
    }

    pub fn start(&mut self) {
        let mut command = Command::new(program());
        command.arg("supervise");
        let places =
            [("--workspace", "workspace"), ("--home", "home"), ("--runtime-dir", "run"), ("--temporary-dir", "tmp")];
        for (flag, name) in places {
            command.arg(flag).arg(self.path(name));
        }
        if self.keeps_log {
            let log = std::fs::File::create(self.path("log")).expect("a log");
            command.stdout(log.try_clone().expect("a log")).stderr(log);
        }
        let mut child = command
            .arg("--opencode")
            .arg(&self.opencode)
            .args(&self.arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("OI_LOG", std::env::var("OI_LOG").unwrap_or_else(|_| "warn".to_owned()))
            .stdin(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut input = child.stdin.take().expect("piped");
        input.write_all(&serde_json::to_vec(&self.config).expect("JSON")).expect("written");
        self.child = Some(child);
    }

    /// Kills the supervisor as a crash would, and what it left, as the host does.
    pub fn crash(&mut self) {
        let mut child = self.child.take().expect("started");
        child.kill().expect("killed");
        child.wait().expect("waited");
        processes::sweep(&self.config.sandbox_id);
    }

    /// Waits for the supervisor to end by itself.
    pub async fn ended(&mut self) -> std::process::ExitStatus {
        let child = self.child.as_mut().expect("started");
        let status = super::eventually("the supervisor's end", std::time::Duration::from_secs(30), || {
            child.try_wait().expect("waited")
        });
        let status = status.await;
        self.child = None;
        status
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
        processes::sweep(&self.config.sandbox_id);
    }
}
