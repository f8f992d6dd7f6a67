//! Tokens of people, kept sealed, refreshed when they end.

use oi_protocol::UnixMillis;
use oi_worker_kit::log::Line;
use oi_worker_kit::sealed::{SealError, SealingKey};
use oi_worker_kit::vars::Vars;
use oi_worker_kit::{Failure, Fault, Refusal, clock};

use super::user_account::{OauthClient, OauthError, UserTokens};
use crate::source_control::Provider;
use crate::source_control::gitlab::GitlabOauth;
use crate::source_control::one_at_a_time::{Done, one_at_a_time};
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

/// A token that acts for a person. There is nothing in it to print.
#[derive(Clone, PartialEq, Eq)]
pub struct ActingToken {
    /// The token.
    pub token: String,
    /// Whose, and which, as it is stored.
    stored: SealedTokens,
}

/// What is asked of a forge for people's tokens.
enum Client {
    Github(OauthClient),
    Gitlab(GitlabOauth),
}

impl Client {
    fn of(vars: &impl Vars, provider: Provider) -> Result<Self, Failure> {
        match provider {
            Provider::Github => OauthClient::of(vars).map(Self::Github),
            Provider::Gitlab => GitlabOauth::of(vars).map(Self::Gitlab),
        }
    }

    async fn refresh(&self, refresh_token: &str) -> Result<UserTokens, OauthError> {
        match self {
            Self::Github(client) => client.refresh(refresh_token).await,
            Self::Gitlab(client) => client.refresh(refresh_token).await,
        }
    }
}

/// A token that acts for a person at GitHub; `None` when there is none that works, and the App acts instead.
#[allow(dead_code, reason = "for who asks GitHub about a person again, after their sign-in")]
pub async fn valid_token(db: &impl Database, vars: &impl Vars, user_id: &str) -> Result<Option<String>, Failure> {
    Ok(acting_token(db, vars, Provider::Github, user_id).await?.map(|acting| acting.token))
}

/// A token that acts for a person at the forge; `None` when there is none that works, and the platform acts instead. One
/// that ends is refreshed, by one caller at a time: a refresh token is used up by its use.
pub async fn acting_token(
    db: &impl Database,
    vars: &impl Vars,
    provider: Provider,
    user_id: &str,
) -> Result<Option<ActingToken>, Failure> {
    let key = sealing_key(vars)?;
    let unreadable = |error: SealError| Failure::from(Fault::new("opening a user's token", error));
    let look = async || -> Result<Option<(SealedTokens, Stored)>, Failure> {
        let Some(stored) = user_identities::tokens(db, user_id, provider.name()).await? else { return Ok(None) };
        let state = read(&key, &stored, clock::now()).map_err(unreadable)?;
        Ok(Some((stored, state)))
    };
    let stored = match look().await? {
        None | Some((_, Stored::Useless)) => return Ok(None),
        Some((stored, Stored::Fresh(token))) => return Ok(Some(ActingToken { token, stored })),
        Some((stored, Stored::Refreshable(_))) => stored,
    };
    let found = async || match look().await {
        Ok(Some((stored, Stored::Fresh(token)))) => Some(Some(ActingToken { token, stored })),
        Ok(Some((_, Stored::Useless)) | None) => Some(None),
        Ok(Some((_, Stored::Refreshable(_)))) | Err(_) => None,
    };
    let work = async || {
        // Somebody may have refreshed it since the lease was waited for.
        let (stored, refresh_token) = match look().await? {
            None | Some((_, Stored::Useless)) => return Ok(Done { result: None, value: None }),
            Some((stored, Stored::Fresh(token))) => {
                return Ok(Done { result: Some(ActingToken { token, stored }), value: None });
            }
            Some((stored, Stored::Refreshable(token))) => (stored, token),
        };
        let result = refresh(db, vars, provider, &key, stored, &refresh_token).await?;
        Ok::<_, Failure>(Done { result, value: None })
    };
    one_at_a_time(db, &format!("user-token:{}", stored.id), found, work).await
}

async fn refresh(
    db: &impl Database,
    vars: &impl Vars,
    provider: Provider,
    key: &SealingKey,
    stored: SealedTokens,
    refresh_token: &str,
) -> Result<Option<ActingToken>, Failure> {
    let now = clock::now();
    let refreshed = match Client::of(vars, provider)?.refresh(refresh_token).await {
        Ok(tokens) => tokens,
        Err(OauthError::Refused(reason)) => {
            Line::info("control-plane", "user_token.refresh_refused").with("reason", &reason).write();
            // What is wrong with our own name and secret is no fault of the token.
            if !matches!(reason.as_str(), "bad_refresh_token" | "invalid_grant") {
                return Ok(None);
            }
            // It will never work again; the person signs in anew.
            let none = SealedTokens {
                id: stored.id.clone(),
                access_token: None,
                access_token_expires_at: None,
                refresh_token: None,
            };
            user_identities::set_tokens(db, &none, stored.refresh_token.as_deref(), now).await?;
            return Ok(None);
        }
        Err(OauthError::Forge(error)) => return Err(error.into()),
    };
    let sealed = seal(key, &stored.id, &refreshed, now)
        .map_err(|error| Failure::from(Fault::new("sealing a user's token", error)))?;
    user_identities::set_tokens(db, &sealed, stored.refresh_token.as_deref(), now).await?;
    Ok(Some(ActingToken { token: refreshed.access_token, stored: sealed }))
}

/// The forge does not know this token any more: it is refreshed before it is used again, if it can be.
pub async fn end(db: &impl Database, acting: &ActingToken) -> Result<(), Failure> {
    let Some(access_token) = &acting.stored.access_token else { return Ok(()) };
    Ok(user_identities::end_access(db, &acting.stored.id, access_token, clock::now()).await?)
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
