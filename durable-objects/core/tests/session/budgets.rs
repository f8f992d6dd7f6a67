//! What the agent spends, and how much it may.

use oi_session::budgets::{Budgets, Limit};
use oi_session::job::{Job, JobResult};
use serde_json::{Value, json};

use crate::support::session::{Session, complete, value};

fn step(id: &oi_protocol::MessageId, cost: f64, tokens: i64) -> Value {
    json!({"type": "step_finish", "messageId": id, "cost": cost, "sandboxId": "s", "timestamp": 1.0,
        "tokens": {"input": tokens, "cache": {"read": 10}}})
}

fn usd(most: f64) -> Limit {
    Limit { usd: Some(most), tokens: None }
}

fn standing(person: Option<&str>, deployment: Option<&str>) -> JobResult {
    JobResult::Standing { person: person.map(str::to_owned), deployment: deployment.map(str::to_owned) }
}

#[test]
fn a_prompts_budget_stops_its_run_and_says_so() {
    let (mut s, page, bridge, id) = Session::with_run();
    s.host.config.budgets = Budgets { prompt: usd(1.0), session: Limit::default() };
    s.frame(bridge, 3, step(&id, 0.6, 100));
    assert_eq!(s.state(&id).0, "processing");
    s.host.evict();
    s.frame(bridge, 4, step(&id, 0.6, 100));
    assert_eq!(s.outcome(&id), "failed");
    assert_eq!(s.take_of(bridge, "stop").len(), 1);
    let told = s.take_of(page, "sandbox_warning");
    assert_eq!(told[0]["message"], "The prompt has used up its budget of $1.00.");
    assert_eq!(s.events("execution_complete")[0]["error"], told[0]["message"]);
    s.frame(bridge, 5, complete(&id, false));
    // The next prompt has a budget of its own.
    let next = s.queue(page, "next", "go on");
    s.frame(bridge, 6, step(&next, 0.6, 100));
    assert_eq!(s.state(&next).0, "processing");
}

#[test]
fn a_sessions_budget_ends_what_waits_and_refuses_what_comes() {
    let (mut s, page, bridge, id) = Session::with_run();
    s.host.config.budgets.session = Limit { usd: None, tokens: Some(150) };
    let waiting = s.queue(page, "next", "go on");
    s.frame(bridge, 3, step(&id, 0.1, 200));
    assert_eq!(s.outcome(&id), "failed");
    s.frame(bridge, 4, complete(&id, false));
    assert_eq!(s.outcome(&waiting), "failed");
    assert_eq!(s.prompt(page, "more", "more")["code"], "BUDGET_EXCEEDED");
    assert_eq!(s.rest_prompt("more", None).status, 402);
    s.host.config.budgets.session = Limit { usd: None, tokens: Some(1_000) };
    s.queue(page, "more", "more");
}

#[test]
fn d1_is_told_of_usage_while_a_prompt_runs_and_when_it_ends() {
    let (mut s, _page, bridge, id) = Session::with_run();
    let told = |s: &mut Session| -> Vec<(f64, i64)> {
        let jobs = s.take_jobs("report_usage");
        let sums = jobs.iter().filter_map(|claimed| match &claimed.job {
            Job::ReportUsage(report) => Some((report.usd, report.tokens)),
            _ => None,
        });
        let sums = sums.collect();
        for job in &jobs {
            s.host.report(job, standing(None, None));
        }
        sums
    };
    s.frame(bridge, 3, step(&id, 0.5, 90));
    s.frame(bridge, 4, step(&id, 0.5, 90));
    assert_eq!(told(&mut s), [(0.5, 100)]);
    s.plain(bridge, &json!({"type": "heartbeat", "status": "ready"}));
    s.host.advance(31_000);
    s.frame(bridge, 5, step(&id, 0.5, 90));
    assert_eq!(told(&mut s), [(1.5, 300)]);
    s.frame(bridge, 6, step(&id, 0.5, 90));
    s.frame(bridge, 7, complete(&id, true));
    assert_eq!(told(&mut s), [(2.0, 400)], "the last step is told at the end");
    assert_eq!(s.count("SELECT cache_read FROM usage"), 40);
    assert_eq!(s.count("SELECT total_tokens FROM session"), 400);
}

#[test]
fn a_person_without_budget_is_stopped_and_others_go_on() {
    let (mut s, page, bridge, id) = Session::with_run();
    let grace = s.page("Grace", 2);
    let hers = s.queue(grace, "hers", "Grace's");
    let his = s.queue(page, "his", "Ada's");
    s.frame(bridge, 3, step(&id, 5.0, 100));
    let report = s.take_jobs("report_usage").pop().expect("a report");
    s.host.report(&report, standing(Some("You have used up this month's budget of $5.00."), None));
    assert_eq!(s.outcome(&id), "failed");
    s.host.evict();
    s.frame(bridge, 4, complete(&id, false));
    assert_eq!(s.state(&hers).0, "processing");
    assert_eq!(s.prompt(page, "again", "again")["code"], "BUDGET_EXCEEDED");
    s.frame(bridge, 5, complete(&hers, true));
    assert_eq!(s.outcome(&his), "failed");
    for report in s.take_jobs("report_usage") {
        s.host.report(&report, standing(Some("Nothing is left."), None));
    }
    // Later it is asked again, by a prompt that is let in.
    for _ in 0..5 {
        s.host.advance(60_100);
        s.plain(bridge, &json!({"type": "heartbeat", "status": "ready"}));
    }
    let later = s.queue(page, "later", "later");
    assert_eq!(s.take_jobs("report_usage").len(), 1);
    let _ = later;
}

#[test]
fn a_deployment_without_budget_stops_everybody_until_there_is_one() {
    let (mut s, page, bridge, id) = Session::with_run();
    s.frame(bridge, 3, step(&id, 5.0, 100));
    let report = s.take_jobs("report_usage").pop().expect("a report");
    s.host.report(&report, standing(None, Some("The organisation has used up this month's budget of $5.00.")));
    s.frame(bridge, 4, complete(&id, false));
    let grace = s.page("Grace", 2);
    assert_eq!(s.prompt(grace, "hers", "Grace's")["code"], "BUDGET_EXCEEDED");
    // The end was told too, and by then the budget is raised.
    s.run_jobs();
    s.queue(grace, "hers again", "Grace's");
    assert_eq!(s.count("SELECT COUNT(*) FROM budget_blocks"), 0);
    let snapshot = value(&s.call(oi_session::call::SessionCall::Snapshot { dialect: 1 }).body);
    assert_eq!(snapshot["session"]["totalCost"], 5.0);
    let _ = page;
}
