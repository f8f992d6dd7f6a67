//! Questions of the agent. Each waits durably, is answered once by whoever is first, expires, or is withdrawn when its
//! prompt ends. How it ended is said to the bridge until the prompt ends.

use oi_protocol::event::{Event, InputRequest};
use oi_protocol::sandbox_socket::SandboxCommand;
use oi_protocol::session_state::{Author, InputState};
use oi_protocol::text::utf16_len;
use oi_protocol::{ErrorCode, MessageId, UnixMillis, limits};

use crate::core::Turn;
use crate::prompts::Refusal;
use crate::sandbox_events::{SENTENCE_MAX_BYTES, Verdict};
use crate::sql::{Columns, Sql, SqlError, Value, params};

/// Questions of one prompt.
const QUESTIONS_MAX: i64 = 100;
const OPTIONS_MAX: usize = 20;

/// Questions that wait, as the object has them in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Questions {
    pub waiting: i64,
    /// When the first expires.
    pub next_expiry: Option<UnixMillis>,
}

impl Questions {
    pub fn load(sql: &dyn Sql) -> Result<Self, SqlError> {
        let rows = sql.run("SELECT COUNT(*), MIN(expires_at) FROM questions WHERE state = 'waiting'", &[])?;
        let Some(row) = rows.into_iter().next() else { return Ok(Self::default()) };
        let mut c = Columns::of(row);
        Ok(Self { waiting: c.int()?, next_expiry: c.opt_int()?.map(UnixMillis) })
    }
}

/// Questions for which a condition holds, oldest first.
fn those(sql: &dyn Sql, condition: &'static str, values: &[Value]) -> Result<Vec<InputRequest>, SqlError> {
    let rows = sql.run(&format!("SELECT body FROM questions WHERE {condition} ORDER BY number"), values)?;
    rows.into_iter()
        .map(|row| {
            let body = Columns::of(row).text()?;
            serde_json::from_str(&body).map_err(|error| SqlError(format!("a question cannot be read: {error}")))
        })
        .collect()
}

/// Questions that wait for an answer, oldest first.
pub(crate) fn waiting(sql: &dyn Sql) -> Result<Vec<InputRequest>, SqlError> {
    those(sql, "state = 'waiting'", &[])
}

fn is_within_limits(request: &InputRequest) -> bool {
    let is_answer = |text: &String| !text.trim().is_empty() && utf16_len(text) <= limits::ANSWER_MAX_UTF16;
    (1..=128).contains(&request.request_id.len())
        && (1..=SENTENCE_MAX_BYTES).contains(&request.prompt.len())
        && request.options.as_ref().is_none_or(|options| options.len() <= OPTIONS_MAX && options.iter().all(is_answer))
        && request.default.as_ref().is_none_or(is_answer)
}

impl Turn<'_, '_> {
    /// The agent asks. A repetition is the same question.
    pub(crate) fn ask(&mut self, mut request: InputRequest) -> Result<Verdict, SqlError> {
        if !is_within_limits(&request) {
            return Ok(Verdict::Never("MALFORMED_EVENT"));
        }
        let id = request.request_id.clone();
        if !self.sql.run("SELECT 1 FROM questions WHERE id = ?", params![id.as_str()])?.is_empty() {
            return Ok(Verdict::Taken);
        }
        let message_id = request.message_id.clone();
        let rows = self.sql.run("SELECT COUNT(*) FROM questions WHERE message_id = ?", params![message_id.as_str()])?;
        if rows.into_iter().next().map_or(Ok(0), |row| Columns::of(row).int())? >= QUESTIONS_MAX {
            return Ok(Verdict::Never("TOO_MANY_QUESTIONS"));
        }
        (request.state, request.answer, request.answered_by, request.ended_at) =
            (InputState::Waiting, None, None, None);
        self.save_question(request)?;
        Ok(Verdict::Taken)
    }

    /// Writes a question's row and its event.
    fn save_question(&mut self, request: InputRequest) -> Result<(), SqlError> {
        let body = serde_json::to_string(&request).map_err(|error| SqlError(error.to_string()))?;
        let (id, message_id) = (request.request_id.clone(), request.message_id.clone());
        self.sql.run(
            "INSERT INTO questions (id, message_id, state, expires_at, body) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT (id) DO UPDATE SET state = excluded.state, body = excluded.body",
            params![id.as_str(), message_id.as_str(), request.state.as_str(), request.expires_at.map(|at| at.0), body,],
        )?;
        self.put(format!("input_request:{id}"), Some(message_id.as_str()), &Event::InputRequest(request))?;
        self.hot.questions = Questions::load(self.sql)?;
        self.touch_activity();
        self.count_waiting()
    }

    /// The time in which the agent waits for a person is not the prompt's.
    fn count_waiting(&mut self) -> Result<(), SqlError> {
        let (now, waits) = (self.cx.now, self.hot.questions.waiting > 0);
        let Some(running) = &mut self.hot.running else { return Ok(()) };
        match running.asking_since {
            None if waits => running.asking_since = Some(now),
            Some(since) if !waits => {
                running.asking_since = None;
                running.asked_ms += now.since(since).max(0);
            }
            _ => return Ok(()),
        }
        self.sql.run(
            "UPDATE messages SET asking_since = ?, asked_ms = ? WHERE id = ?",
            params![running.asking_since.map(|at| at.0), running.asked_ms, running.message_id.as_str()],
        )?;
        Ok(())
    }

    /// A person answers; the first one does.
    pub(crate) fn answer_question(
        &mut self,
        request_id: &str,
        answer: &str,
        by: Option<Author>,
    ) -> Result<Result<(), Refusal>, SqlError> {
        let asked = those(self.sql, "id = ? AND state = 'waiting'", params![request_id])?;
        let Some(mut request) = asked.into_iter().next() else {
            let sentence = "This question has been answered, has expired, or its prompt has ended";
            return Ok(Err(Refusal::new(ErrorCode::InputNotWaiting, 409, sentence)));
        };
        request.answered_by = by;
        self.end_question(request, InputState::Answered, Some(answer.to_owned()))?;
        Ok(Ok(()))
    }

    fn end_question(
        &mut self,
        mut request: InputRequest,
        state: InputState,
        answer: Option<String>,
    ) -> Result<(), SqlError> {
        (request.state, request.answer, request.ended_at) = (state, answer, Some(self.cx.now));
        // Of one that is withdrawn nobody waits to hear.
        if state != InputState::Withdrawn {
            self.tell_of_question(&request);
        }
        self.save_question(request)
    }

    fn tell_of_question(&mut self, request: &InputRequest) {
        if self.hot.sandbox.dialect >= 2 {
            self.command(&SandboxCommand::InputResponse {
                request_id: request.request_id.clone(),
                message_id: request.message_id.clone(),
                state: request.state,
                answer: request.answer.clone(),
            });
        }
    }

    /// Says again how the questions of the running prompt ended: what was said before may be lost.
    pub(crate) fn tell_of_questions(&mut self) -> Result<(), SqlError> {
        let Some(running) = &self.hot.running else { return Ok(()) };
        let ended = "message_id = ? AND state IN ('answered', 'expired')";
        for request in those(self.sql, ended, params![running.message_id.as_str()])? {
            self.tell_of_question(&request);
        }
        Ok(())
    }

    /// Questions whose time is over.
    pub(crate) fn expire_questions(&mut self) -> Result<(), SqlError> {
        if self.hot.questions.next_expiry.is_none_or(|at| at > self.cx.now) {
            return Ok(());
        }
        for request in those(self.sql, "state = 'waiting' AND expires_at <= ?", params![self.cx.now.0])? {
            let default = request.default.clone();
            self.end_question(request, InputState::Expired, default)?;
        }
        Ok(())
    }

    /// Its prompt ended: nobody waits for an answer any more.
    pub(crate) fn withdraw_questions(&mut self, message_id: &MessageId) -> Result<(), SqlError> {
        if self.hot.questions.waiting == 0 {
            return Ok(());
        }
        for request in those(self.sql, "state = 'waiting' AND message_id = ?", params![message_id.as_str()])? {
            self.end_question(request, InputState::Withdrawn, None)?;
        }
        Ok(())
    }
}
