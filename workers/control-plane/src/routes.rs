//! Every route of the control plane: what it is called, who may call it, and what answers it. Nothing else decides
//! that, and no route is without a policy.

use oi_protocol::limits::{DIFF_BUNDLE_MAX_BYTES, DIFF_FAILURE_MAX_BYTES};

use oi_protocol::identity::TokenScope;

use crate::policy::{Policy, TokenUse};
use crate::router::{Method, Route, Surface};
use crate::upload_form::body_bytes;

use Method::{Delete, Get, Patch, Post, Put};
use Policy::{Admin, Bot, Person, PersonOrService, PersonServiceOrSandbox, Public, Sandbox, WebService};
use Surface::{Api, Both, Root};

/// Bodies that hold a few names.
const SMALL: usize = 64 * 1024;
/// A prompt of 64 000 characters, each escaped, with its attachments' names.
const PROMPT: usize = 512 * 1024;
/// The longest title and body of a pull request on GitHub, escaped.
const PULL_REQUEST: usize = 512 * 1024;
/// A webhook of 1 MiB as a JSON string.
const WEBHOOK: usize = 2 * 1024 * 1024 + SMALL;

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
    GetSession,
    SignOut,
    SignInProviders,
    ListRepositories,
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
    TunnelUrls,
    SandboxError,
    SignOutEverywhere,
    ProvokePanic,
    SessionCosts,
    ListPersonalTokens,
    CreatePersonalToken,
    RevokePersonalToken,
    ListPeople,
    ChangePerson,
    SignOutPerson,
    ListAuditLog,
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
    route(Get, "/api/auth/get-session", Api, Public, 0, Handler::GetSession).token(TokenUse::Never),
    route(Post, "/api/auth/sign-out", Api, Public, SMALL, Handler::SignOut).token(TokenUse::Never),
    route(Get, "/internal/auth/sign-in-providers", Root, WebService, 0, Handler::SignInProviders),
    route(Get, "/repos", Both, PersonOrService, 0, Handler::ListRepositories),
    route(Get, "/models", Both, PersonOrService, 0, Handler::ListModels),
    route(Post, "/sessions", Both, PersonOrService, SMALL, Handler::CreateSession),
    route(Get, "/sessions", Both, PersonOrService, 0, Handler::ListSessions),
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
    route(Get, "/sessions/:id/tunnel-urls", Both, PersonServiceOrSandbox, 0, Handler::TunnelUrls),
    route(Post, "/sandbox/:sandbox/error", Root, Sandbox, SMALL, Handler::SandboxError),
    route(Post, "/api/auth/revoke-sessions", Api, Person, SMALL, Handler::SignOutEverywhere).token(TokenUse::Never),
    route(Post, "/internal/webhook-deliveries", Root, Bot, WEBHOOK, Handler::StoreWebhookDelivery),
    route(Get, "/internal/webhook-deliveries", Root, WebService, 0, Handler::ListWebhookDeliveries),
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
