//! Secrets, repositories' metadata and environments: each route, what a sandbox gets of them, and where no value ever is.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use e2e::api::{Answer, Person, raw, signed};
use e2e::{Failed, Outcome, check, check_eq};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::World;

const SAMPLE: &str = "/api/repos/acme/sample-service";

fn random(prefix: &str) -> String {
    format!("{prefix}{}", e2e::service_auth::nonce())
}

fn expect(answer: &Answer, status: u16, what: &str) -> Outcome<Value> {
    check_eq!(answer.status.as_u16(), status, "{what}: {}", answer.text);
    if status >= 400 {
        let code = match status {
            400 => &["INVALID_BODY", "INVALID_PARAMETER"][..],
            401 => &["UNAUTHORIZED"],
            403 => &["FORBIDDEN"],
            404 => &["NOT_FOUND"],
            405 => &["METHOD_NOT_ALLOWED"],
            409 => &["CONFLICT"],
            413 => &["TOO_LARGE"],
            _ => &[],
        };
        check!(code.contains(&answer.json["code"].as_str().unwrap_or_default()), "{what}: {}", answer.text);
        check!(answer.json["error"].as_str().is_some_and(|text| !text.is_empty()), "{what} says why");
    }
    Ok(answer.json.clone())
}

async fn get(who: &Person, path: &str) -> Outcome<Value> {
    expect(&who.call(Method::GET, path, None).await?, 200, path)
}

async fn put(who: &Person, path: &str, body: &Value) -> Outcome<Value> {
    expect(&who.call(Method::PUT, path, Some(body)).await?, 200, path)
}

async fn refused(who: &Person, method: Method, path: &str, body: Option<&Value>, status: u16) -> Outcome<String> {
    let answer = who.call(method.clone(), path, body).await?;
    let shown = format!("{method} {path} with {}", body.map(ToString::to_string).unwrap_or_default());
    let json = expect(&answer, status, &shown[..shown.len().min(200)])?;
    Ok(json["error"].as_str().unwrap_or_default().to_owned())
}

fn keys(list: &Value) -> Vec<String> {
    let names = list.as_array().into_iter().flatten().filter_map(|secret| secret["key"].as_str());
    names.map(str::to_owned).collect()
}

async fn make_environment(who: &Person, name: &str) -> Outcome<Value> {
    let body = json!({"name": name, "repositories": [
        {"repoOwner": "acme", "repoName": "handbook"}, {"repoOwner": "acme", "repoName": "sample-service"}]});
    let answer = who.call(Method::POST, "/api/environments", Some(&body)).await?;
    Ok(expect(&answer, 201, "making an environment")?["environment"].clone())
}

fn text<'v>(value: &'v Value, key: &str) -> Outcome<&'v str> {
    value[key].as_str().ok_or_else(|| Failed(format!("no {key} in {value}")))
}

/// Nobody but a person who is signed in, from the site itself, gets anywhere.
async fn only_people(world: &World, who: &Person, method: Method, path: &str, bots_may: bool) -> Outcome {
    let ready = &world.stack.ready;
    let takes_body = matches!(method, Method::PUT | Method::POST);
    let body = takes_body.then(|| b"{}".to_vec());
    let own = vec![("Origin", ready.base_url.clone())];
    let what = format!("{method} {path}");
    expect(&raw(ready, method.clone(), path, &own, body.clone()).await?, 401, &format!("{what} by nobody"))?;
    let forged = vec![("Origin", ready.base_url.clone()), ("Cookie", "openinspect.session_token=forged".to_owned())];
    expect(
        &raw(ready, method.clone(), path, &forged, body.clone()).await?,
        401,
        &format!("{what} with a forged cookie"),
    )?;
    if method != Method::GET {
        let foreign = vec![("Origin", "https://evil.example".to_owned()), ("Cookie", who.cookie.clone())];
        expect(
            &raw(ready, method.clone(), path, &foreign, body.clone()).await?,
            403,
            &format!("{what} from elsewhere"),
        )?;
    }
    let at_root = path.strip_prefix("/api").unwrap_or(path);
    let sent = takes_body.then(|| json!({}));
    if !bots_may {
        let answer = signed(ready, "slack-bot", method, at_root, sent.as_ref()).await?;
        expect(&answer, 403, &format!("{what} by a bot"))?;
    } else if method == Method::GET {
        expect(&signed(ready, "slack-bot", method, at_root, None).await?, 200, &format!("{what} by a bot"))?;
    }
    Ok(())
}

pub async fn secrets_of_each_scope_are_set_listed_and_deleted(world: &World) -> Outcome {
    let ada = Person::sign_in(&world.stack.ready, "ada").await?;
    let environment = make_environment(&ada, &random("Secrets ")).await?;
    let id = text(&environment, "id")?.to_owned();
    let of_environment = format!("/api/environments/{id}/secrets");
    let of_repository = format!("{SAMPLE}/secrets");
    let canary = random("canary-");
    for (path, named) in [
        ("/api/secrets", None),
        (of_repository.as_str(), Some(("repo", "acme/sample-service"))),
        (of_environment.as_str(), Some(("environmentId", id.as_str()))),
    ] {
        for method in [Method::GET, Method::PUT] {
            only_people(world, &ada, method, path, false).await?;
        }
        only_people(world, &ada, Method::DELETE, &format!("{path}/NOT_THERE"), false).await?;
        let before = get(&ada, path).await?;
        let version = before["version"].as_i64().unwrap_or_default();
        let first = put(&ada, path, &json!({"secrets": {"routes_a": canary, "ROUTES_B": ""}})).await?;
        check_eq!(
            (&first["status"], &first["keys"], &first["created"], &first["updated"]),
            (&json!("updated"), &json!(["ROUTES_A", "ROUTES_B"]), &json!(2), &json!(0)),
            "{first}"
        );
        if let Some((field, value)) = named {
            check_eq!(first[field], value, "{first}");
        }
        let pasted = format!("# pasted\nexport ROUTES_C='{canary}\nsecond line' # why\r\nROUTES_A=\"{canary}\"\n");
        let second = put(&ada, path, &json!({"text": pasted, "version": version + 1})).await?;
        check_eq!((&second["created"], &second["updated"]), (&json!(1), &json!(1)), "{second}");
        let listed = get(&ada, path).await?;
        let names = keys(&listed["secrets"]);
        check!(["ROUTES_A", "ROUTES_B", "ROUTES_C"].iter().all(|name| names.iter().any(|n| n == name)), "{listed}");
        check_eq!(listed["globalSecrets"].is_array(), named.is_some(), "{listed}");
        check!(!format!("{first}{second}{listed}").contains(&canary), "no answer has a value");

        let told =
            refused(&ada, Method::PUT, path, Some(&json!({"secrets": {"ROUTES_A": "x"}, "version": version})), 409)
                .await?;
        check!(told.contains("Reload"), "{told}");
        let bad = json!({"text": format!("ROUTES_A=x\nno assignment of {canary}\nROUTES_D='{canary}")});
        let told = refused(&ada, Method::PUT, path, Some(&bad), 400).await?;
        check!(told.contains("line 2") && told.contains("line 3") && !told.contains(&canary), "{told}");
        for bad in [
            json!({}),
            json!({"secrets": {}}),
            json!({"secrets": {"A": 1}}),
            json!({"secrets": {"A": "x"}, "text": "A=x"}),
            json!({"secrets": {"path": "x"}}),
            json!({"secrets": {"LD_PRELOAD": "x"}}),
            json!({"secrets": {"A": "x", "a": "y"}}),
            json!({"secrets": {" A": "x"}}),
            json!({"secrets": {"A": "x".repeat(16_385)}}),
            json!({"secrets": (0..51).map(|n| (format!("N{n}"), json!("x"))).collect::<serde_json::Map<_, _>>()}),
            json!([]),
        ] {
            refused(&ada, Method::PUT, path, Some(&bad), 400).await?;
        }
        refused(&ada, Method::PUT, path, Some(&json!({"text": "#".repeat(600_000)})), 413).await?;
        refused(&ada, Method::POST, path, Some(&json!({})), 405).await?;
        let unchanged = get(&ada, path).await?;
        check_eq!(unchanged, listed, "what was refused changed nothing");

        let stale = format!("{path}/ROUTES_A?version={version}");
        refused(&ada, Method::DELETE, &stale, None, 409).await?;
        refused(&ada, Method::DELETE, &format!("{path}/ROUTES_A?version=x"), None, 400).await?;
        refused(&ada, Method::DELETE, &format!("{path}/1A"), None, 400).await?;
        for name in ["routes_a", "ROUTES_B", "ROUTES_C"] {
            let answer = ada.call(Method::DELETE, &format!("{path}/{name}"), None).await?;
            let deleted = expect(&answer, 200, "deleting a secret")?;
            check_eq!(
                (&deleted["status"], &deleted["key"]),
                (&json!("deleted"), &json!(name.to_uppercase())),
                "{deleted}"
            );
        }
        refused(&ada, Method::DELETE, &format!("{path}/ROUTES_A"), None, 404).await?;
        check_eq!(get(&ada, path).await?["secrets"], before["secrets"], "all is as it was");
        let log = get(&ada, "/api/audit-log?subjectKind=secret&limit=3").await?;
        let told: Vec<_> =
            log["entries"].as_array().into_iter().flatten().filter_map(|entry| entry["action"].as_str()).collect();
        check_eq!(told, ["secret.delete"; 3], "the log tells of the deletions ({log})");
        let log = get(&ada, "/api/audit-log?action=secret.set&subjectKind=secret&subjectId=ROUTES_A&limit=2").await?;
        check_eq!(log["entries"].as_array().map(Vec::len), Some(2), "and of each that was set ({log})");
        let is_there = log["entries"][0]["detail"]["scope"].is_string() && !log.to_string().contains(&canary);
        check!(is_there, "where, and no value: {log}");
    }
    // A member sets those of what they work with, and sees the names of the deployment's.
    let grace = Person::sign_in(&world.stack.ready, "grace").await?;
    let set = json!({"secrets": {"OF_A_MEMBER": "x"}});
    let told = refused(&grace, Method::PUT, "/api/secrets", Some(&set), 403).await?;
    check!(told.contains("admin"), "{told}");
    refused(&grace, Method::DELETE, "/api/secrets/OF_A_MEMBER", None, 403).await?;
    get(&grace, "/api/secrets").await?;
    for path in [&of_repository, &of_environment] {
        put(&grace, path, &set).await?;
        expect(&grace.call(Method::DELETE, &format!("{path}/OF_A_MEMBER"), None).await?, 200, "deleting")?;
    }
    for (path, status) in [
        ("/api/repos/acme/no-such-repository/secrets", 404),
        ("/api/repos/acme/sample%2Fservice/secrets", 400),
        ("/api/repos/acme/a%00/secrets", 400),
        ("/api/repos/acme/%2e%2e/secrets", 404),
        ("/api/environments/env_none/secrets", 404),
        ("/api/environments/none/secrets", 404),
    ] {
        refused(&ada, Method::GET, path, None, status).await?;
        refused(&ada, Method::PUT, path, Some(&json!({"secrets": {"A": "x"}})), status).await?;
    }
    only_people(world, &ada, Method::GET, "/api/secret-rotation", false).await?;
    let rotation = get(&ada, "/api/secret-rotation").await?;
    check_eq!(rotation["remaining"], 0, "{rotation}");
    check_eq!(rotation["currentKeyId"].as_str().map(str::len), Some(16), "{rotation}");
    Ok(())
}

pub async fn secrets_of_a_member_are_imported_into_an_environment(world: &World) -> Outcome {
    let ada = Person::sign_in(&world.stack.ready, "ada").await?;
    let environment = make_environment(&ada, &random("Import ")).await?;
    let id = text(&environment, "id")?.to_owned();
    let import = format!("/api/environments/{id}/secrets/import");
    only_people(world, &ada, Method::POST, &import, false).await?;
    let (one, two, source) = (random("IMPORT_"), random("IMPORT_"), format!("{SAMPLE}/secrets"));
    put(&ada, &source, &json!({"secrets": {one.as_str(): "first", two.as_str(): "second"}})).await?;
    let (one, two) = (one.to_uppercase(), two.to_uppercase());
    let body = json!({"repoOwner": "ACME", "repoName": "sample-service", "keys": [one, "NOT_THERE"]});
    let answer = ada.call(Method::POST, &import, Some(&body)).await?;
    let imported = expect(&answer, 200, "importing")?;
    check_eq!(
        (&imported["status"], &imported["keys"], &imported["source"], &imported["environmentId"]),
        (&json!("imported"), &json!([one]), &json!("acme/sample-service"), &json!(id)),
        "{imported}"
    );
    let all = json!({"repoOwner": "acme", "repoName": "sample-service", "version": 1});
    let answer = ada.call(Method::POST, &import, Some(&all)).await?;
    let imported = expect(&answer, 200, "importing all")?;
    check!(
        imported["updated"].as_i64() >= Some(1)
            && keys(&get(&ada, &format!("/api/environments/{id}/secrets")).await?["secrets"]).contains(&two),
        "{imported}"
    );
    refused(&ada, Method::POST, &import, Some(&all), 409).await?;
    let stranger = json!({"repoOwner": "acme", "repoName": "other"});
    let told = refused(&ada, Method::POST, &import, Some(&stranger), 403).await?;
    check_eq!(told, "acme/other is not a member of this environment");
    for bad in [
        json!({}),
        json!({"repoOwner": "acme"}),
        json!({"repoOwner": "..", "repoName": "x"}),
        json!({"repoOwner": "acme", "repoName": "handbook", "keys": ["1A"]}),
    ] {
        refused(&ada, Method::POST, &import, Some(&bad), 400).await?;
    }
    refused(&ada, Method::POST, "/api/environments/env_none/secrets/import", Some(&all), 404).await?;
    let session = json!({"environmentId": id});
    let session = expect(&ada.call(Method::POST, "/api/sessions", Some(&session)).await?, 201, "a session")?;
    let sandbox = world.backend()?.sandbox_of(text(&session, "sessionId")?).await?;
    check_eq!(sandbox.env.get(&one).map(String::as_str), Some("first"), "an imported value is the value");
    for name in [one, two] {
        ada.call(Method::DELETE, &format!("{source}/{name}"), None).await?;
    }
    Ok(())
}

pub async fn environments_are_made_changed_by_one_at_a_time_and_deleted(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let ada = Person::sign_in(ready, "ada").await?;
    let grace = Person::sign_in(ready, "grace").await?;
    let name = random("Full stack ");
    let environment = make_environment(&ada, &name).await?;
    let id = text(&environment, "id")?.to_owned();
    let path = format!("/api/environments/{id}");
    only_people(world, &ada, Method::GET, "/api/environments", true).await?;
    only_people(world, &ada, Method::GET, &path, true).await?;
    for (method, path) in
        [(Method::POST, "/api/environments"), (Method::PUT, path.as_str()), (Method::DELETE, path.as_str())]
    {
        only_people(world, &ada, method, path, false).await?;
    }
    check_eq!((&environment["version"], &environment["prebuildEnabled"]), (&json!(1), &json!(false)));
    check_eq!(environment["repositories"][0]["repoId"], 1002);
    check_eq!(environment["repositories"][1]["baseBranch"], "main");
    check_eq!(get(&ada, &path).await?["environment"], environment);
    let list = get(&ada, "/api/environments").await?;
    check!(list["total"].as_i64() >= Some(1) && list["environments"][0]["id"] == id, "the newest is first: {list}");
    make_environment(&ada, &random("Another ")).await?;
    let page = get(&ada, "/api/environments?limit=1").await?;
    let next = format!("/api/environments?limit=1&cursor={}", text(&page, "nextCursor")?);
    check_eq!(get(&ada, &next).await?["environments"][0]["id"], id, "page by page");

    // Two people read the same version, and both save.
    let saved = put(&ada, &path, &json!({"description": "Hers", "version": 1})).await?["environment"].clone();
    check_eq!((&saved["description"], &saved["version"], &saved["name"]), (&json!("Hers"), &json!(2), &json!(name)));
    refused(&grace, Method::PUT, &path, Some(&json!({"description": "Too late", "version": 1})), 409).await?;
    refused(&grace, Method::DELETE, &format!("{path}?version=1"), None, 409).await?;
    let one = json!({"repositories": [{"repoOwner": "acme", "repoName": "sample-service", "baseBranch": "main"}], "channelAssociations": ["C1", "C1"]});
    let saved = put(&grace, &path, &one).await?["environment"].clone();
    check_eq!(saved["repositories"].as_array().map(Vec::len), Some(1));
    check_eq!((&saved["channelAssociations"], &saved["description"]), (&json!(["C1"]), &json!("Hers")));

    let repositories = json!([{"repoOwner": "acme", "repoName": "handbook"}]);
    let taken = json!({"name": name.to_uppercase(), "repositories": repositories});
    let told = refused(&ada, Method::POST, "/api/environments", Some(&taken), 409).await?;
    check_eq!(told, format!("An environment named \"{}\" already exists", name.to_uppercase()));
    for bad in [
        json!({}),
        json!({"name": "x"}),
        json!({"name": " ", "repositories": repositories}),
        json!({"name": "x".repeat(201), "repositories": repositories}),
        json!({"name": "x", "repositories": []}),
        json!({"name": "x", "repositories": [{"repoOwner": "acme", "repoName": "handbook"}, {"repoOwner": "ACME", "repoName": "handbook"}]}),
        json!({"name": "x", "repositories": [{"repoOwner": "..", "repoName": "user"}]}),
        json!({"name": "x", "repositories": [{"repoOwner": "acme", "repoName": "no-such"}, {"repoOwner": "acme", "repoName": "handbook", "baseBranch": "no-such"}]}),
        json!([]),
    ] {
        refused(&ada, Method::POST, "/api/environments", Some(&bad), 400).await?;
    }
    refused(&ada, Method::PUT, &path, Some(&json!({"name": null})), 400).await?;
    for query in ["limit=0", "limit=101", "limit=x", "cursor=x"] {
        refused(&ada, Method::GET, &format!("/api/environments?{query}"), None, 400).await?;
    }
    for (method, body) in [(Method::GET, None), (Method::PUT, Some(json!({}))), (Method::DELETE, None)] {
        refused(&ada, method.clone(), "/api/environments/env_none", body.as_ref(), 404).await?;
        refused(&ada, method, "/api/environments/..%2fsecrets", body.as_ref(), 404).await?;
    }
    let deleted = expect(&ada.call(Method::DELETE, &path, None).await?, 200, "deleting")?;
    check_eq!(deleted, json!({"status": "deleted", "id": id}));
    refused(&ada, Method::DELETE, &path, None, 404).await?;
    let session = json!({"environmentId": id});
    let told = refused(&ada, Method::POST, "/api/sessions", Some(&session), 404).await?;
    check_eq!(told, format!("Environment not found: {id}"));
    Ok(())
}

pub async fn what_is_noted_of_a_repository_is_listed_with_it(world: &World) -> Outcome {
    let ada = Person::sign_in(&world.stack.ready, "ada").await?;
    let path = "/api/repos/acme/handbook/metadata";
    only_people(world, &ada, Method::GET, path, true).await?;
    only_people(world, &ada, Method::PUT, path, false).await?;
    let environment = make_environment(&ada, &random("Default ")).await?;
    let before = get(&ada, path).await?;
    check_eq!(before["repo"], "acme/handbook");
    let version = before["metadata"]["version"].as_i64().unwrap_or(0);
    let noted = json!({"description": "How we work", "aliases": ["rules"], "keywords": ["process"],
        "defaultEnvironmentId": environment["id"], "version": version, "unknown": true});
    let saved = put(&ada, path, &noted).await?;
    check_eq!((&saved["status"], &saved["repo"]), (&json!("updated"), &json!("acme/handbook")), "{saved}");
    check_eq!(get(&ada, path).await?["metadata"], saved["metadata"]);
    let listed = get(&ada, "/api/repos").await?;
    let handbook = listed["repos"].as_array().into_iter().flatten().find(|repo| repo["name"] == "handbook");
    check_eq!(handbook.map(|repo| repo["metadata"]["aliases"].clone()), Some(json!(["rules"])), "{listed}");
    refused(&ada, Method::PUT, path, Some(&noted), 409).await?;
    for bad in [
        json!({"aliases": "x"}),
        json!({"keywords": [""]}),
        json!({"description": null}),
        json!([]),
        json!({"defaultEnvironmentId": "env_none"}),
    ] {
        let told = refused(&ada, Method::PUT, path, Some(&bad), 400).await?;
        check!(told.starts_with("Invalid repository metadata") || bad.is_array(), "{told}");
    }
    refused(&ada, Method::GET, "/api/repos/acme/a%2Fb/metadata", None, 400).await?;
    refused(&ada, Method::DELETE, path, None, 405).await?;
    // It is put in the place of all that was there.
    let saved = put(&ada, path, &json!({})).await?;
    check_eq!(saved["metadata"], json!({"version": version + 2}));
    Ok(())
}

async fn start(world: &World, who: &Person, body: &Value) -> Outcome<(String, BTreeMap<String, String>, Vec<String>)> {
    let session = expect(&who.call(Method::POST, "/api/sessions", Some(body)).await?, 201, "a session")?;
    let session = text(&session, "sessionId")?.to_owned();
    let sandbox = world.backend()?.sandbox_of(&session).await?;
    let repositories = sandbox.repositories.iter().map(|r| format!("{}@{}", r.repo_name, r.branch)).collect();
    Ok((session, sandbox.env, repositories))
}

pub async fn a_sandbox_gets_the_secrets_of_its_target_by_precedence(world: &World) -> Outcome {
    let ada = Person::sign_in(&world.stack.ready, "ada").await?;
    let environment = make_environment(&ada, &random("Precedence ")).await?;
    let id = text(&environment, "id")?.to_owned();
    let scopes = [
        ("/api/secrets".to_owned(), "global"),
        (format!("{SAMPLE}/secrets"), "sample"),
        ("/api/repos/acme/handbook/secrets".to_owned(), "handbook"),
        (format!("/api/environments/{id}/secrets"), "environment"),
    ];
    for (path, scope) in &scopes {
        put(&ada, path, &json!({"secrets": {"PRECEDENCE": scope, format!("OF_{scope}"): scope}})).await?;
    }
    let (handbook, sample) = (
        json!({"repoOwner": "acme", "repoName": "handbook"}),
        json!({"repoOwner": "acme", "repoName": "sample-service"}),
    );
    for (body, wins, gives, works_on) in [
        (json!({}), "global", &["GLOBAL"][..], &[][..]),
        (sample.clone(), "sample", &["GLOBAL", "SAMPLE"], &["sample-service@main"]),
        (
            json!({"repositories": [handbook, sample]}),
            "handbook",
            &["GLOBAL", "HANDBOOK", "SAMPLE"],
            &["handbook@main", "sample-service@main"],
        ),
        (
            json!({"repositories": [sample, handbook]}),
            "sample",
            &["GLOBAL", "HANDBOOK", "SAMPLE"],
            &["sample-service@main", "handbook@main"],
        ),
        (
            json!({"environmentId": id}),
            "environment",
            &["ENVIRONMENT", "GLOBAL"],
            &["handbook@main", "sample-service@main"],
        ),
    ] {
        let (session, env, repositories) = start(world, &ada, &body).await?;
        check_eq!(env.get("PRECEDENCE").map(String::as_str), Some(wins), "{body}");
        let given: Vec<&str> = env.keys().filter_map(|name| name.strip_prefix("OF_")).collect();
        check_eq!(given, gives, "{body}");
        check_eq!(repositories, works_on, "{body}");
        let snapshot = ada.snapshot(&session).await?;
        check_eq!(snapshot["session"]["environmentId"], body["environmentId"], "{body}");
        check_eq!(snapshot["session"]["repositories"].as_array().map(Vec::len), Some(works_on.len()), "{body}");
        let named = if body["environmentId"].is_null() { Value::Null } else { environment["name"].clone() };
        check_eq!(snapshot["session"]["environmentName"], named, "{body}");
        let list = get(&ada, "/api/sessions?limit=100").await?;
        let item = list["sessions"].as_array().into_iter().flatten().find(|item| item["id"] == session).cloned();
        let item = item.ok_or_else(|| Failed("it is not listed".to_owned()))?;
        check_eq!(item["environmentId"], body["environmentId"], "{item}");
        check_eq!(item["repositories"].as_array().map_or(0, Vec::len), works_on.len(), "{item}");
    }
    for body in [
        json!({"repositories": [sample, sample]}),
        json!({"repositories": []}),
        json!({"repositories": [sample], "environmentId": id}),
        json!({"repositories": [{"repoOwner": "acme", "repoName": "no-such"}]}),
    ] {
        refused(&ada, Method::POST, "/api/sessions", Some(&body), 400).await?;
    }
    for (path, scope) in &scopes {
        for name in ["PRECEDENCE".to_owned(), format!("OF_{scope}")] {
            expect(&ada.call(Method::DELETE, &format!("{path}/{name}"), None).await?, 200, "deleting")?;
        }
    }
    Ok(())
}

/// Files below a folder that hold a text.
fn holders(folder: &Path, text: &str, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => holders(&path, text, found),
            Ok(kind) if kind.is_file() => {
                let content = std::fs::read(&path).unwrap_or_default();
                if String::from_utf8_lossy(&content).contains(text) {
                    found.push(path.display().to_string());
                }
            }
            _ => {}
        }
    }
}

/// Processes whose arguments hold a text.
fn in_arguments(text: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(text)).collect()
}

async fn run(ada: &Person, session: &str, command: &str) -> Outcome<String> {
    let message = ada.prompt(session, &format!("BASH {command}")).await?;
    let ended = ada.wait_for_end(session, &message, Duration::from_secs(150)).await?;
    check_eq!(ended["status"], "completed", "{ended}");
    Ok(ada.call(Method::GET, &format!("/api/sessions/{session}/events?limit=200"), None).await?.text)
}

pub async fn a_hook_and_the_agent_see_the_secrets_and_nobody_else_does(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let ada = Person::sign_in(ready, "ada").await?;
    let canary = random("canary-");
    // What is shown in its place: the agent's words are in the timeline.
    let digest = hex::encode(Sha256::digest(format!("{canary}\n")));
    put(&ada, "/api/secrets", &json!({"secrets": {"E2E_WHO": "global", "E2E_GLOBAL": "everywhere"}})).await?;
    let of_repository = format!("{SAMPLE}/secrets");
    put(&ada, &of_repository, &json!({"secrets": {"E2E_WHO": "repository", "E2E_CANARY": canary}})).await?;

    // The agent itself commits the hook, so that the next session's checkout has it.
    let first = ada.create_session().await?;
    let hook = "echo hook-$(printenv E2E_CANARY | sha256sum) > $HOME/hook.txt; echo who-$E2E_WHO >> $HOME/hook.txt";
    let branch = random("hook-");
    let command = format!(
        "mkdir -p .openinspect && echo '{hook}' > .openinspect/setup.sh && git add .openinspect && git commit -qm hook && git push -q origin HEAD:refs/heads/{branch} && echo pushed-$((40+2))"
    );
    let events = run(&ada, &first, &command).await?;
    check!(events.contains("pushed-42"), "the hook was pushed: {events}");

    let body = json!({"repoOwner": "acme", "repoName": "sample-service", "branch": branch});
    let second = expect(&ada.call(Method::POST, "/api/sessions", Some(&body)).await?, 201, "a session")?;
    let second = text(&second, "sessionId")?.to_owned();
    let look = async {
        let mut seen = Vec::new();
        loop {
            seen.extend(in_arguments(&canary));
            if !seen.is_empty() {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let command = "cat $HOME/hook.txt; echo own-$(printenv E2E_CANARY | sha256sum); echo agent-$E2E_WHO-$E2E_GLOBAL";
    let events = tokio::select! {
        events = run(&ada, &second, command) => events?,
        seen = look => return Err(Failed(format!("a process has it in its arguments: {seen:?}"))),
    };
    check!(events.contains("who-repository"), "the hook saw the repository's: {events}");
    check!(events.contains("agent-repository-everywhere"), "the agent saw both scopes: {events}");
    for who in ["hook", "own"] {
        check!(events.contains(&format!("{who}-{digest}")), "{who}: the canary was seen: {events}");
    }

    for session in [&first, &second] {
        for path in ["", "/events?limit=200", "/messages", "/artifacts", "/deliveries", "/participants"] {
            let answer = ada.call(Method::GET, &format!("/api/sessions/{session}{path}"), None).await?;
            check!(!answer.text.contains(&canary), "{path} has it");
        }
    }
    for path in ["/api/sessions", "/api/secrets", of_repository.as_str(), "/api/secret-rotation", "/api/repos"] {
        check!(!ada.call(Method::GET, path, None).await?.text.contains(&canary), "{path} has it");
    }
    // Databases, the sessions' storage, logs, the sandboxes' folders.
    let mut found = Vec::new();
    for folder in [&ready.state_dir, &ready.logs_dir] {
        holders(Path::new(folder), &canary, &mut found);
    }
    check!(found.is_empty(), "these files have it: {found:?}");
    for (path, names) in
        [("/api/secrets", ["E2E_WHO", "E2E_GLOBAL"]), (of_repository.as_str(), ["E2E_WHO", "E2E_CANARY"])]
    {
        for name in names {
            expect(&ada.call(Method::DELETE, &format!("{path}/{name}"), None).await?, 200, "deleting")?;
        }
    }
    Ok(())
}
