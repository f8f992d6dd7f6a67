//! People of the deployment, their roles and tokens, and the log of what they did.

use serde::{Deserialize, Serialize};

use crate::serde_rules::absent;
use crate::time::UnixMillis;

/// What a person may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum Role {
    /// Works in sessions.
    #[default]
    Member,
    /// Also changes secrets and settings of all, roles, and others' sessions.
    Admin,
}

impl Role {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
        }
    }
}

/// What a personal token may be used for, within its owner's role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum TokenScope {
    /// To read. Every other scope has it with it.
    Read,
    /// To create sessions and to work in them.
    Sessions,
    /// To change what members may change: their preferences, repositories, environments.
    Settings,
    /// To do what only admins may.
    Admin,
}

impl TokenScope {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Read, Self::Sessions, Self::Settings, Self::Admin];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Sessions => "sessions",
            Self::Settings => "settings",
            Self::Admin => "admin",
        }
    }

    /// From the word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == word)
    }
}

/// `POST /api/me/tokens`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct CreatePersonalToken {
    /// 1 to 100 units, for its owner.
    pub name: String,
    /// At least one.
    pub scopes: Vec<TokenScope>,
    /// Life in days, 1 to 366.
    pub expires_in_days: u32,
}

/// A personal token, without the token itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct PersonalToken {
    /// Names it in this API.
    pub id: String,
    /// As its owner called it.
    pub name: String,
    /// What it may be used for.
    pub scopes: Vec<TokenScope>,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it ends.
    pub expires_at: UnixMillis,
    /// When it was last used, within a quarter of an hour.
    pub last_used_at: Option<UnixMillis>,
    /// When it was revoked.
    pub revoked_at: Option<UnixMillis>,
}

/// Answer of `POST /api/me/tokens`: the only time that the token is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct CreatedPersonalToken {
    /// `oi_pat_` and 64 hex digits.
    pub token: String,
    /// The rest of it.
    pub personal_token: PersonalToken,
}

impl std::fmt::Debug for CreatedPersonalToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedPersonalToken").field("personal_token", &self.personal_token).finish_non_exhaustive()
    }
}

/// Answer of `GET /api/me/tokens`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct PersonalTokenList {
    /// The newest first.
    pub tokens: Vec<PersonalToken>,
    /// For the next page, when there is one.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub cursor: Option<String>,
}

/// A person of the deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct PersonInfo {
    /// Id.
    pub id: String,
    /// The name to show.
    pub display_name: Option<String>,
    /// E-mail.
    pub email: Option<String>,
    /// URL of a picture.
    pub avatar_url: Option<String>,
    /// Login at the forge.
    pub scm_login: Option<String>,
    /// What they may do.
    pub role: Role,
    /// When they were first seen.
    pub created_at: UnixMillis,
}

/// Answer of `GET /people`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct PersonList {
    /// By id.
    pub people: Vec<PersonInfo>,
    /// For the next page, when there is one.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub cursor: Option<String>,
}

/// `PATCH /people/:id`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct ChangePerson {
    /// What they may do from now on.
    pub role: Role,
}

/// What did something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum AuditActorKind {
    /// A person at their browser.
    Person,
    /// A person's script, by a personal token.
    Token,
    /// One of our Workers.
    Service,
    /// A sandbox.
    Sandbox,
    /// The control plane itself.
    System,
}

/// An entry of the audit log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct AuditEntry {
    /// Grows.
    pub id: i64,
    /// When.
    pub at: UnixMillis,
    /// What did it.
    pub actor_kind: AuditActorKind,
    /// The person, or whom a service acted for.
    pub actor_id: Option<String>,
    /// Their name as it is now.
    pub actor_name: Option<String>,
    /// The token or the service that it was done by.
    pub via: Option<String>,
    /// What was done: `role.set`, `secret.delete`.
    pub action: String,
    /// To what: `person`, `session`, `secret`.
    pub subject_kind: String,
    /// Which.
    pub subject_id: String,
    /// What else there is to know; never a value.
    #[cfg_attr(feature = "typescript", ts(type = "Record<string, unknown> | null"))]
    pub detail: Option<serde_json::Value>,
    /// The request that did it, as the logs name it.
    pub request_id: Option<String>,
}

/// Answer of `GET /audit-log`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct AuditLog {
    /// The newest first.
    pub entries: Vec<AuditEntry>,
    /// For the next page, when there is one.
    #[serde(default, deserialize_with = "absent", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "typescript", ts(optional))]
    pub cursor: Option<String>,
}
