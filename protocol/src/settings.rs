//! REST shapes of settings: models, provider accounts, integrations, MCP servers, skills, shortcuts.

use serde::{Deserialize, Serialize};

use crate::time::UnixMillis;

/// Answer of `GET /model-preferences`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct ModelPreferences {
    /// `provider/model`, in display order.
    pub enabled_models: Vec<String>,
    /// To be sent with a change; 0 while nobody chose.
    pub version: i64,
}

/// A subscription at a model provider. Its tokens are in no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct ProviderAccount {
    /// 32 hex digits.
    pub id: String,
    /// `openai` or `xai`
    pub provider: String,
    /// 1 to 100 characters.
    pub display_name: String,
    /// Whose it is at the provider.
    pub external_account_id: Option<String>,
    /// `active`, `disabled` or `reconnect_required`
    pub status: String,
    /// Who made it.
    pub created_by: String,
    /// Who changed it last.
    pub updated_by: String,
    /// When its tokens were last known to work.
    pub last_verified_at: Option<UnixMillis>,
    /// When a session last got a token of it; noted every 15 minutes.
    pub last_used_at: Option<UnixMillis>,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it last changed.
    pub updated_at: UnixMillis,
    /// When it was put away.
    pub archived_at: Option<UnixMillis>,
}

/// What new sessions of a provider use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct ProviderAccountDefault {
    /// `openai` or `xai`
    pub provider: String,
    /// The account.
    pub provider_account_id: String,
    /// What sessions use that nobody watches: `provider_account` or `api_key`.
    pub unattended_mode: String,
    /// Who chose first.
    pub created_by: String,
    /// Who chose last.
    pub updated_by: String,
    /// When it was first chosen.
    pub created_at: UnixMillis,
    /// When it was last chosen.
    pub updated_at: UnixMillis,
}

/// A device that waits for its person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct DeviceAuthorization {
    /// 64 hex digits.
    pub transaction_id: String,
    /// `openai` or `xai`
    pub provider: String,
    /// `create` or `reconnect`
    pub operation: String,
    /// What the person types.
    pub user_code: String,
    /// Where.
    pub verification_url: String,
    /// When it is over.
    pub expires_at: UnixMillis,
    /// The same from now.
    pub expires_in_ms: i64,
    /// How often to poll.
    pub poll_interval_ms: i64,
}

/// An MCP server. Values of variables and headers are in no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct McpServer {
    /// 16 hex digits.
    pub id: String,
    /// To be sent with a change.
    pub revision: i64,
    /// Unique.
    pub name: String,
    /// `local` or `remote`
    #[serde(rename = "type")]
    pub kind: String,
    /// Of a local one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub command: Option<Vec<String>>,
    /// Of a remote one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub url: Option<String>,
    /// Whether variables are set.
    pub has_env: bool,
    /// Whether headers are set.
    pub has_headers: bool,
    /// Repositories whose sessions have it; null for every session, empty for none.
    pub repo_scopes: Option<Vec<String>>,
    /// Whether it is used at all.
    pub enabled: bool,
}

/// Where a skill applies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum SkillAssignment {
    /// Everywhere.
    Global {},
    /// In sessions of a repository.
    Repository {
        /// Owner.
        repo_owner: String,
        /// Name.
        repo_name: String,
    },
    /// In sessions of an environment.
    Environment {
        /// Its id.
        environment_id: String,
    },
}

/// A file of a skill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct SkillFile {
    /// Below the skill's folder.
    pub path: String,
    /// Its text.
    pub content: String,
    /// Whether it can be run.
    #[serde(default)]
    pub executable: bool,
}

/// What a skill says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct SkillContent {
    /// When the agent should use it.
    pub description: String,
    /// Its instructions.
    pub body: String,
    /// Under which terms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub license: Option<String>,
    /// What it needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub compatibility: Option<String>,
    /// Further facts.
    #[serde(default)]
    pub metadata: std::collections::BTreeMap<String, String>,
    /// Its files, without `SKILL.md`.
    #[serde(default)]
    pub files: Vec<SkillFile>,
}

/// A skill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct Skill {
    /// `skill_` and 32 hex digits.
    pub id: String,
    /// Its folder's name.
    pub name: String,
    /// Whether sessions get it.
    pub enabled: bool,
    /// Grows with every change.
    pub version: i64,
    /// `skillrev_` and 32 hex digits.
    pub revision_id: String,
    /// From 1.
    pub revision_number: i64,
    /// Of its files.
    pub revision_sha256: String,
    /// When the agent should use it.
    pub description: String,
    /// Bytes of its files.
    pub total_bytes: i64,
    /// Where it applies.
    pub assignments: Vec<SkillAssignment>,
    /// All that it says; not in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub content: Option<SkillContent>,
    /// Who made it.
    pub created_by: String,
    /// Who changed it last.
    pub updated_by: String,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it last changed.
    pub updated_at: UnixMillis,
}

/// A person's choice of skills.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct SkillProfile {
    /// `skillprof_` and 32 hex digits.
    pub id: String,
    /// 1 to 200 characters.
    pub name: String,
    /// Skills, by id.
    pub skill_ids: Vec<String>,
    /// To be sent with a change.
    pub version: i64,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it last changed.
    pub updated_at: UnixMillis,
}

/// A key with what is held beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct KeyBinding {
    /// `KeyboardEvent.code`
    pub code: String,
    /// Command on a Mac, Control elsewhere.
    pub primary: bool,
    /// Alt.
    pub alt: bool,
    /// Shift.
    pub shift: bool,
}

/// A person's shortcuts: all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct KeyboardShortcuts {
    /// Sends what is written.
    pub send_prompt: KeyBinding,
    /// Opens the list of commands.
    pub open_command_menu: KeyBinding,
    /// Begins a session.
    pub new_session: KeyBinding,
    /// Shows or hides the sidebar.
    pub toggle_sidebar: KeyBinding,
}
