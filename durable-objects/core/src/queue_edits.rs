//! What people change of prompts that still wait: their text, their order, which goes first. And the request ids that
//! make a repetition of such a change, or of an answer to a question, harmless.

use oi_protocol::client_socket::{ClientMessage, ServerMessage};
use oi_protocol::event::Outcome;
use oi_protocol::{ErrorCode, MessageId};

use crate::core::Turn;
use crate::input::SocketId;
use crate::prompts::{Refusal, asked_effort, asked_model};
use crate::sockets::Subscriber;
use crate::sql::{Columns, SqlError, params};
use crate::token;

/// Requests that are remembered.
const REQUESTS_KEPT: i64 = 1_000;

/// What was asked, and what it came to.
type Changed = Result<ServerMessage, Refusal>;

fn not_waiting() -> Refusal {
    Refusal::new(ErrorCode::PromptNotWaiting, 409, "This prompt is no longer waiting and cannot be changed")
}

impl Turn<'_, '_> {
    /// Takes a change once, however often it is asked for.
    pub(crate) fn take_change(
        &mut self,
        socket: SocketId,
        subscriber: &Subscriber,
        request_id: &str,
        message: &ClientMessage,
    ) -> Result<(), SqlError> {
        let asked = serde_json::to_string(message).unwrap_or_default();
        let print = token::token_hash(&format!("{}\n{asked}", subscriber.participant_id));
        let changed = match self.known_change(request_id, &print)? {
            Some(Ok(answer)) => {
                self.send(socket, answer);
                return Ok(());
            }
            Some(Err(refusal)) => Err(refusal),
            None => self.change(subscriber, request_id, message)?,
        };
        let answer = match changed {
            Ok(answer) => answer,
            Err(refusal) => {
                self.error(socket, refusal.code, &refusal.sentence, Some(request_id.to_owned()));
                return Ok(());
            }
        };
        self.send_json(socket, &answer);
        self.remember_change(request_id, &print, &answer)?;
        match answer {
            ServerMessage::PromptEdited { .. } | ServerMessage::PromptsReordered { .. } => self.broadcast_queue(),
            ServerMessage::PromptSentNow { .. } => {
                if self.hot.running.is_some() {
                    // It tells the queue.
                    self.stop_running(Outcome::Stopped, "Execution was stopped for a prompt that goes first")?;
                } else {
                    self.broadcast_queue()?;
                }
                self.dispatch()
            }
            _ => Ok(()),
        }
    }

    fn change(
        &mut self,
        subscriber: &Subscriber,
        request_id: &str,
        message: &ClientMessage,
    ) -> Result<Changed, SqlError> {
        let client_request_id = request_id.to_owned();
        Ok(match message {
            ClientMessage::EditPrompt { message_id, content, model, reasoning_effort, .. } => self
                .edit_prompt(subscriber, message_id, content, model.as_deref(), reasoning_effort.as_deref())?
                .map(|message_id| ServerMessage::PromptEdited { client_request_id, message_id }),
            ClientMessage::ReorderPrompts { message_ids, .. } => {
                let wanted: Vec<&str> = message_ids.iter().map(String::as_str).collect();
                if self.reorder(&wanted)? {
                    Ok(ServerMessage::PromptsReordered { client_request_id })
                } else {
                    Err(not_waiting())
                }
            }
            ClientMessage::SendNow { message_id, .. } => match MessageId::parse(message_id) {
                Ok(id) if self.reorder(&[id.as_str()])? => {
                    Ok(ServerMessage::PromptSentNow { client_request_id, message_id: id })
                }
                _ => Err(not_waiting()),
            },
            ClientMessage::InputResponse { request_id, answer, .. } => {
                let by = crate::participants::Participant::by_id(self.sql, subscriber.participant_id.as_str())?;
                self.answer_question(request_id, answer, by.map(|by| by.author()))?
                    .map(|()| ServerMessage::InputAccepted { client_request_id, request_id: request_id.clone() })
            }
            _ => Err(Refusal::new(ErrorCode::InvalidMessage, 400, "Failed to process message")),
        })
    }

    fn edit_prompt(
        &self,
        subscriber: &Subscriber,
        message_id: &str,
        content: &str,
        model: Option<&str>,
        effort: Option<&str>,
    ) -> Result<Result<MessageId, Refusal>, SqlError> {
        let Ok(id) = MessageId::parse(message_id) else { return Ok(Err(not_waiting())) };
        let rows = self.sql.run(
            "SELECT author_id, attachments FROM messages WHERE id = ? AND status = 'pending' AND source = 'web'",
            params![id.as_str()],
        )?;
        let Some(row) = rows.into_iter().next() else { return Ok(Err(not_waiting())) };
        let mut c = Columns::of(row);
        let (author_id, has_files) = (c.text()?, c.opt_text()?.is_some());
        // Its commits carry the author's name.
        if author_id != subscriber.participant_id.as_str() {
            let sentence = "Only the person who sent a prompt may change it";
            return Ok(Err(Refusal::new(ErrorCode::Forbidden, 403, sentence)));
        }
        if content.trim().is_empty() && !has_files {
            return Ok(Err(Refusal::new(ErrorCode::InvalidPrompt, 400, "Invalid prompt")));
        }
        if let Some(refusal) = crate::allowed_models::refusal(self.sql, model, effort)? {
            return Ok(Err(refusal));
        }
        self.sql.run(
            "UPDATE messages SET content = ?, model = COALESCE(?, model),
                reasoning_effort = COALESCE(?, reasoning_effort) WHERE id = ?",
            params![content, asked_model(model), asked_effort(effort), id.as_str(),],
        )?;
        Ok(Ok(id))
    }

    /// Puts waiting prompts first, in this order; the others follow as they were. `false` when none of them waits.
    fn reorder(&self, wanted: &[&str]) -> Result<bool, SqlError> {
        let rows = self
            .sql
            .run("SELECT id, COALESCE(place, number) FROM messages WHERE status = 'pending' ORDER BY 2", &[])?;
        let (mut waiting, mut places) = (Vec::new(), Vec::new());
        for row in rows {
            let mut c = Columns::of(row);
            waiting.push(c.text()?);
            places.push(c.int()?);
        }
        let first: Vec<String> =
            wanted.iter().filter(|id| waiting.iter().any(|waits| waits == *id)).map(|id| (*id).to_owned()).collect();
        if first.is_empty() {
            return Ok(false);
        }
        waiting.retain(|id| !first.contains(id));
        for (id, place) in first.into_iter().chain(waiting).zip(places) {
            self.sql.run("UPDATE messages SET place = ? WHERE id = ?", params![place, id])?;
        }
        Ok(true)
    }

    pub(crate) fn is_known_change(&self, request_id: &str) -> Result<bool, SqlError> {
        Ok(!self.sql.run("SELECT 1 FROM client_requests WHERE id = ?", params![request_id])?.is_empty())
    }

    /// Whether a change, not a prompt, has this request id; and the answer that it got, if it is the same change.
    fn known_change(&self, request_id: &str, print: &str) -> Result<Option<Result<String, Refusal>>, SqlError> {
        let conflict = || {
            let sentence = "clientRequestId was already used for a different request";
            Refusal::new(ErrorCode::PromptRequestConflict, 409, sentence)
        };
        let rows = self.sql.run("SELECT fingerprint, answer FROM client_requests WHERE id = ?", params![request_id])?;
        if let Some(row) = rows.into_iter().next() {
            let mut c = Columns::of(row);
            let (known, answer) = (c.text()?, c.text()?);
            return Ok(Some(if known == print { Ok(answer) } else { Err(conflict()) }));
        }
        let is_prompts = !self
            .sql
            .run(
                "SELECT 1 FROM messages WHERE request_id = ?1
                 UNION ALL SELECT 1 FROM cancelled_requests WHERE request_id = ?1",
                params![request_id],
            )?
            .is_empty();
        Ok(is_prompts.then(|| Err(conflict())))
    }

    fn remember_change(&self, request_id: &str, print: &str, answer: &ServerMessage) -> Result<(), SqlError> {
        self.sql.run(
            "INSERT INTO client_requests (id, fingerprint, answer) VALUES (?, ?, ?)",
            params![request_id, print, serde_json::to_string(answer).unwrap_or_default()],
        )?;
        self.sql.run(
            "DELETE FROM client_requests WHERE number <= (SELECT MAX(number) FROM client_requests) - ?",
            params![REQUESTS_KEPT],
        )?;
        Ok(())
    }
}
