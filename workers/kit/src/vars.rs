//! Variables and secrets of a Worker, read by name.

use std::collections::BTreeMap;

use worker::Env;
use worker::js_sys::Reflect;

/// Where variables come from: the Worker's environment, or a map in tests.
pub trait Vars {
    /// The trimmed value, or `None` when it is not set or blank.
    fn get(&self, name: &str) -> Option<String>;

    /// The value of `name`, or `default`.
    fn get_or(&self, name: &str, default: &str) -> String {
        self.get(name).unwrap_or_else(|| default.to_owned())
    }

    /// Whether it is exactly `true`.
    fn is_true(&self, name: &str) -> bool {
        self.get(name).as_deref() == Some("true")
    }

    /// A comma-separated list, trimmed and in lower case, without blanks.
    fn list(&self, name: &str) -> Vec<String> {
        let text = self.get(name).unwrap_or_default();
        text.split(',').map(|item| item.trim().to_lowercase()).filter(|item| !item.is_empty()).collect()
    }

    /// A whole number above 0, or `default` when it is not one.
    fn positive_or(&self, name: &str, default: i64) -> i64 {
        self.get(name).and_then(|text| text.parse().ok()).filter(|value| *value > 0).unwrap_or(default)
    }
}

fn present(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

impl Vars for Env {
    fn get(&self, name: &str) -> Option<String> {
        present(&Reflect::get(self, &name.into()).ok()?.as_string()?)
    }
}

impl Vars for BTreeMap<&str, &str> {
    fn get(&self, name: &str) -> Option<String> {
        present(self.get(name)?)
    }
}
