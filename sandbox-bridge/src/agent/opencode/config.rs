//! OpenCode's configuration and environment: offline, allowed everything within the sandbox, models through the
//! gateway, our tools by MCP.

use std::path::Path;

use oi_protocol::local_backend::ModelProvider;
use serde_json::{Map, Value, json};

/// Version whose plugin package the npm stub names. OpenCode does not compare it.
const PLUGIN_VERSION: &str = "1.18.33";

/// The SDK of servers that no catalogue knows.
const COMPATIBLE: &str = "@ai-sdk/openai-compatible";

/// Whether OpenCode can do without its catalogue, which saves memory and a second of its first prompt: every
/// provider is one that no catalogue knows, or has all its models described.
pub fn needs_no_catalogue(providers: &[ModelProvider]) -> bool {
    providers.iter().all(|provider| {
        let described = provider.models.iter().all(|m| m.context_tokens.is_some() && m.output_tokens.is_some());
        !provider.models.is_empty() && (described || provider.npm == COMPATIBLE)
    })
}

/// What goes into `OPENCODE_CONFIG_CONTENT`. It holds no key: `local_token` opens only the loopback gateway.
pub fn content(
    model: &str,
    providers: &[ModelProvider],
    gateway_url: &str,
    local_token: &str,
    mcp_command: &[String],
) -> Value {
    let mut provider_map = Map::new();
    for provider in providers {
        let mut models = Map::new();
        for model in &provider.models {
            let mut entry = json!({"name": model.name, "tool_call": true});
            if let (Some(context), Some(output)) = (model.context_tokens, model.output_tokens) {
                entry["limit"] = json!({"context": context, "output": output});
            }
            models.insert(model.id.clone(), entry);
        }
        provider_map.insert(
            provider.id.clone(),
            json!({
                "npm": provider.npm,
                "name": provider.name,
                "options": {"baseURL": format!("{gateway_url}/{}", provider.id), "apiKey": local_token},
                "models": models,
            }),
        );
    }
    let enabled: Vec<&str> = providers.iter().map(|provider| provider.id.as_str()).collect();
    json!({
        "$schema": "https://opencode.ai/config.json",
        "model": model,
        // Titles are written by this one; without it a provider that nobody configured may be picked.
        "small_model": model,
        "share": "disabled",
        "autoupdate": false,
        "lsp": false,
        "formatter": false,
        "snapshot": false,
        "enabled_providers": enabled,
        "permission": {"*": {"*": "allow"}},
        "mcp": {"oi": {"type": "local", "command": mcp_command, "enabled": true, "timeout": 600_000}},
        "provider": provider_map,
    })
}

/// Makes the agent ask before it changes files or runs a command: the bridge answers once git is done with the workspace,
/// so that the agent may read in the meantime.
pub fn ask_before_changes(content: &mut Value) {
    content["permission"] = json!({"*": {"*": "allow"}, "bash": {"*": "ask"}, "edit": {"*": "ask"}});
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

    #[test]
    fn the_configuration_names_the_gateway_and_never_the_key() {
        let config = content("demo/scripted", &[provider(Some(8))], "http://127.0.0.1:1", "local", &["x".to_owned()]);
        assert_eq!(config["provider"]["demo"]["options"]["baseURL"], "http://127.0.0.1:1/demo");
        assert_eq!(config["provider"]["demo"]["models"]["scripted"]["limit"]["context"], 8);
        assert_eq!(config["enabled_providers"], json!(["demo"]));
        assert!(!config.to_string().contains("sk-secret") && !config.to_string().contains("8789"));
    }

    #[test]
    fn the_catalogue_is_needed_as_soon_as_a_known_vendors_model_lacks_its_limits() {
        let vendor = |limit| ModelProvider { npm: "@ai-sdk/anthropic".to_owned(), ..provider(limit) };
        assert!(needs_no_catalogue(&[provider(None), vendor(Some(8))]));
        assert!(!needs_no_catalogue(&[provider(Some(8)), vendor(None)]));
        assert!(!needs_no_catalogue(&[ModelProvider { models: Vec::new(), ..provider(None) }]));
    }

    #[test]
    fn models_split_at_the_first_slash() {
        assert_eq!(split_model("openrouter/meta/llama"), ("openrouter", "meta/llama"));
        assert_eq!(split_model("claude-sonnet-4-6"), ("anthropic", "claude-sonnet-4-6"));
    }
}
