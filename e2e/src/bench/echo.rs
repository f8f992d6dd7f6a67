//! A Durable Object that does next to nothing, under the same workerd in the same run: what the platform itself allows.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use e2e::{Failed, Outcome, tool};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

const SCRIPT: &str = r#"export class Echo {
  constructor(state) { this.state = state; state.storage.sql.exec("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, body TEXT)"); }
  fetch() {
    const [client, server] = Object.values(new WebSocketPair());
    this.state.acceptWebSocket(server);
    return new Response(null, { status: 101, webSocket: client });
  }
  webSocketMessage(socket, text) {
    if (text[0] === "w") this.state.storage.sql.exec("INSERT INTO t (body) VALUES (?)", text);
    socket.send("1");
  }
}
export default { fetch: (request, env) => env.ECHO.get(env.ECHO.idFromName("echo")).fetch(request) };
"#;

const CONFIG: &str = r#"using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = .echo), (name = "disk", disk = (path = "DISK", writable = true))],
  sockets = [(name = "http", address = "127.0.0.1:PORT", http = (), service = "main")]
);
const echo :Workerd.Worker = (
  modules = [(name = "echo.js", esModule = embed "echo.js")],
  compatibilityDate = "2025-11-01",
  durableObjectNamespaces = [(className = "Echo", uniqueKey = "echo", enableSql = true)],
  durableObjectStorage = (localDisk = "disk"),
  bindings = [(name = "ECHO", durableObjectNamespace = "Echo")]
);
"#;

/// The binary itself: the script of that name in `.bin` would leave it running.
fn workerd(modules: &Path) -> Outcome<PathBuf> {
    let packages = std::fs::read_dir(modules.join("@cloudflare"))?.flatten();
    let binary = packages.map(|package| package.path().join("bin/workerd")).find(|path| path.is_file());
    binary.ok_or_else(|| Failed("workerd is not installed".to_owned()))
}

/// A running echo.
pub struct Echo {
    port: u16,
    _process: Child,
}

impl Echo {
    /// Starts it with its files and its state in `folder`.
    pub async fn start(folder: &Path) -> Outcome<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let disk = folder.join("echo-state");
        std::fs::create_dir_all(&disk)?;
        std::fs::write(folder.join("echo.js"), SCRIPT)?;
        let config = CONFIG.replace("DISK", &disk.to_string_lossy()).replace("PORT", &port.to_string());
        std::fs::write(folder.join("echo.capnp"), config)?;
        let workerd = workerd(Path::new(&tool("nodeModules")?))?;
        let process = Command::new(workerd)
            .arg("serve")
            .arg(folder.join("echo.capnp"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            if begun.elapsed() > Duration::from_secs(20) {
                return Err(Failed("the echo did not come up".to_owned()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Self { port, _process: process })
    }

    async fn open(&self) -> Outcome<WebSocketStream<MaybeTlsStream<TcpStream>>> {
        let url = format!("ws://127.0.0.1:{}/", self.port);
        Ok(tokio_tungstenite::connect_async(url).await?.0)
    }

    /// Opens a socket and has one message answered.
    pub async fn greet(&self) -> Outcome {
        let mut socket = self.open().await?;
        socket.send(Message::text("r")).await?;
        tokio::time::timeout(Duration::from_secs(10), socket.next()).await?;
        let _ = socket.close(None).await;
        Ok(())
    }

    /// Messages of 600 bytes that were answered in a second; each is a row when `writes`.
    pub async fn rate(&self, writes: bool) -> Outcome<f64> {
        const MESSAGES: usize = 6_000;
        let (mut sink, mut stream) = self.open().await?.split();
        let text = format!("{}{}", if writes { "w" } else { "r" }, "x".repeat(600));
        let begun = Instant::now();
        let sender = tokio::spawn(async move {
            for sent in 0..MESSAGES {
                if sink.feed(Message::text(text.clone())).await.is_err() {
                    break;
                }
                if sent % 32 == 31 && sink.flush().await.is_err() {
                    break;
                }
            }
            let _ = sink.flush().await;
            sink
        });
        for _ in 0..MESSAGES {
            match tokio::time::timeout(Duration::from_secs(30), stream.next()).await? {
                Some(Ok(_)) => {}
                _ => return Err(Failed("the echo ended".to_owned())),
            }
        }
        let rate = MESSAGES as f64 / begun.elapsed().as_secs_f64();
        drop(sender.await);
        Ok(rate)
    }
}
