//! What people and the agent use in a sandbox beside the agent itself, as the real programs: code-server, the desktop, and
//! the agent's browser.

use std::time::Duration;

use e2e::api::Person;
use e2e::{Failed, Outcome, check, check_eq};
use reqwest::Method;
use serde_json::json;

use crate::World;
use crate::boot_modes::{run, session};
use crate::browser::run_script;

/// Another repository than other tests turn terminals on for.
const EDITOR: &str = "/api/integration-settings/code-server/repos/acme/handbook";
const DESKTOP: &str = "/api/integration-settings/vnc/repos/acme/handbook";

pub async fn the_editor_of_a_sandbox_is_opened_and_changes_its_files(world: &World) -> Outcome {
    let ada = Person::sign_in(&world.stack.ready, "ada").await?;
    turn_on(&ada, EDITOR).await?;
    let session = session(&ada).await?;
    run_script(world, "editor.mjs", Duration::from_secs(180), &[("SESSION", &session)]).await?;
    let seen = run(
        &ada,
        &session,
        "echo seen=$(grep -c written written-in-the-editor) secrets=$(env | grep -Ec '^(CODE_SERVER_)?PASSWORD=')",
    )
    .await?;
    check!(seen.contains("seen=1"), "the agent sees what was written: {seen}");
    check!(seen.contains("secrets=0"), "and not the editor's password: {seen}");
    turn_off(&ada, EDITOR, &session).await
}

pub async fn the_desktop_of_a_sandbox_is_opened_and_seen(world: &World) -> Outcome {
    let ada = Person::sign_in(&world.stack.ready, "ada").await?;
    turn_on(&ada, DESKTOP).await?;
    let session = session(&ada).await?;
    run_script(world, "desktop.mjs", Duration::from_secs(180), &[("SESSION", &session)]).await?;
    turn_off(&ada, DESKTOP, &session).await
}

async fn turn_on(ada: &Person, settings: &str) -> Outcome {
    let put = ada.call(Method::PUT, settings, Some(&json!({"settings": {"enabled": true}}))).await?;
    check_eq!(put.status.as_u16(), 200, "it is turned on ({})", put.text);
    Ok(())
}

async fn turn_off(ada: &Person, settings: &str, session: &str) -> Outcome {
    let off = ada.call(Method::DELETE, settings, None).await?;
    check_eq!(off.status.as_u16(), 200, "it is turned off ({})", off.text);
    let archived = ada.call(Method::POST, &format!("/api/sessions/{session}/archive"), Some(&json!({}))).await?;
    check_eq!(archived.status.as_u16(), 200, "archiving ({})", archived.text);
    Ok(())
}

pub async fn the_agent_looks_at_a_page_and_shows_a_picture_of_it(world: &World) -> Outcome {
    let ada = Person::sign_in(&world.stack.ready, "ada").await?;
    let session = session(&ada).await?;
    let command = "mkdir -p /tmp/site && echo '<h1>A heading</h1>' > /tmp/site/index.html && \
        (python3 -m http.server 3123 --bind 127.0.0.1 --directory /tmp/site >/tmp/site.log 2>&1 &) ; sleep 1; \
        agent-browser open http://127.0.0.1:3123/ && agent-browser snapshot && \
        agent-browser screenshot page.png && upload-media page.png --caption 'The page'; agent-browser close";
    let seen = run(&ada, &session, command).await?;
    check!(seen.contains("heading \"A heading\""), "what the browser read: {seen}");
    let snapshot = ada.snapshot(&session).await?;
    let artifacts = snapshot["artifacts"].as_array().cloned().unwrap_or_default();
    let picture = artifacts.iter().find(|artifact| artifact["type"] == "screenshot");
    let picture = picture.ok_or_else(|| Failed(format!("there is no picture: {seen}; {artifacts:?}")))?;
    let id = picture["id"].as_str().unwrap_or_default();
    let kept = ada.call(Method::GET, &format!("/api/sessions/{session}/media/{id}"), None).await?;
    // As text, the first byte of a PNG is none.
    let is_png = kept.text.starts_with("\u{fffd}PNG\r\n") && kept.text.len() > 1_000;
    check!(kept.status.is_success() && is_png, "the picture ({}, {} bytes)", kept.status, kept.text.len());
    ada.call(Method::POST, &format!("/api/sessions/{session}/archive"), Some(&json!({}))).await?;
    Ok(())
}
