//! Sessions and turns of an agent that speaks the Agent Client Protocol.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::calls::{Reaction, Waiting, cancelled};
use super::peer::{CallError, Incoming, Peer};
use super::process::{AcpConnection, AcpProcess};
use super::translate::Translator;
use super::{AcpAgent, Kept, Open};
use crate::agent::keeper::{Endpoint, up};
use crate::agent::patience::{Patience, SILENCE};
use crate::agent::{Agent, AgentEvent, StopSignal, Turn, TurnEnd};
use crate::random;
use crate::stop_signal::raised;

/// To open a session: the agent connects to its MCP servers meanwhile.
const OPEN_WITHIN: Duration = Duration::from_secs(240);
/// To set an option.
const SET_WITHIN: Duration = Duration::from_secs(30);
/// After a cancellation, until the agent ends the prompt.
const CANCEL_WITHIN: Duration = Duration::from_secs(10);
/// Messages of the agent that wait for the turn.
const INCOMING_WAITING: usize = 256;
const GONE: &str = "The agent ended while it worked on the prompt.";
const RESTARTED: &str = "The bridge restarted while the prompt ran.";

/// The option of a session that is of this category, such as `model`.
fn option<'o>(options: &'o [Value], category: &str) -> Option<&'o Value> {
    options.iter().find(|option| option["category"] == category)
}

fn offers(option: &Value, value: &str) -> bool {
    let listed = option["options"].as_array().map(Vec::as_slice).unwrap_or_default();
    // Options may be in groups.
    let grouped = listed.iter().filter_map(|group| group["options"].as_array()).flatten();
    listed.iter().chain(grouped).any(|known| known["value"] == value)
}

fn config_options(answer: &Value) -> Option<Vec<Value>> {
    answer["configOptions"].as_array().cloned()
}

impl AcpAgent {
    /// The session to work in: the one that is open, the one that is kept where the agent can load it, or a new one.
    async fn open(&self, directory: &Path) -> Result<(Peer, Value, Open), String> {
        let (AcpConnection { peer, capabilities }, incarnation) = up::<AcpProcess>(self.endpoint.clone()).await?;
        let mut open = self.open.lock().await;
        if open.incarnation == incarnation {
            return Ok((peer, capabilities, open.clone()));
        }
        let servers = self.mcp_servers(capabilities["mcpCapabilities"]["http"] == true);
        let place = json!({"cwd": directory, "mcpServers": servers});
        if let Some(kept) = self.known().filter(|_| capabilities["loadSession"] == true) {
            let mut params = place.clone();
            params["sessionId"] = kept.session.clone().into();
            match peer.call_within(OPEN_WITHIN, "session/load", params).await {
                Ok(answer) => {
                    let options = config_options(&answer).unwrap_or_default();
                    *open = Open { incarnation, kept, options };
                    return Ok((peer, capabilities, open.clone()));
                }
                Err(CallError::Gone) => return Err(GONE.to_owned()),
                Err(error) => tracing::warn!(event = "agent.session_not_loaded", %error),
            }
        }
        let answer = peer.call_within(OPEN_WITHIN, "session/new", place).await;
        let answer = answer.map_err(|error| format!("The agent opened no session: {error}"))?;
        let session = answer["sessionId"].as_str().ok_or("The agent opened no session.")?.to_owned();
        let options = config_options(&answer).unwrap_or_default();
        *open = Open { incarnation, kept: Kept { session, cost: 0.0 }, options };
        self.keep(&open.kept);
        Ok((peer, capabilities, open.clone()))
    }

    /// Chooses what the agent lets one choose. An agent that has no such choice works as it is set up.
    async fn choose(&self, peer: &Peer, open: &mut Open, category: &str, value: &str) {
        let Some(option) = option(&open.options, category) else { return };
        if option["currentValue"] == value || !offers(option, value) {
            return;
        }
        let params = json!({"sessionId": open.kept.session, "configId": option["id"], "value": value});
        match peer.call_within(SET_WITHIN, "session/set_config_option", params).await {
            Ok(answer) => {
                open.options = config_options(&answer).unwrap_or_else(|| std::mem::take(&mut open.options));
                self.open.lock().await.options.clone_from(&open.options);
            }
            Err(error) => tracing::warn!(event = "agent.option_not_set", category, %error),
        }
    }

    /// The cost of a turn, from the session's until now.
    async fn cost(&self, total: Option<f64>) -> Option<f64> {
        let total = total.filter(|total| total.is_finite())?;
        let mut open = self.open.lock().await;
        let cost = (total - open.kept.cost).max(0.0);
        if cost > 0.0 {
            open.kept.cost = total;
            self.keep(&open.kept);
        }
        Some(cost)
    }
}

impl Agent for AcpAgent {
    async fn up(&self) -> Result<(), String> {
        up::<AcpProcess>(self.endpoint.clone()).await.map(drop)
    }

    async fn warm(&self, directory: &Path, _model: &str) -> Option<String> {
        match self.open(directory).await {
            Ok((_, _, open)) => Some(open.kept.session),
            Err(reason) => {
                tracing::warn!(event = "agent.not_warmed", reason);
                self.known().map(|kept| kept.session)
            }
        }
    }

    async fn run(&self, turn: Turn, events: mpsc::Sender<AgentEvent>, mut stop: StopSignal) -> TurnEnd {
        if turn.resume.is_some() {
            // The protocol cannot tell what became of a prompt whose client is gone, and it must not run twice.
            return TurnEnd::Broken(RESTARTED.to_owned());
        }
        let mut may_change = self.may_change.clone();
        let begin = async {
            raised(&mut may_change).await;
            self.open(&turn.directory).await
        };
        let opened = tokio::select! {
            opened = begin => opened,
            () = raised(&mut stop) => return TurnEnd::Stopped,
            () = sleep_until(turn.deadline) => return TurnEnd::TimedOut,
        };
        let (peer, capabilities, mut open) = match opened {
            Ok(opened) => opened,
            Err(reason) => return TurnEnd::Broken(reason),
        };
        drop(events.send(AgentEvent::Session(open.kept.session.clone())).await);
        self.choose(&peer, &mut open, "model", &turn.model).await;
        if let Some(effort) = &turn.effort {
            self.choose(&peer, &mut open, "thought_level", effort).await;
        }
        let (listener, incoming) = mpsc::channel(INCOMING_WAITING);
        peer.listen(Some(listener));
        let translator = Translator::new(turn.message_id.clone(), turn.directory.clone());
        let images = capabilities["promptCapabilities"]["image"] == true;
        let run = Run { agent: self, turn: &turn, events: &events, peer: &peer, translator, waiting: Vec::new() };
        let end = run.go(&open.kept.session, images, incoming, stop).await;
        peer.listen(None);
        end
    }

    async fn title(&self) -> Option<String> {
        match &*self.endpoint.borrow() {
            Endpoint::Up { agent, .. } => agent.peer.title(),
            Endpoint::Starting | Endpoint::Failed(_) => None,
        }
    }
}

struct Run<'a> {
    agent: &'a AcpAgent,
    turn: &'a Turn,
    events: &'a mpsc::Sender<AgentEvent>,
    peer: &'a Peer,
    translator: Translator,
    waiting: Vec<Waiting>,
}

impl Run<'_> {
    async fn tell(&mut self) {
        for event in self.translator.take() {
            drop(self.events.send(event).await);
        }
    }

    fn blocks(&self, images: bool) -> Vec<Value> {
        let text = Some(&self.turn.text).filter(|text| !text.trim().is_empty() || self.turn.files.is_empty());
        let text = text.map(|text| json!({"type": "text", "text": text}));
        let files = self.turn.files.iter().map(|file| {
            if images {
                json!({"type": "image", "mimeType": file.mime_type, "data": STANDARD.encode(&file.bytes)})
            } else {
                json!({"type": "text", "text": format!("(The picture `{}` cannot be shown to this agent.)", file.name)})
            }
        });
        text.into_iter().chain(files).collect()
    }

    async fn go(
        mut self,
        session: &str,
        images: bool,
        mut incoming: mpsc::Receiver<Incoming>,
        mut stop: StopSignal,
    ) -> TurnEnd {
        drop(self.events.send(AgentEvent::StepStart { subtask: false }).await);
        let params = json!({"sessionId": session, "prompt": self.blocks(images)});
        let peer = self.peer.clone();
        let mut prompt = std::pin::pin!(peer.call("session/prompt", params));
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut answers = self.turn.answers.watch();
        let mut patience = Patience::new(self.turn.deadline, SILENCE);
        let cancel = loop {
            patience.pass(!self.waiting.is_empty());
            tokio::select! {
                biased;
                () = raised(&mut stop) => break TurnEnd::Stopped,
                () = sleep_until(patience.deadline()), if self.waiting.is_empty() => break TurnEnd::TimedOut,
                Some(message) = incoming.recv() => {
                    patience.hear();
                    self.take(message).await;
                }
                ended = &mut prompt => {
                    self.drain(&mut incoming).await;
                    return self.conclude(ended, None).await;
                }
                Ok(()) = answers.changed() => self.answer().await,
                _ = tick.tick() => {
                    if self.translator.is_occupied() || !self.waiting.is_empty() {
                        patience.hear();
                    } else if patience.is_over() {
                        break TurnEnd::Broken(patience.reason());
                    }
                }
            }
        };
        for waiting in std::mem::take(&mut self.waiting) {
            self.peer.answer(&waiting.id, cancelled()).await;
        }
        self.peer.notify("session/cancel", json!({"sessionId": session})).await;
        let settle = async {
            loop {
                tokio::select! {
                    biased;
                    Some(message) = incoming.recv() => self.take(message).await,
                    ended = &mut prompt => return ended,
                }
            }
        };
        let ended = timeout(CANCEL_WITHIN, settle).await.unwrap_or_else(|_| {
            peer.abandon();
            Err(CallError::TimedOut(CANCEL_WITHIN.as_secs()))
        });
        self.drain(&mut incoming).await;
        self.conclude(ended, Some(cancel)).await
    }

    /// What the agent said before it ended the prompt.
    async fn drain(&mut self, incoming: &mut mpsc::Receiver<Incoming>) {
        while let Ok(message) = incoming.try_recv() {
            self.take(message).await;
        }
    }

    async fn take(&mut self, message: Incoming) {
        let Incoming { method, params, id } = message;
        match id {
            None if method == "session/update" => self.translator.update(params, Instant::now()),
            None => {}
            Some(id) => match self.agent.react(&method, params) {
                Reaction::Answer(result) => self.peer.answer(&id, result).await,
                Reaction::Refuse(code, text) => self.peer.refuse(&id, code, &text).await,
                Reaction::Wait(asked) => {
                    let (waiting, event) = Waiting::new(id, format!("acp_{}", random::hex::<12>()), asked);
                    self.tell().await;
                    drop(self.events.send(event).await);
                    self.waiting.push(waiting);
                }
            },
        }
        self.tell().await;
    }

    async fn answer(&mut self) {
        for waiting in std::mem::take(&mut self.waiting) {
            match waiting.answer(&self.turn.answers) {
                Some(result) => self.peer.answer(&waiting.id, result).await,
                None => self.waiting.push(waiting),
            }
        }
    }

    async fn conclude(mut self, ended: Result<Value, CallError>, cancelled: Option<TurnEnd>) -> TurnEnd {
        self.translator.finish(Instant::now());
        self.tell().await;
        if let Ok(result) = &ended {
            let step = AgentEvent::StepFinish {
                cost: self.agent.cost(self.translator.cost).await,
                tokens: tokens(&result["usage"]),
                reason: result["stopReason"].as_str().map(str::to_owned),
                subtask: false,
            };
            drop(self.events.send(step).await);
        }
        let reason = match (cancelled, ended) {
            (Some(end), _) => return end,
            (None, Err(CallError::Gone)) => return TurnEnd::Broken(GONE.to_owned()),
            (None, Err(error)) => error.to_string(),
            (None, Ok(result)) => match result["stopReason"].as_str().unwrap_or("end_turn") {
                "max_tokens" => "The answer was longer than the model may write.".to_owned(),
                "max_turn_requests" => "The agent asked its model more often than it may in one prompt.".to_owned(),
                "refusal" => "The model refused to go on.".to_owned(),
                "cancelled" => "The agent cancelled the prompt by itself.".to_owned(),
                _ => return TurnEnd::Finished { had_output: self.translator.had_output() },
            },
        };
        drop(self.events.send(AgentEvent::Error { text: reason.clone(), subtask: false }).await);
        TurnEnd::Failed(reason)
    }
}

/// Tokens as the session counts them.
fn tokens(usage: &Value) -> Option<Value> {
    let count = |key: &str| usage[key].as_u64();
    let total = count("totalTokens")?;
    Some(json!({
        "total": total,
        "input": count("inputTokens").unwrap_or(0),
        "output": count("outputTokens").unwrap_or(0),
        "reasoning": count("thoughtTokens").unwrap_or(0),
        "cache": {"read": count("cachedReadTokens").unwrap_or(0), "write": count("cachedWriteTokens").unwrap_or(0)},
    }))
}
