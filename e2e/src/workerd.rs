//! A Worker under workerd alone, without wrangler: for what is about the platform and not about our system.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::{Failed, Outcome, tool};

/// A process that listens on a port of the loopback; it ends when this is dropped.
pub struct Workerd {
    /// Where it listens.
    pub port: u16,
    process: Child,
}

/// The binary itself: the script of that name in `.bin` would leave it running.
fn binary() -> Outcome<PathBuf> {
    let modules = tool("nodeModules")?;
    let packages = std::fs::read_dir(Path::new(&modules).join("@cloudflare"))?.flatten();
    let found = packages.map(|package| package.path().join("bin/workerd")).find(|path| path.is_file());
    found.ok_or_else(|| Failed("workerd is not installed".to_owned()))
}

fn free_port() -> Outcome<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// What a Worker of one script is made of.
pub struct Script<'a> {
    /// Its modules: name, and `esModule`, `wasm` or another word of workerd's configuration.
    pub modules: &'a [(&'a str, &'a str)],
    /// The class of its Durable Objects, and the binding that they are found by.
    pub object: Option<(&'a str, &'a str)>,
    /// Variables.
    pub vars: &'a [(&'a str, &'a str)],
}

impl Script<'_> {
    fn config(&self, port: u16, objects: &str) -> String {
        let mut text = format!(
            r#"using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = .main), (name = "disk", disk = (path = "{objects}", writable = true))],
  sockets = [(name = "http", address = "127.0.0.1:{port}", http = (), service = "main")]
);
const main :Workerd.Worker = (
  compatibilityDate = "2025-11-01",
  modules = ["#
        );
        for (name, kind) in self.modules {
            let _ = write!(text, r#"(name = "{name}", {kind} = embed "{name}"), "#);
        }
        text.push_str("],\n");
        if let Some((class, _)) = self.object {
            let _ = writeln!(
                text,
                r#"  durableObjectNamespaces = [(className = "{class}", uniqueKey = "{class}", enableSql = true)],
  durableObjectStorage = (localDisk = "disk"),"#
            );
        }
        text.push_str("  bindings = [");
        if let Some((class, binding)) = self.object {
            let _ = write!(text, r#"(name = "{binding}", durableObjectNamespace = "{class}"), "#);
        }
        for (name, value) in self.vars {
            let _ = write!(text, r#"(name = "{name}", text = "{value}"), "#);
        }
        text.push_str("]\n);\n");
        text
    }
}

impl Workerd {
    /// Starts a Worker whose modules lie in `folder`, which keeps its objects too. Gives it once its port is open; the
    /// time is that from just before the process was made.
    pub async fn start(folder: &Path, script: &Script<'_>) -> Outcome<(Self, Instant)> {
        let port = free_port()?;
        let objects = folder.join("objects");
        std::fs::create_dir_all(&objects)?;
        let config = folder.join("config.capnp");
        std::fs::write(&config, script.config(port, &objects.to_string_lossy()))?;
        let begun = Instant::now();
        let process = Command::new(binary()?)
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::from(std::fs::File::create(folder.join("workerd.out"))?))
            .stderr(Stdio::from(std::fs::File::create(folder.join("workerd.err"))?))
            .kill_on_drop(true)
            .spawn()?;
        let mut workerd = Self { port, process };
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            let ended = workerd.process.try_wait()?.is_some();
            if ended || begun.elapsed() > Duration::from_secs(20) {
                let said = std::fs::read_to_string(folder.join("workerd.err")).unwrap_or_default();
                return Err(Failed(format!("workerd did not come up: {said}")));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok((workerd, begun))
    }

    /// The same for a Worker that `worker-build` made: its modules are copied into `folder`.
    pub async fn start_built(
        folder: &Path,
        build: &Path,
        object: Option<(&str, &str)>,
        vars: &[(&str, &str)],
    ) -> Outcome<(Self, Instant)> {
        for name in ["index.js", "index_bg.wasm"] {
            std::fs::copy(build.join(name), folder.join(name))
                .map_err(|error| Failed(format!("{}: {error}", build.join(name).display())))?;
        }
        let modules = [("index.js", "esModule"), ("index_bg.wasm", "wasm")];
        Self::start(folder, &Script { modules: &modules, object, vars }).await
    }

    /// A URL of it.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Its process.
    pub fn pid(&self) -> Option<u32> {
        self.process.id()
    }
}
