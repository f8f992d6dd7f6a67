//! Every example of a webhook that GitHub publishes: taken or ignored, never an error.
//! They come with npm (`tools/package.json`); `cargo xtask setup` puts them in place.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::pull_request_webhooks;
use crate::repository_webhooks;
use crate::store::webhook_deliveries::Claimed;

/// `node_modules` of the tools: where xtask says, or else the newest that was put in place.
fn modules() -> PathBuf {
    if let Some(told) = std::env::var_os("OI_NODE_MODULES") {
        return told.into();
    }
    let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = var("OPEN_INSPECT_CACHE")
        .or_else(|| var("XDG_CACHE_HOME").map(|base| base.join("open-inspect")))
        .or_else(|| var("HOME").map(|home| home.join(".cache/open-inspect")))
        .expect("a cache");
    let folders = std::fs::read_dir(cache.join("tools")).into_iter().flatten().flatten();
    let examples = |modules: &PathBuf| modules.join("@octokit/webhooks-examples").is_dir();
    let found = folders.map(|entry| entry.path().join("node_modules")).filter(examples);
    let newest = found.max_by_key(|path| path.metadata().and_then(|about| about.modified()).ok());
    newest.expect("GitHub's examples are not there yet: run `cargo xtask setup` once")
}

/// Every example with the name of its event.
fn examples() -> Vec<(String, Value)> {
    let path = modules().join("@octokit/webhooks-examples/api.github.com/index.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let events: Vec<Value> = serde_json::from_str(&text).expect("is JSON");
    let list = |event: &Value| {
        let name = event["name"].as_str().expect("a name").to_owned();
        let examples = event["examples"].as_array().expect("a list").clone();
        examples.into_iter().map(move |example| (name.clone(), example)).collect::<Vec<_>>()
    };
    events.iter().flat_map(list).collect()
}

fn claimed(event: &str, body: &Value) -> Claimed {
    let event = body["action"].as_str().map_or_else(|| event.to_owned(), |action| format!("{event}.{action}"));
    Claimed { id: "d".to_owned(), source: "github".to_owned(), event, attempts: 1 }
}

#[test]
fn every_example_is_taken_or_ignored() {
    let all = examples();
    assert!(all.len() >= 300, "{}", all.len());
    let (mut pulls, mut lists) = (0, 0);
    for (event, body) in &all {
        let (claimed, text) = (claimed(event, body), body.to_string());
        if pull_request_webhooks::is_about_pull_requests(&claimed) {
            pulls += 1;
            let snapshot =
                pull_request_webhooks::read(&text).unwrap_or_else(|why| panic!("{}: {why}: {text}", claimed.event));
            assert_eq!(snapshot.number, body["number"].as_i64().expect("a number"));
            assert_eq!(snapshot.url, body["pull_request"]["html_url"].as_str().expect("an address"));
            assert!(snapshot.provider_updated_at.is_some_and(|at| at.0 > 1_500_000_000_000), "{snapshot:?}");
        } else if repository_webhooks::is_about_repositories(&claimed) {
            lists += 1;
            let names = repository_webhooks::affected(&text).expect("is of a known form");
            assert!(!names.is_empty() || event == "installation", "{}: {text}", claimed.event);
        }
        // Whatever an event is called, reading it as ours is no accident.
        let _ = (pull_request_webhooks::read(&text), repository_webhooks::affected(&text));
    }
    assert!(pulls >= 10 && lists >= 10, "{pulls} {lists}");
}

#[test]
fn examples_that_were_changed_mean_what_they_say() {
    let all = examples();
    let (_, opened) =
        all.iter().find(|(event, body)| event == "pull_request" && body["action"] == "opened").expect("an example");
    let read = |change: &dyn Fn(&mut Value)| {
        let mut body = opened.clone();
        change(&mut body);
        pull_request_webhooks::read(&body.to_string())
    };
    assert!(read(&|body| body["pull_request"]["draft"] = json!(true)).is_ok_and(|snapshot| snapshot.is_draft));
    let fork = |body: &mut Value| body["pull_request"]["head"]["repo"]["id"] = json!(1);
    assert_eq!(read(&fork), Err(pull_request_webhooks::FROM_A_FORK));
    let deleted_fork = |body: &mut Value| body["pull_request"]["head"]["repo"] = Value::Null;
    assert_eq!(read(&deleted_fork), Err(pull_request_webhooks::FROM_A_FORK));
    let broken = |body: &mut Value| body["pull_request"]["number"] = json!("five");
    assert!(read(&broken).is_err_and(|why| why != pull_request_webhooks::FROM_A_FORK));
}
