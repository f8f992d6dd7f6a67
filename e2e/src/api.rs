//! People and services that call the control plane.

use std::time::{Duration, Instant};

use oi_protocol::rest::{CreateSessionResponse, PromptResponse, WsTokenResponse};
use reqwest::header::{COOKIE, LOCATION, ORIGIN, SET_COOKIE};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::service_auth::{Signed, nonce, now_ms};
use crate::stack::Ready;
use crate::{Failed, Outcome};

/// An answer with its JSON.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Body; null when it is not JSON.
    pub json: Value,
    /// Body as text.
    pub text: String,
}

async fn answer(response: reqwest::Response) -> Outcome<Answer> {
    let status = response.status();
    let text = response.text().await?;
    Ok(Answer { status, json: serde_json::from_str(&text).unwrap_or(Value::Null), text })
}

fn client() -> Outcome<reqwest::Client> {
    Ok(reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(60))
        .build()?)
}

/// A person with a browser's cookie.
#[derive(Clone)]
pub struct Person {
    /// What the browser believes to talk to.
    base: String,
    /// Where its calls go.
    reached: String,
    client: reqwest::Client,
    /// The cookie header.
    pub cookie: String,
}

fn hidden_fields(page: &str) -> Vec<(String, String)> {
    let attribute = |tag: &str, name: &str| {
        let start = tag.find(&format!("{name}=\""))? + name.len() + 2;
        let end = tag[start..].find('"')? + start;
        Some(tag[start..end].replace("&amp;", "&").replace("&quot;", "\"").replace("&#x27;", "'"))
    };
    page.split("<input")
        .skip(1)
        .filter_map(|rest| rest.split('>').next())
        .filter(|tag| tag.contains("hidden"))
        .filter_map(|tag| Some((attribute(tag, "name")?, attribute(tag, "value")?)))
        .collect()
}

/// A sign-in that a provider has said yes to, and that has not come back yet.
pub struct Flow {
    /// Where the browser is sent: our callback with a code and the state.
    pub back: String,
    /// The cookie that it began with.
    pub cookie: String,
}

/// What the browser gets when it comes back.
pub struct Landed {
    /// Where it goes on to.
    pub location: String,
    /// Cookies that were set.
    pub cookie: String,
}

impl Flow {
    /// Begins a sign-in with `github` or `google` and picks `login` there, as a browser does.
    pub async fn begin(ready: &Ready, provider: &str, login: &str) -> Outcome<Self> {
        let client = client()?;
        let response = client
            .post(format!("{}/api/auth/sign-in/social", ready.base_url))
            .header(ORIGIN, &ready.base_url)
            .json(&json!({"provider": provider, "callbackURL": "/", "disableRedirect": true}))
            .send()
            .await?;
        let cookie = cookies(&response);
        let begun = answer(response).await?;
        let url = begun.json["url"].as_str().ok_or_else(|| Failed(format!("sign-in gave no url: {}", begun.text)))?;
        let page = client.get(url).send().await?.text().await?;
        let mut fields: Vec<(String, String)> =
            hidden_fields(&page).into_iter().filter(|(name, _)| name != "login").collect();
        fields.push(("login".to_owned(), login.to_owned()));
        let body: Vec<String> = fields.iter().map(|(k, v)| format!("{}={}", encode(k), encode(v))).collect();
        let (origin, path) = match provider {
            "google" => (&ready.google_url, "/o/oauth2/v2/auth"),
            _ => (&ready.forge_url, "/login/oauth/authorize"),
        };
        let approved = client
            .post(format!("{origin}{path}"))
            .header("Content-Type", "application/x-www-form-urlencoded")
            .header(ORIGIN, origin)
            .body(body.join("&"))
            .send()
            .await?;
        let back = approved.headers().get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        match back {
            Some(back) => Ok(Self { back, cookie }),
            None => Err(Failed(format!("{provider} did not redirect: {}", approved.text().await?))),
        }
    }

    /// Comes back, with the cookie that it began with or another.
    pub async fn land(&self, cookie: &str) -> Outcome<Landed> {
        let landed = client()?.get(&self.back).header(COOKIE, cookie).send().await?;
        let location = landed.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        Ok(Landed { location: location.to_owned(), cookie: cookies(&landed) })
    }
}

impl Person {
    /// Signs in at the local forge as `login`, as a browser does.
    pub async fn sign_in(ready: &Ready, login: &str) -> Outcome<Self> {
        Self::sign_in_with(ready, "github", login).await
    }

    /// The same with `github` or `google`.
    pub async fn sign_in_with(ready: &Ready, provider: &str, login: &str) -> Outcome<Self> {
        let flow = Flow::begin(ready, provider, login).await?;
        let landed = flow.land(&flow.cookie).await?;
        if !landed.cookie.contains("session_token=") {
            return Err(Failed(format!("no session cookie after the callback: {}", landed.location)));
        }
        Self::with_cookie(ready, landed.cookie)
    }

    /// Whoever a cookie stands for.
    pub fn with_cookie(ready: &Ready, cookie: String) -> Outcome<Self> {
        let base = ready.base_url.clone();
        let reached = ready.direct_url.clone().unwrap_or_else(|| base.clone());
        Ok(Self { base, reached, client: client()?, cookie })
    }

    /// Calls an `/api` path.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Outcome<Answer> {
        let mut request = self
            .client
            .request(method, format!("{}{path}", self.reached))
            .header(COOKIE, &self.cookie)
            .header(ORIGIN, &self.base);
        if let Some(body) = body {
            request = request.json(body);
        }
        answer(request.send().await?).await
    }

    /// Creates a session on the sample repository.
    pub async fn create_session(&self) -> Outcome<String> {
        let body = json!({"repoOwner": "acme", "repoName": "sample-service"});
        let created = self.call(Method::POST, "/api/sessions", Some(&body)).await?;
        if created.status != StatusCode::CREATED {
            return Err(Failed(format!("create: {} {}", created.status, created.text)));
        }
        let created: CreateSessionResponse = serde_json::from_value(created.json)?;
        Ok(created.session_id.as_str().to_owned())
    }

    /// Sends a prompt by REST.
    pub async fn prompt(&self, session: &str, content: &str) -> Outcome<String> {
        let path = format!("/api/sessions/{session}/prompt");
        let queued = self.call(Method::POST, &path, Some(&json!({"content": content}))).await?;
        if queued.status != StatusCode::OK {
            return Err(Failed(format!("prompt: {} {}", queued.status, queued.text)));
        }
        let queued: PromptResponse = serde_json::from_value(queued.json)?;
        Ok(queued.message_id.as_str().to_owned())
    }

    /// A token for the session's socket.
    pub async fn ws_token(&self, session: &str) -> Outcome<String> {
        let answer = self.call(Method::POST, &format!("/api/sessions/{session}/ws-token"), Some(&json!({}))).await?;
        if answer.status != StatusCode::OK {
            return Err(Failed(format!("ws-token: {} {}", answer.status, answer.text)));
        }
        let minted: WsTokenResponse = serde_json::from_value(answer.json)?;
        Ok(minted.token)
    }

    /// The session's snapshot.
    pub async fn snapshot(&self, session: &str) -> Outcome<Value> {
        Ok(self.call(Method::GET, &format!("/api/sessions/{session}"), None).await?.json)
    }

    /// All stored prompts of a session.
    pub async fn messages(&self, session: &str) -> Outcome<Vec<Value>> {
        let answer = self.call(Method::GET, &format!("/api/sessions/{session}/messages"), None).await?;
        Ok(answer.json["messages"].as_array().cloned().unwrap_or_default())
    }

    /// Waits until a prompt has ended and gives its stored form.
    pub async fn wait_for_end(&self, session: &str, message: &str, within: Duration) -> Outcome<Value> {
        let begun = Instant::now();
        let mut last = Value::Null;
        while begun.elapsed() < within {
            // The control plane may be down for a moment: that is what some tests are about.
            let messages = self.messages(session).await.unwrap_or_default();
            if let Some(found) = messages.iter().find(|m| m["id"] == message) {
                last = found.clone();
                if matches!(found["status"].as_str(), Some("completed" | "failed")) {
                    return Ok(last);
                }
            }
            sleep(Duration::from_millis(200)).await;
        }
        Err(Failed(format!("prompt {message} did not end within {within:?}: {last}")))
    }
}

fn encode(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

fn cookies(response: &reqwest::Response) -> String {
    let pairs: Vec<&str> = response
        .headers()
        .get_all(SET_COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok()?.split(';').next())
        .filter(|pair| !pair.ends_with('='))
        .collect();
    pairs.join("; ")
}

/// A call of a service, signed. Names of a query must come in their order.
pub async fn signed(ready: &Ready, service: &str, method: Method, path: &str, body: Option<&Value>) -> Outcome<Answer> {
    let bytes = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    let secret = ready.service_auth_secrets[service].as_str().unwrap_or_default();
    let (pathname, query) = path.split_once('?').unwrap_or((path, ""));
    let signature = Signed {
        service,
        secret,
        method: method.as_str(),
        path: pathname,
        query,
        body: &bytes,
        actor: "",
        timestamp_ms: now_ms(),
        nonce: &nonce(),
    }
    .header();
    let mut request = client()?
        .request(method, format!("{}{path}", ready.base_url))
        .header("X-OpenInspect-Service", service)
        .header("X-OpenInspect-Service-Signature", signature);
    if body.is_some() {
        request = request.header("Content-Type", "application/json").body(bytes);
    }
    answer(request.send().await?).await
}

/// A call with nothing but what is given.
pub async fn raw(
    ready: &Ready,
    method: Method,
    path: &str,
    headers: &[(&str, String)],
    body: Option<Vec<u8>>,
) -> Outcome<Answer> {
    let mut request = client()?.request(method, format!("{}{path}", ready.base_url));
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    if let Some(body) = body {
        request = request.body(body);
    }
    answer(request.send().await?).await
}

/// What a session's statements have cost since its object is in memory; a stack with `COUNT_COSTS` counts them. Asking
/// wakes nothing in the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Costs {
    /// Statements.
    pub statements: u64,
    /// Rows that were read.
    pub rows_read: u64,
    /// Rows that were written, those of indexes included.
    pub rows_written: u64,
}

impl Costs {
    /// What was spent since an earlier look at the same object.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            statements: self.statements.saturating_sub(earlier.statements),
            rows_read: self.rows_read.saturating_sub(earlier.rows_read),
            rows_written: self.rows_written.saturating_sub(earlier.rows_written),
        }
    }
}

/// Asks for them.
pub async fn costs(ready: &Ready, session: &str) -> Outcome<Costs> {
    let path = format!("/internal/faults/costs?sessionId={session}");
    let answer = signed(ready, "web", Method::GET, &path, None).await?;
    if answer.status != StatusCode::OK {
        return Err(Failed(format!("costs: {} {}", answer.status, answer.text)));
    }
    Ok(serde_json::from_value(answer.json)?)
}
