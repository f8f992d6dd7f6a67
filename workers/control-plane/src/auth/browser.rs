//! People: the cookie of their browser, and the session that it stands for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use oi_protocol::UnixMillis;
use oi_worker_kit::vars::Vars;
use oi_worker_kit::{Failure, Refusal, clock, mac, random};

use super::cookies::{Cookie, SESSION_LIFE_MS};
use crate::store::browser_sessions::{self, Live, SignedIn};
use crate::store::{Database, Statement};
use crate::web_origin::WebOrigin;

/// A session is prolonged when it was not for this long, in ms.
const PROLONG_AFTER_MS: i64 = 86_400_000;
/// Longest user agent that is kept, in bytes.
const USER_AGENT_BYTES: usize = 300;

/// What sign-ins of browsers need.
pub struct BrowserAuth {
    /// The one origin.
    pub origin: WebOrigin,
    secret: String,
}

impl BrowserAuth {
    /// From `WEB_APP_URL` and `BROWSER_AUTH_SECRET`, which has at least 32 characters.
    pub fn of(vars: &impl Vars) -> Result<Self, Refusal> {
        let origin = WebOrigin::of(vars)?;
        let secret = vars.get("BROWSER_AUTH_SECRET").filter(|secret| secret.chars().count() >= 32);
        let secret = secret.ok_or_else(|| Refusal::not_configured("Browser authentication is not configured"))?;
        Ok(Self { origin, secret })
    }

    fn derived(&self, use_: &str, token: &str) -> [u8; 32] {
        mac::hmac_sha256(self.secret.as_bytes(), &[b"open-inspect/", use_.as_bytes(), b"/v1\0", token.as_bytes()])
    }

    /// What is stored of a sign-in's state: one of another provider is another.
    pub fn state_hash(&self, provider: &str, state: &str) -> String {
        hex::encode(self.derived(&format!("oauth-state/{provider}"), state))
    }

    /// What an ID token of that sign-in must hold: derived, so that nothing of it is stored.
    pub fn nonce(&self, state: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.derived("oidc-nonce", state))
    }

    /// The verifier of PKCE that belongs to a state: derived, so that nothing of it is stored.
    pub fn pkce_verifier(&self, state: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.derived("pkce", state))
    }

    fn session_hash(&self, token: &str) -> String {
        hex::encode(self.derived("session", token))
    }

    /// Who a `Cookie` header's session belongs to.
    ///
    /// Whether they are still let in is another question: see `still_admitted`.
    pub async fn live_session(&self, db: &impl Database, cookie: Option<&str>) -> Result<Option<Live>, Failure> {
        match Cookie::Session.read(&self.origin, cookie) {
            Some(token) => Ok(browser_sessions::find(db, &self.session_hash(&token), clock::now()).await?),
            None => Ok(None),
        }
    }

    /// Begins a session: its `Set-Cookie` header, and the statement that makes it good.
    pub fn begin(&self, user_id: &str, user_agent: Option<&str>, now: UnixMillis) -> (String, Statement) {
        let (id, token) = (random::hex::<16>(), random::hex::<32>());
        let user_agent = user_agent.map(|text| oi_protocol::text::truncate_bytes(text, USER_AGENT_BYTES));
        let begun = browser_sessions::begin(&id, &self.session_hash(&token), user_id, user_agent, life(now));
        (Cookie::Session.set(&self.origin, &token), begun)
    }

    /// Prolongs a session when it is time; answers the `Set-Cookie` header and the new end.
    pub async fn prolong(
        &self,
        db: &impl Database,
        cookie: Option<&str>,
        session: &SignedIn,
    ) -> Result<Option<(String, UnixMillis)>, Failure> {
        let now = clock::now();
        let due = now.since(UnixMillis(session.session_updated_at)) >= PROLONG_AFTER_MS;
        let Some(token) = Cookie::Session.read(&self.origin, cookie).filter(|_| due) else { return Ok(None) };
        let (_, ends) = life(now);
        browser_sessions::prolong(db, &session.session_id, life(now)).await?;
        Ok(Some((Cookie::Session.set(&self.origin, &token), ends)))
    }

    /// Ends the session of a `Cookie` header; answers the `Set-Cookie` header.
    pub async fn end(&self, db: &impl Database, cookie: Option<&str>) -> Result<String, Failure> {
        if let Some(token) = Cookie::Session.read(&self.origin, cookie) {
            browser_sessions::end(db, &self.session_hash(&token)).await?;
        }
        Ok(Cookie::Session.clear(&self.origin))
    }
}

fn life(now: UnixMillis) -> (UnixMillis, UnixMillis) {
    (now, now.plus(SESSION_LIFE_MS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn auth(secret: &'static str) -> Result<BrowserAuth, Refusal> {
        BrowserAuth::of(&BTreeMap::from([("WEB_APP_URL", "http://localhost:1"), ("BROWSER_AUTH_SECRET", secret)]))
    }

    #[test]
    fn a_short_secret_is_none() {
        assert_eq!(auth("0123456789012345678901234567890").err().map(|refusal| refusal.status), Some(503));
        assert!(auth("01234567890123456789012345678901").is_ok());
    }

    #[test]
    fn what_is_derived_from_a_state_depends_on_its_use_and_the_secret() {
        let (one, other) = (auth("a".repeat(32).leak()).expect("set"), auth("b".repeat(32).leak()).expect("set"));
        assert_eq!(one.pkce_verifier("s").len(), 43);
        assert_ne!(one.pkce_verifier("s"), other.pkce_verifier("s"));
        assert_ne!(one.state_hash("github", "s"), one.session_hash("s"));
        assert_ne!(one.state_hash("github", "s"), one.state_hash("github", "t"));
        assert_ne!(one.state_hash("github", "s"), one.state_hash("google", "s"));
        assert_ne!(one.nonce("s"), one.pkce_verifier("s"));
    }
}
