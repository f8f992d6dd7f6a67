//! `service_nonces`: each service signature is good for one request.

use oi_protocol::UnixMillis;
use oi_worker_kit::service_signature::Service;

use super::{Database, DbError, params};

/// Records a nonce; `false` when it was used before.
pub async fn use_once(
    db: &impl Database,
    service: Service,
    nonce: &str,
    expires_at: UnixMillis,
) -> Result<bool, DbError> {
    let changed = db
        .change(
            "INSERT INTO service_nonces (service, nonce, expires_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            params![service.as_str(), nonce, expires_at.0],
        )
        .await?;
    Ok(changed == 1)
}

/// Forgets nonces whose signatures are refused for their age.
pub async fn sweep(db: &impl Database, now: UnixMillis) -> Result<u64, DbError> {
    db.change("DELETE FROM service_nonces WHERE expires_at <= ?", params![now.0]).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::native::Native;
    use futures_executor::block_on;

    #[test]
    fn a_nonce_is_accepted_once_for_each_service() {
        let db = Native::new();
        let take = |service, nonce| block_on(use_once(&db, service, nonce, UnixMillis(1000))).expect("runs");
        assert!(take(Service::Web, "aa"));
        assert!(!take(Service::Web, "aa"));
        assert!(take(Service::SlackBot, "aa"));
        assert_eq!(block_on(sweep(&db, UnixMillis(999))), Ok(0));
        assert_eq!(block_on(sweep(&db, UnixMillis(1000))), Ok(2));
    }
}
