//! How search learns of sessions: by their jobs, as things happen, and by asking them all again.
//!
//! **Where there is no `SEARCH_DB` nothing is done**, and everything but search works.

use oi_protocol::SessionId;
use oi_session::call::{Principal, SessionCall};
use oi_session::job::JobResult;
use oi_session::pull_request_snapshots::RecordPullRequest;
use oi_session::search::{IndexTurn, PullRequestDocument, SearchPage};
use oi_worker_kit::log::Line;
use oi_worker_kit::{Failure, clock};
use worker::Env;

use crate::effects::Failed;
use crate::session_client;
use crate::store::search::{self, Rebuild, SessionFacts};
use crate::store::{D1, sessions};

/// Pages that one step of making the index again asks sessions for.
const PAGES_PER_STEP: usize = 20;
/// Sessions that are looked up together.
const SESSIONS_AT_ONCE: i64 = 50;

async fn facts(env: &Env, id: &SessionId) -> Result<Option<SessionFacts>, Failure> {
    Ok(sessions::search_facts(&D1::of(env)?, id.as_str()).await?)
}

async fn ask(env: &Env, id: &SessionId, call: SessionCall) -> Result<Option<SearchPage>, Failure> {
    let answer = session_client::call(env, id, Principal::Platform, call).await?;
    match answer.status {
        // It was deleted, or never came to be.
        404 => Ok(None),
        _ if answer.is_success() => answer.read("reading what search finds of a session").map(Some),
        _ => Err(answer.refusal()),
    }
}

/// A turn ended.
pub async fn index_turn(env: &Env, index: &IndexTurn) -> Result<JobResult, Failed> {
    let Some(db) = D1::search(env) else { return Ok(JobResult::Done) };
    let Some(facts) = facts(env, &index.session_id).await? else { return Ok(JobResult::Done) };
    let call = SessionCall::SearchTurns { message_id: Some(index.message_id.clone()), after: 0 };
    let Some(page) = ask(env, &index.session_id, call).await? else { return Ok(JobResult::Done) };
    search::put_session(&db, &facts).await.map_err(Failure::from)?;
    search::put_turns(&db, &facts, &page.turns).await.map_err(Failure::from)?;
    Ok(JobResult::Done)
}

/// A session has another title or status.
pub async fn session_changed(env: &Env, id: &SessionId) -> Result<(), Failure> {
    let Some(db) = D1::search(env) else { return Ok(()) };
    if let Some(facts) = facts(env, id).await? {
        search::put_session(&db, &facts).await?;
    }
    Ok(())
}

/// A session has a pull request, or its pull request another title.
pub async fn pull_request(env: &Env, record: &RecordPullRequest) -> Result<(), Failure> {
    let (Some(db), Some(title)) = (D1::search(env), &record.snapshot.title) else { return Ok(()) };
    let Some(facts) = facts(env, &record.session_id).await? else { return Ok(()) };
    let document =
        PullRequestDocument { artifact_id: record.artifact_id.clone(), at: record.updated_at, title: title.clone() };
    search::put_session(&db, &facts).await?;
    search::put_pull_requests(&db, &facts, &[document]).await?;
    Ok(())
}

/// A session was deleted.
pub async fn forget(env: &Env, id: &SessionId) -> Result<(), Failure> {
    match D1::search(env) {
        Some(db) => Ok(search::forget(&db, id.as_str()).await?),
        None => Ok(()),
    }
}

/// The next step of making the index again, when that goes on.
pub async fn every_minute(env: &Env) -> Result<(), Failure> {
    let Some(db) = D1::search(env) else { return Ok(()) };
    match search::rebuild(&db).await? {
        Some(rebuild) => step(env, &db, rebuild).await.map(|_| ()),
        None => Ok(()),
    }
}

/// Asks sessions again, from where it was left, for a bounded time. What is still to do, or none when it is done.
pub async fn step(env: &Env, db: &D1, mut rebuild: Rebuild) -> Result<Option<Rebuild>, Failure> {
    if rebuild.phase == "sessions" {
        let listed = sessions::search_facts_after(&D1::of(env)?, &rebuild.after_id, SESSIONS_AT_ONCE).await?;
        if listed.is_empty() {
            rebuild = Rebuild { phase: "strays".to_owned(), after_id: String::new(), turns_after: 0, ..rebuild };
        }
        let mut pages = 0;
        for facts in listed {
            pages += ask_again(env, db, &mut rebuild, &facts, PAGES_PER_STEP - pages).await?;
            search::save_rebuild(db, &rebuild, clock::now()).await?;
            if pages >= PAGES_PER_STEP {
                break;
            }
        }
    } else {
        let known = search::known_after(db, &rebuild.after_id, SESSIONS_AT_ONCE).await?;
        let Some(last) = known.last().cloned() else {
            search::end_rebuild(db, &rebuild).await?;
            Line::info("control-plane", "search.rebuilt")
                .with("sessions", rebuild.sessions)
                .with("documents", rebuild.documents)
                .with("failed", rebuild.failed)
                .write();
            return Ok(None);
        };
        let main = D1::of(env)?;
        for id in known {
            if sessions::search_facts(&main, &id).await?.is_none() {
                search::forget(db, &id).await?;
            }
        }
        rebuild.after_id = last;
    }
    search::save_rebuild(db, &rebuild, clock::now()).await?;
    Ok(Some(rebuild))
}

/// Asks one session for its next pages, at most so many; how many it was asked for. One that cannot be asked is passed
/// over, counted and logged.
async fn ask_again(
    env: &Env,
    db: &D1,
    rebuild: &mut Rebuild,
    facts: &SessionFacts,
    most: usize,
) -> Result<usize, Failure> {
    search::put_session(db, facts).await?;
    let mut asked = 0;
    if let Ok(id) = SessionId::parse(&facts.id) {
        while asked < most {
            asked += 1;
            let call = SessionCall::SearchTurns { message_id: None, after: rebuild.turns_after };
            let page = match ask(env, &id, call).await {
                Ok(page) => page.unwrap_or_default(),
                Err(failure) => {
                    Line::error("control-plane", "search.session_not_asked")
                        .with("session_id", &facts.id)
                        .with("error", failure.to_string())
                        .write();
                    rebuild.failed += 1;
                    break;
                }
            };
            search::put_turns(db, facts, &page.turns).await?;
            search::put_pull_requests(db, facts, &page.pull_requests).await?;
            rebuild.documents += (page.turns.len() + page.pull_requests.len()) as i64;
            match page.next {
                Some(next) if asked == most => {
                    // The next step goes on within this session.
                    rebuild.turns_after = next;
                    return Ok(asked);
                }
                Some(next) => rebuild.turns_after = next,
                None => break,
            }
        }
    }
    rebuild.sessions += 1;
    rebuild.after_id.clone_from(&facts.id);
    rebuild.turns_after = 0;
    Ok(asked.max(1))
}
