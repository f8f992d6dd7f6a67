//! Files that people attach to prompts: uploaded before the prompt, read by people and by the sandbox.
//!
//! A file is recorded in the session before it is an object, so that no object is there that nobody knows: one whose
//! writing failed afterwards is swept with what no prompt took.

use oi_protocol::client_socket::is_file_id;
use oi_protocol::rest::AttachmentResponse;
use oi_protocol::{ErrorCode, SessionId, limits};
use oi_session::attachments::{KnownAttachment, Recorded, StaleAttachment};
use oi_session::call::{Principal, SessionCall};
use oi_session::file_type::FileType;
use oi_session::storage_keys;
use oi_worker_kit::log::Line;
use oi_worker_kit::{Failure, Refusal, random, reply};
use worker::Response;

use super::sandbox_broker::listed_session;
use crate::identity;
use crate::media_store::{ContentType, MediaStore, Served};
use crate::request::Cx;
use crate::session_client;
use crate::source_control::require_forge;
use crate::upload_form::{FormRules, UploadForm, body_bytes};

const MISSING: &str = "Attachment not found";
/// Each may ask for a clean-up first.
const RECORD_ATTEMPTS: usize = 3;

static RULES: FormRules = FormRules {
    max_body_bytes: body_bytes(limits::ATTACHMENT_MAX_BYTES),
    body_too_large: "Attachment request is too large",
    accepts: FileType::is_attachment,
    not_accepted: "Attachment is not a supported image",
    file_too_large: (400, "An attachment may have at most 10 MiB"),
    code: ErrorCode::InvalidAttachments,
};

pub(super) async fn post(cx: &Cx<'_>) -> Result<Response, Failure> {
    require_forge(cx.env)?;
    let id = listed_session(cx).await?;
    let mut form = UploadForm::open(cx, &RULES)?;
    let file_type = form.find_file().await?;
    let store = MediaStore::of(cx.env)?;
    let attachment_id = random::hex::<16>();
    let mut object = store.begin(storage_keys::attachment(&id, &attachment_id), ContentType(file_type.mime()));
    let recorded = match form.receive(file_type, &mut object).await {
        Ok(bytes) => record(cx, &store, &id, &attachment_id, file_type, bytes as i64).await,
        Err(failure) => Err(failure),
    };
    if let Err(failure) = recorded {
        object.abandon().await;
        return Err(failure);
    }
    object.finish().await?;
    reply::json(201, &AttachmentResponse { attachment_id, mime_type: file_type.mime().to_owned() })
}

/// Records a file, after what nobody uses was deleted where the session asks for that.
async fn record(
    cx: &Cx<'_>,
    store: &MediaStore,
    id: &SessionId,
    attachment_id: &str,
    file_type: FileType,
    bytes: i64,
) -> Result<(), Failure> {
    for _ in 0..RECORD_ATTEMPTS {
        let call = SessionCall::RecordAttachment { attachment_id: attachment_id.to_owned(), file_type, bytes };
        match registry(cx, id, identity::principal(&cx.who.caller), call).await?.read("reading a record")? {
            Recorded::Ok => return Ok(()),
            Recorded::CleanupRequired { cleanup_claimed_at, stale_attachments } => {
                let is_deleted = delete_all(store, &stale_attachments).await;
                let ids = stale_attachments.into_iter().map(|stale| stale.attachment_id).collect();
                let (acknowledged, released) = if is_deleted { (ids, Vec::new()) } else { (Vec::new(), ids) };
                let call = SessionCall::CompleteAttachmentCleanup {
                    cleanup_claimed_at,
                    acknowledged_attachment_ids: acknowledged,
                    released_attachment_ids: released,
                };
                registry(cx, id, Principal::Platform, call).await?;
                if !is_deleted {
                    break;
                }
            }
        }
    }
    let sentence = "Old attachments could not be cleaned up. Try again.";
    Err(Refusal::new(503, ErrorCode::Retry, sentence).into())
}

/// One call deletes them all, or none counts as deleted: deleting one again does no harm.
async fn delete_all(store: &MediaStore, stale: &[StaleAttachment]) -> bool {
    let deleted = store.delete(stale.iter().map(|stale| stale.object_key.clone()).collect()).await;
    if let Err(failure) = &deleted {
        Line::warn("control-plane", "attachments.cleanup_failed").with("error", failure.to_string()).write();
    }
    deleted.is_ok()
}

/// Calls the session, which knows the files. That it cannot answer is told apart from what it refuses.
async fn registry(
    cx: &Cx<'_>,
    id: &SessionId,
    principal: Principal,
    call: SessionCall,
) -> Result<session_client::Answer, Failure> {
    let unavailable = || Refusal::upstream("The session could not record the attachment. Try again.").into();
    match session_client::call(cx.env, id, principal, call).await {
        Ok(answer) if answer.is_success() => Ok(answer),
        Ok(answer) if answer.status < 500 => Err(answer.refusal()),
        Ok(_) | Err(_) => Err(unavailable()),
    }
}

pub(super) async fn get(cx: &Cx<'_>) -> Result<Response, Failure> {
    require_forge(cx.env)?;
    let attachment_id = cx.parameters.get(1).map(String::as_str).unwrap_or_default();
    if !is_file_id(attachment_id) {
        return Err(Refusal::not_found(MISSING).into());
    }
    let id = listed_session(cx).await?;
    let call = SessionCall::Attachment { attachment_id: attachment_id.to_owned() };
    let answer = session_client::ask(cx.env, &id, identity::principal(&cx.who.caller), call).await?;
    let KnownAttachment { mime_type } = answer.read("reading an attachment's type")?;
    let disposition = format!("inline; filename=\"{attachment_id}.{}\"", mime_type.extension());
    let served = Served { content_type: mime_type.mime(), disposition: &disposition, missing: MISSING };
    let range = cx.head.header("Range");
    let key = storage_keys::attachment(&id, attachment_id);
    MediaStore::of(cx.env)?.serve(&key, range.as_deref(), &served).await
}
