//! Repositories, branches and pull requests, at the local forge.

use std::path::Path;
use std::time::{Duration, Instant};

use e2e::api::{Answer, Person, raw, signed};
use e2e::bridge::Bridge;
use e2e::stack::Ready;
use e2e::{Failed, Outcome, check, check_eq};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::World;
use crate::bad_input::refused;

const BRANCHES: &str = "/repos/acme/sample-service/branches";

async fn admin(ready: &Ready, method: Method, path: &str, body: Option<&Value>) -> Outcome<Value> {
    let request = reqwest::Client::new()
        .request(method, format!("{}/_admin/{path}", ready.forge_url))
        .bearer_auth(&ready.forge_admin_secret);
    let request = if let Some(body) = body { request.json(body) } else { request };
    let response = request.send().await?;
    check!(response.status().is_success(), "{path}: {}", response.status());
    Ok(response.json().await?)
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(|one| one["name"].as_str()).collect()
}

pub async fn repositories_and_branches_are_listed_for_who_may_see_them(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let ada = Person::sign_in(ready, "ada").await?;
    let list = ada.call(Method::GET, "/api/repos", None).await?;
    check_eq!(list.status.as_u16(), 200, "{}", list.text);
    check_eq!(names(&list.json["repos"]), ["handbook", "sample-service"], "by name");
    let sample = &list.json["repos"][1];
    check_eq!(
        (&sample["fullName"], &sample["private"], &sample["archived"], &sample["defaultBranch"]),
        (&json!("acme/sample-service"), &json!(true), &json!(false), &json!("main")),
        "what is told of one"
    );
    check!(list.json["cachedAt"].as_str().is_some_and(|at| at.ends_with('Z')), "{}", list.text);
    check_eq!(ada.call(Method::GET, "/api/repos", None).await?.json["cached"], true, "the second time");

    let api = format!("/api{BRANCHES}");
    let answer = ada.call(Method::GET, &api, None).await?;
    check_eq!(answer.status.as_u16(), 200, "{}", answer.text);
    check!(names(&answer.json["branches"]).contains(&"main"), "{}", answer.text);
    check_eq!((&answer.json["page"], &answer.json["hasMore"]), (&json!(1), &json!(false)), "the only page");
    let second = ada.call(Method::GET, &format!("{api}?page=2"), None).await?;
    check_eq!((&second.json["branches"], &second.json["page"]), (&json!([]), &json!(2)), "beyond it ({})", second.text);
    for page in ["0", "-1", "x", "1001", "1.5"] {
        refused(&ada.call(Method::GET, &format!("{api}?page={page}"), None).await?, 400, page)?;
    }
    refused(&ada.call(Method::GET, "/api/repos/acme/no-such/branches", None).await?, 404, "an unknown repository")?;
    refused(&ada.call(Method::POST, &api, Some(&json!({}))).await?, 405, "another method")?;

    for path in ["/repos", BRANCHES] {
        let api = format!("/api{path}");
        refused(&raw(ready, Method::GET, &api, &[], None).await?, 401, "nobody")?;
        let forged = [("Cookie", "openinspect.session_token=forged".to_owned())];
        refused(&raw(ready, Method::GET, &api, &forged, None).await?, 401, "a forged cookie")?;
        let bearer = [("Authorization", format!("Bearer {}", "0".repeat(32)))];
        refused(&raw(ready, Method::GET, path, &bearer, None).await?, 401, "a sandbox")?;
        check_eq!(signed(ready, "slack-bot", Method::GET, path, None).await?.status.as_u16(), 200, "a bot, {path}");
        refused(&signed(ready, "web", Method::GET, path, None).await?, 401, "the page's service for nobody")?;
    }

    let prefix = "/api/v3/repos/acme/handbook/branches";
    let fault = json!({"pathPrefix": prefix, "status": 500, "times": 1});
    admin(ready, Method::POST, "fail", Some(&fault)).await?;
    let path = "/api/repos/acme/handbook/branches";
    let down = ada.call(Method::GET, path, None).await?;
    check!(down.status.as_u16() >= 500 && down.json["code"] == "UPSTREAM_FAILED", "the forge fails: {}", down.text);
    check!(!down.text.contains("asked for"), "its own words are not ours: {}", down.text);
    check_eq!(ada.call(Method::GET, path, None).await?.status.as_u16(), 200, "and is up again");
    Ok(())
}

pub async fn a_name_that_would_be_another_path_is_not_found(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let ada = Person::sign_in(ready, "ada").await?;
    for (owner, name) in [
        ("acme", "..%2F..%2Fuser"),
        ("..%2F..%2Fuser%3F", "x"),
        ("acme%2Fsample-service", "pulls"),
        ("acme", "sample-service%2Fpulls%2F1%3F"),
        ("acme%5C..", "x"),
        ("acme", "x%00"),
        ("acme", "%ff"),
        ("acme", "%zz"),
        ("acme", "sample-service%23"),
    ] {
        let path = format!("/api/repos/{owner}/{name}/branches");
        refused(&ada.call(Method::GET, &path, None).await?, 404, &path)?;
    }
    for (owner, name, status) in [
        ("..", "../../user", 400),
        ("acme", "../sample-service", 400),
        ("acme/..", "sample-service", 400),
        ("acme/sample-service", "pulls", 404),
    ] {
        let body = json!({"repoOwner": owner, "repoName": name});
        refused(&ada.call(Method::POST, "/api/sessions", Some(&body)).await?, status, &format!("{owner} {name}"))?;
    }
    for branch in ["../../../../user", "a..b", "HEAD", "x y", "-x"] {
        let body = json!({"repoOwner": "acme", "repoName": "sample-service", "branch": branch});
        refused(&ada.call(Method::POST, "/api/sessions", Some(&body)).await?, 400, branch)?;
    }
    Ok(())
}

pub async fn a_webhook_makes_the_list_be_read_anew(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let ada = Person::sign_in(ready, "ada").await?;
    let list = async || ada.call(Method::GET, "/api/repos", None).await;
    list().await?;
    check_eq!(list().await?.json["cached"], true, "it is kept");
    let payload = json!({
        "action": "removed", "installation": {"id": 2}, "repositories_added": [],
        "repositories_removed": [{"id": 1002, "full_name": "acme/handbook"}],
    });
    let delivery = json!({
        "source": "github", "deliveryId": format!("e2e-{}", e2e::service_auth::nonce()),
        "event": "installation_repositories.removed", "body": payload.to_string(),
    });
    let stored = signed(ready, "github-bot", Method::POST, "/internal/webhook-deliveries", Some(&delivery)).await?;
    check_eq!(stored.status.as_u16(), 201, "{}", stored.text);
    let begun = Instant::now();
    loop {
        let answer: Answer = list().await?;
        check_eq!(answer.status.as_u16(), 200, "{}", answer.text);
        if answer.json["cached"] == false {
            return Ok(());
        }
        check!(begun.elapsed() < Duration::from_secs(30), "the list is still the old one");
        sleep(Duration::from_millis(200)).await;
    }
}

async fn git(folder: &Path, arguments: &[&str]) -> Outcome {
    let output = tokio::process::Command::new("git")
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("no_proxy", "*")
        .output()
        .await?;
    check!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Asks for a pull request as the sandbox does, and pushes as its bridge is told to.
async fn open_pull_request(
    ready: &Ready,
    bridge: &mut Bridge,
    session: &str,
    token: &str,
    request: &Value,
) -> Outcome<Value> {
    let bearer = [("Authorization", format!("Bearer {token}")), ("Content-Type", "application/json".to_owned())];
    let credentials =
        raw(ready, Method::POST, &format!("/sessions/{session}/scm-credentials"), &bearer, Some(b"{}".to_vec()))
            .await?;
    check_eq!(credentials.status.as_u16(), 200, "{}", credentials.text);
    let password = credentials.json["password"].as_str().unwrap_or_default().to_owned();
    let pushing = async {
        let push = bridge.raw()?.wait_for(Duration::from_secs(20), |frame| frame["type"] == "push").await?;
        let target = push["pushSpec"]["targetBranch"].as_str().unwrap_or_default().to_owned();
        let folder = tempfile::tempdir()?;
        let remote = ready.forge_url.replace("http://", &format!("http://x-access-token:{password}@"));
        git(folder.path(), &["clone", "-q", &format!("{remote}/acme/sample-service.git"), "work"]).await?;
        let work = folder.path().join("work");
        std::fs::write(work.join("notes.txt"), &target)?;
        git(&work, &["add", "--all"]).await?;
        let commit = ["-c", "user.name=Grace", "-c", "user.email=grace@example.com", "commit", "-q", "-m", "Add notes"];
        git(&work, &commit).await?;
        git(&work, &["push", "-q", "origin", &format!("HEAD:refs/heads/{target}")]).await?;
        let done =
            json!({"type": "push_complete", "branchName": target, "repoOwner": "acme", "repoName": "sample-service"});
        bridge.emit(done).await;
        bridge.listen(Duration::from_secs(10), Bridge::is_settled).await
    };
    let path = format!("/sessions/{session}/pr");
    let asking = raw(ready, Method::POST, &path, &bearer, Some(request.to_string().into_bytes()));
    let (answer, pushed) = tokio::join!(asking, pushing);
    pushed?;
    let answer = answer?;
    check_eq!(answer.status.as_u16(), 200, "{}", answer.text);
    let number = &answer.json["prNumber"];
    let all = admin(ready, Method::GET, "pulls", None).await?;
    let found = all["pulls"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|pull| pull["number"] == *number && pull["base"]["repo"]["name"] == "sample-service");
    found.cloned().ok_or_else(|| Failed(format!("the forge has no such pull request: {}", answer.text)))
}

pub async fn a_pull_request_is_the_persons_and_the_apps_once_their_token_is_revoked(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let grace = Person::sign_in(ready, "grace").await?;
    let session = grace.create_session().await?;
    let sandbox = world.backend()?.sandbox_of(&session).await?;
    let token = sandbox.auth_token.clone();
    let mut bridge = Bridge::new(sandbox);
    bridge.connect(ready).await?.map_err(|status| Failed(format!("upgrade refused: {status}")))?;
    grace.prompt(&session, "work").await?;
    bridge.listen(Duration::from_secs(20), |b| b.prompts.len() == 1).await?;
    bridge.listen(Duration::from_secs(5), Bridge::is_settled).await?;

    let first = json!({"title": "As Grace", "body": "It was broken."});
    let first = open_pull_request(ready, &mut bridge, &session, &token, &first).await?;
    let head = format!("open-inspect/{session}");
    check_eq!((&first["user"]["login"], &first["head"]["ref"]), (&json!("grace"), &json!(head)), "as the person");
    check!(!first["body"].to_string().contains("Requested by"), "{}", first["body"]);

    admin(ready, Method::POST, "revoke-user-tokens", Some(&json!({"login": "grace"}))).await?;
    // Into the first one's branch: stacked on it, and now the App's.
    let second = json!({"title": "As the App", "body": "It was too.", "baseBranch": head});
    let second = open_pull_request(ready, &mut bridge, &session, &token, &second).await?;
    check_eq!(
        (&second["user"]["type"], &second["head"]["ref"], &second["base"]["ref"]),
        (&json!("Bot"), &json!(format!("{head}-2")), &json!(head)),
        "as the App, stacked"
    );
    check!(second["body"].to_string().contains("Requested by Grace Hopper."), "{}", second["body"]);
    let snapshot = grace.snapshot(&session).await?;
    let count = snapshot["artifacts"].as_array().map_or(0, Vec::len);
    check_eq!(count, 2, "both are the session's ({})", snapshot["artifacts"]);
    Ok(())
}
