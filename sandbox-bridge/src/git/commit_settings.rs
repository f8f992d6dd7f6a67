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
        let identity = identity::commits_by(author, &setting)?;
        for checkout in &workspace.checkouts {
            identity::apply(&self.git, &checkout.path, &identity, &self.signer).await?;
        }
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        *applied = Some((Arc::clone(workspace), author.clone()));
        Ok(())
    }

    /// The signature of a commit. When the key is another by now, the checkouts are told, and the commit is signed with
    /// the new one, once.
    pub async fn sign(&self, fingerprint: &str, payload: Bytes) -> Result<String, SignatureError> {
        match self.control_plane.sign_commit(fingerprint, payload.clone()).await {
            Err(ControlPlaneError::Refused { status: 409, .. }) => {}
            signed => return Ok(signed?),
        }
        let turn = self.turn.lock().await;
        let setting = self.setting(Duration::ZERO).await?;
        let applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((workspace, author)) = applied
            && let Err(error) = self.settle_in_turn(&workspace, &author, &turn).await
        {
            tracing::warn!(event = "signing.not_settled", %error);
        }
        drop(turn);
        match &*setting {
            SigningSetting::Disabled => Err(SignatureError::TurnedOff),
            SigningSetting::Enabled(signer) => {
                Ok(self.control_plane.sign_commit(&signer.key.fingerprint(), payload).await?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use axum::Json;
    use axum::Router;
    use axum::response::IntoResponse as _;
    use axum::routing::get;
    use http::StatusCode;
    use serde_json::json;

    use super::*;
    use crate::git::Checkout;
    use crate::secret::Secret;

    /// Signs with no key, and says that commits are not signed any more.
    async fn control_plane() -> Arc<ControlPlane> {
        let setting = || async { Json(json!({"enabled": false})) };
        let refused = || async { (StatusCode::CONFLICT, Json(json!({"error": "no key"}))).into_response() };
        let router = Router::new().route("/sessions/s/commit-signing", get(setting).post(refused));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Arc::new(ControlPlane::new(&url, "s", "sb".to_owned(), Secret::new("t")).expect("a client"))
    }

    /// In git's place: where the file `gate` is, the first that comes waits until the file `go` is.
    const SLOW_GIT: &str = "#!/bin/sh\ncd \"${0%/*}\"\nif [ -e gate ] && mkdir waits 2>/dev/null; then\n\
        while [ ! -e go ]; do sleep 0.01; done\nfi\nexit 5\n";

    fn checkout(folder: &Path, position: u32, name: &str, settings: &str) -> Checkout {
        let path = folder.join(name);
        std::fs::create_dir_all(path.join(".git")).expect("made");
        std::fs::write(path.join(".git/config"), settings).expect("written");
        let (owner, name, branch) = ("acme".to_owned(), name.to_owned(), "main".to_owned());
        Checkout { position, owner, name, branch, path, base_sha: None }
    }

    #[tokio::test]
    async fn a_signature_that_is_tried_again_does_not_put_an_earlier_author_back() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("git"), SLOW_GIT).expect("written");
        std::fs::set_permissions(folder.path().join("git"), std::fs::Permissions::from_mode(0o755)).expect("set");
        let path = format!("{}:/usr/bin:/bin", folder.path().display());
        let git = Git::new(vec![("PATH".into(), path.into())]);
        // The first has what git is called for, so that whoever settles both can be held between them.
        let checkouts = vec![
            checkout(folder.path(), 0, "first", "[author]\n\tname = Somebody\n"),
            checkout(folder.path(), 1, "second", ""),
        ];
        let workspace = Arc::new(Workspace { directory: folder.path().to_owned(), checkouts });
        let author =
            |name: &str| GitIdentity::AttributedUser { name: name.to_owned(), email: format!("{name}@acme.example") };
        let commits = Arc::new(CommitSettings::new(control_plane().await, git, "/oi-git-sign".into()));
        commits.settle(&workspace, &author("ada")).await.expect("settled");

        std::fs::write(folder.path().join("gate"), "").expect("written");
        let signing = Arc::clone(&commits);
        let signing = tokio::spawn(async move { signing.sign("SHA256:old", Bytes::from_static(b"commit")).await });
        while !folder.path().join("waits").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (settling, of) = (Arc::clone(&commits), Arc::clone(&workspace));
        let next = author("grace");
        let mut settling = tokio::spawn(async move { settling.settle(&of, &next).await });
        // It has the time to be done with, were it not to wait its turn.
        let early = tokio::time::timeout(Duration::from_millis(500), &mut settling).await;
        std::fs::write(folder.path().join("go"), "").expect("written");
        assert!(matches!(signing.await.expect("no panic"), Err(SignatureError::TurnedOff)));
        let settled = match early {
            Ok(settled) => settled,
            Err(_) => settling.await,
        };
        settled.expect("no panic").expect("settled");
        for name in ["first", "second"] {
            let settings = std::fs::read_to_string(folder.path().join(name).join(".git/config")).expect("there");
            assert!(settings.contains("\"grace\"") && !settings.contains("\"ada\""), "{name}: {settings}");
        }
    }
}
