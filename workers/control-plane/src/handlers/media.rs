//! Screenshots and recordings that the agent makes: uploaded by the sandbox, seen by people.
//!
//! The object is written first and becomes an artifact then, so that no artifact is shown that has no object; one that
//! the session does not take is deleted again.

use oi_protocol::client_socket::is_file_id;
use oi_protocol::rest::MediaResponse;
use oi_protocol::session_state::ArtifactType;
use oi_protocol::{ArtifactId, ErrorCode, limits};
use oi_session::call::SessionCall;
use oi_session::file_type::FileType;
use oi_session::media::{KnownMedia, NewMedia};
use oi_session::storage_keys;
use oi_worker_kit::log::Line;
use oi_worker_kit::{Failure, Refusal, clock, random, reply};
use worker::Response;

use super::sandbox_broker::listed_session;
use crate::identity;
use crate::media_fields;
use crate::media_store::{ContentType, MediaStore, PendingObject, Served};
use crate::request::Cx;
use crate::session_client;
use crate::source_control::require_forge;
use crate::upload_form::{FormRules, UploadForm, body_bytes};

const MISSING: &str = "Media artifact not found";

static RULES: FormRules = FormRules {
    max_body_bytes: body_bytes(limits::VIDEO_MAX_BYTES),
    body_too_large: "Media request is too large",
    accepts: |file_type| file_type.fits(kind_of(file_type)),
    not_accepted: "Media must be a PNG, JPEG or WebP picture or an MP4 video",
    file_too_large: (413, "A screenshot may have at most 10 MiB, a video 100 MiB"),
    code: ErrorCode::InvalidBody,
};

/// The only kind of artifact that such a file can be.
const fn kind_of(file_type: FileType) -> ArtifactType {
    match file_type {
        FileType::Mp4 => ArtifactType::Video,
        FileType::Png | FileType::Jpeg | FileType::Webp | FileType::Gif => ArtifactType::Screenshot,
    }
}

pub(super) async fn post(cx: &Cx<'_>) -> Result<Response, Failure> {
    require_forge(cx.env)?;
    let id = listed_session(cx).await?;
    let principal = || identity::principal(&cx.who.caller);
    let mut form = UploadForm::open(cx, &RULES)?;
    let file_type = form.find_file().await?;
    let artifact_type = kind_of(file_type);
    // Who sends it, and whether there is room: before any of it is stored.
    session_client::ask(cx.env, &id, principal(), SessionCall::AuthorizeMedia { artifact_type }).await?;
    let store = MediaStore::of(cx.env)?;
    let artifact_id = ArtifactId::from_bytes(random::bytes());
    let key = storage_keys::media(&id, &artifact_id, file_type);
    let mut object = store.begin(key, ContentType(file_type.mime()));
    let (bytes, metadata) = match receive(&mut form, file_type, &mut object).await {
        Ok(received) => received,
        Err(failure) => {
            object.abandon().await;
            return Err(failure);
        }
    };
    let object_key = object.key().to_owned();
    object.finish().await?;
    let new = NewMedia {
        artifact_id: artifact_id.to_string(),
        artifact_type,
        object_key: object_key.clone(),
        bytes: bytes as i64,
        metadata,
    };
    let call = SessionCall::CreateMediaArtifact(Box::new(new));
    let failure = match session_client::call(cx.env, &id, principal(), call).await {
        Ok(answer) if answer.is_success() => {
            return reply::json(201, &MediaResponse { artifact_id, object_key });
        }
        Ok(answer) if answer.status < 500 => answer.refusal(),
        Ok(_) | Err(_) => Refusal::new(500, ErrorCode::Internal, "Failed to persist media artifact").into(),
    };
    if let Err(error) = store.delete(vec![object_key.clone()]).await {
        let line = Line::warn("control-plane", "media.orphaned").with("key", &object_key);
        line.with("error", error.to_string()).write();
    }
    Err(failure)
}

async fn receive(
    form: &mut UploadForm<'_>,
    file_type: FileType,
    object: &mut PendingObject<'_>,
) -> Result<(usize, serde_json::Map<String, serde_json::Value>), Failure> {
    let bytes = form.receive(file_type, object).await?;
    let kind = media_fields::artifact_type(form.fields())
        .ok_or_else(|| Refusal::invalid_body("artifactType must be screenshot or video"))?;
    if !file_type.fits(kind) {
        let sentence = "A screenshot must be a PNG, JPEG or WebP picture, and a video an MP4 file";
        return Err(Refusal::invalid_body(sentence).into());
    }
    let read_time = |text: &str| clock::from_iso8601(text).map(|at| at.0);
    Ok((bytes, media_fields::metadata(kind, form.fields(), read_time)?))
}

pub(super) async fn get(cx: &Cx<'_>) -> Result<Response, Failure> {
    require_forge(cx.env)?;
    let artifact_id = cx.parameters.get(1).map(String::as_str).unwrap_or_default();
    if !is_file_id(artifact_id) {
        return Err(Refusal::invalid_parameter("Invalid artifact ID").into());
    }
    let id = listed_session(cx).await?;
    let call = SessionCall::Media { artifact_id: artifact_id.to_owned() };
    let answer = session_client::ask(cx.env, &id, identity::principal(&cx.who.caller), call).await?;
    let KnownMedia { object_key, mime_type } = answer.read("reading where media is")?;
    let disposition = format!("inline; filename=\"{artifact_id}.{}\"", mime_type.extension());
    let served = Served { content_type: mime_type.mime(), disposition: &disposition, missing: MISSING };
    let range = cx.head.header("Range");
    MediaStore::of(cx.env)?.serve(&object_key, range.as_deref(), &served).await
}
