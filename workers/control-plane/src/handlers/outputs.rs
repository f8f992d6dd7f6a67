//! What tools printed, where it is too long for the timeline: stored by the sandbox, read by people.

use oi_session::call::SessionCall;
use oi_session::storage_keys;
use oi_worker_kit::{Failure, Refusal, reply, request_body};
use serde_json::json;
use worker::Response;

use super::sandbox_broker::listed_session;
use crate::identity;
use crate::media_store::{ContentType, MediaStore, Served};
use crate::request::Cx;
use crate::session_client;

const TEXT: &str = "text/plain; charset=utf-8";
const MISSING: &str = "Output not found";

fn output_id<'c>(cx: &'c Cx<'_>) -> Result<&'c str, Refusal> {
    let id = cx.parameters.get(1).map(String::as_str).unwrap_or_default();
    if storage_keys::is_output_id(id) { Ok(id) } else { Err(Refusal::not_found(MISSING)) }
}

pub(super) async fn put(cx: &Cx<'_>) -> Result<Response, Failure> {
    let output_id = output_id(cx)?;
    let request = cx.stream()?;
    let bytes = request_body::require_length(request, oi_protocol::limits::OUTPUT_FILE_MAX_BYTES)? as i64;
    let id = listed_session(cx).await?;
    let call = SessionCall::AuthorizeOutput { output_id: output_id.to_owned(), bytes };
    session_client::ask(cx.env, &id, identity::principal(&cx.who.caller), call).await?;
    let store = MediaStore::of(cx.env)?;
    store.put_request(&storage_keys::output(&id, output_id), request, ContentType(TEXT)).await?;
    reply::json(201, &json!({"outputRef": output_id}))
}

pub(super) async fn get(cx: &Cx<'_>) -> Result<Response, Failure> {
    let output_id = output_id(cx)?;
    let id = listed_session(cx).await?;
    let range = cx.head.header("Range");
    let disposition = format!("attachment; filename=\"{output_id}.txt\"");
    let served = Served { content_type: TEXT, disposition: &disposition, missing: MISSING };
    MediaStore::of(cx.env)?.serve(&storage_keys::output(&id, output_id), range.as_deref(), &served).await
}
