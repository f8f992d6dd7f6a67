//! When changes are collected and sent: after each prompt and when somebody asks, never while a prompt runs. Requests
//! that come meanwhile become one.

use std::sync::Arc;

use oi_protocol::MessageId;
use tokio::sync::watch;

use super::bundle;
use crate::bridge::runner::WorkspaceState;
use crate::clock;
use crate::control_plane::{ControlPlane, ControlPlaneError};
use crate::git::{Git, Workspace};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Wanted {
    /// Requests so far.
    requests: u64,
    /// The prompt after which the newest came.
    trigger: Option<MessageId>,
    /// Prompts that began so far.
    begun: u64,
    /// Whether one runs.
    busy: bool,
}

/// Tells the worker what happens.
#[derive(Debug, Clone)]
pub struct DiffRequests(watch::Sender<Wanted>);

impl DiffRequests {
    /// A prompt begins: what was read until now may be half of a change.
    pub fn prompt_begins(&self) {
        self.0.send_modify(|wanted| {
            wanted.begun += 1;
            wanted.busy = true;
        });
    }

    /// It has ended.
    pub fn prompt_ended(&self, message_id: MessageId) {
        self.0.send_modify(|wanted| {
            wanted.busy = false;
            wanted.requests += 1;
            wanted.trigger = Some(message_id);
        });
    }

    /// Somebody asks.
    pub fn refresh(&self) {
        self.0.send_modify(|wanted| {
            wanted.requests += 1;
            wanted.trigger = None;
        });
    }
}

/// The worker, and the way to tell it.
pub struct DiffWorker {
    git: Git,
    workspace: watch::Receiver<WorkspaceState>,
    control_plane: Arc<ControlPlane>,
    wanted: watch::Receiver<Wanted>,
}

impl DiffWorker {
    /// A worker for a workspace that may still be prepared.
    pub fn new(
        git: Git,
        workspace: watch::Receiver<WorkspaceState>,
        control_plane: Arc<ControlPlane>,
    ) -> (Self, DiffRequests) {
        let (requests, wanted) = watch::channel(Wanted::default());
        (Self { git, workspace, control_plane, wanted }, DiffRequests(requests))
    }

    /// Works until nobody can ask any more, or the session takes no diffs.
    pub async fn run(mut self) {
        let Some(workspace) = self.workspace().await else { return };
        if workspace.checkouts.is_empty() {
            return;
        }
        let mut done = 0;
        loop {
            let asked = self.wanted.wait_for(|wanted| wanted.requests > done && !wanted.busy).await;
            let Ok(asked) = asked.map(|wanted| wanted.clone()) else { return };
            let trigger = asked.trigger.as_ref().map(ToString::to_string);
            let collected = tokio::select! {
                biased;
                newer = self.wanted.wait_for(|wanted| *wanted != asked) => match newer {
                    Ok(_) => continue,
                    Err(_) => return,
                },
                collected = bundle(&self.git, &workspace, trigger, clock::now()) => collected,
            };
            let told = match collected {
                Ok(bundle) => self.control_plane.store_diff(&bundle).await,
                Err(error) => Err(ControlPlaneError::Local(error)),
            };
            done = asked.requests;
            if let Err(error) = told
                && !self.told_failure(&error).await
            {
                tracing::info!(event = "diff.disabled");
                return;
            }
        }
    }

    async fn workspace(&mut self) -> Option<Arc<Workspace>> {
        let settled = self.workspace.wait_for(Option::is_some).await.ok()?;
        settled.as_ref()?.as_ref().ok().map(Arc::clone)
    }

    /// Says why there is no bundle; whether another one may be sent.
    async fn told_failure(&self, error: &ControlPlaneError) -> bool {
        tracing::warn!(event = "diff.failed", %error);
        match error {
            error if error.is_not_found() => false,
            // Whoever cannot be reached cannot be told either.
            ControlPlaneError::Unreachable | ControlPlaneError::TimedOut(_) => true,
            error => {
                let told = self.control_plane.report_diff_failure(&error.to_string()).await;
                !told.is_err_and(|error| error.is_not_found())
            }
        }
    }
}
