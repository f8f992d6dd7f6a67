//! Comments in the conversation of a pull request.

use rusqlite::{Connection, params};

use super::{StoreError, now};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    pub id: i64,
    pub author: u64,
    pub body: String,
    pub created_at: i64,
}

pub fn insert(db: &Connection, pull: i64, author: u64, body: &str) -> Result<Comment, StoreError> {
    let created_at = now();
    db.execute(
        "INSERT INTO comments (pull, author, body, created_at) VALUES (?1, ?2, ?3, ?4)",
        params![pull, author, body, created_at],
    )?;
    Ok(Comment { id: db.last_insert_rowid(), author, body: body.to_owned(), created_at })
}

/// One page of a pull request's comments, oldest first.
pub fn list(db: &Connection, pull: i64, (offset, limit): (u64, u64)) -> Result<Vec<Comment>, StoreError> {
    let mut statement =
        db.prepare("SELECT id, author, body, created_at FROM comments WHERE pull = ?1 ORDER BY id LIMIT ?2 OFFSET ?3")?;
    let rows = statement.query_map(params![pull, limit, offset], |row| {
        Ok(Comment { id: row.get(0)?, author: row.get(1)?, body: row.get(2)?, created_at: row.get(3)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub fn count(db: &Connection, pull: i64) -> Result<u64, StoreError> {
    Ok(db.query_row("SELECT COUNT(*) FROM comments WHERE pull = ?1", [pull], |row| row.get(0))?)
}
