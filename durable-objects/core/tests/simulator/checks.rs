//! What must hold along the way. Every error begins with the name of its check.

use std::collections::{BTreeMap, BTreeSet};

use oi_session::call::SessionCall;
use oi_session::core::SessionCore;
use oi_session::job::Job;
use oi_session::sql::{Row, Sql, Value as SqlValue};
use rand::Rng;
use serde_json::Value;

use crate::client::key_of;
use crate::support::session::{messages, value};
use crate::world::World;

pub fn text(value: &SqlValue) -> String {
    match value {
        SqlValue::Text(text) => text.clone(),
        other => format!("{other:?}"),
    }
}

pub fn int(value: &SqlValue) -> i64 {
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
    pub fn rows_of(&self, sql: &str, params: &[SqlValue]) -> Vec<Row> {
        match self.host.sql.inner.run(sql, params) {
            Ok(rows) => rows,
            // All that was stored is gone.
            Err(_) if self.host.erased > 0 => Vec::new(),
            Err(error) => panic!("{error}"),
        }
    }

    pub fn rows(&self, sql: &str) -> Vec<Row> {
        self.rows_of(sql, &[])
    }

    pub fn count_of(&self, sql: &str, param: &str) -> i64 {
        self.rows_of(sql, &[SqlValue::Text(param.to_owned())]).first().map_or(0, |row| int(&row[0]))
    }

    pub fn count(&self, sql: &str) -> i64 {
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
                let known = self.count_of(
                    "SELECT (SELECT COUNT(*) FROM messages WHERE id = ?1) +
                        (SELECT COUNT(*) FROM cancelled_requests WHERE message_id = ?1)",
                    id,
                );
                if known == 0 {
                    return Err(format!("lost: {id} was accepted and is not stored"));
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
            return Err(format!("mark: {told} was acknowledged, SQLite has {mark}"));
        }
        let mark = mark as usize;
        if mark > bridge.journal.len() {
            return Err(format!(
                "mark: {mark} frames of {}, of which {} exist",
                bridge.sandbox.id,
                bridge.journal.len()
            ));
        }
        let warnings = |from: usize| bridge.journal[from..mark].iter().filter(|frame| frame["type"] == "warning");
        for frame in warnings(mark.saturating_sub(12)) {
            let message = frame["message"].as_str().unwrap_or_default();
            let sql = "SELECT COUNT(*) FROM events WHERE type = 'warning' AND body LIKE ?";
            let rows = self.count_of(sql, &format!("%\"{message}\"%"));
            if rows != 1 {
                return Err(format!("once: {message} is acknowledged and stored {rows} times"));
            }
        }
        if let Some(row) = self.rows("SELECT id FROM messages WHERE status = 'processing'").first() {
            let id = text(&row[0]);
            for (part, expected) in bridge.text_at(mark, &id) {
                let row_id = SqlValue::Text(format!("part:{id}:{part}"));
                let stored = self.rows_of("SELECT body FROM events WHERE id = ?", &[row_id]);
                let stored = stored.first().map(|row| value(&text(&row[0]))["text"].clone());
                if stored.as_ref().and_then(Value::as_str).unwrap_or_default() != expected {
                    return Err(format!(
                        "mark: after frame {mark} the part {part} is {expected:?}, stored is {stored:?}"
                    ));
                }
            }
        }
        self.tally.one("marks checked");
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
        self.tally.one("views checked");
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
        let by_place: BTreeMap<i64, &Row> = archived.iter().map(|row| (int(&row[0]), row)).collect();
        for (seq, held) in client.timeline.range(..=floor) {
            let Some(row) = by_place.get(seq) else {
                return Err(format!("view: {} has row {seq}, which is not archived", client.name));
            };
            let body = &self.bodies[&(int(&row[0]), int(&row[2]))];
            if !is_same(&held.event, body) || held.id != text(&row[1]) || held.revision != int(&row[2]) {
                return Err(format!("view: {}: row {seq} is {held:?}, archived is {body}", client.name));
            }
        }
        if rows.len() != client.timeline.range(floor + 1..).count() {
            let have: BTreeSet<_> = client.timeline.keys().copied().collect();
            let missing: Vec<_> =
                rows.iter().filter(|row| !have.contains(&int(&row[0]))).map(|row| text(&row[1])).collect();
            return Err(format!(
                "view: {} has {} of {} rows; without {missing:?}",
                client.name,
                have.len(),
                rows.len()
            ));
        }
        for row in rows {
            let (seq, revision) = (int(&row[0]), int(&row[2]));
            let body = &self.bodies[&(seq, revision)];
            let Some(held) = client.timeline.get(&seq) else {
                return Err(format!("view: {} lacks row {seq}", client.name));
            };
            if !is_same(&held.event, body) || held.id != text(&row[1]) || held.revision != revision {
                return Err(format!("view: {}: row {seq} is {held:?}, stored is {body}", client.name));
            }
        }
        // The newest change may be one of a row that has left for the archive since.
        let left = archived.iter().map(|row| int(&row[2])).max().unwrap_or(0);
        if client.revision != Some(left.max(self.count("SELECT COALESCE(MAX(revision), 0) FROM events"))) {
            return Err(format!("view: {} is at revision {:?}", client.name, client.revision));
        }
        let queue: Vec<String> = self
            .rows("SELECT id FROM messages WHERE status IN ('pending', 'processing') ORDER BY status DESC, COALESCE(place, number)")
            .iter()
            .map(|row| text(&row[0]))
            .collect();
        if client.queue != queue {
            return Err(format!("queue: {}: the queue is {:?}, stored is {queue:?}", client.name, client.queue));
        }
        Ok(())
    }

    /// The rows in the archive's files, oldest first: each place from the first to the last once.
    pub fn archived_rows(&self) -> Result<Vec<Row>, String> {
        let mut rows: Vec<Row> = Vec::new();
        for file in self.rows("SELECT key FROM archives WHERE state = 'kept' ORDER BY first_seq") {
            let key = text(&file[0]);
            let file = self
                .outside
                .files
                .get(&key)
                .ok_or(format!("archive: the rows of {key} were deleted without a file"))?;
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
        let whole = if self.outside.old.is_empty() {
            places.iter().copied().eq(1..=floor) && (floor == 0 || first == floor + 1)
        } else {
            // What was copied begins somewhere, and may have been given up.
            places.is_sorted_by(|one, next| one < next)
                && places.last().copied().unwrap_or(0) <= floor
                && (first == 0 || first > floor)
        };
        if !whole {
            return Err(format!("archive: the archive to {floor} has {places:?}, SQLite begins at {first}"));
        }
        Ok(rows)
    }

    /// The stored or archived body of an event.
    pub fn event(&self, id: &str) -> Result<Option<Value>, String> {
        let stored = self.rows_of("SELECT body FROM events WHERE id = ?", &[SqlValue::Text(id.to_owned())]);
        let archived = self.archived_rows()?;
        let archived = archived.iter().find(|row| text(&row[1]) == id).map(|row| value(&text(&row[3])));
        match (stored.first(), archived) {
            (Some(_), Some(_)) => Err(format!("archive: {id} is stored and archived")),
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
                    let is_text = body["kind"] == "text";
                    if is_text && !client.tokens.contains(body["text"].as_str().unwrap_or_default()) {
                        return Err(format!("view: {} was never shown {}", client.name, body["text"]));
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
                return Err(format!(
                    "view: {} was shown {:?} for {body}",
                    client.name,
                    client.shown.get(&key_of(&body))
                ));
            }
            keys.insert(key_of(&body));
        }
        // Steps are shown and not stored.
        let extra = client.shown.iter().find(|(key, event)| {
            !keys.contains(*key) && !matches!(event["type"].as_str(), Some("ready" | "step_finish" | "step_start"))
        });
        extra.map_or(Ok(()), |(key, _)| Err(format!("view: {} was shown {key}, which is not stored", client.name)))
    }

    /// What holds after every input.
    pub fn check_along_the_way(&mut self) -> Result<(), String> {
        if self.host.erased > 0 {
            return Ok(());
        }
        self.note_failed_start();
        self.check_budget()?;
        if self.rng.random_bool(0.05) {
            self.check_ends()?;
            let both = "SELECT (SELECT COUNT(*) FROM snapshots WHERE state = 'taking') *
                (SELECT COUNT(*) FROM messages WHERE status = 'processing')";
            if self.count(both) != 0 {
                return Err("kept: files are kept while a prompt runs".to_owned());
            }
        }
        if self.rng.random_bool(0.02) {
            self.check_memory()?;
        }
        Ok(())
    }

    /// A prompt that ended stays as it is.
    pub fn check_ends(&mut self) -> Result<(), String> {
        for row in self.rows("SELECT id, status, outcome FROM messages WHERE completed_at IS NOT NULL") {
            let (id, end) = (text(&row[0]), (text(&row[1]), text(&row[2])));
            if let Some(before) = self.ends.get(&id) {
                if *before != end {
                    return Err(format!("end: {id} ended as {before:?} and then as {end:?}"));
                }
            } else {
                self.ends.insert(id, end);
            }
        }
        Ok(())
    }

    /// Memory is a cache: an object that woke just now says the same.
    fn check_memory(&mut self) -> Result<(), String> {
        let Some(core) = &mut self.host.core else { return Ok(()) };
        let call = SessionCall::Snapshot { dialect: 2 };
        let (sql, now) = (&self.host.sql.inner, self.host.now);
        let shown = |core: &mut SessionCore| -> Result<Value, String> {
            let answer = core.read(sql, now, &call).map_err(|fault| format!("memory: {fault}"))?;
            let mut shown = answer.map_or(Value::Null, |answer| value(&answer.body));
            // Text is written at intervals.
            if let Some(shown) = shown.as_object_mut() {
                shown.remove("openParts");
            }
            Ok(shown)
        };
        let (old, new) = (shown(core)?, shown(&mut SessionCore::new())?);
        if old != new {
            let all = ["session", "artifacts", "timeline", "promptQueue", "spawnError", "revision", "inputRequests"];
            let keys: Vec<&str> = all.into_iter().filter(|key| old[*key] != new[*key]).collect();
            return Err(format!("memory: {keys:?} differ from what is stored"));
        }
        self.tally.one("memories checked");
        Ok(())
    }

    /// Of a session whose budget is used up, as D1 knows, no prompt runs any more.
    fn check_budget(&mut self) -> Result<(), String> {
        let Some(most) = self.host.config.budgets.session.usd else { return Ok(()) };
        let given = self.count("SELECT COUNT(*) FROM messages WHERE started_at IS NOT NULL");
        match self.spent_at {
            Some(then) if given > then => Err(format!("budget: prompt {given} runs though ${most} were used up")),
            None if self.outside.usage.values().sum::<f64>() >= most => {
                self.spent_at = Some(given);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Whether the newest start failed, and counts.
    fn note_failed_start(&mut self) {
        let rows = self.rows("SELECT generation FROM sandbox WHERE status = 'failed'");
        let Some(generation) = rows.first().map(|row| int(&row[0])) else { return };
        if std::mem::replace(&mut self.failed_starts.1, generation) == generation {
            return;
        }
        let newest =
            self.rows("SELECT payload FROM outbox WHERE payload LIKE '{\"start_sandbox\"%' ORDER BY id DESC LIMIT 1");
        if newest.first().is_some_and(|row| text(&row[0]).contains(r#""from":"fresh""#)) {
            self.failed_starts.0.push(self.host.now.0);
        }
    }

    /// After three starts that failed there is none for five minutes.
    pub fn check_starts(&mut self, job: &Job) -> Result<(), String> {
        let now = self.host.now.0;
        self.failed_starts.0.retain(|at| now - at < 300_000);
        if matches!(job, Job::StartSandbox(_)) && self.failed_starts.0.len() >= 3 {
            return Err(format!("starts: another one after those that failed at {:?}", self.failed_starts.0));
        }
        Ok(())
    }
}
