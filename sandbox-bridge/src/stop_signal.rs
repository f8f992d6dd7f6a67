//! A request to stop, which is made once and never taken back.

use tokio::sync::watch;

/// Returns when the request is made, or nobody is left who could make it.
pub async fn raised(signal: &mut watch::Receiver<bool>) {
    drop(signal.wait_for(|stop| *stop).await.map(drop));
}
