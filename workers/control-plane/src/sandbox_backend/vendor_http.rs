//! The way to a vendor: addresses whose parts are encoded, a token in one header, a deadline for the whole operation,
//! short answers, and errors that hold no secret.

use std::cell::OnceCell;
use std::fmt::Write as _;
use std::time::Duration;

use oi_protocol::UnixMillis;
use oi_protocol::text::truncate_bytes;
use oi_worker_kit::clock;
use oi_worker_kit::http_client::{Call, CallError};
use oi_worker_kit::service_signature::encode_component;
use oi_worker_kit::vars::Vars;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use worker::Delay;

use super::BackendError;

/// A start must end before its job's lease does.
pub const START_WITHIN: Duration = Duration::from_secs(85);
/// So must a stop, and the deletion of files.
pub const STOP_WITHIN: Duration = Duration::from_secs(28);
/// And a snapshot.
pub const SNAPSHOT_WITHIN: Duration = Duration::from_secs(315);

/// The image of a build must be kept before the attempt's five minutes are over.
pub const BUILD_SNAPSHOT_WITHIN: Duration = Duration::from_secs(300);

/// Longest answer that is read, in bytes.
const MAX_ANSWER: usize = 256 * 1024;
/// Longest sentence of a vendor that is passed on, in bytes.
const MAX_SENTENCE: usize = 300;
/// Values shorter than this are words that may stand in any sentence.
const MIN_SECRET: usize = 6;

/// What is asked of a vendor.
#[derive(Clone, PartialEq, Eq)]
pub struct Ask {
    /// `GET`, `POST`, `DELETE`.
    pub method: &'static str,
    /// Where, whole.
    pub url: String,
    /// Headers, with the token.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Option<Vec<u8>>,
    /// Deadline.
    pub within: Duration,
    /// Longest answer that is read, in bytes.
    pub at_most: usize,
}

impl Ask {
    fn new(method: &'static str, url: String) -> Self {
        Self { method, url, headers: Vec::new(), body: None, within: Duration::from_secs(15), at_most: MAX_ANSWER }
    }

    /// Reads.
    pub fn get(url: String) -> Self {
        Self::new("GET", url)
    }

    /// Asks for something to be done, once.
    pub fn post(url: String) -> Self {
        Self::new("POST", url)
    }

    /// Deletes.
    pub fn delete(url: String) -> Self {
        Self::new("DELETE", url)
    }

    /// Adds a header.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// With a JSON body.
    pub fn json(self, body: &impl Serialize) -> Self {
        // Our requests have string keys and finite numbers, so writing them cannot fail.
        self.bytes(serde_json::to_vec(body).unwrap_or_default(), "application/json")
    }

    /// With a body of another kind.
    pub fn bytes(mut self, body: Vec<u8>, content_type: &str) -> Self {
        self.body = Some(body);
        self.header("Content-Type", content_type)
    }

    /// With a deadline of so many seconds; 15 without.
    pub fn within(mut self, seconds: u64) -> Self {
        self.within = Duration::from_secs(seconds);
        self
    }
}

/// What a vendor answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Reply {
    /// Whether the status is 2xx.
    pub const fn is_success(&self) -> bool {
        self.status >= 200 && self.status < 300
    }

    /// The body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, BackendError> {
        serde_json::from_slice(&self.body).map_err(|error| CallError::Shape(where_of(&error)).into())
    }
}

/// Where a body stops to be what was expected. What stands there is not said: it may be a secret.
fn where_of(error: &serde_json::Error) -> String {
    let kind = match error.classify() {
        serde_json::error::Category::Data => "other fields or values than are known",
        serde_json::error::Category::Eof => "it ends too early",
        _ => "no JSON",
    };
    format!("{kind}, at line {}, column {}", error.line(), error.column())
}

/// What carries a request there and back.
pub trait Transport {
    /// Makes the call.
    async fn send(&self, ask: Ask) -> Result<Reply, CallError>;

    /// Waits.
    async fn pause(&self, time: Duration);

    /// Now.
    fn now(&self) -> UnixMillis;
}

/// A Worker's way out.
pub struct Network;

impl Transport for Network {
    async fn send(&self, ask: Ask) -> Result<Reply, CallError> {
        let mut call = match ask.method {
            "GET" => Call::get(ask.url),
            "DELETE" => Call::delete(ask.url),
            _ => Call::post(ask.url),
        };
        for (name, value) in ask.headers {
            call = call.header(name, value);
        }
        if let Some(body) = ask.body {
            call = call.bytes(body);
        }
        let answer = call.within(ask.within).at_most(ask.at_most).send().await?;
        Ok(Reply { status: answer.status, body: answer.body })
    }

    async fn pause(&self, time: Duration) {
        Delay::from(time).await;
    }

    fn now(&self) -> UnixMillis {
        clock::now()
    }
}

/// A variable that must be there.
pub fn required(vars: &impl Vars, name: &str) -> Result<String, BackendError> {
    vars.get(name).ok_or_else(|| BackendError::Setup(format!("{name} is not set")))
}

/// The address of an API: `https`, or `http` on this machine, without a query.
pub fn base_url(name: &str, text: &str) -> Result<String, BackendError> {
    let refused = || BackendError::Setup(format!("{name} is not an https URL without a query"));
    let url = url::Url::parse(text).map_err(|_| refused())?;
    let is_local = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
    let is_plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_local);
    if is_plain && is_safe { Ok(text.trim_end_matches('/').to_owned()) } else { Err(refused()) }
}

/// A vendor's API.
pub struct Vendor<T> {
    /// The name that people know.
    pub name: &'static str,
    /// What carries requests.
    pub transport: T,
    /// The deployment's key, which no error holds.
    pub key: String,
    auth: Auth,
    base: String,
    /// `SANDBOX_CALL_DEADLINE_MS`: no call waits longer.
    most: Duration,
    /// When the job began that this client was made for: with its first operation.
    began: OnceCell<UnixMillis>,
}

/// How a call shows the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// Each has it in `Authorization`.
    Bearer,
    /// Each has it in this header.
    Header(&'static str),
    /// It is the caller's business.
    ByCall,
}

impl<T: Transport> Vendor<T> {
    /// At an address, with a key.
    pub fn new(name: &'static str, transport: T, base: String, key: String, auth: Auth, vars: &impl Vars) -> Self {
        let most = vars.positive_or("SANDBOX_CALL_DEADLINE_MS", i64::from(i32::MAX));
        let most = Duration::from_millis(most.unsigned_abs());
        Self { name, transport, key, auth, base, most, began: OnceCell::new() }
    }

    /// An address below the base. Each part is one path segment, whatever it holds.
    pub fn url(&self, parts: &[&str], query: &[(&str, &str)]) -> String {
        address(&self.base, parts, query)
    }

    /// Begins an operation of several calls. All that is done for one job ends within this together: a search, and then
    /// a start.
    pub fn begin(&self, doing: &'static str, within: Duration) -> Operation<'_, T> {
        let began = self.began.get_or_init(|| self.transport.now());
        let ends = began.plus(within.as_millis() as i64);
        Operation { vendor: self, doing, ends, within, hidden: Vec::new() }.hiding([self.key.as_str()])
    }
}

/// An address whose parts and query are encoded.
pub fn address(base: &str, parts: &[&str], query: &[(&str, &str)]) -> String {
    let mut url = base.to_owned();
    for part in parts {
        url.push('/');
        url.push_str(&encode_component(part));
    }
    for (index, (name, value)) in query.iter().enumerate() {
        url.push(if index == 0 { '?' } else { '&' });
        let _ = write!(url, "{}={}", encode_component(name), encode_component(value));
    }
    url
}

/// An id that a vendor gave: one path segment that can be nothing else, and short enough to keep.
pub fn handle(id: String) -> Result<String, BackendError> {
    let is_fine = !id.is_empty() && id.len() <= 256 && id.bytes().all(|byte| byte.is_ascii_graphic());
    if is_fine && id != "." && id != ".." {
        Ok(id)
    } else {
        Err(CallError::Shape("an id that cannot be kept".to_owned()).into())
    }
}

/// Calls that belong together.
pub struct Operation<'v, T> {
    vendor: &'v Vendor<T>,
    doing: &'static str,
    ends: UnixMillis,
    within: Duration,
    hidden: Vec<String>,
}

impl<T: Transport> Operation<'_, T> {
    /// Takes these values out of whatever the vendor says: it may repeat what it was sent.
    pub fn hiding<'a>(mut self, values: impl IntoIterator<Item = &'a str>) -> Self {
        for value in values.into_iter().filter(|value| value.len() >= MIN_SECRET) {
            let json = Value::from(value).to_string();
            self.hidden.push(json.trim_matches('"').to_owned());
            self.hidden.push(value.to_owned());
        }
        // A value that holds another goes first.
        self.hidden.sort_by_key(|value| std::cmp::Reverse(value.len()));
        self
    }

    /// Waits before something is asked again; fails when no time would be left for it.
    pub async fn pause(&self, time: Duration) -> Result<(), BackendError> {
        let left = self.ends.since(self.vendor.transport.now());
        if left <= time.as_millis() as i64 {
            return Err(CallError::Deadline(self.within.as_millis() as u32).into());
        }
        self.vendor.transport.pause(time).await;
        Ok(())
    }

    /// Makes a call; any answer is one.
    pub async fn send(&self, ask: Ask) -> Result<Reply, BackendError> {
        let now = self.vendor.transport.now();
        let left = Duration::from_millis(self.ends.since(now).clamp(0, i64::from(u32::MAX)).unsigned_abs());
        if left.is_zero() {
            return Err(CallError::Deadline(self.within.as_millis() as u32).into());
        }
        let mut ask = ask;
        ask.within = ask.within.min(left).min(self.vendor.most);
        match self.vendor.auth {
            Auth::Bearer => ask.headers.push(("Authorization", format!("Bearer {}", self.vendor.key))),
            Auth::Header(name) => ask.headers.push((name, self.vendor.key.clone())),
            Auth::ByCall => {}
        }
        Ok(self.vendor.transport.send(ask).await?)
    }

    /// Makes a call that must succeed.
    pub async fn done(&self, ask: Ask) -> Result<Reply, BackendError> {
        let reply = self.send(ask).await?;
        if reply.is_success() { Ok(reply) } else { Err(self.refused(&reply)) }
    }

    /// Makes a call that succeeds, or whose subject is not there.
    pub async fn done_or_gone(&self, ask: Ask) -> Result<Option<Reply>, BackendError> {
        let reply = self.send(ask).await?;
        match reply.status {
            404 | 410 => Ok(None),
            _ if reply.is_success() => Ok(Some(reply)),
            _ => Err(self.refused(&reply)),
        }
    }

    /// What an answer that is no success says.
    pub fn refused(&self, reply: &Reply) -> BackendError {
        BackendError::Status { status: reply.status, message: self.sentence(&sentence_of(&reply.body)) }
    }

    /// A sentence of ours around one of the vendor's.
    pub fn sentence(&self, theirs: &str) -> String {
        let mut theirs = theirs.to_owned();
        for value in &self.hidden {
            theirs = theirs.replace(value.as_str(), "***");
        }
        let theirs = truncate_bytes(theirs.trim(), MAX_SENTENCE);
        let (name, doing) = (self.vendor.name, self.doing);
        if theirs.is_empty() {
            format!("{name} could not {doing}")
        } else {
            format!("{name} could not {doing}: {theirs}")
        }
    }
}

/// A vendor's own sentence: `message`, `error`, or `error.message`. Pages of HTML are none.
fn sentence_of(body: &[u8]) -> String {
    let Ok(body) = serde_json::from_slice::<Value>(body) else { return String::new() };
    let places = [&body["message"], &body["error"]["message"], &body["error"], &body["detail"]];
    places.into_iter().find_map(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[derive(Default)]
    struct Still(std::cell::Cell<i64>);

    impl Transport for Still {
        async fn send(&self, ask: Ask) -> Result<Reply, CallError> {
            self.0.set(self.0.get() + 50_000);
            Err(CallError::Network(format!("{} ms", ask.within.as_millis())))
        }

        async fn pause(&self, time: Duration) {
            self.0.set(self.0.get() + time.as_millis() as i64);
        }

        fn now(&self) -> UnixMillis {
            UnixMillis(self.0.get())
        }
    }

    fn vendor() -> Vendor<Still> {
        Vendor::new(
            "Acme",
            Still::default(),
            "https://api.acme.example/v1".to_owned(),
            "the-key".to_owned(),
            Auth::Bearer,
            &BTreeMap::new(),
        )
    }

    #[test]
    fn a_part_of_an_address_stays_one() {
        let url = vendor().url(&["sandboxes", "../a?b#c/d é"], &[("name", "a&b=c")]);
        assert_eq!(url, "https://api.acme.example/v1/sandboxes/..%2Fa%3Fb%23c%2Fd%20%C3%A9?name=a%26b%3Dc");
        for bad in ["", ".", "..", "a b", "a\n", &"x".repeat(257)] {
            assert!(handle(bad.to_owned()).is_err(), "{bad:?}");
        }
        assert_eq!(handle("team/snap:v1".to_owned()), Ok("team/snap:v1".to_owned()));
    }

    #[test]
    fn only_addresses_that_a_token_may_go_to_are_taken() {
        for good in ["https://api.acme.example", "http://127.0.0.1:80/v1/", "http://localhost:1", "http://[::1]:2"] {
            assert!(base_url("X", good).is_ok(), "{good}");
        }
        for bad in ["http://api.acme.example", "api", "https://u:p@a.example", "https://a.example?k=1", "ftp://a"] {
            assert!(base_url("X", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_vendor_repeats_of_us_is_not_passed_on() {
        let vendor = vendor();
        let operation =
            vendor.begin("create the sandbox", START_WITHIN).hiding(["hunter2-secret", "hunter2", "a\"quote\"d", "no"]);
        let reply = |body: &str| Reply { status: 400, body: body.as_bytes().to_vec() };
        let said = |body: &str| operation.refused(&reply(body)).to_string();
        assert_eq!(
            said(r#"{"message":"bad env A=hunter2-secret B=a\"quote\"d C=no by the-key"}"#),
            "Acme could not create the sandbox: bad env A=*** B=*** C=no by *** (status 400)"
        );
        assert_eq!(said(r#"{"error":{"message":"gone"}}"#), "Acme could not create the sandbox: gone (status 400)");
        assert_eq!(said(r#"{"error":"quota"}"#), "Acme could not create the sandbox: quota (status 400)");
        assert_eq!(said("<html>"), "Acme could not create the sandbox (status 400)");
        assert!(said(&format!(r#"{{"error":"{}"}}"#, "x".repeat(5_000))).len() < 400);
    }

    /// Each call of this transport takes 50 s.
    #[test]
    fn all_calls_of_a_job_end_before_its_lease() {
        futures_executor::block_on(async {
            let vendor = vendor();
            let ask = || Ask::get(vendor.url(&["a"], &[])).within(60);
            let said = async |operation: &Operation<'_, Still>| match operation.send(ask()).await {
                Err(BackendError::Call(error)) => error,
                other => panic!("{:?}", other.map(|reply| reply.status)),
            };
            let search = vendor.begin("look", START_WITHIN);
            assert_eq!(said(&search).await, CallError::Network("60000 ms".to_owned()));
            // What comes after has what is left.
            let start = vendor.begin("start", START_WITHIN);
            assert_eq!(said(&start).await, CallError::Network("35000 ms".to_owned()));
            assert_eq!(said(&start).await, CallError::Deadline(85_000));
            assert!(start.pause(Duration::from_secs(1)).await.is_err());
        });
    }

    #[test]
    fn errors_are_classed() {
        let status = |status| BackendError::Status { status, message: String::new() };
        // Status, whether it is transient, whether it is about the backend at large.
        let table = [
            (400, false, false),
            (401, false, true),
            (402, false, true),
            (403, false, true),
            (404, false, false),
            (409, false, false),
            (422, false, false),
            (429, true, true),
            (500, false, true),
            (501, false, true),
            (502, true, true),
            (503, true, true),
            (504, true, true),
        ];
        for (code, transient, outage) in table {
            assert_eq!((status(code).is_transient(), status(code).is_outage()), (transient, outage), "{code}");
        }
        let calls = [
            (CallError::Network(String::new()), true, true),
            (CallError::Deadline(1), true, true),
            (CallError::TooLarge(1), false, true),
            (CallError::Shape(String::new()), false, true),
            (CallError::Unsendable(String::new()), false, true),
        ];
        for (error, transient, outage) in calls {
            let error = BackendError::from(error);
            assert_eq!((error.is_transient(), error.is_outage()), (transient, outage), "{error}");
        }
        for error in [BackendError::Refused(String::new()), BackendError::Setup(String::new())] {
            assert!(!error.is_transient() && !error.is_outage());
        }
    }
}
