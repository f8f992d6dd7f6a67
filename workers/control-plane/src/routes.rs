//! Every route of the control plane: what it is called, who may call it, and what answers it. Nothing else decides
//! that, and no route is without a policy.

use oi_protocol::limits::{DIFF_BUNDLE_MAX_BYTES, DIFF_FAILURE_MAX_BYTES};

use oi_protocol::identity::TokenScope;

use crate::policy::{Policy, TokenUse};
use crate::router::{Method, Route, Surface};
use crate::upload_form::body_bytes;

use Method::{Delete, Get, Patch, Post, Put};
use Policy::{Admin, Bot, BuildMachine, Person, PersonOrService, PersonServiceOrSandbox, Public, Sandbox, WebService};
use Surface::{Api, Both, Root};

/// Bodies that hold a few names.
const SMALL: usize = 64 * 1024;
/// What the machine of an image's build tells.
const BUILD_CALLBACK: usize = 16 * 1024;
/// A prompt of 64 000 characters, each escaped, with its attachments' names.
const PROMPT: usize = 512 * 1024;
/// The longest title and body of a pull request on GitHub, escaped.
const PULL_REQUEST: usize = 512 * 1024;
/// A webhook of 1 MiB as a JSON string.
const WEBHOOK: usize = 2 * 1024 * 1024 + SMALL;

/// A refresh token of 65 536 characters, and who it is of.
const PROVIDER_ACCOUNT: usize = 128 * 1024;
/// A thousand repositories, a hundred rules and some texts.
const SETTINGS: usize = 512 * 1024;
/// Fifty variables of 16 KiB.
const MCP_SERVER: usize = 1024 * 1024;
/// A commit with a long message.
const SIGNED_PAYLOAD: usize = 1024 * 1024;
/// A revision of 1 MiB as JSON.
const SKILL: usize = 4 * 1024 * 1024;
/// The values of a scope as JSON strings, each character escaped, or as a text of twice their size with comments.
const SECRETS: usize = 512 * 1024;

/// What a tool printed, whole.
const OUTPUT: usize = oi_protocol::limits::OUTPUT_FILE_MAX_BYTES;

/// A form with a picture, and one with a recording.
const ATTACHMENT: usize = body_bytes(oi_protocol::limits::ATTACHMENT_MAX_BYTES);
const MEDIA: usize = body_bytes(oi_protocol::limits::VIDEO_MAX_BYTES);

/// What answers a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Handler {
    Health,
    AppConfig,
    SignIn,
    GithubCallback,
    GoogleCallback,
    SignInError,
    GetSession,
    SignOut,
    SignInProviders,
    ListRepositories,
    ListBranches,
    ListModels,
    CreateSession,
    ListSessions,
    SessionSnapshot,
    UpdateTitle,
    Archive,
    Unarchive,
    Stop,
    AnswerQuestion,
    Cancel,
    Prompt,
    MintClientToken,
    ListEvents,
    ListMessages,
    ListArtifacts,
    ListParticipants,
    ListParticipantProfiles,
    AddParticipant,
    RefreshPullRequests,
    DiffState,
    PutDiff,
    ReportDiffFailure,
    GetDiffFile,
    RetryDiff,
    ScmCredentials,
    CreatePullRequest,
    SpawnChild,
    ListChildren,
    GetChild,
    PromptChild,
    CancelChild,
    Fork,
    DeleteSession,
    ListDeliveries,
    StoreWebhookDelivery,
    ListWebhookDeliveries,
    PutOutput,
    GetOutput,
    UploadAttachment,
    GetAttachment,
    UploadMedia,
    GetMedia,
    SandboxAccess,
    TerminalBridge,
    TerminalViewer,
    TunnelUrls,
    SandboxError,
    SignOutEverywhere,
    ListGlobalSecrets,
    PutGlobalSecrets,
    DeleteGlobalSecret,
    ListRepositorySecrets,
    PutRepositorySecrets,
    DeleteRepositorySecret,
    ListEnvironmentSecrets,
    PutEnvironmentSecrets,
    DeleteEnvironmentSecret,
    ImportSecrets,
    SecretRotation,
    GetRepositoryMetadata,
    PutRepositoryMetadata,
    ListEnvironments,
    CreateEnvironment,
    GetEnvironment,
    UpdateEnvironment,
    DeleteEnvironment,
    ImageBuildComplete,
    ImageBuildFailed,
    TriggerEnvironmentImage,
    TriggerRepositoryImage,
    ToggleRepositoryImages,
    ListImageBuilds,
    ListImageUnits,
    ListImageRepositories,
    Search,
    RebuildSearch,
    ProvokePanic,
    SessionCosts,
    ListPersonalTokens,
    CreatePersonalToken,
    RevokePersonalToken,
    ListPeople,
    ChangePerson,
    SignOutPerson,
    ListAuditLog,
    Inbox,
    GetModelPreferences,
    PutModelPreferences,
    ListProviderAccounts,
    ListLegacyCredentials,
    CreateProviderAccount,
    GetProviderAccount,
    RenameProviderAccount,
    ArchiveProviderAccount,
    VerifyProviderAccount,
    EnableProviderAccount,
    DisableProviderAccount,
    ReconnectProviderAccount,
    BeginDeviceAuthorization,
    PollDeviceAuthorization,
    CancelDeviceAuthorization,
    ListProviderDefaults,
    SetProviderDefault,
    ClearProviderDefault,
    ProviderAccessToken,
    OpenaiTokenRefresh,
    XaiTokenRefresh,
    SlackChannels,
    GetIntegration,
    PutIntegration,
    DeleteIntegration,
    ListIntegrationRepositories,
    GetIntegrationRepository,
    PutIntegrationRepository,
    DeleteIntegrationRepository,
    GetIntegrationEnvironment,
    PutIntegrationEnvironment,
    DeleteIntegrationEnvironment,
    ResolvedIntegration,
    GetScmSettings,
    PutScmSettings,
    DeleteScmSettings,
    ListScmRepositories,
    PutScmRepository,
    DeleteScmRepository,
    GetCommitSigning,
    PutCommitSigning,
    DeleteCommitSigning,
    SandboxCommitSigning,
    SignCommit,
    ListMcpServers,
    CreateMcpServer,
    GetMcpServer,
    PutMcpServer,
    DeleteMcpServer,
    ListSkills,
    CreateSkill,
    PreviewSkill,
    ResolveSkillsPreview,
    GetSkill,
    EnableSkill,
    PutSkill,
    DeleteSkill,
    ListSkillProfiles,
    CreateSkillProfile,
    UpdateSkillProfile,
    DeleteSkillProfile,
    SandboxSkills,
    SessionSkills,
    GetShortcuts,
    PutShortcuts,
    MarkRead,
    AnalyticsSummary,
    AnalyticsTimeseries,
    AnalyticsPullRequests,
    AnalyticsBreakdown,
}

impl Handler {
    /// What a longer body than `max_body` is refused with, where the wire has words of its own for it.
    pub fn too_large(self) -> Option<String> {
        match self {
            Self::PutDiff => Some(format!("Session diff bundles must be {DIFF_BUNDLE_MAX_BYTES} bytes or smaller")),
            Self::ReportDiffFailure => {
                Some(format!("Session diff failure bodies must be {DIFF_FAILURE_MAX_BYTES} bytes or smaller"))
            }
            _ => None,
        }
    }

    /// Whether it answers WebSocket upgrades.
    pub const fn takes_upgrades(self) -> bool {
        matches!(self, Self::TerminalBridge | Self::TerminalViewer)
    }

    /// Whether it takes the body as a stream, which is not read before it asks for it.
    pub const fn takes_a_stream(self) -> bool {
        matches!(self, Self::PutOutput | Self::UploadAttachment | Self::UploadMedia)
    }

    /// Whether the length of such a body must be announced, within `max_body`. Who reads a form counts it instead.
    pub const fn needs_a_length(self) -> bool {
        matches!(self, Self::PutOutput)
    }
}

const fn route(
    method: Method,
    path: &'static str,
    surface: Surface,
    policy: Policy,
    max_body: usize,
    handler: Handler,
) -> Route<Handler> {
    Route { method, path, surface, policy, max_body, token: TokenUse::Derived, handler }
}

impl Route<Handler> {
    /// The same, with what a personal token needs for it.
    const fn token(self, token: TokenUse) -> Self {
        Self { token, ..self }
    }
}

/// The table. The first row that fits decides. `Surface::Both` is also below `/api`, for browsers.
pub const ROUTES: &[Route<Handler>] = &[
    route(Get, "/health", Root, Public, 0, Handler::Health),
    route(Get, "/api/config", Api, Public, 0, Handler::AppConfig),
    route(Post, "/api/auth/sign-in/social", Api, Public, SMALL, Handler::SignIn).token(TokenUse::Never),
    route(Get, "/api/auth/callback/github", Api, Public, 0, Handler::GithubCallback).token(TokenUse::Never),
    route(Get, "/api/auth/callback/google", Api, Public, 0, Handler::GoogleCallback).token(TokenUse::Never),
    route(Get, "/api/auth/error", Api, Public, 0, Handler::SignInError).token(TokenUse::Never),
    route(Get, "/api/auth/get-session", Api, Public, 0, Handler::GetSession).token(TokenUse::Never),
    route(Post, "/api/auth/sign-out", Api, Public, SMALL, Handler::SignOut).token(TokenUse::Never),
    route(Get, "/internal/auth/sign-in-providers", Root, WebService, 0, Handler::SignInProviders),
    route(Get, "/repos", Both, PersonOrService, 0, Handler::ListRepositories),
    route(Get, "/repos/:owner/:name/branches", Both, PersonOrService, 0, Handler::ListBranches),
    route(Get, "/models", Both, PersonOrService, 0, Handler::ListModels),
    route(Post, "/sessions", Both, PersonOrService, SMALL, Handler::CreateSession),
    route(Get, "/sessions", Both, PersonOrService, 0, Handler::ListSessions),
    // Before the session that it would be.
    route(Get, "/sessions/inbox", Both, Person, 0, Handler::Inbox),
    route(Get, "/sessions/:id", Both, Person, 0, Handler::SessionSnapshot),
    route(Patch, "/sessions/:id/title", Both, PersonOrService, SMALL, Handler::UpdateTitle),
    route(Post, "/sessions/:id/archive", Both, PersonOrService, SMALL, Handler::Archive),
    route(Post, "/sessions/:id/unarchive", Both, PersonOrService, SMALL, Handler::Unarchive),
    route(Post, "/sessions/:id/stop", Both, PersonOrService, SMALL, Handler::Stop),
    route(Post, "/sessions/:id/input-responses", Both, PersonOrService, PROMPT, Handler::AnswerQuestion),
    route(Post, "/sessions/:id/cancel", Both, PersonOrService, SMALL, Handler::Cancel),
    route(Post, "/sessions/:id/prompt", Both, PersonOrService, PROMPT, Handler::Prompt),
    route(Post, "/sessions/:id/ws-token", Both, PersonOrService, SMALL, Handler::MintClientToken)
        .token(TokenUse::Never),
    route(Get, "/sessions/:id/events", Both, PersonOrService, 0, Handler::ListEvents),
    route(Get, "/sessions/:id/messages", Both, PersonOrService, 0, Handler::ListMessages),
    route(Get, "/sessions/:id/artifacts", Both, PersonOrService, 0, Handler::ListArtifacts),
    route(Get, "/sessions/:id/participants", Both, PersonOrService, 0, Handler::ListParticipants),
    route(Get, "/sessions/:id/participant-profiles", Both, PersonOrService, 0, Handler::ListParticipantProfiles),
    route(Post, "/sessions/:id/participants", Both, PersonOrService, SMALL, Handler::AddParticipant),
    route(Post, "/sessions/:id/pull-requests/refresh", Both, PersonOrService, SMALL, Handler::RefreshPullRequests),
    route(Get, "/sessions/:id/diff", Both, PersonOrService, 0, Handler::DiffState),
    // Only a sandbox knows what is in it.
    route(Put, "/sessions/:id/diff", Root, Sandbox, DIFF_BUNDLE_MAX_BYTES, Handler::PutDiff),
    route(Post, "/sessions/:id/diff/failure", Root, Sandbox, DIFF_FAILURE_MAX_BYTES, Handler::ReportDiffFailure),
    route(Post, "/sessions/:id/diff/retry", Both, PersonOrService, SMALL, Handler::RetryDiff),
    route(Get, "/sessions/:id/diff/:revision/files/:file", Both, PersonOrService, 0, Handler::GetDiffFile),
    route(Post, "/sessions/:id/scm-credentials", Root, Sandbox, SMALL, Handler::ScmCredentials),
    route(Post, "/sessions/:id/pr", Root, PersonServiceOrSandbox, PULL_REQUEST, Handler::CreatePullRequest),
    route(Put, "/sessions/:id/outputs/:output", Root, Sandbox, OUTPUT, Handler::PutOutput),
    route(Get, "/sessions/:id/outputs/:output", Both, PersonOrService, 0, Handler::GetOutput),
    route(Post, "/sessions/:id/attachments", Both, PersonOrService, ATTACHMENT, Handler::UploadAttachment),
    route(Get, "/sessions/:id/attachments/:attachment", Both, PersonServiceOrSandbox, 0, Handler::GetAttachment),
    route(Post, "/sessions/:id/media", Root, PersonServiceOrSandbox, MEDIA, Handler::UploadMedia),
    route(Get, "/sessions/:id/media/:artifact", Both, PersonOrService, 0, Handler::GetMedia),
    route(Post, "/sessions/:id/children", Both, PersonServiceOrSandbox, PROMPT, Handler::SpawnChild),
    route(Get, "/sessions/:id/children", Both, PersonServiceOrSandbox, 0, Handler::ListChildren),
    route(Get, "/sessions/:id/children/:child", Both, PersonServiceOrSandbox, 0, Handler::GetChild),
    route(Post, "/sessions/:id/children/:child/cancel", Both, PersonServiceOrSandbox, SMALL, Handler::CancelChild),
    route(Post, "/sessions/:id/children/:child/prompt", Root, Sandbox, PROMPT, Handler::PromptChild),
    route(Post, "/sessions/:id/fork", Both, PersonOrService, SMALL, Handler::Fork),
    route(Delete, "/sessions/:id", Both, PersonOrService, 0, Handler::DeleteSession),
    route(Get, "/sessions/:id/deliveries", Both, Person, 0, Handler::ListDeliveries),
    route(Get, "/sessions/:id/sandbox-access", Both, Person, 0, Handler::SandboxAccess)
        .token(TokenUse::Needs(TokenScope::Sessions)),
    // A bridge's and a page's socket. A browser sends its cookie with an upgrade; no script has a token for it.
    route(Get, "/sessions/:id/terminal", Root, Sandbox, 0, Handler::TerminalBridge),
    route(Get, "/api/sessions/:id/terminal", Api, Person, 0, Handler::TerminalViewer).token(TokenUse::Never),
    route(Get, "/sessions/:id/tunnel-urls", Both, PersonServiceOrSandbox, 0, Handler::TunnelUrls),
    route(Post, "/sandbox/:sandbox/error", Root, Sandbox, SMALL, Handler::SandboxError),
    route(Post, "/api/auth/revoke-sessions", Api, Person, SMALL, Handler::SignOutEverywhere).token(TokenUse::Never),
    // Settings of the deployment, which admins change and everybody reads; and what people see of all sessions.
    route(Get, "/model-preferences", Both, PersonOrService, 0, Handler::GetModelPreferences),
    route(Put, "/model-preferences", Both, Admin, SMALL, Handler::PutModelPreferences),
    route(Get, "/model-provider-accounts", Both, Person, 0, Handler::ListProviderAccounts),
    route(Post, "/model-provider-accounts", Both, Admin, PROVIDER_ACCOUNT, Handler::CreateProviderAccount),
    route(Get, "/model-provider-accounts/legacy-credentials", Both, Person, 0, Handler::ListLegacyCredentials),
    route(Get, "/model-provider-accounts/:account", Both, Person, 0, Handler::GetProviderAccount),
    route(Patch, "/model-provider-accounts/:account", Both, Admin, SMALL, Handler::RenameProviderAccount),
    route(Delete, "/model-provider-accounts/:account", Both, Admin, 0, Handler::ArchiveProviderAccount),
    route(Post, "/model-provider-accounts/:account/verify", Both, Admin, SMALL, Handler::VerifyProviderAccount),
    route(Post, "/model-provider-accounts/:account/enable", Both, Admin, SMALL, Handler::EnableProviderAccount),
    route(Post, "/model-provider-accounts/:account/disable", Both, Admin, SMALL, Handler::DisableProviderAccount),
    route(
        Post,
        "/model-provider-accounts/:account/reconnect",
        Both,
        Admin,
        PROVIDER_ACCOUNT,
        Handler::ReconnectProviderAccount,
    ),
    route(
        Post,
        "/model-provider-accounts/:provider/device-authorizations",
        Both,
        Admin,
        SMALL,
        Handler::BeginDeviceAuthorization,
    ),
    route(
        Post,
        "/model-provider-accounts/:provider/device-authorizations/:authorization/poll",
        Both,
        Admin,
        SMALL,
        Handler::PollDeviceAuthorization,
    ),
    route(
        Delete,
        "/model-provider-accounts/:provider/device-authorizations/:authorization",
        Both,
        Admin,
        0,
        Handler::CancelDeviceAuthorization,
    ),
    route(Get, "/model-provider-account-defaults", Both, Person, 0, Handler::ListProviderDefaults),
    route(Put, "/model-provider-account-defaults/:provider", Both, Admin, SMALL, Handler::SetProviderDefault),
    route(Delete, "/model-provider-account-defaults/:provider", Both, Admin, 0, Handler::ClearProviderDefault),
    route(
        Post,
        "/sessions/:id/provider-auth/:provider/access-token",
        Root,
        Sandbox,
        SMALL,
        Handler::ProviderAccessToken,
    ),
    route(Post, "/sessions/:id/openai-token-refresh", Root, Sandbox, SMALL, Handler::OpenaiTokenRefresh),
    route(Post, "/sessions/:id/xai-token-refresh", Root, Sandbox, SMALL, Handler::XaiTokenRefresh),
    route(Get, "/integration-settings/slack/channels", Both, PersonOrService, 0, Handler::SlackChannels),
    route(Get, "/integration-settings/:integration", Both, PersonOrService, 0, Handler::GetIntegration),
    route(Put, "/integration-settings/:integration", Both, Admin, SETTINGS, Handler::PutIntegration),
    route(Delete, "/integration-settings/:integration", Both, Admin, 0, Handler::DeleteIntegration),
    route(
        Get,
        "/integration-settings/:integration/repos",
        Both,
        PersonOrService,
        0,
        Handler::ListIntegrationRepositories,
    ),
    route(
        Get,
        "/integration-settings/:integration/repos/:owner/:name",
        Both,
        PersonOrService,
        0,
        Handler::GetIntegrationRepository,
    ),
    route(
        Put,
        "/integration-settings/:integration/repos/:owner/:name",
        Both,
        Person,
        SETTINGS,
        Handler::PutIntegrationRepository,
    ),
    route(
        Delete,
        "/integration-settings/:integration/repos/:owner/:name",
        Both,
        Person,
        0,
        Handler::DeleteIntegrationRepository,
    ),
    route(
        Get,
        "/integration-settings/:integration/environments/:environment",
        Both,
        PersonOrService,
        0,
        Handler::GetIntegrationEnvironment,
    ),
    route(
        Put,
        "/integration-settings/:integration/environments/:environment",
        Both,
        Person,
        SETTINGS,
        Handler::PutIntegrationEnvironment,
    ),
    route(
        Delete,
        "/integration-settings/:integration/environments/:environment",
        Both,
        Person,
        0,
        Handler::DeleteIntegrationEnvironment,
    ),
    route(
        Get,
        "/integration-settings/:integration/resolved/:owner/:name",
        Both,
        PersonOrService,
        0,
        Handler::ResolvedIntegration,
    ),
    route(Get, "/scm-settings", Both, PersonOrService, 0, Handler::GetScmSettings),
    route(Put, "/scm-settings", Both, Admin, SMALL, Handler::PutScmSettings),
    route(Delete, "/scm-settings", Both, Admin, 0, Handler::DeleteScmSettings),
    route(Get, "/scm-settings/repos", Both, PersonOrService, 0, Handler::ListScmRepositories),
    route(Put, "/scm-settings/repos/:owner/:name", Both, Person, SMALL, Handler::PutScmRepository),
    route(Delete, "/scm-settings/repos/:owner/:name", Both, Person, 0, Handler::DeleteScmRepository),
    route(Get, "/commit-signing", Both, PersonOrService, 0, Handler::GetCommitSigning),
    route(Put, "/commit-signing", Both, Admin, SMALL, Handler::PutCommitSigning),
    route(Delete, "/commit-signing", Both, Admin, 0, Handler::DeleteCommitSigning),
    route(Get, "/sessions/:id/commit-signing", Root, Sandbox, 0, Handler::SandboxCommitSigning),
    route(Post, "/sessions/:id/commit-signing", Root, Sandbox, SIGNED_PAYLOAD, Handler::SignCommit),
    route(Get, "/mcp-servers", Both, PersonOrService, 0, Handler::ListMcpServers),
    route(Post, "/mcp-servers", Both, Admin, MCP_SERVER, Handler::CreateMcpServer),
    route(Get, "/mcp-servers/:server", Both, PersonOrService, 0, Handler::GetMcpServer),
    route(Put, "/mcp-servers/:server", Both, Admin, MCP_SERVER, Handler::PutMcpServer),
    route(Delete, "/mcp-servers/:server", Both, Admin, 0, Handler::DeleteMcpServer),
    route(Get, "/skills", Both, PersonOrService, 0, Handler::ListSkills),
    route(Post, "/skills", Both, Admin, SKILL, Handler::CreateSkill),
    route(Post, "/skills/preview", Both, PersonOrService, SKILL, Handler::PreviewSkill),
    route(Post, "/skills/resolve-preview", Both, PersonOrService, SMALL, Handler::ResolveSkillsPreview),
    route(Get, "/skills/:skill", Both, PersonOrService, 0, Handler::GetSkill),
    route(Patch, "/skills/:skill", Both, Admin, SMALL, Handler::EnableSkill),
    route(Put, "/skills/:skill", Both, Admin, SKILL, Handler::PutSkill),
    route(Delete, "/skills/:skill", Both, Admin, 0, Handler::DeleteSkill),
    route(Get, "/skill-profiles", Both, PersonOrService, 0, Handler::ListSkillProfiles),
    route(Post, "/skill-profiles", Both, PersonOrService, SMALL, Handler::CreateSkillProfile),
    route(Patch, "/skill-profiles/:profile", Both, PersonOrService, SMALL, Handler::UpdateSkillProfile),
    route(Delete, "/skill-profiles/:profile", Both, PersonOrService, 0, Handler::DeleteSkillProfile),
    route(Get, "/sessions/:id/sandbox-skills", Root, Sandbox, 0, Handler::SandboxSkills),
    route(Get, "/sessions/:id/skills", Both, Person, 0, Handler::SessionSkills),
    route(Get, "/keyboard-shortcuts", Both, PersonOrService, 0, Handler::GetShortcuts),
    route(Put, "/keyboard-shortcuts", Both, PersonOrService, SMALL, Handler::PutShortcuts),
    route(Patch, "/sessions/:id/read-state", Both, Person, SMALL, Handler::MarkRead),
    route(Get, "/analytics/summary", Both, PersonOrService, 0, Handler::AnalyticsSummary),
    route(Get, "/analytics/timeseries", Both, PersonOrService, 0, Handler::AnalyticsTimeseries),
    route(Get, "/analytics/pull-requests", Both, PersonOrService, 0, Handler::AnalyticsPullRequests),
    route(Get, "/analytics/breakdown", Both, PersonOrService, 0, Handler::AnalyticsBreakdown),
    route(Post, "/internal/webhook-deliveries", Root, Bot, WEBHOOK, Handler::StoreWebhookDelivery),
    route(Get, "/internal/webhook-deliveries", Root, WebService, 0, Handler::ListWebhookDeliveries),
    // Secrets, repositories' metadata, environments. No bot sees a secret's name or sets anything. What is the
    // deployment's is for admins, what is a repository's or an environment's for everybody who works with it.
    route(Get, "/secrets", Both, Person, 0, Handler::ListGlobalSecrets),
    route(Put, "/secrets", Both, Admin, SECRETS, Handler::PutGlobalSecrets),
    route(Delete, "/secrets/:key", Both, Admin, 0, Handler::DeleteGlobalSecret),
    route(Get, "/secret-rotation", Both, Person, 0, Handler::SecretRotation),
    route(Get, "/repos/:owner/:name/secrets", Both, Person, 0, Handler::ListRepositorySecrets),
    route(Put, "/repos/:owner/:name/secrets", Both, Person, SECRETS, Handler::PutRepositorySecrets),
    route(Delete, "/repos/:owner/:name/secrets/:key", Both, Person, 0, Handler::DeleteRepositorySecret),
    route(Get, "/repos/:owner/:name/metadata", Both, PersonOrService, 0, Handler::GetRepositoryMetadata),
    route(Put, "/repos/:owner/:name/metadata", Both, Person, SMALL, Handler::PutRepositoryMetadata),
    route(Get, "/environments", Both, PersonOrService, 0, Handler::ListEnvironments),
    route(Post, "/environments", Both, Person, SMALL, Handler::CreateEnvironment),
    route(Get, "/environments/:environment", Both, PersonOrService, 0, Handler::GetEnvironment),
    route(Put, "/environments/:environment", Both, Person, SMALL, Handler::UpdateEnvironment),
    route(Delete, "/environments/:environment", Both, Person, 0, Handler::DeleteEnvironment),
    route(Get, "/environments/:environment/secrets", Both, Person, 0, Handler::ListEnvironmentSecrets),
    route(Put, "/environments/:environment/secrets", Both, Person, SECRETS, Handler::PutEnvironmentSecrets),
    route(Post, "/environments/:environment/secrets/import", Both, Person, SMALL, Handler::ImportSecrets),
    route(Delete, "/environments/:environment/secrets/:key", Both, Person, 0, Handler::DeleteEnvironmentSecret),
    route(Post, "/image-builds/build-complete", Root, BuildMachine, BUILD_CALLBACK, Handler::ImageBuildComplete),
    route(Post, "/image-builds/build-failed", Root, BuildMachine, BUILD_CALLBACK, Handler::ImageBuildFailed),
    route(
        Post,
        "/image-builds/trigger/environment/:environment",
        Both,
        PersonOrService,
        SMALL,
        Handler::TriggerEnvironmentImage,
    ),
    route(
        Post,
        "/image-builds/trigger/repo/:owner/:name",
        Both,
        PersonOrService,
        SMALL,
        Handler::TriggerRepositoryImage,
    ),
    route(Put, "/image-builds/toggle/repo/:owner/:name", Both, PersonOrService, SMALL, Handler::ToggleRepositoryImages),
    route(Get, "/image-builds/status", Both, PersonOrService, 0, Handler::ListImageBuilds),
    route(Get, "/image-builds/enabled", Both, PersonOrService, 0, Handler::ListImageUnits),
    route(Get, "/image-builds/enabled-repos", Both, PersonOrService, 0, Handler::ListImageRepositories),
    route(Get, "/search", Both, Person, 0, Handler::Search),
    route(Post, "/internal/search/rebuild", Root, WebService, SMALL, Handler::RebuildSearch),
    route(Post, "/internal/faults/panic", Root, WebService, SMALL, Handler::ProvokePanic),
    route(Get, "/internal/faults/costs", Root, WebService, 0, Handler::SessionCosts),
    route(Get, "/api/me/tokens", Api, Person, 0, Handler::ListPersonalTokens).token(TokenUse::Never),
    route(Post, "/api/me/tokens", Api, Person, SMALL, Handler::CreatePersonalToken).token(TokenUse::Never),
    route(Delete, "/api/me/tokens/:token", Api, Person, 0, Handler::RevokePersonalToken).token(TokenUse::Never),
    route(Get, "/people", Both, Admin, 0, Handler::ListPeople),
    route(Patch, "/people/:person", Both, Admin, SMALL, Handler::ChangePerson),
    route(Post, "/people/:person/sign-out", Both, Admin, SMALL, Handler::SignOutPerson).token(TokenUse::Never),
    route(Get, "/audit-log", Both, Admin, 0, Handler::ListAuditLog),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_route_has_a_path_that_parses_a_policy_and_one_place_in_the_table() {
        let mut seen = BTreeSet::new();
        for route in ROUTES {
            let segments: Vec<&str> = route.path.strip_prefix('/').expect("starts with /").split('/').collect();
            for segment in &segments {
                let name = segment.strip_prefix(':').unwrap_or(segment);
                let fits = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
                assert!(fits, "{}", route.path);
            }
            assert_eq!(route.path.starts_with("/api/"), route.surface == Api, "{}", route.path);
            assert!(seen.insert((route.method.as_str(), route.path)), "{} is there twice", route.path);
            if route.policy == Public {
                let known = ["/health", "/api/config", "/api/auth/"];
                assert!(known.iter().any(|open| route.path.starts_with(open)), "{} is open to anybody", route.path);
            }
            if route.policy == Sandbox {
                assert_eq!(route.surface, Root, "a browser has no sandbox token: {}", route.path);
            }
            assert!(route.method != Get || route.max_body == 0, "{}", route.path);
        }
    }

    #[test]
    fn every_handler_has_exactly_one_route() {
        let handlers: BTreeSet<String> = ROUTES.iter().map(|route| format!("{:?}", route.handler)).collect();
        assert_eq!(handlers.len(), ROUTES.len());
    }

    #[test]
    fn what_is_of_the_whole_deployment_is_changed_by_admins_only() {
        use crate::policy::tests::person;
        use crate::policy::{Actor, Authenticated, Caller, admit};
        use oi_protocol::identity::Role;
        use oi_worker_kit::service_signature::Service;

        let member = Authenticated { caller: person(Role::Member), signed_by: None, token: None };
        let admin = Authenticated { caller: person(Role::Admin), signed_by: None, token: None };
        let actor = Some(Actor { namespace: "slack", id: "U1".to_owned() });
        let bot = Caller::Bot { service: Service::SlackBot, actor };
        let bot = Authenticated { caller: bot, signed_by: Some(Service::SlackBot), token: None };
        let of_admins: BTreeSet<(&str, &str)> = [
            ("PUT", "/model-preferences"),
            ("POST", "/model-provider-accounts"),
            ("PATCH", "/model-provider-accounts/:account"),
            ("DELETE", "/model-provider-accounts/:account"),
            ("POST", "/model-provider-accounts/:account/verify"),
            ("POST", "/model-provider-accounts/:account/enable"),
            ("POST", "/model-provider-accounts/:account/disable"),
            ("POST", "/model-provider-accounts/:account/reconnect"),
            ("POST", "/model-provider-accounts/:provider/device-authorizations"),
            ("POST", "/model-provider-accounts/:provider/device-authorizations/:authorization/poll"),
            ("DELETE", "/model-provider-accounts/:provider/device-authorizations/:authorization"),
            ("PUT", "/model-provider-account-defaults/:provider"),
            ("DELETE", "/model-provider-account-defaults/:provider"),
            ("PUT", "/integration-settings/:integration"),
            ("DELETE", "/integration-settings/:integration"),
            ("PUT", "/scm-settings"),
            ("DELETE", "/scm-settings"),
            ("PUT", "/commit-signing"),
            ("DELETE", "/commit-signing"),
            ("POST", "/mcp-servers"),
            ("PUT", "/mcp-servers/:server"),
            ("DELETE", "/mcp-servers/:server"),
            ("POST", "/skills"),
            ("PATCH", "/skills/:skill"),
            ("PUT", "/skills/:skill"),
            ("DELETE", "/skills/:skill"),
            ("PUT", "/secrets"),
            ("DELETE", "/secrets/:key"),
            ("GET", "/people"),
            ("PATCH", "/people/:person"),
            ("POST", "/people/:person/sign-out"),
            ("GET", "/audit-log"),
        ]
        .into();
        let mut met = 0;
        for route in ROUTES {
            let (method, path) = (route.method.as_str(), route.path);
            let is_listed = of_admins.contains(&(method, path));
            assert_eq!(route.policy == Admin, is_listed, "{method} {path}");
            if is_listed {
                met += 1;
                assert!(admit(route.policy, &admin).is_ok(), "{method} {path}");
                for who in [&member, &bot] {
                    let refusal = admit(route.policy, who).expect_err("refused");
                    assert_eq!(refusal.status, 403, "{method} {path} by a {}", who.kind());
                }
            }
        }
        assert_eq!(met, of_admins.len(), "each of them is a route");
    }

    #[test]
    fn what_a_token_needs_follows_from_the_route_unless_the_route_says_it() {
        use crate::router::{Found, find};
        let needs = |method: &str, path: &str| match find(ROUTES, method, path) {
            Found::Route(route, _) => route.token_scope(),
            _ => panic!("no route {method} {path}"),
        };
        for (method, path, expected) in [
            ("GET", "/sessions", Some(TokenScope::Read)),
            ("GET", "/api/sessions/a/events", Some(TokenScope::Read)),
            ("POST", "/sessions", Some(TokenScope::Sessions)),
            ("DELETE", "/api/sessions/a", Some(TokenScope::Sessions)),
            // What is read there are passwords.
            ("GET", "/sessions/a/sandbox-access", Some(TokenScope::Sessions)),
            ("GET", "/people", Some(TokenScope::Admin)),
            ("PATCH", "/api/people/a", Some(TokenScope::Admin)),
            ("GET", "/audit-log", Some(TokenScope::Admin)),
            ("PUT", "/secrets", Some(TokenScope::Admin)),
            ("PUT", "/api/repos/acme/app/secrets", Some(TokenScope::Settings)),
            ("PUT", "/integration-settings/github", Some(TokenScope::Admin)),
            ("PUT", "/integration-settings/github/repos/acme/app", Some(TokenScope::Settings)),
        ] {
            assert_eq!(needs(method, path), expected, "{method} {path}");
        }
        for route in ROUTES {
            let makes_credentials = ["tokens", "ws-token", "/auth/", "sign-out"];
            if makes_credentials.iter().any(|part| route.path.contains(part)) && route.policy != WebService {
                assert_eq!(route.token_scope(), None, "{} {}", route.method.as_str(), route.path);
            }
        }
    }
}
