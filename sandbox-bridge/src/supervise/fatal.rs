//! After a boot that failed: the session has heard of it, or is told in another way; then the sandbox ends.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::failure::BootError;
use crate::bridge::outbox::Outbox;
use crate::control_plane::ControlPlane;

/// For the socket to deliver it.
const DELIVERED_WITHIN: Duration = Duration::from_secs(5);
/// Prompts that come in the meantime are answered with the reason. The session puts a sandbox away whose boot failed; one
/// that nobody puts away ends by itself.
const LINGER: Duration = Duration::from_secs(30);

/// Tells it, and gives the session time to put the sandbox away.
pub async fn follow(error: &BootError, outbox: &Outbox, control_plane: &ControlPlane) {
    if delivered(outbox).await {
        sleep(LINGER).await;
    } else if let Err(refused) = control_plane.report_fatal(&error.to_string()).await {
        tracing::warn!(event = "supervisor.fatal_not_told", %refused);
    }
}

/// Whether everything that was written up to now has arrived.
async fn delivered(outbox: &Outbox) -> bool {
    let until = Instant::now() + DELIVERED_WITHIN;
    let (_, end) = outbox.window();
    while Instant::now() < until {
        if outbox.window().0 >= end {
            return true;
        }
        sleep(Duration::from_millis(50)).await;
    }
    false
}
