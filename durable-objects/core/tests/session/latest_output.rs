//! What D1 is told of the newest prompt that has something to read.

use oi_session::job::{Job, LatestOutput};
use serde_json::json;

use crate::support::session::{Session, complete};

fn told(s: &mut Session) -> Option<LatestOutput> {
    let job = s.take_jobs("index_session").pop().expect("the list is told");
    let Job::IndexSession(facts) = job.job else { panic!("an index job") };
    facts.latest_output
}

#[test]
fn a_prompt_that_failed_without_a_word_is_nothing_to_read() {
    let (mut s, page, bridge, first) = Session::with_run();
    assert_eq!(told(&mut s), None, "it runs");
    s.frame(bridge, 3, complete(&first, true));
    let latest = told(&mut s).expect("it ended well");
    assert_eq!(latest.message_id, first);
    assert!(latest.completed_at >= latest.created_at);
    let second = s.queue(page, "second", "fail at once");
    s.frame(bridge, 4, complete(&second, false));
    assert_eq!(told(&mut s).map(|latest| latest.message_id), Some(first), "nothing was said");
    let third = s.queue(page, "third", "fail with words");
    s.frame(
        bridge,
        5,
        json!({"type": "step_finish", "messageId": third, "cost": 0.1, "sandboxId": "s",
        "timestamp": 1.0, "tokens": {"input": 10, "output": 20, "reasoning": 0, "cache": {"read": 0, "write": 0}}}),
    );
    s.frame(bridge, 6, complete(&third, false));
    assert_eq!(told(&mut s).map(|latest| latest.message_id), Some(third), "something was said");
}
