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

#[test]
fn it_sees_a_host_that_sends_before_the_commit() {
    finds(Bug::SendsBeforeCommit, 60, &["attempts", "mark", "view", "revision", "lost", "told", "memory", "once"]);
}

#[test]
fn it_sees_a_host_that_keeps_its_core_after_a_fault() {
    finds(Bug::KeepsCoreAfterFault, 60, &["memory", "mark", "queue", "view", "revision"]);
}

#[test]
fn it_sees_a_host_that_mixes_sandboxes_up() {
    finds(Bug::MixesSandboxesUp, 100, &["acts"]);
}

#[test]
fn it_sees_a_host_that_forgets_the_alarm() {
    finds(Bug::ForgetsTheAlarm, 60, &["rest"]);
}

#[test]
fn it_sees_a_host_that_drops_jobs() {
    finds(Bug::DropsJobs, 60, &["index", "rest", "stray", "usage", "told", "image", "search"]);
}

#[test]
fn it_sees_strays_that_are_not_stopped() {
    finds(Bug::LeavesStrays, 60, &["stray"]);
}

#[test]
fn it_sees_bots_that_are_not_told() {
    finds(Bug::DropsCallbacks, 60, &["told"]);
}

#[test]
fn it_sees_turns_that_search_does_not_know() {
    finds(Bug::DropsTurns, 60, &["search"]);
}

#[test]
fn it_sees_snapshots_that_are_not_deleted() {
    finds(Bug::KeepsImages, 100, &["image"]);
}

#[test]
fn it_sees_files_that_outlive_their_session() {
    finds(Bug::KeepsFiles, 60, &["deleted"]);
}

#[test]
fn it_sees_frames_that_are_lost() {
    finds(Bug::LosesFrames, 60, &["revision", "delta", "view"]);
}

#[test]
fn it_sees_a_prompt_that_ends_twice() {
    finds(Bug::EndsTwice, 60, &["end"]);
}

#[test]
fn it_sees_prompts_out_of_order() {
    finds(Bug::LastInFirstOut, 60, &["order"]);
}

#[test]
fn it_sees_a_cancelled_prompt_that_is_forgotten() {
    finds(Bug::ForgetsCancelled, 100, &["lost", "once", "cancelled"]);
}

#[test]
fn it_sees_a_failed_sandbox_that_is_let_in() {
    finds(Bug::KeepsTokens, 100, &["let in"]);
}

#[test]
fn it_sees_attempts_that_are_not_counted() {
    finds(Bug::ForgetsAttempts, 60, &["attempts"]);
}

#[test]
fn it_sees_starts_that_are_not_counted() {
    finds(Bug::ForgetsFailures, 100, &["starts"]);
}

#[test]
fn it_sees_frames_that_are_taken_twice() {
    finds(Bug::ForgetsTheMark, 60, &["once", "mark"]);
}

#[test]
fn it_sees_a_resume_that_misses_a_change() {
    finds(Bug::SkipsOnResume, 60, &["view"]);
}

#[test]
fn it_sees_what_dialect_1_is_not_shown() {
    finds(Bug::HidesFromDialectOne, 60, &["view"]);
}

#[test]
fn it_sees_history_with_gaps() {
    finds(Bug::SkipsHistory, 100, &["view"]);
}

#[test]
fn it_sees_a_job_that_is_given_up_silently() {
    finds(Bug::GivesUpSilently, 100, &["given up"]);
}

#[test]
fn it_sees_costs_that_are_not_written() {
    finds(Bug::ForgetsCosts, 100, &["budget", "memory"]);
}

#[test]
fn it_sees_an_answer_that_is_not_written() {
    finds(Bug::ForgetsAnswers, 60, &["answer", "memory"]);
}

#[test]
fn it_sees_a_prompt_that_runs_while_files_are_kept() {
    finds(Bug::ForgetsTaking, 100, &["kept", "memory"]);
}

#[test]
fn it_sees_a_copy_with_gaps() {
    finds(Bug::SkipsOnCopy, 60, &["copy"]);
}
