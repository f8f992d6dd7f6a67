//! Structured logs: one JSON object a line, one line an event. No payloads, no secrets.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::clock;
use crate::trace::Trace;

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Info,
    Warn,
    Error,
}

/// A line that is being put together.
#[must_use = "a line is logged by `write`"]
pub struct Line {
    level: Level,
    fields: Map<String, Value>,
}

impl Line {
    fn new(level: Level, word: &str, service: &str, event: &str) -> Self {
        let mut fields = Map::new();
        fields.insert("level".to_owned(), word.into());
        fields.insert("service".to_owned(), service.into());
        fields.insert("event".to_owned(), event.into());
        Self { level, fields }
    }

    /// Something happened as it should.
    pub fn info(service: &str, event: &str) -> Self {
        Self::new(Level::Info, "info", service, event)
    }

    /// Somebody else did wrong, or something will be tried again.
    pub fn warn(service: &str, event: &str) -> Self {
        Self::new(Level::Warn, "warn", service, event)
    }

    /// We did wrong.
    pub fn error(service: &str, event: &str) -> Self {
        Self::new(Level::Error, "error", service, event)
    }

    /// Adds a field.
    pub fn with(mut self, name: &str, value: impl Serialize) -> Self {
        self.fields.insert(name.to_owned(), serde_json::to_value(value).unwrap_or(Value::Null));
        self
    }

    /// Adds the ids of the request.
    pub fn trace(self, trace: &Trace) -> Self {
        self.with("request_id", &trace.request_id).with("trace_id", &trace.trace_id)
    }

    /// Writes it to the console.
    pub fn write(mut self) {
        if cfg!(target_arch = "wasm32") {
            self.fields.insert("ts".to_owned(), clock::now().0.into());
            let line = Value::Object(self.fields).to_string();
            match self.level {
                Level::Info => worker::console_log!("{line}"),
                Level::Warn => worker::console_warn!("{line}"),
                Level::Error => worker::console_error!("{line}"),
            }
        }
    }
}
