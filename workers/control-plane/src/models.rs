//! Models that a session can use: those of the catalogue whose provider is set up and that the deployment enabled.

mod catalogue;

use std::collections::BTreeMap;

use futures_util::future::join3;
use oi_protocol::local_backend::{ModelProvider, ProviderModel};
use oi_protocol::rest::{ModelInfo, ModelList};
use oi_session::allowed_models::AllowedModels;
use oi_worker_kit::vars::Vars;
use oi_worker_kit::{Failure, Refusal};

use crate::store::secrets::{self, SecretScope};
use crate::store::{Database, model_preferences, provider_accounts};
use catalogue::{CATALOGUE, Group, Known};

/// What is chosen when it is there and nothing else is said.
const PREFERRED: &str = "anthropic/claude-sonnet-4-6";
const DEMO: &str = "demo/scripted";
const COMPATIBLE: &str = "@ai-sdk/openai-compatible";

struct SetUp {
    provider: ModelProvider,
    models: Vec<ModelInfo>,
    enabled_by_default: bool,
}

struct Reached<'a> {
    id: &'a str,
    name: &'a str,
    npm: &'a str,
    base_url: &'a str,
    api_key: Option<String>,
}

fn set_up(reached: Reached<'_>, models: &[Known], enabled_by_default: bool) -> SetUp {
    let Reached { id, name, npm, base_url, api_key } = reached;
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
        default_reasoning_effort: known.default_effort.map(str::to_owned),
        demo: id == "demo",
    };
    SetUp {
        models: models.iter().map(info).collect(),
        enabled_by_default,
        provider: ModelProvider {
            id: id.to_owned(),
            name: name.to_owned(),
            npm: npm.to_owned(),
            base_url: base_url.trim_end_matches('/').to_owned(),
            api_key,
            models: models.iter().map(provider_model).collect(),
        },
    }
}

fn of_group(group: &Group, vars: &impl Vars, api_key: Option<String>) -> SetUp {
    let base_url = vars.get_or(group.base_url_variable, group.base_url);
    let reached = Reached { id: group.provider, name: group.name, npm: group.npm, base_url: &base_url, api_key };
    set_up(reached, group.models, group.enabled_by_default)
}

/// What the deployment has.
pub struct Models {
    set_up: Vec<SetUp>,
    default_model: Option<String>,
    /// What people chose, when they did, and the version of that.
    chosen: Option<Vec<String>>,
    version: i64,
}

/// An id as it is stored: a bare name of two vendors gets theirs in front.
fn normalized(id: &str) -> String {
    let id = id.trim();
    match id {
        _ if id.contains('/') => id.to_owned(),
        _ if id.starts_with("claude-") => format!("anthropic/{id}"),
        _ if id.starts_with("gpt-") => format!("openai/{id}"),
        _ => id.to_owned(),
    }
}

fn shown(text: &str) -> &str {
    oi_protocol::text::truncate_bytes(text, 100)
}

impl Models {
    /// From the keys and base URLs in the deployment's variables. The scripted model is there only without others.
    pub fn of(vars: &impl Vars) -> Self {
        Self::reached(vars, &[], |_| None)
    }

    /// The same, with the providers at which there is an account for everybody, and those whose key is somewhere else: a
    /// key of the users' secrets stands over the deployment's.
    fn reached(vars: &impl Vars, accounts: &[String], key_of: impl Fn(&str) -> Option<String>) -> Self {
        let mut found = Vec::new();
        for group in CATALOGUE {
            let key = key_of(group.key_variable).or_else(|| vars.get(group.key_variable));
            if key.is_some() || accounts.iter().any(|provider| provider == group.provider) {
                found.push(of_group(group, vars, key));
            }
        }
        if let (Some(base), Some(model)) = (vars.get("OPENAI_COMPATIBLE_BASE_URL"), vars.get("OPENAI_COMPATIBLE_MODEL"))
        {
            let reached = Reached {
                id: "compatible",
                name: "OpenAI-compatible",
                npm: COMPATIBLE,
                base_url: &base,
                api_key: vars.get("OPENAI_COMPATIBLE_API_KEY"),
            };
            let mut compatible = set_up(reached, &[], true);
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
                default_reasoning_effort: None,
                demo: false,
            });
            found.push(compatible);
        }
        if let (true, Some(base)) = (found.is_empty(), vars.get("DEMO_MODEL_URL")) {
            let reached = Reached { id: "demo", name: "Demo", npm: COMPATIBLE, base_url: &base, api_key: None };
            found.push(set_up(reached, &[catalogue::known("scripted", "Scripted demo", &[], None)], true));
        }
        Self { set_up: found, default_model: vars.get("DEFAULT_MODEL"), chosen: None, version: 0 }
    }

    /// What the deployment has, of which only what people enabled can be chosen. A provider whose key is a secret of the
    /// deployment is set up; which models there are does not follow from secrets of a repository.
    pub async fn enabled(db: &impl Database, vars: &impl Vars) -> Result<Self, Failure> {
        let keys: Vec<&str> = CATALOGUE.iter().map(|group| group.key_variable).collect();
        let (accounts, stored, secret) = join3(
            provider_accounts::default_providers(db),
            model_preferences::get(db),
            secrets::names_of(db, &SecretScope::Global, &keys),
        )
        .await;
        let (accounts, secret) = (accounts?, secret?);
        // Whether there is a key is all that counts here.
        let mut models = Self::reached(vars, &accounts, |name| secret.iter().any(|own| own == name).then(String::new));
        if let Some(stored) = stored? {
            models.version = stored.version;
            models.choose_of(&stored.enabled_models);
        }
        Ok(models)
    }

    /// Takes over what people enabled. What nothing is known of, or is not there, does not count.
    fn choose_of(&mut self, enabled: &[String]) {
        let mut chosen: Vec<String> = Vec::new();
        for id in enabled.iter().map(|id| normalized(id)).filter(|id| self.is_known(id)) {
            if !chosen.contains(&id) {
                chosen.push(id);
            }
        }
        self.chosen = (!chosen.is_empty()).then_some(chosen);
    }

    /// Whether an id is of the catalogue or of this deployment.
    fn is_known(&self, id: &str) -> bool {
        catalogue::ids().any(|known| known == id) || self.all().any(|model| model.id == id)
    }

    fn all(&self) -> impl Iterator<Item = &ModelInfo> {
        self.set_up.iter().flat_map(|set_up| &set_up.models)
    }

    /// Those that are enabled.
    fn usable(&self) -> impl Iterator<Item = &ModelInfo> {
        self.set_up.iter().flat_map(|set_up| {
            set_up.models.iter().filter(|model| match &self.chosen {
                // The scripted one is there when there is nothing else.
                _ if model.id == DEMO => true,
                Some(chosen) => chosen.contains(&model.id),
                None => set_up.enabled_by_default,
            })
        })
    }

    /// Whether the only model is the scripted one.
    pub fn is_demo(&self) -> bool {
        self.all().any(|model| model.id == DEMO)
    }

    /// What sessions use that name none: the deployment's choice when it is enabled, else the preferred one, else the
    /// first.
    pub fn default_model(&self) -> Option<&ModelInfo> {
        let named = |id: &str| self.usable().find(|model| model.id == id);
        let chosen = self.default_model.as_deref().and_then(named);
        chosen.or_else(|| named(PREFERRED)).or_else(|| self.usable().next())
    }

    /// The list for people.
    pub fn list(&self) -> ModelList {
        ModelList {
            models: self.usable().cloned().collect(),
            default_model: self.default_model().map(|model| model.id.clone()).unwrap_or_default(),
        }
    }

    /// What people enabled, or what is enabled when nobody chose.
    pub fn enabled_ids(&self) -> Vec<String> {
        if let Some(chosen) = &self.chosen {
            return chosen.clone();
        }
        let of_the_deployment =
            self.all().map(|model| model.id.clone()).filter(|id| !catalogue::ids().any(|known| known == *id));
        catalogue::ids().chain(of_the_deployment).filter(|id| catalogue::is_enabled_by_default(id)).collect()
    }

    /// What pages may name, for a session.
    pub fn allowed(&self) -> AllowedModels {
        let models: BTreeMap<_, _> =
            self.usable().map(|model| (model.id.clone(), model.reasoning_efforts.clone())).collect();
        AllowedModels { version: self.version, models }
    }

    /// A list that somebody wants to enable: each once, in its order.
    pub fn checked(&self, wanted: &[String]) -> Result<Vec<String>, Refusal> {
        let mut ids: Vec<String> = Vec::new();
        let mut invalid = Vec::new();
        for id in wanted.iter().map(|id| normalized(id)) {
            if !self.is_known(&id) {
                invalid.push(shown(&id).to_owned());
            } else if !ids.contains(&id) {
                ids.push(id);
            }
        }
        if !invalid.is_empty() {
            return Err(Refusal::invalid_body(format!("Invalid model IDs: {}", invalid.join(", "))));
        }
        if ids.is_empty() {
            return Err(Refusal::invalid_body("At least one model must be enabled"));
        }
        Ok(ids)
    }

    /// How sandboxes reach the providers, with keys. All that are set up: a session keeps the model that it began with.
    pub fn providers(&self) -> Vec<ModelProvider> {
        self.set_up.iter().map(|set_up| set_up.provider.clone()).collect()
    }

    /// How sandboxes of a session reach the providers: with keys, those of its own secrets before the deployment's, or by
    /// an account at `by_account`, whose tokens they ask for. Of a provider with an account no key reaches a sandbox, a
    /// secret neither.
    pub fn providers_for(
        vars: &impl Vars,
        by_account: &[String],
        secrets: &mut BTreeMap<String, String>,
    ) -> Vec<ModelProvider> {
        for group in CATALOGUE.iter().filter(|group| by_account.iter().any(|provider| provider == group.provider)) {
            secrets.remove(group.key_variable);
        }
        let key_of = |name: &str| secrets.get(name).filter(|key| !key.is_empty()).cloned();
        let mut providers = Self::reached(vars, by_account, key_of).providers();
        for provider in &mut providers {
            if by_account.contains(&provider.id) {
                provider.api_key = None;
            }
        }
        providers
    }

    /// The model that a request names, or the default; with the effort, when it is one of the model's.
    pub fn choose(&self, model: Option<&str>, effort: Option<&str>) -> Result<(&ModelInfo, Option<String>), Refusal> {
        let chosen = match model.map(str::trim).filter(|model| !model.is_empty()) {
            Some(id) => self.named(id)?,
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

    /// The enabled model of an id; else what it is, and those that are enabled.
    fn named(&self, id: &str) -> Result<&ModelInfo, Refusal> {
        let id = normalized(id);
        self.usable().find(|model| model.id == id).ok_or_else(|| {
            let ids: Vec<&str> = self.usable().map(|model| model.id.as_str()).collect();
            let ids = if ids.is_empty() { "none".to_owned() } else { ids.join(", ") };
            let shown = shown(&id);
            let sentence = if self.all().any(|model| model.id == id) {
                format!("Model `{shown}` is not enabled. Available: {ids}")
            } else {
                format!("Unknown model `{shown}`. Available: {ids}")
            };
            Refusal::invalid_body(sentence)
        })
    }

    /// What is taken over from elsewhere: its model and effort while they are enabled, else the default one.
    pub fn inherit(&self, model: &str, effort: Option<&str>) -> Result<(&ModelInfo, Option<String>), Refusal> {
        self.choose(Some(model), effort)
            .or_else(|_| self.choose(Some(model), None))
            .or_else(|_| self.choose(None, None))
    }

    /// Whether settings may name this model and effort: known, enabled, and of each other.
    pub fn settings_may_name(&self, model: Option<&str>, effort: Option<&str>) -> Result<(), Refusal> {
        let known = match model {
            Some(id) => Some(self.named(id)?),
            None => None,
        };
        match (known, effort) {
            (Some(_), effort) => self.choose(model, effort).map(|_| ()),
            (None, Some(effort)) if !catalogue::EFFORTS.contains(&effort) => {
                Err(Refusal::invalid_body(format!("reasoningEffort must be one of {}", catalogue::EFFORTS.join(", "))))
            }
            (None, _) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::native::Native;
    use crate::store::params;
    use futures_executor::block_on;
    use std::collections::BTreeSet;

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

    const KEYS: [(&str, &str); 3] = [("ANTHROPIC_API_KEY", "a"), ("OPENAI_API_KEY", "o"), ("XAI_API_KEY", "x")];

    #[test]
    fn without_a_choice_two_vendors_are_enabled_and_with_one_what_was_chosen() {
        let mut all = models(&KEYS);
        assert!(all.choose(Some("openai/gpt-5.4"), None).is_ok());
        let refusal = all.choose(Some("xai/grok-4.6"), None).expect_err("not enabled unless somebody says so");
        assert!(refusal.status == 400 && refusal.sentence.contains("`xai/grok-4.6` is not enabled"), "{refusal}");
        assert!(all.enabled_ids().contains(&"openai/gpt-5.4".to_owned()));
        assert!(!all.enabled_ids().contains(&"xai/grok-4.6".to_owned()));
        all.choose_of(&["xai/grok-4.6".to_owned(), "gpt-5.4".to_owned(), "gone/model".to_owned()]);
        assert_eq!(all.enabled_ids(), ["xai/grok-4.6", "openai/gpt-5.4"]);
        assert_eq!(all.list().default_model, "openai/gpt-5.4", "the preferred one is not enabled");
        assert_eq!(all.allowed().models.len(), 2);
        assert!(all.choose(Some(PREFERRED), None).is_err());
        let inherited = all.inherit(PREFERRED, Some("max")).expect("another one");
        assert_eq!((inherited.0.id.as_str(), inherited.1), ("openai/gpt-5.4", None));
        let kept = all.inherit("xai/grok-4.6", Some("high")).expect("it is enabled");
        assert_eq!((kept.0.id.as_str(), kept.1.as_deref()), ("xai/grok-4.6", Some("high")));
        all.choose_of(&["gone/model".to_owned()]);
        assert!(all.choose(Some(PREFERRED), None).is_ok(), "a choice of nothing that is known is none");
    }

    #[test]
    fn a_list_of_models_is_taken_whole_or_not_at_all() {
        let all = models(&KEYS);
        let list = |ids: &[&str]| all.checked(&ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>());
        assert_eq!(
            list(&["gpt-5.5", "claude-opus-5", "openai/gpt-5.5"]),
            Ok(vec!["openai/gpt-5.5".to_owned(), "anthropic/claude-opus-5".to_owned()])
        );
        let refusal = list(&["gpt-5.5", "no-such", "a/b"]).expect_err("two are unknown");
        assert_eq!(refusal.sentence, "Invalid model IDs: no-such, a/b");
        assert_eq!(list(&[]).expect_err("none").sentence, "At least one model must be enabled");
        assert!(list(&["deepseek/deepseek-v4-pro"]).is_ok(), "its provider may be set up later");
    }

    #[test]
    fn an_account_stands_for_a_key_and_takes_its_place() {
        let by_account = ["openai".to_owned()];
        let all = Models::reached(&BTreeMap::<&str, &str>::new(), &by_account, |_| None);
        assert!(all.choose(Some("openai/gpt-5.5"), None).is_ok());
        let vars: BTreeMap<_, _> = KEYS.into_iter().collect();
        let keys = |providers: Vec<ModelProvider>| -> Vec<(String, bool)> {
            providers.into_iter().map(|provider| (provider.id, provider.api_key.is_some())).collect()
        };
        let expected = [("anthropic", true), ("openai", false), ("xai", true)].map(|(id, key)| (id.to_owned(), key));
        let theirs = [("OPENAI_API_KEY", "s-o"), ("XAI_API_KEY", "s-x"), ("OTHER", "s")];
        let mut secrets: BTreeMap<String, String> =
            theirs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let providers = Models::providers_for(&vars, &by_account, &mut secrets);
        let of_xai = providers.iter().find(|provider| provider.id == "xai").expect("it is set up");
        assert_eq!(of_xai.api_key.as_deref(), Some("s-x"), "the session's own key stands over the deployment's");
        assert_eq!(keys(providers), expected);
        assert_eq!(secrets.into_keys().collect::<Vec<_>>(), ["OTHER", "XAI_API_KEY"], "an account's key is no use");
    }

    #[test]
    fn a_key_among_the_deployments_secrets_sets_a_provider_up() {
        let (db, none) = (Native::new(), BTreeMap::<&str, &str>::new());
        let enabled = |db: &Native| block_on(Models::enabled(db, &none)).expect("read");
        assert!(enabled(&db).list().models.is_empty());
        let insert = "INSERT INTO secrets (scope_kind, scope_id, name, sealed_value, key_id, value_bytes, created_at,
            updated_at) VALUES (?, ?, 'ANTHROPIC_API_KEY', 'sealed', 'k', 1, 1, 1)";
        let (kind, id) = (SecretScope::Repository(7).kind(), SecretScope::Repository(7).id());
        block_on(db.change(insert, params![kind, id])).expect("stored");
        assert!(enabled(&db).list().models.is_empty(), "a repository's says nothing of the others");
        block_on(db.change(insert, params![SecretScope::Global.kind(), SecretScope::Global.id()])).expect("stored");
        assert_eq!(enabled(&db).list().default_model, PREFERRED);
    }

    #[test]
    fn settings_name_models_and_efforts_that_go_together() {
        let all = models(&KEYS);
        for (model, effort, fits) in [
            (None, None, true),
            (None, Some("high"), true),
            (None, Some("hard"), false),
            (Some("anthropic/claude-haiku-4-5"), Some("max"), true),
            (Some("anthropic/claude-haiku-4-5"), Some("low"), false),
            (Some("xai/grok-4.6"), None, false),
            (Some("no/model"), None, false),
        ] {
            assert_eq!(all.settings_may_name(model, effort).is_ok(), fits, "{model:?} {effort:?}");
        }
    }

    #[test]
    fn the_catalogue_is_the_specifications() {
        assert_eq!(catalogue::ids().count(), 32);
        let ids: BTreeSet<String> = catalogue::ids().collect();
        assert_eq!(ids.len(), 32, "each once");
        for group in CATALOGUE {
            for known in group.models {
                assert!(known.efforts.iter().all(|effort| catalogue::EFFORTS.contains(effort)), "{}", known.id);
                assert!(known.default_effort.is_none_or(|effort| known.efforts.contains(&effort)), "{}", known.id);
            }
        }
    }
}
