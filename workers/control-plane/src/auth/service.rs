//! Services: their signature, verified, good for one request.

use oi_protocol::ErrorCode;
use oi_worker_kit::log::Line;
use oi_worker_kit::service_signature::{
    ACTOR_HEADER, PresentedSignature, SERVICE_HEADER, SIGNATURE_HEADER, Service, Signed,
};
use oi_worker_kit::trace::Trace;
use oi_worker_kit::vars::Vars;
use oi_worker_kit::{Failure, Refusal, clock};

use crate::policy::Actor;
use crate::request::Head;
use crate::store::{Database, service_nonces};

/// A request that claims to be signed, with a header that can be one.
pub struct Claim {
    service: Service,
    secret: String,
    presented: PresentedSignature,
}

fn log_failure(trace: &Trace, reason: &str) {
    Line::warn("control-plane", "auth.service_failed").trace(trace).with("reason", reason).write();
}

/// Whether a request claims to be signed. What then fails is final: there is no other way in for it.
pub fn claims(head: &Head) -> bool {
    head.header(SIGNATURE_HEADER).is_some() || head.header(SERVICE_HEADER).is_some()
}

/// Reads the claim, before any of the body is read.
pub fn read(head: &Head, vars: &impl Vars, trace: &Trace) -> Result<Claim, Refusal> {
    let name = head.header(SERVICE_HEADER).unwrap_or_default();
    let Some(service) = Service::parse(&name) else {
        log_failure(trace, "unknown_service");
        return Err(Refusal::unauthorized());
    };
    let Some(secret) = vars.get(service.secret_variable()) else {
        Line::error("control-plane", "auth.misconfigured")
            .trace(trace)
            .with("caller_service", service.as_str())
            .write();
        let sentence = "Service authentication not configured";
        return Err(Refusal::new(500, ErrorCode::NotConfigured, sentence));
    };
    let header = head.header(SIGNATURE_HEADER).unwrap_or_default();
    match PresentedSignature::read(&header, clock::now()) {
        Ok(presented) => Ok(Claim { service, secret, presented }),
        Err(reason) => {
            log_failure(trace, &reason.to_string());
            Err(Refusal::unauthorized())
        }
    }
}

impl Claim {
    /// Verifies it over the whole request, and uses up its nonce.
    pub async fn verify(
        &self,
        head: &Head,
        body: &[u8],
        db: &impl Database,
        trace: &Trace,
    ) -> Result<(Service, Option<Actor>), Failure> {
        let actor = head.header(ACTOR_HEADER).unwrap_or_default();
        let signed = Signed {
            service: self.service,
            method: &head.method,
            pathname: &head.path,
            query: &head.query,
            body,
            actor: &actor,
        };
        if let Err(reason) = self.presented.verify(&self.secret, &signed) {
            log_failure(trace, &reason.to_string());
            return Err(Refusal::unauthorized().into());
        }
        let expires_at = self.presented.worthless_after();
        if !service_nonces::use_once(db, self.service, &self.presented.nonce, expires_at).await? {
            Line::warn("control-plane", "auth.nonce_reuse")
                .trace(trace)
                .with("caller_service", self.service.as_str())
                .write();
            return Err(Refusal::unauthorized().into());
        }
        if actor.is_empty() {
            return Ok((self.service, None));
        }
        let Some(actor) = asserted(self.service, &actor) else {
            let line = Line::warn("control-plane", "auth.assertion_denied").trace(trace);
            line.with("caller_service", self.service.as_str()).write();
            return Err(Refusal::unauthorized().into());
        };
        Ok((self.service, Some(actor)))
    }
}

/// The actor, when the service may speak for its namespace.
fn asserted(service: Service, actor: &str) -> Option<Actor> {
    let namespace = service.namespace()?;
    let id = actor.strip_prefix(namespace)?.strip_prefix(':')?;
    let fits = (1..=200).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
    fits.then(|| Actor { namespace, id: id.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_speaks_for_its_own_namespace_only() {
        let actor = asserted(Service::SlackBot, "slack:U1:x").expect("its own");
        assert_eq!(actor.participant_id(), "slack:U1:x");
        for (service, actor) in [
            (Service::SlackBot, "github:1"),
            (Service::GithubBot, "slack:1"),
            (Service::LinearBot, "linear:"),
            (Service::LinearBot, "linear"),
            (Service::LinearBot, "linear:a b"),
            (Service::Web, "web:1"),
            (Service::Web, "slack:1"),
        ] {
            assert_eq!(asserted(service, actor), None, "{actor}");
        }
        assert_eq!(asserted(Service::SlackBot, &format!("slack:{}", "x".repeat(201))), None);
    }
}
