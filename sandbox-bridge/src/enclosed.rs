//! The inner side of a sandbox's own network: its loopback is all there is, and these doors are on it.
//!
//! Programs find the way out at a proxy on the loopback (`HTTP_PROXY`), and servers of the host's loopback that the
//! configuration names at the same address as on the host. The host finds ports of the sandbox at a Unix socket.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::host::network::Server;

/// Names the proxy to this program itself, for what does not read `HTTP_PROXY`.
pub const ROUTE_VARIABLE: &str = "OI_EGRESS";
/// The host's way to the sandbox's ports, in the runtime folder.
pub const PORTS_SOCKET: &str = "ports.sock";
/// A port of the sandbox answers.
pub const PORT_OPEN: u8 = 1;
/// Connections of one door at a time.
const AT_ONCE: usize = 256;
const OPEN_WITHIN: Duration = Duration::from_secs(20);
/// Longest head of the proxy's answer.
const HEAD_MAX_BYTES: usize = 4096;

/// Options of `supervise` within a network of its own. Only the host sets them.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct EnclosedOptions {
    /// The proxy's socket. With it the doors are opened.
    #[arg(long, hide = true)]
    pub egress: Option<PathBuf>,
    /// Port of the proxy on the loopback.
    #[arg(long, hide = true, default_value_t = 0)]
    pub egress_port: u16,
    /// Servers of the host's loopback that are found here too.
    #[arg(long, hide = true)]
    pub forward: Vec<Server>,
}

/// Opens the doors. A port of the host's that cannot be had here is told, and the sandbox goes on without.
pub async fn open(options: &EnclosedOptions, runtime_dir: &Path) -> std::io::Result<()> {
    let Some(egress) = &options.egress else { return Ok(()) };
    let egress: Arc<Path> = egress.as_path().into();
    let proxy = TcpListener::bind((Ipv4Addr::LOCALHOST, options.egress_port)).await?;
    tokio::spawn(serve(proxy, Arc::clone(&egress), None));
    for server in &options.forward {
        let listens = TcpListener::bind((Ipv4Addr::LOCALHOST, server.port)).await;
        // `localhost` may mean either.
        let also = TcpListener::bind((Ipv6Addr::LOCALHOST, server.port)).await.ok();
        if let Err(error) = &listens {
            tracing::warn!(event = "enclosed.no_port", port = server.port, %error);
        }
        let head: Arc<str> = format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", server.authority()).into();
        for listener in listens.ok().into_iter().chain(also) {
            tokio::spawn(serve(listener, Arc::clone(&egress), Some(Arc::clone(&head))));
        }
    }
    serve_ports(&runtime_dir.join(PORTS_SOCKET))
}

/// Carries connections of one port out.
async fn serve(listener: TcpListener, egress: Arc<Path>, head: Option<Arc<str>>) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((mut inner, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (egress, head) = (Arc::clone(&egress), head.clone());
        tokio::spawn(async move {
            let _place = place;
            drop(inner.set_nodelay(true));
            let opened = async {
                let mut outer = UnixStream::connect(&egress).await?;
                if let Some(head) = head {
                    established(&mut outer, &head).await?;
                }
                Ok::<_, std::io::Error>(outer)
            };
            if let Ok(Ok(mut outer)) = timeout(OPEN_WITHIN, opened).await {
                drop(copy_bidirectional(&mut inner, &mut outer).await);
            }
        });
    }
}

/// Asks a proxy for a tunnel.
async fn established(
    proxy: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin),
    head: &str,
) -> std::io::Result<()> {
    proxy.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    // Byte by byte: what follows the head belongs to the server.
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(proxy.read_u8().await?);
        if answer.len() > HEAD_MAX_BYTES {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
    }
    let refused =
        || std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "the sandbox's network refuses this server");
    if answer.starts_with(b"HTTP/1.1 200") { Ok(()) } else { Err(refused()) }
}

/// The proxy of this sandbox, for connections that this program makes without an HTTP client.
pub fn route() -> Option<SocketAddr> {
    std::env::var(ROUTE_VARIABLE).ok()?.parse().ok()
}

/// A connection to a server: through the proxy, unless there is none or the server is on the loopback.
pub async fn connect(route: Option<SocketAddr>, host: &str, port: u16) -> std::io::Result<TcpStream> {
    let server = Server { host: host.trim_matches(['[', ']']).to_ascii_lowercase(), port };
    let stream = match route.filter(|_| !server.is_loopback()) {
        Some(proxy) => {
            let mut stream = TcpStream::connect(proxy).await?;
            let authority = server.authority();
            established(&mut stream, &format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n")).await?;
            stream
        }
        None => TcpStream::connect((server.host.as_str(), port)).await?,
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Lets the host in: it says a port, in two bytes, and is told whether something answers.
fn serve_ports(socket: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    let places = Arc::new(Semaphore::new(AT_ONCE));
    tokio::spawn(async move {
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let Ok((outer, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            tokio::spawn(async move {
                let _place = place;
                drop(let_in(outer).await);
            });
        }
    });
    Ok(())
}

async fn let_in(mut outer: UnixStream) -> std::io::Result<()> {
    let opened = async {
        let port = outer.read_u16().await?;
        let inner = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
        // Servers that listen on `localhost` may have chosen the other one.
        let inner = match inner {
            Ok(inner) => inner,
            Err(_) => TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await?,
        };
        outer.write_u8(PORT_OPEN).await?;
        Ok::<_, std::io::Error>(inner)
    };
    let mut inner = timeout(OPEN_WITHIN, opened).await.map_err(|_| std::io::ErrorKind::TimedOut)??;
    inner.set_nodelay(true)?;
    copy_bidirectional(&mut outer, &mut inner).await.map(drop)
}
