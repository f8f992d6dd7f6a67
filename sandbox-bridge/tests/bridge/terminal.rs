//! Terminals of the real supervisor, with their object played by the test.

use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use http::HeaderMap;
use oi_protocol::terminal::{Frame, INCARNATION_HEADER};
use sandbox_bridge::secret::Secret;
use sandbox_bridge::terminal::{ShellSettings, TerminalService, terminal_url};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::support::opencode::FakeOpenCode;
use crate::support::sandbox::Sandbox;
use crate::support::session::{SESSION_ID, Session, TOKEN};

const WITHIN: Duration = Duration::from_secs(20);

struct Object {
    sockets: mpsc::UnboundedReceiver<(HeaderMap, WebSocket)>,
    socket: Option<WebSocket>,
    reports: Vec<Value>,
    output: String,
}

impl Object {
    fn of(session: &Session) -> Self {
        let (sender, sockets) = mpsc::unbounded_channel();
        *session.inner.terminals.lock().expect("no panic") = Some(sender);
        Self { sockets, socket: None, reports: Vec::new(), output: String::new() }
    }

    /// The next socket; its bearer is checked, its incarnation given.
    async fn dialled(&mut self) -> String {
        let (headers, socket) = timeout(WITHIN, self.sockets.recv()).await.expect("in time").expect("a socket");
        assert_eq!(headers["authorization"], format!("Bearer {TOKEN}"));
        self.socket = Some(socket);
        headers[INCARNATION_HEADER].to_str().expect("text").to_owned()
    }

    async fn say(&mut self, message: Message) {
        self.socket.as_mut().expect("dialled").send(message).await.expect("sent");
    }

    async fn watch(&mut self) {
        let size = json!({"cols": 80, "rows": 24});
        self.say(Message::text(json!({"type": "watch", "viewer": 1, "terminal": 0, "size": size}).to_string())).await;
    }

    async fn type_keys(&mut self, keys: &str) {
        let frame = Frame::Input { terminal: 0, viewer: 1, bytes: keys.as_bytes() };
        self.say(Message::binary(frame.encode())).await;
    }

    async fn until(&mut self, what: &str, fits: impl Fn(&Self) -> bool) {
        let wait = async {
            while !fits(self) {
                match self.socket.as_mut().expect("dialled").recv().await.expect("open").expect("a frame") {
                    Message::Text(text) => self.reports.push(serde_json::from_str(&text).expect("JSON")),
                    Message::Binary(bytes) => match Frame::decode(&bytes).expect("a frame") {
                        Frame::Output { bytes, .. } | Frame::Picture { bytes, .. } => {
                            self.output.push_str(&String::from_utf8_lossy(bytes));
                        }
                        Frame::Input { .. } => panic!("keys come from people"),
                    },
                    _ => {}
                }
            }
        };
        let done = timeout(WITHIN, wait).await;
        assert!(done.is_ok(), "{what}: {:?} {}", self.reports, self.output);
    }
}

#[tokio::test]
async fn a_terminal_outlives_its_socket_and_ends_with_its_supervisor() {
    let session = Session::start().await;
    let opencode = FakeOpenCode::start().await;
    let mut object = Object::of(&session);
    let mut sandbox = Sandbox::with_stand_in(&session, None, &opencode.url);
    sandbox.crash();
    sandbox.config.services.terminal = true;
    sandbox.start();

    let first = object.dialled().await;
    object.watch().await;
    object.until("it opens", |object| object.reports.iter().any(|report| report["type"] == "opened")).await;
    object.type_keys("echo \"one-$((1+1)) [$MY_OWN] [$SANDBOX_AUTH_TOKEN]\"; env | grep -c OI_SOCKET\n").await;
    object.until("the shell's words", |object| object.output.contains("one-2 [user value] []\r\n1\r\n")).await;
    assert!(!object.output.contains(TOKEN));

    // The socket is lost: the same supervisor comes back with the same shell and what it wrote.
    (object.socket, object.output) = (None, String::new());
    assert_eq!(object.dialled().await, first);
    object.watch().await;
    object.until("the picture", |object| object.output.contains("one-2 [user value]")).await;

    // The supervisor is lost: another comes, without a shell.
    sandbox.crash();
    (object.socket, object.output) = (None, String::new());
    object.reports.clear();
    sandbox.start();
    assert_ne!(object.dialled().await, first);
    object.until("what runs", |object| !object.reports.is_empty()).await;
    assert_eq!(object.reports, [json!({"type": "running", "terminals": []})]);
}

/// In a network of its own a sandbox finds the control plane at its proxy alone.
#[tokio::test]
async fn a_terminal_is_dialled_by_the_sandboxs_proxy() {
    let session = Session::start().await;
    let mut object = Object::of(&session);
    let proxy = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let route = proxy.local_addr().expect("its address");
    let server = session.url.trim_start_matches("http://").to_owned();
    let (told, asked) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let (stream, _) = proxy.accept().await.expect("a dial");
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(stream.read_line(&mut head).await.expect("a line"), 0, "{head}");
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("answered");
        told.send(head).expect("somebody asks");
        let mut server = TcpStream::connect(server).await.expect("the session");
        drop(copy_bidirectional(&mut stream, &mut server).await);
    });
    let (_checked_out, workspace) = watch::channel(None);
    let (_stop, shutdown) = watch::channel(false);
    let service = TerminalService {
        url: terminal_url("http://control.invalid", SESSION_ID).expect("a URL"),
        route: Some(route),
        token: Secret::new(TOKEN),
        shells: ShellSettings { launcher: Vec::new(), environment: Vec::new() },
        workspace,
        fallback: std::env::temp_dir(),
    };
    let running = tokio::spawn(service.run(shutdown));
    object.dialled().await;
    assert!(asked.await.expect("asked").starts_with("CONNECT control.invalid:80 HTTP/1.1\r\n"));
    running.abort();
}
