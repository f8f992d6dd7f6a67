//! What is kept of the code host for a while: KV, by the binding `REPOS_CACHE`. A cache that does not work costs time and
//! nothing else.

use oi_worker_kit::Refusal;
use oi_worker_kit::log::Line;
use serde::Serialize;
use serde::de::DeserializeOwned;
use worker::Env;
use worker::kv::KvStore;

/// The cache.
#[derive(Clone)]
pub enum Cache {
    /// In a Worker.
    Kv(KvStore),
    /// In tests.
    #[cfg(test)]
    Memory(std::rc::Rc<std::cell::RefCell<std::collections::BTreeMap<String, String>>>),
}

fn unusable(doing: &str, error: &impl ToString) {
    Line::warn("control-plane", "forge_cache.unusable").with("doing", doing).with("error", error.to_string()).write();
}

impl Cache {
    /// The binding `REPOS_CACHE`.
    pub fn of(env: &Env) -> Result<Self, Refusal> {
        env.kv("REPOS_CACHE").map(Self::Kv).map_err(|_| Refusal::not_configured("REPOS_CACHE is not bound"))
    }

    /// What is kept.
    pub async fn get(&self, key: &str) -> Option<String> {
        match self {
            Self::Kv(kv) => kv.get(key).text().await.unwrap_or_else(|error| {
                unusable("reading", &error);
                None
            }),
            #[cfg(test)]
            Self::Memory(map) => map.borrow().get(key).cloned(),
        }
    }

    /// Keeps a text for this many seconds, at least 60.
    pub async fn put(&self, key: &str, text: String, seconds: u64) {
        match self {
            Self::Kv(kv) => {
                let put = match kv.put(key, text) {
                    Ok(put) => put.expiration_ttl(seconds),
                    Err(error) => return unusable("writing", &error),
                };
                if let Err(error) = put.execute().await {
                    unusable("writing", &error);
                }
            }
            #[cfg(test)]
            Self::Memory(map) => {
                map.borrow_mut().insert(key.to_owned(), text);
            }
        }
    }

    /// Forgets it.
    pub async fn delete(&self, key: &str) {
        match self {
            Self::Kv(kv) => {
                if let Err(error) = kv.delete(key).await {
                    unusable("deleting", &error);
                }
            }
            #[cfg(test)]
            Self::Memory(map) => {
                map.borrow_mut().remove(key);
            }
        }
    }

    /// What is kept, as JSON. What cannot be read any more is not there.
    pub async fn get_json<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        serde_json::from_str(&self.get(key).await?).ok()
    }

    /// Keeps something as JSON.
    pub async fn put_json(&self, key: &str, value: &impl Serialize, seconds: u64) {
        if let Ok(text) = serde_json::to_string(value) {
            self.put(key, text, seconds).await;
        }
    }
}

#[cfg(test)]
impl Cache {
    /// An empty one.
    pub fn in_memory() -> Self {
        Self::Memory(std::rc::Rc::default())
    }

    /// Everything in it.
    pub fn entries(&self) -> Vec<(String, String)> {
        match self {
            Self::Kv(_) => Vec::new(),
            Self::Memory(map) => map.borrow().iter().map(|(key, text)| (key.clone(), text.clone())).collect(),
        }
    }
}
