//! What is done when a sandbox is wanted: one total function of where the sandbox, its snapshot and its failures stand.

use oi_protocol::session_state::SandboxStatus;

/// Where a sandbox can come from, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The stopped one goes on.
    Parked,
    /// From the newest files that were kept.
    Snapshot,
    /// From the repositories.
    Fresh,
}

/// What counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Situation {
    pub status: SandboxStatus,
    /// The session may still be prompted.
    pub promptable: bool,
    /// The stopped one is not known to have stopped at the backend.
    pub parking: bool,
    /// A stopped sandbox waits to go on.
    pub parked: bool,
    /// Files of an earlier one can be restored.
    pub restorable: bool,
    /// A failed start is tried again later.
    pub backing_off: bool,
    /// Too many starts failed.
    pub breaker_open: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nobody may have one.
    Never,
    /// One is there, or is waited for.
    Rely,
    /// One comes.
    Expect,
    /// A deadline will ask again.
    Wait,
    /// It is refused until the breaker closes.
    Refuse,
    /// Start one.
    Start(Source),
}

pub(crate) const fn plan(now: Situation) -> Step {
    if !now.promptable {
        return Step::Never;
    }
    match now.status {
        SandboxStatus::Spawning | SandboxStatus::Connecting => Step::Expect,
        // It is there, or its socket is lost and it is waited for before anything is discarded.
        SandboxStatus::Ready
        | SandboxStatus::Running
        | SandboxStatus::Warming
        | SandboxStatus::Syncing
        | SandboxStatus::Snapshotting => Step::Rely,
        // A stop that comes late would end what went on.
        _ if now.backing_off || (now.parked && now.parking) => Step::Wait,
        _ if now.breaker_open => Step::Refuse,
        SandboxStatus::Pending | SandboxStatus::Stale | SandboxStatus::Stopped | SandboxStatus::Failed => {
            Step::Start(if now.parked {
                Source::Parked
            } else if now.restorable {
                Source::Snapshot
            } else {
                Source::Fresh
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUSES: [SandboxStatus; 11] = [
        SandboxStatus::Pending,
        SandboxStatus::Spawning,
        SandboxStatus::Connecting,
        SandboxStatus::Warming,
        SandboxStatus::Syncing,
        SandboxStatus::Ready,
        SandboxStatus::Running,
        SandboxStatus::Stale,
        SandboxStatus::Snapshotting,
        SandboxStatus::Stopped,
        SandboxStatus::Failed,
    ];

    fn all() -> impl Iterator<Item = Situation> {
        STATUSES.into_iter().flat_map(|status| {
            (0..64_u8).map(move |bits| Situation {
                status,
                promptable: bits & 1 > 0,
                parking: bits & 2 > 0,
                parked: bits & 4 > 0,
                restorable: bits & 8 > 0,
                backing_off: bits & 16 > 0,
                breaker_open: bits & 32 > 0,
            })
        })
    }

    #[test]
    fn a_start_happens_only_where_nothing_lives_and_nothing_forbids_it() {
        for now in all() {
            let may = now.promptable
                && (now.status.is_dead() || now.status == SandboxStatus::Pending)
                && !(now.parked && now.parking)
                && !now.backing_off
                && !now.breaker_open;
            assert_eq!(matches!(plan(now), Step::Start(_)), may, "{now:?}");
        }
    }

    #[test]
    fn work_that_was_kept_is_never_passed_over() {
        for now in all() {
            match plan(now) {
                Step::Start(Source::Fresh) => assert!(!now.parked && !now.restorable, "{now:?}"),
                Step::Start(Source::Snapshot) => assert!(!now.parked && now.restorable, "{now:?}"),
                Step::Start(Source::Parked) => assert!(now.parked, "{now:?}"),
                _ => {}
            }
        }
    }

    #[test]
    fn a_session_that_ended_never_gets_a_sandbox() {
        assert!(all().filter(|now| !now.promptable).all(|now| plan(now) == Step::Never));
    }
}
