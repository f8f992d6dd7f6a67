//! A Worker whose Durable Object runs the session's store checks on its own storage, through the host's own `Sql` and
//! transactions. Never deployed: `e2e/tests/e2e/store.rs` starts it under workerd.
//!
//! `GET /checks` names the checks, `POST /run?<name>` runs one in an object of its own and tells what came of it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use oi_session::sql::Sql;
use oi_session::store_checks::{CHECKS, PLANTED, Store, find};
use oi_session_host::storage::{StorageSql, TransactionError, TransactionalStorage};
use serde_json::json;
use worker::{Context, DurableObject, Env, Request, Response, State, durable_object, event};

#[event(fetch)]
async fn fetch(request: Request, env: Env, _context: Context) -> worker::Result<Response> {
    let url = request.inner().url();
    match (request.path().as_str(), url.split_once('?')) {
        ("/checks", _) => {
            let names = |checks: &[oi_session::store_checks::Check]| checks.iter().map(|c| c.name).collect::<Vec<_>>();
            Response::from_json(&json!({"checks": names(CHECKS), "planted": names(PLANTED)}))
        }
        ("/run", Some((_, name))) => env.durable_object("PROBE")?.get_by_name(name)?.fetch_with_request(request).await,
        _ => Response::error("Not found", 404),
    }
}

/// An object whose storage is checked.
#[durable_object]
pub struct StoreProbe {
    store: ObjectStore,
}

impl DurableObject for StoreProbe {
    fn new(state: State, _env: Env) -> Self {
        let sql = StorageSql::new(state.storage().sql(), false);
        Self { store: ObjectStore { transactions: TransactionalStorage::of(&state), sql } }
    }

    async fn fetch(&self, request: Request) -> worker::Result<Response> {
        let url = request.inner().url();
        let name = url.split_once('?').map_or("", |(_, name)| name);
        let Some(check) = find(name) else { return Response::error("No such check", 404) };
        let reason = match catch_unwind(AssertUnwindSafe(|| check.run(&self.store))) {
            Ok(Ok(())) => None,
            Ok(Err(failed)) => Some(failed.to_string()),
            Err(_) => Some("panic".to_owned()),
        };
        Response::from_json(&json!({"name": check.name, "passed": reason.is_none(), "reason": reason}))
    }
}

/// The object's storage, as the session's host uses it.
struct ObjectStore {
    transactions: TransactionalStorage,
    sql: StorageSql,
}

// What a panic may leave half done is in SQLite, which rolls it back.
impl std::panic::UnwindSafe for ObjectStore {}
impl std::panic::RefUnwindSafe for ObjectStore {}

impl Store for ObjectStore {
    fn sql(&self) -> &dyn Sql {
        &self.sql
    }

    fn transact(&self, body: &mut dyn FnMut(&dyn Sql) -> Result<(), String>) -> Result<(), String> {
        let guarded = || match catch_unwind(AssertUnwindSafe(|| body(&self.sql))) {
            Ok(result) => result,
            Err(_) => Err("panic".to_owned()),
        };
        self.transactions.run(guarded).map_err(|error| match error {
            TransactionError::Body(reason) | TransactionError::Storage(reason) => reason,
        })
    }
}
