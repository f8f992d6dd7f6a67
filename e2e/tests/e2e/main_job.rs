//! Prompt → sandbox → OpenCode → commit → pull request, with nothing played.

use std::time::Duration;

use e2e::api::Person;
use e2e::socket::{Timeline, subscribe};
use e2e::{Failed, Outcome, check, check_eq};
use serde_json::Value;

use crate::World;

const RUN_WITHIN: Duration = Duration::from_secs(150);

/// The newest pull request of a session, from its snapshot.
pub async fn pull_request(person: &Person, session: &str) -> Outcome<Value> {
    let snapshot = person.snapshot(session).await?;
    let found = snapshot["artifacts"].as_array().into_iter().flatten().find(|a| a["type"] == "pr").cloned();
    found.ok_or_else(|| Failed(format!("no pull request: {}", snapshot["artifacts"])))
}

/// The forge's admin listing of pull requests.
async fn forge_pulls(world: &World) -> Outcome<Vec<Value>> {
    let response = reqwest::Client::new()
        .get(format!("{}/_admin/pulls", world.stack.ready.forge_url))
        .bearer_auth(&world.stack.ready.forge_admin_secret)
        .timeout(Duration::from_secs(10))
        .send()
        .await?;
    let body: Value = serde_json::from_str(&response.text().await?)?;
    let list = body.as_array().cloned().or_else(|| body["pulls"].as_array().cloned());
    list.ok_or_else(|| Failed(format!("the forge listed no pulls: {body}")))
}

/// Author lines (`name <email>`) and the diff of a branch against main, by git itself.
async fn git_facts(world: &World, branch: &str) -> Outcome<(String, String)> {
    let folder = tempfile::tempdir()?;
    let bare = std::path::Path::new(&world.stack.ready.state_dir).join("state/forge");
    let repository = find_bare(&bare, "sample-service.git")
        .ok_or_else(|| Failed(format!("no bare repository under {}", bare.display())))?;
    let run = |arguments: Vec<String>| {
        let repository = repository.clone();
        let at = folder.path().to_owned();
        async move {
            let output = tokio::process::Command::new("git")
                .arg("--git-dir")
                .arg(&repository)
                .args(&arguments)
                .current_dir(at)
                .output()
                .await?;
            if !output.status.success() {
                return Err(Failed(format!("git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr))));
            }
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        }
    };
    let range = format!("main..{branch}");
    let authors = run(vec!["log".into(), "--format=%an <%ae>".into(), range]).await?;
    let diff = run(vec!["diff".into(), format!("main...{branch}")]).await?;
    Ok((authors, diff))
}

fn find_bare(folder: &std::path::Path, name: &str) -> Option<std::path::PathBuf> {
    for entry in std::fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        if !path.is_dir() {
            continue;
        }
        if path.file_name().is_some_and(|n| n == name) {
            return Some(path);
        }
        if let Some(found) = find_bare(&path, name) {
            return Some(found);
        }
    }
    None
}

pub async fn a_prompt_becomes_a_pull_request_in_the_persons_name(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let ada = Person::sign_in(ready, "ada").await?;
    let grace = Person::sign_in(ready, "grace").await?;
    let session = ada.create_session().await?;
    let (mut mine, first) = subscribe(ready, &session, &ada.ws_token(&session).await?, None).await?;
    let (mut hers, hers_first) = subscribe(ready, &session, &grace.ws_token(&session).await?, None).await?;
    let (mut timeline, mut her_timeline) = (Timeline::default(), Timeline::default());
    timeline.take(&first)?;
    her_timeline.take(&hers_first)?;

    let message = ada.prompt(&session, r#"Change the greeting to "Good morning""#).await?;
    let mut deltas = 0;
    let follow = async {
        loop {
            let frame = mine.wait_for(RUN_WITHIN, |_| true).await?;
            timeline.take(&frame)?;
            if frame["type"] == "part_delta" || frame["type"] == "batch" {
                deltas += 1;
            }
            let event = &frame["event"];
            if event["type"] == "execution_complete" {
                check!(event["success"] == true, "the run failed: {event}");
                return Ok::<(), Failed>(());
            }
        }
    };
    follow.await?;
    check!(deltas > 3, "text streams: {deltas} frames with deltas");
    loop {
        let frame = hers.wait_for(Duration::from_secs(20), |_| true).await?;
        her_timeline.take(&frame)?;
        if frame["event"]["type"] == "execution_complete" {
            break;
        }
    }
    check_eq!(her_timeline.events, timeline.events, "the second watcher sees the same");
    let ended = ada.wait_for_end(&session, &message, Duration::from_secs(5)).await?;
    check_eq!(ended["status"], "completed", "the stored prompt");

    let artifact = pull_request(&ada, &session).await?;
    let head = artifact["metadata"]["head"].as_str().unwrap_or_default().to_owned();
    let number = artifact["metadata"]["number"].as_i64().unwrap_or(0);
    let (authors, diff) = git_facts(world, &head).await?;
    for author in authors.lines() {
        check!(
            author.starts_with("Ada Lovelace <") && author.ends_with("+ada@users.noreply.github.com>"),
            "the commit's author is who sent the prompt: {author}"
        );
    }
    check!(!authors.trim().is_empty(), "the branch has a commit");
    check!(diff.contains("Good morning") && diff.contains("greeting"), "the diff does what was asked: {diff}");
    let pulls = forge_pulls(world).await?;
    let pull = pulls
        .iter()
        .find(|p| p["number"].as_i64() == Some(number))
        .ok_or_else(|| Failed(format!("pull {number} at the forge: {pulls:?}")))?;
    let opener = pull["user"]["login"].as_str().or(pull["author"].as_str()).unwrap_or_default();
    check_eq!(opener, "ada", "who opened the pull request");
    check_eq!(pull["state"], "open", "its state");
    let page = reqwest::get(artifact["url"].as_str().unwrap_or_default()).await?.text().await?;
    check!(page.contains("Good morning"), "the pull request's page shows the diff");

    // Her follow-up makes the next commit in her name, on the same pull request.
    let second = grace.prompt(&session, "Also note it in the changelog").await?;
    let ended = grace.wait_for_end(&session, &second, RUN_WITHIN).await?;
    check_eq!(ended["status"], "completed", "the follow-up");
    let (authors, _) = git_facts(world, &head).await?;
    check!(
        authors.lines().next().is_some_and(|line| line.starts_with("Grace Hopper <")),
        "the follow-up's author is who sent it: {authors}"
    );
    let snapshot = ada.snapshot(&session).await?;
    let count = snapshot["artifacts"].as_array().into_iter().flatten().filter(|a| a["type"] == "pr").count();
    check_eq!(count, 1, "one pull request, updated");
    check_eq!(snapshot["session"]["status"], "completed", "the session's status");

    // The index shows it to everybody.
    let list = grace.call(reqwest::Method::GET, "/api/sessions", None).await?.json;
    let listed = list["sessions"].as_array().into_iter().flatten().find(|s| s["id"] == session.as_str()).cloned();
    let listed = listed.ok_or_else(|| Failed(format!("the session is not listed: {list}")))?;
    check_eq!(listed["prCount"], 1, "pull requests in the list");
    check_eq!(listed["messageCount"], 2, "prompts in the list");
    Ok(())
}

pub async fn a_follow_up_waits_for_its_turn_and_stop_stops(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let ada = Person::sign_in(ready, "ada").await?;
    let session = ada.create_session().await?;
    let (mut socket, _) = subscribe(ready, &session, &ada.ws_token(&session).await?, None).await?;
    let slow = ada.prompt(&session, "SLOW: think about it").await?;
    socket.wait_for(RUN_WITHIN, |f| f["type"] == "part_delta" || f["type"] == "batch").await?;
    let next = ada.prompt(&session, "LONG: tell me about the repository").await?;
    let queue = socket
        .wait_for(Duration::from_secs(5), |f| {
            f["type"] == "prompt_queue_updated" && f["promptQueue"].as_array().is_some_and(|q| q.len() == 2)
        })
        .await?;
    check_eq!(queue["promptQueue"][0]["messageId"], slow.as_str(), "the running prompt is first");
    check_eq!(queue["promptQueue"][1]["status"], "pending", "the follow-up waits");
    let stop = ada.call(reqwest::Method::POST, &format!("/api/sessions/{session}/stop"), None).await?;
    check_eq!(stop.json["status"], "stopping", "stop is taken");
    let stopped = ada.wait_for_end(&session, &slow, Duration::from_secs(10)).await?;
    check_eq!(stopped["outcome"], "stopped", "the outcome of a stop");
    let ended = ada.wait_for_end(&session, &next, RUN_WITHIN).await?;
    check_eq!(ended["status"], "completed", "the follow-up runs after the stop");
    let messages = ada.messages(&session).await?;
    check!(
        messages.iter().all(|m| matches!(m["status"].as_str(), Some("completed" | "failed"))),
        "every prompt has ended: {messages:?}"
    );
    Ok(())
}
