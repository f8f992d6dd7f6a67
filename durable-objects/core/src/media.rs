//! Screenshots and recordings that were stored in R2: artifacts of the prompt that runs. The session counts them.

use oi_protocol::client_socket::ServerMessage;
use oi_protocol::event::{ArtifactEvent, Event};
use oi_protocol::session_state::{ArtifactType, SessionArtifact};
use oi_protocol::{ArtifactId, ErrorCode, MessageId, limits};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::artifacts;
use crate::call::CallReply;
use crate::core::{Hot, Turn};
use crate::file_type::FileType;
use crate::prompts::Refusal;
use crate::sandbox_events::SENTENCE_MAX_BYTES;
use crate::sql::{Sql, SqlError};
use crate::storage_keys;
use crate::uploads::StorageUse;

/// A file that was stored and is to be an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewMedia {
    /// Minted for it; a repetition changes nothing.
    pub artifact_id: String,
    /// `screenshot` or `video`.
    pub artifact_type: ArtifactType,
    /// Its object.
    pub object_key: String,
    /// Its length.
    pub bytes: i64,
    /// What the sender says of it; at most 16 KiB as JSON.
    pub metadata: Map<String, Value>,
}

/// Where a file is, for who may see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KnownMedia {
    /// Its object.
    pub object_key: String,
    /// Its kind.
    pub mime_type: FileType,
}

fn invalid(sentence: &str) -> Refusal {
    Refusal::new(ErrorCode::InvalidBody, 400, sentence)
}

/// Where a screenshot or recording of this session is.
pub(crate) fn find(sql: &dyn Sql, hot: &Hot, artifact_id: &str) -> Result<CallReply, SqlError> {
    let not_found = || CallReply::refuse(404, ErrorCode::NotFound, "Media artifact not found");
    let (Some(session), Ok(id)) = (&hot.session, ArtifactId::parse(artifact_id)) else { return Ok(not_found()) };
    let Some(artifact) = artifacts::by_id(sql, &id)? else { return Ok(not_found()) };
    let object_key = artifact.url.unwrap_or_default();
    let file_type = storage_keys::media_type_of(&session.session_id, &object_key);
    Ok(match file_type.filter(|file_type| file_type.fits(artifact.artifact_type)) {
        Some(mime_type) => CallReply::json(200, &KnownMedia { object_key, mime_type }),
        None => not_found(),
    })
}

impl Turn<'_, '_> {
    /// Whether a file of this kind may become an artifact now.
    fn refuse_media(&self, artifact_type: ArtifactType) -> Result<Option<Refusal>, SqlError> {
        let (most, sentence) = match artifact_type {
            ArtifactType::Screenshot => (limits::SCREENSHOTS_MAX, "A session may have at most 100 screenshots"),
            ArtifactType::Video => (limits::VIDEOS_MAX, "A session may have at most 20 videos"),
            ArtifactType::Pr | ArtifactType::Preview | ArtifactType::Branch => {
                return Ok(Some(invalid("Invalid media artifact body")));
            }
        };
        if self.hot.sandbox.sandbox_id.is_none() {
            return Ok(Some(Refusal::new(ErrorCode::NotFound, 404, "No sandbox")));
        }
        if self.hot.running.is_none() {
            return Ok(Some(Refusal::new(ErrorCode::Conflict, 409, "No active prompt")));
        }
        let used = StorageUse::of(self.sql, artifact_type.as_str())?;
        Ok((used.objects >= most).then(|| Refusal::new(ErrorCode::RateLimited, 429, sentence)))
    }

    /// Before a file is sent: would it be taken? What counts is asked again when it is there.
    pub(crate) fn authorize_media(&self, artifact_type: ArtifactType) -> Result<CallReply, SqlError> {
        Ok(match self.refuse_media(artifact_type)? {
            Some(refusal) => refusal.into(),
            None => CallReply::json(200, &json!({})),
        })
    }

    /// A file is there and becomes an artifact of the prompt that runs.
    pub(crate) fn create_media_artifact(&mut self, new: NewMedia) -> Result<CallReply, SqlError> {
        let NewMedia { artifact_id, artifact_type, object_key, bytes, mut metadata } = new;
        if artifact_id.is_empty() || object_key.is_empty() {
            return Ok(invalid("artifactId and objectKey are required").into());
        }
        let (Some(session), Ok(id)) = (&self.hot.session, ArtifactId::parse(&artifact_id)) else {
            return Ok(invalid("Invalid media artifact body").into());
        };
        let file_type = storage_keys::media_type_of(&session.session_id, &object_key);
        let file_type = file_type.filter(|file_type| {
            file_type.fits(artifact_type)
                && storage_keys::media(&session.session_id, &id, *file_type) == object_key
                && (1..=file_type.max_bytes() as i64).contains(&bytes)
        });
        let Some(file_type) = file_type else { return Ok(invalid("Invalid media artifact body").into()) };
        metadata.insert("objectKey".to_owned(), json!(object_key));
        metadata.insert("mimeType".to_owned(), json!(file_type.mime()));
        metadata.insert("sizeBytes".to_owned(), json!(bytes));
        if json!(metadata).to_string().len() > SENTENCE_MAX_BYTES {
            return Ok(invalid("Invalid media artifact body").into());
        }
        let created = CallReply::json(200, &json!({"status": "ok", "artifactId": id}));
        if let Some(known) = artifacts::by_id(self.sql, &id)? {
            let same = known.artifact_type == artifact_type && known.url.as_deref() == Some(object_key.as_str());
            return Ok(if same { created } else { invalid("Invalid media artifact body").into() });
        }
        if let Some(refusal) = self.refuse_media(artifact_type)? {
            return Ok(refusal.into());
        }
        StorageUse::add(self.sql, artifact_type.as_str(), 1, bytes)?;
        let artifact = SessionArtifact {
            id,
            artifact_type,
            url: Some(object_key.clone()),
            metadata: Some(metadata.clone()),
            created_at: self.cx.now,
            updated_at: Some(self.cx.now),
        };
        artifacts::save(self.sql, &artifact)?;
        // What the agent said before it comes before it.
        self.flush_gathered();
        self.place_open_text()?;
        self.hot.text_due = true;
        let message_id = self.hot.running.as_ref().map(|running| running.message_id.clone());
        let event = Event::Artifact(ArtifactEvent {
            artifact_type: artifact_type.as_str().to_owned(),
            artifact_id: Some(artifact_id),
            url: object_key,
            metadata: Some(metadata),
            message_id: message_id.clone(),
            sandbox_id: self.hot.sandbox.sandbox_id.clone().unwrap_or_default(),
            timestamp: self.cx.now.as_event_timestamp(),
        });
        self.broadcast(&ServerMessage::ArtifactCreated { artifact });
        self.append(message_id.as_ref().map(MessageId::as_str), &event)?;
        self.touch_activity();
        Ok(created)
    }
}
