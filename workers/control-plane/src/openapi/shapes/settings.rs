//! Shapes of settings, and of what people see of all sessions.

use std::collections::BTreeMap;

use oi_protocol::environments::{RepositoryMetadata, WantedRepository};
use oi_protocol::inbox::InboxCategory;
use oi_protocol::secrets::SecretName;
use oi_protocol::settings::{
    KeyboardShortcuts, ProviderAccount, ProviderAccountDefault, Skill, SkillAssignment, SkillContent, SkillProfile,
};
use oi_protocol::{EnvironmentId, MessageId, UnixMillis};
use schemars::JsonSchema;
use serde_json::{Map, Value};

/// `PATCH /sessions/:id/read-state`
#[derive(JsonSchema)]
#[serde(tag = "action", rename_all = "snake_case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum MarkBody {
    /// This message, if it is the newest that ended.
    MarkMessageRead {
        /// The message.
        message_id: MessageId,
    },
    /// Whichever is the newest that ended.
    MarkLatestMessageRead {},
}

/// `POST /model-provider-accounts/:provider/device-authorizations`
#[derive(JsonSchema)]
#[serde(tag = "operation", rename_all = "snake_case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum DeviceBody {
    /// For a new account.
    Create {
        /// 1 to 100 characters.
        display_name: String,
    },
    /// For new tokens of an account.
    Reconnect {
        /// The account.
        provider_account_id: String,
    },
}

/// Which of the skills that apply a session gets
#[derive(JsonSchema)]
#[serde(tag = "mode", rename_all = "snake_case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum SkillSelection {
    /// All.
    All,
    /// None.
    None,
    /// Those of a profile.
    Profile {
        /// The caller's profile.
        profile_id: String,
    },
}

/// How a session reaches a provider
#[derive(JsonSchema)]
#[serde(tag = "mode", rename_all = "snake_case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum ProviderSelection {
    /// By a subscription.
    ProviderAccount {
        /// An active account of the provider.
        account_id: String,
    },
    /// By a key.
    ApiKey {},
}

shapes! {
    /// How a session reaches providers
    #[serde(deny_unknown_fields)]
    ProviderSelections {
        /// OpenAI.
        openai: Option<ProviderSelection>,
        /// xAI.
        xai: Option<ProviderSelection>,
    }
    /// Parameters of a list that comes by pages
    PageQuery {
        /// 1 to 100; 50 when absent.
        #[schemars(range(min = 1, max = 100))]
        limit: Option<u32>,
        /// From the page before.
        cursor: Option<String>,
    }
    /// Parameters of a deletion
    VersionQuery {
        /// The version that was read; refused with 409 when it is another by now.
        version: Option<i64>,
    }
    /// Parameters of `GET /audit-log`
    AuditQuery {
        /// 1 to 100; 50 when absent.
        #[schemars(range(min = 1, max = 100))]
        limit: Option<u32>,
        /// From the page before.
        cursor: Option<String>,
        /// Only of this actor.
        #[schemars(length(max = 300))]
        actor_id: Option<String>,
        /// Only this, as `<kind>.<verb>`.
        #[schemars(length(max = 300))]
        action: Option<String>,
        /// Only what was done to this kind.
        #[schemars(length(max = 300))]
        subject_kind: Option<String>,
        /// Only what was done to this one; needs `subjectKind`.
        #[schemars(length(max = 300))]
        subject_id: Option<String>,
        /// Not older than this, Unix ms.
        #[schemars(range(min = 0))]
        since: Option<i64>,
        /// Older than this, Unix ms.
        #[schemars(range(min = 0))]
        until: Option<i64>,
    }
    /// Parameters of `GET /repos/:owner/:name/branches`
    BranchesQuery {
        /// Only this page, from 1; the first 500 branches when absent.
        #[schemars(range(min = 1, max = 1000))]
        page: Option<u32>,
    }
    /// Parameters of `GET /environments`
    EnvironmentsQuery {
        /// 1 to 100; 100 when absent.
        #[schemars(range(min = 1, max = 100))]
        limit: Option<u32>,
        /// From the page before.
        cursor: Option<String>,
    }
    /// Parameters of `GET /sessions/inbox`
    InboxQuery {
        /// Only a page of this category; the first page of each when absent.
        category: Option<InboxCategory>,
        /// From the page before of this category.
        cursor: Option<String>,
        /// `true`: only the caller's own.
        #[schemars(extend("enum" = ["true"]))]
        mine: Option<String>,
        /// Words of the title.
        #[schemars(length(max = 200))]
        search: Option<String>,
        /// Only of this repository: `owner/name`.
        repo: Option<String>,
    }
    /// Parameters of `GET /model-provider-accounts`
    ProviderAccountsQuery {
        /// Only of this provider.
        #[schemars(extend("enum" = ["openai", "xai"]))]
        provider: Option<String>,
        /// Only of this status.
        #[schemars(extend("enum" = ["active", "disabled", "reconnect_required"]))]
        status: Option<String>,
        /// Those that were put away, in place of the others.
        archived: Option<bool>,
    }
    /// Parameters of a list of repositories with settings
    RepositorySettingsQuery {
        /// `owner/name`, the last one of the page before.
        cursor: Option<String>,
    }
    /// Parameters of `GET /mcp-servers`
    McpServersQuery {
        /// Only those that sessions of this repository have: `owner/name`.
        repo: Option<String>,
    }
    /// Parameters of `GET /skills`
    SkillsQuery {
        /// 1 to 100; 25 when absent.
        #[schemars(range(min = 1, max = 100))]
        limit: Option<u32>,
        /// The last name of the page before.
        #[schemars(length(max = 64))]
        cursor: Option<String>,
    }
    /// Parameters of `GET /sessions/:id/sandbox-skills`
    SandboxSkillsQuery {
        /// 1 to 200; all when absent.
        #[schemars(range(min = 1, max = 200))]
        limit: Option<u32>,
        /// From the page before.
        #[schemars(range(min = 0, max = 1_000_000))]
        cursor: Option<u32>,
    }
    /// Parameters of analytics
    AnalyticsQuery {
        /// How many days back; 30 when absent.
        #[schemars(extend("enum" = [7, 14, 30, 90]))]
        days: Option<u32>,
    }
    /// Parameters of `GET /analytics/breakdown`
    BreakdownQuery {
        /// What sessions are put together by.
        #[schemars(extend("enum" = ["user", "repo"]))]
        by: String,
        /// How many days back; 30 when absent.
        #[schemars(extend("enum" = [7, 14, 30, 90]))]
        days: Option<u32>,
    }

    /// `POST /environments`
    CreateEnvironmentBody {
        /// 1 to 200 characters in one line; one of its kind, whatever its case.
        #[schemars(length(min = 1, max = 200))]
        name: String,
        /// What it is for.
        #[schemars(length(max = 2000))]
        description: Option<String>,
        /// Whether images are built ahead.
        prebuild_enabled: Option<bool>,
        /// Chat channels whose sessions use it.
        #[schemars(length(max = 50))]
        channel_associations: Option<Vec<String>>,
        /// In order; the first is the primary.
        #[schemars(length(min = 1, max = 10))]
        repositories: Vec<WantedRepository>,
    }
    /// `PUT /environments/:environment`: what is absent stays as it is.
    UpdateEnvironmentBody {
        /// 1 to 200 characters in one line; one of its kind, whatever its case.
        #[schemars(length(min = 1, max = 200))]
        name: Option<String>,
        /// What it is for; null for nothing.
        #[schemars(length(max = 2000))]
        description: Option<String>,
        /// Whether images are built ahead.
        prebuild_enabled: Option<bool>,
        /// Chat channels whose sessions use it; null for none.
        #[schemars(length(max = 50))]
        channel_associations: Option<Vec<String>>,
        /// In order; the first is the primary.
        #[schemars(length(min = 1, max = 10))]
        repositories: Option<Vec<WantedRepository>>,
        /// The version that was read; refused with 409 when it is another by now.
        version: Option<i64>,
    }
    /// `PUT /model-preferences`
    #[serde(deny_unknown_fields)]
    ModelPreferencesBody {
        /// Models that can be chosen.
        enabled_models: Vec<String>,
        /// The version that was read; refused with 409 when it is another by now.
        version: Option<u32>,
    }
    /// `POST /model-provider-accounts`
    #[serde(deny_unknown_fields)]
    ProviderAccountBody {
        /// `openai` or `xai`
        provider: String,
        /// 1 to 100 characters.
        display_name: String,
        /// Of the provider. It is spent to see whose it is.
        #[schemars(length(min = 1, max = 65_536))]
        refresh_token: String,
        /// Of OpenAI, and of OpenAI only: whose the token is.
        #[schemars(length(min = 1, max = 512))]
        account_id: Option<String>,
    }
    /// `POST /model-provider-accounts/:account/reconnect`
    #[serde(deny_unknown_fields)]
    ReconnectBody {
        /// Of the provider. It is spent to see whose it is.
        #[schemars(length(min = 1, max = 65_536))]
        refresh_token: String,
        /// Of OpenAI, and of OpenAI only: whose the token is.
        #[schemars(length(min = 1, max = 512))]
        account_id: Option<String>,
    }
    /// `PATCH /model-provider-accounts/:account`
    #[serde(deny_unknown_fields)]
    DisplayNameBody {
        /// 1 to 100 characters.
        #[schemars(length(min = 1))]
        display_name: String,
    }
    /// `PUT /model-provider-account-defaults/:provider`
    #[serde(deny_unknown_fields)]
    ProviderDefaultBody {
        /// An active account of the provider.
        provider_account_id: String,
        /// `provider_account` or `api_key`: what sessions use that nobody watches.
        unattended_mode: String,
    }
    /// Settings of an integration or of the code host
    #[serde(deny_unknown_fields)]
    SettingsBody {
        /// By name; what is absent is unset.
        settings: Map<String, Value>,
        /// The version that was read; refused with 409 when it is another by now.
        #[schemars(range(min = 0))]
        version: Option<i64>,
    }
    /// `PUT /commit-signing`
    #[serde(deny_unknown_fields)]
    CommitSigningBody {
        /// An Ed25519 key of OpenSSH without a passphrase. It is shown to nobody.
        #[schemars(length(max = 16_384))]
        private_key: String,
        /// Who commits.
        #[schemars(length(min = 1))]
        committer_name: String,
        /// Their e-mail.
        #[schemars(length(min = 1))]
        committer_email: String,
        /// The version that was read; refused with 409 when it is another by now.
        version: Option<u32>,
    }
    /// `POST /mcp-servers`
    #[serde(deny_unknown_fields)]
    CreateMcpServerBody {
        /// Letters, digits, `-`, `_`, `.` and blanks.
        #[schemars(length(min = 1, max = 100))]
        name: String,
        /// `local` or `remote`
        #[serde(rename = "type")]
        kind: String,
        /// Of a local one: the program and its arguments.
        #[schemars(length(min = 1, max = 64))]
        command: Option<Vec<String>>,
        /// Of a local one: variables. They are shown to nobody.
        env: Option<BTreeMap<String, String>>,
        /// Of a remote one: an https URL of the internet.
        url: Option<String>,
        /// Of a remote one: headers. They are shown to nobody.
        headers: Option<BTreeMap<String, String>>,
        /// Repositories whose sessions have it; null for all.
        #[schemars(length(max = 200))]
        repo_scopes: Option<Vec<String>>,
        /// Whether sessions have it; they do unless this says no.
        enabled: Option<bool>,
    }
    /// `PUT /mcp-servers/:server`: what is absent stays as it is.
    #[serde(deny_unknown_fields)]
    UpdateMcpServerBody {
        /// Letters, digits, `-`, `_`, `.` and blanks.
        #[schemars(length(min = 1, max = 100))]
        name: Option<String>,
        /// `local` or `remote`. Secrets of the other kind are dropped.
        #[serde(rename = "type")]
        kind: Option<String>,
        /// Of a local one: the program and its arguments.
        #[schemars(length(min = 1, max = 64))]
        command: Option<Vec<String>>,
        /// Of a local one: all its variables. They are shown to nobody.
        env: Option<BTreeMap<String, String>>,
        /// Of a remote one: an https URL of the internet.
        url: Option<String>,
        /// Of a remote one: all its headers. They are shown to nobody.
        headers: Option<BTreeMap<String, String>>,
        /// Repositories whose sessions have it; null for all.
        #[schemars(length(max = 200))]
        repo_scopes: Option<Vec<String>>,
        /// Whether sessions have it.
        enabled: Option<bool>,
        /// The revision that was read; refused with 409 when it is another by now.
        #[schemars(range(min = 0))]
        revision: Option<i64>,
    }
    /// `POST /skills`
    #[serde(deny_unknown_fields)]
    CreateSkillBody {
        /// Lower-case letters and digits in words joined by `-`.
        #[schemars(length(min = 1, max = 64))]
        name: String,
        /// What it says.
        content: SkillContent,
        /// Where it applies; nowhere when absent.
        assignments: Option<Vec<SkillAssignment>>,
    }
    /// `POST /skills/preview`
    #[serde(deny_unknown_fields)]
    PreviewSkillBody {
        /// Lower-case letters and digits in words joined by `-`.
        #[schemars(length(min = 1, max = 64))]
        name: String,
        /// What it says.
        content: SkillContent,
    }
    /// `PATCH /skills/:skill`
    #[serde(deny_unknown_fields)]
    EnableSkillBody {
        /// Whether sessions get it.
        enabled: bool,
        /// The version that was read; refused with 409 when it is another by now.
        version: Option<u32>,
    }
    /// `PUT /skills/:skill`
    #[serde(deny_unknown_fields)]
    UpdateSkillBody {
        /// What it says.
        content: SkillContent,
        /// Where it applies.
        assignments: Vec<SkillAssignment>,
        /// The version that was read, which covers the places too; refused with 409 when it is another by now.
        version: Option<u32>,
    }
    /// A repository
    #[serde(deny_unknown_fields)]
    NamedRepository {
        /// Owner.
        repo_owner: String,
        /// Name.
        repo_name: String,
    }
    /// `POST /skills/resolve-preview`: one place at most.
    #[serde(deny_unknown_fields)]
    ResolveSkillsBody {
        /// Of one repository.
        repo_owner: Option<String>,
        /// Of one repository.
        repo_name: Option<String>,
        /// Several.
        #[schemars(length(min = 1, max = 10))]
        repositories: Option<Vec<NamedRepository>>,
        /// Or an environment.
        environment_id: Option<String>,
        /// All when absent.
        selection: Option<SkillSelection>,
    }
    /// `POST /skill-profiles`
    #[serde(deny_unknown_fields)]
    CreateSkillProfileBody {
        /// 1 to 200 characters.
        #[schemars(length(min = 1, max = 200))]
        name: String,
        /// None when absent.
        #[schemars(length(max = 500))]
        skill_ids: Option<Vec<String>>,
    }
    /// `PATCH /skill-profiles/:profile`: what is absent stays as it is.
    #[serde(deny_unknown_fields)]
    UpdateSkillProfileBody {
        /// 1 to 200 characters.
        #[schemars(length(min = 1, max = 200))]
        name: Option<String>,
        /// All of them.
        #[schemars(length(max = 500))]
        skill_ids: Option<Vec<String>>,
        /// The version that was read; refused with 409 when it is another by now.
        version: Option<u32>,
    }
    /// `PUT /keyboard-shortcuts`
    #[serde(deny_unknown_fields)]
    ShortcutsBody {
        /// All four.
        shortcuts: KeyboardShortcuts,
        /// The version that was read; refused with 409 when it is another by now.
        version: Option<u32>,
    }

    /// Answer of `DELETE …/secrets/:key`
    SecretDeleted {
        /// `deleted`
        status: String,
        /// Its name.
        key: SecretName,
        /// The scope's version now.
        version: i64,
        /// `owner/name`, of a repository.
        #[serde(skip_serializing_if = "Option::is_none")]
        repo: Option<String>,
        /// Of an environment.
        #[serde(skip_serializing_if = "Option::is_none")]
        environment_id: Option<String>,
    }
    /// Answer of `PUT /repos/:owner/:name/metadata`
    MetadataUpdated {
        /// `updated`
        status: String,
        /// `owner/name`
        repo: String,
        /// As it is now.
        metadata: RepositoryMetadata,
    }
    /// Answer of `DELETE /environments/:environment`
    EnvironmentDeleted {
        /// `deleted`
        status: String,
        /// The environment.
        id: EnvironmentId,
    }
    /// What a build's machine tells when it is done
    ImageBuildCompleteBody {
        /// The build.
        #[serde(rename = "build_id")]
        #[schemars(length(min = 1, max = 512))]
        build_id: String,
        /// The provider's handle of the machine.
        #[serde(rename = "provider_session_id")]
        #[schemars(length(min = 1, max = 512))]
        provider_session_id: String,
        /// The commits that were checked out.
        #[serde(rename = "repository_shas")]
        #[schemars(length(min = 1, max = 10))]
        repository_shas: Vec<ImageBuildCommit>,
        /// The version of the runtime.
        #[serde(rename = "runtime_version")]
        #[schemars(regex(pattern = r"^v[0-9]{1,9}([^0-9].*)?$"))]
        runtime_version: String,
        /// How long it took.
        #[serde(rename = "build_duration_seconds")]
        #[schemars(range(min = 0))]
        build_duration_seconds: f64,
    }
    /// A commit of a repository
    ImageBuildCommit {
        /// Owner.
        repo_owner: String,
        /// Name.
        repo_name: String,
        /// The commit.
        #[schemars(regex(pattern = r"^[0-9A-Fa-f]{1,64}$"))]
        base_sha: String,
    }
    /// What a build's machine tells when it failed
    ImageBuildFailedBody {
        /// The build.
        #[serde(rename = "build_id")]
        #[schemars(length(min = 1, max = 512))]
        build_id: String,
        /// The provider's handle of the machine.
        #[serde(rename = "provider_session_id")]
        #[schemars(length(min = 1, max = 512))]
        provider_session_id: String,
        /// Why; what is no text counts as unknown.
        error: Option<String>,
    }
    /// Answer to a build's machine that is done
    ImageBuildCompletionAccepted {
        /// `true`
        ok: bool,
        /// `true`: the image is made next.
        snapshot_pending: bool,
    }
    /// Answer to a build's machine that failed
    ImageBuildFailureAccepted {
        /// `true`
        ok: bool,
        /// `true`: the machine is ended next.
        cleanup_pending: bool,
    }
    /// Answer of `PUT /image-builds/toggle/repo/:owner/:name`
    ImageBuildsToggled {
        /// `true`
        ok: bool,
        /// Whether images are built ahead now.
        enabled: bool,
    }
    /// Parameters of `GET /image-builds/status`
    ImageBuildsQuery {
        /// `repo` or `environment`; with `scope_id`, or neither.
        #[serde(rename = "scope_kind")]
        scope_kind: Option<String>,
        /// `owner/name`, or the environment's id.
        #[serde(rename = "scope_id")]
        scope_id: Option<String>,
        /// 1 to 100; 50 when absent.
        #[schemars(range(min = 1, max = 100))]
        limit: Option<u32>,
        /// From the page before.
        cursor: Option<String>,
    }
    /// Answer of `PUT /model-preferences`
    ModelPreferencesUpdated {
        /// `updated`
        status: String,
        /// Models that can be chosen.
        enabled_models: Vec<String>,
        /// The version now.
        version: i64,
    }
    /// Answer of `GET /model-provider-accounts`
    ProviderAccounts {
        /// By provider, the oldest first.
        accounts: Vec<ProviderAccount>,
    }
    /// A secret that holds a token of a subscription
    LegacyCredential {
        /// `global`, `repository` or `environment`.
        scope: String,
        /// The forge's number of the repository, or the environment.
        #[serde(skip_serializing_if = "Option::is_none")]
        scope_id: Option<String>,
        /// The secret's name.
        key: String,
    }
    /// Answer of `GET /model-provider-accounts/legacy-credentials`
    LegacyCredentials {
        /// By scope and name; 200 at most.
        legacy_keys: Vec<LegacyCredential>,
    }
    /// A provider account
    OneProviderAccount {
        /// It.
        account: ProviderAccount,
    }
    /// Answer of `POST /model-provider-accounts`
    ProviderAccountConnected {
        /// It.
        account: ProviderAccount,
        /// Whether it was there and has new tokens.
        reconnected_existing: bool,
    }
    /// Answer of `POST /model-provider-accounts/:provider/device-authorizations/:authorization/poll`
    DevicePoll {
        /// `pending`, `connected`, or how it ended: `denied`, `expired`, `cancelled`, `superseded` or `failed`
        status: String,
        /// While it is pending: when it ends.
        #[serde(skip_serializing_if = "Option::is_none")]
        expires_at: Option<UnixMillis>,
        /// While it is pending: how often to ask.
        #[serde(skip_serializing_if = "Option::is_none")]
        poll_interval_ms: Option<i64>,
        /// While it is pending: when to ask again.
        #[serde(skip_serializing_if = "Option::is_none")]
        next_poll_at: Option<UnixMillis>,
        /// Once it is connected.
        #[serde(skip_serializing_if = "Option::is_none")]
        account: Option<ProviderAccount>,
        /// Once it is connected: whether the account was there and has new tokens.
        #[serde(skip_serializing_if = "Option::is_none")]
        reconnected_existing: Option<bool>,
        /// Once it is connected: since when.
        #[serde(skip_serializing_if = "Option::is_none")]
        completed_at: Option<UnixMillis>,
        /// Once it has ended: why, for people.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// Once it has ended: whether beginning anew may help.
        #[serde(skip_serializing_if = "Option::is_none")]
        retryable: Option<bool>,
    }
    /// Answer of `GET /model-provider-account-defaults`
    ProviderDefaults {
        /// One a provider at most.
        defaults: Vec<ProviderAccountDefault>,
    }
    /// Answer of `PUT /model-provider-account-defaults/:provider`
    OneProviderDefault {
        /// It; null when it was cleared at this moment.
        default: Option<ProviderAccountDefault>,
    }
    /// What an Open-Inspect client asks with
    ProviderMetadata {
        /// Of OpenAI.
        #[serde(skip_serializing_if = "Option::is_none")]
        account_id: Option<String>,
    }
    /// Answer of `POST /sessions/:id/provider-auth/:provider/access-token`
    ProviderToken {
        /// For the provider.
        access_token: String,
        /// Seconds.
        expires_in: i64,
        /// What else the provider needs.
        provider_metadata: ProviderMetadata,
        /// Whose it is, at the provider.
        #[serde(skip_serializing_if = "Option::is_none")]
        external_account_id: Option<String>,
    }
    /// A channel of the Slack workspace
    SlackChannel {
        /// Slack's id.
        id: String,
        /// Its name.
        name: String,
        /// Whether it is by invitation only.
        is_private: bool,
        /// Whether the bot is in it.
        is_member: bool,
    }
    /// Answer of `GET /integration-settings/slack/channels`
    SlackChannels {
        /// Those that the bot sees.
        channels: Vec<SlackChannel>,
        /// Slack's word for why there are none, or `not_configured`.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    }
    /// Settings of an integration
    IntegrationSettings {
        /// The integration.
        integration_id: String,
        /// `owner/name`, of a repository.
        #[serde(skip_serializing_if = "Option::is_none")]
        repo: Option<String>,
        /// Of an environment.
        #[serde(skip_serializing_if = "Option::is_none")]
        environment_id: Option<String>,
        /// By name; null when none are set.
        settings: Option<Map<String, Value>>,
        /// Grows with each change; 0 when none are set.
        version: i64,
    }
    /// Settings of an integration were set
    IntegrationUpdated {
        /// `updated`
        status: String,
        /// The integration.
        integration_id: String,
        /// `owner/name`, of a repository.
        #[serde(skip_serializing_if = "Option::is_none")]
        repo: Option<String>,
        /// Of an environment.
        #[serde(skip_serializing_if = "Option::is_none")]
        environment_id: Option<String>,
        /// The version now.
        version: i64,
    }
    /// Settings of an integration were deleted
    IntegrationDeleted {
        /// `deleted`
        status: String,
        /// The integration.
        integration_id: String,
        /// `owner/name`, of a repository.
        #[serde(skip_serializing_if = "Option::is_none")]
        repo: Option<String>,
        /// Of an environment.
        #[serde(skip_serializing_if = "Option::is_none")]
        environment_id: Option<String>,
    }
    /// Settings of a repository in a list
    RepositorySettings {
        /// `owner/name`
        repo: String,
        /// By name.
        settings: Map<String, Value>,
        /// Grows with each change.
        version: i64,
    }
    /// Answer of `GET /integration-settings/:integration/repos`
    IntegrationRepositories {
        /// The integration.
        integration_id: String,
        /// Those with settings of their own, by name.
        repos: Vec<RepositorySettings>,
        /// Whether more follow.
        has_more: bool,
        /// For the next page.
        next_cursor: Option<String>,
    }
    /// Answer of `GET /integration-settings/:integration/resolved/:owner/:name`
    ResolvedSettings {
        /// The integration.
        integration_id: String,
        /// `owner/name`
        repo: String,
        /// What the layers come to.
        config: Map<String, Value>,
    }
    /// Answer of `GET /scm-settings`
    ScmSettings {
        /// By name; null when none are set.
        settings: Option<Map<String, Value>>,
        /// Grows with each change; 0 when none are set.
        version: i64,
    }
    /// Settings of the code host were set
    ScmUpdated {
        /// `updated`
        status: String,
        /// `owner/name`, of a repository.
        #[serde(skip_serializing_if = "Option::is_none")]
        repo: Option<String>,
        /// The version now.
        version: i64,
    }
    /// Settings of the code host were deleted
    ScmDeleted {
        /// `deleted`
        status: String,
        /// `owner/name`, of a repository.
        #[serde(skip_serializing_if = "Option::is_none")]
        repo: Option<String>,
    }
    /// Answer of `GET /scm-settings/repos`
    ScmRepositories {
        /// Those with settings of their own, by name.
        repos: Vec<RepositorySettings>,
        /// Whether more follow.
        has_more: bool,
        /// For the next page.
        next_cursor: Option<String>,
    }
    /// How commits are signed; all but `enabled` is absent when they are not
    CommitSigning {
        /// Whether they are.
        enabled: bool,
        /// Who commits.
        #[serde(skip_serializing_if = "Option::is_none")]
        committer_name: Option<String>,
        /// Their e-mail.
        #[serde(skip_serializing_if = "Option::is_none")]
        committer_email: Option<String>,
        /// In the form of OpenSSH.
        #[serde(skip_serializing_if = "Option::is_none")]
        public_key: Option<String>,
        /// Of the key; a sandbox is not told it.
        #[serde(skip_serializing_if = "Option::is_none")]
        fingerprint: Option<String>,
        /// ISO 8601; a sandbox is not told it.
        #[serde(skip_serializing_if = "Option::is_none")]
        updated_at: Option<String>,
        /// Grows with each change; a sandbox is not told it.
        #[serde(skip_serializing_if = "Option::is_none")]
        version: Option<i64>,
    }
    /// Done
    Okay {
        /// true
        ok: bool,
    }
    /// Answer of `GET /skills`
    SkillsPage {
        /// By name, without what they say.
        skills: Vec<Skill>,
        /// Whether more follow.
        has_more: bool,
        /// For the next page.
        next_cursor: Option<String>,
    }
    /// A skill with what it says
    OneSkill {
        /// It.
        skill: Skill,
    }
    /// Answer of `POST /skills/preview`
    SkillPreview {
        /// `SKILL.md`
        skill_markdown: String,
        /// By which the revision would be known.
        revision_sha256: String,
        /// Of all its files.
        total_bytes: u64,
    }
    /// Why a skill applies
    SkillSource {
        /// `global`, `repository` or `environment`
        #[serde(rename = "type")]
        kind: String,
        /// The assignment.
        id: String,
        /// Of a repository.
        #[serde(skip_serializing_if = "Option::is_none")]
        repo_owner: Option<String>,
        /// Of a repository.
        #[serde(skip_serializing_if = "Option::is_none")]
        repo_name: Option<String>,
        /// Of an environment.
        #[serde(skip_serializing_if = "Option::is_none")]
        environment_id: Option<String>,
        /// Of an environment.
        #[serde(skip_serializing_if = "Option::is_none")]
        environment_name: Option<String>,
    }
    /// A skill that a session gets
    ChosenSkill {
        /// The skill.
        skill_id: String,
        /// Its revision.
        revision_id: String,
        /// Its name.
        name: String,
        /// What it is for.
        description: String,
        /// The revision's number.
        revision_number: i64,
        /// By which the revision is known.
        revision_sha256: String,
        /// Of all its files.
        total_bytes: i64,
        /// Why it applies.
        assignment_sources: Vec<SkillSource>,
    }
    /// Answer of `POST /skills/resolve-preview`
    ResolvedSkills {
        /// What a session would get.
        skills: Vec<ChosenSkill>,
        /// Of all of them.
        total_bytes: i64,
        /// Skills of the profile that do not apply.
        ignored_profile_skill_ids: Vec<String>,
    }
    /// Answer of `GET /skill-profiles`
    SkillProfiles {
        /// The caller's own.
        profiles: Vec<SkillProfile>,
    }
    /// A skill profile
    OneSkillProfile {
        /// It.
        profile: SkillProfile,
    }
    /// A file of a skill
    SandboxSkillFile {
        /// Within the skill's folder.
        path: String,
        /// Its text.
        content: String,
        /// Of the text.
        sha256: String,
        /// Of the text.
        size_bytes: i64,
        /// Whether it is a program.
        executable: bool,
    }
    /// A skill with its files
    SandboxSkill {
        /// Its name.
        name: String,
        /// All of them.
        files: Vec<SandboxSkillFile>,
    }
    /// Answer of `GET /sessions/:id/sandbox-skills`
    SandboxSkills {
        /// 1
        schema_version: i64,
        /// By which all of the session's skills are known.
        manifest_sha256: String,
        /// In order.
        skills: Vec<SandboxSkill>,
        /// For the next page.
        next_cursor: Option<String>,
    }
    /// What a session's person chose
    PinnedSelection {
        /// `all`, `none` or `profile`
        mode: String,
        /// The profile.
        #[serde(skip_serializing_if = "Option::is_none")]
        profile_id: Option<String>,
        /// What it was called.
        #[serde(skip_serializing_if = "Option::is_none")]
        profile_name: Option<String>,
    }
    /// Answer of `GET /sessions/:id/skills`
    SessionSkills {
        /// By which all of them are known.
        manifest_sha256: String,
        /// Of the rules that chose them.
        resolver_version: i64,
        /// What its person chose.
        selection: PinnedSelection,
        /// When.
        resolved_at: UnixMillis,
        /// In order.
        skills: Vec<ChosenSkill>,
    }
    /// A person's shortcuts
    Shortcuts {
        /// All four.
        shortcuts: KeyboardShortcuts,
        /// Grows with each change; 0 before the first.
        version: i64,
    }
    /// Sessions by their status
    StatusBreakdown {
        /// Nothing was asked yet.
        created: i64,
        /// At work, or waiting for more.
        active: i64,
        /// Done.
        completed: i64,
        /// Given up.
        failed: i64,
        /// Put away.
        archived: i64,
        /// Ended by somebody.
        cancelled: i64,
    }
    /// Answer of `GET /analytics/summary`
    AnalyticsSummary {
        /// Sessions.
        total_sessions: i64,
        /// People with sessions.
        active_users: i64,
        /// US dollars.
        total_cost: f64,
        /// A session's.
        avg_cost: f64,
        /// Pull requests.
        total_prs: i64,
        /// Sessions by their status.
        status_breakdown: StatusBreakdown,
    }
    /// A day
    AnalyticsDay {
        /// `YYYY-MM-DD`, UTC.
        date: String,
        /// Sessions by person.
        groups: BTreeMap<String, i64>,
    }
    /// Answer of `GET /analytics/timeseries`
    AnalyticsSeries {
        /// Days with sessions, in order.
        series: Vec<AnalyticsDay>,
    }
    /// Sessions of a person or of a repository
    BreakdownEntry {
        /// The person, or `owner/name`.
        key: String,
        /// The person's name.
        #[serde(skip_serializing_if = "Option::is_none")]
        display_name: Option<String>,
        /// Sessions.
        sessions: i64,
        /// Those that were done.
        completed: i64,
        /// Those that were given up.
        failed: i64,
        /// Those that somebody ended.
        cancelled: i64,
        /// US dollars.
        cost: f64,
        /// Pull requests.
        prs: i64,
        /// Prompts.
        message_count: i64,
        /// Of a session, ms.
        avg_duration: f64,
        /// When one last changed.
        last_active: UnixMillis,
    }
    /// Answer of `GET /analytics/breakdown`
    AnalyticsBreakdown {
        /// Those with the most sessions first.
        entries: Vec<BreakdownEntry>,
    }
    /// Pull requests by their state
    PullRequestFunnel {
        /// All.
        created: i64,
        /// Open.
        open: i64,
        /// Drafts.
        draft: i64,
        /// Merged.
        merged: i64,
        /// Closed, not merged.
        closed: i64,
    }
    /// Pull requests that are open now
    PullRequestInventory {
        /// How many.
        total: i64,
        /// How old they are, ms.
        avg_age_ms: Option<f64>,
    }
    /// Pull requests of a day
    PullRequestDay {
        /// `YYYY-MM-DD`, UTC.
        date: String,
        /// Opened on it.
        created: i64,
        /// Merged on it.
        merged: i64,
    }
    /// Pull requests of a repository
    PullRequestRepository {
        /// `owner/name`
        key: String,
        /// Opened.
        created: i64,
        /// Merged.
        merged: i64,
        /// Closed, not merged.
        closed: i64,
        /// ms
        avg_time_to_merge_ms: Option<f64>,
    }
    /// Pull requests by what started their session
    PullRequestSource {
        /// What started it.
        source: String,
        /// Opened.
        created: i64,
        /// Merged.
        merged: i64,
    }
    /// Answer of `GET /analytics/pull-requests`
    AnalyticsPullRequests {
        /// Those that were opened in these days.
        funnel: PullRequestFunnel,
        /// What sessions with pull requests cost, US dollars.
        pr_session_cost: f64,
        /// Merged in these days, whenever they were opened.
        merged_in_window: i64,
        /// ms
        avg_time_to_merge_ms: Option<f64>,
        /// Open now, whenever they were opened.
        open_inventory: PullRequestInventory,
        /// By day.
        timeseries: Vec<PullRequestDay>,
        /// By repository.
        repos: Vec<PullRequestRepository>,
        /// By what started their session.
        sources: Vec<PullRequestSource>,
    }
}
