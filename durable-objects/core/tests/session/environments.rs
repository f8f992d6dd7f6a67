//! Sessions of an environment, and of several repositories.

use oi_session::call::{InitEnvironment, InitRepository, Principal, SessionCall};
use oi_session::children::SpawnContext;
use oi_session::fork::ForkPoint;
use oi_session::job::{Job, StartSandbox};
use serde_json::json;

use crate::support::session::{Session, init, value};

fn repository(name: &str, id: i64) -> InitRepository {
    InitRepository {
        repo_owner: "acme".to_owned(),
        repo_name: name.to_owned(),
        repo_id: id,
        base_branch: "main".to_owned(),
        base_sha: None,
    }
}

fn environment() -> InitEnvironment {
    InitEnvironment { id: oi_protocol::EnvironmentId::parse("env_1").expect("an id"), name: "Full stack".to_owned() }
}

fn of_environment() -> Session {
    let mut s = Session::blank(3);
    let mut new = init(true);
    new.repositories = vec![repository("web", 1), repository("api", 2)];
    new.environment = Some(environment());
    assert_eq!(s.call(SessionCall::Init(Box::new(new))).status, 200);
    s
}

fn start(s: &mut Session) -> StartSandbox {
    let claimed = s.take_jobs("start_sandbox").pop().expect("a start");
    match claimed.job {
        Job::StartSandbox(start) => start,
        other => panic!("not a start: {other:?}"),
    }
}

#[test]
fn a_sandbox_is_started_for_all_repositories_and_for_the_environment_by_its_id_alone() {
    let mut s = of_environment();
    let start = start(&mut s);
    assert_eq!(start.repositories, [repository("web", 1), repository("api", 2)]);
    assert_eq!(start.environment_id, Some(environment().id));
    let mut plain = Session::blank(4);
    plain.call(SessionCall::Init(Box::new(init(true))));
    let job = plain.take_jobs("start_sandbox").pop().expect("a start").job;
    let written = serde_json::to_value(&job).expect("JSON");
    assert!(!written.to_string().contains("environmentId"), "a job of an earlier release is read the same: {written}");
}

#[test]
fn the_environment_is_shown_as_it_was_also_after_an_eviction() {
    let mut s = of_environment();
    s.host.evict();
    let (_, subscribed) = s.subscribe("Ada", 2, None);
    let session = &subscribed["session"];
    assert_eq!((&session["environmentId"], &session["environmentName"]), (&json!("env_1"), &json!("Full stack")));
    let names: Vec<_> =
        session["repositories"].as_array().expect("a list").iter().map(|r| r["repoName"].clone()).collect();
    assert_eq!((names, &session["repoName"]), (vec![json!("web"), json!("api")], &json!("web")));
}

#[test]
fn a_child_and_a_fork_are_of_the_same_environment() {
    let mut s = of_environment();
    let page = s.page("Ada", 2);
    s.queue(page, "r", "go");
    let bridge = s.connect(2);
    s.frame(bridge, 1, json!({"type": "ready", "sandboxId": "s", "timestamp": 1.0, "runtimeVersion": "v100"}));
    let reply = s.call_as(Principal::Platform, SessionCall::SpawnContext);
    let context: SpawnContext = serde_json::from_str(&reply.body).expect("a context");
    assert_eq!((context.environment, context.repo_name.as_deref()), (Some(environment()), Some("web")));
    let reply = s.call(SessionCall::ForkPoint { event_id: None, sequence: None });
    let point: ForkPoint = serde_json::from_value(value(&reply.body)).expect("a point");
    assert_eq!((point.environment, point.repositories.len()), (Some(environment()), 2));
}
