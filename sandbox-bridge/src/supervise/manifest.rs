//! The list of checkouts for other programs in the sandbox: sandbox.md, section 1.3.

use std::path::Path;

use oi_protocol::local_backend::CheckoutRepository;
use serde_json::{Value, json};

use crate::git::Workspace;

const FILE: &str = "oi-repo-manifest.json";

/// Writes it; whoever reads it sees the old one or the new one. Without it the boot goes on.
pub fn write(temporary_dir: &Path, root: &Path, repositories: &[CheckoutRepository], synced: Option<&Workspace>) {
    let path = temporary_dir.join(FILE);
    let new = path.with_extension("json.new");
    let text = content(root, repositories, synced).to_string();
    if let Err(error) = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &path)) {
        tracing::warn!(event = "boot.no_manifest", %error);
    }
}

fn content(root: &Path, repositories: &[CheckoutRepository], synced: Option<&Workspace>) -> Value {
    let entry = |repository: &CheckoutRepository| {
        let mut entry = json!({
            "owner": repository.repo_owner,
            "name": repository.repo_name,
            "branch": repository.branch,
            "path": root.join(&repository.repo_name),
        });
        let found = synced.and_then(|workspace| workspace.checkout(&repository.repo_owner, &repository.repo_name));
        let base_sha = found.and_then(|checkout| checkout.base_sha.clone()).or_else(|| repository.base_sha.clone());
        if let Some(sha) = base_sha {
            entry["baseSha"] = sha.into();
        }
        entry
    };
    json!({"repositories": repositories.iter().map(entry).collect::<Vec<_>>()})
}
