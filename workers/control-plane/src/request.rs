//! A request as handlers see it: whole, bounded, and of a known caller.

use oi_protocol::SessionId;
use oi_protocol::identity::Role;
use oi_worker_kit::trace::Trace;
use oi_worker_kit::{Failure, Refusal, clock};
use worker::{Context, Env, Headers, Request};

use crate::policy::{Actor, Authenticated, Caller, admins_only};
use crate::store::D1;
use crate::store::audit_log::Entry;
use crate::store::browser_sessions::SignedIn;

/// A request's line and headers.
pub struct Head {
    /// Upper case.
    pub method: String,
    /// As a WHATWG URL parser writes it.
    pub path: String,
    /// Without the question mark.
    pub query: String,
    /// Headers.
    pub headers: Headers,
}

impl Head {
    /// A header's value; `None` when it is absent, blank or not text.
    pub fn header(&self, name: &str) -> Option<String> {
        let value = self.headers.get(name).ok().flatten()?;
        let value = value.trim();
        (!value.is_empty()).then(|| value.to_owned())
    }

    /// All values of a query parameter.
    pub fn query_values(&self, name: &str) -> Vec<String> {
        url::form_urlencoded::parse(self.query.as_bytes())
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
            .collect()
    }

    /// The first value of a query parameter that is not empty.
    pub fn query_value(&self, name: &str) -> Option<String> {
        self.query_values(name).into_iter().find(|value| !value.is_empty())
    }
}

/// Everything that a handler works with.
pub struct Cx<'a> {
    /// Bindings and variables.
    pub env: &'a Env,
    /// To go on after the answer.
    pub context: &'a Context,
    /// Ids for the logs.
    pub trace: &'a Trace,
    /// The request's line and headers.
    pub head: &'a Head,
    /// The body, within the route's limit.
    pub body: Vec<u8>,
    /// The request itself, for a handler that takes a stream.
    pub stream: Option<Request>,
    /// Segments that the route's parameters stand for, in order.
    pub parameters: Vec<String>,
    /// Who calls. The route's policy has admitted them.
    pub who: Authenticated,
}

impl Cx<'_> {
    /// The database.
    pub fn db(&self) -> Result<D1, Failure> {
        D1::of(self.env)
    }

    /// The session that the path names. What cannot be an id is not found.
    pub fn session_id(&self) -> Result<SessionId, Refusal> {
        let segment = self.parameters.first().map(String::as_str).unwrap_or_default();
        SessionId::parse(segment).map_err(|_| Refusal::not_found("Session not found"))
    }

    /// The request as a stream, whose announced length is within the route's limit.
    pub fn stream(&self) -> Result<&Request, Refusal> {
        self.stream.as_ref().ok_or_else(|| Refusal::invalid_body("The request has no body"))
    }

    /// Who is signed in.
    pub fn person(&self) -> Option<&SignedIn> {
        match &self.who.caller {
            Caller::Person(person) => Some(person),
            _ => None,
        }
    }

    /// Who is signed in, when they are an admin; where the route's policy lets others in, too.
    pub fn admin(&self) -> Result<&SignedIn, Refusal> {
        let person = self.person().ok_or_else(|| Refusal::forbidden("Human user authentication required"))?;
        if person.role == Role::Admin { Ok(person) } else { Err(admins_only()) }
    }

    /// An entry of the audit log about what the caller does now: `<kind>.<verb>`, and what it is done to.
    pub fn audit(&self, action: &'static str, subject_kind: &'static str, subject_id: &str) -> Entry {
        Entry::new(self.who.author(&self.trace.request_id), action, subject_kind, subject_id, clock::now())
    }

    /// For whom a bot acts.
    pub fn actor(&self) -> Option<&Actor> {
        match &self.who.caller {
            Caller::Bot { actor, .. } => actor.as_ref(),
            _ => None,
        }
    }
}
