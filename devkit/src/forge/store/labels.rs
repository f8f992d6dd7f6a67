//! Labels of a repository and of its pull requests.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::StoreError;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    pub id: i64,
    pub name: String,
    /// Six hex digits.
    pub color: String,
    pub description: Option<String>,
}

/// Stores a label; `None` if the repository has one of that name.
pub fn insert(
    db: &Connection,
    repository: u64,
    name: &str,
    color: &str,
    description: Option<&str>,
) -> Result<Option<Label>, StoreError> {
    let added = db.execute(
        "INSERT INTO labels (repository, name, color, description) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        params![repository, name, color, description],
    )?;
    if added == 0 {
        return Ok(None);
    }
    find(db, repository, name)
}

/// A label by its name; letter case makes no difference.
pub fn find(db: &Connection, repository: u64, name: &str) -> Result<Option<Label>, StoreError> {
    Ok(db
        .query_row(
            "SELECT id, name, color, description FROM labels WHERE repository = ?1 AND name = ?2",
            params![repository, name],
            read_row,
        )
        .optional()?)
}

/// All labels of a repository, at most `limit`.
pub fn list(db: &Connection, repository: u64, limit: u64) -> Result<Vec<Label>, StoreError> {
    let mut statement =
        db.prepare("SELECT id, name, color, description FROM labels WHERE repository = ?1 ORDER BY name LIMIT ?2")?;
    let rows = statement.query_map(params![repository, limit], read_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Puts a label on a pull request; once is enough.
pub fn attach(db: &Connection, pull: i64, label: i64) -> Result<(), StoreError> {
    db.execute("INSERT INTO pull_labels (pull, label) VALUES (?1, ?2) ON CONFLICT DO NOTHING", params![pull, label])?;
    Ok(())
}

/// The labels of a pull request.
pub fn of_pull(db: &Connection, pull: i64) -> Result<Vec<Label>, StoreError> {
    let mut statement = db.prepare(
        "SELECT id, name, color, description FROM labels JOIN pull_labels ON label = id WHERE pull = ?1 ORDER BY id",
    )?;
    let rows = statement.query_map([pull], read_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<Label> {
    Ok(Label { id: row.get(0)?, name: row.get(1)?, color: row.get(2)?, description: row.get(3)? })
}
