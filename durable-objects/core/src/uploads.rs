//! Files that a sandbox stores in R2: who may, and how many. The bytes pass by the session; it counts them.

use oi_protocol::event::ToolCall;
use oi_protocol::{ErrorCode, limits};
use serde_json::json;

use crate::call::CallReply;
use crate::core::Turn;
use crate::sql::{Columns, Sql, SqlError, params};
use crate::storage_keys::is_output_id;

/// What the files of a kind take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct StorageUse {
    pub objects: i64,
    pub bytes: i64,
}

impl StorageUse {
    pub fn of(sql: &dyn Sql, kind: &str) -> Result<Self, SqlError> {
        let rows = sql.run("SELECT objects, bytes FROM storage_use WHERE kind = ?", params![kind])?;
        let Some(row) = rows.into_iter().next() else { return Ok(Self::default()) };
        let mut c = Columns::of(row);
        Ok(Self { objects: c.int()?, bytes: c.int()? })
    }

    pub fn add(sql: &dyn Sql, kind: &str, objects: i64, bytes: i64) -> Result<(), SqlError> {
        sql.run(
            "INSERT INTO storage_use (kind, objects, bytes) VALUES (?1, ?2, ?3)
             ON CONFLICT (kind) DO UPDATE SET objects = objects + excluded.objects, bytes = bytes + excluded.bytes",
            params![kind, objects, bytes],
        )?;
        Ok(())
    }
}

const OUTPUT: &str = "output";

impl Turn<'_, '_> {
    /// A sandbox wants to store an output. The same name may come again, after an answer that was lost.
    pub(crate) fn authorize_output(&mut self, output_id: &str, bytes: i64) -> Result<CallReply, SqlError> {
        if !is_output_id(output_id) {
            let sentence = "The output's name may have letters, digits, - and _, 64 at most";
            return Ok(CallReply::refuse(400, ErrorCode::InvalidParameter, sentence));
        }
        if !(0..=limits::OUTPUT_FILE_MAX_BYTES as i64).contains(&bytes) {
            return Ok(CallReply::refuse(413, ErrorCode::TooLarge, "Request body too large"));
        }
        let known = self.sql.run("SELECT bytes FROM outputs WHERE id = ?", params![output_id])?;
        let before = known.into_iter().next().map(|row| Columns::of(row).int()).transpose()?;
        let used = StorageUse::of(self.sql, OUTPUT)?;
        let objects = i64::from(before.is_none());
        let more = bytes - before.unwrap_or(0);
        if used.objects + objects > limits::OUTPUT_FILES_MAX || used.bytes + more > limits::OUTPUT_FILES_MAX_BYTES {
            let sentence = "This session stores as much tool output as it may";
            return Ok(CallReply::refuse(429, ErrorCode::RateLimited, sentence));
        }
        if objects != 0 || more != 0 {
            self.sql.run(
                "INSERT INTO outputs (id, bytes, created_at) VALUES (?, ?, ?)
                 ON CONFLICT (id) DO UPDATE SET bytes = excluded.bytes",
                params![output_id, bytes, self.cx.now.0],
            )?;
            StorageUse::add(self.sql, OUTPUT, objects, more)?;
        }
        Ok(CallReply::json(200, &json!({})))
    }

    /// Drops a reference to an output that this session does not have: what would be behind it, nobody knows.
    pub(crate) fn check_output_ref(&mut self, call: &mut ToolCall) -> Result<(), SqlError> {
        let Some(output_ref) = &call.output_ref else { return Ok(()) };
        let known = is_output_id(output_ref)
            && !self.sql.run("SELECT 1 FROM outputs WHERE id = ?", params![output_ref.as_str()])?.is_empty();
        if !known {
            call.output_ref = None;
        }
        Ok(())
    }
}
