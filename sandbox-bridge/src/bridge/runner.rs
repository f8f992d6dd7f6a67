//! Carries out what the session orders: one prompt at a time, pushes beside it, stops at once.

use std::collections::VecDeque;
use std::sync::Arc;

use oi_protocol::event::{PushComplete, PushError};
use oi_protocol::sandbox_socket::{PushSpec, SandboxCommand, SandboxEvent};
use oi_protocol::{MessageId, limits};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::Stamp;
use super::journal::JournalError;
use super::prompt::{PromptOrder, PromptState};
use super::turn::CANCELLED;
pub use super::turn::{TurnContext, WorkspaceState};
use crate::agent::Agent;
use crate::diff::worker::DiffRequests;
use crate::git::push::{self, PushFailure};
use crate::stop_signal::raised;

struct Running {
    message_id: MessageId,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), JournalError>>,
}

/// Runs what the session orders.
pub struct Runner<A> {
    context: TurnContext<A>,
    waiting: VecDeque<(PromptOrder, Option<String>)>,
    running: Option<Running>,
    pushes: JoinSet<Result<(), JournalError>>,
    /// One push at a time: two into the same branch would race.
    push_turn: Arc<tokio::sync::Mutex<()>>,
    diffs: DiffRequests,
}

/// Why the runner ended.
#[derive(Debug, thiserror::Error)]
pub enum RunnerEnded {
    /// The session said `shutdown`, or the supervisor did.
    #[error("shut down")]
    Shutdown,
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl<A: Agent> Runner<A> {
    /// A runner that first goes on with what an earlier process left unfinished.
    pub fn new(context: TurnContext<A>, diffs: DiffRequests) -> Self {
        let waiting = context
            .outbox
            .unfinished_prompts()
            .into_iter()
            .filter_map(|state| match state {
                PromptState::Accepted(order) => Some((*order, None)),
                PromptState::Started(order, session) => Some((*order, Some(session))),
                PromptState::Done(_) => None,
            })
            .collect();
        Self { context, waiting, running: None, pushes: JoinSet::new(), push_turn: Arc::default(), diffs }
    }

    /// Runs until the session or the supervisor ends it.
    pub async fn run(
        mut self,
        mut commands: mpsc::Receiver<SandboxCommand>,
        mut shutdown: watch::Receiver<bool>,
    ) -> RunnerEnded {
        let ended = loop {
            self.start_next();
            tokio::select! {
                biased;
                () = raised(&mut shutdown) => break RunnerEnded::Shutdown,
                ended = ended(&mut self.running) => {
                    if let Err(error) = self.settle(ended) {
                        break error.into();
                    }
                }
                Some(pushed) = self.pushes.join_next() => match pushed {
                    Ok(Err(error)) => break error.into(),
                    Ok(Ok(())) => {}
                    Err(error) => tracing::error!(event = "push.fault", %error),
                },
                command = commands.recv() => match command {
                    None | Some(SandboxCommand::Shutdown) => break RunnerEnded::Shutdown,
                    Some(command) => {
                        if let Err(error) = self.obey(command) {
                            break error.into();
                        }
                    }
                },
            }
        };
        if let Some(running) = &mut self.running {
            running.stop.send_replace(true);
            // The agent gets a moment to store what it streamed, and the run its end.
            let finish = tokio::time::timeout(std::time::Duration::from_secs(4), &mut running.task);
            drop(finish.await);
        }
        ended
    }

    fn obey(&mut self, command: SandboxCommand) -> Result<(), JournalError> {
        match command {
            SandboxCommand::Prompt { message_id, content, model, reasoning_effort, author, attachments } => {
                self.take_prompt(PromptOrder { message_id, content, model, reasoning_effort, author, attachments })
            }
            SandboxCommand::Stop => self.stop(),
            SandboxCommand::Push { push_spec } => {
                self.push(push_spec);
                Ok(())
            }
            SandboxCommand::InputResponse { request_id, message_id, answer, .. } => {
                if self.running.as_ref().is_some_and(|running| running.message_id == message_id) {
                    self.context.answers.put(&request_id, answer);
                }
                Ok(())
            }
            SandboxCommand::RefreshDiff => {
                self.diffs.refresh();
                Ok(())
            }
            SandboxCommand::Hello { .. }
            | SandboxCommand::Ack { .. }
            | SandboxCommand::EventRejected { .. }
            | SandboxCommand::Shutdown => {
                tracing::debug!(event = "bridge.command_ignored");
                Ok(())
            }
        }
    }

    fn take_prompt(&mut self, order: PromptOrder) -> Result<(), JournalError> {
        let (outbox, stamp) = (&self.context.outbox, &self.context.stamp);
        match outbox.prompt_state(&order.message_id) {
            Some(PromptState::Done(outcome)) => {
                tracing::info!(event = "prompt.known", message_id = %order.message_id, done = true);
                let mut again = stamp.complete(&order.message_id, outcome.error);
                if let SandboxEvent::ExecutionComplete(complete) = &mut again {
                    complete.success = outcome.success;
                }
                outbox.emit(&again)
            }
            Some(_) => {
                tracing::info!(event = "prompt.known", message_id = %order.message_id, done = false);
                outbox.emit(&SandboxEvent::PromptAccepted(oi_protocol::sandbox_socket::PromptAccepted {
                    message_id: order.message_id,
                }))
            }
            None if self.waiting.len() >= limits::MAX_UNFINISHED_PROMPTS => {
                let text = "Too many prompts wait in this sandbox.";
                outbox.emit(&stamp.complete(&order.message_id, Some(text.to_owned())))
            }
            None => {
                outbox.accept_prompt(&order)?;
                tracing::info!(event = "prompt.accepted", message_id = %order.message_id);
                self.waiting.push_back((order, None));
                Ok(())
            }
        }
    }

    fn stop(&mut self) -> Result<(), JournalError> {
        if let Some(running) = &self.running {
            running.stop.send_replace(true);
            return Ok(());
        }
        let Some((order, _)) = self.waiting.pop_front() else {
            tracing::debug!(event = "bridge.stop_without_prompt");
            return Ok(());
        };
        let cancelled = self.context.stamp.complete(&order.message_id, Some(CANCELLED.to_owned()));
        self.context.outbox.emit(&cancelled)
    }

    fn start_next(&mut self) {
        if self.running.is_some() {
            return;
        }
        let Some((order, resume)) = self.waiting.pop_front() else { return };
        let (stop, stopped) = watch::channel(false);
        let (context, message_id) = (self.context.clone(), order.message_id.clone());
        self.context.answers.clear();
        self.diffs.prompt_begins();
        let task = tokio::spawn(async move { context.run(order, resume, stopped).await });
        self.running = Some(Running { message_id, stop, task });
    }

    fn settle(&mut self, ended: Result<Result<(), JournalError>, tokio::task::JoinError>) -> Result<(), JournalError> {
        let Some(running) = self.running.take() else { return Ok(()) };
        self.diffs.prompt_ended(running.message_id.clone());
        match ended {
            Ok(written) => written,
            Err(fault) => {
                tracing::error!(event = "turn.fault", message_id = %running.message_id, %fault);
                let text = "The run ended by a fault of the bridge.";
                let (outbox, stamp) = (&self.context.outbox, &self.context.stamp);
                outbox.close_parts(&running.message_id)?;
                outbox.emit(&stamp.error(&running.message_id, text))?;
                outbox.emit(&stamp.complete(&running.message_id, Some(text.to_owned())))
            }
        }
    }

    fn push(&mut self, spec: PushSpec) {
        let (outbox, git, stamp) =
            (Arc::clone(&self.context.outbox), self.context.git.clone(), self.context.stamp.clone());
        let (workspace, turn) = (self.context.workspace.clone(), Arc::clone(&self.push_turn));
        self.pushes.spawn(async move {
            let _turn = turn.lock().await;
            let ready = workspace.borrow().clone();
            let pushed = match ready {
                Some(Ok(workspace)) => push::push(&git, &workspace, &spec).await,
                Some(Err(reason)) => Err(PushFailure::NoCheckout(reason)),
                None => Err(PushFailure::NoCheckout("The workspace is still being prepared.".to_owned())),
            };
            outbox.emit(&pushed_event(&stamp, spec, pushed))
        });
    }
}

fn pushed_event(stamp: &Stamp, spec: PushSpec, pushed: Result<(), PushFailure>) -> SandboxEvent {
    let present = |text: String| Some(text).filter(|text| !text.is_empty());
    let (repo_owner, repo_name) = (present(spec.repo_owner), present(spec.repo_name));
    let (branch_name, sandbox_id, timestamp) = (Some(spec.target_branch), stamp.sandbox_id.clone(), Stamp::timestamp());
    match pushed {
        Ok(()) => {
            SandboxEvent::PushComplete(PushComplete { branch_name, repo_owner, repo_name, sandbox_id, timestamp })
        }
        Err(failure) => {
            tracing::warn!(event = "push.failed", kind = failure.kind());
            let error = failure.to_string();
            SandboxEvent::PushError(PushError { error, branch_name, repo_owner, repo_name, sandbox_id, timestamp })
        }
    }
}

/// The end of the running turn; never, when none runs.
async fn ended(running: &mut Option<Running>) -> Result<Result<(), JournalError>, tokio::task::JoinError> {
    match running {
        Some(running) => (&mut running.task).await,
        None => std::future::pending().await,
    }
}
