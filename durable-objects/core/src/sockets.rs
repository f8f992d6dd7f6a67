//! Who is connected: kept in memory, rebuilt from the sockets' attachments when the object wakes.

use std::collections::BTreeMap;

use oi_protocol::session_state::{Presence, PresenceStatus};
use oi_protocol::{ParticipantId, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::core::Turn;
use crate::input::{Frame, SocketId};
use crate::projection::Dialect;
use crate::rates::Rates;

/// A client must subscribe within this, in ms.
pub(crate) const SUBSCRIBE_WITHIN_MS: i64 = 30_000;

/// What a subscribed client is; kept in its attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subscriber {
    pub participant_id: ParticipantId,
    pub user_id: String,
    pub name: String,
    pub avatar: Option<String>,
    pub two: bool,
    pub active: bool,
    pub last_seen: UnixMillis,
    /// When the token ends that the page subscribed with.
    #[serde(default)]
    pub token_ends: UnixMillis,
}

impl Subscriber {
    pub fn token_has_ended(&self, now: UnixMillis) -> bool {
        self.token_ends <= now
    }
}

/// What is kept in a socket's attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub(crate) enum Role {
    Client { opened_at: UnixMillis, subscriber: Option<Subscriber> },
    Sandbox { generation: i64, dialect: u32 },
}

#[derive(Serialize, Deserialize)]
struct Attachment {
    v: u32,
    #[serde(flatten)]
    role: Role,
}

impl Role {
    pub fn to_attachment(&self) -> String {
        serde_json::to_string(&Attachment { v: 1, role: self.clone() }).unwrap_or_default()
    }

    /// `None` for a text that no version of ours wrote.
    pub fn from_attachment(text: &str) -> Option<Self> {
        serde_json::from_str::<Attachment>(text).ok().map(|attachment| attachment.role)
    }
}

#[derive(Default)]
pub(crate) struct Sockets {
    pub roles: BTreeMap<SocketId, Role>,
    /// The bridge that may act.
    pub bridge: Option<SocketId>,
    /// Memory only: when a socket last asked for history.
    pub history_at: BTreeMap<SocketId, UnixMillis>,
    /// Memory only: when a warm was last asked for.
    pub warmed_at: Option<UnixMillis>,
    /// Memory only: who asked for much lately.
    pub rates: Rates,
    /// Memory only: when the people who are here are told next, because they changed faster than is told.
    pub presence_due: Option<UnixMillis>,
}

impl Sockets {
    pub fn subscriber(&self, socket: SocketId) -> Option<&Subscriber> {
        match self.roles.get(&socket) {
            Some(Role::Client { subscriber, .. }) => subscriber.as_ref(),
            _ => None,
        }
    }

    pub fn subscribers(&self) -> impl Iterator<Item = (SocketId, &Subscriber)> {
        self.roles.iter().filter_map(|(id, role)| match role {
            Role::Client { subscriber: Some(subscriber), .. } => Some((*id, subscriber)),
            _ => None,
        })
    }

    pub fn watchers(&self, dialect: Dialect) -> Vec<SocketId> {
        self.subscribers().filter(|(_, s)| s.two == (dialect == Dialect::Two)).map(|(id, _)| id).collect()
    }

    /// One entry a person: active when any page is, last seen at the latest.
    pub fn presence(&self) -> Vec<Presence> {
        let mut people: BTreeMap<&ParticipantId, Presence> = BTreeMap::new();
        for (_, s) in self.subscribers() {
            let entry = people.entry(&s.participant_id).or_insert_with(|| Presence {
                participant_id: s.participant_id.clone(),
                user_id: s.user_id.clone(),
                name: s.name.clone(),
                avatar: s.avatar.clone(),
                status: PresenceStatus::Idle,
                last_seen: s.last_seen,
            });
            entry.last_seen = entry.last_seen.max(s.last_seen);
            if s.active {
                entry.status = PresenceStatus::Active;
            }
        }
        people.into_values().collect()
    }

    /// When the first token of a page ends.
    pub fn token_deadline(&self) -> Option<UnixMillis> {
        self.subscribers().map(|(_, subscriber)| subscriber.token_ends).min()
    }

    /// When the oldest unsubscribed client must have subscribed.
    pub fn subscribe_deadline(&self) -> Option<UnixMillis> {
        self.roles
            .values()
            .filter_map(|role| match role {
                Role::Client { opened_at, subscriber: None } => Some(opened_at.plus(SUBSCRIBE_WITHIN_MS)),
                _ => None,
            })
            .min()
    }
}

impl Turn<'_, '_> {
    pub(crate) fn send(&mut self, socket: SocketId, text: String) {
        self.out.frames.push(Frame { to: vec![socket], text });
    }

    pub(crate) fn send_json(&mut self, socket: SocketId, message: &impl Serialize) {
        if let Ok(text) = serde_json::to_string(message) {
            self.send(socket, text);
        }
    }

    /// Sends a frame to every watcher of one dialect; the frame is made only when there is one.
    pub(crate) fn broadcast_to(&mut self, dialect: Dialect, text: impl FnOnce() -> Option<String>) {
        let to = self.sockets.watchers(dialect);
        if to.is_empty() {
            return;
        }
        if let Some(text) = text() {
            self.out.frames.push(Frame { to, text });
        }
    }

    /// Sends a message that is the same in both dialects to every watcher.
    pub(crate) fn broadcast(&mut self, message: &impl Serialize) {
        let to: Vec<SocketId> = self.sockets.subscribers().map(|(id, _)| id).collect();
        if to.is_empty() {
            return;
        }
        if let Ok(text) = serde_json::to_string(message) {
            self.out.frames.push(Frame { to, text });
        }
    }

    pub(crate) fn close(&mut self, socket: SocketId, code: u16, reason: &str) {
        self.out.closes.push((socket, code, reason.to_owned()));
        let subscriber = self.sockets.subscriber(socket).cloned();
        self.forget(socket);
        if let Some(subscriber) = subscriber {
            self.left(&subscriber);
        }
    }

    /// Drops a socket from the registry.
    pub(crate) fn forget(&mut self, socket: SocketId) {
        self.sockets.roles.remove(&socket);
        self.sockets.history_at.remove(&socket);
        self.sockets.rates.forget(socket);
        if self.sockets.bridge == Some(socket) {
            self.sockets.bridge = None;
        }
    }

    pub(crate) fn set_role(&mut self, socket: SocketId, role: Role) {
        self.out.attachments.push((socket, role.to_attachment()));
        self.sockets.roles.insert(socket, role);
    }

    /// Sends a command to the bridge; `false` when none is connected.
    pub(crate) fn command(&mut self, command: &oi_protocol::sandbox_socket::SandboxCommand) -> bool {
        let Some(bridge) = self.sockets.bridge else { return false };
        self.send_json(bridge, command);
        true
    }
}
