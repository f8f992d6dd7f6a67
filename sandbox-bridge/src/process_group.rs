//! What a program started with it: its process group.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Child;

/// Kills a process group when it is dropped, unless it was let go.
#[derive(Debug)]
pub struct GroupGuard(Option<Pid>);

impl GroupGuard {
    /// Of a child that leads its group.
    pub fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| Pid::from_raw(id as i32)))
    }

    /// The leader ended in order: whatever it left behind may live.
    pub fn let_go(&mut self) {
        self.0 = None;
    }

    /// Asks the whole group to end, gives its leader a moment, and ends what is left.
    pub async fn end(mut self, child: &mut Child, grace: Duration) {
        if let Some(group) = self.0.take() {
            let _ = kill_process_group(group, Signal::TERM);
            drop(tokio::time::timeout(grace, child.wait()).await);
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for GroupGuard {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended already, which is what is wanted.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
