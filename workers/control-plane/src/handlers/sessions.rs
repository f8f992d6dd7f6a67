//! Making a session.

use oi_protocol::rest::{CreateSessionRequest, CreateSessionResponse};
use oi_protocol::session_state::{SessionStatus, SpawnSource};
use oi_protocol::text::utf16_len;
use oi_protocol::{ErrorCode, SessionId, limits};
use oi_session::call::{InitRepository, InitSession, SessionCall};
use oi_worker_kit::log::Line;
use oi_worker_kit::{Failure, Fault, Refusal, clock, random, reply, request_body};
use serde::Deserialize;
use worker::Response;

use crate::identity::{self, NOT_IN_A_NEW_SESSION, Shown, acting_person, refuse_claims};
use crate::models::Models;
use crate::provider_accounts::selection::{self, Selections};
use crate::request::Cx;
use crate::session_client;
use crate::skills::resolve::{self, Selection, Target};
use crate::source_control::cache::Cache;
use crate::source_control::{BranchName, Forge, RepositoryName, SourceControl, repository_cache, require_forge};
use crate::store::sessions::{self, NewSession};
use crate::store::{D1, Statement, session_provider_auth};

const SHAPE: &str = "Invalid session request body";

/// What a body asks for, checked as far as that needs nobody else.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    repository: Option<(RepositoryName, Option<BranchName>)>,
    title: Option<String>,
    model: Option<String>,
    reasoning_effort: Option<String>,
}

/// What of the deployment's settings a session is made with.
#[derive(Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pins {
    #[serde(default)]
    skill_selection: Selection,
    #[serde(default)]
    provider_selections: Selections,
}

fn wanted(body: &serde_json::Value, request: CreateSessionRequest) -> Result<Wanted, Refusal> {
    let present = |field: &str| body.get(field).is_some_and(|value| !value.is_null());
    if present("environmentId") || present("repositories") {
        // Better refused than made with something else than was asked for.
        let sentence = "Sessions of an environment or of several repositories are not available yet";
        return Err(Refusal::new(501, ErrorCode::NotImplemented, sentence));
    }
    let repository = match (&request.repo_owner, &request.repo_name) {
        (Some(owner), Some(name)) => {
            let name = RepositoryName::parse(owner, name)
                .ok_or_else(|| Refusal::invalid_body("repoOwner and repoName must name a repository"))?;
            let branch = request.branch.as_deref().map(|branch| {
                let plain = branch.bytes().all(|b| b.is_ascii_alphanumeric() || b"_./-".contains(&b));
                BranchName::parse(branch).filter(|_| plain).ok_or_else(|| Refusal::invalid_body("Invalid branch name"))
            });
            Some((name, branch.transpose()?))
        }
        (None, None) if request.branch.is_some() => {
            return Err(Refusal::invalid_body("branch requires repoOwner and repoName"));
        }
        (None, None) => None,
        _ => return Err(Refusal::invalid_body("repoOwner and repoName must be provided together")),
    };
    let title = request.title.map(|title| title.trim().to_owned()).filter(|title| !title.is_empty());
    if title.as_deref().is_some_and(|title| utf16_len(title) > limits::TITLE_MAX_UTF16) {
        return Err(Refusal::invalid_body("title must be 200 characters or fewer"));
    }
    Ok(Wanted { repository, title, model: request.model, reasoning_effort: request.reasoning_effort })
}

async fn resolve(
    cx: &Cx<'_>,
    wanted: Option<(RepositoryName, Option<BranchName>)>,
) -> Result<Option<InitRepository>, Failure> {
    let Some((name, branch)) = wanted else { return Ok(None) };
    let forge = Forge::of(cx.env)?;
    let Some(facts) = repository_cache::facts(&Cache::of(cx.env)?, &forge, &name, clock::now()).await? else {
        return Err(Refusal::not_found("Repository is not installed for the GitHub App").into());
    };
    let base_branch = match branch {
        Some(branch) if branch.as_str() != facts.default_branch => {
            if forge.branch_head(&name, &branch).await?.is_none() {
                let sentence = format!("Branch `{}` does not exist in {}", branch.as_str(), name.as_path());
                return Err(Refusal::invalid_body(sentence).into());
            }
            branch.as_str().to_owned()
        }
        _ => facts.default_branch,
    };
    Ok(Some(InitRepository {
        repo_owner: name.owner().to_owned(),
        repo_name: name.name().to_owned(),
        repo_id: facts.id,
        base_branch,
        base_sha: None,
    }))
}

pub(super) async fn create(cx: &Cx<'_>) -> Result<Response, Failure> {
    require_forge(cx.env)?;
    let body: serde_json::Value = request_body::parse(&cx.body, "Invalid JSON body")?;
    refuse_claims(&body, NOT_IN_A_NEW_SESSION)?;
    let wanted = wanted(&body, request_body::parse(&cx.body, SHAPE)?)?;
    let pins: Pins = request_body::parse(&cx.body, SHAPE)?;
    let models = Models::enabled(&cx.db()?, cx.env).await?;
    let (model, effort) = models.choose(wanted.model.as_deref(), wanted.reasoning_effort.as_deref())?;
    let shown: Shown = request_body::parse(&cx.body, SHAPE)?;
    if cx.person().is_none() && cx.actor().is_none() {
        return Err(Refusal::forbidden("A user identity is required to create a session").into());
    }
    let repository = resolve(cx, wanted.repository).await?;
    let owner = acting_person(cx, &shown)
        .await?
        .ok_or_else(|| Refusal::forbidden("A user identity is required to create a session"))?;
    let new = NewSession {
        id: SessionId::from_bytes(random::bytes()),
        title: wanted.title,
        repository: repository.clone().map(|r| (r.repo_owner, r.repo_name, r.base_branch)),
        model: model.id.clone(),
        reasoning_effort: effort,
        spawn_source: identity::spawn_source(&cx.who.caller),
        user_id: owner.canonical_user_id.clone(),
        scm_login: owner.scm_login.clone(),
    };
    let init = InitSession {
        session_id: new.id.clone(),
        title: new.title.clone(),
        repositories: repository.into_iter().collect(),
        model: new.model.clone(),
        reasoning_effort: new.reasoning_effort.clone(),
        owner,
        spawn_source: new.spawn_source,
        warm: true,
        child_of: None,
        fork_of: None,
    };
    begin(cx, new, init, pins).await
}

/// What is pinned to a session for its whole life: how it reaches providers, and its skills.
async fn pinned(cx: &Cx<'_>, db: &D1, new: &NewSession, pins: Pins) -> Result<Vec<Statement>, Failure> {
    let unattended = !matches!(new.spawn_source, SpawnSource::User);
    let providers = selection::resolve(db, &pins.provider_selections, &new.model, unattended).await?;
    let repository = new.repository.as_ref().map(|(owner, name, _)| format!("{owner}/{name}").to_ascii_lowercase());
    let target = Target { repositories: repository.into_iter().collect(), environment: None };
    let user = new.user_id.as_deref().filter(|_| cx.person().is_some() || cx.actor().is_some());
    let skills = resolve::resolve(db, &target, pins.skill_selection, user).await?;
    let now = clock::now();
    let mut statements: Vec<Statement> =
        providers.iter().map(|provider| session_provider_auth::pin(&new.id, provider, now)).collect();
    statements.extend(resolve::pin(&new.id, &skills, now));
    Ok(statements)
}

/// Lists a new session and tells its object. The list has it first, so that no object is ever made that nothing lists.
async fn begin(cx: &Cx<'_>, new: NewSession, init: InitSession, pins: Pins) -> Result<Response, Failure> {
    let db = cx.db()?;
    let pinned = pinned(cx, &db, &new, pins).await?;
    sessions::insert_with(&db, &new, clock::now(), pinned).await?;
    let principal = identity::principal(&cx.who.caller);
    let told = session_client::ask(cx.env, &new.id, principal, SessionCall::Init(Box::new(init))).await;
    if let Err(failure) = told {
        Line::error("control-plane", "session.not_created")
            .trace(cx.trace)
            .with("session_id", new.id.as_str())
            .with("error", failure.to_string())
            .write();
        sessions::mark_failed(&db, &new.id, clock::now()).await?;
        return Err(Fault::new("creating a session", failure).into());
    }
    reply::json(201, &CreateSessionResponse { session_id: new.id, status: SessionStatus::Created })
}

/// A session that nobody chose anything for.
pub(super) async fn begin_plain(cx: &Cx<'_>, new: NewSession, init: InitSession) -> Result<Response, Failure> {
    begin(cx, new, init, Pins::default()).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(body: &serde_json::Value) -> Result<Wanted, Refusal> {
        wanted(body, request_body::parse(body.to_string().as_bytes(), SHAPE)?)
    }

    #[test]
    fn what_is_asked_for_is_read_whole_or_refused() {
        let good = json!({"repoOwner": "Acme", "repoName": "app", "branch": "a/B", "title": " t ", "unknown": 1});
        let wanted = read(&good).expect("fits");
        let (name, branch) = wanted.repository.expect("has one");
        assert_eq!((name.as_path().as_str(), branch.as_ref().map(BranchName::as_str)), ("acme/app", Some("a/B")));
        assert_eq!(wanted.title.as_deref(), Some("t"));
    }

    #[test]
    fn a_body_that_does_not_fit_says_why() {
        for (body, status, sentence) in [
            (json!({"repoOwner": "a"}), 400, "must be provided together"),
            (json!({"repoName": "a"}), 400, "must be provided together"),
            (json!({"branch": "x"}), 400, "branch requires"),
            (json!({"repoOwner": "a", "repoName": "../b"}), 400, "must name a repository"),
            (json!({"repoOwner": "a", "repoName": "b", "branch": "a..b"}), 400, "Invalid branch name"),
            (json!({"repoOwner": "a", "repoName": "b", "branch": "ä"}), 400, "Invalid branch name"),
            (json!({"repoOwner": 1, "repoName": "b"}), 400, "Invalid session request body"),
            (json!({"title": 5}), 400, "Invalid session request body"),
            (json!({"title": "x".repeat(201)}), 400, "200 characters"),
            (json!({"model": null}), 400, "Invalid session request body"),
            (json!({"environmentId": "env_1"}), 501, "not available yet"),
            (json!({"repositories": []}), 501, "not available yet"),
        ] {
            let refusal = read(&body).expect_err("does not fit");
            assert!(refusal.status == status && refusal.sentence.contains(sentence), "{body}: {refusal}");
        }
        assert!(read(&json!({"repoOwner": null, "repoName": null, "environmentId": null})).is_ok());
    }
}
