//! The queue beside a model of it, under any order of inputs.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use serde_json::json;

use crate::support::session::{Session, complete};

#[derive(Debug, Clone)]
enum Step {
    /// The request of this number, with this content.
    Prompt(u8, bool),
    Cancel(u8),
    /// These first, in this order.
    Reorder(Vec<u8>),
    SendNow(u8),
    Stop,
    /// The agent ends what it was given last, well or badly.
    End(bool),
    Evict,
    Wait(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(
        prop_oneof![
            6 => (0..16_u8, prop::bool::weighted(0.9)).prop_map(|(n, usual)| Step::Prompt(n, usual)),
            2 => (0..16_u8).prop_map(Step::Cancel),
            2 => Just((0..16_u8).collect::<Vec<_>>()).prop_shuffle().prop_map(|mut all| {
                all.truncate(6);
                Step::Reorder(all)
            }),
            1 => (0..16_u8).prop_map(Step::SendNow),
            1 => Just(Step::Stop),
            4 => any::<bool>().prop_map(Step::End),
            1 => Just(Step::Evict),
            1 => (0..4_000_u16).prop_map(Step::Wait),
        ],
        1..60,
    )
}

/// What the queue should be.
#[derive(Default)]
struct Model {
    /// Requests that were accepted: content and prompt.
    known: BTreeMap<u8, (bool, String)>,
    waiting: VecDeque<u8>,
    running: Option<u8>,
    /// A stopped prompt whose end is not confirmed.
    stopping: Option<u8>,
    ended: BTreeMap<u8, &'static str>,
    given: Vec<u8>,
}

impl Model {
    fn id_of(&self, request: u8) -> String {
        self.known.get(&request).map_or(format!("{request:032x}"), |(_, id)| id.clone())
    }

    /// Whether one of them waits.
    fn reorder(&mut self, wanted: &[u8]) -> bool {
        let first: Vec<u8> = wanted.iter().copied().filter(|request| self.waiting.contains(request)).collect();
        self.waiting.retain(|request| !first.contains(request));
        for request in first.iter().rev() {
            self.waiting.push_front(*request);
        }
        !first.is_empty()
    }

    fn dispatch(&mut self) {
        if self.running.is_none() && self.stopping.is_none() {
            self.running = self.waiting.pop_front();
            self.given.extend(self.running);
        }
    }

    /// The answer to a prompt: its code, or its position.
    fn prompt(&mut self, request: u8, usual: bool) -> Result<Option<usize>, &'static str> {
        if let Some((content, _)) = self.known.get(&request) {
            if *content != usual {
                return Err("PROMPT_REQUEST_CONFLICT");
            }
            if self.running == Some(request) {
                return Ok(Some(1));
            }
            let place = self.waiting.iter().position(|waiting| *waiting == request);
            return Ok(place.map(|place| place + 1 + usize::from(self.running.is_some())));
        }
        let unfinished = self.waiting.len() + usize::from(self.running.is_some());
        if unfinished >= 10 {
            return Err("PROMPT_QUEUE_FULL");
        }
        self.waiting.push_back(request);
        Ok(Some(unfinished + 1))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_queue_does_what_its_model_does(steps in steps()) {
        let (mut s, page, bridge) = Session::with_bridge();
        let mut model = Model::default();
        let (mut seq, mut changes) = (1, 0);
        for step in steps {
            match step {
                Step::Prompt(request, usual) => {
                    let content = if usual { "as usual" } else { "otherwise" };
                    let expected = model.prompt(request, usual);
                    let answer = s.prompt(page, &request.to_string(), content);
                    match expected {
                        Ok(position) => {
                            prop_assert_eq!(&answer["position"], &json!(position), "{}", answer);
                            let id = answer["messageId"].as_str().expect("an id").to_owned();
                            let (_, known) = model.known.entry(request).or_insert((usual, id.clone()));
                            prop_assert_eq!(&*known, &id);
                        }
                        Err(code) => prop_assert_eq!(&answer["code"], code),
                    }
                }
                Step::Cancel(request) => {
                    let id = model.id_of(request);
                    let waits = model.waiting.contains(&request);
                    let _ = s.take(page);
                    s.say(page, &json!({"type": "cancel_prompt", "messageId": id, "clientRequestId": "c"}));
                    prop_assert_eq!(s.take_of(page, "prompt_cancelled").len(), usize::from(waits));
                    model.waiting.retain(|waiting| *waiting != request);
                }
                Step::Reorder(wanted) => {
                    let ids: Vec<String> = wanted.iter().map(|request| model.id_of(*request)).collect();
                    let _ = s.take(page);
                    changes += 1;
                    s.say(page, &json!({"type": "reorder_prompts", "messageIds": ids,
                        "clientRequestId": format!("change {changes}")}));
                    let waits = model.reorder(&wanted);
                    prop_assert_eq!(s.take_of(page, "prompts_reordered").len(), usize::from(waits));
                }
                Step::SendNow(request) => {
                    let _ = s.take(page);
                    changes += 1;
                    s.say(page, &json!({"type": "send_now", "messageId": model.id_of(request),
                        "clientRequestId": format!("change {changes}")}));
                    let waits = model.reorder(&[request]);
                    prop_assert_eq!(s.take_of(page, "prompt_sent_now").len(), usize::from(waits));
                    if waits && let Some(stopped) = model.running.take() {
                        model.ended.insert(stopped, "stopped");
                        model.stopping = Some(stopped);
                    }
                }
                Step::Stop => {
                    s.say(page, &json!({"type": "stop"}));
                    if let Some(stopped) = model.running.take() {
                        model.ended.insert(stopped, "stopped");
                        model.stopping = Some(stopped);
                    }
                }
                Step::End(success) => {
                    let Some(request) = model.stopping.or(model.running) else { continue };
                    let id = oi_protocol::MessageId::parse(&model.known[&request].1).expect("a minted id");
                    seq += 1;
                    s.frame(bridge, seq, complete(&id, success));
                    if model.stopping.take().is_none() {
                        model.ended.insert(request, if success { "done" } else { "failed" });
                        model.running = None;
                    }
                }
                Step::Evict => s.host.evict(),
                Step::Wait(ms) => {
                    s.plain(bridge, &json!({"type": "heartbeat", "status": "ready"}));
                    // A stop that nobody confirms would replace the sandbox, which is another test's matter.
                    if model.stopping.is_none() {
                        s.host.advance(i64::from(ms));
                    }
                }
            }
            model.dispatch();
            s.run_jobs();
            prop_assert_eq!(s.host.faults, 0);
            let running = s.count("SELECT COUNT(*) FROM messages WHERE status = 'processing'");
            prop_assert_eq!(running, i64::from(model.running.is_some()));
            let waiting = s.count("SELECT COUNT(*) FROM messages WHERE status = 'pending'");
            prop_assert_eq!(waiting, model.waiting.len() as i64);
        }
        for (request, outcome) in &model.ended {
            let id = oi_protocol::MessageId::parse(&model.known[request].1).expect("a minted id");
            prop_assert_eq!(s.outcome(&id), (*outcome).to_owned());
        }
        let given: Vec<_> = s.events("user_message").iter().map(|event| event["messageId"].clone()).collect();
        let expected: Vec<_> = model.given.iter().map(|request| json!(model.known[request].1)).collect();
        prop_assert_eq!(given, expected);
    }
}
