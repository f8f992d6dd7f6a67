//! Whether somebody who signed in is still let in, asked at every request; and what becomes of those who are not.

use oi_protocol::UnixMillis;
use oi_worker_kit::log::Line;
use oi_worker_kit::{Failure, clock};
use serde_json::json;
use worker::Env;

use super::admission::{AllowList, Standing};
use super::browser::BrowserAuth;
use crate::session_sweeps;
use crate::store::audit_log::{Author, Entry};
use crate::store::browser_sessions::SignedIn;
use crate::store::{D1, Database, DbError, admissions, browser_sessions, personal_tokens, session_pages, users};

/// Who a browser's `Cookie` header stands for, if they are still let in.
pub async fn by_cookie(env: &Env, cookie: Option<&str>) -> Result<Option<SignedIn>, Failure> {
    if cookie.is_none() {
        return Ok(None);
    }
    let db = D1::of(env)?;
    let Some(live) = BrowserAuth::of(env)?.live_session(&db, cookie).await? else { return Ok(None) };
    let stays = check(env, &db, &live.person.user_id, &live.facts).await?;
    Ok(stays.then_some(live.person))
}

/// Whether a person may stay, by the lists as they are now and by what is known of their accounts. One whom the lists
/// do not have any more loses everything at once.
pub async fn check(env: &Env, db: &D1, user_id: &str, facts: &str) -> Result<bool, Failure> {
    let now = clock::now();
    match AllowList::of(env).standing(&admissions::read(facts), now) {
        Standing::Admitted => Ok(true),
        Standing::Unknown => {
            admissions::hurry(db, user_id, now).await?;
            Ok(false)
        }
        Standing::Denied => {
            shut_out(env, db, user_id).await?;
            Ok(false)
        }
    }
}

/// Takes the sessions, sockets, tokens and rights of somebody whom the lists do not have any more.
pub async fn shut_out(env: &Env, db: &D1, user_id: &str) -> Result<(), Failure> {
    take_everything(db, user_id, &Author::system(), clock::now()).await?;
    Line::info("control-plane", "auth.shut_out").with("user_id", user_id).write();
    close_pages(env, user_id).await;
    Ok(())
}

/// Ends the sessions and sockets of somebody of whom nothing is known any more. Their tokens rest until they have signed
/// in again.
pub async fn send_to_sign_in(env: &Env, db: &D1, user_id: &str) -> Result<(), Failure> {
    let now = clock::now();
    let entry = Entry::new(Author::system(), "person.sign_out", "person", user_id, now)
        .detail(&json!({"reason": "the sign-in provider does not know the sign-in any more"}));
    db.batch(vec![
        entry.statement(),
        browser_sessions::end_all(user_id),
        session_pages::revoke(user_id),
        admissions::forget(user_id),
    ])
    .await?;
    close_pages(env, user_id).await;
    Ok(())
}

/// Closes a person's pages of sessions. What cannot be closed now is tried again every minute.
pub async fn close_pages(env: &Env, user_id: &str) {
    if let Err(failure) = session_sweeps::close_pages(env, Some(user_id)).await {
        let line = Line::error("control-plane", "auth.pages_not_closed").with("user_id", user_id);
        line.with("error", failure.to_string()).write();
    }
}

async fn take_everything(db: &impl Database, user_id: &str, by: &Author, now: UnixMillis) -> Result<(), DbError> {
    let entry = |action| Entry::new(by.clone(), action, "person", user_id, now);
    let role = entry("role.set").detail(&json!({"role": "member", "reason": "not let in any more"}));
    db.batch(vec![
        entry("person.shut_out").statement(),
        browser_sessions::end_all(user_id),
        personal_tokens::revoke_all(user_id, now),
        session_pages::revoke(user_id),
        users::dismiss(user_id, now),
        role.statement_if_changed(),
        users::shut_out(user_id, now),
        admissions::forget(user_id),
    ])
    .await
    .map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::audit_log::{self, Filter};
    use crate::store::native::Native;
    use crate::store::personal_tokens::New;
    use crate::store::user_identities::{Account, find_or_create};
    use crate::store::users::Profile;
    use futures_executor::block_on;
    use oi_protocol::SessionId;
    use oi_protocol::identity::{Role, TokenScope};

    #[test]
    fn who_is_not_let_in_any_more_loses_session_sockets_tokens_and_rights() {
        block_on(async {
            let (db, now) = (Native::new(), UnixMillis(10));
            let session = SessionId::from_bytes([1; 16]);
            for (user, number) in [("u1", "7"), ("u2", "8")] {
                let account = Account { provider: "github", provider_user_id: number, login: None, email: None };
                let identity = format!("i{number}");
                find_or_create(&db, &account, &Profile::default(), (user, &identity), now).await.expect("runs");
                let (token, hash) = (format!("t{number}"), format!("h{number}"));
                let new = New {
                    id: &token,
                    user_id: user,
                    name: "ci",
                    token_hash: &hash,
                    scopes: &[TokenScope::Read],
                    expires_at: UnixMillis(1000),
                };
                let facts = admissions::Facts::default();
                db.batch(vec![
                    browser_sessions::begin(&identity, &hash, user, None, (now, UnixMillis(1000))),
                    personal_tokens::make(&new, now),
                    admissions::store(&identity, user, &facts, "l", now),
                    users::promote(user, now),
                ])
                .await
                .expect("runs");
                session_pages::note(&db, user, &session, now).await.expect("runs");
            }
            take_everything(&db, "u1", &Author::system(), UnixMillis(20)).await.expect("runs");
            let at = UnixMillis(21);
            for (user, hash, stays) in [("u1", "h7", false), ("u2", "h8", true)] {
                let signed_in = browser_sessions::find(&db, hash, at).await.expect("runs").is_some();
                let token = personal_tokens::find(&db, hash, at).await.expect("runs").is_some();
                let known = !admissions::of_person(&db, user).await.expect("runs").is_empty();
                let closing = session_pages::revoked(&db, Some(user), at).await.expect("runs").is_empty();
                let admin = users::get(&db, user).await.expect("runs").expect("is there").role == Role::Admin;
                let may_act = !users::is_shut_out(&db, user).await.expect("runs");
                assert_eq!([signed_in, token, known, closing, admin, may_act], [stays; 6], "{user}");
            }
            let log = audit_log::list(&db, &Filter::default(), 10).await.expect("runs");
            let actions: Vec<_> = log.iter().map(|entry| entry.action.as_str()).collect();
            assert_eq!(actions, ["role.set", "person.shut_out"]);
        });
    }
}
