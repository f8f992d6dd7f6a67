//! The audit log, for admins.

use oi_protocol::UnixMillis;
use oi_protocol::identity::AuditLog;
use oi_worker_kit::{Failure, Refusal, reply};
use worker::Response;

use super::page;
use crate::request::Cx;
use crate::store::audit_log::{self, Filter};

/// Longest word of a filter, in bytes.
const WORD_BYTES: usize = 300;

fn filter(value: impl Fn(&str) -> Option<String>) -> Result<Filter, Refusal> {
    let word = |name: &'static str| match value(name) {
        Some(word) if word.len() > WORD_BYTES => Err(Refusal::invalid_parameter(format!("{name} is too long"))),
        word => Ok(word),
    };
    let time = |name: &'static str| match value(name) {
        Some(text) => match text.parse() {
            Ok(at @ 0..=9_007_199_254_740_991) => Ok(Some(UnixMillis(at))),
            _ => Err(Refusal::invalid_parameter(format!("{name} must be a time in ms"))),
        },
        None => Ok(None),
    };
    let filter = Filter {
        actor_id: word("actorId")?,
        action: word("action")?,
        subject_kind: word("subjectKind")?,
        subject_id: word("subjectId")?,
        since: time("since")?,
        until: time("until")?,
        before_id: None,
    };
    if filter.subject_id.is_some() && filter.subject_kind.is_none() {
        return Err(Refusal::invalid_parameter("subjectId needs subjectKind"));
    }
    Ok(filter)
}

fn number(cursor: &str) -> Option<i64> {
    cursor.parse().ok().filter(|id| (1..=9_007_199_254_740_991).contains(id))
}

/// Entries, the newest first.
pub(super) async fn list(cx: &Cx<'_>) -> Result<Response, Failure> {
    let (limit, before_id) = page(cx, number)?;
    let filter = Filter { before_id, ..filter(|name| cx.head.query_value(name))? };
    let mut entries = audit_log::list(&cx.db()?, &filter, limit + 1).await?;
    let cursor = super::cut(&mut entries, limit, |entry| entry.id.to_string());
    reply::json(200, &AuditLog { entries, cursor })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &'static str, value: &'static str) -> Result<Filter, u16> {
        filter(|asked| (asked == name).then(|| value.to_owned())).map_err(|refusal| refusal.status)
    }

    #[test]
    fn filters_are_words_and_times() {
        assert_eq!(of("action", "role.set").map(|f| f.action), Ok(Some("role.set".to_owned())));
        assert_eq!(of("since", "5").map(|f| f.since), Ok(Some(UnixMillis(5))));
        for (name, bad) in [("since", "x"), ("until", "-1"), ("until", "99999999999999999"), ("subjectId", "a")] {
            assert_eq!(of(name, bad), Err(400), "{name}={bad}");
        }
        assert_eq!(filter(|name| (name == "action").then(|| "x".repeat(301))).map_err(|r| r.status), Err(400));
    }
}
