//! Models that are known, in display order.

/// Efforts, weakest first.
pub const EFFORTS: [&str; 6] = ["none", "low", "medium", "high", "xhigh", "max"];

/// A model.
pub struct Known {
    /// The vendor's id of it.
    pub id: &'static str,
    /// The name to show.
    pub name: &'static str,
    /// Efforts that it knows, weakest first.
    pub efforts: &'static [&'static str],
    /// What it does when no effort is named, where that is one of them.
    pub default_effort: Option<&'static str>,
}

/// A vendor with its models.
pub struct Group {
    /// The vendor's id.
    pub provider: &'static str,
    /// Its name to show.
    pub name: &'static str,
    /// SDK package that the agent speaks it with.
    pub npm: &'static str,
    /// Variable of the deployment with the key.
    pub key_variable: &'static str,
    /// Variable of the deployment with another base URL.
    pub base_url_variable: &'static str,
    /// Base URL, with its version path.
    pub base_url: &'static str,
    /// Whether its models are enabled when nobody chose.
    pub enabled_by_default: bool,
    /// Its models.
    pub models: &'static [Known],
}

/// A model of the table below.
pub const fn known(
    id: &'static str,
    name: &'static str,
    efforts: &'static [&'static str],
    default_effort: Option<&'static str>,
) -> Known {
    Known { id, name, efforts, default_effort }
}

const TWO: &[&str] = &["high", "max"];
const FOUR: &[&str] = &["low", "medium", "high", "max"];
const FIVE: &[&str] = &["low", "medium", "high", "xhigh", "max"];
const GPT: &[&str] = &["none", "low", "medium", "high", "xhigh"];
const CODEX: &[&str] = &["low", "medium", "high", "xhigh"];
const GROK: &[&str] = &["low", "medium", "high"];
const HIGH: Option<&str> = Some("high");

/// All of them.
pub const CATALOGUE: &[Group] = &[
    Group {
        provider: "anthropic",
        name: "Anthropic",
        npm: "@ai-sdk/anthropic",
        key_variable: "ANTHROPIC_API_KEY",
        base_url_variable: "ANTHROPIC_BASE_URL",
        base_url: "https://api.anthropic.com/v1",
        enabled_by_default: true,
        models: &[
            known("claude-haiku-4-5", "Claude Haiku 4.5", TWO, Some("max")),
            known("claude-sonnet-4-5", "Claude Sonnet 4.5", TWO, Some("max")),
            known("claude-sonnet-4-6", "Claude Sonnet 4.6", FOUR, HIGH),
            known("claude-sonnet-5", "Claude Sonnet 5", FIVE, HIGH),
            known("claude-opus-4-5", "Claude Opus 4.5", TWO, Some("max")),
            known("claude-opus-4-6", "Claude Opus 4.6", FOUR, HIGH),
            known("claude-opus-4-7", "Claude Opus 4.7", FIVE, HIGH),
            known("claude-opus-4-8", "Claude Opus 4.8", FIVE, HIGH),
            known("claude-opus-5", "Claude Opus 5", FIVE, HIGH),
            known("claude-fable-5", "Claude Fable 5", FIVE, HIGH),
        ],
    },
    Group {
        provider: "openai",
        name: "OpenAI",
        npm: "@ai-sdk/openai",
        key_variable: "OPENAI_API_KEY",
        base_url_variable: "OPENAI_BASE_URL",
        base_url: "https://api.openai.com/v1",
        enabled_by_default: true,
        models: &[
            known("gpt-5.4", "GPT 5.4", GPT, None),
            known("gpt-5.5", "GPT 5.5", GPT, None),
            known("gpt-5.6-sol", "GPT 5.6 Sol", GPT, None),
            known("gpt-5.6-terra", "GPT 5.6 Terra", GPT, None),
            known("gpt-5.6-luna", "GPT 5.6 Luna", &EFFORTS, None),
            known("gpt-5.3-codex", "GPT 5.3 Codex", CODEX, HIGH),
            known("gpt-5.3-codex-spark", "GPT 5.3 Codex Spark", CODEX, HIGH),
        ],
    },
    Group {
        provider: "opencode",
        name: "OpenCode Zen",
        npm: "@ai-sdk/openai-compatible",
        key_variable: "OPENCODE_API_KEY",
        base_url_variable: "OPENCODE_BASE_URL",
        base_url: "https://opencode.ai/zen/v1",
        enabled_by_default: false,
        models: &[
            known("kimi-k2.5", "Kimi K2.5", &[], None),
            known("kimi-k2.6", "Kimi K2.6", &[], None),
            known("kimi-k3", "Kimi K3", &[], None),
            known("minimax-m2.5", "MiniMax M2.5", &[], None),
            known("qwen3.7-max", "Qwen3.7 Max", &[], None),
            known("glm-5", "GLM 5", &[], None),
            known("glm-5.1", "GLM 5.1", &[], None),
            known("glm-5.2", "GLM 5.2", &[], None),
        ],
    },
    Group {
        provider: "xai",
        name: "xAI",
        npm: "@ai-sdk/xai",
        key_variable: "XAI_API_KEY",
        base_url_variable: "XAI_BASE_URL",
        base_url: "https://api.x.ai/v1",
        enabled_by_default: false,
        models: &[
            known("grok-4.5", "Grok 4.5", GROK, HIGH),
            known("grok-4.6", "Grok 4.6", GROK, HIGH),
            known("grok-build-0.1", "Grok Build 0.1", &[], None),
        ],
    },
    Group {
        provider: "zai-coding-plan",
        name: "Z.AI Coding Plan",
        npm: "@ai-sdk/openai-compatible",
        key_variable: "ZHIPU_API_KEY",
        base_url_variable: "ZHIPU_BASE_URL",
        base_url: "https://api.z.ai/api/coding/paas/v4",
        enabled_by_default: false,
        models: &[known("glm-5.2", "GLM 5.2", &[], None), known("glm-5.3", "GLM 5.3", &[], None)],
    },
    Group {
        provider: "deepseek",
        name: "DeepSeek",
        npm: "@ai-sdk/openai-compatible",
        key_variable: "DEEPSEEK_API_KEY",
        base_url_variable: "DEEPSEEK_BASE_URL",
        base_url: "https://api.deepseek.com",
        enabled_by_default: false,
        models: &[
            known("deepseek-v4-flash", "DeepSeek V4 Flash", &[], None),
            known("deepseek-v4-pro", "DeepSeek V4 Pro", &[], None),
        ],
    },
];

/// Ids as the product writes them, `provider/model`.
pub fn ids() -> impl Iterator<Item = String> {
    CATALOGUE.iter().flat_map(|group| group.models.iter().map(|known| format!("{}/{}", group.provider, known.id)))
}

/// Whether a model is enabled when nobody chose; those of a deployment alone are.
pub fn is_enabled_by_default(id: &str) -> bool {
    let provider = id.split('/').next().unwrap_or_default();
    CATALOGUE.iter().find(|group| group.provider == provider).is_none_or(|group| group.enabled_by_default)
}
