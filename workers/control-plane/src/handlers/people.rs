//! People and their roles, for admins.

use oi_protocol::identity::{ChangePerson, PersonList, Role};
use oi_worker_kit::{Failure, Refusal, clock, reply, request_body};
use serde_json::json;
use worker::Response;

use super::page;
use crate::auth::admission::AllowList;
use crate::auth::still_admitted::close_pages;
use crate::request::Cx;
use crate::store::{Database, admissions, browser_sessions, personal_tokens, session_pages, users};

fn id_in(cursor: &str) -> Option<String> {
    oi_protocol::ids::is_minted_id(cursor).then(|| cursor.to_owned())
}

/// Everybody who was ever seen.
pub(super) async fn list(cx: &Cx<'_>) -> Result<Response, Failure> {
    let (limit, above) = page(cx, id_in)?;
    let mut people = users::list(&cx.db()?, &above.unwrap_or_default(), limit + 1).await?;
    let cursor = super::cut(&mut people, limit, |person| person.id.clone());
    reply::json(200, &PersonList { people, cursor })
}

fn person_id<'a>(cx: &'a Cx<'_>) -> Result<&'a str, Refusal> {
    let id = cx.parameters.first().map(String::as_str).unwrap_or_default();
    if oi_protocol::ids::is_minted_id(id) { Ok(id) } else { Err(Refusal::not_found("Person not found")) }
}

/// Changes what somebody may do. One admin always stays, and those whom the deployment names stay admins.
pub(super) async fn change(cx: &Cx<'_>) -> Result<Response, Failure> {
    let id = person_id(cx)?;
    let ChangePerson { role } = request_body::parse(&cx.body, "role must be one of: member, admin")?;
    let (db, now) = (cx.db()?, clock::now());
    let change = match role {
        Role::Admin => users::promote(id, now),
        Role::Member => {
            if AllowList::of(cx.env).names_admin_of(&admissions::of_person(&db, id).await?) {
                let sentence = "The deployment's ADMIN_ lists name them an admin. Take them off there first.";
                return Err(Refusal::conflict(sentence).into());
            }
            users::demote(id, now)
        }
    };
    let entry = cx.audit("role.set", "person", id).detail(&json!({"role": role.as_str()}));
    db.batch(vec![change, entry.statement_if_changed()]).await?;
    let after = users::get(&db, id).await?.ok_or_else(|| Refusal::not_found("Person not found"))?;
    if after.role != role {
        return Err(Refusal::conflict("They are the last admin. Make somebody else an admin first.").into());
    }
    reply::json(200, &after)
}

/// Takes somebody's sessions, sockets and tokens. While the lists have them they may sign in again.
pub(super) async fn sign_out(cx: &Cx<'_>) -> Result<Response, Failure> {
    let id = person_id(cx)?;
    let db = cx.db()?;
    if users::get(&db, id).await?.is_none() {
        return Err(Refusal::not_found("Person not found").into());
    }
    let entry = cx.audit("person.sign_out_everywhere", "person", id).detail(&json!({"tokens": "revoked"}));
    db.batch(vec![
        browser_sessions::end_all(id),
        personal_tokens::revoke_all(id, clock::now()),
        session_pages::revoke(id),
        entry.statement(),
    ])
    .await?;
    close_pages(cx.env, id).await;
    reply::json(200, &json!({"status": "signed_out"}))
}
