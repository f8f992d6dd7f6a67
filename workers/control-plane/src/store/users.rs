//! `users`: people of the deployment.

use oi_protocol::UnixMillis;
use serde::Deserialize;

use super::{Database, DbError, Statement, params};

/// What another service says about a person.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Profile {
    /// The name to show.
    pub display_name: Option<String>,
    /// E-mail that the service vouches for.
    pub verified_email: Option<String>,
    /// URL of a picture.
    pub avatar_url: Option<String>,
}

/// Who has this verified e-mail, in any case.
pub async fn by_verified_email(db: &impl Database, email: &str) -> Result<Option<String>, DbError> {
    #[derive(Deserialize)]
    struct Row {
        id: String,
    }
    let row: Option<Row> =
        db.row("SELECT id FROM users WHERE email = ? COLLATE NOCASE AND email_verified = 1", params![email]).await?;
    Ok(row.map(|row| row.id))
}

/// Adds a person. An e-mail that another person has is left out.
pub(crate) fn insert(id: &str, profile: &Profile, now: UnixMillis) -> Statement {
    (
        "INSERT INTO users (id, display_name, email, email_verified, avatar_url, created_at, updated_at)
         SELECT ?1, ?2,
            CASE WHEN EXISTS (SELECT 1 FROM users WHERE email = ?3 COLLATE NOCASE) THEN NULL ELSE ?3 END,
            CASE WHEN ?3 IS NULL OR EXISTS (SELECT 1 FROM users WHERE email = ?3 COLLATE NOCASE) THEN 0 ELSE 1 END,
            ?4, ?5, ?5",
        params![id, profile.display_name.clone(), profile.verified_email.clone(), profile.avatar_url.clone(), now.0],
    )
}

/// Takes over what a sign-in says anew. An e-mail is only filled in, never changed, and never taken from another.
pub(crate) fn refresh(id: &str, profile: &Profile, now: UnixMillis) -> Statement {
    (
        "UPDATE users SET
            display_name = COALESCE(?2, display_name),
            avatar_url = COALESCE(?4, avatar_url),
            email_verified = CASE WHEN email = ?3 COLLATE NOCASE THEN 1
                WHEN email IS NULL AND ?3 IS NOT NULL
                    AND NOT EXISTS (SELECT 1 FROM users WHERE email = ?3 COLLATE NOCASE) THEN 1
                ELSE email_verified END,
            email = CASE WHEN email IS NULL
                AND NOT EXISTS (SELECT 1 FROM users WHERE email = ?3 COLLATE NOCASE) THEN ?3 ELSE email END,
            updated_at = ?5
         WHERE id = ?1",
        params![id, profile.display_name.clone(), profile.verified_email.clone(), profile.avatar_url.clone(), now.0],
    )
}
