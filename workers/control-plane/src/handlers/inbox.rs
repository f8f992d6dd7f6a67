//! The inbox, and what a person has read.

use std::collections::BTreeMap;

use oi_protocol::inbox::{
    Inbox, InboxCategories, InboxCategory, InboxItem, InboxPage, InboxRepository, InboxSession, PullRequestSummary,
    ReadOutcome, ReadResult, ReadState,
};
use oi_protocol::session_state::{SessionStatus, SpawnSource};
use oi_protocol::{MessageId, SessionId, UnixMillis};
use oi_worker_kit::{Failure, Refusal, clock, reply, request_body};
use serde::Deserialize;
use worker::Response;

use crate::integration_settings;
use crate::request::Cx;
use crate::store::inbox::{self as store, Cursor, Member, Query};
use crate::store::{D1, Database};

const SEARCH_MAX: usize = 200;

fn invalid(sentence: &'static str) -> Refusal {
    Refusal::invalid_parameter(sentence)
}

/// `<ms>:<percent-encoded session id>`; ours need no encoding.
fn cursor(text: &str) -> Result<Cursor, Refusal> {
    let wrong = || invalid("Invalid cursor");
    let (newest_at, root) = text.split_once(':').ok_or_else(wrong)?;
    let newest_at = newest_at.parse().ok().filter(|at| (0..=(i64::MAX >> 11)).contains(at)).ok_or_else(wrong)?;
    let root = SessionId::parse(root).map_err(|_| wrong())?.to_string();
    Ok(Cursor { newest_at, root })
}

fn query(cx: &Cx<'_>) -> Result<(Option<InboxCategory>, Query), Refusal> {
    let category = match cx.head.query_values("category").first().map(String::as_str) {
        None => None,
        Some("needs_attention") => Some(InboxCategory::NeedsAttention),
        Some("in_progress") => Some(InboxCategory::InProgress),
        Some("finished") => Some(InboxCategory::Finished),
        Some(_) => return Err(invalid("Invalid category")),
    };
    let cursor = match cx.head.query_values("cursor").first() {
        None => None,
        Some(_) if category.is_none() => return Err(invalid("Category required for pagination")),
        Some(text) => Some(cursor(text)?),
    };
    let mine = match cx.head.query_values("mine").first().map(String::as_str) {
        None => false,
        Some("true") => true,
        Some(_) => return Err(invalid("Invalid mine")),
    };
    let search = cx.head.query_value("search").map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    if search.as_deref().is_some_and(|text| oi_protocol::text::utf16_len(text) > SEARCH_MAX) {
        return Err(invalid("search must have 200 characters at most"));
    }
    let repository = match cx.head.query_value("repo") {
        None => None,
        Some(text) => Some(integration_settings::repository(&text).ok_or_else(|| invalid("repo must be owner/name"))?),
    };
    Ok((category, Query { mine, search, repository, cursor }))
}

fn session(member: &Member, pull_requests: Option<PullRequestSummary>) -> Option<InboxSession> {
    let repository = member.repo_owner.clone().zip(member.repo_name.clone());
    let repositories = repository.map(|(repo_owner, repo_name)| InboxRepository {
        repo_owner,
        repo_name,
        base_branch: member.base_branch.clone(),
    });
    Some(InboxSession {
        id: SessionId::parse(&member.id).ok()?,
        title: member.title.clone(),
        repo_owner: member.repo_owner.clone(),
        repo_name: member.repo_name.clone(),
        base_branch: member.base_branch.clone(),
        status: SessionStatus::parse(&member.status)?,
        parent_session_id: member.parent_session_id.as_deref().and_then(|id| SessionId::parse(id).ok()),
        spawn_source: SpawnSource::parse(&member.spawn_source)?,
        environment_id: member.environment_id.clone(),
        created_at: UnixMillis(member.created_at),
        updated_at: UnixMillis(member.updated_at),
        repositories: repositories.into_iter().collect(),
        pull_request_summary: pull_requests,
        read_state: ReadState {
            latest_message_id: member.latest_message_id.as_deref().and_then(|id| MessageId::parse(id).ok()),
            unread: member.unread != 0,
        },
    })
}

/// The topmost session above one that the person is shown, through those that they are not. However the rows point at each
/// other, this ends.
fn top<'m>(member: &'m Member, shown: &BTreeMap<&'m str, &'m Member>) -> &'m str {
    let (mut top, mut at) = (member.id.as_str(), member);
    for _ in 0..16 {
        let Some(above) = at.parent_session_id.as_deref().and_then(|id| shown.get(id)) else { return top };
        (top, at) = (above.id.as_str(), above);
    }
    // A circle: one of its names stands for it.
    shown.keys().min().copied().unwrap_or(top)
}

/// Trees in their order, each below the topmost session that is shown.
fn items(trees: &[store::Tree], members: &[Member], pulls: &BTreeMap<String, PullRequestSummary>) -> Vec<InboxItem> {
    let mut all = Vec::new();
    for tree in trees {
        let of_tree: Vec<&Member> = members.iter().filter(|member| member.root == tree.root).collect();
        let shown: BTreeMap<&str, &Member> = of_tree.iter().map(|member| (member.id.as_str(), *member)).collect();
        let mut roots: Vec<&str> = Vec::new();
        for member in &of_tree {
            let top = top(member, &shown);
            if !roots.contains(&top) {
                roots.push(top);
            }
        }
        for root in roots {
            let read = |member: &Member| session(member, pulls.get(&member.id).copied());
            let Some(root_session) = shown.get(root).and_then(|member| read(member)) else { continue };
            let below = of_tree.iter().filter(|member| member.id != root && top(member, &shown) == root);
            all.push(InboxItem {
                root_session,
                descendant_sessions: below.filter_map(|member| read(member)).collect(),
            });
        }
    }
    all
}

async fn page(db: &D1, category: InboxCategory, user: &str, query: &Query) -> Result<InboxPage, Failure> {
    let (trees, has_more) = store::trees(db, category, user, query).await?;
    if trees.is_empty() {
        return Ok(InboxPage { items: Vec::new(), has_more, next_cursor: None });
    }
    let members = store::members(db, &trees, user, query.mine).await?;
    let ids: Vec<&str> = members.iter().map(|member| member.id.as_str()).collect();
    let pulls = store::pull_requests(db, &ids).await?;
    let pulls = pulls.into_iter().map(|found| {
        let store::PullRequests { session_id, total, open, draft, merged, closed } = found;
        (session_id, PullRequestSummary { total, open, draft, merged, closed })
    });
    let next = trees.last().filter(|_| has_more).map(|tree| format!("{}:{}", tree.newest_at, tree.root));
    Ok(InboxPage { items: items(&trees, &members, &pulls.collect()), has_more, next_cursor: next })
}

fn user<'a>(cx: &'a Cx<'_>) -> Result<&'a str, Refusal> {
    cx.person().map(|person| person.user_id.as_str()).ok_or_else(Refusal::unauthorized)
}

pub(super) async fn list(cx: &Cx<'_>) -> Result<Response, Failure> {
    let (category, query) = query(cx)?;
    let (db, user) = (cx.db()?, user(cx)?);
    if let Some(category) = category {
        return reply::json(200, &page(&db, category, user, &query).await?);
    }
    let categories = InboxCategories {
        needs_attention: page(&db, InboxCategory::NeedsAttention, user, &query).await?,
        in_progress: page(&db, InboxCategory::InProgress, user, &query).await?,
        finished: page(&db, InboxCategory::Finished, user, &query).await?,
    };
    reply::json(200, &Inbox { categories })
}

#[derive(Deserialize)]
#[serde(tag = "action", rename_all = "snake_case", rename_all_fields = "camelCase", deny_unknown_fields)]
enum Mark {
    MarkMessageRead { message_id: MessageId },
    MarkLatestMessageRead {},
}

pub(super) async fn mark_read(cx: &Cx<'_>) -> Result<Response, Failure> {
    let mark: Mark = request_body::parse(&cx.body, "Invalid read state body")?;
    let (id, db, user) = (cx.session_id()?, cx.db()?, user(cx)?);
    let not_found = || Refusal::not_found("Session not found");
    let standing = store::standing(&db, user, &id).await?.ok_or_else(not_found)?;
    let answer = |outcome, unread, latest: Option<&str>| ReadResult {
        session_id: id.clone(),
        outcome,
        unread,
        latest_message_id: latest.and_then(|latest| MessageId::parse(latest).ok()),
    };
    let Some(latest) = standing.latest_message_id.as_deref() else {
        return reply::json(200, &answer(ReadOutcome::NoTerminalMessage, false, None));
    };
    let was_read = standing.last_read_message_id.as_deref() == Some(latest);
    if let Mark::MarkMessageRead { message_id } = &mark
        && message_id.as_str() != latest
    {
        return reply::json(200, &answer(ReadOutcome::NotLatest, !was_read, Some(latest)));
    }
    if was_read {
        return reply::json(200, &answer(ReadOutcome::AlreadyRead, false, Some(latest)));
    }
    let changed = db.batch(vec![store::mark_read(user, &id, latest, clock::now())]).await?;
    if changed.first() == Some(&0) {
        // Something newer came at this moment.
        let newest = store::standing(&db, user, &id).await?.ok_or_else(not_found)?;
        return reply::json(200, &answer(ReadOutcome::NotLatest, true, newest.latest_message_id.as_deref()));
    }
    reply::json(200, &answer(ReadOutcome::MarkedRead, false, Some(latest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(byte: u8, parent: Option<u8>, root: u8) -> Member {
        let id = |byte: u8| SessionId::from_bytes([byte; 16]).to_string();
        Member {
            id: id(byte),
            root: id(root),
            title: None,
            repo_owner: None,
            repo_name: None,
            base_branch: None,
            status: "completed".to_owned(),
            parent_session_id: parent.map(id),
            spawn_source: "user".to_owned(),
            environment_id: None,
            created_at: 1,
            updated_at: 1,
            latest_message_id: None,
            unread: 0,
        }
    }

    fn shape(root: u8, members: &[Member]) -> Vec<(u8, Vec<u8>)> {
        let tree = store::Tree { root: SessionId::from_bytes([root; 16]).to_string(), newest_at: 1 };
        let byte = |session: &InboxSession| u8::from_str_radix(&session.id.as_str()[..2], 16).expect("hex");
        items(&[tree], members, &BTreeMap::new())
            .iter()
            .map(|item| (byte(&item.root_session), item.descendant_sessions.iter().map(byte).collect()))
            .collect()
    }

    #[test]
    fn a_tree_hangs_below_the_topmost_session_that_is_shown() {
        let all = [member(1, None, 1), member(2, Some(1), 1), member(3, Some(2), 1)];
        assert_eq!(shape(1, &all), [(1, vec![2, 3])]);
        assert_eq!(shape(1, &all[1..]), [(2, vec![3])], "the root is hidden");
        let two = [member(2, Some(1), 1), member(4, Some(1), 1)];
        assert_eq!(shape(1, &two), [(2, vec![]), (4, vec![])]);
        let circle = [member(1, Some(2), 1), member(2, Some(1), 1)];
        assert_eq!(shape(1, &circle), [(1, vec![2])], "and it ends");
    }

    #[test]
    fn a_cursor_is_a_time_and_a_session() {
        let id = "0f".repeat(16);
        let read = cursor(&format!("12:{id}")).expect("fits");
        assert_eq!((read.newest_at, read.root), (12, id.clone()));
        for bad in [
            "",
            "12",
            "x:y",
            &format!("-1:{id}"),
            &format!("12:{}", "zz".repeat(16)),
            &format!("9999999999999999999:{id}"),
        ] {
            assert_eq!(cursor(bad).expect_err(bad).sentence, "Invalid cursor");
        }
    }
}
