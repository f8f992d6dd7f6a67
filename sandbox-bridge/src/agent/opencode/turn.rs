//! One turn of OpenCode, from the prompt to its last word.

use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout, timeout_at};

use super::client::{EventStream, OpenCodeClient, OpenCodeError, PromptBody};
use super::process::OpenCodeProcess;
use super::questions::Asked as Question;
use super::tool::read_small_file;
use super::translate::{Asked, Translator};
use super::{OpenCode, config, message_id};
use crate::agent::keeper::{Endpoint, up};
use crate::agent::patience::Patience;
use crate::agent::{Agent, AgentEvent, StopSignal, Turn, TurnEnd};
use crate::clock;
use crate::stop_signal::raised;

/// OpenCode may say `idle` a moment before it has stored why.
const IDLE_GRACE: Duration = Duration::from_millis(300);
/// After an abort, for what was streamed to be stored.
const ABORT_GRACE: Duration = Duration::from_secs(3);
/// Without any event, OpenCode is asked whether it still works.
const QUIET: Duration = Duration::from_secs(15);
/// For a server that is starting again.
const RESTART_WITHIN: Duration = Duration::from_secs(90);
/// For what makes the first prompt quick.
const WARM_WITHIN: Duration = Duration::from_secs(30);
const GONE: &str = "OpenCode ended while it worked on the prompt.";
const RESTARTED: &str = "The bridge restarted while the prompt ran.";

struct Run<'a> {
    agent: &'a OpenCode,
    turn: &'a Turn,
    events: &'a mpsc::Sender<AgentEvent>,
    client: OpenCodeClient,
    incarnation: u64,
    session: String,
    patience: Patience,
    /// Questions that wait for a person.
    questions: Vec<Question>,
}

enum Streamed {
    /// OpenCode is done with the prompt.
    Over,
    Stop,
    Deadline,
    /// The process that had the prompt is gone.
    Gone,
    /// Nothing happened for too long.
    Silent,
}

impl Agent for OpenCode {
    async fn up(&self) -> Result<(), String> {
        up::<OpenCodeProcess>(self.endpoint.clone()).await.map(drop)
    }

    async fn warm(&self, directory: &Path, model: &str) -> Option<String> {
        let (provider, model) = config::split_model(model);
        let work = async {
            let (client, _) = up::<OpenCodeProcess>(self.endpoint.clone()).await.map_err(OpenCodeError::Odd)?;
            let session = self.session(&client, directory).await?;
            client.warm(directory, provider, model).await?;
            Ok::<_, OpenCodeError>(session)
        };
        match timeout(WARM_WITHIN, work).await {
            Ok(Ok(session)) => Some(session),
            Ok(Err(error)) => {
                tracing::warn!(event = "agent.not_warmed", %error);
                self.known_session()
            }
            Err(_) => self.known_session(),
        }
    }

    async fn run(&self, turn: Turn, events: mpsc::Sender<AgentEvent>, mut stop: StopSignal) -> TurnEnd {
        let up = tokio::select! {
            up = up::<OpenCodeProcess>(self.endpoint.clone()) => up,
            () = raised(&mut stop) => return TurnEnd::Stopped,
            () = sleep_until(turn.deadline) => return TurnEnd::TimedOut,
        };
        let (client, incarnation) = match up {
            Ok(up) => up,
            Err(reason) => return TurnEnd::Broken(reason),
        };
        let session = match &turn.resume {
            Some(session) if client.session(session).await.is_ok_and(|found| found.is_some()) => Ok(session.clone()),
            _ => self.session(&client, &turn.directory).await,
        };
        let session = match session {
            Ok(session) => session,
            Err(error) => return TurnEnd::Broken(error.to_string()),
        };
        let (patience, questions) = (Patience::new(turn.deadline, self.silence), Vec::new());
        let mut run =
            Run { agent: self, turn: &turn, events: &events, client, incarnation, session, patience, questions };
        run.tell([AgentEvent::Session(run.session.clone())]).await;
        match run.go(stop).await {
            Ok(end) => end,
            Err(error) => TurnEnd::Broken(error.to_string()),
        }
    }

    async fn title(&self) -> Option<String> {
        let client = match &*self.endpoint.borrow() {
            Endpoint::Up { agent, .. } => agent.clone(),
            Endpoint::Starting | Endpoint::Failed(_) => return None,
        };
        let session = client.session(&self.known_session()?).await.ok().flatten()?;
        session.given_title().map(str::to_owned)
    }
}

/// An answer that did not arrive: OpenCode may have ended the question by itself.
fn note(answered: Result<(), OpenCodeError>) {
    if let Err(error) = answered {
        tracing::warn!(event = "agent.answer_failed", %error);
    }
}

impl Run<'_> {
    async fn tell(&self, events: impl IntoIterator<Item = AgentEvent>) {
        for event in events {
            // The receiver lives as long as the turn; when it is gone there is nobody to tell.
            drop(self.events.send(event).await);
        }
    }

    fn translator(&self, prompt: &str) -> Translator {
        let started = clock::now().0 as f64;
        Translator::new(&self.session, prompt, self.turn.directory.clone(), started, read_small_file)
    }

    async fn go(&mut self, mut stop: StopSignal) -> Result<TurnEnd, OpenCodeError> {
        let prompt = message_id(&self.turn.message_id);
        let mut translator = self.translator(&prompt);
        let mut stream = self.client.events(&self.turn.directory).await?;
        let known = match self.turn.resume {
            Some(_) => self.client.messages(&self.session).await?,
            None => Vec::new(),
        };
        if known.iter().any(|message| message.info.id == prompt) {
            translator.look_back(known, Instant::now());
            self.tell(translator.take()).await;
            if !self.client.is_busy(&self.session, &self.turn.directory).await? {
                return self.look_back(translator, RESTARTED).await;
            }
        } else {
            self.give_prompt(&prompt).await?;
        }
        let streamed = self.stream(&mut translator, &mut stream, &mut stop).await?;
        let end = match streamed {
            Streamed::Over => return self.conclude(translator).await,
            Streamed::Gone => return self.after_loss(translator).await,
            Streamed::Stop => TurnEnd::Stopped,
            Streamed::Deadline => TurnEnd::TimedOut,
            Streamed::Silent => TurnEnd::Broken(self.patience.reason()),
        };
        self.abort(&mut translator, &mut stream).await;
        drop(self.conclude(translator).await);
        Ok(end)
    }

    async fn give_prompt(&self, prompt: &str) -> Result<(), OpenCodeError> {
        let (provider, model) = config::split_model(&self.turn.model);
        let body = PromptBody {
            message_id: prompt,
            text: &self.turn.text,
            files: &self.turn.files,
            provider,
            model,
            variant: self.turn.effort.as_deref(),
        };
        self.client.prompt(&self.session, &body).await
    }

    async fn stream(
        &mut self,
        translator: &mut Translator,
        stream: &mut EventStream,
        stop: &mut StopSignal,
    ) -> Result<Streamed, OpenCodeError> {
        let mut tick = interval(Duration::from_millis(100));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut idle_since: Option<Instant> = None;
        self.patience.hear();
        let mut edits = self.agent.edits.clone();
        let mut held = Vec::new();
        let mut looked = Instant::now();
        let mut answers = self.turn.answers.watch();
        loop {
            self.patience.pass(!self.questions.is_empty());
            tokio::select! {
                biased;
                () = raised(stop) => return Ok(Streamed::Stop),
                () = sleep_until(self.patience.deadline()), if self.questions.is_empty() => return Ok(Streamed::Deadline),
                () = raised(&mut edits), if !held.is_empty() => self.allow(std::mem::take(&mut held)).await,
                frame = stream.next() => match frame {
                    Some(frame) => {
                        // Heartbeats go on beside a model that hangs.
                        if !frame.kind.starts_with("server.") {
                            self.patience.hear();
                            looked = Instant::now();
                        }
                        translator.frame(frame, Instant::now());
                    }
                    None => match self.reconnect(translator).await? {
                        Some(new) => {
                            *stream = new;
                            self.hold_asked_meanwhile(&mut held).await;
                        }
                        None => return Ok(Streamed::Gone),
                    },
                },
                _ = tick.tick() => {
                    translator.tell_deferred(Instant::now());
                    if translator.is_occupied() || !self.questions.is_empty() {
                        self.patience.hear();
                    } else if self.patience.is_over() {
                        return Ok(Streamed::Silent);
                    }
                    if looked.elapsed() > QUIET {
                        looked = Instant::now();
                        if !self.client.is_busy(&self.session, &self.turn.directory).await.unwrap_or(true) {
                            translator.polled_idle();
                        }
                        self.hold_asked_meanwhile(&mut held).await;
                    }
                }
                Ok(()) = answers.changed() => {}
            }
            self.tell(translator.take()).await;
            for asked in translator.take_asked() {
                match asked {
                    Asked::Permission(id) => held.push(id),
                    Asked::Question(question) => self.questions.push(question),
                }
            }
            self.pass_answers_on().await;
            if !translator.is_idle() {
                idle_since = None;
            } else if translator.is_settled() || idle_since.get_or_insert_with(Instant::now).elapsed() >= IDLE_GRACE {
                return Ok(Streamed::Over);
            }
        }
    }

    async fn allow(&self, permissions: Vec<String>) {
        for id in permissions {
            note(self.client.allow(&id, &self.turn.directory).await);
        }
    }

    async fn pass_answers_on(&mut self) {
        for question in std::mem::take(&mut self.questions) {
            match question.reply(&self.turn.answers) {
                Some(reply) => note(self.client.reply(&question.id, &reply, &self.turn.directory).await),
                None => self.questions.push(question),
            }
        }
    }

    /// Nobody will answer any more.
    async fn reject_questions(&mut self) {
        for question in std::mem::take(&mut self.questions) {
            note(self.client.reject(&question.id, &self.turn.directory).await);
        }
    }

    /// What was asked while nobody listened, to be answered as soon as it may be.
    async fn hold_asked_meanwhile(&self, held: &mut Vec<String>) {
        for id in self.client.permissions(&self.turn.directory).await.unwrap_or_default() {
            if !held.contains(&id) {
                held.push(id);
            }
        }
    }

    /// The stream broke: subscribes again, unless another process took the place of the one that had the prompt.
    async fn reconnect(&self, translator: &mut Translator) -> Result<Option<EventStream>, OpenCodeError> {
        translator.interrupted();
        for _ in 0..5 {
            let same = matches!(&*self.agent.endpoint.borrow(),
                Endpoint::Up { incarnation, .. } if *incarnation == self.incarnation);
            if !same {
                return Ok(None);
            }
            if let Ok(stream) = self.client.events(&self.turn.directory).await {
                let messages = self.client.messages(&self.session).await?;
                translator.stored(messages, false, Instant::now());
                for question in self.client.questions(&self.turn.directory).await.unwrap_or_default() {
                    translator.question(question);
                }
                if !self.client.is_busy(&self.session, &self.turn.directory).await? {
                    translator.polled_idle();
                }
                return Ok(Some(stream));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(None)
    }

    async fn abort(&mut self, translator: &mut Translator, stream: &mut EventStream) {
        translator.stopping();
        self.reject_questions().await;
        if let Err(error) = self.client.abort(&self.session).await {
            tracing::warn!(event = "agent.abort_failed", %error);
            return;
        }
        let settle = async {
            while !(translator.is_idle() && translator.is_settled()) {
                let Some(frame) = stream.next().await else { return };
                translator.frame(frame, Instant::now());
            }
        };
        drop(timeout(ABORT_GRACE, settle).await);
        self.tell(translator.take()).await;
    }

    /// Tells what the stream did not, from what OpenCode stored.
    async fn conclude(&self, mut translator: Translator) -> Result<TurnEnd, OpenCodeError> {
        let messages = self.client.messages(&self.session).await;
        let failed = messages.as_ref().err().map(ToString::to_string);
        translator.stored(messages.unwrap_or_default(), true, Instant::now());
        self.tell(translator.take()).await;
        Ok(match (translator.failure(), failed) {
            (Some(failure), _) => TurnEnd::Failed(failure.to_owned()),
            (None, Some(failed)) if !translator.is_settled() => TurnEnd::Broken(failed),
            (None, _) => TurnEnd::Finished { had_output: translator.had_output() },
        })
    }

    /// Another process has the database: tells what was stored before the loss.
    async fn after_loss(&mut self, translator: Translator) -> Result<TurnEnd, OpenCodeError> {
        let deadline = self.patience.deadline().min(Instant::now() + RESTART_WITHIN);
        let again = async {
            let mut endpoint = self.agent.endpoint.clone();
            // The supervisor may not have noticed yet.
            let lost = self.incarnation;
            drop(
                endpoint
                    .wait_for(|e| !matches!(e, Endpoint::Up { incarnation, .. } if *incarnation == lost))
                    .await
                    .map(drop),
            );
            up::<OpenCodeProcess>(endpoint).await
        };
        match timeout_at(deadline, again).await {
            Ok(Ok((client, incarnation))) => {
                (self.client, self.incarnation) = (client, incarnation);
                self.look_back(translator, GONE).await
            }
            Ok(Err(reason)) => {
                let mut translator = translator;
                translator.stored(Vec::new(), true, Instant::now());
                self.tell(translator.take()).await;
                Ok(TurnEnd::Broken(reason))
            }
            Err(_) => Ok(TurnEnd::Broken(GONE.to_owned())),
        }
    }

    /// A turn that nobody works on any more: it either ended before the loss, or never will.
    async fn look_back(&self, translator: Translator, lost: &str) -> Result<TurnEnd, OpenCodeError> {
        let prompt = message_id(&self.turn.message_id);
        let messages = self.client.messages(&self.session).await.unwrap_or_default();
        let last = messages.iter().rfind(|m| m.info.parent_id.as_deref() == Some(prompt.as_str()));
        let ended = last.is_some_and(|message| {
            message.info.error.is_none()
                && message.info.time.completed.is_some()
                && message.info.finish.as_deref().is_some_and(|finish| finish != "tool-calls")
        });
        let end = self.conclude(translator).await?;
        Ok(match end {
            TurnEnd::Finished { .. } if !ended => TurnEnd::Broken(lost.to_owned()),
            end => end,
        })
    }
}
