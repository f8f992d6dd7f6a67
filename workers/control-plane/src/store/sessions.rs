//! `sessions`: the list. The session's own object holds the truth.

use oi_protocol::session_state::{SessionStatus, SpawnSource};
use oi_protocol::{EnvironmentId, SessionId, UnixMillis};
use oi_session::call::InitRepository;
use oi_session::job::IndexSession;
use serde::Deserialize;

use super::search::SessionFacts;
use super::{Database, DbError, Param, Statement, params, session_repositories};

/// A session that is about to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSession {
    /// Public id.
    pub id: SessionId,
    /// Title.
    pub title: Option<String>,
    /// What it works on, the primary first.
    pub repositories: Vec<InitRepository>,
    /// The environment that names them.
    pub environment_id: Option<EnvironmentId>,
    /// `provider/model`
    pub model: String,
    /// Default reasoning effort.
    pub reasoning_effort: Option<String>,
    /// What started it.
    pub spawn_source: SpawnSource,
    /// Who started it.
    pub user_id: Option<String>,
    /// Their login at the forge.
    pub scm_login: Option<String>,
}

impl NewSession {
    /// One that says no more than it must.
    #[cfg(test)]
    pub fn plain(id: SessionId) -> Self {
        Self {
            id,
            title: None,
            repositories: vec![],
            environment_id: None,
            model: "demo/scripted".to_owned(),
            reasoning_effort: None,
            spawn_source: SpawnSource::User,
            user_id: None,
            scm_login: None,
        }
    }

    /// Owner, name and base branch of its primary repository, as the columns have them.
    pub fn repository_columns(&self) -> (Option<&str>, Option<&str>, Option<&str>) {
        self.repositories.first().map_or((None, None, None), |primary| {
            (Some(primary.repo_owner.as_str()), Some(primary.repo_name.as_str()), Some(primary.base_branch.as_str()))
        })
    }
}

/// Lists it, before its object is told.
#[cfg(test)]
pub async fn insert(db: &impl Database, session: &NewSession, now: UnixMillis) -> Result<(), DbError> {
    insert_with(db, session, now, Vec::new()).await
}

/// Lists it, before its object is told, with what is pinned to it: all or nothing.
pub async fn insert_with(
    db: &impl Database,
    session: &NewSession,
    now: UnixMillis,
    pinned: Vec<Statement>,
) -> Result<(), DbError> {
    let mut statements = vec![listing(session, now)];
    statements.extend(session_repositories::insert(&session.id, &session.repositories));
    statements.extend(pinned);
    db.batch(statements).await.map(|_| ())
}

fn listing(session: &NewSession, now: UnixMillis) -> Statement {
    let (owner, name, branch) = session.repository_columns();
    (
        "INSERT INTO sessions (id, title, repo_owner, repo_name, base_branch, model, reasoning_effort, status,
            spawn_source, scm_login, user_id, created_at, updated_at, environment_id)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'created', ?8, ?9, ?10, ?11, ?11, ?12)",
        params![
            session.id.as_str(),
            session.title.clone(),
            owner,
            name,
            branch,
            session.model.as_str(),
            session.reasoning_effort.clone(),
            session.spawn_source.as_str(),
            session.scm_login.clone(),
            session.user_id.clone(),
            now.0,
            session.environment_id.as_ref().map(EnvironmentId::as_str),
        ],
    )
}

/// Marks a session as failed whose object could not be told of it.
pub async fn mark_failed(db: &impl Database, id: &SessionId, now: UnixMillis) -> Result<(), DbError> {
    db.change(
        "UPDATE sessions SET status = 'failed', updated_at = ? WHERE id = ? AND counter = 0",
        params![now.0, id.as_str()],
    )
    .await
    .map(|_| ())
}

/// Takes over what the session's object says, unless something newer of it is there.
pub async fn project(db: &impl Database, facts: &IndexSession) -> Result<(), DbError> {
    db.change(
        "UPDATE sessions SET counter = ?2, status = ?3, title = ?4, updated_at = ?5, message_count = ?6, pr_count = ?7,
            total_cost = ?8, active_duration_ms = ?9, latest_terminal_message_id = ?10, latest_terminal_created_at = ?11,
            latest_terminal_completed_at = ?12 WHERE id = ?1 AND counter < ?2",
        params![
            facts.session_id.as_str(),
            facts.counter,
            facts.status.as_str(),
            facts.title.clone(),
            facts.updated_at.0,
            facts.message_count,
            facts.pr_count,
            facts.total_cost,
            facts.active_duration_ms,
            facts.latest_output.as_ref().map(|latest| latest.message_id.as_str()),
            facts.latest_output.as_ref().map(|latest| latest.created_at.0),
            facts.latest_output.as_ref().map(|latest| latest.completed_at.0),
        ],
    )
    .await?;
    if facts.status == SessionStatus::Active {
        // A child that says that it is active counts as such: its lease ends.
        db.change("DELETE FROM child_admission_leases WHERE child_session_id = ?", params![facts.session_id.as_str()])
            .await?;
    }
    Ok(())
}

/// How long a session that nobody uses stays in the list, in ms.
const DRAFT_AGE_MS: i64 = 8 * 3_600_000;

/// Sessions that nobody ever used and that nothing changed for eight hours, oldest first.
pub async fn abandoned_drafts(db: &impl Database, now: UnixMillis) -> Result<Vec<String>, DbError> {
    #[derive(Deserialize)]
    struct Draft {
        id: String,
    }
    let drafts: Vec<Draft> = db
        .rows(
            "SELECT id FROM sessions WHERE status = 'created' AND updated_at < ? ORDER BY updated_at, id LIMIT 50",
            params![now.plus(-DRAFT_AGE_MS).0],
        )
        .await?;
    Ok(drafts.into_iter().map(|draft| draft.id).collect())
}

/// Archives a draft that has no object.
pub async fn archive_draft(db: &impl Database, id: &str, now: UnixMillis) -> Result<(), DbError> {
    db.change(
        "UPDATE sessions SET status = 'archived', updated_at = ? WHERE id = ? AND status = 'created'",
        params![now.0, id],
    )
    .await
    .map(|_| ())
}

/// Whether a session is listed.
pub async fn exists(db: &impl Database, id: &SessionId) -> Result<bool, DbError> {
    #[derive(Deserialize)]
    struct One {}
    let row: Option<One> = db.row("SELECT 1 AS one FROM sessions WHERE id = ?", params![id.as_str()]).await?;
    Ok(row.is_some())
}

/// Whose a listed session is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Owner {
    /// The person; none when nobody is known.
    pub user_id: Option<String>,
}

/// Whose a session is; `None` when it is not listed.
pub async fn owner(db: &impl Database, id: &SessionId) -> Result<Option<Owner>, DbError> {
    db.row("SELECT user_id FROM sessions WHERE id = ?", params![id.as_str()]).await
}

/// What search keeps of a session; none of one that was deleted.
pub async fn search_facts(db: &impl Database, id: &str) -> Result<Option<SessionFacts>, DbError> {
    db.row(
        "SELECT id, counter, title, repo_owner, repo_name, user_id, status, created_at, updated_at FROM sessions
            WHERE id = ?",
        params![id],
    )
    .await
}

/// The same of the sessions after one, in the order of their ids.
pub async fn search_facts_after(db: &impl Database, after: &str, limit: i64) -> Result<Vec<SessionFacts>, DbError> {
    db.rows(
        "SELECT id, counter, title, repo_owner, repo_name, user_id, status, created_at, updated_at FROM sessions
            WHERE id > ? ORDER BY id LIMIT ?",
        params![after, limit],
    )
    .await
}

/// What to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListQuery {
    /// 1 to 100.
    pub limit: i64,
    /// From 0.
    pub offset: i64,
    /// Only of this status.
    pub status: Option<SessionStatus>,
    /// Not of this status.
    pub exclude_status: Option<SessionStatus>,
    /// Leave out what automations and the GitHub bot started.
    pub exclude_automation_lineage: bool,
    /// Only of these people; of anybody when empty.
    pub created_by: Vec<String>,
}

/// A row of the list, with the columns' names.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ListedSession {
    pub id: String,
    pub title: Option<String>,
    pub repo_owner: Option<String>,
    pub repo_name: Option<String>,
    pub model: String,
    pub reasoning_effort: Option<String>,
    pub base_branch: Option<String>,
    pub status: String,
    pub parent_session_id: Option<String>,
    pub spawn_source: String,
    pub spawn_depth: u32,
    pub automation_id: Option<String>,
    pub automation_run_id: Option<String>,
    pub scm_login: Option<String>,
    pub user_id: Option<String>,
    pub total_cost: f64,
    pub active_duration_ms: i64,
    pub message_count: u32,
    pub pr_count: u32,
    pub environment_id: Option<String>,
    pub created_at: i64,
    pub updated_at: i64,
}

impl ListedSession {
    /// Its columns.
    pub const COLUMNS: &str = "id, title, repo_owner, repo_name, model, reasoning_effort, base_branch, status,
        parent_session_id, spawn_source, spawn_depth, automation_id, automation_run_id, scm_login, user_id, total_cost,
        active_duration_ms, message_count, pr_count, environment_id, created_at, updated_at";
}

/// What a session's settings are looked up by.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Target {
    repo_owner: Option<String>,
    repo_name: Option<String>,
    /// The environment.
    pub environment_id: Option<String>,
}

impl Target {
    /// `owner/name` of the primary repository, in lower case.
    pub fn repository(&self) -> Option<String> {
        let (owner, name) = (self.repo_owner.as_ref()?, self.repo_name.as_ref()?);
        Some(format!("{owner}/{name}").to_ascii_lowercase())
    }
}

/// What a session's settings are looked up by.
pub async fn target(db: &impl Database, id: &SessionId) -> Result<Option<Target>, DbError> {
    db.row("SELECT repo_owner, repo_name, environment_id FROM sessions WHERE id = ?", params![id.as_str()]).await
}

/// A page of the list, newest change first, and whether more follow.
pub async fn list(db: &impl Database, query: &ListQuery) -> Result<(Vec<ListedSession>, bool), DbError> {
    let mut sql = format!("SELECT {} FROM sessions WHERE 1 = 1", ListedSession::COLUMNS);
    let mut values: Vec<Param> = Vec::new();
    if let Some(status) = query.status {
        sql += " AND status = ?";
        values.push(status.as_str().into());
    }
    if let Some(status) = query.exclude_status {
        sql += " AND status <> ?";
        values.push(status.as_str().into());
    }
    if query.exclude_automation_lineage {
        sql += " AND automation_id IS NULL AND spawn_source NOT IN ('automation', 'github-bot')";
    }
    if !query.created_by.is_empty() {
        sql += " AND user_id IN (";
        sql += &vec!["?"; query.created_by.len()].join(", ");
        sql += ")";
        values.extend(query.created_by.iter().map(|id| Param::from(id.as_str())));
    }
    sql += " ORDER BY updated_at DESC, id LIMIT ? OFFSET ?";
    values.push((query.limit + 1).into());
    values.push(query.offset.into());
    let mut rows: Vec<ListedSession> = db.rows(&sql, values).await?;
    let has_more = rows.len() as i64 > query.limit;
    rows.truncate(query.limit as usize);
    Ok((rows, has_more))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::native::Native;
    use futures_executor::block_on;

    fn app() -> InitRepository {
        InitRepository {
            repo_owner: "acme".to_owned(),
            repo_name: "app".to_owned(),
            repo_id: 7,
            base_branch: "main".to_owned(),
            base_sha: None,
        }
    }

    fn new(byte: u8) -> NewSession {
        NewSession {
            repositories: vec![app()],
            spawn_source: if byte == 3 { SpawnSource::GithubBot } else { SpawnSource::User },
            scm_login: Some("ada".to_owned()),
            ..NewSession::plain(SessionId::from_bytes([byte; 16]))
        }
    }

    fn facts(byte: u8, counter: i64, title: &str) -> IndexSession {
        IndexSession {
            session_id: SessionId::from_bytes([byte; 16]),
            counter,
            status: SessionStatus::Active,
            title: Some(title.to_owned()),
            updated_at: UnixMillis(100 + counter),
            message_count: counter,
            pr_count: 0,
            total_cost: 0.5,
            active_duration_ms: 0,
            latest_output: None,
        }
    }

    #[test]
    fn older_facts_never_replace_newer_ones() {
        let db = Native::new();
        block_on(insert(&db, &new(1), UnixMillis(1))).expect("runs");
        for (counter, title) in [(2, "second"), (1, "first"), (2, "again")] {
            block_on(project(&db, &facts(1, counter, title))).expect("runs");
        }
        let (rows, _) = block_on(list(&db, &ListQuery { limit: 10, ..ListQuery::default() })).expect("runs");
        assert_eq!(rows[0].title.as_deref(), Some("second"));
        block_on(mark_failed(&db, &new(1).id, UnixMillis(5))).expect("runs");
        let (rows, _) = block_on(list(&db, &ListQuery { limit: 10, ..ListQuery::default() })).expect("runs");
        assert_eq!(rows[0].status, "active", "a session that spoke for itself is not marked as failed");
    }

    #[test]
    fn a_sweep_takes_50_drafts_oldest_first_and_leaves_what_is_young_or_used() {
        let db = Native::new();
        for byte in 1..=60 {
            block_on(insert(&db, &new(byte), UnixMillis(i64::from(byte)))).expect("runs");
        }
        block_on(project(&db, &facts(2, 1, "used"))).expect("runs");
        let eight_hours = 28_800_000_i64;
        let drafts = |after: i64| block_on(abandoned_drafts(&db, UnixMillis(eight_hours + after))).expect("runs");
        let id = |byte| SessionId::from_bytes([byte; 16]).to_string();
        assert_eq!(drafts(4), vec![id(1), id(3)], "one changed at the limit is too young, one in use is no draft");
        assert_eq!((drafts(1_000).len(), drafts(1_000)[49].clone()), (50, id(51)));
        block_on(archive_draft(&db, &id(1), UnixMillis(9))).expect("runs");
        block_on(archive_draft(&db, &id(2), UnixMillis(9))).expect("runs");
        assert_eq!(drafts(4), vec![id(3)]);
        let active = ListQuery { status: Some(SessionStatus::Active), limit: 10, ..ListQuery::default() };
        assert_eq!(block_on(list(&db, &active)).expect("runs").0.len(), 1, "what is in use is not archived");
    }

    #[test]
    fn what_a_session_works_on_is_listed_with_it_in_its_order_and_goes_with_it() {
        let db = Native::new();
        let environment_id = EnvironmentId::parse("env_1").ok();
        let other = InitRepository { repo_name: "other".to_owned(), repo_id: 8, ..app() };
        let two = NewSession { repositories: vec![other, app()], environment_id, ..new(1) };
        block_on(insert(&db, &two, UnixMillis(1))).expect("runs");
        block_on(insert(&db, &NewSession { repositories: vec![], ..new(2) }, UnixMillis(2))).expect("runs");
        let (rows, _) = block_on(list(&db, &ListQuery { limit: 10, ..ListQuery::default() })).expect("runs");
        let shown: Vec<_> = rows.iter().map(|row| (row.repo_name.as_deref(), row.environment_id.as_deref())).collect();
        assert_eq!(shown, [(None, None), (Some("other"), Some("env_1"))]);
        let names = || {
            let found = block_on(session_repositories::of(&db, &[two.id.as_str(), rows[0].id.as_str()])).expect("runs");
            found.into_values().flatten().map(|repository| repository.repo_name).collect::<Vec<_>>()
        };
        assert_eq!(names(), ["other", "app"]);
        block_on(db.change("DELETE FROM sessions", vec![])).expect("runs");
        assert_eq!(names(), Vec::<String>::new());
    }

    #[test]
    fn the_list_is_read_by_an_index_in_its_order() {
        let db = Native::new();
        let all = ListQuery { limit: 50, ..ListQuery::default() };
        for (query, index) in [
            (all.clone(), "sessions_updated"),
            (ListQuery { exclude_status: Some(SessionStatus::Archived), ..all.clone() }, "sessions_updated"),
            (ListQuery { exclude_automation_lineage: true, ..all.clone() }, "sessions_updated"),
            (ListQuery { status: Some(SessionStatus::Active), ..all.clone() }, "sessions_status_updated"),
            (ListQuery { created_by: vec!["u1".to_owned()], ..all.clone() }, "sessions_user_updated"),
        ] {
            db.plans();
            block_on(list(&db, &query)).expect("runs");
            let steps = db.plans();
            assert!(steps[0].contains(&format!("INDEX {index}")), "{query:?}: {steps:?}");
            // Only rows of the same moment are sorted, by their ids.
            assert!(!steps.iter().any(|step| step == "USE TEMP B-TREE FOR ORDER BY"), "{query:?}: {steps:?}");
        }
    }

    #[test]
    fn the_list_is_paged_and_filtered() {
        let db = Native::new();
        for byte in 1..=3 {
            block_on(insert(&db, &new(byte), UnixMillis(i64::from(byte)))).expect("runs");
        }
        let ids = |query: ListQuery| {
            let (rows, more) = block_on(list(&db, &query)).expect("runs");
            (rows.into_iter().map(|row| row.id.as_bytes()[1] - b'0').collect::<Vec<_>>(), more)
        };
        let all = ListQuery { limit: 2, ..ListQuery::default() };
        assert_eq!(ids(all.clone()), (vec![3, 2], true));
        assert_eq!(ids(ListQuery { offset: 2, ..all.clone() }), (vec![1], false));
        assert_eq!(ids(ListQuery { exclude_automation_lineage: true, ..all.clone() }), (vec![2, 1], false));
        assert_eq!(ids(ListQuery { status: Some(SessionStatus::Active), ..all.clone() }), (vec![], false));
        assert_eq!(ids(ListQuery { created_by: vec!["u1".to_owned(), "u2".to_owned()], ..all }), (vec![], false));
        assert_eq!(block_on(exists(&db, &new(1).id)), Ok(true));
        assert_eq!(block_on(exists(&db, &new(9).id)), Ok(false));
        assert!(block_on(insert(&db, &new(1), UnixMillis(9))).is_err(), "an id is used once");
    }
}
