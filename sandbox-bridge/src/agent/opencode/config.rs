//! OpenCode's configuration and environment: offline, allowed everything within the sandbox, models through the
//! gateway, our tools by MCP.

use std::path::Path;

use oi_protocol::local_backend::ModelProvider;
use serde_json::{Map, Value, json};

use crate::mcp_servers::{AgentServer, OWN, Reach};
use crate::model_gateway::account::AccountProvider;

/// Version whose plugin package the npm stub names. OpenCode does not compare it.
const PLUGIN_VERSION: &str = "1.18.33";

/// The SDK of servers that no catalogue knows.
const COMPATIBLE: &str = "@ai-sdk/openai-compatible";
/// For a server whose package may have to be installed first, in ms: the limit of that and a little.
const SERVER_WITHIN_MS: u64 = 200_000;
/// Of our own tools, in ms: a pull request waits for a push.
const OWN_WITHIN_MS: u64 = 600_000;

/// What the configuration is made of.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// `provider/model` of the session.
    pub model: &'a str,
    /// Providers that are reached by a key.
    pub providers: &'a [ModelProvider],
    /// Providers that are reached by an account, which takes the place of a key.
    pub accounts: &'a [AccountProvider],
    /// The gateway.
    pub gateway_url: &'a str,
    /// What opens it, and nothing else.
    pub local_token: &'a str,
    /// MCP servers, our own among them.
    pub servers: &'a [AgentServer],
    /// Whether leave is asked for what changes something. Otherwise everything is allowed: the sandbox is the boundary.
    pub asks_leave: bool,
}

impl Parts<'_> {
    fn by_key(&self) -> impl Iterator<Item = &ModelProvider> {
        self.providers.iter().filter(|provider| self.accounts.iter().all(|account| account.id() != provider.id))
    }

    /// Whether OpenCode can do without its catalogue, which saves memory and a second of its first prompt: every
    /// provider is one that no catalogue knows, or has all its models described.
    pub fn needs_no_catalogue(&self) -> bool {
        let described = |provider: &ModelProvider| {
            let all = provider.models.iter().all(|m| m.context_tokens.is_some() && m.output_tokens.is_some());
            !provider.models.is_empty() && (all || provider.npm == COMPATIBLE)
        };
        // Of xAI's models only one is described here.
        self.by_key().all(described) && !self.accounts.contains(&AccountProvider::Xai)
    }

    fn provider(&self, provider: &ModelProvider, is_free: bool) -> Value {
        let mut models = Map::new();
        for model in &provider.models {
            let mut entry = json!({"name": model.name, "tool_call": true});
            if let (Some(context), Some(output)) = (model.context_tokens, model.output_tokens) {
                entry["limit"] = json!({"context": context, "output": output});
                // Without a catalogue nothing else tells it, and without it there are no efforts to choose from.
                entry["reasoning"] = true.into();
            }
            if is_free {
                // A subscription is paid for already, whatever the catalogue's price.
                entry["cost"] = json!({"input": 0, "output": 0, "cache_read": 0, "cache_write": 0});
                entry["attachment"] = true.into();
                entry["modalities"] = json!({"input": ["text", "image"], "output": ["text"]});
            }
            models.insert(model.id.clone(), entry);
        }
        json!({
            "npm": provider.npm,
            "name": provider.name,
            "options": {"baseURL": format!("{}/{}", self.gateway_url, provider.id), "apiKey": self.local_token},
            "models": models,
        })
    }

    /// What goes into `OPENCODE_CONFIG_CONTENT`. It holds no key and no secret of an MCP server.
    pub fn content(&self) -> Value {
        let mut providers = Map::new();
        for provider in self.by_key() {
            providers.insert(provider.id.clone(), self.provider(provider, false));
        }
        for account in self.accounts {
            let described = account.described();
            let mut entry = self.provider(&described, true);
            if *account == AccountProvider::OpenAi {
                // The subscription has no others.
                entry["whitelist"] = described.models.iter().map(|model| model.id.as_str()).collect();
            }
            providers.insert(described.id, entry);
        }
        let enabled: Vec<&String> = providers.keys().collect();
        json!({
            "$schema": "https://opencode.ai/config.json",
            "model": self.model,
            // Titles are written by this one; without it a provider that nobody configured may be picked.
            "small_model": self.model,
            "share": "disabled",
            "autoupdate": false,
            "lsp": false,
            "formatter": false,
            "snapshot": false,
            "enabled_providers": enabled,
            "permission": if self.asks_leave {
                json!({"*": "allow", "bash": "ask", "edit": "ask", "webfetch": "ask"})
            } else {
                json!({"*": {"*": "allow"}})
            },
            "mcp": self.servers.iter().map(|server| (server.name.clone(), mcp_entry(server))).collect::<Map<_, _>>(),
            "provider": providers,
            // Of servers that come by the Agent Client Protocol, which has no word for it.
            "experimental": {"mcp_timeout": OWN_WITHIN_MS},
        })
    }
}

fn mcp_entry(server: &AgentServer) -> Value {
    match &server.reach {
        Reach::Command(command) => {
            let timeout = if server.name == OWN { OWN_WITHIN_MS } else { SERVER_WITHIN_MS };
            json!({"type": "local", "command": command, "enabled": true, "timeout": timeout})
        }
        Reach::Http { url, token } => json!({
            "type": "remote",
            "url": url,
            "enabled": true,
            // Nobody could go through a sign-in here: the session's headers are what there is.
            "oauth": false,
            "headers": {"Authorization": format!("Bearer {}", token.reveal())},
        }),
    }
}

/// Splits `provider/model`; a bare name is one of Anthropic's.
pub fn split_model(model: &str) -> (&str, &str) {
    model.split_once('/').unwrap_or(("anthropic", model))
}

/// Puts the three files into a configuration folder that keep OpenCode from running `npm install` there.
pub fn stub_npm(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder.join("node_modules"))?;
    let files = [
        ("package.json", format!(r#"{{"dependencies":{{"@opencode-ai/plugin":"{PLUGIN_VERSION}"}}}}"#)),
        (
            "package-lock.json",
            format!(r#"{{"packages":{{"":{{"dependencies":{{"@opencode-ai/plugin":"{PLUGIN_VERSION}"}}}}}}}}"#),
        ),
    ];
    for (name, text) in files {
        let path = folder.join(name);
        if !path.exists() {
            std::fs::write(path, text)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use oi_protocol::local_backend::ProviderModel;

    use super::*;

    fn provider(context: Option<u32>) -> ModelProvider {
        ModelProvider {
            id: "demo".to_owned(),
            name: "Demo".to_owned(),
            npm: "@ai-sdk/openai-compatible".to_owned(),
            base_url: "http://127.0.0.1:8789/v1".to_owned(),
            api_key: Some("sk-secret".to_owned()),
            models: vec![ProviderModel {
                id: "scripted".to_owned(),
                name: "Scripted".to_owned(),
                context_tokens: context,
                output_tokens: context,
            }],
        }
    }

    fn parts<'a>(providers: &'a [ModelProvider], accounts: &'a [AccountProvider]) -> Parts<'a> {
        Parts {
            model: "demo/scripted",
            providers,
            accounts,
            gateway_url: "http://127.0.0.1:1",
            local_token: "local",
            servers: &[],
            asks_leave: false,
        }
    }

    #[test]
    fn the_configuration_names_the_gateway_and_never_the_key() {
        let config = parts(&[provider(Some(8))], &[]).content();
        assert_eq!(config["provider"]["demo"]["options"]["baseURL"], "http://127.0.0.1:1/demo");
        assert_eq!(config["provider"]["demo"]["models"]["scripted"]["limit"]["context"], 8);
        assert_eq!(config["enabled_providers"], json!(["demo"]));
        assert!(!config.to_string().contains("sk-secret") && !config.to_string().contains("8789"));
    }

    #[test]
    fn an_account_takes_the_place_of_a_key_and_costs_nothing() {
        let by_key = ModelProvider { id: "openai".to_owned(), npm: "@ai-sdk/openai".to_owned(), ..provider(Some(8)) };
        let config = parts(&[by_key], &[AccountProvider::OpenAi]).content();
        let models = config["provider"]["openai"]["models"].as_object().expect("models");
        assert_eq!(models.len(), 10);
        assert_eq!(models["gpt-5.5"]["cost"]["output"], 0);
        assert_eq!(models["gpt-5.3-codex"]["limit"], json!({"context": 1_000_000, "output": 1_000_000}));
        assert_eq!(config["enabled_providers"], json!(["openai"]));
    }

    #[test]
    fn the_catalogue_is_needed_as_soon_as_a_known_vendors_model_lacks_its_limits() {
        let vendor = |limit| ModelProvider { npm: "@ai-sdk/anthropic".to_owned(), ..provider(limit) };
        assert!(parts(&[provider(None), vendor(Some(8))], &[AccountProvider::OpenAi]).needs_no_catalogue());
        assert!(!parts(&[provider(Some(8)), vendor(None)], &[]).needs_no_catalogue());
        assert!(!parts(&[ModelProvider { models: Vec::new(), ..provider(None) }], &[]).needs_no_catalogue());
        assert!(!parts(&[provider(None)], &[AccountProvider::Xai]).needs_no_catalogue());
    }

    #[test]
    fn models_split_at_the_first_slash() {
        assert_eq!(split_model("openrouter/meta/llama"), ("openrouter", "meta/llama"));
        assert_eq!(split_model("claude-sonnet-4-6"), ("anthropic", "claude-sonnet-4-6"));
    }
}
