//! Models that a session can use: those whose provider is set up, from a catalogue in display order.

use oi_protocol::local_backend::{ModelProvider, ProviderModel};
use oi_protocol::rest::{ModelInfo, ModelList};
use oi_worker_kit::Refusal;
use oi_worker_kit::vars::Vars;

/// What is chosen when it is there and nothing else is said.
const PREFERRED: &str = "anthropic/claude-sonnet-4-6";
const DEMO: &str = "demo/scripted";

struct Known {
    id: &'static str,
    name: &'static str,
    efforts: &'static [&'static str],
}

const fn known(id: &'static str, name: &'static str, efforts: &'static [&'static str]) -> Known {
    Known { id, name, efforts }
}

const ANTHROPIC: &[Known] = &[
    known("claude-haiku-4-5", "Claude Haiku 4.5", &["high", "max"]),
    known("claude-sonnet-4-6", "Claude Sonnet 4.6", &["low", "medium", "high", "max"]),
    known("claude-sonnet-5", "Claude Sonnet 5", &["low", "medium", "high", "xhigh", "max"]),
    known("claude-opus-4-8", "Claude Opus 4.8", &["low", "medium", "high", "xhigh", "max"]),
    known("claude-opus-5", "Claude Opus 5", &["low", "medium", "high", "xhigh", "max"]),
];
const OPENAI: &[Known] = &[
    known("gpt-5.4", "GPT 5.4", &["none", "low", "medium", "high", "xhigh"]),
    known("gpt-5.5", "GPT 5.5", &["none", "low", "medium", "high", "xhigh"]),
    known("gpt-5.3-codex", "GPT 5.3 Codex", &["low", "medium", "high", "xhigh"]),
];

struct SetUp {
    provider: ModelProvider,
    models: Vec<ModelInfo>,
}

fn set_up(id: &str, name: &str, npm: &str, base_url: &str, api_key: Option<String>, catalogue: &[Known]) -> SetUp {
    let provider_model = |known: &Known| ProviderModel {
        id: known.id.to_owned(),
        name: known.name.to_owned(),
        context_tokens: None,
        output_tokens: None,
    };
    let info = |known: &Known| ModelInfo {
        id: format!("{id}/{}", known.id),
        name: known.name.to_owned(),
        provider: name.to_owned(),
        reasoning_efforts: known.efforts.iter().map(|effort| (*effort).to_owned()).collect(),
        demo: id == "demo",
    };
    SetUp {
        models: catalogue.iter().map(info).collect(),
        provider: ModelProvider {
            id: id.to_owned(),
            name: name.to_owned(),
            npm: npm.to_owned(),
            base_url: base_url.trim_end_matches('/').to_owned(),
            api_key,
            models: catalogue.iter().map(provider_model).collect(),
        },
    }
}

/// What the deployment has.
pub struct Models {
    set_up: Vec<SetUp>,
    default_model: Option<String>,
}

impl Models {
    /// From the keys and base URLs in the deployment's variables. The scripted model is there only without others.
    pub fn of(vars: &impl Vars) -> Self {
        const COMPATIBLE: &str = "@ai-sdk/openai-compatible";
        let mut found = Vec::new();
        if let Some(key) = vars.get("ANTHROPIC_API_KEY") {
            let base = vars.get_or("ANTHROPIC_BASE_URL", "https://api.anthropic.com/v1");
            found.push(set_up("anthropic", "Anthropic", "@ai-sdk/anthropic", &base, Some(key), ANTHROPIC));
        }
        if let Some(key) = vars.get("OPENAI_API_KEY") {
            let base = vars.get_or("OPENAI_BASE_URL", "https://api.openai.com/v1");
            found.push(set_up("openai", "OpenAI", "@ai-sdk/openai", &base, Some(key), OPENAI));
        }
        if let (Some(base), Some(model)) = (vars.get("OPENAI_COMPATIBLE_BASE_URL"), vars.get("OPENAI_COMPATIBLE_MODEL"))
        {
            let key = vars.get("OPENAI_COMPATIBLE_API_KEY");
            let mut compatible = set_up("compatible", "OpenAI-compatible", COMPATIBLE, &base, key, &[]);
            compatible.provider.models.push(ProviderModel {
                id: model.clone(),
                name: model.clone(),
                context_tokens: None,
                output_tokens: None,
            });
            compatible.models.push(ModelInfo {
                id: format!("compatible/{model}"),
                name: model,
                provider: "OpenAI-compatible".to_owned(),
                reasoning_efforts: Vec::new(),
                demo: false,
            });
            found.push(compatible);
        }
        if let (true, Some(base)) = (found.is_empty(), vars.get("DEMO_MODEL_URL")) {
            let catalogue = [known("scripted", "Scripted demo", &[])];
            found.push(set_up("demo", "Demo", COMPATIBLE, &base, None, &catalogue));
        }
        Self { set_up: found, default_model: vars.get("DEFAULT_MODEL") }
    }

    fn all(&self) -> impl Iterator<Item = &ModelInfo> {
        self.set_up.iter().flat_map(|set_up| &set_up.models)
    }

    /// Whether the only model is the scripted one.
    pub fn is_demo(&self) -> bool {
        self.all().any(|model| model.id == DEMO)
    }

    /// What sessions use that name none: the deployment's choice when it is there, else the preferred one, else the
    /// first.
    pub fn default_model(&self) -> Option<&ModelInfo> {
        let named = |id: &str| self.all().find(|model| model.id == id);
        let chosen = self.default_model.as_deref().and_then(named);
        chosen.or_else(|| named(PREFERRED)).or_else(|| self.all().next())
    }

    /// The list for people.
    pub fn list(&self) -> ModelList {
        ModelList {
            models: self.all().cloned().collect(),
            default_model: self.default_model().map(|model| model.id.clone()).unwrap_or_default(),
        }
    }

    /// How sandboxes reach the providers, with keys.
    pub fn providers(&self) -> Vec<ModelProvider> {
        self.set_up.iter().map(|set_up| set_up.provider.clone()).collect()
    }

    /// The model that a request names, or the default; with the effort, when it is one of the model's.
    pub fn choose(&self, model: Option<&str>, effort: Option<&str>) -> Result<(&ModelInfo, Option<String>), Refusal> {
        let chosen = match model.map(str::trim).filter(|model| !model.is_empty()) {
            Some(id) => self.all().find(|known| known.id == id).ok_or_else(|| {
                let ids: Vec<&str> = self.all().map(|known| known.id.as_str()).collect();
                let shown = oi_protocol::text::truncate_bytes(id, 100);
                Refusal::invalid_body(format!("Unknown model `{shown}`. Available: {}", ids.join(", ")))
            })?,
            None => self.default_model().ok_or_else(|| {
                Refusal::not_configured(
                    "No model is set up. Set ANTHROPIC_API_KEY, OPENAI_API_KEY or OPENAI_COMPATIBLE_BASE_URL.",
                )
            })?,
        };
        match effort {
            Some(effort) if !chosen.reasoning_efforts.iter().any(|known| known == effort) => {
                let shown = oi_protocol::text::truncate_bytes(effort, 40);
                let known = chosen.reasoning_efforts.join(", ");
                let known = if known.is_empty() { "none" } else { &known };
                Err(Refusal::invalid_body(format!(
                    "Unknown reasoningEffort `{shown}` of {}. Available: {known}",
                    chosen.id
                )))
            }
            effort => Ok((chosen, effort.map(str::to_owned))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn models(vars: &[(&'static str, &'static str)]) -> Models {
        Models::of(&vars.iter().copied().collect::<BTreeMap<_, _>>())
    }

    const DEMO_URL: (&str, &str) = ("DEMO_MODEL_URL", "http://127.0.0.1:8789/v1/");

    #[test]
    fn the_scripted_model_is_there_only_without_others() {
        let demo = models(&[DEMO_URL]);
        assert!(demo.is_demo());
        assert_eq!(demo.list().default_model, "demo/scripted");
        assert_eq!(demo.providers()[0].base_url, "http://127.0.0.1:8789/v1");
        assert!(demo.providers()[0].api_key.is_none());
        let real = models(&[DEMO_URL, ("ANTHROPIC_API_KEY", "k")]);
        assert!(!real.is_demo());
        assert_eq!(real.list().default_model, PREFERRED);
    }

    #[test]
    fn providers_are_those_that_are_set_up() {
        let all = models(&[
            ("ANTHROPIC_API_KEY", "a"),
            ("OPENAI_API_KEY", "o"),
            ("OPENAI_COMPATIBLE_BASE_URL", "http://x/v1"),
            ("OPENAI_COMPATIBLE_MODEL", "qwen/q3"),
            ("DEFAULT_MODEL", "openai/gpt-5.5"),
        ]);
        let ids: Vec<String> = all.providers().into_iter().map(|provider| provider.id).collect();
        assert_eq!(ids, ["anthropic", "openai", "compatible"]);
        assert_eq!(all.list().default_model, "openai/gpt-5.5");
        assert!(all.choose(Some("compatible/qwen/q3"), None).is_ok());
        assert_eq!(models(&[("OPENAI_COMPATIBLE_BASE_URL", "http://x")]).providers().len(), 0, "a model is needed");
    }

    #[test]
    fn a_model_or_effort_that_is_not_there_is_refused_with_those_that_are() {
        let real = models(&[("ANTHROPIC_API_KEY", "k"), ("DEFAULT_MODEL", "gone/model")]);
        assert_eq!(real.choose(None, None).map(|(model, _)| model.id.as_str()), Ok(PREFERRED));
        let refusal = real.choose(Some("openai/gpt-5.5"), None).expect_err("not set up");
        assert!(refusal.sentence.contains("anthropic/claude-opus-5"), "{refusal}");
        let refusal = real.choose(Some("anthropic/claude-haiku-4-5"), Some("low")).expect_err("no such effort");
        assert!(refusal.sentence.contains("high, max"), "{refusal}");
        let chosen = real.choose(Some("anthropic/claude-haiku-4-5"), Some("max")).expect("is there");
        assert_eq!(chosen.1.as_deref(), Some("max"));
        assert_eq!(models(&[]).choose(None, None).expect_err("nothing is set up").status, 503);
    }
}
