//! Whose commits a checkout's are and whether they are signed: settled before each prompt.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use oi_protocol::sandbox_socket::GitIdentity;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard, watch};
use tokio::time::Instant;

use super::identity::{self, InvalidIdentity};
use super::{Git, Workspace};
use crate::bridge::runner::WorkspaceState;
use crate::control_plane::commit_signing::{SigningAnswer, SigningSetting};
use crate::control_plane::{ControlPlane, ControlPlaneError};

/// How long the setting is believed. A key that changed meanwhile shows itself: the control plane signs with no other.
const FRESH_FOR: Duration = Duration::from_secs(60);

/// Why a prompt's commits cannot be settled.
#[derive(Debug, thiserror::Error)]
pub enum CommitSettingsError {
    /// The person's name or address.
    #[error(transparent)]
    Identity(#[from] InvalidIdentity),
    /// Whether commits are signed is not known.
    #[error("Whether commits are signed could not be found out: {0}")]
    Signing(#[from] ControlPlaneError),
    /// A checkout.
    #[error("The commit author could not be set: {0}")]
    Checkout(#[from] identity::ApplyError),
}

/// Why a commit was not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// The control plane gave none.
    #[error("{0}")]
    ControlPlane(#[from] ControlPlaneError),
    /// It is not done any more.
    #[error("commits are no longer signed in this session; commit again")]
    TurnedOff,
}

struct Known {
    setting: Arc<SigningSetting>,
    tag: Option<String>,
    at: Instant,
}

/// Settles commits, and has them signed.
pub struct CommitSettings {
    control_plane: Arc<ControlPlane>,
    git: Git,
    /// `oi-git-sign`
    signer: PathBuf,
    /// Held while it is fetched, so that many who ask share one answer.
    known: AsyncMutex<Option<Known>>,
    applied: Mutex<Option<(Arc<Workspace>, GitIdentity)>>,
    /// Held while checkouts are settled: what is asked for last stays.
    turn: AsyncMutex<()>,
}

impl CommitSettings {
    /// For checkouts whose commits `signer` signs.
    pub fn new(control_plane: Arc<ControlPlane>, git: Git, signer: PathBuf) -> Self {
        Self {
            control_plane,
            git,
            signer,
            known: AsyncMutex::default(),
            applied: Mutex::default(),
            turn: AsyncMutex::default(),
        }
    }

    /// Asks ahead of the first prompt, and makes the checkouts the agent's until one comes, for people who commit
    /// before it. A failure is the prompt's to tell.
    pub async fn warm(self: Arc<Self>, mut workspace: watch::Receiver<WorkspaceState>) {
        let known = self.setting(FRESH_FOR).await.map(drop).map_err(CommitSettingsError::from);
        let there = workspace.wait_for(Option::is_some).await.ok().and_then(|state| state.clone());
        let settled = match (known, there) {
            (Ok(()), Some(Ok(workspace))) => self.settle_first(&workspace).await,
            (known, _) => known,
        };
        if let Err(error) = settled {
            tracing::warn!(event = "commits.not_settled", %error);
        }
    }

    async fn settle_first(&self, workspace: &Arc<Workspace>) -> Result<(), CommitSettingsError> {
        let turn = self.turn.lock().await;
        // A prompt may have been quicker.
        let settled = self.applied.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if settled { Ok(()) } else { self.settle_in_turn(workspace, &GitIdentity::AgentOnly, &turn).await }
    }

    /// The setting, at most this old.
    async fn setting(&self, age: Duration) -> Result<Arc<SigningSetting>, ControlPlaneError> {
        let mut known = self.known.lock().await;
        if let Some(known) = known.as_ref().filter(|known| known.at.elapsed() < age) {
            return Ok(Arc::clone(&known.setting));
        }
        let at = Instant::now();
        let tag = known.as_ref().and_then(|known| known.tag.clone());
        let (setting, tag) = match (self.control_plane.commit_signing(tag.as_deref()).await?, known.take()) {
            (SigningAnswer::Setting(setting, tag), _) => (Arc::new(setting), tag),
            (SigningAnswer::Unchanged, Some(known)) => (known.setting, known.tag),
            (SigningAnswer::Unchanged, None) => return Err(ControlPlaneError::Odd),
        };
        *known = Some(Known { setting: Arc::clone(&setting), tag, at });
        Ok(setting)
    }

    /// Makes the next commits in all checkouts those of `author`, signed or not.
    pub async fn settle(&self, workspace: &Arc<Workspace>, author: &GitIdentity) -> Result<(), CommitSettingsError> {
        // First what needs no answer from elsewhere.
        identity::resolve(author)?;
        let turn = self.turn.lock().await;
        self.settle_in_turn(workspace, author, &turn).await
    }

    async fn settle_in_turn(
        &self,
        workspace: &Arc<Workspace>,
        author: &GitIdentity,
        _turn: &AsyncMutexGuard<'_, ()>,
    ) -> Result<(), CommitSettingsError> {
        if workspace.checkouts.is_empty() {
            return Ok(());
        }
        let setting = self.setting(FRESH_FOR).await?;
        self.apply(workspace, author, &setting).await?;
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        *applied = Some((Arc::clone(workspace), author.clone()));
        Ok(())
    }

    async fn apply(
        &self,
        workspace: &Workspace,
        author: &GitIdentity,
        setting: &SigningSetting,
    ) -> Result<(), CommitSettingsError> {
        let identity = identity::commits_by(author, setting)?;
        for checkout in &workspace.checkouts {
            identity::apply(&self.git, &checkout.path, &identity, &self.signer).await?;
        }
        Ok(())
    }

    /// The signature of a commit. When the key is another by now, the checkouts are told, and the commit is signed with
    /// the new one, once.
    pub async fn sign(&self, fingerprint: &str, payload: Bytes) -> Result<String, SignatureError> {
        match self.control_plane.sign_commit(fingerprint, payload.clone()).await {
            Err(ControlPlaneError::Refused { status: 409, .. }) => {}
            signed => return Ok(signed?),
        }
        let setting = self.setting(Duration::ZERO).await?;
        let applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((workspace, author)) = applied
            && let Err(error) = self.apply(&workspace, &author, &setting).await
        {
            tracing::warn!(event = "signing.not_settled", %error);
        }
        match &*setting {
            SigningSetting::Disabled => Err(SignatureError::TurnedOff),
            SigningSetting::Enabled(signer) => {
                Ok(self.control_plane.sign_commit(&signer.key.fingerprint(), payload).await?)
            }
        }
    }
}
