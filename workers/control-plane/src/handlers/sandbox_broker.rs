//! What sandboxes ask for: credentials for git, a pull request. The session checks their token.

use oi_protocol::rest::{CreatePullRequestRequest, ScmCredentials};
use oi_session::call::SessionCall;
use oi_worker_kit::{Failure, Refusal, reply, request_body};
use serde::Deserialize;
use worker::Response;

use super::session_calls::idempotency_key;
use crate::identity;
use crate::request::Cx;
use crate::session_client;
use crate::source_control::{Forge, SourceControl, require_forge};
use crate::store::sessions;

#[derive(Deserialize)]
struct Repositories {
    repositories: Vec<SessionRepository>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SessionRepository {
    repo_id: Option<i64>,
}

/// No object is woken for a name that no session has.
pub(super) async fn listed_session(cx: &Cx<'_>) -> Result<oi_protocol::SessionId, Failure> {
    let id = cx.session_id()?;
    if sessions::exists(&cx.db()?, &id).await? { Ok(id) } else { Err(Refusal::not_found("Session not found").into()) }
}

pub(super) async fn scm_credentials(cx: &Cx<'_>) -> Result<Response, Failure> {
    require_forge(cx.env)?;
    let id = listed_session(cx).await?;
    let principal = identity::principal(&cx.who.caller);
    let answer = session_client::ask(cx.env, &id, principal, SessionCall::SandboxRepositories).await?;
    let listed: Repositories = answer.read("reading a session's repositories")?;
    let ids: Vec<i64> = listed.repositories.into_iter().filter_map(|repository| repository.repo_id).collect();
    // Without any, a token would be for all that are installed.
    if ids.is_empty() {
        return Err(Refusal::invalid_body("SCM credentials require a repository context").into());
    }
    let credentials = Forge::of(cx.env)?.git_credentials(&ids).await?;
    let body = ScmCredentials {
        username: credentials.username,
        password: credentials.password,
        expires_at_epoch_ms: credentials.expires_at.0,
    };
    reply::json(200, &body)
}

/// Which field of a pull request's body has the wrong type, as the wire says it.
fn explain(body: &serde_json::Value) -> &'static str {
    let wrong = |field: &str| body.get(field).is_some_and(|value| !value.is_string() && !value.is_null());
    if !body.is_object() {
        "JSON body must be an object"
    } else if wrong("baseBranch") {
        "baseBranch must be a string"
    } else if wrong("headBranch") {
        "headBranch must be a string"
    } else if wrong("repoOwner") {
        "repoOwner must be a string"
    } else if wrong("repoName") {
        "repoName must be a string"
    } else if body.get("draft").is_some_and(|draft| !draft.is_boolean() && !draft.is_null()) {
        "draft must be a boolean"
    } else {
        "title and body are required"
    }
}

pub(super) async fn create_pull_request(cx: &Cx<'_>) -> Result<Response, Failure> {
    require_forge(cx.env)?;
    let idempotency_key = idempotency_key(cx)?;
    let body: serde_json::Value = request_body::parse(&cx.body, "Invalid JSON body")?;
    let request: CreatePullRequestRequest =
        request_body::parse(&cx.body, "").map_err(|_| Refusal::invalid_body(explain(&body)))?;
    if request.title.trim().is_empty() || request.body.trim().is_empty() {
        return Err(Refusal::invalid_body("title and body are required").into());
    }
    let id = listed_session(cx).await?;
    let principal = identity::principal(&cx.who.caller);
    let call = SessionCall::CreatePullRequest { request, idempotency_key };
    session_client::relay(cx.env, &id, principal, call).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_body_of_a_wrong_shape_is_told_which_field_is_wrong() {
        for (body, sentence) in [
            (json!([]), "JSON body must be an object"),
            (json!({}), "title and body are required"),
            (json!({"title": 1, "body": "b"}), "title and body are required"),
            (json!({"title": "t", "body": "b", "baseBranch": 1}), "baseBranch must be a string"),
            (json!({"title": "t", "body": "b", "headBranch": {}}), "headBranch must be a string"),
            (json!({"title": "t", "body": "b", "repoOwner": []}), "repoOwner must be a string"),
            (json!({"title": "t", "body": "b", "repoName": true}), "repoName must be a string"),
            (json!({"title": "t", "body": "b", "draft": "yes"}), "draft must be a boolean"),
        ] {
            assert!(serde_json::from_value::<CreatePullRequestRequest>(body.clone()).is_err(), "{body}");
            assert_eq!(explain(&body), sentence, "{body}");
        }
    }
}
