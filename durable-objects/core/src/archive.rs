//! Retention: when the timeline is long, the oldest events of finished turns move to R2 and stay readable there.
//!
//! A range is named by a row of `archives`, then a job writes its file, and only when the file is confirmed a later
//! commit deletes the rows. A crash anywhere leaves the rows, or the file, or both. The place (`seq`) orders rows and
//! files alike, so that a page never has a gap or a repetition at the border.

use oi_protocol::client_socket::ServerMessage;
use oi_protocol::{ErrorCode, limits};
use serde_json::value::RawValue;

use crate::archive_file::{self, ArchivePointer, ArchivedRange, ArchivedRow};
use crate::call::CallReply;
use crate::core::{Hot, Turn};
use crate::input::SocketId;
use crate::job::{ArchiveEvents, Job, ReadArchive};
use crate::projection::Dialect;
use crate::reads::not_found;
use crate::sql::{Columns, Sql, SqlError, Value, params};
use crate::storage_keys;

/// Rows of one file, at most.
const FILE_MAX_ROWS: i64 = 1_000;
/// Bytes of one file, about; a single row always fits.
const FILE_MAX_BYTES: i64 = 1_000_000;
/// What a row takes beside its body.
const ROW_OVERHEAD_BYTES: i64 = 400;

/// How far the archive goes: a cache of the row of `retention`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Archived {
    /// The last place that left SQLite.
    pub seq: i64,
    /// The highest revision that left SQLite: what changed since an earlier one cannot be told.
    pub floor: i64,
    /// A file is being written.
    pub writing: bool,
    /// Memory only: nothing is looked for before the timeline reaches this place.
    pub next_look: i64,
}

impl Archived {
    pub fn load(sql: &dyn Sql) -> Result<Self, SqlError> {
        let rows = sql.run("SELECT archived_seq, floor, writing FROM retention", &[])?;
        let Some(row) = rows.into_iter().next() else { return Ok(Self::default()) };
        let mut c = Columns::of(row);
        Ok(Self { seq: c.int()?, floor: c.int()?, writing: c.int()? != 0, next_look: 0 })
    }

    /// Whether what follows SQLite's rows of a page is in files.
    pub fn is_below(self, before: Option<i64>) -> bool {
        self.seq > 0 && before.is_none_or(|before| before > self.seq + 1)
    }

    fn save(self, sql: &dyn Sql) -> Result<(), SqlError> {
        sql.run(
            "INSERT OR REPLACE INTO retention (one, archived_seq, floor, writing) VALUES (1, ?, ?, ?)",
            params![self.seq, self.floor, i64::from(self.writing)],
        )?;
        Ok(())
    }
}

/// The file whose rows are the newest before a place.
fn file_before(sql: &dyn Sql, before: i64) -> Result<Option<(i64, String)>, SqlError> {
    let rows = sql.run(
        "SELECT first_seq, key FROM archives WHERE state = 'kept' AND first_seq < ? ORDER BY first_seq DESC LIMIT 1",
        params![before],
    )?;
    let Some(row) = rows.into_iter().next() else { return Ok(None) };
    let mut c = Columns::of(row);
    Ok(Some((c.int()?, c.text()?)))
}

/// Files that are searched for an event by its id.
const SEARCHED_FILES: i64 = 32;

fn ranges(sql: &dyn Sql, rest: &str, params: &[Value]) -> Result<Vec<ArchivedRange>, SqlError> {
    let statement = format!("SELECT key, first_seq, last_seq FROM archives WHERE state = 'kept' {rest}");
    let rows = sql.run(&statement, params)?.into_iter();
    rows.map(|row| {
        let mut c = Columns::of(row);
        Ok(ArchivedRange { key: c.text()?, first_seq: c.int()?, last_seq: c.int()? })
    })
    .collect()
}

/// The first file that has rows at a place or after it.
pub(crate) fn file_from(sql: &dyn Sql, from: i64) -> Result<Option<ArchivedRange>, SqlError> {
    Ok(ranges(sql, "AND last_seq >= ? ORDER BY first_seq LIMIT 1", params![from])?.pop())
}

/// Whether a place is in a file.
pub(crate) fn holds(sql: &dyn Sql, place: i64) -> Result<bool, SqlError> {
    Ok(!ranges(sql, "AND first_seq <= ?1 AND last_seq >= ?1", params![place])?.is_empty())
}

/// The newest files, newest first.
pub(crate) fn newest_files(sql: &dyn Sql) -> Result<Vec<ArchivedRange>, SqlError> {
    ranges(sql, "ORDER BY first_seq DESC LIMIT ?", params![SEARCHED_FILES])
}

/// Where a listing goes on that asks for rows which are all in files; `None` when SQLite has some of them.
pub(crate) fn pointer(
    sql: &dyn Sql,
    hot: &Hot,
    before: Option<i64>,
    limit: u32,
) -> Result<Option<ArchivePointer>, SqlError> {
    let Some(before) = before.filter(|before| *before <= hot.archived.seq + 1) else { return Ok(None) };
    let file = file_before(sql, before)?;
    Ok(file.map(|(first_seq, key)| ArchivePointer { key, first_seq, before, limit }))
}

/// The text of a file that is to be written; the answer to [`crate::call::SessionCall::ArchiveFile`].
pub(crate) fn file(sql: &dyn Sql, first_seq: i64, last_seq: i64) -> Result<CallReply, SqlError> {
    let known = sql.run(
        "SELECT 1 FROM archives WHERE first_seq = ? AND last_seq = ? AND state = 'writing'",
        params![first_seq, last_seq],
    )?;
    if known.is_empty() {
        return Ok(not_found());
    }
    let rows = sql.run(
        "SELECT seq, id, revision, message_id, type, created_at, body FROM events WHERE seq BETWEEN ? AND ? ORDER BY seq",
        params![first_seq, last_seq],
    )?;
    let mut text = String::new();
    for row in rows {
        let mut c = Columns::of(row);
        let row = ArchivedRow {
            seq: c.int()?,
            id: c.text()?,
            revision: c.opt_int()?,
            message_id: c.opt_text()?,
            event_type: c.text()?,
            created_at: c.int()?,
            body: RawValue::from_string(c.text()?).map_err(|error| SqlError(error.to_string()))?,
        };
        text.push_str(&serde_json::to_string(&row).map_err(|error| SqlError(error.to_string()))?);
        text.push('\n');
    }
    Ok(CallReply { status: 200, body: text })
}

impl Turn<'_, '_> {
    /// Asks for the next file when more rows are held than are to be kept.
    pub(crate) fn archive_when_due(&mut self) -> Result<(), SqlError> {
        let (archived, keep) = (self.hot.archived, self.cx.config.retention_rows.max(1));
        let held = self.hot.seq - archived.seq;
        if archived.writing || held <= keep + keep / 10 || self.hot.seq < archived.next_look {
            return Ok(());
        }
        self.hot.archived.next_look = self.hot.seq + (keep / 20).max(1);
        let (first, mut last) = (archived.seq + 1, self.hot.seq - keep);
        if let Some(running) = &self.hot.running {
            // Its rows change still.
            let id = format!("user_message:{}", running.message_id);
            let rows = self.sql.run("SELECT seq FROM events WHERE id = ?", params![id])?;
            if let Some(row) = rows.into_iter().next() {
                last = last.min(Columns::of(row).int()? - 1);
            }
        }
        let rows = self.sql.run(
            "SELECT seq, created_at, revision, type, LENGTH(CAST(body AS BLOB)) FROM events
                WHERE seq BETWEEN ? AND ? ORDER BY seq LIMIT ?",
            params![first, last, FILE_MAX_ROWS],
        )?;
        let mut job = ArchiveRange::default();
        let (mut whole_turns, mut is_full) = (None, rows.len() as i64 == FILE_MAX_ROWS);
        for row in rows {
            let mut c = Columns::of(row);
            let (seq, created_at, revision, kind, bytes) = (c.int()?, c.int()?, c.opt_int()?, c.text()?, c.int()?);
            let Some(revision) = revision else { break };
            if job.rows > 0 && job.bytes + bytes + ROW_OVERHEAD_BYTES > FILE_MAX_BYTES {
                is_full = true;
                break;
            }
            job.add(seq, created_at, revision, bytes + ROW_OVERHEAD_BYTES);
            if kind == "execution_complete" {
                whole_turns = Some(job);
            }
        }
        // A turn that is longer than a file is cut; others stay whole.
        let range = whole_turns.or(is_full.then_some(job)).filter(|range| range.rows > 0);
        let Some((range, session)) = range.zip(self.hot.session.as_ref()) else { return Ok(()) };
        let key = storage_keys::archive(&session.session_id, range.first_seq, range.last_seq, range.top_revision);
        let job = ArchiveEvents {
            session_id: session.session_id.clone(),
            first_seq: range.first_seq,
            last_seq: range.last_seq,
            key,
        };
        self.sql.run(
            "INSERT OR REPLACE INTO archives (first_seq, last_seq, first_created_at, last_created_at, rows, bytes,
                top_revision, key, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'writing')",
            params![
                range.first_seq,
                range.last_seq,
                range.first_created_at,
                range.last_created_at,
                range.rows,
                range.bytes,
                range.top_revision,
                job.key.as_str(),
            ],
        )?;
        self.hot.archived.writing = true;
        self.hot.archived.save(self.sql)?;
        self.enqueue(&Job::ArchiveEvents(job), None)
    }

    /// The file is there: its rows leave SQLite. Should one have changed meanwhile, the file is not used.
    pub(crate) fn events_archived(&mut self, job: &ArchiveEvents) -> Result<(), SqlError> {
        let rows = self.sql.run(
            "SELECT rows, top_revision FROM archives WHERE first_seq = ? AND last_seq = ? AND state = 'writing'",
            params![job.first_seq, job.last_seq],
        )?;
        let Some(row) = rows.into_iter().next() else { return Ok(()) };
        let mut c = Columns::of(row);
        let (count, top_revision) = (c.int()?, c.int()?);
        let range = params![job.first_seq, job.last_seq];
        let now = self.sql.run("SELECT COUNT(*), MAX(revision) FROM events WHERE seq BETWEEN ? AND ?", range)?;
        let Some(row) = now.into_iter().next() else { return Ok(()) };
        let mut c = Columns::of(row);
        let (held, newest) = (c.int()?, c.opt_int()?.unwrap_or(0));
        if held != count || newest != top_revision {
            self.sql.run("DELETE FROM archives WHERE first_seq = ?", params![job.first_seq])?;
            (self.hot.archived.writing, self.hot.archived.next_look) = (false, 0);
            return self.hot.archived.save(self.sql);
        }
        // What a sandbox says again after it was archived is known by these, and not told a second time.
        self.sql.run(
            "INSERT OR IGNORE INTO archived_ids SELECT id FROM events
                WHERE seq BETWEEN ? AND ? AND type IN ('ready', 'boot_progress')",
            range,
        )?;
        self.sql.run("DELETE FROM events WHERE seq BETWEEN ? AND ?", range)?;
        self.sql.run("UPDATE archives SET state = 'kept' WHERE first_seq = ?", params![job.first_seq])?;
        let archived = &mut self.hot.archived;
        archived.seq = archived.seq.max(job.last_seq);
        archived.floor = archived.floor.max(top_revision);
        (archived.writing, archived.next_look) = (false, 0);
        self.hot.archived.save(self.sql)
    }

    /// The file could not be written: the rows stay, and are tried again when the timeline has grown.
    pub(crate) fn archive_given_up(&mut self, job: &ArchiveEvents) -> Result<(), SqlError> {
        self.sql.run("DELETE FROM archives WHERE first_seq = ? AND state = 'writing'", params![job.first_seq])?;
        self.hot.archived.writing = false;
        self.hot.archived.next_look = self.hot.seq + (self.cx.config.retention_rows / 10).max(1);
        self.hot.archived.save(self.sql)
    }

    /// Whether a row that a sandbox would write again is in a file already.
    pub(crate) fn is_archived(&self, event_id: &str) -> Result<bool, SqlError> {
        if self.hot.archived.seq == 0 {
            return Ok(false);
        }
        Ok(!self.sql.run("SELECT 1 FROM archived_ids WHERE id = ?", params![event_id])?.is_empty())
    }

    /// A page asks for history that is in a file: it is answered when the file is read. `false` when there is none.
    pub(crate) fn fetch_archived(&mut self, socket: SocketId, before: i64, limit: usize) -> Result<bool, SqlError> {
        if before > self.hot.archived.seq + 1 {
            return Ok(false);
        }
        let Some(((first_seq, key), session)) = file_before(self.sql, before)?.zip(self.hot.session.as_ref()) else {
            return Ok(false);
        };
        let read = ReadArchive {
            session_id: session.session_id.clone(),
            key,
            first_seq,
            before,
            limit: limit as u32,
            socket: socket.0,
        };
        // A page waits for one answer at a time.
        self.enqueue(&Job::ReadArchive(read), Some(&format!("history:{}", socket.0)))?;
        Ok(true)
    }

    /// The file was read for a page, which may be gone.
    pub(crate) fn archive_read(&mut self, read: &ReadArchive, text: &str) -> Result<(), SqlError> {
        let socket = SocketId(read.socket);
        let Some(subscriber) = self.sockets.subscriber(socket) else { return Ok(()) };
        let dialect = if subscriber.two { Dialect::Two } else { Dialect::One };
        let limit = (read.limit as usize).min(limits::REPLAY_MAX_EVENTS);
        let page = match archive_file::history(text, read.first_seq, read.before, limit, dialect) {
            Ok(page) => page,
            Err(error) => {
                self.out.log.push(error.to_string());
                return self.archive_unreadable(read);
            }
        };
        self.send(socket, page.history_frame());
        Ok(())
    }

    /// The file could not be read.
    pub(crate) fn archive_unreadable(&mut self, read: &ReadArchive) -> Result<(), SqlError> {
        let socket = SocketId(read.socket);
        if self.sockets.subscriber(socket).is_some() {
            let message = "Older events cannot be read at this moment. Try again.".to_owned();
            self.send_json(socket, &ServerMessage::Error { code: ErrorCode::Retry, message, client_request_id: None });
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct ArchiveRange {
    first_seq: i64,
    last_seq: i64,
    first_created_at: i64,
    last_created_at: i64,
    top_revision: i64,
    rows: i64,
    bytes: i64,
}

impl ArchiveRange {
    fn add(&mut self, seq: i64, created_at: i64, revision: i64, bytes: i64) {
        if self.rows == 0 {
            (self.first_seq, self.first_created_at) = (seq, created_at);
        }
        (self.last_seq, self.last_created_at) = (seq, created_at);
        self.top_revision = self.top_revision.max(revision);
        self.rows += 1;
        self.bytes += bytes;
    }
}
