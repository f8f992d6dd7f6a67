//! A client of the session's socket that keeps its timeline by the rules of dialect 2.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::stack::Ready;
use crate::{Failed, Outcome};

/// A socket of any kind.
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// Messages of a batch that nobody has waited for yet.
    rest: VecDeque<Value>,
}

/// What came out of a socket.
#[derive(Debug)]
pub enum Received {
    /// A JSON frame.
    Json(Value),
    /// The other side closed: code and reason.
    Closed(u16, String),
}

fn socket_url(ready: &Ready, session: &str, query: &str) -> String {
    let base = ready.direct_url.as_ref().unwrap_or(&ready.base_url);
    format!("{}/sessions/{session}/ws{query}", base.replacen("http", "ws", 1))
}

/// Opens a socket with these headers; a refused upgrade gives its status.
pub async fn open(
    ready: &Ready,
    session: &str,
    query: &str,
    headers: &[(&'static str, String)],
) -> Outcome<Result<Socket, u16>> {
    let mut request = socket_url(ready, session, query).into_client_request()?;
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).map_err(|_| Failed(format!("bad header {name}")))?;
        request.headers_mut().insert(*name, value);
    }
    match timeout(Duration::from_secs(15), tokio_tungstenite::connect_async(request)).await? {
        Ok((stream, _)) => Ok(Ok(Socket { stream, rest: VecDeque::new() })),
        Err(Error::Http(response)) => Ok(Err(response.status().as_u16())),
        Err(error) => Err(error.into()),
    }
}

impl Socket {
    /// Sends a JSON frame.
    pub async fn send(&mut self, frame: &Value) -> Outcome {
        self.send_text(frame.to_string()).await
    }

    /// Sends any text.
    pub async fn send_text(&mut self, text: String) -> Outcome {
        Ok(self.stream.send(Message::text(text)).await?)
    }

    /// Sends bytes.
    pub async fn send_bytes(&mut self, bytes: Vec<u8>) -> Outcome {
        Ok(self.stream.send(Message::binary(bytes)).await?)
    }

    /// The next frame, within the time.
    pub async fn receive(&mut self, within: Duration) -> Outcome<Received> {
        if let Some(message) = self.rest.pop_front() {
            return Ok(Received::Json(message));
        }
        let deadline = Instant::now() + within;
        loop {
            match timeout_at(deadline, self.stream.next()).await? {
                Some(Ok(Message::Text(text))) => return Ok(Received::Json(serde_json::from_str(&text)?)),
                Some(Ok(Message::Close(frame))) => {
                    let (code, reason) = frame.map_or((1005, String::new()), |f| (f.code.into(), f.reason.to_string()));
                    return Ok(Received::Closed(code, reason));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Ok(Received::Closed(1006, String::new())),
            }
        }
    }

    /// Waits for a JSON frame that fits, alone or in a batch; others are passed over.
    pub async fn wait_for(&mut self, within: Duration, fits: impl Fn(&Value) -> bool) -> Outcome<Value> {
        let deadline = Instant::now() + within;
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.receive(left).await {
                Ok(Received::Json(mut frame)) if frame["type"] == "batch" => {
                    if let Value::Array(messages) = frame["messages"].take() {
                        self.rest.extend(messages);
                    }
                }
                Ok(Received::Json(frame)) if fits(&frame) => return Ok(frame),
                Ok(Received::Json(frame)) => seen.push(frame["type"].as_str().unwrap_or("?").to_owned()),
                Ok(Received::Closed(code, reason)) => {
                    return Err(Failed(format!("closed with {code} {reason} after {seen:?}")));
                }
                Err(error) => return Err(Failed(format!("{error} after {seen:?}"))),
            }
        }
    }

    /// Takes the socket apart, for programs that count frames and do not read them.
    pub fn into_stream(self) -> WebSocketStream<MaybeTlsStream<TcpStream>> {
        self.stream
    }

    /// Closes the socket.
    pub async fn close(mut self) {
        let _ = self.stream.close(None).await;
    }
}

/// A watcher of a session in dialect 2.
#[derive(Default)]
pub struct Timeline {
    /// Stored events by id.
    pub events: BTreeMap<String, Value>,
    /// Open parts by id: text.
    pub open: BTreeMap<String, String>,
    /// Places by the events' ids.
    pub places: BTreeMap<String, i64>,
    /// Newest revision.
    pub revision: i64,
    /// Text that came although it was there: none, unless a frame came twice.
    pub repeated: Vec<String>,
}

/// A stored part as a watcher has it that saw it being written.
fn shown(event: &Value) -> Value {
    if event["type"] != "part" {
        return event.clone();
    }
    json!({"type": "part", "messageId": event["messageId"], "partId": event["partId"], "kind": event["kind"],
        "text": event["text"]})
}

impl Timeline {
    /// Takes a frame by the rules of dialect 2.
    pub fn take(&mut self, frame: &Value) -> Outcome {
        match frame["type"].as_str().unwrap_or_default() {
            "subscribed" => {
                if frame["timeline"]["mode"] != "delta" {
                    self.events.clear();
                    self.places.clear();
                }
                self.open.clear();
                for event in frame["timeline"]["events"].as_array().into_iter().flatten() {
                    let id = event["eventId"].as_str().unwrap_or_default().to_owned();
                    self.places.insert(id.clone(), event["timelineSequence"].as_i64().unwrap_or(0));
                    self.events.insert(id, shown(&event["event"]));
                }
                for part in frame["openParts"].as_array().into_iter().flatten() {
                    let id = part["partId"].as_str().unwrap_or_default().to_owned();
                    self.open.insert(id, part["text"].as_str().unwrap_or_default().to_owned());
                }
                self.revision = frame["revision"].as_i64().unwrap_or(0);
            }
            "batch" => {
                for message in frame["messages"].as_array().into_iter().flatten() {
                    self.take(message)?;
                }
            }
            "part_delta" => {
                let id = frame["partId"].as_str().unwrap_or_default().to_owned();
                let offset = frame["offset"].as_u64().unwrap_or(0) as usize;
                let held = self.open.entry(id).or_default();
                let units: Vec<u16> = held.encode_utf16().collect();
                if offset > units.len() {
                    return Err(Failed(format!("a delta at {offset} beyond {} units", units.len())));
                }
                if offset < units.len() {
                    self.repeated.push(frame.to_string());
                }
                *held = String::from_utf16_lossy(&units[..offset]) + frame["text"].as_str().unwrap_or_default();
            }
            "part_done" => {
                let id = frame["partId"].as_str().unwrap_or_default();
                let held = self.open.remove(id);
                let text = frame["text"].as_str().map(str::to_owned).or(held).unwrap_or_default();
                let length = frame["length"].as_u64().unwrap_or(0) as usize;
                if text.encode_utf16().count() != length {
                    return Err(Failed(format!("part {id} has {} units of {length}", text.encode_utf16().count())));
                }
                let event = json!({"type": "part", "messageId": frame["messageId"], "partId": id,
                    "kind": frame["kind"], "text": text});
                self.note(frame, event)?;
            }
            "sandbox_event" if frame["eventId"].is_string() => self.note(frame, frame["event"].clone())?,
            _ => {}
        }
        Ok(())
    }

    fn note(&mut self, frame: &Value, event: Value) -> Outcome {
        let revision = frame["revision"].as_i64().unwrap_or(0);
        if revision != self.revision + 1 {
            return Err(Failed(format!("revision {revision} after {}", self.revision)));
        }
        self.revision = revision;
        let id = frame["eventId"].as_str().unwrap_or_default().to_owned();
        self.places.insert(id.clone(), frame["timelineSequence"].as_i64().unwrap_or(0));
        self.events.insert(id, event);
        Ok(())
    }

    /// The text parts in the order of their ids.
    pub fn texts(&self) -> Vec<String> {
        self.events
            .values()
            .filter(|event| event["type"] == "part" && event["kind"] == "text")
            .map(|event| event["text"].as_str().unwrap_or_default().to_owned())
            .collect()
    }
}

/// Opens a client's socket and subscribes in dialect 2.
pub async fn subscribe(
    ready: &Ready,
    session: &str,
    token: &str,
    after_revision: Option<i64>,
) -> Outcome<(Socket, Value)> {
    let origin = vec![("Origin", ready.base_url.clone())];
    let mut socket = open(ready, session, "", &origin)
        .await?
        .map_err(|status| Failed(format!("the client's upgrade was refused with {status}")))?;
    let mut frame = json!({"type": "subscribe", "token": token, "clientId": "e2e", "dialect": 2});
    if let Some(after) = after_revision {
        frame["afterRevision"] = json!(after);
    }
    socket.send(&frame).await?;
    let subscribed = socket.wait_for(Duration::from_secs(15), |f| f["type"] == "subscribed").await?;
    Ok((socket, subscribed))
}
