//! Access and refresh tokens.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{StoreError, digest, mint, now};
use crate::forge::config::Level;

/// Life of an installation token, in seconds.
pub const INSTALLATION_TOKEN_SECONDS: i64 = 3_600;
/// Life of a user's access token, in seconds.
pub const USER_TOKEN_SECONDS: i64 = 28_800;
/// Life of a refresh token, in seconds.
pub const REFRESH_TOKEN_SECONDS: i64 = 15_897_600;

/// What a live access token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    Installation(Grant),
    User { user: u64 },
}

/// What an installation token may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub permissions: BTreeMap<String, Level>,
    /// `None`: every repository of the installation.
    pub repositories: Option<BTreeSet<u64>>,
}

/// A user's new tokens. Not stored in clear.
pub struct UserTokens {
    pub access: String,
    pub refresh: String,
}

/// Stores a new installation token; answers it and the second at which it ends.
pub fn issue_for_installation(db: &Connection, grant: &Grant) -> Result<(String, i64), StoreError> {
    db.execute("DELETE FROM tokens WHERE expires_at <= ?1", [now()])?;
    let token = mint("ghs_")?;
    let expires_at = now() + INSTALLATION_TOKEN_SECONDS;
    let permissions: BTreeMap<&str, &str> =
        grant.permissions.iter().map(|(name, level)| (name.as_str(), level.as_str())).collect();
    db.execute(
        "INSERT INTO tokens (hash, kind, permissions, repositories, expires_at) VALUES (?1, 'installation', ?2, ?3, ?4)",
        params![
            digest(&token),
            serde_json::to_string(&permissions).unwrap_or_default(),
            grant
                .repositories
                .as_ref()
                .map(|ids| serde_json::to_string(ids).unwrap_or_default()),
            expires_at,
        ],
    )?;
    Ok((token, expires_at))
}

/// Stores a new pair of access and refresh token for a person.
pub fn issue_for_user(db: &Connection, user: u64) -> Result<UserTokens, StoreError> {
    let tokens = UserTokens { access: mint("ghu_")?, refresh: mint("ghr_")? };
    let pair = digest(&tokens.refresh);
    for (secret, kind, life) in
        [(&tokens.access, "user", USER_TOKEN_SECONDS), (&tokens.refresh, "refresh", REFRESH_TOKEN_SECONDS)]
    {
        db.execute(
            "INSERT INTO tokens (hash, kind, user_id, pair, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![digest(secret), kind, user, pair, now() + life],
        )?;
    }
    Ok(tokens)
}

/// Takes a refresh token and the access token issued with it out of use; answers whose it was.
pub fn take_refresh(db: &Connection, refresh: &str) -> Result<Option<u64>, StoreError> {
    let hash = digest(refresh);
    let user = db
        .query_row(
            "SELECT user_id FROM tokens WHERE hash = ?1 AND kind = 'refresh' AND expires_at > ?2",
            params![hash, now()],
            |row| row.get(0),
        )
        .optional()?;
    if user.is_some() {
        db.execute("DELETE FROM tokens WHERE pair = ?1", [hash])?;
    }
    Ok(user)
}

/// Takes an installation token out of use.
pub fn revoke(db: &Connection, token: &str) -> Result<(), StoreError> {
    db.execute("DELETE FROM tokens WHERE hash = ?1 AND kind = 'installation'", [digest(token)])?;
    Ok(())
}

/// Takes a person's tokens out of use; answers how many.
pub fn revoke_user(db: &Connection, user: u64, access_only: bool) -> Result<usize, StoreError> {
    Ok(db.execute(
        "DELETE FROM tokens WHERE user_id = ?1 AND (kind = 'user' OR (kind = 'refresh' AND NOT ?2))",
        params![user, access_only],
    )?)
}

/// A live access token.
pub fn find(db: &Connection, token: &str) -> Result<Option<Token>, StoreError> {
    let row = db
        .query_row(
            "SELECT kind, user_id, permissions, repositories FROM tokens
             WHERE hash = ?1 AND expires_at > ?2 AND kind IN ('installation', 'user')",
            params![digest(token), now()],
            |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get::<_, Option<u64>>(1)?,
                    row.get::<_, Option<String>>(2)?,
                    row.get::<_, Option<String>>(3)?,
                ))
            },
        )
        .optional()?;
    Ok(row.and_then(|(kind, user, permissions, repositories)| {
        if kind == "user" {
            return Some(Token::User { user: user? });
        }
        Some(Token::Installation(Grant {
            permissions: serde_json::from_str(&permissions?).ok()?,
            repositories: match repositories {
                Some(ids) => Some(serde_json::from_str(&ids).ok()?),
                None => None,
            },
        }))
    }))
}
