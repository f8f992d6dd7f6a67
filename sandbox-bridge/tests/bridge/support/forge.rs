//! A forge: bare repositories behind git's own smart HTTP program, with a password.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use http::{HeaderName, HeaderValue, StatusCode};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::process::Command;

use super::session::GIT_PASSWORD;
use super::sh;

pub struct Forge {
    /// `127.0.0.1:port`
    pub host: String,
    folder: tempfile::TempDir,
    state: Arc<Served>,
}

#[derive(Default)]
struct Served {
    root: PathBuf,
    /// Requests wait while this is set.
    held: AtomicBool,
    /// Times that somebody asked what branches there are, with a credential.
    looks: AtomicUsize,
}

impl Forge {
    /// A forge with the repository `acme/api`.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        sh(
            folder.path(),
            "mkdir acme; git init -q --bare -b main acme/api.git; git -C acme/api.git config http.receivepack true;
             git clone -q acme/api.git seed 2>/dev/null; cd seed; git checkout -q -b main;
             printf 'one\\ntwo\\n' > a.txt; git add a.txt; git commit -qm seed; git push -q origin main; rm -rf ../seed",
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let host = listener.local_addr().expect("bound").to_string();
        let state = Arc::new(Served { root: folder.path().to_owned(), ..Served::default() });
        let router = Router::new().fallback(serve).with_state(Arc::clone(&state));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { host, folder, state }
    }

    /// Another repository of `acme`, whose branch `main` a script makes.
    pub fn add(&self, name: &str, script: &str) {
        sh(
            self.folder.path(),
            &format!(
                "git init -q --bare -b main acme/{name}.git; git -C acme/{name}.git config http.receivepack true;
                 git clone -q acme/{name}.git seed 2>/dev/null; cd seed; git checkout -q -b main; echo {name} > a.txt;
                 {script}
                 git add -A; git commit -qm seed; git push -q origin main; rm -rf ../seed"
            ),
        );
    }

    /// Changes `main` of a repository by a script, as somebody else does.
    pub fn change(&self, name: &str, script: &str) {
        sh(
            self.folder.path(),
            &format!(
                "git clone -q acme/{name}.git seed 2>/dev/null; cd seed; {script}
                 git add -A; git commit -qm 'by somebody else'; git push -qf origin HEAD:main; rm -rf ../seed"
            ),
        );
    }

    /// A checkout below `folder` as an image has it, of how `acme/api` is now. Its address has a token, as those of old
    /// images do.
    pub fn check_out(&self, folder: &std::path::Path) {
        let credential = base64::engine::general_purpose::STANDARD.encode(format!("x-access-token:{GIT_PASSWORD}"));
        sh(
            folder,
            &format!(
                "mkdir -p workspace; cd workspace;
                 git -c http.extraHeader='authorization: Basic {credential}' clone -q --depth 1 {} api;
                 git -C api remote set-url origin http://x:ghs_old_token@{}/acme/api.git",
                self.clone_url(),
                self.host,
            ),
        );
    }

    /// Lets requests wait, or go on.
    pub fn hold(&self, held: bool) {
        self.state.held.store(held, Ordering::Relaxed);
    }

    /// Times that somebody asked what branches there are.
    pub fn looks(&self) -> usize {
        self.state.looks.load(Ordering::Relaxed)
    }

    pub fn clone_url_of(&self, name: &str) -> String {
        format!("http://{}/acme/{name}.git", self.host)
    }

    pub fn clone_url(&self) -> String {
        format!("http://{}/acme/api.git", self.host)
    }

    /// Runs git in the repository.
    pub fn git(&self, arguments: &str) -> String {
        sh(&self.folder.path().join("acme/api.git"), &format!("git {arguments}"))
    }
}

fn may_pass(request: &Request) -> bool {
    let expected = base64::engine::general_purpose::STANDARD.encode(format!("x-access-token:{GIT_PASSWORD}"));
    request.headers().get("authorization").is_some_and(|value| value == &format!("Basic {expected}"))
}

async fn serve(State(state): State<Arc<Served>>, request: Request) -> Response {
    while state.held.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    if !may_pass(&request) {
        return (StatusCode::UNAUTHORIZED, [("www-authenticate", "Basic realm=\"forge\"")]).into_response();
    }
    if request.uri().path().ends_with("/info/refs") {
        state.looks.fetch_add(1, Ordering::Relaxed);
    }
    let (request, body) = request.into_parts();
    let header =
        |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", state.root.as_path())
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REMOTE_USER", "x-access-token")
        .env("PATH_INFO", request.uri.path())
        .env("QUERY_STRING", request.uri.query().unwrap_or_default())
        .env("REQUEST_METHOD", request.method.as_str())
        .env("CONTENT_TYPE", header("content-type"))
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("git http-backend");
    let body = to_bytes(body, 64 << 20).await.expect("a body");
    let mut input = child.stdin.take().expect("piped");
    tokio::spawn(async move { drop(input.write_all(&body).await) });
    let output = child.wait_with_output().await.expect("it ends").stdout;
    let end = output.windows(4).position(|window| window == b"\r\n\r\n").expect("headers");
    let mut response = Response::new(axum::body::Body::from(output[end + 4..].to_vec()));
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        let (name, value) = line.split_once(": ").expect("a header");
        if name == "Status" {
            *response.status_mut() = value.split(' ').next().and_then(|code| code.parse().ok()).expect("a status");
        } else {
            let name = HeaderName::try_from(name).expect("a name");
            response.headers_mut().insert(name, HeaderValue::try_from(value).expect("a value"));
        }
    }
    response
}
