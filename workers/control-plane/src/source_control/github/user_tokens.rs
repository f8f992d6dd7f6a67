//! Tokens of people, kept sealed, refreshed when they end.

use oi_protocol::UnixMillis;
use oi_worker_kit::log::Line;
use oi_worker_kit::sealed::{SealError, SealingKey};
use oi_worker_kit::vars::Vars;
use oi_worker_kit::{Failure, Fault, Refusal, clock};

use super::user_account::{OauthClient, OauthError, UserTokens};
use crate::store::Database;
use crate::store::user_identities::{self, SealedTokens};

/// A token that ends within this is refreshed first, in ms.
const FRESHNESS_MS: i64 = 60_000;

/// The key that tokens are sealed with.
pub fn sealing_key(vars: &impl Vars) -> Result<SealingKey, Refusal> {
    let key = vars.get("TOKEN_ENCRYPTION_KEY").unwrap_or_default();
    SealingKey::from_base64(&key)
        .map_err(|_| Refusal::not_configured("TOKEN_ENCRYPTION_KEY must be base64 of 32 bytes"))
}

fn place(identity_id: &str, column: &str) -> String {
    format!("user_identities/{identity_id}/{column}")
}

/// Tokens as they are stored.
pub fn seal(
    key: &SealingKey,
    identity_id: &str,
    tokens: &UserTokens,
    now: UnixMillis,
) -> Result<SealedTokens, SealError> {
    let refresh_token = tokens.refresh_token.as_deref();
    Ok(SealedTokens {
        id: identity_id.to_owned(),
        access_token: Some(key.seal(&tokens.access_token, &place(identity_id, "access_token"))?),
        access_token_expires_at: tokens.expires_in.map(|seconds| now.plus(seconds.saturating_mul(1000)).0),
        refresh_token: refresh_token.map(|token| key.seal(token, &place(identity_id, "refresh_token"))).transpose()?,
    })
}

/// A refresh token as it was given.
pub fn open_refresh_token(vars: &impl Vars, identity_id: &str, sealed: &str) -> Result<String, SealError> {
    let key = sealing_key(vars).map_err(|_| SealError::Key)?;
    key.open(sealed, &place(identity_id, "refresh_token"))
}

enum Stored {
    Fresh(String),
    /// It has ended; with this it can be refreshed.
    Refreshable(String),
    Useless,
}

fn read(key: &SealingKey, tokens: &SealedTokens, now: UnixMillis) -> Result<Stored, SealError> {
    let Some(access_token) = &tokens.access_token else { return Ok(Stored::Useless) };
    if tokens.access_token_expires_at.is_none_or(|at| at > now.plus(FRESHNESS_MS).0) {
        return Ok(Stored::Fresh(key.open(access_token, &place(&tokens.id, "access_token"))?));
    }
    match &tokens.refresh_token {
        Some(token) => Ok(Stored::Refreshable(key.open(token, &place(&tokens.id, "refresh_token"))?)),
        None => Ok(Stored::Useless),
    }
}

/// A token that acts for a person at GitHub; `None` when there is none that works, and the App acts instead.
pub async fn valid_token(db: &impl Database, vars: &impl Vars, user_id: &str) -> Result<Option<String>, Failure> {
    let key = sealing_key(vars)?;
    let Some(stored) = user_identities::tokens(db, user_id, "github").await? else { return Ok(None) };
    let unreadable = |error: SealError| Failure::from(Fault::new("opening a user's token", error));
    let refresh_token = match read(&key, &stored, clock::now()).map_err(unreadable)? {
        Stored::Fresh(token) => return Ok(Some(token)),
        Stored::Useless => return Ok(None),
        Stored::Refreshable(token) => token,
    };
    let refreshed = match OauthClient::of(vars)?.refresh(&refresh_token).await {
        Ok(tokens) => tokens,
        Err(OauthError::Refused(reason)) => {
            Line::info("control-plane", "user_token.refresh_refused").with("reason", reason).write();
            // Perhaps because another request refreshed it meanwhile.
            let again = user_identities::tokens(db, user_id, "github").await?;
            return match again.as_ref().map(|tokens| read(&key, tokens, clock::now())).transpose() {
                Ok(Some(Stored::Fresh(token))) => Ok(Some(token)),
                Ok(_) => Ok(None),
                Err(error) => Err(unreadable(error)),
            };
        }
        Err(OauthError::Forge(error)) => return Err(error.into()),
    };
    let now = clock::now();
    let sealed = seal(&key, &stored.id, &refreshed, now).map_err(unreadable)?;
    user_identities::set_tokens(db, &sealed, stored.refresh_token.as_deref(), now).await?;
    Ok(Some(refreshed.access_token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(expires_in: Option<i64>, refresh: Option<&str>) -> (SealingKey, SealedTokens) {
        let key = SealingKey::from_base64("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").expect("32 bytes");
        let tokens =
            UserTokens { access_token: "access".to_owned(), expires_in, refresh_token: refresh.map(str::to_owned) };
        let sealed = seal(&key, "i1", &tokens, UnixMillis(0)).expect("seals");
        (key, sealed)
    }

    fn state(expires_in: Option<i64>, refresh: Option<&str>, now: i64) -> String {
        let (key, tokens) = sealed(expires_in, refresh);
        match read(&key, &tokens, UnixMillis(now)).expect("opens") {
            Stored::Fresh(token) => format!("fresh {token}"),
            Stored::Refreshable(token) => format!("refresh {token}"),
            Stored::Useless => "useless".to_owned(),
        }
    }

    #[test]
    fn a_token_is_refreshed_a_minute_before_it_ends() {
        assert_eq!(state(Some(100), Some("r"), 39_999), "fresh access");
        assert_eq!(state(Some(100), Some("r"), 40_000), "refresh r");
        assert_eq!(state(Some(100), None, 40_000), "useless");
        assert_eq!(state(None, None, i64::MAX / 2), "fresh access");
    }

    #[test]
    fn a_token_that_was_moved_to_another_row_does_not_open() {
        let (key, tokens) = sealed(None, None);
        let moved = SealedTokens { id: "i2".to_owned(), ..tokens };
        assert!(matches!(read(&key, &moved, UnixMillis(0)), Err(SealError::Open)));
    }
}
