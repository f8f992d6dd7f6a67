//! What every stand-in has: a server on the loopback, a record of what was asked, and troubles to order.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::StreamExt;
use serde_json::{Value, json};

/// Longest body that is taken, in bytes.
const MAX_BODY: usize = 1024 * 1024;
/// What is remembered at most.
const MAX_RECORD: usize = 10_000;

/// A request, taken apart.
#[derive(Debug, Clone)]
pub struct Asked {
    /// `GET`, `POST`, …
    pub method: String,
    /// The path as it came.
    pub path: String,
    /// Its parts, decoded.
    pub parts: Vec<String>,
    /// The query, decoded. A name that comes twice is refused before.
    pub query: BTreeMap<String, String>,
    /// Headers by lower-case name.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Bytes,
}

impl Asked {
    /// A header, or an empty text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The body as JSON; `null` when there is none.
    pub fn json(&self) -> Result<Value, Said> {
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        if !self.header("content-type").starts_with("application/json") {
            return Err(Said::error(415, "the body is not said to be JSON"));
        }
        serde_json::from_slice(&self.body).map_err(|error| Said::error(400, &format!("the body is no JSON: {error}")))
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Said {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

impl Said {
    /// JSON.
    pub fn json(status: u16, body: &Value) -> Self {
        Self { status, content_type: "application/json", body: body.to_string().into_bytes() }
    }

    /// Nothing more than a status.
    pub fn empty(status: u16) -> Self {
        Self { status, content_type: "text/plain", body: Vec::new() }
    }

    /// An error as most of them write it. A stand-in that has another way turns it into that.
    pub fn error(status: u16, message: &str) -> Self {
        Self::json(status, &json!({ "message": message }))
    }

    /// The sentence of [`Said::error`].
    pub fn message(&self) -> Option<String> {
        Some(serde_json::from_slice::<Value>(&self.body).ok()?.get("message")?.as_str()?.to_owned())
    }
}

/// One vendor's part.
pub trait Vendor: Send + 'static {
    /// What it answers.
    fn answer(&mut self, asked: &Asked) -> Said;

    /// How it writes an error.
    fn error(&self, status: u16, message: &str) -> Said {
        Said::error(status, message)
    }
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// It answers with a status, and this sentence in its own way.
    Status(u16, String),
    /// Something before it answers with a page of HTML.
    Page(u16),
    /// No answer comes.
    Hang,
    /// The head of an answer comes, and then a byte now and again, for ever.
    Endless,
    /// More comes than anybody reads.
    Flood,
    /// The answer is cut off.
    CutOff,
    /// The answer is JSON of another shape.
    Malformed,
    /// The answer is no JSON.
    NoJson,
    /// It is sent elsewhere.
    Redirect(String),
}

#[derive(Debug, Clone)]
struct Order {
    method: String,
    path_has: String,
    trouble: Trouble,
    /// What was asked is done all the same: only the answer is lost.
    done: bool,
    times: usize,
}

#[derive(Default)]
struct Desk {
    orders: VecDeque<Order>,
    seen: Vec<Asked>,
}

/// A stand-in that runs until it is dropped.
pub struct Fake<V> {
    /// Where it listens.
    pub url: String,
    vendor: Arc<Mutex<V>>,
    desk: Arc<Mutex<Desk>>,
    server: tokio::task::JoinHandle<()>,
}

struct Shared<V> {
    vendor: Arc<Mutex<V>>,
    desk: Arc<Mutex<Desk>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test that failed while it held the lock has failed already.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<V: Vendor> Fake<V> {
    /// Listens on a free port of the loopback.
    pub async fn start(vendor: V) -> std::io::Result<Self> {
        Self::on(tokio::net::TcpListener::bind("127.0.0.1:0").await?, vendor)
    }

    /// Answers what comes to this port.
    pub fn on(listener: tokio::net::TcpListener, vendor: V) -> std::io::Result<Self> {
        let (vendor, desk) = (Arc::new(Mutex::new(vendor)), Arc::new(Mutex::new(Desk::default())));
        let shared = Arc::new(Shared { vendor: Arc::clone(&vendor), desk: Arc::clone(&desk) });
        let app = Router::new().fallback(serve::<V>).with_state(shared);
        let url = format!("http://{}", listener.local_addr()?);
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { url, vendor, desk, server })
    }

    /// Orders trouble for the next `times` requests of this method whose path has these words.
    pub fn order(&self, method: &str, path_has: &str, trouble: Trouble, times: usize) {
        self.put(method, path_has, trouble, times, false);
    }

    /// The same, but what was asked is done, and only its answer is lost.
    pub fn order_after(&self, method: &str, path_has: &str, trouble: Trouble, times: usize) {
        self.put(method, path_has, trouble, times, true);
    }

    fn put(&self, method: &str, path_has: &str, trouble: Trouble, times: usize, done: bool) {
        let (method, path_has) = (method.to_owned(), path_has.to_owned());
        locked(&self.desk).orders.push_back(Order { method, path_has, trouble, done, times });
    }

    /// Forgets orders that are left.
    pub fn calm(&self) {
        locked(&self.desk).orders.clear();
    }

    /// What was asked so far.
    pub fn seen(&self) -> Vec<Asked> {
        locked(&self.desk).seen.clone()
    }

    /// Forgets what was asked so far.
    pub fn forget(&self) {
        locked(&self.desk).seen.clear();
    }

    /// Looks at, or changes, its state.
    pub fn with<R>(&self, look: impl FnOnce(&mut V) -> R) -> R {
        look(&mut locked(&self.vendor))
    }
}

impl<V> Drop for Fake<V> {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A part of an address, decoded.
pub(super) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

async fn taken(request: Request) -> Result<Asked, Said> {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY).await.map_err(|_| Said::error(413, "the body is too long"))?;
    let bad = || Said::error(400, "the address cannot be read");
    let path = head.uri.path().to_owned();
    let parts = path.trim_start_matches('/').split('/').map(decoded).collect::<Option<_>>().ok_or_else(bad)?;
    let mut query = BTreeMap::new();
    for pair in head.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        // `+` is a space in a query, as forms have it.
        let name = decoded(&name.replace('+', " ")).ok_or_else(bad)?;
        let value = decoded(&value.replace('+', " ")).ok_or_else(bad)?;
        if query.insert(name, value).is_some() {
            return Err(Said::error(400, "a name comes twice in the query"));
        }
    }
    let headers =
        head.headers.iter().filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
    Ok(Asked { method: head.method.to_string(), path, parts, query, headers: headers.collect(), body })
}

/// The order that this request meets.
fn met(desk: &mut Desk, asked: &Asked) -> Option<Order> {
    let fits = |order: &Order| order.method == asked.method && asked.path.contains(&order.path_has);
    let index = desk.orders.iter().position(fits)?;
    let order = desk.orders[index].clone();
    if order.times <= 1 {
        desk.orders.remove(index);
    } else {
        desk.orders[index].times -= 1;
    }
    Some(order)
}

async fn serve<V: Vendor>(State(shared): State<Arc<Shared<V>>>, request: Request) -> Response {
    let asked = match taken(request).await {
        Ok(asked) => asked,
        Err(said) => return respond(said),
    };
    let order = {
        let mut desk = locked(&shared.desk);
        if desk.seen.len() < MAX_RECORD {
            desk.seen.push(asked.clone());
        }
        met(&mut desk, &asked)
    };
    let said = match &order {
        Some(order) if !order.done => None,
        _ => Some(locked(&shared.vendor).answer(&asked)),
    };
    match (order, said) {
        (Some(order), said) => trouble(&shared, order.trouble, said).await,
        (None, Some(said)) => respond(said),
        (None, None) => respond(Said::empty(500)),
    }
}

async fn trouble<V: Vendor>(shared: &Shared<V>, trouble: Trouble, said: Option<Said>) -> Response {
    let body = said.map(|said| said.body).unwrap_or_default();
    match trouble {
        Trouble::Status(status, message) => respond(locked(&shared.vendor).error(status, &message)),
        Trouble::Page(status) => respond(Said {
            status,
            content_type: "text/html",
            body: b"<html><body>Something before the service failed</body></html>".to_vec(),
        }),
        Trouble::Hang => std::future::pending().await,
        Trouble::Endless => {
            let drops = futures_util::stream::unfold((), async |()| {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Some((Ok::<_, Infallible>(Bytes::from_static(b" ")), ()))
            });
            streamed(Body::from_stream(drops))
        }
        Trouble::Flood => {
            let chunk = Bytes::from(vec![b' '; 64 * 1024]);
            let flood = futures_util::stream::repeat(chunk).take(1_024).map(Ok::<_, Infallible>);
            streamed(Body::from_stream(flood))
        }
        Trouble::CutOff => {
            let half = Bytes::from(body[..body.len() / 2].to_vec());
            let parts = futures_util::stream::iter([
                Ok(half),
                Err(std::io::Error::new(std::io::ErrorKind::ConnectionReset, "cut off on purpose")),
            ]);
            streamed(Body::from_stream(parts))
        }
        Trouble::Malformed => respond(Said::json(200, &json!({"what": ["nobody", "expects"]}))),
        Trouble::NoJson => respond(Said { status: 200, content_type: "application/json", body: b"{\"cut".to_vec() }),
        Trouble::Redirect(to) => {
            let mut response = respond(Said::empty(307));
            if let Ok(value) = to.parse() {
                response.headers_mut().insert("location", value);
            }
            response
        }
    }
}

fn streamed(body: Body) -> Response {
    let mut response = Response::new(body);
    let json = axum::http::HeaderValue::from_static("application/json");
    response.headers_mut().insert("content-type", json);
    response
}

fn respond(said: Said) -> Response {
    let mut response = Response::new(Body::from(said.body));
    *response.status_mut() = StatusCode::from_u16(said.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = axum::http::HeaderValue::from_static(said.content_type);
    response.headers_mut().insert("content-type", kind);
    response
}
