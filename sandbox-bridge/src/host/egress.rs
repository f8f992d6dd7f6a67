//! The way out of a sandbox that has a network of its own: an HTTP proxy on a Unix socket that is shown inside. It
//! carries what [`Policy`] allows, as tunnels (`CONNECT`) and as plain HTTP.

use std::convert::Infallible;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::header::HeaderMap;
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::copy_bidirectional;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::network::{NotReached, Policy};
use crate::stop_signal::raised;

/// The socket's name in the folder that is shown inside.
pub const SOCKET: &str = "out.sock";
/// Connections of one sandbox at a time.
const AT_ONCE: usize = 256;
/// For the head of a request, and for the next one on the same connection.
const HEAD_WITHIN: Duration = Duration::from_secs(60);

/// Serves until it is dropped; then every connection is cut.
#[derive(Debug)]
pub struct Egress {
    _open: watch::Sender<bool>,
}

/// One connection's share of what its sandbox may have, and the sandbox's end.
#[derive(Clone)]
struct Share {
    policy: Arc<Policy>,
    closed: watch::Receiver<bool>,
    _permit: Arc<OwnedSemaphorePermit>,
}

/// Opens the proxy in `folder`, which only the host may write.
pub fn serve(folder: &Path, policy: Policy) -> std::io::Result<Egress> {
    let listener = bind(folder)?;
    let (open, closed) = watch::channel(false);
    let (policy, places) = (Arc::new(policy), Arc::new(Semaphore::new(AT_ONCE)));
    let mut over = closed.clone();
    tokio::spawn(async move {
        loop {
            let next = async {
                let permit = Arc::clone(&places).acquire_owned().await.map_err(std::io::Error::other)?;
                listener.accept().await.map(|(stream, _)| (stream, permit))
            };
            let accepted = tokio::select! {
                accepted = next => accepted,
                () = ended(&mut over) => return,
            };
            match accepted {
                Ok((stream, permit)) => {
                    let share =
                        Share { policy: Arc::clone(&policy), closed: closed.clone(), _permit: Arc::new(permit) };
                    tokio::spawn(carry(stream, share));
                }
                Err(error) => {
                    tracing::warn!(event = "egress.accept_failed", %error);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(Egress { _open: open })
}

/// The state folder's path may be longer than a socket's may: the folder is named by its descriptor.
fn bind(folder: &Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(folder.join(SOCKET)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let opened = File::open(folder)?;
    UnixListener::bind(format!("/proc/self/fd/{}/{SOCKET}", opened.as_raw_fd()))
}

/// Resolves when the sandbox is over.
async fn ended(closed: &mut watch::Receiver<bool>) {
    raised(closed).await;
}

async fn carry(stream: UnixStream, share: Share) {
    let mut closed = share.closed.clone();
    let service = service_fn(move |request| answer(request, share.clone()));
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    let connection = server.serve_connection(TokioIo::new(stream), service).with_upgrades();
    tokio::select! {
        // How it broke off is the sandbox's own business.
        _ = connection => {}
        () = ended(&mut closed) => {}
    }
}

fn refuse(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{text}\n")));
    *response.status_mut() = status;
    response
}

fn not_reached(error: NotReached, host: &str) -> Response<Body> {
    tracing::debug!(event = "egress.not_reached", host, %error);
    let status = match error {
        NotReached::Forbidden => StatusCode::FORBIDDEN,
        NotReached::Unknown | NotReached::Unreachable => StatusCode::BAD_GATEWAY,
    };
    refuse(status, &format!("{host}: {error}"))
}

async fn answer(request: Request<Incoming>, share: Share) -> Result<Response<Body>, Infallible> {
    if request.method() == Method::CONNECT {
        return Ok(tunnel(request, share).await);
    }
    Ok(plain(request, &share).await)
}

async fn tunnel(request: Request<Incoming>, share: Share) -> Response<Body> {
    let target =
        request.uri().authority().and_then(|authority| Some((authority.host().to_owned(), authority.port_u16()?)));
    let Some((host, port)) = target else {
        return refuse(StatusCode::BAD_REQUEST, "CONNECT needs HOST:PORT");
    };
    let mut server = match share.policy.dial(&host, port).await {
        Ok(server) => server,
        Err(error) => return not_reached(error, &host),
    };
    tokio::spawn(async move {
        let mut closed = share.closed.clone();
        let carried = async {
            let upgraded = hyper::upgrade::on(request).await?;
            drop(copy_bidirectional(&mut TokioIo::new(upgraded), &mut server).await);
            Ok::<_, hyper::Error>(())
        };
        tokio::select! {
            _ = carried => {}
            () = ended(&mut closed) => {}
        }
        drop(share);
    });
    Response::new(Body::empty())
}

/// Headers that are between the client and this proxy.
fn without_hops(headers: &mut HeaderMap) {
    for name in
        ["connection", "proxy-connection", "proxy-authorization", "proxy-authenticate", "keep-alive", "te", "upgrade"]
    {
        headers.remove(name);
    }
}

async fn plain(mut request: Request<Incoming>, share: &Share) -> Response<Body> {
    let uri = request.uri();
    let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return refuse(StatusCode::BAD_REQUEST, "This is a proxy: requests name a server");
    };
    let (host, port) = (authority.host().to_owned(), authority.port_u16().unwrap_or(80));
    // Without a name and a password, which are not for the server's log.
    let named = authority.port_u16().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
    let Ok(named) = http::HeaderValue::from_str(&named) else {
        return refuse(StatusCode::BAD_REQUEST, "The server's name is malformed");
    };
    let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let server = match share.policy.dial(&host, port).await {
        Ok(server) => server,
        Err(error) => return not_reached(error, &host),
    };
    without_hops(request.headers_mut());
    // The server that was checked is the one that is asked, whatever the client wrote.
    request.headers_mut().insert(http::header::HOST, named);
    *request.uri_mut() = Uri::from(path);
    let unreachable = || not_reached(NotReached::Unreachable, &host);
    let Ok((mut sender, connection)) = hyper::client::conn::http1::handshake(TokioIo::new(server)).await else {
        return unreachable();
    };
    let share = share.clone();
    tokio::spawn(async move {
        let mut closed = share.closed.clone();
        tokio::select! {
            _ = connection => {}
            () = ended(&mut closed) => {}
        }
        drop(share);
    });
    match sender.send_request(request).await {
        Ok(response) => {
            let mut response = response.map(Body::new);
            without_hops(response.headers_mut());
            response
        }
        Err(_) => unreachable(),
    }
}
