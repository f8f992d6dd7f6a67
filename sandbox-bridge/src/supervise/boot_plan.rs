//! What a boot does, by what the sandbox begins with: the table of sandbox.md, section 1.2.

use oi_protocol::local_backend::BootFrom;

use crate::git::sync::SyncPlan;

/// What a failure does to the boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// It ends.
    Fatal,
    /// It goes on, and people are told.
    Warned,
}

/// What a boot does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootPlan {
    /// `OPENINSPECT_BOOT_MODE`
    pub mode: &'static str,
    /// Whether another sandbox's tunnels are forgotten even where this one expects none.
    pub always_removes_tunnels: bool,
    /// Checkouts.
    pub sync: SyncPlan,
    /// Whether the files are a workspace already: then the agent may read while git still works.
    pub has_files: bool,
    /// Whether `.openinspect/setup.sh` runs, and what its failure does.
    pub setup: Option<OnFailure>,
    /// Whether a session follows: tunnels, `.openinspect/start.sh`, skills, the agent and the bridge.
    pub serves_session: bool,
}

impl BootPlan {
    /// For what a sandbox begins with.
    pub const fn of(boot: &BootFrom) -> Self {
        let mode = boot.name();
        match boot {
            BootFrom::Build(_) => Self {
                mode,
                always_removes_tunnels: false,
                sync: SyncPlan { is_fatal: true, moves_head: true, takes_baseline: true, marks_baseline: false },
                has_files: false,
                setup: Some(OnFailure::Fatal),
                serves_session: false,
            },
            BootFrom::Fresh => Self {
                mode,
                always_removes_tunnels: false,
                sync: SyncPlan { is_fatal: true, moves_head: true, takes_baseline: true, marks_baseline: true },
                has_files: false,
                setup: Some(OnFailure::Warned),
                serves_session: true,
            },
            BootFrom::RepoImage { .. } => Self {
                mode,
                always_removes_tunnels: false,
                sync: SyncPlan { is_fatal: false, moves_head: true, takes_baseline: true, marks_baseline: true },
                has_files: true,
                setup: None,
                serves_session: true,
            },
            BootFrom::SnapshotRestore { .. } => Self {
                mode,
                always_removes_tunnels: true,
                sync: SyncPlan { is_fatal: false, moves_head: false, takes_baseline: false, marks_baseline: false },
                has_files: true,
                setup: None,
                serves_session: true,
            },
        }
    }

    /// The same for a supervisor that starts again where a session works already: nothing of it is moved, and what the
    /// forge does not give is no reason to end.
    #[must_use]
    pub const fn again(mut self) -> Self {
        self.sync.is_fatal = false;
        self.sync.moves_head = false;
        self.has_files = true;
        self
    }
}

/// What a failed `.openinspect/start.sh` does: the primary repository's ends the boot.
pub const fn on_start_failure(position: u32) -> OnFailure {
    if position == 0 { OnFailure::Fatal } else { OnFailure::Warned }
}

#[cfg(test)]
mod tests {
    use super::OnFailure::{Fatal, Warned};
    use super::*;

    /// Mode, tunnels always, fatal sync, checkout, baseline, setup, session.
    type Row = (&'static str, bool, bool, bool, bool, Option<OnFailure>, bool);

    #[test]
    fn each_mode_does_what_the_table_says() {
        let build = serde_json::json!({"mode": "build", "buildId": "b", "callbackUrl": "u", "failureCallbackUrl": "u",
            "callbackToken": "t", "providerSessionId": "p"});
        let build: BootFrom = serde_json::from_value(build).expect("a build");
        let image = BootFrom::RepoImage { image_id: None, sha: None };
        let restore = BootFrom::SnapshotRestore { image_id: None };
        let table: [(BootFrom, Row); 4] = [
            (build, ("build", false, true, true, true, Some(Fatal), false)),
            (BootFrom::Fresh, ("fresh", false, true, true, true, Some(Warned), true)),
            (image, ("repo_image", false, false, true, true, None, true)),
            (restore, ("snapshot_restore", true, false, false, false, None, true)),
        ];
        for (boot, row) in table {
            let plan = BootPlan::of(&boot);
            let found = (
                plan.mode,
                plan.always_removes_tunnels,
                plan.sync.is_fatal,
                plan.sync.moves_head,
                plan.sync.takes_baseline,
                plan.setup,
                plan.serves_session,
            );
            assert_eq!(found, row);
        }
    }

    #[test]
    fn only_the_primary_repositorys_start_ends_the_boot() {
        assert_eq!((on_start_failure(0), on_start_failure(1)), (Fatal, Warned));
    }

    #[test]
    fn a_start_again_moves_nothing_and_forgives() {
        let again = BootPlan::of(&BootFrom::Fresh).again();
        assert!(again.has_files && !again.sync.is_fatal && !again.sync.moves_head && again.sync.takes_baseline);
        assert_eq!(again.setup, Some(Warned), "a setup that was interrupted is made up for");
    }
}
