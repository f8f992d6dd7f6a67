//! Clone, fetch and push over HTTP, by git's own `git http-backend` as a CGI program. Bodies stream through.

use std::process::Stdio;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, RawQuery, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdout};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tracing::{error, warn};

use super::auth::Principal;
use super::config::Level;
use super::directory::Repository;
use super::git::{GitError, MAX_PUSH_BYTES, git_command};
use super::{Forge, Shared};

/// Most git requests at a time, and how long one waits for its turn.
pub const MAX_REQUESTS: usize = 8;
const TURN: Duration = Duration::from_secs(20);
/// Longest that one request may take as a whole.
const DEADLINE: Duration = Duration::from_secs(300);
/// Longest header section of the CGI answer, in bytes.
const MAX_CGI_HEADERS: usize = 16 * 1024;

pub fn router() -> Router<Shared> {
    Router::new()
        .route("/{owner}/{repo}/info/refs", get(info_refs))
        .route("/{owner}/{repo}/git-upload-pack", post(upload_pack))
        .route("/{owner}/{repo}/git-receive-pack", post(receive_pack))
        // A push has its own limit, counted as it streams.
        .layer(DefaultBodyLimit::disable())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Service {
    UploadPack,
    ReceivePack,
}

impl Service {
    fn name(self) -> &'static str {
        match self {
            Self::UploadPack => "git-upload-pack",
            Self::ReceivePack => "git-receive-pack",
        }
    }

    fn level(self) -> Level {
        match self {
            Self::UploadPack => Level::Read,
            Self::ReceivePack => Level::Write,
        }
    }
}

async fn info_refs(
    State(forge): State<Shared>,
    Path(path): Path<(String, String)>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Response {
    let service = match query.as_deref() {
        Some("service=git-upload-pack") => Service::UploadPack,
        Some("service=git-receive-pack") => Service::ReceivePack,
        _ => {
            return refuse(
                StatusCode::FORBIDDEN,
                "Please upgrade your git client.\nThe dumb HTTP protocol is not served.\n",
            )
            .into_response();
        }
    };
    serve(forge, path, service, true, request).await
}

async fn upload_pack(State(forge): State<Shared>, Path(path): Path<(String, String)>, request: Request) -> Response {
    serve(forge, path, Service::UploadPack, false, request).await
}

async fn receive_pack(State(forge): State<Shared>, Path(path): Path<(String, String)>, request: Request) -> Response {
    serve(forge, path, Service::ReceivePack, false, request).await
}

async fn serve(
    forge: Shared,
    (owner, repo): (String, String),
    service: Service,
    advertise: bool,
    request: Request,
) -> Response {
    let name = repo.strip_suffix(".git").unwrap_or(&repo).to_owned();
    let (principal, repository) = match admit(&forge, request.headers(), &owner, &name, service) {
        Ok(admitted) => admitted,
        Err(refusal) => return refusal.into_response(),
    };
    let actor =
        forge.actor(&principal).map(|account| account.id).filter(|_| service == Service::ReceivePack && !advertise);
    let exchange = Exchange { repository: repository.id, service, advertise, pusher: actor };
    exchange.run(forge.clone(), request).await.unwrap_or_else(|error| {
        error!(%error, "git over HTTP failed");
        refuse(StatusCode::BAD_GATEWAY, "git failed on the server\n").into_response()
    })
}

/// Who may do this; the refusals are texts, as git shows them to people.
fn admit<'a>(
    forge: &'a Forge,
    headers: &HeaderMap,
    owner: &str,
    name: &str,
    service: Service,
) -> Result<(Principal, &'a Repository), Refusal> {
    let principal = match basic_token(headers) {
        Credentials::None => Principal::Anonymous,
        Credentials::Unreadable => return Err(ask("Invalid username or token.\n")),
        Credentials::Token(token) => match forge.principal_of_token(&token) {
            Ok(Some(principal)) => principal,
            Ok(None) => return Err(ask("Invalid username or token.\n")),
            Err(error) => {
                error!(%error, "a token can't be looked up");
                return Err(refuse(StatusCode::INTERNAL_SERVER_ERROR, "The forge failed; its log says why.\n"));
            }
        },
    };
    let anonymous = matches!(principal, Principal::Anonymous);
    let repository =
        forge.directory.repository(owner, name).filter(|r| forge.level(&principal, r, "contents") >= Level::Read);
    let Some(repository) = repository else {
        // Someone without a token can't learn whether the repository is there.
        return Err(if anonymous {
            ask("Repository not found.\n")
        } else {
            refuse(StatusCode::NOT_FOUND, "Repository not found.\n")
        });
    };
    if forge.level(&principal, repository, "contents") < service.level() {
        return Err(if anonymous {
            ask("No anonymous write access.\n")
        } else {
            refuse(StatusCode::FORBIDDEN, "Write access to repository not granted.\n")
        });
    }
    if service == Service::ReceivePack && repository.archived {
        return Err(refuse(StatusCode::FORBIDDEN, "This repository was archived so it is read-only.\n"));
    }
    Ok((principal, repository))
}

enum Credentials {
    None,
    Unreadable,
    Token(String),
}

/// The token in Basic credentials. As on GitHub it is the password, whatever the user name
/// (`x-access-token`, a login), or the user name when there is no password.
fn basic_token(headers: &HeaderMap) -> Credentials {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Credentials::None;
    };
    let decoded = value
        .to_str()
        .ok()
        .and_then(|v| v.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
        .and_then(|(_, text)| base64::engine::general_purpose::STANDARD.decode(text.trim()).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok());
    match decoded.as_deref().and_then(|text| text.split_once(':')) {
        Some((user, "")) => Credentials::Token(user.to_owned()),
        Some((_, password)) => Credentials::Token(password.to_owned()),
        None => Credentials::Unreadable,
    }
}

/// One request to `git http-backend`.
struct Exchange {
    repository: u64,
    service: Service,
    advertise: bool,
    /// Who pushes; set for the request that changes branches.
    pusher: Option<u64>,
}

impl Exchange {
    async fn run(self, forge: Shared, request: Request) -> Result<Response, GitError> {
        let turn = tokio::time::timeout(TURN, forge.git_requests.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return Ok(
                refuse(StatusCode::SERVICE_UNAVAILABLE, "too many git requests at a time, try again\n").into_response()
            );
        };

        let (parts, body) = request.into_parts();
        if content_length(&parts.headers).is_some_and(|n| n > MAX_PUSH_BYTES) {
            return Ok(refuse(StatusCode::PAYLOAD_TOO_LARGE, "the push is larger than 256 MiB\n").into_response());
        }
        let lock = match self.pusher {
            Some(_) => Some(forge.lock(self.repository).await),
            None => None,
        };
        let before = match self.pusher {
            Some(_) => forge.git.branches(self.repository).await?,
            None => Vec::new(),
        };

        let mut child = self.spawn(&forge, &parts.headers)?;
        let stdin = child.stdin.take().expect("stdin is piped");
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let (answer, body_receiver) = mpsc::channel(4);
        let (head, head_receiver) = tokio::sync::oneshot::channel();

        // Its own task, so that a push is followed up even when the client goes away.
        tokio::spawn(async move {
            let _turn = turn;
            let _lock = lock;
            let work = async {
                let feed = feed(body, stdin);
                let read = relay(stdout, head, answer.clone());
                let complain = async {
                    let mut bytes = Vec::new();
                    let _ = stderr.take(8 * 1024).read_to_end(&mut bytes).await;
                    String::from_utf8_lossy(&bytes).trim().to_owned()
                };
                tokio::join!(feed, read, complain)
            };
            match tokio::time::timeout(DEADLINE, work).await {
                Ok(((), (), complaint)) if !complaint.is_empty() => {
                    warn!(service = self.service.name(), %complaint, "git http-backend complained");
                }
                Ok(_) => {}
                Err(_) => warn!(service = self.service.name(), "a git request took too long"),
            }
            finish(child).await;
            if let Some(account) = self.pusher
                && let Some(actor) = forge.directory.account_by_id(account)
                && let Some(repository) = forge.directory.repository_by_id(self.repository)
            {
                forge.after_push(repository, actor, before).await;
            }
            // Only now does the client's answer end: what it asks next finds the push followed up.
            drop(answer);
        });

        match head_receiver.await {
            Ok((status, headers)) => {
                let mut response = Body::from_stream(ReceiverStream::new(body_receiver)).into_response();
                *response.status_mut() = status;
                *response.headers_mut() = headers;
                Ok(response)
            }
            Err(_) => Err(GitError::Unexpected { command: "http-backend".into() }),
        }
    }

    fn spawn(&self, forge: &Forge, headers: &HeaderMap) -> Result<Child, GitError> {
        let service = self.service.name();
        let place = forge.git.place(self.repository);
        let mut command = git_command();
        command
            .arg("http-backend")
            .env("GIT_PROJECT_ROOT", forge.git.root())
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("REMOTE_USER", "forge")
            .env("REMOTE_ADDR", "127.0.0.1");
        if self.advertise {
            command
                .env("REQUEST_METHOD", "GET")
                .env("PATH_INFO", format!("/{place}/info/refs"))
                .env("QUERY_STRING", format!("service={service}"));
        } else {
            command
                .env("REQUEST_METHOD", "POST")
                .env("PATH_INFO", format!("/{place}/{service}"))
                .env("QUERY_STRING", "");
        }
        let short = |name: HeaderName| headers.get(name).and_then(|v| v.to_str().ok()).filter(|v| v.len() <= 200);
        if let Some(length) = content_length(headers) {
            command.env("CONTENT_LENGTH", length.to_string());
        }
        for (variable, name) in [
            ("CONTENT_TYPE", header::CONTENT_TYPE),
            ("HTTP_CONTENT_ENCODING", header::CONTENT_ENCODING),
            ("GIT_PROTOCOL", HeaderName::from_static("git-protocol")),
        ] {
            if let Some(value) = short(name) {
                command.env(variable, value);
            }
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(GitError::Start)
    }
}

/// Streams the request's body in. What is over the limit is not read: git then sees a pack that ends early.
async fn feed(body: Body, mut stdin: tokio::process::ChildStdin) {
    let mut stream = body.into_data_stream();
    let mut taken = 0_u64;
    while let Some(Ok(chunk)) = stream.next().await {
        taken += chunk.len() as u64;
        if taken > MAX_PUSH_BYTES {
            warn!("a push is larger than 256 MiB");
            return;
        }
        if stdin.write_all(&chunk).await.is_err() {
            return;
        }
    }
}

/// Reads the CGI header section, then streams the rest out.
async fn relay(
    stdout: ChildStdout,
    head: tokio::sync::oneshot::Sender<(StatusCode, HeaderMap)>,
    answer: mpsc::Sender<Result<Bytes, std::io::Error>>,
) {
    let mut reader = BufReader::new(stdout);
    let Some(parsed) = cgi_head(&mut reader).await else {
        return;
    };
    if head.send(parsed).is_err() {
        // The client went away. Git must still be read, or a push would stall half-way.
        let _ = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await;
        return;
    }
    let mut listening = true;
    let mut buffer = vec![0; 32 * 1024];
    while let Ok(count) = reader.read(&mut buffer).await {
        if count == 0 {
            return;
        }
        if listening {
            listening = answer.send(Ok(Bytes::copy_from_slice(&buffer[..count]))).await.is_ok();
        }
    }
}

async fn cgi_head(reader: &mut BufReader<ChildStdout>) -> Option<(StatusCode, HeaderMap)> {
    let mut status = StatusCode::OK;
    let mut headers = HeaderMap::new();
    let mut total = 0;
    loop {
        let mut line = String::new();
        let count = (&mut *reader).take(MAX_CGI_HEADERS as u64).read_line(&mut line).await.ok()?;
        total += count;
        if count == 0 || total > MAX_CGI_HEADERS {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Some((status, headers));
        }
        let (name, value) = line.split_once(':')?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("status") {
            status = value.get(..3)?.parse().ok()?;
        } else {
            headers.append(HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?);
        }
    }
}

async fn finish(mut child: Child) {
    match tokio::time::timeout(Duration::from_secs(5), child.wait()).await {
        Ok(_) => {}
        Err(_) => {
            if let Err(error) = child.kill().await {
                error!(%error, "git could not be stopped");
            }
        }
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// An answer in words, as git shows it to people.
struct Refusal {
    status: StatusCode,
    message: &'static str,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response =
            (self.status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], self.message).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"GitHub\""));
        }
        response
    }
}

fn refuse(status: StatusCode, message: &'static str) -> Refusal {
    Refusal { status, message }
}

/// Asks for credentials.
fn ask(message: &'static str) -> Refusal {
    refuse(StatusCode::UNAUTHORIZED, message)
}
