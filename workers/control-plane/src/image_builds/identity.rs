//! What an image is of, what a build told, and which runtime is in it. The hashes are Open-Inspect's, byte for byte.

use oi_session::call::InitRepository;
use oi_worker_kit::mac;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Images with an older runtime than this are not started, and are built again.
pub const OLDEST_RUNTIME: u32 = 60;

/// The repositories and branches of an image, in order: the case of a branch matters, that of a name does not.
pub fn fingerprint(repositories: &[InitRepository]) -> String {
    let each: Vec<[String; 3]> = repositories
        .iter()
        .map(|r| [r.repo_owner.to_lowercase(), r.repo_name.to_lowercase(), r.base_branch.clone()])
        .collect();
    mac::sha256_hex(json!(each).to_string().as_bytes())
}

/// A build's id: `imgb-<scope>-<ms>-<8 hex digits>`.
pub fn build_id(scope_id: &str, now_ms: i64, random: &str) -> String {
    format!("imgb-{}-{now_ms}-{random}", scope_id.replace('/', "-"))
}

/// The number in `v<digits>…`.
pub fn generation(runtime_version: &str) -> Option<u32> {
    let rest = runtime_version.strip_prefix('v')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).map_or(rest, |end| &rest[..end]);
    digits.parse().ok()
}

/// Whether sandboxes of today work with a runtime.
pub fn is_compatible(runtime_version: &str) -> bool {
    generation(runtime_version).is_some_and(|generation| generation >= OLDEST_RUNTIME)
}

/// A commit that an image was built of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RepositorySha {
    /// Owner, in lower case.
    pub repo_owner: String,
    /// Name, in lower case.
    pub repo_name: String,
    /// The commit.
    pub base_sha: String,
}

/// The commits of an image's row; `None` when they are not those of these repositories, each once.
pub fn commits_of(shas: &str, repositories: &[InitRepository]) -> Option<Vec<RepositorySha>> {
    let mut shas: Vec<RepositorySha> = serde_json::from_str(shas).ok()?;
    if shas.len() != repositories.len() {
        return None;
    }
    repositories
        .iter()
        .map(|wanted| {
            let is_it = |sha: &RepositorySha| {
                sha.repo_owner.eq_ignore_ascii_case(&wanted.repo_owner)
                    && sha.repo_name.eq_ignore_ascii_case(&wanted.repo_name)
                    && matches!(sha.base_sha.len(), 40 | 64)
                    && sha.base_sha.bytes().all(|byte| byte.is_ascii_hexdigit())
            };
            let index = shas.iter().position(is_it)?;
            Some(shas.swap_remove(index))
        })
        .collect()
}

/// What a build told, whose hash tells a repetition from another end.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Success<'a> {
    build_id: &'a str,
    provider_session_id: &'a str,
    outcome: &'static str,
    repository_shas: Vec<&'a RepositorySha>,
    runtime_version: &'a str,
    build_duration_ms: serde_json::Value,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Failed<'a> {
    build_id: &'a str,
    provider_session_id: &'a str,
    outcome: &'static str,
    error_message: &'a str,
}

/// As JavaScript writes it: whole numbers without a fraction.
fn number(value: f64) -> serde_json::Value {
    if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 { json!(value as i64) } else { json!(value) }
}

fn hashed(value: &impl Serialize) -> String {
    // Texts and finite numbers, so writing them cannot fail.
    mac::sha256_hex(&serde_json::to_vec(value).unwrap_or_default())
}

/// Hash of a success.
pub fn success_hash(build: &str, machine: &str, shas: &[RepositorySha], runtime: &str, seconds: f64) -> String {
    let mut sorted: Vec<&RepositorySha> = shas.iter().collect();
    sorted.sort_by(|a, b| (&a.repo_owner, &a.repo_name, &a.base_sha).cmp(&(&b.repo_owner, &b.repo_name, &b.base_sha)));
    hashed(&Success {
        build_id: build,
        provider_session_id: machine,
        outcome: "success",
        repository_shas: sorted,
        runtime_version: runtime,
        build_duration_ms: number(seconds * 1_000.0),
    })
}

/// Hash of a failure.
pub fn failure_hash(build: &str, machine: &str, error: &str) -> String {
    hashed(&Failed { build_id: build, provider_session_id: machine, outcome: "failure", error_message: error })
}

/// Hash of a build's token.
pub fn token_hash(pepper: &str, token: &str) -> String {
    mac::hmac_hex(pepper.as_bytes(), &[b"repo-image-callback:", token.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn repository(owner: &str, name: &str, branch: &str) -> InitRepository {
        InitRepository {
            repo_owner: owner.to_owned(),
            repo_name: name.to_owned(),
            repo_id: 7,
            base_branch: branch.to_owned(),
            base_sha: None,
        }
    }

    fn sha(name: &str, commit: &str) -> RepositorySha {
        RepositorySha { repo_owner: "acme".to_owned(), repo_name: name.to_owned(), base_sha: commit.to_owned() }
    }

    /// The expected hashes are of `sha256sum` over the texts beside them.
    #[test]
    fn hashes_are_over_the_texts_that_open_inspect_writes() {
        let text = r#"[["acme","app","Main"],["acme","lib","dev"]]"#;
        let all = [repository("Acme", "App", "Main"), repository("acme", "lib", "dev")];
        assert_eq!(fingerprint(&all), mac::sha256_hex(text.as_bytes()));
        let text = concat!(
            r#"{"buildId":"b","providerSessionId":"m","outcome":"success","repositoryShas":["#,
            r#"{"repoOwner":"acme","repoName":"app","baseSha":"1"},{"repoOwner":"acme","repoName":"lib","baseSha":"2"}],"#,
            r#""runtimeVersion":"v61","buildDurationMs":12345}"#
        );
        let hash = success_hash("b", "m", &[sha("lib", "2"), sha("app", "1")], "v61", 12.345);
        assert_eq!(hash, mac::sha256_hex(text.as_bytes()));
        let text = r#"{"buildId":"b","providerSessionId":"m","outcome":"failure","errorMessage":"no \"x\""}"#;
        assert_eq!(failure_hash("b", "m", "no \"x\""), mac::sha256_hex(text.as_bytes()));
        assert_eq!(token_hash("p", "t"), mac::hmac_hex(b"p", &[b"repo-image-callback:t"]));
    }

    #[test]
    fn order_and_the_case_of_a_branch_make_another_image() {
        let (one, two) = (repository("a", "b", "main"), repository("a", "c", "main"));
        let first = fingerprint(&[one.clone(), two.clone()]);
        assert_ne!(first, fingerprint(&[two.clone(), one.clone()]));
        assert_ne!(first, fingerprint(&[repository("a", "b", "Main"), two]));
        assert_ne!(first, fingerprint(&[one]));
    }

    #[test]
    fn a_runtime_is_known_by_its_number() {
        for (text, expected) in [
            ("v61-sandbox-sbin-path", Some(61)),
            ("v60", Some(60)),
            ("v", None),
            ("61", None),
            ("vx", None),
            ("", None),
        ] {
            assert_eq!(generation(text), expected, "{text}");
        }
        assert!(is_compatible("v60") && !is_compatible("v59") && !is_compatible("daytona-v61"));
    }

    #[test]
    fn commits_count_only_when_they_are_those_of_the_repositories() {
        let repositories = [repository("Acme", "App", "main"), repository("acme", "lib", "main")];
        let commit = "a".repeat(40);
        let of = |shas: &[RepositorySha]| commits_of(&json!(shas).to_string(), &repositories);
        let found = of(&[sha("lib", &commit), sha("app", &"b".repeat(64))]).expect("both are there");
        assert_eq!(found[0].repo_name, "app", "in the order of the repositories");
        for bad in [
            vec![],
            vec![sha("app", &commit)],
            vec![sha("app", &commit), sha("app", &commit)],
            vec![sha("app", &commit), sha("lib", "short")],
            vec![sha("app", &commit), sha("lib", &"g".repeat(40))],
        ] {
            assert_eq!(of(&bad), None);
        }
        assert_eq!(commits_of("{broken", &repositories), None);
    }
}
