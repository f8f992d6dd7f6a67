//! The list and search over a few sessions and over many, in the local D1: neither grows with what is there.
//!
//! The rows are written into the databases' files while the system is down, as the control plane's own SQL leaves
//! them; what is measured is a person's call, from the request to the whole answer.

use std::path::{Path, PathBuf};
use std::time::Instant;

use e2e::api::Person;
use e2e::stack::{Options, Stack};
use e2e::{Failed, Outcome};
use reqwest::Method;
use rusqlite::{Connection, params};
use sha2::{Digest, Sha256};

use super::{median, ms, row, say};

/// Sessions and turns of each: 1 000 and 100 000 documents beside the titles.
const SIZES: [(u64, u64); 2] = [(100, 10), (10_000, 10)];
const ROUNDS: usize = 25;
/// A turn's day: the newest is today's.
const DAY_MS: i64 = 86_400_000;

/// What is asked of both sizes.
const CALLS: [(&str, &str); 11] = [
    ("list, first page", "/api/sessions?limit=50"),
    ("list, of one status", "/api/sessions?limit=50&status=failed"),
    ("list, without the archived", "/api/sessions?limit=50&excludeStatus=archived"),
    ("list, of one person", "/api/sessions?limit=50&createdBy=me"),
    ("search, a word of one session", "/api/search?q=needle7"),
    ("search, a word of every turn", "/api/search?q=common"),
    ("search, two words of every turn", "/api/search?q=common+text"),
    ("search, the beginning of a word", "/api/search?q=comm*"),
    ("search, a phrase", "/api/search?q=%22common+text%22"),
    ("search, in one repository", "/api/search?q=common&repository=acme/repo-3"),
    ("search, of one person and status", "/api/search?q=common&author=me&status=failed"),
];

/// The local databases, told apart by a table.
fn database(state: &Path, table: &str) -> Outcome<Connection> {
    let mut folders = vec![state.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)?.flatten() {
            let path: PathBuf = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "sqlite") {
                let connection = Connection::open(&path).map_err(failed)?;
                let sql = "SELECT COUNT(*) FROM sqlite_master WHERE name = ?";
                let found: i64 = connection.query_row(sql, [table], |row| row.get(0)).unwrap_or(0);
                if found == 1 {
                    return Ok(connection);
                }
            }
        }
    }
    Err(Failed(format!("no local database has the table {table}")))
}

#[expect(clippy::needless_pass_by_value, reason = "it is passed to `map_err`")]
fn failed(error: rusqlite::Error) -> Failed {
    Failed(format!("SQLite: {error}"))
}

fn facet(kind: char, text: &str) -> String {
    format!("{kind}{}", &hex::encode(Sha256::digest(text.as_bytes()))[..24])
}

/// Words as a turn has them: some of every turn, some of many, some of one.
fn text(session: u64, turn: u64) -> (String, String) {
    let word = |n: u64| format!("word{}", n % 5_000);
    let seed = session * 31 + turn * 7;
    let many: Vec<String> = (0..120).map(|n| word(seed.wrapping_mul(2_654_435_761).wrapping_add(n * n * 97))).collect();
    let prompt = format!("please look at the common text of {} needle{session}", word(seed));
    (prompt, format!("this is a common text about {}", many.join(" ")))
}

/// Writes sessions of this range, the higher the newer.
fn seed(state: &Path, me: &str, sessions: std::ops::Range<u64>, turns: u64, now: i64) -> Outcome {
    let mut main = database(state, "sessions")?;
    let mut index = database(state, "search_documents")?;
    let (main, index) = (main.transaction().map_err(failed)?, index.transaction().map_err(failed)?);
    let newest = sessions.end;
    for session in sessions {
        let id = format!("{session:032x}");
        let at = now - (newest - session) as i64 * 1_000;
        let name = format!("repo-{}", session % 10);
        let status = ["completed", "failed", "archived", "active"][(session % 4) as usize];
        let user = session.is_multiple_of(5).then_some(me);
        let title = format!("Session {session} about word{}", session % 5_000);
        main.execute(
            "INSERT INTO sessions (id, title, repo_owner, repo_name, base_branch, model, status, spawn_source, user_id,
                counter, created_at, updated_at)
             VALUES (?, ?, 'acme', ?, 'main', 'demo/scripted', ?, 'user', ?, 1, ?, ?)",
            params![id, title, name, status, user, at - DAY_MS, at],
        )
        .map_err(failed)?;
        index
            .execute(
                "INSERT INTO search_sessions VALUES (?, 1, ?, 'acme', ?, ?, ?, ?, ?)",
                params![id, title, name, user, status, at - DAY_MS, at],
            )
            .map_err(failed)?;
        let facets = [Some(facet('r', &format!("acme/{name}"))), user.map(|user| facet('u', user))];
        let facets: Vec<String> = facets.into_iter().flatten().collect();
        for turn in 0..=turns {
            let document = if turn == 0 { "title".to_owned() } else { format!("turn:{:032x}", session * 100 + turn) };
            index
                .execute(
                    "INSERT INTO search_documents (session_id, name, version, at) VALUES (?, ?, 1, ?)",
                    params![id, document, at],
                )
                .map_err(failed)?;
            let row = index.last_insert_rowid();
            let (prompt, answer) = if turn == 0 { (String::new(), String::new()) } else { text(session, turn) };
            let shown = if turn == 0 { title.as_str() } else { "" };
            let paths = if turn == 0 { String::new() } else { format!("src/module_{}/file_{turn}.rs", session % 200) };
            index
                .execute(
                    "INSERT INTO search_text (rowid, title, prompt, answer, paths, facets) VALUES (?, ?, ?, ?, ?, ?)",
                    params![row, shown, prompt, answer, paths, facets.join(" ")],
                )
                .map_err(failed)?;
        }
    }
    main.commit().map_err(failed)?;
    index.commit().map_err(failed)
}

/// Medians of every call, in ms.
async fn measure(person: &Person, sessions: u64) -> Outcome<Vec<f64>> {
    let mut medians = Vec::new();
    for (what, path) in CALLS {
        let mut samples = Vec::new();
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            let answer = person.call(Method::GET, path, None).await?;
            samples.push(ms(begun));
            let rows = if path.starts_with("/api/search") { "results" } else { "sessions" };
            let found = answer.json[rows].as_array().map_or(0, Vec::len);
            if answer.status != 200 || (found == 0 && sessions >= 100) {
                return Err(Failed(format!("{what}: {} with {found}: {}", answer.status, answer.text)));
            }
        }
        medians.push(median(samples.clone()));
        row(&format!("{what}; {sessions} sessions"), samples, "ms");
    }
    Ok(medians)
}

/// Measures both sizes. What takes more than three times as long and over 50 ms with a hundred times as much has grown.
pub async fn index() -> Outcome {
    let folder = tempfile::Builder::new().prefix("oi-index-").tempdir()?;
    let options = || Options { state: Some(folder.path().join("state")), ..Options::default() };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_millis() as i64);
    let stack = Stack::start(options()).await?;
    let ada = Person::sign_in(&stack.ready, "ada").await?;
    let me = ada.call(Method::GET, "/api/auth/get-session", None).await?.json["user"]["id"].clone();
    let me = me.as_str().unwrap_or_default().to_owned();
    stack.stop().await?;
    let (mut results, mut from) = (Vec::new(), 1);
    for (sessions, turns) in SIZES {
        let begun = Instant::now();
        seed(&folder.path().join("state"), &me, from..sessions + 1, turns, now)?;
        from = sessions + 1;
        say(&format!(
            "<!-- {sessions} sessions, {} documents, written in {:.0} ms -->",
            sessions * (turns + 1),
            ms(begun)
        ));
        let stack = Stack::start(options()).await?;
        let ada = Person::sign_in(&stack.ready, "ada").await?;
        results.push(measure(&ada, sessions).await?);
        stack.stop().await?;
    }
    let grown: Vec<String> = CALLS
        .iter()
        .zip(results[0].iter().zip(&results[1]))
        .filter(|(_, (few, many))| **many > 3.0 * **few && **many > 50.0)
        .map(|((what, _), (few, many))| format!("{what}: {few:.1} ms, then {many:.1} ms"))
        .collect();
    if grown.is_empty() { Ok(()) } else { Err(Failed(format!("these grow:\n{}", grown.join("\n")))) }
}
