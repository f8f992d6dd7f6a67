//! The fields of each integration, and what each may hold.

use oi_protocol::text::utf16_len;
use oi_worker_kit::Refusal;
use serde_json::{Map, Value, json};

use super::{Integration, invalid, object, repository};

const INSTRUCTIONS_MAX: usize = 10_000;
const USERS_MAX: usize = 200;
const RULES_MAX: usize = 100;
const KEYWORD_MAX: usize = 100;
const LABEL_MAX: usize = 100;
/// Nobody means more than this by a number.
const COUNT_MAX: i64 = 1_000_000;

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Switch,
    Instructions,
    Model,
    Effort,
    Users,
    Port,
    Ports,
    /// A whole number from 1.
    Count,
    /// A whole number from 1; null for the provider's own.
    CountOrNull,
    /// A number above 0; null for the provider's own.
    AmountOrNull,
    /// Whole seconds in ms.
    Seconds,
    Mentions,
    Rules,
    Label,
}

/// A field.
pub struct Field {
    pub name: &'static str,
    pub kind: Kind,
    /// Whether it is set for all only.
    pub global_only: bool,
}

const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, global_only: false }
}

const fn global(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, global_only: true }
}

/// The fields of an integration.
pub const fn of(integration: Integration) -> &'static [Field] {
    match integration {
        Integration::Github => {
            const {
                &[
                    field("autoReviewOnOpen", Kind::Switch),
                    field("model", Kind::Model),
                    field("reasoningEffort", Kind::Effort),
                    field("allowedTriggerUsers", Kind::Users),
                    field("codeReviewInstructions", Kind::Instructions),
                    field("commentActionInstructions", Kind::Instructions),
                ]
            }
        }
        Integration::Linear => {
            const {
                &[
                    field("model", Kind::Model),
                    field("reasoningEffort", Kind::Effort),
                    field("allowUserPreferenceOverride", Kind::Switch),
                    field("allowLabelModelOverride", Kind::Switch),
                    field("emitToolProgressActivities", Kind::Switch),
                    field("issueSessionInstructions", Kind::Instructions),
                ]
            }
        }
        Integration::CodeServer | Integration::Vnc => const { &[field("enabled", Kind::Switch)] },
        Integration::Sandbox => {
            const {
                &[
                    field("tunnelPorts", Kind::Ports),
                    field("terminalEnabled", Kind::Switch),
                    field("codeServerPort", Kind::Port),
                    field("vncPort", Kind::Port),
                    field("terminalPort", Kind::Port),
                    field("maxConcurrentChildSessions", Kind::Count),
                    field("maxTotalChildSessions", Kind::Count),
                    field("cpuCores", Kind::AmountOrNull),
                    field("memoryMib", Kind::CountOrNull),
                    field("sandboxTimeoutMs", Kind::Seconds),
                    field("buildTimeoutSeconds", Kind::Count),
                ]
            }
        }
        Integration::Slack => {
            const {
                &[
                    field("agentNotificationsEnabled", Kind::Switch),
                    global("model", Kind::Model),
                    global("mentionsPolicy", Kind::Mentions),
                    global("routingRules", Kind::Rules),
                    global("sessionInstructions", Kind::Instructions),
                ]
            }
        }
        Integration::Scm => {
            const { &[field("alwaysUseDraftMode", Kind::Switch), field("pullRequestLabel", Kind::Label)] }
        }
    }
}

/// A port that nothing of ours has taken.
pub fn is_port(value: &Value) -> bool {
    value.as_i64().is_some_and(|port| (1..=65_535).contains(&port))
}

impl Field {
    fn wrong(&self, must: &str) -> Refusal {
        invalid(format!("{} {must}", self.name))
    }

    /// The value in its stored form; `None` for one that stands for unset.
    pub fn check(&self, value: &Value) -> Result<Option<Value>, Refusal> {
        let whole = |value: &Value| value.as_i64().filter(|count| (1..=COUNT_MAX).contains(count)).map(Value::from);
        let found = match self.kind {
            Kind::Switch => value.as_bool().map(Value::from).ok_or_else(|| self.wrong("must be true or false"))?,
            Kind::Instructions => value
                .as_str()
                .filter(|text| utf16_len(text) <= INSTRUCTIONS_MAX)
                .map(Value::from)
                .ok_or_else(|| self.wrong("must be a text of 10000 characters or fewer"))?,
            Kind::Model | Kind::Effort => value
                .as_str()
                .map(str::trim)
                .filter(|text| (1..=200).contains(&text.len()))
                .map(Value::from)
                .ok_or_else(|| self.wrong("must be a text"))?,
            Kind::Users => self.users(value)?,
            Kind::Port => {
                Some(value.clone()).filter(is_port).ok_or_else(|| self.wrong("must be a port from 1 to 65535"))?
            }
            Kind::Ports => self.ports(value)?,
            Kind::Count => whole(value).ok_or_else(|| self.wrong("must be a whole number from 1"))?,
            Kind::CountOrNull | Kind::AmountOrNull if value.is_null() => Value::Null,
            Kind::CountOrNull => whole(value).ok_or_else(|| self.wrong("must be a whole number from 1, or null"))?,
            Kind::AmountOrNull => Some(value.clone())
                .filter(|value| value.as_f64().is_some_and(|amount| amount > 0.0 && amount <= COUNT_MAX as f64))
                .ok_or_else(|| self.wrong("must be a number above 0, or null"))?,
            Kind::Seconds => value
                .as_i64()
                .filter(|ms| *ms >= 1_000 && *ms % 1_000 == 0 && *ms <= COUNT_MAX * 1_000)
                .map(Value::from)
                .ok_or_else(|| self.wrong("must be whole seconds in ms, 1000 at least"))?,
            Kind::Mentions => value
                .as_str()
                .filter(|word| matches!(*word, "allow" | "escape" | "strip"))
                .map(Value::from)
                .ok_or_else(|| self.wrong("must be allow, escape or strip"))?,
            Kind::Rules => self.rules(value)?,
            Kind::Label => return self.label(value),
        };
        Ok(Some(found))
    }

    fn users(&self, value: &Value) -> Result<Value, Refusal> {
        let wrong = || self.wrong("must be a list of logins, 200 at most");
        let listed = value.as_array().filter(|listed| listed.len() <= USERS_MAX).ok_or_else(wrong)?;
        let mut users: Vec<String> = Vec::new();
        for user in listed {
            let user = user.as_str().map(|user| user.trim().to_lowercase());
            let user = user.filter(|user| (1..=100).contains(&user.len())).ok_or_else(wrong)?;
            if !users.contains(&user) {
                users.push(user);
            }
        }
        Ok(json!(users))
    }

    fn ports(&self, value: &Value) -> Result<Value, Refusal> {
        let wrong = || self.wrong("must be a list of ports from 1 to 65535, 10 at most");
        let listed = value.as_array().ok_or_else(wrong)?;
        let mut ports: Vec<&Value> = Vec::new();
        for port in listed {
            if !is_port(port) {
                return Err(wrong());
            }
            if !ports.contains(&port) {
                ports.push(port);
            }
        }
        if ports.len() > 10 { Err(wrong()) } else { Ok(json!(ports)) }
    }

    fn label(&self, value: &Value) -> Result<Option<Value>, Refusal> {
        let wrong = || self.wrong("must be a text without commas, 100 characters at most");
        let label = value.as_str().map(str::trim).ok_or_else(wrong)?;
        if label.contains([',', '\n', '\r']) || utf16_len(label) > LABEL_MAX {
            return Err(wrong());
        }
        Ok((!label.is_empty()).then(|| label.into()))
    }

    fn rules(&self, value: &Value) -> Result<Value, Refusal> {
        let wrong = || self.wrong("must be a list of {keyword, target, targetType?}, 100 at most");
        let listed = value.as_array().filter(|listed| listed.len() <= RULES_MAX).ok_or_else(wrong)?;
        let mut rules: Vec<Value> = Vec::new();
        for rule in listed {
            let rule = rule_of(object(rule, self.name, &["keyword", "target", "targetType"])?).ok_or_else(wrong)?;
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
        Ok(json!(rules))
    }
}

/// A rule of a repository is stored without its type, one of an environment with it.
fn rule_of(rule: &Map<String, Value>) -> Option<Value> {
    let keyword = rule.get("keyword")?.as_str()?.trim().to_lowercase();
    if !(1..=KEYWORD_MAX).contains(&utf16_len(&keyword)) || keyword.contains(char::is_control) {
        return None;
    }
    let target = rule.get("target")?.as_str()?.trim();
    match rule.get("targetType").map(|kind| kind.as_str()) {
        None if target.contains('/') => Some(json!({"keyword": keyword, "target": repository(target)?})),
        Some(Some("repository")) => Some(json!({"keyword": keyword, "target": repository(target)?})),
        None | Some(Some("environment")) => {
            let fits = (1..=100).contains(&target.len()) && !target.contains(char::is_whitespace);
            fits.then(|| json!({"keyword": keyword, "target": target, "targetType": "environment"}))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routing_rules_are_stored_once_and_in_lower_case() {
        let rules = field("routingRules", Kind::Rules);
        let given = json!([
            {"keyword": " API ", "target": "Acme/App"},
            {"keyword": "api", "target": "acme/app", "targetType": "repository"},
            {"keyword": "web", "target": "env_1", "targetType": "environment"},
            {"keyword": "ops", "target": "env_2"},
        ]);
        assert_eq!(
            rules.check(&given).expect("fits"),
            Some(json!([
                {"keyword": "api", "target": "acme/app"},
                {"keyword": "web", "target": "env_1", "targetType": "environment"},
                {"keyword": "ops", "target": "env_2", "targetType": "environment"},
            ]))
        );
        for bad in [
            json!({}),
            json!([{"keyword": "", "target": "a/b"}]),
            json!([{"keyword": "x".repeat(101), "target": "a/b"}]),
            json!([{"keyword": "a", "target": "../b/c"}]),
            json!([{"keyword": "a", "target": "a/b", "targetType": "team"}]),
            json!([{"keyword": "a", "target": "a/b", "more": 1}]),
            json!(vec![json!({"keyword": "a", "target": "a/b"}); 101]),
        ] {
            assert!(rules.check(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_empty_label_is_none() {
        let label = field("pullRequestLabel", Kind::Label);
        assert_eq!(label.check(&json!("  ")), Ok(None));
        assert_eq!(label.check(&json!(" by agent ")), Ok(Some(json!("by agent"))));
        assert!(label.check(&json!("a,b")).is_err());
        assert!(label.check(&Value::Null).is_err());
    }
}
