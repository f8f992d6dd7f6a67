//! Work at the code host that only one may do at a time, in whatever isolate: the others wait for what comes of it.

use std::time::Duration;

use oi_worker_kit::log::Line;
use oi_worker_kit::{clock, random};

use crate::store::{Database, DbError, forge_leases};

/// A lease: a call to the code host has a deadline of 20 s, and there may be a repetition.
const LEASE_MS: i64 = 45_000;
/// Who waits looks again after this.
const LOOK_AGAIN: Duration = Duration::from_millis(150);
/// Who waited this long does it all the same, in ms.
const PATIENCE_MS: i64 = 25_000;

fn log(doing: &str, error: &DbError) {
    Line::error("control-plane", "forge_lease.failed").with("doing", doing).with("error", error.to_string()).write();
}

/// What came of work: for the caller, and as others may find it.
pub struct Done<T> {
    /// For the caller.
    pub result: T,
    /// For those who wait, sealed where it is a secret.
    pub value: Option<String>,
}

/// Gives what `found` finds, or else does the work, which may find that it was done just before. A database that does
/// not answer stands in nobody's way.
pub async fn one_at_a_time<T, E>(
    db: &impl Database,
    name: &str,
    found: impl AsyncFn() -> Option<T>,
    work: impl AsyncFnOnce() -> Result<Done<T>, E>,
) -> Result<T, E> {
    let (holder, began) = (random::hex::<8>(), clock::now());
    loop {
        if let Some(found) = found().await {
            return Ok(found);
        }
        let now = clock::now();
        let taken = forge_leases::take(db, name, &holder, now.plus(LEASE_MS), now).await.unwrap_or_else(|error| {
            log("taking", &error);
            true
        });
        if taken {
            break;
        }
        if now.since(began) >= PATIENCE_MS {
            return work().await.map(|done| done.result);
        }
        clock::pause(LOOK_AGAIN).await;
    }
    let outcome = work().await;
    let value = outcome.as_ref().ok().and_then(|done| done.value.as_deref());
    if let Err(error) = forge_leases::give_back(db, name, &holder, value, clock::now()).await {
        log("giving back", &error);
    }
    outcome.map(|done| done.result)
}

/// Begins work that nobody needs to wait for: `None` when somebody does it already.
pub async fn unless_under_way<T>(db: &impl Database, name: &str, work: impl Future<Output = T>) -> Option<T> {
    let (holder, now) = (random::hex::<8>(), clock::now());
    match forge_leases::take(db, name, &holder, now.plus(LEASE_MS), now).await {
        Ok(false) => return None,
        Ok(true) => {}
        Err(error) => log("taking", &error),
    }
    let result = work.await;
    if let Err(error) = forge_leases::give_back(db, name, &holder, None, clock::now()).await {
        log("giving back", &error);
    }
    Some(result)
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use futures_executor::block_on;
    use futures_util::future::join_all;

    use super::*;
    use crate::store::native::Native;

    #[test]
    fn of_many_at_once_one_does_the_work_and_all_get_what_came_of_it() {
        let (db, result, times) = (Native::new(), RefCell::new(None::<String>), Cell::new(0));
        let ask = || {
            one_at_a_time(
                &db,
                "mint",
                async || result.borrow().clone(),
                async || {
                    times.set(times.get() + 1);
                    // The others come while it is under way.
                    for _ in 0..5 {
                        clock::pause(LOOK_AGAIN).await;
                    }
                    *result.borrow_mut() = Some("token".to_owned());
                    Ok::<_, ()>(Done { result: "token".to_owned(), value: None })
                },
            )
        };
        let all = block_on(join_all((0..8).map(|_| ask())));
        assert!(all.iter().all(|one| one.as_deref() == Ok("token")), "{all:?}");
        assert_eq!(times.get(), 1);
    }

    #[test]
    fn who_fails_gives_the_lease_back_and_the_next_one_tries() {
        let (db, times) = (Native::new(), Cell::new(0));
        let ask = || {
            one_at_a_time(
                &db,
                "mint",
                async || None::<u8>,
                async || {
                    times.set(times.get() + 1);
                    if times.get() == 1 { Err("down") } else { Ok(Done { result: 7, value: None }) }
                },
            )
        };
        assert_eq!(block_on(ask()), Err("down"));
        assert_eq!(block_on(ask()), Ok(7));
    }

    #[test]
    fn what_is_under_way_is_not_begun_again() {
        let db = Native::new();
        let inner = async { unless_under_way(&db, "list", async { 2 }).await };
        assert_eq!(block_on(unless_under_way(&db, "list", inner)), Some(None));
        assert_eq!(block_on(unless_under_way(&db, "list", async { 3 })), Some(3));
    }
}
