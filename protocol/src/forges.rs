//! REST shapes of what the code host has: branches.

use serde::{Deserialize, Serialize};

/// A branch of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct Branch {
    /// Its name.
    pub name: String,
}

/// Answer of `GET /repos/:owner/:name/branches`: the first 500, or with `?page=` one page of at most a hundred.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct BranchList {
    /// In the code host's order.
    pub branches: Vec<Branch>,
    /// The last page that is in it, from 1, a hundred branches each.
    pub page: u32,
    /// Whether another page follows.
    pub has_more: bool,
}
