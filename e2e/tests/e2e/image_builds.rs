//! Images of repositories that are built ahead, with devkit's stand-in of E2B as the cloud: the test is the machine that
//! builds. What goes wrong on the way is tested natively, in the control plane's own tests.

use std::time::Duration;

use devkit::vendors::daytona::Daytona;
use devkit::vendors::e2b::E2b;
use devkit::vendors::edge::Fake;
use e2e::api::{Answer, Person, signed};
use e2e::stack::Stack;
use e2e::{Failed, Outcome, check, check_eq};
use reqwest::Method;
use serde_json::{Value, json};

use crate::World;
use crate::backends::{KEY, stack_on, start, until};

const REPOSITORY: &str = "acme/sample-service";

/// What a machine says of its end, with its token.
async fn tell(stack: &Stack, path: &str, token: Option<&str>, body: &[u8]) -> Outcome<(u16, Value)> {
    let url = format!("{}/image-builds/{path}", stack.ready.base_url);
    let mut request = reqwest::Client::new().post(url).body(body.to_vec()).timeout(Duration::from_secs(20));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await?;
    let status = answer.status().as_u16();
    Ok((status, answer.json().await.unwrap_or_default()))
}

async fn call(person: &Person, method: Method, path: &str, body: Option<&Value>) -> Outcome<Answer> {
    person.call(method, &format!("/api/image-builds/{path}"), body).await
}

async fn images(person: &Person) -> Outcome<Vec<Value>> {
    let path = "status?scope_kind=repo&scope_id=acme/sample-service";
    let answer = call(person, Method::GET, path, None).await?;
    check_eq!(answer.status.as_u16(), 200, "the list ({})", answer.text);
    Ok(answer.json["images"].as_array().cloned().unwrap_or_default())
}

/// Runs a test on a system of its own.
async fn on<V: devkit::vendors::edge::Vendor>(cloud: &Fake<V>, test: impl AsyncFnOnce(&Stack) -> Outcome) -> Outcome
where
    Fake<V>: crate::backends::Cloud,
{
    let stack = stack_on(cloud, &[]).await?;
    let result = Box::pin(test(&stack)).await;
    let result = result.map_err(|error| Failed(format!("{error}\n{}", stack.log_tails())));
    stack.stop().await?;
    result
}

/// The machine of the newest build: its id, its build and its token.
async fn machine(cloud: &Fake<E2b>, count: usize) -> Outcome<(String, String, String)> {
    let mut found = None;
    until(&format!("machine {count} is there"), async || {
        found = cloud.with(|cloud| {
            let machine = cloud.sandboxes.last()?;
            let of = |name: &str| machine.env.get(name).cloned().unwrap_or_default();
            let is_started = !machine.scripts.is_empty();
            is_started.then(|| (machine.id.clone(), of("OI_REPO_IMAGE_BUILD_ID"), of("OI_REPO_IMAGE_CALLBACK_TOKEN")))
        });
        Ok(found.as_ref().is_some_and(|(_, _, token)| token.len() == 64))
    })
    .await?;
    found.ok_or_else(|| Failed("no machine".to_owned()))
}

fn done(build: &str, machine: &str, commit: &str) -> Value {
    json!({
        "build_id": build, "provider_session_id": machine, "runtime_version": "v61-e2e", "build_duration_seconds": 3.25,
        "repository_shas": [{"repoOwner": "acme", "repoName": "sample-service", "baseSha": commit}],
    })
}

pub async fn an_image_is_built_and_a_session_begins_with_it(_: &World) -> Outcome {
    let cloud = start(E2b::new(KEY, "base")).await?;
    on(&cloud, async |stack| {
        let ada = Person::sign_in(&stack.ready, "ada").await?;
        let toggle = format!("toggle/repo/{REPOSITORY}");
        let on = call(&ada, Method::PUT, &toggle, Some(&json!({"enabled": true}))).await?;
        check_eq!((on.status.as_u16(), on.json), (200, json!({"ok": true, "enabled": true})), "it is switched on");
        let (id, build, token) = machine(&cloud, 0).await?;
        let repeated = call(&ada, Method::POST, &format!("trigger/repo/{REPOSITORY}"), Some(&json!({}))).await?;
        check_eq!(
            repeated.json,
            json!({"buildId": build, "status": "building", "alreadyBuilding": true}),
            "one goes on ({})",
            repeated.text
        );
        let commit = "a".repeat(40);
        let body = done(&build, &id, &commit).to_string().into_bytes();
        check_eq!(tell(stack, "build-complete", Some(&"f".repeat(64)), &body).await?.0, 401, "another's token");
        for _ in 0..2 {
            let told = tell(stack, "build-complete", Some(&token), &body).await?;
            check_eq!(told, (202, json!({"ok": true, "snapshotPending": true})), "it is taken, and again");
        }
        let mut other = done(&build, &id, &commit);
        other["build_duration_seconds"] = json!(4);
        let other = other.to_string().into_bytes();
        check_eq!(tell(stack, "build-complete", Some(&token), &other).await?.0, 409, "another end is not");
        until("the image is ready", async || Ok(images(&ada).await?[0]["status"] == "ready")).await?;
        until("its machine has ended", async || Ok(cloud.with(|cloud| cloud.sandboxes.is_empty()))).await?;
        let row = &images(&ada).await?[0];
        check_eq!(row["build_duration_seconds"], 3.25, "the row ({row})");
        check_eq!((&row["scope_id"], &row["provider"]), (&json!(REPOSITORY), &json!("e2b")), "the row ({row})");
        check!(!row.to_string().contains(&token) && row.get("callback_token_hash").is_none(), "no secret: {row}");

        let session = ada.create_session().await?;
        ada.prompt(&session, "go").await?;
        until("a sandbox begins", async || Ok(cloud.with(|cloud| !cloud.sandboxes.is_empty()))).await?;
        let (template, from, sha) = cloud.with(|cloud| {
            let sandbox = &cloud.sandboxes[0];
            let of = |name: &str| sandbox.env.get(name).cloned().unwrap_or_default();
            (sandbox.template.clone(), of("FROM_REPO_IMAGE"), of("REPO_IMAGE_SHA"))
        });
        check_eq!(
            (template.as_str(), from.as_str(), sha),
            ("snap1:default", "true", commit),
            "it begins with the image"
        );

        // A secret that goes into it ends it, and another is built.
        let set = json!({"secrets": {"API_TOKEN": "value-of-the-secret"}});
        let answer = ada.call(Method::PUT, &format!("/api/repos/{REPOSITORY}/secrets"), Some(&set)).await?;
        check_eq!(answer.status.as_u16(), 200, "the secret is set ({})", answer.text);
        let (id, build, token) = machine(&cloud, 1).await?;
        check_eq!(images(&ada).await?[1]["status"], "superseded", "the old one");
        let body = json!({"build_id": build, "provider_session_id": id, "error": "it needs value-of-the-secret"});
        let told = tell(stack, "build-failed", Some(&token), &body.to_string().into_bytes()).await?;
        check_eq!(told, (202, json!({"ok": true, "cleanupPending": true})), "the failure is taken");
        let row = &images(&ada).await?[0];
        check_eq!(row["status"], "failed", "the build ({row})");
        let shown = row["error_message"].as_str().unwrap_or_default();
        check!(shown.starts_with("it needs ***") && shown.contains("again by itself after"), "the sentence: {shown}");

        let units = call(&ada, Method::GET, "enabled", None).await?;
        check_eq!(units.json["units"][0]["scopeId"], REPOSITORY, "what is on ({})", units.text);
        check_eq!(
            units.json["units"][0]["repositoriesFingerprint"],
            row["repositories_fingerprint"],
            "what it is of ({})",
            units.text
        );
        let off = call(&ada, Method::PUT, &toggle, Some(&json!({"enabled": false}))).await?;
        check_eq!(off.status.as_u16(), 200, "it is switched off ({})", off.text);
        let repositories = call(&ada, Method::GET, "enabled-repos", None).await?;
        check_eq!(repositories.json, json!({"repos": []}), "nothing is on");
        let refused = call(&ada, Method::POST, &format!("trigger/repo/{REPOSITORY}"), Some(&json!({}))).await?;
        check_eq!(refused.status.as_u16(), 409, "nothing is built of what is off ({})", refused.text);

        let environment = json!({"name": "Built ahead", "prebuildEnabled": true,
            "repositories": [{"repoOwner": "acme", "repoName": "handbook"}]});
        let made = ada.call(Method::POST, "/api/environments", Some(&environment)).await?;
        check_eq!(made.status.as_u16(), 201, "an environment ({})", made.text);
        let id = made.json["environment"]["id"].as_str().unwrap_or_default();
        let of_environment = call(&ada, Method::POST, &format!("trigger/environment/{id}"), Some(&json!({}))).await?;
        check_eq!(
            (of_environment.status.as_u16(), &of_environment.json["status"]),
            (200, &json!("building")),
            "an environment's image is built ({})",
            of_environment.text
        );
        Ok(())
    })
    .await
}

pub async fn what_is_asked_of_images_is_refused_where_it_must_be(_: &World) -> Outcome {
    let cloud = start(E2b::new(KEY, "base")).await?;
    on(&cloud, async |stack| {
        let (ada, hex) = (Person::sign_in(&stack.ready, "ada").await?, "f".repeat(64));
        let whole = done("imgb-unknown", "machine", &"a".repeat(40)).to_string().into_bytes();
        for path in ["build-complete", "build-failed"] {
            check_eq!(tell(stack, path, None, &whole).await?.0, 401, "{path} with nothing");
            check_eq!(tell(stack, path, Some("short"), &whole).await?.0, 401, "{path} with no token");
            check_eq!(tell(stack, path, Some(&hex), &whole).await?.0, 401, "{path} of an unknown build");
            for bad in [&b"{"[..], b"[]", b"{}", br#"{"build_id": 1, "provider_session_id": "m"}"#] {
                let (status, said) = tell(stack, path, Some(&hex), bad).await?;
                check_eq!((status, &said["code"]), (400, &json!("INVALID_BODY")), "{path} with {bad:?}: {said}");
            }
            check_eq!(tell(stack, path, Some(&hex), &vec![b' '; 16_385]).await?.0, 413, "{path} with too much");
        }
        let nobody = "trigger/repo/acme/not-there";
        for (method, path, body, expected) in [
            (Method::POST, nobody, Some(json!({})), 404),
            (Method::POST, "trigger/environment/env_00", Some(json!({})), 404),
            (Method::POST, "trigger/environment/none", Some(json!({})), 404),
            (Method::PUT, "toggle/repo/acme/not-there", Some(json!({"enabled": true})), 404),
            (Method::PUT, "toggle/repo/acme/not-there", Some(json!({"enabled": false})), 200),
            (Method::PUT, "toggle/repo/acme/sample-service", Some(json!({"enabled": "yes"})), 400),
            (Method::PUT, "toggle/repo/acme/sample-service", Some(json!({})), 400),
            // The rules of URLs make it another path, which nothing has.
            (Method::PUT, "toggle/repo/acme/%2e%2e", Some(json!({"enabled": true})), 404),
            (Method::GET, "status?scope_kind=repo", None, 400),
            (Method::GET, "status?scope_kind=other&scope_id=x", None, 400),
            (Method::GET, "status?cursor=x", None, 400),
            (Method::GET, "status?limit=0", None, 400),
            (Method::GET, "enabled?limit=101", None, 400),
            (Method::GET, "enabled-repos?cursor=x", None, 400),
            (Method::GET, "status", None, 200),
        ] {
            let answer = call(&ada, method.clone(), path, body.as_ref()).await?;
            check_eq!(answer.status.as_u16(), expected, "{method} {path} ({})", answer.text);
        }
        let bot = signed(&stack.ready, "slack-bot", Method::GET, "/image-builds/status", None).await?;
        check_eq!((bot.status.as_u16(), bot.json), (200, json!({"images": []})), "a bot may look");
        Ok(())
    })
    .await?;
    let cloud = start(Daytona::new(KEY, "base")).await?;
    on(&cloud, async |stack| {
        let ada = Person::sign_in(&stack.ready, "ada").await?;
        for (method, path) in [(Method::GET, "status"), (Method::POST, "trigger/repo/acme/sample-service")] {
            let answer = call(&ada, method.clone(), path, (method != Method::GET).then(|| json!({})).as_ref()).await?;
            check_eq!(answer.status.as_u16(), 501, "{method} {path} at Daytona ({})", answer.text);
        }
        Ok(())
    })
    .await
}
