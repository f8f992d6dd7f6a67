//! `browser_sessions`: sign-ins of browsers.

use oi_protocol::UnixMillis;
use oi_protocol::identity::Role;
use serde::Deserialize;

use super::admissions::facts_of_u;
use super::{Database, DbError, Statement, params};

/// A browser session with its person and their account at the forge.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SignedIn {
    /// The session's own id.
    pub session_id: String,
    /// When it began.
    pub session_created_at: i64,
    /// When it was last prolonged.
    pub session_updated_at: i64,
    /// When it ends.
    pub session_expires_at: i64,
    /// The person.
    pub user_id: String,
    /// The name to show.
    pub display_name: Option<String>,
    /// E-mail.
    pub email: Option<String>,
    /// 1 when the e-mail is known to be theirs.
    pub email_verified: i64,
    /// URL of a picture.
    pub avatar_url: Option<String>,
    /// What they may do.
    pub role: Role,
    /// Numeric id at the forge.
    pub scm_user_id: Option<String>,
    /// Login at the forge.
    pub scm_login: Option<String>,
    /// When the person was first seen.
    pub user_created_at: i64,
    /// When something of the person changed.
    pub user_updated_at: i64,
}

/// A session that lasts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Live {
    /// With its person.
    #[serde(flatten)]
    pub person: SignedIn,
    /// What is known of the person's accounts.
    pub facts: String,
}

/// The session of a cookie's token, unless it has ended.
pub async fn find(db: &impl Database, token_hash: &str, now: UnixMillis) -> Result<Option<Live>, DbError> {
    db.row(
        concat!(
            "SELECT s.id AS session_id, s.created_at AS session_created_at, s.updated_at AS session_updated_at,
            s.expires_at AS session_expires_at, u.id AS user_id, u.display_name, u.email, u.email_verified,
            u.avatar_url, u.role, u.created_at AS user_created_at, u.updated_at AS user_updated_at,
            i.provider_user_id AS scm_user_id, i.provider_login AS scm_login, ",
            facts_of_u!(),
            " FROM browser_sessions s JOIN users u ON u.id = s.user_id
         LEFT JOIN user_identities i ON i.user_id = u.id AND i.provider = 'github'
         WHERE s.token_hash = ? AND s.expires_at > ? ORDER BY i.created_at LIMIT 1"
        ),
        params![token_hash, now.0],
    )
    .await
}

/// Begins a session.
pub fn begin(
    id: &str,
    token_hash: &str,
    user_id: &str,
    user_agent: Option<&str>,
    (now, expires_at): (UnixMillis, UnixMillis),
) -> Statement {
    (
        "INSERT INTO browser_sessions (id, token_hash, user_id, user_agent, created_at, updated_at, expires_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6)",
        params![id, token_hash, user_id, user_agent, now.0, expires_at.0],
    )
}

/// Prolongs a session that has not ended.
pub async fn prolong(db: &impl Database, id: &str, (now, expires_at): (UnixMillis, UnixMillis)) -> Result<(), DbError> {
    db.change(
        "UPDATE browser_sessions SET updated_at = ?2, expires_at = ?3 WHERE id = ?1 AND expires_at > ?2",
        params![id, now.0, expires_at.0],
    )
    .await
    .map(|_| ())
}

/// Ends a session.
pub async fn end(db: &impl Database, token_hash: &str) -> Result<(), DbError> {
    db.change("DELETE FROM browser_sessions WHERE token_hash = ?", params![token_hash]).await.map(|_| ())
}

/// Ends all sessions of a person.
pub fn end_all(user_id: &str) -> Statement {
    ("DELETE FROM browser_sessions WHERE user_id = ?", params![user_id])
}

/// Forgets sessions that have ended.
pub async fn sweep(db: &impl Database, now: UnixMillis) -> Result<u64, DbError> {
    db.change("DELETE FROM browser_sessions WHERE expires_at <= ?", params![now.0]).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::native::Native;
    use crate::store::user_identities::{Account, find_or_create};
    use crate::store::users::Profile;
    use futures_executor::block_on;

    #[test]
    fn a_session_lasts_until_it_ends_or_is_ended() {
        let db = Native::new();
        let account = Account { provider: "github", provider_user_id: "7", login: Some("ada"), email: None };
        block_on(find_or_create(&db, &account, &Profile::default(), ("u1", "i1"), UnixMillis(0))).expect("runs");
        let times = (UnixMillis(0), UnixMillis(100));
        let run = |statement| block_on(db.batch(vec![statement])).expect("runs");
        run(begin("s1", "hash", "u1", Some("agent"), times));
        let find_at = |now| block_on(find(&db, "hash", UnixMillis(now))).expect("runs").map(|live| live.person);
        let found = find_at(99).expect("lasts");
        assert_eq!((found.user_id.as_str(), found.scm_user_id.as_deref()), ("u1", Some("7")));
        assert_eq!(find_at(100), None);
        block_on(prolong(&db, "s1", (UnixMillis(50), UnixMillis(200)))).expect("runs");
        assert_eq!(find_at(150).map(|s| s.session_expires_at), Some(200));
        block_on(prolong(&db, "s1", (UnixMillis(201), UnixMillis(300)))).expect("runs");
        assert_eq!(find_at(250), None, "what has ended is not prolonged");
        block_on(end(&db, "hash")).expect("runs");
        assert_eq!(find_at(150), None);
        block_on(find_or_create(
            &db,
            &Account { provider_user_id: "8", ..account },
            &Profile::default(),
            ("u2", "i2"),
            UnixMillis(0),
        ))
        .expect("runs");
        for (id, hash, user) in [("s2", "hash", "u1"), ("s3", "other", "u1"), ("s4", "theirs", "u2")] {
            run(begin(id, hash, user, None, times));
        }
        run(end_all("u1"));
        let left =
            ["hash", "other", "theirs"].map(|hash| block_on(find(&db, hash, UnixMillis(1))).expect("runs").is_some());
        assert_eq!(left, [false, false, true]);
    }
}
