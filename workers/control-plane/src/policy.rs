//! Who may call what. A route names a policy; a caller is admitted by one table.

use oi_protocol::ErrorCode;
use oi_protocol::identity::{AuditActorKind, Role, TokenScope};
use oi_worker_kit::Refusal;
use oi_worker_kit::service_signature::Service;

use crate::store::audit_log::Author;
use crate::store::browser_sessions::SignedIn;

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Anybody.
    Public,
    /// Our web application, by its signature.
    WebService,
    /// One of our bots, by its signature.
    Bot,
    /// A person who is signed in.
    Person,
    /// A person who is signed in and an admin: secrets and settings of all, roles, the audit log.
    Admin,
    /// A person who is signed in, or a bot.
    PersonOrService,
    /// A sandbox, by its token.
    Sandbox,
    /// Any of these.
    PersonServiceOrSandbox,
    /// The machine of an image's build, by its token.
    BuildMachine,
}

impl Policy {
    /// Whether the bearer of a sandbox, or of a build's machine, is looked at.
    pub const fn takes_sandboxes(self) -> bool {
        matches!(self, Self::Sandbox | Self::PersonServiceOrSandbox | Self::BuildMachine)
    }

    /// Whether a service's signature can admit anybody.
    pub const fn takes_signatures(self) -> bool {
        !matches!(self, Self::Sandbox | Self::BuildMachine)
    }
}

/// For whom a bot acts, as it says: `slack:U0123`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// `slack`, `github`, `linear`
    pub namespace: &'static str,
    /// The id in that namespace.
    pub id: String,
}

impl Actor {
    /// The participant id of the wire.
    pub fn participant_id(&self) -> String {
        format!("{}:{}", self.namespace, self.id)
    }
}

/// Who calls.
#[derive(Clone)]
pub enum Caller {
    /// Nobody that is known.
    Nobody,
    /// A person, by their browser's cookie.
    Person(Box<SignedIn>),
    /// Our web application, for nobody.
    Web,
    /// A bot.
    Bot {
        /// Which.
        service: Service,
        /// For whom.
        actor: Option<Actor>,
    },
    /// Somebody with a bearer, which the session checks, or the build.
    Bearer {
        /// The bearer.
        token: String,
    },
}

impl Caller {
    /// The kind, for the log.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Person(_) => "user",
            Self::Web | Self::Bot { .. } => "service",
            Self::Bearer { .. } => "sandbox",
        }
    }
}

/// A person's own token, when a request came with one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenGrant {
    /// The token's id.
    pub id: String,
    /// What it may be used for.
    pub scopes: Vec<TokenScope>,
}

/// What a route asks of a personal token. It asks the route's policy of the token's owner all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenUse {
    /// What follows from the route's policy, method and path.
    Derived,
    /// This scope.
    Needs(TokenScope),
    /// No token will do: it signs out, or makes credentials.
    Never,
}

/// Whether a token's scopes will do. Each has reading with it.
pub fn grants(scopes: &[TokenScope], wanted: TokenScope) -> bool {
    if wanted == TokenScope::Read { !scopes.is_empty() } else { scopes.contains(&wanted) }
}

/// A caller, and whether the request was signed by a service.
#[derive(Clone)]
pub struct Authenticated {
    /// Who calls.
    pub caller: Caller,
    /// Whose signature the request has.
    pub signed_by: Option<Service>,
    /// The token that a person's script brought.
    pub token: Option<TokenGrant>,
}

impl Authenticated {
    /// The kind, for the log.
    pub const fn kind(&self) -> &'static str {
        if self.token.is_some() { "token" } else { self.caller.kind() }
    }

    /// The caller as the audit log names them.
    pub fn author(&self, request_id: &str) -> Author {
        let (kind, id, via) = match &self.caller {
            Caller::Person(person) => match &self.token {
                Some(token) => (AuditActorKind::Token, Some(person.user_id.clone()), Some(token.id.clone())),
                None => (AuditActorKind::Person, Some(person.user_id.clone()), None),
            },
            Caller::Bot { service, actor } => {
                (AuditActorKind::Service, actor.as_ref().map(Actor::participant_id), Some(service.as_str().to_owned()))
            }
            Caller::Web => (AuditActorKind::Service, None, Some(Service::Web.as_str().to_owned())),
            Caller::Bearer { .. } => (AuditActorKind::Sandbox, None, None),
            Caller::Nobody => (AuditActorKind::System, None, None),
        };
        Author { kind, id, via, request_id: Some(request_id.to_owned()) }
    }
}

/// What a member is told where only admins may act.
pub fn admins_only() -> Refusal {
    Refusal::forbidden("Only an admin may do this. Ask one of the admins of this deployment.")
}

/// Whether a policy admits a caller.
pub fn admit(policy: Policy, who: &Authenticated) -> Result<(), Refusal> {
    let admitted = match policy {
        Policy::Public => true,
        Policy::WebService => who.signed_by == Some(Service::Web),
        Policy::Bot => matches!(who.caller, Caller::Bot { .. }),
        Policy::Person => matches!(who.caller, Caller::Person(_)),
        Policy::Admin => matches!(&who.caller, Caller::Person(person) if person.role == Role::Admin),
        Policy::PersonOrService => matches!(who.caller, Caller::Person(_) | Caller::Bot { .. }),
        Policy::Sandbox | Policy::BuildMachine => matches!(who.caller, Caller::Bearer { .. }),
        Policy::PersonServiceOrSandbox => {
            matches!(who.caller, Caller::Person(_) | Caller::Bot { .. } | Caller::Bearer { .. })
        }
    };
    match (policy, &who.caller) {
        _ if admitted => Ok(()),
        (Policy::Person | Policy::Admin, Caller::Bot { .. } | Caller::Bearer { .. }) => {
            Err(Refusal::forbidden("Human user authentication required"))
        }
        (Policy::Admin, Caller::Person(_)) => Err(admins_only()),
        (Policy::Sandbox, _) => Err(Refusal::new(401, ErrorCode::Unauthorized, "Unauthorized: Missing sandbox token")),
        _ => Err(Refusal::unauthorized()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub fn person(role: Role) -> Caller {
        Caller::Person(Box::new(SignedIn {
            session_id: "s".to_owned(),
            session_created_at: 0,
            session_updated_at: 0,
            session_expires_at: 0,
            user_id: "u".to_owned(),
            display_name: None,
            email: None,
            email_verified: 0,
            avatar_url: None,
            role,
            scm_user_id: None,
            scm_login: None,
            user_created_at: 0,
            user_updated_at: 0,
        }))
    }

    #[test]
    fn each_policy_admits_its_callers_and_no_others() {
        let bot = Caller::Bot { service: Service::SlackBot, actor: None };
        let bearer = Caller::Bearer { token: "t".to_owned() };
        let callers = [
            (Caller::Nobody, None),
            (person(Role::Member), None),
            (person(Role::Admin), Some(Service::Web)),
            (Caller::Web, Some(Service::Web)),
            (bot, Some(Service::SlackBot)),
            (bearer, None),
        ];
        // Statuses in the order of the callers: nobody, a member, an admin through the web application, the web
        // application, a bot, a bearer.
        for (policy, expected) in [
            (Policy::Public, [200, 200, 200, 200, 200, 200]),
            (Policy::WebService, [401, 401, 200, 200, 401, 401]),
            (Policy::Bot, [401, 401, 401, 401, 200, 401]),
            (Policy::Person, [401, 200, 200, 401, 403, 403]),
            (Policy::Admin, [401, 403, 200, 401, 403, 403]),
            (Policy::PersonOrService, [401, 200, 200, 401, 200, 401]),
            (Policy::Sandbox, [401, 401, 401, 401, 401, 200]),
            (Policy::PersonServiceOrSandbox, [401, 200, 200, 401, 200, 200]),
            (Policy::BuildMachine, [401, 401, 401, 401, 401, 200]),
        ] {
            let got = callers.clone().map(|(caller, signed_by)| {
                admit(policy, &Authenticated { caller, signed_by, token: None })
                    .map_or_else(|refusal| refusal.status, |()| 200)
            });
            assert_eq!(got, expected, "{policy:?}");
            // The web application for nobody, for a person, and a bot.
            let by_signature = [2, 3, 4].into_iter().any(|signed| got[signed] == 200);
            assert_eq!(policy.takes_signatures(), by_signature, "{policy:?}");
        }
    }

    #[test]
    fn a_token_grants_its_scopes_and_reading_and_nothing_else() {
        use TokenScope::{Admin, Read, Sessions, Settings};
        for (scopes, expected) in [
            (&[][..], [false, false, false, false]),
            (&[Read][..], [true, false, false, false]),
            (&[Sessions][..], [true, true, false, false]),
            (&[Settings][..], [true, false, true, false]),
            (&[Admin][..], [true, false, false, true]),
            (&[Sessions, Admin][..], [true, true, false, true]),
        ] {
            let got = [Read, Sessions, Settings, Admin].map(|wanted| grants(scopes, wanted));
            assert_eq!(got, expected, "{scopes:?}");
        }
    }
}
