//! A running system: `cargo xtask dev --headless` in a folder and on ports of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::{Failed, Outcome};

/// Everything must be up within this; the builds were made before.
const UP_WITHIN: Duration = Duration::from_secs(180);

/// What the ready file says.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ready {
    /// The control plane and the page.
    pub base_url: String,
    /// Key of the `web` service.
    pub service_auth_secret: String,
    /// Keys by service.
    pub service_auth_secrets: Value,
    /// The local forge.
    pub forge_url: String,
    /// Bearer of the forge's admin routes.
    pub forge_admin_secret: String,
    /// The stand-in for Google; it has the same admin secret.
    pub google_url: String,
    /// The sandbox backend.
    pub sandbox_host_url: String,
    /// Logs, one file a process.
    pub logs_dir: String,
    /// State.
    pub state_dir: String,
    /// Process ids by name.
    pub pids: Value,
    /// Webhook secrets by vendor.
    pub webhook_secrets: Value,
    /// The Slack Worker, when it runs.
    pub slack_url: Option<String>,
    /// The GitHub Worker, when it runs.
    pub github_url: Option<String>,
    /// The Linear Worker, when it runs.
    pub linear_url: Option<String>,
    /// The control plane's own runtime, when sockets are to go there and not through wrangler's proxy.
    #[serde(skip)]
    pub direct_url: Option<String>,
}

/// What a stack is started with.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Start the bots' Workers too.
    pub bots: bool,
    /// A backend that the test plays instead of `sandbox-bridge host`: URL and secret.
    pub backend: Option<(String, String)>,
    /// Further variables of the control plane.
    pub vars: Vec<(String, String)>,
    /// Keep the state below this folder, not below the one for temporary files.
    pub below: Option<PathBuf>,
    /// Keep the state in this folder, and after the stack too.
    pub state: Option<PathBuf>,
}

/// A running system; stopped when dropped.
pub struct Stack {
    /// What it says of itself.
    pub ready: Ready,
    process: Child,
    ready_file: PathBuf,
    folder: TempDir,
}

fn xtask() -> Outcome<PathBuf> {
    std::env::var_os("OI_XTASK")
        .map(PathBuf::from)
        .ok_or_else(|| Failed("OI_XTASK is not set: run these tests by `cargo xtask test`".to_owned()))
}

async fn read_ready(path: &Path) -> Option<Ready> {
    serde_json::from_slice(&tokio::fs::read(path).await.ok()?).ok()
}

impl Stack {
    /// Starts a system and waits until it is up.
    pub async fn start(options: Options) -> Outcome<Self> {
        let below = options.below.clone().unwrap_or_else(std::env::temp_dir);
        let folder = tempfile::Builder::new().prefix("oi-e2e-").tempdir_in(below)?;
        let ready_file = folder.path().join("ready.json");
        let mut command = Command::new(xtask()?);
        command
            .args(["dev", "--headless", "--no-build", "--port", "0", "--ready-file"])
            .arg(&ready_file)
            .arg("--state-dir")
            .arg(options.state.clone().unwrap_or_else(|| folder.path().join("state")))
            .stdin(Stdio::null())
            .stdout(Stdio::from(std::fs::File::create(folder.path().join("dev.out"))?))
            .stderr(Stdio::from(std::fs::File::create(folder.path().join("dev.err"))?))
            .env_remove("ANTHROPIC_API_KEY")
            .env_remove("OPENAI_API_KEY")
            .env_remove("OPENAI_COMPATIBLE_BASE_URL")
            .kill_on_drop(true);
        if options.bots {
            command.arg("--with-bots");
        }
        if let Some((url, secret)) = &options.backend {
            command.env("OI_DEV_SANDBOX_URL", url).env("OI_DEV_SANDBOX_SECRET", secret);
        }
        for (name, value) in &options.vars {
            command.arg("--var").arg(format!("{name}={value}"));
        }
        let mut process = command.spawn()?;
        let begun = Instant::now();
        loop {
            if let Some(ready) = read_ready(&ready_file).await {
                return Ok(Self { ready, process, ready_file, folder });
            }
            if let Some(status) = process.try_wait()? {
                return Err(Failed(format!("`xtask dev` ended with {status}: {}", tail(folder.path()))));
            }
            if begun.elapsed() > UP_WITHIN {
                return Err(Failed(format!("`xtask dev` was not up in time: {}", tail(folder.path()))));
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// The ready file as it is now; process ids change when something was restarted.
    pub async fn now(&self) -> Outcome<Ready> {
        read_ready(&self.ready_file).await.ok_or_else(|| Failed("the ready file cannot be read".to_owned()))
    }

    /// Id of a process by its name in the ready file.
    pub async fn pid(&self, name: &str) -> Outcome<u32> {
        let ready = self.now().await?;
        ready.pids[name].as_u64().map(|pid| pid as u32).ok_or_else(|| Failed(format!("no pid of {name}")))
    }

    /// Lets sockets go to the control plane's own runtime, past wrangler's proxy.
    pub async fn connect_directly(&mut self) -> Outcome {
        self.ready = self.directly().await?;
        Ok(())
    }

    /// What [`Self::ready`] says, with sockets that go to the control plane's own runtime as it is now.
    pub async fn directly(&self) -> Outcome<Ready> {
        let pid = self.pid("workerd").await?;
        for port in listening_ports(pid)? {
            let url = format!("http://127.0.0.1:{port}");
            let answer =
                reqwest::Client::new().get(format!("{url}/health")).timeout(Duration::from_secs(2)).send().await;
            let Ok(answer) = answer else { continue };
            if answer.status().is_success() && answer.text().await.is_ok_and(|text| text.contains("healthy")) {
                return Ok(Ready { direct_url: Some(url), ..self.now().await? });
            }
        }
        Err(Failed("the control plane's runtime has no port of its own".to_owned()))
    }

    /// Kills a process at once, as a crash would.
    pub async fn kill(&self, pid: u32) -> Outcome {
        let status = Command::new("kill").args(["-KILL", &pid.to_string()]).status().await?;
        if status.success() { Ok(()) } else { Err(Failed(format!("pid {pid} could not be killed"))) }
    }

    /// Waits until the control plane answers.
    pub async fn wait_healthy(&self) -> Outcome {
        let begun = Instant::now();
        let client = reqwest::Client::new();
        let url = format!("{}/health", self.ready.base_url);
        while begun.elapsed() < Duration::from_secs(90) {
            let answer = client.get(&url).timeout(Duration::from_secs(2)).send().await;
            if answer.is_ok_and(|response| response.status().is_success()) {
                return Ok(());
            }
            sleep(Duration::from_millis(100)).await;
        }
        Err(Failed("the control plane did not come back".to_owned()))
    }

    /// The ends of the logs, for a failure's message.
    pub fn log_tails(&self) -> String {
        let mut text = tail(self.folder.path());
        if let Ok(entries) = std::fs::read_dir(&self.ready.logs_dir) {
            for entry in entries.flatten() {
                text.push_str(&file_tail(&entry.path()));
            }
        }
        text
    }

    /// Stops everything and waits for it. What its routes answered is remembered.
    pub async fn stop(mut self) -> Outcome {
        crate::coverage::remember(Path::new(&self.ready.logs_dir))?;
        if let Some(pid) = self.process.id() {
            Command::new("kill").args(["-TERM", &pid.to_string()]).status().await?;
        }
        match tokio::time::timeout(Duration::from_secs(30), self.process.wait()).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Failed("`xtask dev` did not stop within 30 s of SIGTERM".to_owned())),
        }
    }
}

/// TCP ports that a process listens on: its sockets, looked up in the kernel's table (proc(5)).
fn listening_ports(pid: u32) -> Outcome<Vec<u16>> {
    let mut inodes = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        let Ok(target) = std::fs::read_link(entry.path()) else { continue };
        let target = target.to_string_lossy().into_owned();
        if let Some(inode) = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')) {
            inodes.push(inode.to_owned());
        }
    }
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp"))?;
    let ports = table.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (words.get(1)?, words.get(3)?, words.get(9)?);
        let listening = *state == "0A" && inodes.iter().any(|known| known == inode);
        listening.then(|| u16::from_str_radix(local.rsplit(':').next()?, 16).ok()).flatten()
    });
    Ok(ports.collect())
}

fn file_tail(path: &Path) -> String {
    let Ok(text) = std::fs::read(path) else { return String::new() };
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(3_000)..]).into_owned();
    format!("\n--- {} ---\n{text}", path.file_name().unwrap_or_default().to_string_lossy())
}

fn tail(folder: &Path) -> String {
    file_tail(&folder.join("dev.out")) + &file_tail(&folder.join("dev.err"))
}
