//! What each route is for, takes and answers.
//!
//! To describe a new route, add an arm to [`describe`]: `op("what it does")`, then what it takes (`query`, `body`) and what
//! it answers (`ok`, `answers`, `refuses`). Types of `protocol` need the derive of its feature `schema`; a shape that
//! no type has goes to [`super::shapes`]. The path, its parameters, the policy and the refusals that follow from
//! them (400, 401, 403, 404, 413) come from the table of routes. Then `cargo xtask types` writes the document.

use oi_protocol::client_socket::Snapshot;
use oi_protocol::diff::{DiffBundle, DiffFailure, DiffState, DiffStored};
use oi_protocol::rest::{
    AppConfig, AttachmentResponse, CreatePullRequestRequest, CreatePullRequestResponse, CreateSessionRequest,
    CreateSessionResponse, MediaResponse, ModelList, PromptRequest, PromptResponse, RepositoryList, ScmCredentials,
    SessionList, WsTokenResponse,
};
use oi_protocol::search::SearchResults;
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
    pub answers: Vec<(u16, &'static str, Content)>,
    pub refused: Vec<(u16, &'static str)>,
}

fn op(summary: &'static str) -> Operation {
    Operation { summary, query: vec![], body: None, takes_a_key: false, answers: vec![], refused: vec![] }
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
const TOO_OFTEN: (u16, &str) = (429, "Too many of these in a short time");
const UPSTREAM: (u16, &str) = (502, "The forge refused or failed");
const LATER: (u16, &str) = (501, "This deployment does not do this");

/// Total: a new handler does not compile without its description.
pub fn describe(handler: Handler, s: &mut Schemas) -> Operation {
    match handler {
        Handler::Health => op("Whether the control plane answers").ok(s.answer::<shapes::Health>()),
        Handler::AppConfig => op("What the page must know before anybody signs in").ok(s.answer::<AppConfig>()),
        Handler::SignIn => op("Begins to sign a browser in")
            .body(s.body::<shapes::SignInBody>(), json!({"provider": "github", "callbackURL": "/"}))
            .ok(s.answer::<shapes::SignInBegun>()),
        Handler::GithubCallback => op("Where GitHub sends a browser back to")
            .query(s.query::<shapes::CallbackQuery>())
            .answers(302, "On to the page, signed in or with a reason why not", Content::Nothing),
        Handler::GetSession => op("Who is signed in; null for nobody").ok(s.answer::<Option<shapes::SignedIn>>()),
        Handler::SignOut => op("Signs the browser out").ok(s.answer::<shapes::Success>()),
        Handler::SignInProviders => op("Ways to sign in that are set up").ok(s.answer::<shapes::Providers>()),
        Handler::ListRepositories => {
            op("Repositories that sessions can work on").ok(s.answer::<RepositoryList>()).refuses(&[UPSTREAM])
        }
        Handler::ListModels => op("Models that can be chosen").ok(s.answer::<ModelList>()),
        Handler::CreateSession => op("Makes a session")
            .body(
                s.body::<CreateSessionRequest>(),
                json!({"repoOwner": "acme", "repoName": "sample-service", "title": "Fix the login"}),
            )
            .answers(201, "It is listed, and its sandbox warms", s.answer::<CreateSessionResponse>())
            .refuses(&[(404, "The repository is not installed for the App"), LATER, UPSTREAM]),
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
    }
}

/// Either of two shapes.
fn either(one: Content, other: Content) -> Content {
    match (one, other) {
        (Content::Json(one), Content::Json(other)) => Content::Json(json!({"anyOf": [one, other]})),
        (one, _) => one,
    }
}
