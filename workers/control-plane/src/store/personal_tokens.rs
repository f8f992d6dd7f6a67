//! `personal_tokens`: tokens of people's own scripts. A token is shown once; only its hash is stored.

use oi_protocol::UnixMillis;
use oi_protocol::identity::{PersonalToken, TokenScope};
use serde::Deserialize;

use super::admissions::facts_of_u;
use super::browser_sessions::SignedIn;
use super::{Database, DbError, Statement, params};

/// Tokens of one person that live at once.
pub const LIVE_MAX: i64 = 50;
/// How exactly the last use is known, in ms.
const LAST_USED_STEP_MS: i64 = 900_000;
/// A token that has ended is shown for this long, in ms.
const SHOWN_AFTER_MS: i64 = 90 * 86_400_000;

/// A token about to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct New<'a> {
    /// Names it in the API.
    pub id: &'a str,
    /// Whose.
    pub user_id: &'a str,
    /// As its owner calls it.
    pub name: &'a str,
    /// SHA-256 of the token, as hex.
    pub token_hash: &'a str,
    /// What it may be used for.
    pub scopes: &'a [TokenScope],
    /// When it ends.
    pub expires_at: UnixMillis,
}

fn words(scopes: &[TokenScope]) -> String {
    scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" ")
}

/// Words that a newer release wrote are no scope of ours.
fn scopes_of(words: &str) -> Vec<TokenScope> {
    words.split(' ').filter_map(TokenScope::parse).collect()
}

/// Makes a token, unless its owner has too many: then nothing is changed.
pub fn make(new: &New<'_>, now: UnixMillis) -> Statement {
    (
        "INSERT INTO personal_tokens (id, user_id, name, token_hash, scopes, created_at, expires_at)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE (SELECT COUNT(*) FROM personal_tokens
            WHERE user_id = ?2 AND revoked_at IS NULL AND expires_at > ?6) < ?8",
        params![new.id, new.user_id, new.name, new.token_hash, words(new.scopes), now.0, new.expires_at.0, LIVE_MAX],
    )
}

/// Revokes a token of a person's. One that is revoked or has ended stays as it is.
pub fn revoke(user_id: &str, id: &str, now: UnixMillis) -> Statement {
    (
        "UPDATE personal_tokens SET revoked_at = ?3 WHERE id = ?1 AND user_id = ?2 AND revoked_at IS NULL
            AND expires_at > ?3",
        params![id, user_id, now.0],
    )
}

/// Revokes all tokens of a person.
pub fn revoke_all(user_id: &str, now: UnixMillis) -> Statement {
    ("UPDATE personal_tokens SET revoked_at = ?2 WHERE user_id = ?1 AND revoked_at IS NULL", params![user_id, now.0])
}

/// A token that lives, with its owner.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Live {
    /// The owner. Where this speaks of a session, it is the token.
    #[serde(flatten)]
    pub owner: SignedIn,
    /// What is known of the owner's accounts.
    pub facts: String,
    scopes: String,
    last_used_at: Option<i64>,
}

impl Live {
    /// What it may be used for.
    pub fn scopes(&self) -> Vec<TokenScope> {
        scopes_of(&self.scopes)
    }
}

/// The token of a hash, unless it has ended or was revoked.
pub async fn find(db: &impl Database, token_hash: &str, now: UnixMillis) -> Result<Option<Live>, DbError> {
    db.row(
        concat!(
            "SELECT t.id AS session_id, t.created_at AS session_created_at, t.created_at AS session_updated_at,
                t.expires_at AS session_expires_at, t.scopes, t.last_used_at, u.id AS user_id, u.display_name, u.email,
                u.email_verified, u.avatar_url, u.role, u.created_at AS user_created_at,
                u.updated_at AS user_updated_at, i.provider_user_id AS scm_user_id, i.provider_login AS scm_login, ",
            facts_of_u!(),
            " FROM personal_tokens t JOIN users u ON u.id = t.user_id
             LEFT JOIN user_identities i ON i.user_id = u.id AND i.provider = 'github'
             WHERE t.token_hash = ? AND t.revoked_at IS NULL AND t.expires_at > ? ORDER BY i.created_at LIMIT 1"
        ),
        params![token_hash, now.0],
    )
    .await
}

/// Notes that a token was used, when that was not noted lately.
pub async fn note_use(db: &impl Database, token: &Live, now: UnixMillis) -> Result<(), DbError> {
    if token.last_used_at.is_some_and(|at| now.0 - at < LAST_USED_STEP_MS) {
        return Ok(());
    }
    db.change(
        "UPDATE personal_tokens SET last_used_at = ? WHERE id = ?",
        params![now.0, token.owner.session_id.as_str()],
    )
    .await
    .map(|_| ())
}

#[derive(Deserialize)]
struct Row {
    id: String,
    name: String,
    scopes: String,
    created_at: i64,
    expires_at: i64,
    last_used_at: Option<i64>,
    revoked_at: Option<i64>,
}

/// Tokens of a person, the newest first, from below a time and id on.
pub async fn list(
    db: &impl Database,
    user_id: &str,
    below: Option<(i64, String)>,
    limit: i64,
) -> Result<Vec<PersonalToken>, DbError> {
    let (at, id) = below.unwrap_or((i64::MAX >> 11, String::new()));
    let rows: Vec<Row> = db
        .rows(
            "SELECT id, name, scopes, created_at, expires_at, last_used_at, revoked_at FROM personal_tokens
             WHERE user_id = ?1 AND (created_at, id) < (?2, ?3) ORDER BY created_at DESC, id DESC LIMIT ?4",
            params![user_id, at, id, limit],
        )
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| PersonalToken {
            id: row.id,
            name: row.name,
            scopes: scopes_of(&row.scopes),
            created_at: UnixMillis(row.created_at),
            expires_at: UnixMillis(row.expires_at),
            last_used_at: row.last_used_at.map(UnixMillis),
            revoked_at: row.revoked_at.map(UnixMillis),
        })
        .collect())
}

/// Forgets tokens that ended long ago.
pub async fn sweep(db: &impl Database, now: UnixMillis) -> Result<u64, DbError> {
    db.change("DELETE FROM personal_tokens WHERE expires_at <= ?", params![now.plus(-SHOWN_AFTER_MS).0]).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::native::Native;
    use crate::store::user_identities::{Account, find_or_create};
    use crate::store::users::Profile;
    use futures_executor::block_on;

    fn with_people() -> Native {
        let db = Native::new();
        for (user, identity, number) in [("u1", "i1", "7"), ("u2", "i2", "8")] {
            let account = Account { provider: "github", provider_user_id: number, login: Some("ada"), email: None };
            let ids = (user, identity);
            block_on(find_or_create(&db, &account, &Profile::default(), ids, UnixMillis(0))).expect("runs");
        }
        db
    }

    fn new<'a>(id: &'a str, user_id: &'a str, hash: &'a str, ends: i64) -> New<'a> {
        let scopes = &[TokenScope::Read, TokenScope::Sessions];
        New { id, user_id, name: "ci", token_hash: hash, scopes, expires_at: UnixMillis(ends) }
    }

    fn run(db: &Native, statement: Statement) -> u64 {
        block_on(db.batch(vec![statement])).expect("runs")[0]
    }

    fn lives(db: &Native, hash: &str, now: i64) -> Option<Live> {
        block_on(find(db, hash, UnixMillis(now))).expect("runs")
    }

    #[test]
    fn a_token_lives_until_it_ends_or_is_revoked_by_its_owner() {
        let db = with_people();
        run(&db, make(&new("t1", "u1", "h1", 1000), UnixMillis(0)));
        let live = lives(&db, "h1", 999).expect("lives");
        assert_eq!((live.owner.user_id.as_str(), live.owner.scm_user_id.as_deref()), ("u1", Some("7")));
        assert_eq!(live.scopes(), [TokenScope::Read, TokenScope::Sessions]);
        assert_eq!(lives(&db, "h1", 1000), None, "it has ended");
        assert_eq!(lives(&db, "h2", 1), None, "nobody made it");
        assert_eq!(run(&db, revoke("u2", "t1", UnixMillis(5))), 0, "it is another's");
        assert_eq!(run(&db, revoke("u1", "t1", UnixMillis(5))), 1);
        assert_eq!(run(&db, revoke("u1", "t1", UnixMillis(6))), 0, "once");
        assert_eq!(lives(&db, "h1", 7), None);
        run(&db, make(&new("t2", "u1", "h2", 1000), UnixMillis(0)));
        run(&db, make(&new("t3", "u2", "h3", 1000), UnixMillis(0)));
        assert_eq!(run(&db, revoke_all("u1", UnixMillis(8))), 1);
        assert_eq!((lives(&db, "h2", 9).is_some(), lives(&db, "h3", 9).is_some()), (false, true));
    }

    #[test]
    fn a_person_has_so_many_tokens_and_no_more() {
        let db = with_people();
        for number in 0..=LIVE_MAX {
            let (id, hash) = (format!("t{number}"), format!("h{number}"));
            let made = run(&db, make(&new(&id, "u1", &hash, 1000), UnixMillis(0)));
            assert_eq!(made, u64::from(number < LIVE_MAX), "{number}");
        }
        assert_eq!(run(&db, make(&new("x", "u2", "hx", 1000), UnixMillis(0))), 1, "another's do not count");
        assert_eq!(run(&db, make(&new("y", "u1", "hy", 2000), UnixMillis(1000))), 1, "nor those that have ended");
    }

    #[test]
    fn the_last_use_is_known_coarsely() {
        let db = with_people();
        run(&db, make(&new("t1", "u1", "h1", i64::MAX >> 12), UnixMillis(0)));
        let used = |now: i64| {
            let live = lives(&db, "h1", now).expect("lives");
            block_on(note_use(&db, &live, UnixMillis(now))).expect("runs");
            block_on(list(&db, "u1", None, 10)).expect("runs")[0].last_used_at.map(|at| at.0)
        };
        assert_eq!(used(10), Some(10));
        assert_eq!(used(LAST_USED_STEP_MS), Some(10));
        assert_eq!(used(LAST_USED_STEP_MS + 10), Some(LAST_USED_STEP_MS + 10));
    }

    #[test]
    fn tokens_are_listed_in_pages_newest_first() {
        let db = with_people();
        for (id, hash, at) in [("a", "h1", 5), ("b", "h2", 5), ("c", "h3", 9)] {
            run(&db, make(&new(id, "u1", hash, 1000), UnixMillis(at)));
        }
        let page = |below| {
            let tokens = block_on(list(&db, "u1", below, 2)).expect("runs");
            tokens.into_iter().map(|token| token.id).collect::<Vec<_>>()
        };
        assert_eq!(page(None), ["c", "b"]);
        assert_eq!(page(Some((5, "b".to_owned()))), ["a"]);
        assert_eq!(block_on(list(&db, "u2", None, 2)), Ok(vec![]));
        assert_eq!(block_on(sweep(&db, UnixMillis(1000 + SHOWN_AFTER_MS))), Ok(3));
    }
}
