//! Webhooks about pull requests, brought to the sessions that have them (control-plane.md 5.3, session.md 7.4). Every
//! action counts: a session that has the same already changes nothing.

use oi_protocol::{ArtifactId, SessionId};
use oi_session::call::{Principal, SessionCall};
use oi_session::pull_request_snapshots::PullRequestSnapshot;
use oi_worker_kit::{Failure, clock};
use serde::Deserialize;
use worker::Env;

use crate::session_client;
use crate::source_control::github::PullRequestFacts;
use crate::store::webhook_deliveries::{Claimed, Processed};
use crate::store::{D1, Database, session_pull_requests, sessions, webhook_deliveries};

/// What could not be brought to a session is tried again after this, in ms.
const RETRY_AFTER_MS: i64 = 30_000;
/// Why nothing follows from a pull request that no session pushes to.
pub(crate) const FROM_A_FORK: &str = "the pull request comes from a fork";
/// Why nothing follows from a delivery that was forgotten meanwhile.
pub const BODY_IS_GONE: &str = "the delivery's body is gone";
/// The branch that a session pushes to when nobody names another.
const BRANCH_PREFIX: &str = "open-inspect/";

/// Whether a delivery is about a pull request as a whole.
pub fn is_about_pull_requests(claimed: &Claimed) -> bool {
    claimed.source == "github" && claimed.event.split('.').next() == Some("pull_request")
}

/// What the webhook says, or why nothing follows from it.
pub(crate) fn read(body: &str) -> Result<PullRequestSnapshot, &'static str> {
    #[derive(Deserialize)]
    struct Payload {
        pull_request: PullRequestFacts,
    }
    let payload: Payload = serde_json::from_str(body).map_err(|_| "the payload is not of the known form")?;
    if payload.pull_request.is_of_a_fork() {
        return Err(FROM_A_FORK);
    }
    Ok(payload.pull_request.snapshot(clock::from_iso8601))
}

/// The session whose branch this is: its first one, or one that was stacked on it (`open-inspect/<id>-2`).
fn session_of_branch(branch: &str) -> Option<SessionId> {
    let rest = branch.strip_prefix(BRANCH_PREFIX)?;
    let id = match rest.split_once('-') {
        Some((id, number)) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => id,
        Some(_) => return None,
        None => rest,
    };
    SessionId::parse(id).ok()
}

/// Sessions to tell, with the artifact where it is known. One that D1 does not know the pull request of yet is found
/// by its branch.
async fn sessions_of(
    db: &impl Database,
    snapshot: &PullRequestSnapshot,
) -> Result<Vec<(SessionId, Option<ArtifactId>)>, Failure> {
    let known = session_pull_requests::holders(db, snapshot).await?;
    let known: Vec<_> = known
        .into_iter()
        .filter_map(|holder| {
            Some((SessionId::parse(&holder.session_id).ok()?, ArtifactId::parse(&holder.artifact_id).ok()))
        })
        .collect();
    if !known.is_empty() {
        return Ok(known);
    }
    match session_of_branch(&snapshot.head_branch) {
        Some(id) if sessions::exists(db, &id).await? => Ok(vec![(id, None)]),
        _ => Ok(Vec::new()),
    }
}

/// The body of a delivery, if it is still there.
pub async fn body_of(env: &Env, claimed: &Claimed) -> Result<Option<String>, Failure> {
    let Some(body) = webhook_deliveries::body(&D1::of(env)?, &claimed.id).await? else { return Ok(None) };
    match (body.body, body.body_key) {
        (Some(inline), _) => Ok(Some(inline)),
        (None, Some(key)) => crate::media_store::MediaStore::of(env)?.text(&key).await,
        (None, None) => Ok(None),
    }
}

/// Brings a delivery to its sessions.
pub async fn handle(env: &Env, claimed: &Claimed) -> Result<Processed, Failure> {
    let db = D1::of(env)?;
    let snapshot = match body_of(env, claimed).await?.as_deref().map(read) {
        Some(Ok(snapshot)) => snapshot,
        Some(Err(reason)) => return Ok(Processed::Ignored(reason.to_owned())),
        None => return Ok(Processed::Ignored(BODY_IS_GONE.to_owned())),
    };
    let sessions = sessions_of(&db, &snapshot).await?;
    if sessions.is_empty() {
        return Ok(Processed::Ignored("no session has this pull request".to_owned()));
    }
    let mut outcome = Processed::Ignored("no session has this pull request".to_owned());
    for (session, artifact_id) in sessions {
        let call = SessionCall::PullRequestSnapshot { artifact_id, snapshot: Box::new(snapshot.clone()) };
        match session_client::call(env, &session, Principal::Platform, call).await {
            Ok(answer) if answer.is_success() => outcome = Processed::Done,
            // It was deleted, or never had it.
            Ok(answer) if answer.status < 500 => {}
            Ok(_) | Err(_) => {
                return Ok(Processed::Retry("a session could not be told".to_owned(), RETRY_AFTER_MS));
            }
        }
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use futures_executor::block_on;
    use oi_protocol::UnixMillis;
    use oi_session::pull_request_snapshots::{LifecycleState, RecordPullRequest};

    use super::*;
    use crate::store::native::Native;
    use crate::store::sessions::NewSession;

    fn claimed(source: &str, event: &str) -> Claimed {
        Claimed { id: "d".to_owned(), source: source.to_owned(), event: event.to_owned(), attempts: 1 }
    }

    fn snapshot(head: &str) -> PullRequestSnapshot {
        PullRequestSnapshot {
            number: 5,
            url: "https://github.com/acme/app/pull/5".to_owned(),
            lifecycle_state: LifecycleState::Open,
            is_draft: false,
            head_branch: head.to_owned(),
            base_branch: "main".to_owned(),
            head_sha: None,
            repo_owner: "acme".to_owned(),
            repo_name: "app".to_owned(),
            repository_external_id: None,
            title: None,
            provider_created_at: None,
            provider_updated_at: None,
            merged_at: None,
            closed_at: None,
        }
    }

    #[test]
    fn every_action_of_a_pull_request_counts_and_nothing_else_does() {
        for event in ["pull_request.opened", "pull_request.reopened", "pull_request.converted_to_draft", "pull_request"]
        {
            assert!(is_about_pull_requests(&claimed("github", event)), "{event}");
        }
        for event in ["pull_request_review.submitted", "push", "issues.opened"] {
            assert!(!is_about_pull_requests(&claimed("github", event)), "{event}");
        }
        assert!(!is_about_pull_requests(&claimed("linear", "pull_request.opened")));
    }

    #[test]
    fn a_session_is_found_by_its_record_and_before_that_by_its_branch() {
        let db = Native::new();
        let id = SessionId::from_bytes([1; 16]);
        let new = NewSession::plain(id.clone());
        block_on(sessions::insert(&db, &new, UnixMillis(1))).expect("runs");
        let found = |head: &str| block_on(sessions_of(&db, &snapshot(head))).expect("runs");
        let branch = format!("open-inspect/{id}");
        assert_eq!(found(&branch), [(id.clone(), None)]);
        assert_eq!(found(&format!("{branch}-2")), [(id.clone(), None)], "stacked on it");
        let unknown = format!("open-inspect/{}", SessionId::from_bytes([2; 16]));
        for head in ["fix", "open-inspect/", "open-inspect/x", &unknown, &format!("{branch}-"), &format!("{branch}-x")]
        {
            assert_eq!(found(head), [], "{head}");
        }
        let record = RecordPullRequest {
            session_id: id.clone(),
            artifact_id: ArtifactId::from_bytes([3; 16]),
            created_at: UnixMillis(1),
            updated_at: UnixMillis(1),
            snapshot: snapshot("fix"),
        };
        block_on(session_pull_requests::record(&db, &record)).expect("runs");
        assert_eq!(found("fix"), [(id, Some(ArtifactId::from_bytes([3; 16])))]);
    }
}
