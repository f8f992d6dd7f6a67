//! Search over all sessions, and making its index again.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use oi_protocol::search::{SearchField, SearchMark, SearchPlace, SearchResult, SearchResults, SearchSnippet};
use oi_protocol::session_state::SessionStatus;
use oi_protocol::{ArtifactId, MessageId, SessionId, UnixMillis, ids};
use oi_worker_kit::log::Line;
use oi_worker_kit::{Failure, Refusal, clock, reply, request_body};
use serde::{Deserialize, Serialize};
use serde_json::json;
use worker::Response;

use crate::request::{Cx, Head};
use crate::search_index;
use crate::search_query::SearchQuery;
use crate::source_control::RepositoryName;
use crate::store::D1;
use crate::store::audit_log;
use crate::store::search::{self, Excerpts, Filters, Hit, MARK_BEGINS, MARK_ENDS, Place};

const DEFAULT_LIMIT: i64 = 20;
const MAX_LIMIT: i64 = 50;

/// Where a page ended, and as of when the search counts how new things are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Cursor(i64, i64, String);

impl Cursor {
    fn write(&self) -> String {
        // Numbers and a text are always JSON.
        URL_SAFE_NO_PAD.encode(serde_json::to_string(self).unwrap_or_default())
    }

    fn read(text: &str) -> Option<Self> {
        let cursor: Self = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let is_sane = |number: i64| number.unsigned_abs() < 1 << 53;
        (is_sane(cursor.0) && is_sane(cursor.1) && ids::is_minted_id(&cursor.2)).then_some(cursor)
    }
}

/// What is asked for.
#[derive(Debug)]
struct Asked {
    query: SearchQuery,
    filters: Filters,
    limit: i64,
    cursor: Option<Cursor>,
}

fn bad(name: &'static str) -> Refusal {
    Refusal::invalid_parameter(format!("Invalid {name}"))
}

fn asked(value: impl Fn(&str) -> Option<String>, me: Option<&str>) -> Result<Asked, Refusal> {
    let time = |name: &'static str| match value(name) {
        None => Ok(None),
        Some(text) => match text.parse::<i64>() {
            Ok(at) if (0..1 << 53).contains(&at) => Ok(Some(UnixMillis(at))),
            _ => Err(bad(name)),
        },
    };
    let repository = match value("repository") {
        None => None,
        Some(text) => {
            let (owner, name) = text.rsplit_once('/').ok_or_else(|| bad("repository"))?;
            RepositoryName::parse(owner, name).ok_or_else(|| bad("repository"))?;
            Some((owner.to_owned(), name.to_owned()))
        }
    };
    let author = match (value("author").as_deref(), me) {
        (None, _) => None,
        (Some("me"), Some(me)) => Some(me.to_owned()),
        (Some(id), _) if ids::is_minted_id(id) => Some(id.to_owned()),
        _ => return Err(bad("author")),
    };
    let status = match value("status") {
        None => None,
        Some(word) => Some(SessionStatus::parse(&word).ok_or_else(|| bad("status"))?.as_str().to_owned()),
    };
    let limit = match value("limit") {
        None => DEFAULT_LIMIT,
        Some(text) => text.parse().ok().filter(|limit| *limit >= 1).ok_or_else(|| bad("limit"))?,
    };
    let cursor = match value("cursor") {
        None => None,
        Some(text) => Some(Cursor::read(&text).ok_or_else(|| bad("cursor"))?),
    };
    Ok(Asked {
        query: SearchQuery::parse(&value("q").unwrap_or_default())?,
        filters: Filters { repository, author, status, from: time("from")?, to: time("to")? },
        limit: limit.min(MAX_LIMIT),
        cursor,
    })
}

fn from_query(head: &Head, me: Option<&str>) -> Result<Asked, Refusal> {
    asked(|name| head.query_value(name), me)
}

/// A snippet's text and the ranges that its marks stand for.
fn unmarked(field: SearchField, marked: &str) -> Option<SearchSnippet> {
    let (mut text, mut marks, mut units, mut begun) = (String::new(), Vec::new(), 0, None);
    for c in marked.chars() {
        match c {
            MARK_BEGINS => begun = Some(units),
            MARK_ENDS => {
                if let Some(start) = begun.take() {
                    marks.push(SearchMark { start, end: units });
                }
            }
            _ => {
                units += c.len_utf16() as u32;
                text.push(c);
            }
        }
    }
    (!marks.is_empty()).then_some(SearchSnippet { field, text, marks })
}

fn place(name: &str) -> Option<SearchPlace> {
    match name.split_once(':') {
        None if name == "title" => Some(SearchPlace::Title),
        Some(("turn", id)) => Some(SearchPlace::Turn { message_id: MessageId::parse(id).ok()? }),
        Some(("pull_request", id)) => Some(SearchPlace::PullRequest { artifact_id: ArtifactId::parse(id).ok()? }),
        _ => None,
    }
}

fn result(hit: Hit, excerpts: &[Excerpts]) -> Option<SearchResult> {
    let found = excerpts.iter().find(|found| found.id == hit.id);
    let snippets = found.into_iter().flat_map(|found| {
        let columns = [
            (SearchField::Title, &found.title),
            (SearchField::Prompt, &found.prompt),
            (SearchField::Answer, &found.answer),
            (SearchField::Paths, &found.paths),
        ];
        columns.into_iter().filter_map(|(field, text)| unmarked(field, text))
    });
    Some(SearchResult {
        snippets: snippets.collect(),
        session_id: SessionId::parse(&hit.session_id).ok()?,
        place: place(&hit.name)?,
        status: SessionStatus::parse(&hit.status)?,
        title: hit.title,
        repo_owner: hit.repo_owner,
        repo_name: hit.repo_name,
        user_id: hit.user_id,
        created_at: UnixMillis(hit.created_at),
        updated_at: UnixMillis(hit.updated_at),
        matches: hit.matches,
        at: UnixMillis(hit.at),
    })
}

fn database(cx: &Cx<'_>) -> Result<D1, Refusal> {
    D1::search(cx.env).ok_or_else(|| Refusal::not_configured("Search is not configured: bind `SEARCH_DB`"))
}

pub(super) async fn search(cx: &Cx<'_>) -> Result<Response, Failure> {
    let asked = from_query(cx.head, cx.person().map(|person| person.user_id.as_str()))?;
    let db = database(cx)?;
    let matching = asked.query.matching(&asked.filters.facets());
    let now = asked.cursor.as_ref().map_or_else(clock::now, |cursor| UnixMillis(cursor.0));
    let after = asked.cursor.map(|Cursor(_, score, session_id)| Place { score, session_id });
    let (hits, has_more) = search::find(&db, &matching, &asked.filters, now, after.as_ref(), asked.limit).await?;
    let ids: Vec<i64> = hits.iter().map(|hit| hit.id).collect();
    let excerpts = search::excerpts(&db, &matching, &ids).await?;
    let last = hits.last().filter(|_| has_more);
    let cursor = last.map(|last| Cursor(now.0, last.score, last.session_id.clone()).write());
    let results = hits.into_iter().filter_map(|hit| {
        let id = hit.session_id.clone();
        let result = result(hit, &excerpts);
        if result.is_none() {
            Line::error("control-plane", "search.row_unreadable").with("session_id", id).write();
        }
        result
    });
    reply::json(200, &SearchResults { results: results.collect(), has_more, cursor })
}

#[derive(Debug, Default, Deserialize)]
struct RebuildBody {
    #[serde(default)]
    restart: bool,
}

/// Makes the index again: begins, or goes on with a step; crons do the same every minute until it is done.
pub(super) async fn rebuild(cx: &Cx<'_>) -> Result<Response, Failure> {
    let body: RebuildBody = if cx.body.is_empty() {
        RebuildBody::default()
    } else {
        request_body::parse(&cx.body, "restart must be a boolean")?
    };
    let db = database(cx)?;
    let mut rebuild = search::rebuild(&db).await?;
    if rebuild.is_none() || body.restart {
        // The index is in another database than the log.
        let entry = cx.audit("search.rebuild", "search", "index").detail(&json!({"restart": body.restart}));
        audit_log::write(&cx.db()?, &entry).await?;
        search::begin_rebuild(&db, clock::now()).await?;
        rebuild = search::rebuild(&db).await?;
    }
    let left = match rebuild {
        Some(rebuild) => search_index::step(cx.env, &db, rebuild).await?,
        None => None,
    };
    let shown = left.map(|left| {
        json!({"phase": left.phase, "sessions": left.sessions, "documents": left.documents, "failed": left.failed,
            "startedAt": left.started_at, "updatedAt": left.updated_at})
    });
    reply::json(200, &json!({"done": shown.is_none(), "rebuild": shown}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<Asked, Refusal> {
        let pairs: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let value =
            |name: &str| pairs.iter().find(|(key, value)| key == name && !value.is_empty()).map(|p| p.1.clone());
        asked(value, Some("0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f"))
    }

    #[test]
    fn parameters_are_checked_one_by_one() {
        let cursor = Cursor(1, -5, "a".repeat(32)).write();
        let all = format!("q=fix&repository=acme/app&author=me&status=active&from=1&to=2&limit=99&cursor={cursor}");
        let all = read(&all).expect("fits");
        assert_eq!((all.limit, all.cursor), (50, Some(Cursor(1, -5, "a".repeat(32)))));
        assert_eq!(all.filters.repository, Some(("acme".to_owned(), "app".to_owned())));
        for bad in [
            "",
            "q=",
            "q=%00",
            "q=a&repository=acme",
            "q=a&repository=../x",
            "q=a&author=ada",
            "q=a&status=gone",
            "q=a&from=-1",
            "q=a&to=x",
            "q=a&limit=0",
            "q=a&limit=x",
            "q=a&cursor=x",
            "q=a&cursor=WzEsMl0",
        ] {
            assert_eq!(read(bad).map(|_| ()).map_err(|refusal| refusal.status), Err(400), "{bad}");
        }
    }

    #[test]
    fn marks_count_as_javascript_does() {
        let snippet = unmarked(SearchField::Answer, "é😀 \u{2}login\u{3} <b> \u{2}x\u{3}").expect("marks");
        assert_eq!(snippet.text, "é😀 login <b> x");
        assert_eq!(snippet.marks, [SearchMark { start: 4, end: 9 }, SearchMark { start: 14, end: 15 }]);
        assert_eq!(unmarked(SearchField::Title, "nothing here"), None);
    }
}
