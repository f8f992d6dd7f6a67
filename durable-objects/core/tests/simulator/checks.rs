//! What must hold: along the way, and at the end.

use std::collections::BTreeSet;

use oi_session::sql::{Row, Sql, Value as SqlValue};
use rand::Rng;
use serde_json::{Value, json};

use crate::client::key_of;
use crate::support::session::{messages, value};
use crate::world::World;

fn text(value: &SqlValue) -> String {
    match value {
        SqlValue::Text(text) => text.clone(),
        other => format!("{other:?}"),
    }
}

fn int(value: &SqlValue) -> i64 {
    match value {
        SqlValue::Int(number) => *number,
        other => panic!("not a number: {other:?}"),
    }
}

/// Whether a page's row is the stored one; a streamed part does not name its sandbox.
fn is_same(held: &Value, stored: &Value) -> bool {
    if stored["type"] != "part" {
        return held == stored;
    }
    let mut event = held.clone();
    event["sandboxId"] = stored["sandboxId"].clone();
    event == *stored
}

impl World {
    fn rows(&self, sql: &str) -> Vec<Row> {
        self.host.sql.inner.run(sql, &[]).unwrap_or_else(|error| panic!("{error}"))
    }

    fn count(&self, sql: &str) -> i64 {
        self.rows(sql).first().map_or(0, |row| int(&row[0]))
    }

    pub fn generation(&self) -> i64 {
        self.count("SELECT generation FROM sandbox")
    }

    /// The logical id of the sandbox that may act.
    pub fn current_sandbox(&self) -> Option<String> {
        self.rows("SELECT sandbox_id FROM sandbox").first().map(|row| text(&row[0]))
    }

    /// A measure of what a sandbox could have changed.
    pub fn stored(&self) -> (i64, i64, i64) {
        (
            self.count("SELECT COUNT(*) FROM events"),
            self.count("SELECT COALESCE(MAX(revision), 0) FROM events"),
            self.count("SELECT COUNT(*) FROM messages WHERE completed_at IS NOT NULL"),
        )
    }

    /// Looks at the frames that just left: what they promise must be in SQLite.
    pub fn check_promises(&mut self) -> Result<(), String> {
        for index in 0..self.bridges.len() {
            let Some(socket) = self.bridges[index].socket.and_then(|id| self.host.sockets.get(&id)) else { continue };
            let fresh: Vec<Value> =
                socket.inbox.iter().skip(self.bridges[index].seen).map(|text| value(text)).collect();
            self.bridges[index].seen = socket.inbox.len();
            let mark = fresh
                .iter()
                .filter_map(|frame| match frame["type"].as_str() {
                    Some("ack") => frame["seq"].as_i64(),
                    Some("hello") => frame["ackedSeq"].as_i64(),
                    _ => None,
                })
                .max();
            if let Some(mark) = mark {
                self.check_mark(index, mark)?;
            }
        }
        for client in &self.clients {
            let Some(socket) = client.socket.and_then(|id| self.host.sockets.get(&id)) else { continue };
            let Some(last) = socket.inbox.back().filter(|text| text.contains("prompt_queued")) else { continue };
            for frame in messages(last).iter().filter(|frame| frame["type"] == "prompt_queued") {
                let id = frame["messageId"].as_str().unwrap_or_default();
                let known = self.count(&format!(
                    "SELECT (SELECT COUNT(*) FROM messages WHERE id = '{id}') +
                        (SELECT COUNT(*) FROM cancelled_requests WHERE message_id = '{id}')"
                ));
                if known == 0 {
                    return Err(format!("{id} was accepted and is not stored"));
                }
            }
        }
        Ok(())
    }

    /// Whatever the mark covers has had its effect in SQLite, once.
    fn check_mark(&mut self, index: usize, told: i64) -> Result<(), String> {
        let bridge = &self.bridges[index];
        if self.generation() != bridge.sandbox.generation {
            return Ok(());
        }
        let mark = self.count("SELECT seq FROM received");
        if mark < told {
            return Err(format!("{told} was acknowledged, SQLite has {mark}"));
        }
        let mark = mark as usize;
        if mark > bridge.journal.len() {
            return Err(format!("{mark} frames of {}, of which {} exist", bridge.sandbox.id, bridge.journal.len()));
        }
        let warnings = |from: usize| bridge.journal[from..mark].iter().filter(|frame| frame["type"] == "warning");
        for frame in warnings(mark.saturating_sub(12)) {
            let message = frame["message"].as_str().unwrap_or_default();
            let rows = self
                .count(&format!("SELECT COUNT(*) FROM events WHERE type = 'warning' AND body LIKE '%\"{message}\"%'"));
            if rows != 1 {
                return Err(format!("{message} is acknowledged and stored {rows} times"));
            }
        }
        if let Some(row) = self.rows("SELECT id FROM messages WHERE status = 'processing'").first() {
            let id = text(&row[0]);
            for (part, expected) in bridge.text_at(mark, &id) {
                let stored = self.rows(&format!("SELECT body FROM events WHERE id = 'part:{id}:{part}'"));
                let stored = stored.first().map(|row| value(&text(&row[0]))["text"].clone());
                if stored.as_ref().and_then(Value::as_str).unwrap_or_default() != expected {
                    return Err(format!("after frame {mark} the part {part} is {expected:?}, stored is {stored:?}"));
                }
            }
        }
        self.tally.marks_checked += 1;
        Ok(())
    }

    /// A page that has read all that was sent has what is stored.
    pub fn check_view(&mut self, index: usize) -> Result<(), String> {
        if !self.calm && !self.rng.random_bool(0.25) {
            return Ok(());
        }
        let last = (self.count("SELECT COALESCE(MAX(revision), 0) FROM events"), self.clients[index].queue.clone());
        if self.calm && self.clients[index].checked.as_ref() == Some(&last) {
            return Ok(());
        }
        self.clients[index].checked = Some(last);
        self.tally.views_checked += 1;
        let rows = self.rows("SELECT seq, id, revision, body FROM events WHERE revision IS NOT NULL ORDER BY seq");
        let archived = self.archived_rows()?;
        for row in rows.iter().chain(&archived) {
            // A row of a revision never changes.
            self.bodies.entry((int(&row[0]), int(&row[2]))).or_insert_with(|| value(&text(&row[3])));
        }
        let client = &self.clients[index];
        if client.dialect == 1 {
            return self.check_old_view(index, &rows, &archived);
        }
        let floor = archived.last().map_or(0, |row| int(&row[0]));
        // What it has of the archive is what it had before it became one.
        for (seq, held) in client.timeline.range(..=floor) {
            let row = &archived[*seq as usize - 1];
            let body = &self.bodies[&(int(&row[0]), int(&row[2]))];
            if !is_same(&held.event, body) || held.id != text(&row[1]) || held.revision != int(&row[2]) {
                return Err(format!("{}: row {seq} is {held:?}, archived is {body}", client.name));
            }
        }
        if rows.len() != client.timeline.range(floor + 1..).count() {
            let have: BTreeSet<_> = client.timeline.keys().copied().collect();
            let missing: Vec<_> =
                rows.iter().filter(|row| !have.contains(&int(&row[0]))).map(|row| text(&row[1])).collect();
            return Err(format!("{} has {} of {} rows; without {missing:?}", client.name, have.len(), rows.len()));
        }
        for row in rows {
            let (seq, revision) = (int(&row[0]), int(&row[2]));
            let body = &self.bodies[&(seq, revision)];
            let Some(held) = client.timeline.get(&seq) else { return Err(format!("{} lacks row {seq}", client.name)) };
            if !is_same(&held.event, body) || held.id != text(&row[1]) || held.revision != revision {
                return Err(format!("{}: row {seq} is {held:?}, stored is {body}", client.name));
            }
        }
        // The newest change may be one of a row that has left for the archive since.
        let left = archived.iter().map(|row| int(&row[2])).max().unwrap_or(0);
        if client.revision != Some(left.max(self.count("SELECT COALESCE(MAX(revision), 0) FROM events"))) {
            return Err(format!("{} is at revision {:?}", client.name, client.revision));
        }
        let queue: Vec<String> = self
            .rows("SELECT id FROM messages WHERE status IN ('pending', 'processing') ORDER BY status DESC, COALESCE(place, number)")
            .iter()
            .map(|row| text(&row[0]))
            .collect();
        if client.queue != queue {
            return Err(format!("{}: the queue is {:?}, stored is {queue:?}", client.name, client.queue));
        }
        Ok(())
    }

    /// The rows in the archive's files, oldest first: each place from the first to the last once.
    fn archived_rows(&self) -> Result<Vec<Row>, String> {
        let mut rows: Vec<Row> = Vec::new();
        for file in self.rows("SELECT key FROM archives WHERE state = 'kept' ORDER BY first_seq") {
            let key = text(&file[0]);
            let file = self.outside.files.get(&key).ok_or(format!("the rows of {key} were deleted without a file"))?;
            for line in file.lines() {
                let line: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
                let number = |key: &str| SqlValue::Int(line[key].as_i64().unwrap_or_default());
                let id = SqlValue::Text(line["id"].as_str().unwrap_or_default().to_owned());
                let body = SqlValue::Text(line["body"].to_string());
                rows.push(vec![number("seq"), id, number("revision"), body]);
            }
        }
        let floor = self.count("SELECT COALESCE(MAX(archived_seq), 0) FROM retention");
        let first = self.count("SELECT COALESCE(MIN(seq), 0) FROM events");
        let places: Vec<i64> = rows.iter().map(|row| int(&row[0])).collect();
        if places != (1..=floor).collect::<Vec<_>>() || (floor > 0 && first != floor + 1) {
            return Err(format!("the archive to {floor} has {places:?}, SQLite begins at {first}"));
        }
        Ok(rows)
    }

    /// The stored or archived body of an event.
    fn event(&self, id: &str) -> Result<Option<Value>, String> {
        let stored = self.rows(&format!("SELECT body FROM events WHERE id = '{id}'"));
        let archived = self.archived_rows()?;
        let archived = archived.iter().find(|row| text(&row[1]) == id).map(|row| value(&text(&row[3])));
        match (stored.first(), archived) {
            (Some(_), Some(_)) => Err(format!("{id} is stored and archived")),
            (Some(row), None) => Ok(Some(value(&text(&row[0])))),
            (None, archived) => Ok(archived),
        }
    }

    fn check_old_view(&self, index: usize, rows: &[Row], archived: &[Row]) -> Result<(), String> {
        let client = &self.clients[index];
        let mut keys: BTreeSet<String> =
            archived.iter().map(|row| key_of(&self.bodies[&(int(&row[0]), int(&row[2]))])).collect();
        for row in rows {
            let mut body = self.bodies[&(int(&row[0]), int(&row[2]))].clone();
            match body["type"].as_str() {
                Some("part") => {
                    if !client.tokens.contains(body["text"].as_str().unwrap_or_default()) {
                        return Err(format!("{} was never shown {}", client.name, body["text"]));
                    }
                    continue;
                }
                Some("boot_progress" | "ready" | "input_request") => continue,
                _ => {}
            }
            if let Some(body) = body.as_object_mut() {
                body.remove("outcome");
            }
            if client.shown.get(&key_of(&body)) != Some(&body) {
                return Err(format!("{} was shown {:?} for {body}", client.name, client.shown.get(&key_of(&body))));
            }
            keys.insert(key_of(&body));
        }
        // Steps are shown and not stored.
        let extra = client.shown.iter().find(|(key, event)| {
            !keys.contains(*key) && !matches!(event["type"].as_str(), Some("ready" | "step_finish" | "step_start"))
        });
        extra.map_or(Ok(()), |(key, _)| Err(format!("{} was shown {key}, which is not stored", client.name)))
    }

    pub fn is_settled(&self) -> bool {
        self.count(
            "SELECT COUNT(*) FROM messages WHERE status IN ('pending', 'processing') OR stop_deadline IS NOT NULL",
        ) == 0
            && self.count("SELECT COUNT(*) FROM outbox WHERE state IN ('waiting', 'running')") == 0
            && self.count("SELECT COUNT(*) FROM pull_request_operations WHERE state IN ('pushing', 'opening')") == 0
            && self
                .clients
                .iter()
                .all(|client| client.subscribed && client.requests.iter().all(|r| r.message_id.is_some() || r.refused))
    }

    pub fn unsettled(&self) -> String {
        format!(
            "prompts {:?}, jobs {:?}, sandbox {:?}, alarm {:?} at {:?}, pages {:?}, runs {:?}",
            self.rows("SELECT number, status, stop_deadline FROM messages WHERE status IN ('pending', 'processing') OR stop_deadline IS NOT NULL"),
            self.rows("SELECT id, state, attempt, due_at FROM outbox WHERE state IN ('waiting', 'running')"),
            self.rows("SELECT generation, status, dialect, disconnected_at, next_spawn_at, boot_deadline FROM sandbox"),
            self.host.alarm,
            self.host.now,
            self.clients.iter().map(|client| client.subscribed).collect::<Vec<_>>(),
            self.bridges.iter().filter(|bridge| bridge.alive).map(|bridge| &bridge.run).collect::<Vec<_>>(),
        )
    }

    pub fn check_the_end(&mut self) -> Result<(), String> {
        for index in 0..self.clients.len() {
            self.client_reads(index)?;
        }
        // Every accepted prompt has reached exactly one terminal state.
        let accepted: Vec<String> = self
            .clients
            .iter()
            .flat_map(|client| &client.requests)
            .filter_map(|request| request.message_id.clone())
            .collect();
        for id in &accepted {
            let rows = self.rows(&format!("SELECT status, outcome FROM messages WHERE id = '{id}'"));
            let ends = self.event(&format!("execution_complete:{id}"))?;
            let Some(row) = rows.first() else {
                let gone = self.count(&format!("SELECT COUNT(*) FROM cancelled_requests WHERE message_id = '{id}'"));
                if gone == 1 && ends.is_none() {
                    continue;
                }
                return Err(format!("the accepted prompt {id} is lost"));
            };
            if self.cancelled.contains(id) {
                return Err(format!("{id} was cancelled and came back"));
            }
            self.tally.prompts += 1;
            let (status, outcome) = (text(&row[0]), text(&row[1]));
            match outcome.as_str() {
                "done" => self.tally.done += 1,
                "stopped" => self.tally.stopped += 1,
                _ => self.tally.failed += 1,
            }
            let told: Vec<Value> = ends.iter().map(|end| end["outcome"].clone()).collect();
            if !["completed", "failed"].contains(&status.as_str()) || told != [json!(outcome)] {
                return Err(format!("{id} is {status} {outcome}, told is {told:?}"));
            }
        }
        // Given out first in, first out.
        let archived = self.archived_rows()?;
        self.tally.archived += archived.len() as u64;
        let stored = self.rows("SELECT seq, id FROM events ORDER BY seq");
        let order: Vec<i64> = archived
            .iter()
            .chain(&stored)
            .filter_map(|row| text(&row[1]).strip_prefix("user_message:").map(str::to_owned))
            .map(|id| self.count(&format!("SELECT COALESCE(place, number) FROM messages WHERE id = '{id}'")))
            .collect();
        if order.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(format!("prompts were given out as {order:?}"));
        }
        for (question, by) in &self.answered {
            let asked = self.event(&format!("input_request:{question}"))?.unwrap_or_default();
            if asked["answer"] != json!(by) || asked["state"] != "answered" {
                return Err(format!("{question} was answered by {by}: {asked}"));
            }
        }
        if self.count("SELECT COUNT(*) FROM questions WHERE state = 'waiting'") != 0 {
            return Err("a question waits though nothing runs".to_owned());
        }
        // Nothing that was stopped or replaced lives.
        let current = self.generation();
        if let Some(stray) = self.bridges.iter().find(|bridge| bridge.alive && bridge.sandbox.generation != current) {
            return Err(format!("{} is a stray beside generation {current}", stray.sandbox.id));
        }
        if self.count("SELECT COUNT(*) FROM events WHERE revision IS NULL") != 0 {
            return Err("a part is open though nothing runs".to_owned());
        }
        if self.count("SELECT COUNT(*) FROM outbox WHERE state = 'given_up' AND last_error IS NULL") != 0 {
            return Err("a job was given up without a reason".to_owned());
        }
        let index_given_up =
            self.count("SELECT COUNT(*) FROM outbox WHERE state = 'given_up' AND payload LIKE '%index_session%'");
        let counter = self.count("SELECT index_counter FROM session");
        let known = self.outside.index.as_ref().map_or(0, |facts| facts.counter);
        if known != counter && index_given_up == 0 {
            return Err(format!("D1 knows change {known} of {counter}"));
        }
        let doubled = self
            .count("SELECT COUNT(*) FROM (SELECT 1 FROM artifacts WHERE type = 'pr' GROUP BY url HAVING COUNT(*) > 1)");
        if doubled != 0 {
            return Err("a pull request is listed twice".to_owned());
        }
        Ok(())
    }
}
