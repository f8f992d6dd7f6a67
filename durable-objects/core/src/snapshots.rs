//! The sandbox's files, kept by the backend: after a turn, and before a sandbox is put away. Nothing is given to the
//! agent while they are copied. A few are held; what is held no longer is deleted by jobs.

use oi_protocol::client_socket::ServerMessage;
use oi_protocol::session_state::SandboxStatus;
use serde::{Deserialize, Serialize};

use crate::core::Turn;
use crate::job::{DeleteSnapshot, Job, TakeSnapshot};
use crate::sql::{Columns, Row, Sql, SqlError, params};

/// Snapshots that are held, so that a fork finds one near its event and a bad one has another behind it.
const HELD: i64 = 3;
/// Restores of one snapshot that may fail.
const RESTORE_BUDGET: i64 = 2;
/// Runtimes of Open-Inspect below this cannot be restored (session.md 5.2).
const OLDEST_RUNTIME: u32 = 60;

/// A snapshot that is being taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taking {
    pub number: i64,
    /// The sandbox is put away after it, as this and for this reason.
    pub then: Option<(SandboxStatus, String)>,
}

/// The newest one that can be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub number: i64,
    pub image_id: String,
    pub runtime_version: Option<String>,
    /// The newest place of the timeline when it was taken.
    pub through: i64,
}

/// A snapshot of another session that a fork begins with. It stays that session's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BorrowedSnapshot {
    /// The backend's name of it.
    pub image_id: String,
    /// Version of the runtime in it.
    pub runtime_version: Option<String>,
}

/// What is known of snapshots, read when the object wakes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Snapshots {
    pub taking: Option<Taking>,
    pub held: Option<Held>,
}

fn is_restorable(runtime_version: Option<&str>) -> bool {
    let digits = runtime_version.and_then(|version| version.strip_prefix('v')).unwrap_or_default();
    let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
    digits.parse::<u32>().is_ok_and(|number| number >= OLDEST_RUNTIME)
}

impl Snapshots {
    pub fn load(sql: &dyn Sql) -> Result<Self, SqlError> {
        let rows = sql.run(
            "SELECT number, state, image_id, runtime_version, through_seq, then_status, then_reason FROM snapshots
                ORDER BY number DESC",
            &[],
        )?;
        let mut found = Self::default();
        for row in rows {
            let mut c = Columns::of(row);
            let (number, state, image_id, runtime_version) = (c.int()?, c.text()?, c.opt_text()?, c.opt_text()?);
            let (through, status, reason) = (c.int()?, c.opt_text()?, c.opt_text()?);
            match image_id {
                Some(image_id) if found.held.is_none() && is_restorable(runtime_version.as_deref()) => {
                    found.held = Some(Held { number, image_id, runtime_version, through });
                }
                None if state == "taking" => {
                    let then = status.as_deref().and_then(SandboxStatus::parse).zip(reason);
                    found.taking = Some(Taking { number, then });
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// Whether the one of this number is being taken.
    pub fn awaits(&self, number: i64) -> bool {
        self.taking.as_ref().is_some_and(|taking| taking.number == number)
    }

    /// The sandbox is on its way out.
    pub const fn is_leaving(&self) -> bool {
        matches!(&self.taking, Some(Taking { then: Some(_), .. }))
    }
}

/// The snapshot nearest to a place of the timeline, at it or before it.
pub(crate) fn nearest(sql: &dyn Sql, through: i64) -> Result<Option<BorrowedSnapshot>, SqlError> {
    let rows = sql.run(
        "SELECT image_id, runtime_version FROM snapshots WHERE state = 'held' AND through_seq <= ?
            ORDER BY number DESC",
        params![through],
    )?;
    for row in rows {
        let mut c = Columns::of(row);
        let found = BorrowedSnapshot { image_id: c.text()?, runtime_version: c.opt_text()? };
        if is_restorable(found.runtime_version.as_deref()) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

impl Turn<'_, '_> {
    /// Begins to keep the sandbox's files, when the backend can. `false` when nothing is begun.
    pub(crate) fn take_snapshot(
        &mut self,
        reason: &str,
        then: Option<(SandboxStatus, &str)>,
    ) -> Result<bool, SqlError> {
        if self.hot.sandbox.status != SandboxStatus::Ready || !self.cx.config.backend.snapshots {
            return Ok(false);
        }
        let then = then.map(|(status, reason)| (status, reason.to_owned()));
        if let Some(taking) = &mut self.hot.snapshots.taking {
            if let (None, Some((status, reason))) = (&taking.then, &then) {
                self.sql.run(
                    "UPDATE snapshots SET then_status = ?, then_reason = ? WHERE number = ?",
                    params![status.as_str(), reason.as_str(), taking.number],
                )?;
                taking.then = then;
            }
            return Ok(true);
        }
        let sandbox = &self.hot.sandbox;
        let (Some(session), Some(sandbox_id), Some(provider_object_id)) =
            (&self.hot.session, sandbox.sandbox_id.clone(), sandbox.provider_object_id.clone())
        else {
            return Ok(false);
        };
        let rows = self.sql.run(
            "INSERT INTO snapshots (state, runtime_version, through_seq, then_status, then_reason, created_at)
             VALUES ('taking', ?, ?, ?, ?, ?) RETURNING number",
            params![
                sandbox.runtime_version.clone(),
                self.hot.seq,
                then.as_ref().map(|(status, _)| status.as_str()),
                then.as_ref().map(|(_, reason)| reason.clone()),
                self.cx.now.0,
            ],
        )?;
        let row = rows.into_iter().next().ok_or_else(|| SqlError("no row was written".to_owned()))?;
        let number = Columns::of(row).int()?;
        let job = Job::TakeSnapshot(TakeSnapshot {
            session_id: session.session_id.clone(),
            sandbox_id,
            provider_object_id,
            number,
            reason: reason.to_owned(),
        });
        self.hot.snapshots.taking = Some(Taking { number, then });
        self.broadcast(&ServerMessage::SandboxStatus { status: SandboxStatus::Snapshotting });
        self.enqueue(&job, None)?;
        Ok(true)
    }

    /// After a turn, when nothing waits and the files may differ from what is held.
    pub(crate) fn snapshot_after_turn(&mut self) -> Result<(), SqlError> {
        let is_idle = self.hot.running.is_none() && self.hot.pending == 0 && self.hot.stopping.is_none();
        // One that its snapshot would end is kept when it is put away.
        if is_idle && !self.cx.config.backend.snapshot_ends && !self.is_kept() {
            self.take_snapshot("execution_complete", None)?;
        }
        Ok(())
    }

    /// Whether nothing has happened since the files were kept last.
    fn is_kept(&self) -> bool {
        self.hot.snapshots.held.as_ref().is_some_and(|held| held.through == self.hot.seq)
    }

    /// Puts a sandbox away: its files are kept first, where that can be done.
    pub(crate) fn put_away(&mut self, status: SandboxStatus, reason: &str) -> Result<(), SqlError> {
        if self.hot.snapshots.taking.is_none() && self.is_kept() {
            return self.leave(status, reason, true);
        }
        if self.take_snapshot(reason, Some((status, reason)))? {
            return Ok(());
        }
        self.leave(status, reason, false)
    }

    fn leave(&mut self, status: SandboxStatus, reason: &str, is_kept: bool) -> Result<(), SqlError> {
        self.retire_sandbox(status, reason)?;
        let kept = if is_kept { ", snapshot saved" } else { "" };
        let sentence = match reason {
            "inactivity_timeout" => "Sandbox stopped due to inactivity",
            "time_limit" => "Sandbox stopped at its time limit",
            _ => return Ok(()),
        };
        self.broadcast(&ServerMessage::SandboxWarning { message: format!("{sentence}{kept}") });
        Ok(())
    }

    /// The files are kept.
    pub(crate) fn snapshot_taken(&mut self, job: &TakeSnapshot, image_id: String) -> Result<(), SqlError> {
        if !self.hot.snapshots.awaits(job.number) {
            return self.delete_snapshot(image_id);
        }
        self.sql.run(
            "UPDATE snapshots SET state = 'held', image_id = ? WHERE number = ?",
            params![image_id.as_str(), job.number],
        )?;
        let old = self.sql.run(
            "DELETE FROM snapshots WHERE state IN ('held', 'borrowed') AND number NOT IN
                (SELECT number FROM snapshots WHERE state = 'held' ORDER BY number DESC LIMIT ?)
             RETURNING image_id, state",
            params![HELD],
        )?;
        self.delete_own(old)?;
        self.broadcast(&ServerMessage::SnapshotSaved { image_id, reason: job.reason.clone() });
        self.end_taking(true)
    }

    /// They could not be kept: the sandbox goes its way without.
    pub(crate) fn snapshot_failed(&mut self, job: &TakeSnapshot) -> Result<(), SqlError> {
        if !self.hot.snapshots.awaits(job.number) {
            return Ok(());
        }
        self.sql.run("DELETE FROM snapshots WHERE number = ?", params![job.number])?;
        let message = "The sandbox's files could not be kept. Unpushed work in it may be lost.".to_owned();
        self.broadcast(&ServerMessage::SandboxWarning { message });
        self.end_taking(false)
    }

    fn end_taking(&mut self, is_kept: bool) -> Result<(), SqlError> {
        let taking = self.hot.snapshots.taking.take();
        self.hot.snapshots = Snapshots::load(self.sql)?;
        if let Some((status, reason)) = taking.and_then(|taking| taking.then) {
            return self.leave(status, &reason, is_kept);
        }
        self.broadcast(&ServerMessage::SandboxStatus { status: self.hot.sandbox.status });
        Ok(())
    }

    /// The sandbox is gone before its files were kept; an image that comes late is deleted.
    pub(crate) fn abandon_snapshot(&mut self) -> Result<(), SqlError> {
        if let Some(taking) = self.hot.snapshots.taking.take() {
            self.sql.run("DELETE FROM snapshots WHERE number = ?", params![taking.number])?;
        }
        Ok(())
    }

    fn delete_snapshot(&mut self, image_id: String) -> Result<(), SqlError> {
        let Some(session) = &self.hot.session else { return Ok(()) };
        let session_id = session.session_id.clone();
        self.enqueue(&Job::DeleteSnapshot(DeleteSnapshot { session_id, image_id }), None)
    }

    /// Deletes the images of rows that are gone: `image_id, state`. A borrowed one is another session's.
    fn delete_own(&mut self, rows: Vec<Row>) -> Result<(), SqlError> {
        for row in rows {
            let mut c = Columns::of(row);
            let (image_id, state) = (c.text()?, c.text()?);
            if state == "held" {
                self.delete_snapshot(image_id)?;
            }
        }
        Ok(())
    }

    /// Deletes all, with the session.
    pub(crate) fn delete_snapshots(&mut self) -> Result<(), SqlError> {
        self.abandon_snapshot()?;
        let rows = self.sql.run("DELETE FROM snapshots RETURNING image_id, state", &[])?;
        self.delete_own(rows)?;
        self.hot.snapshots = Snapshots::default();
        Ok(())
    }

    /// A fork begins with the files of the session that it continues.
    pub(crate) fn borrow_snapshot(&mut self, borrowed: &BorrowedSnapshot) -> Result<(), SqlError> {
        self.sql.run(
            "INSERT INTO snapshots (state, image_id, runtime_version, through_seq, created_at)
             VALUES ('borrowed', ?, ?, 0, ?)",
            params![borrowed.image_id.as_str(), borrowed.runtime_version.clone(), self.cx.now.0],
        )?;
        self.hot.snapshots = Snapshots::load(self.sql)?;
        Ok(())
    }

    /// A sandbox that was restored is up.
    pub(crate) fn restore_succeeded(&mut self, number: i64) -> Result<(), SqlError> {
        self.sql.run("UPDATE snapshots SET failures = 0 WHERE number = ?", params![number])?;
        let message = "Session restored from snapshot".to_owned();
        self.broadcast(&ServerMessage::SandboxRestored { message });
        Ok(())
    }

    /// A restore failed. After too many the snapshot is dropped: an older one is next, or the repositories.
    pub(crate) fn restore_failed(&mut self, number: i64) -> Result<(), SqlError> {
        let rows = self
            .sql
            .run("UPDATE snapshots SET failures = failures + 1 WHERE number = ? RETURNING failures", params![number])?;
        let Some(row) = rows.into_iter().next() else { return Ok(()) };
        if Columns::of(row).int()? < RESTORE_BUDGET {
            return Ok(());
        }
        let dropped =
            self.sql.run("DELETE FROM snapshots WHERE number = ? RETURNING image_id, state", params![number])?;
        self.delete_own(dropped)?;
        self.hot.snapshots = Snapshots::load(self.sql)?;
        let next = if self.hot.snapshots.held.is_some() { "an older state" } else { "a fresh checkout" };
        let message =
            format!("The saved files could not be restored and were dropped. The session goes on from {next}.");
        self.broadcast(&ServerMessage::SandboxWarning { message });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::is_restorable;

    #[test]
    fn only_runtimes_that_know_how_are_restored() {
        for (version, restorable) in [
            (Some("v60"), true),
            (Some("v61-sandbox-sbin-path"), true),
            (Some("v100-test"), true),
            (Some("v59-x"), false),
            (Some("61"), false),
            (Some("v"), false),
            (None, false),
        ] {
            assert_eq!(is_restorable(version), restorable, "{version:?}");
        }
    }
}
