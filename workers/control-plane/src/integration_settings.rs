//! Settings of integrations: what may be set where, what the layers come to, and what bots and sandboxes are told.
//!
//! The layers are the defaults of all, of the repository, and of the environment; a key that a layer does not have is the
//! one below it. What is written is checked whole; what is read is taken as far as it can be.

mod fields;
mod ports;

use oi_worker_kit::Refusal;
use serde_json::{Map, Value, json};

use crate::models::Models;
use crate::source_control::RepositoryName;
use fields::Field;

/// Repositories that a setting is limited to, at most.
const ENABLED_REPOS_MAX: usize = 1_000;

/// An integration with settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Integration {
    Github,
    Linear,
    CodeServer,
    Vnc,
    Sandbox,
    Slack,
    /// The code host; it has routes of its own.
    Scm,
}

/// Where settings are set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Global,
    Repository,
    Environment,
}

impl Integration {
    /// The word of the wire and the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Github => "github",
            Self::Linear => "linear",
            Self::CodeServer => "code-server",
            Self::Vnc => "vnc",
            Self::Sandbox => "sandbox",
            Self::Slack => "slack",
            Self::Scm => "scm",
        }
    }

    /// From the word of a path.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Github, Self::Linear, Self::CodeServer, Self::Vnc, Self::Sandbox, Self::Slack]
            .into_iter()
            .find(|integration| integration.as_str() == word)
    }

    /// Whether environments have settings of it.
    pub const fn has_environments(self) -> bool {
        matches!(self, Self::CodeServer | Self::Vnc | Self::Sandbox)
    }
}

fn invalid(sentence: impl Into<String>) -> Refusal {
    Refusal::invalid_body(sentence.into())
}

/// An object with no other keys than these.
fn object<'v>(value: &'v Value, what: &str, keys: &[&str]) -> Result<&'v Map<String, Value>, Refusal> {
    let object = value.as_object().ok_or_else(|| invalid(format!("{what} must be an object")))?;
    match object.keys().find(|key| !keys.contains(&key.as_str())) {
        Some(key) => {
            Err(invalid(format!("{what} has an unknown field `{}`", oi_protocol::text::truncate_bytes(key, 60))))
        }
        None => Ok(object),
    }
}

/// `owner/name` in lower case.
pub fn repository(text: &str) -> Option<String> {
    let (owner, name) = text.split_once('/')?;
    RepositoryName::parse(owner, name).map(|name| name.as_path())
}

fn enabled_repos(value: &Value) -> Result<Value, Refusal> {
    let wrong = || invalid("enabledRepos must be a list of owner/name, 1000 at most");
    let listed = value.as_array().filter(|listed| listed.len() <= ENABLED_REPOS_MAX).ok_or_else(wrong)?;
    let mut names: Vec<String> = Vec::new();
    for name in listed {
        let name = name.as_str().and_then(repository).ok_or_else(wrong)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(json!(names))
}

/// The fields of one layer, checked and in their stored form.
fn layer(
    integration: Integration,
    level: Level,
    value: &Value,
    models: &Models,
) -> Result<Map<String, Value>, Refusal> {
    let fields: Vec<&Field> =
        fields::of(integration).iter().filter(|field| level == Level::Global || !field.global_only).collect();
    let names: Vec<&str> = fields.iter().map(|field| field.name).collect();
    let given = object(value, "settings", &names)?;
    let mut stored = Map::new();
    for field in fields {
        if let Some(value) = given.get(field.name)
            && let Some(value) = field.check(value)?
        {
            stored.insert(field.name.to_owned(), value);
        }
    }
    if fields::of(integration).iter().any(|field| field.name == "model") {
        let text = |name: &str| stored.get(name).and_then(Value::as_str);
        models.settings_may_name(text("model"), text("reasoningEffort"))?;
    }
    if integration == Integration::Sandbox {
        ports::check(&stored)?;
        let count = |name: &str| stored.get(name).and_then(Value::as_i64);
        if let (Some(live), Some(total)) = (count("maxConcurrentChildSessions"), count("maxTotalChildSessions"))
            && live > total
        {
            return Err(invalid("maxConcurrentChildSessions must not be more than maxTotalChildSessions"));
        }
    }
    Ok(stored)
}

/// A document as it is stored: of all `{enabledRepos?, defaults?}`, else the layer itself.
pub fn checked(integration: Integration, level: Level, value: &Value, models: &Models) -> Result<Value, Refusal> {
    if level != Level::Global {
        return layer(integration, level, value, models).map(Value::Object);
    }
    let keys: &[&str] = if integration == Integration::Scm { &["defaults"] } else { &["enabledRepos", "defaults"] };
    let given = object(value, "settings", keys)?;
    let mut stored = Map::new();
    if let Some(repos) = given.get("enabledRepos") {
        stored.insert("enabledRepos".to_owned(), enabled_repos(repos)?);
    }
    if let Some(defaults) = given.get("defaults") {
        stored.insert("defaults".to_owned(), Value::Object(layer(integration, level, defaults, models)?));
    }
    Ok(Value::Object(stored))
}

/// Stored documents, from the most general to the most special.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Layers {
    pub global: Option<Value>,
    pub repository: Option<Value>,
    pub environment: Option<Value>,
}

impl Layers {
    /// The layers laid on each other. What cannot be read counts as unset.
    pub fn merged(&self, integration: Integration) -> Map<String, Value> {
        let defaults = self.global.as_ref().and_then(|global| global.get("defaults"));
        let layers = [defaults, self.repository.as_ref(), self.environment.as_ref()];
        let mut merged = Map::new();
        for (name, value) in layers.into_iter().flatten().filter_map(Value::as_object).flatten() {
            let field = fields::of(integration).iter().find(|field| field.name == name);
            if let Some(Ok(Some(value))) = field.map(|field| field.check(value)) {
                merged.insert(name.clone(), value);
            }
        }
        if integration == Integration::Sandbox {
            ports::settle(&mut merged);
        }
        merged
    }

    /// Repositories that the integration is limited to; `None` stands for all.
    fn enabled_repos(&self) -> Option<Value> {
        enabled_repos(self.global.as_ref()?.get("enabledRepos")?).ok()
    }

    /// Whether they hold for a repository, or for a session without one.
    pub fn holds_for(&self, repository: Option<&str>) -> bool {
        let Some(Value::Array(limited_to)) = self.enabled_repos() else { return true };
        repository.is_some_and(|repository| limited_to.iter().any(|name| name.as_str() == Some(repository)))
    }

    /// What it comes to, with what holds when nothing is set. `None` for an integration that is not asked for so.
    pub fn resolved(&self, integration: Integration, models: &Models) -> Option<Value> {
        let merged = self.merged(integration);
        let or = |name: &str, default: Value| merged.get(name).cloned().unwrap_or(default);
        let or_null = |name: &str| or(name, Value::Null);
        // A model that was disabled since is as if none were set, and an effort goes with its model.
        let model = merged.get("model").and_then(Value::as_str).filter(|id| models.choose(Some(id), None).is_ok());
        let effort = merged.get("reasoningEffort").and_then(Value::as_str);
        let effort = effort.filter(|effort| models.choose(model, Some(effort)).is_ok());
        let repos = self.enabled_repos().unwrap_or(Value::Null);
        Some(match integration {
            Integration::Github => json!({
                "model": model,
                "reasoningEffort": effort,
                "autoReviewOnOpen": or("autoReviewOnOpen", true.into()),
                "enabledRepos": repos,
                "allowedTriggerUsers": or_null("allowedTriggerUsers"),
                "codeReviewInstructions": or_null("codeReviewInstructions"),
                "commentActionInstructions": or_null("commentActionInstructions"),
            }),
            Integration::Linear => json!({
                "model": model,
                "reasoningEffort": effort,
                "allowUserPreferenceOverride": or("allowUserPreferenceOverride", true.into()),
                "allowLabelModelOverride": or("allowLabelModelOverride", true.into()),
                "emitToolProgressActivities": or("emitToolProgressActivities", true.into()),
                "issueSessionInstructions": or_null("issueSessionInstructions"),
                "enabledRepos": repos,
            }),
            Integration::CodeServer | Integration::Vnc => json!({
                "enabled": or("enabled", false.into()),
                "enabledRepos": repos,
            }),
            Integration::Sandbox => json!({
                "tunnelPorts": or("tunnelPorts", json!([])),
                "terminalEnabled": or("terminalEnabled", false.into()),
                "maxConcurrentChildSessions": or("maxConcurrentChildSessions", 5.into()),
                "maxTotalChildSessions": or("maxTotalChildSessions", 15.into()),
                "cpuCores": or_null("cpuCores"),
                "memoryMib": or_null("memoryMib"),
                "sandboxTimeoutMs": or_null("sandboxTimeoutMs"),
                "enabledRepos": repos,
            }),
            Integration::Slack | Integration::Scm => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn models() -> Models {
        Models::of(&BTreeMap::from([("ANTHROPIC_API_KEY", "k")]))
    }

    fn set(integration: Integration, level: Level, value: &Value) -> Result<Value, String> {
        checked(integration, level, value, &models()).map_err(|refusal| refusal.sentence.into_owned())
    }

    #[test]
    fn a_global_document_is_stored_in_its_own_form() {
        let given = json!({"enabledRepos": ["Acme/App", "acme/app", "acme/b"], "defaults": {
            "model": "anthropic/claude-haiku-4-5", "reasoningEffort": "max", "autoReviewOnOpen": false,
            "allowedTriggerUsers": [" Ada ", "ada", "GRACE"], "codeReviewInstructions": "be kind"}});
        assert_eq!(
            set(Integration::Github, Level::Global, &given),
            Ok(json!({"enabledRepos": ["acme/app", "acme/b"], "defaults": {
                "model": "anthropic/claude-haiku-4-5", "reasoningEffort": "max", "autoReviewOnOpen": false,
                "allowedTriggerUsers": ["ada", "grace"], "codeReviewInstructions": "be kind"}}))
        );
        assert_eq!(set(Integration::Github, Level::Global, &json!({})), Ok(json!({})));
        assert_eq!(
            set(Integration::Github, Level::Global, &json!({"enabledRepos": []})),
            Ok(json!({"enabledRepos": []}))
        );
    }

    #[test]
    fn what_does_not_fit_is_refused_whole() {
        use Integration::{CodeServer, Github, Linear, Sandbox, Scm, Slack};
        use Level::{Environment, Global, Repository};
        let long = "x".repeat(10_001);
        for (integration, level, value, word) in [
            (Github, Global, json!([]), "must be an object"),
            (Github, Global, json!({"defaults": []}), "must be an object"),
            (Github, Global, json!({"default": {}}), "unknown field `default`"),
            (Github, Global, json!({"enabledRepos": ["acme"]}), "enabledRepos"),
            (Github, Global, json!({"enabledRepos": null}), "enabledRepos"),
            (Github, Repository, json!({"enabledRepos": []}), "unknown field"),
            (Github, Repository, json!({"model": "no/model"}), "Unknown model"),
            (Github, Repository, json!({"model": "anthropic/claude-haiku-4-5", "reasoningEffort": "low"}), "Available"),
            (Github, Repository, json!({"reasoningEffort": "hard"}), "reasoningEffort"),
            (Github, Repository, json!({"codeReviewInstructions": long}), "10000"),
            (Github, Repository, json!({"autoReviewOnOpen": "yes"}), "true or false"),
            (Linear, Global, json!({"defaults": {"autoReviewOnOpen": true}}), "unknown field"),
            (CodeServer, Environment, json!({"enabled": 1}), "true or false"),
            (Slack, Repository, json!({"mentionsPolicy": "allow"}), "unknown field"),
            (Slack, Global, json!({"defaults": {"mentionsPolicy": "sometimes"}}), "mentionsPolicy"),
            (Scm, Global, json!({"enabledRepos": []}), "unknown field"),
            (Scm, Repository, json!({"pullRequestLabel": "a,b"}), "pullRequestLabel"),
            (Sandbox, Repository, json!({"tunnelPorts": [0]}), "tunnelPorts"),
            (Sandbox, Repository, json!({"tunnelPorts": [7681]}), "reserved"),
            (Sandbox, Repository, json!({"codeServerPort": 3000, "vncPort": 3000}), "differ"),
            (Sandbox, Repository, json!({"tunnelPorts": [8080]}), "differ"),
            (Sandbox, Repository, json!({"maxConcurrentChildSessions": 9, "maxTotalChildSessions": 3}), "must not be"),
            (Sandbox, Repository, json!({"cpuCores": 0}), "cpuCores"),
            (Sandbox, Repository, json!({"memoryMib": 1.5}), "memoryMib"),
            (Sandbox, Repository, json!({"sandboxTimeoutMs": 1500}), "sandboxTimeoutMs"),
            (Sandbox, Repository, json!({"buildTimeoutSeconds": 0}), "buildTimeoutSeconds"),
        ] {
            let refused = set(integration, level, &value).expect_err(&value.to_string());
            assert!(refused.contains(word), "{value}: {refused}");
        }
    }

    #[test]
    fn layers_lie_on_each_other_and_what_is_not_set_has_a_default() {
        let layers = Layers {
            global: Some(json!({"enabledRepos": ["acme/app"], "defaults": {"terminalEnabled": true, "cpuCores": 4,
                "memoryMib": 2048, "tunnelPorts": [3000]}})),
            repository: Some(json!({"cpuCores": null, "tunnelPorts": [4000, 4000], "sandboxTimeoutMs": 60_000})),
            environment: Some(json!({"maxTotalChildSessions": 3, "memoryMib": -1, "unknown": 1})),
        };
        assert_eq!(
            layers.resolved(Integration::Sandbox, &models()),
            Some(json!({"tunnelPorts": [4000], "terminalEnabled": true, "maxConcurrentChildSessions": 5,
                "maxTotalChildSessions": 3, "cpuCores": null, "memoryMib": 2048, "sandboxTimeoutMs": 60_000,
                "enabledRepos": ["acme/app"]}))
        );
        let github = Layers::default().resolved(Integration::Github, &models()).expect("it is asked for");
        assert_eq!(
            (&github["autoReviewOnOpen"], &github["model"], &github["enabledRepos"]),
            (&json!(true), &Value::Null, &Value::Null)
        );
        assert_eq!(Layers::default().resolved(Integration::Slack, &models()), None);
    }

    #[test]
    fn a_model_that_was_disabled_since_is_none_and_takes_its_effort_with_it() {
        let resolved = |model: &str, effort: &str| {
            let layers = Layers {
                global: Some(json!({"defaults": {"model": model, "reasoningEffort": "max"}})),
                repository: Some(json!({"reasoningEffort": effort})),
                environment: None,
            };
            let found = layers.resolved(Integration::Linear, &models()).expect("it is asked for");
            (found["model"].clone(), found["reasoningEffort"].clone())
        };
        assert_eq!(resolved("anthropic/claude-haiku-4-5", "max"), (json!("anthropic/claude-haiku-4-5"), json!("max")));
        assert_eq!(resolved("anthropic/claude-haiku-4-5", "low"), (json!("anthropic/claude-haiku-4-5"), Value::Null));
        assert_eq!(resolved("openai/gpt-5.5", "none"), (Value::Null, Value::Null));
    }

    #[test]
    fn stored_ports_that_clash_give_way_to_services() {
        let layers = Layers {
            global: Some(json!({"defaults": {"codeServerPort": 3000}})),
            repository: Some(json!({"vncPort": 3000, "tunnelPorts": [3000, 5900, 4000]})),
            environment: None,
        };
        let merged = layers.merged(Integration::Sandbox);
        assert_eq!((merged.get("codeServerPort"), merged.get("vncPort")), (Some(&json!(3000)), None));
        assert_eq!(merged.get("tunnelPorts"), Some(&json!([4000])));
    }
}
