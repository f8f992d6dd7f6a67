//! Near the end of a sandbox's life, work that is nowhere else is pushed to the forge.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use oi_protocol::event::WarningScope;
use oi_protocol::local_backend::CreateSandboxRequest;
use tokio::sync::watch;
use tokio::time::{sleep_until, timeout};

use super::life::Life;
use super::teller::Teller;
use crate::bridge::runner::WorkspaceState;
use crate::git::{Checkout, Git, unfinished};

/// For the run that was stopped to write its last file.
const SETTLE: Duration = Duration::from_secs(5);
/// For all repositories together.
const PUSHED_WITHIN: Duration = Duration::from_secs(150);

/// What is needed to push it.
pub struct LastWork {
    pub config: Arc<CreateSandboxRequest>,
    pub life: Life,
    pub git: Git,
    pub teller: Teller,
    pub workspace: watch::Receiver<WorkspaceState>,
    /// For passing files.
    pub scratch: PathBuf,
}

impl LastWork {
    /// Waits for the reserve of the sandbox's life, and pushes.
    pub async fn run(self) {
        sleep_until(self.life.reserve_at() + SETTLE.min(self.life.reserve() / 4)).await;
        let Some(Ok(workspace)) = self.workspace.borrow().clone() else { return };
        let pushes = workspace.checkouts.iter().map(|checkout| self.push(checkout));
        let all = futures_util::future::join_all(pushes);
        if timeout(PUSHED_WITHIN.min(self.life.reserve() / 2), all).await.is_err() {
            tracing::warn!(event = "last_work.timeout");
            self.teller.warn(WarningScope::Sync, "Work in progress could not be pushed in time.", None);
        }
    }

    async fn push(&self, checkout: &Checkout) {
        let position = checkout.position;
        let Some(repository) = self.config.repositories.iter().find(|r| r.position == position) else { return };
        let branch = branch(&self.config.session_id);
        let label = format!("{}/{}", checkout.owner, checkout.name);
        let pushed = unfinished::push(&self.git, checkout, &repository.clone_url, &branch, &self.scratch).await;
        let message = match pushed {
            Ok(false) => return,
            Ok(true) => format!(
                "This sandbox is near the end of its life. The work in progress in {label} was pushed to the branch `{branch}`."
            ),
            Err(error) => format!(
                "This sandbox is near the end of its life. The work in progress in {label} could not be pushed: {error}"
            ),
        };
        self.teller.warn(WarningScope::Sync, &message, Some((&checkout.owner, &checkout.name)));
    }
}

/// The branch of a session's work in progress.
fn branch(session_id: &str) -> String {
    format!("open-inspect/wip/{session_id}")
}
