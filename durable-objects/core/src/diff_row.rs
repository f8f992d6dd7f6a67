//! The one diff bundle that a session keeps. The manifest is a row of its own, so that the state is read without a
//! patch; each patch is a row. None is larger than the bundle, which is below the limit of a row.

use oi_protocol::UnixMillis;
use oi_protocol::diff::{DiffBundle, DiffError, DiffManifest, DiffRepository};
use oi_protocol::limits;

use crate::sql::{Columns, Sql, SqlError, params};

/// Patches that one statement writes: two values each, of the hundred that a statement may have.
const PATCHES_A_STATEMENT: usize = 50;

/// What there is of diffs, without patches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct DiffRow {
    pub revision_id: Option<String>,
    /// JSON of the `DiffManifest`.
    pub manifest: Option<String>,
    pub error: Option<DiffError>,
}

impl DiffRow {
    pub fn load(sql: &dyn Sql) -> Result<Self, SqlError> {
        let rows = sql.run("SELECT revision_id, manifest, error, error_at FROM session_diff", &[])?;
        let Some(row) = rows.into_iter().next() else { return Ok(Self::default()) };
        let mut c = Columns::of(row);
        let (revision_id, manifest, error, error_at) = (c.opt_text()?, c.opt_text()?, c.opt_text()?, c.opt_int()?);
        let error = error.zip(error_at).map(|(message, at)| DiffError { message, occurred_at: UnixMillis(at) });
        Ok(Self { revision_id, manifest, error })
    }
}

/// The revision that is kept.
pub(crate) fn revision(sql: &dyn Sql) -> Result<Option<String>, SqlError> {
    let rows = sql.run("SELECT revision_id FROM session_diff", &[])?;
    rows.into_iter().next().map_or(Ok(None), |row| Columns::of(row).opt_text())
}

/// Puts a bundle in the place of the one before, whose failures are forgotten with it. `false`, with nothing written,
/// for one that is too large to be kept.
pub(crate) fn store(sql: &dyn Sql, revision_id: &str, bundle: DiffBundle) -> Result<bool, SqlError> {
    let DiffBundle { trigger_message_id, captured_at, mut repositories, .. } = bundle;
    let mut patches = Vec::new();
    for file in repositories.iter_mut().flat_map(DiffRepository::files_mut) {
        if let Some(patch) = file.patch.take() {
            patches.push((file.id.clone(), patch));
        }
    }
    let manifest = DiffManifest { revision_id: revision_id.to_owned(), trigger_message_id, captured_at, repositories };
    let manifest = serde_json::to_string(&manifest).map_err(|error| SqlError(error.to_string()))?;
    if manifest.len() > limits::DIFF_BUNDLE_MAX_BYTES {
        return Ok(false);
    }
    sql.run("DELETE FROM session_diff_patches", &[])?;
    sql.run(
        "INSERT OR REPLACE INTO session_diff (one, revision_id, manifest, error, error_at) VALUES (1, ?, ?, NULL, NULL)",
        params![revision_id, manifest],
    )?;
    for some in patches.chunks(PATCHES_A_STATEMENT) {
        let places = vec!["(?, ?)"; some.len()].join(", ");
        let values: Vec<_> = some.iter().flat_map(|(id, patch)| [id.as_str().into(), patch.as_str().into()]).collect();
        sql.run(&format!("INSERT INTO session_diff_patches (file_id, patch) VALUES {places}"), &values)?;
    }
    Ok(true)
}

/// Keeps why no newer bundle came; the one that is there stays.
pub(crate) fn fail(sql: &dyn Sql, error: &DiffError) -> Result<(), SqlError> {
    sql.run(
        "INSERT INTO session_diff (one, error, error_at) VALUES (1, ?1, ?2)
         ON CONFLICT (one) DO UPDATE SET error = excluded.error, error_at = excluded.error_at",
        params![error.message.as_str(), error.occurred_at.0],
    )?;
    Ok(())
}

/// A patch of the bundle that is kept.
pub(crate) fn patch(sql: &dyn Sql, file_id: &str) -> Result<Option<String>, SqlError> {
    let rows = sql.run("SELECT patch FROM session_diff_patches WHERE file_id = ?", params![file_id])?;
    rows.into_iter().next().map(|row| Columns::of(row).text()).transpose()
}
