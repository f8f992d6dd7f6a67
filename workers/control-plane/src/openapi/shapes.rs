//! Shapes of the wire that no type of `protocol` has: parameters of queries, bodies that a handler reads for itself,
//! and answers of a few words.

#![expect(dead_code, reason = "they are shapes, not values")]

use std::collections::BTreeMap;

use oi_protocol::identity::Role;
use oi_protocol::rest::CreateSessionRequest;
use oi_protocol::session_state::{MessageStatus, PromptAttachment, PromptSource, SessionArtifact, SessionStatus};
use oi_protocol::{MessageId, ParticipantId, SessionId, UnixMillis};
use schemars::JsonSchema;
use serde_json::{Map, Value};

macro_rules! shapes {
    ($($(#[$doc:meta])* $name:ident { $($(#[$attribute:meta])* $field:ident: $kind:ty),* $(,)? })*) => {
        $(
            #[derive(JsonSchema)]
            #[serde(rename_all = "camelCase")]
            $(#[$doc])*
            pub struct $name { $($(#[$attribute])* pub $field: $kind),* }
        )*
    };
}

mod settings;

pub use settings::*;

shapes! {
    /// Parameters of `GET /sessions`
    SessionsQuery {
        /// 1 to 100; 50 when absent.
        limit: Option<u32>,
        /// How many to pass over.
        offset: Option<u32>,
        /// Only of this status.
        status: Option<SessionStatus>,
        /// Not of this status.
        exclude_status: Option<SessionStatus>,
        /// Leave out what automations and the GitHub bot started.
        exclude_automation_lineage: Option<bool>,
        /// Only of these people; `me` is the caller.
        created_by: Option<Vec<String>>,
    }
    /// Parameters of `GET /search`
    SearchQuery {
        /// Words, "phrases", beginnings of words with `*`, and words that must not be there with `-`.
        #[schemars(length(min = 1, max = 256))]
        q: String,
        /// Only in this repository: `owner/name`.
        repository: Option<String>,
        /// Only of this person; `me` is the caller.
        author: Option<String>,
        /// Only sessions of this status.
        status: Option<SessionStatus>,
        /// Not older than this, Unix ms.
        #[schemars(range(min = 0))]
        from: Option<i64>,
        /// Older than this, Unix ms.
        #[schemars(range(min = 0))]
        to: Option<i64>,
        /// 1 to 50; 20 when absent.
        #[schemars(range(min = 1))]
        limit: Option<i64>,
        /// From the page before.
        cursor: Option<String>,
    }
    /// Parameters of `GET /sessions/:id`
    SnapshotQuery {
        /// 1 or 2.
        #[schemars(range(min = 1, max = 2))]
        dialect: Option<u32>,
    }
    /// Parameters of `GET /sessions/:id/events`
    EventsQuery {
        /// From the page before.
        cursor: Option<String>,
        /// 1 to 200.
        #[schemars(range(min = 1))]
        limit: Option<u32>,
        /// Only of this type.
        #[serde(rename = "type")]
        event_type: Option<String>,
        /// Only of this prompt.
        #[serde(rename = "message_id")]
        message_id: Option<String>,
    }
    /// Parameters of `GET /sessions/:id/messages`
    MessagesQuery {
        /// From the page before.
        cursor: Option<String>,
        /// 1 to 100.
        #[schemars(range(min = 1))]
        limit: Option<u32>,
        /// Only of this status.
        status: Option<MessageStatus>,
    }
    /// Parameters of `GET /sessions/:id/artifacts`
    ArtifactsQuery {
        /// Only this one.
        artifact_id: Option<String>,
        /// From the page before.
        cursor: Option<String>,
        /// 1 to 100.
        #[schemars(range(min = 1))]
        limit: Option<u32>,
    }
    /// Parameters of `GET /sessions/:id/children/:child`
    ChildQuery {
        /// Parts of the answer.
        include: Option<Vec<String>>,
        /// How much of the trajectory.
        trajectory_limit: Option<u32>,
        /// From the page before.
        trajectory_cursor: Option<String>,
    }
    /// Parameters of the sign-in's callback
    CallbackQuery {
        /// From the provider.
        code: Option<String>,
        /// From us.
        state: Option<String>,
        /// Why it did not work.
        error: Option<String>,
    }
    /// Parameters of `GET /api/auth/error`
    SignInErrorQuery {
        /// Why it did not work: a word.
        error: Option<String>,
    }
    /// Parameters of `GET /internal/webhook-deliveries`
    DeliveriesQuery {
        /// 1 to 100.
        limit: Option<i64>,
        /// Only of this vendor.
        source: Option<String>,
        /// Only this one.
        delivery_id: Option<String>,
    }
    /// Parameters of `POST /internal/faults/panic`
    FaultQuery {
        /// `worker` or `session`.
        #[serde(rename = "where")]
        place: Option<String>,
        /// Which session.
        session_id: Option<String>,
    }
    /// Parameters of `GET /internal/faults/costs`
    CostsQuery {
        /// Which session.
        session_id: String,
    }

    /// `POST /api/auth/sign-in/social`
    SignInBody {
        /// `github` or `google`
        provider: String,
        /// A path of the page to go on to.
        #[serde(rename = "callbackURL")]
        callback_url: Option<String>,
        /// Whether the answer is read by a program.
        #[serde(default)]
        disable_redirect: bool,
    }
    /// `POST /sessions`
    CreateSessionBody {
        /// What it works on, and with what.
        #[serde(flatten)]
        request: CreateSessionRequest,
        /// Which of the skills that apply it gets; all when absent.
        skill_selection: Option<SkillSelection>,
        /// How it reaches providers; as the deployment chose when absent.
        provider_selections: Option<ProviderSelections>,
    }
    /// `PATCH /sessions/:id/title`
    TitleBody {
        /// 1 to 200 UTF-16 units.
        #[schemars(length(min = 1, max = 200))]
        title: String,
    }
    /// `POST /sessions/:id/input-responses`
    AnswerBody {
        /// The question.
        request_id: String,
        /// The answer.
        #[schemars(length(min = 1, max = 16000))]
        answer: String,
    }
    /// `POST /sessions/:id/participants`
    ParticipantBody {
        /// Their identity.
        user_id: String,
        /// Login at the forge.
        scm_login: Option<String>,
        /// The name to show.
        scm_name: Option<String>,
        /// E-mail.
        scm_email: Option<String>,
        /// `member` or `owner`.
        role: Option<String>,
    }
    /// `POST /sessions/:id/children`
    SpawnBody {
        /// 1 to 200 UTF-16 units.
        #[schemars(length(min = 1, max = 200))]
        title: String,
        /// The child's first prompt.
        #[schemars(length(min = 1, max = 64000))]
        prompt: String,
        /// The parent's.
        repo_owner: Option<String>,
        /// The parent's.
        repo_name: Option<String>,
        /// `provider/model`
        model: Option<String>,
        /// How hard to think.
        reasoning_effort: Option<String>,
        /// Whether its results are offered to the parent's agent.
        notify_parent: Option<bool>,
    }
    /// `POST /sessions/:id/children/:child/prompt`
    FollowUpBody {
        /// The prompt.
        #[schemars(length(min = 1, max = 64000))]
        content: String,
    }
    /// `POST /sessions/:id/children/:child/cancel`
    CancelChildBody {
        /// Whether what is below it is cancelled too; it is unless this says no.
        #[serde(default)]
        cancel_nested: bool,
    }
    /// `POST /sessions/:id/fork`
    ForkBody {
        /// The event to continue from.
        event_id: Option<String>,
        /// Or its place.
        timeline_sequence: Option<i64>,
        /// The new session's title.
        #[schemars(length(max = 200))]
        title: Option<String>,
    }
    /// `POST /sandbox/:sandbox/error`
    SandboxErrorBody {
        /// Why, for people.
        #[schemars(length(min = 1))]
        error: String,
        /// Whether it is the end of the sandbox; it is unless this says no.
        #[serde(default)]
        fatal: bool,
    }
    /// `POST /internal/webhook-deliveries`
    DeliveryBody {
        /// The vendor of the bot that hands it over.
        source: String,
        /// The vendor's id of it.
        #[schemars(length(min = 1, max = 200))]
        delivery_id: String,
        /// The vendor's word for what happened.
        #[schemars(length(min = 1, max = 100))]
        event: String,
        /// The body as it came.
        body: String,
    }
    /// `POST /internal/search/rebuild`
    RebuildBody {
        /// Begin again, though one goes on.
        #[serde(default)]
        restart: bool,
    }

    /// Answer of `GET /health`
    Health {
        /// `healthy`
        status: String,
        /// Which Worker.
        service: String,
    }
    /// Answer of `POST /api/auth/sign-in/social`
    SignInBegun {
        /// The provider's page.
        url: String,
        /// Whether the browser is to go there.
        redirect: bool,
    }
    /// Who is signed in
    SignedInUser {
        /// The platform's user.
        id: String,
        /// The name to show.
        name: Option<String>,
        /// E-mail.
        email: Option<String>,
        /// Whether the provider says that it is theirs.
        email_verified: bool,
        /// URL of a picture.
        image: Option<String>,
        /// What they may do.
        role: Role,
        /// ISO 8601.
        created_at: String,
        /// ISO 8601.
        updated_at: String,
    }
    /// A browser's sign-in
    BrowserSession {
        /// Its id, not its token.
        id: String,
        /// Whose.
        user_id: String,
        /// ISO 8601.
        expires_at: String,
        /// ISO 8601.
        created_at: String,
        /// ISO 8601.
        updated_at: String,
    }
    /// Answer of `GET /api/auth/get-session`
    SignedIn {
        /// Who.
        user: SignedInUser,
        /// Where.
        session: BrowserSession,
    }
    /// Done
    Success {
        /// true
        success: bool,
    }
    /// Done
    Done {
        /// true
        status: bool,
    }
    /// A word for what is so now
    Status {
        /// The word.
        status: String,
    }
    /// Ways to sign in
    Providers {
        /// `github`, `google`
        providers: Vec<String>,
    }
    /// The title now
    Title {
        /// As it is stored.
        title: String,
    }
    /// A row of `GET /sessions/:id/events`
    ListedEvent {
        /// Its id.
        id: String,
        /// Its type.
        #[serde(rename = "type")]
        event_type: String,
        /// The event in the form of dialect 1.
        data: Map<String, Value>,
        /// The prompt it belongs to.
        message_id: Option<String>,
        /// When it was first stored.
        created_at: UnixMillis,
    }
    /// Answer of `GET /sessions/:id/events`
    EventsPage {
        /// Newest first.
        events: Vec<ListedEvent>,
        /// For the next page.
        #[serde(skip_serializing_if = "Option::is_none")]
        cursor: Option<String>,
        /// Whether more follow.
        has_more: bool,
    }
    /// A prompt of `GET /sessions/:id/messages`
    ListedMessage {
        /// Its id.
        id: MessageId,
        /// Who sent it, in the session.
        author_id: String,
        /// Its text.
        content: String,
        /// Where it comes from.
        source: PromptSource,
        /// Its files.
        attachments: Option<Vec<PromptAttachment>>,
        /// Where it is in its life.
        status: MessageStatus,
        /// How it ended.
        outcome: Option<String>,
        /// Why it failed.
        error_message: Option<String>,
        /// When it was queued.
        created_at: UnixMillis,
        /// When it began.
        started_at: Option<UnixMillis>,
        /// When it ended.
        completed_at: Option<UnixMillis>,
    }
    /// Answer of `GET /sessions/:id/messages`
    MessagesPage {
        /// Newest first.
        messages: Vec<ListedMessage>,
        /// For the next page.
        #[serde(skip_serializing_if = "Option::is_none")]
        cursor: Option<String>,
        /// Whether more follow.
        has_more: bool,
    }
    /// Answer of `GET /sessions/:id/artifacts`
    ArtifactsPage {
        /// Newest first.
        artifacts: Vec<SessionArtifact>,
        /// For the next page.
        #[serde(skip_serializing_if = "Option::is_none")]
        cursor: Option<String>,
        /// Whether more follow.
        has_more: bool,
    }
    /// Answer of `GET /sessions/:id/artifacts?artifactId=`
    OneArtifact {
        /// The artifact; null when there is no such.
        artifact: Option<SessionArtifact>,
    }
    /// Somebody in a session
    ListedParticipant {
        /// In the session.
        id: ParticipantId,
        /// Their identity.
        user_id: String,
        /// The platform's user.
        canonical_user_id: Option<String>,
        /// Login at the forge.
        scm_login: Option<String>,
        /// The name to show.
        scm_name: Option<String>,
        /// `owner` or `member`.
        role: String,
        /// When they came.
        joined_at: UnixMillis,
    }
    /// Answer of `GET /sessions/:id/participants`
    Participants {
        /// In the order in which they came.
        participants: Vec<ListedParticipant>,
    }
    /// How somebody is shown
    ParticipantProfile {
        /// The platform's user.
        user_id: String,
        /// The name to show.
        display_name: Option<String>,
        /// URL of a picture.
        avatar_url: Option<String>,
    }
    /// Answer of `GET /sessions/:id/participant-profiles`
    ParticipantProfiles {
        /// By the platform's user.
        profiles: std::collections::BTreeMap<String, ParticipantProfile>,
    }
    /// Answer of `POST /sessions/:id/participants`
    Added {
        /// In the session.
        id: ParticipantId,
        /// `added`
        status: String,
    }
    /// Answer of `PUT /sessions/:id/outputs/:output`
    OutputStored {
        /// For the tool call.
        output_ref: String,
    }
    /// Answer of `GET /sessions/:id/children`
    Children {
        /// Newest first.
        children: Vec<oi_protocol::rest::SessionListItem>,
    }
    /// Answer of `POST /sessions/:id/children/:child/cancel`
    ChildCancelled {
        /// `cancelled`
        status: String,
        /// What was below it.
        #[serde(skip_serializing_if = "Option::is_none")]
        cancelled_descendant_ids: Option<Vec<SessionId>>,
    }
    /// Answer of `DELETE /sessions/:id`
    Deleted {
        /// `deleted`
        status: String,
        /// The session.
        session_id: SessionId,
    }
    /// A job of a session
    Job {
        /// Its number.
        id: i64,
        /// What it does.
        kind: String,
        /// What makes a repetition the same.
        key: Option<String>,
        /// `waiting`, `running` or `given_up`
        state: String,
        /// Attempts so far.
        attempt: i64,
        /// When it is due.
        due_at: UnixMillis,
        /// Why the last attempt failed.
        last_error: Option<String>,
    }
    /// Answer of `GET /sessions/:id/deliveries`
    Jobs {
        /// Newest first.
        deliveries: Vec<Job>,
    }
    /// Answer of `GET /sessions/:id/tunnel-urls`
    TunnelUrls {
        /// By port.
        tunnel_urls: BTreeMap<String, String>,
    }
    /// Answer of `POST /internal/webhook-deliveries`
    DeliveryStored {
        /// Our id of it.
        id: String,
        /// Whether it was stored before.
        duplicate: bool,
    }
    /// A webhook that was stored
    WebhookDelivery {
        /// Our id.
        id: String,
        /// The vendor.
        source: String,
        /// The vendor's id.
        delivery_id: String,
        /// The vendor's word for what happened.
        event: String,
        /// `stored`, `processing`, `processed`, `ignored` or `failed`
        status: String,
        /// Why it was ignored or failed.
        reason: Option<String>,
        /// Attempts so far.
        attempts: i64,
        /// When it arrived.
        received_at: UnixMillis,
        /// When its status changed.
        updated_at: UnixMillis,
    }
    /// Answer of `GET /internal/webhook-deliveries`
    WebhookDeliveries {
        /// Newest first.
        deliveries: Vec<WebhookDelivery>,
    }
    /// How far the index of search has been made again
    Rebuild {
        /// `sessions` or `strays`
        phase: String,
        /// Sessions that were asked.
        sessions: i64,
        /// What they told.
        documents: i64,
        /// Sessions that could not be asked.
        failed: i64,
        /// When it began.
        started_at: UnixMillis,
        /// When it last went on.
        updated_at: UnixMillis,
    }
    /// Answer of `POST /internal/search/rebuild`
    RebuildState {
        /// Whether nothing is left to do.
        done: bool,
        /// How far it is.
        rebuild: Option<Rebuild>,
    }
    /// Answer of `GET /internal/faults/costs`
    Costs {
        /// Statements.
        statements: u64,
        /// Rows that were read.
        rows_read: u64,
        /// Rows that were written.
        rows_written: u64,
    }
    /// Answer of `POST /sessions/:id/diff/retry`
    Accepted {
        /// true
        accepted: bool,
    }
}
