//! Jobs run beside the inputs and report back as one.

use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};
use oi_session::input::Input;
use oi_session::job::ClaimedJob;
use worker::Delay;

use crate::{Effects, Inner};

/// Starts an attempt. Nobody awaits it; `waitUntil` only keeps the object resident while it runs.
pub(crate) fn start<E: Effects>(inner: &Rc<Inner<E>>, claimed: ClaimedJob) {
    let task = Rc::clone(inner);
    inner.state.wait_until(async move {
        let deadline = Duration::from_millis(claimed.job.attempt_deadline_ms().max(0) as u64);
        let result = {
            let run = std::pin::pin!(task.effects.run(&claimed));
            match select(run, Delay::from(deadline)).await {
                Either::Left((result, _)) => Some(result),
                Either::Right(_) => None,
            }
        };
        // Without a result the outcome is unknown: the lease ends and the next attempt looks first.
        if let Some(result) = result {
            task.commit_or_rebuild(Input::JobResult { job: claimed.id, attempt: claimed.attempt, result });
        }
    });
}
