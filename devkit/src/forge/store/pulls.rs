//! Pull requests.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{StoreError, now};
use crate::forge::names::{BranchName, Sha};

/// A stored pull request. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pull {
    pub id: i64,
    pub repository: u64,
    pub number: u64,
    pub title: String,
    pub body: Option<String>,
    pub author: u64,
    pub head_ref: BranchName,
    pub base_ref: BranchName,
    /// Follows the head branch while the pull request is open.
    pub head_sha: Sha,
    /// Where the base branch was when the pull request was opened or its base changed.
    pub base_sha: Sha,
    pub open: bool,
    pub draft: bool,
    pub merge_commit: Option<Sha>,
    pub merged_by: Option<u64>,
    pub created_at: i64,
    pub updated_at: i64,
    pub closed_at: Option<i64>,
    pub merged_at: Option<i64>,
}

/// What a new pull request is made from.
pub struct NewPull<'a> {
    pub repository: u64,
    pub title: &'a str,
    pub body: Option<&'a str>,
    pub author: u64,
    pub head_ref: &'a BranchName,
    pub base_ref: &'a BranchName,
    pub head_sha: &'a Sha,
    pub base_sha: &'a Sha,
    pub draft: bool,
}

/// Which pull requests a list holds.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub open: Option<bool>,
    pub head: Option<String>,
    pub base: Option<String>,
    pub by_update: bool,
    pub ascending: bool,
}

const COLUMNS: &str =
    "id, repository, number, title, body, author, head_ref, base_ref, head_sha, base_sha, open, draft,
    merge_commit, merged_by, created_at, updated_at, closed_at, merged_at";

/// Stores a pull request under the repository's next number; `None` if one is open for the same two branches.
pub fn insert(db: &Connection, new: &NewPull<'_>) -> Result<Option<Pull>, StoreError> {
    let taken: bool = db.query_row(
        "SELECT EXISTS (SELECT 1 FROM pulls WHERE repository = ?1 AND head_ref = ?2 AND base_ref = ?3 AND open)",
        params![new.repository, new.head_ref.as_str(), new.base_ref.as_str()],
        |row| row.get(0),
    )?;
    if taken {
        return Ok(None);
    }
    let number: u64 = db.query_row(
        "SELECT COALESCE(MAX(number), 0) + 1 FROM pulls WHERE repository = ?1",
        [new.repository],
        |row| row.get(0),
    )?;
    db.execute(
        "INSERT INTO pulls (repository, number, title, body, author, head_ref, base_ref, head_sha, base_sha, open, draft,
            created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 1, ?10, ?11, ?11)",
        params![
            new.repository,
            number,
            new.title,
            new.body,
            new.author,
            new.head_ref.as_str(),
            new.base_ref.as_str(),
            new.head_sha.as_str(),
            new.base_sha.as_str(),
            new.draft,
            now(),
        ],
    )?;
    find(db, new.repository, number)
}

/// Writes back what can change.
pub fn update(db: &Connection, pull: &Pull) -> Result<(), StoreError> {
    db.execute(
        "UPDATE pulls SET title = ?2, body = ?3, base_ref = ?4, head_sha = ?5, base_sha = ?6, open = ?7, draft = ?8,
            merge_commit = ?9, merged_by = ?10, updated_at = ?11, closed_at = ?12, merged_at = ?13
         WHERE id = ?1",
        params![
            pull.id,
            pull.title,
            pull.body,
            pull.base_ref.as_str(),
            pull.head_sha.as_str(),
            pull.base_sha.as_str(),
            pull.open,
            pull.draft,
            pull.merge_commit.as_ref().map(Sha::as_str),
            pull.merged_by,
            pull.updated_at,
            pull.closed_at,
            pull.merged_at,
        ],
    )?;
    Ok(())
}

pub fn find(db: &Connection, repository: u64, number: u64) -> Result<Option<Pull>, StoreError> {
    Ok(db
        .query_row(
            &format!("SELECT {COLUMNS} FROM pulls WHERE repository = ?1 AND number = ?2"),
            params![repository, number],
            read_row,
        )
        .optional()?)
}

/// One page of a repository's pull requests, and how many there are in all.
pub fn list(
    db: &Connection,
    repository: u64,
    filter: &Filter,
    (offset, limit): (u64, u64),
) -> Result<(Vec<Pull>, u64), StoreError> {
    const WHERE: &str = "repository = ?1 AND (?2 IS NULL OR open = ?2) AND (?3 IS NULL OR head_ref = ?3)
        AND (?4 IS NULL OR base_ref = ?4)";
    let total = db.query_row(
        &format!("SELECT COUNT(*) FROM pulls WHERE {WHERE}"),
        params![repository, filter.open, filter.head, filter.base],
        |row| row.get(0),
    )?;
    let column = if filter.by_update { "updated_at" } else { "created_at" };
    let direction = if filter.ascending { "ASC" } else { "DESC" };
    let mut statement = db.prepare(&format!(
        "SELECT {COLUMNS} FROM pulls WHERE {WHERE} ORDER BY {column} {direction}, id {direction} LIMIT ?5 OFFSET ?6"
    ))?;
    let rows =
        statement.query_map(params![repository, filter.open, filter.head, filter.base, limit, offset], read_row)?;
    Ok((rows.collect::<Result<_, _>>()?, total))
}

/// The open pull requests from this branch.
pub fn open_from(db: &Connection, repository: u64, head: &BranchName) -> Result<Vec<Pull>, StoreError> {
    open_where(db, repository, "head_ref", head)
}

/// The open pull requests into this branch.
pub fn open_into(db: &Connection, repository: u64, base: &BranchName) -> Result<Vec<Pull>, StoreError> {
    open_where(db, repository, "base_ref", base)
}

fn open_where(
    db: &Connection,
    repository: u64,
    column: &'static str,
    branch: &BranchName,
) -> Result<Vec<Pull>, StoreError> {
    let mut statement = db.prepare(&format!(
        "SELECT {COLUMNS} FROM pulls WHERE repository = ?1 AND {column} = ?2 AND open ORDER BY id"
    ))?;
    let rows = statement.query_map(params![repository, branch.as_str()], read_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Forgets a repository's pull requests, labels and comments.
pub fn delete_all(db: &Connection, repository: u64) -> Result<(), StoreError> {
    for sql in [
        "DELETE FROM comments WHERE pull IN (SELECT id FROM pulls WHERE repository = ?1)",
        "DELETE FROM pull_labels WHERE pull IN (SELECT id FROM pulls WHERE repository = ?1)",
        "DELETE FROM labels WHERE repository = ?1",
        "DELETE FROM pulls WHERE repository = ?1",
    ] {
        db.execute(sql, [repository])?;
    }
    Ok(())
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<Pull> {
    let name = |index: usize| -> rusqlite::Result<BranchName> {
        BranchName::parse(&row.get::<_, String>(index)?).ok_or_else(|| invalid(index, "a branch name"))
    };
    let sha = |index: usize| -> rusqlite::Result<Sha> {
        Sha::parse(&row.get::<_, String>(index)?).ok_or_else(|| invalid(index, "an object id"))
    };
    Ok(Pull {
        id: row.get(0)?,
        repository: row.get(1)?,
        number: row.get(2)?,
        title: row.get(3)?,
        body: row.get(4)?,
        author: row.get(5)?,
        head_ref: name(6)?,
        base_ref: name(7)?,
        head_sha: sha(8)?,
        base_sha: sha(9)?,
        open: row.get(10)?,
        draft: row.get(11)?,
        merge_commit: match row.get::<_, Option<String>>(12)? {
            Some(text) => Some(Sha::parse(&text).ok_or_else(|| invalid(12, "an object id"))?),
            None => None,
        },
        merged_by: row.get(13)?,
        created_at: row.get(14)?,
        updated_at: row.get(15)?,
        closed_at: row.get(16)?,
        merged_at: row.get(17)?,
    })
}

fn invalid(column: usize, what: &str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, format!("not {what}").into())
}
