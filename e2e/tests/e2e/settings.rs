//! Settings, provider accounts, skills, MCP servers, the inbox and analytics, over the wire: each route as it should be
//! used, by somebody who may not, with bodies that do not fit, and by two at a time.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use devkit::subscriptions::{Subscriptions, Vendor};
use e2e::api::{Answer, Person, raw, signed};
use e2e::bridge::Bridge;
use e2e::socket::subscribe;
use e2e::{Failed, Outcome, check, check_eq};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::World;
use crate::family::bridge_of;

const SOON: Duration = Duration::from_secs(20);
const NOBODY: &str = "00000000000000000000000000000000";

static SUBSCRIPTIONS: OnceLock<Subscriptions> = OnceLock::new();

/// Variables of a stack with two vendors' keys, whose sign-in is a fake that the tests hold.
pub async fn vars() -> Outcome<Vec<(String, String)>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}", listener.local_addr()?);
    let all = SUBSCRIPTIONS.get_or_init(|| Subscriptions::new(&base)).clone();
    tokio::spawn(all.serve(listener));
    let vars = [
        ("OPENAI_AUTH_URL", base.as_str()),
        ("XAI_AUTH_URL", &base),
        ("ANTHROPIC_API_KEY", "a-key-of-the-tests"),
        ("OPENAI_API_KEY", "another-key-of-the-tests"),
    ];
    Ok(vars.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec())
}

fn vendors() -> Outcome<&'static Subscriptions> {
    SUBSCRIPTIONS.get().ok_or_else(|| Failed("no vendors are played".to_owned()))
}

async fn ask(person: &Person, method: Method, path: &str, body: Option<Value>) -> Outcome<Answer> {
    person.call(method, &format!("/api{path}"), body.as_ref()).await
}

/// Asks for what must be answered with a status.
async fn expect(person: &Person, status: u16, method: Method, path: &str, body: Option<Value>) -> Outcome<Value> {
    let said = body.as_ref().map(ToString::to_string).unwrap_or_default();
    let answer = ask(person, method.clone(), path, body).await?;
    let said = oi_protocol::text::truncate_bytes(&said, 200);
    check_eq!(answer.status.as_u16(), status, "{method} {path} {said} ({})", answer.text);
    if status >= 400 {
        check!(answer.json["error"].as_str().is_some_and(|text| !text.is_empty()), "{path} says why: {}", answer.text);
        check!(answer.json["code"].is_string() && answer.json["requestId"].is_string(), "{path}: {}", answer.text);
    }
    Ok(answer.json)
}

async fn by_sandbox(world: &World, token: &str, method: Method, path: &str) -> Outcome<Answer> {
    let headers = [("Authorization", format!("Bearer {token}"))];
    let headers: Vec<_> = headers.into_iter().chain([("X-Open-Inspect-Signing-Fingerprint", "x".to_owned())]).collect();
    let body = (method != Method::GET).then(|| b"{}".to_vec());
    raw(&world.stack.ready, method, path, &headers, body).await
}

/// Routes of people, with a path that fits.
const ROUTES: &[(&str, &str)] = &[
    ("GET", "/sessions/inbox"),
    ("PATCH", "/sessions/00000000000000000000000000000000/read-state"),
    ("GET", "/sessions/00000000000000000000000000000000/skills"),
    ("GET", "/model-preferences"),
    ("PUT", "/model-preferences"),
    ("GET", "/model-provider-accounts"),
    ("POST", "/model-provider-accounts"),
    ("GET", "/model-provider-accounts/00000000000000000000000000000000"),
    ("PATCH", "/model-provider-accounts/00000000000000000000000000000000"),
    ("DELETE", "/model-provider-accounts/00000000000000000000000000000000"),
    ("POST", "/model-provider-accounts/00000000000000000000000000000000/verify"),
    ("POST", "/model-provider-accounts/00000000000000000000000000000000/enable"),
    ("POST", "/model-provider-accounts/00000000000000000000000000000000/disable"),
    ("POST", "/model-provider-accounts/00000000000000000000000000000000/reconnect"),
    ("POST", "/model-provider-accounts/openai/device-authorizations"),
    ("POST", "/model-provider-accounts/openai/device-authorizations/x/poll"),
    ("DELETE", "/model-provider-accounts/openai/device-authorizations/x"),
    ("GET", "/model-provider-account-defaults"),
    ("PUT", "/model-provider-account-defaults/openai"),
    ("DELETE", "/model-provider-account-defaults/openai"),
    ("GET", "/integration-settings/slack/channels"),
    ("GET", "/integration-settings/github"),
    ("PUT", "/integration-settings/github"),
    ("DELETE", "/integration-settings/github"),
    ("GET", "/integration-settings/github/repos"),
    ("GET", "/integration-settings/github/repos/acme/app"),
    ("PUT", "/integration-settings/github/repos/acme/app"),
    ("DELETE", "/integration-settings/github/repos/acme/app"),
    ("GET", "/integration-settings/sandbox/environments/e1"),
    ("PUT", "/integration-settings/sandbox/environments/e1"),
    ("DELETE", "/integration-settings/sandbox/environments/e1"),
    ("GET", "/integration-settings/github/resolved/acme/app"),
    ("GET", "/scm-settings"),
    ("PUT", "/scm-settings"),
    ("DELETE", "/scm-settings"),
    ("GET", "/scm-settings/repos"),
    ("PUT", "/scm-settings/repos/acme/app"),
    ("DELETE", "/scm-settings/repos/acme/app"),
    ("GET", "/commit-signing"),
    ("PUT", "/commit-signing"),
    ("DELETE", "/commit-signing"),
    ("GET", "/mcp-servers"),
    ("POST", "/mcp-servers"),
    ("GET", "/mcp-servers/x"),
    ("PUT", "/mcp-servers/x"),
    ("DELETE", "/mcp-servers/x"),
    ("GET", "/skills"),
    ("POST", "/skills"),
    ("POST", "/skills/preview"),
    ("POST", "/skills/resolve-preview"),
    ("GET", "/skills/x"),
    ("PATCH", "/skills/x"),
    ("PUT", "/skills/x"),
    ("DELETE", "/skills/x"),
    ("GET", "/skill-profiles"),
    ("POST", "/skill-profiles"),
    ("PATCH", "/skill-profiles/x"),
    ("DELETE", "/skill-profiles/x"),
    ("GET", "/keyboard-shortcuts"),
    ("PUT", "/keyboard-shortcuts"),
    ("GET", "/analytics/summary"),
    ("GET", "/analytics/timeseries"),
    ("GET", "/analytics/pull-requests"),
    ("GET", "/analytics/breakdown?by=user"),
];

/// Whether only an admin may: it changes what is of the whole deployment.
fn is_of_admins(method: &str, path: &str) -> bool {
    let of_all = ["/model-", "/integration-settings/", "/scm-settings", "/commit-signing", "/mcp-servers", "/skills"];
    let of_some = ["/repos/", "/environments/", "preview"];
    method != "GET"
        && of_all.iter().any(|start| path.starts_with(start))
        && !of_some.iter().any(|part| path.contains(part))
}

/// Routes of sandboxes.
const SANDBOX_ROUTES: &[(&str, &str)] = &[
    ("POST", "provider-auth/openai/access-token"),
    ("POST", "openai-token-refresh"),
    ("POST", "xai-token-refresh"),
    ("GET", "sandbox-skills"),
    ("GET", "commit-signing"),
    ("POST", "commit-signing"),
];

fn method(word: &str) -> Outcome<Method> {
    word.parse().map_err(|_| Failed(format!("{word} is no method")))
}

pub async fn every_route_of_the_settings_asks_who_calls(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let origin = ("Origin", ready.base_url.clone());
    let forged = ("Cookie", "openinspect.session_token=forged".to_owned());
    for (word, path) in ROUTES {
        let (verb, path) = (method(word)?, format!("/api{path}"));
        let body = (verb != Method::GET).then(|| b"{}".to_vec());
        for headers in [vec![origin.clone()], vec![origin.clone(), forged.clone()]] {
            let answer = raw(ready, verb.clone(), &path, &headers, body.clone()).await?;
            check_eq!(answer.status.as_u16(), 401, "{verb} {path} by nobody ({})", answer.text);
            check_eq!(answer.json["code"], "UNAUTHORIZED", "{verb} {path}");
        }
        if verb != Method::GET {
            let elsewhere = [("Origin", "https://evil.example".to_owned()), forged.clone()];
            let answer = raw(ready, verb.clone(), &path, &elsewhere, body).await?;
            check_eq!(answer.status.as_u16(), 403, "{verb} {path} from elsewhere ({})", answer.text);
        }
    }
    let ada = Person::sign_in(ready, "ada").await?;
    let session = ada.create_session().await?;
    for (word, path) in SANDBOX_ROUTES {
        let (verb, path) = (method(word)?, format!("/sessions/{session}/{path}"));
        for token in ["", "forged"] {
            // Without a bearer a GET is the page's.
            if token.is_empty() && verb == Method::GET {
                continue;
            }
            let answer = by_sandbox(world, token, verb.clone(), &path).await?;
            check_eq!(answer.status.as_u16(), 401, "{verb} {path} with `{token}` ({})", answer.text);
        }
        let browser = ada.call(verb.clone(), &format!("/api{path}"), None).await?;
        check_eq!(browser.status.as_u16(), 404, "{verb} {path} by a browser");
    }
    // A member reads what is of the whole deployment and changes none of it.
    let grace = Person::sign_in(ready, "grace").await?;
    for (word, path) in ROUTES.iter().filter(|(word, path)| is_of_admins(word, path)) {
        let verb = method(word)?;
        let body = (verb != Method::GET && verb != Method::DELETE).then(|| json!({}));
        let refused = expect(&grace, 403, verb, path, body).await?;
        check_eq!(refused["code"], "FORBIDDEN", "{word} {path} by a member ({refused})");
        check!(refused["error"].as_str().is_some_and(|text| text.contains("admin")), "and why: {refused}");
    }
    // A bot reads settings and changes none.
    for (verb, path, status) in [
        (Method::GET, "/integration-settings/github/resolved/acme/app", 200),
        (Method::GET, "/model-preferences", 200),
        (Method::PUT, "/model-preferences", 403),
        (Method::PUT, "/integration-settings/github", 403),
        (Method::DELETE, "/mcp-servers/x", 403),
        (Method::PUT, "/commit-signing", 403),
        (Method::GET, "/skills", 200),
        (Method::PATCH, "/skills/x", 403),
        (Method::PUT, "/skills/x", 403),
        (Method::DELETE, "/skills/x", 403),
        (Method::GET, "/model-provider-accounts", 403),
        (Method::GET, "/keyboard-shortcuts", 403),
    ] {
        let body = matches!(verb, Method::PUT | Method::PATCH).then(|| json!({}));
        let answer = signed(ready, "github-bot", verb.clone(), path, body.as_ref()).await?;
        check_eq!(answer.status.as_u16(), status, "{verb} {path} by a bot ({})", answer.text);
    }
    Ok(())
}

pub async fn a_model_that_is_not_enabled_is_refused_wherever_it_is_named(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let ada = Person::sign_in(ready, "ada").await?;
    let (haiku, opus, gpt) = ("anthropic/claude-haiku-4-5", "anthropic/claude-opus-5", "openai/gpt-5.5");
    let before = expect(&ada, 200, Method::GET, "/model-preferences", None).await?;
    check!(before["enabledModels"].as_array().is_some_and(|ids| ids.len() > 10), "the default ones: {before}");
    for (body, status) in [
        (json!({"enabledModels": []}), 400),
        (json!({"enabledModels": [haiku, "no/model"]}), 400),
        (json!({"enabledModels": haiku}), 400),
        (json!({"enabledModels": [haiku], "version": 99}), 409),
        (json!([]), 400),
    ] {
        expect(&ada, status, Method::PUT, "/model-preferences", Some(body)).await?;
    }
    // A page that is open while the choice changes.
    let session = ada.create_session().await?;
    let token = ada.ws_token(&session).await?;
    let (mut page, _) = subscribe(ready, &session, &token, None).await?;
    let chosen = json!({"enabledModels": ["claude-haiku-4-5", gpt, haiku], "version": before["version"]});
    let now = expect(&ada, 200, Method::PUT, "/model-preferences", Some(chosen.clone())).await?;
    check_eq!(now["enabledModels"], json!([haiku, gpt]), "each once, in its order ({now})");
    expect(&ada, 409, Method::PUT, "/model-preferences", Some(chosen)).await?;
    let models = expect(&ada, 200, Method::GET, "/models", None).await?;
    check_eq!(models["models"].as_array().map(Vec::len), Some(2), "people choose from these ({models})");
    check_eq!(models["models"][0]["defaultReasoningEffort"], "max", "with the default effort");

    let create = |model: &str| json!({"repoOwner": "acme", "repoName": "sample-service", "model": model});
    let refused = expect(&ada, 400, Method::POST, "/sessions", Some(create(opus))).await?;
    check!(refused["error"].as_str().is_some_and(|text| text.contains("not enabled")), "{refused}");
    expect(&ada, 201, Method::POST, "/sessions", Some(create(gpt))).await?;
    let effort = json!({"repoOwner": "acme", "repoName": "sample-service", "model": haiku, "reasoningEffort": "low"});
    expect(&ada, 400, Method::POST, "/sessions", Some(effort)).await?;
    let path = format!("/sessions/{session}/prompt");
    expect(&ada, 400, Method::POST, &path, Some(json!({"content": "x", "model": opus}))).await?;
    let fork = format!("/sessions/{session}/fork");
    expect(&ada, 400, Method::POST, &fork, Some(json!({"model": opus}))).await?;
    for (settings, status) in [(json!({"model": opus}), 400), (json!({"model": gpt}), 200)] {
        let path = "/integration-settings/github/repos/acme/models";
        expect(&ada, status, Method::PUT, path, Some(json!({"settings": settings}))).await?;
    }
    // The page learns it in a moment, without a new token.
    let begun = Instant::now();
    for number in 0.. {
        let id = format!("r{number}");
        page.send(&json!({"type": "prompt", "clientRequestId": id, "content": "x", "model": opus})).await?;
        let answer = page.wait_for(SOON, |frame| frame["clientRequestId"] == id.as_str()).await?;
        if answer["code"] == "INVALID_PROMPT" {
            check!(answer["message"].as_str().is_some_and(|text| text.contains("not enabled")), "{answer}");
            break;
        }
        check_eq!(answer["type"], "prompt_queued", "{answer}");
        check!(begun.elapsed() < SOON, "the page may still name it");
        sleep(Duration::from_millis(500)).await;
    }
    ada.prompt(&session, "spawn").await?;
    let (mut bridge, token) = bridge_of(world, &session).await?;
    bridge.listen(SOON, |bridge| !bridge.prompts.is_empty()).await?;
    let headers = [("Authorization", format!("Bearer {token}")), ("Content-Type", "application/json".to_owned())];
    let spawn = json!({"title": "t", "prompt": "p", "model": opus}).to_string().into_bytes();
    let child = raw(ready, Method::POST, &format!("/sessions/{session}/children"), &headers, Some(spawn)).await?;
    check_eq!(child.status.as_u16(), 400, "a child of a model that is not enabled ({})", child.text);
    check!(child.text.contains("not enabled"), "and why: {}", child.text);
    // All again, so that other tests have what they expect.
    let all = json!({"enabledModels": before["enabledModels"]});
    expect(&ada, 200, Method::PUT, "/model-preferences", Some(all)).await?;
    Ok(())
}

pub async fn settings_of_integrations_are_layered_and_two_do_not_overwrite_each_other(world: &World) -> Outcome {
    let ada = Person::sign_in(&world.stack.ready, "ada").await?;
    let global = "/integration-settings/sandbox";
    let none = expect(&ada, 200, Method::GET, global, None).await?;
    check_eq!(none, json!({"integrationId": "sandbox", "settings": null, "version": 0}), "nothing is set");
    let set = |settings: Value, version: i64| Some(json!({"settings": settings, "version": version}));
    let defaults = json!({"enabledRepos": ["Acme/App"], "defaults": {"terminalEnabled": true, "tunnelPorts": [3000]}});
    expect(&ada, 200, Method::PUT, global, set(defaults.clone(), 0)).await?;
    expect(&ada, 409, Method::PUT, global, set(defaults, 0)).await?;
    let repo = "/integration-settings/sandbox/repos/Acme/App";
    expect(&ada, 200, Method::PUT, repo, set(json!({"cpuCores": 2}), 0)).await?;
    let resolved = expect(&ada, 200, Method::GET, "/integration-settings/sandbox/resolved/acme/app", None).await?;
    check_eq!(
        resolved["config"],
        json!({"tunnelPorts": [3000], "terminalEnabled": true, "maxConcurrentChildSessions": 5,
            "maxTotalChildSessions": 15, "cpuCores": 2, "memoryMib": null, "sandboxTimeoutMs": null,
            "enabledRepos": ["acme/app"]}),
        "both layers"
    );
    let listed = expect(&ada, 200, Method::GET, "/integration-settings/sandbox/repos", None).await?;
    check_eq!(listed["repos"][0]["repo"], "acme/app", "the list ({listed})");
    let environment = "/integration-settings/sandbox/environments/env_1";
    expect(&ada, 200, Method::PUT, environment, set(json!({"memoryMib": 512}), 0)).await?;
    let found = expect(&ada, 200, Method::GET, environment, None).await?;
    check_eq!((&found["environmentId"], &found["version"]), (&json!("env_1"), &json!(1)), "an environment's");
    for (status, method, path, body) in [
        (400, Method::PUT, global, json!({"settings": []})),
        (400, Method::PUT, global, json!({"settings": {"defaults": {"unknown": 1}}})),
        (400, Method::PUT, global, json!({"settings": {}, "more": 1})),
        (400, Method::PUT, global, json!({"settings": {"defaults": {"tunnelPorts": [7681]}}})),
        (400, Method::PUT, global, json!({})),
        (400, Method::GET, "/integration-settings/unknown", Value::Null),
        (400, Method::GET, "/integration-settings/scm", Value::Null),
        (400, Method::GET, "/integration-settings/slack/resolved/acme/app", Value::Null),
        (400, Method::GET, "/integration-settings/github/environments/env_1", Value::Null),
        (400, Method::GET, "/integration-settings/github/repos/acme/a%2Fb", Value::Null),
        (400, Method::GET, "/integration-settings/github/repos/..%2f..%2f/b", Value::Null),
        (400, Method::GET, "/integration-settings/github/repos?cursor=x", Value::Null),
        (400, Method::DELETE, "/integration-settings/sandbox?version=x", Value::Null),
        (409, Method::DELETE, "/integration-settings/sandbox?version=9", Value::Null),
    ] {
        expect(&ada, status, method, path, (!body.is_null()).then_some(body)).await?;
    }
    for path in [environment, repo, "/integration-settings/sandbox?version=1"] {
        expect(&ada, 200, Method::DELETE, path, None).await?;
        expect(&ada, 200, Method::DELETE, path, None).await?;
    }
    // The code host's.
    let label = json!({"settings": {"defaults": {"alwaysUseDraftMode": true, "pullRequestLabel": " agent "}}});
    expect(&ada, 200, Method::PUT, "/scm-settings", Some(label)).await?;
    let found = expect(&ada, 200, Method::GET, "/scm-settings", None).await?;
    check_eq!(found["settings"]["defaults"]["pullRequestLabel"], "agent", "trimmed ({found})");
    expect(&ada, 400, Method::PUT, "/scm-settings", Some(json!({"settings": {"enabledRepos": []}}))).await?;
    expect(&ada, 409, Method::PUT, "/scm-settings", set(json!({}), 7)).await?;
    let own = json!({"settings": {"alwaysUseDraftMode": false}});
    expect(&ada, 200, Method::PUT, "/scm-settings/repos/acme/app", Some(own)).await?;
    let listed = expect(&ada, 200, Method::GET, "/scm-settings/repos", None).await?;
    check_eq!(listed["repos"][0]["settings"], json!({"alwaysUseDraftMode": false}), "its own ({listed})");
    expect(&ada, 200, Method::DELETE, "/scm-settings/repos/acme/app", None).await?;
    expect(&ada, 200, Method::DELETE, "/scm-settings", None).await?;
    let channels = expect(&ada, 200, Method::GET, "/integration-settings/slack/channels", None).await?;
    check_eq!(channels, json!({"channels": [], "error": "not_configured"}), "no Slack, and no failure");
    Ok(())
}

pub async fn an_mcp_server_reaches_the_sandbox_and_its_secrets_nobody_else(world: &World) -> Outcome {
    let ada = Person::sign_in(&world.stack.ready, "ada").await?;
    let local = json!({"name": "tools", "type": "local", "command": ["tool", "-x"], "env": {"TOKEN": "s3cret-1"},
        "repoScopes": ["Acme/Sample-Service"]});
    let made = expect(&ada, 201, Method::POST, "/mcp-servers", Some(local.clone())).await?;
    check!(made["hasEnv"] == true && made["hasHeaders"] == false, "it has variables: {made}");
    expect(&ada, 400, Method::POST, "/mcp-servers", Some(local)).await?;
    let remote = json!({"name": "far", "type": "remote", "url": "https://mcp.example.com/", "headers": {"X-Key": "s3cret-2"},
        "repoScopes": []});
    let far = expect(&ada, 201, Method::POST, "/mcp-servers", Some(remote)).await?;
    for bad in [
        json!({"name": "x", "type": "local"}),
        json!({"name": "x", "type": "remote", "url": "http://mcp.example.com/"}),
        json!({"name": "x", "type": "remote", "url": "https://169.254.169.254/"}),
        json!({"name": "x", "type": "local", "command": ["x"], "more": 1}),
        json!([]),
    ] {
        expect(&ada, 400, Method::POST, "/mcp-servers", Some(bad)).await?;
    }
    let listed = ask(&ada, Method::GET, "/mcp-servers", None).await?;
    check_eq!(listed.json.as_array().map(Vec::len), Some(2), "a bare list ({})", listed.text);
    check!(!listed.text.contains("s3cret") && !listed.text.contains("X-Key"), "no secrets: {}", listed.text);
    let here = expect(&ada, 200, Method::GET, "/mcp-servers?repo=acme/sample-service", None).await?;
    check_eq!(here.as_array().map(Vec::len), Some(1), "of a repository ({here})");
    let path = format!("/mcp-servers/{}", made["id"].as_str().unwrap_or_default());
    expect(&ada, 200, Method::GET, &path, None).await?;
    let off = expect(&ada, 200, Method::PUT, &path, Some(json!({"enabled": false, "revision": 1}))).await?;
    check_eq!((&off["revision"], &off["hasEnv"]), (&json!(2), &json!(true)), "the secrets stay ({off})");
    expect(&ada, 409, Method::PUT, &path, Some(json!({"enabled": true, "revision": 1}))).await?;
    expect(&ada, 400, Method::PUT, &path, Some(json!({"type": "remote"}))).await?;
    expect(&ada, 200, Method::PUT, &path, Some(json!({"enabled": true, "revision": 2}))).await?;

    let session = ada.create_session().await?;
    let sandbox = world.backend()?.sandbox_of(&session).await?;
    let names: Vec<&str> = sandbox.mcp_servers.iter().map(|server| server.name.as_str()).collect();
    check_eq!(names, vec!["tools"], "those of its repository");
    check_eq!(sandbox.mcp_servers[0].env.get("TOKEN").map(String::as_str), Some("s3cret-1"), "with its variable");
    for id in [&made["id"], &far["id"]] {
        let path = format!("/mcp-servers/{}", id.as_str().unwrap_or_default());
        expect(&ada, 200, Method::DELETE, &path, None).await?;
        expect(&ada, 404, Method::GET, &path, None).await?;
        expect(&ada, 404, Method::DELETE, &path, None).await?;
        expect(&ada, 404, Method::PUT, &path, Some(json!({}))).await?;
    }
    Ok(())
}

const SIGNING_KEY: &str = include_str!("../../../workers/control-plane/src/commit_signing/test_key");
const SIGNING_FINGERPRINT: &str =
    include_str!("../../../workers/control-plane/src/commit_signing/test_key.fingerprint");

const SIGNED_COMMIT: &[u8] = include_bytes!("../../../workers/control-plane/src/commit_signing/test_commit");
const SIGNATURE: &str = include_str!("../../../workers/control-plane/src/commit_signing/test_commit.sig");

pub async fn the_commit_signing_key_is_set_replaced_and_never_shown(world: &World) -> Outcome {
    let ada = Person::sign_in(&world.stack.ready, "ada").await?;
    let path = "/commit-signing";
    check_eq!(expect(&ada, 200, Method::GET, path, None).await?, json!({"enabled": false}), "none yet");
    let key = |version: i64| {
        json!({"privateKey": SIGNING_KEY, "committerName": "Bot", "committerEmail": "bot@example.com",
            "version": version})
    };
    for (field, value) in [
        ("privateKey", json!("no key")),
        ("privateKey", json!(SIGNING_KEY.replace('b', "c"))),
        ("committerName", json!("")),
        ("committerEmail", json!("nobody")),
        ("committerEmail", json!(7)),
        ("more", json!(1)),
    ] {
        let mut bad = key(0);
        bad[field] = value;
        expect(&ada, 400, Method::PUT, path, Some(bad)).await?;
    }
    check_eq!(expect(&ada, 200, Method::GET, path, None).await?, json!({"enabled": false}), "nothing was stored");
    let set = expect(&ada, 200, Method::PUT, path, Some(key(0))).await?;
    check_eq!(set["fingerprint"], SIGNING_FINGERPRINT.trim(), "as ssh names it ({set})");
    expect(&ada, 409, Method::PUT, path, Some(key(0))).await?;
    let shown = ask(&ada, Method::GET, path, None).await?;
    check!(!shown.text.contains("PRIVATE") && shown.json["updatedAt"].is_string(), "{}", shown.text);
    let session = ada.create_session().await?;
    let (_bridge, token) = bridge_of(world, &session).await?;
    let told = by_sandbox(world, &token, Method::GET, &format!("/sessions/{session}/commit-signing")).await?;
    check_eq!((&told.json["enabled"], &told.json["committerName"]), (&json!(true), &json!("Bot")), "{}", told.text);
    let sign = async |fingerprint: &str, payload: &[u8]| {
        let headers = [
            ("Authorization", format!("Bearer {token}")),
            ("X-Open-Inspect-Signing-Fingerprint", fingerprint.to_owned()),
        ];
        let path = format!("/sessions/{session}/commit-signing");
        raw(&world.stack.ready, Method::POST, &path, &headers, Some(payload.to_vec())).await
    };
    let own = SIGNING_FINGERPRINT.trim();
    let signed = sign(own, SIGNED_COMMIT).await?;
    check_eq!((signed.status.as_u16(), signed.text.as_str()), (200, SIGNATURE), "what ssh-keygen makes");
    check_eq!(sign(own, b"anything").await?.status.as_u16(), 400, "no commit");
    check_eq!(sign(own, b"").await?.status.as_u16(), 400, "nothing");
    check_eq!(sign("", SIGNED_COMMIT).await?.status.as_u16(), 400, "of no key");
    check_eq!(sign("SHA256:other", SIGNED_COMMIT).await?.status.as_u16(), 409, "of another key");
    check_eq!(sign(own, &vec![b'x'; 1024 * 1024 + 1]).await?.status.as_u16(), 413, "too long");
    expect(&ada, 200, Method::DELETE, path, None).await?;
    check_eq!(expect(&ada, 200, Method::DELETE, path, None).await?, json!({"enabled": false}), "twice");
    check_eq!(sign(own, SIGNED_COMMIT).await?.status.as_u16(), 409, "no key any more");
    Ok(())
}

async fn skills_of(world: &World, session: &str, token: &str, query: &str) -> Outcome<Answer> {
    by_sandbox(world, token, Method::GET, &format!("/sessions/{session}/sandbox-skills{query}")).await
}

pub async fn skills_are_pinned_to_a_session_and_fetched_by_its_sandbox(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let (ada, grace) = (Person::sign_in(ready, "ada").await?, Person::sign_in(ready, "grace").await?);
    let content = |body: &str| {
        json!({"description": "When needed", "body": body,
            "files": [{"path": "scripts/run.sh", "content": "echo hi\n", "executable": true}]})
    };
    let preview = json!({"name": "deploy", "content": content("Do it.")});
    let preview = expect(&ada, 200, Method::POST, "/skills/preview", Some(preview)).await?;
    check!(preview["skillMarkdown"].as_str().is_some_and(|text| text.starts_with("---\nname: deploy\n")), "{preview}");
    let here = json!([{"type": "repository", "repoOwner": "Acme", "repoName": "Sample-Service"}]);
    let create =
        |name: &str, places: &Value| json!({"name": name, "content": content("Do it."), "assignments": places});
    let made = expect(&ada, 201, Method::POST, "/skills", Some(create("deploy", &here))).await?;
    check_eq!(made["skill"]["revisionSha256"], preview["revisionSha256"], "the same files ({made})");
    expect(&ada, 409, Method::POST, "/skills", Some(create("deploy", &here))).await?;
    expect(&ada, 409, Method::POST, "/skills", Some(create("agent-browser", &here))).await?;
    let other = expect(&ada, 201, Method::POST, "/skills", Some(create("elsewhere", &json!([])))).await?;
    for bad in [
        create("Bad Name", &here),
        create("ok", &json!([{"type": "repository", "repoOwner": "..", "repoName": "x"}])),
        json!({"name": "ok", "content": {"description": "", "body": ""}}),
        json!({"name": "ok", "content": content("x"), "more": 1}),
        json!([]),
    ] {
        expect(&ada, 400, Method::POST, "/skills", Some(bad)).await?;
    }
    expect(&ada, 400, Method::POST, "/skills/preview", Some(json!({"name": "x"}))).await?;
    let page = expect(&ada, 200, Method::GET, "/skills?limit=1", None).await?;
    check_eq!((&page["hasMore"], &page["nextCursor"]), (&json!(true), &json!("deploy")), "a page ({page})");
    let page = expect(&ada, 200, Method::GET, "/skills?limit=1&cursor=deploy", None).await?;
    check_eq!(
        (&page["hasMore"], &page["skills"][0]["name"]),
        (&json!(false), &json!("elsewhere")),
        "the next ({page})"
    );
    expect(&ada, 400, Method::GET, "/skills?limit=101", None).await?;

    // A person's own choice.
    let (id, other_id) = (&made["skill"]["id"], &other["skill"]["id"]);
    let profile = json!({"name": "Mine", "skillIds": [id, other_id]});
    let profile = expect(&ada, 201, Method::POST, "/skill-profiles", Some(profile)).await?;
    expect(&ada, 409, Method::POST, "/skill-profiles", Some(json!({"name": "Mine"}))).await?;
    expect(&ada, 400, Method::POST, "/skill-profiles", Some(json!({"name": ""}))).await?;
    let profile_id = profile["profile"]["id"].as_str().unwrap_or_default().to_owned();
    let own = format!("/skill-profiles/{profile_id}");
    let renamed = json!({"name": "Ours", "version": 1});
    expect(&ada, 200, Method::PATCH, &own, Some(renamed.clone())).await?;
    expect(&ada, 409, Method::PATCH, &own, Some(renamed)).await?;
    expect(&ada, 400, Method::PATCH, &own, Some(json!({"skillIds": ["x"]}))).await?;
    expect(&grace, 404, Method::PATCH, &own, Some(json!({"name": "Theirs"}))).await?;
    expect(&grace, 404, Method::DELETE, &own, None).await?;
    check_eq!(
        expect(&grace, 200, Method::GET, "/skill-profiles", None).await?["profiles"],
        json!([]),
        "Grace has none"
    );
    let selection = json!({"mode": "profile", "profileId": profile_id});
    let wanted = json!({"repoOwner": "acme", "repoName": "sample-service", "selection": selection});
    let resolved = expect(&ada, 200, Method::POST, "/skills/resolve-preview", Some(wanted.clone())).await?;
    check_eq!(resolved["skills"][0]["name"], "deploy", "what applies ({resolved})");
    check_eq!(resolved["ignoredProfileSkillIds"], json!([other_id]), "and what does not");
    expect(&grace, 404, Method::POST, "/skills/resolve-preview", Some(wanted)).await?;
    expect(&ada, 400, Method::POST, "/skills/resolve-preview", Some(json!({"repoOwner": "acme"}))).await?;

    // A session is pinned to what is there when it begins.
    let create = json!({"repoOwner": "acme", "repoName": "sample-service", "skillSelection": selection});
    let session = expect(&ada, 201, Method::POST, "/sessions", Some(create)).await?;
    let session = session["sessionId"].as_str().unwrap_or_default().to_owned();
    let bad = json!({"repoOwner": "acme", "repoName": "sample-service", "skillSelection": {"mode": "some"}});
    expect(&ada, 400, Method::POST, "/sessions", Some(bad)).await?;
    let (_bridge, token) = bridge_of(world, &session).await?;
    let path = format!("/skills/{}", id.as_str().unwrap_or_default());
    let update = json!({"content": content("Do it better."), "assignments": here});
    expect(&ada, 428, Method::PUT, &path, Some(update.clone())).await?;
    let revision = made["skill"]["revisionId"].as_str().unwrap_or_default().to_owned();
    let put = async |revision: &str, body: &Value| {
        let headers = [
            ("Cookie", ada.cookie.clone()),
            ("Origin", ready.base_url.clone()),
            ("Content-Type", "application/json".to_owned()),
            ("If-Match", format!("\"{revision}\"")),
        ];
        raw(ready, Method::PUT, &format!("/api{path}"), &headers, Some(body.to_string().into_bytes())).await
    };
    let (one, two) = tokio::join!(put(&revision, &update), put(&revision, &update));
    let mut both = [one?.status.as_u16(), two?.status.as_u16()];
    both.sort_unstable();
    check_eq!(both, [200, 409], "of two edits at once one counts");
    check_eq!(put("skillrev_old", &update).await?.status.as_u16(), 409, "of another revision");
    let now = expect(&ada, 200, Method::GET, &path, None).await?;
    check_eq!(
        (&now["skill"]["revisionNumber"], &now["skill"]["content"]["body"]),
        (&json!(2), &json!("Do it better.")),
        "{now}"
    );
    let places = json!({"content": content("Do it better."), "assignments": [], "version": 1});
    let newest = now["skill"]["revisionId"].as_str().unwrap_or_default();
    check_eq!(put(newest, &places).await?.status.as_u16(), 409, "an edit of places that saw another version");

    let fetched = skills_of(world, &session, &token, "").await?;
    check_eq!(fetched.status.as_u16(), 200, "its skills ({})", fetched.text);
    check_eq!(fetched.json["skills"].as_array().map(Vec::len), Some(1), "one ({})", fetched.text);
    let files = fetched.json["skills"][0]["files"].as_array().cloned().unwrap_or_default();
    check!(
        files.iter().any(|file| file["path"] == "SKILL.md"
            && file["content"].as_str().is_some_and(|text| text.contains("Do it.\n") || text.ends_with("Do it."))),
        "as it was: {files:?}"
    );
    let page = skills_of(world, &session, &token, "?limit=1").await?;
    check_eq!(page.json["nextCursor"], Value::Null, "one page ({})", page.text);
    for query in ["?limit=0", "?limit=201", "?limit=x", "?cursor=x"] {
        check_eq!(skills_of(world, &session, &token, query).await?.status.as_u16(), 400, "{query}");
    }
    let manifest = expect(&ada, 200, Method::GET, &format!("/sessions/{session}/skills"), None).await?;
    check_eq!(manifest["manifestSha256"], fetched.json["manifestSha256"], "the same manifest ({manifest})");
    let request = world.backend()?.sandbox_of(&session).await?;
    check_eq!(request.skills_manifest_sha256.as_deref(), manifest["manifestSha256"].as_str(), "the start is told");
    expect(&ada, 404, Method::GET, &format!("/sessions/{NOBODY}/skills"), None).await?;

    let seen = now["skill"]["version"].clone();
    let off = json!({"enabled": false, "version": seen});
    expect(&ada, 200, Method::PATCH, &path, Some(off.clone())).await?;
    expect(&ada, 409, Method::PATCH, &path, Some(off)).await?;
    expect(&ada, 400, Method::PATCH, &path, Some(json!({"enabled": "no"}))).await?;
    for id in [id, other_id] {
        let path = format!("/skills/{}", id.as_str().unwrap_or_default());
        expect(&ada, 200, Method::DELETE, &path, None).await?;
        expect(&ada, 404, Method::GET, &path, None).await?;
        expect(&ada, 404, Method::DELETE, &path, None).await?;
        expect(&ada, 404, Method::PATCH, &path, Some(json!({"enabled": true}))).await?;
    }
    expect(&ada, 200, Method::DELETE, &own, None).await?;
    expect(&ada, 404, Method::DELETE, &own, None).await?;
    check_eq!(skills_of(world, &session, &token, "").await?.status.as_u16(), 200, "a session keeps what is deleted");
    Ok(())
}

pub async fn a_persons_shortcuts_are_their_own(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let (ada, grace) = (Person::sign_in(ready, "ada").await?, Person::sign_in(ready, "grace").await?);
    let path = "/keyboard-shortcuts";
    let before = expect(&ada, 200, Method::GET, path, None).await?;
    check_eq!(before["shortcuts"]["send-prompt"]["code"], "Enter", "the default ({before})");
    let mut changed = before["shortcuts"].clone();
    changed["send-prompt"]["code"] = json!("KeyP");
    let put = |shortcuts: &Value, version: &Value| Some(json!({"shortcuts": shortcuts, "version": version}));
    expect(&ada, 200, Method::PUT, path, put(&changed, &before["version"])).await?;
    expect(&ada, 409, Method::PUT, path, put(&changed, &before["version"])).await?;
    let mut clash = changed.clone();
    clash["send-prompt"]["code"] = json!("KeyK");
    for bad in [clash, json!({}), json!({"send-prompt": 1})] {
        expect(&ada, 400, Method::PUT, path, Some(json!({"shortcuts": bad}))).await?;
    }
    check_eq!(expect(&ada, 200, Method::GET, path, None).await?["shortcuts"], changed, "Ada's");
    check_eq!(expect(&grace, 200, Method::GET, path, None).await?["shortcuts"], before["shortcuts"], "not Grace's");
    Ok(())
}

/// Connects an account by a device; its id.
async fn connect(person: &Person, vendor: &str, name: &str, identity: &str) -> Outcome<Value> {
    let path = format!("/model-provider-accounts/{vendor}/device-authorizations");
    let create = json!({"operation": "create", "displayName": name});
    let begun = expect(person, 201, Method::POST, &path, Some(create)).await?;
    check!(begun["transactionId"].as_str().is_some_and(|id| id.len() == 64), "a transaction: {begun}");
    let poll = format!("{path}/{}/poll", begun["transactionId"].as_str().unwrap_or_default());
    let pending = expect(person, 200, Method::POST, &poll, Some(json!({}))).await?;
    check_eq!(pending["status"], "pending", "nobody has typed the code ({pending})");
    check!(vendors()?.approve(begun["userCode"].as_str().unwrap_or_default(), identity), "the code is known: {begun}");
    let begin = Instant::now();
    loop {
        let polled = expect(person, 200, Method::POST, &poll, Some(json!({}))).await?;
        if polled["status"] == "connected" {
            return Ok(polled);
        }
        check!(polled["status"] == "pending" && begin.elapsed() < SOON, "it connects: {polled}");
        sleep(Duration::from_millis(300)).await;
    }
}

pub async fn an_account_is_connected_by_a_device_and_its_sandbox_gets_tokens(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let (ada, grace) = (Person::sign_in(ready, "ada").await?, Person::sign_in(ready, "grace").await?);
    // Tokens that end soon, so that each question refreshes them.
    vendors()?.life_seconds(60);
    let connected = connect(&ada, "openai", "Ours", "chatgpt-1").await?;
    let id = connected["account"]["id"].as_str().unwrap_or_default().to_owned();
    let path = format!("/model-provider-accounts/{id}");
    let listed = ask(&ada, Method::GET, "/model-provider-accounts?provider=openai&status=active", None).await?;
    check!(listed.text.contains(&id) && !listed.text.contains("rt_"), "listed without tokens: {}", listed.text);
    for query in ["provider=acme", "status=gone", "archived=1"] {
        expect(&ada, 400, Method::GET, &format!("/model-provider-accounts?{query}"), None).await?;
    }
    expect(&ada, 200, Method::PATCH, &path, Some(json!({"displayName": "Everybody's"}))).await?;
    expect(&ada, 400, Method::PATCH, &path, Some(json!({"displayName": ""}))).await?;
    expect(&ada, 404, Method::GET, &format!("/model-provider-accounts/{NOBODY}"), None).await?;
    expect(&grace, 403, Method::PATCH, &path, Some(json!({"displayName": "Hers"}))).await?;
    expect(&grace, 403, Method::DELETE, &path, None).await?;
    expect(&grace, 200, Method::GET, &path, None).await?;
    let again = connect(&ada, "openai", "Again", "chatgpt-1").await?;
    check_eq!(
        (&again["account"]["id"], &again["reconnectedExisting"]),
        (&json!(id), &json!(true)),
        "one identity is one account"
    );

    let default = "/model-provider-account-defaults/openai";
    let choose = |account: &str, mode: &str| Some(json!({"providerAccountId": account, "unattendedMode": mode}));
    expect(&ada, 400, Method::PUT, default, choose(&id, "never")).await?;
    expect(&ada, 404, Method::PUT, default, choose(NOBODY, "api_key")).await?;
    expect(&ada, 400, Method::PUT, "/model-provider-account-defaults/xai", choose(&id, "api_key")).await?;
    expect(&ada, 400, Method::PUT, "/model-provider-account-defaults/acme", choose(&id, "api_key")).await?;
    expect(&ada, 200, Method::PUT, default, choose(&id, "api_key")).await?;
    let defaults = expect(&ada, 200, Method::GET, "/model-provider-account-defaults", None).await?;
    check_eq!(defaults["defaults"][0]["providerAccountId"], json!(id), "the default ({defaults})");
    for act in ["disable", "archive"] {
        let (method, path) =
            if act == "disable" { (Method::POST, format!("{path}/disable")) } else { (Method::DELETE, path.clone()) };
        expect(&ada, 409, method, &path, None).await?;
    }

    let session = ada.create_session().await?;
    let sandbox = world.backend()?.sandbox_of(&session).await?;
    check_eq!(sandbox.provider_accounts, vec!["openai".to_owned()], "the sandbox asks for OpenAI's tokens");
    let keys: Vec<bool> = sandbox
        .model_providers
        .iter()
        .filter(|provider| provider.id == "openai")
        .map(|provider| provider.api_key.is_some())
        .collect();
    check_eq!(keys, vec![false], "and has no key of theirs");
    let (_bridge, token) = bridge_of(world, &session).await?;
    let broker = format!("/sessions/{session}/provider-auth/openai/access-token");
    let before = vendors()?.counts().0;
    vendors()?.pause(Duration::from_millis(700));
    vendors()?.life_seconds(3_600);
    let all = futures_util::future::join_all((0..8).map(|_| by_sandbox(world, &token, Method::POST, &broker))).await;
    vendors()?.pause(Duration::ZERO);
    let mut tokens = Vec::new();
    for answer in all {
        let answer = answer?;
        check_eq!(answer.status.as_u16(), 200, "a token ({})", answer.text);
        check_eq!(answer.json["providerMetadata"], json!({"accountId": "chatgpt-1"}), "whose it is");
        tokens.push(answer.json["accessToken"].clone());
    }
    tokens.dedup();
    check_eq!(tokens.len(), 1, "all get the same token");
    check_eq!(vendors()?.counts().0 - before, 1, "which was fetched once");
    let session_path = |path: &str| format!("/sessions/{session}/{path}");
    for (path, status) in [
        ("provider-auth/acme/access-token", 400),
        ("provider-auth/xai/access-token", 404),
        ("openai-token-refresh", 409),
        ("xai-token-refresh", 404),
    ] {
        let answer = by_sandbox(world, &token, Method::POST, &session_path(path)).await?;
        check_eq!(answer.status.as_u16(), status, "{path} ({})", answer.text);
    }

    // Trouble at the vendor costs nothing; verifying tells it.
    vendors()?.trouble(Some(503));
    expect(&ada, 502, Method::POST, &format!("{path}/verify"), None).await?;
    vendors()?.trouble(None);
    let verified = expect(&ada, 200, Method::POST, &format!("{path}/verify"), None).await?;
    check_eq!(verified["account"]["status"], "active", "it works ({verified})");
    expect(&ada, 204, Method::DELETE, default, None).await?;
    expect(&ada, 200, Method::POST, &format!("{path}/disable"), None).await?;
    let refused = by_sandbox(world, &token, Method::POST, &broker).await?;
    check_eq!(refused.status.as_u16(), 409, "a disabled account gives no token ({})", refused.text);
    expect(&ada, 409, Method::POST, &format!("{path}/verify"), None).await?;
    expect(&ada, 200, Method::POST, &format!("{path}/enable"), None).await?;
    // A session chooses for itself.
    let with = |selection: Value| {
        Some(json!({"repoOwner": "acme", "repoName": "sample-service", "providerSelections": {"openai": selection}}))
    };
    expect(&ada, 201, Method::POST, "/sessions", with(json!({"mode": "provider_account", "accountId": id}))).await?;
    expect(&ada, 404, Method::POST, "/sessions", with(json!({"mode": "provider_account", "accountId": NOBODY})))
        .await?;
    expect(&ada, 400, Method::POST, "/sessions", with(json!({"mode": "both"}))).await?;
    expect(&ada, 204, Method::DELETE, &path, None).await?;
    expect(&ada, 409, Method::PATCH, &path, Some(json!({"displayName": "Late"}))).await?;
    check_eq!(by_sandbox(world, &token, Method::POST, &broker).await?.status.as_u16(), 409, "archived");
    let log = ask(&ada, Method::GET, &format!("/audit-log?subjectKind=provider_account&subjectId={id}"), None).await?;
    let entries = log.json["entries"].as_array().cloned().unwrap_or_default();
    let actions: Vec<&str> = entries.iter().rev().filter_map(|entry| entry["action"].as_str()).collect();
    let expected = ["connect", "rename", "reconnect", "disable", "enable", "archive"];
    check_eq!(actions, expected.map(|verb| format!("provider_account.{verb}")), "the log tells of it ({})", log.text);
    Ok(())
}

pub async fn an_account_is_connected_by_a_pasted_token_and_a_device_may_be_denied(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let (ada, grace) = (Person::sign_in(ready, "ada").await?, Person::sign_in(ready, "grace").await?);
    vendors()?.life_seconds(3_600);
    let accounts = "/model-provider-accounts";
    let live = vendors()?.refresh_token(Vendor::Openai, "pasted-1");
    let paste = |token: &str, account: &str| {
        Some(json!({"provider": "openai", "displayName": "Pasted", "refreshToken": token, "accountId": account}))
    };
    for bad in [
        json!({}),
        json!({"provider": "acme", "displayName": "x", "refreshToken": "t"}),
        json!({"provider": "openai", "displayName": "x", "refreshToken": "t"}),
        json!({"provider": "xai", "displayName": "x", "refreshToken": "t", "accountId": "a"}),
        json!({"provider": "xai", "displayName": "x", "refreshToken": "dead"}),
    ] {
        expect(&ada, 400, Method::POST, accounts, Some(bad)).await?;
    }
    let made = expect(&ada, 201, Method::POST, accounts, paste(&live, "pasted-1")).await?;
    check_eq!(made["account"]["externalAccountId"], "pasted-1", "whose it is ({made})");
    let other = vendors()?.refresh_token(Vendor::Openai, "pasted-2");
    expect(&ada, 400, Method::POST, accounts, paste(&other, "claimed")).await?;
    let id = made["account"]["id"].as_str().unwrap_or_default().to_owned();
    let reconnect = format!("{accounts}/{id}/reconnect");
    let token = vendors()?.refresh_token(Vendor::Openai, "pasted-1");
    let body = json!({"refreshToken": token, "accountId": "pasted-1"});
    expect(&ada, 200, Method::POST, &reconnect, Some(body)).await?;
    let token = vendors()?.refresh_token(Vendor::Openai, "somebody-else");
    let body = json!({"refreshToken": token, "accountId": "somebody-else"});
    expect(&ada, 409, Method::POST, &reconnect, Some(body)).await?;
    expect(&ada, 400, Method::POST, &reconnect, Some(json!({"refreshToken": ""}))).await?;

    let xai = connect(&ada, "xai", "Grok", "grok-user").await?;
    let xai_id = xai["account"]["id"].as_str().unwrap_or_default();
    let body = json!({"refreshToken": "t"});
    expect(&ada, 409, Method::POST, &format!("{accounts}/{xai_id}/reconnect"), Some(body)).await?;
    let devices = "/model-provider-accounts/xai/device-authorizations";
    expect(&ada, 400, Method::POST, devices, Some(json!({"operation": "other"}))).await?;
    let target = json!({"operation": "reconnect", "providerAccountId": NOBODY});
    expect(&ada, 404, Method::POST, devices, Some(target)).await?;
    let target = json!({"operation": "reconnect", "providerAccountId": xai_id});
    let begun = expect(&ada, 201, Method::POST, devices, Some(target.clone())).await?;
    check!(vendors()?.deny(begun["userCode"].as_str().unwrap_or_default()), "the code is known");
    let one = format!("{devices}/{}", begun["transactionId"].as_str().unwrap_or_default());
    let begin = Instant::now();
    loop {
        let polled = expect(&ada, 200, Method::POST, &format!("{one}/poll"), None).await?;
        if polled["status"] == "denied" {
            check_eq!(polled["retryable"], false, "the person said no ({polled})");
            break;
        }
        check!(polled["status"] == "pending" && begin.elapsed() < SOON, "it is denied: {polled}");
        sleep(Duration::from_millis(300)).await;
    }
    let begun = expect(&ada, 201, Method::POST, devices, Some(target)).await?;
    let two = format!("{devices}/{}", begun["transactionId"].as_str().unwrap_or_default());
    expect(&ada, 204, Method::DELETE, &two, None).await?;
    let polled = expect(&ada, 200, Method::POST, &format!("{two}/poll"), None).await?;
    check_eq!(polled["status"], "cancelled", "it stays so ({polled})");
    for id in ["x".to_owned(), "0".repeat(64)] {
        expect(&ada, 404, Method::POST, &format!("{devices}/{id}/poll"), None).await?;
        expect(&ada, 404, Method::DELETE, &format!("{devices}/{id}"), None).await?;
    }
    expect(&grace, 403, Method::POST, &format!("{one}/poll"), None).await?;
    // Another admin has no part in it.
    let of_grace = expect(&grace, 200, Method::GET, "/auth/get-session", None).await?["user"]["id"].clone();
    let of_grace = format!("/people/{}", of_grace.as_str().unwrap_or_default());
    expect(&ada, 200, Method::PATCH, &of_grace, Some(json!({"role": "admin"}))).await?;
    expect(&grace, 404, Method::POST, &format!("{one}/poll"), None).await?;
    expect(&ada, 200, Method::PATCH, &of_grace, Some(json!({"role": "member"}))).await?;
    for id in [id.as_str(), xai_id] {
        expect(&ada, 204, Method::DELETE, &format!("{accounts}/{id}"), None).await?;
    }
    Ok(())
}

/// Where a session is in a person's inbox.
async fn category_of(person: &Person, session: &str) -> Outcome<Option<&'static str>> {
    let inbox = expect(person, 200, Method::GET, "/sessions/inbox?mine=true", None).await?;
    let of = |name: &str| {
        let items = inbox["categories"][name]["items"].as_array().cloned().unwrap_or_default();
        items.iter().any(|item| item["rootSession"]["id"] == session)
    };
    Ok(["needs_attention", "in_progress", "finished"].into_iter().find(|name| of(name)))
}

async fn until(person: &Person, session: &str, category: &str) -> Outcome {
    let begun = Instant::now();
    loop {
        let now = category_of(person, session).await?;
        if now == Some(category) {
            return Ok(());
        }
        check!(begun.elapsed() < SOON, "the session is in {now:?}, not in {category}");
        sleep(Duration::from_millis(200)).await;
    }
}

pub async fn a_session_goes_through_the_inbox_as_it_runs_and_is_read(world: &World) -> Outcome {
    let ada = Person::sign_in(&world.stack.ready, "ada").await?;
    let session = ada.create_session().await?;
    until(&ada, &session, "finished").await?;
    let path = format!("/sessions/{session}/read-state");
    let latest = || Some(json!({"action": "mark_latest_message_read"}));
    let nothing = expect(&ada, 200, Method::PATCH, &path, latest()).await?;
    check_eq!((&nothing["outcome"], &nothing["unread"]), (&json!("no_terminal_message"), &json!(false)), "{nothing}");
    let (mut bridge, _) = bridge_of(world, &session).await?;
    let prompt = ada.prompt(&session, "do it").await?;
    until(&ada, &session, "in_progress").await?;
    bridge.listen(SOON, |bridge| !bridge.prompts.is_empty()).await?;
    bridge.emit(json!({"type": "execution_complete", "messageId": prompt, "success": true})).await;
    bridge.listen(SOON, Bridge::is_settled).await?;
    until(&ada, &session, "needs_attention").await?;
    let old = json!({"action": "mark_message_read", "messageId": NOBODY});
    let refused = expect(&ada, 200, Method::PATCH, &path, Some(old)).await?;
    check_eq!((&refused["outcome"], &refused["unread"]), (&json!("not_latest"), &json!(true)), "{refused}");
    let this = json!({"action": "mark_message_read", "messageId": prompt});
    let read = expect(&ada, 200, Method::PATCH, &path, Some(this)).await?;
    check_eq!((&read["outcome"], &read["latestMessageId"]), (&json!("marked_read"), &json!(prompt)), "{read}");
    check_eq!(expect(&ada, 200, Method::PATCH, &path, latest()).await?["outcome"], "already_read", "again");
    until(&ada, &session, "finished").await?;
    for bad in [json!({}), json!({"action": "other"}), json!({"action": "mark_message_read"}), json!([])] {
        expect(&ada, 400, Method::PATCH, &path, Some(bad)).await?;
    }
    expect(&ada, 404, Method::PATCH, &format!("/sessions/{NOBODY}/read-state"), latest()).await?;
    for query in ["category=x", "category=finished&cursor=x", "cursor=1:x", "mine=false", "repo=x"] {
        expect(&ada, 400, Method::GET, &format!("/sessions/inbox?{query}"), None).await?;
    }
    // Pages follow each other, and a search finds a title.
    for _ in 0..22 {
        ada.create_session().await?;
    }
    let title = format!("Title-{}", &session[..8]);
    expect(&ada, 200, Method::PATCH, &format!("/sessions/{session}/title"), Some(json!({"title": title}))).await?;
    let page = expect(&ada, 200, Method::GET, "/sessions/inbox?category=finished&mine=true", None).await?;
    check_eq!(page["items"].as_array().map(Vec::len), Some(20), "a page");
    let cursor = page["nextCursor"].as_str().unwrap_or_default();
    let next = format!("/sessions/inbox?category=finished&mine=true&cursor={cursor}");
    let next = expect(&ada, 200, Method::GET, &next, None).await?;
    let first = next["items"][0]["rootSession"]["id"].as_str().unwrap_or_default();
    check!(!first.is_empty() && !page.to_string().contains(first), "the next page goes on: {next}");
    let begun = Instant::now();
    loop {
        let found = format!("/sessions/inbox?category=finished&search={}", title.to_lowercase());
        let found = expect(&ada, 200, Method::GET, &found, None).await?;
        if found["items"].as_array().map(Vec::len) == Some(1) {
            check_eq!(found["items"][0]["rootSession"]["id"], session.as_str(), "the one ({found})");
            break;
        }
        check!(begun.elapsed() < SOON, "a title is found: {found}");
        sleep(Duration::from_millis(200)).await;
    }

    let summary = expect(&ada, 200, Method::GET, "/analytics/summary?days=7", None).await?;
    check!(summary["totalSessions"].as_i64().is_some_and(|count| count >= 23), "they are counted: {summary}");
    let series = expect(&ada, 200, Method::GET, "/analytics/timeseries", None).await?;
    check!(series["series"].as_array().is_some_and(|days| !days.is_empty()), "by day: {series}");
    let repos = expect(&ada, 200, Method::GET, "/analytics/breakdown?by=repo", None).await?;
    check_eq!(repos["entries"][0]["key"], "acme/sample-service", "by repository ({repos})");
    let pulls = expect(&ada, 200, Method::GET, "/analytics/pull-requests?days=90", None).await?;
    check!(pulls["funnel"]["created"].is_number() && pulls["openInventory"]["total"].is_number(), "{pulls}");
    for path in
        ["summary?days=8", "timeseries?days=x", "breakdown", "breakdown?by=team", "pull-requests?days=7&days=14"]
    {
        expect(&ada, 400, Method::GET, &format!("/analytics/{path}"), None).await?;
    }
    Ok(())
}
