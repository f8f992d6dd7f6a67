//! Forks: a new session that continues an old one from any of its events. The old timeline up to there is copied, page
//! by page, each page a job; the new timeline's own events come after it. The people of the old session stay what the
//! events show of them. What the agent knew goes before the first prompt as a transcript.

use oi_protocol::event::{Part, PartKind, UserMessage};
use oi_protocol::text::truncate_bytes;
use oi_protocol::{ErrorCode, SessionId};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::archive;
use crate::archive_file::{ArchivedRanges, ELSEWHERE};
use crate::call::{CallReply, InitEnvironment, InitRepository};
use crate::core::{Hot, Turn};
use crate::job::Job;
use crate::session_row::load_repositories;
use crate::snapshots::{self, BorrowedSnapshot};
use crate::sql::{Columns, Sql, SqlError, params};

/// Events of the old timeline that are copied, counted back from the fork.
const COPIED_MAX: i64 = 2_000;
/// Events and bytes of one page.
const PAGE_EVENTS: i64 = 200;
const PAGE_BYTES: usize = 512 * 1024;
/// Of the transcript, and of one text in it.
const TRANSCRIPT_MAX_BYTES: usize = 24 * 1024;
const SAID_MAX_BYTES: usize = 1_500;

/// Copy a page of the old timeline. Repeated as it is: a row that is there already is not written again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CopyTimeline {
    /// The old session.
    pub source_session_id: SessionId,
    /// First place.
    pub from_sequence: i64,
    /// Last place.
    pub through_sequence: i64,
}

/// An event as the old session stores it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CopiedEvent {
    /// Its place.
    pub sequence: i64,
    /// Its id.
    pub id: String,
    /// Its prompt.
    pub message_id: Option<String>,
    /// Its type.
    pub event_type: String,
    /// When it was stored.
    pub created_at: i64,
    /// Dialect 2 JSON.
    pub body: String,
}

/// A page of the old timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TimelinePage {
    /// In order.
    pub events: Vec<CopiedEvent>,
    /// Where the next page begins; `None` after the last.
    pub next_sequence: Option<i64>,
}

/// Questions that may still be open stay with the session that asked.
pub(crate) const NOT_COPIED: &str = "input_request";

/// A page of what is copied, while it is gathered.
#[derive(Default)]
pub(crate) struct PageOfCopies {
    pub events: Vec<CopiedEvent>,
    bytes: usize,
}

impl PageOfCopies {
    /// Takes an event, or gives it back when the page is full. One event always fits.
    pub fn add(&mut self, event: CopiedEvent) -> Result<(), CopiedEvent> {
        let bytes = self.bytes + event.body.len();
        if self.events.len() as i64 == PAGE_EVENTS || (bytes > PAGE_BYTES && !self.events.is_empty()) {
            return Err(event);
        }
        self.bytes = bytes;
        self.events.push(event);
        Ok(())
    }
}

/// What a fork starts with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ForkPoint {
    /// First place that is copied.
    pub from_sequence: i64,
    /// The event that is forked from.
    pub through_sequence: i64,
    /// Title of the old session.
    pub title: Option<String>,
    /// `provider/model`
    pub model: String,
    /// How hard to think.
    pub reasoning_effort: Option<String>,
    /// What the old session works on.
    pub repositories: Vec<InitRepository>,
    /// The environment that it was made of.
    #[serde(default)]
    pub environment: Option<InitEnvironment>,
    /// Its files near the event, when the backend keeps some.
    pub snapshot: Option<BorrowedSnapshot>,
}

/// Where a fork of `event_id`, of the place `sequence` or of the newest event begins and ends.
pub(crate) fn point(
    sql: &dyn Sql,
    hot: &Hot,
    event_id: Option<&str>,
    sequence: Option<i64>,
) -> Result<CallReply, SqlError> {
    let Some(session) = &hot.session else { return Ok(crate::reads::not_found()) };
    let rows = match (event_id, sequence) {
        (Some(id), _) => sql.run("SELECT seq FROM events WHERE id = ? AND revision IS NOT NULL", params![id])?,
        (None, Some(place)) => {
            sql.run("SELECT seq FROM events WHERE seq = ? AND revision IS NOT NULL", params![place])?
        }
        (None, None) => sql.run("SELECT MAX(seq) FROM events WHERE revision IS NOT NULL", &[])?,
    };
    let mut found = rows.into_iter().next().map(|row| Columns::of(row).opt_int()).transpose()?.flatten();
    if let (None, Some(place)) = (found, sequence.filter(|_| event_id.is_none())) {
        found = archive::holds(sql, place)?.then_some(place);
    }
    let Some(through_sequence) = found else {
        let files = event_id.map_or(Ok(Vec::new()), |_| archive::newest_files(sql))?;
        if !files.is_empty() {
            return Ok(CallReply::json(ELSEWHERE, &ArchivedRanges { files }));
        }
        return Ok(CallReply::refuse(404, ErrorCode::NotFound, "The session has no such event"));
    };
    let point = ForkPoint {
        from_sequence: (through_sequence - COPIED_MAX + 1).max(1),
        through_sequence,
        title: session.title.clone(),
        model: session.model.clone(),
        reasoning_effort: session.reasoning_effort.clone(),
        repositories: load_repositories(sql)?.into_iter().map(Into::into).collect(),
        environment: session.environment.clone(),
        snapshot: snapshots::nearest(sql, through_sequence)?,
    };
    Ok(CallReply::json(200, &point))
}

/// A page of stored events for a fork, oldest first, or the file that it is in.
pub(crate) fn page(sql: &dyn Sql, hot: &Hot, from: i64, through: i64) -> Result<CallReply, SqlError> {
    if from <= hot.archived.seq
        && let Some(file) = archive::file_from(sql, from)?.filter(|file| file.first_seq <= through)
    {
        return Ok(CallReply::json(ELSEWHERE, &file));
    }
    let rows = sql.run(
        "SELECT seq, id, message_id, type, created_at, body FROM events
            WHERE seq >= ? AND seq <= ? AND revision IS NOT NULL AND type <> ? ORDER BY seq LIMIT ?",
        params![from, through, NOT_COPIED, PAGE_EVENTS + 1],
    )?;
    let mut page = PageOfCopies::default();
    let mut next_sequence = None;
    for row in rows {
        let mut c = Columns::of(row);
        let event = CopiedEvent {
            sequence: c.int()?,
            id: c.text()?,
            message_id: c.opt_text()?,
            event_type: c.text()?,
            created_at: c.int()?,
            body: c.text()?,
        };
        if let Err(event) = page.add(event) {
            next_sequence = Some(event.sequence);
            break;
        }
    }
    Ok(CallReply::json(200, &TimelinePage { events: page.events, next_sequence }))
}

impl Turn<'_, '_> {
    /// Asks for the next page of what is copied.
    pub(crate) fn copy_next_page(&mut self) -> Result<(), SqlError> {
        let (Some(source), Some(from)) = (self.hot.family.forked_from.clone(), self.hot.family.fork_next) else {
            return Ok(());
        };
        let job = Job::CopyTimeline(CopyTimeline {
            source_session_id: source,
            from_sequence: from,
            through_sequence: self.hot.family.fork_through,
        });
        self.enqueue(&job, Some("copy_timeline"))
    }

    /// A page came: stored at its places, shown, and the next one asked for.
    pub(crate) fn page_copied(&mut self, copy: &CopyTimeline, page: TimelinePage) -> Result<(), SqlError> {
        if self.hot.family.fork_next != Some(copy.from_sequence) {
            return Ok(());
        }
        for event in page.events {
            let Some(event_type) = crate::timeline::known_type(&event.event_type) else { continue };
            let revision = self.hot.revision + 1;
            let written = self.sql.run(
                "INSERT OR IGNORE INTO events (seq, id, revision, message_id, type, created_at, body)
                    VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING seq",
                params![
                    event.sequence,
                    event.id.as_str(),
                    revision,
                    event.message_id,
                    event_type,
                    event.created_at,
                    event.body.as_str(),
                ],
            )?;
            if written.is_empty() {
                continue;
            }
            self.hot.revision = revision;
            let seq = event.sequence;
            self.broadcast_stored(&crate::timeline::Stored {
                event_id: event.id,
                seq,
                revision,
                event_type,
                body: event.body,
            });
        }
        self.hot.family.fork_next = page.next_sequence;
        self.hot.family.save(self.sql)?;
        self.copy_next_page()
    }

    /// The rest of the old timeline cannot be had: the fork goes on with what is here.
    pub(crate) fn copy_failed(&mut self, error: &str) -> Result<(), SqlError> {
        self.hot.family.fork_next = None;
        self.hot.family.save(self.sql)?;
        self.out.log.push(format!("fork: the timeline was not copied whole ({error})"));
        Ok(())
    }

    /// What goes before the first prompt of a fork, for the agent only.
    pub(crate) fn fork_transcript(&self) -> Result<Option<String>, SqlError> {
        if self.hot.family.forked_from.is_none() {
            return Ok(None);
        }
        let ended = self.sql.run("SELECT 1 FROM messages WHERE completed_at IS NOT NULL LIMIT 1", &[])?;
        if !ended.is_empty() {
            return Ok(None);
        }
        let rows = self.sql.run(
            "SELECT type, body FROM events WHERE seq <= ? AND type IN ('user_message', 'part')
                ORDER BY seq DESC LIMIT 400",
            params![self.hot.family.fork_through],
        )?;
        let (mut said, mut bytes) = (Vec::new(), 0);
        for row in rows {
            let mut c = Columns::of(row);
            let (kind, body) = (c.text()?, c.text()?);
            let line = if kind == "user_message" {
                let message: Option<UserMessage> = serde_json::from_str(&body).ok();
                message.map(|message| ("user", message.content))
            } else {
                let part: Option<Part> = serde_json::from_str(&body).ok();
                part.filter(|part| part.kind == PartKind::Text).map(|part| ("assistant", part.text))
            };
            let Some((role, text)) = line.filter(|(_, text)| !text.trim().is_empty()) else { continue };
            let text = truncate_bytes(&text, SAID_MAX_BYTES);
            bytes += text.len();
            if bytes > TRANSCRIPT_MAX_BYTES {
                break;
            }
            // As JSON records: what was said cannot pretend to be something else.
            said.push(json!({"role": role, "text": text}).to_string());
        }
        said.reverse();
        let lines = said.join("\n");
        Ok((!lines.is_empty()).then(|| {
            format!(
                "This session continues an earlier one. Its files are not here unless you find them in the checkout. \
                 What was said in it, oldest first, as JSON records:\n\n{lines}\n\nThe prompt:\n\n"
            )
        }))
    }
}
