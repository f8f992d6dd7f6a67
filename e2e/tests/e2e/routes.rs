//! Every route, as `docs/openapi.json` lists them, refuses what it must: callers without a credential or with a wrong
//! one, bodies that do not fit, names that nothing has, methods that it does not take. A new route is tested by being
//! in the document. What routes do when all is well, the other files show.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

use e2e::api::Person;
use e2e::coverage;
use e2e::service_auth::{Signed, nonce, now_ms};
use e2e::stack::Ready;
use e2e::{Failed, Outcome, check, check_eq};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

use crate::World;

/// Has the form of most ids.
const UNKNOWN: &str = "00000000000000000000000000000000";
/// Has the form of a personal token.
const NOBODYS_TOKEN: &str = "oi_pat_0000000000000000000000000000000000000000000000000000000000000000";
/// Parts of paths below which any name will do: what is kept by name is there for every one.
const ANY_NAME: [&str; 3] = ["/integration-settings/", "/scm-settings/", "/metadata"];
/// No route takes longer to refuse, apart from bodies of megabytes.
const WITHIN: Duration = Duration::from_secs(30);
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// A name of this kind that nothing has.
fn unknown(kind: &str) -> &'static str {
    match kind {
        "authorization" => "0000000000000000000000000000000000000000000000000000000000000000",
        "environment" => "env_unknown",
        "key" => "UNKNOWN",
        _ => UNKNOWN,
    }
}

/// An operation of the document.
struct Route {
    method: Method,
    /// With names in braces.
    template: String,
    policy: String,
    max_body: usize,
    /// One that is in order.
    example: Option<Value>,
    needs_body: bool,
    takes_json: bool,
    /// A property that a body must have.
    required: Option<String>,
    /// Parameters that the query must have.
    query: Vec<String>,
    /// Headers that it must have.
    headers: Vec<String>,
    /// Of names that are one of a few words: the first word.
    words: BTreeMap<String, String>,
    /// The scope that a personal token needs; none where none will do.
    scope: Option<String>,
}

impl Route {
    fn is_api(&self) -> bool {
        self.template.starts_with("/api/")
    }

    fn takes(&self, kind: &str) -> bool {
        match kind {
            "person" => {
                matches!(self.policy.as_str(), "person" | "admin" | "person-or-service" | "person-service-or-sandbox")
            }
            "bot" => matches!(self.policy.as_str(), "bot" | "person-or-service" | "person-service-or-sandbox"),
            "web" => self.policy == "web-service",
            "sandbox" => matches!(self.policy.as_str(), "sandbox" | "person-service-or-sandbox") && !self.is_api(),
            _ => false,
        }
    }

    /// The names in its path.
    fn names(&self) -> impl Iterator<Item = &str> {
        self.template.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
    }

    /// Whether it has a name that nothing may have.
    fn has_names(&self) -> bool {
        self.names().any(|name| !self.words.contains_key(name))
            && !ANY_NAME.iter().any(|part| self.template.contains(part))
    }

    /// The path, with this session, with words where only some will do and nothing else that is known, and with what the
    /// query needs.
    fn path(&self, session: &str) -> String {
        let segments = self.template.split('/').map(|segment| {
            let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            match name {
                None => segment,
                Some("id") => session,
                Some(name) => self.words.get(name).map_or_else(|| unknown(name), String::as_str),
            }
        });
        let mut path = segments.collect::<Vec<_>>().join("/");
        for (index, name) in self.query.iter().enumerate() {
            let _ = write!(path, "{}{name}={UNKNOWN}", if index == 0 { '?' } else { '&' });
        }
        path
    }

    fn name(&self) -> String {
        format!("{} {}", self.method, self.template)
    }
}

fn resolve<'d>(document: &'d Value, schema: &'d Value) -> &'d Value {
    let target = schema["$ref"].as_str().and_then(|target| document.pointer(target.strip_prefix('#')?));
    target.unwrap_or(schema)
}

/// Everything in the document.
fn routes() -> Outcome<Vec<Route>> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json"))?;
    let document: Value = serde_json::from_str(&text)?;
    let mut routes = Vec::new();
    for (template, methods) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes())
                .map_err(|_| Failed(format!("{method} is no method")))?;
            let json_body = &operation["requestBody"]["content"]["application/json"];
            let schema = resolve(&document, &json_body["schema"]);
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let needed = |place: &str| -> Vec<String> {
                let needed = parameters.iter().filter(|p| p["in"] == place && p["required"] == true);
                needed.filter_map(|p| p["name"].as_str().map(str::to_owned)).collect()
            };
            let word = |p: &Value| Some((p["name"].as_str()?.to_owned(), p["schema"]["enum"][0].as_str()?.to_owned()));
            routes.push(Route {
                method,
                template: template.clone(),
                policy: operation["x-policy"].as_str().unwrap_or_default().to_owned(),
                max_body: operation["x-max-body"].as_u64().unwrap_or_default() as usize,
                example: json_body.get("example").cloned(),
                needs_body: operation["requestBody"]["required"] == true,
                takes_json: !json_body.is_null(),
                required: schema["required"][0].as_str().map(str::to_owned),
                query: needed("query"),
                headers: needed("header"),
                words: parameters.iter().filter(|p| p["in"] == "path").filter_map(word).collect(),
                scope: operation["x-token-scope"].as_str().map(str::to_owned),
            });
        }
    }
    Ok(routes)
}

/// How a request is signed, and what is wrong with that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Nothing,
    Key,
    Time,
    Path,
    Form,
    Service,
}

/// What a caller shows.
#[derive(Debug, Clone)]
enum Shows {
    Nothing,
    /// A browser's cookie, from this site or from nowhere.
    Cookie(String, bool),
    Bearer(String),
    Signature(&'static str, Wrong),
}

struct Caller<'w> {
    ready: &'w Ready,
    client: reqwest::Client,
}

/// An answer, with the headers that these tests look at.
struct Answered {
    status: u16,
    json: Value,
    text: String,
    allow: Option<String>,
    request_id: Option<String>,
    content_type: String,
}

async fn read(response: Response) -> Outcome<Answered> {
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (allow, request_id) = (header("Allow"), header("x-request-id"));
    let (status, content_type) = (response.status().as_u16(), header("Content-Type").unwrap_or_default());
    let text = response.text().await?;
    let json = serde_json::from_str(&text).unwrap_or(Value::Null);
    Ok(Answered { status, json, text, allow, request_id, content_type })
}

impl Caller<'_> {
    fn request(&self, method: &Method, path: &str, shows: &Shows, body: Option<&[u8]>) -> RequestBuilder {
        let mut request = self.client.request(method.clone(), format!("{}{path}", self.ready.base_url)).timeout(WITHIN);
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body.to_vec());
        }
        match shows {
            Shows::Nothing => request,
            Shows::Bearer(token) => request.header("Authorization", format!("Bearer {token}")),
            Shows::Cookie(cookie, from_here) => {
                let request = request.header("Cookie", cookie);
                if *from_here { request.header("Origin", &self.ready.base_url) } else { request }
            }
            Shows::Signature(service, wrong) => {
                let secret = self.ready.service_auth_secrets[*service].as_str().unwrap_or_default();
                let (pathname, query) = path.split_once('?').unwrap_or((path, ""));
                let signature = Signed {
                    service,
                    secret: if *wrong == Wrong::Key { "another-secret" } else { secret },
                    method: method.as_str(),
                    path: if *wrong == Wrong::Path { "/elsewhere" } else { pathname },
                    query,
                    body: body.unwrap_or_default(),
                    actor: "",
                    timestamp_ms: if *wrong == Wrong::Time { now_ms() - 301_000 } else { now_ms() },
                    nonce: &nonce(),
                };
                let header = signature.header();
                let header = if *wrong == Wrong::Form { header.replace("sig1.", "sig2.") } else { header };
                let service = if *wrong == Wrong::Service { "another-bot" } else { service };
                request.header("X-OpenInspect-Service", service).header("X-OpenInspect-Service-Signature", header)
            }
        }
    }

    async fn call(&self, method: &Method, path: &str, shows: &Shows, body: Option<&[u8]>) -> Outcome<Answered> {
        read(self.request(method, path, shows, body).send().await?).await
    }

    /// The same of a route, with the headers that it needs.
    async fn ask(&self, route: &Route, path: &str, shows: &Shows, body: Option<&[u8]>) -> Outcome<Answered> {
        let request = self.request(&route.method, path, shows, body);
        let request = route.headers.iter().fold(request, |request, name| request.header(name.as_str(), UNKNOWN));
        read(request.send().await?).await
    }
}

/// A refusal has a status of these, a code, a sentence, and the request's id in the body and the header.
fn refused(answer: &Answered, statuses: &[u16], what: &str) -> Outcome {
    let Answered { status, json, text, request_id, .. } = answer;
    check!(statuses.contains(status), "{what}: {status}, expected {statuses:?}: {text}");
    let says = |key: &str| json[key].as_str().is_some_and(|text| !text.is_empty());
    check!(says("error") && says("code") && says("requestId"), "{what}: no whole refusal: {text}");
    check_eq!(json["requestId"].as_str(), request_id.as_deref(), "{what}: the request's id");
    Ok(())
}

/// The caller whom a route's policy lets in, for what is tested behind that.
fn admitted(route: &Route, ada: &Person, sandbox: &str) -> Shows {
    if route.is_api() {
        return Shows::Cookie(ada.cookie.clone(), true);
    }
    match route.policy.as_str() {
        "sandbox" | "person-service-or-sandbox" => Shows::Bearer(sandbox.to_owned()),
        "bot" => Shows::Signature("github-bot", Wrong::Nothing),
        "person-or-service" => Shows::Signature("slack-bot", Wrong::Nothing),
        "web-service" => Shows::Signature("web", Wrong::Nothing),
        // The web application with the person's cookie is their cookie below `/api`; a cookie alone is nothing here.
        _ => Shows::Nothing,
    }
}

struct Setting<'w> {
    caller: Caller<'w>,
    ada: Person,
    session: String,
    sandbox: String,
    routes: Vec<Route>,
}

impl<'w> Setting<'w> {
    async fn of(world: &'w World) -> Outcome<Self> {
        let ready = &world.stack.ready;
        let ada = Person::sign_in(ready, "ada").await?;
        let session = ada.create_session().await?;
        let sandbox = world.backend()?.sandbox_of(&session).await?.auth_token;
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self { caller: Caller { ready, client }, ada, session, sandbox, routes: routes()? })
    }

    fn example(route: &Route) -> Option<Vec<u8>> {
        route.example.as_ref().map(|example| example.to_string().into_bytes())
    }
}

pub async fn no_route_lets_a_caller_in_without_the_right_credential(world: &World) -> Outcome {
    let setting = Setting::of(world).await?;
    let Setting { caller, ada, session, sandbox, routes } = &setting;
    check!(routes.len() > 200, "the document has {} operations", routes.len());
    let forged = |name: &str| format!("{name}={}", "f".repeat(64));
    let hex = "f".repeat(64);
    for route in routes.iter().filter(|route| route.policy != "public") {
        let (name, path) = (route.name(), route.path(session));
        let body = Setting::example(route);
        let body = body.as_deref();
        let is_read = route.method == Method::GET;
        let call = async |shows: Shows| caller.ask(route, &path, &shows, body).await;
        // Nothing: below `/api` that is 401, or 403 from another site; elsewhere a GET is the page's.
        let nothing = call(Shows::Nothing).await?;
        if route.is_api() {
            refused(&nothing, if is_read { &[401] } else { &[403] }, &format!("{name} with nothing"))?;
        } else if is_read {
            check!(nothing.content_type.starts_with("text/html"), "{name} with nothing is not the page");
        } else {
            refused(&nothing, &[401], &format!("{name} with nothing"))?;
        }
        for cookie in [forged("openinspect.session_token"), format!("other={hex}")] {
            let answer = call(Shows::Cookie(cookie, true)).await?;
            if route.is_api() || !is_read {
                refused(&answer, &[401], &format!("{name} with a forged cookie"))?;
            }
        }
        if route.is_api() && !is_read {
            let answer = call(Shows::Cookie(ada.cookie.clone(), false)).await?;
            refused(&answer, &[403], &format!("{name} with a cookie and no origin"))?;
        }
        if !route.is_api() && !is_read {
            let answer = call(Shows::Cookie(ada.cookie.clone(), true)).await?;
            refused(&answer, &[401], &format!("{name} outside of /api with a cookie"))?;
        }
        // A bearer: of nobody, and the sandbox's where no sandbox may go. Where one may, the session knows the token,
        // which is asked when the rest is in order.
        let answer = call(Shows::Bearer(hex.clone())).await?;
        let may: &[u16] = if route.takes("sandbox") { &[400, 401, 404, 411, 413] } else { &[401, 403] };
        refused(&answer, may, &format!("{name} with the bearer of nobody"))?;
        if !route.takes("sandbox") {
            let answer = call(Shows::Bearer(sandbox.clone())).await?;
            refused(&answer, &[401, 403], &format!("{name} with a sandbox's bearer"))?;
        }
        // A personal token of nobody, where some will do and where none will.
        let answer = call(Shows::Bearer(NOBODYS_TOKEN.to_owned())).await?;
        let may: &[u16] = if route.scope.is_some() { &[401] } else { &[401, 403] };
        refused(&answer, may, &format!("{name} with a personal token of nobody"))?;
        // Signatures that are wrong in every way, also beside a cookie that is right: nothing else is looked at then.
        for wrong in [Wrong::Key, Wrong::Time, Wrong::Path, Wrong::Form, Wrong::Service] {
            let shows = Shows::Signature(if route.policy == "bot" { "github-bot" } else { "web" }, wrong);
            let request = caller.request(&route.method, &path, &shows, body);
            let request = request.header("Cookie", &ada.cookie).header("Origin", &caller.ready.base_url);
            let answer = read(request.send().await?).await?;
            refused(&answer, &[401, 403], &format!("{name} with a wrong signature ({wrong:?})"))?;
        }
        // Services that the policy does not take.
        for service in ["web", "slack-bot", "github-bot", "linear-bot"] {
            let kind = if service == "web" { "web" } else { "bot" };
            if !route.takes(kind) {
                let answer = call(Shows::Signature(service, Wrong::Nothing)).await?;
                refused(&answer, &[401, 403], &format!("{name} by {service}"))?;
            }
        }
    }
    // None of this has changed anything.
    let snapshot = ada.snapshot(session).await?;
    check_eq!(snapshot["session"]["status"], "created", "the session after all that");
    check_eq!(ada.messages(session).await?.len(), 0, "its prompts");
    Ok(())
}

pub async fn every_route_refuses_bodies_that_do_not_fit(world: &World) -> Outcome {
    let setting = Setting::of(world).await?;
    let Setting { caller, ada, session, sandbox, routes } = &setting;
    for route in routes {
        let (name, path) = (route.name(), route.path(session));
        let shows = admitted(route, ada, sandbox);
        if matches!(shows, Shows::Nothing) && route.policy != "public" {
            continue;
        }
        let call = async |body: &[u8]| caller.ask(route, &path, &shows, Some(body)).await;
        if route.takes_json {
            for bad in ["{", "nonsense", "\u{0}", "[]", "null", "7"] {
                refused(&call(bad.as_bytes()).await?, &[400, 404], &format!("{name} with the body `{bad}`"))?;
            }
            refused(&call(b"\xff\xfe{}").await?, &[400, 404], &format!("{name} with a body that is not UTF-8"))?;
            if let Some(field) = &route.required {
                let shapes = [json!({}), json!({field: {"a": []}}), json!({field: null})];
                for shape in shapes {
                    let answer = call(shape.to_string().as_bytes()).await?;
                    refused(&answer, &[400, 404], &format!("{name} with the body {shape}"))?;
                }
            }
        }
        if route.needs_body && route.takes_json {
            let answer = caller.ask(route, &path, &shows, None).await?;
            refused(&answer, &[400, 404], &format!("{name} without a body"))?;
        }
        // One byte more than the route allows; of the largest ones the announcement is enough.
        if route.method != Method::GET && route.max_body <= 4 * 1024 * 1024 {
            let large = vec![b' '; route.max_body + 1];
            let answer = call(&large).await?;
            refused(&answer, &[413], &format!("{name} with a body of {} bytes", large.len()))?;
        }
    }
    Ok(())
}

pub async fn every_route_says_that_nothing_has_an_unknown_name(world: &World) -> Outcome {
    let setting = Setting::of(world).await?;
    let Setting { caller, ada, session, sandbox, routes } = &setting;
    for route in routes.iter().filter(|route| route.has_names()) {
        let shows = admitted(route, ada, sandbox);
        // A bot that acts for nobody gets no token of a page, whatever the session.
        let is_refused_before = route.template.ends_with("/ws-token") && matches!(shows, Shows::Signature(..));
        if is_refused_before || matches!(shows, Shows::Nothing) {
            continue;
        }
        let body = Setting::example(route);
        let forms = !route.takes_json && route.needs_body;
        for id in [UNKNOWN, "nonsense", "..%2f..", "%00"] {
            let path = route.path(id);
            let answer = caller.ask(route, &path, &shows, body.as_deref()).await?;
            // A bot for nobody has nothing of its own.
            if answer.json["error"] == "Canonical user required" && !route.is_api() {
                refused(&answer, &[403], &format!("{} of {id} for nobody", route.name()))?;
                continue;
            }
            // An upload may be refused for its form before its session is looked for.
            let may: &[u16] = if forms { &[400, 404, 411] } else { &[400, 401, 404] };
            refused(&answer, may, &format!("{} of {id}", route.name()))?;
            if id == UNKNOWN && !forms {
                check_eq!(answer.status, 404, "{} of an unknown name ({})", route.name(), answer.text);
            }
        }
    }
    check_eq!(ada.snapshot(session).await?["session"]["status"], "created", "the session after all that");
    Ok(())
}

pub async fn every_path_says_which_methods_it_takes(world: &World) -> Outcome {
    let setting = Setting::of(world).await?;
    let Setting { caller, session, routes, .. } = &setting;
    for route in routes {
        let path = route.path(session);
        let plain = path.split('?').next().unwrap_or_default();
        // A path may have the form of two templates: it is that of the one with the fewest names.
        let names = |template: &str| template.matches('{').count();
        let fitting: Vec<&Route> =
            routes.iter().filter(|other| coverage::names_of(&other.template, plain).is_some()).collect();
        let fewest = fitting.iter().map(|other| names(&other.template)).min();
        let has_it = |other: &&&Route| Some(names(&other.template)) == fewest;
        let takes: BTreeSet<&str> = fitting.iter().filter(has_it).map(|other| other.method.as_str()).collect();
        for method in METHODS.into_iter().filter(|method| !takes.contains(method)) {
            let method = Method::from_bytes(method.as_bytes()).map_err(|_| Failed(format!("{method} is no method")))?;
            let answer = caller.call(&method, &path, &Shows::Bearer("x".to_owned()), None).await?;
            let what = format!("{method} {}", route.template);
            refused(&answer, &[405], &what)?;
            check_eq!(answer.json["code"], "METHOD_NOT_ALLOWED", "{what}");
            let mut allowed: Vec<&str> = answer.allow.as_deref().unwrap_or_default().split(", ").collect();
            allowed.sort_unstable();
            check_eq!(allowed, takes.iter().copied().collect::<Vec<_>>(), "{what}: Allow");
        }
    }
    let answer = caller.call(&Method::GET, "/api/nothing-of-the-kind", &Shows::Nothing, None).await?;
    refused(&answer, &[404], "a path that is not there")
}
