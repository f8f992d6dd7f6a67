//! What a session is to others: the child of one, the fork of one, on its way to be deleted.

use oi_protocol::SessionId;
use oi_protocol::UnixMillis;
use serde::{Deserialize, Serialize};

use crate::core::Turn;
use crate::snapshots::BorrowedSnapshot;
use crate::sql::{Columns, Sql, SqlError, params};

/// A child's place, given when it is created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChildOf {
    /// The session whose agent started it.
    pub parent_session_id: SessionId,
    /// 1 for a child of a session that a person started.
    pub spawn_depth: u32,
    /// Whether its results are offered to the parent's agent as prompts.
    pub notify_parent: bool,
}

/// What a session continues, given when it is created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ForkOf {
    /// The session that it continues.
    pub session_id: SessionId,
    /// The first place of its timeline that is copied.
    pub from_sequence: i64,
    /// The last one.
    pub through_sequence: i64,
    /// The files that it begins with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<BorrowedSnapshot>,
}

/// The one row of it. Absent for a session that is none of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct FamilyRow {
    pub spawn_depth: i64,
    pub notify_parent: bool,
    pub forked_from: Option<SessionId>,
    /// The timeline's places up to here belong to what is copied.
    pub fork_through: i64,
    /// The next place to copy; `None` when all is here.
    pub fork_next: Option<i64>,
    pub deleting_since: Option<UnixMillis>,
}

impl FamilyRow {
    pub fn load(sql: &dyn Sql) -> Result<Self, SqlError> {
        let rows = sql.run(
            "SELECT spawn_depth, notify_parent, forked_from, fork_through, fork_next, deleting_since FROM family",
            &[],
        )?;
        let Some(row) = rows.into_iter().next() else { return Ok(Self::default()) };
        let mut c = Columns::of(row);
        Ok(Self {
            spawn_depth: c.int()?,
            notify_parent: c.bool()?,
            forked_from: c.opt_text()?.and_then(|id| SessionId::parse(&id).ok()),
            fork_through: c.int()?,
            fork_next: c.opt_int()?,
            deleting_since: c.opt_int()?.map(UnixMillis),
        })
    }

    pub fn save(&self, sql: &dyn Sql) -> Result<(), SqlError> {
        sql.run(
            "INSERT OR REPLACE INTO family (one, spawn_depth, notify_parent, forked_from, fork_through, fork_next,
                deleting_since) VALUES (1, ?, ?, ?, ?, ?, ?)",
            params![
                self.spawn_depth,
                self.notify_parent,
                self.forked_from.as_ref().map(SessionId::as_str),
                self.fork_through,
                self.fork_next,
                self.deleting_since.map(|at| at.0),
            ],
        )?;
        Ok(())
    }
}

impl Turn<'_, '_> {
    /// A new session takes its place. A fork's past begins to come.
    pub(crate) fn join_family(&mut self, child_of: Option<ChildOf>, fork_of: Option<ForkOf>) -> Result<(), SqlError> {
        if child_of.is_none() && fork_of.is_none() {
            return Ok(());
        }
        let family = &mut self.hot.family;
        if let Some(child) = child_of {
            family.spawn_depth = i64::from(child.spawn_depth);
            family.notify_parent = child.notify_parent;
            self.hot.parent_dirty = true;
        }
        if let Some(fork) = fork_of {
            family.forked_from = Some(fork.session_id);
            family.fork_through = fork.through_sequence.max(0);
            family.fork_next = Some(fork.from_sequence.max(1)).filter(|from| *from <= fork.through_sequence);
            self.hot.seq = self.hot.seq.max(fork.through_sequence);
            if let Some(snapshot) = &fork.snapshot {
                self.borrow_snapshot(snapshot)?;
            }
        }
        self.hot.family.save(self.sql)?;
        self.copy_next_page()
    }
}
