//! The final account, when everything has come to rest.

use std::collections::{BTreeMap, BTreeSet};

use oi_session::call::{Principal, SessionCall};
use oi_session::sql::{Row, Value as SqlValue};
use rand::Rng;
use serde_json::{Value, json};

use crate::checks::{int, text};
use crate::support::session::{messages, value};
use crate::world::World;

/// What dialect 1 is shown of a stored event, by the rules of the wire.
fn in_dialect_1(body: &Value) -> Option<Value> {
    let mut shown = body.clone();
    let drop: &[&str] = match body["type"].as_str()? {
        "boot_progress" | "input_request" => return None,
        "part" if body["kind"] == "reasoning" => return None,
        "part" => {
            return Some(json!({"type": "token", "messageId": body["messageId"], "content": body["text"],
                "sandboxId": body["sandboxId"], "timestamp": body["timestamp"]}));
        }
        "tool_call" => &["error", "exitCode", "startedAt", "endedAt", "truncated", "outputRef", "fileChange"],
        "execution_complete" => &["outcome"],
        _ => &[],
    };
    for key in drop {
        shown.as_object_mut()?.remove(*key);
    }
    Some(shown)
}

impl World {
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
        self.check_ends()?;
        self.check_prompts()?;
        self.check_order()?;
        self.check_questions()?;
        self.check_deliveries()?;
        self.check_sandboxes()?;
        self.check_images()?;
        self.check_once()?;
        self.check_fork()?;
        for dialect in [2, 1] {
            self.check_history(dialect)?;
        }
        Ok(())
    }

    /// Every accepted prompt has reached exactly one terminal state, and everybody is told which.
    fn check_prompts(&mut self) -> Result<(), String> {
        let accepted: BTreeSet<String> = self
            .clients
            .iter()
            .flat_map(|client| &client.requests)
            .filter_map(|request| request.message_id.clone())
            .chain(self.bot_prompts.iter().filter_map(|prompt| prompt.message_id.clone()))
            .collect();
        let archived = self.archived_rows()?;
        let archived: BTreeMap<String, &Row> = archived.iter().map(|row| (text(&row[1]), row)).collect();
        for id in &accepted {
            let param = SqlValue::Text(id.clone());
            let rows = self.rows_of("SELECT status, outcome FROM messages WHERE id = ?", std::slice::from_ref(&param));
            let name = format!("execution_complete:{id}");
            let stored = self.rows_of("SELECT body FROM events WHERE id = ?", &[SqlValue::Text(name.clone())]);
            let told: Vec<Value> = stored
                .iter()
                .map(|row| value(&text(&row[0])))
                .chain(archived.get(&name).map(|row| value(&text(&row[3]))))
                .map(|end| end["outcome"].clone())
                .collect();
            let Some(row) = rows.first() else {
                let gone = self.count_of("SELECT COUNT(*) FROM cancelled_requests WHERE message_id = ?", id);
                if gone == 1 && told.is_empty() {
                    continue;
                }
                return Err(format!("lost: the accepted prompt {id} is lost"));
            };
            if self.cancelled.contains(id) {
                return Err(format!("cancelled: {id} was cancelled and came back"));
            }
            let (status, outcome) = (text(&row[0]), text(&row[1]));
            self.tally.one("prompts");
            self.tally.one(match outcome.as_str() {
                "done" => "done",
                "stopped" => "stopped",
                _ => "failed",
            });
            if !["completed", "failed"].contains(&status.as_str()) || told != [json!(outcome)] {
                return Err(format!("end: {id} is {status} {outcome}, told is {told:?}"));
            }
        }
        Ok(())
    }

    /// Given out first in, first out.
    fn check_order(&mut self) -> Result<(), String> {
        let archived = self.archived_rows()?;
        self.tally.more("archived rows", archived.len() as u64);
        let stored = self.rows("SELECT seq, id FROM events ORDER BY seq");
        let mut last = 0;
        for row in archived.iter().chain(&stored) {
            let id = text(&row[1]);
            let Some(id) = id.strip_prefix("user_message:") else { continue };
            let place = self.count_of("SELECT COALESCE(place, number) FROM messages WHERE id = ?", id);
            // One of the old session has none.
            if place == 0 {
                continue;
            }
            if place <= last {
                return Err(format!("order: {place} was given out after {last}"));
            }
            last = place;
        }
        Ok(())
    }

    fn check_questions(&self) -> Result<(), String> {
        for (question, by) in &self.answered {
            let asked = self.event(&format!("input_request:{question}"))?.unwrap_or_default();
            if asked["answer"] != json!(by) || asked["state"] != "answered" {
                return Err(format!("answer: {question} was answered by {by}: {asked}"));
            }
        }
        if self.count("SELECT COUNT(*) FROM questions WHERE state = 'waiting'") != 0 {
            return Err("answer: a question waits though nothing runs".to_owned());
        }
        if self.count("SELECT COUNT(*) FROM events WHERE revision IS NULL") != 0 {
            return Err("mark: a part is open though nothing runs".to_owned());
        }
        Ok(())
    }

    fn is_given_up(&self, key: &str) -> bool {
        self.count_of("SELECT COUNT(*) FROM outbox WHERE state = 'given_up' AND dedup_key = ?", key) > 0
    }

    fn is_given_up_about(&self, kind: &str, needle: &str) -> bool {
        let sql = "SELECT COUNT(*) FROM outbox WHERE state = 'given_up' AND payload LIKE ?";
        self.count_of(sql, &format!("{{\"{kind}\"%{needle}%")) > 0
    }

    /// Every job was done, or its end is to be seen.
    fn check_deliveries(&mut self) -> Result<(), String> {
        if self.count("SELECT COUNT(*) FROM outbox WHERE state = 'given_up' AND last_error IS NULL") != 0 {
            return Err("given up: a job was given up without a reason".to_owned());
        }
        let given_up: BTreeSet<i64> =
            self.rows("SELECT id FROM outbox WHERE state = 'given_up'").iter().map(|row| int(&row[0])).collect();
        self.tally.more("jobs given up", given_up.len() as u64);
        let superseded = self.rows("SELECT id FROM outbox WHERE state = 'done'");
        let superseded: BTreeSet<i64> = superseded.iter().map(|row| int(&row[0])).collect();
        for (id, known) in &self.outside.jobs {
            let is_over = known.is_reported || given_up.contains(id) || superseded.contains(id);
            // Of others a later one of the same key says the same and more; what is given up of those is seen below.
            let newest_wins = ["index_session", "report_usage", "tell_parent", "read_archive", "start_sandbox"];
            if !is_over && known.attempt >= known.budget && !newest_wins.contains(&known.kind) {
                return Err(format!("given up: job {id} is gone: {known:?}"));
            }
        }
        let counter = self.count("SELECT index_counter FROM session");
        let known = self.outside.index.as_ref().map_or(0, |facts| facts.counter);
        if known != counter && !self.is_given_up("index") {
            return Err(format!("index: D1 knows change {known} of {counter}"));
        }
        for row in self.rows("SELECT message_id, usd FROM usage") {
            let (id, usd) = (text(&row[0]), format!("{:?}", row[1]));
            let known = self.outside.usage.get(&id).copied().unwrap_or(0.0);
            if usd != format!("{:?}", SqlValue::Real(known))
                && known != 0.0
                && !self.is_given_up(&format!("usage:{id}"))
            {
                return Err(format!("usage: of {id} D1 knows {known}, stored is {usd}"));
            }
        }
        self.check_search()?;
        self.check_told()?;
        let doubled = self
            .count("SELECT COUNT(*) FROM (SELECT 1 FROM artifacts WHERE type = 'pr' GROUP BY url HAVING COUNT(*) > 1)");
        if doubled != 0 {
            return Err("once: a pull request is listed twice".to_owned());
        }
        Ok(())
    }

    /// Search knows each turn that ended, with its prompt and what is stored of the agent's words.
    fn check_search(&self) -> Result<(), String> {
        for row in self.rows("SELECT id, content FROM messages WHERE started_at IS NOT NULL AND outcome IS NOT NULL") {
            let (id, content) = (text(&row[0]), text(&row[1]));
            let Some(known) = self.outside.turns.get(&id) else {
                if self.is_given_up(&format!("turn:{id}")) {
                    continue;
                }
                return Err(format!("search: the turn {id} is not known"));
            };
            let known = value(known)["turns"][0].clone();
            let prompt = known["prompt"].as_str().unwrap_or_default();
            if known["messageId"] != json!(id) || prompt.is_empty() || !content.starts_with(&prompt[..1]) {
                return Err(format!("search: of {id}, {content}, it knows {known}"));
            }
        }
        Ok(())
    }

    /// Bots and the parent know how their prompts ended.
    fn check_told(&self) -> Result<(), String> {
        let asked = |id: &str| {
            self.bot_prompts.iter().any(|prompt| prompt.is_told() && prompt.message_id.as_deref() == Some(id))
        };
        if let Some((key, _)) = self.outside.told.iter().find(|(_, told)| !asked(told.message_id.as_str())) {
            return Err(format!("told: {key} was told to a bot that did not ask"));
        }
        for prompt in self.bot_prompts.iter().filter(|prompt| prompt.is_told()) {
            let Some(id) = &prompt.message_id else { continue };
            let key = format!("complete:{id}");
            let outcome = self.rows_of("SELECT outcome FROM messages WHERE id = ?", &[SqlValue::Text(id.clone())]);
            let is_done = outcome.first().is_some_and(|row| text(&row[0]) == "done");
            match self.outside.told.get(&key) {
                Some(told) if told.success == Some(is_done) => {}
                None if self.is_given_up(&key) => {}
                told => return Err(format!("told: of {id}, which is done: {is_done}, the bot knows {told:?}")),
            }
        }
        if !self.outside.is_child {
            return Ok(());
        }
        let status = self.rows("SELECT status FROM session").first().map(|row| text(&row[0])).unwrap_or_default();
        if !self.outside.parent.contains(&status) && !self.is_given_up("tell_parent") {
            return Err(format!("told: the parent never heard of {status}: {:?}", self.outside.parent));
        }
        if !self.outside.notifies {
            return Ok(());
        }
        for row in self.rows("SELECT id, outcome FROM messages WHERE source = 'agent' AND outcome <> 'cancelled'") {
            let (id, is_done) = (text(&row[0]), text(&row[1]) == "done");
            match self.outside.offers.get(&id) {
                Some(success) if *success == is_done => {}
                None if self.is_given_up(&format!("offer:{id}")) => {}
                offer => return Err(format!("told: of {id}, which is done: {is_done}, the parent knows {offer:?}")),
            }
        }
        Ok(())
    }

    /// Nothing that was stopped or replaced lives.
    fn check_sandboxes(&self) -> Result<(), String> {
        let current = self.generation();
        if let Some(stray) = self.bridges.iter().find(|bridge| bridge.alive && bridge.sandbox.generation != current) {
            return Err(format!("stray: {} lives beside generation {current}", stray.sandbox.id));
        }
        let lives = "SELECT sandbox_id FROM sandbox WHERE status NOT IN ('pending', 'stopped', 'stale', 'failed')";
        let lives = self.rows(lives).first().map(|row| text(&row[0]));
        let stray = self.bridges.iter().find(|bridge| {
            let id = &bridge.sandbox.id;
            bridge.machine
                && !bridge.unknowable
                && lives.as_ref() != Some(id)
                && !self.is_given_up_about("stop_sandbox", id)
        });
        stray.map_or(Ok(()), |stray| {
            let row = self.rows("SELECT sandbox_id, status, generation, parked_token_hash, replaced FROM sandbox");
            Err(format!("stray: the backend has {} running beside {row:?}", stray.sandbox.id))
        })
    }

    /// The backend keeps the files that can be restored, and no others.
    fn check_images(&self) -> Result<(), String> {
        let held = self.rows("SELECT number, image_id FROM snapshots WHERE state = 'held'");
        let held: BTreeMap<i64, String> = held.iter().map(|row| (int(&row[0]), text(&row[1]))).collect();
        if let Some((number, image)) = held.iter().find(|(number, _)| !self.outside.images.contains_key(number)) {
            return Err(format!("image: {number}, {image}, is held and not there"));
        }
        let stray = self.outside.images.iter().find(|(number, image)| {
            !held.contains_key(number)
                && !self.outside.unknowable_images.contains(*image)
                && !self.is_given_up_about("take_snapshot", &format!("\"number\":{number},"))
                && !self.is_given_up_about("delete_snapshot", &format!("\"{image}\""))
        });
        stray.map_or(Ok(()), |(_, image)| Err(format!("image: nobody holds {image}")))
    }

    /// What sandboxes say is stored once, however often they say it.
    fn check_once(&self) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        let stored = self.rows("SELECT seq, id, revision, body FROM events WHERE type IN ('warning', 'error')");
        for row in self.archived_rows()?.iter().chain(&stored) {
            let body = value(&text(&row[3]));
            let said = body.get("message").filter(|_| body["type"] == "warning").or(body.get("error"));
            if let Some(said) = said.filter(|_| body["type"] == "warning" || body["type"] == "error")
                && !seen.insert(said.to_string())
            {
                return Err(format!("once: {said} is stored twice"));
            }
        }
        Ok(())
    }

    /// The old timeline is there, at the same places, unless its copy was given up.
    fn check_fork(&mut self) -> Result<(), String> {
        if self.outside.old.is_empty() || self.is_given_up("copy_timeline") {
            return Ok(());
        }
        let archived = self.archived_rows()?;
        let stored = self.rows("SELECT seq, id, revision, body FROM events");
        let rows: BTreeMap<i64, &Row> = archived.iter().chain(&stored).map(|row| (int(&row[0]), row)).collect();
        for old in &self.outside.old {
            let row = rows.get(&old.sequence).map(|row| (text(&row[1]), value(&text(&row[3]))));
            if row != Some((old.id.clone(), value(&old.body))) {
                return Err(format!("copy: at {} there is {row:?}", old.sequence));
            }
        }
        self.tally.more("copied rows", self.outside.old.len() as u64);
        Ok(())
    }

    /// A new page that pages back to the beginning has all that is stored and archived, in order, each once.
    fn check_history(&mut self, dialect: u32) -> Result<(), String> {
        let person = Box::new(self.a_person(0));
        let answer = self.ask(Principal::Platform, SessionCall::MintClientToken { person })?;
        let token = answer.map(|answer| value(&answer.body)["token"].clone()).unwrap_or_default();
        let socket = self.host.open_client().ok_or("view: no page can be opened")?;
        let frame = json!({"type": "subscribe", "token": token, "clientId": "reader", "dialect": dialect});
        self.host.client_sends(socket, &frame.to_string());
        let (mut seen, mut page, mut cursor, mut from_files) = (Vec::new(), Value::Null, Value::Null, false);
        let floor = self.count("SELECT COALESCE(MAX(archived_seq), 0) FROM retention");
        let scrolls = self.rng.random_bool(0.5);
        for _ in 0..4_000 {
            let inbox = self.host.sockets.get_mut(&socket).map(|socket| std::mem::take(&mut socket.inbox));
            for frame in inbox.unwrap_or_default().iter().flat_map(|text| messages(text)) {
                match frame["type"].as_str() {
                    Some("subscribed") => {
                        page = frame["timeline"].clone();
                        page["items"] = page["events"].take();
                        // Some scroll through what they were given too.
                        let newest = page["items"].as_array().and_then(|items| items.last()).cloned();
                        if let (true, Some(newest)) = (scrolls, newest) {
                            let sequence = newest["timelineSequence"].as_i64().unwrap_or(0) + 1;
                            page["items"] = json!([]);
                            page["hasMore"] = json!(true);
                            page["cursor"] = json!({"timestamp": 1, "id": "newest", "sequence": sequence});
                        }
                    }
                    Some("history_page") => page = frame,
                    Some("error") => return Err(format!("view: a reader is told {frame}")),
                    _ => {}
                }
            }
            if let Some(items) = page["items"].as_array_mut() {
                let mut items = std::mem::take(items);
                from_files |= items.iter().any(|item| item["timelineSequence"].as_i64() <= Some(floor));
                items.append(&mut seen);
                seen = items;
                if page["hasMore"] != true || page["cursor"].is_null() {
                    break;
                }
                cursor = page["cursor"].clone();
                page = Value::Null;
            } else if !cursor.is_null() {
                let ask = json!({"type": "fetch_history", "cursor": cursor.take(), "limit": 40});
                self.host.client_sends(socket, &ask.to_string());
            }
            self.pass(300)?;
        }
        self.host.disconnect(socket);
        self.tally.one("history read");
        self.tally.more("history of files read", u64::from(from_files));
        let archived = self.archived_rows()?;
        let stored = self.rows("SELECT seq, id, revision, body FROM events WHERE revision IS NOT NULL ORDER BY seq");
        let expected = archived.iter().chain(&stored).filter_map(|row| {
            let body = value(&text(&row[3]));
            let mut shown = json!({"eventId": text(&row[1]), "timelineSequence": int(&row[0])});
            if dialect == 2 {
                shown["revision"] = json!(int(&row[2]));
                shown["event"] = body;
            } else {
                shown["event"] = in_dialect_1(&body)?;
            }
            Some(shown)
        });
        let expected: Vec<Value> = expected.collect();
        if seen != expected {
            let places =
                |rows: &[Value]| rows.iter().map(|row| row["timelineSequence"].to_string()).collect::<Vec<_>>();
            let (first, second) = (places(&seen).join(" "), places(&expected).join(" "));
            return Err(format!("view: a reader of dialect {dialect} has {first}; of {second}"));
        }
        Ok(())
    }

    /// Nothing is left of a session that was deleted.
    pub fn check_the_deletion(&mut self) -> Result<(), String> {
        if self.host.erased == 0 {
            return Err(format!("deleted: it is still there: {}", self.unsettled()));
        }
        if let Some(file) = self.outside.files.keys().next() {
            return Err(format!("deleted: {file} is left in the bucket"));
        }
        // What was given up was seen as long as the session was there.
        let given_up = |kind: &str| self.outside.jobs.values().any(|job| job.kind == kind && !job.has_effect);
        let stray = self.bridges.iter().find(|bridge| bridge.machine && !bridge.unknowable);
        if let Some(stray) = stray.filter(|_| !given_up("stop_sandbox")) {
            return Err(format!("stray: {} outlives its session", stray.sandbox.id));
        }
        let image = self.outside.images.values().find(|image| {
            // One that was given up, and was taken after all.
            let is_given_up = self.outside.image_jobs.get(*image).is_some_and(|id| !self.outside.jobs[id].is_reported);
            !is_given_up && !self.outside.unknowable_images.contains(*image)
        });
        if let Some(image) = image.filter(|_| !given_up("delete_snapshot")) {
            return Err(format!("image: {image} outlives its session"));
        }
        Ok(())
    }
}
