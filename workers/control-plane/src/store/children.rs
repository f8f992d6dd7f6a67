//! Children in the list of sessions: whom a parent may start or wake, whom it has, what of them is cancelled. What
//! admits is one statement each, so that two requests at a time never admit more than the limits.

use oi_protocol::{SessionId, UnixMillis};
use serde::Deserialize;

use super::sessions::{ListedSession, NewSession};
use super::{Database, DbError, params, session_repositories};

/// Levels below a session that a person started.
pub const MAX_DEPTH: i64 = 2;
/// A prompt on its way to a child that had ended counts as a live child for this long, in ms.
const LEASE_MS: i64 = 300_000;
/// Nothing is spawned below a subtree that is being cancelled for this long, in ms.
const CANCELLING_MS: i64 = 120_000;
/// Descendants that one cancellation looks at.
const DESCENDANTS_MAX: i64 = 300;
/// The list may be this much behind what a session's object knows, in ms.
const LIST_LAG_MS: i64 = 60_000;
/// Children listed, at most.
const LISTED_MAX: i64 = 200;

/// How many children a session may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChildLimits {
    /// At a time.
    pub concurrent: i64,
    /// In all.
    pub total: i64,
}

impl Default for ChildLimits {
    fn default() -> Self {
        Self { concurrent: 5, total: 15 }
    }
}

/// What decides whether a session may have another child.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Standing {
    /// Its depth.
    pub depth: i64,
    /// Children that it ever had.
    pub total: i64,
    /// Children that are created or active, and prompts on their way to others.
    pub live: i64,
    /// Whether it, or a session above it, is cancelled or being cancelled.
    pub cancelled: i64,
}

/// Sessions from `?1` upwards.
const UP: &str = "WITH RECURSIVE up (id, parent_session_id, level) AS (
        SELECT id, parent_session_id, 0 FROM sessions WHERE id = ?1
        UNION ALL
        SELECT above.id, above.parent_session_id, level + 1 FROM sessions above
            JOIN up ON above.id = up.parent_session_id WHERE level < 10)";
/// Whether one of them is cancelled at `?2`.
const CANCELLED: &str = "EXISTS (SELECT 1 FROM up JOIN session_cancellations barred ON barred.session_id = up.id
        WHERE barred.expires_at IS NULL OR barred.expires_at > ?2)";
/// Children ever of `?1`.
const TOTAL: &str = "(SELECT COUNT(*) FROM sessions child WHERE child.parent_session_id = ?1)
        + (SELECT COUNT(*) FROM deleted_sessions gone WHERE gone.parent_session_id = ?1)";
/// Children of `?1` that live at `?2`, and prompts on their way to others of them.
const LIVE: &str = "(SELECT COUNT(*) FROM sessions child WHERE child.parent_session_id = ?1
            AND child.status IN ('created', 'active'))
        + (SELECT COUNT(*) FROM child_admission_leases lease WHERE lease.parent_session_id = ?1
            AND lease.expires_at > ?2 AND lease.child_session_id NOT IN (SELECT id FROM sessions live
                WHERE live.parent_session_id = ?1 AND live.status IN ('created', 'active')))";

/// What a session's limits are counted from; `None` when it is not listed.
pub async fn standing(db: &impl Database, id: &SessionId, now: UnixMillis) -> Result<Option<Standing>, DbError> {
    let sql = format!(
        "{UP} SELECT parent.spawn_depth AS depth, {TOTAL} AS total, {LIVE} AS live, {CANCELLED} AS cancelled
            FROM sessions parent WHERE parent.id = ?1"
    );
    db.row(&sql, params![id.as_str(), now.0]).await
}

/// Lists a child of `parent`, if the limits let it: that is its admission, and it counts from then on.
pub async fn admit(
    db: &impl Database,
    parent: &SessionId,
    child: &NewSession,
    limits: ChildLimits,
    now: UnixMillis,
) -> Result<bool, DbError> {
    let (owner, name, branch) = child.repository_columns();
    let sql = format!(
        "INSERT INTO sessions (id, title, repo_owner, repo_name, base_branch, model, reasoning_effort, status,
            parent_session_id, spawn_source, spawn_depth, automation_id, automation_run_id, environment_id, scm_login,
            user_id, created_at, updated_at)
         {UP} SELECT ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'created', parent.id, 'agent', parent.spawn_depth + 1,
            parent.automation_id, parent.automation_run_id, parent.environment_id, ?10, ?11, ?2, ?2
            FROM sessions parent WHERE parent.id = ?1 AND parent.spawn_depth < ?12
                AND parent.status NOT IN ('cancelled', 'archived') AND NOT {CANCELLED}
                AND {TOTAL} < ?13 AND {LIVE} < ?14"
    );
    let changed = db
        .change(
            &sql,
            params![
                parent.as_str(),
                now.0,
                child.id.as_str(),
                child.title.clone(),
                owner,
                name,
                branch,
                child.model.as_str(),
                child.reasoning_effort.clone(),
                child.scm_login.clone(),
                child.user_id.clone(),
                MAX_DEPTH,
                limits.total,
                limits.concurrent,
            ],
        )
        .await?;
    if changed > 0 && !child.repositories.is_empty() {
        db.batch(session_repositories::insert(&child.id, &child.repositories).collect()).await?;
    }
    Ok(changed > 0)
}

/// Lets a prompt go to a child that has ended, if the limits let it live again. The child has one lease at a time.
pub async fn lease(
    db: &impl Database,
    (parent, child): (&SessionId, &SessionId),
    token: &str,
    limits: ChildLimits,
    now: UnixMillis,
) -> Result<bool, DbError> {
    let sql = format!(
        "INSERT INTO child_admission_leases (lease_token, parent_session_id, child_session_id, expires_at)
         {UP} SELECT ?3, ?1, ?4, ?5 WHERE {LIVE} < ?6 AND NOT {CANCELLED}
            AND NOT EXISTS (SELECT 1 FROM session_cancellations barred WHERE barred.session_id = ?4
                AND (barred.expires_at IS NULL OR barred.expires_at > ?2))
         ON CONFLICT (child_session_id) DO UPDATE SET lease_token = excluded.lease_token,
            expires_at = excluded.expires_at"
    );
    let changed = db
        .change(&sql, params![parent.as_str(), now.0, token, child.as_str(), now.plus(LEASE_MS).0, limits.concurrent])
        .await?;
    Ok(changed > 0)
}

/// Gives a lease back, by whoever holds it.
pub async fn release(db: &impl Database, token: &str) -> Result<(), DbError> {
    db.change("DELETE FROM child_admission_leases WHERE lease_token = ?", params![token]).await.map(|_| ())
}

/// Forgets leases that have ended.
pub async fn sweep_leases(db: &impl Database, now: UnixMillis) -> Result<(), DbError> {
    db.change("DELETE FROM child_admission_leases WHERE expires_at <= ?", params![now.0]).await.map(|_| ())?;
    db.change("DELETE FROM session_cancellations WHERE expires_at <= ?", params![now.0]).await.map(|_| ())
}

/// A child, with what is asked of it most.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Member {
    /// The session.
    pub id: String,
    /// As the list has it.
    pub status: String,
}

/// The direct child of a session, or `None`.
pub async fn direct_child(
    db: &impl Database,
    parent: &SessionId,
    child: &SessionId,
) -> Result<Option<Member>, DbError> {
    db.row(
        "SELECT id, status FROM sessions WHERE id = ? AND parent_session_id = ?",
        params![child.as_str(), parent.as_str()],
    )
    .await
}

/// The children of a session, newest first.
pub async fn list(db: &impl Database, parent: &SessionId) -> Result<Vec<ListedSession>, DbError> {
    let sql = format!(
        "SELECT {} FROM sessions WHERE parent_session_id = ? ORDER BY created_at DESC, id LIMIT {LISTED_MAX}",
        ListedSession::COLUMNS
    );
    db.rows(&sql, params![parent.as_str()]).await
}

/// Nothing is spawned or woken below a session from here on: for good, or while what is below it is cancelled.
pub async fn bar(db: &impl Database, id: &SessionId, now: UnixMillis, for_good: bool) -> Result<(), DbError> {
    let expires_at = (!for_good).then(|| now.plus(CANCELLING_MS).0);
    db.change(
        "INSERT INTO session_cancellations (session_id, expires_at) SELECT id, ?2 FROM sessions WHERE id = ?1
         ON CONFLICT (session_id) DO UPDATE SET
            expires_at = CASE WHEN session_cancellations.expires_at IS NULL THEN NULL ELSE excluded.expires_at END",
        params![id.as_str(), expires_at],
    )
    .await
    .map(|_| ())
}

/// Lifts what [`bar`] set for a while.
pub async fn lift(db: &impl Database, id: &SessionId) -> Result<(), DbError> {
    db.change("DELETE FROM session_cancellations WHERE session_id = ? AND expires_at IS NOT NULL", params![id.as_str()])
        .await
        .map(|_| ())
}

/// What lives below a session, deepest first, through whatever has ended. A session that ended a moment ago may live
/// again, unknown to the list.
pub async fn live_descendants(db: &impl Database, id: &SessionId, now: UnixMillis) -> Result<Vec<Member>, DbError> {
    let sql = format!(
        "WITH RECURSIVE down (id, status, updated_at, level) AS (
            SELECT id, status, updated_at, 1 FROM sessions WHERE parent_session_id = ?1
            UNION ALL
            SELECT below.id, below.status, below.updated_at, level + 1 FROM sessions below
                JOIN down ON below.parent_session_id = down.id WHERE level < 10)
         SELECT id, status FROM down WHERE status IN ('created', 'active')
            OR (status IN ('completed', 'failed') AND updated_at > ?2)
         ORDER BY level DESC, id LIMIT {DESCENDANTS_MAX}"
    );
    db.rows(&sql, params![id.as_str(), now.0 - LIST_LAG_MS]).await
}

/// Children that were admitted and of which nothing was heard since: their start was cut off.
pub async fn half_born(db: &impl Database, now: UnixMillis) -> Result<Vec<Member>, DbError> {
    db.rows(
        "SELECT id, status FROM sessions WHERE spawn_source = 'agent' AND status = 'created' AND counter = 0
            AND created_at < ? ORDER BY created_at LIMIT 20",
        params![now.0 - LEASE_MS],
    )
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::audit_log::{Author, Entry};
    use crate::store::native::Native;
    use crate::store::{deleted_sessions, sessions};
    use futures_executor::block_on;
    use oi_protocol::session_state::SessionStatus;
    use oi_session::job::IndexSession;

    const NOW: UnixMillis = UnixMillis(1_000_000);

    fn id(byte: u8) -> SessionId {
        SessionId::from_bytes([byte; 16])
    }

    fn new(byte: u8) -> NewSession {
        NewSession {
            title: Some(format!("t{byte}")),
            scm_login: Some("grace".to_owned()),
            ..NewSession::plain(id(byte))
        }
    }

    fn root(db: &Native) -> SessionId {
        block_on(sessions::insert(db, &new(1), NOW)).expect("runs");
        id(1)
    }

    fn child(db: &Native, parent: &SessionId, byte: u8, limits: ChildLimits) -> bool {
        block_on(admit(db, parent, &new(byte), limits, NOW)).expect("runs")
    }

    fn says(db: &Native, byte: u8, counter: i64, status: SessionStatus) {
        let facts = IndexSession {
            session_id: id(byte),
            counter,
            status,
            title: None,
            updated_at: NOW,
            message_count: 1,
            pr_count: 0,
            total_cost: 0.0,
            active_duration_ms: 0,
            latest_output: None,
        };
        block_on(sessions::project(db, &facts)).expect("runs");
    }

    fn of(db: &Native, byte: u8) -> Standing {
        block_on(standing(db, &id(byte), NOW)).expect("runs").expect("is listed")
    }

    #[test]
    fn a_session_has_as_many_live_children_as_its_limit_and_no_more() {
        let db = Native::new();
        let parent = root(&db);
        let limits = ChildLimits { concurrent: 2, total: 3 };
        assert!(child(&db, &parent, 2, limits) && child(&db, &parent, 3, limits));
        assert!(!child(&db, &parent, 4, limits), "two live");
        assert_eq!(of(&db, 1), Standing { depth: 0, total: 2, live: 2, cancelled: 0 });
        says(&db, 2, 1, SessionStatus::Completed);
        assert!(child(&db, &parent, 4, limits));
        says(&db, 3, 1, SessionStatus::Failed);
        assert!(!child(&db, &parent, 5, limits), "three in all");
        let listed = block_on(list(&db, &parent)).expect("runs");
        assert_eq!(listed.len(), 3);
        assert!(listed.iter().all(|row| row.spawn_depth == 1 && row.spawn_source == "agent"));
    }

    #[test]
    fn a_deleted_child_counts_still() {
        let db = Native::new();
        let parent = root(&db);
        let limits = ChildLimits { concurrent: 5, total: 1 };
        assert!(child(&db, &parent, 2, limits));
        let entry = Entry::new(Author::system(), "session.delete", "session", id(2).as_str(), NOW);
        assert!(block_on(deleted_sessions::delete(&db, &id(2), NOW, &entry)).expect("runs"));
        assert!(!child(&db, &parent, 3, limits));
        assert_eq!(of(&db, 1).total, 1);
    }

    #[test]
    fn depth_ends_at_two() {
        let db = Native::new();
        let parent = root(&db);
        let limits = ChildLimits::default();
        assert!(child(&db, &parent, 2, limits) && child(&db, &id(2), 3, limits));
        assert!(!child(&db, &id(3), 4, limits));
        assert_eq!(of(&db, 3).depth, MAX_DEPTH);
        assert!(!child(&db, &id(9), 4, limits), "a parent that is not listed");
    }

    #[test]
    fn nothing_is_spawned_below_what_is_cancelled() {
        let db = Native::new();
        let parent = root(&db);
        let limits = ChildLimits::default();
        assert!(child(&db, &parent, 2, limits));
        block_on(bar(&db, &id(1), NOW, false)).expect("runs");
        assert!(!child(&db, &id(2), 3, limits), "its parent is being cancelled");
        assert!(!child(&db, &parent, 3, limits));
        assert_eq!((of(&db, 1).cancelled, of(&db, 2).cancelled), (1, 1));
        block_on(lift(&db, &id(1))).expect("runs");
        assert!(child(&db, &id(2), 3, limits));
        block_on(bar(&db, &id(2), NOW, true)).expect("runs");
        // A passing bar never shortens one for good.
        block_on(bar(&db, &id(2), NOW, false)).expect("runs");
        block_on(lift(&db, &id(2))).expect("runs");
        block_on(sweep_leases(&db, NOW.plus(10_000_000))).expect("runs");
        assert!(!child(&db, &id(2), 4, limits));
        assert!(child(&db, &parent, 4, limits), "beside it all goes on");
        says(&db, 1, 1, SessionStatus::Cancelled);
        assert!(!child(&db, &parent, 5, limits), "the list says so too");
    }

    #[test]
    fn waking_a_child_counts_once_from_the_lease_to_its_end() {
        let db = Native::new();
        let parent = root(&db);
        let limits = ChildLimits { concurrent: 2, total: 15 };
        assert!(child(&db, &parent, 2, limits) && child(&db, &parent, 3, limits));
        let wake =
            |byte: u8, token: &str, now| block_on(lease(&db, (&id(1), &id(byte)), token, limits, now)).expect("runs");
        says(&db, 2, 1, SessionStatus::Completed);
        assert!(wake(2, "a", NOW));
        assert!(!child(&db, &parent, 4, limits), "the lease counts");
        says(&db, 2, 2, SessionStatus::Active);
        assert_eq!(of(&db, 1).live, 2, "and not twice");
        says(&db, 2, 3, SessionStatus::Completed);
        assert_eq!(of(&db, 1).live, 1, "its child said that it was active, which ended the lease");
        assert!(wake(2, "b", NOW));
        assert!(!wake(4, "c", NOW), "no room");
        block_on(release(&db, "a")).expect("runs");
        assert_eq!(of(&db, 1).live, 2, "only its holder gives it back");
        block_on(release(&db, "b")).expect("runs");
        assert_eq!(of(&db, 1).live, 1);
        assert!(wake(2, "d", NOW));
        assert_eq!(block_on(standing(&db, &id(1), NOW.plus(LEASE_MS))).expect("runs").expect("listed").live, 1);
        block_on(bar(&db, &id(2), NOW, true)).expect("runs");
        assert!(!wake(2, "e", NOW), "a cancelled child is not woken");
    }

    #[test]
    fn a_cascade_reaches_what_lives_below_what_has_ended_deepest_first() {
        let db = Native::new();
        let parent = root(&db);
        let limits = ChildLimits::default();
        assert!(child(&db, &parent, 2, limits) && child(&db, &id(2), 3, limits) && child(&db, &id(2), 4, limits));
        says(&db, 2, 1, SessionStatus::Completed);
        says(&db, 3, 1, SessionStatus::Active);
        says(&db, 4, 1, SessionStatus::Cancelled);
        let later = NOW.plus(LIST_LAG_MS);
        let found = block_on(live_descendants(&db, &parent, later)).expect("runs");
        assert_eq!(found.iter().map(|m| m.id.as_str()).collect::<Vec<_>>(), [id(3).as_str()]);
        let found = block_on(live_descendants(&db, &parent, NOW)).expect("runs");
        assert_eq!(found.iter().map(|m| m.id.as_str()).collect::<Vec<_>>(), [id(3).as_str(), id(2).as_str()]);
        assert_eq!(block_on(direct_child(&db, &parent, &id(3))).expect("runs"), None, "a grandchild is no child");
        assert!(block_on(direct_child(&db, &parent, &id(2))).expect("runs").is_some());
    }

    #[test]
    fn a_child_of_which_nothing_was_heard_is_found() {
        let db = Native::new();
        let parent = root(&db);
        assert!(child(&db, &parent, 2, ChildLimits::default()) && child(&db, &parent, 3, ChildLimits::default()));
        says(&db, 3, 1, SessionStatus::Active);
        assert!(block_on(half_born(&db, NOW)).expect("runs").is_empty());
        let late = NOW.plus(LEASE_MS + 1);
        assert_eq!(block_on(half_born(&db, late)).expect("runs")[0].id, id(2).as_str());
        block_on(sessions::mark_failed(&db, &id(2), late)).expect("runs");
        assert!(block_on(half_born(&db, late)).expect("runs").is_empty());
    }
}
