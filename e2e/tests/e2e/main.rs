//! Black-box tests of the whole system, one stack after another, each test with a deadline.
//!
//! Run by `cargo xtask test`, which builds everything and says where the tools are. `cargo xtask test --e2e NAME` runs
//! the tests whose names contain NAME.

mod answers;
mod archive;
mod attachments;
mod backends;
mod bad_input;
mod boot_modes;
mod browser;
mod crashes;
mod development;
mod diffs;
mod endurance;
mod family;
mod forges;
mod identity;
mod image_builds;
mod main_job;
mod routes;
mod sandbox_kills;
mod search;
mod secrets;
mod settings;
mod store;
mod terminal;
mod webhooks;

use std::future::Future;
use std::io::Write;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use e2e::backend::Backend;
use e2e::coverage::Coverage;
use e2e::stack::{Options, Stack};
use e2e::{Failed, Outcome};

/// What a test gets: a running stack, and the backend when the test plays it.
pub struct World {
    /// The stack.
    pub stack: Stack,
    /// The played backend.
    pub backend: Option<Backend>,
}

impl World {
    fn backend(&self) -> Outcome<&Backend> {
        self.backend.as_ref().ok_or_else(|| Failed("this stack has a real backend".to_owned()))
    }
}

type Test = for<'w> fn(&'w World) -> Pin<Box<dyn Future<Output = Outcome> + 'w>>;

macro_rules! tests {
    ($($module:ident :: $name:ident),* $(,)?) => {
        &[$((concat!(stringify!($module), "::", stringify!($name)), |world| Box::pin($module::$name(world)))),*]
    };
}

/// Tests on a backend that the test plays: exact, and no agent is started.
const PLAYED: &[(&str, Test)] = tests![
    bad_input::every_route_refuses_bad_input_with_a_stable_code,
    bad_input::the_client_socket_refuses_bad_frames_and_stays_open,
    bad_input::the_sandbox_socket_refuses_strangers_and_bad_frames,
    bad_input::signatures_are_checked_and_never_accepted_twice,
    bad_input::browsers_of_other_origins_are_refused,
    bad_input::people_who_are_not_allowed_cannot_sign_in,
    diffs::a_sandbox_uploads_what_changed_and_a_page_reads_it,
    family::a_childs_result_reaches_its_parents_agent_as_a_prompt,
    family::a_fork_goes_on_and_a_deleted_session_is_gone,
    answers::routes_that_nothing_else_calls_do_their_work,
    attachments::a_picture_goes_with_a_prompt_to_the_sandbox,
    attachments::files_that_cannot_go_with_a_prompt_are_refused,
    attachments::a_recording_is_stored_shown_and_played_in_ranges,
    forges::repositories_and_branches_are_listed_for_who_may_see_them,
    forges::a_name_that_would_be_another_path_is_not_found,
    forges::a_webhook_makes_the_list_be_read_anew,
    forges::a_pull_request_is_the_persons_and_the_apps_once_their_token_is_revoked,
    webhooks::a_signed_delivery_is_stored_once_and_a_forged_one_is_not,
    webhooks::a_bot_is_told_once_how_its_prompt_ended,
    crashes::a_panic_is_answered_and_the_next_call_works,
    crashes::a_panic_in_a_session_loses_nothing_acknowledged,
    crashes::killing_workerd_in_a_stream_loses_nothing_acknowledged,
    endurance::killing_workerd_at_seeded_moments_loses_and_doubles_nothing,
    endurance::a_session_sleeps_and_wakes_with_its_sockets,
    endurance::a_sleeping_session_answers_a_ping_without_waking,
    endurance::a_session_of_20_000_events_wakes_at_the_cost_of_a_short_one,
    backends::the_vendors_own_clients_get_along_with_the_stand_ins,
    backends::the_modal_app_is_of_the_packages_types,
    backends::a_sandbox_lives_at_daytona,
    backends::a_sandbox_lives_at_e2b,
    backends::a_sandbox_lives_at_vercel,
    backends::a_sandbox_lives_at_opencomputer,
    backends::a_sandbox_lives_at_modal_by_the_app_itself,
    backends::failures_of_a_cloud_are_met_by_their_class,
    image_builds::an_image_is_built_and_a_session_begins_with_it,
    image_builds::what_is_asked_of_images_is_refused_where_it_must_be,
    routes::no_route_lets_a_caller_in_without_the_right_credential,
    routes::every_route_refuses_bodies_that_do_not_fit,
    routes::every_route_says_that_nothing_has_an_unknown_name,
    routes::every_path_says_which_methods_it_takes,
    search::what_a_session_says_is_found_and_goes_with_it,
    search::a_search_is_paged_and_what_is_no_search_is_refused,
    secrets::secrets_of_each_scope_are_set_listed_and_deleted,
    secrets::secrets_of_a_member_are_imported_into_an_environment,
    secrets::environments_are_made_changed_by_one_at_a_time_and_deleted,
    secrets::what_is_noted_of_a_repository_is_listed_with_it,
    secrets::a_sandbox_gets_the_secrets_of_its_target_by_precedence,
    store::every_store_check_passes_on_the_storage_of_a_durable_object,
    store::a_store_check_that_fails_or_panics_is_seen,
];

/// Tests on a played backend, whose sessions keep few events in SQLite.
const FORGETFUL: &[(&str, Test)] = tests![archive::old_events_leave_for_the_bucket_and_are_read_and_forked_as_before,];

/// Tests on a played backend, whose control plane asks sign-in providers again every second.
const WATCHFUL: &[(&str, Test)] = tests![
    identity::a_person_signs_in_with_github_and_google_and_is_one,
    identity::an_id_token_that_proves_nothing_signs_nobody_in,
    identity::a_sign_in_ends_once_where_it_began_and_on_our_pages,
    identity::a_forged_cookie_is_nobody,
    identity::a_member_does_no_admins_acts,
    identity::a_personal_token_does_what_its_scopes_say,
    identity::answers_pages_and_sockets_keep_other_sites_out,
    identity::who_is_not_let_in_any_more_loses_session_socket_and_token,
    identity::an_account_that_google_closed_has_to_sign_in_again,
];

/// Tests on a played backend, with keys of two vendors whose sign-in is played too.
const VENDORS: &[(&str, Test)] = tests![
    settings::every_route_of_the_settings_asks_who_calls,
    settings::a_model_that_is_not_enabled_is_refused_wherever_it_is_named,
    settings::settings_of_integrations_are_layered_and_two_do_not_overwrite_each_other,
    settings::an_mcp_server_reaches_the_sandbox_and_its_secrets_nobody_else,
    settings::the_commit_signing_key_is_set_replaced_and_never_shown,
    settings::skills_are_pinned_to_a_session_and_fetched_by_its_sandbox,
    settings::a_persons_shortcuts_are_their_own,
    settings::an_account_is_connected_by_a_device_and_its_sandbox_gets_tokens,
    settings::an_account_is_connected_by_a_pasted_token_and_a_device_may_be_denied,
    settings::a_session_goes_through_the_inbox_as_it_runs_and_is_read,
];

/// Tests on the real thing: `sandbox-bridge`, OpenCode, git.
const REAL: &[(&str, Test)] = tests![
    main_job::a_prompt_becomes_a_pull_request_in_the_persons_name,
    main_job::a_follow_up_waits_for_its_turn_and_stop_stops,
    secrets::a_hook_and_the_agent_see_the_secrets_and_nobody_else_does,
    boot_modes::hooks_run_as_each_boot_mode_has_it,
    development::the_editor_of_a_sandbox_is_opened_and_changes_its_files,
    development::the_desktop_of_a_sandbox_is_opened_and_seen,
    development::the_agent_looks_at_a_page_and_shows_a_picture_of_it,
    browser::two_browsers_do_the_main_job_by_hand,
    terminal::two_people_share_a_terminal_and_a_restart_is_told,
    terminal::a_terminal_is_for_people_at_our_own_pages_where_it_is_turned_on,
    terminal::a_browser_types_in_a_terminal_at_a_desktops_and_a_phones_width,
    crashes::killing_the_bridge_in_a_run_ends_it_visibly,
    crashes::killing_the_agent_in_a_run_ends_it_visibly,
    crashes::killing_workerd_in_a_run_ends_it_visibly,
    sandbox_kills::killing_a_sandboxs_processes_at_seeded_moments_loses_and_doubles_nothing,
];

const TEST_WITHIN: Duration = Duration::from_secs(240);
/// And this for each kill that was asked for.
const KILL_WITHIN: Duration = Duration::from_secs(10);

fn time_for(name: &str) -> Duration {
    let kills = match name {
        _ if !name.ends_with("_at_seeded_moments_loses_and_doubles_nothing") => 0,
        _ if name.starts_with("sandbox_kills") => 6 * sandbox_kills::kills(),
        _ => endurance::kills(),
    };
    TEST_WITHIN + KILL_WITHIN * kills
}

#[expect(clippy::print_stdout, reason = "a test runner prints its results")]
fn say(line: &str) {
    println!("{line}");
    let _ = std::io::stdout().flush();
}

struct Tally {
    passed: usize,
    failed: Vec<String>,
}

/// Routes that no test sees succeed, and why.
const NEVER: &[(&str, &str)] = &[
    ("POST /internal/faults/panic", "it is there to fail"),
    ("POST /sessions/{id}/openai-token-refresh", "the tokens that it is for cannot be set here"),
    ("POST /sessions/{id}/xai-token-refresh", "the tokens that it is for cannot be set here"),
];

impl Tally {
    /// Each route was seen to succeed, and to refuse a caller without a right credential.
    fn every_route_was_exercised(&mut self) {
        let name = "every_route_was_seen_to_succeed_and_to_refuse";
        let coverage = match Coverage::so_far() {
            Ok(coverage) => coverage,
            Err(error) => return self.failed.push(format!("{name}: {error}")),
        };
        let (seen, all) = coverage.refusals();
        say(&format!("of {all} refusals of body, name or state in the document {seen} were seen"));
        let lacking: Vec<String> = coverage
            .missing()
            .into_iter()
            .filter(|(route, _)| NEVER.iter().all(|(known, _)| known != route))
            .map(|(route, answers)| format!("    {route}: {}", answers.join(", ")))
            .collect();
        if lacking.is_empty() {
            self.passed += 1;
            say(&format!("test {name} ... ok"));
        } else {
            self.failed.push(name.to_owned());
            say(&format!("test {name} ... FAILED\n{}", lacking.join("\n")));
        }
    }
}

async fn run_group(options: Options, backend: Option<Backend>, group: &[(&str, Test)], tally: &mut Tally) {
    if group.is_empty() {
        return;
    }
    let stack = match Stack::start(options).await {
        Ok(stack) => stack,
        Err(error) => {
            for (name, _) in group {
                say(&format!("test {name} ... FAILED\n    the stack did not start: {error}"));
                tally.failed.push((*name).to_owned());
            }
            return;
        }
    };
    let world = World { stack, backend };
    for (name, test) in group {
        let begun = Instant::now();
        let within = time_for(name);
        let result = tokio::time::timeout(within, test(&world))
            .await
            .unwrap_or_else(|_| Err(Failed(format!("not done within {within:?}"))));
        match result {
            Ok(()) => {
                tally.passed += 1;
                say(&format!("test {name} ... ok ({:.1} s)", begun.elapsed().as_secs_f64()));
            }
            Err(error) => {
                tally.failed.push((*name).to_owned());
                say(&format!("test {name} ... FAILED\n    {error}\n{}", world.stack.log_tails()));
            }
        }
    }
    if let Err(error) = world.stack.stop().await {
        tally.failed.push("the stack stops when told to".to_owned());
        say(&format!("test the stack stops when told to ... FAILED\n    {error}"));
    }
}

async fn run(filters: &[String]) -> Tally {
    let chosen = |group: &[(&'static str, Test)]| -> Vec<(&'static str, Test)> {
        group
            .iter()
            .filter(|(name, _)| filters.is_empty() || filters.iter().any(|f| name.contains(f.as_str())))
            .copied()
            .collect()
    };
    let (played, forgetful, real) = (chosen(PLAYED), chosen(FORGETFUL), chosen(REAL));
    let (watchful, vendors) = (chosen(WATCHFUL), chosen(VENDORS));
    let all = [&played, &forgetful, &watchful, &vendors, &real].map(Vec::len);
    say(&format!("running {} tests", all.iter().sum::<usize>()));
    let mut tally = Tally { passed: 0, failed: Vec::new() };
    // Sessions say what their statements cost, and a long one keeps its events in SQLite; or nearly none.
    let costs = |kept| [("COUNT_COSTS", "true"), ("EVENT_RETENTION_ROWS", kept)].to_vec();
    let often = [("ADMISSION_RECHECK_SECONDS", "1"), ("ALLOWED_EMAIL_DOMAINS", "allowed.example")].to_vec();
    for (group, vars) in [(played, costs("50000")), (forgetful, costs("100")), (watchful, often)] {
        if group.is_empty() {
            continue;
        }
        match Backend::start().await {
            Ok(backend) => {
                let options = Options {
                    bots: group.iter().any(|(name, _)| name.starts_with("webhooks")),
                    backend: Some((backend.url.clone(), backend.secret.clone())),
                    vars: vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
                    ..Options::default()
                };
                run_group(options, Some(backend), &group, &mut tally).await;
            }
            Err(error) => tally.failed.push(format!("the played backend: {error}")),
        }
    }
    if !vendors.is_empty() {
        match (Backend::start().await, settings::vars().await) {
            (Ok(backend), Ok(vars)) => {
                let options = Options {
                    backend: Some((backend.url.clone(), backend.secret.clone())),
                    vars,
                    ..Options::default()
                };
                run_group(options, Some(backend), &vendors, &mut tally).await;
            }
            (Err(error), _) | (_, Err(error)) => tally.failed.push(format!("the played vendors: {error}")),
        }
    }
    run_group(Options::default(), None, &real, &mut tally).await;
    // Of a part of the tests it would say nothing.
    if filters.is_empty() {
        tally.every_route_was_exercised();
    }
    tally
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if std::env::var_os("OI_XTASK").is_none() {
        say("running 0 tests\nThese tests need the built system: run them by `cargo xtask test`.");
        say("test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
        return ExitCode::SUCCESS;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("no runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let tally = runtime.block_on(run(&arguments));
    let verdict = if tally.failed.is_empty() { "ok" } else { "FAILED" };
    for name in &tally.failed {
        say(&format!("failed: {name}"));
    }
    say(&format!(
        "test result: {verdict}. {} passed; {} failed; 0 ignored; 0 measured; 0 filtered out",
        tally.passed,
        tally.failed.len()
    ));
    if tally.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
