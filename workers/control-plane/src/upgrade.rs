//! WebSocket upgrades: which session, whether it exists. The session itself checks who connects.

use std::cell::RefCell;
use std::collections::HashSet;

use oi_protocol::SessionId;
use oi_worker_kit::{Failure, reply};
use worker::{Env, Request, Response};

use crate::request::Head;
use crate::session_client;
use crate::store::{D1, sessions};
use crate::web_origin::WebOrigin;

/// Ids that this isolate remembers at most (some 60 KB).
const REMEMBERED_MAX: usize = 1_024;

thread_local! {
    /// Sessions that D1 had, so that a page that comes back waits for no query. One that was deleted meanwhile refuses
    /// the upgrade itself.
    static REMEMBERED: RefCell<HashSet<SessionId>> = RefCell::default();
}

/// Whether D1 has the session, or had it when this isolate last asked.
async fn exists(env: &Env, id: &SessionId) -> Result<bool, Failure> {
    if REMEMBERED.with_borrow(|known| known.contains(id)) {
        return Ok(true);
    }
    let exists = sessions::exists(&D1::of(env)?, id).await?;
    if exists {
        REMEMBERED.with_borrow_mut(|known| {
            if known.len() >= REMEMBERED_MAX {
                known.clear();
            }
            known.insert(id.clone());
        });
    }
    Ok(exists)
}

/// The id in `/sessions/:id/ws`.
fn session_of(path: &str) -> Option<&str> {
    path.strip_prefix("/sessions/")?.strip_suffix("/ws").filter(|id| !id.is_empty() && !id.contains('/'))
}

/// Answers an upgrade. Its refusals are plain text, as WebSocket clients expect. No object is made for a name that no
/// session has.
pub async fn answer(request: Request, head: &Head, env: &Env) -> Result<Response, Failure> {
    let Some(id) = session_of(&head.path) else { return reply::text(400, "Invalid WebSocket path") };
    let Ok(id) = SessionId::parse(id) else { return reply::text(404, "Session not found") };
    let (origin, site) = (head.header("Origin"), head.header("Sec-Fetch-Site"));
    if !WebOrigin::of(env)?.may_connect(origin.as_deref(), site.as_deref()) {
        return reply::text(403, "Forbidden: Wrong origin");
    }
    if !exists(env, &id).await? {
        return reply::text(404, "Session not found");
    }
    session_client::upgrade(env, &id, request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sessions_socket_path_has_an_id() {
        assert_eq!(session_of("/sessions/abc/ws"), Some("abc"));
        for bad in ["/", "/sessions/ws", "/sessions//ws", "/sessions/a/b/ws", "/sessions/a/ws/", "/api/sessions/a/ws"] {
            assert_eq!(session_of(bad), None, "{bad}");
        }
    }
}
