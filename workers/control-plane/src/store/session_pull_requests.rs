//! `session_pull_requests`: which sessions a pull request is of. The sessions' own objects hold the truth.

use oi_session::pull_request_snapshots::{PullRequestSnapshot, RecordPullRequest};
use serde::Deserialize;

use super::{Database, DbError, params};

/// Sessions that are told of one pull request.
const SESSIONS_MAX: i64 = 20;

/// Takes over what a session says of a pull request, unless something newer of it is there. A session that is deleted
/// says nothing any more.
pub async fn record(db: &impl Database, record: &RecordPullRequest) -> Result<(), DbError> {
    let snapshot = &record.snapshot;
    db.change(
        "INSERT INTO session_pull_requests (artifact_id, session_id, repository_external_id, repo_owner, repo_name,
            pr_number, url, lifecycle_state, is_draft, head_branch, base_branch, head_sha, provider_created_at,
            provider_updated_at, merged_at, closed_at, created_at, updated_at)
         SELECT ?1, id, ?3, LOWER(?4), LOWER(?5), ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18
            FROM sessions WHERE id = ?2
         ON CONFLICT (artifact_id) DO UPDATE SET
            repository_external_id = COALESCE(excluded.repository_external_id, repository_external_id),
            repo_owner = excluded.repo_owner, repo_name = excluded.repo_name, url = excluded.url,
            lifecycle_state = excluded.lifecycle_state, is_draft = excluded.is_draft,
            head_branch = excluded.head_branch, base_branch = excluded.base_branch,
            head_sha = COALESCE(excluded.head_sha, head_sha),
            provider_created_at = COALESCE(excluded.provider_created_at, provider_created_at),
            provider_updated_at = COALESCE(excluded.provider_updated_at, provider_updated_at),
            merged_at = excluded.merged_at, closed_at = excluded.closed_at, updated_at = excluded.updated_at
         WHERE excluded.updated_at >= updated_at",
        params![
            record.artifact_id.as_str(),
            record.session_id.as_str(),
            snapshot.repository_external_id.clone(),
            snapshot.repo_owner.as_str(),
            snapshot.repo_name.as_str(),
            snapshot.number,
            snapshot.url.as_str(),
            snapshot.lifecycle_state.as_str(),
            snapshot.is_draft,
            snapshot.head_branch.as_str(),
            snapshot.base_branch.as_str(),
            snapshot.head_sha.clone(),
            snapshot.provider_created_at.map(|at| at.0),
            snapshot.provider_updated_at.map(|at| at.0),
            snapshot.merged_at.map(|at| at.0),
            snapshot.closed_at.map(|at| at.0),
            record.created_at.0,
            record.updated_at.0,
        ],
    )
    .await
    .map(|_| ())
}

/// A session that has a pull request, and its artifact.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Holder {
    /// The session.
    pub session_id: String,
    /// The artifact.
    pub artifact_id: String,
}

/// Sessions that have a pull request, newest first. A repository that got another name is known by the forge's number
/// for it.
pub async fn holders(db: &impl Database, snapshot: &PullRequestSnapshot) -> Result<Vec<Holder>, DbError> {
    db.rows(
        "SELECT session_id, artifact_id FROM session_pull_requests
         WHERE pr_number = ?1 AND ((repo_owner = LOWER(?2) AND repo_name = LOWER(?3)) OR repository_external_id = ?4)
         ORDER BY created_at DESC LIMIT ?5",
        params![
            snapshot.number,
            snapshot.repo_owner.as_str(),
            snapshot.repo_name.as_str(),
            snapshot.repository_external_id.clone(),
            SESSIONS_MAX,
        ],
    )
    .await
}

#[cfg(test)]
mod tests {
    use futures_executor::block_on;
    use oi_protocol::{ArtifactId, SessionId, UnixMillis};
    use oi_session::pull_request_snapshots::LifecycleState;

    use super::*;
    use crate::store::audit_log::{Author, Entry};
    use crate::store::deleted_sessions;
    use crate::store::native::Native;
    use crate::store::sessions::{self, NewSession};

    fn listed(session: u8) -> Native {
        let db = Native::new();
        let new = NewSession::plain(SessionId::from_bytes([session; 16]));
        block_on(sessions::insert(&db, &new, UnixMillis(1))).expect("runs");
        db
    }

    fn told(session: u8, life: LifecycleState, updated_at: i64) -> RecordPullRequest {
        RecordPullRequest {
            session_id: SessionId::from_bytes([session; 16]),
            artifact_id: ArtifactId::from_bytes([session; 16]),
            created_at: UnixMillis(1),
            updated_at: UnixMillis(updated_at),
            snapshot: PullRequestSnapshot {
                number: 5,
                url: "https://forge/acme/app/pull/5".to_owned(),
                lifecycle_state: life,
                is_draft: false,
                head_branch: "fix".to_owned(),
                base_branch: "main".to_owned(),
                head_sha: None,
                repo_owner: "Acme".to_owned(),
                repo_name: "App".to_owned(),
                repository_external_id: None,
                title: None,
                provider_created_at: None,
                provider_updated_at: None,
                merged_at: None,
                closed_at: None,
            },
        }
    }

    #[derive(Debug, PartialEq, Eq, Deserialize)]
    struct Row {
        lifecycle_state: String,
        repository_external_id: Option<String>,
    }

    fn row(db: &Native) -> Option<Row> {
        let sql = "SELECT lifecycle_state, repository_external_id FROM session_pull_requests";
        block_on(db.rows(sql, vec![])).expect("runs").pop()
    }

    #[test]
    fn d1_keeps_the_newest_that_a_session_says_of_a_pull_request() {
        let db = listed(1);
        let known = |life: &str, id: Option<&str>| {
            Some(Row { lifecycle_state: life.to_owned(), repository_external_id: id.map(str::to_owned) })
        };
        let mut numbered = told(1, LifecycleState::Merged, 10);
        numbered.snapshot.repository_external_id = Some("7".to_owned());
        block_on(record(&db, &numbered)).expect("runs");
        block_on(record(&db, &told(1, LifecycleState::Open, 9))).expect("runs");
        assert_eq!(row(&db), known("merged", Some("7")), "an older one that was tried again");
        block_on(record(&db, &told(1, LifecycleState::Open, 10))).expect("runs");
        assert_eq!(row(&db), known("open", Some("7")), "what is known stays known");
    }

    #[test]
    fn a_webhook_finds_the_sessions_by_name_or_by_the_forges_number() {
        let db = listed(1);
        let mut record_of = told(1, LifecycleState::Open, 2);
        record_of.snapshot.repository_external_id = Some("7".to_owned());
        block_on(record(&db, &record_of)).expect("runs");
        let found = |change: &dyn Fn(&mut PullRequestSnapshot)| {
            let mut snapshot = told(9, LifecycleState::Closed, 0).snapshot;
            change(&mut snapshot);
            block_on(holders(&db, &snapshot)).expect("runs").len()
        };
        assert_eq!(found(&|_| ()), 1);
        assert_eq!(found(&|s| s.repo_owner = "ACME".to_owned()), 1);
        assert_eq!(found(&|s| s.number = 6), 0);
        assert_eq!(found(&|s| s.repo_name = "renamed".to_owned()), 0);
        assert_eq!(
            found(&|s| {
                s.repo_name = "renamed".to_owned();
                s.repository_external_id = Some("7".to_owned());
            }),
            1
        );
    }

    #[test]
    fn a_deleted_session_has_no_pull_requests() {
        let db = listed(1);
        block_on(record(&db, &told(1, LifecycleState::Open, 2))).expect("runs");
        let (id, now) = (SessionId::from_bytes([1; 16]), UnixMillis(3));
        let entry = Entry::new(Author::system(), "session.delete", "session", id.as_str(), now);
        block_on(deleted_sessions::delete(&db, &id, now, &entry)).expect("runs");
        assert_eq!(row(&db), None);
        block_on(record(&db, &told(1, LifecycleState::Merged, 4))).expect("a late one is no failure");
        assert_eq!(row(&db), None);
    }
}
