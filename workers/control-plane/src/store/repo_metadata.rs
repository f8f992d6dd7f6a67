//! `repo_metadata`: what people noted of a repository.

use oi_protocol::environments::RepositoryMetadata;
use oi_protocol::{EnvironmentId, UnixMillis};
use serde::Deserialize;

use super::audit_log::Entry;
use super::environments::{column, words};
use super::{Database, DbError, Statement, params};
use crate::source_control::RepositoryName;

/// Rows that a list of repositories is given at most.
const LISTED_MAX: i64 = 5_000;

#[derive(Deserialize)]
struct Row {
    repo_owner: String,
    repo_name: String,
    description: Option<String>,
    aliases: Option<String>,
    channel_associations: Option<String>,
    keywords: Option<String>,
    default_environment_id: Option<String>,
    version: i64,
}

const COLUMNS: &str = "repo_owner, repo_name, description, aliases, channel_associations, keywords,
    default_environment_id, version";

impl From<Row> for RepositoryMetadata {
    fn from(row: Row) -> Self {
        Self {
            description: row.description,
            aliases: words(row.aliases.as_deref()),
            channel_associations: words(row.channel_associations.as_deref()),
            keywords: words(row.keywords.as_deref()),
            default_environment_id: row.default_environment_id.and_then(|id| EnvironmentId::parse(&id).ok()),
            version: Some(row.version),
        }
    }
}

/// That of a repository.
pub async fn get(db: &impl Database, name: &RepositoryName) -> Result<Option<RepositoryMetadata>, DbError> {
    let row: Option<Row> = db
        .row(
            &format!("SELECT {COLUMNS} FROM repo_metadata WHERE repo_owner = ? AND repo_name = ?"),
            params![name.owner(), name.name()],
        )
        .await?;
    Ok(row.map(Into::into))
}

/// That of all repositories, by owner and name in lower case.
pub async fn all(db: &impl Database) -> Result<Vec<((String, String), RepositoryMetadata)>, DbError> {
    let sql = format!("SELECT {COLUMNS} FROM repo_metadata ORDER BY repo_owner, repo_name LIMIT ?");
    let rows: Vec<Row> = db.rows(&sql, params![LISTED_MAX]).await?;
    Ok(rows.into_iter().map(|row| ((row.repo_owner.clone(), row.repo_name.clone()), row.into())).collect())
}

/// Puts `next` in place of what is there, if that is at `version` (0: nothing is there) and the environment that it names
/// exists. `next.version` says nothing.
pub async fn put(
    db: &impl Database,
    name: &RepositoryName,
    next: &RepositoryMetadata,
    version: i64,
    mark: &str,
    now: UnixMillis,
    entry: &Entry,
) -> Result<bool, DbError> {
    let statement: Statement = (
        "INSERT INTO repo_metadata (repo_owner, repo_name, description, aliases, channel_associations, keywords,
            default_environment_id, version, last_write, created_at, updated_at)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 + 1, ?9, ?10, ?10
            WHERE (?8 = 0 OR EXISTS (SELECT 1 FROM repo_metadata WHERE repo_owner = ?1 AND repo_name = ?2))
                AND (?7 IS NULL OR EXISTS (SELECT 1 FROM environments WHERE id = ?7))
         ON CONFLICT (repo_owner, repo_name) DO UPDATE SET description = excluded.description,
            aliases = excluded.aliases, channel_associations = excluded.channel_associations,
            keywords = excluded.keywords, default_environment_id = excluded.default_environment_id,
            version = excluded.version, last_write = excluded.last_write, updated_at = excluded.updated_at
            WHERE repo_metadata.version = ?8",
        params![
            name.owner(),
            name.name(),
            next.description.clone(),
            column(next.aliases.as_ref()),
            column(next.channel_associations.as_ref()),
            column(next.keywords.as_ref()),
            next.default_environment_id.as_ref().map(EnvironmentId::as_str),
            version,
            mark,
            now.0,
        ],
    );
    Ok(db.batch(entry.behind_the_first(vec![statement])).await?.first() == Some(&1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::audit_log::tests::{about_a, told};
    use crate::store::environments::{self, tests::environment};
    use crate::store::native::Native;
    use futures_executor::block_on;

    fn name() -> RepositoryName {
        RepositoryName::parse("Acme", "App").expect("a name")
    }

    fn noted() -> RepositoryMetadata {
        RepositoryMetadata {
            description: Some("It greets.".to_owned()),
            aliases: Some(vec!["greeter".to_owned()]),
            default_environment_id: Some(environment(1).id),
            ..RepositoryMetadata::default()
        }
    }

    fn set(db: &Native, next: &RepositoryMetadata, version: i64) -> bool {
        let entry = about_a("repository_metadata.set");
        block_on(put(db, &name(), next, version, "m", UnixMillis(5), &entry)).expect("runs")
    }

    #[test]
    fn what_is_put_takes_the_place_of_all_that_was_there() {
        let db = Native::new();
        block_on(environments::insert(&db, &environment(1), "m", &about_a("environment.create"))).expect("runs");
        assert_eq!(block_on(get(&db, &name())), Ok(None));
        assert!(set(&db, &noted(), 0));
        assert_eq!(block_on(get(&db, &name())), Ok(Some(RepositoryMetadata { version: Some(1), ..noted() })));
        let next = RepositoryMetadata { keywords: Some(vec![]), ..RepositoryMetadata::default() };
        assert!(set(&db, &next, 1));
        let stored = block_on(get(&db, &name())).expect("runs");
        assert_eq!(stored, Some(RepositoryMetadata { version: Some(2), ..next }));
        assert_eq!(block_on(all(&db)).expect("runs")[0].0, ("acme".to_owned(), "app".to_owned()));
    }

    #[test]
    fn what_was_read_at_another_version_changes_nothing() {
        let db = Native::new();
        let plain = RepositoryMetadata { default_environment_id: None, ..noted() };
        assert!(!set(&db, &plain, 1), "there is nothing yet");
        assert!(set(&db, &plain, 0));
        assert!(!set(&db, &RepositoryMetadata::default(), 0));
        assert!(!set(&db, &RepositoryMetadata::default(), 2));
        assert_eq!(block_on(get(&db, &name())), Ok(Some(RepositoryMetadata { version: Some(1), ..plain })));
        assert_eq!(told(&db), ["repository_metadata.set A"], "what changed nothing has no entry");
    }

    #[test]
    fn an_environment_that_is_not_there_is_never_named() {
        let db = Native::new();
        assert!(!set(&db, &noted(), 0));
        block_on(environments::insert(&db, &environment(1), "m", &about_a("environment.create"))).expect("runs");
        assert!(set(&db, &noted(), 0));
        assert_eq!(
            block_on(environments::delete(
                &db,
                &environment(1).id,
                None,
                UnixMillis(6),
                &about_a("environment.delete")
            )),
            Ok(true)
        );
        let stored = block_on(get(&db, &name())).expect("runs").expect("stays");
        assert_eq!((stored.default_environment_id, stored.description), (None, noted().description));
    }
}
