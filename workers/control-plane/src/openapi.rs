//! The OpenAPI document: made from the table of routes, what [`operations`] says of each, and the wire's types. It is
//! checked in as `docs/openapi.json`; `cargo xtask types` writes it.
//!
//! A route is described in one place: an arm of [`operations::describe`], which does not compile without it.

mod operations;
mod schemas;
mod shapes;

use serde_json::{Map, Value, json};

use oi_protocol::identity::TokenScope;

use crate::policy::Policy;
use crate::router::{Method, Route, Surface};
use crate::routes::{Handler, ROUTES};
use operations::{Body, Content, Operation, describe};
use schemas::Schemas;

/// Where the document is, from the crate's folder.
const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");

/// Names of the security schemes.
const COOKIE: &str = "cookie";
const SIGNATURE: &str = "serviceSignature";
const SANDBOX: &str = "sandboxToken";
const BUILD: &str = "buildToken";
const PERSONAL: &str = "personalToken";

/// The scope that a person's own token needs for a route; `None` where no such token will do.
fn token_scope(route: &Route<Handler>) -> Option<TokenScope> {
    match route.policy {
        Policy::Person | Policy::Admin | Policy::PersonOrService | Policy::PersonServiceOrSandbox => {
            route.token_scope()
        }
        Policy::Public | Policy::WebService | Policy::Bot | Policy::Sandbox | Policy::BuildMachine => None,
    }
}

/// What a caller may show below `/api` or outside of it, each of which is enough.
fn security(route: &Route<Handler>, is_api: bool) -> Value {
    // Both headers together.
    let service = || json!({"serviceName": [], SIGNATURE: []});
    let with_person = || json!({"serviceName": [], SIGNATURE: [], COOKIE: []});
    let person = |mut more: Vec<Value>| {
        // Browsers show their cookie below `/api`; elsewhere it comes with the web application's signature.
        more.insert(0, if is_api { json!({COOKIE: []}) } else { with_person() });
        if token_scope(route).is_some() {
            more.push(json!({PERSONAL: []}));
        }
        Value::Array(more)
    };
    let sandbox = || if is_api { vec![] } else { vec![json!({SANDBOX: []})] };
    match route.policy {
        Policy::Public => json!([]),
        Policy::WebService | Policy::Bot => json!([service()]),
        Policy::Person | Policy::Admin => person(vec![]),
        Policy::PersonOrService => person(vec![service()]),
        Policy::Sandbox => Value::Array(sandbox()),
        Policy::BuildMachine => json!([{BUILD: []}]),
        Policy::PersonServiceOrSandbox => {
            let mut more = vec![service()];
            more.extend(sandbox());
            person(more)
        }
    }
}

/// The policy's word in `x-policy`.
fn word(policy: Policy) -> String {
    let mut word = String::new();
    for c in format!("{policy:?}").chars() {
        if c.is_ascii_uppercase() && !word.is_empty() {
            word.push('-');
        }
        word.push(c.to_ascii_lowercase());
    }
    word
}

fn operation_id(handler: Handler, is_api: bool) -> String {
    let name = format!("{handler:?}");
    let (first, rest) = name.split_at(1);
    if is_api { format!("api{name}") } else { format!("{}{rest}", first.to_lowercase()) }
}

/// `:id` as `{id}`, and the names.
fn template(path: &str) -> (String, Vec<&str>) {
    let mut names = Vec::new();
    let segments: Vec<String> = path
        .split('/')
        .map(|segment| match segment.strip_prefix(':') {
            Some(name) => {
                names.push(name);
                format!("{{{name}}}")
            }
            None => segment.to_owned(),
        })
        .collect();
    (segments.join("/"), names)
}

/// A parameter of a path.
fn path_parameter(name: &str) -> Value {
    let minted = json!({"type": "string", "pattern": "^[0-9a-f]{32}$"});
    let schema = match name {
        "id" | "child" | "artifact" | "person" | "token" | "account" => minted,
        "authorization" => json!({"type": "string", "pattern": "^[0-9a-f]{64}$"}),
        "environment" => json!({"type": "string", "pattern": "^env_[A-Za-z0-9_-]{1,100}$"}),
        "key" => json!({"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,255}$"}),
        "integration" => {
            json!({"type": "string", "enum": ["github", "linear", "code-server", "vnc", "sandbox", "slack"]})
        }
        "provider" => json!({"type": "string", "enum": ["openai", "xai"]}),
        "output" | "attachment" => json!({"type": "string", "pattern": "^[A-Za-z0-9_-]{1,128}$"}),
        _ => json!({"type": "string", "pattern": "^[A-Za-z0-9._-]{1,200}$"}),
    };
    json!({"name": name, "in": "path", "required": true, "schema": schema})
}

fn refusal(sentence: &str) -> Value {
    let schema = json!({"$ref": "#/components/schemas/ErrorBody"});
    json!({"description": sentence, "content": {"application/json": {"schema": schema}}})
}

/// Refusals that follow from the table of routes: status, name, sentence.
const REFUSALS: [(u16, &str, &str); 6] = [
    (400, "Malformed", "The body, or a parameter, is not of the expected shape"),
    (401, "Unauthorized", "No credential, or a wrong one"),
    (403, "Forbidden", "The caller may not do this, or the request does not come from this site"),
    (404, "NotFound", "Nothing has this name"),
    (413, "TooLarge", "The body is larger than the route allows"),
    (0, "Refused", "Refused, or something of ours failed"),
];

/// One of them, by its status; 0 is any other.
fn known_refusal(status: u16) -> Value {
    let known = REFUSALS.iter().find(|(known, ..)| *known == status).expect("it is in the table");
    json!({"$ref": format!("#/components/responses/{}", known.1)})
}

/// Refusals of a route.
fn refusals(route: &Route<Handler>, operation: &Operation, is_api: bool, names: &[&str]) -> Map<String, Value> {
    let mut refused = Map::new();
    let mut may = |status: u16| refused.insert(status.to_string(), known_refusal(status));
    if operation.body.is_some() || !operation.query.is_empty() || !names.is_empty() || route.max_body > 0 {
        may(400);
    }
    if route.policy != Policy::Public {
        may(401);
        may(403);
    }
    if is_api && route.method != Method::Get {
        may(403);
    }
    if !names.is_empty() {
        may(404);
    }
    if route.max_body > 0 {
        may(413);
    }
    for (status, sentence) in &operation.refused {
        refused.insert(status.to_string(), refusal(sentence));
    }
    refused
}

fn answers(operation: &Operation) -> Map<String, Value> {
    let mut answers = Map::new();
    for (status, sentence, content) in &operation.answers {
        let content = match content {
            Content::Nothing => json!({}),
            Content::Json(schema) => json!({"application/json": {"schema": schema}}),
            Content::Text => json!({"text/plain": {"schema": {"type": "string"}}}),
            Content::File => json!({"*/*": {"schema": {"type": "string", "format": "binary"}}}),
        };
        let mut answer = json!({"description": sentence});
        if content != json!({}) {
            answer["content"] = content;
        }
        answers.insert(status.to_string(), answer);
    }
    answers
}

fn described(route: &Route<Handler>, operation: &Operation, is_api: bool, names: &[&str]) -> Value {
    let mut parameters: Vec<Value> = names.iter().map(|name| path_parameter(name)).collect();
    parameters.extend(operation.query.iter().cloned());
    if operation.takes_a_key {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "Makes a repetition harmless.", "schema": {"type": "string", "maxLength": 128},
        }));
    }
    for (name, says) in &operation.headers {
        parameters.push(json!({
            "name": name, "in": "header", "required": true, "description": says, "schema": {"type": "string"},
        }));
    }
    let mut responses = answers(operation);
    responses.extend(refusals(route, operation, is_api, names));
    responses.insert("default".to_owned(), known_refusal(0));
    let mut written = json!({
        "operationId": operation_id(route.handler, is_api),
        "summary": operation.summary,
        "security": security(route, is_api),
        "parameters": parameters,
        "responses": responses,
        "x-policy": word(route.policy),
        "x-max-body": route.max_body,
    });
    if let Some(scope) = token_scope(route) {
        written["x-token-scope"] = scope.as_str().into();
    }
    match &operation.body {
        None => {}
        Some(Body::Json { schema, example, required }) => {
            written["requestBody"] = json!({"required": required,
                "content": {"application/json": {"schema": schema, "example": example}}});
        }
        Some(Body::Form(properties)) => {
            let schema = json!({"type": "object", "required": ["file"], "properties": properties});
            written["requestBody"] = json!({"required": true, "content": {"multipart/form-data": {"schema": schema}}});
        }
        Some(Body::Bytes) => {
            let schema = json!({"type": "string", "format": "binary"});
            written["requestBody"] =
                json!({"required": true, "content": {"application/octet-stream": {"schema": schema}}});
        }
    }
    written
}

/// The whole document.
fn document() -> Value {
    let mut schemas = Schemas::new();
    let mut paths = Map::new();
    for route in ROUTES {
        let operation = describe(route.handler, &mut schemas);
        let (path, names) = template(route.path);
        let mut at = vec![(path.clone(), path.starts_with("/api/"))];
        if route.surface == Surface::Both {
            at.push((format!("/api{path}"), true));
        }
        for (path, is_api) in at {
            let methods = paths.entry(path).or_insert_with(|| json!({}));
            methods[route.method.as_str().to_lowercase()] = described(route, &operation, is_api, &names);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Open-Inspect control plane",
            "version": "1",
            "description": "Made from the table of routes and the wire's types by `cargo xtask types`. Not to be edited.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas.finish(),
            "responses": REFUSALS.map(|(_, name, sentence)| (name.to_owned(), refusal(sentence))).into_iter().collect::<Map<_, _>>(),
            "securitySchemes": {
                COOKIE: {"type": "apiKey", "in": "cookie", "name": "openinspect.session_token",
                    "description": "A browser that is signed in; with `__Secure-` before the name where the site is \
                        reached by https. What changes something needs the site's own `Origin` too."},
                "serviceName": {"type": "apiKey", "in": "header", "name": "X-OpenInspect-Service"},
                SIGNATURE: {"type": "apiKey", "in": "header", "name": "X-OpenInspect-Service-Signature",
                    "description": "`sig1` over the whole request, good for one. `X-OpenInspect-Actor` says for whom a \
                        bot acts."},
                SANDBOX: {"type": "http", "scheme": "bearer", "description": "The token of the session's sandbox."},
                BUILD: {"type": "http", "scheme": "bearer",
                    "description": "The token of the machine that builds an image, good for that build alone."},
                PERSONAL: {"type": "http", "scheme": "bearer",
                    "description": "A person's own token, `oi_pat_…`, for their scripts: it is let in where they are,                         as far as its scopes go. `x-token-scope` names the one that is needed; each has `read` with it."},
            },
        },
    })
}

fn text() -> String {
    format!("{:#}\n", document())
}

/// `cargo xtask types` sets `OI_WRITE_OPENAPI`.
#[test]
fn the_checked_in_document_is_that_of_the_routes() {
    let fresh = text();
    if std::env::var_os("OI_WRITE_OPENAPI").is_some() {
        std::fs::write(PATH, fresh).expect("the document can be written");
        return;
    }
    let current = std::fs::read_to_string(PATH).expect("docs/openapi.json is checked in");
    assert!(current == fresh, "docs/openapi.json differs from the routes and types: run `cargo xtask types`");
}

#[test]
fn every_route_is_in_the_document_with_its_policy_answers_and_refusals() {
    let document = document();
    for route in ROUTES {
        let (path, names) = template(route.path);
        let mut paths = vec![path.clone()];
        if route.surface == Surface::Both {
            paths.push(format!("/api{path}"));
        }
        for path in paths {
            let operation = &document["paths"][&path][route.method.as_str().to_lowercase()];
            let name = format!("{} {path}", route.method.as_str());
            assert_eq!(operation["x-policy"], word(route.policy), "{name}");
            assert!(operation["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{name}");
            let is_open = operation["security"].as_array().expect("a list").is_empty();
            assert_eq!(is_open, route.policy == Policy::Public, "{name}");
            let responses = operation["responses"].as_object().expect("responses");
            // 101 opens a socket.
            assert!(responses.keys().any(|status| status.starts_with(['1', '2', '3'])), "{name} is never answered");
            assert_eq!(responses.contains_key("401"), route.policy != Policy::Public, "{name}");
            assert_eq!(responses.contains_key("404"), !names.is_empty() || responses.contains_key("404"), "{name}");
            if route.method == Method::Get {
                assert!(operation.get("requestBody").is_none(), "{name}");
            }
        }
    }
    let ids: Vec<&str> = document["paths"]
        .as_object()
        .expect("paths")
        .values()
        .flat_map(|methods| methods.as_object().expect("methods").values())
        .map(|operation| operation["operationId"].as_str().expect("an id"))
        .collect();
    let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len());
}

#[test]
fn routes_that_take_a_personal_token_say_so_and_which_scope_it_needs() {
    let document = document();
    let scopes = |path: &str, method: &str| {
        let operation = &document["paths"][path][method];
        let shown: Vec<&Value> = operation["security"].as_array().expect("a list").iter().collect();
        let takes = shown.iter().any(|schemes| schemes.get(PERSONAL).is_some());
        let scope = operation["x-token-scope"].as_str();
        assert_eq!(takes, scope.is_some(), "{method} {path}");
        scope
    };
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let is_for_people = matches!(
                operation["x-policy"].as_str(),
                Some("person" | "admin" | "person-or-service" | "person-service-or-sandbox")
            );
            assert!(scopes(path, method).is_none() || is_for_people, "{method} {path}");
        }
    }
    for (method, path, expected) in [
        ("get", "/sessions", Some("read")),
        ("get", "/api/sessions", Some("read")),
        ("post", "/api/sessions/{id}/prompt", Some("sessions")),
        ("get", "/api/sessions/{id}/sandbox-access", Some("sessions")),
        ("put", "/api/model-preferences", Some("admin")),
        ("put", "/api/environments/{environment}", Some("settings")),
        ("patch", "/people/{person}", Some("admin")),
        ("post", "/api/sessions/{id}/ws-token", None),
        ("post", "/api/me/tokens", None),
        ("post", "/sessions/{id}/scm-credentials", None),
        ("get", "/health", None),
    ] {
        assert_eq!(scopes(path, method), expected, "{method} {path}");
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn walk(value: &Value, document: &Value) {
        if let Some(target) = value.get("$ref").and_then(Value::as_str) {
            let pointer = target.strip_prefix('#').expect("references are local");
            assert!(document.pointer(pointer).is_some(), "{target}");
        }
        match value {
            Value::Array(items) => items.iter().for_each(|item| walk(item, document)),
            Value::Object(members) => members.values().for_each(|member| walk(member, document)),
            _ => {}
        }
    }
    let document = document();
    walk(&document, &document);
}
