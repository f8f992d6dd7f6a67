//! Every vendor's client, natively, against devkit's stand-in of the vendor: what is asked, and what each failure is
//! taken for.

use std::collections::BTreeMap;
use std::time::Duration;

use devkit::vendors::edge::{Fake, Trouble, Vendor};
use futures_util::StreamExt;
use oi_protocol::UnixMillis;
use oi_protocol::local_backend::{CheckoutRepository, CreateSandboxRequest, SandboxServices};
use oi_worker_kit::http_client::CallError;

use super::vendor_http::{Ask, Reply, Transport};
use super::{BackendError, BackendSandbox, SandboxBackend};

mod daytona;
mod e2b;
mod modal;
mod opencomputer;
mod vercel;

/// A secret that must be in no error.
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// Another.
const USER_SECRET: &str = "the user's own \"secret\"";
/// A key of a vendor.
const KEY: &str = "vendor-key-1234567890";

/// What a session asks for.
pub fn request() -> CreateSandboxRequest {
    CreateSandboxRequest {
        sandbox_id: "sandbox-acme-app-1".to_owned(),
        session_id: "0a".repeat(16),
        generation: 1,
        control_plane_url: "https://cp.example".to_owned(),
        auth_token: TOKEN.to_owned(),
        timeout_seconds: 7_200,
        vcs_host: "github.com".to_owned(),
        repositories: vec![CheckoutRepository {
            position: 0,
            repo_owner: "acme".to_owned(),
            repo_name: "app".to_owned(),
            branch: "main".to_owned(),
            clone_url: "https://github.com/acme/app.git".to_owned(),
            base_sha: None,
        }],
        model: "anthropic/claude-sonnet-4-6".to_owned(),
        model_providers: Vec::new(),
        services: SandboxServices {
            code_server_password: Some("of the settings".to_owned()),
            vnc_password: Some("of the settings".to_owned()),
            tunnel_ports: vec![3000],
            ..SandboxServices::default()
        },
        env: BTreeMap::from([("USER_SECRET".to_owned(), USER_SECRET.to_owned())]),
        ..CreateSandboxRequest::default()
    }
}

/// The same for a sandbox of another name.
fn named(id: &str) -> CreateSandboxRequest {
    CreateSandboxRequest { sandbox_id: id.to_owned(), ..request() }
}

/// What a Worker's way out does, with a native client: a deadline, a limit, no redirects.
pub struct Native {
    client: reqwest::Client,
    began: UnixMillis,
    since: std::time::Instant,
    /// What each call takes by this client's clock, in ms, and what they have taken so far.
    call_takes: i64,
    taken: std::cell::Cell<i64>,
}

impl Native {
    /// Without anything remembered.
    pub fn new() -> Self {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        let began = UnixMillis(now.as_millis() as i64);
        let since = std::time::Instant::now();
        Self { client: client.expect("a client"), began, since, call_takes: 0, taken: std::cell::Cell::default() }
    }

    /// One whose calls take so many seconds by its clock.
    pub fn slow(seconds: i64) -> Self {
        Self { call_takes: seconds * 1_000, ..Self::new() }
    }
}

/// reqwest writes the URL into its errors, which is none of their business.
fn failed(error: &reqwest::Error) -> CallError {
    CallError::Network(if error.is_connect() { "no connection" } else { "it broke off" }.to_owned())
}

impl Transport for Native {
    async fn send(&self, ask: Ask) -> Result<Reply, CallError> {
        let exchange = async {
            let method = ask.method.parse().expect("a method");
            let mut request = self.client.request(method, &ask.url);
            for (name, value) in ask.headers {
                request = request.header(name, value);
            }
            if let Some(body) = ask.body {
                request = request.body(body);
            }
            let response = request.send().await.map_err(|error| failed(&error))?;
            let status = response.status().as_u16();
            let (mut chunks, mut body) = (response.bytes_stream(), Vec::new());
            while let Some(chunk) = chunks.next().await {
                body.extend_from_slice(&chunk.map_err(|error| failed(&error))?);
                if body.len() > ask.at_most {
                    return Err(CallError::TooLarge(ask.at_most));
                }
            }
            Ok(Reply { status, body })
        };
        self.taken.set(self.taken.get() + self.call_takes);
        let late = CallError::Deadline(ask.within.as_millis() as u32);
        tokio::time::timeout(ask.within, exchange).await.unwrap_or(Err(late))
    }

    async fn pause(&self, time: Duration) {
        // A hundred times as fast as the vendors' clocks.
        tokio::time::sleep(time / 100).await;
    }

    fn now(&self) -> UnixMillis {
        // Twenty times as slow as it is: a client is for one job, and a test does many with it.
        UnixMillis(self.began.0 + self.taken.get() + self.since.elapsed().as_millis() as i64 / 20)
    }
}

/// A call waits no longer than this in the tests of what never answers: two seconds for five minutes.
const SHORT: (&str, &str) = ("SANDBOX_CALL_DEADLINE_MS", "2000");

/// Failures of one call: what goes wrong, whether it is transient, whether it is about the backend at large.
fn failures(repeated: &str) -> Vec<(Trouble, bool, bool)> {
    let said = |status| Trouble::Status(status, format!("it is {status} for {KEY} and {repeated}"));
    vec![
        (said(400), false, false),
        (said(401), false, true),
        (said(402), false, true),
        (said(403), false, true),
        (said(404), false, false),
        (said(422), false, false),
        (said(429), true, true),
        (said(500), false, true),
        (said(502), true, true),
        (said(503), true, true),
        (said(504), true, true),
        (Trouble::Page(502), true, true),
        (Trouble::Page(500), false, true),
        (Trouble::Hang, true, true),
        (Trouble::Endless, true, true),
        (Trouble::CutOff, true, true),
        (Trouble::Flood, false, true),
        (Trouble::Malformed, false, true),
        (Trouble::NoJson, false, true),
    ]
}

fn check_class(error: &BackendError, trouble: &Trouble, transient: bool, outage: bool) {
    assert_eq!((error.is_transient(), error.is_outage()), (transient, outage), "{trouble:?}: {error}");
    let text = format!("{error} {error:?}");
    let escaped = USER_SECRET.replace('"', "\\\"");
    for secret in [TOKEN, USER_SECRET, &escaped, KEY, "<html>"] {
        assert!(!text.contains(secret), "{trouble:?} lets {secret} out: {text}");
    }
}

/// Each failure of the call that creates: a class, no secret, and the next attempt works.
async fn every_failure_of_a_create_is_classed<V: Vendor>(fake: &Fake<V>, backend: &impl SandboxBackend, path: &str) {
    for (index, (trouble, transient, outage)) in failures(&format!("{USER_SECRET} and {TOKEN}")).into_iter().enumerate()
    {
        let asked = named(&format!("sandbox-{index}"));
        fake.order("POST", path, trouble.clone(), 1);
        let error = backend.create(&asked).await.expect_err("it was ordered to fail");
        check_class(&error, &trouble, transient, outage);
        let started = backend.create(&asked).await;
        assert!(started.as_ref().is_ok_and(|sandbox| sandbox.running), "after {trouble:?}: {started:?}");
    }
    // A token goes nowhere else.
    let elsewhere = Fake::start(Nobody).await.expect("listens");
    fake.order("POST", path, Trouble::Redirect(format!("{}/stolen", elsewhere.url)), 1);
    let error = backend.create(&named("sandbox-redirected")).await.expect_err("it is no answer");
    assert_eq!((error.is_transient(), error.is_outage()), (false, false), "{error}");
    assert!(elsewhere.seen().is_empty(), "the redirect was followed");
}

/// Each failure of a call that stops.
async fn every_failure_of_a_stop_is_classed<V: Vendor>(
    fake: &Fake<V>,
    backend: &impl SandboxBackend,
    (method, path): (&str, &str),
    missing_is_stopped: bool,
) {
    for (index, (trouble, transient, outage)) in failures("it").into_iter().enumerate() {
        // What it answers to a stop is not read.
        let is_unread = matches!(trouble, Trouble::Malformed | Trouble::NoJson);
        let is_gone = missing_is_stopped && matches!(trouble, Trouble::Status(404, _));
        let id = format!("stopped-{index}");
        let sandbox = backend.create(&named(&id)).await.expect("starts");
        fake.order(method, path, trouble.clone(), 1);
        let result = backend.stop(&id, Some(&sandbox.provider_object_id), super::Fate::Discarded).await;
        match result {
            Ok(()) => assert!(is_unread || is_gone, "{trouble:?}"),
            Err(error) => check_class(&error, &trouble, transient, outage),
        }
        fake.calm();
    }
}

/// Nobody lives there.
struct Nobody;

impl Vendor for Nobody {
    fn answer(&mut self, _asked: &devkit::vendors::edge::Asked) -> devkit::vendors::edge::Said {
        devkit::vendors::edge::Said::empty(200)
    }
}

/// No token, no key and no password is in any address that was asked for.
fn no_secret_is_in_an_address<V: Vendor>(fake: &Fake<V>) {
    for asked in fake.seen() {
        let address = format!("{} {:?}", asked.path, asked.query);
        for secret in [TOKEN, KEY, USER_SECRET] {
            assert!(!address.contains(secret), "{address}");
        }
    }
}

fn codes(sandbox: &BackendSandbox) -> (String, String) {
    let access = sandbox.access.as_ref().expect("it can be reached");
    let door = access.code_server.as_ref().expect("code-server is open");
    (door.url.clone(), door.secret.clone())
}

#[test]
fn what_is_not_configured_is_named() {
    let of = |pairs: &[(&'static str, &'static str)]| {
        super::configured(&pairs.iter().copied().collect::<BTreeMap<_, _>>()).err().map(|error| error.to_string())
    };
    let unknown = of(&[("SANDBOX_PROVIDER", "heroku")]).expect("unknown");
    assert!(unknown.contains("`heroku`") && unknown.contains("opencomputer"), "{unknown}");
    let table: [(&[(&str, &str)], &str); 12] = [
        (&[("SANDBOX_PROVIDER", " Modal ")], "MODAL_API_SECRET"),
        (&[("SANDBOX_PROVIDER", "modal"), ("MODAL_API_SECRET", "s")], "MODAL_WORKSPACE"),
        (&[("SANDBOX_PROVIDER", "modal"), ("MODAL_API_SECRET", "s"), ("MODAL_WORKSPACE", "a.b/c")], "MODAL_WORKSPACE"),
        (&[("SANDBOX_PROVIDER", "daytona")], "DAYTONA_API_KEY"),
        (&[("SANDBOX_PROVIDER", "daytona"), ("DAYTONA_API_KEY", "k")], "DAYTONA_BASE_SNAPSHOT"),
        (&[("SANDBOX_PROVIDER", "e2b")], "E2B_API_KEY"),
        (&[("SANDBOX_PROVIDER", "e2b"), ("E2B_API_KEY", "k")], "E2B_TEMPLATE_ID"),
        (&[("SANDBOX_PROVIDER", "e2b"), ("E2B_API_URL", "http://api.e2b.app")], "E2B_API_URL"),
        (&[("SANDBOX_PROVIDER", "vercel")], "VERCEL_TOKEN"),
        (&[("SANDBOX_PROVIDER", "vercel"), ("VERCEL_TOKEN", "t")], "VERCEL_BASE_SNAPSHOT_ID"),
        (&[("SANDBOX_PROVIDER", "opencomputer")], "OPENCOMPUTER_API_KEY"),
        (&[("SANDBOX_PROVIDER", "local")], "LOCAL_SANDBOX_URL"),
    ];
    for (pairs, name) in table {
        let error = of(pairs).expect(name);
        assert!(error.contains(name), "{error}");
    }
}
