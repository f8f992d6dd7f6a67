//! Bad input on every route and both sockets: a clear error with a stable code, and nothing changed.

use std::time::Duration;

use e2e::api::{Answer, Person, raw, signed};
use e2e::bridge::Bridge;
use e2e::service_auth::{Signed, nonce, now_ms};
use e2e::socket::{Received, Socket, open, subscribe};
use e2e::{Failed, Outcome, check, check_eq};
use reqwest::Method;
use serde_json::{Value, json};

use crate::World;

const UNKNOWN: &str = "00000000000000000000000000000000";

pub fn refused(answer: &Answer, status: u16, what: &str) -> Outcome {
    check_eq!(answer.status.as_u16(), status, "{what} ({})", answer.text);
    check!(answer.json["error"].as_str().is_some_and(|s| !s.is_empty()), "{what} says why: {}", answer.text);
    let codes: &[&str] = match status {
        400 => &["INVALID_BODY", "INVALID_PARAMETER", "INVALID_PROMPT"],
        401 => &["UNAUTHORIZED"],
        403 => &["FORBIDDEN"],
        404 => &["NOT_FOUND"],
        405 => &["METHOD_NOT_ALLOWED"],
        409 => &["CONFLICT"],
        410 => &["SANDBOX_GONE"],
        413 => &["TOO_LARGE"],
        501 => &["NOT_IMPLEMENTED"],
        _ => &[],
    };
    let code = answer.json["code"].as_str().unwrap_or_default();
    check!(codes.contains(&code), "{what} has the code of {status}, not `{code}`: {}", answer.text);
    check!(answer.json["requestId"].as_str().is_some_and(|id| !id.is_empty()), "{what} names its request");
    Ok(())
}

pub async fn every_route_refuses_bad_input_with_a_stable_code(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let ada = Person::sign_in(ready, "ada").await?;
    let session = ada.create_session().await?;
    let before = ada.snapshot(&session).await?;
    let headers = || {
        vec![
            ("Cookie", ada.cookie.clone()),
            ("Origin", ready.base_url.clone()),
            ("Content-Type", "application/json".to_owned()),
        ]
    };
    let long = "x".repeat(64_001);
    let huge = "x".repeat(3_000_000);
    let bodies: Vec<(&str, Vec<u8>)> = vec![
        ("not JSON", b"{".to_vec()),
        ("bytes", vec![0xff, 0xfe, 0x00]),
        ("an array", b"[]".to_vec()),
        ("a string", b"\"x\"".to_vec()),
        ("null", b"null".to_vec()),
        ("wrong types", br#"{"content":1,"title":{},"repoOwner":[],"repoName":7,"provider":false}"#.to_vec()),
    ];
    let with_body = [
        (Method::POST, "/api/sessions".to_owned()),
        (Method::POST, format!("/api/sessions/{session}/prompt")),
        (Method::PATCH, format!("/api/sessions/{session}/title")),
        (Method::POST, "/api/auth/sign-in/social".to_owned()),
        (Method::POST, format!("/api/sessions/{session}/participants")),
    ];
    for (method, path) in &with_body {
        for (name, body) in &bodies {
            let answer = raw(ready, method.clone(), path, &headers(), Some(body.clone())).await?;
            refused(&answer, 400, &format!("{method} {path} with {name}"))?;
        }
    }
    let too_long = json!({"content": long}).to_string().into_bytes();
    let answer =
        raw(ready, Method::POST, &format!("/api/sessions/{session}/prompt"), &headers(), Some(too_long)).await?;
    refused(&answer, 400, "a prompt of 64 001 characters")?;
    let body = json!({"content": huge}).to_string().into_bytes();
    let answer = raw(ready, Method::POST, &format!("/api/sessions/{session}/prompt"), &headers(), Some(body)).await?;
    check!(matches!(answer.status.as_u16(), 400 | 413), "a body of 3 MB is refused: {}", answer.status);

    for (method, path) in [
        (Method::GET, format!("/api/sessions/{UNKNOWN}")),
        (Method::GET, "/api/sessions/not-an-id".to_owned()),
        (Method::GET, format!("/api/sessions/{UNKNOWN}/events")),
        (Method::GET, format!("/api/sessions/{UNKNOWN}/messages")),
        (Method::GET, format!("/api/sessions/{UNKNOWN}/sandbox-access")),
        (Method::GET, format!("/api/sessions/{UNKNOWN}/tunnel-urls")),
        (Method::POST, format!("/api/sessions/{UNKNOWN}/stop")),
        (Method::POST, format!("/api/sessions/{UNKNOWN}/ws-token")),
        (Method::GET, format!("/api/sessions/{UNKNOWN}/diff")),
        (Method::GET, format!("/api/sessions/{UNKNOWN}/diff/r/files/f")),
        (Method::POST, format!("/api/sessions/{UNKNOWN}/diff/retry")),
        (Method::POST, format!("/api/sessions/{UNKNOWN}/pull-requests/refresh")),
        (Method::GET, format!("/api/sessions/{UNKNOWN}/artifacts?artifactId=x")),
        (Method::GET, "/api/no-such-thing".to_owned()),
        (Method::GET, "/api/sessions/..%2f..%2finternal".to_owned()),
    ] {
        let body = (method != Method::GET).then(|| b"{}".to_vec());
        let answer = raw(ready, method.clone(), &path, &headers(), body).await?;
        refused(&answer, 404, &format!("{method} {path}"))?;
    }
    let prompt = json!({"content": "hello"}).to_string().into_bytes();
    let path = format!("/api/sessions/{UNKNOWN}/prompt");
    refused(&raw(ready, Method::POST, &path, &headers(), Some(prompt)).await?, 404, "a prompt to nobody")?;
    for (method, path) in [
        (Method::DELETE, "/api/sessions".to_owned()),
        (Method::PUT, format!("/api/sessions/{session}/prompt")),
        (Method::GET, format!("/api/sessions/{session}/stop")),
    ] {
        let answer = raw(ready, method.clone(), &path, &headers(), None).await?;
        refused(&answer, 405, &format!("{method} {path}"))?;
    }
    for query in ["limit=0", "limit=-1", "limit=abc", "cursor=zzz", "type=nonsense"] {
        let path = format!("/api/sessions/{session}/events?{query}");
        refused(&raw(ready, Method::GET, &path, &headers(), None).await?, 400, &path)?;
    }
    for query in ["limit=0", "limit=abc", "cursor=zzz", "cursor=1:not-an-id"] {
        let path = format!("/api/sessions/{session}/artifacts?{query}");
        refused(&raw(ready, Method::GET, &path, &headers(), None).await?, 400, &path)?;
    }
    let path = format!("/api/sessions/{session}/sandbox-access");
    refused(&raw(ready, Method::GET, &path, &headers(), None).await?, 409, "the access of a sandbox that is not up")?;
    sandbox_errors_are_refused(world, &session).await?;
    for query in ["limit=0", "limit=x", "cursor=zzz", "status=lost"] {
        let path = format!("/api/sessions/{session}/messages?{query}");
        refused(&raw(ready, Method::GET, &path, &headers(), None).await?, 400, &path)?;
    }
    let unknown = json!({"repoOwner": "acme", "repoName": "no-such-repository"});
    let answer = ada.call(Method::POST, "/api/sessions", Some(&unknown)).await?;
    refused(&answer, 404, "a repository that is not installed")?;
    let both = json!({"repoOwner": "acme", "repoName": "sample-service", "environmentId": "env_1"});
    refused(&ada.call(Method::POST, "/api/sessions", Some(&both)).await?, 400, "a repository and an environment")?;
    let traversal = json!({"repoOwner": "..", "repoName": "../../user"});
    let answer = ada.call(Method::POST, "/api/sessions", Some(&traversal)).await?;
    check!(matches!(answer.status.as_u16(), 400 | 404), "a traversal in a name: {} {}", answer.status, answer.text);
    let forged = json!({"repoOwner": "acme", "repoName": "sample-service", "userId": UNKNOWN});
    refused(&ada.call(Method::POST, "/api/sessions", Some(&forged)).await?, 400, "a forged identity")?;

    for path in ["/api/sessions", "/api/repos", "/api/models"] {
        refused(&raw(ready, Method::GET, path, &[], None).await?, 401, &format!("GET {path} without a cookie"))?;
        let cookie = vec![("Cookie", "openinspect.session_token=forged".to_owned())];
        refused(
            &raw(ready, Method::GET, path, &cookie, None).await?,
            401,
            &format!("GET {path} with a forged cookie"),
        )?;
    }
    let everywhere = "/api/auth/revoke-sessions";
    refused(&raw(ready, Method::POST, everywhere, &[], None).await?, 403, "signing out from elsewhere")?;
    let origin = vec![("Origin", ready.base_url.clone())];
    refused(&raw(ready, Method::POST, everywhere, &origin, None).await?, 401, "signing nobody out")?;
    for path in ["scm-credentials", "pr", "diff/failure"] {
        let path = format!("/sessions/{session}/{path}");
        let body = Some(br#"{"title":"t","body":"b"}"#.to_vec());
        refused(&raw(ready, Method::POST, &path, &[], body.clone()).await?, 401, &format!("{path} without a token"))?;
        let bearer = vec![("Authorization", format!("Bearer {UNKNOWN}"))];
        refused(&raw(ready, Method::POST, &path, &bearer, body).await?, 401, &format!("{path} with a wrong token"))?;
    }
    let after = ada.snapshot(&session).await?;
    for key in ["title", "messageCount", "status"] {
        check_eq!(after["session"][key], before["session"][key], "{key} after all the bad input");
    }
    Ok(())
}

/// A sandbox that cannot boot tells so under its own name.
async fn sandbox_errors_are_refused(world: &World, session: &str) -> Outcome {
    let ready = &world.stack.ready;
    let sandbox = world.backend()?.sandbox_of(session).await?;
    let path = |name: &str| format!("/sandbox/{name}/error");
    let fatal = Some(br#"{"error":"no disk","fatal":true}"#.to_vec());
    let bearer = |token: &str| vec![("Authorization", format!("Bearer {token}"))];
    let own = path(&sandbox.sandbox_id);
    refused(&raw(ready, Method::POST, &own, &[], fatal.clone()).await?, 401, "an error without a token")?;
    refused(&raw(ready, Method::POST, &own, &bearer(UNKNOWN), fatal.clone()).await?, 401, "an error of a stranger")?;
    let nobody = path("sandbox-of-nobody");
    refused(&raw(ready, Method::POST, &nobody, &bearer(&sandbox.auth_token), fatal).await?, 404, "of no sandbox")?;
    for bad in ["", "{", "[]", r#"{"error":7}"#, r#"{"error":" "}"#, r#"{"error":"x","fatal":"yes"}"#] {
        let body = Some(bad.as_bytes().to_vec());
        let answer = raw(ready, Method::POST, &own, &bearer(&sandbox.auth_token), body).await?;
        refused(&answer, 400, &format!("the error `{bad}`"))?;
    }
    Ok(())
}

async fn expect_error(socket: &mut Socket, code: &str, what: &str) -> Outcome<Value> {
    let frame = socket.wait_for(Duration::from_secs(5), |f| f["type"] == "error").await;
    let frame = frame.map_err(|error| Failed(format!("{what}: {error}")))?;
    check_eq!(frame["code"], code, "{what}");
    Ok(frame)
}

pub async fn the_client_socket_refuses_bad_frames_and_stays_open(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let ada = Person::sign_in(ready, "ada").await?;
    let session = ada.create_session().await?;
    let token = ada.ws_token(&session).await?;
    let (mut socket, _) = subscribe(ready, &session, &token, None).await?;
    let long = "x".repeat(64_001);
    let frames: Vec<(String, &str)> = vec![
        ("not json".to_owned(), "INVALID_MESSAGE"),
        ("[]".to_owned(), "INVALID_MESSAGE"),
        (json!({"type": "nonsense"}).to_string(), "INVALID_MESSAGE"),
        (json!({"type": "presence", "status": 5}).to_string(), "INVALID_MESSAGE"),
        (json!({"type": "prompt", "content": 5}).to_string(), "INVALID_PROMPT"),
        (json!({"type": "prompt", "clientRequestId": "r", "content": " "}).to_string(), "INVALID_PROMPT"),
        (json!({"type": "prompt", "clientRequestId": "r", "content": long}).to_string(), "INVALID_PROMPT"),
        (json!({"type": "fetch_history"}).to_string(), "INVALID_CURSOR"),
        (
            json!({"type": "cancel_prompt", "clientRequestId": "r", "messageId": "x"}).to_string(),
            "PROMPT_NOT_CANCELLABLE",
        ),
        (format!(r#"{{"type":"typing","pad":"{}"}}"#, "x".repeat(300_000)), "INVALID_MESSAGE"),
    ];
    for (frame, code) in frames {
        let shown = frame[..frame.len().min(60)].to_owned();
        socket.send_text(frame).await?;
        expect_error(&mut socket, code, &shown).await?;
    }
    socket.send_bytes(vec![1, 2, 3]).await?;
    expect_error(&mut socket, "INVALID_MESSAGE", "a binary frame").await?;
    socket.send_text(r#"{"type":"ping"}"#.to_owned()).await?;
    socket.wait_for(Duration::from_secs(5), |f| f["type"] == "pong").await?;
    check_eq!(ada.messages(&session).await?.len(), 0, "no prompt came of it");

    let origin = || vec![("Origin", ready.base_url.clone())];
    let mut stranger = open(ready, &session, "", &origin()).await?.map_err(|s| Failed(format!("refused: {s}")))?;
    stranger.send(&json!({"type": "subscribe", "token": "f".repeat(64), "clientId": "x"})).await?;
    match stranger.receive(Duration::from_secs(5)).await? {
        Received::Closed(code, reason) => {
            check_eq!((code, reason.as_str()), (4001, "Invalid authentication token"), "a wrong token");
        }
        Received::Json(frame) => return Err(Failed(format!("a stranger got {frame}"))),
    }
    let mut silent = open(ready, &session, "", &origin()).await?.map_err(|s| Failed(format!("refused: {s}")))?;
    silent.send(&json!({"type": "stop"})).await?;
    match silent.receive(Duration::from_secs(5)).await? {
        Received::Closed(code, _) => {
            check_eq!(code, 4002, "a message before subscribe");
        }
        Received::Json(frame) => return Err(Failed(format!("an unknown client got {frame}"))),
    }
    socket.send(&json!({"type": "subscribe", "token": token, "clientId": "x", "dialect": 2})).await?;
    loop {
        match socket.receive(Duration::from_secs(5)).await? {
            Received::Closed(code, _) => {
                check_eq!(code, 4003, "a second subscribe");
                break;
            }
            Received::Json(_) => {}
        }
    }
    for id in [UNKNOWN, "nonsense"] {
        match open(ready, id, "", &origin()).await? {
            Err(status) => {
                check_eq!(status, 404, "the socket of an unknown session");
            }
            Ok(_) => return Err(Failed("the socket of an unknown session opened".to_owned())),
        }
    }
    Ok(())
}

pub async fn the_sandbox_socket_refuses_strangers_and_bad_frames(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let ada = Person::sign_in(ready, "ada").await?;
    let session = ada.create_session().await?;
    let sandbox = world.backend()?.sandbox_of(&session).await?;
    for (token, id, status) in [
        (UNKNOWN.to_owned(), sandbox.sandbox_id.clone(), 401),
        (String::new(), sandbox.sandbox_id.clone(), 401),
        (sandbox.auth_token.clone(), "another-sandbox".to_owned(), 403),
    ] {
        let headers = vec![
            ("Authorization", format!("Bearer {token}")),
            ("X-Sandbox-ID", id),
            ("X-Bridge-Dialect", "2".to_owned()),
        ];
        match open(ready, &session, "?type=sandbox", &headers).await? {
            Err(refused) => {
                check_eq!(refused, status, "a stranger's upgrade");
            }
            Ok(_) => return Err(Failed("a stranger's upgrade was accepted".to_owned())),
        }
    }
    let (name, token) = (sandbox.sandbox_id.clone(), sandbox.auth_token.clone());
    let mut bridge = Bridge::new(sandbox);
    bridge.connect(ready).await?.map_err(|status| Failed(format!("upgrade refused: {status}")))?;
    let message = ada.prompt(&session, "work").await?;
    bridge.listen(Duration::from_secs(10), |b| b.prompts.len() == 1).await?;
    bridge.listen(Duration::from_secs(5), Bridge::is_settled).await?;
    let socket = bridge.raw()?;
    for frame in ["not json", "[]", "{}", r#"{"type":"nonsense"}"#] {
        socket.send_text(frame.to_owned()).await?;
    }
    socket.send_bytes(vec![0, 159, 146, 150]).await?;
    let forged = json!({"type": "user_message", "messageId": message, "content": "forged", "author": {"name": "Eve"}});
    bridge.emit(forged).await;
    bridge.emit(json!({"type": "tool_call", "messageId": message})).await;
    bridge.emit(json!({"type": "artifact", "artifactType": "pr", "url": "https://evil.example"})).await;
    bridge.emit(json!({"type": "error", "messageId": UNKNOWN, "error": "of another prompt"})).await;
    bridge.emit(json!({"type": "execution_complete", "messageId": message, "success": true})).await;
    bridge.listen(Duration::from_secs(10), Bridge::is_settled).await?;
    check!(bridge.is_settled(), "bad frames count as dealt with, so that the good one is reached");
    let ended = ada.wait_for_end(&session, &message, Duration::from_secs(10)).await?;
    check_eq!(ended["status"], "completed", "the prompt");
    let snapshot = ada.snapshot(&session).await?;
    check_eq!(snapshot["artifacts"], json!([]), "no artifact was forged");
    let text = snapshot["timeline"].to_string();
    check!(!text.contains("forged") && !text.contains("of another prompt"), "no event was forged: {text}");
    // What it may say, and its last word.
    let bearer = vec![("Authorization", format!("Bearer {token}"))];
    let ports = raw(ready, Method::GET, &format!("/sessions/{session}/tunnel-urls"), &bearer, None).await?;
    check_eq!((ports.status.as_u16(), ports.json["tunnelUrls"].clone()), (200, json!({})), "its ports");
    let last = Some(br#"{"error":"the disk is full","fatal":true}"#.to_vec());
    let answer = raw(ready, Method::POST, &format!("/sandbox/{name}/error"), &bearer, last.clone()).await?;
    check_eq!(answer.status.as_u16(), 200, "its last word ({})", answer.text);
    let answer = raw(ready, Method::POST, &format!("/sandbox/{name}/error"), &bearer, last).await?;
    refused(&answer, 410, "a word after that")?;
    check_eq!(ada.snapshot(&session).await?["session"]["sandboxStatus"], "failed", "the sandbox");
    Ok(())
}

pub async fn signatures_are_checked_and_never_accepted_twice(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let answer = signed(ready, "web", Method::GET, "/internal/auth/sign-in-providers", None).await?;
    check_eq!(answer.status.as_u16(), 200, "a signed call ({})", answer.text);
    let make = |secret: &str, at: u128, nonce: &str, path: &str| {
        Signed { service: "web", secret, method: "GET", path, query: "", body: b"", actor: "", timestamp_ms: at, nonce }
            .header()
    };
    let path = "/internal/auth/sign-in-providers";
    let call = |signature: String| async move {
        let headers = [("X-OpenInspect-Service", "web".to_owned()), ("X-OpenInspect-Service-Signature", signature)];
        raw(ready, Method::GET, path, &headers, None).await
    };
    let secret = ready.service_auth_secret.as_str();
    let once = make(secret, now_ms(), &nonce(), path);
    check_eq!(call(once.clone()).await?.status.as_u16(), 200, "a fresh signature");
    refused(&call(once).await?, 401, "the same signature again")?;
    refused(&call(make("wrong", now_ms(), &nonce(), path)).await?, 401, "a wrong key")?;
    refused(&call(make(secret, now_ms() - 301_000, &nonce(), path)).await?, 401, "an old signature")?;
    refused(&call(make(secret, now_ms() + 301_000, &nonce(), path)).await?, 401, "a signature of the future")?;
    refused(&call(make(secret, now_ms(), &nonce(), "/sessions")).await?, 401, "a signature of another path")?;
    for bad in ["", "sig1", "sig1.1.2", "sig2.1.ab.cd", "sig1.x.ab.cd", "sig1.1.AB.cd"] {
        refused(&call(bad.to_owned()).await?, 401, &format!("the signature `{bad}`"))?;
    }
    Ok(())
}

pub async fn browsers_of_other_origins_are_refused(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let ada = Person::sign_in(ready, "ada").await?;
    let session = ada.create_session().await?;
    let path = format!("/api/sessions/{session}/prompt");
    let body = Some(json!({"content": "from elsewhere"}).to_string().into_bytes());
    let headers = |origin: &str| {
        vec![
            ("Cookie", ada.cookie.clone()),
            ("Origin", origin.to_owned()),
            ("Content-Type", "application/json".to_owned()),
        ]
    };
    refused(&raw(ready, Method::POST, &path, &headers("https://evil.example"), body.clone()).await?, 403, "CSRF")?;
    let cross = vec![
        ("Cookie", ada.cookie.clone()),
        ("Sec-Fetch-Site", "cross-site".to_owned()),
        ("Content-Type", "application/json".to_owned()),
    ];
    refused(&raw(ready, Method::POST, &path, &cross, body).await?, 403, "CSRF without an Origin")?;
    let evil = vec![("Origin", "https://evil.example".to_owned())];
    match open(ready, &session, "", &evil).await? {
        Err(status) => {
            check_eq!(status, 403, "a socket from elsewhere");
        }
        Ok(_) => return Err(Failed("a socket from elsewhere opened".to_owned())),
    }
    check_eq!(ada.messages(&session).await?.len(), 0, "no prompt came of it");
    let elsewhere = json!({"provider": "github", "callbackURL": "https://evil.example/", "disableRedirect": true});
    let answer = ada.call(Method::POST, "/api/auth/sign-in/social", Some(&elsewhere)).await?;
    refused(&answer, 400, "an open redirect")?;
    Ok(())
}

pub async fn people_who_are_not_allowed_cannot_sign_in(world: &World) -> Outcome {
    match Person::sign_in(&world.stack.ready, "linus").await {
        Err(_) => Ok(()),
        Ok(_) => Err(Failed("somebody who is not on the list signed in".to_owned())),
    }
}
