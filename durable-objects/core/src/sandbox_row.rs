//! The sandbox's row: one, reused by every generation, and the high-water mark of its frames.

use oi_protocol::UnixMillis;
use oi_protocol::session_state::SandboxStatus;

use crate::access::SandboxAccess;
use crate::job::StopSandbox;
use crate::sql::{Columns, Sql, SqlError, params};

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SandboxRow {
    /// Taken anew by each spawn, restore, resume, stop or cancel; only its holder may act.
    pub generation: i64,
    pub sandbox_id: Option<String>,
    pub provider_object_id: Option<String>,
    pub token_hash: Option<String>,
    pub status: SandboxStatus,
    pub dialect: u32,
    pub runtime_version: Option<String>,
    pub created_at: UnixMillis,
    /// Until when the bridge must have connected.
    pub boot_deadline: Option<UnixMillis>,
    /// In memory newer than in SQLite, by at most the interval at which heartbeats are written.
    pub last_heartbeat: Option<UnixMillis>,
    /// In memory newer than in SQLite while a prompt runs; written when one begins and ends.
    pub last_activity: Option<UnixMillis>,
    pub disconnected_at: Option<UnixMillis>,
    pub spawn_error: Option<String>,
    pub failure_count: i64,
    pub last_failure_at: Option<UnixMillis>,
    /// Before this no start is tried.
    pub next_spawn_at: Option<UnixMillis>,
    /// When the backend ends it.
    pub expires_at: Option<UnixMillis>,
    /// The snapshot that it was started from, until it is up.
    pub restored_from: Option<i64>,
    /// What a stopped sandbox that may go on knows itself by, and the mark of its frames.
    pub parked_token_hash: Option<String>,
    pub parked_received: i64,
    /// A stopped sandbox that did not go on: it is deleted once its successor is up.
    pub replaced: Option<StopSandbox>,
    /// How people reach what runs in it; shown while it is ready.
    pub access: Option<SandboxAccess>,
    /// Sealed secrets of a stopped sandbox that may go on.
    pub parked_secrets: Option<String>,
    /// One that did not connect in time may still come until then.
    pub failed_until: Option<UnixMillis>,
    /// Since when its start waits for a backend that is down.
    pub held_since: Option<UnixMillis>,
    /// How often people who watch kept it since its last activity.
    pub extensions: i64,
}

impl SandboxRow {
    pub const fn none() -> Self {
        Self {
            generation: 0,
            sandbox_id: None,
            provider_object_id: None,
            token_hash: None,
            status: SandboxStatus::Pending,
            dialect: 1,
            runtime_version: None,
            created_at: UnixMillis(0),
            boot_deadline: None,
            last_heartbeat: None,
            last_activity: None,
            disconnected_at: None,
            spawn_error: None,
            failure_count: 0,
            last_failure_at: None,
            next_spawn_at: None,
            expires_at: None,
            restored_from: None,
            parked_token_hash: None,
            parked_received: 0,
            replaced: None,
            access: None,
            parked_secrets: None,
            failed_until: None,
            held_since: None,
            extensions: 0,
        }
    }

    pub fn load(sql: &dyn Sql) -> Result<Self, SqlError> {
        let rows = sql.run(
            "SELECT generation, sandbox_id, provider_object_id, token_hash, status, dialect, runtime_version, created_at,
                boot_deadline, last_heartbeat, last_activity, disconnected_at, spawn_error, failure_count,
                last_failure_at, next_spawn_at, expires_at, restored_from, parked_token_hash, parked_received, replaced,
                access, parked_secrets, failed_until, held_since, extensions
                FROM sandbox",
            &[],
        )?;
        let Some(row) = rows.into_iter().next() else { return Ok(Self::none()) };
        let mut c = Columns::of(row);
        Ok(Self {
            generation: c.int()?,
            sandbox_id: c.opt_text()?,
            provider_object_id: c.opt_text()?,
            token_hash: c.opt_text()?,
            status: c.word(SandboxStatus::parse)?,
            dialect: c.int()? as u32,
            runtime_version: c.opt_text()?,
            created_at: UnixMillis(c.int()?),
            boot_deadline: c.opt_int()?.map(UnixMillis),
            last_heartbeat: c.opt_int()?.map(UnixMillis),
            last_activity: c.opt_int()?.map(UnixMillis),
            disconnected_at: c.opt_int()?.map(UnixMillis),
            spawn_error: c.opt_text()?,
            failure_count: c.int()?,
            last_failure_at: c.opt_int()?.map(UnixMillis),
            next_spawn_at: c.opt_int()?.map(UnixMillis),
            expires_at: c.opt_int()?.map(UnixMillis),
            restored_from: c.opt_int()?,
            parked_token_hash: c.opt_text()?,
            parked_received: c.opt_int()?.unwrap_or(0),
            replaced: c.opt_text()?.and_then(|stop| serde_json::from_str(&stop).ok()),
            access: c.opt_text()?.and_then(|access| serde_json::from_str(&access).ok()),
            parked_secrets: c.opt_text()?,
            failed_until: c.opt_int()?.map(UnixMillis),
            held_since: c.opt_int()?.map(UnixMillis),
            extensions: c.int()?,
        })
    }

    pub fn save(&self, sql: &dyn Sql) -> Result<(), SqlError> {
        sql.run(
            "INSERT OR REPLACE INTO sandbox (one, generation, sandbox_id, provider_object_id, token_hash, status,
                dialect, runtime_version, created_at, boot_deadline, last_heartbeat, last_activity, disconnected_at,
                spawn_error, failure_count, last_failure_at, next_spawn_at, expires_at, restored_from,
                parked_token_hash, parked_received, replaced, access, parked_secrets, failed_until, held_since, extensions)
             VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                self.generation,
                self.sandbox_id.clone(),
                self.provider_object_id.clone(),
                self.token_hash.clone(),
                self.status.as_str(),
                i64::from(self.dialect),
                self.runtime_version.clone(),
                self.created_at.0,
                self.boot_deadline.map(|t| t.0),
                self.last_heartbeat.map(|t| t.0),
                self.last_activity.map(|t| t.0),
                self.disconnected_at.map(|t| t.0),
                self.spawn_error.clone(),
                self.failure_count,
                self.last_failure_at.map(|t| t.0),
                self.next_spawn_at.map(|t| t.0),
                self.expires_at.map(|t| t.0),
                self.restored_from,
                self.parked_token_hash.clone(),
                self.parked_received,
                self.replaced.as_ref().and_then(|stop| serde_json::to_string(stop).ok()),
                self.access.as_ref().and_then(|access| serde_json::to_string(access).ok()),
                self.parked_secrets.clone(),
                self.failed_until.map(|t| t.0),
                self.held_since.map(|t| t.0),
                self.extensions,
            ],
        )?;
        Ok(())
    }
}

/// Highest number of a frame of this generation whose effect is in SQLite.
pub(crate) fn load_received(sql: &dyn Sql, generation: i64) -> Result<i64, SqlError> {
    let rows = sql.run("SELECT generation, seq FROM received", &[])?;
    let Some(row) = rows.into_iter().next() else { return Ok(0) };
    let mut c = Columns::of(row);
    let (of, seq) = (c.int()?, c.int()?);
    Ok(if of == generation { seq } else { 0 })
}

pub(crate) fn save_received(sql: &dyn Sql, generation: i64, seq: i64) -> Result<(), SqlError> {
    sql.run("INSERT OR REPLACE INTO received (one, generation, seq) VALUES (1, ?, ?)", params![generation, seq])?;
    Ok(())
}
