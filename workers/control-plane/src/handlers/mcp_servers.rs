//! MCP servers. Variables and headers are sealed, are never shown, and go to sandboxes only.

use std::collections::BTreeMap;

use oi_protocol::local_backend::SandboxMcpServer;
use oi_protocol::settings::McpServer;
use oi_worker_kit::failure::while_doing;
use oi_worker_kit::key_ring::{KeyRing, Sealed};
use oi_worker_kit::vars::Vars;
use oi_worker_kit::{Failure, Fault, Refusal, clock, random, reply, request_body};
use serde_json::{Map, Value, json};
use worker::Response;

use super::settings_request::{actor, only, seen_version, stale, write};
use crate::integration_settings;
use crate::request::Cx;
use crate::secret_injection::KEY_VARIABLE;
use crate::store::mcp_servers::{self as store, Row};
use crate::store::{Database, DbError};

const NAME_MAX: usize = 100;
const COMMAND_MAX: usize = 64;
const ARGUMENT_MAX: usize = 4_096;
const URL_MAX: usize = 2_048;
const SECRETS_MAX: usize = 50;
const SECRET_NAME_MAX: usize = 256;
const SECRET_MAX: usize = 16_384;
const SCOPES_MAX: usize = 200;

/// The keys that secrets of servers are sealed with.
fn keys(vars: &impl Vars) -> Result<KeyRing, Refusal> {
    KeyRing::of(vars, KEY_VARIABLE)
}

fn invalid(sentence: impl Into<String>) -> Refusal {
    Refusal::invalid_body(sentence.into())
}

/// Addresses that are not of the open internet.
fn is_private(host: &url::Host<&str>) -> bool {
    match host {
        url::Host::Domain(name) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || [".localhost", ".local", ".internal"].iter().any(|end| name.ends_with(end))
        }
        url::Host::Ipv4(ip) => {
            let [a, b, ..] = ip.octets();
            ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_broadcast()
                || ip.is_multicast()
                || a == 0
                || (a == 100 && (64..128).contains(&b))
        }
        url::Host::Ipv6(ip) => {
            let first = ip.segments()[0];
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_multicast()
                || first & 0xfe00 == 0xfc00
                || first & 0xffc0 == 0xfe80
                || ip.to_ipv4().is_some_and(|ip| is_private(&url::Host::Ipv4(ip)))
        }
    }
}

fn checked_url(text: &str) -> Result<String, Refusal> {
    let wrong = || invalid("url must be an https URL of the internet, without a user in it");
    if text.len() > URL_MAX {
        return Err(wrong());
    }
    let url = url::Url::parse(text.trim()).map_err(|_| wrong())?;
    let open = url.host().is_some_and(|host| !is_private(&host));
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    if url.scheme() == "https" && open && plain { Ok(url.into()) } else { Err(wrong()) }
}

fn command(value: &Value) -> Result<Vec<String>, Refusal> {
    let wrong = || invalid("command must be a list of 1 to 64 texts");
    let listed = value.as_array().filter(|listed| (1..=COMMAND_MAX).contains(&listed.len())).ok_or_else(wrong)?;
    let words =
        listed.iter().map(|word| word.as_str().filter(|word| word.len() <= ARGUMENT_MAX && !word.contains('\0')));
    let words: Option<Vec<String>> = words.map(|word| word.map(str::to_owned)).collect();
    words.filter(|words| !words[0].trim().is_empty()).ok_or_else(wrong)
}

/// Variables, or headers: names of their kind with texts.
fn secrets(value: &Value, field: &str) -> Result<BTreeMap<String, String>, Refusal> {
    let wrong = || invalid(format!("{field} must be names with texts: 50 at most, each of 16384 bytes at most"));
    let given = value.as_object().filter(|given| given.len() <= SECRETS_MAX).ok_or_else(wrong)?;
    let mut all = BTreeMap::new();
    for (name, value) in given {
        let value = value.as_str().filter(|value| value.len() <= SECRET_MAX).ok_or_else(wrong)?;
        let fits = (1..=SECRET_NAME_MAX).contains(&name.len())
            && if field == "env" {
                !name.starts_with(|first: char| first.is_ascii_digit())
                    && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                    && !value.contains('\0')
            } else {
                name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
                    && !value.contains(['\0', '\r', '\n'])
            };
        if !fits {
            return Err(invalid(format!("{field} has a name or value that cannot be one")));
        }
        all.insert(name.clone(), value.to_owned());
    }
    Ok(all)
}

fn scopes(value: &Value) -> Result<Option<Vec<String>>, Refusal> {
    if value.is_null() {
        return Ok(None);
    }
    let wrong = || invalid("repoScopes must be null or a list of owner/name, 200 at most");
    let listed = value.as_array().filter(|listed| listed.len() <= SCOPES_MAX).ok_or_else(wrong)?;
    let mut names: Vec<String> = Vec::new();
    for name in listed {
        let name = name.as_str().and_then(integration_settings::repository).ok_or_else(wrong)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(Some(names))
}

/// A server as a body describes it, laid over the one that is there.
#[derive(Clone, PartialEq, Eq)]
struct Wanted {
    name: String,
    kind: &'static str,
    command: Option<Vec<String>>,
    url: Option<String>,
    /// `None` keeps what is stored.
    secrets: Option<BTreeMap<String, String>>,
    scopes: Option<Vec<String>>,
    enabled: bool,
}

fn list_of(text: Option<&String>) -> Option<Vec<String>> {
    text.and_then(|text| serde_json::from_str(text).ok())
}

fn name_of(value: &Value) -> Result<String, Refusal> {
    let name = value.as_str().map(str::trim).filter(|name| {
        (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_- .".contains(&b))
    });
    name.map(str::to_owned).ok_or_else(|| invalid("name must have 1 to 100 letters, digits, `-`, `_`, `.` and blanks"))
}

/// Reads a body. Without a stored server all that its kind needs must be there.
fn wanted(body: &Map<String, Value>, stored: Option<&Row>) -> Result<Wanted, Refusal> {
    let kind = match (body.get("type").map(|kind| kind.as_str()), stored) {
        (Some(Some("local")), _) => "local",
        (Some(Some("remote")), _) => "remote",
        (None, Some(row)) => {
            if row.kind == "local" {
                "local"
            } else {
                "remote"
            }
        }
        _ => return Err(invalid("type must be local or remote")),
    };
    let same_kind = stored.filter(|row| row.kind == kind);
    let (own, foreign) = if kind == "local" {
        (["command", "env"], ["url", "headers"])
    } else {
        (["url", "headers"], ["command", "env"])
    };
    if let Some(field) = foreign.iter().find(|field| body.contains_key(**field)) {
        return Err(invalid(format!("A {kind} server has no {field}")));
    }
    let name = match (body.get("name"), stored) {
        (Some(name), _) => name_of(name)?,
        (None, Some(row)) => row.name.clone(),
        (None, None) => return Err(invalid("name is required")),
    };
    let needed = || invalid(format!("A {kind} server needs a {}", own[0]));
    let (mut words, mut address) = (None, None);
    if kind == "local" {
        words = match body.get("command") {
            Some(value) => Some(command(value)?),
            None => Some(same_kind.and_then(|row| list_of(row.command.as_ref())).ok_or_else(needed)?),
        };
    } else {
        address = match body.get("url") {
            Some(value) => Some(checked_url(value.as_str().ok_or_else(needed)?)?),
            None => Some(same_kind.and_then(|row| row.url.clone()).ok_or_else(needed)?),
        };
    }
    let secrets = match body.get(own[1]) {
        Some(value) => Some(secrets(value, own[1])?),
        // Secrets of another kind are not this one's.
        None if same_kind.is_some() => None,
        None => Some(BTreeMap::new()),
    };
    let scopes = match (body.get("repoScopes"), stored) {
        (Some(value), _) => scopes(value)?,
        (None, Some(row)) => list_of(row.repo_scope.as_ref()),
        (None, None) => None,
    };
    let enabled = match (body.get("enabled"), stored) {
        (Some(value), _) => value.as_bool().ok_or_else(|| invalid("enabled must be true or false"))?,
        (None, Some(row)) => row.enabled != 0,
        (None, None) => true,
    };
    Ok(Wanted { name, kind, command: words, url: address, secrets, scopes, enabled })
}

fn sealed(vars: &impl Vars, id: &str, wanted: &Wanted, stored: Option<&Row>) -> Result<Option<String>, Failure> {
    match &wanted.secrets {
        None => Ok(stored.and_then(|row| row.secrets.clone())),
        Some(secrets) if secrets.is_empty() => Ok(None),
        Some(secrets) => {
            let sealed = keys(vars)?.seal(&write(secrets)?, &store::place(id, wanted.kind));
            sealed.map(|sealed| Some(sealed.to_text())).map_err(while_doing("sealing an MCP server's secrets"))
        }
    }
}

fn row(vars: &impl Vars, id: &str, wanted: &Wanted, stored: Option<&Row>) -> Result<Row, Failure> {
    Ok(Row {
        id: id.to_owned(),
        name: wanted.name.clone(),
        kind: wanted.kind.to_owned(),
        command: wanted.command.as_ref().map(write).transpose()?,
        url: wanted.url.clone(),
        secrets: sealed(vars, id, wanted, stored)?,
        repo_scope: wanted.scopes.as_ref().map(write).transpose()?,
        enabled: i64::from(wanted.enabled),
        revision: stored.map_or(1, |row| row.revision),
    })
}

fn shown(row: &Row) -> McpServer {
    McpServer {
        id: row.id.clone(),
        revision: row.revision,
        name: row.name.clone(),
        kind: row.kind.clone(),
        command: list_of(row.command.as_ref()),
        url: row.url.clone(),
        has_env: row.kind == "local" && row.secrets.is_some(),
        has_headers: row.kind == "remote" && row.secrets.is_some(),
        repo_scopes: list_of(row.repo_scope.as_ref()),
        enabled: row.enabled != 0,
    }
}

/// Whether sessions of these repositories have it.
fn applies(row: &Row, repositories: &[String]) -> bool {
    match (&row.repo_scope, list_of(row.repo_scope.as_ref())) {
        (None, _) => true,
        (Some(_), Some(names)) => repositories.iter().any(|repository| names.contains(repository)),
        // What cannot be read is not widened.
        (Some(_), None) => false,
    }
}

fn not_found() -> Refusal {
    Refusal::not_found("MCP server not found")
}

fn taken(error: DbError) -> Failure {
    if store::is_name_constraint(&error) {
        Refusal::invalid_body("An MCP server of this name exists").into()
    } else {
        error.into()
    }
}

async fn named(cx: &Cx<'_>) -> Result<Row, Failure> {
    let id = cx.parameters.first().map(String::as_str).unwrap_or_default();
    Ok(store::get(&cx.db()?, id).await?.ok_or_else(not_found)?)
}

pub(super) async fn list(cx: &Cx<'_>) -> Result<Response, Failure> {
    let rows = store::list(&cx.db()?).await?;
    let shown: Vec<McpServer> = match cx.head.query_value("repo") {
        None => rows.iter().map(shown).collect(),
        Some(text) => {
            let repository = integration_settings::repository(&text)
                .ok_or_else(|| Refusal::invalid_parameter("repo must be owner/name"))?;
            rows.iter().filter(|row| applies(row, std::slice::from_ref(&repository))).map(shown).collect()
        }
    };
    reply::json(200, &shown)
}

pub(super) async fn get(cx: &Cx<'_>) -> Result<Response, Failure> {
    reply::json(200, &shown(&named(cx).await?))
}

const FIELDS: [&str; 8] = ["name", "type", "command", "url", "env", "headers", "repoScopes", "enabled"];

/// Names of what a body sets, for the audit log.
fn field_names(body: &Value) -> Vec<&str> {
    FIELDS.into_iter().filter(|field| body.get(field).is_some()).collect()
}

pub(super) async fn create(cx: &Cx<'_>) -> Result<Response, Failure> {
    let body: Value = request_body::parse(&cx.body, "Invalid MCP server body")?;
    let wanted = wanted(only(&body, "The body", &FIELDS)?, None)?;
    // Without a key nothing is stored, rather than in clear.
    keys(cx.env)?;
    let row = row(cx.env, &random::hex::<8>(), &wanted, None)?;
    let entry = cx.audit("mcp_server.create", "mcp_server", &row.id);
    let entry = entry.detail(&json!({"name": row.name, "fields": field_names(&body)}));
    let change = store::insert(&row, &actor(cx), clock::now());
    let changed = cx.db()?.batch(entry.behind_the_first(vec![change])).await.map_err(taken)?;
    if changed.first() == Some(&0) {
        return Err(Refusal::conflict("A deployment has 100 MCP servers at most").into());
    }
    reply::json(201, &shown(&row))
}

pub(super) async fn update(cx: &Cx<'_>) -> Result<Response, Failure> {
    let body: Value = request_body::parse(&cx.body, "Invalid MCP server body")?;
    let stored = named(cx).await?;
    let fields: Vec<&str> = FIELDS.into_iter().chain(["revision"]).collect();
    let given = only(&body, "The body", &fields)?;
    // A change of something else is told as that, before it is looked at.
    if seen_version(&body, "revision")?.is_some_and(|revision| revision != stored.revision) {
        return Err(stale("MCP server").into());
    }
    let wanted = wanted(given, Some(&stored))?;
    let row = row(cx.env, &stored.id, &wanted, Some(&stored))?;
    let entry = cx.audit("mcp_server.update", "mcp_server", &row.id);
    let entry = entry.detail(&json!({"name": row.name, "fields": field_names(&body)}));
    let change = store::update(&row, &actor(cx), clock::now());
    let changed = cx.db()?.batch(entry.behind_the_first(vec![change])).await.map_err(taken)?;
    if changed.first() == Some(&0) {
        return Err(stale("MCP server").into());
    }
    reply::json(200, &shown(&Row { revision: row.revision + 1, ..row }))
}

pub(super) async fn delete(cx: &Cx<'_>) -> Result<Response, Failure> {
    let stored = named(cx).await?;
    let entry = cx.audit("mcp_server.delete", "mcp_server", &stored.id).detail(&json!({"name": stored.name}));
    cx.db()?.batch(entry.behind_the_first(vec![store::delete(&stored.id, None)])).await?;
    reply::json(200, &json!({"ok": true}))
}

/// What a session of these repositories is given, with the secrets in clear. One that does not open fails the start: it
/// would be another tool than the one that was set up.
pub(crate) async fn for_session(
    db: &impl Database,
    vars: &impl Vars,
    repositories: &[String],
) -> Result<Vec<SandboxMcpServer>, Failure> {
    let mut servers = Vec::new();
    for row in store::list(db).await?.into_iter().filter(|row| row.enabled != 0 && applies(row, repositories)) {
        let secrets: BTreeMap<String, String> = match &row.secrets {
            None => BTreeMap::new(),
            Some(text) => {
                let opened = keys(vars)?.open(&Sealed::from_text(text), &store::place(&row.id, &row.kind));
                let opened = opened.map_err(|error| Fault::new("opening an MCP server's secrets", error))?;
                serde_json::from_str(&opened).map_err(while_doing("reading an MCP server's secrets"))?
            }
        };
        let (env, headers) = if row.kind == "local" { (secrets, BTreeMap::new()) } else { (BTreeMap::new(), secrets) };
        let command = list_of(row.command.as_ref());
        servers.push(SandboxMcpServer {
            id: row.id,
            name: row.name,
            kind: row.kind,
            command,
            url: row.url,
            env,
            headers,
        });
    }
    Ok(servers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::native::Native;
    use futures_executor::block_on;
    use oi_protocol::UnixMillis;

    fn vars() -> BTreeMap<&'static str, &'static str> {
        BTreeMap::from([("REPO_SECRETS_ENCRYPTION_KEY", "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=")])
    }

    fn read(body: &Value, stored: Option<&Row>) -> Result<Wanted, String> {
        let body = body.as_object().expect("an object");
        wanted(body, stored).map_err(|refusal| refusal.sentence.into_owned())
    }

    fn made(id: &str, body: &Value) -> Row {
        row(&vars(), id, &read(body, None).expect("fits"), None).expect("seals")
    }

    #[test]
    fn a_server_has_what_its_kind_needs_and_nothing_of_the_other() {
        for (body, word) in [
            (json!({"name": "a", "type": "local"}), "needs a command"),
            (json!({"name": "a", "type": "remote"}), "needs a url"),
            (json!({"name": "a", "type": "other"}), "local or remote"),
            (json!({"type": "local", "command": ["x"]}), "name is required"),
            (json!({"name": "a/b", "type": "local", "command": ["x"]}), "name must"),
            (json!({"name": "a", "type": "local", "command": []}), "command must"),
            (json!({"name": "a", "type": "local", "command": [" "]}), "command must"),
            (json!({"name": "a", "type": "local", "command": ["x"], "url": "https://x.com"}), "has no url"),
            (json!({"name": "a", "type": "local", "command": ["x"], "headers": {}}), "has no headers"),
            (json!({"name": "a", "type": "local", "command": ["x"], "env": {"A B": "c"}}), "cannot be one"),
            (json!({"name": "a", "type": "local", "command": ["x"], "env": {"A": 1}}), "must be names"),
            (
                json!({"name": "a", "type": "remote", "url": "https://x.com", "headers": {"A": "b\r\nC: d"}}),
                "cannot be",
            ),
            (json!({"name": "a", "type": "local", "command": ["x"], "repoScopes": ["acme"]}), "repoScopes"),
            (json!({"name": "a", "type": "local", "command": ["x"], "enabled": 1}), "enabled"),
        ] {
            let refused = read(&body, None).err().expect("does not fit");
            assert!(refused.contains(word), "{body}: {refused}");
        }
    }

    #[test]
    fn a_url_is_of_the_open_internet_and_encrypted() {
        for good in ["https://mcp.example.com/sse", "https://8.8.8.8/", "https://example.com:8443/a?b=c"] {
            assert!(checked_url(good).is_ok(), "{good}");
        }
        for bad in [
            "http://mcp.example.com/",
            "https://localhost/",
            "https://a.localhost/",
            "https://printer.local/",
            "https://metadata.google.internal/",
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://10.1.2.3/",
            "https://169.254.169.254/",
            "https://172.16.0.1/",
            "https://192.168.1.1/",
            "https://100.64.0.1/",
            "https://0.0.0.0/",
            "https://[::1]/",
            "https://[fd00::1]/",
            "https://[fe80::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://user:pass@example.com/",
            "file:///etc/passwd",
            "nothing",
        ] {
            assert!(checked_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name_and_another_kind_keeps_nothing() {
        let stored = made(
            "0011223344556677",
            &json!({"name": "tools", "type": "local", "command": ["x", "-y"],
            "env": {"TOKEN": "s3cret"}, "repoScopes": ["Acme/App"], "enabled": false}),
        );
        assert!(!stored.secrets.as_ref().expect("sealed").contains("s3cret"));
        let json = serde_json::to_string(&shown(&stored)).expect("JSON");
        assert!(!json.contains("s3cret") && !json.contains("TOKEN"), "{json}");
        let renamed = read(&json!({"name": "other"}), Some(&stored)).expect("fits");
        assert_eq!((renamed.name.as_str(), renamed.secrets.clone(), renamed.enabled), ("other", None, false));
        assert_eq!(renamed.scopes, Some(vec!["acme/app".to_owned()]));
        let kept = row(&vars(), &stored.id, &renamed, Some(&stored)).expect("seals");
        assert_eq!(kept.secrets, stored.secrets);
        assert!(read(&json!({"type": "remote"}), Some(&stored)).is_err(), "it has no URL yet");
        let turned = read(&json!({"type": "remote", "url": "https://x.com/"}), Some(&stored)).expect("fits");
        let turned = row(&vars(), &stored.id, &turned, Some(&stored)).expect("seals");
        assert_eq!((turned.secrets, turned.command), (None, None));
        let fields = json!({"name": "other", "env": {"TOKEN": "s3cret"}, "revision": 1});
        assert_eq!(field_names(&fields), ["name", "env"], "neither names nor values of secrets");
        let all = read(&json!({"repoScopes": null, "env": {}}), Some(&stored)).expect("fits");
        assert_eq!((all.scopes, all.secrets), (None, Some(BTreeMap::new())));
    }

    #[test]
    fn a_session_gets_those_of_its_repositories_with_their_secrets() {
        let db = Native::new();
        for (id, body) in [
            ("1", json!({"name": "everywhere", "type": "local", "command": ["x"], "env": {"A": "b"}})),
            (
                "2",
                json!({"name": "app", "type": "remote", "url": "https://x.com/", "headers": {"X-Key": "k"},
                "repoScopes": ["acme/app"]}),
            ),
            ("3", json!({"name": "nowhere", "type": "local", "command": ["x"], "repoScopes": []})),
            ("4", json!({"name": "off", "type": "local", "command": ["x"], "enabled": false})),
        ] {
            block_on(db.batch(vec![store::insert(&made(id, &body), "u", UnixMillis(1))])).expect("runs");
        }
        let names = |repositories: &[&str]| -> Vec<String> {
            let repositories: Vec<String> = repositories.iter().map(|name| (*name).to_owned()).collect();
            let found = block_on(for_session(&db, &vars(), &repositories)).expect("opens");
            found.into_iter().map(|server| server.name).collect()
        };
        assert_eq!(names(&[]), ["everywhere"]);
        assert_eq!(names(&["acme/other", "acme/app"]), ["app", "everywhere"]);
        let found = block_on(for_session(&db, &vars(), &["acme/app".to_owned()])).expect("opens");
        assert_eq!(found[0].headers, BTreeMap::from([("X-Key".to_owned(), "k".to_owned())]));
        assert!(!format!("{found:?}").contains("\"k\""));
        // A row that was moved to another server does not open, and the start fails.
        block_on(db.change(
            "UPDATE mcp_servers SET secrets = (SELECT secrets FROM mcp_servers WHERE id = '2') WHERE id = '1'",
            crate::store::params![],
        ))
        .expect("runs");
        assert!(block_on(for_session(&db, &vars(), &[])).is_err());
    }
}
