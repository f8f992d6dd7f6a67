//! What an older key seals is sealed anew with the current one: secrets, some each minute, those of MCP servers and the
//! commit signing key. Each is moved by a statement of its own that holds only while nobody set it: the work goes on
//! wherever it was left.

use oi_worker_kit::Failure;
use oi_worker_kit::key_ring::KeyRing;
use oi_worker_kit::log::Line;
use oi_worker_kit::vars::Vars;
use worker::Env;

use crate::secret_injection::KEY_VARIABLE;
use crate::store::{D1, commit_signing, mcp_servers, secrets};

/// Secrets of one run; a batch has a hundred statements at most.
const AT_A_TIME: i64 = 100;

/// One run.
pub async fn run(env: &Env) -> Result<(), Failure> {
    if env.get(KEY_VARIABLE).is_none() {
        return Ok(());
    }
    let (db, keys) = (D1::of(env)?, KeyRing::of(env, KEY_VARIABLE)?);
    if keys.old_ids().next().is_none() {
        return Ok(());
    }
    let servers = mcp_servers::reseal(&db, &keys).await?;
    let signing = commit_signing::reseal(&db, &keys).await?;
    if servers > 0 || signing {
        Line::info("control-plane", "settings.resealed")
            .with("key_id", keys.current_id())
            .with("mcp_servers", servers)
            .with("commit_signing", signing)
            .write();
    }
    let some = secrets::under_old_keys(&db, &keys, AT_A_TIME).await?;
    if some.is_empty() {
        return Ok(());
    }
    let done = secrets::reseal(&db, &keys, &some).await?;
    Line::info("control-plane", "secrets.resealed")
        .with("key_id", keys.current_id())
        .with("moved", done.moved)
        .with("unreadable", done.unreadable)
        .with("more", some.len() as i64 == AT_A_TIME)
        .write();
    Ok(())
}
