//! Rows of pull request operations.

use oi_protocol::UnixMillis;

use crate::sql::{Columns, Sql, SqlError, params};

/// Ended operations whose answers are kept for repetitions.
const OPERATIONS_KEPT: i64 = 100;

/// One asked-for pull request, while it is open.
pub(crate) struct Operation {
    pub id: String,
    pub author_id: String,
    pub repo_owner: String,
    pub repo_name: String,
    pub head: String,
    pub base: String,
    pub title: String,
    pub body: String,
    pub draft: bool,
    pub existing_number: Option<i64>,
    pub state: String,
}

const COLUMNS: &str = "id, author_id, repo_owner, repo_name, head, base, title, body, draft, existing_number, state";

impl Operation {
    pub fn select(sql: &dyn Sql, condition: &str, values: &[crate::sql::Value]) -> Result<Vec<Self>, SqlError> {
        let statement =
            format!("SELECT {COLUMNS} FROM pull_request_operations WHERE {condition} ORDER BY created_at LIMIT 100");
        sql.run(&statement, values)?
            .into_iter()
            .map(|row| {
                let mut c = Columns::of(row);
                Ok(Self {
                    id: c.text()?,
                    author_id: c.text()?,
                    repo_owner: c.text()?,
                    repo_name: c.text()?,
                    head: c.text()?,
                    base: c.text()?,
                    title: c.text()?,
                    body: c.text()?,
                    draft: c.bool()?,
                    existing_number: c.opt_int()?,
                    state: c.text()?,
                })
            })
            .collect()
    }
}

/// When the next open operation must have ended.
pub(crate) fn next_deadline(sql: &dyn Sql) -> Result<Option<UnixMillis>, SqlError> {
    let rows =
        sql.run("SELECT MIN(deadline) FROM pull_request_operations WHERE state IN ('pushing', 'opening')", &[])?;
    rows.into_iter().next().map_or(Ok(None), |row| Ok(Columns::of(row).opt_int()?.map(UnixMillis)))
}

/// Forgets the answers of operations that ended long ago.
pub(crate) fn prune(sql: &dyn Sql) -> Result<(), SqlError> {
    sql.run(
        "DELETE FROM pull_request_operations WHERE state NOT IN ('pushing', 'opening')
            AND rowid <= (SELECT MAX(rowid) FROM pull_request_operations) - ?",
        params![OPERATIONS_KEPT],
    )?;
    Ok(())
}
