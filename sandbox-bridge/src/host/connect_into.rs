//! A connection to a port of a sandbox, from the host.

use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::enclosed::{PORT_OPEN, PORTS_SOCKET};

const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Where a sandbox's ports are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inside {
    /// On this machine's loopback, with everything else there.
    Shared,
    /// On a loopback of its own, behind the socket in this runtime folder.
    Enclosed(PathBuf),
}

/// Bytes to and from a port.
pub trait Stream: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}

/// Connects to a port of a sandbox.
pub async fn connect_into(sandbox: &Inside, port: u16) -> std::io::Result<Pin<Box<dyn Stream>>> {
    let connected = async {
        match sandbox {
            Inside::Shared => {
                Ok(Box::pin(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?) as Pin<Box<dyn Stream>>)
            }
            Inside::Enclosed(runtime_dir) => Ok(Box::pin(through(runtime_dir, port).await?) as Pin<Box<dyn Stream>>),
        }
    };
    timeout(CONNECT_WITHIN, connected).await.map_err(|_| std::io::ErrorKind::TimedOut)?
}

async fn through(runtime_dir: &Path, port: u16) -> std::io::Result<UnixStream> {
    // The sandbox owns this folder: a link in the socket's place would lead to a socket of the host's.
    let folder =
        openat(CWD, runtime_dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let socket = openat(&folder, PORTS_SOCKET, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&socket)?.st_mode) != FileType::Socket {
        return Err(std::io::ErrorKind::NotConnected.into());
    }
    let mut stream = UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())).await?;
    stream.write_u16(port).await?;
    match stream.read_u8().await {
        Ok(PORT_OPEN) => Ok(stream),
        _ => Err(std::io::ErrorKind::ConnectionRefused.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_link_in_the_sockets_place_leads_nowhere() {
        let (run, host) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let secret = host.path().join("secret.sock");
        let listener = tokio::net::UnixListener::bind(&secret).expect("bound");
        let answers = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("accepted");
            stream.write_u8(PORT_OPEN).await
        });
        let inside = Inside::Enclosed(run.path().to_owned());
        std::os::unix::fs::symlink(&secret, run.path().join(PORTS_SOCKET)).expect("linked");
        assert!(connect_into(&inside, 80).await.is_err());
        std::fs::remove_file(run.path().join(PORTS_SOCKET)).expect("removed");
        assert!(!answers.is_finished(), "nobody came");
        // The same socket, there itself, is connected to.
        std::fs::rename(&secret, run.path().join(PORTS_SOCKET)).expect("moved");
        assert!(connect_into(&inside, 80).await.is_ok());
    }
}
