//! Secrets: set, listed by name, deleted. No answer, log or refusal has a value in it.

use oi_protocol::dotenv;
use oi_protocol::secrets::{
    ImportSecrets, InvalidName, PutSecrets, SCOPE_MAX_BYTES, SCOPE_MAX_COUNT, SecretInfo, SecretKeyUse, SecretList,
    SecretName, SecretRotation, SecretsChanged, VALUE_MAX_BYTES,
};
use oi_protocol::{EnvironmentId, ErrorCode, UnixMillis};
use oi_worker_kit::key_ring::KeyRing;
use oi_worker_kit::log::Line;
use oi_worker_kit::{Failure, Fault, Refusal, clock, random, reply, request_body};
use serde_json::{Value, json};
use worker::Response;

use super::environments::{environment_id, environment_of};
use super::image_builds;
use crate::image_builds::ImageScope;
use crate::image_builds::queue::Message;
use crate::request::Cx;
use crate::secret_injection::KEY_VARIABLE;
use crate::session_target::{self, Directory as _, KnownForge};
use crate::source_control::{RepositoryName, decoded, require_forge};
use crate::store::secrets::{self, ChangeError, Changed, KeyUse, ListedSecret, SecretScope, Write};
use crate::store::{DbError, commit_signing, mcp_servers};

const SHAPE: &str = "Invalid secrets body";

/// A scope, and as what its answers name it.
struct Place {
    scope: SecretScope,
    repo: Option<String>,
    environment: Option<EnvironmentId>,
}

impl Place {
    /// What the audit log tells of where a secret is.
    fn detail(&self) -> Value {
        let mut detail = json!({"scope": self.scope.kind()});
        if self.scope != SecretScope::Global {
            detail["scopeId"] = self.scope.id().into();
        }
        if let Some(repo) = &self.repo {
            detail["repo"] = repo.as_str().into();
        }
        detail
    }
}

fn unavailable(error: &DbError) -> Failure {
    Line::error("control-plane", "secrets.storage").with("error", error.to_string()).write();
    Refusal::new(503, ErrorCode::Retry, "Secrets storage unavailable").into()
}

fn refused(error: ChangeError) -> Failure {
    match error {
        ChangeError::Conflict => {
            Refusal::conflict("The secrets were changed meanwhile. Reload them and try again").into()
        }
        ChangeError::NoScope => Refusal::not_found("Environment not found").into(),
        ChangeError::NoSecret => Refusal::not_found("Secret not found").into(),
        ChangeError::TooMany(_) | ChangeError::TooLarge(_) => {
            let sentence = error.to_string();
            Refusal::invalid_body(format!("Too much for one scope: {sentence}")).into()
        }
        ChangeError::Seal(error) => Fault::new("sealing a secret", error).into(),
        ChangeError::Db(error) => unavailable(&error),
    }
}

fn keys(cx: &Cx<'_>) -> Result<KeyRing, Refusal> {
    KeyRing::of(cx.env, KEY_VARIABLE)
}

fn global() -> Place {
    Place { scope: SecretScope::Global, repo: None, environment: None }
}

async fn of_repository(cx: &Cx<'_>) -> Result<Place, Failure> {
    require_forge(cx.env)?;
    let segment = |index: usize| cx.parameters.get(index).map(String::as_str).unwrap_or_default();
    let name = session_target::of_path(segment(0), segment(1))?;
    let id = repository_id(cx, &name).await?;
    Ok(Place { scope: SecretScope::Repository(id), repo: Some(name.as_path()), environment: None })
}

async fn repository_id(cx: &Cx<'_>, name: &RepositoryName) -> Result<i64, Failure> {
    let facts = KnownForge::of(cx.env)?.facts(name).await?;
    let facts = facts.ok_or_else(|| Refusal::not_found("Repository is not installed for the GitHub App"))?;
    Ok(facts.id)
}

async fn of_environment(cx: &Cx<'_>) -> Result<Place, Failure> {
    let environment = environment_of(cx).await?;
    let scope = SecretScope::Environment(environment.id.clone());
    Ok(Place { scope, repo: None, environment: Some(environment.id) })
}

fn shown(rows: Vec<ListedSecret>) -> Vec<SecretInfo> {
    let info = |row: ListedSecret| SecretInfo {
        key: row.name,
        created_at: UnixMillis(row.created_at),
        updated_at: UnixMillis(row.updated_at),
    };
    rows.into_iter().map(info).collect()
}

async fn list(cx: &Cx<'_>, place: Place) -> Result<Response, Failure> {
    let db = cx.db()?;
    // The version first: what is listed is then at least as new.
    let version = secrets::version(&db, &place.scope).await.map_err(|error| unavailable(&error))?;
    let listed = secrets::list(&db, &place.scope).await.map_err(|error| unavailable(&error))?;
    let global_secrets = match place.scope {
        SecretScope::Global => None,
        _ => Some(shown(secrets::list(&db, &SecretScope::Global).await.unwrap_or_default())),
    };
    reply::json(200, &SecretList { secrets: shown(listed), global_secrets, version })
}

/// The names and values that a body sets, each name once, by name.
fn values(body: PutSecrets) -> Result<Vec<(SecretName, String)>, Refusal> {
    let is_text = body.text.is_some();
    let pairs: Vec<(Option<usize>, String, String)> = match (body.secrets, body.text) {
        (Some(pairs), None) => pairs.0.into_iter().map(|(name, value)| (None, name, value)).collect(),
        (None, Some(text)) => {
            let parsed = dotenv::parse(&text.0).map_err(|problems| {
                let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
                Refusal::invalid_body(format!("The text was not taken: {}", told.join("; ")))
            })?;
            parsed.into_iter().map(|one| (Some(one.line), one.name, one.value)).collect()
        }
        _ => return Err(Refusal::invalid_body("Either `secrets` or `text` is required")),
    };
    let mut problems = Vec::new();
    let mut all: std::collections::BTreeMap<SecretName, String> = std::collections::BTreeMap::new();
    for (line, name, value) in pairs {
        let at = |what: String| line.map_or_else(|| what.clone(), |line| format!("line {line}: {what}"));
        match SecretName::parse(&name) {
            Err(InvalidName::Form) if name.len() > 64 => {
                problems.push(at(format!("A name is not valid: {}", InvalidName::Form)));
            }
            Err(error) => problems.push(at(format!("`{}`: {error}", name.escape_debug()))),
            Ok(name) if value.len() > VALUE_MAX_BYTES => {
                problems.push(at(format!("`{name}`: a value has at most {VALUE_MAX_BYTES} bytes")));
            }
            Ok(name) if value.contains('\0') => {
                problems.push(at(format!("`{name}`: a value cannot hold a zero byte")));
            }
            // Of a text the last one counts, as it does for a shell.
            Ok(name) if !is_text && all.contains_key(&name) => {
                problems.push(at(format!("`{name}` is there twice: names are the same in any case")));
            }
            Ok(name) => drop(all.insert(name, value)),
        }
        if problems.len() >= dotenv::PROBLEMS_MAX {
            break;
        }
    }
    if !problems.is_empty() {
        return Err(Refusal::invalid_body(format!("Nothing was set. {}", problems.join("; "))));
    }
    if all.is_empty() {
        return Err(Refusal::invalid_body("There is no secret to set"));
    }
    if all.len() > SCOPE_MAX_COUNT {
        return Err(Refusal::invalid_body(format!("A scope holds {SCOPE_MAX_COUNT} secrets at most")));
    }
    let bytes: usize = all.values().map(String::len).sum();
    if bytes > SCOPE_MAX_BYTES {
        let sentence = format!("The values have {bytes} bytes together, and {SCOPE_MAX_BYTES} is the most");
        return Err(Refusal::invalid_body(sentence));
    }
    Ok(all.into_iter().collect())
}

struct Answer {
    status: &'static str,
    source: Option<String>,
}

async fn set(
    cx: &Cx<'_>,
    place: Place,
    values: Vec<(SecretName, String)>,
    expected: Option<i64>,
    answer: Answer,
) -> Result<Response, Failure> {
    let mark = random::hex::<16>();
    let write = Write { mark: &mark, expected, now: clock::now() };
    let mut detail = place.detail();
    if let Some(source) = &answer.source {
        detail["source"] = source.as_str().into();
    }
    // Of each name, which the store puts in the place of the subject.
    let entry = cx.audit("secret.set", "secret", "").detail(&detail);
    let changed = secrets::put(&cx.db()?, &keys(cx)?, &place.scope, &values, write, &entry).await;
    let changed: Changed = changed.map_err(refused)?;
    Line::info("control-plane", "secrets.set")
        .trace(cx.trace)
        .with("scope", place.scope.kind())
        .with("scope_id", place.scope.id())
        .with("created", changed.created)
        .with("updated", changed.updated)
        .write();
    images_changed(cx, &place).await;
    let body = SecretsChanged {
        status: answer.status.to_owned(),
        repo: place.repo,
        environment_id: place.environment.map(|id| id.as_str().to_owned()),
        source: answer.source,
        keys: values.iter().map(|(name, _)| name.as_str().to_owned()).collect(),
        created: changed.created,
        updated: changed.updated,
        version: changed.version,
    };
    reply::json(200, &body)
}

/// Images of the old values ended with the change; new ones are built by the queue.
async fn images_changed(cx: &Cx<'_>, place: &Place) {
    let message = match (&place.repo, &place.environment) {
        (_, Some(id)) => Message::refresh(&ImageScope::Environment(id.clone())),
        (Some(repo), None) => match ImageScope::parse("repo", repo) {
            Some(scope) => Message::refresh(&scope),
            None => return,
        },
        (None, None) => Message::refresh_all(),
    };
    image_builds::changed(cx.env, &message).await;
}

async fn put(cx: &Cx<'_>, place: Place) -> Result<Response, Failure> {
    let body: PutSecrets = request_body::parse(&cx.body, SHAPE)?;
    let expected = body.version;
    let values = values(body)?;
    set(cx, place, values, expected, Answer { status: "updated", source: None }).await
}

/// The version in the query, of a request without a body.
pub(super) fn query_version(cx: &Cx<'_>) -> Result<Option<i64>, Refusal> {
    let text = cx.head.query_value("version");
    text.map(|text| text.parse().map_err(|_| Refusal::invalid_parameter("version must be a whole number"))).transpose()
}

async fn delete(cx: &Cx<'_>, place: Place, key: usize) -> Result<Response, Failure> {
    let segment = cx.parameters.get(key).map(String::as_str).unwrap_or_default();
    // Whatever is stored can be deleted, also a name that was reserved since.
    let name = decoded(segment).and_then(|text| SecretName::stored(&text));
    let name = name.ok_or_else(|| Refusal::invalid_parameter(InvalidName::Form.to_string()))?;
    let mark = random::hex::<16>();
    let write = Write { mark: &mark, expected: query_version(cx)?, now: clock::now() };
    let entry = cx.audit("secret.delete", "secret", name.as_str()).detail(&place.detail());
    let version = secrets::delete(&cx.db()?, &place.scope, &name, write, &entry).await.map_err(refused)?;
    Line::info("control-plane", "secrets.deleted")
        .trace(cx.trace)
        .with("scope", place.scope.kind())
        .with("scope_id", place.scope.id())
        .with("name", name.as_str())
        .write();
    images_changed(cx, &place).await;
    let mut body = json!({"status": "deleted", "key": name, "version": version});
    if let Some(repo) = place.repo {
        body["repo"] = repo.into();
    }
    if let Some(id) = place.environment {
        body["environmentId"] = id.as_str().into();
    }
    reply::json(200, &body)
}

pub(super) async fn list_global(cx: &Cx<'_>) -> Result<Response, Failure> {
    list(cx, global()).await
}

pub(super) async fn put_global(cx: &Cx<'_>) -> Result<Response, Failure> {
    put(cx, global()).await
}

pub(super) async fn delete_global(cx: &Cx<'_>) -> Result<Response, Failure> {
    delete(cx, global(), 0).await
}

pub(super) async fn list_of_repository(cx: &Cx<'_>) -> Result<Response, Failure> {
    list(cx, of_repository(cx).await?).await
}

pub(super) async fn put_of_repository(cx: &Cx<'_>) -> Result<Response, Failure> {
    put(cx, of_repository(cx).await?).await
}

pub(super) async fn delete_of_repository(cx: &Cx<'_>) -> Result<Response, Failure> {
    delete(cx, of_repository(cx).await?, 2).await
}

pub(super) async fn list_of_environment(cx: &Cx<'_>) -> Result<Response, Failure> {
    list(cx, of_environment(cx).await?).await
}

pub(super) async fn put_of_environment(cx: &Cx<'_>) -> Result<Response, Failure> {
    put(cx, of_environment(cx).await?).await
}

pub(super) async fn delete_of_environment(cx: &Cx<'_>) -> Result<Response, Failure> {
    delete(cx, of_environment(cx).await?, 1).await
}

/// Copies secrets of a member repository. Each is opened and sealed for its new place; nobody sees it on the way.
pub(super) async fn import(cx: &Cx<'_>) -> Result<Response, Failure> {
    require_forge(cx.env)?;
    let body: ImportSecrets = request_body::parse(&cx.body, SHAPE)?;
    let name = RepositoryName::parse(&body.repo_owner, &body.repo_name)
        .ok_or_else(|| Refusal::invalid_body("repoOwner and repoName must name a repository"))?;
    let wanted: Option<Vec<SecretName>> = match &body.keys {
        Some(keys) if keys.len() > SCOPE_MAX_COUNT => {
            return Err(Refusal::invalid_body(format!("keys: {SCOPE_MAX_COUNT} at most")).into());
        }
        Some(keys) => {
            let named = keys.iter().map(|key| SecretName::stored(key));
            Some(
                named
                    .collect::<Option<_>>()
                    .ok_or_else(|| Refusal::invalid_body("keys: one is no name of a secret"))?,
            )
        }
        None => None,
    };
    let environment = environment_of(cx).await?;
    let is_member = |r: &oi_protocol::environments::EnvironmentRepository| {
        r.repo_owner == name.owner() && r.repo_name == name.name()
    };
    if !environment.repositories.iter().any(is_member) {
        let sentence = format!("{} is not a member of this environment", name.as_path());
        return Err(Refusal::forbidden(sentence).into());
    }
    let source = SecretScope::Repository(repository_id(cx, &name).await?);
    let keys = keys(cx)?;
    let stored = secrets::read(&cx.db()?, std::slice::from_ref(&source)).await.map_err(|error| unavailable(&error))?;
    let mut values = Vec::new();
    for secret in stored {
        // One whose name was reserved since is left behind.
        let Ok(key) = SecretName::parse(&secret.name) else { continue };
        if wanted.as_ref().is_some_and(|wanted| !wanted.contains(&key)) {
            continue;
        }
        let value = secret.open(&keys).map_err(|_| {
            Refusal::conflict(format!("`{key}` of {} cannot be decrypted: set it again", name.as_path()))
        })?;
        values.push((key, value));
    }
    let answer = Answer { status: "imported", source: Some(name.as_path()) };
    let scope = SecretScope::Environment(environment.id.clone());
    if values.is_empty() {
        let version = secrets::version(&cx.db()?, &scope).await.map_err(|error| unavailable(&error))?;
        let body = SecretsChanged {
            status: answer.status.to_owned(),
            repo: None,
            environment_id: Some(environment_id(cx)?.as_str().to_owned()),
            source: answer.source,
            keys: vec![],
            created: 0,
            updated: 0,
            version,
        };
        return reply::json(200, &body);
    }
    let place = Place { scope, repo: None, environment: Some(environment.id) };
    set(cx, place, values, body.version, answer).await
}

/// Counts one more value that a key seals.
fn count(used: &mut Vec<KeyUse>, key_id: String) {
    match used.iter_mut().find(|key| key.key_id == key_id) {
        Some(key) => key.secrets += 1,
        None => used.push(KeyUse { key_id, secrets: 1, unreadable: 0 }),
    }
}

/// How far a change of keys has come: of secrets, those of MCP servers among them, and the commit signing key.
pub(super) async fn rotation(cx: &Cx<'_>) -> Result<Response, Failure> {
    let (keys, db) = (keys(cx)?, cx.db()?);
    let mut used = secrets::key_use(&db).await.map_err(|error| unavailable(&error))?;
    // An old key goes when nothing at all is sealed with it.
    let servers = mcp_servers::key_ids(&db).await.map_err(|error| unavailable(&error))?;
    let signing = commit_signing::key_id(&db).await.map_err(|error| unavailable(&error))?;
    servers.into_iter().chain(signing).for_each(|id| count(&mut used, id));
    let current = keys.current_id();
    let remaining = used.iter().filter(|key| key.key_id != current).map(|key| key.secrets).sum();
    let shown = used.into_iter().map(|key| SecretKeyUse {
        known: keys.knows(&key.key_id),
        key_id: key.key_id,
        secrets: key.secrets,
        unreadable: key.unreadable,
    });
    reply::json(200, &SecretRotation { current_key_id: current.to_owned(), remaining, keys: shown.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &Value) -> Result<Vec<(String, String)>, Refusal> {
        let values = values(request_body::parse(body.to_string().as_bytes(), SHAPE)?)?;
        Ok(values.into_iter().map(|(name, value)| (name.as_str().to_owned(), value)).collect())
    }

    fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
        all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn whatever_a_key_seals_is_counted() {
        let mut used = vec![KeyUse { key_id: "a".to_owned(), secrets: 2, unreadable: 1 }];
        for id in ["a", "b"] {
            count(&mut used, id.to_owned());
        }
        let counted: Vec<_> = used.iter().map(|key| (key.key_id.as_str(), key.secrets, key.unreadable)).collect();
        assert_eq!(counted, [("a", 3, 1), ("b", 1, 0)]);
    }

    #[test]
    fn the_log_tells_where_a_secret_is() {
        assert_eq!(global().detail(), json!({"scope": "global"}));
        let place = Place { scope: SecretScope::Repository(7), repo: Some("acme/app".to_owned()), environment: None };
        assert_eq!(place.detail(), json!({"scope": "repository", "scopeId": "7", "repo": "acme/app"}));
    }

    #[test]
    fn a_map_and_a_text_set_the_same() {
        let expected = Ok(pairs(&[("A", "1"), ("B", "two words")]));
        assert_eq!(read(&json!({"secrets": {"b": "two words", "A": "1"}})), expected);
        assert_eq!(read(&json!({"text": "# x\nexport b='two words'\nA=0\na=1 # the last counts\n"})), expected);
        assert_eq!(read(&json!({"secrets": {"EMPTY": ""}})), Ok(pairs(&[("EMPTY", "")])));
    }

    #[test]
    fn what_does_not_fit_is_refused_whole_and_told_without_its_values() {
        let long = "hunter2".repeat(3_000);
        let many: serde_json::Map<String, Value> = (0..51).map(|n| (format!("N{n}"), json!("hunter2"))).collect();
        let heavy: serde_json::Map<String, Value> =
            (0..5).map(|n| (format!("N{n}"), json!("hunter2".repeat(2_000)))).collect();
        for (body, part) in [
            (json!({}), "Either"),
            (json!({"secrets": {"A": "hunter2"}, "text": "A=hunter2"}), "Either"),
            (json!({"secrets": {}}), "no secret"),
            (json!({"text": "# nothing\n"}), "no secret"),
            (json!({"secrets": {"A": "hunter2", "a": "hunter2"}}), "`A` is there twice"),
            (json!({"secrets": {"1A": "hunter2"}}), "`1A`"),
            (json!({"secrets": {" A": "hunter2"}}), "` A`"),
            (json!({"secrets": {"PATH": "hunter2"}}), "`PATH`: the name is reserved"),
            (json!({"secrets": {"A": long}}), "`A`: a value has at most 16384"),
            (json!({"secrets": {"A": "hunter2\u{0}"}}), "zero byte"),
            (json!({"secrets": many}), "50 secrets at most"),
            (json!({"secrets": heavy}), "70000 bytes"),
            (json!({"secrets": {"A": 1}}), SHAPE),
            (json!({"secrets": ["hunter2"]}), SHAPE),
            (json!({"text": "A=1\nhunter2\nB='hunter2"}), "line 2: there is no `=` after a name; line 3: the quote"),
            (json!({"text": "A=1\nPATH=hunter2\nLD_PRELOAD=hunter2"}), "line 2: `PATH`: the name is reserved; line 3"),
        ] {
            let refusal = read(&body).expect_err("does not fit");
            assert!(refusal.status == 400 && refusal.sentence.contains(part), "{part}: {refusal}");
            assert!(!refusal.sentence.contains("hunter2"), "{refusal}");
        }
    }
}
