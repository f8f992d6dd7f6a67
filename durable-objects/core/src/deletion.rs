//! Deleting a session: what it holds outside goes first, by jobs, and its own storage last. Nothing brings it back: a
//! crash at any point leaves a session that is still being deleted.

use oi_protocol::client_socket::close;
use oi_protocol::event::Outcome;
use serde_json::json;

use crate::call::{CallReply, SessionCall};
use crate::core::{Hot, Turn};
use crate::input::Input;
use crate::job::{CollectStorage, Job};
use crate::sql::{Sql, SqlError, params};

/// The job that empties the bucket; while it is given up, nothing else may go.
pub(crate) const COLLECT_KEY: &str = "collect_storage";

/// Whether a session is on its way out.
pub(crate) fn is_deleting(hot: &Hot) -> bool {
    hot.family.deleting_since.is_some()
}

impl Turn<'_, '_> {
    /// Begins the deletion, or goes on with one whose work outside was given up.
    pub(crate) fn delete(&mut self) -> Result<CallReply, SqlError> {
        let Some(session) = &self.hot.session else { return Ok(crate::reads::not_found()) };
        let session_id = session.session_id.clone();
        let begins = !is_deleting(self.hot);
        if begins {
            self.end_running(Outcome::Cancelled, "The session was deleted")?;
            self.end_pending(Outcome::Cancelled, "The session was deleted")?;
            self.retire_live_sandbox("delete")?;
            let sockets: Vec<_> = self.sockets.roles.keys().copied().collect();
            for socket in sockets {
                self.close(socket, close::NORMAL, "Session deleted");
            }
            self.delete_snapshots()?;
            self.discard_parked()?;
            self.hot.family.deleting_since = Some(self.cx.now);
            self.hot.family.save(self.sql)?;
        }
        let given_up = self
            .sql
            .run("DELETE FROM outbox WHERE state = 'given_up' AND dedup_key = ? RETURNING id", params![COLLECT_KEY])?;
        if begins || !given_up.is_empty() {
            self.enqueue(&Job::CollectStorage(CollectStorage { session_id: session_id.clone() }), Some(COLLECT_KEY))?;
        }
        Ok(CallReply::json(200, &json!({"status": "deleting", "sessionId": session_id})))
    }

    /// What a session that is being deleted makes of an input: it finishes what it has begun, and is not there for
    /// anybody.
    pub(crate) fn take_while_deleting(&mut self, input: Input<'_>) -> Result<(), SqlError> {
        match input {
            Input::JobResult { job, attempt, result } => self.job_result(job, attempt, result),
            Input::Call { reply, envelope } => {
                let answer = match envelope.call {
                    SessionCall::Delete => self.delete()?,
                    _ => crate::reads::not_found(),
                };
                self.out.replies.push((reply, answer));
                Ok(())
            }
            Input::SandboxUpgrade { .. } => {
                let body = "Sandbox is stopped".to_owned();
                self.out.upgrade = Some(crate::input::UpgradeAnswer::Reject { status: 410, body });
                Ok(())
            }
            Input::Woken { sockets } => {
                let gone = "Session deleted".to_owned();
                self.out.closes.extend(sockets.into_iter().map(|(socket, _)| (socket, close::NORMAL, gone.clone())));
                Ok(())
            }
            Input::ClientOpened { socket } => {
                self.out.closes.push((socket, close::NORMAL, "Session deleted".to_owned()));
                Ok(())
            }
            Input::SocketClosed { socket } => {
                self.forget(socket);
                Ok(())
            }
            Input::Alarm
            | Input::FlushText
            | Input::PromptSent { .. }
            | Input::ClientFrame { .. }
            | Input::BinaryFrame { .. }
            | Input::SandboxFrame { .. }
            | Input::SandboxEvents { .. }
            | Input::SandboxFrameFaults { .. } => Ok(()),
        }
    }

    /// When nothing is left to do outside, the storage may go.
    pub(crate) fn finish_deletion(&mut self) -> Result<(), SqlError> {
        if is_deleting(self.hot) {
            self.out.erase = is_empty_outside(self.sql)?;
        }
        Ok(())
    }
}

fn is_empty_outside(sql: &dyn Sql) -> Result<bool, SqlError> {
    let left = sql.run(
        "SELECT 1 FROM outbox WHERE state IN ('waiting', 'running')
            OR (state = 'given_up' AND dedup_key = ?) LIMIT 1",
        params![COLLECT_KEY],
    )?;
    Ok(left.is_empty())
}
