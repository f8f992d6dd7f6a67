//! Credentials for git, from the control plane, kept in memory for minutes.

use std::sync::Arc;

use oi_protocol::UnixMillis;
use oi_protocol::rest::ScmCredentials;
use tokio::sync::Mutex;

use super::wire::Answer;
use crate::clock;
use crate::control_plane::ControlPlane;
use crate::git::credential::{Description, is_for};
use crate::secret::Secret;

/// A credential is not given out any more this long before it ends, or a sixth of its life when that is shorter.
const MARGIN_MS: i64 = 5 * 60 * 1000;

struct Cached {
    credentials: ScmCredentials,
    usable_until: UnixMillis,
}

enum Source {
    /// Minted for the session, minutes at a time.
    ControlPlane(Arc<ControlPlane>),
    /// Given for one build: a user name and a password, or nothing.
    Given(Option<(String, Secret)>),
}

/// Gives credentials for one host.
pub struct CredentialBroker {
    source: Source,
    vcs_host: String,
    /// Held while one is fetched, so that many who ask at once share one answer.
    cached: Mutex<Option<Cached>>,
}

fn usable_until(now: UnixMillis, expires_at: UnixMillis) -> UnixMillis {
    let life = expires_at.since(now).max(0);
    expires_at.plus(-MARGIN_MS.min(life / 6))
}

impl CredentialBroker {
    /// A broker for `vcs_host`.
    pub fn new(control_plane: Arc<ControlPlane>, vcs_host: String) -> Self {
        Self { source: Source::ControlPlane(control_plane), vcs_host, cached: Mutex::new(None) }
    }

    /// A broker of an image's build, which has no session that would mint one: it has this token, or none.
    pub fn of_build(vcs_host: String, username: Option<String>, token: Option<Secret>) -> Self {
        let given = token.filter(|token| !token.reveal().is_empty());
        let given = given.map(|token| (username.unwrap_or_else(|| "x-access-token".to_owned()), token));
        Self { source: Source::Given(given), vcs_host, cached: Mutex::new(None) }
    }

    fn serves(&self, protocol: &str, host: &str) -> bool {
        let text = format!("protocol={protocol}\nhost={host}\n");
        Description::read(text.as_bytes()).is_ok_and(|description| is_for(&description, &self.vcs_host))
    }

    /// A credential, unless the address is not the forge's.
    pub async fn get(&self, protocol: &str, host: &str) -> Answer {
        if !self.serves(protocol, host) {
            return Answer::Refused { text: format!("this sandbox has credentials for {} only", self.vcs_host) };
        }
        match &self.source {
            Source::ControlPlane(control_plane) => self.minted(control_plane).await,
            Source::Given(None) => Answer::Nothing,
            Source::Given(Some((username, password))) => credential(username, password.reveal()),
        }
    }

    /// Asks for one before git does, so that a clone does not wait for it.
    pub async fn prefetch(&self) {
        if let Source::ControlPlane(control_plane) = &self.source {
            drop(self.minted(control_plane).await);
        }
    }

    async fn minted(&self, control_plane: &ControlPlane) -> Answer {
        let mut cached = self.cached.lock().await;
        let now = clock::now();
        if let Some(known) = cached.as_ref().filter(|known| now < known.usable_until) {
            return credential(&known.credentials.username, &known.credentials.password);
        }
        // A credential that is about to end is never used in place of one that cannot be had.
        *cached = None;
        match control_plane.scm_credentials().await {
            Ok(credentials) => {
                let usable_until = usable_until(now, UnixMillis(credentials.expires_at_epoch_ms));
                let answer = credential(&credentials.username, &credentials.password);
                *cached = Some(Cached { credentials, usable_until });
                answer
            }
            Err(error) => {
                tracing::warn!(event = "credentials.failed", %error);
                Answer::failed(format!("the control plane gave no credential: {error}"))
            }
        }
    }

    /// The forge refused what was given: it is not given again. What somebody got before the one that is kept leaves
    /// that one alone.
    pub async fn erase(&self, protocol: &str, host: &str, password: Option<&str>) {
        if self.serves(protocol, host) {
            let mut cached = self.cached.lock().await;
            if cached.as_ref().is_some_and(|it| password.is_none_or(|refused| refused == it.credentials.password)) {
                *cached = None;
            }
        }
    }
}

fn credential(username: &str, password: &str) -> Answer {
    let usable = |text: &str| !text.contains(['\n', '\r', '\0']);
    if !usable(username) || !usable(password) {
        return Answer::failed("the control plane's credential is malformed");
    }
    Answer::Credential { username: username.to_owned(), password: password.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_kept_until_five_minutes_or_a_sixth_of_its_life_before_its_end() {
        let minutes = |n: i64| n * 60_000;
        let cases = [(60, 55), (30, 25), (12, 10), (6, 5), (0, 0), (-5, -5)];
        for (life, expected) in cases {
            let until = usable_until(UnixMillis(0), UnixMillis(minutes(life)));
            assert_eq!(until, UnixMillis(minutes(expected)), "a life of {life} minutes");
        }
    }
}
