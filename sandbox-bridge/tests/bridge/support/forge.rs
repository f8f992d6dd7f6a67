//! A forge: bare repositories behind git's own smart HTTP program, with a password.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

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
        let router = Router::new().fallback(serve).with_state(Arc::new(folder.path().to_owned()));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { host, folder }
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

async fn serve(State(root): State<Arc<PathBuf>>, request: Request) -> Response {
    if !may_pass(&request) {
        return (StatusCode::UNAUTHORIZED, [("www-authenticate", "Basic realm=\"forge\"")]).into_response();
    }
    let (request, body) = request.into_parts();
    let header =
        |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root.as_path())
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
