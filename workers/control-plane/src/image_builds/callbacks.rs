//! What a build's machine tells of its end. It shows a token that is good for its build alone; of an unknown build and of
//! a wrong token the same is said.

use oi_protocol::ErrorCode;
use oi_worker_kit::log::Line;
use oi_worker_kit::{Failure, Refusal, mac};
use serde::Deserialize;
use serde_json::Value;

use super::identity::{RepositorySha, failure_hash, generation, success_hash, token_hash};
use super::queue::Message;
use super::{ImageScope, World, redaction};
use crate::source_control::RepositoryName;
use crate::store::image_builds::finalization::{self, Completion};
use crate::store::image_builds::{self, Build};

/// Longest name of a build or a machine, in bytes.
const NAME_MAX_BYTES: usize = 512;
/// Longest that a build can have taken, in seconds.
const DURATION_MAX: f64 = 9_007_199_254_740_991.0;
/// Repositories of an image, at most.
const REPOSITORIES_MAX: usize = 10;

/// `POST /image-builds/build-complete`
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Complete {
    build_id: String,
    provider_session_id: String,
    repository_shas: Vec<RepositorySha>,
    runtime_version: String,
    build_duration_seconds: f64,
}

/// `POST /image-builds/build-failed`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Failed {
    build_id: String,
    provider_session_id: String,
    #[serde(default)]
    error: Value,
}

fn wrong(what: &str) -> Refusal {
    Refusal::invalid_body(format!("Invalid image build callback: {what}"))
}

fn name(path: &str, text: &str) -> Result<(), Refusal> {
    let fits = (1..=NAME_MAX_BYTES).contains(&text.len()) && !text.chars().any(char::is_control);
    if fits { Ok(()) } else { Err(wrong(&format!("{path} is no name"))) }
}

fn body<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => wrong("a field is missing or of another kind"),
        _ => wrong("no JSON"),
    })
}

impl Complete {
    /// From a body, checked.
    pub fn read(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut told: Self = body(bytes)?;
        name("build_id", &told.build_id)?;
        name("provider_session_id", &told.provider_session_id)?;
        if !(1..=REPOSITORIES_MAX).contains(&told.repository_shas.len()) {
            return Err(wrong("repository_shas has 1 to 10"));
        }
        for sha in &mut told.repository_shas {
            let named = RepositoryName::parse(&sha.repo_owner, &sha.repo_name);
            let named = named.ok_or_else(|| wrong("repository_shas names what is no repository"))?;
            (sha.repo_owner, sha.repo_name) = (named.owner().to_owned(), named.name().to_owned());
            let is_commit =
                (1..=64).contains(&sha.base_sha.len()) && sha.base_sha.bytes().all(|b| b.is_ascii_hexdigit());
            if !is_commit {
                return Err(wrong("repository_shas has what is no commit"));
            }
        }
        if generation(&told.runtime_version).is_none() || told.runtime_version.len() > 128 {
            return Err(wrong("runtime_version is not v and digits"));
        }
        if !(0.0..=DURATION_MAX).contains(&told.build_duration_seconds) {
            return Err(wrong("build_duration_seconds is no duration"));
        }
        Ok(told)
    }
}

impl Failed {
    /// From a body, checked. Any error will do.
    pub fn read(bytes: &[u8]) -> Result<Self, Refusal> {
        let told: Self = body(bytes)?;
        name("build_id", &told.build_id)?;
        name("provider_session_id", &told.provider_session_id)?;
        Ok(told)
    }

    fn error(&self) -> &str {
        self.error.as_str().filter(|text| !text.trim().is_empty()).unwrap_or("Unknown error")
    }
}

fn rejected() -> Refusal {
    Refusal::unauthorized()
}

/// The build whose machine shows its token.
async fn authenticated(world: &impl World, bearer: Option<&str>, build: &str, machine: &str) -> Result<Build, Failure> {
    let is_form = |token: &&str| token.len() == 64 && token.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let token = bearer.filter(is_form).ok_or_else(rejected)?;
    let hash = token_hash(&world.settings().pepper, token);
    let found = image_builds::get(world.db(), build).await?;
    // Compared also where there is no such build, so that both take the same time.
    let expected = found.as_ref().map_or("0".repeat(64), |build| build.callback_token_hash.clone());
    let is_right = mac::equal(&hash, &expected);
    let found = found.filter(|build| {
        is_right
            && build.provider_session_id.as_deref().is_some_and(|bound| mac::equal(bound, machine))
            && build.callback_token_expires_at > world.now().0
    });
    Ok(found.ok_or_else(rejected)?)
}

fn not_accepted(what: &str) -> Failure {
    Refusal::new(409, ErrorCode::Conflict, format!("This build's {what} is not accepted: it has ended otherwise"))
        .into()
}

/// Takes that a build is done; again, when exactly the same is told again. Its image is made by the queue.
pub async fn complete(world: &impl World, bearer: Option<&str>, told: &Complete) -> Result<(), Failure> {
    let build = authenticated(world, bearer, &told.build_id, &told.provider_session_id).await?;
    let hash = success_hash(
        &told.build_id,
        &told.provider_session_id,
        &told.repository_shas,
        &told.runtime_version,
        told.build_duration_seconds,
    );
    let shas = serde_json::to_string(&told.repository_shas).unwrap_or_default();
    let completion = Completion {
        id: &build.id,
        hash: &hash,
        repository_shas: &shas,
        runtime_version: &told.runtime_version,
        duration_seconds: told.build_duration_seconds,
    };
    if !finalization::accept(world.db(), &completion, world.now()).await? {
        let now = image_builds::get(world.db(), &build.id).await?;
        let is_same = now.is_some_and(|now| now.completion_hash.as_deref() == Some(hash.as_str()));
        if !is_same {
            return Err(not_accepted("completion"));
        }
    }
    publish(world, &build.id, &hash).await;
    Ok(())
}

/// Takes that a build failed; again, when exactly the same is told again.
pub async fn failed(world: &impl World, bearer: Option<&str>, told: &Failed) -> Result<(), Failure> {
    let build = authenticated(world, bearer, &told.build_id, &told.provider_session_id).await?;
    let hash = failure_hash(&told.build_id, &told.provider_session_id, told.error());
    let sentence = without_secrets(world, &build, told.error()).await;
    if !finalization::accept_failure(world.db(), &build.id, &hash, &sentence, world.now()).await? {
        let now = image_builds::get(world.db(), &build.id).await?;
        let is_same = now.is_some_and(|now| now.completion_hash.as_deref() == Some(hash.as_str()));
        if !is_same {
            return Err(not_accepted("failure"));
        }
    }
    publish(world, &build.id, &hash).await;
    Ok(())
}

/// What the machine said, without the scope's secrets. Where they cannot be read, nothing of it is kept.
async fn without_secrets(world: &impl World, build: &Build, error: &str) -> String {
    let Some(scope) = ImageScope::parse(&build.scope_kind, &build.scope_id) else {
        return redaction::told(error, std::iter::empty());
    };
    match world.secrets(&scope, build.repo_id).await {
        Ok(secrets) => redaction::told(error, secrets.values().map(String::as_str)),
        Err(_) => "The build failed. What it said is not shown, since it may hold secrets".to_owned(),
    }
}

/// A message that is lost is made up for by the cron.
async fn publish(world: &impl World, id: &str, hash: &str) {
    if let Err(failure) = world.publish(&Message::finish(id, hash)).await {
        let line = Line::error("control-plane", "image_build.not_queued").with("build_id", id);
        line.with("error", failure.to_string()).write();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_completion_is_checked_before_anybody_is_asked() {
        let good = json!({
            "build_id": "b", "provider_session_id": "m", "runtime_version": "v61-x", "build_duration_seconds": 1.5,
            "repository_shas": [{"repoOwner": "Acme", "repoName": "App", "baseSha": "abc"}], "more": 1,
        });
        let read = |body: &Value| Complete::read(body.to_string().as_bytes());
        assert_eq!(read(&good).expect("fits").repository_shas[0].repo_owner, "acme");
        let changed = |name: &str, value: Value| {
            let mut body = good.clone();
            body[name] = value;
            body
        };
        for bad in [
            changed("build_id", json!("")),
            changed("build_id", json!(1)),
            changed("provider_session_id", json!(null)),
            changed("provider_session_id", json!("a\nb")),
            changed("repository_shas", json!([])),
            changed("repository_shas", json!([{"repoOwner": "a", "repoName": "..", "baseSha": "abc"}])),
            changed("repository_shas", json!([{"repoOwner": "a", "repoName": "b", "baseSha": "xyz"}])),
            changed("repository_shas", json!(vec![good["repository_shas"][0].clone(); 11])),
            changed("runtime_version", json!("61")),
            changed("build_duration_seconds", json!(-1)),
            changed("build_duration_seconds", json!(1e300)),
            changed("build_duration_seconds", json!("1")),
            json!([]),
        ] {
            assert_eq!(read(&bad).map_err(|refusal| refusal.status), Err(400), "{bad}");
        }
        assert!(Complete::read(b"{").is_err());
    }

    #[test]
    fn a_failure_may_be_of_any_kind() {
        for (error, expected) in [
            (json!("it broke"), "it broke"),
            (json!(7), "Unknown error"),
            (json!(null), "Unknown error"),
            (json!(" "), "Unknown error"),
        ] {
            let body = json!({"build_id": "b", "provider_session_id": "m", "error": error});
            assert_eq!(Failed::read(body.to_string().as_bytes()).expect("fits").error(), expected);
        }
        let without = json!({"build_id": "b", "provider_session_id": "m"});
        assert_eq!(Failed::read(without.to_string().as_bytes()).expect("fits").error(), "Unknown error");
    }
}
