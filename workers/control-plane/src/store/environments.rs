//! `environments` and `environment_repositories`: repositories that are worked on together.

use oi_protocol::environments::{Environment, EnvironmentRepository};
use oi_protocol::{EnvironmentId, UnixMillis};
use serde::Deserialize;

use super::audit_log::Entry;
use super::image_builds::scopes::end_with_environment;
use super::{Database, DbError, Param, Statement, params, secrets};

#[derive(Deserialize)]
struct Row {
    id: String,
    name: String,
    description: Option<String>,
    prebuild_enabled: i64,
    channel_associations: Option<String>,
    version: i64,
    created_at: i64,
    updated_at: i64,
}

const COLUMNS: &str = "id, name, description, prebuild_enabled, channel_associations, version, created_at, updated_at";

#[derive(Deserialize)]
struct Member {
    environment_id: String,
    repo_owner: String,
    repo_name: String,
    repo_id: Option<i64>,
    base_branch: String,
}

#[derive(Deserialize)]
struct Counted {
    total: i64,
}

/// What makes names equal.
fn name_key(name: &str) -> String {
    name.to_lowercase()
}

/// A JSON array of words; what is none is unset.
pub(super) fn words(text: Option<&str>) -> Option<Vec<String>> {
    serde_json::from_str(text?).ok()
}

/// The column of words.
pub(super) fn column(words: Option<&Vec<String>>) -> Param {
    words.map(|words| serde_json::json!(words).to_string()).into()
}

impl From<&Member> for EnvironmentRepository {
    fn from(member: &Member) -> Self {
        Self {
            repo_owner: member.repo_owner.clone(),
            repo_name: member.repo_name.clone(),
            repo_id: member.repo_id,
            base_branch: member.base_branch.clone(),
        }
    }
}

fn whole(rows: Vec<Row>, members: &[Member]) -> Vec<Environment> {
    let environment = |row: Row| {
        let mine = members.iter().filter(|member| member.environment_id == row.id);
        let repositories = mine.map(EnvironmentRepository::from);
        Some(Environment {
            id: EnvironmentId::parse(&row.id).ok()?,
            name: row.name,
            description: row.description,
            prebuild_enabled: row.prebuild_enabled != 0,
            created_at: UnixMillis(row.created_at),
            updated_at: UnixMillis(row.updated_at),
            channel_associations: words(row.channel_associations.as_deref()).filter(|words| !words.is_empty()),
            repositories: repositories.collect(),
            version: row.version,
        })
    };
    rows.into_iter().filter_map(environment).collect()
}

async fn with_members(db: &impl Database, rows: Vec<Row>) -> Result<Vec<Environment>, DbError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let these = vec!["?"; rows.len()].join(", ");
    let sql = format!(
        "SELECT environment_id, repo_owner, repo_name, repo_id, base_branch FROM environment_repositories
            WHERE environment_id IN ({these}) ORDER BY environment_id, position"
    );
    let members: Vec<Member> = db.rows(&sql, rows.iter().map(|row| row.id.as_str().into()).collect()).await?;
    Ok(whole(rows, &members))
}

/// One.
pub async fn get(db: &impl Database, id: &EnvironmentId) -> Result<Option<Environment>, DbError> {
    let rows = db.rows(&format!("SELECT {COLUMNS} FROM environments WHERE id = ?"), params![id.as_str()]).await?;
    Ok(with_members(db, rows).await?.pop())
}

/// The repositories of one, in order; none when it is not there.
pub async fn repositories(db: &impl Database, id: &EnvironmentId) -> Result<Vec<EnvironmentRepository>, DbError> {
    let sql = "SELECT environment_id, repo_owner, repo_name, repo_id, base_branch FROM environment_repositories
        WHERE environment_id = ? ORDER BY position";
    let members: Vec<Member> = db.rows(sql, params![id.as_str()]).await?;
    Ok(members.iter().map(EnvironmentRepository::from).collect())
}

/// Whether images of it are built ahead; `None` when it is not there.
pub async fn is_prebuilt(db: &impl Database, id: &EnvironmentId) -> Result<Option<bool>, DbError> {
    #[derive(Deserialize)]
    struct Switch {
        prebuild_enabled: i64,
    }
    let row: Option<Switch> =
        db.row("SELECT prebuild_enabled FROM environments WHERE id = ?", params![id.as_str()]).await?;
    Ok(row.map(|row| row.prebuild_enabled != 0))
}

/// Whether it is there.
pub async fn exists(db: &impl Database, id: &EnvironmentId) -> Result<bool, DbError> {
    let row: Option<Counted> =
        db.row("SELECT COUNT(*) AS total FROM environments WHERE id = ?", params![id.as_str()]).await?;
    Ok(row.is_some_and(|row| row.total > 0))
}

/// How many there are.
pub async fn count(db: &impl Database) -> Result<i64, DbError> {
    let row: Option<Counted> = db.row("SELECT COUNT(*) AS total FROM environments", vec![]).await?;
    Ok(row.map_or(0, |row| row.total))
}

/// Up to `most`, at most 100, newest first, after the one that was made `after.0` with the id `after.1`; whether more follow.
pub async fn page(
    db: &impl Database,
    after: Option<(i64, &str)>,
    most: usize,
) -> Result<(Vec<Environment>, bool), DbError> {
    let (at, id) = after.unwrap_or((i64::MAX >> 11, ""));
    let sql = format!(
        "SELECT {COLUMNS} FROM environments WHERE created_at < ?1 OR (created_at = ?1 AND id < ?2)
            ORDER BY created_at DESC, id DESC LIMIT ?3"
    );
    let mut rows: Vec<Row> = db.rows(&sql, params![at, id, most as i64 + 1]).await?;
    let more = rows.len() > most;
    rows.truncate(most);
    Ok((with_members(db, rows).await?, more))
}

fn insert_members<'a>(environment: &'a Environment, mark: &'a str) -> impl Iterator<Item = Statement> + 'a {
    environment.repositories.iter().zip(0_i64..).map(move |(repository, position)| {
        (
            "INSERT INTO environment_repositories (environment_id, position, repo_owner, repo_name, repo_id, base_branch)
             SELECT id, ?3, ?4, ?5, ?6, ?7 FROM environments WHERE id = ?1 AND last_write = ?2",
            params![
                environment.id.as_str(),
                mark,
                position,
                repository.repo_owner.as_str(),
                repository.repo_name.as_str(),
                repository.repo_id,
                repository.base_branch.as_str(),
            ],
        )
    })
}

/// Adds one, at version 1; `false` when another has its name. `mark` is never used twice.
pub async fn insert(db: &impl Database, new: &Environment, mark: &str, entry: &Entry) -> Result<bool, DbError> {
    let mut batch: Vec<Statement> = vec![(
        "INSERT INTO environments (id, name, name_key, description, prebuild_enabled, channel_associations, version,
            last_write, created_at, updated_at)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, 1, ?7, ?8, ?8
            WHERE NOT EXISTS (SELECT 1 FROM environments WHERE name_key = ?3)",
        params![
            new.id.as_str(),
            new.name.as_str(),
            name_key(&new.name),
            new.description.clone(),
            new.prebuild_enabled,
            column(new.channel_associations.as_ref()),
            mark,
            new.created_at.0,
        ],
    )];
    batch.extend(insert_members(new, mark));
    Ok(db.batch(entry.behind_the_first(batch)).await?.first() == Some(&1))
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update {
    /// It is made.
    Done,
    /// Another has the name.
    NameTaken,
    /// It is at another version.
    Conflict,
    /// It is not there.
    Gone,
}

/// Changes one that is still at the version before `next.version` into `next`.
pub async fn update(db: &impl Database, next: &Environment, mark: &str, entry: &Entry) -> Result<Update, DbError> {
    let mut batch: Vec<Statement> = vec![
        (
            "UPDATE environments SET name = ?2, name_key = ?3, description = ?4, prebuild_enabled = ?5,
                channel_associations = ?6, version = ?7, last_write = ?8, updated_at = ?9
                WHERE id = ?1 AND version = ?7 - 1
                    AND NOT EXISTS (SELECT 1 FROM environments other WHERE other.name_key = ?3 AND other.id <> ?1)",
            params![
                next.id.as_str(),
                next.name.as_str(),
                name_key(&next.name),
                next.description.clone(),
                next.prebuild_enabled,
                column(next.channel_associations.as_ref()),
                next.version,
                mark,
                next.updated_at.0,
            ],
        ),
        (
            "DELETE FROM environment_repositories WHERE environment_id = ?1
                AND EXISTS (SELECT 1 FROM environments WHERE id = ?1 AND last_write = ?2)",
            params![next.id.as_str(), mark],
        ),
    ];
    batch.extend(insert_members(next, mark));
    batch.push(end_with_environment(&next.id, next.updated_at));
    if db.batch(entry.behind_the_first(batch)).await?.first() == Some(&1) {
        return Ok(Update::Done);
    }
    Ok(match get(db, &next.id).await? {
        None => Update::Gone,
        Some(now) if now.version != next.version - 1 => Update::Conflict,
        Some(_) => Update::NameTaken,
    })
}

/// Deletes one with its secrets, when it is at the version that the caller has read, if they say so. Sessions that were
/// made of it go on; its images end. `false` when nothing was deleted.
pub async fn delete(
    db: &impl Database,
    id: &EnvironmentId,
    expected: Option<i64>,
    now: UnixMillis,
    entry: &Entry,
) -> Result<bool, DbError> {
    let mut batch: Vec<Statement> = vec![(
        "DELETE FROM environments WHERE id = ?1 AND (?2 IS NULL OR version = ?2)",
        params![id.as_str(), expected],
    )];
    batch.extend(secrets::delete_with_environment(id));
    batch.push(end_with_environment(id, now));
    Ok(db.batch(entry.behind_the_first(batch)).await?.first().is_some_and(|deleted| *deleted > 0))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::store::audit_log::tests::{about_a, told};
    use crate::store::native::Native;
    use futures_executor::block_on;

    pub fn environment(byte: u8) -> Environment {
        Environment {
            id: EnvironmentId::from_bytes([byte; 16]),
            name: format!("Full stack {byte}"),
            description: None,
            prebuild_enabled: false,
            created_at: UnixMillis(i64::from(byte / 2)),
            updated_at: UnixMillis(i64::from(byte / 2)),
            channel_associations: Some(vec!["C1".to_owned()]),
            repositories: ["app", "handbook"].map(repository).to_vec(),
            version: 1,
        }
    }

    fn repository(name: &str) -> EnvironmentRepository {
        EnvironmentRepository {
            repo_owner: "acme".to_owned(),
            repo_name: name.to_owned(),
            repo_id: Some(7),
            base_branch: "main".to_owned(),
        }
    }

    fn add(db: &Native, byte: u8) -> Environment {
        assert_eq!(
            block_on(insert(db, &environment(byte), &format!("add{byte}"), &about_a("environment.create"))),
            Ok(true)
        );
        environment(byte)
    }

    fn stored(db: &Native, byte: u8) -> Option<Environment> {
        block_on(get(db, &environment(byte).id)).expect("runs")
    }

    #[test]
    fn one_is_stored_whole_and_a_name_is_used_once_whatever_its_case() {
        let db = Native::new();
        assert_eq!(Some(add(&db, 1)), stored(&db, 1));
        let same = Environment { name: "FULL STACK 1".to_owned(), ..environment(2) };
        assert_eq!(block_on(insert(&db, &same, "m2", &about_a("environment.create"))), Ok(false));
        assert_eq!(stored(&db, 2), None, "and nothing of it is left");
        assert_eq!(told(&db), ["environment.create A"], "nor is it told");
        let umlaut = Environment { name: "Ärger".to_owned(), ..environment(2) };
        assert_eq!(block_on(insert(&db, &umlaut, "m3", &about_a("environment.create"))), Ok(true));
        let umlaut = Environment { name: "äRGER".to_owned(), ..environment(3) };
        assert_eq!(block_on(insert(&db, &umlaut, "m4", &about_a("environment.create"))), Ok(false));
    }

    #[test]
    fn a_change_is_made_whole_or_not_at_all() {
        let db = Native::new();
        let (one, _) = (add(&db, 1), add(&db, 2));
        let next = Environment {
            name: "Renamed".to_owned(),
            repositories: vec![repository("other")],
            channel_associations: None,
            version: 2,
            updated_at: UnixMillis(9),
            ..one.clone()
        };
        assert_eq!(block_on(update(&db, &next, "u1", &about_a("environment.update"))), Ok(Update::Done));
        assert_eq!(stored(&db, 1), Some(next.clone()));
        let stale = Environment { name: "Stale".to_owned(), repositories: vec![], ..next.clone() };
        assert_eq!(block_on(update(&db, &stale, "u2", &about_a("environment.update"))), Ok(Update::Conflict));
        let taken = Environment { name: "full stack 2".to_owned(), repositories: vec![], version: 3, ..next.clone() };
        assert_eq!(block_on(update(&db, &taken, "u3", &about_a("environment.update"))), Ok(Update::NameTaken));
        assert_eq!(stored(&db, 1), Some(next.clone()));
        let own = Environment { name: "RENAMED".to_owned(), version: 3, ..next };
        assert_eq!(
            block_on(update(&db, &own, "u4", &about_a("environment.update"))),
            Ok(Update::Done),
            "its own name is free"
        );
        assert_eq!(
            block_on(update(&db, &Environment { version: 2, ..environment(5) }, "u5", &about_a("environment.update"))),
            Ok(Update::Gone)
        );
        let updates = told(&db).into_iter().filter(|told| told.starts_with("environment.update")).count();
        assert_eq!(updates, 2, "what was refused is in no entry");
    }

    #[test]
    fn one_that_somebody_else_changed_is_not_deleted_by_who_read_it_before() {
        let db = Native::new();
        let one = add(&db, 1);
        assert_eq!(block_on(delete(&db, &one.id, Some(2), UnixMillis(6), &about_a("environment.delete"))), Ok(false));
        assert_eq!(stored(&db, 1).as_ref(), Some(&one));
        assert_eq!(block_on(delete(&db, &one.id, Some(1), UnixMillis(6), &about_a("environment.delete"))), Ok(true));
        assert_eq!(block_on(delete(&db, &one.id, None, UnixMillis(6), &about_a("environment.delete"))), Ok(false));
        let members: Option<Counted> =
            block_on(db.row("SELECT COUNT(*) AS total FROM environment_repositories", vec![])).expect("runs");
        assert_eq!(members.map(|row| row.total), Some(0));
        assert_eq!(told(&db), ["environment.create A", "environment.delete A"]);
    }

    #[test]
    fn pages_have_each_once_newest_first_also_those_of_one_millisecond() {
        let db = Native::new();
        (1..=9).for_each(|byte| drop(add(&db, byte)));
        let (mut seen, mut after): (Vec<EnvironmentId>, Option<(i64, String)>) = (Vec::new(), None);
        loop {
            let from = after.as_ref().map(|(at, id)| (*at, id.as_str()));
            let (some, more) = block_on(page(&db, from, 2)).expect("runs");
            assert!(some.iter().all(|environment| environment.repositories.len() == 2));
            after = some.last().map(|last| (last.created_at.0, last.id.as_str().to_owned()));
            seen.extend(some.into_iter().map(|environment| environment.id));
            if !more {
                break;
            }
        }
        let expected: Vec<EnvironmentId> = (1..=9).rev().map(|byte| environment(byte).id).collect();
        assert_eq!((seen, block_on(count(&db))), (expected, Ok(9)));
    }

    #[test]
    fn a_list_that_cannot_be_read_is_unset() {
        let db = Native::new();
        add(&db, 1);
        block_on(db.change("UPDATE environments SET channel_associations = '{broken'", vec![])).expect("runs");
        assert_eq!(stored(&db, 1).expect("is there").channel_associations, None);
    }
}
