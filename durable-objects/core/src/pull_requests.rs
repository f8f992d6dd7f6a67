//! Pull requests: a stored operation pushes through the sandbox, then asks the forge, and answers who waits.

use oi_protocol::client_socket::ServerMessage;
use oi_protocol::event::{ArtifactEvent, Event};
use oi_protocol::rest::{CreatePullRequestRequest, CreatePullRequestResponse};
use oi_protocol::sandbox_socket::{PushSpec, SandboxCommand};
use oi_protocol::session_state::{ArtifactType, SessionArtifact, SessionRepository};
use oi_protocol::text::utf16_len;
use oi_protocol::{ArtifactId, ErrorCode, MessageId};
use serde_json::json;

use crate::artifacts;
use crate::call::CallReply;
use crate::core::Turn;
use crate::input::ReplyId;
use crate::job::{Job, JobResult, OpenPullRequest};
use crate::participants::Participant;
use crate::prompts::is_valid_request_id;
use crate::pull_request_row::{Operation, next_deadline, prune};
use crate::pull_request_snapshots::PullRequestSnapshot;
use crate::session_row::{load_repositories, save_repository};
use crate::sql::{Columns, SqlError, params};

/// A push must be answered within this, in ms.
const PUSH_WITHIN_MS: i64 = 360_000;
/// The forge must have answered within this after the push, in ms; the outbox has its own budget within it.
const OPEN_WITHIN_MS: i64 = 400_000;
/// Longest title, as the forge has it.
const TITLE_MAX_UTF16: usize = 256;
/// Longest body; the forge takes a little more, which the footer needs.
const BODY_MAX_UTF16: usize = 60_000;

/// A branch name that git and the forge accept, or `None`.
pub(crate) fn sanitize_branch(name: &str) -> Option<String> {
    let name = name.trim();
    let bad_character = |c: char| c.is_control() || " ~^:?*[]\\".contains(c);
    let bad = name.is_empty()
        || name.len() > 200
        || name == "HEAD"
        || name.starts_with(['/', '.', '-'])
        || name.ends_with(['/', '.'])
        || name.contains("..")
        || name.contains("//")
        || name.contains("@{")
        || name.split('/').any(|part| part.starts_with('.') || part.to_ascii_lowercase().ends_with(".lock"))
        || name.contains(bad_character);
    (!bad).then(|| name.to_owned())
}

/// Percent-encodes one path segment.
fn segment(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(b).to_string(),
            _ => format!("%{b:02X}"),
        })
        .collect()
}

type Refused = (u16, ErrorCode, String);

fn target<'a>(
    repositories: &'a [SessionRepository],
    request: &CreatePullRequestRequest,
) -> Result<&'a SessionRepository, Refused> {
    let bad = |sentence: String| Err((400, ErrorCode::InvalidBody, sentence));
    match (&request.repo_owner, &request.repo_name) {
        (Some(owner), Some(name)) => repositories
            .iter()
            .find(|r| r.repo_owner.eq_ignore_ascii_case(owner) && r.repo_name.eq_ignore_ascii_case(name))
            .ok_or_else(|| {
                (403, ErrorCode::Forbidden, format!("Repository {owner}/{name} is not part of this session"))
            }),
        (None, None) => match repositories {
            [] => bad("Pull requests require a repository context".to_owned()),
            [only] => Ok(only),
            several => {
                let names: Vec<String> = several.iter().map(|r| format!("{}/{}", r.repo_owner, r.repo_name)).collect();
                bad(format!("Name the repository: this session has {}", names.join(", ")))
            }
        },
        _ => bad("repoOwner and repoName must be provided together".to_owned()),
    }
}

/// The branch to push to, which is never the base: the one that was asked for, that of the session's newest pull request
/// into this base, the session's branch, or a generated one. A pull request into the branch of another is stacked on it, on
/// a branch of its own.
fn choose_head(
    asked: Option<&str>,
    base: &str,
    session_branch: Option<&str>,
    generated: &str,
    known: &[SessionArtifact],
) -> String {
    let has_head = |branch: &str| known.iter().any(|artifact| artifacts::head_of(artifact) == Some(branch));
    let of_base = known.iter().find(|artifact| artifacts::base_of(artifact) == Some(base)).and_then(artifacts::head_of);
    let is_stacked = has_head(base);
    let own = [session_branch, Some(generated)].into_iter().flatten().filter(|own| !is_stacked || !has_head(own));
    let found = [asked, of_base].into_iter().flatten().chain(own).filter_map(sanitize_branch).find(|head| head != base);
    found.unwrap_or_else(|| {
        let mut numbered = (2_u32..).map(|number| format!("{generated}-{number}"));
        // There are fewer pull requests than numbers.
        numbered.find(|head| head != base && !has_head(head)).unwrap_or_default()
    })
}

impl Turn<'_, '_> {
    /// Begins an operation, or meets the one that the same request began.
    pub(crate) fn create_pull_request(
        &mut self,
        reply: ReplyId,
        request: &CreatePullRequestRequest,
        key: Option<&str>,
    ) -> Result<(), SqlError> {
        match self.begin_pull_request(reply, request, key)? {
            Ok(()) => Ok(()),
            Err((status, code, sentence)) => {
                self.out.replies.push((reply, CallReply::refuse(status, code, sentence)));
                Ok(())
            }
        }
    }

    fn begin_pull_request(
        &mut self,
        reply: ReplyId,
        request: &CreatePullRequestRequest,
        key: Option<&str>,
    ) -> Result<Result<(), Refused>, SqlError> {
        if key.is_some_and(|key| !is_valid_request_id(key)) {
            let sentence = "Idempotency-Key must have 1 to 128 characters".to_owned();
            return Ok(Err((400, ErrorCode::InvalidParameter, sentence)));
        }
        if let Some(key) = key
            && self.meet_operation(reply, key)?
        {
            return Ok(Ok(()));
        }
        if request.title.trim().is_empty() || request.body.trim().is_empty() {
            return Ok(Err((400, ErrorCode::InvalidBody, "title and body are required".to_owned())));
        }
        if utf16_len(&request.title) > TITLE_MAX_UTF16 || utf16_len(&request.body) > BODY_MAX_UTF16 {
            let sentence = "title may have 256 characters and body 60000".to_owned();
            return Ok(Err((400, ErrorCode::InvalidBody, sentence)));
        }
        let repositories = load_repositories(self.sql)?;
        let repository = match target(&repositories, request) {
            Ok(repository) => repository,
            Err(refused) => return Ok(Err(refused)),
        };
        let Some((session, running)) = self.hot.session.as_ref().zip(self.hot.running.as_ref()) else {
            let sentence = "No active prompt found. PR creation must be triggered by a user prompt.";
            return Ok(Err((400, ErrorCode::Conflict, sentence.to_owned())));
        };
        let (owner, name) = (repository.repo_owner.as_str(), repository.repo_name.as_str());
        let open = self.sql.run(
            "SELECT 1 FROM pull_request_operations WHERE repo_owner = ? AND repo_name = ? AND state IN ('pushing', 'opening')",
            params![owner, name],
        )?;
        if !open.is_empty() {
            let sentence = format!("A pull request is already being created for {owner}/{name} in this session.");
            return Ok(Err((409, ErrorCode::Conflict, sentence)));
        }
        let base = request.base_branch.as_deref().unwrap_or(&repository.base_branch);
        let Some(base) = sanitize_branch(base) else {
            return Ok(Err((400, ErrorCode::InvalidBody, "baseBranch must be a valid branch name".to_owned())));
        };
        if request.head_branch.as_deref().is_some_and(|head| sanitize_branch(head).is_none()) {
            return Ok(Err((400, ErrorCode::InvalidBody, "headBranch must be a valid branch name".to_owned())));
        }
        let known: Vec<SessionArtifact> = artifacts::pull_requests(self.sql)?
            .into_iter()
            .filter(|artifact| artifacts::is_pull_request_of(artifact, owner, name))
            .collect();
        let generated = format!("open-inspect/{}", session.session_id);
        let head =
            choose_head(request.head_branch.as_deref(), &base, repository.branch_name.as_deref(), &generated, &known);
        let existing = known.into_iter().find(|artifact| artifacts::head_of(artifact) == Some(head.as_str()));
        let id = hex::encode(self.cx.random_id());
        self.sql.run(
            "INSERT INTO pull_request_operations (id, request_key, message_id, author_id, repo_owner, repo_name, head,
                base, title, body, draft, state, deadline, existing_number, created_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'pushing', ?, ?, ?)",
            params![
                id.as_str(),
                key.map(str::to_owned),
                running.message_id.as_str(),
                running.author_id.as_str(),
                owner,
                name,
                head.as_str(),
                base,
                request.title.trim(),
                request.body.as_str(),
                request.draft.unwrap_or(false),
                self.cx.now.plus(PUSH_WITHIN_MS).0,
                existing.as_ref().and_then(artifacts::number_of),
                self.cx.now.0,
            ],
        )?;
        self.hot.operations_next = next_deadline(self.sql)?;
        self.hot.waiters.push((id, reply));
        self.push(owner, name, &head);
        Ok(Ok(()))
    }

    /// Attaches to an operation of the same key: answered at once when it has ended.
    fn meet_operation(&mut self, reply: ReplyId, key: &str) -> Result<bool, SqlError> {
        let rows = self
            .sql
            .run("SELECT id, status, reply FROM pull_request_operations WHERE request_key = ?", params![key])?;
        let Some(row) = rows.into_iter().next() else { return Ok(false) };
        let mut c = Columns::of(row);
        let (id, status, body) = (c.text()?, c.opt_int()?, c.opt_text()?);
        match (status, body) {
            (Some(status), Some(body)) => {
                self.out.replies.push((reply, CallReply { status: status as u16, body }));
            }
            _ => self.hot.waiters.push((id, reply)),
        }
        Ok(true)
    }

    fn push(&mut self, owner: &str, name: &str, head: &str) {
        let base = self.cx.config.forge_url.trim_end_matches('/');
        let url =
            format!("{base}/{}/{}.git", owner.split('/').map(segment).collect::<Vec<_>>().join("/"), segment(name));
        // The bridge's credential helper answers for the host, so that no token travels in a command.
        let push_spec = PushSpec {
            remote_url: url.clone(),
            redacted_remote_url: url,
            refspec: format!("HEAD:refs/heads/{head}"),
            target_branch: head.to_owned(),
            repo_owner: owner.to_owned(),
            repo_name: name.to_owned(),
            force: true,
        };
        self.command(&SandboxCommand::Push { push_spec });
    }

    /// Repeats pushes that no answer came for: pushing the same commit twice is harmless.
    pub(crate) fn resend_pushes(&mut self) -> Result<(), SqlError> {
        if self.hot.operations_next.is_none() {
            return Ok(());
        }
        for operation in Operation::select(self.sql, "state = 'pushing'", &[])? {
            self.push(&operation.repo_owner, &operation.repo_name, &operation.head);
        }
        Ok(())
    }

    /// The open push that an answer belongs to: by full identity, or the only one when the answer has none.
    fn pushing(
        &self,
        branch: Option<&str>,
        owner: Option<&str>,
        name: Option<&str>,
    ) -> Result<Option<Operation>, SqlError> {
        let mut open = Operation::select(self.sql, "state = 'pushing'", &[])?;
        match (branch, owner, name) {
            (Some(branch), Some(owner), Some(name)) => Ok(open.into_iter().find(|o| {
                o.head == branch && o.repo_owner.eq_ignore_ascii_case(owner) && o.repo_name.eq_ignore_ascii_case(name)
            })),
            _ => Ok(if open.len() == 1 { open.pop() } else { None }),
        }
    }

    /// The branch is at the forge.
    pub(crate) fn push_completed(
        &mut self,
        branch: Option<&str>,
        owner: Option<&str>,
        name: Option<&str>,
    ) -> Result<(), SqlError> {
        let Some(operation) = self.pushing(branch, owner, name)? else { return Ok(()) };
        self.sql.run(
            "UPDATE pull_request_operations SET state = 'opening', deadline = ? WHERE id = ?",
            params![self.cx.now.plus(OPEN_WITHIN_MS).0, operation.id.as_str()],
        )?;
        self.hot.operations_next = next_deadline(self.sql)?;
        for mut repository in load_repositories(self.sql)? {
            if repository.repo_owner == operation.repo_owner && repository.repo_name == operation.repo_name {
                repository.branch_name = Some(operation.head.clone());
                save_repository(self.sql, &repository)?;
            }
        }
        self.broadcast(&ServerMessage::SessionBranch {
            branch_name: operation.head.clone(),
            repo_owner: Some(operation.repo_owner.clone()),
            repo_name: Some(operation.repo_name.clone()),
        });
        let author = Participant::by_id(self.sql, &operation.author_id)?;
        let Some(session) = &self.hot.session else { return Ok(()) };
        let job = Job::OpenPullRequest(OpenPullRequest {
            session_id: session.session_id.clone(),
            operation_id: operation.id.clone(),
            repo_owner: operation.repo_owner,
            repo_name: operation.repo_name,
            head: operation.head,
            base: operation.base,
            title: operation.title,
            body: operation.body,
            draft: operation.draft,
            author_user_id: author.as_ref().and_then(|a| a.canonical_user_id.clone()),
            author_name: author.map(|a| a.display_name()).unwrap_or_default(),
            existing_number: operation.existing_number,
        });
        self.enqueue(&job, None)
    }

    /// The branch did not reach the forge.
    pub(crate) fn push_failed(
        &mut self,
        branch: Option<&str>,
        owner: Option<&str>,
        name: Option<&str>,
        error: &str,
    ) -> Result<(), SqlError> {
        let Some(operation) = self.pushing(branch, owner, name)? else { return Ok(()) };
        self.pull_request_failed(&operation.id, 500, &format!("Failed to push branch: {error}"))
    }

    /// The forge has it.
    pub(crate) fn pull_request_opened(&mut self, open: &OpenPullRequest, result: JobResult) -> Result<(), SqlError> {
        let JobResult::PullRequestOpened { number, url, state, head, base, title, updated } = result else {
            return Ok(());
        };
        let known = artifacts::pull_requests(self.sql)?.into_iter().find(|artifact| {
            artifacts::is_pull_request_of(artifact, &open.repo_owner, &open.repo_name)
                && artifacts::number_of(artifact) == Some(number)
        });
        let (lifecycle_state, is_draft) = PullRequestSnapshot::read_display_state(&state);
        let snapshot = PullRequestSnapshot {
            number,
            url: url.clone(),
            lifecycle_state,
            is_draft,
            head_branch: head.clone(),
            base_branch: base.clone(),
            head_sha: None,
            repo_owner: open.repo_owner.clone(),
            repo_name: open.repo_name.clone(),
            repository_external_id: None,
            title: Some(title),
            provider_created_at: None,
            provider_updated_at: None,
            merged_at: None,
            closed_at: None,
        };
        let mut metadata = known.as_ref().and_then(|artifact| artifact.metadata.clone()).unwrap_or_default();
        snapshot.merge_into(&mut metadata);
        metadata.insert("author".to_owned(), json!(open.author_name));
        let is_new = known.is_none();
        let artifact = SessionArtifact {
            id: known.as_ref().map_or_else(|| ArtifactId::from_bytes(self.cx.random_id()), |a| a.id.clone()),
            artifact_type: ArtifactType::Pr,
            url: Some(url.clone()),
            metadata: Some(metadata.clone()),
            created_at: known.map_or(self.cx.now, |artifact| artifact.created_at),
            updated_at: Some(self.cx.now),
        };
        artifacts::save(self.sql, &artifact)?;
        self.record_pull_request(&artifact, snapshot)?;
        let response = CreatePullRequestResponse {
            pr_number: number,
            pr_url: url.clone(),
            state,
            head_branch: head,
            base_branch: base,
            updated,
        };
        let message_id = self.operation_message(&open.operation_id)?;
        let event = Event::Artifact(ArtifactEvent {
            artifact_type: "pr".to_owned(),
            artifact_id: Some(artifact.id.as_str().to_owned()),
            url,
            metadata: Some(metadata),
            message_id: message_id.clone(),
            sandbox_id: String::new(),
            timestamp: self.cx.now.as_event_timestamp(),
        });
        if is_new {
            if let Some(session) = &mut self.hot.session {
                session.pr_count += 1;
            }
            self.broadcast(&ServerMessage::ArtifactCreated { artifact });
            self.append(message_id.as_ref().map(MessageId::as_str), &event)?;
        } else {
            self.broadcast(&ServerMessage::ArtifactUpdated { artifact });
        }
        self.touch_session(None)?;
        self.end_operation(&open.operation_id, "done", &CallReply::json(200, &response))
    }

    fn operation_message(&self, operation: &str) -> Result<Option<MessageId>, SqlError> {
        let rows = self.sql.run("SELECT message_id FROM pull_request_operations WHERE id = ?", params![operation])?;
        rows.into_iter().next().map(|row| Columns::of(row).word(|t| MessageId::parse(t).ok())).transpose()
    }

    /// The operation ends without a pull request.
    pub(crate) fn pull_request_failed(&mut self, operation: &str, status: u16, error: &str) -> Result<(), SqlError> {
        self.end_operation(operation, "failed", &CallReply::refuse(status, ErrorCode::UpstreamFailed, error))
    }

    fn end_operation(&mut self, operation: &str, state: &str, reply: &CallReply) -> Result<(), SqlError> {
        self.sql.run(
            "UPDATE pull_request_operations SET state = ?, status = ?, reply = ?, body = '' WHERE id = ?
                AND state IN ('pushing', 'opening')",
            params![state, i64::from(reply.status), reply.body.as_str(), operation],
        )?;
        prune(self.sql)?;
        self.hot.operations_next = next_deadline(self.sql)?;
        let waiting = std::mem::take(&mut self.hot.waiters);
        for (id, waiter) in waiting {
            if id == operation {
                self.out.replies.push((waiter, reply.clone()));
            } else {
                self.hot.waiters.push((id, waiter));
            }
        }
        Ok(())
    }

    /// A prompt ended: what it still pushed is not waited for. What the forge was asked is.
    pub(crate) fn fail_open_pull_requests(&mut self, message_id: &MessageId) -> Result<(), SqlError> {
        if self.hot.operations_next.is_none() {
            return Ok(());
        }
        let open = Operation::select(self.sql, "state = 'pushing' AND message_id = ?", params![message_id.as_str()])?;
        for operation in open {
            self.pull_request_failed(&operation.id, 409, "The prompt ended before its branch was pushed.")?;
        }
        Ok(())
    }

    /// Operations whose time is over.
    pub(crate) fn expire_operations(&mut self) -> Result<(), SqlError> {
        if self.hot.operations_next.is_none_or(|at| at > self.cx.now) {
            return Ok(());
        }
        let condition = "state IN ('pushing', 'opening') AND deadline <= ?";
        for operation in Operation::select(self.sql, condition, params![self.cx.now.0])? {
            let error = if operation.state == "pushing" {
                "Push operation timed out after 360 seconds"
            } else {
                "The forge did not answer in time. The pull request may be open: look before you repeat."
            };
            self.pull_request_failed(&operation.id, 504, error)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::sanitize_branch;

    #[test]
    fn branch_names_keep_their_case_and_refuse_what_git_refuses() {
        assert_eq!(sanitize_branch(" Fix/ABC "), Some("Fix/ABC".to_owned()));
        for bad in [
            "", "HEAD", "/a", "a/", ".a", "a.", "a b", "a..b", "a@{b", "a~b", "a^b", "a:b", "a?b", "a*b", "a[b",
            "a\\b", "-x", "a//b", "a/.b", "a.lock",
        ] {
            assert_eq!(sanitize_branch(bad), None, "{bad}");
        }
    }
}
