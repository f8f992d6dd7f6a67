//! What bots are told of their prompts.

use oi_protocol::MessageId;
use oi_protocol::callback::{CallbackContext, LinearContext, SlackContext};
use oi_protocol::session_state::PromptSource;
use oi_session::call::{EnqueuePrompt, Principal, SessionCall};
use oi_session::callbacks::{Bot, BotCallback, Notice};
use oi_session::job::{ClaimedJob, Job, JobResult};
use serde_json::{Value, json};

use crate::support::session::{Session, complete, person, tool, value};

fn slack() -> CallbackContext {
    CallbackContext::Slack(SlackContext {
        channel: "C1".to_owned(),
        thread_ts: "1.2".to_owned(),
        repo_full_name: "acme/sample".to_owned(),
        model: "demo/scripted".to_owned(),
        reasoning_effort: None,
        reaction_message_ts: None,
        automation_id: None,
    })
}

fn linear() -> CallbackContext {
    CallbackContext::Linear(LinearContext {
        issue_id: "i".to_owned(),
        issue_identifier: "A-1".to_owned(),
        issue_url: "https://linear/A-1".to_owned(),
        repo_full_name: None,
        model: "demo/scripted".to_owned(),
        agent_session_id: None,
        emit_tool_progress_activities: None,
        organization_id: None,
        app_user_id: None,
        transition_issue_on_start: None,
    })
}

fn prompt(s: &mut Session, source: PromptSource, context: CallbackContext) -> MessageId {
    let reply = s.call_as(
        Principal::Platform,
        SessionCall::Prompt(Box::new(EnqueuePrompt {
            author: person("Grace"),
            content: "do it".to_owned(),
            source,
            model: None,
            reasoning_effort: None,
            attachments: Vec::new(),
            idempotency_key: None,
            callback_context: Some(context),
        })),
    );
    assert_eq!(reply.status, 200, "{}", reply.body);
    MessageId::parse(value(&reply.body)["messageId"].as_str().expect("an id")).expect("a minted id")
}

fn callbacks(s: &mut Session) -> Vec<(ClaimedJob, BotCallback)> {
    s.take_jobs("bot_callback")
        .into_iter()
        .map(|claimed| match &claimed.job {
            Job::BotCallback(callback) => (claimed.clone(), (**callback).clone()),
            other => panic!("not a callback: {other:?}"),
        })
        .collect()
}

fn deliveries(s: &mut Session) -> Vec<Value> {
    let reply = s.call(SessionCall::Deliveries);
    value(&reply.body)["deliveries"].as_array().cloned().unwrap_or_default()
}

#[test]
fn a_bot_is_told_once_how_its_prompt_ended_and_nobody_else_is() {
    let (mut s, page, bridge) = Session::with_bridge();
    let plain = s.queue(page, "r", "by a person");
    s.frame(bridge, 2, json!({"type": "prompt_accepted", "messageId": plain}));
    s.frame(bridge, 3, complete(&plain, true));
    assert!(callbacks(&mut s).is_empty());
    let asked = prompt(&mut s, PromptSource::Slack, slack());
    s.frame(bridge, 4, json!({"type": "prompt_accepted", "messageId": asked}));
    s.frame(bridge, 5, complete(&asked, false));
    s.frame(bridge, 5, complete(&asked, false));
    s.frame(bridge, 6, complete(&asked, true));
    let told = callbacks(&mut s);
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].1.bot, told[0].1.idempotency_key()), (Bot::Slack, format!("complete:{asked}")));
    assert_eq!(told[0].1.notice, Notice::Complete { success: false, error: Some("Task was cancelled".to_owned()) });
}

#[test]
fn every_way_a_prompt_ends_is_told() {
    type End = fn(&mut Session);
    let ends: [(&str, End); 3] = [
        ("Execution was stopped", |s| drop(s.call(SessionCall::Stop))),
        ("Execution was cancelled", |s| drop(s.call(SessionCall::Cancel))),
        ("Execution timed out (stuck processing)", |s| s.host.advance(5_500_000)),
    ];
    for (error, end) in ends {
        let (mut s, _, _) = Session::with_bridge();
        let asked = prompt(&mut s, PromptSource::Slack, slack());
        s.host.config.inactivity_timeout_ms = i64::MAX / 4;
        if error.contains("timed out") {
            // Its bridge stays heard of.
            let bridge = s.connect(2);
            for at in 0..92 {
                s.host.advance(60_000);
                s.plain(
                    bridge,
                    &json!({"type": "heartbeat", "sandboxId": "s", "status": "ok", "timestamp": f64::from(at)}),
                );
            }
        }
        end(&mut s);
        let mut told = callbacks(&mut s);
        // Attempts that nobody answered are made again.
        told.dedup_by_key(|(claimed, _)| claimed.id);
        assert_eq!(told.len(), 1, "{error}");
        assert_eq!(told[0].1.message_id, asked);
        assert_eq!(told[0].1.notice, Notice::Complete { success: false, error: Some(error.to_owned()) });
    }
}

#[test]
fn linear_alone_is_told_of_a_start() {
    let (mut s, _, bridge) = Session::with_bridge();
    let asked = prompt(&mut s, PromptSource::Linear, linear());
    let told = callbacks(&mut s);
    assert_eq!(told.iter().map(|(_, c)| (c.bot, c.notice.clone())).collect::<Vec<_>>(), [(Bot::Linear, Notice::Start)]);
    s.frame(bridge, 2, json!({"type": "prompt_accepted", "messageId": asked}));
    s.frame(bridge, 3, complete(&asked, true));
    let _ = callbacks(&mut s);
    prompt(&mut s, PromptSource::Slack, slack());
    assert!(callbacks(&mut s).is_empty());
}

#[test]
fn tools_are_told_at_most_every_three_seconds_and_once_each() {
    let (mut s, _, bridge) = Session::with_bridge();
    let asked = prompt(&mut s, PromptSource::Slack, slack());
    s.frame(bridge, 2, tool(&asked, "one", "running"));
    s.frame(bridge, 3, tool(&asked, "two", "running"));
    let told = callbacks(&mut s);
    assert_eq!(told.len(), 1);
    assert!(
        told[0].1.unsigned().contains(r#""tool":"bash","args":{"command":"ls"},"callId":"one","status":"running""#)
    );
    s.host.report(&told[0].0, JobResult::Done);
    s.host.advance(3_000);
    s.frame(bridge, 4, tool(&asked, "one", "completed"));
    assert!(callbacks(&mut s).is_empty(), "it was told of");
    s.frame(bridge, 5, tool(&asked, "two", "completed"));
    let told = callbacks(&mut s);
    assert_eq!(told[0].1.idempotency_key(), format!("tool_call:{asked}:two"));
    // A notice that did not arrive does not count, and is not repeated either.
    s.host.report(&told[0].0, JobResult::Failed { error: "503".to_owned(), transient: true });
    s.host.advance(3_000);
    assert!(callbacks(&mut s).is_empty());
    s.frame(bridge, 6, tool(&asked, "two", "completed"));
    assert_eq!(callbacks(&mut s).len(), 1);
}

#[test]
fn a_callback_outlives_eviction_and_is_repeated_with_the_same_body_until_it_is_given_up_visibly() {
    let (mut s, _, bridge) = Session::with_bridge();
    let asked = prompt(&mut s, PromptSource::Slack, slack());
    s.frame(bridge, 2, complete(&asked, true));
    let first = callbacks(&mut s).pop().expect("a callback");
    s.host.evict();
    let mut bodies = vec![first.1.unsigned()];
    for _ in 0..300 {
        s.host.advance(5_000);
        for (claimed, callback) in callbacks(&mut s) {
            bodies.push(callback.unsigned());
            s.host.report(&claimed, JobResult::Failed { error: "the bot answered 503".to_owned(), transient: true });
        }
    }
    assert_eq!(bodies.len(), 8);
    assert!(bodies.iter().all(|body| *body == bodies[0]));
    let listed = deliveries(&mut s);
    let given_up = listed.iter().find(|row| row["kind"] == "bot_callback").expect("it is visible");
    assert_eq!((&given_up["state"], &given_up["key"]), (&json!("given_up"), &json!(format!("complete:{asked}"))));
    assert_eq!(given_up["lastError"], "the bot answered 503");
    assert!(s.host.log.iter().any(|line| line.contains("job given up: bot_callback")));
}

#[test]
fn a_bot_that_is_not_there_is_given_up_at_once() {
    let (mut s, _, bridge) = Session::with_bridge();
    let asked = prompt(&mut s, PromptSource::Slack, slack());
    s.frame(bridge, 2, complete(&asked, true));
    let (claimed, _) = callbacks(&mut s).pop().expect("a callback");
    s.host.report(&claimed, JobResult::Failed { error: "SLACK_BOT is not set".to_owned(), transient: false });
    s.host.advance(600_000);
    assert!(callbacks(&mut s).is_empty());
    assert!(deliveries(&mut s).iter().any(|row| row["state"] == "given_up"));
}

#[test]
fn a_stop_that_crosses_a_completion_is_told_to_the_bot_once() {
    for stop_first in [false, true] {
        let mut s = Session::new();
        let page = s.page("Ada", 2);
        let id = prompt(&mut s, PromptSource::Slack, slack());
        let bridge = s.connect(2);
        s.frame(bridge, 1, crate::support::session::ready());
        s.frame(bridge, 2, json!({"type": "prompt_accepted", "messageId": id}));
        if stop_first {
            s.say(page, &json!({"type": "stop"}));
            s.frame(bridge, 3, complete(&id, true));
        } else {
            s.frame(bridge, 3, complete(&id, true));
            s.say(page, &json!({"type": "stop"}));
        }
        s.frame(bridge, 4, complete(&id, false));
        let told = callbacks(&mut s);
        let ends: Vec<_> =
            told.iter().filter(|(_, callback)| matches!(callback.notice, Notice::Complete { .. })).collect();
        assert_eq!(ends.len(), 1, "{told:?}");
        assert_eq!(s.outcome(&id), if stop_first { "stopped" } else { "done" });
    }
}

#[test]
fn a_bot_is_told_when_its_prompt_fails_for_lack_of_a_sandbox() {
    let mut s = Session::new();
    let id = prompt(&mut s, PromptSource::Slack, slack());
    for _ in 0..5 {
        for start in s.take_jobs("start_sandbox") {
            s.host.report(&start, JobResult::Failed { error: "no capacity".to_owned(), transient: false });
        }
        s.host.advance(20_000);
    }
    assert_eq!(s.outcome(&id), "failed");
    let told = callbacks(&mut s);
    let keys: std::collections::BTreeSet<_> = told.iter().map(|(_, callback)| callback.idempotency_key()).collect();
    assert_eq!(keys, [format!("complete:{id}")].into(), "it is repeated until the bot has it");
    let Notice::Complete { success, error } = &told[0].1.notice else { panic!("an end: {told:?}") };
    assert!(!success && error.as_deref().is_some_and(|error| error.contains("no capacity")), "{error:?}");
    // The breaker is open: the next one is told at once.
    let refused = prompt(&mut s, PromptSource::Slack, slack());
    assert_eq!((s.outcome(&refused).as_str(), callbacks(&mut s).len()), ("failed", 1));
}
