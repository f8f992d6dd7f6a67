//! A sandbox backend that a test plays: it starts nothing and remembers what it was asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use oi_protocol::UnixMillis;
use oi_protocol::local_backend::{
    CreateSandboxRequest, LocalSandbox, LocalSandboxList, LocalSandboxStatus, LocalSnapshot, TakeLocalSnapshot,
};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::sleep;

use crate::{Failed, Outcome};

#[derive(Default)]
struct Record {
    created: Vec<CreateSandboxRequest>,
    stopped: Vec<String>,
}

/// A running backend.
#[derive(Clone)]
pub struct Backend {
    /// Where it listens.
    pub url: String,
    /// Its bearer.
    pub secret: String,
    record: Arc<Mutex<Record>>,
}

fn describe(request: &CreateSandboxRequest, record: &Record) -> LocalSandbox {
    let stopped = record.stopped.contains(&request.sandbox_id);
    LocalSandbox {
        sandbox_id: request.sandbox_id.clone(),
        session_id: request.session_id.clone(),
        generation: request.generation,
        status: if stopped { LocalSandboxStatus::Stopped } else { LocalSandboxStatus::Running },
        created_at: UnixMillis(0),
        ended_because: None,
        access: None,
    }
}

async fn create(
    State(record): State<Arc<Mutex<Record>>>,
    Json(request): Json<CreateSandboxRequest>,
) -> (StatusCode, Json<LocalSandbox>) {
    let mut record = record.lock().await;
    let answer = describe(&request, &record);
    if record.created.iter().any(|known| known.sandbox_id == request.sandbox_id) {
        return (StatusCode::OK, Json(answer));
    }
    record.created.push(request);
    (StatusCode::CREATED, Json(answer))
}

async fn list(
    State(record): State<Arc<Mutex<Record>>>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Json<LocalSandboxList> {
    let record = record.lock().await;
    let session = query.get("sessionId");
    let sandboxes = record
        .created
        .iter()
        .filter(|request| session.is_none_or(|id| *id == request.session_id))
        .map(|request| describe(request, &record))
        .collect();
    Json(LocalSandboxList { sandboxes, next_cursor: None })
}

async fn show(
    State(record): State<Arc<Mutex<Record>>>,
    Path(id): Path<String>,
) -> Result<Json<LocalSandbox>, StatusCode> {
    let record = record.lock().await;
    let found = record.created.iter().find(|request| request.sandbox_id == id);
    found.map(|request| Json(describe(request, &record))).ok_or(StatusCode::NOT_FOUND)
}

async fn stop(State(record): State<Arc<Mutex<Record>>>, Path(id): Path<String>) -> Json<Value> {
    record.lock().await.stopped.push(id);
    Json(json!({"status": "stopped"}))
}

async fn resume(
    State(record): State<Arc<Mutex<Record>>>,
    Path(id): Path<String>,
    Json(request): Json<CreateSandboxRequest>,
) -> Result<Json<LocalSandbox>, StatusCode> {
    let mut record = record.lock().await;
    if !record.created.iter().any(|known| known.sandbox_id == id) {
        return Err(StatusCode::NOT_FOUND);
    }
    record.stopped.retain(|stopped| *stopped != id);
    let answer = describe(&request, &record);
    record.created.push(request);
    Ok(Json(answer))
}

async fn take_snapshot(
    State(record): State<Arc<Mutex<Record>>>,
    Path(id): Path<String>,
    Json(TakeLocalSnapshot { label }): Json<TakeLocalSnapshot>,
) -> Result<Json<LocalSnapshot>, StatusCode> {
    let record = record.lock().await;
    let sandbox = record.created.iter().find(|known| known.sandbox_id == id).ok_or(StatusCode::NOT_FOUND)?;
    Ok(Json(LocalSnapshot {
        image_id: format!("img-{label}"),
        label,
        session_id: sandbox.session_id.clone(),
        sandbox_id: id,
        build_id: None,
        created_at: UnixMillis(0),
        bytes: 0,
    }))
}

async fn delete_snapshot() -> Json<Value> {
    Json(json!({"status": "deleted"}))
}

impl Backend {
    /// Listens on a free port of the loopback.
    pub async fn start() -> Outcome<Self> {
        let record = Arc::new(Mutex::new(Record::default()));
        let app = Router::new()
            .route("/health", get(|| async { Json(json!({"status": "healthy"})) }))
            .route("/v1/sandboxes", post(create).get(list))
            .route("/v1/sandboxes/{id}", get(show).delete(stop))
            .route("/v1/sandboxes/{id}/resume", post(resume))
            .route("/v1/sandboxes/{id}/snapshots", post(take_snapshot))
            .route("/v1/snapshots/{id}", delete(delete_snapshot))
            .with_state(Arc::clone(&record));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(Self { url, secret: "a secret of the test's own backend".to_owned(), record })
    }

    /// The newest sandbox of a session, once the backend was asked for it.
    pub async fn sandbox_of(&self, session: &str) -> Outcome<CreateSandboxRequest> {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(30) {
            let record = self.record.lock().await;
            if let Some(request) = record.created.iter().rev().find(|request| request.session_id == session) {
                return Ok(request.clone());
            }
            drop(record);
            sleep(Duration::from_millis(20)).await;
        }
        Err(Failed(format!("the backend was not asked for a sandbox of {session}")))
    }

    /// How many sandboxes a session asked for.
    pub async fn count_of(&self, session: &str) -> usize {
        self.record.lock().await.created.iter().filter(|request| request.session_id == session).count()
    }
}
