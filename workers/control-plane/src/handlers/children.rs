//! Children of a session: started, listed, looked at, prompted and cancelled by its agent, or by people.

use futures_util::future::join;
use oi_protocol::rest::CreateSessionResponse;
use oi_protocol::session_state::{PromptSource, SessionStatus, SpawnSource};
use oi_protocol::text::utf16_len;
use oi_protocol::{ErrorCode, SessionId, limits};
use oi_session::call::{EnqueuePrompt, InitRepository, InitSession, Principal, SessionCall};
use oi_session::child_summary::SummaryQuery;
use oi_session::children::SpawnContext;
use oi_session::family::ChildOf;
use oi_worker_kit::log::Line;
use oi_worker_kit::{Failure, Fault, Refusal, clock, random, reply, request_body};
use serde::Deserialize;
use serde_json::json;
use worker::Response;

use super::sandbox_broker::listed_session;
use super::session_list;
use crate::identity;
use crate::models::Models;
use crate::policy::Caller;
use crate::request::Cx;
use crate::sandbox_services;
use crate::session_client;
use crate::source_control::require_forge;
use crate::store::children::{self, ChildLimits, MAX_DEPTH, Member, Standing};
use crate::store::sessions::{self, NewSession};

/// Calls that one cancellation makes at a time.
const CASCADE_AT_A_TIME: usize = 8;

/// The parent that the path names, once its sandbox has proved that it is its own.
async fn parent_of(cx: &Cx<'_>) -> Result<SessionId, Failure> {
    require_forge(cx.env)?;
    let id = listed_session(cx).await?;
    if matches!(cx.who.caller, Caller::Bearer { .. }) {
        let principal = identity::principal(&cx.who.caller);
        session_client::ask(cx.env, &id, principal, SessionCall::VerifySandbox).await?;
    }
    Ok(id)
}

fn no_child() -> Refusal {
    Refusal::not_found("Child session not found")
}

/// The direct child that the path names.
async fn child_of(cx: &Cx<'_>, parent: &SessionId) -> Result<(SessionId, Member), Failure> {
    let segment = cx.parameters.get(1).map(String::as_str).unwrap_or_default();
    let child = SessionId::parse(segment).map_err(|_| no_child())?;
    let member = children::direct_child(&cx.db()?, parent, &child).await?.ok_or_else(no_child)?;
    Ok((child, member))
}

async fn spawn_context(cx: &Cx<'_>, parent: &SessionId) -> Result<SpawnContext, Failure> {
    let answer = session_client::ask(cx.env, parent, Principal::Platform, SessionCall::SpawnContext).await?;
    answer.read("reading a spawn context")
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spawn {
    title: String,
    prompt: String,
    #[serde(default)]
    repo_owner: Option<String>,
    #[serde(default)]
    repo_name: Option<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    reasoning_effort: Option<String>,
    /// Whether its results are offered to the parent's agent; they are unless it says no.
    #[serde(default)]
    notify_parent: Option<bool>,
}

fn spawn_body(body: &[u8]) -> Result<Spawn, Refusal> {
    let wrong = || Refusal::invalid_body("title and prompt are required");
    let mut spawn: Spawn = request_body::parse(body, "").map_err(|_| wrong())?;
    spawn.title = spawn.title.trim().to_owned();
    if spawn.title.is_empty() || spawn.prompt.trim().is_empty() {
        return Err(wrong());
    }
    if utf16_len(&spawn.title) > limits::TITLE_MAX_UTF16 {
        return Err(Refusal::invalid_body("title must be 200 characters or fewer"));
    }
    if utf16_len(&spawn.prompt) > limits::PROMPT_MAX_UTF16 {
        return Err(Refusal::invalid_body("prompt must be 64000 characters or fewer"));
    }
    Ok(spawn)
}

/// A child works on its parent's primary repository, or on none as its parent.
fn require_same_repository(spawn: &Spawn, parent: &SpawnContext) -> Result<(), Refusal> {
    let (owner, name) = match (&spawn.repo_owner, &spawn.repo_name) {
        (None, None) => return Ok(()),
        (Some(owner), Some(name)) => (owner, name),
        _ => return Err(Refusal::invalid_body("repoOwner and repoName must be provided together")),
    };
    match (&parent.repo_owner, &parent.repo_name) {
        (Some(own), Some(its)) if own.eq_ignore_ascii_case(owner) && its.eq_ignore_ascii_case(name) => Ok(()),
        (Some(_), Some(_)) => Err(Refusal::forbidden("Child sessions must use the same repository as the parent")),
        _ => Err(Refusal::forbidden("Cannot add repository context to a repo-less child session")),
    }
}

fn too_deep() -> Refusal {
    Refusal::forbidden(format!("Maximum spawn depth ({MAX_DEPTH}) exceeded"))
}

fn too_many(what: &str, most: i64) -> Refusal {
    Refusal::new(429, ErrorCode::RateLimited, format!("Maximum {what} children ({most}) reached"))
}

/// What no waiting makes room for.
fn used_up(standing: &Standing, most: ChildLimits) -> Option<Refusal> {
    if standing.depth >= MAX_DEPTH {
        return Some(too_deep());
    }
    (standing.total >= most.total).then(|| too_many("total", most.total))
}

fn cancelled() -> Refusal {
    Refusal::new(409, ErrorCode::Conflict, "Session already cancelled")
}

pub(super) async fn spawn(cx: &Cx<'_>) -> Result<Response, Failure> {
    let spawn = spawn_body(&cx.body)?;
    let parent = parent_of(cx).await?;
    let db = cx.db()?;
    let (standing, most) =
        join(children::standing(&db, &parent, clock::now()), sandbox_services::child_limits(&db, &parent)).await;
    let (standing, most) = (standing?, most?);
    let standing = standing.ok_or_else(|| Refusal::not_found("Session not found"))?;
    if let Some(refusal) = used_up(&standing, most) {
        return Err(refusal.into());
    }
    let context = spawn_context(cx, &parent).await?;
    require_same_repository(&spawn, &context)?;
    let models = Models::enabled(&db, cx.env).await?;
    let effort = spawn.reasoning_effort.as_deref();
    let (model, effort) = if let Some(named) = spawn.model.as_deref() {
        models.choose(Some(named), effort)?
    } else {
        // What the parent has may have been disabled meanwhile, which is not the agent's doing.
        let (inherited, _) = models.inherit(&context.model, None)?;
        models.choose(Some(&inherited.id), effort)?
    };
    let repository = match (&context.repo_owner, &context.repo_name, context.repo_id, &context.base_branch) {
        (Some(owner), Some(name), Some(id), Some(branch)) => Some(InitRepository {
            repo_owner: owner.clone(),
            repo_name: name.clone(),
            repo_id: id,
            base_branch: branch.clone(),
            base_sha: None,
        }),
        _ => None,
    };
    let author = context.prompt_author;
    let new = NewSession {
        id: SessionId::from_bytes(random::bytes()),
        title: Some(spawn.title),
        repositories: repository.into_iter().collect(),
        environment_id: context.environment.as_ref().map(|environment| environment.id.clone()),
        model: model.id.clone(),
        reasoning_effort: effort,
        spawn_source: SpawnSource::Agent,
        user_id: author.canonical_user_id.clone(),
        scm_login: author.scm_login.clone(),
    };
    if !children::admit(&db, &parent, &new, most, clock::now()).await? {
        return Err(refused_admission(cx, &parent, most).await?.into());
    }
    let init = InitSession {
        session_id: new.id.clone(),
        title: new.title.clone(),
        repositories: new.repositories.clone(),
        environment: context.environment,
        sandbox_timeout_ms: context.sandbox_timeout_ms,
        model: new.model.clone(),
        reasoning_effort: new.reasoning_effort.clone(),
        owner: author.clone(),
        spawn_source: SpawnSource::Agent,
        // Its prompt starts the sandbox: a child that gets none has none.
        warm: false,
        child_of: Some(ChildOf {
            parent_session_id: parent,
            spawn_depth: (standing.depth + 1) as u32,
            notify_parent: spawn.notify_parent.unwrap_or(true),
        }),
        fork_of: None,
    };
    let prompt = EnqueuePrompt {
        author,
        content: spawn.prompt,
        source: PromptSource::Agent,
        model: None,
        reasoning_effort: None,
        attachments: Vec::new(),
        idempotency_key: Some("spawn".to_owned()),
        callback_context: None,
    };
    if let Err(failure) = begin(cx, &new.id, init, prompt).await {
        Line::error("control-plane", "child.not_started")
            .trace(cx.trace)
            .with("session_id", new.id.as_str())
            .with("error", failure.to_string())
            .write();
        abandon(cx.env, &new.id).await?;
        return Err(Fault::new("starting a child session", failure).into());
    }
    reply::json(201, &CreateSessionResponse { session_id: new.id, status: SessionStatus::Created })
}

/// Why a child was not admitted.
async fn refused_admission(cx: &Cx<'_>, parent: &SessionId, most: ChildLimits) -> Result<Refusal, Failure> {
    let standing = children::standing(&cx.db()?, parent, clock::now()).await?;
    let Some(standing) = standing else { return Ok(Refusal::not_found("Session not found")) };
    let busy = || (standing.live >= most.concurrent).then(|| too_many("concurrent", most.concurrent));
    // Otherwise it is cancelled or archived, or there is room again by now.
    Ok(used_up(&standing, most).or_else(busy).unwrap_or_else(cancelled))
}

async fn begin(cx: &Cx<'_>, id: &SessionId, init: InitSession, prompt: EnqueuePrompt) -> Result<(), Failure> {
    for call in [SessionCall::Init(Box::new(init)), SessionCall::Prompt(Box::new(prompt))] {
        session_client::ask(cx.env, id, Principal::Platform, call).await?;
    }
    Ok(())
}

/// A child that was admitted and could not be started holds no place and runs nothing: its object is cancelled, however
/// far it came, and the list says that it failed. What even this does not reach, the sweep does.
pub(crate) async fn abandon(env: &worker::Env, id: &SessionId) -> Result<(), Failure> {
    let answer = session_client::call(env, id, Principal::Platform, SessionCall::Cancel).await?;
    if answer.is_success() || matches!(answer.status, 404 | 409) {
        sessions::mark_failed(&crate::store::D1::of(env)?, id, clock::now()).await?;
    }
    Ok(())
}

pub(super) async fn list(cx: &Cx<'_>) -> Result<Response, Failure> {
    let parent = parent_of(cx).await?;
    let rows = children::list(&cx.db()?, &parent).await?;
    let listed: Vec<_> = rows.into_iter().filter_map(session_list::item).collect();
    reply::json(200, &json!({"children": listed}))
}

pub(super) async fn get(cx: &Cx<'_>) -> Result<Response, Failure> {
    let parent = parent_of(cx).await?;
    let (child, _) = child_of(cx, &parent).await?;
    let words = cx.head.query_values("include");
    let query = SummaryQuery {
        include: words
            .iter()
            .flat_map(|text| text.split(','))
            .filter(|word| !word.is_empty())
            .take(8)
            .map(str::to_owned)
            .collect(),
        trajectory_limit: cx.head.query_value("trajectoryLimit"),
        trajectory_cursor: cx.head.query_value("trajectoryCursor"),
    };
    session_client::relay(cx.env, &child, Principal::Platform, SessionCall::ChildSummary(query)).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FollowUp {
    content: String,
}

pub(super) async fn prompt(cx: &Cx<'_>) -> Result<Response, Failure> {
    let wrong = || Refusal::invalid_body("Invalid prompt body");
    let FollowUp { content } = request_body::parse(&cx.body, "").map_err(|_| wrong())?;
    if content.trim().is_empty() || utf16_len(&content) > limits::PROMPT_MAX_UTF16 {
        return Err(wrong().into());
    }
    let parent = parent_of(cx).await?;
    let (child, member) = child_of(cx, &parent).await?;
    let author = Box::new(spawn_context(cx, &parent).await?.prompt_author);
    let (db, most) = (cx.db()?, ChildLimits::default());
    let mut held = None;
    if matches!(member.status.as_str(), "completed" | "failed") {
        let token = random::hex::<16>();
        if !children::lease(&db, (&parent, &child), &token, most, clock::now()).await? {
            let standing = children::standing(&db, &child, clock::now()).await?;
            let barred = standing.is_some_and(|standing| standing.cancelled != 0);
            return Err(if barred { cancelled() } else { too_many("concurrent", most.concurrent) }.into());
        }
        held = Some(token);
    }
    let call = SessionCall::ParentPrompt { parent_session_id: parent, content, author };
    // Without an answer it may have been taken all the same: then the lease is kept until its end.
    let answer = session_client::call(cx.env, &child, Principal::Platform, call).await?;
    if !answer.is_success() {
        if let Some(token) = held {
            children::release(&db, &token).await?;
        }
        return Err(answer.refusal());
    }
    reply::json_text(answer.status, answer.body)
}

/// Whether what is below the child is cancelled too.
fn cancels_nested(body: &[u8]) -> Result<bool, Refusal> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(true);
    }
    let body: serde_json::Value = request_body::parse(body, "Invalid JSON body")?;
    match body.get("cancelNested") {
        None => Ok(true),
        Some(serde_json::Value::Bool(nested)) => Ok(*nested),
        Some(_) => Err(Refusal::invalid_body("cancelNested must be a boolean")),
    }
}

pub(super) async fn cancel(cx: &Cx<'_>) -> Result<Response, Failure> {
    let nested = cancels_nested(&cx.body)?;
    let parent = parent_of(cx).await?;
    let (child, _) = child_of(cx, &parent).await?;
    let (db, now) = (cx.db()?, clock::now());
    // From here on nothing is spawned or woken below it, so that what is found next is all there is.
    children::bar(&db, &child, now, false).await?;
    let answer = session_client::call(cx.env, &child, Principal::Platform, SessionCall::Cancel).await?;
    if answer.is_success() {
        children::bar(&db, &child, now, true).await?;
    }
    if !nested {
        if !answer.is_success() {
            children::lift(&db, &child).await?;
            return Err(answer.refusal());
        }
        return reply::json_text(answer.status, answer.body);
    }
    let members = children::live_descendants(&db, &child, now).await?;
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for some in members.chunks(CASCADE_AT_A_TIME) {
        let calls = some.iter().map(|member| cancel_one(cx, member));
        for (member, outcome) in some.iter().zip(futures_util::future::join_all(calls).await) {
            match outcome {
                Some(true) => done.push(member.id.clone()),
                Some(false) => {}
                None => failed.push(member.id.clone()),
            }
        }
    }
    let unclear = !answer.is_success() && answer.status != 409;
    if unclear || !failed.is_empty() {
        if unclear {
            failed.push(child.to_string());
        }
        let error = format!("Failed to cancel: {}", failed.join(", "));
        return reply::json(
            502,
            &json!({"error": error, "code": ErrorCode::UpstreamFailed, "requestId": cx.trace.request_id,
                "cancelledDescendantIds": done}),
        );
    }
    if !answer.is_success() {
        children::lift(&db, &child).await?;
        if done.is_empty() {
            return Err(answer.refusal());
        }
    }
    reply::json(200, &json!({"status": "cancelled", "cancelledDescendantIds": done}))
}

/// Cancels a descendant: whether it was alive, or `None` when that could not be done.
async fn cancel_one(cx: &Cx<'_>, member: &Member) -> Option<bool> {
    let id = SessionId::parse(&member.id).ok()?;
    let answer = session_client::call(cx.env, &id, Principal::Platform, SessionCall::Cancel).await.ok()?;
    match answer.status {
        200..=299 => {
            children::bar(&cx.db().ok()?, &id, clock::now(), true).await.ok()?;
            Some(true)
        }
        404 | 409 => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_needs_a_title_and_a_prompt_within_bounds() {
        let needed = "title and prompt are required";
        for (body, sentence) in [
            ("", needed),
            ("[]", needed),
            (r#"{"title":"t"}"#, needed),
            (r#"{"title":"  ","prompt":"p"}"#, needed),
            (r#"{"title":"t","prompt":"\n"}"#, needed),
            (r#"{"title":"t","prompt":1}"#, needed),
        ] {
            assert_eq!(spawn_body(body.as_bytes()).expect_err(body).sentence, sentence, "{body}");
        }
        let long = |title: usize, prompt: usize| {
            json!({"title": "t".repeat(title), "prompt": "p".repeat(prompt)}).to_string().into_bytes()
        };
        assert!(spawn_body(&long(201, 1)).is_err() && spawn_body(&long(1, 64_001)).is_err());
        assert_eq!(spawn_body(&long(200, 64_000)).map(|spawn| spawn.notify_parent), Ok(None));
    }

    #[test]
    fn a_child_works_where_its_parent_does() {
        let context = |repository: bool| SpawnContext {
            repo_owner: repository.then(|| "acme".to_owned()),
            repo_name: repository.then(|| "app".to_owned()),
            repo_id: repository.then_some(7),
            model: "demo/scripted".to_owned(),
            reasoning_effort: None,
            base_branch: repository.then(|| "main".to_owned()),
            environment: None,
            sandbox_timeout_ms: None,
            prompt_author: identity::anonymous(),
        };
        let ask = |owner: Option<&str>, name: Option<&str>| Spawn {
            title: "t".to_owned(),
            prompt: "p".to_owned(),
            repo_owner: owner.map(str::to_owned),
            repo_name: name.map(str::to_owned),
            model: None,
            reasoning_effort: None,
            notify_parent: None,
        };
        let other = "Child sessions must use the same repository as the parent";
        let without = "Cannot add repository context to a repo-less child session";
        let half = "repoOwner and repoName must be provided together";
        for (spawn, has, expected) in [
            (ask(None, None), true, Ok(())),
            (ask(None, None), false, Ok(())),
            (ask(Some("Acme"), Some("APP")), true, Ok(())),
            (ask(Some("acme"), None), true, Err((400, half))),
            (ask(Some("acme"), Some("other")), true, Err((403, other))),
            (ask(Some("acme"), Some("app")), false, Err((403, without))),
        ] {
            let got = require_same_repository(&spawn, &context(has));
            let got = got.map_err(|refusal| (refusal.status, refusal.sentence.into_owned()));
            assert_eq!(got, expected.map_err(|(status, sentence)| (status, sentence.to_owned())));
        }
    }

    #[test]
    fn a_cancellation_goes_down_unless_it_says_no() {
        for (body, expected) in [
            ("", Ok(true)),
            ("{}", Ok(true)),
            (r#"{"cancelNested":true}"#, Ok(true)),
            (r#"{"cancelNested":false}"#, Ok(false)),
            (r#"{"cancelNested":"no"}"#, Err("cancelNested must be a boolean")),
            ("{", Err("Invalid JSON body")),
        ] {
            let got = cancels_nested(body.as_bytes()).map_err(|refusal| refusal.sentence.into_owned());
            assert_eq!(got, expected.map_err(str::to_owned), "{body}");
        }
    }

    #[test]
    fn limits_are_named_as_the_wire_names_them() {
        assert_eq!(too_deep().sentence, "Maximum spawn depth (2) exceeded");
        assert_eq!(too_many("total", 15).sentence, "Maximum total children (15) reached");
        let refusal = too_many("concurrent", 5);
        assert_eq!((refusal.status, refusal.sentence.as_ref()), (429, "Maximum concurrent children (5) reached"));
    }
}
