//! Answers of people to the agent's questions, on their way from the session to the turn that waits.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;

/// Answers of one prompt that are held.
const HELD_MAX: usize = 256;

/// An answer, or `None` when nobody answered in time.
pub type Answer = Option<String>;

/// Where answers are put and looked for. A copy is the same place.
#[derive(Debug, Clone)]
pub struct Answers(Arc<watch::Sender<HashMap<String, Answer>>>);

impl Default for Answers {
    fn default() -> Self {
        Self(Arc::new(watch::channel(HashMap::new()).0))
    }
}

impl Answers {
    /// A question ended. The session says it again after each `hello`: the first counts.
    pub fn put(&self, request_id: &str, answer: Answer) {
        self.0.send_if_modified(|held| {
            let new = !held.contains_key(request_id) && held.len() < HELD_MAX;
            if new {
                held.insert(request_id.to_owned(), answer);
            }
            new
        });
    }

    /// Another prompt begins: what was answered before is of no use to it.
    pub fn clear(&self) {
        self.0.send_if_modified(|held| !std::mem::take(held).is_empty());
    }

    /// How a question ended, if it did.
    pub fn of(&self, request_id: &str) -> Option<Answer> {
        self.0.borrow().get(request_id).cloned()
    }

    /// Raised whenever there is another answer.
    pub fn watch(&self) -> watch::Receiver<HashMap<String, Answer>> {
        self.0.subscribe()
    }
}
