//! What changes of settings have in common: who makes them, and which version they saw.

use oi_worker_kit::failure::while_doing;
use oi_worker_kit::{Failure, Refusal};
use serde_json::{Map, Value};
use worker::{Response, ResponseBuilder};

use crate::policy::Caller;
use crate::request::Cx;

/// Who makes a change: a person, or a service and for whom.
pub(super) fn actor(cx: &Cx<'_>) -> String {
    match &cx.who.caller {
        Caller::Person(person) => person.user_id.clone(),
        Caller::Bot { actor: Some(actor), .. } => actor.participant_id(),
        Caller::Bot { service, actor: None } => service.as_str().to_owned(),
        Caller::Web | Caller::Nobody | Caller::Bearer { .. } => "platform".to_owned(),
    }
}

/// The person of the platform that a change is of, or 403.
pub(super) async fn canonical_user(cx: &Cx<'_>) -> Result<String, Failure> {
    let person = crate::identity::acting_person(cx, &crate::identity::Shown::default()).await?;
    let user = person.and_then(|person| person.canonical_user_id);
    user.ok_or_else(|| Refusal::forbidden("Canonical user required").into())
}

/// 204
pub(super) fn no_content() -> Result<Response, Failure> {
    Ok(ResponseBuilder::new().with_status(204).empty())
}

/// Somebody else's change came first.
pub(super) fn stale(what: &str) -> Refusal {
    Refusal::conflict(format!("{what} changed; reload and try again"))
}

/// The version that a change saw: a whole number, or none.
pub(super) fn seen_version(body: &Value, field: &str) -> Result<Option<i64>, Refusal> {
    match body.get(field) {
        None => Ok(None),
        Some(version) => version
            .as_i64()
            .filter(|version| *version >= 0)
            .map(Some)
            .ok_or_else(|| Refusal::invalid_body(format!("{field} must be a whole number"))),
    }
}

/// An object with no other keys than these.
pub(super) fn only<'v>(value: &'v Value, what: &str, keys: &[&str]) -> Result<&'v Map<String, Value>, Refusal> {
    let object = value.as_object().ok_or_else(|| Refusal::invalid_body(format!("{what} must be an object")))?;
    match object.keys().find(|key| !keys.contains(&key.as_str())) {
        Some(key) => {
            let key = oi_protocol::text::truncate_bytes(key, 60);
            Err(Refusal::invalid_body(format!("{what} has an unknown field `{key}`")))
        }
        None => Ok(object),
    }
}

/// JSON of the store, which cannot fail to be written.
pub(super) fn write(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(while_doing("writing settings"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_version_is_a_whole_number_or_not_said() {
        assert_eq!(seen_version(&json!({}), "version"), Ok(None));
        assert_eq!(seen_version(&json!({"version": 3}), "version"), Ok(Some(3)));
        for bad in [json!(-1), json!("3"), json!(1.5), json!(null)] {
            assert_eq!(seen_version(&json!({"version": bad}), "version").expect_err("refused").status, 400);
        }
    }

    #[test]
    fn unknown_fields_are_named() {
        assert!(only(&json!({"a": 1}), "settings", &["a", "b"]).is_ok());
        let refusal = only(&json!({"a": 1, "c": 2}), "settings", &["a"]).expect_err("unknown");
        assert_eq!(refusal.sentence, "settings has an unknown field `c`");
        assert!(only(&json!([]), "settings", &[]).is_err());
    }
}
