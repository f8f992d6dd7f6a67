//! People's own tokens: made, listed and revoked at the browser alone.

use oi_protocol::UnixMillis;
use oi_protocol::identity::{CreatePersonalToken, CreatedPersonalToken, PersonalToken, PersonalTokenList, TokenScope};
use oi_protocol::text::utf16_len;
use oi_worker_kit::{Failure, Refusal, clock, random, reply, request_body};
use serde_json::json;
use worker::Response;

use super::page;
use crate::auth::personal_token::{hash, mint};
use crate::auth::still_admitted::close_pages;
use crate::request::Cx;
use crate::store::personal_tokens::{self, LIVE_MAX, New};
use crate::store::{Database, browser_sessions::SignedIn};

const SHAPE: &str = "name, scopes and expiresInDays are required, and nothing else";
/// Longest name, in UTF-16 units.
const NAME_MAX: usize = 100;
/// Longest life, in days.
const DAYS_MAX: u32 = 366;

fn me<'a>(cx: &'a Cx<'_>) -> Result<&'a SignedIn, Refusal> {
    cx.person().ok_or_else(Refusal::unauthorized)
}

fn wanted(body: &[u8]) -> Result<CreatePersonalToken, Refusal> {
    let mut wanted: CreatePersonalToken = request_body::parse(body, SHAPE)?;
    wanted.name = wanted.name.trim().to_owned();
    if wanted.name.is_empty() || utf16_len(&wanted.name) > NAME_MAX || wanted.name.chars().any(char::is_control) {
        return Err(Refusal::invalid_body("name must be 1 to 100 characters"));
    }
    wanted.scopes.sort_unstable();
    wanted.scopes.dedup();
    if wanted.scopes.is_empty() {
        return Err(Refusal::invalid_body("scopes must name at least one of: read, sessions, settings, admin"));
    }
    if !(1..=DAYS_MAX).contains(&wanted.expires_in_days) {
        return Err(Refusal::invalid_body("expiresInDays must be between 1 and 366"));
    }
    Ok(wanted)
}

fn words(scopes: &[TokenScope]) -> Vec<&'static str> {
    scopes.iter().map(|scope| scope.as_str()).collect()
}

/// Makes a token. It is shown in this answer and never again.
pub(super) async fn create(cx: &Cx<'_>) -> Result<Response, Failure> {
    let person = me(cx)?;
    let wanted = wanted(&cx.body)?;
    if wanted.scopes.contains(&TokenScope::Admin) {
        cx.admin()?;
    }
    let (now, id, token) = (clock::now(), random::hex::<16>(), mint());
    let expires_at = now.plus(i64::from(wanted.expires_in_days) * 86_400_000);
    let new = New {
        id: &id,
        user_id: &person.user_id,
        name: &wanted.name,
        token_hash: &hash(&token),
        scopes: &wanted.scopes,
        expires_at,
    };
    let entry = cx.audit("token.create", "token", &id).detail(&json!({"scopes": words(&wanted.scopes)}));
    let changed = cx.db()?.batch(vec![personal_tokens::make(&new, now), entry.statement_if_changed()]).await?;
    if changed.first() != Some(&1) {
        return Err(Refusal::conflict(format!("You have {LIVE_MAX} tokens. Revoke one that you no longer use.")).into());
    }
    let personal_token = PersonalToken {
        id,
        name: wanted.name,
        scopes: wanted.scopes,
        created_at: now,
        expires_at,
        last_used_at: None,
        revoked_at: None,
    };
    reply::json(201, &CreatedPersonalToken { token, personal_token })
}

fn place(cursor: &str) -> Option<(i64, String)> {
    let (at, id) = cursor.split_once(':')?;
    Some((at.parse().ok()?, Some(id).filter(|id| oi_protocol::ids::is_minted_id(id))?.to_owned()))
}

/// The caller's tokens, those that ended lately and those that were revoked among them.
pub(super) async fn list(cx: &Cx<'_>) -> Result<Response, Failure> {
    let person = me(cx)?;
    let (limit, below) = page(cx, place)?;
    let mut tokens = personal_tokens::list(&cx.db()?, &person.user_id, below, limit + 1).await?;
    let cursor = super::cut(&mut tokens, limit, |token| {
        let UnixMillis(at) = token.created_at;
        format!("{at}:{}", token.id)
    });
    reply::json(200, &PersonalTokenList { tokens, cursor })
}

/// Revokes one of the caller's tokens, at once.
pub(super) async fn revoke(cx: &Cx<'_>) -> Result<Response, Failure> {
    let person = me(cx)?;
    let id = cx.parameters.first().map(String::as_str).unwrap_or_default();
    let entry = cx.audit("token.revoke", "token", id);
    let revoked = personal_tokens::revoke(&person.user_id, id, clock::now());
    let changed = cx.db()?.batch(vec![revoked, entry.statement_if_changed()]).await?;
    if changed.first() != Some(&1) {
        return Err(Refusal::not_found("Token not found").into());
    }
    close_pages(cx.env, &person.user_id).await;
    reply::json(200, &json!({"status": "revoked"}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_a_name_scopes_and_an_end() {
        let good = wanted(br#"{"name":" ci ","scopes":["sessions","read","read"],"expiresInDays":30}"#).expect("fits");
        assert_eq!((good.name.as_str(), good.scopes), ("ci", vec![TokenScope::Read, TokenScope::Sessions]));
        for bad in [
            r#"{"name":"","scopes":["read"],"expiresInDays":30}"#.to_owned(),
            r#"{"name":"a\u0007","scopes":["read"],"expiresInDays":30}"#.to_owned(),
            format!(r#"{{"name":"{}","scopes":["read"],"expiresInDays":30}}"#, "x".repeat(101)),
            r#"{"name":"ci","scopes":[],"expiresInDays":30}"#.to_owned(),
            r#"{"name":"ci","scopes":["write"],"expiresInDays":30}"#.to_owned(),
            r#"{"name":"ci","scopes":["read"],"expiresInDays":0}"#.to_owned(),
            r#"{"name":"ci","scopes":["read"],"expiresInDays":367}"#.to_owned(),
            r#"{"name":"ci","scopes":["read"],"expiresInDays":-1}"#.to_owned(),
            r#"{"name":"ci","scopes":["read"]}"#.to_owned(),
            r#"{"name":"ci","scopes":["read"],"expiresInDays":30,"userId":"x"}"#.to_owned(),
            "[]".to_owned(),
        ] {
            assert_eq!(wanted(bad.as_bytes()).expect_err(&bad).status, 400, "{bad}");
        }
    }

    #[test]
    fn a_cursor_is_a_time_and_an_id() {
        let id = "0f".repeat(16);
        assert_eq!(place(&format!("5:{id}")), Some((5, id.clone())));
        for bad in ["", "5", "5:", "x:0f", &format!(":{id}"), &format!("5:{id}'")] {
            assert_eq!(place(bad), None, "{bad}");
        }
    }
}
