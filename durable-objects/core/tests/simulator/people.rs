//! People at their pages, some with several: they prompt, change their minds, lose connections, read history.

use oi_session::call::{Principal, SessionCall};
use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use serde_json::{Value, json};

use crate::client::Request;
use crate::support::session::{messages, value};
use crate::world::World;

impl World {
    pub fn a_person_acts(&mut self) -> Result<(), String> {
        let index = self.rng.random_range(0..self.clients.len());
        self.client_reads(index)?;
        if !self.clients[index].subscribed {
            return self.client_connects(index);
        }
        let Some(socket) = self.clients[index].socket else { return Ok(()) };
        let frame = match self.rng.random_range(0..100) {
            0..38 => self.a_new_prompt(index),
            38..52 => {
                let count = self.clients[index].requests.len();
                let Some(request) = (count > 0).then(|| self.rng.random_range(0..count)) else { return Ok(()) };
                let request = &self.clients[index].requests[request];
                json!({"type": "prompt", "clientRequestId": request.id, "content": request.content})
            }
            52..60 => json!({"type": "stop"}),
            60..67 => {
                let count = self.clients[index].queue.len();
                let Some(pick) = (count > 0).then(|| self.rng.random_range(0..count)) else { return Ok(()) };
                json!({"type": "cancel_prompt", "messageId": self.clients[index].queue[pick], "clientRequestId": "c"})
            }
            67..78 if self.clients[index].dialect == 2 => match self.a_change(index) {
                Some(frame) => frame,
                None => return Ok(()),
            },
            67..81 => json!({"type": "typing"}),
            81..85 => json!({"type": "presence", "status": "idle"}),
            85..89 => {
                let Some(cursor) = self.clients[index].cursor.clone() else { return Ok(()) };
                json!({"type": "fetch_history", "cursor": cursor, "limit": self.rng.random_range(1..40)})
            }
            89..95 => return self.rest_call(index),
            _ => {
                self.host.disconnect(socket);
                self.clients[index].disconnected();
                return self.after_input();
            }
        };
        let times = match self.rng.random_range(0..100) {
            0..4 => {
                // It goes with the connection, of which both sides hear.
                self.tally.one("lost client frames");
                self.host.disconnect(socket);
                self.clients[index].disconnected();
                0
            }
            4..8 => {
                self.tally.one("doubled client frames");
                2
            }
            _ => 1,
        };
        for _ in 0..times {
            self.host.client_sends(socket, &frame.to_string());
            self.after_input()?;
        }
        self.after_input()
    }

    fn a_new_prompt(&mut self, index: usize) -> Value {
        self.requests += 1;
        let (id, content) = (format!("r{}", self.requests), format!("prompt {} 😀", self.requests));
        let frame = json!({"type": "prompt", "clientRequestId": id, "content": content});
        self.clients[index].requests.push(Request { id, content, message_id: None, refused: false });
        frame
    }

    /// A change of the queue, or an answer to a question.
    fn a_change(&mut self, index: usize) -> Option<Value> {
        self.requests += 1;
        let id = format!("c{}", self.requests);
        let client = &mut self.clients[index];
        let mut queue = client.queue.clone();
        match self.rng.random_range(0..12) {
            0..2 => {
                let prompt = queue.choose(&mut self.rng)?;
                Some(json!({"type": "edit_prompt", "messageId": prompt, "clientRequestId": id, "content": "edited"}))
            }
            2..4 if !queue.is_empty() => {
                queue.shuffle(&mut self.rng);
                queue.truncate(self.rng.random_range(1..=queue.len()));
                Some(json!({"type": "reorder_prompts", "messageIds": queue, "clientRequestId": id}))
            }
            4 => {
                let prompt = queue.choose(&mut self.rng)?;
                Some(json!({"type": "send_now", "messageId": prompt, "clientRequestId": id}))
            }
            _ => {
                let waits = |row: &&crate::client::Row| row.event["state"] == "waiting";
                let question = client.timeline.values().rev().take(40).find(waits)?.event["requestId"].clone();
                client.answers.insert(id.clone(), question.as_str().unwrap_or_default().to_owned());
                Some(json!({"type": "input_response", "requestId": question, "clientRequestId": id, "answer": id}))
            }
        }
    }

    pub fn client_connects(&mut self, index: usize) -> Result<(), String> {
        if let Some(socket) = self.clients[index].socket {
            if self.is_open(Some(socket)) {
                // It waits for its `subscribed`, which a fault may have taken.
                self.host.disconnect(socket);
            }
            self.clients[index].disconnected();
        }
        if self.clients[index].token.is_none() {
            let person = Box::new(self.a_person(index));
            let Some(reply) = self.ask(Principal::Platform, SessionCall::MintClientToken { person })? else {
                return Ok(());
            };
            self.clients[index].token = value(&reply.body)["token"].as_str().map(str::to_owned);
        }
        let Some(socket) = self.host.open_client() else { return self.after_input() };
        self.after_input()?;
        self.clients[index].socket = Some(socket);
        let forget = !self.calm && self.rng.random_bool(0.1);
        let token = self.clients[index].token.clone().unwrap_or_default();
        let frame = self.clients[index].subscribe(&token, forget);
        if frame.get("afterRevision").is_some() {
            self.tally.one("resumes");
        }
        self.host.client_sends(socket, &frame.to_string());
        self.after_input()?;
        self.client_reads(index)
    }

    /// A page takes all that is on its way to it.
    pub fn client_reads(&mut self, index: usize) -> Result<(), String> {
        let Some(socket) = self.clients[index].socket else { return Ok(()) };
        let Some(inbox) = self.host.sockets.get_mut(&socket).map(|socket| std::mem::take(&mut socket.inbox)) else {
            self.clients[index].disconnected();
            return Ok(());
        };
        for message in inbox.iter().flat_map(|text| messages(text)) {
            match message["type"].as_str() {
                Some("input_accepted") => {
                    let by = message["clientRequestId"].as_str().unwrap_or_default();
                    let question = self.clients[index].answers.get(by).cloned().unwrap_or_default();
                    if let Some(other) = self.answered.insert(question.clone(), by.to_owned())
                        && other != by
                    {
                        return Err(format!("answer: {question} was answered by {other} and by {by}"));
                    }
                }
                Some("prompt_cancelled") => {
                    self.cancelled.insert(message["messageId"].as_str().unwrap_or_default().to_owned());
                }
                Some("prompt_edited") => self.tally.one("edited prompts"),
                Some("prompts_reordered") => self.tally.one("reordered prompts"),
                Some("prompt_sent_now") => self.tally.one("prompts sent now"),
                Some("error") if message["code"] == "BUDGET_EXCEEDED" => self.tally.one("budgets reached"),
                _ => {}
            }
            self.clients[index].take(&message)?;
        }
        if !self.is_open(Some(socket)) {
            let expired = self.host.sockets[&socket].closed.as_ref().is_some_and(|(code, _)| *code == 4001);
            self.host.disconnect(socket);
            self.clients[index].disconnected();
            if expired {
                self.clients[index].token = None;
            }
            return self.after_input();
        }
        if self.clients[index].subscribed {
            self.check_view(index)?;
        }
        Ok(())
    }

    /// What was not answered is asked again.
    pub fn repeat_unanswered(&mut self, index: usize) -> Result<(), String> {
        let Some(socket) = self.clients[index].socket else { return Ok(()) };
        let open: Vec<Value> = self.clients[index]
            .requests
            .iter()
            .filter(|request| request.message_id.is_none() && !request.refused)
            .map(|request| json!({"type": "prompt", "clientRequestId": request.id, "content": request.content}))
            .collect();
        for frame in open {
            self.host.client_sends(socket, &frame.to_string());
            self.after_input()?;
        }
        self.client_reads(index)
    }
}
