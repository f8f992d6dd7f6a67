//! What each route of the document has answered in a run of the tests, by the control plane's own log.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::{Failed, Outcome};

/// What all systems of this run answered: method, path, status.
static SEEN: Mutex<BTreeSet<(String, String, u16)>> = Mutex::new(BTreeSet::new());
/// Without a right credential every route refuses; the other refusals are counted.
const MUST: u16 = 401;
const REFUSALS: [u16; 3] = [400, 404, 409];

/// Notes what a system's logs say, which go with it.
pub fn remember(logs: &Path) -> Outcome {
    for entry in std::fs::read_dir(logs)?.flatten() {
        let text = String::from_utf8_lossy(&std::fs::read(entry.path())?).into_owned();
        for line in text.lines().filter(|line| line.contains("\"control-plane\"")) {
            let Some(begin) = line.find('{') else { continue };
            let Ok(line) = serde_json::from_str::<Value>(&line[begin..]) else { continue };
            let word = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
            let status = line["http_status"].as_u64().and_then(|status| u16::try_from(status).ok());
            let seen = match word("event").as_str() {
                "http.request" => (word("http_method"), word("http_path"), status.unwrap_or_default()),
                "http.upgraded" => ("GET".to_owned(), word("http_path"), 101),
                _ => continue,
            };
            SEEN.lock().unwrap_or_else(PoisonError::into_inner).insert(seen);
        }
    }
    Ok(())
}

struct Route {
    method: String,
    /// With names in braces.
    template: String,
    documented: BTreeSet<u16>,
    answered: BTreeSet<u16>,
}

/// The routes of the document, and what they answered.
pub struct Coverage(Vec<Route>);

/// How many names a template stands for, when a path has its form.
pub fn names_of(template: &str, path: &str) -> Option<usize> {
    let (mut names, mut segments) = (template.split('/'), path.split('/'));
    let mut found = 0;
    loop {
        match (names.next(), segments.next()) {
            (None, None) => return Some(found),
            (Some(name), Some(segment)) if name.starts_with('{') && !segment.is_empty() => found += 1,
            (Some(name), Some(segment)) if name == segment => {}
            _ => return None,
        }
    }
}

impl Coverage {
    /// Of the checked-in document, with what the systems that were stopped so far answered.
    pub fn so_far() -> Outcome<Self> {
        let document: Value =
            serde_json::from_slice(&std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json"))?)?;
        let paths = document["paths"].as_object().ok_or_else(|| Failed("the document has no paths".to_owned()))?;
        let mut routes = Vec::new();
        for (template, methods) in paths {
            for (method, operation) in methods.as_object().into_iter().flatten() {
                let answers = operation["responses"].as_object().into_iter().flatten();
                routes.push(Route {
                    method: method.to_uppercase(),
                    template: template.clone(),
                    documented: answers.filter_map(|(status, _)| status.parse().ok()).collect(),
                    answered: BTreeSet::new(),
                });
            }
        }
        let mut coverage = Self(routes);
        for (method, path, status) in SEEN.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            coverage.note(method, path, *status);
        }
        Ok(coverage)
    }

    /// Notes an answer.
    fn note(&mut self, method: &str, path: &str, status: u16) {
        // One handler answers at two places where a route is both of services and of browsers.
        let below_api = path.strip_prefix("/api").unwrap_or(path);
        let fitting = self.0.iter().filter_map(|route| {
            let template = route.template.strip_prefix("/api").unwrap_or(&route.template);
            names_of(template, below_api)
        });
        let Some(fewest) = fitting.min() else { return };
        for route in self.0.iter_mut().filter(|route| route.method == method) {
            let template = route.template.strip_prefix("/api").unwrap_or(&route.template);
            if names_of(template, below_api) == Some(fewest) {
                route.answered.insert(status);
            }
        }
    }

    /// Routes by name, at one of their places each, that no test has seen to succeed or to refuse a caller without a right
    /// credential: which of both.
    pub fn missing(&self) -> BTreeMap<String, Vec<&'static str>> {
        let mut missing = BTreeMap::new();
        for route in &self.0 {
            let mut lacking = Vec::new();
            if !route.answered.iter().any(|status| *status < 400) {
                lacking.push("success");
            }
            if route.documented.contains(&MUST) && !route.answered.contains(&MUST) {
                lacking.push("401");
            }
            if !lacking.is_empty() {
                missing.insert(route.name(), lacking);
            }
        }
        missing
    }

    /// How many of the refusals that the document has were seen, and how many it has.
    pub fn refusals(&self) -> (usize, usize) {
        let of = |route: &Route| REFUSALS.into_iter().filter(|status| route.documented.contains(status)).collect();
        let all: Vec<(&Route, Vec<u16>)> = self.0.iter().map(|route| (route, of(route))).collect();
        let seen = all.iter().flat_map(|(route, statuses)| statuses.iter().filter(|s| route.answered.contains(s)));
        (seen.count(), all.iter().map(|(_, statuses)| statuses.len()).sum())
    }
}

impl Route {
    fn name(&self) -> String {
        format!("{} {}", self.method, self.template.strip_prefix("/api").unwrap_or(&self.template))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_for_the_most_literal_route_at_both_of_its_places() {
        let route = |method: &str, template: &str| Route {
            method: method.to_owned(),
            template: template.to_owned(),
            documented: [200, 404, 409].into(),
            answered: BTreeSet::new(),
        };
        let mut coverage = Coverage(vec![
            route("GET", "/sessions/inbox"),
            route("GET", "/api/sessions/{id}"),
            route("GET", "/sessions/{id}"),
        ]);
        coverage.note("GET", "/api/sessions/inbox", 200);
        coverage.note("GET", "/api/sessions/inbox/x", 200);
        coverage.note("POST", "/sessions/a", 200);
        coverage.note("GET", "/sessions/a", 404);
        assert_eq!(coverage.refusals(), (2, 6));
        let missing: Vec<String> = coverage.missing().into_keys().collect();
        assert_eq!(missing, ["GET /sessions/{id}"]);
    }
}
