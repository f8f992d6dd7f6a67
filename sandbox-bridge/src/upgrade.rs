//! WebSockets to the control plane.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::enclosed;

/// A WebSocket that this program dialled.
pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// From the dial to the answer.
const CONNECT_WITHIN: Duration = Duration::from_secs(20);

/// Dials by the proxy of this sandbox, if it has one, and upgrades. A frame from there has `frame_max` bytes at most.
pub async fn upgrade(route: Option<SocketAddr>, request: Request, frame_max: usize) -> Result<Socket, WsError> {
    let limits = WebSocketConfig::default().max_message_size(Some(frame_max)).max_frame_size(Some(frame_max));
    let dial = async {
        let uri = request.uri();
        let host = uri.host().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("wss") { 443 } else { 80 });
        let stream = enclosed::connect(route, host, port).await.map_err(WsError::Io)?;
        tokio_tungstenite::client_async_tls_with_config(request, stream, Some(limits), None).await
    };
    match timeout(CONNECT_WITHIN, dial).await {
        Ok(connected) => Ok(connected?.0),
        Err(_) => Err(WsError::Io(io::Error::new(io::ErrorKind::TimedOut, "no answer to the upgrade"))),
    }
}
