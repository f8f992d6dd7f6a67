//! What the session changed since its start (session.md 7.8): sandboxes upload bundles and report failures, pages read
//! the newest. A bundle that is not of the baselines that were pinned changes nothing, and neither does a failure.

use oi_protocol::client_socket::ServerMessage;
use oi_protocol::diff::{self, DiffBundle, DiffError, DiffStored, is_diff_id};
use oi_protocol::sandbox_socket::SandboxCommand;
use oi_protocol::session_state::SessionRepository;
use oi_protocol::{ErrorCode, limits};
use serde_json::json;

use crate::baselines::is_same;
use crate::call::CallReply;
use crate::core::Turn;
use crate::diff_row::{self, DiffRow};
use crate::session_row::load_repositories;
use crate::sql::{Sql, SqlError};

/// Why a session without its baselines has no diff.
const UNAVAILABLE: &str = "Changes unavailable for this session";

fn bad_body(sentence: &str) -> CallReply {
    CallReply::refuse(400, ErrorCode::InvalidBody, sentence)
}

/// The state: all but the patches, which are not read.
pub(crate) fn state(sql: &dyn Sql) -> Result<CallReply, SqlError> {
    let row = DiffRow::load(sql)?;
    let repositories = load_repositories(sql)?;
    let comparable = !repositories.is_empty() && repositories.iter().all(|r| r.base_sha.is_some());
    let reason = (!comparable).then_some(UNAVAILABLE);
    let current = row.manifest.as_deref().unwrap_or("null");
    let body = format!(
        r#"{{"version":{},"current":{current},"lastError":{},"unavailableReason":{}}}"#,
        diff::VERSION,
        json!(row.error),
        json!(reason),
    );
    Ok(CallReply { status: 200, body })
}

/// A patch of the newest revision, as text.
pub(crate) fn file(sql: &dyn Sql, revision_id: &str, file_id: &str) -> Result<CallReply, SqlError> {
    if !is_diff_id(revision_id) || !is_diff_id(file_id) {
        return Ok(CallReply::refuse(400, ErrorCode::InvalidParameter, "Invalid diff file identity"));
    }
    let current = diff_row::revision(sql)?;
    let refuse = |status, code: ErrorCode, sentence: &str| {
        CallReply::json(status, &json!({"error": sentence, "code": code, "currentRevisionId": current}))
    };
    if current.as_deref() != Some(revision_id) {
        return Ok(refuse(409, ErrorCode::DiffRevisionStale, "Diff revision is stale"));
    }
    Ok(match diff_row::patch(sql, file_id)? {
        Some(body) => CallReply { status: 200, body },
        None => refuse(404, ErrorCode::DiffFileNotFound, "Diff file not found"),
    })
}

/// Whether a bundle is of these repositories and of where their work started.
fn check_baselines(bundle: &DiffBundle, repositories: &[SessionRepository]) -> Result<(), CallReply> {
    let told =
        |repository: &SessionRepository| bundle.repositories.iter().find(|told| is_same(repository, told.identity()));
    if bundle.repositories.len() != repositories.len() || !repositories.iter().all(|r| told(r).is_some()) {
        return Err(bad_body("Repository set does not match session"));
    }
    if repositories.iter().any(|repository| repository.base_sha.is_none()) {
        return Err(CallReply::refuse(409, ErrorCode::Conflict, "Session start baseline is unavailable"));
    }
    let matches = repositories.iter().all(|repository| {
        let base = told(repository).and_then(diff::DiffRepository::base_sha);
        // What is unavailable may not know where it started.
        base.is_none_or(|base| repository.base_sha.as_deref().is_some_and(|pinned| pinned.eq_ignore_ascii_case(base)))
    });
    if matches { Ok(()) } else { Err(bad_body("Repository baseline does not match session")) }
}

impl Turn<'_, '_> {
    /// A sandbox uploads what changed. It takes the place of the bundle before.
    pub(crate) fn store_diff(&mut self, bundle: DiffBundle) -> Result<CallReply, SqlError> {
        if let Err(bad) = bundle.check() {
            self.out.log.push(format!("diff bundle refused: {bad}"));
            return Ok(bad_body("Invalid session diff bundle"));
        }
        if let Err(refusal) = check_baselines(&bundle, &load_repositories(self.sql)?) {
            return Ok(refusal);
        }
        let revision_id = hex::encode(self.cx.random_id());
        if !diff_row::store(self.sql, &revision_id, bundle)? {
            let sentence = format!("Session diff bundles must be {} bytes or smaller", limits::DIFF_BUNDLE_MAX_BYTES);
            return Ok(CallReply::refuse(413, ErrorCode::TooLarge, sentence));
        }
        self.tell_diff(Some(revision_id.clone()));
        Ok(CallReply::json(200, &DiffStored { revision_id }))
    }

    /// A sandbox could not take a bundle. The one that is there stays.
    pub(crate) fn diff_failed(&mut self, error: String) -> Result<CallReply, SqlError> {
        if !diff::is_error(&error) {
            return Ok(bad_body("Invalid session diff failure"));
        }
        diff_row::fail(self.sql, &DiffError { message: error, occurred_at: self.cx.now })?;
        let revision_id = diff_row::revision(self.sql)?;
        self.tell_diff(revision_id);
        Ok(CallReply::json(200, &json!({})))
    }

    /// Somebody asks for a new bundle; it comes by an upload.
    pub(crate) fn retry_diff(&mut self) -> CallReply {
        if self.sockets.bridge.is_none() {
            return CallReply::refuse(409, ErrorCode::Conflict, "Sandbox is not connected");
        }
        self.command(&SandboxCommand::RefreshDiff);
        CallReply::json(202, &json!({"accepted": true}))
    }

    fn tell_diff(&mut self, revision_id: Option<String>) {
        self.broadcast(&ServerMessage::DiffStateChanged { revision_id, updated_at: self.cx.now });
    }
}
