//! Each boot mode on the local backend: real git, hooks and agent, the session's own snapshots, an image built ahead.

use std::time::{Duration, Instant};

use e2e::api::Person;
use e2e::{Failed, Outcome, check, check_eq};
use reqwest::Method;
use serde_json::{Value, json};

use crate::World;

const REPOSITORY: &str = "acme/handbook";
/// Hooks say in what mode they ran, where images and snapshots keep it.
const HOOKS: &str = "mkdir -p .openinspect && for hook in setup start; do \
     printf 'echo %s-$OPENINSPECT_BOOT_MODE >> $HOME/boots.txt\\n' $hook > .openinspect/$hook.sh; done && \
     git add .openinspect && git commit -qm hooks && git push -q origin HEAD:refs/heads/main && echo pushed-$((40+2))";
/// What the hooks said, in a line that no prompt has.
const LOOK: &str = "echo seen=$(tr '\\n' ',' < $HOME/boots.txt)=$(cat note.txt 2>/dev/null)";
const BUILT_WITHIN: Duration = Duration::from_secs(150);

/// A session of the repository that hooks and development tools are tried in.
pub async fn session(ada: &Person) -> Outcome<String> {
    let body = json!({"repoOwner": "acme", "repoName": "handbook"});
    let answer = ada.call(Method::POST, "/api/sessions", Some(&body)).await?;
    check_eq!(answer.status.as_u16(), 201, "a session ({})", answer.text);
    Ok(answer.json["sessionId"].as_str().unwrap_or_default().to_owned())
}

/// What a command printed, by the newest call of the session's timeline.
pub async fn run(ada: &Person, session: &str, command: &str) -> Outcome<String> {
    let message = ada.prompt(session, &format!("BASH {command}")).await?;
    let ended = ada.wait_for_end(session, &message, Duration::from_secs(150)).await?;
    check_eq!(ended["status"], "completed", "{command} ({ended})");
    let events = ada.call(Method::GET, &format!("/api/sessions/{session}/events?limit=200"), None).await?;
    let events = events.json["events"].as_array().cloned().unwrap_or_default();
    let output = events.iter().map(|row| &row["data"]).find_map(|event| {
        (event["type"] == "tool_call" && event["messageId"] == message).then(|| event["output"].as_str())?
    });
    output.map(str::to_owned).ok_or_else(|| Failed(format!("`{command}` has no output: {events:?}")))
}

async fn put(ada: &Person, path: &str, body: Value) -> Outcome {
    let answer = ada.call(Method::PUT, path, Some(&body)).await?;
    check_eq!(answer.status.as_u16(), 200, "PUT {path} ({})", answer.text);
    Ok(())
}

/// Waits until an image of the repository is ready.
async fn built(ada: &Person) -> Outcome {
    let path = format!("/api/image-builds/status?scope_kind=repo&scope_id={REPOSITORY}");
    let begun = Instant::now();
    let mut last = Value::Null;
    while begun.elapsed() < BUILT_WITHIN {
        last = ada.call(Method::GET, &path, None).await?.json;
        let newest = &last["images"][0];
        match newest["status"].as_str() {
            Some("ready") => return Ok(()),
            Some("failed") => break,
            _ => tokio::time::sleep(Duration::from_millis(500)).await,
        }
    }
    Err(Failed(format!("no image was built: {last}")))
}

pub async fn hooks_run_as_each_boot_mode_has_it(world: &World) -> Outcome {
    let ada = Person::sign_in(&world.stack.ready, "ada").await?;
    let first = session(&ada).await?;
    check!(run(&ada, &first, HOOKS).await?.contains("pushed-42"), "the hooks are there");

    let second = session(&ada).await?;
    let seen = run(&ada, &second, &format!("echo kept > note.txt; {LOOK}")).await?;
    check!(seen.contains("seen=setup-fresh,start-fresh,=kept"), "a fresh boot: {seen}");

    // Its sandbox ends with the archiving; what it wrote and did not commit is in the snapshot.
    for step in ["archive", "unarchive"] {
        let answer = ada.call(Method::POST, &format!("/api/sessions/{second}/{step}"), Some(&json!({}))).await?;
        check_eq!(answer.status.as_u16(), 200, "{step} ({})", answer.text);
    }
    let seen = run(&ada, &second, LOOK).await?;
    check!(seen.contains("seen=setup-fresh,start-fresh,start-snapshot_restore,=kept"), "a restored one: {seen}");

    put(&ada, &format!("/api/image-builds/toggle/repo/{REPOSITORY}"), json!({"enabled": true})).await?;
    built(&ada).await?;
    let third = session(&ada).await?;
    let seen = run(&ada, &third, LOOK).await?;
    check!(seen.contains("seen=setup-build,start-repo_image,="), "one of an image: {seen}");
    put(&ada, &format!("/api/image-builds/toggle/repo/{REPOSITORY}"), json!({"enabled": false})).await
}
