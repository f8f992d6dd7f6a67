//! What a parent's agent is told of a child: its state, its newest events and, when asked for, its last answer and its
//! trajectory.

use oi_protocol::ErrorCode;
use oi_protocol::event::ToolCall;
use oi_protocol::text::truncate_bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::call::CallReply;
use crate::core::Hot;
use crate::session_row::load_repositories;
use crate::sql::{Columns, Sql, SqlError, params};
use crate::{artifacts, children, timeline};

/// Events that are looked at for the newest ones, and how many of them are shown.
const RECENT_LOOKED_AT: u32 = 50;
const RECENT_SHOWN: usize = 5;
/// Page of a trajectory.
const TRAJECTORY_DEFAULT: u32 = 200;
const TRAJECTORY_MAX: u32 = 1_000;
/// Events of the last prompt that its answer is drawn from.
const RESULT_EVENTS: i64 = 1_000;
/// Tool calls listed with an answer.
const RESULT_TOOLS: i64 = 200;

/// What is asked for beyond the summary.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SummaryQuery {
    /// `result`, `trajectory`
    pub include: Vec<String>,
    /// 1 to 1000, read with a trajectory only.
    pub trajectory_limit: Option<String>,
    /// From the page before.
    pub trajectory_cursor: Option<String>,
}

fn refuse(sentence: impl Into<String>) -> CallReply {
    CallReply::refuse(400, ErrorCode::InvalidParameter, sentence)
}

pub(crate) fn summary(sql: &dyn Sql, hot: &Hot, query: &SummaryQuery) -> Result<CallReply, SqlError> {
    let Some(session) = &hot.session else { return Ok(crate::reads::not_found()) };
    if let Some(word) = query.include.iter().find(|word| !matches!(word.as_str(), "result" | "trajectory")) {
        return Ok(refuse(format!("Invalid include: {}", truncate_bytes(word, 64))));
    }
    let asks = |word: &str| query.include.iter().any(|asked| asked == word);
    let primary = load_repositories(sql)?.into_iter().next();
    let listed: Vec<Value> = artifacts::list(sql)?
        .iter()
        .filter_map(|artifact| serde_json::to_value(artifact).ok())
        .map(|artifact| json!({"type": artifact["type"], "url": artifact["url"], "metadata": artifact["metadata"]}))
        .collect();
    let mut body = json!({
        "session": {
            "id": session.session_id, "title": session.title.as_deref().unwrap_or_default(), "status": session.status,
            "repoOwner": primary.as_ref().map(|r| r.repo_owner.as_str()),
            "repoName": primary.as_ref().map(|r| r.repo_name.as_str()),
            "branchName": primary.as_ref().and_then(|r| r.branch_name.as_deref()),
            "model": session.model, "createdAt": session.created_at, "updatedAt": session.updated_at,
        },
        "sandbox": {"status": hot.sandbox.status},
        "hasUnfinishedPrompt": hot.running.is_some() || hot.pending > 0,
        "artifacts": listed,
        "recentEvents": recent(sql, hot)?,
    });
    if asks("result") {
        body["finalResponse"] = final_response(sql)?;
    }
    if asks("trajectory") {
        let limit = match query.trajectory_limit.as_deref().map(str::parse::<u32>) {
            None => TRAJECTORY_DEFAULT,
            Some(Ok(limit @ 1..=TRAJECTORY_MAX)) => limit,
            Some(_) => return Ok(refuse("Invalid trajectoryLimit")),
        };
        let Ok(before) = crate::reads::parse_cursor(query.trajectory_cursor.as_deref()) else {
            return Ok(refuse("Invalid trajectoryCursor"));
        };
        let page = timeline::EventQuery { before, limit, event_type: None, message_id: None };
        let mut page = to_value(&timeline::list(sql, hot.archived, &page)?)?;
        page["limit"] = json!(limit);
        if page["events"].as_array().is_some_and(Vec::is_empty) {
            // What is older left for files, which this page does not read.
            page["hasMore"] = json!(false);
            page["cursor"] = Value::Null;
        }
        body["trajectory"] = page;
    }
    Ok(CallReply::json(200, &body))
}

fn to_value(value: &impl Serialize) -> Result<Value, SqlError> {
    serde_json::to_value(value).map_err(|error| SqlError(error.to_string()))
}

fn recent(sql: &dyn Sql, hot: &Hot) -> Result<Vec<Value>, SqlError> {
    let query = timeline::EventQuery { before: None, limit: RECENT_LOOKED_AT, event_type: None, message_id: None };
    let mut page = to_value(&timeline::list(sql, hot.archived, &query)?)?;
    let Value::Array(events) = page["events"].take() else { return Ok(Vec::new()) };
    let quiet = ["token", "heartbeat", "step_start", "step_finish"];
    let told = events.into_iter().filter(|event| !event["type"].as_str().is_some_and(|kind| quiet.contains(&kind)));
    Ok(told.take(RECENT_SHOWN).collect())
}

/// The answer of the last prompt that ended: its text, tool calls and artifacts.
fn final_response(sql: &dyn Sql) -> Result<Value, SqlError> {
    let rows = sql.run(
        "SELECT id, completed_at, status, error_message FROM messages WHERE completed_at IS NOT NULL
            ORDER BY completed_at DESC, number DESC LIMIT 1",
        &[],
    )?;
    let Some(row) = rows.into_iter().next() else { return Ok(Value::Null) };
    let mut c = Columns::of(row);
    let (message_id, completed_at, status, error) = (c.text()?, c.int()?, c.text()?, c.opt_text()?);
    let counted = sql.run(
        "SELECT COUNT(*) FROM (SELECT 1 FROM events WHERE message_id = ? LIMIT ?)",
        params![message_id.as_str(), RESULT_EVENTS + 1],
    )?;
    let count = counted.into_iter().next().map_or(Ok(0), |row| Columns::of(row).int())?;
    let mut tools = Vec::new();
    let rows = sql.run(
        "SELECT body FROM events WHERE message_id = ? AND type = 'tool_call' ORDER BY seq LIMIT ?",
        params![message_id.as_str(), RESULT_TOOLS],
    )?;
    for row in rows {
        if let Ok(call) = serde_json::from_str::<ToolCall>(&Columns::of(row).text()?) {
            tools.push(json!({"tool": call.tool, "summary": format!("Used {}", truncate_bytes(&call.tool, 100))}));
        }
    }
    let rows = sql.run(
        "SELECT body FROM events WHERE message_id = ? AND type = 'artifact' ORDER BY seq LIMIT 50",
        params![message_id.as_str()],
    )?;
    let mut made = Vec::new();
    for row in rows {
        if let Ok(event) = serde_json::from_str::<Value>(&Columns::of(row).text()?) {
            made.push(json!({"type": event["artifactType"], "url": event["url"]}));
        }
    }
    Ok(json!({
        "messageId": message_id, "completedAt": completed_at, "success": status == "completed", "error": error,
        "textContent": children::last_text(sql, &message_id)?, "toolCalls": tools, "artifacts": made,
        "eventCount": count.min(RESULT_EVENTS), "eventLimitReached": count > RESULT_EVENTS,
    }))
}
