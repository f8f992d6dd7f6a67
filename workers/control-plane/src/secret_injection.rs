//! The users' secrets for a sandbox: read when it starts, and kept nowhere on the way. Lowest first they are the
//! deployment's, then those of the environment alone, or those of each repository with the primary's last.

use std::collections::BTreeMap;

use oi_protocol::ErrorCode;
use oi_protocol::secrets::{MERGED_MAX_BYTES, SecretName, is_reserved};
use oi_session::job::StartSandbox;
use oi_worker_kit::key_ring::KeyRing;
use oi_worker_kit::log::Line;
use oi_worker_kit::vars::Vars;
use oi_worker_kit::{Failure, Refusal};
use worker::Env;

use crate::effects::{Failed, permanent};
use crate::image_builds::ImageScope;
use crate::store::D1;
use crate::store::secrets::{self, SecretScope, StoredSecret};

/// The variable that holds the key of secrets; `<this>_OLD` holds the keys before it.
pub const KEY_VARIABLE: &str = "REPO_SECRETS_ENCRYPTION_KEY";

/// The secrets that go into an image: the deployment's, and the repository's or the environment's. One that does not
/// open fails the build.
pub async fn for_image(
    env: &Env,
    scope: &ImageScope,
    repo_id: Option<i64>,
) -> Result<BTreeMap<String, String>, Failure> {
    let label = scope.key().id;
    let own = match scope {
        ImageScope::Environment(id) => {
            Some(Source { scope: SecretScope::Environment(id.clone()), label: format!("environment {label}") })
        }
        ImageScope::Repository(_) => repo_id.map(|id| Source { scope: SecretScope::Repository(id), label }),
    };
    let global = Source { scope: SecretScope::Global, label: "global".to_owned() };
    let sources: Vec<Source> = std::iter::once(global).chain(own).collect();
    let refused = |sentence: String| Failure::from(Refusal::new(500, ErrorCode::Internal, sentence));
    let merged = gathered(env, &sources).await.map_err(|unread| match unread {
        Unread::Store(failure) => failure,
        Unread::Keys(refusal) => refusal.into(),
        Unread::Secret(sentence) => refused(sentence),
    })?;
    match over_the_limit(&merged) {
        Some(sentence) if is_limit_enforced(env) => Err(refused(sentence)),
        _ => Ok(merged.values),
    }
}

/// A scope, and what people call it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    scope: SecretScope,
    label: String,
}

/// Where a sandbox's secrets come from, lowest first.
fn sources(start: &StartSandbox) -> Vec<Source> {
    let mut sources = vec![Source { scope: SecretScope::Global, label: "global".to_owned() }];
    if let Some(id) = &start.environment_id {
        let label = format!("environment {id}");
        sources.push(Source { scope: SecretScope::Environment(id.clone()), label });
        return sources;
    }
    sources.extend(start.repositories.iter().rev().map(|repository| Source {
        scope: SecretScope::Repository(repository.repo_id),
        label: format!("{}/{}", repository.repo_owner, repository.repo_name),
    }));
    sources
}

/// A name that two sources have.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Collision {
    name: String,
    winner: String,
    loser: String,
}

/// What a sandbox gets.
#[derive(Default)]
struct Merged {
    values: BTreeMap<String, String>,
    collisions: Vec<Collision>,
    /// Bytes of values that each source gives, where it is not overridden.
    bytes: Vec<(String, usize)>,
}

/// Opens and merges. A secret that does not open fails the start: the agent would work without knowing what it lacks.
fn merge(sources: &[Source], stored: &[StoredSecret], keys: &KeyRing) -> Result<Merged, String> {
    let mut values: BTreeMap<String, (String, &str)> = BTreeMap::new();
    let mut collisions = Vec::new();
    for Source { scope, label } in sources {
        for secret in stored.iter().filter(|secret| secret.is_of(scope)) {
            // One that was stored before its name was reserved.
            if SecretName::stored(&secret.name).is_none() || is_reserved(&secret.name) {
                continue;
            }
            let value = secret.open(keys).map_err(|_| {
                format!("The secret `{}` ({label}) cannot be decrypted: set it again, or restore its key", secret.name)
            })?;
            if let Some((_, loser)) = values.insert(secret.name.clone(), (value, label)) {
                collisions.push(Collision {
                    name: secret.name.clone(),
                    winner: label.clone(),
                    loser: loser.to_owned(),
                });
            }
        }
    }
    let mut bytes: Vec<(String, usize)> = sources.iter().map(|source| (source.label.clone(), 0)).collect();
    for (value, label) in values.values() {
        if let Some(sum) = bytes.iter_mut().find(|(name, _)| name == label) {
            sum.1 += value.len();
        }
    }
    bytes.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let values = values.into_iter().map(|(name, (value, _))| (name, value)).collect();
    Ok(Merged { values, collisions, bytes })
}

/// What is wrong with so many bytes; `None` when they fit.
fn over_the_limit(merged: &Merged) -> Option<String> {
    let total: usize = merged.bytes.iter().map(|(_, bytes)| bytes).sum();
    let by_size: Vec<String> = merged.bytes.iter().map(|(label, bytes)| format!("{label} {bytes}")).collect();
    (total > MERGED_MAX_BYTES).then(|| {
        format!(
            "The session's secrets have {total} bytes together, and {MERGED_MAX_BYTES} is the most: {}",
            by_size.join(", ")
        )
    })
}

fn is_limit_enforced(vars: &impl Vars) -> bool {
    vars.get("SECRETS_CAP_ENFORCEMENT").as_deref() != Some("warn")
}

/// Why there are no secrets.
enum Unread {
    Store(Failure),
    Keys(Refusal),
    /// One does not open.
    Secret(String),
}

/// Reads and merges what the sources have. Without any secret no key is needed.
async fn gathered(env: &Env, sources: &[Source]) -> Result<Merged, Unread> {
    let scopes: Vec<SecretScope> = sources.iter().map(|source| source.scope.clone()).collect();
    let db = D1::of(env).map_err(Unread::Store)?;
    let stored = secrets::read(&db, &scopes).await.map_err(|error| Unread::Store(error.into()))?;
    if stored.is_empty() {
        return Ok(Merged::default());
    }
    let keys = KeyRing::of(env, KEY_VARIABLE).map_err(Unread::Keys)?;
    merge(sources, &stored, &keys).map_err(Unread::Secret)
}

/// The variables of a sandbox that starts.
pub async fn variables(env: &Env, start: &StartSandbox) -> Result<BTreeMap<String, String>, Failed> {
    let merged = gathered(env, &sources(start)).await.map_err(|unread| match unread {
        Unread::Store(failure) => failure.into(),
        Unread::Keys(refusal) => permanent(refusal.sentence.into_owned()),
        Unread::Secret(sentence) => permanent(sentence),
    })?;
    let line = |event: &'static str| Line::warn("control-plane", event).with("session_id", start.session_id.as_str());
    for collision in &merged.collisions {
        line("secrets.collision")
            .with("name", &collision.name)
            .with("winner", &collision.winner)
            .with("loser", &collision.loser)
            .write();
    }
    if let Some(sentence) = over_the_limit(&merged) {
        if is_limit_enforced(env) {
            return Err(permanent(sentence));
        }
        line("secrets.over_the_limit").with("detail", sentence).write();
    }
    Ok(merged.values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Database as _;
    use crate::store::audit_log::tests::about_a;
    use crate::store::native::Native;
    use crate::store::secrets::Write;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use futures_executor::block_on;
    use oi_protocol::{EnvironmentId, SessionId, UnixMillis};
    use oi_session::call::InitRepository;
    use oi_session::job::StartFrom;

    fn keys(byte: u8) -> KeyRing {
        KeyRing::from_base64(&STANDARD.encode([byte; 32]), []).expect("a key")
    }

    fn start(repositories: &[i64], environment: Option<&EnvironmentId>) -> StartSandbox {
        let repository = |id: &i64| InitRepository {
            repo_owner: "acme".to_owned(),
            repo_name: format!("app{id}"),
            repo_id: *id,
            base_branch: "main".to_owned(),
            base_sha: None,
        };
        StartSandbox {
            session_id: SessionId::from_bytes([1; 16]),
            sandbox_id: "s".to_owned(),
            generation: 1,
            nonce: "n".to_owned(),
            repositories: repositories.iter().map(repository).collect(),
            environment_id: environment.cloned(),
            model: "demo/scripted".to_owned(),
            timeout_seconds: 7200,
            from: StartFrom::Fresh,
        }
    }

    /// The names of `all`, each with its scope's kind and number as its value.
    fn fill(db: &Native, scope: &SecretScope, all: &[&str]) {
        let value = format!("{}{}", scope.kind(), scope.id());
        let values: Vec<_> = all.iter().map(|name| (SecretName::parse(name).expect("a name"), value.clone())).collect();
        let write = Write { mark: &value, expected: None, now: UnixMillis(1) };
        block_on(secrets::put(db, &keys(1), scope, &values, write, &about_a("secret.set"))).expect("fits");
    }

    fn filled() -> (Native, EnvironmentId) {
        let db = Native::new();
        let environment = crate::store::environments::tests::environment(1);
        block_on(crate::store::environments::insert(&db, &environment, "m", &about_a("environment.create")))
            .expect("runs");
        fill(&db, &SecretScope::Global, &["ALL", "G_AND_1", "GLOBAL"]);
        fill(&db, &SecretScope::Repository(1), &["ALL", "G_AND_1", "ONE_AND_2"]);
        fill(&db, &SecretScope::Repository(2), &["ALL", "ONE_AND_2", "TWO"]);
        fill(&db, &SecretScope::Environment(environment.id.clone()), &["ALL", "ENVIRONMENT"]);
        (db, environment.id)
    }

    fn merged(db: &Native, start: &StartSandbox) -> Merged {
        let sources = sources(start);
        let scopes: Vec<_> = sources.iter().map(|source| source.scope.clone()).collect();
        merge(&sources, &block_on(secrets::read(db, &scopes)).expect("runs"), &keys(1)).expect("opens")
    }

    fn values(db: &Native, start: &StartSandbox) -> Vec<String> {
        merged(db, start).values.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn the_primary_repository_wins_over_the_others_and_any_over_the_deployment() {
        let (db, _) = filled();
        assert_eq!(values(&db, &start(&[], None)), ["ALL=global", "GLOBAL=global", "G_AND_1=global"]);
        let one_first =
            ["ALL=repository1", "GLOBAL=global", "G_AND_1=repository1", "ONE_AND_2=repository1", "TWO=repository2"];
        assert_eq!(values(&db, &start(&[1, 2], None)), one_first);
        let two_first =
            ["ALL=repository2", "GLOBAL=global", "G_AND_1=repository1", "ONE_AND_2=repository2", "TWO=repository2"];
        assert_eq!(values(&db, &start(&[2, 1], None)), two_first);
    }

    #[test]
    fn of_an_environments_session_no_repository_gives_any() {
        let (db, id) = filled();
        let expected = ["ALL=environment", "ENVIRONMENT=environment", "GLOBAL=global", "G_AND_1=global"];
        let found = values(&db, &start(&[1, 2], Some(&id)));
        assert_eq!(found.iter().map(|line| line.replace(id.as_str(), "")).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_overrides_what_is_known_by_name_only() {
        let (db, _) = filled();
        let collisions = merged(&db, &start(&[1, 2], None)).collisions;
        let all: Vec<_> = collisions.iter().filter(|collision| collision.name == "ALL").collect();
        assert_eq!((all[0].winner.as_str(), all[0].loser.as_str()), ("acme/app2", "global"));
        assert_eq!((all[1].winner.as_str(), all[1].loser.as_str()), ("acme/app1", "acme/app2"));
    }

    #[test]
    fn a_secret_that_does_not_open_fails_the_start_and_is_named() {
        let (db, _) = filled();
        let sources = sources(&start(&[1], None));
        let stored = block_on(secrets::read(&db, &[SecretScope::Repository(1)])).expect("runs");
        let error = merge(&sources, &stored, &keys(2)).err().expect("another key");
        assert!(error.contains("`ALL` (acme/app1)"), "{error}");
    }

    #[test]
    fn a_name_that_was_reserved_after_it_was_stored_is_left_out() {
        let (db, _) = filled();
        block_on(db.change("UPDATE secrets SET name = 'LD_PRELOAD' WHERE name = 'GLOBAL'", vec![])).expect("runs");
        let found = values(&db, &start(&[], None));
        assert_eq!(found, ["ALL=global", "G_AND_1=global"], "and that it does not open there fails nothing");
    }

    #[test]
    fn what_is_too_much_is_told_by_source_the_largest_first() {
        let sized = |sizes: &[(&str, usize)]| Merged {
            bytes: sizes.iter().map(|(label, bytes)| ((*label).to_owned(), *bytes)).collect(),
            ..Merged::default()
        };
        assert_eq!(over_the_limit(&sized(&[("a/b", 100_000), ("global", 31_072)])), None);
        let sentence = over_the_limit(&sized(&[("a/b", 100_000), ("global", 31_073)])).expect("too much");
        assert!(sentence.contains("131073 bytes") && sentence.ends_with("a/b 100000, global 31073"), "{sentence}");
    }
}
