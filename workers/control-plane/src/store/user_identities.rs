//! `user_identities`: accounts of people elsewhere, and their tokens.

use oi_protocol::UnixMillis;
use serde::Deserialize;

use super::users::{self, Profile};
use super::{Database, DbError, Statement, params};

/// An account elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account<'a> {
    /// `github`, `google`, `slack`, `linear`
    pub provider: &'a str,
    /// The provider's id, which never changes.
    pub provider_user_id: &'a str,
    /// The provider's name for it, which may.
    pub login: Option<&'a str>,
    /// The provider's e-mail for it.
    pub email: Option<&'a str>,
}

/// Which person an account is, and its row.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Identity {
    /// The row.
    pub id: String,
    /// The person.
    pub user_id: String,
}

/// The person of an account, when it was seen before.
pub async fn find(db: &impl Database, provider: &str, provider_user_id: &str) -> Result<Option<Identity>, DbError> {
    db.row(
        "SELECT id, user_id FROM user_identities WHERE provider = ? AND provider_user_id = ?",
        params![provider, provider_user_id],
    )
    .await
}

/// Finds the person of an account, or adds one; what is newly known is taken over.
///
/// An account that was not seen before joins the person who has the same *verified* e-mail; an identity never moves
/// from one person to another. `new_ids` are used when something is added. Two calls at once end in one person.
pub async fn find_or_create(
    db: &impl Database,
    account: &Account<'_>,
    profile: &Profile,
    new_ids: (&str, &str),
    now: UnixMillis,
) -> Result<Identity, DbError> {
    let (new_user, new_identity) = new_ids;
    if let Some(identity) = find(db, account.provider, account.provider_user_id).await? {
        let login = (
            "UPDATE user_identities SET provider_login = COALESCE(?, provider_login),
                provider_email = COALESCE(?, provider_email), updated_at = ? WHERE id = ?",
            params![account.login, account.email, now.0, identity.id.as_str()],
        );
        db.batch(vec![users::refresh(&identity.user_id, profile, now), login]).await?;
        return Ok(identity);
    }
    let known = match &profile.verified_email {
        Some(email) => users::by_verified_email(db, email).await?,
        None => None,
    };
    let link = (
        "INSERT INTO user_identities (id, user_id, provider, provider_user_id, provider_login, provider_email,
            created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?7, ?7)",
        params![
            new_identity,
            known.as_deref().unwrap_or(new_user),
            account.provider,
            account.provider_user_id,
            account.login,
            account.email,
            now.0,
        ],
    );
    let statements = match &known {
        Some(_) => vec![link],
        None => vec![users::insert(new_user, profile, now), link],
    };
    match db.batch(statements).await {
        Ok(_) => {
            let user_id = known.unwrap_or_else(|| new_user.to_owned());
            Ok(Identity { id: new_identity.to_owned(), user_id })
        }
        // Another request added it meanwhile: the batch left nothing behind, and the row is there.
        Err(error) => find(db, account.provider, account.provider_user_id).await?.ok_or(error),
    }
}

/// Tokens of an account, sealed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SealedTokens {
    /// The row.
    pub id: String,
    /// The access token.
    pub access_token: Option<String>,
    /// When it ends; never when absent.
    pub access_token_expires_at: Option<i64>,
    /// The refresh token.
    pub refresh_token: Option<String>,
}

/// The sealed tokens of a person's account with a provider.
pub async fn tokens(db: &impl Database, user_id: &str, provider: &str) -> Result<Option<SealedTokens>, DbError> {
    let rows: Vec<SealedTokens> = db
        .rows(
            "SELECT id, access_token, access_token_expires_at, refresh_token FROM user_identities
             WHERE user_id = ? AND provider = ? LIMIT 2",
            params![user_id, provider],
        )
        .await?;
    // With two accounts it is not known which is meant, so neither is used.
    Ok(if rows.len() == 1 { rows.into_iter().next() } else { None })
}

/// The sealed refresh token of an account.
pub async fn sealed_refresh_token(db: &impl Database, identity: &Identity) -> Result<Option<String>, DbError> {
    #[derive(Deserialize)]
    struct Row {
        refresh_token: Option<String>,
    }
    let row: Option<Row> =
        db.row("SELECT refresh_token FROM user_identities WHERE id = ?", params![identity.id.as_str()]).await?;
    Ok(row.and_then(|row| row.refresh_token))
}

/// Forgets the tokens of an account.
pub fn forget_tokens(id: &str) -> Statement {
    (
        "UPDATE user_identities SET access_token = NULL, access_token_expires_at = NULL, refresh_token = NULL
         WHERE id = ?",
        params![id],
    )
}

/// Whether a person has several accounts with a provider.
pub async fn has_several(db: &impl Database, user_id: &str, provider: &str) -> Result<bool, DbError> {
    let rows: Vec<Identity> = db
        .rows(
            "SELECT id, user_id FROM user_identities WHERE user_id = ? AND provider = ? LIMIT 2",
            params![user_id, provider],
        )
        .await?;
    Ok(rows.len() > 1)
}

/// Stores new tokens. With `replaces`, only when the stored refresh token is still that one: `false` when another
/// request was first.
pub async fn set_tokens(
    db: &impl Database,
    tokens: &SealedTokens,
    replaces: Option<&str>,
    now: UnixMillis,
) -> Result<bool, DbError> {
    let changed = db
        .change(
            "UPDATE user_identities SET access_token = ?, access_token_expires_at = ?, refresh_token = ?,
                updated_at = ? WHERE id = ? AND (?6 IS NULL OR refresh_token = ?6)",
            params![
                tokens.access_token.clone(),
                tokens.access_token_expires_at,
                tokens.refresh_token.clone(),
                now.0,
                tokens.id.as_str(),
                replaces,
            ],
        )
        .await?;
    Ok(changed == 1)
}

/// An access token ends now, if it is still the stored one.
pub async fn end_access(db: &impl Database, id: &str, access_token: &str, now: UnixMillis) -> Result<(), DbError> {
    db.change(
        "UPDATE user_identities SET access_token_expires_at = ?3, updated_at = ?3 WHERE id = ?1 AND access_token = ?2",
        params![id, access_token, now.0],
    )
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::native::Native;
    use futures_executor::block_on;

    #[derive(serde::Deserialize)]
    struct User {
        email: Option<String>,
        email_verified: i64,
    }

    fn account<'a>(provider: &'a str, id: &'a str) -> Account<'a> {
        Account { provider, provider_user_id: id, login: Some("ada"), email: None }
    }

    fn profile(email: Option<&str>) -> Profile {
        Profile {
            display_name: Some("Ada".to_owned()),
            verified_email: email.map(str::to_owned),
            avatar_url: Some("https://a/x.png".to_owned()),
        }
    }

    fn sign_in(db: &Native, of: &Account<'_>, about: &Profile, ids: (&str, &str)) -> Identity {
        block_on(find_or_create(db, of, about, ids, UnixMillis(5))).expect("runs")
    }

    fn user(db: &Native, id: &str) -> User {
        block_on(db.row("SELECT * FROM users WHERE id = ?", params![id])).expect("runs").expect("is there")
    }

    #[test]
    fn an_account_is_one_person_however_often_it_signs_in() {
        let db = Native::new();
        let first = sign_in(&db, &account("github", "1"), &profile(None), ("u1", "i1"));
        let again = sign_in(&db, &account("github", "1"), &profile(Some("ada@x.org")), ("u2", "i2"));
        assert_eq!((first.user_id.as_str(), &again), ("u1", &first));
        let ada = user(&db, "u1");
        assert_eq!((ada.email.as_deref(), ada.email_verified), (Some("ada@x.org"), 1), "a missing e-mail is filled in");
        sign_in(&db, &account("github", "1"), &profile(Some("other@x.org")), ("u2", "i2"));
        assert_eq!(user(&db, "u1").email.as_deref(), Some("ada@x.org"), "an e-mail that is there is kept");
    }

    #[test]
    fn accounts_with_the_same_verified_email_are_one_person() {
        let db = Native::new();
        sign_in(&db, &account("github", "1"), &profile(Some("ada@x.org")), ("u1", "i1"));
        let slack = sign_in(&db, &account("slack", "U1"), &profile(Some("ADA@x.org")), ("u2", "i2"));
        assert_eq!(slack.user_id, "u1");
        let unattested = sign_in(&db, &account("linear", "L1"), &profile(None), ("u3", "i3"));
        assert_eq!(unattested.user_id, "u3");
    }

    #[test]
    fn an_email_that_is_not_verified_links_nobody() {
        let db = Native::new();
        sign_in(&db, &account("github", "1"), &profile(Some("ada@x.org")), ("u1", "i1"));
        block_on(db.change("UPDATE users SET email_verified = 0", vec![])).expect("runs");
        let other = sign_in(&db, &account("slack", "U1"), &profile(Some("ada@x.org")), ("u2", "i2"));
        assert_eq!(other.user_id, "u2");
        assert_eq!(user(&db, "u2").email, None, "an e-mail is that of one person");
    }

    #[test]
    fn of_two_refreshes_at_once_one_is_kept() {
        let db = Native::new();
        sign_in(&db, &account("github", "1"), &profile(None), ("u1", "i1"));
        let sealed = |access: &str, refresh: &str| SealedTokens {
            id: "i1".to_owned(),
            access_token: Some(access.to_owned()),
            access_token_expires_at: Some(9),
            refresh_token: Some(refresh.to_owned()),
        };
        let set = |tokens: &SealedTokens, replaces| block_on(set_tokens(&db, tokens, replaces, UnixMillis(6)));
        assert_eq!(set(&sealed("a1", "r1"), None), Ok(true));
        assert_eq!(set(&sealed("a2", "r2"), Some("r1")), Ok(true));
        assert_eq!(set(&sealed("a3", "r3"), Some("r1")), Ok(false));
        assert_eq!(block_on(tokens(&db, "u1", "github")), Ok(Some(sealed("a2", "r2"))));
        assert_eq!(block_on(tokens(&db, "u1", "slack")), Ok(None));
        let identity = Identity { id: "i1".to_owned(), user_id: "u1".to_owned() };
        assert_eq!(block_on(sealed_refresh_token(&db, &identity)), Ok(Some("r2".to_owned())));
        block_on(db.batch(vec![forget_tokens("i1")])).expect("runs");
        assert_eq!(block_on(sealed_refresh_token(&db, &identity)), Ok(None));
        assert_eq!(block_on(has_several(&db, "u1", "github")), Ok(false));
    }

    #[test]
    fn only_the_token_that_is_stored_is_ended() {
        let db = Native::new();
        sign_in(&db, &account("github", "1"), &profile(None), ("u1", "i1"));
        let sealed = SealedTokens {
            id: "i1".to_owned(),
            access_token: Some("a1".to_owned()),
            access_token_expires_at: None,
            refresh_token: None,
        };
        block_on(set_tokens(&db, &sealed, None, UnixMillis(6))).expect("runs");
        let ends = || block_on(tokens(&db, "u1", "github")).expect("runs").expect("is there").access_token_expires_at;
        block_on(end_access(&db, "i1", "an older one", UnixMillis(7))).expect("runs");
        assert_eq!(ends(), None);
        block_on(end_access(&db, "i1", "a1", UnixMillis(7))).expect("runs");
        assert_eq!(ends(), Some(7));
    }
}
