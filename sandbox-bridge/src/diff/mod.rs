//! What a session changed since it began (sandbox.md 2.6): collected after each prompt and when somebody asks, and
//! uploaded as one bundle.

mod collect;
mod fit;
mod listing;
pub mod worker;

use std::time::Duration;

use oi_protocol::UnixMillis;
use oi_protocol::diff::{self, DiffBundle, DiffRepository};
use oi_protocol::limits;
use oi_protocol::text::truncate_bytes;

use crate::git::{Checkout, Git, Workspace};

/// A whole collection takes at most this long.
const COLLECTION_LIMIT: Duration = Duration::from_secs(60);
/// What the session pinned is needed to compare with.
const NO_BASELINE: &str = "Session start baseline is unavailable";

/// Files that this runtime puts into a checkout; they are nobody's change, whatever the repository ignores.
pub const OWN_FILES: [&str; 3] = [".opencode/node_modules", ".opencode/package.json", ".opencode/package-lock.json"];

/// Collects the bundle of a workspace. The error is a sentence for people.
pub async fn bundle(
    git: &Git,
    workspace: &Workspace,
    trigger: Option<String>,
    now: UnixMillis,
) -> Result<DiffBundle, String> {
    let collected = tokio::time::timeout(COLLECTION_LIMIT, repositories(git, workspace)).await;
    let repositories =
        collected.map_err(|_| format!("The changes could not be read within {} s", COLLECTION_LIMIT.as_secs()))??;
    let whole = DiffBundle { version: diff::VERSION, trigger_message_id: trigger, captured_at: now, repositories };
    fit::within(whole, limits::DIFF_BUNDLE_MAX_BYTES)
}

async fn repositories(git: &Git, workspace: &Workspace) -> Result<Vec<DiffRepository>, String> {
    let git = collect::careful(git);
    let mut room = fit::Room::default();
    let (mut all, mut first_error) = (Vec::new(), None);
    // One after another: they share the room, and the machine is the agent's.
    for checkout in &workspace.checkouts {
        let base = checkout.base_sha.as_deref().ok_or(NO_BASELINE)?;
        match collect::repository(&git, checkout, base, &mut room).await {
            Ok(ready) => all.push(ready),
            Err(error) => {
                first_error.get_or_insert_with(|| error.clone());
                all.push(unavailable(checkout, &error));
            }
        }
    }
    match first_error {
        Some(error) if all.iter().all(|repository| matches!(repository, DiffRepository::Unavailable { .. })) => {
            Err(error)
        }
        _ => {
            room.empty_into(&mut all);
            Ok(all)
        }
    }
}

fn unavailable(checkout: &Checkout, error: &str) -> DiffRepository {
    DiffRepository::Unavailable {
        position: checkout.position,
        repo_owner: checkout.owner.clone(),
        repo_name: checkout.name.clone(),
        base_sha: checkout.base_sha.clone(),
        error: truncate_bytes(error, limits::DIFF_ERROR_MAX_UTF16).to_owned(),
        files: Vec::new(),
    }
}
