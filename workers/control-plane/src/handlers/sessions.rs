//! Making a session.

use futures_util::future::join;
use oi_protocol::environments::WantedRepository;
use oi_protocol::rest::{CreateSessionRequest, CreateSessionResponse};
use oi_protocol::session_state::{SessionStatus, SpawnSource};
use oi_protocol::text::utf16_len;
use oi_protocol::{EnvironmentId, SessionId, limits};
use oi_session::call::{InitEnvironment, InitRepository, InitSession, SessionCall};
use oi_worker_kit::log::Line;
use oi_worker_kit::{Failure, Fault, Refusal, clock, random, reply, request_body};
use serde::Deserialize;
use worker::Response;

use crate::identity::{self, NOT_IN_A_NEW_SESSION, Shown, acting_person, refuse_claims};
use crate::models::Models;
use crate::provider_accounts::selection::{self, Selections};
use crate::request::Cx;
use crate::sandbox_services;
use crate::session_client;
use crate::session_target::{self, KnownForge, Named};
use crate::skills::resolve::{self as skills, Selection};
use crate::source_control::{RepositoryName, require_forge};
use crate::store::sessions::{self, NewSession};
use crate::store::{D1, Statement, environments, session_provider_auth};

const SHAPE: &str = "Invalid session request body";

/// What a session is to work on.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    Nothing,
    Repository(Named),
    Repositories(Vec<Named>),
    Environment(EnvironmentId),
}

/// What a body asks for, checked as far as that needs nobody else.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    target: Target,
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

fn target(request: &CreateSessionRequest) -> Result<Target, Refusal> {
    let repository = match (&request.repo_owner, &request.repo_name) {
        (Some(owner), Some(name)) => {
            let name = RepositoryName::parse(owner, name)
                .ok_or_else(|| Refusal::invalid_body("repoOwner and repoName must name a repository"))?;
            let branch = request
                .branch
                .as_deref()
                .map(|text| session_target::branch(text).ok_or_else(|| Refusal::invalid_body("Invalid branch name")));
            Some(Named { name, branch: branch.transpose()? })
        }
        (None, None) if request.branch.is_some() => {
            return Err(Refusal::invalid_body("branch requires repoOwner and repoName"));
        }
        (None, None) => None,
        _ => return Err(Refusal::invalid_body("repoOwner and repoName must be provided together")),
    };
    match (repository, &request.repositories, &request.environment_id) {
        (None, None, None) => Ok(Target::Nothing),
        (Some(named), None, None) => Ok(Target::Repository(named)),
        (None, Some(list), None) => session_target::named(list).map(Target::Repositories),
        (None, None, Some(id)) => Ok(Target::Environment(id.clone())),
        _ => {
            let sentence = "Only one of repoOwner with repoName, repositories and environmentId may be given";
            Err(Refusal::invalid_body(sentence))
        }
    }
}

fn wanted(request: CreateSessionRequest) -> Result<Wanted, Refusal> {
    let target = target(&request)?;
    let title = request.title.map(|title| title.trim().to_owned()).filter(|title| !title.is_empty());
    if title.as_deref().is_some_and(|title| utf16_len(title) > limits::TITLE_MAX_UTF16) {
        return Err(Refusal::invalid_body("title must be 200 characters or fewer"));
    }
    Ok(Wanted { target, title, model: request.model, reasoning_effort: request.reasoning_effort })
}

/// The repositories as the forge has them now, and the environment that names them.
async fn resolve(cx: &Cx<'_>, target: Target) -> Result<(Vec<InitRepository>, Option<InitEnvironment>), Failure> {
    let (all, environment) = match target {
        Target::Nothing => return Ok((Vec::new(), None)),
        Target::Repository(named) => {
            let found = session_target::resolve_one(&KnownForge::of(cx.env)?, &named).await?;
            return Ok((vec![found], None));
        }
        Target::Repositories(all) => (all, None),
        Target::Environment(id) => {
            let environment = environments::get(&cx.db()?, &id).await?;
            let environment = environment.ok_or_else(|| Refusal::not_found(format!("Environment not found: {id}")))?;
            let members = environment.repositories.into_iter().map(|repository| WantedRepository {
                repo_owner: repository.repo_owner,
                repo_name: repository.repo_name,
                base_branch: Some(repository.base_branch),
            });
            let all = session_target::of_environment(members);
            (all, Some(InitEnvironment { id: environment.id, name: environment.name }))
        }
    };
    Ok((session_target::resolve(&KnownForge::of(cx.env)?, &all).await?, environment))
}

pub(super) async fn create(cx: &Cx<'_>) -> Result<Response, Failure> {
    require_forge(cx.env)?;
    let body: serde_json::Value = request_body::parse(&cx.body, "Invalid JSON body")?;
    refuse_claims(&body, NOT_IN_A_NEW_SESSION)?;
    let wanted = wanted(request_body::parse(&cx.body, SHAPE)?)?;
    let pins: Pins = request_body::parse(&cx.body, SHAPE)?;
    let models = Models::enabled(&cx.db()?, cx.env).await?;
    let (model, effort) = models.choose(wanted.model.as_deref(), wanted.reasoning_effort.as_deref())?;
    let shown: Shown = request_body::parse(&cx.body, SHAPE)?;
    if cx.person().is_none() && cx.actor().is_none() {
        return Err(Refusal::forbidden("A user identity is required to create a session").into());
    }
    let (repositories, environment) = resolve(cx, wanted.target).await?;
    let set = set_timeout(cx, &repositories, environment.as_ref().map(|environment| &environment.id));
    let (owner, sandbox_timeout_ms) = join(acting_person(cx, &shown), set).await;
    let owner = owner?.ok_or_else(|| Refusal::forbidden("A user identity is required to create a session"))?;
    let new = NewSession {
        id: SessionId::from_bytes(random::bytes()),
        title: wanted.title,
        repositories: repositories.clone(),
        environment_id: environment.as_ref().map(|environment| environment.id.clone()),
        model: model.id.clone(),
        reasoning_effort: effort,
        spawn_source: identity::spawn_source(&cx.who.caller),
        user_id: owner.canonical_user_id.clone(),
        scm_login: owner.scm_login.clone(),
    };
    let init = InitSession {
        session_id: new.id.clone(),
        title: new.title.clone(),
        repositories,
        environment,
        sandbox_timeout_ms: sandbox_timeout_ms?,
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

/// The time that people set for sessions of this target, in ms.
pub(super) async fn set_timeout(
    cx: &Cx<'_>,
    repositories: &[InitRepository],
    environment: Option<&EnvironmentId>,
) -> Result<Option<i64>, Failure> {
    let primary = repositories.first().map(InitRepository::path);
    let environment = environment.map(EnvironmentId::as_str);
    sandbox_services::timeout_ms(&cx.db()?, primary.as_deref(), environment).await
}

/// What is pinned to a session for its whole life: how it reaches providers, and its skills.
async fn pinned(cx: &Cx<'_>, db: &D1, new: &NewSession, pins: Pins) -> Result<Vec<Statement>, Failure> {
    let unattended = !matches!(new.spawn_source, SpawnSource::User);
    let target = skills::Target {
        repositories: new.repositories.iter().map(InitRepository::path).collect(),
        environment: new.environment_id.as_ref().map(ToString::to_string),
    };
    let user = new.user_id.as_deref().filter(|_| cx.person().is_some() || cx.actor().is_some());
    // Neither waits for the other; what is wrong with the providers is said first.
    let (providers, pinned_skills) = join(
        selection::resolve(db, &pins.provider_selections, &new.model, unattended),
        skills::resolve(db, &target, pins.skill_selection, user),
    )
    .await;
    let (providers, pinned_skills, now) = (providers?, pinned_skills?, clock::now());
    let mut statements: Vec<Statement> =
        providers.iter().map(|provider| session_provider_auth::pin(&new.id, provider, now)).collect();
    statements.extend(skills::pin(&new.id, &pinned_skills, now));
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
    use crate::source_control::BranchName;
    use serde_json::json;

    fn read(body: &serde_json::Value) -> Result<Wanted, Refusal> {
        wanted(request_body::parse(body.to_string().as_bytes(), SHAPE)?)
    }

    #[test]
    fn what_is_asked_for_is_read_whole_or_refused() {
        let good = json!({"repoOwner": "Acme", "repoName": "app", "branch": "a/B", "title": " t ", "unknown": 1});
        let wanted = read(&good).expect("fits");
        let Target::Repository(named) = wanted.target else { panic!("has one") };
        let branch = named.branch.as_ref().map(BranchName::as_str);
        assert_eq!((named.name.as_path().as_str(), branch), ("acme/app", Some("a/B")));
        assert_eq!(wanted.title.as_deref(), Some("t"));
    }

    #[test]
    fn a_body_that_does_not_fit_says_why() {
        let one = &json!({"repoOwner": "a", "repoName": "b"});
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
            (json!({"environmentId": "prod"}), 400, "Invalid session request body"),
            (json!({"environmentId": 1}), 400, "Invalid session request body"),
            (json!({"repositories": []}), 400, "1 to 10"),
            (json!({"repositories": {}}), 400, "Invalid session request body"),
            (json!({"repositories": [{"repoOwner": "a"}]}), 400, "Invalid session request body"),
            (json!({"repositories": [one, one]}), 400, "listed twice"),
            (json!({"repositories": [one], "environmentId": "env_1"}), 400, "Only one of"),
            (json!({"repositories": [one], "repoOwner": "a", "repoName": "b"}), 400, "Only one of"),
            (json!({"environmentId": "env_1", "repoOwner": "a", "repoName": "b"}), 400, "Only one of"),
            (json!({"environmentId": "env_1", "branch": "x"}), 400, "branch requires"),
        ] {
            let refusal = read(&body).expect_err("does not fit");
            assert!(refusal.status == status && refusal.sentence.contains(sentence), "{body}: {refusal}");
        }
        let nulls = json!({"repoOwner": null, "repoName": null, "environmentId": null, "repositories": null});
        assert_eq!(read(&nulls).expect("fits").target, Target::Nothing);
    }

    #[test]
    fn several_repositories_or_an_environment_are_read() {
        let list = json!({"repositories": [{"repoOwner": " Acme", "repoName": "B"}, {"repoOwner": "acme", "repoName": "a", "baseBranch": "dev"}]});
        let Target::Repositories(all) = read(&list).expect("fits").target else { panic!("has several") };
        let shown: Vec<_> = all.iter().map(|named| (named.name.as_path(), named.branch.is_some())).collect();
        assert_eq!(shown, [("acme/b".to_owned(), false), ("acme/a".to_owned(), true)]);
        let environment = read(&json!({"environmentId": "env_1"})).expect("fits").target;
        assert_eq!(environment, Target::Environment(EnvironmentId::parse("env_1").expect("an id")));
    }
}
