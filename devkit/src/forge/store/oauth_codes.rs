//! Authorization codes: valid ten minutes, once.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{StoreError, digest, mint, now};

/// Life of a code, in seconds.
const CODE_SECONDS: i64 = 600;

/// What a code was issued for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    pub user: u64,
    pub redirect_uri: String,
    /// The S256 challenge of PKCE, when the client sent one.
    pub challenge: Option<String>,
}

/// Stores a new code and answers it.
pub fn issue(db: &Connection, code: &Code) -> Result<String, StoreError> {
    let secret = mint("")?;
    db.execute(
        "INSERT INTO oauth_codes (hash, user_id, redirect_uri, challenge, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![digest(&secret), code.user, code.redirect_uri, code.challenge, now() + CODE_SECONDS],
    )?;
    Ok(secret)
}

/// Takes a code out of use. It is gone whatever the caller then finds wrong with the request.
pub fn take(db: &Connection, secret: &str) -> Result<Option<Code>, StoreError> {
    db.execute("DELETE FROM oauth_codes WHERE expires_at <= ?1", [now()])?;
    Ok(db
        .query_row(
            "DELETE FROM oauth_codes WHERE hash = ?1 RETURNING user_id, redirect_uri, challenge",
            [digest(secret)],
            |row| Ok(Code { user: row.get(0)?, redirect_uri: row.get(1)?, challenge: row.get(2)? }),
        )
        .optional()?)
}
