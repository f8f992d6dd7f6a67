//! What each route is for, takes and answers.
//!
//! To describe a new route, add an arm to [`describe`]: `op("what it does")`, then what it takes (`query`, `body`) and what
//! it answers (`ok`, `answers`, `refuses`). Types of `protocol` need the derive of its feature `schema`; a shape that
//! no type has goes to [`super::shapes`]. The path, its parameters, the policy and the refusals that follow from
//! them (400, 401, 403, 404, 413) come from the table of routes. Then `cargo xtask types` writes the document.

use oi_protocol::client_socket::Snapshot;
use oi_protocol::diff::{DiffBundle, DiffFailure, DiffState, DiffStored};
use oi_protocol::environments::{EnvironmentAnswer, EnvironmentList, RepositoryMetadata, RepositoryMetadataAnswer};
use oi_protocol::forges::BranchList;
use oi_protocol::identity::{
    AuditLog, ChangePerson, CreatePersonalToken, CreatedPersonalToken, PersonInfo, PersonList, PersonalTokenList,
};
use oi_protocol::image_builds::{
    ImageBuildList, ImageBuildRepositories, ImageBuildTriggered, ImageBuildUnits, ToggleImageBuilds,
};
use oi_protocol::inbox::{Inbox, InboxPage, ReadResult};
use oi_protocol::rest::{
    AppConfig, AttachmentResponse, CreatePullRequestRequest, CreatePullRequestResponse, CreateSessionResponse,
    MediaResponse, ModelList, PromptRequest, PromptResponse, RepositoryList, ScmCredentials, SessionList,
    WsTokenResponse,
};
use oi_protocol::search::SearchResults;
use oi_protocol::secrets::{ImportSecrets, PutSecrets, SecretList, SecretRotation, SecretsChanged};
use oi_protocol::settings::{DeviceAuthorization, McpServer, ModelPreferences};
use serde_json::{Map, Value, json};

use super::schemas::Schemas;
use super::shapes;
use crate::routes::Handler;

/// What is in an answer.
pub enum Content {
    Nothing,
    Json(Value),
    Text,
    File,
}

/// What a request carries.
pub enum Body {
    Json { schema: Value, example: Value, required: bool },
    Form(Value),
    Bytes,
}

/// A route's description.
pub struct Operation {
    pub summary: &'static str,
    pub query: Vec<Value>,
    pub body: Option<Body>,
    pub takes_a_key: bool,
    /// Headers that a request must have, and what they say.
    pub headers: Vec<(&'static str, &'static str)>,
    pub answers: Vec<(u16, &'static str, Content)>,
    pub refused: Vec<(u16, &'static str)>,
}

fn op(summary: &'static str) -> Operation {
    Operation {
        summary,
        query: vec![],
        body: None,
        takes_a_key: false,
        headers: vec![],
        answers: vec![],
        refused: vec![],
    }
}

impl Operation {
    /// Parameters, by [`Schemas::query`].
    fn query(mut self, query: Vec<Value>) -> Self {
        self.query = query;
        self
    }

    /// A JSON body, by [`Schemas::body`], and one that is in order.
    fn body(mut self, schema: Value, example: Value) -> Self {
        self.body = Some(Body::Json { schema, example, required: true });
        self
    }

    /// One that may be left out.
    fn optional_body(mut self, schema: Value, example: Value) -> Self {
        self.body = Some(Body::Json { schema, example, required: false });
        self
    }

    /// A form with a file and these fields.
    fn form(mut self, fields: &[&str]) -> Self {
        let text = |name: &&str| ((*name).to_owned(), json!({"type": "string"}));
        let mut properties: Map<String, Value> = fields.iter().map(text).collect();
        properties.insert("file".to_owned(), json!({"type": "string", "format": "binary"}));
        self.body = Some(Body::Form(Value::Object(properties)));
        self
    }

    /// Bytes as they are.
    fn bytes(mut self) -> Self {
        self.body = Some(Body::Bytes);
        self
    }

    /// The header `Idempotency-Key` is looked at.
    fn key(mut self) -> Self {
        self.takes_a_key = true;
        self
    }

    /// A header that a request must have.
    fn header(mut self, name: &'static str, says: &'static str) -> Self {
        self.headers.push((name, says));
        self
    }

    /// 200
    fn ok(self, content: Content) -> Self {
        self.answers(200, "Done", content)
    }

    fn answers(mut self, status: u16, sentence: &'static str, content: Content) -> Self {
        self.answers.push((status, sentence, content));
        self
    }

    /// Refusals that the table of routes does not tell.
    fn refuses(mut self, refused: &[(u16, &'static str)]) -> Self {
        self.refused.extend_from_slice(refused);
        self
    }
}

/// A body of which nothing is read, and which must not claim to be of somebody.
fn empty() -> Value {
    json!({"type": "object"})
}

const CONFLICT: (u16, &str) = (409, "The session's state does not allow it");
const UPGRADES_ONLY: (u16, &str) = (426, "The request is no WebSocket upgrade");
const TOO_OFTEN: (u16, &str) = (429, "Too many of these in a short time");
const ENDED: (u16, &str) = (409, "The build has ended otherwise");
/// Of what begins a build.
const IMAGE: [(u16, &str); 5] = [
    (409, "Images of this are switched off, or what they are of was changed meanwhile"),
    (500, "The sandbox provider failed"),
    LATER,
    UPSTREAM,
    UNSET,
];
const UPSTREAM: (u16, &str) = (502, "The forge refused or failed");
const LATER: (u16, &str) = (501, "This deployment does not do this");
const STALE: (u16, &str) = (409, "Somebody else changed it meanwhile");
const UNSET: (u16, &str) = (503, "A setting of the deployment is missing; the sentence names it");
const NO_VAULT: (u16, &str) = (503, "Secrets cannot be read or written now, or the deployment has no key for them");
const NOT_INSTALLED: (u16, &str) = (404, "The repository is not installed for the App");
const PROVIDER: (u16, &str) = (502, "The provider did not answer");
const ACCOUNT: (u16, &str) = (409, "The account's state, or another account, does not allow it");
const NOBODY: (u16, &str) = (403, "The caller may not do this, or acts for no person of the platform");

/// Total: a new handler does not compile without its description.
pub fn describe(handler: Handler, s: &mut Schemas) -> Operation {
    match handler {
        Handler::Health => op("Whether the control plane answers").ok(s.answer::<shapes::Health>()),
        Handler::AppConfig => op("What the page must know before anybody signs in").ok(s.answer::<AppConfig>()),
        Handler::SignIn => op("Begins to sign a browser in")
            .body(s.body::<shapes::SignInBody>(), json!({"provider": "github", "callbackURL": "/"}))
            .ok(s.answer::<shapes::SignInBegun>())
            .refuses(&[TOO_OFTEN, UNSET]),
        Handler::GithubCallback => op("Where GitHub sends a browser back to")
            .query(s.query::<shapes::CallbackQuery>())
            .answers(302, "On to the page, signed in or with a reason why not", Content::Nothing)
            .refuses(&[TOO_OFTEN]),
        Handler::GoogleCallback => op("Where Google sends a browser back to")
            .query(s.query::<shapes::CallbackQuery>())
            .answers(302, "On to the page, signed in or with a reason why not", Content::Nothing)
            .refuses(&[TOO_OFTEN]),
        Handler::SignInError => op("Where a sign-in that failed ends")
            .query(s.query::<shapes::SignInErrorQuery>())
            .answers(302, "On to the page that says why", Content::Nothing),
        Handler::GetSession => op("Who is signed in; null for nobody").ok(s.answer::<Option<shapes::SignedIn>>()),
        Handler::SignOut => op("Signs the browser out").ok(s.answer::<shapes::Success>()),
        Handler::SignInProviders => op("Ways to sign in that are set up").ok(s.answer::<shapes::Providers>()),
        Handler::ListRepositories => {
            op("Repositories that sessions can work on").ok(s.answer::<RepositoryList>()).refuses(&[UPSTREAM])
        }
        Handler::ListBranches => op("Branches of a repository, in the code host's order")
            .query(s.query::<shapes::BranchesQuery>())
            .ok(s.answer::<BranchList>())
            .refuses(&[LATER, UPSTREAM]),
        Handler::ListModels => op("Models that can be chosen").ok(s.answer::<ModelList>()),
        Handler::CreateSession => op("Makes a session")
            .body(
                s.body::<shapes::CreateSessionBody>(),
                json!({"repoOwner": "acme", "repoName": "sample-service", "title": "Fix the login"}),
            )
            .answers(201, "It is listed, and its sandbox warms", s.answer::<CreateSessionResponse>())
            .refuses(&[
                (404, "The repository is not installed for the App, or nothing has the name of what is chosen"),
                (409, "A provider account that is chosen cannot be used"),
                LATER,
                UPSTREAM,
            ]),
        Handler::ListSessions => {
            op("Sessions, newest change first").query(s.query::<shapes::SessionsQuery>()).ok(s.answer::<SessionList>())
        }
        Handler::SessionSnapshot => {
            op("A session at this moment").query(s.query::<shapes::SnapshotQuery>()).ok(s.answer::<Snapshot>())
        }
        Handler::UpdateTitle => op("Gives a session another title")
            .body(s.body::<shapes::TitleBody>(), json!({"title": "Fix the login"}))
            .ok(s.answer::<shapes::Title>()),
        Handler::Archive => op("Archives a session")
            .optional_body(empty(), json!({}))
            .ok(s.answer::<shapes::Status>())
            .refuses(&[CONFLICT]),
        Handler::Unarchive => op("Takes a session out of the archive")
            .optional_body(empty(), json!({}))
            .ok(s.answer::<shapes::Status>())
            .refuses(&[CONFLICT]),
        Handler::Stop => op("Stops the prompt that runs")
            .optional_body(empty(), json!({}))
            .ok(s.answer::<shapes::Status>())
            .refuses(&[TOO_OFTEN]),
        Handler::AnswerQuestion => op("Answers a question of the agent")
            .body(s.body::<shapes::AnswerBody>(), json!({"requestId": "q-1", "answer": "yes"}))
            .ok(s.answer::<shapes::Status>())
            .refuses(&[(409, "The question does not wait any more"), TOO_OFTEN]),
        Handler::Cancel => op("Ends a session for good")
            .optional_body(empty(), json!({}))
            .ok(s.answer::<shapes::Status>())
            .refuses(&[CONFLICT]),
        Handler::Prompt => op("Queues a prompt")
            .key()
            .body(s.body::<PromptRequest>(), json!({"content": "Fix the login"}))
            .ok(s.answer::<PromptResponse>())
            .refuses(&[CONFLICT, TOO_OFTEN]),
        Handler::MintClientToken => op("A token for the session's socket")
            .body(empty(), json!({}))
            .ok(s.answer::<WsTokenResponse>())
            .refuses(&[TOO_OFTEN]),
        Handler::ListEvents => op("Events of a session, newest first")
            .query(s.query::<shapes::EventsQuery>())
            .ok(s.answer::<shapes::EventsPage>()),
        Handler::ListMessages => op("Prompts of a session, newest first")
            .query(s.query::<shapes::MessagesQuery>())
            .ok(s.answer::<shapes::MessagesPage>()),
        Handler::ListArtifacts => {
            let (page, one) = (s.answer::<shapes::ArtifactsPage>(), s.answer::<shapes::OneArtifact>());
            op("What a session produced, newest first").query(s.query::<shapes::ArtifactsQuery>()).ok(either(page, one))
        }
        Handler::ListParticipants => op("Who is in a session").ok(s.answer::<shapes::Participants>()),
        Handler::ListParticipantProfiles => op("Names and pictures of who is in a session, by the platform's user")
            .ok(s.answer::<shapes::ParticipantProfiles>()),
        Handler::AddParticipant => op("Adds somebody to a session")
            .body(s.body::<shapes::ParticipantBody>(), json!({"userId": "u-1", "role": "member"}))
            .ok(s.answer::<shapes::Added>()),
        Handler::RefreshPullRequests => op("Has a session's pull requests read from the forge")
            .optional_body(empty(), json!({}))
            .answers(202, "They are being read, or were within the last minute", s.answer::<shapes::Status>()),
        Handler::DiffState => op("What changed since a session's start, without patches").ok(s.answer::<DiffState>()),
        Handler::PutDiff => {
            let example = json!({"version": 1, "triggerMessageId": null, "capturedAt": 1, "repositories": []});
            op("A sandbox says what changed").body(s.body::<DiffBundle>(), example).ok(s.answer::<DiffStored>())
        }
        Handler::ReportDiffFailure => op("A sandbox says why it cannot tell what changed")
            .body(s.body::<DiffFailure>(), json!({"error": "git is missing"}))
            .answers(204, "It is shown beside the last good one", Content::Nothing),
        Handler::GetDiffFile => op("A patch of the newest diff")
            .ok(Content::Text)
            .refuses(&[(409, "The revision is not the newest; `currentRevisionId` is")]),
        Handler::RetryDiff => {
            op("Asks a sandbox for a new diff").answers(202, "It is asked", s.answer::<shapes::Accepted>())
        }
        Handler::ScmCredentials => op("Credentials for git, for minutes")
            .ok(s.answer::<ScmCredentials>())
            .refuses(&[(410, "The sandbox was stopped or replaced"), UPSTREAM]),
        Handler::CreatePullRequest => op("Pushes the branch and opens or updates a pull request")
            .key()
            .body(s.body::<CreatePullRequestRequest>(), json!({"title": "Fix the login", "body": "It works."}))
            .ok(s.answer::<CreatePullRequestResponse>())
            .refuses(&[CONFLICT, (410, "The sandbox was stopped or replaced"), UPSTREAM]),
        Handler::PutOutput => op("A sandbox stores what a tool printed")
            .bytes()
            .answers(201, "Stored", s.answer::<shapes::OutputStored>())
            .refuses(&[(411, "The length is not announced")]),
        Handler::GetOutput => op("What a tool printed")
            .ok(Content::File)
            .answers(206, "A range of it", Content::File)
            .refuses(&[(416, "It has no such range")]),
        Handler::UploadAttachment => op("Uploads a file for a prompt")
            .form(&[])
            .answers(201, "For a prompt within a day", s.answer::<AttachmentResponse>())
            .refuses(&[CONFLICT, (411, "The length is not announced")]),
        Handler::GetAttachment => op("A prompt's file")
            .ok(Content::File)
            .answers(206, "A range of it", Content::File)
            .refuses(&[(416, "It has no such range")]),
        Handler::UploadMedia => op("Uploads a screenshot or a recording")
            .form(&["artifactType", "caption", "sourceUrl"])
            .answers(201, "It is an artifact now", s.answer::<MediaResponse>())
            .refuses(&[CONFLICT, (411, "The length is not announced")]),
        Handler::GetMedia => op("A screenshot or a recording")
            .ok(Content::File)
            .answers(206, "A range of it", Content::File)
            .refuses(&[(416, "It has no such range")]),
        Handler::SpawnChild => op("Starts a child of a session")
            .body(s.body::<shapes::SpawnBody>(), json!({"title": "A part", "prompt": "Do a part"}))
            .answers(201, "It is started", s.answer::<CreateSessionResponse>())
            .refuses(&[CONFLICT, (429, "There is no room for another one")]),
        Handler::ListChildren => op("Children of a session").ok(s.answer::<shapes::Children>()),
        Handler::GetChild => {
            op("What a child does").query(s.query::<shapes::ChildQuery>()).ok(Content::Json(json!({"type": "object"})))
        }
        Handler::PromptChild => op("A parent's agent prompts a child")
            .body(s.body::<shapes::FollowUpBody>(), json!({"content": "And the rest"}))
            .ok(s.answer::<PromptResponse>())
            .refuses(&[CONFLICT, (429, "Its queue is full, or there is no room for another one")]),
        Handler::CancelChild => op("Cancels a child and what is below it")
            .optional_body(s.body::<shapes::CancelChildBody>(), json!({"cancelNested": true}))
            .ok(s.answer::<shapes::ChildCancelled>())
            .refuses(&[CONFLICT, (502, "Some of them could not be cancelled")]),
        Handler::Fork => op("Makes a session that continues another one from one of its events")
            .optional_body(s.body::<shapes::ForkBody>(), json!({"title": "Another way"}))
            .answers(201, "It is listed, and its timeline is being copied", s.answer::<CreateSessionResponse>())
            .refuses(&[CONFLICT]),
        Handler::DeleteSession => op("Deletes a session and all that it keeps").ok(s.answer::<shapes::Deleted>()),
        Handler::ListDeliveries => {
            op("What a session has yet to do outside, and what it gave up").ok(s.answer::<shapes::Jobs>())
        }
        Handler::SandboxAccess => {
            op("How people reach a session's sandbox").ok(Content::Json(json!({"type": "object"}))).refuses(&[CONFLICT])
        }
        Handler::TerminalBridge => op("A sandbox's bridge offers its terminals (WebSocket upgrade)")
            .answers(101, "The socket is open", Content::Nothing)
            .refuses(&[(410, "The sandbox was stopped or replaced"), UPGRADES_ONLY]),
        Handler::TerminalViewer => op("A page watches a sandbox's terminals (WebSocket upgrade)")
            .answers(101, "The socket is open", Content::Nothing)
            .refuses(&[UPGRADES_ONLY]),
        Handler::TunnelUrls => op("Addresses of a sandbox's open ports")
            .ok(s.answer::<shapes::TunnelUrls>())
            .refuses(&[(410, "The sandbox was stopped or replaced")]),
        Handler::SandboxError => op("A sandbox cannot come up, or cannot go on")
            .body(s.body::<shapes::SandboxErrorBody>(), json!({"error": "no disk", "fatal": true}))
            .ok(s.answer::<shapes::Status>())
            .refuses(&[(410, "The sandbox was stopped or replaced")]),
        Handler::SignOutEverywhere => op("Signs a person out in all browsers").ok(s.answer::<shapes::Done>()),
        Handler::Search => op("Searches titles, prompts, answers, file paths and pull request titles of all sessions")
            .query(s.query::<shapes::SearchQuery>())
            .ok(s.answer::<SearchResults>()),
        Handler::RebuildSearch => op("Makes the index of search again, a step at a time")
            .optional_body(s.body::<shapes::RebuildBody>(), json!({"restart": true}))
            .ok(s.answer::<shapes::RebuildState>()),
        Handler::StoreWebhookDelivery => op("Stores a webhook that a bot received")
            .body(
                s.body::<shapes::DeliveryBody>(),
                json!({"source": "github", "deliveryId": "d-1", "event": "push", "body": "{}"}),
            )
            .ok(s.answer::<shapes::DeliveryStored>())
            .answers(201, "Stored", s.answer::<shapes::DeliveryStored>()),
        Handler::ListWebhookDeliveries => op("Webhooks that arrived, newest first")
            .query(s.query::<shapes::DeliveriesQuery>())
            .ok(s.answer::<shapes::WebhookDeliveries>()),
        Handler::ProvokePanic => op("Panics, in deployments that are for tests")
            .query(s.query::<shapes::FaultQuery>())
            .ok(Content::Json(json!({"type": "object"})))
            .refuses(&[(404, "This deployment is not for tests"), (500, "It panicked")]),
        Handler::SessionCosts => op("What a session's statements cost, in deployments that are for tests")
            .query(s.query::<shapes::CostsQuery>())
            .ok(s.answer::<shapes::Costs>())
            .refuses(&[(404, "This deployment is not for tests")]),
        Handler::ListPersonalTokens => op("The caller's own tokens, newest first, without what they are shown by")
            .query(s.query::<shapes::PageQuery>())
            .ok(s.answer::<PersonalTokenList>()),
        Handler::CreatePersonalToken => op("Makes a token for the caller's scripts")
            .body(
                s.body::<CreatePersonalToken>(),
                json!({"name": "nightly", "scopes": ["read", "sessions"], "expiresInDays": 30}),
            )
            .answers(201, "It is shown in this answer and never again", s.answer::<CreatedPersonalToken>())
            .refuses(&[
                (403, "Only an admin makes a token with the scope `admin`, and only in a browser"),
                (409, "The caller has as many as one may have"),
            ]),
        Handler::RevokePersonalToken => op("Ends one of the caller's tokens at once").ok(s.answer::<shapes::Status>()),
        Handler::ListPeople => {
            op("Everybody who was ever seen").query(s.query::<shapes::PageQuery>()).ok(s.answer::<PersonList>())
        }
        Handler::ChangePerson => op("Changes what somebody may do")
            .body(s.body::<ChangePerson>(), json!({"role": "admin"}))
            .ok(s.answer::<PersonInfo>())
            .refuses(&[(409, "They are the last admin, or the deployment names them one")]),
        Handler::SignOutPerson => op("Ends somebody's sign-ins, sockets and tokens").ok(s.answer::<shapes::Status>()),
        Handler::ListAuditLog => op("What people and services did, newest first")
            .query(s.query::<shapes::AuditQuery>())
            .ok(s.answer::<AuditLog>()),
        Handler::ListGlobalSecrets => op("Names of the deployment's secrets; no answer has a value in it")
            .ok(s.answer::<SecretList>())
            .refuses(&[NO_VAULT]),
        Handler::PutGlobalSecrets => op("Sets secrets of the deployment")
            .body(s.body::<PutSecrets>(), json!({"secrets": {"NPM_TOKEN": "n-1"}}))
            .ok(s.answer::<SecretsChanged>())
            .refuses(&[STALE, NO_VAULT]),
        Handler::DeleteGlobalSecret => op("Deletes a secret of the deployment")
            .query(s.query::<shapes::VersionQuery>())
            .ok(s.answer::<shapes::SecretDeleted>())
            .refuses(&[STALE, NO_VAULT]),
        Handler::ListRepositorySecrets => op("Names of a repository's secrets, and of those that it can override")
            .ok(s.answer::<SecretList>())
            .refuses(&[NOT_INSTALLED, LATER, UPSTREAM, NO_VAULT]),
        Handler::PutRepositorySecrets => op("Sets secrets of a repository")
            .body(s.body::<PutSecrets>(), json!({"text": "NPM_TOKEN=n-1\n"}))
            .ok(s.answer::<SecretsChanged>())
            .refuses(&[NOT_INSTALLED, STALE, LATER, UPSTREAM, NO_VAULT]),
        Handler::DeleteRepositorySecret => op("Deletes a secret of a repository")
            .query(s.query::<shapes::VersionQuery>())
            .ok(s.answer::<shapes::SecretDeleted>())
            .refuses(&[STALE, LATER, UPSTREAM, NO_VAULT]),
        Handler::ListEnvironmentSecrets => op("Names of an environment's secrets, and of those that it can override")
            .ok(s.answer::<SecretList>())
            .refuses(&[NO_VAULT]),
        Handler::PutEnvironmentSecrets => op("Sets secrets of an environment")
            .body(s.body::<PutSecrets>(), json!({"secrets": {"NPM_TOKEN": "n-1"}}))
            .ok(s.answer::<SecretsChanged>())
            .refuses(&[STALE, NO_VAULT]),
        Handler::DeleteEnvironmentSecret => op("Deletes a secret of an environment")
            .query(s.query::<shapes::VersionQuery>())
            .ok(s.answer::<shapes::SecretDeleted>())
            .refuses(&[STALE, NO_VAULT]),
        Handler::ImportSecrets => op("Copies secrets of a repository to an environment that it is in")
            .body(s.body::<ImportSecrets>(), json!({"repoOwner": "acme", "repoName": "sample-service"}))
            .ok(s.answer::<SecretsChanged>())
            .refuses(&[
                (403, "The caller may not do this, or the repository is not one of the environment"),
                (409, "Somebody else changed them meanwhile, or one cannot be decrypted"),
                LATER,
                UPSTREAM,
                NO_VAULT,
            ]),
        Handler::SecretRotation => {
            op("How far a change of keys has come").ok(s.answer::<SecretRotation>()).refuses(&[NO_VAULT])
        }
        Handler::GetRepositoryMetadata => {
            op("What people noted of a repository").ok(s.answer::<RepositoryMetadataAnswer>()).refuses(&[LATER])
        }
        Handler::PutRepositoryMetadata => op("Notes something of a repository, in place of what was noted")
            .body(
                s.body::<RepositoryMetadata>(),
                json!({"description": "The sample", "aliases": ["sample"], "keywords": ["login"]}),
            )
            .ok(s.answer::<shapes::MetadataUpdated>())
            .refuses(&[STALE, LATER]),
        Handler::ListEnvironments => op("Environments, newest first")
            .query(s.query::<shapes::EnvironmentsQuery>())
            .ok(s.answer::<EnvironmentList>()),
        Handler::CreateEnvironment => op("Makes an environment")
            .body(
                s.body::<shapes::CreateEnvironmentBody>(),
                json!({"name": "Shop", "repositories": [{"repoOwner": "acme", "repoName": "sample-service"}]}),
            )
            .answers(201, "It can be worked in", s.answer::<EnvironmentAnswer>())
            .refuses(&[(409, "Another one has this name"), (500, "A repository could not be looked up"), LATER]),
        Handler::GetEnvironment => op("An environment").ok(s.answer::<EnvironmentAnswer>()),
        Handler::UpdateEnvironment => op("Changes an environment")
            .body(s.body::<shapes::UpdateEnvironmentBody>(), json!({"description": "All of the shop"}))
            .ok(s.answer::<EnvironmentAnswer>())
            .refuses(&[
                (409, "Another one has this name, or somebody else changed it meanwhile"),
                (500, "A repository could not be looked up"),
                LATER,
            ]),
        Handler::DeleteEnvironment => op("Deletes an environment and its secrets")
            .query(s.query::<shapes::VersionQuery>())
            .ok(s.answer::<shapes::EnvironmentDeleted>())
            .refuses(&[STALE]),
        Handler::ImageBuildComplete => op("A build's machine is done; its image is made next")
            .body(
                s.body::<shapes::ImageBuildCompleteBody>(),
                json!({
                    "build_id": "imgb-acme-sample-service-1767225600000-00000000",
                    "provider_session_id": "machine-1",
                    "repository_shas": [{"repoOwner": "acme", "repoName": "sample-service", "baseSha": "0".repeat(40)}],
                    "runtime_version": "v61",
                    "build_duration_seconds": 12.5,
                }),
            )
            .answers(202, "It is taken", s.answer::<shapes::ImageBuildCompletionAccepted>())
            .refuses(&[ENDED, UNSET]),
        Handler::ImageBuildFailed => op("A build's machine failed; it is ended next")
            .body(
                s.body::<shapes::ImageBuildFailedBody>(),
                json!({
                    "build_id": "imgb-acme-sample-service-1767225600000-00000000",
                    "provider_session_id": "machine-1",
                    "error": "setup.sh ended with exit code 1",
                }),
            )
            .answers(202, "It is taken", s.answer::<shapes::ImageBuildFailureAccepted>())
            .refuses(&[ENDED, UNSET]),
        Handler::TriggerEnvironmentImage => op("Builds the image of an environment now")
            .optional_body(empty(), json!({}))
            .ok(s.answer::<ImageBuildTriggered>())
            .refuses(&IMAGE),
        Handler::TriggerRepositoryImage => op("Builds the image of a repository now")
            .optional_body(empty(), json!({}))
            .ok(s.answer::<ImageBuildTriggered>())
            .refuses(&IMAGE),
        Handler::ToggleRepositoryImages => op("Switches the images of a repository on or off")
            .body(s.body::<ToggleImageBuilds>(), json!({"enabled": true}))
            .ok(s.answer::<shapes::ImageBuildsToggled>())
            .refuses(&[LATER, UNSET, UPSTREAM]),
        Handler::ListImageBuilds => op("Builds of images, newest first")
            .query(s.query::<shapes::ImageBuildsQuery>())
            .ok(s.answer::<ImageBuildList>())
            .refuses(&[LATER]),
        Handler::ListImageUnits => op("What images are built ahead of, and what they would be of now")
            .query(s.query::<shapes::PageQuery>())
            .ok(s.answer::<ImageBuildUnits>())
            .refuses(&[LATER, UNSET]),
        Handler::ListImageRepositories => op("Repositories whose images are built ahead")
            .query(s.query::<shapes::PageQuery>())
            .ok(s.answer::<ImageBuildRepositories>())
            .refuses(&[LATER]),
        Handler::Inbox => {
            let (all, page) = (s.answer::<Inbox>(), s.answer::<InboxPage>());
            op("Sessions by what they want of the caller").query(s.query::<shapes::InboxQuery>()).ok(either(all, page))
        }
        Handler::MarkRead => op("Says that the caller has read a session's last message")
            .body(s.body::<shapes::MarkBody>(), json!({"action": "mark_latest_message_read"}))
            .ok(s.answer::<ReadResult>()),
        Handler::GetModelPreferences => op("Which models are enabled").ok(s.answer::<ModelPreferences>()),
        Handler::PutModelPreferences => op("Sets which models are enabled")
            .body(
                s.body::<shapes::ModelPreferencesBody>(),
                json!({"enabledModels": ["anthropic/claude-sonnet-4-5"], "version": 0}),
            )
            .ok(s.answer::<shapes::ModelPreferencesUpdated>())
            .refuses(&[STALE]),
        Handler::ListProviderAccounts => op("Subscriptions at model providers, without their tokens")
            .query(s.query::<shapes::ProviderAccountsQuery>())
            .ok(s.answer::<shapes::ProviderAccounts>()),
        Handler::ListLegacyCredentials => op("Where secrets hold tokens of subscriptions, as Open-Inspect kept them")
            .ok(s.answer::<shapes::LegacyCredentials>()),
        Handler::CreateProviderAccount => op("Connects a subscription by a token that a person pasted")
            .body(
                s.body::<shapes::ProviderAccountBody>(),
                json!({"provider": "openai", "displayName": "Ours", "refreshToken": "r-1", "accountId": "a-1"}),
            )
            .ok(s.answer::<shapes::ProviderAccountConnected>())
            .answers(201, "It is new", s.answer::<shapes::ProviderAccountConnected>())
            .refuses(&[ACCOUNT, PROVIDER, UNSET]),
        Handler::GetProviderAccount => {
            op("A subscription at a model provider").ok(s.answer::<shapes::OneProviderAccount>())
        }
        Handler::RenameProviderAccount => op("Gives a subscription another name")
            .body(s.body::<shapes::DisplayNameBody>(), json!({"displayName": "Ours"}))
            .ok(s.answer::<shapes::OneProviderAccount>())
            .refuses(&[ACCOUNT]),
        Handler::ArchiveProviderAccount => {
            op("Puts a subscription away for good").answers(204, "It is put away", Content::Nothing).refuses(&[ACCOUNT])
        }
        Handler::VerifyProviderAccount => op("Asks the provider whether a subscription's tokens hold")
            .ok(s.answer::<shapes::OneProviderAccount>())
            .refuses(&[ACCOUNT, PROVIDER, (503, "It is being refreshed, or the deployment has no key for its tokens")]),
        Handler::EnableProviderAccount => {
            op("Lets sessions use a subscription").ok(s.answer::<shapes::OneProviderAccount>()).refuses(&[ACCOUNT])
        }
        Handler::DisableProviderAccount => {
            op("Keeps sessions from a subscription").ok(s.answer::<shapes::OneProviderAccount>()).refuses(&[ACCOUNT])
        }
        Handler::ReconnectProviderAccount => op("Gives a subscription new tokens")
            .body(s.body::<shapes::ReconnectBody>(), json!({"refreshToken": "r-2", "accountId": "a-1"}))
            .ok(s.answer::<shapes::OneProviderAccount>())
            .refuses(&[ACCOUNT, PROVIDER, UNSET]),
        Handler::BeginDeviceAuthorization => op("Begins to connect a subscription by a code for the provider's page")
            .body(s.body::<shapes::DeviceBody>(), json!({"operation": "create", "displayName": "Ours"}))
            .answers(201, "The person types the code there", s.answer::<DeviceAuthorization>())
            .refuses(&[ACCOUNT, TOO_OFTEN, PROVIDER, UNSET]),
        Handler::PollDeviceAuthorization => {
            op("How far such a connection is").ok(s.answer::<shapes::DevicePoll>()).refuses(&[UNSET])
        }
        Handler::CancelDeviceAuthorization => {
            op("Ends such a connection").answers(204, "It is ended", Content::Nothing).refuses(&[UNSET])
        }
        Handler::ListProviderDefaults => {
            op("Subscriptions that new sessions use").ok(s.answer::<shapes::ProviderDefaults>())
        }
        Handler::SetProviderDefault => op("Sets the subscription that new sessions use of a provider")
            .body(
                s.body::<shapes::ProviderDefaultBody>(),
                json!({"providerAccountId": "00000000000000000000000000000000", "unattendedMode": "api_key"}),
            )
            .ok(s.answer::<shapes::OneProviderDefault>())
            .refuses(&[ACCOUNT]),
        Handler::ClearProviderDefault => {
            op("Has new sessions use no subscription of a provider").answers(204, "They use none", Content::Nothing)
        }
        Handler::ProviderAccessToken => op("A provider's token for a sandbox, while its session uses a subscription")
            .ok(s.answer::<shapes::ProviderToken>())
            .refuses(&[
                (409, "The session uses a key, or its account cannot be used"),
                (410, "The sandbox was stopped or replaced"),
                PROVIDER,
                (503, "The account is being refreshed, or the deployment has no key for its tokens"),
            ]),
        Handler::OpenaiTokenRefresh => op("Refuses what older clients ask for: no token of OpenAI lies in the secrets")
            .answers(200, "Not answered: there is no such token", Content::Json(empty()))
            .refuses(&[(409, "The session uses a key or an account"), (410, "The sandbox was stopped or replaced")]),
        Handler::XaiTokenRefresh => op("Refuses what older clients ask for: no token of xAI lies in the secrets")
            .answers(200, "Not answered: there is no such token", Content::Json(empty()))
            .refuses(&[(409, "The session uses a key or an account"), (410, "The sandbox was stopped or replaced")]),
        Handler::SlackChannels => op("Channels that the Slack bot sees").ok(s.answer::<shapes::SlackChannels>()),
        Handler::GetIntegration => {
            op("Settings of an integration, for all sessions").ok(s.answer::<shapes::IntegrationSettings>())
        }
        Handler::PutIntegration => op("Sets settings of an integration, for all sessions")
            .body(s.body::<shapes::SettingsBody>(), json!({"settings": {}, "version": 0}))
            .ok(s.answer::<shapes::IntegrationUpdated>())
            .refuses(&[STALE]),
        Handler::DeleteIntegration => op("Deletes settings of an integration, for all sessions")
            .query(s.query::<shapes::VersionQuery>())
            .ok(s.answer::<shapes::IntegrationDeleted>())
            .refuses(&[STALE]),
        Handler::ListIntegrationRepositories => op("Repositories with settings of an integration of their own")
            .query(s.query::<shapes::RepositorySettingsQuery>())
            .ok(s.answer::<shapes::IntegrationRepositories>()),
        Handler::GetIntegrationRepository => {
            op("Settings of an integration, for a repository").ok(s.answer::<shapes::IntegrationSettings>())
        }
        Handler::PutIntegrationRepository => op("Sets settings of an integration, for a repository")
            .body(s.body::<shapes::SettingsBody>(), json!({"settings": {}, "version": 0}))
            .ok(s.answer::<shapes::IntegrationUpdated>())
            .refuses(&[STALE]),
        Handler::DeleteIntegrationRepository => op("Deletes settings of an integration, for a repository")
            .query(s.query::<shapes::VersionQuery>())
            .ok(s.answer::<shapes::IntegrationDeleted>())
            .refuses(&[STALE]),
        Handler::GetIntegrationEnvironment => {
            op("Settings of an integration, for an environment").ok(s.answer::<shapes::IntegrationSettings>())
        }
        Handler::PutIntegrationEnvironment => op("Sets settings of an integration, for an environment")
            .body(s.body::<shapes::SettingsBody>(), json!({"settings": {}, "version": 0}))
            .ok(s.answer::<shapes::IntegrationUpdated>())
            .refuses(&[STALE]),
        Handler::DeleteIntegrationEnvironment => op("Deletes settings of an integration, for an environment")
            .query(s.query::<shapes::VersionQuery>())
            .ok(s.answer::<shapes::IntegrationDeleted>())
            .refuses(&[STALE]),
        Handler::ResolvedIntegration => {
            op("What an integration's settings come to for a repository").ok(s.answer::<shapes::ResolvedSettings>())
        }
        Handler::GetScmSettings => op("Settings of the code host").ok(s.answer::<shapes::ScmSettings>()),
        Handler::PutScmSettings => op("Sets settings of the code host")
            .body(s.body::<shapes::SettingsBody>(), json!({"settings": {"alwaysUseDraftMode": true}}))
            .ok(s.answer::<shapes::ScmUpdated>())
            .refuses(&[STALE]),
        Handler::DeleteScmSettings => op("Deletes settings of the code host")
            .query(s.query::<shapes::VersionQuery>())
            .ok(s.answer::<shapes::ScmDeleted>())
            .refuses(&[STALE]),
        Handler::ListScmRepositories => op("Repositories with settings of the code host of their own")
            .query(s.query::<shapes::RepositorySettingsQuery>())
            .ok(s.answer::<shapes::ScmRepositories>()),
        Handler::PutScmRepository => op("Sets settings of the code host, for a repository")
            .body(s.body::<shapes::SettingsBody>(), json!({"settings": {"pullRequestLabel": "by agent"}}))
            .ok(s.answer::<shapes::ScmUpdated>())
            .refuses(&[STALE]),
        Handler::DeleteScmRepository => op("Deletes settings of the code host, for a repository")
            .query(s.query::<shapes::VersionQuery>())
            .ok(s.answer::<shapes::ScmDeleted>())
            .refuses(&[STALE]),
        Handler::GetCommitSigning => op("How commits are signed, without the key").ok(s.answer::<shapes::CommitSigning>()),
        Handler::PutCommitSigning => op("Sets the key that commits are signed with")
            .body(
                s.body::<shapes::CommitSigningBody>(),
                json!({"privateKey": "-----BEGIN OPENSSH PRIVATE KEY-----\n…", "committerName": "Open Inspect",
                    "committerEmail": "inspect@example.com"}),
            )
            .ok(s.answer::<shapes::CommitSigning>())
            .refuses(&[STALE, UNSET]),
        Handler::DeleteCommitSigning => op("Has commits signed no more").ok(s.answer::<shapes::CommitSigning>()),
        Handler::SandboxCommitSigning => op("What a sandbox tells git of the key")
            .ok(s.answer::<shapes::CommitSigning>())
            .refuses(&[(410, "The sandbox was stopped or replaced")]),
        Handler::SignCommit => op("Signs a commit or a tag for a sandbox")
            .header("X-Open-Inspect-Signing-Fingerprint", "The key that the sandbox was told of.")
            .bytes()
            .ok(Content::Text)
            .refuses(&[
                (409, "Commits are signed no more, or by another key"),
                (410, "The sandbox was stopped or replaced"),
                UNSET,
            ]),
        Handler::ListMcpServers => op("MCP servers that sessions have, without their variables and headers")
            .query(s.query::<shapes::McpServersQuery>())
            .ok(s.answer::<Vec<McpServer>>()),
        Handler::CreateMcpServer => op("Sets up an MCP server")
            .body(
                s.body::<shapes::CreateMcpServerBody>(),
                json!({"name": "docs", "type": "remote", "url": "https://mcp.example.com/docs"}),
            )
            .answers(201, "New sessions have it", s.answer::<McpServer>())
            .refuses(&[(409, "There are as many as there may be"), UNSET]),
        Handler::GetMcpServer => op("An MCP server, without its variables and headers").ok(s.answer::<McpServer>()),
        Handler::PutMcpServer => op("Changes an MCP server")
            .body(s.body::<shapes::UpdateMcpServerBody>(), json!({"enabled": false}))
            .ok(s.answer::<McpServer>())
            .refuses(&[STALE, UNSET]),
        Handler::DeleteMcpServer => op("Deletes an MCP server").ok(s.answer::<shapes::Okay>()),
        Handler::ListSkills => {
            op("Skills by name").query(s.query::<shapes::SkillsQuery>()).ok(s.answer::<shapes::SkillsPage>())
        }
        Handler::CreateSkill => op("Makes a skill")
            .body(
                s.body::<shapes::CreateSkillBody>(),
                json!({"name": "release-notes", "content": {"description": "Writes release notes", "body": "Look at the tags."},
                    "assignments": [{"type": "global"}]}),
            )
            .answers(201, "New sessions get it where it applies", s.answer::<shapes::OneSkill>())
            .refuses(&[(409, "The name is taken, or there are as many as there may be")]),
        Handler::PreviewSkill => op("How a skill would be written into files")
            .body(
                s.body::<shapes::PreviewSkillBody>(),
                json!({"name": "release-notes", "content": {"description": "Writes release notes", "body": "Look at the tags."}}),
            )
            .ok(s.answer::<shapes::SkillPreview>())
            .refuses(&[(409, "Every agent has a skill of this name")]),
        Handler::ResolveSkillsPreview => op("Which skills a session would get")
            .body(
                s.body::<shapes::ResolveSkillsBody>(),
                json!({"repoOwner": "acme", "repoName": "sample-service", "selection": {"mode": "all"}}),
            )
            .ok(s.answer::<shapes::ResolvedSkills>())
            .refuses(&[NOBODY, (404, "The caller has no such profile")]),
        Handler::GetSkill => op("A skill with what it says").ok(s.answer::<shapes::OneSkill>()),
        Handler::EnableSkill => op("Has sessions get a skill, or not")
            .body(s.body::<shapes::EnableSkillBody>(), json!({"enabled": false}))
            .ok(s.answer::<shapes::OneSkill>())
            .refuses(&[STALE]),
        Handler::PutSkill => op("Writes another revision of a skill, and where it applies")
            .header("If-Match", "The revision that was read: `revisionId`.")
            .body(
                s.body::<shapes::UpdateSkillBody>(),
                json!({"content": {"description": "Writes release notes", "body": "Look at the tags."},
                    "assignments": [{"type": "global"}]}),
            )
            .ok(s.answer::<shapes::OneSkill>())
            .refuses(&[STALE, (428, "`If-Match` is missing")]),
        Handler::DeleteSkill => op("Deletes a skill; sessions that have it keep it")
            .ok(s.answer::<shapes::Okay>()),
        Handler::ListSkillProfiles => {
            op("The caller's choices of skills").ok(s.answer::<shapes::SkillProfiles>()).refuses(&[NOBODY])
        }
        Handler::CreateSkillProfile => op("Makes a choice of skills for the caller")
            .body(s.body::<shapes::CreateSkillProfileBody>(), json!({"name": "Reviews", "skillIds": []}))
            .answers(201, "It can be chosen", s.answer::<shapes::OneSkillProfile>())
            .refuses(&[NOBODY, (409, "The caller has one of this name, or as many as one may have")]),
        Handler::UpdateSkillProfile => op("Changes a choice of skills of the caller's")
            .body(s.body::<shapes::UpdateSkillProfileBody>(), json!({"name": "Reviews"}))
            .ok(s.answer::<shapes::OneSkillProfile>())
            .refuses(&[NOBODY, (409, "The caller has one of this name, or changed it meanwhile")]),
        Handler::DeleteSkillProfile => {
            op("Deletes a choice of skills of the caller's").ok(s.answer::<shapes::Okay>()).refuses(&[NOBODY])
        }
        Handler::SandboxSkills => op("A session's skills with their files, for its sandbox")
            .query(s.query::<shapes::SandboxSkillsQuery>())
            .ok(s.answer::<shapes::SandboxSkills>())
            .refuses(&[(410, "The sandbox was stopped or replaced")]),
        Handler::SessionSkills => op("Which skills a session has").ok(s.answer::<shapes::SessionSkills>()),
        Handler::GetShortcuts => {
            op("The caller's keyboard shortcuts").ok(s.answer::<shapes::Shortcuts>()).refuses(&[NOBODY])
        }
        Handler::PutShortcuts => op("Sets the caller's keyboard shortcuts")
            .body(
                s.body::<shapes::ShortcutsBody>(),
                json!({"shortcuts": {
                    "send-prompt": {"code": "Enter", "primary": true, "alt": false, "shift": false},
                    "open-command-menu": {"code": "KeyK", "primary": true, "alt": false, "shift": false},
                    "new-session": {"code": "KeyO", "primary": true, "alt": false, "shift": true},
                    "toggle-sidebar": {"code": "Slash", "primary": true, "alt": false, "shift": false},
                }}),
            )
            .ok(s.answer::<shapes::Shortcuts>())
            .refuses(&[NOBODY, STALE]),
        Handler::AnalyticsSummary => op("What the last days came to")
            .query(s.query::<shapes::AnalyticsQuery>())
            .ok(s.answer::<shapes::AnalyticsSummary>()),
        Handler::AnalyticsTimeseries => op("Sessions by day and person")
            .query(s.query::<shapes::AnalyticsQuery>())
            .ok(s.answer::<shapes::AnalyticsSeries>()),
        Handler::AnalyticsPullRequests => op("What became of pull requests")
            .query(s.query::<shapes::AnalyticsQuery>())
            .ok(s.answer::<shapes::AnalyticsPullRequests>()),
        Handler::AnalyticsBreakdown => op("Sessions by person or by repository")
            .query(s.query::<shapes::BreakdownQuery>())
            .ok(s.answer::<shapes::AnalyticsBreakdown>()),
    }
}

/// Either of two shapes.
fn either(one: Content, other: Content) -> Content {
    match (one, other) {
        (Content::Json(one), Content::Json(other)) => Content::Json(json!({"anyOf": [one, other]})),
        (one, _) => one,
    }
}
