//! Builds of images, by HTTP: a sandbox without a session, whose files become an image.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, header};
use serde_json::json;

use super::api::{HostState, described, made, not_created, refuse, to_its_end};
use super::builds::build_label;
use super::snapshot_api::not_kept;

fn unknown() -> Response {
    refuse(StatusCode::NOT_FOUND, "not_found", "There is no build of this name.")
}

pub(super) async fn create(State(state): State<HostState>, body: Bytes) -> Response {
    let request = match described(&body) {
        Ok(request) => request,
        Err(refusal) => return *refusal,
    };
    match to_its_end(async move { state.registry.create_build(request).await }).await {
        Ok((build, new)) => made(build, new),
        Err(error) => not_created(&error),
    }
}

pub(super) async fn show(State(state): State<HostState>, Path(id): Path<String>) -> Response {
    state.registry.build(&id).map_or_else(unknown, |build| Json(build).into_response())
}

pub(super) async fn log(State(state): State<HostState>, Path(id): Path<String>) -> Response {
    let text = |text: String| ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response();
    state.registry.build_log(&id).map_or_else(unknown, text)
}

/// Keeps the build's files as an image. The same again answers the same image.
pub(super) async fn snapshot(State(state): State<HostState>, Path(id): Path<String>) -> Response {
    let sandbox_id = state.registry.build(&id).map(|build| build.sandbox.sandbox_id).unwrap_or_default();
    match state.registry.take_snapshot(&sandbox_id, build_label(&id)).await {
        Ok((image, new)) => made(image, new),
        Err(error) => not_kept(&error),
    }
}

/// Ends a build and deletes its files. Its image stays.
pub(super) async fn discard(State(state): State<HostState>, Path(id): Path<String>) -> Response {
    let Some(build) = state.registry.build(&id) else { return unknown() };
    state.registry.discard(&build.sandbox.sandbox_id).await;
    Json(json!({"status": "stopped"})).into_response()
}
