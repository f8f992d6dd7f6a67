//! The timeline: stored events, their places and revisions, and pages of them.

use oi_protocol::client_socket::TimelineMode;
use oi_protocol::event::Event;
use oi_protocol::session_state::HistoryCursor;
use oi_protocol::{UnixMillis, limits};
use serde::Serialize;

use crate::archive::Archived;
use crate::core::{Hot, Turn};
use crate::projection::{Dialect, project};
use crate::sql::{Columns, Row, Sql, SqlError, Value, params};

/// Highest place and revision, read once when the object wakes.
pub(crate) fn load_counters(sql: &dyn Sql, archived: Archived) -> Result<(i64, i64), SqlError> {
    let seq = sql.run("SELECT MAX(seq) FROM events", &[])?;
    let revision = sql.run("SELECT MAX(revision) FROM events", &[])?;
    let first = |rows: Vec<Row>| -> Result<i64, SqlError> {
        rows.into_iter().next().map_or(Ok(0), |row| Ok(Columns::of(row).opt_int()?.unwrap_or(0)))
    };
    Ok((first(seq)?.max(archived.seq), first(revision)?.max(archived.floor)))
}

/// A row that was just written.
pub(crate) struct Stored {
    pub event_id: String,
    pub seq: i64,
    pub revision: i64,
    pub event_type: &'static str,
    pub body: String,
}

/// A row as it is written: inserted, or put in the place of the body of the one with the same id.
pub(crate) struct NewRow<'r> {
    pub seq: i64,
    pub event_id: &'r str,
    pub revision: i64,
    pub message_id: Option<&'r str>,
    pub event_type: &'static str,
    pub created_at: i64,
    pub body: &'r str,
}

impl NewRow<'_> {
    /// Gives the row's place: the one that it had, or `seq`.
    pub fn write(&self, sql: &dyn Sql) -> Result<i64, SqlError> {
        let rows = sql.run(
            "INSERT INTO events (seq, id, revision, message_id, type, created_at, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, body = excluded.body RETURNING seq",
            params![
                self.seq,
                self.event_id,
                self.revision,
                self.message_id.map(str::to_owned),
                self.event_type,
                self.created_at,
                self.body,
            ],
        )?;
        let row = rows.into_iter().next().ok_or_else(|| SqlError("no row was written".to_owned()))?;
        Columns::of(row).int()
    }
}

/// The word of an event's type.
pub(crate) const fn type_of(event: &Event) -> &'static str {
    match event {
        Event::UserMessage(_) => "user_message",
        Event::Part(_) => "part",
        Event::ToolCall(_) => "tool_call",
        Event::StepStart(_) => "step_start",
        Event::StepFinish(_) => "step_finish",
        Event::ContextCompacted(_) => "context_compacted",
        Event::Error(_) => "error",
        Event::ExecutionComplete(_) => "execution_complete",
        Event::Ready(_) => "ready",
        Event::BootProgress(_) => "boot_progress",
        Event::Warning(_) => "warning",
        Event::GitSync(_) => "git_sync",
        Event::PushComplete(_) => "push_complete",
        Event::PushError(_) => "push_error",
        Event::Artifact(_) => "artifact",
        Event::InputRequest(_) => "input_request",
    }
}

/// Every word that [`type_of`] gives.
pub(crate) const TYPES: [&str; 16] = [
    "user_message",
    "part",
    "tool_call",
    "step_start",
    "step_finish",
    "context_compacted",
    "error",
    "execution_complete",
    "ready",
    "boot_progress",
    "warning",
    "git_sync",
    "push_complete",
    "push_error",
    "artifact",
    "input_request",
];

/// The word of a stored type, where a text is one.
pub(crate) fn known_type(word: &str) -> Option<&'static str> {
    TYPES.into_iter().find(|known| *known == word)
}

pub(crate) fn body_of(event: &Event) -> Result<String, SqlError> {
    serde_json::to_string(event).map_err(|error| SqlError(format!("an event cannot be written: {error}")))
}

impl Turn<'_, '_> {
    /// Inserts an event, or replaces the body of the one with the same id, keeping its place.
    pub(crate) fn store(
        &mut self,
        event_id: String,
        message_id: Option<&str>,
        event: &Event,
    ) -> Result<Stored, SqlError> {
        let body = body_of(event)?;
        let event_type = type_of(event);
        let revision = self.hot.revision + 1;
        let row = NewRow {
            seq: self.hot.seq + 1,
            event_id: &event_id,
            revision,
            message_id,
            event_type,
            created_at: self.cx.now.0,
            body: &body,
        };
        let seq = row.write(self.sql)?;
        self.hot.seq = self.hot.seq.max(seq);
        self.hot.revision = revision;
        Ok(Stored { event_id, seq, revision, event_type, body })
    }

    /// Shows a stored event to everybody.
    pub(crate) fn broadcast_stored(&mut self, stored: &Stored) {
        self.broadcast_to(Dialect::Two, || {
            Some(format!(
                r#"{{"type":"sandbox_event","eventId":{},"timelineSequence":{},"revision":{},"event":{}}}"#,
                json_text(&stored.event_id),
                stored.seq,
                stored.revision,
                stored.body
            ))
        });
        self.broadcast_to(Dialect::One, || {
            project(stored.event_type, &stored.body, Dialect::One)
                .map(|body| format!(r#"{{"type":"sandbox_event","event":{body}}}"#))
        });
    }

    /// Stores an event under a new id and shows it.
    pub(crate) fn append(&mut self, message_id: Option<&str>, event: &Event) -> Result<Stored, SqlError> {
        let id = hex::encode(self.cx.random_id());
        let stored = self.store(id, message_id, event)?;
        self.broadcast_stored(&stored);
        Ok(stored)
    }

    /// Stores an event under a composed id and shows it.
    pub(crate) fn put(
        &mut self,
        event_id: String,
        message_id: Option<&str>,
        event: &Event,
    ) -> Result<Stored, SqlError> {
        let stored = self.store(event_id, message_id, event)?;
        self.broadcast_stored(&stored);
        Ok(stored)
    }

    /// Shows an event that is not stored.
    pub(crate) fn broadcast_unstored(&mut self, event: &Event) -> Result<(), SqlError> {
        let body = body_of(event)?;
        self.broadcast_to(Dialect::Two, || Some(format!(r#"{{"type":"sandbox_event","event":{body}}}"#)));
        self.broadcast_to(Dialect::One, || {
            project(type_of(event), &body, Dialect::One)
                .map(|body| format!(r#"{{"type":"sandbox_event","event":{body}}}"#))
        });
        Ok(())
    }
}

/// A string as JSON.
pub(crate) fn json_text(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_else(|_| "\"\"".to_owned())
}

struct EventRow {
    seq: i64,
    id: String,
    revision: Option<i64>,
    created_at: i64,
    event_type: String,
    body: String,
    message_id: Option<String>,
}

impl EventRow {
    const COLUMNS: &'static str = "seq, id, revision, created_at, type, body, message_id";

    fn from_row(row: Row) -> Result<Self, SqlError> {
        let mut c = Columns::of(row);
        Ok(Self {
            seq: c.int()?,
            id: c.text()?,
            revision: c.opt_int()?,
            created_at: c.int()?,
            event_type: c.text()?,
            body: c.text()?,
            message_id: c.opt_text()?,
        })
    }

    fn envelope(&self, dialect: Dialect) -> Option<String> {
        envelope(&self.id, self.seq, self.revision, &self.event_type, &self.body, dialect)
    }
}

/// A stored event as pages show it; `None` for one that the dialect does not see.
pub(crate) fn envelope(
    id: &str,
    seq: i64,
    revision: Option<i64>,
    event_type: &str,
    body: &str,
    dialect: Dialect,
) -> Option<String> {
    let body = project(event_type, body, dialect)?;
    let revision = match (dialect, revision) {
        (Dialect::Two, Some(revision)) => format!(r#","revision":{revision}"#),
        _ => String::new(),
    };
    Some(format!(r#"{{"eventId":{},"timelineSequence":{seq}{revision},"event":{body}}}"#, json_text(id)))
}

/// A page as JSON texts, ready to be spliced into a reply.
#[derive(Default)]
pub(crate) struct Page {
    /// JSON array of timeline events, oldest first.
    pub events: String,
    pub has_more: bool,
    pub cursor: Option<HistoryCursor>,
    pub mode: Option<TimelineMode>,
}

impl Page {
    /// What a page that asked for history gets.
    pub fn history_frame(&self) -> String {
        let cursor = serde_json::to_string(&self.cursor).unwrap_or_else(|_| "null".to_owned());
        let (items, has_more) = (&self.events, self.has_more);
        format!(r#"{{"type":"history_page","items":{items},"hasMore":{has_more},"cursor":{cursor}}}"#)
    }
}

pub(crate) fn join(envelopes: &[String]) -> String {
    format!("[{}]", envelopes.join(","))
}

/// Rows read by one statement, so that no more bodies than these are in memory beyond the page's bound.
const CHUNK: usize = 50;
/// Beyond every place.
const AFTER_ALL: i64 = 1 << 42;

/// Reads rows, in chunks that `next` reads after the last row before, until `limit` rows or the page's bound in bytes
/// are reached. One row always fits, so that paging goes on. Says too whether more follow.
fn read_bounded(
    limit: usize,
    mut next: impl FnMut(Option<&EventRow>, i64) -> Result<Vec<Row>, SqlError>,
) -> Result<(Vec<EventRow>, bool), SqlError> {
    let (mut taken, mut bytes): (Vec<EventRow>, usize) = (Vec::new(), 0);
    loop {
        let wanted = (limit + 1 - taken.len()).min(CHUNK);
        let rows = next(taken.last(), wanted as i64)?;
        let ended = rows.len() < wanted;
        for row in rows {
            let row = EventRow::from_row(row)?;
            bytes += row.body.len();
            if taken.len() == limit || (bytes > limits::PAGE_MAX_BYTES && !taken.is_empty()) {
                return Ok((taken, true));
            }
            taken.push(row);
        }
        if ended {
            return Ok((taken, false));
        }
    }
}

/// The page of at most `limit` events before `before` (newest when `None`), bounded in bytes too. Rows that are being
/// written (no revision) are left out towards dialect 2, which gets them as open parts.
pub(crate) fn page_before(
    sql: &dyn Sql,
    archived: Archived,
    before: Option<i64>,
    limit: usize,
    dialect: Dialect,
) -> Result<Page, SqlError> {
    let open = if dialect == Dialect::Two { "AND revision IS NOT NULL" } else { "" };
    let statement = format!("SELECT {} FROM events WHERE seq < ? {open} ORDER BY seq DESC LIMIT ?", EventRow::COLUMNS);
    let (rows, has_more) = read_bounded(limit, |last, count| {
        let before = last.map(|row| row.seq).or(before).unwrap_or(AFTER_ALL);
        sql.run(&statement, params![before, count])
    })?;
    let envelopes: Vec<String> = rows.iter().rev().filter_map(|row| row.envelope(dialect)).collect();
    let cursor = rows.last().map(|row| HistoryCursor {
        timestamp: UnixMillis(row.created_at),
        id: row.id.clone(),
        sequence: Some(row.seq),
    });
    // What is older is in files, which the next page reads.
    let has_more = has_more || archived.is_below(before);
    Ok(Page { events: join(&envelopes), has_more, cursor, mode: None })
}

/// A row as pages of dialect 2 show it, written by SQLite: one text for a page is a tenth of the values that would cross
/// into wasm for its rows. It is [`envelope`] in SQL.
const ENVELOPE: &str = r#"concat('{"eventId":', json_quote(id), ',"timelineSequence":', seq, ',"revision":', revision,
    ',"event":', body, '}')"#;

fn joined(sql: &dyn Sql, rows: &str, params: &[Value]) -> Result<String, SqlError> {
    let statement =
        format!("SELECT group_concat(envelope, ',') FROM (SELECT {ENVELOPE} AS envelope FROM events {rows})");
    let row = sql.run(&statement, params)?.into_iter().next();
    let text = row.map_or(Ok(None), |row| Columns::of(row).opt_text())?;
    Ok(format!("[{}]", text.unwrap_or_default()))
}

/// Where the newest page begins; `None` when there is nothing.
fn first_of_newest_page(sql: &dyn Sql) -> Result<Option<i64>, SqlError> {
    // `octet_length` reads no body.
    const NEWEST: &str =
        "SELECT seq, octet_length(body) AS size FROM events WHERE revision IS NOT NULL ORDER BY seq DESC LIMIT ?1";
    let (rows, bytes) = (limits::REPLAY_MAX_EVENTS as i64, limits::PAGE_MAX_BYTES as i64);
    let all = sql.run(&format!("SELECT MIN(seq), COALESCE(SUM(size), 0) FROM ({NEWEST})"), params![rows])?;
    let row = all.into_iter().next().ok_or_else(|| SqlError("a sum gave no row".to_owned()))?;
    let mut c = Columns::of(row);
    let (first, size) = (c.opt_int()?, c.int()?);
    if size <= bytes {
        return Ok(first);
    }
    let bounded = sql.run(
        &format!(
            "SELECT MIN(seq) FROM (
                SELECT seq, size, SUM(size) OVER (ORDER BY seq DESC ROWS UNBOUNDED PRECEDING) AS bytes FROM ({NEWEST}))
             WHERE bytes <= ?2 OR bytes = size"
        ),
        params![rows, bytes],
    )?;
    bounded.into_iter().next().map_or(Ok(None), |row| Columns::of(row).opt_int())
}

/// The newest page for dialect 2, with the bounds of [`page_before`].
fn newest_page(sql: &dyn Sql, archived: Archived) -> Result<Page, SqlError> {
    let Some(first) = first_of_newest_page(sql)? else {
        return Ok(Page { events: join(&[]), has_more: archived.is_below(None), cursor: None, mode: None });
    };
    let older = sql.run(
        "SELECT created_at, id, EXISTS (SELECT 1 FROM events WHERE seq < ?1 AND revision IS NOT NULL)
         FROM events WHERE seq = ?1",
        params![first],
    )?;
    let row = older.into_iter().next().ok_or_else(|| SqlError("the first row of a page is gone".to_owned()))?;
    let mut c = Columns::of(row);
    let cursor = HistoryCursor { timestamp: UnixMillis(c.int()?), id: c.text()?, sequence: Some(first) };
    let has_more = c.bool()? || archived.is_below(None);
    let events = joined(sql, "WHERE seq >= ? AND revision IS NOT NULL ORDER BY seq", params![first])?;
    Ok(Page { events, has_more, cursor: Some(cursor), mode: None })
}

/// What changed after `revision`, or the newest page when that is too much or cannot be told.
pub(crate) fn page_after_revision(sql: &dyn Sql, hot: &Hot, revision: Option<i64>) -> Result<Page, SqlError> {
    if let Some(after) = revision.filter(|after| (hot.archived.floor..=hot.revision).contains(after)) {
        let size = sql.run(
            "SELECT COUNT(*), COALESCE(SUM(size), 0) FROM (
                SELECT octet_length(body) AS size FROM events WHERE revision > ? ORDER BY revision LIMIT ?)",
            params![after, limits::REPLAY_MAX_EVENTS as i64 + 1],
        )?;
        let row = size.into_iter().next().ok_or_else(|| SqlError("a count gave no row".to_owned()))?;
        let mut c = Columns::of(row);
        let (rows, bytes) = (c.int()? as usize, c.int()? as usize);
        if rows <= 1 || (rows <= limits::REPLAY_MAX_EVENTS && bytes <= limits::PAGE_MAX_BYTES) {
            let events = joined(sql, "WHERE revision > ? ORDER BY revision", params![after])?;
            return Ok(Page { events, mode: Some(TimelineMode::Delta), ..Page::default() });
        }
    }
    let page = newest_page(sql, hot.archived)?;
    Ok(Page { mode: Some(TimelineMode::Snapshot), ..page })
}

/// The place that a client's cursor names, or `None` for a cursor that names nothing.
pub(crate) fn resolve_cursor(sql: &dyn Sql, cursor: &HistoryCursor) -> Result<Option<i64>, SqlError> {
    if let Some(sequence) = cursor.sequence {
        return Ok(Some(sequence));
    }
    let rows = sql.run("SELECT seq FROM events WHERE id = ?", params![cursor.id.as_str()])?;
    rows.into_iter().next().map(|row| Columns::of(row).int()).transpose()
}

/// One row of `GET /sessions/:id/events`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListedEvent {
    id: String,
    #[serde(rename = "type")]
    event_type: String,
    data: Box<serde_json::value::RawValue>,
    message_id: Option<String>,
    created_at: i64,
}

impl ListedEvent {
    /// A row as a listing shows it; `None` for one that dialect 1 does not see.
    pub fn of(
        id: String,
        event_type: String,
        body: &str,
        message_id: Option<String>,
        created_at: i64,
    ) -> Option<Result<Self, serde_json::Error>> {
        let shown = project(&event_type, body, Dialect::One)?;
        let data = match serde_json::value::RawValue::from_string(shown.into_owned()) {
            Ok(data) => data,
            Err(error) => return Some(Err(error)),
        };
        let event_type = if event_type == "part" { "token".to_owned() } else { event_type };
        Some(Ok(Self { id, event_type, data, message_id, created_at }))
    }
}

/// Answer of `GET /sessions/:id/events`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EventList {
    pub events: Vec<ListedEvent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    pub has_more: bool,
}

/// What a listing asks for.
pub(crate) struct EventQuery<'a> {
    pub before: Option<i64>,
    pub limit: u32,
    pub event_type: Option<&'a str>,
    pub message_id: Option<&'a str>,
}

/// A page of events, newest first, in the form of dialect 1.
pub(crate) fn list(sql: &dyn Sql, archived: Archived, query: &EventQuery<'_>) -> Result<EventList, SqlError> {
    let stored_type = query.event_type.map(|kind| if kind == "token" { "part" } else { kind });
    let statement = format!(
        "SELECT {} FROM events WHERE seq < ?1 AND (?2 IS NULL OR type = ?2) AND (?3 IS NULL OR message_id = ?3)
            ORDER BY seq DESC LIMIT ?4",
        EventRow::COLUMNS
    );
    let (rows, has_more) = read_bounded(query.limit as usize, |last, count| {
        sql.run(
            &statement,
            params![
                last.map(|row| row.seq).or(query.before).unwrap_or(AFTER_ALL),
                stored_type.map(str::to_owned),
                query.message_id.map(str::to_owned),
                count,
            ],
        )
    })?;
    let cursor = match rows.last().filter(|_| has_more) {
        Some(row) => Some(format!("{}:{}:{}", row.created_at, row.seq, row.id)),
        // What is older is in files, which the next page reads.
        None if archived.is_below(query.before) => Some(format!("0:{}:", archived.seq + 1)),
        None => None,
    };
    let has_more = has_more || archived.is_below(query.before);
    let mut events = Vec::new();
    for row in rows {
        if let Some(event) = ListedEvent::of(row.id, row.event_type, &row.body, row.message_id, row.created_at) {
            events.push(event.map_err(|error| SqlError(format!("a stored event is not JSON: {error}")))?);
        }
    }
    Ok(EventList { events, cursor, has_more })
}
