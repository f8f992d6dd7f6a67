//! Pull requests as the forge has them (session.md 7.4): told by its webhooks, or read when somebody looks. They never
//! move the session in the list.

use oi_protocol::client_socket::ServerMessage;
use oi_protocol::session_state::SessionArtifact;
use oi_protocol::{ArtifactId, ErrorCode, SessionId, UnixMillis};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::artifacts;
use crate::call::CallReply;
use crate::core::Turn;
use crate::job::Job;
use crate::sql::{Columns, SqlError, params};

/// Least time between two reads of a session's pull requests, whoever asks, in ms.
const REFRESH_EVERY_MS: i64 = 60_000;
/// Pull requests of one read. Open ones and newer ones go first.
const REFRESH_MAX: usize = 20;
/// Longest text of a snapshot, in bytes.
const TEXT_MAX_BYTES: usize = 4_096;

/// Where a pull request is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LifecycleState {
    /// Open, a draft or not.
    Open,
    /// Closed without a merge.
    Closed,
    /// Merged.
    Merged,
}

impl LifecycleState {
    /// The word, in JSON and SQL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Merged => "merged",
        }
    }
}

/// A pull request at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PullRequestSnapshot {
    /// Number in the repository.
    pub number: i64,
    /// Its page.
    pub url: String,
    /// Where it is in its life.
    pub lifecycle_state: LifecycleState,
    /// Only while it is open.
    pub is_draft: bool,
    /// Head branch.
    pub head_branch: String,
    /// Base branch.
    pub base_branch: String,
    /// Commit at the head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_sha: Option<String>,
    /// Owner.
    pub repo_owner: String,
    /// Name.
    pub repo_name: String,
    /// The forge's number for the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_external_id: Option<String>,
    /// Title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// When it was opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_created_at: Option<UnixMillis>,
    /// When the forge changed it last: an older snapshot says nothing new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_updated_at: Option<UnixMillis>,
    /// When it was merged; only of what is merged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merged_at: Option<UnixMillis>,
    /// When it was closed; only of what is not open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<UnixMillis>,
}

impl PullRequestSnapshot {
    /// `draft`, or the word of its life.
    pub const fn display_state(&self) -> &'static str {
        if self.is_draft { "draft" } else { self.lifecycle_state.as_str() }
    }

    /// What the state of an artifact (`open`, `draft`, `closed` or `merged`) says of life and draft.
    pub fn read_display_state(state: &str) -> (LifecycleState, bool) {
        match state {
            "merged" => (LifecycleState::Merged, false),
            "closed" => (LifecycleState::Closed, false),
            "draft" => (LifecycleState::Open, true),
            _ => (LifecycleState::Open, false),
        }
    }

    fn is_valid(&self) -> bool {
        let texts = [&self.url, &self.head_branch, &self.base_branch, &self.repo_owner, &self.repo_name];
        let more = [&self.head_sha, &self.repository_external_id, &self.title];
        let mut texts = texts.into_iter().chain(more.into_iter().flatten());
        self.number > 0
            && (!self.is_draft || self.lifecycle_state == LifecycleState::Open)
            && texts.all(|text| !text.is_empty() && text.len() <= TEXT_MAX_BYTES)
    }

    /// Drops the times that its life does not have.
    fn settled(mut self) -> Self {
        self.merged_at = self.merged_at.filter(|_| self.lifecycle_state == LifecycleState::Merged);
        self.closed_at = self.closed_at.filter(|_| self.lifecycle_state != LifecycleState::Open);
        self
    }

    /// Puts what it says into an artifact's metadata; other keys stay.
    pub(crate) fn merge_into(&self, metadata: &mut Map<String, Value>) {
        let mut put = |key: &str, value: Value| metadata.insert(key.to_owned(), value);
        put("number", json!(self.number));
        put("state", json!(self.display_state()));
        put("lifecycleState", json!(self.lifecycle_state));
        put("isDraft", json!(self.is_draft));
        put("draft", json!(self.is_draft));
        put("head", json!(self.head_branch));
        put("base", json!(self.base_branch));
        for (key, text) in [
            ("headSha", &self.head_sha),
            ("repositoryExternalId", &self.repository_external_id),
            ("title", &self.title),
        ] {
            if let Some(text) = text {
                put(key, json!(text));
            }
        }
        if let Some(at) = self.provider_updated_at {
            put(PROVIDER_UPDATED_AT, json!(at));
        }
        for (key, name) in [("repoOwner", &self.repo_owner), ("repoName", &self.repo_name)] {
            // The session's own spelling stays.
            let same = metadata.get(key).and_then(Value::as_str).is_some_and(|known| known.eq_ignore_ascii_case(name));
            if !same {
                metadata.insert(key.to_owned(), json!(name));
            }
        }
    }
}

const PROVIDER_UPDATED_AT: &str = "providerUpdatedAt";

/// A pull request that is to be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WantedPullRequest {
    /// The artifact.
    pub artifact_id: ArtifactId,
    /// Owner.
    pub repo_owner: String,
    /// Name.
    pub repo_name: String,
    /// Number.
    pub number: i64,
}

/// Read pull requests from the forge. Repeated as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RefreshPullRequests {
    /// The session.
    pub session_id: SessionId,
    /// At most 20.
    pub pull_requests: Vec<WantedPullRequest>,
}

/// Tell D1 of a pull request, so that a webhook finds the session. Idempotent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordPullRequest {
    /// The session.
    pub session_id: SessionId,
    /// The artifact.
    pub artifact_id: ArtifactId,
    /// When the session made the artifact.
    pub created_at: UnixMillis,
    /// When the session changed it last: D1 keeps the newest.
    pub updated_at: UnixMillis,
    /// What it is.
    pub snapshot: PullRequestSnapshot,
}

fn provider_updated_at(metadata: &Map<String, Value>) -> Option<i64> {
    metadata.get(PROVIDER_UPDATED_AT).and_then(Value::as_i64)
}

/// Whether an artifact is the pull request that a snapshot is of. A repository that got another name is known by the
/// forge's number for it.
fn is_of(artifact: &SessionArtifact, snapshot: &PullRequestSnapshot) -> bool {
    let external = artifact.metadata.as_ref().and_then(|m| m.get("repositoryExternalId")).and_then(Value::as_str);
    artifacts::number_of(artifact) == Some(snapshot.number)
        && (artifacts::is_pull_request_of(artifact, &snapshot.repo_owner, &snapshot.repo_name)
            || (external.is_some() && external == snapshot.repository_external_id.as_deref()))
}

impl Turn<'_, '_> {
    /// The forge told of a pull request of this session.
    pub(crate) fn take_pull_request_snapshot(
        &mut self,
        artifact_id: Option<&ArtifactId>,
        snapshot: PullRequestSnapshot,
    ) -> Result<CallReply, SqlError> {
        if !snapshot.is_valid() {
            return Ok(CallReply::refuse(400, ErrorCode::InvalidBody, "Invalid pull request snapshot"));
        }
        let known = match artifact_id {
            Some(id) => artifacts::by_id(self.sql, id)?.filter(|artifact| is_of(artifact, &snapshot)),
            None => artifacts::pull_requests(self.sql)?.into_iter().find(|artifact| is_of(artifact, &snapshot)),
        };
        let Some(artifact) = known else {
            return Ok(CallReply::refuse(404, ErrorCode::NotFound, "Pull request artifact not found"));
        };
        let applied = self.apply_pull_request_snapshot(artifact, snapshot)?;
        Ok(CallReply::json(200, &json!({"applied": applied})))
    }

    /// Pull requests were read.
    pub(crate) fn pull_requests_read(&mut self, read: Vec<(ArtifactId, PullRequestSnapshot)>) -> Result<(), SqlError> {
        for (id, snapshot) in read {
            let known = artifacts::by_id(self.sql, &id)?.filter(|artifact| is_of(artifact, &snapshot));
            if let Some(artifact) = known.filter(|_| snapshot.is_valid()) {
                self.apply_pull_request_snapshot(artifact, snapshot)?;
            }
        }
        Ok(())
    }

    /// Takes a snapshot that is not older than what is stored; says whether it changed anything that is shown.
    fn apply_pull_request_snapshot(
        &mut self,
        mut artifact: SessionArtifact,
        snapshot: PullRequestSnapshot,
    ) -> Result<bool, SqlError> {
        let snapshot = snapshot.settled();
        let before = artifact.metadata.take().unwrap_or_default();
        let is_older = snapshot
            .provider_updated_at
            .zip(provider_updated_at(&before))
            .is_some_and(|(told, stored)| told.0 < stored);
        if is_older {
            return Ok(false);
        }
        let mut metadata = before.clone();
        snapshot.merge_into(&mut metadata);
        if metadata == before && artifact.url.as_ref() == Some(&snapshot.url) {
            return Ok(false);
        }
        let shown = |metadata: &Map<String, Value>| {
            let mut metadata = metadata.clone();
            metadata.remove(PROVIDER_UPDATED_AT);
            metadata
        };
        let is_news = shown(&metadata) != shown(&before) || artifact.url.as_ref() != Some(&snapshot.url);
        artifact.metadata = Some(metadata);
        artifact.url = Some(snapshot.url.clone());
        if is_news {
            artifact.updated_at = Some(self.cx.now);
        }
        artifacts::save(self.sql, &artifact)?;
        if is_news {
            self.record_pull_request(&artifact, snapshot)?;
            self.broadcast(&ServerMessage::ArtifactUpdated { artifact });
        }
        Ok(is_news)
    }

    /// Tells D1, where webhooks look for the session of a pull request.
    pub(crate) fn record_pull_request(
        &mut self,
        artifact: &SessionArtifact,
        snapshot: PullRequestSnapshot,
    ) -> Result<(), SqlError> {
        let Some(session) = &self.hot.session else { return Ok(()) };
        let job = Job::RecordPullRequest(Box::new(RecordPullRequest {
            session_id: session.session_id.clone(),
            artifact_id: artifact.id.clone(),
            created_at: artifact.created_at,
            updated_at: artifact.updated_at.unwrap_or(artifact.created_at),
            snapshot,
        }));
        self.enqueue(&job, Some(&format!("pull_request:{}", artifact.id)))
    }

    /// Has the pull requests read, at most once a minute.
    pub(crate) fn refresh_pull_requests(&mut self) -> Result<(), SqlError> {
        let Some(session) = self.hot.session.as_ref().filter(|session| session.pr_count > 0) else { return Ok(()) };
        let session_id = session.session_id.clone();
        let asked = self.sql.run("SELECT asked_at FROM pull_request_refreshes", &[])?;
        let asked = asked.into_iter().next().map(|row| Columns::of(row).int()).transpose()?.map(UnixMillis);
        if asked.is_some_and(|at| (0..REFRESH_EVERY_MS).contains(&self.cx.now.since(at))) {
            return Ok(());
        }
        let mut known = artifacts::pull_requests(self.sql)?;
        let is_settled = |artifact: &SessionArtifact| {
            let state = artifact.metadata.as_ref().and_then(|m| m.get("state")).and_then(Value::as_str);
            matches!(state, Some("merged" | "closed"))
        };
        // Stable: of each kind the newest stay first.
        known.sort_by_key(is_settled);
        let pull_requests: Vec<_> = known.into_iter().filter_map(wanted).take(REFRESH_MAX).collect();
        if pull_requests.is_empty() {
            return Ok(());
        }
        self.sql.run(
            "INSERT OR REPLACE INTO pull_request_refreshes (one, asked_at) VALUES (1, ?)",
            params![self.cx.now.0],
        )?;
        let job = Job::RefreshPullRequests(RefreshPullRequests { session_id, pull_requests });
        self.enqueue(&job, Some("refresh_pull_requests"))
    }
}

fn wanted(artifact: SessionArtifact) -> Option<WantedPullRequest> {
    let number = artifacts::number_of(&artifact).filter(|number| *number > 0)?;
    let metadata = artifact.metadata?;
    let name = |key: &str| metadata.get(key).and_then(Value::as_str).map(str::to_owned);
    let (repo_owner, repo_name) = name("repoOwner").zip(name("repoName"))?;
    Some(WantedPullRequest { artifact_id: artifact.id, repo_owner, repo_name, number })
}
