//! Bugs that are planted, to see that the simulator finds each, by the check that it is for.

use crate::run;
use crate::support::host::Bug;

/// A planted bug is found within so many seeds; the first failure is of one of these checks.
fn finds(bug: Bug, seeds: u64, checks: &[&str]) {
    let found = (0..seeds).find_map(|seed| run(seed, Some(bug)).err().map(|error| (seed, error)));
    let Some((seed, error)) = found else { panic!("{bug:?} is not seen in {seeds} seeds") };
    let check = error.split(':').next().unwrap_or_default();
    assert!(checks.contains(&check), "{bug:?} is seen as another one at seed {seed}: {error}");
}

macro_rules! planted {
    ($($name:ident: $bug:ident within $seeds:literal by $checks:expr;)*) => {
        $(#[test]
        fn $name() {
            finds(Bug::$bug, $seeds, &$checks);
        })*
    };
}

planted! {
    it_sees_a_host_that_sends_before_the_commit: SendsBeforeCommit within 50 by ["mark", "view", "revision", "lost", "told"];
    it_sees_a_host_that_keeps_its_core_after_a_fault: KeepsCoreAfterFault within 50 by ["memory", "mark", "view", "revision"];
    it_sees_a_host_that_mixes_sandboxes_up: MixesSandboxesUp within 100 by ["acts", "let in"];
    it_sees_a_host_that_forgets_the_alarm: ForgetsTheAlarm within 50 by ["rest"];
    it_sees_a_host_that_drops_jobs: DropsJobs within 50 by ["index", "rest", "stray", "usage", "told", "image"];
    it_sees_strays_that_are_not_stopped: LeavesStrays within 50 by ["stray"];
    it_sees_bots_that_are_not_told: DropsCallbacks within 50 by ["told"];
    it_sees_snapshots_that_are_not_deleted: KeepsImages within 200 by ["image"];
    it_sees_files_that_outlive_their_session: KeepsFiles within 200 by ["deleted"];
    it_sees_frames_that_are_lost: LosesFrames within 50 by ["revision", "delta"];
    it_sees_a_prompt_that_ends_twice: EndsTwice within 50 by ["end"];
    it_sees_prompts_out_of_order: LastInFirstOut within 50 by ["order"];
    it_sees_a_cancelled_prompt_that_is_forgotten: ForgetsCancelled within 100 by ["lost", "once", "cancelled"];
    it_sees_a_failed_sandbox_that_is_let_in: KeepsTokens within 400 by ["let in"];
    it_sees_attempts_that_are_not_counted: ForgetsAttempts within 50 by ["attempts"];
    it_sees_starts_that_are_not_counted: ForgetsFailures within 400 by ["starts"];
    it_sees_frames_that_are_taken_twice: ForgetsTheMark within 50 by ["once", "mark"];
    it_sees_a_resume_that_misses_a_change: SkipsOnResume within 50 by ["view"];
    it_sees_what_dialect_1_is_not_shown: HidesFromDialectOne within 50 by ["view"];
    it_sees_history_with_gaps: SkipsHistory within 100 by ["view"];
    it_sees_a_job_that_is_given_up_silently: GivesUpSilently within 100 by ["given up"];
    it_sees_costs_that_are_not_written: ForgetsCosts within 400 by ["budget", "memory"];
    it_sees_an_answer_that_is_not_written: ForgetsAnswers within 50 by ["answer", "memory"];
    it_sees_a_prompt_that_runs_while_files_are_kept: ForgetsTaking within 200 by ["kept", "memory"];
    it_sees_a_copy_with_gaps: SkipsOnCopy within 100 by ["copy"];
}
