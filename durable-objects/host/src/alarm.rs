//! The object's one alarm, and the memory timer of gathered text.

use std::rc::Rc;
use std::time::Duration;

use oi_protocol::UnixMillis;
use oi_session::input::Input;
use worker::{Delay, console_error};

use crate::{Effects, Inner, now};

/// After a fault the alarm is tried again this much later, in ms.
const RETRY_MS: i64 = 5_000;
/// A deadline that is due still after it was looked at is not looked at more often than this, in ms.
const PACE_MS: i64 = 250;

/// Arms the alarm when none is known to fire at or before `at`.
pub(crate) fn arm<E: Effects>(inner: &Rc<Inner<E>>, at: UnixMillis) {
    if inner.armed.get().is_some_and(|armed| armed <= at) {
        return;
    }
    let at = at.max(inner.alarm_floor.get());
    match inner.transactions.set_alarm(at.0) {
        Ok(()) => inner.armed.set(Some(at)),
        Err(reason) => {
            console_error!(
                "{{\"level\":\"error\",\"event\":\"session.alarm_not_set\",\"reason\":{}}}",
                crate::commit::json(&reason)
            );
        }
    }
}

/// Looks again soon, whatever was armed.
pub(crate) fn retry_soon<E: Effects>(inner: &Rc<Inner<E>>) {
    inner.armed.set(None);
    arm(inner, now().plus(RETRY_MS));
}

pub(crate) fn fired<E: Effects>(inner: &Rc<Inner<E>>) {
    inner.armed.set(None);
    inner.alarm_floor.set(now().plus(PACE_MS));
    if inner.commit(Input::Alarm).is_err() {
        retry_soon(inner);
    }
}

/// Calls the core's `tick` after some memory time; one timer at a time.
pub(crate) fn schedule_tick<E: Effects>(inner: &Rc<Inner<E>>, after_ms: i64) {
    if inner.tick_scheduled.replace(true) {
        return;
    }
    let inner = Rc::clone(inner);
    worker::wasm_bindgen_futures::spawn_local(async move {
        Delay::from(Duration::from_millis(after_ms.clamp(1, 1_000) as u64)).await;
        inner.tick_scheduled.set(false);
        let tick = match inner.core.borrow_mut().as_mut() {
            Some(core) => core.tick(now()),
            None => return,
        };
        inner.carry_out(tick.outputs);
        if tick.flush {
            inner.commit_or_rebuild(Input::FlushText);
        }
    });
}

/// Flushes the gathered frames once everything that has arrived is in: a timer fires when no frame is ready any more.
pub(crate) fn schedule_gather<E: Effects>(inner: &Rc<Inner<E>>) {
    let inner = Rc::clone(inner);
    worker::wasm_bindgen_futures::spawn_local(async move {
        Delay::from(Duration::ZERO).await;
        inner.flush_gather();
    });
}
