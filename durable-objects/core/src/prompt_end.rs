//! How prompts end: each in exactly one terminal state, with the session's status after it.

use oi_protocol::client_socket::ServerMessage;
use oi_protocol::event::{Event, ExecutionComplete, Outcome};
use oi_protocol::sandbox_socket::SandboxCommand;
use oi_protocol::session_state::SessionStatus;
use oi_protocol::{MessageId, UnixMillis};

use crate::core::Turn;
use crate::job::LatestOutput;
use crate::sql::{Columns, Sql, SqlError, params};

/// After a stop the bridge must confirm within this, in ms.
pub(crate) const STOP_CONFIRM_MS: i64 = 15_000;

/// The newest prompt that ended and has something to read: it ended well, or the agent said something of it.
pub(crate) fn latest_output(sql: &dyn Sql) -> Result<Option<LatestOutput>, SqlError> {
    let rows = sql.run(
        "SELECT id, created_at, completed_at FROM messages WHERE completed_at IS NOT NULL AND (status = 'completed'
            OR EXISTS (SELECT 1 FROM usage WHERE usage.message_id = messages.id AND usage.output > 0))
            ORDER BY completed_at DESC, number DESC LIMIT 1",
        &[],
    )?;
    rows.into_iter()
        .next()
        .map(|row| {
            let mut c = Columns::of(row);
            Ok(LatestOutput {
                message_id: c.word(|text| MessageId::parse(text).ok())?,
                created_at: UnixMillis(c.int()?),
                completed_at: UnixMillis(c.int()?),
            })
        })
        .transpose()
}

impl Turn<'_, '_> {
    /// Ends the running prompt. The caller has checked that it is `message_id`'s turn to end.
    pub(crate) fn finish_running(
        &mut self,
        outcome: Outcome,
        error: Option<String>,
        sandbox_id: String,
        timestamp: f64,
    ) -> Result<Option<MessageId>, SqlError> {
        let Some(running) = self.hot.running.take() else { return Ok(None) };
        // Its rows kept older ones from leaving.
        self.hot.archived.next_look = 0;
        self.close_all_parts()?;
        self.withdraw_questions(&running.message_id)?;
        self.close_account(&running.message_id, &running.author_id)?;
        let searchable = self.searchable(&running.message_id)?;
        self.record_end(&running.message_id, outcome, error, sandbox_id, timestamp, Some(searchable))?;
        self.index_turn(&running.message_id)?;
        let ran = self.cx.now.since(running.started_at).max(0);
        if let Some(session) = &mut self.hot.session {
            session.active_duration_ms += ran;
        }
        self.broadcast(&ServerMessage::ProcessingStatus { is_processing: false });
        self.fail_open_pull_requests(&running.message_id)?;
        // An idle stop after an eviction counts from here.
        self.touch_activity();
        self.hot.sandbox_dirty = true;
        self.reconcile_status()?;
        self.broadcast_queue()?;
        Ok(Some(running.message_id))
    }

    fn record_end(
        &mut self,
        message_id: &MessageId,
        outcome: Outcome,
        error: Option<String>,
        sandbox_id: String,
        timestamp: f64,
        searchable: Option<String>,
    ) -> Result<(), SqlError> {
        let success = outcome == Outcome::Done;
        let word = match outcome {
            Outcome::Done => "done",
            Outcome::Failed => "failed",
            Outcome::Stopped => "stopped",
            Outcome::TimedOut => "timed_out",
            Outcome::Cancelled => "cancelled",
        };
        self.sql.run(
            "UPDATE messages SET status = ?, outcome = ?, error_message = ?, completed_at = ?, searchable = ?
                WHERE id = ?                AND status IN ('pending', 'processing')",
            params![
                if success { "completed" } else { "failed" },
                word,
                error.clone(),
                self.cx.now.0,
                searchable,
                message_id.as_str(),
            ],
        )?;
        let told = error.clone();
        let event = Event::ExecutionComplete(ExecutionComplete {
            message_id: message_id.clone(),
            success,
            error,
            outcome: Some(outcome),
            sandbox_id,
            timestamp,
        });
        self.put(format!("execution_complete:{message_id}"), Some(message_id.as_str()), &event)?;
        self.out.log.push(format!("prompt ended: {message_id} {word}"));
        self.tell_bot_of_end(message_id, success, told.as_deref())?;
        self.offer_result(message_id, outcome, told.as_deref())
    }

    /// Ends the running prompt from our side.
    pub(crate) fn end_running(&mut self, outcome: Outcome, error: &str) -> Result<Option<MessageId>, SqlError> {
        let timestamp = self.cx.now.as_event_timestamp();
        self.finish_running(outcome, Some(error.to_owned()), String::new(), timestamp)
    }

    /// Ends waiting prompts from our side.
    pub(crate) fn end_waiting(
        &mut self,
        message_ids: &[MessageId],
        outcome: Outcome,
        error: &str,
    ) -> Result<(), SqlError> {
        for message_id in message_ids {
            let timestamp = self.cx.now.as_event_timestamp();
            self.record_end(message_id, outcome, Some(error.to_owned()), String::new(), timestamp, None)?;
        }
        self.hot.pending -= message_ids.len() as i64;
        self.reconcile_status()?;
        self.broadcast_queue()
    }

    /// Ends every waiting prompt from our side.
    pub(crate) fn end_pending(&mut self, outcome: Outcome, error: &str) -> Result<(), SqlError> {
        let rows =
            self.sql.run("SELECT id FROM messages WHERE status = 'pending' ORDER BY COALESCE(place, number)", &[])?;
        let ids = rows.into_iter().map(|row| Columns::of(row).word(|t| MessageId::parse(t).ok()));
        let ids: Vec<MessageId> = ids.collect::<Result<_, _>>()?;
        self.end_waiting(&ids, outcome, error)
    }

    /// Stops the running prompt at once; the bridge confirms, or is replaced.
    pub(crate) fn stop_running(&mut self, outcome: Outcome, error: &str) -> Result<(), SqlError> {
        let Some(message_id) = self.end_running(outcome, error)? else {
            self.broadcast(&ServerMessage::ProcessingStatus { is_processing: false });
            return Ok(());
        };
        let deadline = self.cx.now.plus(STOP_CONFIRM_MS);
        self.sql.run("UPDATE messages SET stop_deadline = ? WHERE id = ?", params![deadline.0, message_id.as_str()])?;
        self.hot.stopping = Some((message_id, deadline));
        self.command(&SandboxCommand::Stop);
        Ok(())
    }

    /// The stopped prompt's end is confirmed, or its sandbox is gone.
    pub(crate) fn clear_stopping(&mut self) -> Result<(), SqlError> {
        if let Some((message_id, _)) = self.hot.stopping.take() {
            self.sql.run("UPDATE messages SET stop_deadline = NULL WHERE id = ?", params![message_id.as_str()])?;
        }
        Ok(())
    }

    /// Session status from the messages.
    pub(crate) fn reconcile_status(&mut self) -> Result<(), SqlError> {
        let Some(session) = &self.hot.session else { return Ok(()) };
        if !session.status.is_promptable() {
            return self.touch_session(None);
        }
        let status = if self.hot.running.is_some() || self.hot.pending > 0 {
            SessionStatus::Active
        } else {
            let rows = self.sql.run(
                "SELECT status FROM messages WHERE completed_at IS NOT NULL
                    ORDER BY completed_at DESC, number DESC LIMIT 1",
                &[],
            )?;
            match rows.into_iter().next().map(|row| Columns::of(row).text()).transpose()?.as_deref() {
                Some("completed") => SessionStatus::Completed,
                Some(_) => SessionStatus::Failed,
                None => SessionStatus::Created,
            }
        };
        self.touch_session(Some(status))
    }

    /// Marks the session changed, moves its status, tells everybody and the index.
    pub(crate) fn touch_session(&mut self, status: Option<SessionStatus>) -> Result<(), SqlError> {
        let now = self.cx.now;
        let Some(session) = &mut self.hot.session else { return Ok(()) };
        session.updated_at = UnixMillis(now.0.max(session.updated_at.0 + 1));
        self.hot.session_dirty = true;
        let moved = status.filter(|status| *status != session.status);
        if let Some(status) = moved {
            session.status = status;
            self.hot.parent_dirty = true;
            self.broadcast(&ServerMessage::SessionStatus { status });
        }
        self.hot.index_dirty = true;
        Ok(())
    }
}
