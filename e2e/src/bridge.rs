//! A bridge of dialect 2 that a test plays: it numbers its frames, keeps them until they are acknowledged, and goes on
//! from the session's `hello`.

use std::collections::BTreeMap;
use std::time::Duration;

use oi_protocol::local_backend::CreateSandboxRequest;
use serde_json::{Value, json};

use crate::socket::{Received, Socket, open};
use crate::stack::Ready;
use crate::{Failed, Outcome};

/// A bridge and its journal.
pub struct Bridge {
    sandbox: Box<CreateSandboxRequest>,
    socket: Option<Socket>,
    journal: BTreeMap<i64, Value>,
    next: i64,
    /// Frames up to this one were acknowledged.
    pub acked: i64,
    /// Prompts that were given, in order, each once.
    pub prompts: Vec<Value>,
    /// Greetings so far: one a connection, and one each time the object was rebuilt.
    pub hellos: u32,
}

impl Bridge {
    /// A bridge for a sandbox that the backend was asked for.
    pub fn new(sandbox: CreateSandboxRequest) -> Self {
        Self {
            sandbox: Box::new(sandbox),
            socket: None,
            journal: BTreeMap::new(),
            next: 1,
            acked: 0,
            prompts: Vec::new(),
            hellos: 0,
        }
    }

    fn headers(&self, dialect: &str) -> Vec<(&'static str, String)> {
        vec![
            ("Authorization", format!("Bearer {}", self.sandbox.auth_token)),
            ("X-Sandbox-ID", self.sandbox.sandbox_id.clone()),
            ("X-Bridge-Dialect", dialect.to_owned()),
        ]
    }

    /// Connects and goes on from the session's `hello`; a refusal gives the status.
    pub async fn connect(&mut self, ready: &Ready) -> Outcome<Result<(), u16>> {
        let mut socket = match open(ready, &self.sandbox.session_id, "?type=sandbox", &self.headers("2")).await? {
            Ok(socket) => socket,
            Err(status) => return Ok(Err(status)),
        };
        let hello = match socket.receive(Duration::from_secs(15)).await? {
            Received::Json(frame) => frame,
            Received::Closed(code, reason) => return Err(Failed(format!("closed with {code} {reason}"))),
        };
        if hello["type"] != "hello" || hello["dialect"] != 2 {
            return Err(Failed(format!("the first frame is not a hello: {hello}")));
        }
        self.socket = Some(socket);
        self.go_on_from(&hello).await?;
        Ok(Ok(()))
    }

    async fn go_on_from(&mut self, hello: &Value) -> Outcome {
        self.hellos += 1;
        self.acknowledge(hello["ackedSeq"].as_i64().unwrap_or(0));
        let rest: Vec<Value> = self.journal.values().cloned().collect();
        for frame in rest {
            self.write(&frame).await?;
        }
        Ok(())
    }

    fn acknowledge(&mut self, seq: i64) {
        self.acked = self.acked.max(seq);
        self.journal = self.journal.split_off(&(seq + 1));
    }

    async fn write(&mut self, frame: &Value) -> Outcome {
        match &mut self.socket {
            Some(socket) => socket.send(frame).await,
            None => Err(Failed("the bridge is not connected".to_owned())),
        }
    }

    /// Numbers, keeps and sends an event. A socket that fails leaves it in the journal.
    pub async fn emit(&mut self, mut event: Value) -> bool {
        event["seq"] = json!(self.next);
        event["sandboxId"] = json!(self.sandbox.sandbox_id);
        event["timestamp"] = json!(1.0);
        self.journal.insert(self.next, event.clone());
        self.next += 1;
        self.write(&event).await.is_ok()
    }

    /// Takes what the session sent until `within` passes or `enough` says so; `false` when the socket ended.
    pub async fn listen(&mut self, within: Duration, enough: impl Fn(&Self) -> bool) -> Outcome<bool> {
        let deadline = tokio::time::Instant::now() + within;
        while !enough(self) {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            if left.is_zero() {
                return Ok(true);
            }
            let Some(socket) = &mut self.socket else { return Ok(false) };
            match socket.receive(left).await {
                Ok(Received::Json(frame)) => self.take(frame).await?,
                Ok(Received::Closed(..)) => {
                    self.socket = None;
                    return Ok(false);
                }
                Err(_) => return Ok(true),
            }
        }
        Ok(true)
    }

    async fn take(&mut self, frame: Value) -> Outcome {
        match frame["type"].as_str().unwrap_or_default() {
            "ack" => self.acknowledge(frame["seq"].as_i64().unwrap_or(0)),
            "hello" => self.go_on_from(&frame).await?,
            "prompt" => {
                let id = frame["messageId"].clone();
                if !self.prompts.iter().any(|prompt| prompt["messageId"] == id) {
                    self.prompts.push(frame);
                    self.emit(json!({"type": "prompt_accepted", "messageId": id})).await;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether every numbered frame was acknowledged.
    pub fn is_settled(&self) -> bool {
        self.journal.is_empty()
    }

    /// Drops the socket without a word.
    pub fn drop_socket(&mut self) {
        self.socket = None;
    }

    /// Gives the socket away, and the number of the next frame.
    pub fn into_socket(mut self) -> Outcome<(Socket, i64)> {
        let socket = self.socket.take().ok_or_else(|| Failed("the bridge is not connected".to_owned()))?;
        Ok((socket, self.next))
    }

    /// The raw socket, for frames that no bridge would send.
    pub fn raw(&mut self) -> Outcome<&mut Socket> {
        self.socket.as_mut().ok_or_else(|| Failed("the bridge is not connected".to_owned()))
    }
}
