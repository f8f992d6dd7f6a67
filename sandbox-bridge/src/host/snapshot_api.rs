//! Snapshots, by HTTP.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use oi_protocol::local_backend::TakeLocalSnapshot;
use serde_json::json;

use super::api::{Asked, HostState, Page, bad_parameter, made, refuse};
use super::snapshots::SnapshotError;
use super::tree_copy::CopyError;

pub(super) fn not_kept(error: &SnapshotError) -> Response {
    let (status, code) = match error {
        SnapshotError::Label => (StatusCode::BAD_REQUEST, "invalid_label"),
        SnapshotError::Unknown(_) => (StatusCode::NOT_FOUND, "no_such_image"),
        SnapshotError::NoSandbox => (StatusCode::NOT_FOUND, "not_found"),
        SnapshotError::Copy(CopyError::TooLong) => (StatusCode::SERVICE_UNAVAILABLE, "too_slow"),
        SnapshotError::Copy(CopyError::TooLarge(_) | CopyError::TooDeep) => {
            (StatusCode::UNPROCESSABLE_ENTITY, "too_large")
        }
        SnapshotError::Copy(CopyError::Io(_)) | SnapshotError::Io(_) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "copy_failed")
        }
    };
    tracing::warn!(event = "host.snapshot_failed", %error);
    refuse(status, code, error.to_string())
}

pub(super) async fn take(State(state): State<HostState>, Path(id): Path<String>, body: Bytes) -> Response {
    let Ok(TakeLocalSnapshot { label }) = serde_json::from_slice(&body) else {
        return refuse(StatusCode::BAD_REQUEST, "invalid_body", "The body must have a `label`.");
    };
    match state.registry.take_snapshot(&id, label).await {
        Ok((snapshot, new)) => made(snapshot, new),
        Err(error) => not_kept(&error),
    }
}

pub(super) async fn list(State(state): State<HostState>, page: Asked<Page>) -> Response {
    let Ok(Query(page)) = page else { return bad_parameter("`limit` must be a number.") };
    let snapshots = &state.registry.snapshots;
    Json(snapshots.list(page.session_id.as_deref(), page.limit(), page.cursor.as_deref())).into_response()
}

pub(super) async fn remove(State(state): State<HostState>, Path(id): Path<String>) -> Response {
    match state.registry.snapshots.delete(&id).await {
        Ok(true) => Json(json!({"status": "deleted"})).into_response(),
        Ok(false) => refuse(StatusCode::NOT_FOUND, "not_found", "There is no snapshot of this name."),
        Err(error) => not_kept(&error),
    }
}
