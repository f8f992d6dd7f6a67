//! stub
use std::time::Duration;
use tokio::net::TcpListener;
pub async fn serve(_l: TcpListener, _d: Duration) -> std::io::Result<()> { Ok(()) }
