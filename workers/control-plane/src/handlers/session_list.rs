//! The list of sessions.

use oi_protocol::rest::{SessionList, SessionListItem};
use oi_protocol::session_state::{SessionStatus, SpawnSource};
use oi_protocol::{SessionId, UnixMillis};
use oi_worker_kit::log::Line;
use oi_worker_kit::{Failure, Refusal, reply};
use worker::Response;

use crate::request::Cx;
use crate::store::session_repositories;
use crate::store::sessions::{self, ListQuery, ListedSession};

const DEFAULT_LIMIT: i64 = 50;
const MAX_LIMIT: i64 = 100;
/// People to filter by, at most: a statement has a hundred parameters.
const MAX_CREATORS: usize = 50;

fn status(name: &'static str, value: Option<&str>) -> Result<Option<SessionStatus>, Refusal> {
    let Some(word) = value else { return Ok(None) };
    SessionStatus::parse(word).map(Some).ok_or_else(|| Refusal::invalid_parameter(format!("Invalid {name}")))
}

fn query(pairs: &[(String, String)], me: Option<&str>) -> Result<ListQuery, Refusal> {
    let first = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let number = |name: &str, default: i64| first(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    let mut created_by = Vec::new();
    for (_, value) in pairs.iter().filter(|(key, _)| key == "createdBy") {
        let id = match (value.as_str(), me) {
            ("me", Some(me)) => me.to_owned(),
            (id, _) if oi_protocol::ids::is_minted_id(id) => id.to_owned(),
            _ => return Err(Refusal::invalid_parameter("Invalid createdBy")),
        };
        if !created_by.contains(&id) {
            created_by.push(id);
        }
    }
    if created_by.len() > MAX_CREATORS {
        return Err(Refusal::invalid_parameter("createdBy may be given 50 times at most"));
    }
    let exclude_automation_lineage = match first("excludeAutomationLineage") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Refusal::invalid_parameter("Invalid excludeAutomationLineage")),
    };
    Ok(ListQuery {
        limit: number("limit", DEFAULT_LIMIT).clamp(1, MAX_LIMIT),
        offset: number("offset", 0).clamp(0, 1_000_000),
        status: status("status", first("status"))?,
        exclude_status: status("excludeStatus", first("excludeStatus"))?,
        exclude_automation_lineage,
        created_by,
    })
}

pub(super) fn item(row: ListedSession) -> Option<SessionListItem> {
    Some(SessionListItem {
        id: SessionId::parse(&row.id).ok()?,
        title: row.title,
        repo_owner: row.repo_owner,
        repo_name: row.repo_name,
        model: row.model,
        reasoning_effort: row.reasoning_effort,
        base_branch: row.base_branch,
        status: SessionStatus::parse(&row.status)?,
        parent_session_id: row.parent_session_id.and_then(|id| SessionId::parse(&id).ok()),
        spawn_source: SpawnSource::parse(&row.spawn_source)?,
        spawn_depth: row.spawn_depth,
        automation_id: row.automation_id,
        automation_run_id: row.automation_run_id,
        scm_login: row.scm_login,
        user_id: row.user_id,
        total_cost: row.total_cost,
        active_duration_ms: row.active_duration_ms,
        message_count: row.message_count,
        pr_count: row.pr_count,
        environment_id: row.environment_id,
        repositories: Vec::new(),
        created_at: UnixMillis(row.created_at),
        updated_at: UnixMillis(row.updated_at),
    })
}

pub(super) async fn list(cx: &Cx<'_>) -> Result<Response, Failure> {
    let pairs: Vec<(String, String)> = url::form_urlencoded::parse(cx.head.query.as_bytes()).into_owned().collect();
    let query = query(&pairs, cx.person().map(|person| person.user_id.as_str()))?;
    let db = cx.db()?;
    let (rows, has_more) = sessions::list(&db, &query).await?;
    let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    let mut repositories = session_repositories::of(&db, &ids).await?;
    let listed = rows.into_iter().filter_map(|row| {
        let id = row.id.clone();
        let item = item(row);
        if item.is_none() {
            // A row that a newer release wrote must not take the whole list with it.
            Line::error("control-plane", "session.row_unreadable").with("session_id", &id).write();
        }
        item.map(|item| SessionListItem { repositories: repositories.remove(&id).unwrap_or_default(), ..item })
    });
    reply::json(200, &SessionList { sessions: listed.collect(), has_more })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(query_text: &str, me: Option<&str>) -> Result<ListQuery, Refusal> {
        let pairs: Vec<_> = url::form_urlencoded::parse(query_text.as_bytes()).into_owned().collect();
        query(&pairs, me)
    }

    #[test]
    fn limits_are_clamped_and_words_are_checked() {
        let plain = parsed("", None).expect("fits");
        assert_eq!((plain.limit, plain.offset), (50, 0));
        for (text, limit) in [("limit=0", 1), ("limit=1000", 100), ("limit=x", 50), ("limit=7", 7)] {
            assert_eq!(parsed(text, None).expect("fits").limit, limit, "{text}");
        }
        assert_eq!(parsed("offset=-5", None).expect("fits").offset, 0);
        let id = "0f".repeat(16);
        let mine =
            parsed(&format!("createdBy=me&createdBy={id}&createdBy=me&status=active"), Some("me-id")).expect("fits");
        assert_eq!(mine.created_by, ["me-id".to_owned(), id]);
        for bad in ["status=gone", "excludeStatus=", "createdBy=me", "createdBy=x", "excludeAutomationLineage=1"] {
            assert_eq!(parsed(bad, None).map_err(|refusal| refusal.status), Err(400), "{bad}");
        }
    }
}
