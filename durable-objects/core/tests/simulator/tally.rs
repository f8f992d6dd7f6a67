//! What happened in all seeds together: a simulator in which nothing happens finds nothing.

use std::collections::BTreeMap;

/// What must happen often enough. The number: of so many seeds it happens in one, about, or more often.
const EXPECTED: [(&str, u64); 51] = [
    ("prompts", 1),
    ("done", 1),
    ("stopped", 2),
    ("failed", 2),
    ("sandboxes", 1),
    ("faults", 1),
    ("kills", 2),
    ("evictions", 1),
    ("resumes", 1),
    ("doubled frames", 1),
    ("lost frames", 3),
    ("doubled client frames", 2),
    ("lost client frames", 2),
    ("pull requests", 2),
    ("frames of replaced sandboxes", 20),
    ("calls of replaced sandboxes", 4),
    ("marks checked", 1),
    ("views checked", 1),
    ("memories checked", 1),
    ("restored sandboxes", 10),
    ("sandboxes that went on", 10),
    ("archived rows", 1),
    ("answered questions", 10),
    ("late alarms", 1),
    ("doubled alarms", 1),
    ("swallowed alarms", 2),
    ("jumps forward", 2),
    ("jumps back", 2),
    ("refused statements", 1),
    ("outages of storage", 3),
    ("outages of D1", 3),
    ("outages of the backend", 3),
    ("outages of the bots", 3),
    ("results twice", 1),
    ("results late", 2),
    ("jobs given up", 2),
    ("bots told", 2),
    ("results offered", 10),
    ("children", 8),
    ("forks", 8),
    ("copied rows", 4),
    ("history read", 2),
    ("history of files read", 8),
    ("deletions", 10),
    ("cancelled sessions", 20),
    ("archived sessions", 20),
    ("edited prompts", 8),
    ("reordered prompts", 4),
    ("prompts sent now", 8),
    ("budgets reached", 20),
    ("turns indexed", 1),
];

#[derive(Debug, Default, Clone)]
pub struct Tally(BTreeMap<&'static str, u64>);

impl Tally {
    pub fn one(&mut self, what: &'static str) {
        self.more(what, 1);
    }

    pub fn more(&mut self, what: &'static str, count: u64) {
        *self.0.entry(what).or_default() += count;
    }

    pub fn add(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            self.more(what, *count);
        }
    }

    /// What there was too little of in so many seeds.
    pub fn lacks(&self, seeds: u64) -> Vec<String> {
        let lacks = |(what, seldom): &(&str, u64)| {
            let count = self.0.get(what).copied().unwrap_or(0);
            (count < seeds / (seldom * 2)).then(|| format!("{what}: {count}"))
        };
        EXPECTED.iter().filter_map(lacks).collect()
    }

    /// Everything that is counted is expected.
    pub fn strangers(&self) -> Vec<&'static str> {
        self.0.keys().copied().filter(|what| EXPECTED.iter().all(|(known, _)| known != what)).collect()
    }
}
