//! `admissions`: what sign-in providers last said of people's accounts, so that the lists of the deployment can be asked
//! again at every request, and the providers now and then.

use std::collections::BTreeMap;

use oi_protocol::UnixMillis;
use serde::{Deserialize, Serialize};

use super::{Database, DbError, Statement, params};

/// Accounts that are looked at in one go.
const BATCH: i64 = 20;
/// An account that is being asked about is left alone for this long, in ms.
const LEASE_MS: i64 = 300_000;

/// What a provider said of an account.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// Login, where the provider has such.
    pub login: Option<String>,
    /// Verified e-mails, in lower case.
    pub emails: Vec<String>,
    /// Organizations that were asked for; true for an active member.
    pub organizations: BTreeMap<String, bool>,
    /// When it said so.
    pub checked_at: i64,
}

/// The facts of a person's accounts as one column, in a query that calls the person `u`.
macro_rules! facts_of_u {
    () => {
        "(SELECT json_group_array(json_object('login', a.login, 'emails', json(a.emails),
            'organizations', json(a.organizations), 'checkedAt', a.checked_at))
            FROM admissions a WHERE a.user_id = u.id) AS facts"
    };
}
pub(crate) use facts_of_u;

/// Reads that column. What cannot be read says nothing of anybody.
pub fn read(facts: &str) -> Vec<Facts> {
    serde_json::from_str(facts).unwrap_or_default()
}

fn json(value: &impl Serialize) -> String {
    // Lists and maps of texts are always JSON.
    serde_json::to_string(value).unwrap_or_default()
}

/// Takes over what a provider says.
pub fn store(identity_id: &str, user_id: &str, facts: &Facts, lists: &str, due_at: UnixMillis) -> Statement {
    (
        "INSERT INTO admissions (identity_id, user_id, login, emails, organizations, lists, checked_at, due_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (identity_id) DO UPDATE SET user_id = excluded.user_id,
            login = excluded.login, emails = excluded.emails, organizations = excluded.organizations,
            lists = excluded.lists, checked_at = excluded.checked_at, due_at = excluded.due_at",
        params![
            identity_id,
            user_id,
            facts.login.clone(),
            json(&facts.emails),
            json(&facts.organizations),
            lists,
            facts.checked_at,
            due_at.0,
        ],
    )
}

/// Forgets what is known of a person's accounts: they sign in again before they are let in.
pub fn forget(user_id: &str) -> Statement {
    ("DELETE FROM admissions WHERE user_id = ?", params![user_id])
}

/// Forgets what is known of one account.
pub fn forget_account(identity_id: &str) -> Statement {
    ("DELETE FROM admissions WHERE identity_id = ?", params![identity_id])
}

/// Asks about a person's accounts as soon as possible.
pub async fn hurry(db: &impl Database, user_id: &str, now: UnixMillis) -> Result<(), DbError> {
    // One that is being asked about is left alone: its lease is shorter than any pause.
    db.change(
        "UPDATE admissions SET due_at = ?2 WHERE user_id = ?1 AND due_at > ?3",
        params![user_id, now.0, now.plus(LEASE_MS).0],
    )
    .await
    .map(|_| ())
}

/// An account that is to be asked about.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Due {
    /// The account's row.
    pub identity_id: String,
    /// The person.
    pub user_id: String,
    /// `github` or `google`
    pub provider: String,
    /// The provider's id.
    pub provider_user_id: String,
    /// 1 when a browser session, a page or a token of the person's lives.
    pub is_in_use: i64,
}

/// Accounts whose provider is to be asked, the longest waiting first; each is left alone for five minutes.
pub async fn take_due(db: &impl Database, now: UnixMillis) -> Result<Vec<Due>, DbError> {
    let due: Vec<Due> = db
        .rows(
            "SELECT a.identity_id, a.user_id, i.provider, i.provider_user_id,
                (EXISTS (SELECT 1 FROM browser_sessions s WHERE s.user_id = a.user_id AND s.expires_at > ?1)
                 OR EXISTS (SELECT 1 FROM session_pages p WHERE p.user_id = a.user_id AND p.token_ends_at > ?1)
                 OR EXISTS (SELECT 1 FROM personal_tokens t WHERE t.user_id = a.user_id AND t.revoked_at IS NULL
                    AND t.expires_at > ?1)) AS is_in_use
             FROM admissions a JOIN user_identities i ON i.id = a.identity_id
             WHERE a.due_at <= ?1 ORDER BY a.due_at LIMIT ?2",
            params![now.0, BATCH],
        )
        .await?;
    let mut taken = Vec::new();
    for one in due {
        let lease = params![one.identity_id.as_str(), now.0, now.plus(LEASE_MS).0];
        let claimed =
            db.change("UPDATE admissions SET due_at = ?3 WHERE identity_id = ?1 AND due_at <= ?2", lease).await?;
        if claimed == 1 {
            taken.push(one);
        }
    }
    Ok(taken)
}

/// When the account is asked about next.
pub async fn put_off(db: &impl Database, identity_id: &str, due_at: UnixMillis) -> Result<(), DbError> {
    db.change("UPDATE admissions SET due_at = ?2 WHERE identity_id = ?1", params![identity_id, due_at.0])
        .await
        .map(|_| ())
}

/// A person with what is known of them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Known {
    /// The person.
    pub user_id: String,
    /// For [`read`].
    pub facts: String,
}

/// What is known of one person.
pub async fn of_person(db: &impl Database, user_id: &str) -> Result<Vec<Facts>, DbError> {
    let known: Option<Known> = db
        .row(concat!("SELECT u.id AS user_id, ", facts_of_u!(), " FROM users u WHERE u.id = ?"), params![user_id])
        .await?;
    Ok(known.map(|known| read(&known.facts)).unwrap_or_default())
}

/// People who were last held against other lists than these.
pub async fn of_other_lists(db: &impl Database, lists: &str) -> Result<Vec<Known>, DbError> {
    db.rows(
        concat!(
            "SELECT u.id AS user_id, ",
            facts_of_u!(),
            " FROM users u WHERE u.id IN
                (SELECT user_id FROM admissions WHERE lists < ?1 UNION SELECT user_id FROM admissions WHERE lists > ?1)
             LIMIT 100"
        ),
        params![lists],
    )
    .await
}

/// A person was held against these lists.
pub fn held_against(user_id: &str, lists: &str) -> Statement {
    ("UPDATE admissions SET lists = ?2 WHERE user_id = ?1", params![user_id, lists])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::native::Native;
    use crate::store::user_identities::{Account, find_or_create};
    use crate::store::users::Profile;
    use futures_executor::block_on;

    fn person(db: &Native, number: &str) -> (String, String) {
        let (user, identity) = (format!("u{number}"), format!("i{number}"));
        let account = Account { provider: "github", provider_user_id: number, login: Some("ada"), email: None };
        let ids = (user.as_str(), identity.as_str());
        block_on(find_or_create(db, &account, &Profile::default(), ids, UnixMillis(0))).expect("runs");
        (user, identity)
    }

    fn facts(checked_at: i64) -> Facts {
        Facts {
            login: Some("ada".to_owned()),
            emails: vec!["ada@x.org".to_owned()],
            organizations: BTreeMap::from([("acme".to_owned(), true)]),
            checked_at,
        }
    }

    fn set(db: &Native, (user, identity): &(String, String), facts: &Facts, lists: &str, due: i64) {
        block_on(db.batch(vec![store(identity, user, facts, lists, UnixMillis(due))])).expect("runs");
    }

    #[test]
    fn what_a_provider_says_replaces_what_it_said_before() {
        let db = Native::new();
        let ada = person(&db, "1");
        set(&db, &ada, &facts(5), "l1", 100);
        set(&db, &ada, &facts(6), "l1", 100);
        assert_eq!(block_on(of_person(&db, "u1")), Ok(vec![facts(6)]));
        block_on(db.batch(vec![forget("u1")])).expect("runs");
        assert_eq!(block_on(of_person(&db, "u1")), Ok(vec![]));
        assert_eq!(read("nonsense"), []);
    }

    #[test]
    fn an_account_is_asked_about_by_one_at_a_time_and_when_it_is_due() {
        let db = Native::new();
        let ada = person(&db, "1");
        set(&db, &ada, &facts(0), "l1", 1_000_000);
        let taken = |now| {
            let due = block_on(take_due(&db, UnixMillis(now))).expect("runs");
            due.into_iter().map(|due| (due.user_id, due.is_in_use)).collect::<Vec<_>>()
        };
        assert_eq!(taken(999_999), []);
        assert_eq!(taken(1_000_000), [("u1".to_owned(), 0)]);
        assert_eq!(taken(1_000_001), [], "another has it");
        assert_eq!(taken(1_000_000 + LEASE_MS).len(), 1, "it was left behind");
        block_on(put_off(&db, "i1", UnixMillis(9_000_000))).expect("runs");
        block_on(hurry(&db, "u1", UnixMillis(2_000_000))).expect("runs");
        assert_eq!(taken(2_000_000).len(), 1);
    }

    #[test]
    fn people_are_held_against_new_lists_once() {
        let db = Native::new();
        for number in ["1", "2"] {
            let who = person(&db, number);
            set(&db, &who, &facts(0), "l1", 100);
        }
        assert_eq!(block_on(of_other_lists(&db, "l1")), Ok(vec![]));
        assert_eq!(block_on(of_other_lists(&db, "l2")).map(|known| known.len()), Ok(2));
        block_on(db.batch(vec![held_against("u1", "l2")])).expect("runs");
        let left = block_on(of_other_lists(&db, "l2")).expect("runs");
        assert_eq!(left.iter().map(|known| known.user_id.as_str()).collect::<Vec<_>>(), ["u2"]);
    }
}
