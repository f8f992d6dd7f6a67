//! `users`: people of the deployment.

use oi_protocol::UnixMillis;
use oi_protocol::identity::{PersonInfo, Role};
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

#[derive(Deserialize)]
struct Row {
    id: String,
    display_name: Option<String>,
    email: Option<String>,
    avatar_url: Option<String>,
    scm_login: Option<String>,
    role: Role,
    created_at: i64,
}

impl From<Row> for PersonInfo {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            display_name: row.display_name,
            email: row.email,
            avatar_url: row.avatar_url,
            scm_login: row.scm_login,
            role: row.role,
            created_at: UnixMillis(row.created_at),
        }
    }
}

macro_rules! person_where {
    ($condition:literal) => {
        concat!(
            "SELECT u.id, u.display_name, u.email, u.avatar_url, u.role, u.created_at,
                (SELECT i.provider_login FROM user_identities i WHERE i.user_id = u.id AND i.provider = 'github'
                    ORDER BY i.created_at LIMIT 1) AS scm_login FROM users u WHERE ",
            $condition
        )
    };
}

/// People by id, from above one on.
pub async fn list(db: &impl Database, above: &str, limit: i64) -> Result<Vec<PersonInfo>, DbError> {
    let rows: Vec<Row> = db.rows(person_where!("u.id > ? ORDER BY u.id LIMIT ?"), params![above, limit]).await?;
    Ok(rows.into_iter().map(PersonInfo::from).collect())
}

/// One person.
pub async fn get(db: &impl Database, id: &str) -> Result<Option<PersonInfo>, DbError> {
    Ok(db.row::<Row>(person_where!("u.id = ?"), params![id]).await?.map(PersonInfo::from))
}

/// How somebody is shown.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Shown {
    /// Who.
    pub id: String,
    /// The name to show.
    pub display_name: Option<String>,
    /// URL of a picture.
    pub avatar_url: Option<String>,
}

/// How these are shown. Who is not known is left out.
pub async fn profiles(db: &impl Database, ids: &[String]) -> Result<Vec<Shown>, DbError> {
    db.rows(
        "SELECT id, display_name, avatar_url FROM users WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id",
        params![serde_json::json!(ids).to_string()],
    )
    .await
}

/// Makes a member an admin.
pub fn promote(id: &str, now: UnixMillis) -> Statement {
    ("UPDATE users SET role = 'admin', updated_at = ?2 WHERE id = ?1 AND role <> 'admin'", params![id, now.0])
}

/// Makes an admin a member, unless there would be no admin left.
pub fn demote(id: &str, now: UnixMillis) -> Statement {
    (
        "UPDATE users SET role = 'member', updated_at = ?2 WHERE id = ?1 AND role = 'admin'
            AND EXISTS (SELECT 1 FROM users WHERE role = 'admin' AND id <> ?1)",
        params![id, now.0],
    )
}

/// Makes an admin who is not let in any more a member, whoever is left.
pub fn dismiss(id: &str, now: UnixMillis) -> Statement {
    ("UPDATE users SET role = 'member', updated_at = ?2 WHERE id = ?1 AND role = 'admin'", params![id, now.0])
}

/// Notes that the lists do not have them any more.
pub fn shut_out(id: &str, now: UnixMillis) -> Statement {
    ("UPDATE users SET shut_out_at = ?2 WHERE id = ?1", params![id, now.0])
}

/// Notes that the lists have them.
pub fn let_in(id: &str) -> Statement {
    ("UPDATE users SET shut_out_at = NULL WHERE id = ?1", params![id])
}

/// Whether the lists had them once and do not have them any more.
pub async fn is_shut_out(db: &impl Database, id: &str) -> Result<bool, DbError> {
    #[derive(Deserialize)]
    struct One {}
    let row: Option<One> =
        db.row("SELECT 1 AS one FROM users WHERE id = ? AND shut_out_at IS NOT NULL", params![id]).await?;
    Ok(row.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::native::Native;
    use futures_executor::block_on;

    fn run(db: &Native, statement: Statement) -> u64 {
        block_on(db.batch(vec![statement])).expect("runs")[0]
    }

    #[test]
    fn the_last_admin_stays_one() {
        let db = Native::new();
        let now = UnixMillis(1);
        for id in ["u1", "u2", "u3"] {
            run(&db, insert(id, &Profile::default(), now));
        }
        let role = |id: &str| block_on(get(&db, id)).expect("runs").expect("is there").role;
        assert_eq!(role("u1"), Role::Member, "nobody is born an admin");
        assert_eq!((run(&db, promote("u1", now)), run(&db, promote("u1", now))), (1, 0));
        assert_eq!(run(&db, demote("u1", now)), 0, "the last one");
        assert_eq!(run(&db, demote("u2", now)), 0, "no admin");
        run(&db, promote("u2", now));
        assert_eq!((run(&db, demote("u1", now)), role("u1")), (1, Role::Member));
        assert_eq!(run(&db, demote("u2", now)), 0, "now this is the last one");
        assert_eq!((run(&db, dismiss("u2", now)), role("u2")), (1, Role::Member));
    }

    #[test]
    fn people_are_listed_in_pages() {
        let db = Native::new();
        for id in ["b", "a", "c"] {
            run(&db, insert(id, &Profile::default(), UnixMillis(1)));
        }
        let page = |above| {
            let people = block_on(list(&db, above, 2)).expect("runs");
            people.into_iter().map(|person| person.id).collect::<Vec<_>>()
        };
        assert_eq!((page(""), page("b")), (vec!["a".to_owned(), "b".to_owned()], vec!["c".to_owned()]));
        assert_eq!(block_on(get(&db, "d")), Ok(None));
    }
}
