//! Who people are and what they may do: signing in with GitHub and Google, roles, personal tokens, the audit log; and
//! the ways in which others try to be somebody.

use std::time::{Duration, Instant};

use e2e::api::{Answer, Flow, Person, raw};
use e2e::socket::{Received, open, subscribe};
use e2e::stack::Ready;
use e2e::{Failed, Outcome, check, check_eq};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::World;

const UNKNOWN: &str = "00000000000000000000000000000000";

async fn get(person: &Person, path: &str) -> Outcome<Answer> {
    person.call(Method::GET, path, None).await
}

async fn me(person: &Person) -> Outcome<Value> {
    Ok(get(person, "/api/auth/get-session").await?.json["user"].clone())
}

fn id_of(value: &Value) -> Outcome<String> {
    value["id"].as_str().map(str::to_owned).ok_or_else(|| Failed(format!("no id in {value}")))
}

fn status(answer: &Answer, expected: u16, what: &str) -> Outcome {
    check_eq!(answer.status.as_u16(), expected, "{what} ({})", answer.text);
    Ok(())
}

/// Tells the stand-in for Google what to do.
async fn google(ready: &Ready, path: &str, body: &Value) -> Outcome {
    let url = format!("{}/_admin/{path}", ready.google_url);
    let request = reqwest::Client::new().post(url).bearer_auth(&ready.forge_admin_secret).json(body);
    let answer = request.send().await?;
    check_eq!(answer.status().as_u16(), 204, "the stand-in for Google takes {body}");
    Ok(())
}

/// Lets the minute's cron run now.
async fn minute(ready: &Ready) -> Outcome {
    let url = format!("{}/cdn-cgi/handler/scheduled?cron=*+*+*+*+*", ready.base_url);
    let answer = reqwest::Client::new().get(url).timeout(Duration::from_secs(30)).send().await?;
    check!(answer.status().is_success(), "the cron runs: {}", answer.status());
    Ok(())
}

async fn with_token(ready: &Ready, token: &str, method: Method, path: &str, body: Option<Value>) -> Outcome<Answer> {
    let mut headers = vec![("Authorization", format!("Bearer {token}"))];
    if body.is_some() {
        headers.push(("Content-Type", "application/json".to_owned()));
    }
    raw(ready, method, path, &headers, body.map(|body| body.to_string().into_bytes())).await
}

/// A new token: the token itself and its id.
async fn token(person: &Person, scopes: &[&str]) -> Outcome<(String, String)> {
    let body = json!({"name": "a script", "scopes": scopes, "expiresInDays": 7});
    let made = person.call(Method::POST, "/api/me/tokens", Some(&body)).await?;
    status(&made, 201, "a token")?;
    let token = made.json["token"].as_str().unwrap_or_default().to_owned();
    check!(token.starts_with("oi_pat_") && token.len() == 71, "it looks like one: {token}");
    Ok((token, id_of(&made.json["personalToken"])?))
}

pub async fn a_person_signs_in_with_github_and_google_and_is_one(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let config = raw(ready, Method::GET, "/api/config", &[], None).await?;
    check_eq!(config.json["signInProviders"], json!(["github", "google"]), "ways to sign in");
    let by_github = me(&Person::sign_in(ready, "grace").await?).await?;
    let by_google = me(&Person::sign_in_with(ready, "google", "grace").await?).await?;
    check_eq!(by_google["id"], by_github["id"], "grace is one person");
    check_eq!(by_google["role"], "member", "she is no admin");
    check_eq!(me(&Person::sign_in(ready, "ada").await?).await?["role"], "admin", "the deployment names ada");
    Ok(())
}

pub async fn an_id_token_that_proves_nothing_signs_nobody_in(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let land = |login: &'static str| async move {
        let flow = Flow::begin(ready, "google", login).await?;
        flow.land(&flow.cookie).await
    };
    for flaw in
        ["alg-none", "alg-hs256", "other-key", "unknown-key", "tampered", "issuer", "audience", "nonce", "expired"]
    {
        google(ready, "flaw", &json!({ "flaw": flaw })).await?;
        let landed = land("grace").await?;
        check!(landed.location.ends_with("/login?error=invalid_code"), "{flaw}: {}", landed.location);
        check!(!landed.cookie.contains("session_token="), "{flaw} gives no session");
    }
    google(ready, "people", &json!({"login": "grace", "emailVerified": false})).await?;
    let landed = land("grace").await?;
    check!(landed.location.ends_with("/login?error=email_not_verified"), "an unverified e-mail: {}", landed.location);
    google(ready, "people", &json!({"login": "grace", "emailVerified": true})).await?;
    let landed = land("grace").await?;
    check!(landed.cookie.contains("session_token="), "a good one signs in: {}", landed.location);
    let landed = land("linus").await?;
    check!(landed.location.ends_with("/login?error=not_allowed"), "somebody else: {}", landed.location);
    let landed = land("-").await?;
    check!(landed.location.ends_with("/login?error=access_denied"), "who says no: {}", landed.location);
    Ok(())
}

pub async fn a_sign_in_ends_once_where_it_began_and_on_our_pages(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    for provider in ["github", "google"] {
        let flow = Flow::begin(ready, provider, "grace").await?;
        let mismatch = "/login?error=state_mismatch";
        let stranger = flow.land("").await?;
        check!(stranger.location.ends_with(mismatch), "another browser: {}", stranger.location);
        let other = Flow::begin(ready, provider, "grace").await?;
        let mixed = flow.land(&other.cookie).await?;
        check!(mixed.location.ends_with(mismatch), "the state of another sign-in: {}", mixed.location);
        let first = flow.land(&flow.cookie).await?;
        check!(first.cookie.contains("session_token="), "it ends: {}", first.location);
        let again = flow.land(&flow.cookie).await?;
        check!(again.location.ends_with(mismatch), "a replay: {}", again.location);
        check!(!again.cookie.contains("session_token="), "a replay gives no session");
    }
    // A state is good for the provider that it was made for.
    let flow = Flow::begin(ready, "github", "grace").await?;
    let crossed = Flow { back: flow.back.replace("/callback/github", "/callback/google"), cookie: String::new() };
    let landed = crossed.land(&flow.cookie).await?;
    check!(landed.location.ends_with("/login?error=state_mismatch"), "another provider: {}", landed.location);
    let origin = vec![("Origin", ready.base_url.clone()), ("Content-Type", "application/json".to_owned())];
    for elsewhere in [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "/\t/evil.example",
        "javascript:alert(1)",
        &format!("{}@evil.example/", ready.base_url),
        &format!("{}.evil.example/", ready.base_url),
    ] {
        for provider in ["github", "google"] {
            let body = json!({"provider": provider, "callbackURL": elsewhere}).to_string().into_bytes();
            let answer = raw(ready, Method::POST, "/api/auth/sign-in/social", &origin, Some(body)).await?;
            status(&answer, 400, elsewhere)?;
        }
    }
    let body = json!({"provider": "gitlab"}).to_string().into_bytes();
    status(&raw(ready, Method::POST, "/api/auth/sign-in/social", &origin, Some(body)).await?, 400, "another provider")
}

pub async fn a_forged_cookie_is_nobody(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let ada = Person::sign_in(ready, "ada").await?;
    let (name, value) = ada.cookie.split_once('=').ok_or_else(|| Failed("no cookie".to_owned()))?;
    let flipped = if value.starts_with('0') { value.replacen('0', "1", 1) } else { format!("0{}", &value[1..]) };
    for forged in [
        format!("{name}={flipped}"),
        format!("{name}={}", "0".repeat(64)),
        format!("{name}={}", value.to_uppercase()),
        format!("{name}={value}; {name}={flipped}"),
        format!("{name}={value}' OR 1=1"),
        format!("__Host-{name}={value}"),
    ] {
        let nobody = Person::with_cookie(ready, forged.clone())?;
        status(&get(&nobody, "/api/sessions").await?, 401, &forged)?;
        check_eq!(get(&nobody, "/api/auth/get-session").await?.json, Value::Null, "{forged}");
    }
    status(&get(&ada, "/api/sessions").await?, 200, "her own cookie")?;
    let signed_out = ada.call(Method::POST, "/api/auth/revoke-sessions", Some(&json!({}))).await?;
    status(&signed_out, 200, "signing out everywhere")?;
    status(&get(&ada, "/api/sessions").await?, 401, "her cookie after that")
}

pub async fn a_member_does_no_admins_acts(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let (ada, grace) = (Person::sign_in(ready, "ada").await?, Person::sign_in(ready, "grace").await?);
    let (ada_id, grace_id) = (id_of(&me(&ada).await?)?, id_of(&me(&grace).await?)?);
    let of_ada = ada.create_session().await?;
    let of_grace = grace.create_session().await?;
    let make_admin = json!({"role": "admin"});
    let acts = [
        (Method::GET, "/api/people".to_owned(), None),
        (Method::PATCH, format!("/api/people/{grace_id}"), Some(&make_admin)),
        (Method::GET, "/api/audit-log".to_owned(), None),
        (Method::DELETE, format!("/api/sessions/{of_ada}"), None),
    ];
    for (method, path, body) in acts {
        let answer = grace.call(method.clone(), &path, body).await?;
        status(&answer, 403, &format!("a member's {method} {path}"))?;
        check_eq!(answer.json["code"], "FORBIDDEN", "{method} {path}");
    }
    let nobody = Person::with_cookie(ready, String::new())?;
    status(&get(&nobody, "/api/people").await?, 401, "nobody's GET of people")?;
    check_eq!(me(&grace).await?["role"], "member", "nothing came of it");
    status(&get(&ada, &format!("/api/sessions/{of_ada}")).await?, 200, "ada's session is there")?;

    let people = get(&ada, "/api/people?limit=100").await?;
    status(&people, 200, "people")?;
    let known = people.json["people"].as_array().cloned().unwrap_or_default();
    check!(known.iter().any(|p| p["id"] == json!(grace_id) && p["role"] == "member"), "{}", people.text);
    let path = format!("/api/people/{grace_id}");
    for bad in [json!({}), json!({"role": "owner"}), json!({"role": "admin", "email": "x"}), json!([])] {
        status(&ada.call(Method::PATCH, &path, Some(&bad)).await?, 400, &format!("{bad}"))?;
    }
    for unknown in [UNKNOWN, "nobody"] {
        let answer = ada.call(Method::PATCH, &format!("/api/people/{unknown}"), Some(&make_admin)).await?;
        status(&answer, 404, "a role for nobody")?;
    }
    status(&ada.call(Method::PATCH, &path, Some(&make_admin)).await?, 200, "grace becomes an admin")?;
    status(&get(&grace, "/api/audit-log").await?, 200, "and is one at once")?;
    let back = json!({"role": "member"});
    let of_herself = ada.call(Method::PATCH, &format!("/api/people/{ada_id}"), Some(&back)).await?;
    status(&of_herself, 409, "whom the deployment names an admin stays one")?;
    status(&ada.call(Method::PATCH, &path, Some(&back)).await?, 200, "grace is a member again")?;
    status(&get(&grace, "/api/audit-log").await?, 403, "at once")?;
    let deleted = ada.call(Method::DELETE, &format!("/api/sessions/{of_grace}"), None).await?;
    status(&deleted, 200, "an admin deletes anybody's session")?;

    let of_this = format!("/api/audit-log?action=role.set&subjectKind=person&subjectId={grace_id}&limit=1");
    let newest = get(&ada, &of_this).await?;
    status(&newest, 200, "the audit log")?;
    let entry = &newest.json["entries"][0];
    check_eq!(entry["detail"], json!({"role": "member"}), "what was done ({})", newest.text);
    check_eq!(entry["actorId"], json!(ada_id), "who did it");
    check!(entry["requestId"].as_str().is_some_and(|id| id.len() == 8), "in which request: {entry}");
    let cursor = newest.json["cursor"].as_str().ok_or_else(|| Failed("there is a second page".to_owned()))?;
    let older = get(&ada, &format!("{of_this}&cursor={cursor}")).await?;
    check_eq!(older.json["entries"][0]["detail"], json!({"role": "admin"}), "the second page ({})", older.text);
    let path = format!("/api/audit-log?subjectKind=session&subjectId={of_grace}");
    check_eq!(get(&ada, &path).await?.json["entries"][0]["action"], "session.delete", "a deletion is told");
    for query in ["limit=0", "limit=101", "cursor=x", "cursor=-1", "since=x", "subjectId=x"] {
        status(&get(&ada, &format!("/api/audit-log?{query}")).await?, 400, query)?;
    }
    Ok(())
}

pub async fn a_personal_token_does_what_its_scopes_say(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let (ada, grace) = (Person::sign_in(ready, "ada").await?, Person::sign_in(ready, "grace").await?);
    let new_session = || Some(json!({"repoOwner": "acme", "repoName": "sample-service"}));
    for bad in [
        json!({"name": "x", "scopes": [], "expiresInDays": 7}),
        json!({"name": "x", "scopes": ["root"], "expiresInDays": 7}),
        json!({"name": "x", "scopes": ["read"]}),
        json!({"name": "x", "scopes": ["read"], "expiresInDays": 9999}),
        json!({"name": " ", "scopes": ["read"], "expiresInDays": 7}),
    ] {
        status(&grace.call(Method::POST, "/api/me/tokens", Some(&bad)).await?, 400, &bad.to_string())?;
    }
    let admins = json!({"name": "x", "scopes": ["admin"], "expiresInDays": 7});
    status(&grace.call(Method::POST, "/api/me/tokens", Some(&admins)).await?, 403, "a member's admin token")?;

    let (reads, reads_id) = token(&grace, &["read"]).await?;
    for path in ["/sessions", "/api/sessions", "/api/models"] {
        status(&with_token(ready, &reads, Method::GET, path, None).await?, 200, &format!("reading {path}"))?;
    }
    let refused = with_token(ready, &reads, Method::POST, "/api/sessions", new_session()).await?;
    status(&refused, 403, "writing with a token that reads")?;
    let (works, _) = token(&grace, &["sessions"]).await?;
    let made = with_token(ready, &works, Method::POST, "/api/sessions", new_session()).await?;
    status(&made, 201, "a session by a script")?;
    let session = made.json["sessionId"].as_str().unwrap_or_default().to_owned();
    check_eq!(grace.snapshot(&session).await?["session"]["id"], json!(session), "it is there");
    let prompt = Some(json!({"content": "hello"}));
    let path = format!("/sessions/{session}/prompt");
    status(&with_token(ready, &works, Method::POST, &path, prompt.clone()).await?, 200, "a prompt by a script")?;
    status(&with_token(ready, &reads, Method::POST, &path, prompt).await?, 403, "a prompt by one that reads")?;
    let path = format!("/api/sessions/{session}/sandbox-access");
    status(&with_token(ready, &reads, Method::GET, &path, None).await?, 403, "a sandbox's passwords")?;

    // What makes credentials or signs out takes none.
    let (all, _) = token(&ada, &["read", "sessions", "settings", "admin"]).await?;
    for (method, path) in [
        (Method::GET, "/api/me/tokens".to_owned()),
        (Method::POST, "/api/me/tokens".to_owned()),
        (Method::DELETE, format!("/api/me/tokens/{reads_id}")),
        (Method::POST, "/api/auth/revoke-sessions".to_owned()),
        (Method::POST, "/api/auth/sign-out".to_owned()),
        (Method::POST, "/api/auth/sign-in/social".to_owned()),
        (Method::POST, format!("/api/sessions/{session}/ws-token")),
    ] {
        let body = (method != Method::GET).then(|| json!({"name": "x", "scopes": ["read"], "expiresInDays": 1}));
        status(&with_token(ready, &all, method.clone(), &path, body).await?, 403, &format!("{method} {path}"))?;
    }
    // A token has its owner's rights and no more.
    status(&with_token(ready, &works, Method::GET, "/api/audit-log", None).await?, 403, "a member's token")?;
    let (narrow, _) = token(&ada, &["read", "sessions"]).await?;
    status(&with_token(ready, &narrow, Method::GET, "/api/people", None).await?, 403, "an admin's small token")?;
    status(&with_token(ready, &all, Method::GET, "/people", None).await?, 200, "an admin's token")?;
    let path = format!("/sessions/{session}/scm-credentials");
    status(&with_token(ready, &all, Method::POST, &path, Some(json!({}))).await?, 401, "it is no sandbox's")?;

    for stranger in [format!("oi_pat_{}", "0".repeat(64)), "oi_pat_x".to_owned(), format!("{reads}0")] {
        status(&with_token(ready, &stranger, Method::GET, "/api/sessions", None).await?, 401, "an unknown token")?;
    }
    let listed = get(&grace, "/api/me/tokens").await?;
    let used = listed.json["tokens"].as_array().into_iter().flatten().find(|one| one["id"] == json!(reads_id));
    check!(used.is_some_and(|one| one["lastUsedAt"].is_i64()), "its use is noted: {}", listed.text);
    check!(!listed.text.contains("oi_pat_"), "no token is shown again");
    let path = format!("/api/me/tokens/{reads_id}");
    status(&ada.call(Method::DELETE, &path, None).await?, 404, "another's token")?;
    status(&grace.call(Method::DELETE, &path, None).await?, 200, "revoking")?;
    status(&grace.call(Method::DELETE, &path, None).await?, 404, "revoking again")?;
    status(&with_token(ready, &reads, Method::GET, "/api/sessions", None).await?, 401, "a revoked token")?;
    let log = get(&ada, &format!("/api/audit-log?subjectKind=token&subjectId={reads_id}")).await?;
    let actions: Vec<_> = log.json["entries"].as_array().into_iter().flatten().map(|e| e["action"].clone()).collect();
    check_eq!(actions, [json!("token.revoke"), json!("token.create")], "the log tells of it ({})", log.text);
    check!(!log.text.contains(&reads[7..]), "and not the token");
    Ok(())
}

pub async fn who_is_not_let_in_any_more_loses_session_socket_and_token(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    google(ready, "people", &json!({"login": "linus", "email": "linus@allowed.example"})).await?;
    let linus = Person::sign_in_with(ready, "google", "linus").await?;
    let linus_id = id_of(&me(&linus).await?)?;
    let session = linus.create_session().await?;
    let (mut socket, _) = subscribe(ready, &session, &linus.ws_token(&session).await?, None).await?;
    let (script, _) = token(&linus, &["read"]).await?;
    let allowed = || with_token(ready, &script, Method::GET, "/api/sessions", None);
    // Asked again, Google says the same: nothing changes.
    sleep(Duration::from_millis(1_200)).await;
    minute(ready).await?;
    status(&get(&linus, "/api/sessions").await?, 200, "he is let in still")?;
    status(&allowed().await?, 200, "and so is his script")?;

    google(ready, "people", &json!({"login": "linus", "email": "linus@elsewhere.example"})).await?;
    let begun = Instant::now();
    while allowed().await?.status.as_u16() == 200 {
        check!(begun.elapsed() < Duration::from_secs(30), "his script is let in still");
        sleep(Duration::from_millis(1_200)).await;
        minute(ready).await?;
    }
    status(&allowed().await?, 401, "his script")?;
    status(&get(&linus, "/api/sessions").await?, 401, "his browser")?;
    check_eq!(get(&linus, "/api/auth/get-session").await?.json, Value::Null, "his session");
    loop {
        match socket.receive(Duration::from_secs(10)).await? {
            Received::Closed(code, _) => {
                check_eq!(code, 4002, "his socket");
                break;
            }
            Received::Json(_) => {}
        }
    }
    let flow = Flow::begin(ready, "google", "linus").await?;
    let landed = flow.land(&flow.cookie).await?;
    check!(landed.location.ends_with("/login?error=not_allowed"), "he comes back: {}", landed.location);
    let ada = Person::sign_in(ready, "ada").await?;
    let log =
        get(&ada, &format!("/api/audit-log?action=person.shut_out&subjectKind=person&subjectId={linus_id}")).await?;
    check_eq!(log.json["entries"][0]["actorKind"], "system", "the log tells of it ({})", log.text);

    // Let in again, he has to sign in, and the old token stays dead.
    google(ready, "people", &json!({"login": "linus", "email": "linus@allowed.example"})).await?;
    let again = Person::sign_in_with(ready, "google", "linus").await?;
    check_eq!(me(&again).await?["id"], json!(linus_id), "he is the same person");
    status(&allowed().await?, 401, "his old script")?;
    google(ready, "people", &json!({"login": "linus", "email": "linus@example.com"})).await
}

pub async fn an_account_that_google_closed_has_to_sign_in_again(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    google(ready, "people", &json!({"login": "linus", "email": "linus@allowed.example"})).await?;
    let linus = Person::sign_in_with(ready, "google", "linus").await?;
    let (script, _) = token(&linus, &["read"]).await?;
    google(ready, "people", &json!({"login": "linus", "closed": true})).await?;
    let begun = Instant::now();
    while get(&linus, "/api/sessions").await?.status.as_u16() == 200 {
        check!(begun.elapsed() < Duration::from_secs(30), "he is let in still");
        sleep(Duration::from_millis(1_200)).await;
        minute(ready).await?;
    }
    status(&with_token(ready, &script, Method::GET, "/api/sessions", None).await?, 401, "his script")
}

pub async fn answers_pages_and_sockets_keep_other_sites_out(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let ada = Person::sign_in(ready, "ada").await?;
    let client = reqwest::Client::new();
    let header = |answer: &reqwest::Response, name: &str| {
        answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    for path in ["/api/config", "/api/sessions", "/api/nothing"] {
        let answer = client.get(format!("{}{path}", ready.base_url)).header("Cookie", &ada.cookie).send().await?;
        let policy = header(&answer, "content-security-policy");
        check!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("x-frame-options", "DENY"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cache-control", "private, no-store"),
        ] {
            check_eq!(header(&answer, name), value, "{name} of {path}");
        }
        check_eq!(header(&answer, "access-control-allow-origin"), "", "other sites may not read {path}");
    }
    let page = client.get(format!("{}/login", ready.base_url)).send().await?;
    let policy = header(&page, "content-security-policy");
    check!(policy.contains("script-src 'self';") && !policy.contains("unsafe"), "the page's policy: {policy}");
    check!(policy.contains(&format!("img-src 'self' data: {} ", ready.forge_url)), "pictures of the forge: {policy}");
    let session = ada.create_session().await?;
    let origin = ("Origin", ready.base_url.clone());
    let site = |site: &str| ("Sec-Fetch-Site", site.to_owned());
    for headers in [
        vec![("Origin", "https://evil.example".to_owned())],
        vec![("Origin", "null".to_owned())],
        vec![origin.clone(), site("cross-site")],
        vec![site("cross-site")],
    ] {
        let refused = open(ready, &session, "", &headers).await?.err();
        check_eq!(refused, Some(403), "a socket from elsewhere: {headers:?}");
    }
    check!(open(ready, &session, "", &[origin.clone(), site("same-origin")]).await?.is_ok(), "a socket of our page");
    let path = format!("/api/sessions/{session}/prompt");
    let body = || Some(json!({"content": "from elsewhere"}).to_string().into_bytes());
    for headers in [
        vec![("Origin", "https://evil.example".to_owned())],
        vec![origin, site("cross-site")],
        vec![site("same-site")],
        vec![],
    ] {
        let headers = [vec![("Cookie", ada.cookie.clone())], headers].concat();
        status(&raw(ready, Method::POST, &path, &headers, body()).await?, 403, &format!("{headers:?}"))?;
    }
    check_eq!(ada.messages(&session).await?.len(), 0, "no prompt came of it");
    Ok(())
}
