//! Tells people how the boot goes.

use std::future::Future;
use std::sync::Arc;

use oi_protocol::UnixMillis;
use oi_protocol::event::{BootProgress, BootStatus, GitSync, GitSyncStatus, Warning, WarningScope};
use oi_protocol::sandbox_socket::SandboxEvent;
use oi_protocol::text::truncate_bytes;

use crate::bridge::Stamp;
use crate::bridge::outbox::Outbox;
use crate::clock;

/// Longest sentence of an event.
const SENTENCE_MAX_BYTES: usize = 2000;

/// Tells how the boot goes.
#[derive(Clone)]
pub struct Teller {
    /// Where to; an image's build has nobody to tell, and its log tells all.
    pub outbox: Option<Arc<Outbox>>,
    /// As whom.
    pub stamp: Stamp,
}

impl Teller {
    /// Tells an event.
    pub fn tell(&self, event: &SandboxEvent) {
        let Some(outbox) = &self.outbox else { return };
        if let Err(error) = outbox.emit(event) {
            tracing::warn!(event = "boot.not_told", %error);
        }
    }

    /// Tells where a phase is.
    pub fn phase(&self, phase: &str, status: BootStatus, started_at: UnixMillis, detail: Option<&str>) {
        let duration = clock::now().since(started_at);
        let duration_ms = (status != BootStatus::Started).then_some(duration);
        tracing::info!(event = "boot.phase", phase, ?status, duration_ms = duration);
        self.tell(&SandboxEvent::BootProgress(BootProgress {
            phase: phase.to_owned(),
            status,
            started_at,
            duration_ms,
            detail: detail.map(|text| truncate_bytes(text, SENTENCE_MAX_BYTES).to_owned()),
            sandbox_id: self.stamp.sandbox_id.clone(),
            timestamp: Stamp::timestamp(),
        }));
    }

    /// Tells a phase's beginning and its end, in which the error is the sentence that says why.
    pub async fn during<T, E: std::fmt::Display>(
        &self,
        phase: &str,
        detail: &str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let started = clock::now();
        self.phase(phase, BootStatus::Started, started, Some(detail));
        let result = work.await;
        match &result {
            Ok(_) => self.phase(phase, BootStatus::Completed, started, Some(detail)),
            Err(reason) => self.phase(phase, BootStatus::Failed, started, Some(&reason.to_string())),
        }
        result
    }

    /// Tells something that people should know and that stops nothing.
    pub fn warn(&self, scope: WarningScope, message: &str, repository: Option<(&str, &str)>) {
        tracing::warn!(event = "boot.warning", ?scope, message);
        self.tell(&SandboxEvent::Warning(Warning {
            repo_owner: repository.map(|(owner, _)| owner.to_owned()),
            repo_name: repository.map(|(_, name)| name.to_owned()),
            ..self.stamp.warning(scope, truncate_bytes(message, SENTENCE_MAX_BYTES).to_owned())
        }));
    }

    /// Tells how the checkouts ended.
    pub fn git_sync(&self, status: GitSyncStatus, sha: Option<String>) {
        self.tell(&SandboxEvent::GitSync(GitSync {
            status,
            sha,
            sandbox_id: self.stamp.sandbox_id.clone(),
            timestamp: Stamp::timestamp(),
        }));
    }
}
