//! Search over all sessions: what turns, titles and pull requests say is found, by whom it may be, and is gone with its
//! session.

use std::time::{Duration, Instant};

use e2e::api::{Answer, Person, raw, signed};
use e2e::bridge::Bridge;
use e2e::{Failed, Outcome, check, check_eq};
use reqwest::Method;
use serde_json::{Value, json};

use crate::World;

const WITHIN: Duration = Duration::from_secs(20);

async fn search(person: &Person, query: &str) -> Outcome<Answer> {
    person.call(Method::GET, &format!("/api/search?{query}"), None).await
}

/// Searches until a session is found, or not any more: jobs take their time.
async fn until(person: &Person, query: &str, session: &str, there: bool) -> Outcome<Value> {
    let begun = Instant::now();
    loop {
        let answer = search(person, query).await?;
        check_eq!(answer.status.as_u16(), 200, "{query} ({})", answer.text);
        let found = answer.json["results"]
            .as_array()
            .and_then(|results| results.iter().find(|result| result["sessionId"] == session));
        if found.is_some() == there {
            return Ok(found.cloned().unwrap_or_default());
        }
        check!(begun.elapsed() < WITHIN, "{query}: {there} is not so: {}", answer.text);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn run_a_turn(world: &World, person: &Person, session: &str, prompt: &str, answer: &str) -> Outcome<String> {
    let mut bridge = Bridge::new(world.backend()?.sandbox_of(session).await?);
    bridge.connect(&world.stack.ready).await?.map_err(|status| Failed(format!("upgrade refused: {status}")))?;
    bridge.emit(json!({"type": "ready", "runtimeVersion": "v100-test"})).await;
    let message = person.prompt(session, prompt).await?;
    bridge.listen(Duration::from_secs(10), |bridge| bridge.prompts.len() == 1).await?;
    bridge
        .emit(json!({"type": "part_done", "messageId": message, "partId": "p", "kind": "text", "text": answer,
            "length": answer.encode_utf16().count()}))
        .await;
    bridge
        .emit(json!({"type": "tool_call", "messageId": message, "tool": "edit", "args": {"filePath": "src/quokka.rs"},
            "callId": "c1", "status": "completed"}))
        .await;
    bridge.emit(json!({"type": "execution_complete", "messageId": message, "success": true})).await;
    bridge.listen(Duration::from_secs(10), Bridge::is_settled).await?;
    person.wait_for_end(session, &message, Duration::from_secs(10)).await?;
    Ok(message)
}

pub async fn what_a_session_says_is_found_and_goes_with_it(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let (ada, grace) = (Person::sign_in(ready, "ada").await?, Person::sign_in(ready, "grace").await?);
    let session = ada.create_session().await?;
    let answer = "I moved the <b>wombat</b> 😀 into its burrow.";
    let message = run_a_turn(world, &ada, &session, "Please feed the platypus", answer).await?;

    // Anybody who is signed in finds the prompt, the answer and the file, each with what was found in plain text.
    let found = until(&grace, "q=platypus", &session, true).await?;
    check_eq!(found["place"], json!({"type": "turn", "messageId": message}), "where it is ({found})");
    check_eq!(found["snippets"][0]["field"], "prompt", "which text ({found})");
    let found = until(&grace, "q=wombat+burrow", &session, true).await?;
    let snippet = &found["snippets"][0];
    check_eq!(snippet["text"], answer, "the text, and no markup of ours");
    check_eq!(snippet["marks"], json!([{"start": 15, "end": 21}, {"start": 38, "end": 44}]), "in UTF-16 units");
    until(&grace, "q=quokka.rs", &session, true).await?;
    until(&grace, "q=platy", &session, true).await?;
    until(&grace, "q=platypus+-feed", &session, false).await?;
    until(&grace, "q=%22feed+the+platypus%22", &session, true).await?;

    let me = ada.call(Method::GET, "/api/auth/get-session", None).await?.json["user"]["id"].clone();
    let me = me.as_str().unwrap_or_default();
    let month_ago = 1_000_000;
    for (filter, there) in [
        ("repository=acme/sample-service".to_owned(), true),
        ("repository=ACME/Sample-Service".to_owned(), true),
        ("repository=acme/handbook".to_owned(), false),
        (format!("author={me}"), true),
        ("author=me".to_owned(), false),
        ("status=completed".to_owned(), true),
        ("status=archived".to_owned(), false),
        (format!("from={month_ago}"), true),
        (format!("to={month_ago}"), false),
    ] {
        until(&grace, &format!("q=platypus&{filter}"), &session, there).await?;
    }

    // A title is found as soon as it is given, and the old one no more.
    let title = |title: &str| json!({"title": title});
    let path = format!("/api/sessions/{session}/title");
    ada.call(Method::PATCH, &path, Some(&title("The echidna report"))).await?;
    until(&grace, "q=echidna", &session, true).await?;
    ada.call(Method::PATCH, &path, Some(&title("Another report"))).await?;
    until(&grace, "q=echidna", &session, false).await?;
    let found = until(&grace, "q=%22another+report%22", &session, true).await?;
    check_eq!(found["place"]["type"], "title", "the title ({found})");

    // Made again, it is as it was.
    let begun = Instant::now();
    let mut body = json!({"restart": true});
    loop {
        let step = signed(ready, "web", Method::POST, "/internal/search/rebuild", Some(&body)).await?;
        check_eq!(step.status.as_u16(), 200, "a step ({})", step.text);
        if step.json["done"] == true {
            break;
        }
        check_eq!(step.json["rebuild"]["failed"], 0, "every session can be asked ({})", step.text);
        check!(begun.elapsed() < WITHIN * 3, "it never ends: {}", step.text);
        body = json!({});
    }
    let found = until(&grace, "q=platypus", &session, true).await?;
    check_eq!(found["matches"], 1, "it is there once ({found})");

    ada.call(Method::DELETE, &format!("/api/sessions/{session}"), None).await?;
    until(&grace, "q=platypus", &session, false).await.and(Ok(()))
}

pub async fn a_search_is_paged_and_what_is_no_search_is_refused(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let ada = Person::sign_in(ready, "ada").await?;
    let mut sessions = Vec::new();
    for n in 0..5 {
        let body = json!({"title": format!("numbat colony {n}")});
        let created = ada.call(Method::POST, "/api/sessions", Some(&body)).await?;
        let id = created.json["sessionId"].as_str().unwrap_or_default().to_owned();
        // What nobody ever used is not listed in search; a title that was given is.
        let path = format!("/api/sessions/{id}/title");
        ada.call(Method::PATCH, &path, Some(&json!({"title": format!("numbat colony number {n}")}))).await?;
        until(&ada, &format!("q=numbat+{n}"), &id, true).await?;
        sessions.push(id);
    }
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = search(&ada, &format!("q=numbat&limit=2{cursor}")).await?;
        check_eq!(page.status.as_u16(), 200, "a page ({})", page.text);
        let results = page.json["results"].as_array().cloned().unwrap_or_default();
        check!(results.len() <= 2, "a page has {}", results.len());
        found.extend(results.iter().map(|result| result["sessionId"].as_str().unwrap_or_default().to_owned()));
        let Some(next) = page.json["cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    sessions.sort_unstable();
    found.sort_unstable();
    check_eq!(found, sessions, "each once, on all pages");
    let long = "x".repeat(257);
    for bad in [
        "",
        "q=",
        "q=*",
        "q=%22%22",
        "q=%27%3B--",
        "q=a&limit=0",
        "q=a&cursor=x",
        "q=a&repository=..",
        "q=a&author=ada",
        &format!("q={long}"),
    ] {
        let answer = search(&ada, bad).await?;
        check_eq!(answer.status.as_u16(), 400, "`{bad}` ({})", answer.text);
    }
    // Whatever stands in it, it is words.
    for odd in
        ["q=a+OR+%28", "q=title%3A", "q=NEAR%28a+b%29", "q=a%27%3B--", "q=%F0%9F%98%80+a", "q=a%00b", "q=%22a%22%22b"]
    {
        let answer = search(&ada, odd).await?;
        check_eq!(answer.status.as_u16(), 200, "`{odd}` ({})", answer.text);
    }
    let nobody = raw(ready, Method::GET, "/api/search?q=numbat", &[], None).await?;
    check_eq!(nobody.status.as_u16(), 401, "a search of nobody");
    let bot = signed(ready, "slack-bot", Method::GET, "/search?q=numbat", None).await?;
    check_eq!(bot.status.as_u16(), 403, "a search of a bot ({})", bot.text);
    Ok(())
}
