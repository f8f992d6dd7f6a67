//! `cargo xtask schemathesis`: requests that Schemathesis makes of our OpenAPI document, against the whole running
//! system, by a person who is signed in and by a sandbox. Nothing may be a server error, and what is answered is what the
//! document says.
//!
//! The requests go through a counter of ours, so that it is our own count and our own verdict.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response, StatusCode};
use e2e::api::Person;
use e2e::backend::Backend;
use e2e::stack::{Options, Stack};
use e2e::{Failed, Outcome};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::Mutex;

/// Has the form of every kind of id.
const UNKNOWN: &str = "00000000000000000000000000000000";
/// Sessions that requests are about; some of them end as cancelled or archived on the way.
const SESSIONS: usize = 6;
/// Those sign the person out, delete what the others need, or are to fail.
const LEFT_OUT: [&str; 5] = ["apiSignOut", "apiSignOutEverywhere", "apiSignOutPerson", "apiDeleteSession", "apiSignIn"];
/// Most of the answers that may be 401: more would mean that the person was signed out on the way.
const UNKNOWN_MOST: f64 = 0.2;
/// What an answer is compared with. What a document leaves out is not asked for: each has but some of the operations.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";
/// Largest body that the counter passes on.
const MAX_BYTES: usize = 64 * 1024 * 1024;

#[expect(clippy::print_stdout, reason = "a chore tells its results")]
fn say(line: &str) {
    println!("{line}");
}

/// What went through.
#[derive(Default)]
struct Counted {
    statuses: BTreeMap<u16, u64>,
    /// The first of each kind: what was asked, and what was answered.
    errors: Vec<String>,
}

struct Counter {
    base: String,
    client: reqwest::Client,
    counted: Mutex<Counted>,
}

impl Counter {
    /// Listens on a port of its own.
    async fn start(base: &str) -> Outcome<(Arc<Self>, String)> {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
        let counter = Arc::new(Self { base: base.to_owned(), client, counted: Mutex::default() });
        let app = axum::Router::new().fallback(pass_on).with_state(Arc::clone(&counter));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok((counter, url))
    }

    async fn forward(&self, request: Request<Body>) -> Outcome<Response<Body>> {
        let (head, body) = request.into_parts();
        let body = axum::body::to_bytes(body, MAX_BYTES).await.map_err(|error| Failed(error.to_string()))?;
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        let what = format!("{} {target} {}", head.method, String::from_utf8_lossy(&body[..body.len().min(300)]));
        let mut headers = head.headers;
        for own in ["host", "connection", "content-length", "transfer-encoding", "accept-encoding"] {
            headers.remove(own);
        }
        let sent =
            self.client.request(head.method, format!("{}{target}", self.base)).headers(headers).body(body).send();
        let answer = sent.await?;
        let status = answer.status();
        let mut response = Response::builder().status(status);
        for (name, value) in answer.headers() {
            if !["connection", "transfer-encoding", "content-length"].contains(&name.as_str()) {
                response = response.header(name, value);
            }
        }
        let bytes = answer.bytes().await?;
        let mut counted = self.counted.lock().await;
        *counted.statuses.entry(status.as_u16()).or_default() += 1;
        // What is not built yet says so.
        if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED && counted.errors.len() < 50 {
            counted.errors.push(format!("{status} of {what}: {}", String::from_utf8_lossy(&bytes)));
        }
        drop(counted);
        response.body(Body::from(bytes)).map_err(|error| Failed(error.to_string()))
    }
}

async fn pass_on(State(counter): State<Arc<Counter>>, request: Request<Body>) -> Response<Body> {
    match counter.forward(request).await {
        Ok(response) => response,
        Err(error) => {
            let mut counted = counter.counted.lock().await;
            counted.errors.push(format!("not answered: {error}"));
            let mut response = Response::new(Body::from(error.to_string()));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
    }
}

/// The document with operations of one kind, whose sessions are those that are there, and one that is not.
fn narrowed(document: &Value, sessions: &[String], wanted: impl Fn(&str, &Value) -> bool) -> Value {
    let mut narrowed = document.clone();
    let mut ids: Vec<&str> = sessions.iter().map(String::as_str).collect();
    ids.push(UNKNOWN);
    if let Some(paths) = narrowed["paths"].as_object_mut() {
        for (path, methods) in paths.iter_mut() {
            let Some(methods) = methods.as_object_mut() else { continue };
            methods.retain(|_, operation| wanted(path, operation));
            for parameter in
                methods.values_mut().filter_map(|operation| operation["parameters"].as_array_mut()).flatten()
            {
                if parameter["in"] == "path" && parameter["name"] == "id" {
                    parameter["schema"] = json!({"type": "string", "enum": ids});
                }
            }
        }
        paths.retain(|_, methods| methods.as_object().is_some_and(|methods| !methods.is_empty()));
    }
    // Credentials are given with each request.
    for methods in narrowed["paths"].as_object_mut().into_iter().flatten().filter_map(|(_, m)| m.as_object_mut()) {
        for operation in methods.values_mut() {
            operation["security"] = json!([]);
        }
    }
    narrowed["components"]["securitySchemes"] = json!({});
    narrowed
}

fn operations(document: &Value) -> usize {
    let paths = document["paths"].as_object().into_iter().flatten();
    paths.map(|(_, methods)| methods.as_object().map_or(0, serde_json::Map::len)).sum()
}

/// Runs Schemathesis once; whether it found nothing.
async fn run(
    folder: &Path,
    url: &str,
    document: &Value,
    headers: &[String],
    examples: u64,
    seed: u64,
) -> Outcome<bool> {
    let binary = std::env::var("OI_SCHEMATHESIS").map_err(|_| Failed("OI_SCHEMATHESIS is not set".to_owned()))?;
    let file: PathBuf = folder.join("openapi.json");
    std::fs::write(&file, document.to_string())?;
    std::fs::write(
        folder.join("schemathesis.toml"),
        "[checks.not_a_server_error]\nexpected-statuses = [\"2xx\", \"3xx\", \"4xx\", \"501\"]\n",
    )?;
    let mut command = Command::new(binary);
    command
        .current_dir(folder)
        .args(["--config-file", "schemathesis.toml", "run"])
        .arg(&file)
        // One worker: two make CPython 3.11 trip over its own parser.
        .args(["--url", url, "--checks", CHECKS, "--no-color", "--workers", "1", "--continue-on-failure"])
        .args(["--phases", "examples,coverage,fuzzing", "--mode", "all", "--generation-database", "none"])
        .args(["--suppress-health-check", "all", "--request-timeout", "60"])
        .arg(format!("--max-examples={examples}"))
        .arg(format!("--seed={seed}"))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    for header in headers {
        command.args(["--header", header]);
    }
    Ok(command.status().await?.success())
}

/// The model vendors' sign-in, so that none of these requests leaves this machine.
async fn vendors() -> Outcome<String> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(devkit::subscriptions::Subscriptions::new(&url).serve(listener));
    Ok(url)
}

async fn all(least: u64, seed: u64) -> Outcome {
    let document: Value = serde_json::from_slice(&std::fs::read("docs/openapi.json")?)?;
    let backend = Backend::start().await?;
    let vendors = vendors().await?;
    let vars = ["OPENAI_AUTH_URL", "XAI_AUTH_URL"].map(|name| (name.to_owned(), vendors.clone())).to_vec();
    let options = Options { backend: Some((backend.url.clone(), backend.secret.clone())), vars, ..Options::default() };
    let stack = Stack::start(options).await?;
    let ready = &stack.ready;
    let ada = Person::sign_in(ready, "ada").await?;
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        sessions.push(ada.create_session().await?);
    }
    let token = backend.sandbox_of(&sessions[0]).await?.auth_token;
    let (counter, url) = Counter::start(&ready.base_url).await?;
    let begun = Instant::now();

    let is_left_out = |operation: &Value| LEFT_OUT.iter().any(|id| operation["operationId"] == *id);
    let by_person =
        narrowed(&document, &sessions, |path, operation| path.starts_with("/api/") && !is_left_out(operation));
    let by_sandbox = narrowed(&document, &sessions[..1], |path, operation| {
        !path.starts_with("/api/") && operation["security"].to_string().contains("sandboxToken")
    });
    let signing = narrowed(&document, &sessions, |_, operation| is_left_out(operation));
    let every = operations(&by_person) + operations(&by_sandbox);
    say(&format!("{every} operations, and {} at the end", operations(&signing)));
    let person = [format!("Cookie: {}", ada.cookie), format!("Origin: {}", ready.base_url)];
    let sandbox = [format!("Authorization: Bearer {token}")];
    let folder = tempfile::tempdir()?;
    let (mut clean, mut round) = (true, 0);
    // The coverage of each schema is the same each time; what is made up is not.
    loop {
        let examples = (least / every as u64).clamp(5, 200);
        clean &= run(folder.path(), &url, &by_person, &person, examples, seed + round).await?;
        clean &= run(folder.path(), &url, &by_sandbox, &sandbox, examples, seed + round).await?;
        round += 1;
        let so_far: u64 = counter.counted.lock().await.statuses.values().sum();
        if so_far >= least || round >= 10 || !clean {
            break;
        }
    }
    // Last, since what follows has no cookie that counts.
    clean &= run(folder.path(), &url, &signing, &person, 5, seed).await?;

    let counted = counter.counted.lock().await;
    let requests: u64 = counted.statuses.values().sum();
    say(&format!("{requests} requests in {:.0} s; by status {:?}", begun.elapsed().as_secs_f64(), counted.statuses));
    for error in &counted.errors {
        say(&format!("server error: {error}"));
    }
    let errors = counted.errors.len();
    let unknown = counted.statuses.get(&401).copied().unwrap_or_default();
    drop(counted);
    stack.stop().await?;
    if errors > 0 {
        return Err(Failed(format!("{errors} server errors")));
    }
    if !clean {
        return Err(Failed("Schemathesis found something: see above".to_owned()));
    }
    if unknown as f64 > requests as f64 * UNKNOWN_MOST {
        return Err(Failed(format!("{unknown} of {requests} requests were of nobody")));
    }
    if requests < least {
        return Err(Failed(format!("only {requests} of {least} requests were made")));
    }
    Ok(())
}

fn main() -> ExitCode {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let [least, seed] = numbers[..] else {
        say("usage: schemathesis REQUESTS SEED");
        return ExitCode::FAILURE;
    };
    let outcome = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime.block_on(all(least, seed)),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("failed: {error}"));
            ExitCode::FAILURE
        }
    }
}
