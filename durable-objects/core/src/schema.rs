//! Tables of one session, as numbered additive steps that run on the first input.

use crate::sql::{Columns, Sql, SqlError, params};

/// Each entry is one step; a step that has landed is never edited.
pub(crate) const STEPS: &[&[&str]] = &[
    &[
        "CREATE TABLE session (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        session_id TEXT NOT NULL, title TEXT, model TEXT NOT NULL, reasoning_effort TEXT, status TEXT NOT NULL,
        spawn_source TEXT NOT NULL, parent_session_id TEXT, total_cost REAL NOT NULL DEFAULT 0,
        message_count INTEGER NOT NULL DEFAULT 0, pr_count INTEGER NOT NULL DEFAULT 0,
        active_duration_ms INTEGER NOT NULL DEFAULT 0, index_counter INTEGER NOT NULL DEFAULT 0,
        created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL)",
        "CREATE TABLE repositories (
        position INTEGER PRIMARY KEY, repo_owner TEXT NOT NULL, repo_name TEXT NOT NULL, repo_id INTEGER,
        base_branch TEXT NOT NULL, branch_name TEXT, base_sha TEXT, current_sha TEXT)",
        "CREATE TABLE participants (
        id TEXT PRIMARY KEY, user_id TEXT NOT NULL UNIQUE, canonical_user_id TEXT, scm_user_id TEXT, scm_login TEXT,
        name TEXT, email TEXT, avatar TEXT, role TEXT NOT NULL, joined_at INTEGER NOT NULL)",
        "CREATE TABLE client_tokens (
        hash TEXT PRIMARY KEY, participant_id TEXT NOT NULL, expires_at INTEGER NOT NULL)",
        "CREATE INDEX client_tokens_by_participant ON client_tokens (participant_id, expires_at)",
        "CREATE TABLE messages (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, author_id TEXT NOT NULL, content TEXT NOT NULL,
        source TEXT NOT NULL, model TEXT, reasoning_effort TEXT, request_id TEXT UNIQUE, fingerprint TEXT,
        status TEXT NOT NULL, outcome TEXT, error_message TEXT, sent INTEGER NOT NULL DEFAULT 0,
        accepted INTEGER NOT NULL DEFAULT 0, stop_deadline INTEGER, created_at INTEGER NOT NULL,
        started_at INTEGER, completed_at INTEGER)",
        "CREATE UNIQUE INDEX one_message_runs ON messages (status) WHERE status = 'processing'",
        "CREATE INDEX messages_waiting ON messages (number) WHERE status = 'pending'",
        "CREATE INDEX messages_stopping ON messages (stop_deadline) WHERE stop_deadline IS NOT NULL",
        "CREATE TABLE cancelled_requests (request_id TEXT PRIMARY KEY, message_id TEXT NOT NULL)",
        "CREATE TABLE events (
        seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, revision INTEGER, message_id TEXT, type TEXT NOT NULL,
        created_at INTEGER NOT NULL, body TEXT NOT NULL)",
        "CREATE INDEX events_by_revision ON events (revision)",
        "CREATE TABLE artifacts (
        id TEXT PRIMARY KEY, type TEXT NOT NULL, url TEXT, metadata TEXT, created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL)",
        "CREATE TABLE sandbox (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        generation INTEGER NOT NULL, sandbox_id TEXT, provider_object_id TEXT, token_hash TEXT,
        status TEXT NOT NULL, dialect INTEGER NOT NULL DEFAULT 1, runtime_version TEXT,
        created_at INTEGER NOT NULL DEFAULT 0, boot_deadline INTEGER, last_heartbeat INTEGER, last_activity INTEGER,
        disconnected_at INTEGER, spawn_error TEXT, failure_count INTEGER NOT NULL DEFAULT 0,
        last_failure_at INTEGER, next_spawn_at INTEGER)",
        "CREATE TABLE received (one INTEGER PRIMARY KEY CHECK (one = 1), generation INTEGER NOT NULL, seq INTEGER NOT NULL)",
        // Ids are never used twice, so that a late result of a job that is gone fits no other.
        "CREATE TABLE outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT, dedup_key TEXT, payload TEXT NOT NULL, attempt INTEGER NOT NULL DEFAULT 0,
        state TEXT NOT NULL, due_at INTEGER NOT NULL, last_error TEXT)",
        "CREATE UNIQUE INDEX outbox_one_waiting ON outbox (dedup_key) WHERE state = 'waiting' AND dedup_key IS NOT NULL",
        "CREATE INDEX outbox_due ON outbox (due_at) WHERE state IN ('waiting', 'running')",
        "CREATE TABLE pull_request_operations (
        id TEXT PRIMARY KEY, request_key TEXT UNIQUE, message_id TEXT NOT NULL, author_id TEXT NOT NULL,
        repo_owner TEXT NOT NULL, repo_name TEXT NOT NULL, head TEXT NOT NULL, base TEXT NOT NULL,
        title TEXT NOT NULL, body TEXT NOT NULL, draft INTEGER NOT NULL, state TEXT NOT NULL,
        deadline INTEGER NOT NULL, existing_number INTEGER, status INTEGER, reply TEXT, created_at INTEGER NOT NULL)",
        "CREATE INDEX pull_request_operations_open ON pull_request_operations (deadline) WHERE state IN ('pushing', 'opening')",
    ],
    &[
        // A late repetition with other content is told from one with the same.
        "ALTER TABLE cancelled_requests ADD COLUMN fingerprint TEXT",
        "CREATE INDEX messages_ended ON messages (completed_at, number) WHERE completed_at IS NOT NULL",
        "CREATE INDEX artifacts_by_age ON artifacts (created_at, id)",
        "CREATE INDEX artifacts_by_type ON artifacts (type, created_at)",
    ],
    &[
        // Files in R2, and what they take.
        "CREATE TABLE outputs (id TEXT PRIMARY KEY, bytes INTEGER NOT NULL, created_at INTEGER NOT NULL)",
        "CREATE TABLE storage_use (kind TEXT PRIMARY KEY, objects INTEGER NOT NULL, bytes INTEGER NOT NULL)",
    ],
    &[
        // Events that left for R2.
        "CREATE TABLE archives (
        first_seq INTEGER PRIMARY KEY, last_seq INTEGER NOT NULL, first_created_at INTEGER NOT NULL,
        last_created_at INTEGER NOT NULL, rows INTEGER NOT NULL, bytes INTEGER NOT NULL, top_revision INTEGER NOT NULL,
        key TEXT NOT NULL, state TEXT NOT NULL)",
        "CREATE TABLE archived_ids (id TEXT PRIMARY KEY)",
        "CREATE TABLE retention (
        one INTEGER PRIMARY KEY CHECK (one = 1), archived_seq INTEGER NOT NULL, floor INTEGER NOT NULL,
        writing INTEGER NOT NULL)",
    ],
    &[
        // Children, forks and deletion; and what a bot asked to be told of a prompt.
        "CREATE TABLE family (
        one INTEGER PRIMARY KEY CHECK (one = 1), spawn_depth INTEGER NOT NULL DEFAULT 0,
        notify_parent INTEGER NOT NULL DEFAULT 0, forked_from TEXT, fork_through INTEGER NOT NULL DEFAULT 0,
        fork_next INTEGER, deleting_since INTEGER)",
        "ALTER TABLE messages ADD COLUMN callback_context TEXT",
        "CREATE TABLE told_tools (number INTEGER PRIMARY KEY, call_id TEXT NOT NULL UNIQUE)",
    ],
    &[
        // Waiting prompts that were put in another order, changes that were asked for, and questions of the agent.
        "ALTER TABLE messages ADD COLUMN place INTEGER",
        "CREATE INDEX messages_placed ON messages (place) WHERE place IS NOT NULL",
        "CREATE TABLE client_requests (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, fingerprint TEXT NOT NULL, answer TEXT NOT NULL)",
        "CREATE TABLE questions (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, message_id TEXT NOT NULL, state TEXT NOT NULL,
        expires_at INTEGER, body TEXT NOT NULL)",
        "CREATE INDEX questions_waiting ON questions (expires_at) WHERE state = 'waiting'",
        "CREATE INDEX questions_by_prompt ON questions (message_id, number)",
    ],
    &[
        // Files that were kept, a sandbox's end, and a stopped sandbox that may go on.
        "CREATE TABLE snapshots (
        number INTEGER PRIMARY KEY AUTOINCREMENT, state TEXT NOT NULL, image_id TEXT, runtime_version TEXT,
        through_seq INTEGER NOT NULL, failures INTEGER NOT NULL DEFAULT 0, then_status TEXT, then_reason TEXT,
        created_at INTEGER NOT NULL)",
        "ALTER TABLE sandbox ADD COLUMN expires_at INTEGER",
        "ALTER TABLE sandbox ADD COLUMN restored_from INTEGER",
        "ALTER TABLE sandbox ADD COLUMN parked_token_hash TEXT",
        "ALTER TABLE sandbox ADD COLUMN parked_received INTEGER",
        "ALTER TABLE sandbox ADD COLUMN replaced TEXT",
    ],
    &[
        // What prompts used, and who may spend no more.
        "CREATE TABLE usage (
        message_id TEXT PRIMARY KEY, usd REAL NOT NULL, tokens INTEGER NOT NULL, input INTEGER NOT NULL,
        output INTEGER NOT NULL, reasoning INTEGER NOT NULL, cache_read INTEGER NOT NULL, cache_write INTEGER NOT NULL)",
        "CREATE TABLE budget_blocks (who TEXT PRIMARY KEY, sentence TEXT NOT NULL, checked_at INTEGER NOT NULL)",
        "ALTER TABLE session ADD COLUMN total_tokens INTEGER NOT NULL DEFAULT 0",
    ],
    &[
        // Files of prompts: which there are, which prompt took each, and who is deleting it.
        "CREATE TABLE attachments (
        id TEXT PRIMARY KEY, mime_type TEXT NOT NULL, bytes INTEGER NOT NULL, message_id TEXT,
        cleanup_claimed_at INTEGER, created_at INTEGER NOT NULL)",
        "CREATE INDEX attachments_unused ON attachments (created_at) WHERE message_id IS NULL",
        "CREATE INDEX attachments_by_prompt ON attachments (message_id) WHERE message_id IS NOT NULL",
        // As the prompt shows them: `[{attachmentId, name, mimeType}]`.
        "ALTER TABLE messages ADD COLUMN attachments TEXT",
    ],
    &[
        // How people reach a sandbox, how long a late one is waited for, a backend that is down, people who watch, and
        // the time that the agent waits for an answer.
        "ALTER TABLE sandbox ADD COLUMN access TEXT",
        "ALTER TABLE sandbox ADD COLUMN parked_secrets TEXT",
        "ALTER TABLE sandbox ADD COLUMN failed_until INTEGER",
        "ALTER TABLE sandbox ADD COLUMN held_since INTEGER",
        "ALTER TABLE sandbox ADD COLUMN extensions INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE outbox ADD COLUMN held INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE messages ADD COLUMN asking_since INTEGER",
        "ALTER TABLE messages ADD COLUMN asked_ms INTEGER NOT NULL DEFAULT 0",
    ],
    &[
        // The newest diff bundle, its patches apart; and when pull requests were last read.
        "CREATE TABLE session_diff (
        one INTEGER PRIMARY KEY CHECK (one = 1), revision_id TEXT, manifest TEXT, error TEXT, error_at INTEGER)",
        "CREATE TABLE session_diff_patches (file_id TEXT PRIMARY KEY, patch TEXT NOT NULL)",
        "CREATE TABLE pull_request_refreshes (one INTEGER PRIMARY KEY CHECK (one = 1), asked_at INTEGER NOT NULL)",
    ],
    &[
        // The models that prompts of pages may name.
        "CREATE TABLE allowed_models (
        one INTEGER PRIMARY KEY CHECK (one = 1), version INTEGER NOT NULL, models TEXT NOT NULL)",
    ],
    &[
        // The environment that the session was made of.
        "ALTER TABLE session ADD COLUMN environment_id TEXT",
        "ALTER TABLE session ADD COLUMN environment_name TEXT",
    ],
    &[
        // What search finds of a turn, as it ended: `{answer, paths}`.
        "ALTER TABLE messages ADD COLUMN searchable TEXT",
    ],
    &[
        // How long its sandboxes live, where people set it.
        "ALTER TABLE session ADD COLUMN sandbox_timeout_ms INTEGER",
    ],
];

const STEPS_DONE: &str = "CREATE TABLE schema_steps (one INTEGER PRIMARY KEY CHECK (one = 1), done INTEGER NOT NULL)";

/// Whether the session was ever created here; an object that was not stays empty.
pub(crate) fn exists(sql: &dyn Sql) -> Result<bool, SqlError> {
    let known = sql.run("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'schema_steps'", &[])?;
    Ok(!known.is_empty())
}

/// The statements of a database that has nothing yet: each table is made with the columns that later steps gave it, which
/// is half the work of giving them one by one. What SQLite keeps of them is the same text.
fn fresh() -> Vec<String> {
    let mut statements: Vec<String> = Vec::new();
    for statement in STEPS.iter().copied().flatten() {
        let column = statement.strip_prefix("ALTER TABLE ").and_then(|rest| rest.split_once(" ADD COLUMN "));
        let table = column.and_then(|(table, column)| {
            let made = format!("CREATE TABLE {table} ");
            let table = statements.iter_mut().find(|statement| statement.starts_with(&made))?;
            Some((table.strip_suffix(')')?.to_owned(), column, table))
        });
        match table {
            Some((columns, column, table)) => *table = format!("{columns}, {column})"),
            None => statements.push((*statement).to_owned()),
        }
    }
    statements
}

/// Brings the database to the newest step. On a database that is there already: one statement.
pub(crate) fn migrate(sql: &dyn Sql) -> Result<(), SqlError> {
    let newest = STEPS.len() as i64;
    if !exists(sql)? {
        let mut statements = vec![STEPS_DONE.to_owned()];
        statements.extend(fresh());
        statements.push(format!("INSERT INTO schema_steps VALUES (1, {newest})"));
        return sql.script(&statements);
    }
    let row = sql.run("SELECT done FROM schema_steps", &[])?.pop();
    let done = row.map_or(Ok(0), |row| Columns::of(row).int())?;
    if done >= newest {
        return Ok(());
    }
    for step in &STEPS[done.max(0) as usize..] {
        for statement in *step {
            sql.run(statement, &[])?;
        }
    }
    sql.run("UPDATE schema_steps SET done = ?", params![newest])?;
    Ok(())
}

#[cfg(all(test, feature = "native"))]
mod tests {
    use super::*;
    use crate::sql_native::NativeSql;

    /// A new session's tables are those of one that was there before any later step.
    #[test]
    fn a_new_database_is_what_all_steps_one_by_one_make() {
        let made = |statements: &[String]| {
            let sql = NativeSql::in_memory().expect("a database");
            for statement in statements {
                sql.run(statement, &[]).expect("a statement of the schema");
            }
            sql.run("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name", &[]).expect("the schema")
        };
        let steps: Vec<String> = STEPS.iter().copied().flatten().map(|statement| (*statement).to_owned()).collect();
        assert_eq!(made(&fresh()), made(&steps));
        assert!(!fresh().iter().any(|statement| statement.starts_with("ALTER")));
    }
}
