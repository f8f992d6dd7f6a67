//! Files that go with prompts. Their bytes are in R2 and pass the session by; it says which there are, counts them, and
//! gives each to one prompt.
//!
//! A file is recorded before it is there, so that one whose writing failed is found too: what no prompt took within a
//! day is claimed by the next upload, deleted by its Worker, and then forgotten here.

use oi_protocol::client_socket::{AttachmentRef, is_file_id};
use oi_protocol::session_state::PromptAttachment;
use oi_protocol::{ErrorCode, MessageId, UnixMillis, limits};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::call::CallReply;
use crate::core::Turn;
use crate::file_type::FileType;
use crate::prompts::Refusal;
use crate::sql::{Columns, Sql, SqlError, params};
use crate::storage_keys;
use crate::uploads::StorageUse;

/// What a file to be stored is answered with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum Recorded {
    /// It is known now.
    Ok,
    /// First delete these, say so, and ask again.
    CleanupRequired {
        /// Names this clean-up.
        cleanup_claimed_at: UnixMillis,
        /// What nobody uses.
        stale_attachments: Vec<StaleAttachment>,
    },
}

/// A file that no prompt took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StaleAttachment {
    /// The upload.
    pub attachment_id: String,
    /// Its object.
    pub object_key: String,
}

/// A file that is there, for who asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KnownAttachment {
    /// Its kind.
    pub mime_type: FileType,
}

const ATTACHMENT: &str = "attachment";

fn invalid_command() -> CallReply {
    CallReply::refuse(400, ErrorCode::InvalidBody, "Invalid attachment command")
}

fn refusal(sentence: &str) -> Refusal {
    Refusal::new(ErrorCode::InvalidAttachments, 400, sentence)
}

/// A prompt's files as they are to be stored with it, when it may have every one of them.
pub(crate) fn resolve(
    sql: &dyn Sql,
    wanted: &[AttachmentRef],
) -> Result<Result<Vec<PromptAttachment>, Refusal>, SqlError> {
    let mut found: Vec<PromptAttachment> = Vec::with_capacity(wanted.len());
    for file in wanted {
        if found.iter().any(|other| other.attachment_id == file.attachment_id) {
            return Ok(Err(refusal("An attachment can only be attached once per message")));
        }
        let rows = sql.run(
            "SELECT mime_type FROM attachments WHERE id = ? AND message_id IS NULL AND cleanup_claimed_at IS NULL",
            params![file.attachment_id.as_str()],
        )?;
        let Some(row) = rows.into_iter().next() else {
            return Ok(Err(refusal("One or more attachments are missing, expired, or already used")));
        };
        let mime_type = Columns::of(row).text()?;
        if !FileType::of_mime(&mime_type).is_some_and(FileType::is_attachment) {
            return Ok(Err(refusal("Attachment is not a supported image")));
        }
        found.push(PromptAttachment { attachment_id: file.attachment_id.clone(), name: file.name.clone(), mime_type });
    }
    Ok(Ok(found))
}

/// Gives files that were resolved in this transaction to a prompt.
pub(crate) fn claim(sql: &dyn Sql, message_id: &MessageId, files: &[PromptAttachment]) -> Result<(), SqlError> {
    for file in files {
        let claimed = sql.run(
            "UPDATE attachments SET message_id = ? WHERE id = ? AND message_id IS NULL RETURNING id",
            params![message_id.as_str(), file.attachment_id.as_str()],
        )?;
        if claimed.is_empty() {
            return Err(SqlError("a file was taken within this transaction".to_owned()));
        }
    }
    Ok(())
}

/// The prompt is gone; its files may go with another.
pub(crate) fn release(sql: &dyn Sql, message_id: &str) -> Result<(), SqlError> {
    sql.run("UPDATE attachments SET message_id = NULL WHERE message_id = ?", params![message_id])?;
    Ok(())
}

/// A prompt's files as its row has them.
pub(crate) fn read_column(column: Option<String>) -> Option<Vec<PromptAttachment>> {
    column.and_then(|text| serde_json::from_str(&text).ok())
}

/// Whether a file is there, and of which kind.
pub(crate) fn find(sql: &dyn Sql, attachment_id: &str) -> Result<CallReply, SqlError> {
    let rows = sql
        .run("SELECT mime_type FROM attachments WHERE id = ? AND cleanup_claimed_at IS NULL", params![attachment_id])?;
    let mime_type = rows.into_iter().next().map(|row| Columns::of(row).text()).transpose()?;
    Ok(match mime_type.and_then(|text| FileType::of_mime(&text)) {
        Some(mime_type) => CallReply::json(200, &KnownAttachment { mime_type }),
        None => CallReply::refuse(404, ErrorCode::NotFound, "Attachment not found"),
    })
}

impl Turn<'_, '_> {
    /// A file is about to be stored. The same one may come again, after an answer that was lost.
    pub(crate) fn record_attachment(
        &mut self,
        attachment_id: &str,
        file_type: FileType,
        bytes: i64,
    ) -> Result<CallReply, SqlError> {
        let fits = (1..=limits::ATTACHMENT_MAX_BYTES as i64).contains(&bytes);
        if !is_file_id(attachment_id) || !file_type.is_attachment() || !fits {
            return Ok(invalid_command());
        }
        let known = self.sql.run("SELECT mime_type, bytes FROM attachments WHERE id = ?", params![attachment_id])?;
        if let Some(row) = known.into_iter().next() {
            let mut c = Columns::of(row);
            let same = (c.text()?.as_str(), c.int()?) == (file_type.mime(), bytes);
            return Ok(if same { CallReply::json(200, &Recorded::Ok) } else { invalid_command() });
        }
        let stale_attachments = self.claim_stale()?;
        if !stale_attachments.is_empty() {
            let cleanup = Recorded::CleanupRequired { cleanup_claimed_at: self.cx.now, stale_attachments };
            return Ok(CallReply::json(200, &cleanup));
        }
        let used = StorageUse::of(self.sql, ATTACHMENT)?;
        let full = |sentence: &str| Ok(CallReply::refuse(429, ErrorCode::RateLimited, sentence));
        if used.objects + 1 > limits::ATTACHMENTS_MAX {
            return full("Session attachment limit of 100 files exceeded");
        }
        if used.bytes + bytes > limits::ATTACHMENTS_MAX_BYTES {
            return full("Session attachment storage limit exceeded");
        }
        self.sql.run(
            "INSERT INTO attachments (id, mime_type, bytes, created_at) VALUES (?, ?, ?, ?)",
            params![attachment_id, file_type.mime(), bytes, self.cx.now.0],
        )?;
        StorageUse::add(self.sql, ATTACHMENT, 1, bytes)?;
        Ok(CallReply::json(200, &Recorded::Ok))
    }

    /// Claims files for deletion that no prompt took in time, as many as one clean-up deletes. A claim that was not
    /// followed by its end is taken over, since its Worker is gone.
    fn claim_stale(&mut self) -> Result<Vec<StaleAttachment>, SqlError> {
        let Some(session) = &self.hot.session else { return Ok(Vec::new()) };
        let now = self.cx.now;
        let rows = self.sql.run(
            "UPDATE attachments SET cleanup_claimed_at = ?1 WHERE id IN
                (SELECT id FROM attachments WHERE message_id IS NULL AND created_at <= ?2
                    AND (cleanup_claimed_at IS NULL OR cleanup_claimed_at <= ?3) ORDER BY created_at LIMIT ?4)
             RETURNING id",
            params![
                now.0,
                now.plus(-limits::ATTACHMENT_UNUSED_MS).0,
                now.plus(-limits::ATTACHMENT_CLEANUP_MS).0,
                limits::ATTACHMENT_CLEANUP_MAX as i64,
            ],
        )?;
        rows.into_iter()
            .map(|row| {
                let attachment_id = Columns::of(row).text()?;
                let object_key = storage_keys::attachment(&session.session_id, &attachment_id);
                Ok(StaleAttachment { attachment_id, object_key })
            })
            .collect()
    }

    /// The objects of these files are gone, and of those not: only what this clean-up claimed counts, so that one that
    /// was given up on changes nothing.
    pub(crate) fn complete_attachment_cleanup(
        &mut self,
        claimed_at: UnixMillis,
        acknowledged: &[String],
        released: &[String],
    ) -> Result<CallReply, SqlError> {
        if acknowledged.len() + released.len() > limits::ATTACHMENT_CLEANUP_MAX {
            return Ok(invalid_command());
        }
        // One parameter holds all ids, however many they are.
        let gone = self.sql.run(
            "DELETE FROM attachments WHERE cleanup_claimed_at = ? AND message_id IS NULL
                AND id IN (SELECT value FROM json_each(?)) RETURNING bytes",
            params![claimed_at.0, json!(acknowledged).to_string()],
        )?;
        let (mut objects, mut bytes) = (0, 0);
        for row in gone {
            objects += 1;
            bytes += Columns::of(row).int()?;
        }
        if objects > 0 {
            StorageUse::add(self.sql, ATTACHMENT, -objects, -bytes)?;
        }
        if !released.is_empty() {
            self.sql.run(
                "UPDATE attachments SET cleanup_claimed_at = NULL
                    WHERE cleanup_claimed_at = ? AND id IN (SELECT value FROM json_each(?))",
                params![claimed_at.0, json!(released).to_string()],
            )?;
        }
        Ok(CallReply::json(200, &json!({"status": "ok"})))
    }
}
