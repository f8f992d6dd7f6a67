//! A Durable Object that does next to nothing, under the same workerd in the same run: what the platform itself allows.

use std::path::Path;
use std::time::{Duration, Instant};

use e2e::workerd::{Script, Workerd};
use e2e::{Failed, Outcome};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

const SCRIPT: &str = r#"export class Echo {
  constructor(state) { this.state = state; state.storage.sql.exec("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, body TEXT)"); }
  fetch(request) {
    if (request.headers.get("Upgrade") === null) {
      this.state.storage.sql.exec("INSERT INTO t (body) VALUES ('created')");
      return new Response("created");
    }
    const wanted = new URL(request.url).searchParams;
    const sql = this.state.storage.sql;
    for (let table = 0; table < Number(wanted.get("tables")); table++) {
      sql.exec(`CREATE TABLE IF NOT EXISTS t${table} (id TEXT PRIMARY KEY, kind TEXT NOT NULL, a INTEGER, b INTEGER, c TEXT, d TEXT, e TEXT, f TEXT)`);
      sql.exec(`CREATE INDEX IF NOT EXISTS i${table} ON t${table} (a, b)`);
    }
    for (let number = 0; number < Number(wanted.get("statements")); number++) {
      sql.exec(`SELECT id, kind, a, b, c, d, e, f, ${number} FROM t${number % 10} WHERE id = ? AND a > ? ORDER BY a LIMIT 10`, "x", 1).toArray();
    }
    const [client, server] = Object.values(new WebSocketPair());
    this.state.acceptWebSocket(server);
    return new Response(null, { status: 101, webSocket: client });
  }
  webSocketMessage(socket, text) {
    if (text[0] === "w") this.state.storage.sql.exec("INSERT INTO t (body) VALUES (?)", text);
    socket.send("1");
  }
}
export default { fetch: (request, env) => env.ECHO.get(env.ECHO.idFromName(new URL(request.url).pathname)).fetch(request) };
"#;

/// A running echo.
pub struct Echo {
    workerd: Workerd,
}

impl Echo {
    /// Starts it with its files and its state in `folder`.
    pub async fn start(folder: &Path) -> Outcome<Self> {
        std::fs::write(folder.join("echo.js"), SCRIPT)?;
        let script = Script { modules: &[("echo.js", "esModule")], object: Some(("Echo", "ECHO")), vars: &[] };
        Ok(Self { workerd: Workerd::start(folder, &script).await?.0 })
    }

    /// Its process.
    pub fn pid(&self) -> Outcome<u32> {
        self.workerd.pid().ok_or_else(|| Failed("the echo ended".to_owned()))
    }

    async fn open(&self, object: &str) -> Outcome<WebSocketStream<MaybeTlsStream<TcpStream>>> {
        let url = format!("ws://127.0.0.1:{}/{object}", self.workerd.port);
        Ok(tokio_tungstenite::connect_async(url).await?.0)
    }

    /// Makes an object with its table and a row.
    pub async fn create(&self, object: &str) -> Outcome {
        let answer = reqwest::get(self.workerd.url(&format!("/{object}"))).await?;
        if answer.text().await? == "created" { Ok(()) } else { Err(Failed("no object was created".to_owned())) }
    }

    /// An object of its own with a row and an open socket. `with` is a query that may ask for more of the platform:
    /// `tables`, each with two indexes, and `statements` that stay prepared.
    pub async fn open_live(&self, object: &str, with: &str) -> Outcome<WebSocketStream<MaybeTlsStream<TcpStream>>> {
        self.create(object).await?;
        let mut socket = self.open(&format!("{object}?{with}")).await?;
        socket.send(Message::text("w")).await?;
        tokio::time::timeout(Duration::from_secs(10), socket.next()).await?;
        Ok(socket)
    }

    /// A socket that stays, for messages one by one.
    pub async fn talk(&self) -> Outcome<Talk> {
        Ok(Talk { socket: self.open("").await? })
    }

    /// Opens a socket and has one message answered.
    pub async fn greet(&self) -> Outcome {
        let mut socket = self.open("").await?;
        socket.send(Message::text("r")).await?;
        tokio::time::timeout(Duration::from_secs(10), socket.next()).await?;
        let _ = socket.close(None).await;
        Ok(())
    }

    /// Messages of 600 bytes that were answered in a second; each is a row when `writes`.
    pub async fn rate(&self, writes: bool) -> Outcome<f64> {
        const MESSAGES: usize = 6_000;
        let (mut sink, mut stream) = self.open("").await?.split();
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

/// A socket of the echo.
pub struct Talk {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Talk {
    /// Has a message answered; one that begins with `w` is stored.
    pub async fn answer(&mut self, text: &'static str) -> Outcome {
        self.socket.send(Message::text(text)).await?;
        match tokio::time::timeout(Duration::from_secs(10), self.socket.next()).await? {
            Some(Ok(_)) => Ok(()),
            _ => Err(Failed("the echo ended".to_owned())),
        }
    }
}
