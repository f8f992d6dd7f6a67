//! What sessions and pull requests of a window of time come to. Each query is a range of an index by time.

use oi_protocol::UnixMillis;
use serde::{Deserialize, Serialize};

use super::{Database, DbError, params};

/// People or repositories that are told at most.
const GROUPS_MAX: i64 = 500;
const DAY_MS: i64 = 86_400_000;

/// Sessions that people started, by themselves or by a bot, within the window.
const COUNTED: &str = "member.created_at >= ?1 AND member.created_at < ?2
        AND member.spawn_source IN ('user', 'slack-bot', 'linear-bot', 'github-bot')";
/// Who started a session.
const PERSON: &str = "COALESCE(member.user_id, member.scm_login, '__unknown__')";
const NAME: &str = "COALESCE(person.display_name, member.scm_login, 'Unknown')";
const ENDED: &str = "member.status IN ('completed', 'failed', 'cancelled', 'archived')";

/// From when to when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub from: i64,
    pub to: i64,
}

impl Window {
    /// The last days until now.
    pub const fn days(days: i64, now: UnixMillis) -> Self {
        Self { from: now.0 - days * DAY_MS, to: now.0 }
    }
}

/// The whole.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Summary {
    pub sessions: i64,
    pub users: i64,
    pub cost: f64,
    pub prs: i64,
    pub created: i64,
    pub active: i64,
    pub completed: i64,
    pub failed: i64,
    pub archived: i64,
    pub cancelled: i64,
}

/// All sessions of the window together.
pub async fn summary(db: &impl Database, window: Window) -> Result<Summary, DbError> {
    let status = |word: &str| format!("COALESCE(SUM(member.status = '{word}'), 0) AS {word}");
    let statuses = ["created", "active", "completed", "failed", "archived", "cancelled"].map(status).join(", ");
    let sql = format!(
        "SELECT COUNT(*) AS sessions, COUNT(DISTINCT COALESCE(member.user_id, member.scm_login)) AS users,
            COALESCE(SUM(member.total_cost), 0.0) AS cost, COALESCE(SUM(member.pr_count), 0) AS prs, {statuses}
         FROM sessions member WHERE {COUNTED}"
    );
    let row: Option<Summary> = db.row(&sql, params![window.from, window.to]).await?;
    row.ok_or_else(|| DbError("a sum without a row".to_owned()))
}

/// Sessions of a person's name on a day.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct DayCount {
    pub date: String,
    pub name: String,
    pub sessions: i64,
}

/// By day (UTC) and name.
pub async fn by_day(db: &impl Database, window: Window) -> Result<Vec<DayCount>, DbError> {
    let sql = format!(
        "SELECT strftime('%Y-%m-%d', member.created_at / 1000, 'unixepoch') AS date, {NAME} AS name, COUNT(*) AS sessions
         FROM sessions member LEFT JOIN users person ON person.id = member.user_id
         WHERE {COUNTED} GROUP BY 1, 2 ORDER BY 1, 2 LIMIT 20000"
    );
    db.rows(&sql, params![window.from, window.to]).await
}

/// By what sessions are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    User,
    Repository,
}

/// A person or a repository.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase"))]
pub struct Entry {
    pub key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    pub sessions: i64,
    pub completed: i64,
    pub failed: i64,
    pub cancelled: i64,
    pub cost: f64,
    pub prs: i64,
    pub message_count: i64,
    pub avg_duration: f64,
    pub last_active: i64,
}

/// Those with the most sessions first.
pub async fn breakdown(db: &impl Database, by: By, window: Window) -> Result<Vec<Entry>, DbError> {
    let (key, name) = match by {
        By::User => (PERSON.to_owned(), format!("MAX({NAME})")),
        By::Repository => {
            let key = "COALESCE(member.repo_owner || '/' || member.repo_name, 'No repository')";
            (key.to_owned(), "NULL".to_owned())
        }
    };
    let sql = format!(
        "SELECT {key} AS key, {name} AS display_name, COUNT(*) AS sessions,
            SUM(member.status = 'completed') AS completed, SUM(member.status = 'failed') AS failed,
            SUM(member.status = 'cancelled') AS cancelled, SUM(member.total_cost) AS cost, SUM(member.pr_count) AS prs,
            SUM(member.message_count) AS message_count,
            COALESCE(AVG(CASE WHEN {ENDED} THEN member.active_duration_ms END), 0.0) AS avg_duration,
            MAX(member.updated_at) AS last_active
         FROM sessions member LEFT JOIN users person ON person.id = member.user_id
         WHERE {COUNTED} GROUP BY 1 ORDER BY sessions DESC, key LIMIT {GROUPS_MAX}"
    );
    db.rows(&sql, params![window.from, window.to]).await
}

/// When a pull request was made.
const MADE: &str = "COALESCE(pull.provider_created_at, pull.created_at)";

/// What became of the pull requests of the window, and those that are open at all.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Pulls {
    pub created: i64,
    pub open: i64,
    pub draft: i64,
    pub merged: i64,
    pub closed: i64,
    pub merged_in_window: i64,
    pub avg_time_to_merge: Option<f64>,
    pub inventory: i64,
    pub avg_age: Option<f64>,
    pub session_cost: f64,
}

/// All together.
pub async fn pulls(db: &impl Database, window: Window) -> Result<Pulls, DbError> {
    let sql = format!(
        "SELECT funnel.*, merges.*, inventory.*, costs.* FROM
            (SELECT COUNT(*) AS created, COALESCE(SUM(pull.lifecycle_state = 'open' AND pull.is_draft = 0), 0) AS open,
                COALESCE(SUM(pull.is_draft = 1), 0) AS draft,
                COALESCE(SUM(pull.lifecycle_state = 'merged'), 0) AS merged,
                COALESCE(SUM(pull.lifecycle_state = 'closed'), 0) AS closed
             FROM session_pull_requests pull WHERE {MADE} >= ?1 AND {MADE} < ?2) funnel,
            (SELECT COUNT(*) AS merged_in_window, AVG(pull.merged_at - {MADE}) AS avg_time_to_merge
             FROM session_pull_requests pull WHERE pull.merged_at >= ?1 AND pull.merged_at < ?2) merges,
            (SELECT COUNT(*) AS inventory, AVG(?2 - {MADE}) AS avg_age
             FROM session_pull_requests pull WHERE pull.lifecycle_state = 'open') inventory,
            (SELECT COALESCE(SUM(member.total_cost), 0.0) AS session_cost FROM sessions member WHERE member.id IN
                (SELECT pull.session_id FROM session_pull_requests pull WHERE {MADE} >= ?1 AND {MADE} < ?2)) costs"
    );
    let row: Option<Pulls> = db.row(&sql, params![window.from, window.to]).await?;
    row.ok_or_else(|| DbError("a sum without a row".to_owned()))
}

/// Pull requests that were made and merged on a day, of a repository, or of what started their sessions.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct PullGroup {
    pub key: String,
    pub created: i64,
    pub merged: i64,
    pub closed: i64,
    pub avg_time_to_merge: Option<f64>,
}

/// By what pull requests are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullsBy {
    Day,
    Repository,
    Source,
}

/// Groups of pull requests: made in the window, and merged or closed in it.
pub async fn pull_groups(db: &impl Database, by: PullsBy, window: Window) -> Result<Vec<PullGroup>, DbError> {
    let day = |time: &str| format!("strftime('%Y-%m-%d', ({time}) / 1000, 'unixepoch')");
    // A pull request counts where it was made, and where it was merged: on different days, in one repository.
    let key = |time: &str| match by {
        PullsBy::Day => day(time),
        PullsBy::Repository => "pull.repo_owner || '/' || pull.repo_name".to_owned(),
        PullsBy::Source => {
            "COALESCE((SELECT member.spawn_source FROM sessions member WHERE member.id = pull.session_id), 'user')"
                .to_owned()
        }
    };
    let order = if by == PullsBy::Day { "key" } else { "created DESC, key" };
    let sql = format!(
        "SELECT key, SUM(made) AS created, SUM(merged) AS merged, SUM(closed) AS closed, AVG(took) AS avg_time_to_merge FROM (
            SELECT {} AS key, 1 AS made, 0 AS merged, 0 AS closed, NULL AS took FROM session_pull_requests pull
                WHERE {MADE} >= ?1 AND {MADE} < ?2
            UNION ALL
            SELECT {}, 0, 1, 0, pull.merged_at - {MADE} FROM session_pull_requests pull
                WHERE pull.merged_at >= ?1 AND pull.merged_at < ?2
            UNION ALL
            SELECT {}, 0, 0, 1, NULL FROM session_pull_requests pull
                WHERE {MADE} >= ?1 AND {MADE} < ?2 AND pull.lifecycle_state = 'closed'
         ) GROUP BY key ORDER BY {order} LIMIT {GROUPS_MAX}",
        key(MADE),
        key("pull.merged_at"),
        key(MADE),
    );
    db.rows(&sql, params![window.from, window.to]).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::native::Native;
    use futures_executor::block_on;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn world() -> Native {
        let db = Native::new();
        let run = |sql: &str| block_on(db.change(sql, params![])).expect("runs");
        run(
            "INSERT INTO users (id, display_name, created_at, updated_at) VALUES ('u1', 'Ada', 1, 1), ('u2', 'Ada', 1, 1)",
        );
        let session = |id: &str, days: i64, user: &str, source: &str, status: &str, repo: &str, cost: f64| {
            let user = if user.is_empty() { "NULL".to_owned() } else { format!("'{user}'") };
            let (owner, name) =
                if repo.is_empty() { ("NULL", "NULL".to_owned()) } else { ("'acme'", format!("'{repo}'")) };
            let at = NOW.0 - days * DAY_MS - 1;
            run(&format!(
                "INSERT INTO sessions (id, model, status, spawn_source, user_id, repo_owner, repo_name, total_cost,
                    active_duration_ms, message_count, pr_count, created_at, updated_at)
                 VALUES ('{id}', 'a/b', '{status}', '{source}', {user}, {owner}, {name}, {cost}, 1000, 2, 1, {at}, {at})"
            ));
        };
        session("s1", 0, "u1", "user", "completed", "app", 1.0);
        session("s2", 1, "u2", "slack-bot", "failed", "app", 2.0);
        session("s3", 1, "", "github-bot", "active", "", 0.5);
        session("s4", 1, "u1", "automation", "completed", "app", 9.0);
        session("s5", 8, "u1", "user", "completed", "app", 9.0);
        let pull = |id: &str, session: &str, state: &str, draft: i64, made: i64, merged: Option<i64>| {
            let merged = merged.map_or("NULL".to_owned(), |days| (NOW.0 - days * DAY_MS - 1).to_string());
            let at = NOW.0 - made * DAY_MS - 1;
            run(&format!(
                "INSERT INTO session_pull_requests (artifact_id, session_id, repo_owner, repo_name, pr_number, url,
                    lifecycle_state, is_draft, head_branch, base_branch, merged_at, created_at, updated_at)
                 VALUES ('{id}', '{session}', 'acme', 'app', 1, 'u', '{state}', {draft}, 'h', 'b', {merged}, {at}, {at})"
            ));
        };
        pull("p1", "s1", "merged", 0, 2, Some(1));
        pull("p2", "s2", "open", 1, 1, None);
        pull("p3", "s2", "closed", 0, 1, None);
        pull("p4", "s5", "merged", 0, 20, Some(2));
        pull("p5", "s5", "open", 0, 30, None);
        db
    }

    #[test]
    fn a_window_counts_what_people_started_in_it() {
        let db = world();
        let week = Window::days(7, NOW);
        let all = block_on(summary(&db, week)).expect("runs");
        assert_eq!((all.sessions, all.users, all.prs), (3, 2, 3));
        assert!((all.cost - 3.5).abs() < 1e-9);
        assert_eq!((all.completed, all.failed, all.active, all.created), (1, 1, 1, 0));
        assert_eq!(block_on(summary(&db, Window::days(14, NOW))).expect("runs").sessions, 4);
        let nothing = block_on(summary(&Native::new(), week)).expect("runs");
        assert_eq!((nothing.sessions, nothing.completed), (0, 0));
        let days = block_on(by_day(&db, week)).expect("runs");
        let shown: Vec<(&str, i64)> = days.iter().map(|day| (day.name.as_str(), day.sessions)).collect();
        assert_eq!(shown, [("Ada", 1), ("Unknown", 1), ("Ada", 1)], "{days:?}");
    }

    #[test]
    fn groups_are_told_with_the_most_sessions_first() {
        let db = world();
        let of = |by| block_on(breakdown(&db, by, Window::days(7, NOW))).expect("runs");
        let repositories = of(By::Repository);
        let shown: Vec<(&str, i64, i64)> =
            repositories.iter().map(|entry| (entry.key.as_str(), entry.sessions, entry.failed)).collect();
        assert_eq!(shown, [("acme/app", 2, 1), ("No repository", 1, 0)]);
        assert!((repositories[0].avg_duration - 1000.0).abs() < 1e-9);
        let people: Vec<(String, Option<String>)> =
            of(By::User).into_iter().map(|entry| (entry.key, entry.display_name)).collect();
        let expected = [("__unknown__", "Unknown"), ("u1", "Ada"), ("u2", "Ada")];
        assert_eq!(people, expected.map(|(key, name)| (key.to_owned(), Some(name.to_owned()))));
    }

    #[test]
    fn pull_requests_count_when_they_were_made_and_when_they_were_merged() {
        let db = world();
        let week = Window::days(7, NOW);
        let all = block_on(pulls(&db, week)).expect("runs");
        assert_eq!((all.created, all.open, all.draft, all.merged, all.closed), (3, 0, 1, 1, 1));
        assert_eq!((all.merged_in_window, all.inventory), (2, 2), "what is open is counted whenever it was made");
        assert_eq!(all.avg_time_to_merge, Some(9.5 * DAY_MS as f64));
        assert!((all.session_cost - 3.0).abs() < 1e-9, "each session once");
        let days = block_on(pull_groups(&db, PullsBy::Day, week)).expect("runs");
        assert_eq!(days.iter().map(|day| (day.created, day.merged)).collect::<Vec<_>>(), [(1, 1), (2, 1)]);
        let repositories = block_on(pull_groups(&db, PullsBy::Repository, week)).expect("runs");
        assert_eq!(repositories.len(), 1);
        assert_eq!((repositories[0].created, repositories[0].merged, repositories[0].closed), (3, 2, 1));
        let sources = block_on(pull_groups(&db, PullsBy::Source, week)).expect("runs");
        let shown: Vec<(&str, i64, i64)> =
            sources.iter().map(|group| (group.key.as_str(), group.created, group.merged)).collect();
        assert_eq!(shown, [("slack-bot", 2, 0), ("user", 1, 2)]);
    }

    #[test]
    fn a_window_is_a_range_of_an_index() {
        #[derive(Deserialize)]
        struct Plan {
            detail: String,
        }
        let db = world();
        for (sql, index) in [
            (format!("SELECT COUNT(*) FROM sessions member WHERE {COUNTED}"), "sessions_created"),
            (
                format!("SELECT COUNT(*) FROM session_pull_requests pull WHERE {MADE} >= ?1 AND {MADE} < ?2"),
                "session_pull_requests_created",
            ),
            (
                "SELECT COUNT(*) FROM session_pull_requests pull WHERE pull.merged_at >= ?1 AND pull.merged_at < ?2"
                    .to_owned(),
                "session_pull_requests_merged",
            ),
        ] {
            let plan: Vec<Plan> = block_on(db.rows(&format!("EXPLAIN QUERY PLAN {sql}"), params![1, 2])).expect("runs");
            let told: Vec<&str> = plan.iter().map(|step| step.detail.as_str()).collect();
            assert!(told.iter().all(|step| step.contains(index) && step.starts_with("SEARCH")), "{told:?}");
        }
    }
}
