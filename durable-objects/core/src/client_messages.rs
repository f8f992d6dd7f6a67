//! What clients send, and how each message is answered.

use oi_protocol::client_socket::{ClientMessage, ServerMessage, close};
use oi_protocol::event::Outcome;
use oi_protocol::session_state::{PresenceStatus, PromptSource};
use oi_protocol::{ErrorCode, MessageId, limits};

use crate::core::Turn;
use crate::input::SocketId;
use crate::participants::{Participant, resolve_token};
use crate::projection::Dialect;
use crate::prompts::NewPrompt;
use crate::rates::{Asked, Who};
use crate::sockets::{Role, Subscriber};
use crate::sql::SqlError;
use crate::timeline;

impl Turn<'_, '_> {
    pub(crate) fn error(&mut self, socket: SocketId, code: ErrorCode, message: &str, request_id: Option<String>) {
        self.send_json(
            socket,
            &ServerMessage::Error { code, message: message.to_owned(), client_request_id: request_id },
        );
    }

    /// A binary frame is nobody's: clients are told, bridges' are dropped.
    pub(crate) fn binary_frame(&mut self, socket: SocketId) {
        if matches!(self.sockets.roles.get(&socket), Some(Role::Client { .. })) {
            self.error(socket, ErrorCode::InvalidMessage, "Failed to process message", None);
        }
    }

    pub(crate) fn client_frame(&mut self, socket: SocketId, text: &str) -> Result<(), SqlError> {
        if !matches!(self.sockets.roles.get(&socket), Some(Role::Client { .. })) {
            self.close(socket, close::EXPIRED, "Session expired, please reconnect");
            return Ok(());
        }
        let message = match ClientMessage::parse(text) {
            Ok(message) => message,
            Err(rejected) => {
                let sentence = match rejected.code {
                    ErrorCode::InvalidPrompt => "Invalid prompt",
                    _ => "Failed to process message",
                };
                self.error(socket, rejected.code, sentence, rejected.client_request_id);
                return Ok(());
            }
        };
        match message {
            ClientMessage::Ping => {
                self.send_json(socket, &ServerMessage::Pong { timestamp: Some(self.cx.now) });
                Ok(())
            }
            ClientMessage::Subscribe { token, dialect, after_revision, .. } => {
                self.subscribe(socket, &token, Dialect::granted(dialect), after_revision)
            }
            other => {
                let known = self.sockets.subscriber(socket).cloned();
                let Some(subscriber) = known.filter(|known| !known.token_has_ended(self.cx.now)) else {
                    self.close(socket, close::EXPIRED, "Session expired, please reconnect");
                    return Ok(());
                };
                if self.is_too_fast(socket, &subscriber, &other) {
                    let echo = other.client_request_id().map(str::to_owned);
                    self.error(socket, ErrorCode::RateLimited, "Too many requests", echo);
                    return Ok(());
                }
                self.subscribed_message(socket, &subscriber, other)
            }
        }
    }

    /// What a person does is counted over all their pages; what a page does by itself, by the page.
    fn is_too_fast(&mut self, socket: SocketId, subscriber: &Subscriber, message: &ClientMessage) -> bool {
        let person = || Who::Person(subscriber.participant_id.to_string());
        let (who, asked) = match message {
            ClientMessage::Ping | ClientMessage::Subscribe { .. } => return false,
            ClientMessage::Prompt { .. } => (person(), Asked::Prompt),
            ClientMessage::CancelPrompt { .. }
            | ClientMessage::EditPrompt { .. }
            | ClientMessage::ReorderPrompts { .. }
            | ClientMessage::SendNow { .. }
            | ClientMessage::InputResponse { .. } => (person(), Asked::Change),
            ClientMessage::Stop => (person(), Asked::Stop),
            ClientMessage::FetchHistory { .. } => (person(), Asked::History),
            ClientMessage::Typing => (Who::Page(socket), Asked::Typing),
            ClientMessage::Presence { .. } => (Who::Page(socket), Asked::Presence),
        };
        self.sockets.rates.take(self.cx.now, who, asked).is_err()
    }

    /// Tells everybody who is here. Changes that come faster than that is told are told together.
    fn tell_presence(&mut self) {
        match self.sockets.rates.take(self.cx.now, Who::Everybody, Asked::PresenceNews) {
            Ok(()) => {
                self.sockets.presence_due = None;
                let participants = self.sockets.presence();
                self.broadcast(&ServerMessage::PresenceUpdate { participants });
            }
            Err(wait) => {
                self.sockets.presence_due.get_or_insert(self.cx.now.plus(wait));
            }
        }
    }

    fn subscribed_message(
        &mut self,
        socket: SocketId,
        subscriber: &Subscriber,
        message: ClientMessage,
    ) -> Result<(), SqlError> {
        match message {
            ClientMessage::Ping | ClientMessage::Subscribe { .. } => Ok(()),
            ClientMessage::Prompt { client_request_id, content, model, reasoning_effort, attachments } => {
                let Some(author) = Participant::by_id(self.sql, subscriber.participant_id.as_str())? else {
                    self.close(socket, close::EXPIRED, "Session expired, please reconnect");
                    return Ok(());
                };
                let prompt = NewPrompt {
                    callback_context: None,
                    from_page: true,
                    author: &author,
                    content: &content,
                    source: PromptSource::Web,
                    model: model.as_deref(),
                    reasoning_effort: reasoning_effort.as_deref(),
                    attachments: attachments.as_deref().unwrap_or_default(),
                    request_id: Some(&client_request_id),
                };
                match self.enqueue_prompt(&prompt)? {
                    Ok(enqueued) => {
                        self.send_json(
                            socket,
                            &ServerMessage::PromptQueued {
                                client_request_id,
                                message_id: enqueued.message_id,
                                position: enqueued.position,
                            },
                        );
                        self.broadcast_queue()?;
                        self.dispatch()
                    }
                    Err(refusal) => {
                        self.error(socket, refusal.code, &refusal.sentence, Some(client_request_id));
                        Ok(())
                    }
                }
            }
            ClientMessage::CancelPrompt { message_id, client_request_id } => {
                let parsed = MessageId::parse(&message_id).ok();
                if let Some(id) = parsed
                    && self.cancel_prompt(id.as_str())?
                {
                    self.send_json(socket, &ServerMessage::PromptCancelled { client_request_id, message_id: id });
                    return self.broadcast_queue();
                }
                let sentence = "This prompt is no longer pending and cannot be removed";
                self.error(socket, ErrorCode::PromptNotCancellable, sentence, Some(client_request_id));
                Ok(())
            }
            ClientMessage::EditPrompt { ref client_request_id, .. }
            | ClientMessage::ReorderPrompts { ref client_request_id, .. }
            | ClientMessage::SendNow { ref client_request_id, .. }
            | ClientMessage::InputResponse { ref client_request_id, .. } => {
                if subscriber.two {
                    self.take_change(socket, subscriber, client_request_id, &message)
                } else {
                    let echo = Some(client_request_id.clone());
                    self.error(socket, ErrorCode::InvalidMessage, "Failed to process message", echo);
                    Ok(())
                }
            }
            ClientMessage::Stop => {
                self.stop_running(Outcome::Stopped, "Execution was stopped")?;
                self.dispatch()
            }
            ClientMessage::Typing => {
                let others: Vec<SocketId> = self
                    .sockets
                    .subscribers()
                    .filter(|(_, s)| s.two && s.participant_id != subscriber.participant_id)
                    .map(|(id, _)| id)
                    .collect();
                let typing = ServerMessage::Typing {
                    participant_id: subscriber.participant_id.clone(),
                    name: subscriber.name.clone(),
                };
                if let (false, Ok(text)) = (others.is_empty(), serde_json::to_string(&typing)) {
                    self.out.frames.push(crate::input::Frame { to: others, text });
                }
                self.warm()
            }
            ClientMessage::Presence { status } => {
                let mut changed = subscriber.clone();
                changed.active = status == PresenceStatus::Active;
                changed.last_seen = self.cx.now;
                let news = changed.active != subscriber.active;
                self.replace_subscriber(socket, changed);
                if news {
                    self.tell_presence();
                }
                Ok(())
            }
            ClientMessage::FetchHistory { cursor, limit } => {
                let dialect = if subscriber.two { Dialect::Two } else { Dialect::One };
                self.fetch_history(socket, dialect, cursor.as_ref(), limit)
            }
        }
    }

    fn replace_subscriber(&mut self, socket: SocketId, changed: Subscriber) {
        if let Some(Role::Client { opened_at, .. }) = self.sockets.roles.get(&socket) {
            let role = Role::Client { opened_at: *opened_at, subscriber: Some(changed) };
            self.set_role(socket, role);
        }
    }

    fn subscribe(
        &mut self,
        socket: SocketId,
        token: &str,
        dialect: Dialect,
        after_revision: Option<i64>,
    ) -> Result<(), SqlError> {
        if self.sockets.subscriber(socket).is_some() {
            self.close(socket, close::ALREADY_SUBSCRIBED, "Already subscribed");
            return Ok(());
        }
        if self.hot.session.is_none() {
            self.close(socket, close::SYNC_FAILED, "Session synchronization failed");
            return Ok(());
        }
        let (participant, token_ends) = match resolve_token(self.sql, self.cx.now, token)? {
            Ok(found) => found,
            Err(refusal) => {
                self.close(socket, close::UNAUTHENTICATED, refusal.reason());
                return Ok(());
            }
        };
        // What was gathered is in the snapshot; others get it first, so that all agree. It is written first, since
        // dialect 1 reads open text from its rows.
        self.flush_gathered();
        self.write_open_text()?;
        let author = participant.author();
        let snapshot = crate::reads::snapshot(self.sql, self.hot, self.parts, dialect, after_revision)?;
        let granted = if dialect == Dialect::Two { r#","dialect":2"# } else { "" };
        let participant_json = serde_json::to_string(&author).unwrap_or_default();
        // `snapshot` is a JSON object; its members are spliced after the type's.
        let text = format!(
            r#"{{"type":"subscribed"{granted},"participantId":"{}","participant":{participant_json},{}"#,
            participant.id,
            &snapshot[1..],
        );
        self.send(socket, text);
        let subscriber = Subscriber {
            participant_id: participant.id.clone(),
            user_id: participant.public_user_id(),
            name: participant.display_name(),
            avatar: participant.avatar.clone(),
            two: dialect == Dialect::Two,
            active: true,
            last_seen: self.cx.now,
            token_ends,
        };
        self.replace_subscriber(socket, subscriber);
        let participants = self.sockets.presence();
        self.send_json(socket, &ServerMessage::PresenceSync { participants });
        self.tell_presence();
        self.refresh_pull_requests()
    }

    fn fetch_history(
        &mut self,
        socket: SocketId,
        dialect: Dialect,
        cursor: Option<&oi_protocol::session_state::HistoryCursor>,
        limit: Option<i64>,
    ) -> Result<(), SqlError> {
        let before = match cursor {
            Some(cursor) => timeline::resolve_cursor(self.sql, cursor)?,
            None => None,
        };
        let Some(before) = before else {
            self.error(socket, ErrorCode::InvalidCursor, "Invalid cursor", None);
            return Ok(());
        };
        let now = self.cx.now;
        let last = self.sockets.history_at.get(&socket);
        if last.is_some_and(|at| (0..limits::HISTORY_MIN_INTERVAL_MS).contains(&now.since(*at))) {
            self.error(socket, ErrorCode::RateLimited, "Too many requests", None);
            return Ok(());
        }
        self.sockets.history_at.insert(socket, now);
        let limit = limit
            .map_or(limits::HISTORY_DEFAULT_EVENTS, |limit| limit.clamp(1, limits::REPLAY_MAX_EVENTS as i64) as usize);
        if self.fetch_archived(socket, before, limit)? {
            return Ok(());
        }
        let page = timeline::page_before(self.sql, self.hot.archived, Some(before), limit, dialect)?;
        // Places may be empty, or being written, between the files and the oldest row that is shown.
        if page.cursor.is_none() && page.has_more && self.fetch_archived(socket, self.hot.archived.seq + 1, limit)? {
            return Ok(());
        }
        self.send(socket, page.history_frame());
        Ok(())
    }

    /// A page closed; the person may have others.
    pub(crate) fn left(&mut self, subscriber: &Subscriber) {
        let stays = self.sockets.subscribers().any(|(_, s)| s.participant_id == subscriber.participant_id);
        if stays {
            self.tell_presence();
        } else {
            self.broadcast(&ServerMessage::PresenceLeave { user_id: subscriber.user_id.clone() });
        }
    }
}
