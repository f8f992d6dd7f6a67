//! `search_sessions`, `search_documents`, `search_text`: what search knows. They are in a database of their own, and
//! each document is written as often as it likes to be: the newest of a name stays.

use std::fmt::Write;

use oi_protocol::UnixMillis;
use oi_session::search::{PullRequestDocument, TurnDocument};
use oi_worker_kit::mac::sha256_hex;
use serde::Deserialize;

use super::{Database, DbError, Param, Statement, params};

/// Grows when turns are put together in another way, so that making the index again replaces them.
const TURN_VERSION: i64 = 1;
/// Documents that are ranked: the newest of those that match. So a search costs the same however much matches.
const RANKED_MAX: i64 = 2_000;
/// A document counts up to twice when it is new, half as much more after this long, in ms.
const RECENT_MS: f64 = 30.0 * 86_400_000.0;
/// Around what is found, in the text of a snippet. No indexed text has them.
pub const MARK_BEGINS: char = '\u{2}';
pub const MARK_ENDS: char = '\u{3}';

/// What search keeps of a session.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SessionFacts {
    pub id: String,
    pub counter: i64,
    pub title: Option<String>,
    pub repo_owner: Option<String>,
    pub repo_name: Option<String>,
    pub user_id: Option<String>,
    pub status: String,
    pub created_at: i64,
    pub updated_at: i64,
}

impl SessionFacts {
    fn facets(&self, user_id: Option<&str>) -> String {
        let repository = self.repo_owner.as_ref().zip(self.repo_name.as_ref());
        let repository = repository.map(|(owner, name)| repository_facet(owner, name));
        let facets = [repository, user_id.map(person_facet)];
        facets.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

/// The word that stands for a repository.
fn repository_facet(owner: &str, name: &str) -> String {
    format!("r{}", &sha256_hex(format!("{owner}/{name}").to_lowercase().as_bytes())[..24])
}

/// The word that stands for a person.
fn person_facet(user_id: &str) -> String {
    format!("u{}", &sha256_hex(user_id.as_bytes())[..24])
}

/// Texts of a document.
#[derive(Debug, Clone, Copy, Default)]
struct Texts<'t> {
    title: &'t str,
    prompt: &'t str,
    answer: &'t str,
    paths: &'t str,
}

/// Control characters have a meaning of their own in snippets.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}

/// Takes an older document of the name away.
fn replace(session_id: &str, name: &str, version: i64) -> [Statement; 2] {
    let text = "DELETE FROM search_text WHERE rowid =
        (SELECT id FROM search_documents WHERE session_id = ?1 AND name = ?2 AND version < ?3)";
    let row = "DELETE FROM search_documents WHERE session_id = ?1 AND name = ?2 AND version < ?3";
    let values = params![session_id, name, version];
    [(text, values.clone()), (row, values)]
}

/// Takes an older title away, unless it is the same.
fn replace_title(session_id: &str, version: i64, title: Option<&str>) -> [Statement; 2] {
    let text = "DELETE FROM search_text WHERE rowid =
        (SELECT id FROM search_documents WHERE session_id = ?1 AND name = 'title' AND version < ?2)
        AND NOT EXISTS (SELECT 1 FROM search_sessions WHERE session_id = ?1 AND title IS ?3)";
    let row = "DELETE FROM search_documents WHERE session_id = ?1 AND name = 'title' AND version < ?2
        AND NOT EXISTS (SELECT 1 FROM search_sessions WHERE session_id = ?1 AND title IS ?3)";
    let values = params![session_id, version, title];
    [(text, values.clone()), (row, values)]
}

/// Adds a document unless one of the name is there. One of a session that is gone is not added.
fn add(session_id: &str, name: &str, version: i64, at: i64, texts: Texts<'_>, facets: &str) -> [Statement; 2] {
    let row = "INSERT INTO search_documents (session_id, name, version, at)
        SELECT session_id, ?2, ?3, ?4 FROM search_sessions WHERE session_id = ?1
        ON CONFLICT (session_id, name) DO NOTHING";
    let text = "INSERT INTO search_text (rowid, title, prompt, answer, paths, facets)
        SELECT id, ?3, ?4, ?5, ?6, ?7 FROM search_documents d WHERE session_id = ?1 AND name = ?2
            AND NOT EXISTS (SELECT 1 FROM search_text WHERE rowid = d.id)";
    [
        (row, params![session_id, name, version, at]),
        (
            text,
            params![
                session_id,
                name,
                clean(texts.title),
                clean(texts.prompt),
                clean(texts.answer),
                clean(texts.paths),
                facets
            ],
        ),
    ]
}

/// Takes over what the list knows of a session, and its title, unless something newer is there.
pub async fn put_session(db: &impl Database, facts: &SessionFacts) -> Result<(), DbError> {
    let id = facts.id.as_str();
    let mut statements = Vec::from(replace_title(id, facts.counter, facts.title.as_deref()));
    statements.push((
        "INSERT INTO search_sessions (session_id, counter, title, repo_owner, repo_name, user_id, status, created_at,
            updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (session_id) DO UPDATE SET counter = excluded.counter, title = excluded.title,
            repo_owner = excluded.repo_owner, repo_name = excluded.repo_name, user_id = excluded.user_id,
            status = excluded.status, updated_at = excluded.updated_at
         WHERE excluded.counter >= counter",
        params![
            id,
            facts.counter,
            facts.title.clone(),
            facts.repo_owner.clone(),
            facts.repo_name.clone(),
            facts.user_id.clone(),
            facts.status.as_str(),
            facts.created_at,
            facts.updated_at,
        ],
    ));
    if let Some(title) = facts.title.as_deref().filter(|title| !title.trim().is_empty()) {
        let texts = Texts { title, ..Texts::default() };
        let facets = facts.facets(facts.user_id.as_deref());
        statements.extend(add(id, "title", facts.counter, facts.updated_at, texts, &facets));
        statements.push((
            "UPDATE search_documents SET version = ?2 WHERE session_id = ?1 AND name = 'title' AND version < ?2",
            params![id, facts.counter],
        ));
    }
    db.batch(statements).await.map(|_| ())
}

/// Takes over turns that ended.
pub async fn put_turns(db: &impl Database, facts: &SessionFacts, turns: &[TurnDocument]) -> Result<(), DbError> {
    let mut statements = Vec::new();
    for turn in turns {
        let name = format!("turn:{}", turn.message_id);
        let texts = Texts { prompt: &turn.prompt, answer: &turn.answer, paths: &turn.paths, ..Texts::default() };
        let facets = facts.facets(turn.user_id.as_deref().or(facts.user_id.as_deref()));
        statements.extend(replace(&facts.id, &name, TURN_VERSION));
        statements.extend(add(&facts.id, &name, TURN_VERSION, turn.at.0, texts, &facets));
    }
    in_batches(db, statements).await
}

/// Takes over titles of pull requests, unless newer ones are there.
pub async fn put_pull_requests(
    db: &impl Database,
    facts: &SessionFacts,
    pull_requests: &[PullRequestDocument],
) -> Result<(), DbError> {
    let mut statements = Vec::new();
    for pull_request in pull_requests {
        let name = format!("pull_request:{}", pull_request.artifact_id);
        let (at, texts) = (pull_request.at.0, Texts { title: &pull_request.title, ..Texts::default() });
        statements.extend(replace(&facts.id, &name, at));
        statements.extend(add(&facts.id, &name, at, at, texts, &facts.facets(facts.user_id.as_deref())));
    }
    in_batches(db, statements).await
}

/// Four statements a document, of which a batch may have a hundred.
async fn in_batches(db: &impl Database, statements: Vec<Statement>) -> Result<(), DbError> {
    for some in statements.chunks(80) {
        db.batch(some.to_vec()).await?;
    }
    Ok(())
}

/// Forgets a session.
pub async fn forget(db: &impl Database, session_id: &str) -> Result<(), DbError> {
    db.batch(vec![
        (
            "DELETE FROM search_text WHERE rowid IN (SELECT id FROM search_documents WHERE session_id = ?)",
            params![session_id],
        ),
        ("DELETE FROM search_documents WHERE session_id = ?", params![session_id]),
        ("DELETE FROM search_sessions WHERE session_id = ?", params![session_id]),
    ])
    .await
    .map(|_| ())
}

/// Sessions that search knows, after one, in the order of their ids.
pub async fn known_after(db: &impl Database, after: &str, limit: i64) -> Result<Vec<String>, DbError> {
    #[derive(Deserialize)]
    struct Known {
        session_id: String,
    }
    let known: Vec<Known> = db
        .rows(
            "SELECT session_id FROM search_sessions WHERE session_id > ? ORDER BY session_id LIMIT ?",
            params![after, limit],
        )
        .await?;
    Ok(known.into_iter().map(|known| known.session_id).collect())
}

/// What to search within.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filters {
    /// Owner and name.
    pub repository: Option<(String, String)>,
    /// Who prompted, or whose session it is.
    pub author: Option<String>,
    /// Status of the session.
    pub status: Option<String>,
    /// Documents of this time or later.
    pub from: Option<UnixMillis>,
    /// Documents before this time.
    pub to: Option<UnixMillis>,
}

impl Filters {
    /// The words that a document must have.
    pub fn facets(&self) -> Vec<String> {
        let repository = self.repository.as_ref().map(|(owner, name)| repository_facet(owner, name));
        let author = self.author.as_deref().map(person_facet);
        repository.into_iter().chain(author).collect()
    }
}

/// The last result of a page: what follows is worse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub score: i64,
    pub session_id: String,
}

/// The best document of a session, and the session.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Hit {
    pub id: i64,
    pub session_id: String,
    pub name: String,
    pub at: i64,
    /// The smaller the better.
    pub score: i64,
    /// Documents of the session that match.
    pub matches: u32,
    pub title: Option<String>,
    pub repo_owner: Option<String>,
    pub repo_name: Option<String>,
    pub user_id: Option<String>,
    pub status: String,
    pub created_at: i64,
    pub updated_at: i64,
}

/// The statement of [`find`], and its values.
fn finding(
    matching: &str,
    filters: &Filters,
    now: UnixMillis,
    after: Option<&Place>,
    limit: i64,
) -> (String, Vec<Param>) {
    // `CROSS JOIN` keeps the order: the text first, newest first, until enough was found.
    let mut sql = "WITH found AS MATERIALIZED (
            SELECT d.id, d.session_id, d.name, d.at, CAST(ROUND(1000000000.0 *
                bm25(search_text, 10.0, 4.0, 1.0, 3.0, 0.0) * (1.0 + 1.0 / (1.0 + MAX(0, ?2 - d.at) / ?3))
            ) AS INTEGER) AS score
            FROM search_text CROSS JOIN search_documents d ON d.id = search_text.rowid
                CROSS JOIN search_sessions s ON s.session_id = d.session_id
            WHERE search_text MATCH ?1"
        .to_owned();
    let mut values = params![matching, now.0, RECENT_MS];
    for (condition, value) in [
        ("s.status = ?", filters.status.clone().map(Param::from)),
        ("d.at >= ?", filters.from.map(|at| Param::from(at.0))),
        ("d.at < ?", filters.to.map(|at| Param::from(at.0))),
    ] {
        if let Some(value) = value {
            values.push(value);
            let _ = write!(sql, " AND {condition}{}", values.len());
        }
    }
    values.push(RANKED_MAX.into());
    let _ = write!(
        sql,
        " ORDER BY search_text.rowid DESC LIMIT ?{}
        ), ranked AS (
            SELECT *, ROW_NUMBER() OVER (PARTITION BY session_id ORDER BY score, id DESC) AS place,
                COUNT(*) OVER (PARTITION BY session_id) AS matches FROM found
        )
        SELECT r.id, r.session_id, r.name, r.at, r.score, r.matches, s.title, s.repo_owner, s.repo_name, s.user_id,
            s.status, s.created_at, s.updated_at
        FROM ranked r CROSS JOIN search_sessions s ON s.session_id = r.session_id WHERE r.place = 1",
        values.len()
    );
    if let Some(after) = after {
        values.extend(params![after.score, after.session_id.as_str()]);
        let _ = write!(sql, " AND (r.score, r.session_id) > (?{}, ?{})", values.len() - 1, values.len());
    }
    values.push(limit.into());
    let _ = write!(sql, " ORDER BY r.score, r.session_id LIMIT ?{}", values.len());
    (sql, values)
}

/// A page of sessions, the best first: as `now` counts how new they are, which is the same for all pages of a search.
/// Says too whether more follow.
pub async fn find(
    db: &impl Database,
    matching: &str,
    filters: &Filters,
    now: UnixMillis,
    after: Option<&Place>,
    limit: i64,
) -> Result<(Vec<Hit>, bool), DbError> {
    let (sql, values) = finding(matching, filters, now, after, limit + 1);
    let mut hits: Vec<Hit> = db.rows(&sql, values).await?;
    let has_more = hits.len() as i64 > limit;
    hits.truncate(limit as usize);
    Ok((hits, has_more))
}

/// What was found in a document, column by column, with marks around it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Excerpts {
    pub id: i64,
    pub title: String,
    pub prompt: String,
    pub answer: String,
    pub paths: String,
}

/// The statement of [`excerpts`]. The ids stand in it as they are: FTS5 takes no others than integers, and what is bound
/// through D1 is none. FTS5 gets their range, which has no more matches than are ranked: for each single id it would put
/// together all that begin with the last word.
fn excerpting(documents: &[i64]) -> String {
    // `char(2)` and `char(3)` are the marks.
    let column =
        |number: usize, name: &str| format!("snippet(search_text, {number}, char(2), char(3), '…', 32) AS {name}");
    format!(
        "SELECT rowid AS id, {}, {}, {}, {} FROM search_text WHERE search_text MATCH ? AND rowid BETWEEN {} AND {}
            AND +rowid IN ({})",
        column(0, "title"),
        column(1, "prompt"),
        column(2, "answer"),
        column(3, "paths"),
        documents.iter().min().unwrap_or(&0),
        documents.iter().max().unwrap_or(&0),
        documents.iter().map(i64::to_string).collect::<Vec<_>>().join(", ")
    )
}

/// What was found in documents, which a page has some of.
pub async fn excerpts(db: &impl Database, matching: &str, documents: &[i64]) -> Result<Vec<Excerpts>, DbError> {
    if documents.is_empty() {
        return Ok(Vec::new());
    }
    db.rows(&excerpting(documents), params![matching]).await
}

/// How far the index has been made again.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Rebuild {
    /// `sessions` or `strays`.
    pub phase: String,
    /// The session that was done last.
    pub after_id: String,
    /// How far within the next one.
    pub turns_after: i64,
    pub sessions: i64,
    pub documents: i64,
    /// Sessions that could not be asked.
    pub failed: i64,
    pub started_at: i64,
    pub updated_at: i64,
}

/// Begins to make the index again, from the start.
pub async fn begin_rebuild(db: &impl Database, now: UnixMillis) -> Result<(), DbError> {
    db.change(
        "INSERT OR REPLACE INTO search_rebuild (one, phase, after_id, turns_after, sessions, documents, failed,
            started_at, updated_at) VALUES (1, 'sessions', '', 0, 0, 0, 0, ?1, ?1)",
        params![now.0],
    )
    .await
    .map(|_| ())
}

/// How far it is, while it goes on.
pub async fn rebuild(db: &impl Database) -> Result<Option<Rebuild>, DbError> {
    db.row(
        "SELECT phase, after_id, turns_after, sessions, documents, failed, started_at, updated_at FROM search_rebuild",
        Vec::new(),
    )
    .await
}

/// Remembers how far it is, unless it was begun again meanwhile.
pub async fn save_rebuild(db: &impl Database, rebuild: &Rebuild, now: UnixMillis) -> Result<(), DbError> {
    db.change(
        "UPDATE search_rebuild SET phase = ?2, after_id = ?3, turns_after = ?4, sessions = ?5, documents = ?6,
            failed = ?7, updated_at = ?8 WHERE started_at = ?1",
        params![
            rebuild.started_at,
            rebuild.phase.as_str(),
            rebuild.after_id.as_str(),
            rebuild.turns_after,
            rebuild.sessions,
            rebuild.documents,
            rebuild.failed,
            now.0,
        ],
    )
    .await
    .map(|_| ())
}

/// It is done.
pub async fn end_rebuild(db: &impl Database, rebuild: &Rebuild) -> Result<(), DbError> {
    db.change("DELETE FROM search_rebuild WHERE started_at = ?", params![rebuild.started_at]).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search_query::SearchQuery;
    use crate::store::native::Native;
    use futures_executor::block_on;
    use oi_protocol::{ArtifactId, MessageId, SessionId};

    const NOW: UnixMillis = UnixMillis(1_000_000_000_000);

    fn id(byte: u8) -> SessionId {
        SessionId::from_bytes([byte; 16])
    }

    fn facts(byte: u8, counter: i64, title: &str) -> SessionFacts {
        SessionFacts {
            id: id(byte).to_string(),
            counter,
            title: Some(title.to_owned()).filter(|title| !title.is_empty()),
            repo_owner: Some("acme".to_owned()),
            repo_name: Some(if byte < 100 { "app" } else { "site" }.to_owned()),
            user_id: Some("ada".to_owned()),
            status: "active".to_owned(),
            created_at: NOW.0,
            updated_at: NOW.0 + counter,
        }
    }

    fn turn(byte: u8, at: i64, prompt: &str, answer: &str) -> TurnDocument {
        TurnDocument {
            message_id: MessageId::from_bytes([byte; 16]),
            user_id: Some("grace".to_owned()),
            at: UnixMillis(at),
            prompt: prompt.to_owned(),
            answer: answer.to_owned(),
            paths: format!("src/file_{byte}.rs"),
        }
    }

    fn page(db: &Native, typed: &str, filters: &Filters, after: Option<&Place>, limit: i64) -> (Vec<Hit>, bool) {
        let query = SearchQuery::parse(typed).expect("a query").matching(&filters.facets());
        block_on(find(db, &query, filters, NOW, after, limit)).expect("runs")
    }

    fn found(db: &Native, typed: &str) -> Vec<(String, String)> {
        let hits = page(db, typed, &Filters::default(), None, 100).0;
        hits.into_iter().map(|hit| (hit.session_id[..2].to_owned(), hit.name)).collect()
    }

    fn texts(db: &Native) -> i64 {
        #[derive(Deserialize)]
        struct Count {
            count: i64,
        }
        let sql = "SELECT COUNT(*) AS count FROM search_text";
        block_on(db.row::<Count>(sql, Vec::new())).expect("runs").expect("a row").count
    }

    #[test]
    fn a_title_is_found_as_it_is_now_and_older_news_change_nothing() {
        let db = Native::search();
        let put = |counter, title| block_on(put_session(&db, &facts(1, counter, title))).expect("runs");
        put(1, "fix the login");
        put(3, "repair the checkout");
        put(2, "fix the login");
        assert_eq!(found(&db, "login"), []);
        assert_eq!(found(&db, "checkout"), [("01".to_owned(), "title".to_owned())]);
        put(3, "repair the checkout");
        put(4, "repair the checkout");
        put(3, "an older one");
        assert_eq!((texts(&db), found(&db, "checkout").len()), (1, 1), "a title that stays is not written again");
        put(5, "");
        assert_eq!((texts(&db), found(&db, "checkout").len()), (0, 0));
    }

    #[test]
    fn a_turn_told_twice_is_one_document_and_goes_with_its_session() {
        let db = Native::search();
        let (first, second) = (facts(1, 1, "one"), facts(2, 1, "two"));
        let turns = [turn(1, NOW.0, "please fix the login", "I fixed it"), turn(2, NOW.0, "and the logout", "done")];
        block_on(put_turns(&db, &first, &turns)).expect("runs");
        assert_eq!(texts(&db), 0, "of a session that is not there nothing is kept");
        for _ in 0..2 {
            for facts in [&first, &second] {
                block_on(put_session(&db, facts)).expect("runs");
                block_on(put_turns(&db, facts, &turns)).expect("runs");
            }
        }
        assert_eq!(texts(&db), 6);
        let hits = page(&db, "fix", &Filters::default(), None, 10).0;
        assert_eq!(hits.iter().map(|hit| hit.matches).collect::<Vec<_>>(), [1, 1]);
        block_on(forget(&db, &first.id)).expect("runs");
        assert_eq!((texts(&db), found(&db, "login").len()), (3, 1));
        assert_eq!(block_on(known_after(&db, "", 10)), Ok(vec![second.id.clone()]));
        block_on(put_turns(&db, &first, &turns)).expect("runs");
        assert_eq!(texts(&db), 3, "a late job brings nothing back");
    }

    #[test]
    fn a_pull_requests_newest_title_is_found() {
        let db = Native::search();
        let facts = facts(1, 1, "one");
        block_on(put_session(&db, &facts)).expect("runs");
        for (at, title) in [(5, "Draft: rate limits"), (9, "Rate limits for uploads"), (7, "Draft: old")] {
            let artifact_id = ArtifactId::from_bytes([7; 16]);
            let document = PullRequestDocument { artifact_id, at: UnixMillis(at), title: title.to_owned() };
            block_on(put_pull_requests(&db, &facts, &[document])).expect("runs");
        }
        assert_eq!(found(&db, "uploads").len(), 1);
        assert_eq!(found(&db, "draft"), []);
    }

    #[test]
    fn filters_leave_out_what_is_of_others() {
        let db = Native::search();
        for byte in [1, 101] {
            let facts = facts(byte, 1, "the login");
            block_on(put_session(&db, &facts)).expect("runs");
            block_on(put_turns(&db, &facts, &[turn(byte, i64::from(byte), "login", "")])).expect("runs");
        }
        let of = |filters: Filters| {
            let hits = page(&db, "login", &filters, None, 10).0;
            hits.into_iter().map(|hit| (hit.session_id[..2].to_owned(), hit.matches)).collect::<Vec<_>>()
        };
        let none = Filters::default;
        let repository = Some(("ACME".to_owned(), "Site".to_owned()));
        assert_eq!(of(Filters { repository, ..none() }), [("65".to_owned(), 2)]);
        assert_eq!(of(Filters { author: Some("ada".to_owned()), ..none() }).len(), 2);
        assert_eq!(of(Filters { author: Some("grace".to_owned()), ..none() })[0].1, 1);
        assert_eq!(of(Filters { author: Some("linus".to_owned()), ..none() }), []);
        assert_eq!(of(Filters { status: Some("archived".to_owned()), ..none() }), []);
        assert_eq!(of(Filters { status: Some("active".to_owned()), ..none() }).len(), 2);
        let (from, to) = (Some(UnixMillis(100)), Some(UnixMillis(102)));
        assert_eq!(of(Filters { from, to, ..none() }), [("65".to_owned(), 1)]);
        assert_eq!(of(Filters { to: Some(UnixMillis(1)), ..none() }), []);
    }

    #[test]
    fn newer_and_better_ones_come_first_and_pages_have_each_once() {
        let db = Native::search();
        for byte in 1..=25 {
            let facts = facts(byte, 1, "");
            block_on(put_session(&db, &facts)).expect("runs");
            let age = i64::from(25 - byte) * 86_400_000 * 10;
            block_on(put_turns(&db, &facts, &[turn(byte, NOW.0 - age, "the login page", "words")])).expect("runs");
        }
        block_on(put_session(&db, &facts(30, 1, "login"))).expect("runs");
        let all: Vec<Hit> = page(&db, "login", &Filters::default(), None, 100).0;
        let order: Vec<u8> = all.iter().map(|hit| u8::from_str_radix(&hit.session_id[..2], 16).expect("hex")).collect();
        assert_eq!(order[0], 30, "a title says more than a prompt");
        assert_eq!(order[1..], (1..=25).rev().collect::<Vec<_>>());
        let (mut paged, mut after) = (Vec::new(), None);
        loop {
            let (hits, more) = page(&db, "login", &Filters::default(), after.as_ref(), 4);
            paged.extend(hits);
            after = paged.last().map(|hit| Place { score: hit.score, session_id: hit.session_id.clone() });
            if !more {
                break;
            }
        }
        assert_eq!(paged, all);
    }

    #[test]
    fn excerpts_mark_what_was_found_and_nothing_that_was_typed() {
        let db = Native::search();
        let facts = facts(1, 1, "<b>login</b> \u{2}forged\u{3}");
        block_on(put_session(&db, &facts)).expect("runs");
        block_on(put_turns(&db, &facts, &[turn(1, NOW.0, "x", "the login is fixed in src")])).expect("runs");
        let query = SearchQuery::parse("login src").expect("a query").matching(&[]);
        let hits = block_on(find(&db, &query, &Filters::default(), NOW, None, 10)).expect("runs").0;
        let found = block_on(excerpts(&db, &query, &[hits[0].id])).expect("runs");
        assert_eq!(found[0].answer, "the \u{2}login\u{3} is fixed in \u{2}src\u{3}");
        assert_eq!(found[0].paths, "\u{2}src\u{3}/file_1.rs");
        let query = SearchQuery::parse("login").expect("a query").matching(&[]);
        let hits = block_on(find(&db, &query, &Filters::default(), NOW, None, 10)).expect("runs").0;
        let found = block_on(excerpts(&db, &query, &[hits[0].id, 999])).expect("runs");
        assert_eq!((found.len(), found[0].title.as_str()), (1, "<b>\u{2}login\u{3}</b>  forged "));
    }

    #[test]
    fn a_search_reads_by_the_index_newest_first_and_never_a_whole_table() {
        let db = Native::search();
        let filters = Filters {
            status: Some("active".to_owned()),
            from: Some(UnixMillis(1)),
            to: Some(NOW),
            ..Filters::default()
        };
        let place = Place { score: -5, session_id: "a".to_owned() };
        block_on(find(&db, "\"a\"", &filters, NOW, Some(&place), 20)).expect("runs");
        let steps = db.plans();
        let text = steps.iter().find(|step| step.contains("search_text")).expect("the text is read");
        assert!(text.starts_with("SCAN search_text VIRTUAL TABLE INDEX"), "{steps:?}");
        assert!(steps.iter().any(|step| step.starts_with("SEARCH d USING INTEGER PRIMARY KEY")), "{steps:?}");
        assert_eq!(steps.iter().filter(|step| step.starts_with("SEARCH s USING PRIMARY KEY")).count(), 2, "{steps:?}");
        // What is sorted was found before, 2 000 rows at most: the text comes in its order.
        let found = steps.iter().position(|step| step.contains("MATERIALIZE found")).expect("found first");
        assert!(!steps[found + 1..found + 4].iter().any(|step| step.contains("TEMP B-TREE")), "{steps:?}");
        block_on(excerpts(&db, "\"a\"", &[1, 2])).expect("runs");
        let steps = db.plans();
        let is_range = |step: &String| step.contains("VIRTUAL TABLE INDEX") && step.contains('<') && step.contains('>');
        assert!(steps.iter().any(is_range), "read once, from the first to the last: {steps:?}");
        block_on(known_after(&db, "a", 5)).expect("runs");
        assert!(db.plans()[0].starts_with("SEARCH search_sessions USING PRIMARY KEY"));
    }

    #[test]
    fn a_rebuild_is_remembered_until_it_ends_and_one_begun_again_wins() {
        let db = Native::search();
        assert_eq!(block_on(rebuild(&db)), Ok(None));
        block_on(begin_rebuild(&db, UnixMillis(1))).expect("runs");
        let mut old = block_on(rebuild(&db)).expect("runs").expect("one");
        old.after_id = "5".to_owned();
        old.turns_after = 20;
        block_on(save_rebuild(&db, &old, UnixMillis(2))).expect("runs");
        let saved = block_on(rebuild(&db)).expect("runs").expect("one");
        assert_eq!((saved.after_id.as_str(), saved.turns_after, saved.updated_at), ("5", 20, 2));
        block_on(begin_rebuild(&db, UnixMillis(3))).expect("runs");
        block_on(save_rebuild(&db, &old, UnixMillis(4))).expect("runs");
        block_on(end_rebuild(&db, &old)).expect("runs");
        assert_eq!(block_on(rebuild(&db)).expect("runs").expect("one").after_id, "", "the old one changes nothing");
    }
}
