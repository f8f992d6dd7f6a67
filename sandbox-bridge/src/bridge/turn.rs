//! One prompt from its turn to its `execution_complete`, which always comes.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use oi_protocol::MessageId;
use oi_protocol::event::{
    ContextCompacted, ErrorEvent, InputRequest, StepFinish, StepStart, ToolCall, WarningScope, is_token_usage,
};
use oi_protocol::limits;
use oi_protocol::sandbox_socket::{SandboxEvent, SessionTitle};
use oi_protocol::session_state::InputState;
use oi_protocol::text::{head_and_tail, truncate_bytes};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::Stamp;
use super::attachments;
use super::journal::JournalError;
use super::outbox::Outbox;
use super::prompt::PromptOrder;
use crate::agent::answers::Answers;
use crate::agent::{Agent, AgentEvent, StopSignal, ToolUpdate, Turn, TurnEnd};
use crate::control_plane::ControlPlane;
use crate::git::commit_settings::CommitSettings;
use crate::git::{Git, Workspace};
use crate::stop_signal::raised;
use crate::supervise::life::Life;

/// What a stopped prompt says; sessions rely on the words.
pub const CANCELLED: &str = "Task was cancelled";
const NO_OUTPUT: &str = "OpenCode completed without emitting assistant output.";
/// Longest error text.
const ERROR_MAX_BYTES: usize = 16 * 1024;
/// Events that wait between the agent and the journal.
const EVENTS_WAITING: usize = 256;

/// Whether the checkout is there.
pub type WorkspaceState = Option<Result<Arc<Workspace>, String>>;

/// What a turn needs.
pub struct TurnContext<A> {
    pub outbox: Arc<Outbox>,
    pub agent: Arc<A>,
    pub git: Git,
    pub commits: Arc<CommitSettings>,
    pub stamp: Stamp,
    /// What a prompt may begin in; the agent is held from changing it until git is done with it.
    pub files: watch::Receiver<WorkspaceState>,
    /// The same when git is done with it.
    pub workspace: watch::Receiver<WorkspaceState>,
    /// How long a prompt may run.
    pub life: Life,
    /// Where outputs are stored that are too long for an event.
    pub control_plane: Arc<ControlPlane>,
    /// The agent's title of its session that was told last.
    pub title: Arc<Mutex<Option<String>>>,
    /// What people answered.
    pub answers: Answers,
}

impl<A> Clone for TurnContext<A> {
    fn clone(&self) -> Self {
        Self {
            outbox: Arc::clone(&self.outbox),
            agent: Arc::clone(&self.agent),
            git: self.git.clone(),
            commits: Arc::clone(&self.commits),
            stamp: self.stamp.clone(),
            files: self.files.clone(),
            workspace: self.workspace.clone(),
            life: self.life,
            control_plane: Arc::clone(&self.control_plane),
            title: Arc::clone(&self.title),
            answers: self.answers.clone(),
        }
    }
}

enum Failure {
    Stopped,
    /// The agent has told it.
    Told(String),
    Untold(String),
    NoOutput,
    Journal(JournalError),
}

impl<A: Agent> TurnContext<A> {
    /// Runs a prompt to its end. An error means that the journal cannot be used: then nothing can be promised.
    pub async fn run(&self, order: PromptOrder, resume: Option<String>, stop: StopSignal) -> Result<(), JournalError> {
        let id = order.message_id.clone();
        let began = Instant::now();
        let result = self.execute(order, resume, stop).await;
        let error = match result {
            Ok(()) => None,
            Err(Failure::Stopped) => Some(CANCELLED.to_owned()),
            Err(Failure::NoOutput) => Some(NO_OUTPUT.to_owned()),
            Err(Failure::Told(text)) => Some(text),
            Err(Failure::Untold(text)) => {
                self.outbox.emit(&self.stamp.error(&id, truncate_bytes(&text, ERROR_MAX_BYTES)))?;
                Some(text)
            }
            Err(Failure::Journal(JournalError::Full)) => {
                let text = "The session was out of reach for so long that the run had to end.";
                self.outbox.emit(&self.stamp.error(&id, text))?;
                Some(text.to_owned())
            }
            Err(Failure::Journal(error)) => return Err(error),
        };
        if let Err(error) = self.outbox.close_parts(&id) {
            tracing::warn!(event = "turn.parts_left", %error);
        }
        tracing::info!(event = "prompt.run", message_id = %id, success = error.is_none(), ms = began.elapsed().as_millis());
        let error = error.map(|text| truncate_bytes(&text, ERROR_MAX_BYTES).to_owned());
        self.outbox.emit(&self.stamp.complete(&id, error))?;
        if self.told_title().is_none() {
            tokio::spawn(self.clone().look_for_title());
        }
        Ok(())
    }

    fn told_title(&self) -> MutexGuard<'_, Option<String>> {
        self.title.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The title is written beside the first turn and may come after a short one.
    async fn look_for_title(self) {
        for seconds in [1, 2, 4, 8] {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            if self.told_title().is_some() {
                return;
            }
            if let Some(title) = self.agent.title().await {
                if let Err(error) = self.tell_title(&title) {
                    tracing::warn!(event = "turn.title_not_told", %error);
                }
                return;
            }
        }
    }

    fn tell_title(&self, title: &str) -> Result<(), JournalError> {
        let title = truncate_bytes(title, limits::TITLE_MAX_UTF16);
        let told = self.told_title().replace(title.to_owned());
        if told.as_deref() == Some(title) {
            return Ok(());
        }
        self.outbox.emit(&SandboxEvent::SessionTitle(SessionTitle { title: title.to_owned() }))
    }

    async fn execute(&self, order: PromptOrder, resume: Option<String>, mut stop: StopSignal) -> Result<(), Failure> {
        let deadline = self.life.deadline(Instant::now());
        let mut workspace = self.files.clone();
        let there = tokio::select! {
            there = workspace.wait_for(Option::is_some) => there.ok().and_then(|state| state.clone()),
            () = raised(&mut stop) => return Err(Failure::Stopped),
            () = tokio::time::sleep_until(deadline) => return Err(Failure::Untold(self.too_long())),
        };
        let workspace = match there {
            Some(Ok(workspace)) => workspace,
            Some(Err(reason)) => return Err(Failure::Untold(reason)),
            None => return Err(Failure::Untold("The workspace was not prepared.".to_owned())),
        };
        let settled = tokio::select! {
            settled = self.commits.settle(&workspace, &order.author.git_identity) => settled,
            () = raised(&mut stop) => return Err(Failure::Stopped),
        };
        settled.map_err(|error| Failure::Untold(error.to_string()))?;
        let wanted = order.attachments.unwrap_or_default();
        let fetched = tokio::select! {
            fetched = attachments::fetch(&self.control_plane, &wanted) => fetched,
            () = raised(&mut stop) => return Err(Failure::Stopped),
            () = tokio::time::sleep_until(deadline) => return Err(Failure::Untold(self.too_long())),
        };
        for warning in fetched.warnings {
            self.warn_of_attachments(warning)?;
        }
        if fetched.files.is_empty() && order.content.trim().is_empty() {
            return Err(Failure::Untold("Nothing is left of the prompt without its attachments.".to_owned()));
        }
        let turn = Turn {
            message_id: order.message_id.clone(),
            text: order.content,
            files: fetched.files,
            model: order.model,
            effort: order.reasoning_effort,
            directory: workspace.directory.clone(),
            deadline,
            resume,
            answers: self.answers.clone(),
        };
        let end = self.follow(&order.message_id, turn, stop).await?;
        match end {
            TurnEnd::Finished { had_output: true } => Ok(()),
            TurnEnd::Finished { had_output: false } => Err(Failure::NoOutput),
            TurnEnd::Stopped => Err(Failure::Stopped),
            TurnEnd::TimedOut => Err(Failure::Untold(self.too_long())),
            TurnEnd::Failed(text) => Err(Failure::Told(text)),
            TurnEnd::Broken(text) => Err(Failure::Untold(text)),
        }
    }

    fn warn_of_attachments(&self, message: String) -> Result<(), Failure> {
        let warning = self.stamp.warning(WarningScope::Media, message);
        self.outbox.emit(&SandboxEvent::Warning(warning)).map_err(Failure::Journal)
    }

    fn too_long(&self) -> String {
        format!("Prompt exceeded max duration of {}s.", self.life.prompt_limit().as_secs())
    }

    /// Runs the agent and writes down what it does, as it does it.
    async fn follow(&self, id: &MessageId, turn: Turn, outer_stop: StopSignal) -> Result<TurnEnd, Failure> {
        let (events, mut told) = mpsc::channel(EVENTS_WAITING);
        let (full, stop) = watch::channel(*outer_stop.borrow());
        let full = Arc::new(full);
        let relay = tokio::spawn(relay_stop(outer_stop, Arc::clone(&full)));
        let agent = Arc::clone(&self.agent);
        let mut run = tokio::spawn(async move { agent.run(turn, events, stop).await });
        let mut failed = None;
        let end = loop {
            tokio::select! {
                biased;
                event = told.recv() => match event {
                    Some(event) if failed.is_none() => {
                        if let Err(error) = self.write(id, event).await {
                            failed = Some(error);
                            full.send_replace(true);
                        }
                    }
                    Some(_) => {}
                    None => break (&mut run).await,
                },
                end = &mut run => {
                    // What it told before it ended is in the channel still.
                    while let Ok(event) = told.try_recv() {
                        if failed.is_none() {
                            failed = self.write(id, event).await.err();
                        }
                    }
                    break end;
                }
            }
        };
        relay.abort();
        if let Some(error) = failed {
            return Err(Failure::Journal(error));
        }
        end.map_err(|error| Failure::Untold(format!("The run ended by a fault of the bridge: {error}")))
    }

    async fn write(&self, id: &MessageId, event: AgentEvent) -> Result<(), JournalError> {
        let sandbox_id = self.stamp.sandbox_id.clone();
        let timestamp = Stamp::timestamp();
        let message_id = id.clone();
        let subtask = |is: bool| is.then_some(true);
        let event = match event {
            AgentEvent::Session(session) => return self.outbox.start_prompt(id, &session),
            AgentEvent::Text { part_id, kind, text } => {
                self.outbox.append_text(id, &part_id, kind, &text);
                return Ok(());
            }
            AgentEvent::PartDone { part_id, kind, text } => {
                return self.outbox.close_part(id, &part_id, kind, Some(text));
            }
            AgentEvent::Tool(mut update) => {
                if update.status == "running" && update.output.is_some() && self.outbox.is_crowded() {
                    return Ok(());
                }
                let output_ref = match update.whole_output.take() {
                    Some(whole) => self.store_output(id, &update, whole).await,
                    None => None,
                };
                let mut call = tool_call(message_id, *update, sandbox_id, timestamp);
                call.output_ref = output_ref;
                SandboxEvent::ToolCall(call)
            }
            AgentEvent::StepStart { subtask: is } => SandboxEvent::StepStart(StepStart {
                message_id,
                is_subtask: subtask(is),
                child_session_id: None,
                task_call_id: None,
                sandbox_id,
                timestamp,
            }),
            AgentEvent::StepFinish { cost, tokens, reason, subtask: is } => SandboxEvent::StepFinish(StepFinish {
                message_id,
                cost: cost.filter(|cost| cost.is_finite()),
                // A step without a count still tells its cost.
                tokens: tokens.filter(is_token_usage),
                reason,
                is_subtask: subtask(is),
                child_session_id: None,
                task_call_id: None,
                sandbox_id,
                timestamp,
            }),
            AgentEvent::Compacted => {
                SandboxEvent::ContextCompacted(ContextCompacted { message_id, sandbox_id, timestamp })
            }
            AgentEvent::Error { text, subtask: is } => SandboxEvent::Error(ErrorEvent {
                message_id,
                error: head_and_tail(&text, ERROR_MAX_BYTES).unwrap_or(text),
                is_subtask: subtask(is),
                child_session_id: None,
                task_call_id: None,
                sandbox_id,
                timestamp,
            }),
            AgentEvent::Title(title) => return self.tell_title(&title),
            AgentEvent::Warning(message) => SandboxEvent::Warning(self.stamp.warning(WarningScope::Start, message)),
            AgentEvent::Question { request_id, .. } if self.outbox.speaks_dialect_1() => {
                // That dialect has no questions, so nobody would ever answer.
                self.answers.put(&request_id, None);
                return Ok(());
            }
            AgentEvent::Question { request_id, kind, text, options } => SandboxEvent::InputRequest(InputRequest {
                request_id,
                message_id,
                kind,
                prompt: text,
                options,
                default: None,
                expires_at: None,
                state: InputState::Waiting,
                answer: None,
                answered_by: None,
                ended_at: None,
                sandbox_id,
                timestamp,
            }),
        };
        self.outbox.emit(&event)
    }
}

impl<A> TurnContext<A> {
    /// Stores an output before the event that refers to it. Without success the event has its ends, and no more.
    async fn store_output(&self, id: &MessageId, update: &ToolUpdate, whole: String) -> Option<String> {
        let output_id = output_id(id, update);
        let whole = head_and_tail(&whole, limits::OUTPUT_FILE_MAX_BYTES - 1024).unwrap_or(whole);
        let bytes = whole.len();
        match self.control_plane.store_output(&output_id, whole).await {
            Ok(()) => Some(output_id),
            Err(error) => {
                tracing::warn!(event = "output.not_stored", message_id = %id, bytes, %error);
                None
            }
        }
    }
}

/// The name of a call's output: the same when the call is told again.
fn output_id(id: &MessageId, update: &ToolUpdate) -> String {
    let mut hasher = DefaultHasher::new();
    (&update.child_session_id, &update.task_call_id, &update.call_id).hash(&mut hasher);
    format!("{id}-{:016x}", hasher.finish())
}

async fn relay_stop(mut stop: StopSignal, to: Arc<watch::Sender<bool>>) {
    if stop.wait_for(|stop| *stop).await.is_ok() {
        to.send_replace(true);
    }
}

fn tool_call(message_id: MessageId, update: ToolUpdate, sandbox_id: String, timestamp: f64) -> ToolCall {
    ToolCall {
        message_id,
        tool: update.tool,
        args: update.args,
        call_id: update.call_id,
        status: Some(update.status),
        output: update.output,
        is_subtask: update.subtask.then_some(true),
        child_session_id: update.child_session_id,
        task_call_id: update.task_call_id,
        error: update.error,
        exit_code: update.exit_code,
        started_at: update.started_at,
        ended_at: update.ended_at,
        truncated: update.truncated.then_some(true),
        output_ref: None,
        file_change: update.file_change,
        sandbox_id,
        timestamp,
    }
}
