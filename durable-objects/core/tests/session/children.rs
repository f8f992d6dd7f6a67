//! Parents and children.

use oi_protocol::session_state::{PromptSource, SessionStatus};
use oi_protocol::{MessageId, SessionId};
use oi_session::call::{CallReply, EnqueuePrompt, Principal, SessionCall};
use oi_session::child_summary::SummaryQuery;
use oi_session::children::OfferResult;
use oi_session::family::ChildOf;
use oi_session::job::{Job, JobResult};
use serde_json::{Value, json};

use crate::support::session::{Sandbox, Session, complete, delta, done, init, person, ready, tool, value};

fn parent_id() -> SessionId {
    SessionId::from_bytes([0x77; 16])
}

fn new_child(notify_parent: bool) -> Session {
    let mut s = Session::blank(9);
    let mut new = init(false);
    new.child_of = Some(ChildOf { parent_session_id: parent_id(), spawn_depth: 1, notify_parent });
    s.call_as(Principal::Platform, SessionCall::Init(Box::new(new)));
    s
}

/// A child whose first prompt runs on its bridge.
fn child(notify_parent: bool) -> (Session, oi_session::input::SocketId, MessageId) {
    let mut s = new_child(notify_parent);
    let id = agent_prompt(&mut s, "do a part", Some("spawn"));
    let bridge = s.connect(2);
    s.frame(bridge, 1, ready());
    (s, bridge, id)
}

fn agent_prompt(s: &mut Session, content: &str, key: Option<&str>) -> MessageId {
    let reply = s.call_as(
        Principal::Platform,
        SessionCall::Prompt(Box::new(EnqueuePrompt {
            author: person("Grace"),
            content: content.to_owned(),
            source: PromptSource::Agent,
            model: None,
            reasoning_effort: None,
            attachments: Vec::new(),
            idempotency_key: key.map(str::to_owned),
            callback_context: None,
        })),
    );
    assert_eq!(reply.status, 200, "{}", reply.body);
    MessageId::parse(value(&reply.body)["messageId"].as_str().expect("an id")).expect("minted")
}

fn offers(s: &mut Session) -> Vec<OfferResult> {
    let take = |claimed: oi_session::job::ClaimedJob| match claimed.job {
        Job::OfferResult(offer) => *offer,
        other => panic!("not an offer: {other:?}"),
    };
    s.take_jobs("offer_result").into_iter().map(take).collect()
}

fn told(s: &mut Session) -> Vec<SessionStatus> {
    let jobs = s.take_jobs("tell_parent");
    let statuses = jobs.iter().map(|claimed| match &claimed.job {
        Job::TellParent(notice) => notice.status,
        other => panic!("not a notice: {other:?}"),
    });
    let statuses = statuses.collect();
    for job in &jobs {
        s.host.report(job, JobResult::Done);
    }
    statuses
}

fn sandbox_call(s: &mut Session, sandbox: &Sandbox, call: SessionCall) -> CallReply {
    s.call_as(Principal::Sandbox { token: sandbox.token.clone() }, call)
}

#[test]
fn a_childs_result_reaches_its_parents_agent_once_as_a_prompt_of_who_prompted() {
    let (mut s, bridge, id) = child(true);
    s.frame(bridge, 2, delta(&id, "p", 0, "All"));
    s.frame(bridge, 3, done(&id, "p", Some("All done."), 9));
    s.frame(bridge, 4, complete(&id, true));
    s.frame(bridge, 4, complete(&id, true));
    let offered = offers(&mut s);
    assert_eq!(offered.len(), 1);
    let prompt = offered[0].prompt();
    assert_eq!(prompt.author.user_id, "user-Grace");
    assert!(prompt.content.contains("completed") && prompt.content.contains("All done."), "{}", prompt.content);

    // At the parent: taken once, however often it is delivered.
    let (mut parent, page, _) = Session::with_bridge();
    let first = parent.call_as(Principal::Platform, SessionCall::Prompt(Box::new(prompt.clone())));
    let again = parent.call_as(Principal::Platform, SessionCall::Prompt(Box::new(prompt)));
    assert_eq!((first.status, &first.body), (200, &again.body));
    assert_eq!(parent.count("SELECT COUNT(*) FROM messages WHERE source = 'agent'"), 1);
    let shown = parent.take(page);
    assert!(
        shown
            .iter()
            .any(|frame| frame["event"]["type"] == "user_message" && frame["event"]["author"]["name"] == "Grace")
    );
}

#[test]
fn a_child_that_nobody_waits_for_or_that_was_cancelled_offers_nothing() {
    let (mut s, bridge, id) = child(false);
    s.frame(bridge, 2, complete(&id, true));
    assert!(offers(&mut s).is_empty());
    let (mut s, _, _) = child(true);
    assert_eq!(s.call(SessionCall::Cancel).status, 200);
    assert!(offers(&mut s).is_empty());
    // What a person asks of a child is between the two.
    let (mut s, bridge, id) = child(true);
    s.frame(bridge, 2, complete(&id, true));
    assert_eq!(offers(&mut s).len(), 1);
    let reply = s.rest_prompt("and by me", None);
    let id = MessageId::parse(value(&reply.body)["messageId"].as_str().expect("an id")).expect("minted");
    s.frame(bridge, 3, complete(&id, true));
    assert!(offers(&mut s).is_empty());
}

#[test]
fn a_parent_is_told_of_every_state_of_its_child() {
    let mut s = new_child(true);
    assert_eq!(told(&mut s), [SessionStatus::Created]);
    let id = agent_prompt(&mut s, "do a part", Some("spawn"));
    assert_eq!(told(&mut s), [SessionStatus::Active]);
    let bridge = s.connect(2);
    s.frame(bridge, 1, ready());
    s.frame(bridge, 2, complete(&id, true));
    assert_eq!(told(&mut s), [SessionStatus::Completed]);
    s.call(SessionCall::UpdateTitle { title: "Named".to_owned() });
    assert_eq!(told(&mut s).len(), 1);
    let (mut parent, page, _) = Session::with_bridge();
    let call = SessionCall::ChildChanged {
        child_session_id: parent_id(),
        status: SessionStatus::Completed,
        title: Some("Named".to_owned()),
    };
    assert_eq!(parent.call_as(Principal::Platform, call).status, 200);
    let frames = parent.take_of(page, "child_session_update");
    assert_eq!(frames[0]["title"], "Named");
    // A session without a parent tells none.
    assert!(told(&mut parent).is_empty());
}

#[test]
fn a_sandbox_spawns_only_while_a_prompt_runs_and_for_who_prompted() {
    let (mut s, page, bridge) = Session::with_bridge();
    let sandbox = s.sandbox();
    let idle = sandbox_call(&mut s, &sandbox, SessionCall::SpawnContext);
    let sentence = "No active prompt found. Child operations must be triggered by an active prompt.";
    assert_eq!((idle.status, value(&idle.body)["error"].clone()), (400, json!(sentence)));
    let reply = s.rest_prompt("by Grace", None);
    let id = MessageId::parse(value(&reply.body)["messageId"].as_str().expect("an id")).expect("minted");
    let context = value(&sandbox_call(&mut s, &sandbox, SessionCall::SpawnContext).body);
    assert_eq!(context["promptAuthor"]["userId"], "user-Grace", "not the owner");
    assert_eq!((&context["repoOwner"], &context["baseBranch"]), (&json!("acme"), &json!("main")));
    s.frame(bridge, 2, complete(&id, true));
    assert_eq!(sandbox_call(&mut s, &sandbox, SessionCall::SpawnContext).status, 400);
    let _ = page;
}

#[test]
fn a_token_of_another_session_or_of_a_sandbox_that_is_gone_is_refused() {
    let (mut s, _, _) = Session::with_bridge();
    let mine = s.sandbox();
    let (mut other, _, _) = child(true);
    let foreign = other.sandbox();
    assert_eq!(sandbox_call(&mut s, &mine, SessionCall::VerifySandbox).status, 200);
    for call in [SessionCall::VerifySandbox, SessionCall::SpawnContext] {
        assert_eq!(sandbox_call(&mut s, &foreign, call).status, 401);
    }
    // A sandbox's token opens no other call, however the route asks it.
    for call in [
        SessionCall::Delete,
        SessionCall::Deliveries,
        SessionCall::ForkPage { from_sequence: 1, through_sequence: 9 },
        SessionCall::ChildSummary(SummaryQuery::default()),
        SessionCall::ParentPrompt {
            parent_session_id: parent_id(),
            content: "x".to_owned(),
            author: Box::new(person("Eve")),
        },
    ] {
        assert_eq!(sandbox_call(&mut s, &mine, call).status, 403);
    }
    s.call(SessionCall::Cancel);
    assert_eq!(sandbox_call(&mut s, &mine, SessionCall::VerifySandbox).status, 410);
}

#[test]
fn only_the_parent_prompts_a_child_and_a_full_queue_says_so() {
    let (mut s, _, _) = child(true);
    let prompt = |parent: SessionId| SessionCall::ParentPrompt {
        parent_session_id: parent,
        content: "more".to_owned(),
        author: Box::new(person("Grace")),
    };
    let wrong = s.call_as(Principal::Platform, prompt(SessionId::from_bytes([1; 16])));
    assert_eq!((wrong.status, value(&wrong.body)["error"].clone()), (404, json!("Child session not found")));
    let before = s.count("SELECT COUNT(*) FROM messages");
    assert_eq!(before, 1, "nothing was written");
    for _ in 0..9 {
        assert_eq!(s.call_as(Principal::Platform, prompt(parent_id())).status, 200);
    }
    let full = s.call_as(Principal::Platform, prompt(parent_id()));
    assert_eq!((full.status, value(&full.body)["error"].clone()), (429, json!("Child prompt queue is full")));
}

#[test]
fn a_summary_shows_state_answer_and_trajectory() {
    let (mut s, bridge, id) = child(true);
    s.frame(bridge, 2, tool(&id, "c", "completed"));
    s.frame(bridge, 3, delta(&id, "p", 0, "Yes"));
    s.frame(bridge, 4, done(&id, "p", Some("Yes."), 4));
    let plain = value(&s.call(SessionCall::ChildSummary(SummaryQuery::default())).body);
    assert_eq!((&plain["hasUnfinishedPrompt"], &plain["session"]["title"]), (&json!(true), &json!("")));
    assert!(plain.get("finalResponse").is_none() && plain.get("trajectory").is_none());
    let kinds: Vec<&Value> =
        plain["recentEvents"].as_array().expect("a list").iter().map(|event| &event["type"]).collect();
    assert!(kinds.contains(&&json!("tool_call")) && !kinds.contains(&&json!("token")), "{kinds:?}");
    s.frame(bridge, 5, complete(&id, true));
    let ask = |include: &[&str], limit: Option<&str>| {
        SessionCall::ChildSummary(SummaryQuery {
            include: include.iter().map(|word| (*word).to_owned()).collect(),
            trajectory_limit: limit.map(str::to_owned),
            trajectory_cursor: None,
        })
    };
    let whole = value(&s.call(ask(&["result", "trajectory"], Some("2"))).body);
    assert_eq!(whole["finalResponse"]["textContent"], "Yes.");
    assert_eq!(whole["finalResponse"]["messageId"], json!(id));
    assert_eq!(whole["trajectory"]["events"].as_array().map(Vec::len), Some(2));
    assert_eq!((&whole["trajectory"]["hasMore"], &whole["trajectory"]["limit"]), (&json!(true), &json!(2)));
    for (call, sentence) in [
        (ask(&["secrets"], None), "Invalid include: secrets"),
        (ask(&["trajectory"], Some("0")), "Invalid trajectoryLimit"),
        (ask(&["trajectory"], Some("x")), "Invalid trajectoryLimit"),
    ] {
        let reply = s.call(call);
        assert_eq!((reply.status, value(&reply.body)["error"].clone()), (400, json!(sentence)));
    }
    assert_eq!(s.call(ask(&["result"], Some("x"))).status, 200, "read with a trajectory only");
}

#[test]
fn a_draft_expires_once_and_one_with_messages_never() {
    let mut s = Session::new();
    let first = value(&s.call_as(Principal::Platform, SessionCall::ExpireDraft).body);
    assert_eq!(first, json!({"outcome": "archived", "status": "archived"}));
    let again = value(&s.call_as(Principal::Platform, SessionCall::ExpireDraft).body);
    assert_eq!(again, json!({"outcome": "not_draft", "status": "archived"}));
    let (mut s, _, _, id) = Session::with_run();
    let answer = value(&s.call_as(Principal::Platform, SessionCall::ExpireDraft).body);
    assert_eq!(answer, json!({"outcome": "not_draft", "status": "active"}));
    assert_eq!(s.state(&id).0, "processing");
}
