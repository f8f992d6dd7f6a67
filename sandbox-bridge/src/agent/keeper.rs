//! Keeps the process of an agent running: started, and started again when it ends, within a budget.

use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::backoff::Backoff;
use crate::broker::peer::AgentPid;
use crate::random;
use crate::stop_signal::raised;

/// From exec until it answers; an adapter may start a runtime and another program.
pub const START_WITHIN: Duration = Duration::from_secs(60);
/// Starts within `BUDGET_WINDOW` after which it is given up.
const BUDGET: usize = 6;
const BUDGET_WINDOW: Duration = Duration::from_secs(600);

/// Where an agent is, which is spoken to by an `A`.
#[derive(Debug, Clone)]
pub enum Endpoint<A> {
    /// It starts, or starts again.
    Starting,
    /// It answers.
    Up {
        /// How to speak to it.
        agent: A,
        /// Counts the processes: another number means that what ran in it is lost.
        incarnation: u64,
    },
    /// It cannot be started.
    Failed(String),
}

/// How to start an agent.
pub trait AgentProcess: Send + Sync + 'static {
    /// What speaks to it.
    type Agent: Clone + Send + Sync + 'static;
    /// Its name in sentences for people, at their beginning.
    const NAME: &'static str;

    /// Where the number of its process is told while it runs.
    fn pid(&self) -> &AgentPid;

    /// Runs one process to its end and says why it ended. Dropping this kills it.
    fn run_once(
        &self,
        incarnation: u64,
        endpoint: &watch::Sender<Endpoint<Self::Agent>>,
    ) -> impl Future<Output = String> + Send;
}

/// Keeps an agent running until `shutdown`, and tells where it is.
pub async fn keep<P: AgentProcess>(
    process: P,
    endpoint: watch::Sender<Endpoint<P::Agent>>,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut starts = VecDeque::new();
    let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(10));
    for incarnation in 1_u64.. {
        let began = Instant::now();
        starts.push_back(began);
        while starts.front().is_some_and(|first| began.duration_since(*first) > BUDGET_WINDOW) {
            starts.pop_front();
        }
        let reason = tokio::select! {
            reason = process.run_once(incarnation, &endpoint) => reason,
            () = raised(&mut shutdown) => return,
        };
        process.pid().set(None);
        tracing::warn!(event = "agent.exit", incarnation, reason);
        if starts.len() >= BUDGET {
            let text = format!("{} ended {BUDGET} times and is not started again: {reason}", P::NAME);
            endpoint.send_replace(Endpoint::Failed(text));
            return;
        }
        endpoint.send_replace(Endpoint::Starting);
        if began.elapsed() > Duration::from_secs(60) {
            backoff.reset();
        }
        tokio::select! {
            () = sleep(backoff.next(random::unit())) => {}
            () = raised(&mut shutdown) => return,
        }
    }
}

/// Waits until the agent of a `P` is up, or will not be.
pub async fn up<P: AgentProcess>(mut endpoint: watch::Receiver<Endpoint<P::Agent>>) -> Result<(P::Agent, u64), String> {
    let settled = endpoint.wait_for(|endpoint| !matches!(endpoint, Endpoint::Starting)).await;
    match settled.as_deref() {
        Ok(Endpoint::Up { agent, incarnation }) => Ok((agent.clone(), *incarnation)),
        Ok(Endpoint::Failed(reason)) => Err(reason.clone()),
        Ok(Endpoint::Starting) | Err(_) => Err(format!("{} is not started.", P::NAME)),
    }
}
