//! The file of a range of archived events: a row a line, oldest first, each with all that SQLite had of it, so that a
//! page of it is the page that SQLite would have given.

use oi_protocol::session_state::HistoryCursor;
use oi_protocol::{UnixMillis, limits};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::fork::{CopiedEvent, NOT_COPIED, PageOfCopies, TimelinePage};
use crate::projection::Dialect;
use crate::timeline::{EventList, ListedEvent, Page, envelope, join};

/// A line that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an archived event cannot be read: {0}")]
pub struct BadArchive(String);

/// One row.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ArchivedRow {
    pub seq: i64,
    pub id: String,
    pub revision: Option<i64>,
    pub message_id: Option<String>,
    #[serde(rename = "type")]
    pub event_type: String,
    pub created_at: i64,
    pub body: Box<RawValue>,
}

/// The status of a listing's answer that is an [`ArchivePointer`]. It never leaves the Worker.
pub const ELSEWHERE: u16 = 203;

/// Where the rows are that a listing asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArchivePointer {
    /// The file.
    pub key: String,
    /// The first place in it; there are older files when this is more than 1.
    pub first_seq: i64,
    /// Rows before this place are asked for.
    pub before: i64,
    /// As many of them.
    pub limit: u32,
}

/// A page of a listing, from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedList {
    /// JSON, as the session itself answers.
    pub body: String,
    /// How many events are in it.
    pub found: usize,
    /// Where the next page goes on, when there is more.
    pub cursor: Option<String>,
}

/// A file of archived events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArchivedRange {
    /// The file.
    pub key: String,
    /// Its first place.
    pub first_seq: i64,
    /// Its last place.
    pub last_seq: i64,
}

/// Files that may hold an event, the likeliest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArchivedRanges {
    /// The files.
    pub files: Vec<ArchivedRange>,
}

fn rows(text: &str) -> impl DoubleEndedIterator<Item = Result<ArchivedRow, BadArchive>> + '_ {
    text.lines()
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_str::<ArchivedRow>(line).map_err(|error| BadArchive(error.to_string())))
}

/// The place of an event in a file, when it is there.
pub fn place_of(text: &str, event_id: &str) -> Result<Option<i64>, BadArchive> {
    for row in rows(text) {
        let row = row?;
        if row.id == event_id {
            return Ok(Some(row.seq));
        }
    }
    Ok(None)
}

/// The page of a file that a fork copies, with the bounds of a page from SQLite.
pub fn copied(text: &str, range: &ArchivedRange, from: i64, through: i64) -> Result<TimelinePage, BadArchive> {
    let mut page = PageOfCopies::default();
    for row in rows(text) {
        let row = row?;
        if row.seq < from || row.seq > through || row.event_type == NOT_COPIED {
            continue;
        }
        let event = CopiedEvent {
            sequence: row.seq,
            id: row.id,
            message_id: row.message_id,
            event_type: row.event_type,
            created_at: row.created_at,
            body: row.body.get().to_owned(),
        };
        if let Err(event) = page.add(event) {
            return Ok(TimelinePage { next_sequence: Some(event.sequence), events: page.events });
        }
    }
    // What follows this file is in the next one, or in SQLite.
    let next_sequence = (range.last_seq < through).then_some(range.last_seq + 1);
    Ok(TimelinePage { events: page.events, next_sequence })
}

/// The rows of a file before a place, newest first.
fn rows_before(text: &str, before: i64) -> impl Iterator<Item = Result<ArchivedRow, BadArchive>> + '_ {
    rows(text).rev().filter(move |row| row.as_ref().map_or(true, |row| row.seq < before))
}

/// The rows of a page, newest first, and whether the file has more before them.
fn take(
    text: &str,
    before: i64,
    limit: usize,
    wanted: impl Fn(&ArchivedRow) -> bool,
) -> Result<(Vec<ArchivedRow>, bool), BadArchive> {
    let (mut taken, mut bytes): (Vec<ArchivedRow>, usize) = (Vec::new(), 0);
    for row in rows_before(text, before) {
        let row = row?;
        if !wanted(&row) {
            continue;
        }
        bytes += row.body.get().len();
        if taken.len() == limit || (bytes > limits::PAGE_MAX_BYTES && !taken.is_empty()) {
            return Ok((taken, true));
        }
        taken.push(row);
    }
    Ok((taken, false))
}

/// A page of `GET /sessions/:id/events` from a file.
pub fn list(
    text: &str,
    pointer: &ArchivePointer,
    event_type: Option<&str>,
    message_id: Option<&str>,
) -> Result<ArchivedList, BadArchive> {
    let stored_type = event_type.map(|kind| if kind == "token" { "part" } else { kind });
    let (rows, more) = take(text, pointer.before, pointer.limit as usize, |row| {
        stored_type.is_none_or(|kind| row.event_type == kind)
            && message_id.is_none_or(|id| row.message_id.as_deref() == Some(id))
    })?;
    let has_more = more || pointer.first_seq > 1;
    let cursor = has_more.then(|| match rows.last().filter(|_| more) {
        Some(last) => format!("{}:{}:{}", last.created_at, last.seq, last.id),
        // All that fits is told: the next page begins before this file.
        None => format!("0:{}:", pointer.first_seq),
    });
    let mut events = Vec::new();
    for row in rows {
        if let Some(event) = ListedEvent::of(row.id, row.event_type, row.body.get(), row.message_id, row.created_at) {
            events.push(event.map_err(|error| BadArchive(error.to_string()))?);
        }
    }
    let found = events.len();
    let page = EventList { events, cursor: cursor.clone(), has_more };
    let body = serde_json::to_string(&page).map_err(|error| BadArchive(error.to_string()))?;
    Ok(ArchivedList { body, found, cursor })
}

/// A page of the socket's history from a file.
pub(crate) fn history(
    text: &str,
    first_seq: i64,
    before: i64,
    limit: usize,
    dialect: Dialect,
) -> Result<Page, BadArchive> {
    let (rows, more) = take(text, before, limit, |_| true)?;
    let cursor = rows.last().map(|row| HistoryCursor {
        timestamp: UnixMillis(row.created_at),
        id: row.id.clone(),
        sequence: Some(row.seq),
    });
    let shown = |row: &ArchivedRow| envelope(&row.id, row.seq, row.revision, &row.event_type, row.body.get(), dialect);
    let events: Vec<String> = rows.iter().rev().filter_map(shown).collect();
    Ok(Page { events: join(&events), has_more: more || first_seq > 1, cursor, mode: None })
}
