//! How people reach what runs in a sandbox.

use std::collections::BTreeMap;

use oi_session::access::SandboxAccess;
use oi_session::call::{Principal, SessionCall};
use oi_session::clock::BackendTraits;
use oi_session::input::SocketId;
use oi_session::job::{Job, JobResult};
use serde_json::{Value, json};

use crate::support::session::{Sandbox, Session, ready, value};

const SEALED: &str = "c2VhbGVkLXNlY3JldHM=";

fn access() -> Box<SandboxAccess> {
    Box::new(SandboxAccess {
        code_server_url: Some("https://code.example".to_owned()),
        vnc_url: Some("https://desk.example".to_owned()),
        ttyd_url: None,
        dashboard_url: Some("https://vendor.example/1".to_owned()),
        tunnel_urls: BTreeMap::from([(3000, "https://p3000.example".to_owned())]),
        sealed: Some(SEALED.to_owned()),
    })
}

fn kinds(frames: &[Value]) -> Vec<String> {
    let shown = ["sandbox_access_changed", "tunnel_urls", "sandbox_dashboard_url"];
    let kinds = frames.iter().filter_map(|frame| frame["type"].as_str());
    kinds.filter(|kind| shown.contains(kind)).map(str::to_owned).collect()
}

fn session_of(s: &mut Session) -> Value {
    value(&s.call(SessionCall::Snapshot { dialect: 1 }).body)["session"].clone()
}

/// A page, a warm start and its job.
fn starting() -> (Session, SocketId, oi_session::job::ClaimedJob, Sandbox) {
    let mut s = Session::new();
    let page = s.page("Ada", 2);
    s.say(page, &json!({"type": "typing"}));
    let job = s.take_jobs("start_sandbox").pop().expect("a start");
    let Job::StartSandbox(start) = &job.job else { panic!("a start") };
    let sandbox = Sandbox::of(start);
    let _ = s.take(page);
    (s, page, job, sandbox)
}

fn started() -> JobResult {
    JobResult::SandboxStarted { provider_object_id: "box".to_owned(), access: Some(access()) }
}

#[test]
fn access_is_told_once_when_it_is_stored_and_the_sandbox_is_up_whichever_comes_first() {
    for bridge_first in [false, true] {
        let (mut s, page, job, sandbox) = starting();
        if bridge_first {
            s.connect_as(&sandbox, 2).expect("it may connect before its start is reported");
        } else {
            s.host.report(&job, started());
        }
        assert!(kinds(&s.take(page)).is_empty(), "half is not enough");
        assert_eq!(session_of(&mut s)["codeServerUrl"], Value::Null);
        s.host.evict();
        if bridge_first {
            s.host.report(&job, started());
        } else {
            s.connect_as(&sandbox, 2).expect("it may connect");
        }
        let frames = s.take(page);
        assert_eq!(kinds(&frames), ["sandbox_access_changed", "tunnel_urls", "sandbox_dashboard_url"]);
        let tunnels = frames.iter().find(|frame| frame["type"] == "tunnel_urls").expect("tunnels");
        assert_eq!(tunnels["urls"], json!({"3000": "https://p3000.example"}));
        s.connect_as(&sandbox, 2).expect("a second socket of the same sandbox");
        assert!(kinds(&s.take(page)).is_empty(), "a reconnect is no news");
    }
}

#[test]
fn a_snapshot_has_addresses_and_no_credentials() {
    let (mut s, page, job, sandbox) = starting();
    s.host.report(&job, started());
    let bridge = s.connect_as(&sandbox, 2).expect("it may connect");
    s.frame(bridge, 1, ready());
    let session = session_of(&mut s);
    assert_eq!(
        (&session["codeServerUrl"], &session["vncUrl"], &session["ttydUrl"], &session["sandboxDashboardUrl"]),
        (
            &json!("https://code.example"),
            &json!("https://desk.example"),
            &Value::Null,
            &json!("https://vendor.example/1")
        )
    );
    assert_eq!(session["tunnelUrls"], json!({"3000": "https://p3000.example"}));
    let (grace, subscribed) = s.subscribe("Grace", 2, None);
    let told = json!([subscribed, s.take(page), s.take(grace)]).to_string();
    assert!(!told.contains(SEALED) && !told.contains(&sandbox.token), "{told}");
    // The Worker, which can open it, is given it.
    let asked = s.call(SessionCall::SandboxAccess);
    assert_eq!((asked.status, value(&asked.body)["access"]["sealed"].clone()), (200, json!(SEALED)));
}

#[test]
fn access_ends_with_its_sandbox_and_is_never_shown_for_another() {
    let (mut s, page, job, sandbox) = starting();
    s.host.report(&job, started());
    s.connect_as(&sandbox, 2).expect("it may connect");
    let _ = s.take(page);
    s.host.advance(90_100);
    assert_eq!(s.sandbox_status(), "stale");
    assert_eq!(kinds(&s.take(page)), ["sandbox_access_changed"]);
    assert_eq!(session_of(&mut s)["codeServerUrl"], Value::Null);
    assert_eq!(s.count("SELECT COUNT(*) FROM sandbox WHERE access IS NULL AND parked_secrets IS NULL"), 1);
    s.queue(page, "next", "go on");
    let bridge = s.connect(2);
    s.frame(bridge, 1, ready());
    assert_eq!(session_of(&mut s)["codeServerUrl"], Value::Null, "the new one's backend says nothing of it");
    assert!(kinds(&s.take(page)).is_empty());
}

#[test]
fn access_is_refused_unless_the_sandbox_is_up_and_a_booting_one_may_ask_for_its_ports() {
    let mut s = Session::new();
    let refused = s.call(SessionCall::SandboxAccess);
    assert_eq!(refused.status, 409);
    assert_eq!(value(&refused.body), json!({"error": "Sandbox access is unavailable", "code": "CONFLICT"}));
    let refused = s.call(SessionCall::TunnelUrls);
    assert_eq!((refused.status, value(&refused.body)["error"].clone()), (404, json!("No sandbox")));
    let (mut s, _page, job, sandbox) = starting();
    let own = Principal::Sandbox { token: sandbox.token.clone() };
    let ports = |s: &mut Session, who: Principal| value(&s.call_as(who, SessionCall::TunnelUrls).body);
    assert_eq!(ports(&mut s, own.clone()), json!({"tunnelUrls": {}}), "not known yet");
    s.host.report(&job, started());
    assert_eq!(s.call(SessionCall::SandboxAccess).status, 409, "it boots");
    assert_eq!(ports(&mut s, Principal::Platform), json!({"tunnelUrls": {}}), "people cannot reach it yet");
    assert_eq!(ports(&mut s, own), json!({"tunnelUrls": {"3000": "https://p3000.example"}}));
    s.connect_as(&sandbox, 2).expect("it may connect");
    assert_eq!(ports(&mut s, Principal::Platform), json!({"tunnelUrls": {"3000": "https://p3000.example"}}));
    let stranger = Principal::Sandbox { token: "0".repeat(32) };
    let refused = s.call_as(stranger, SessionCall::TunnelUrls);
    assert_eq!((refused.status, value(&refused.body)["code"].clone()), (401, json!("UNAUTHORIZED")));
}

#[test]
fn a_stopped_sandbox_that_goes_on_has_its_secrets_again() {
    let (mut s, page, job, sandbox) = starting();
    s.host.config.backend = BackendTraits { resumes: true, ..BackendTraits::default() };
    s.host.report(&job, started());
    s.connect_as(&sandbox, 2).expect("it may connect");
    s.host.advance(90_100);
    assert_eq!(s.call(SessionCall::SandboxAccess).status, 409);
    s.run_jobs();
    // The backend knows the new addresses; the passwords are as they were.
    s.access = Some(Box::new(SandboxAccess {
        code_server_url: Some("https://again.example".to_owned()),
        ..SandboxAccess::default()
    }));
    s.queue(page, "next", "go on");
    s.run_jobs();
    s.connect_as(&sandbox, 2).expect("it has the token that it had");
    let asked = value(&s.call(SessionCall::SandboxAccess).body);
    assert_eq!(asked["access"]["codeServerUrl"], "https://again.example");
    assert_eq!(asked["access"]["sealed"], SEALED);
}
