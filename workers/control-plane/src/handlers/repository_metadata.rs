//! What people noted of a repository.

use oi_protocol::environments::{RepositoryMetadata, RepositoryMetadataAnswer};
use oi_worker_kit::log::Line;
use oi_worker_kit::{Failure, Refusal, clock, random, reply, request_body};
use serde_json::json;
use worker::Response;

use super::environments::{description, words};
use crate::request::Cx;
use crate::session_target;
use crate::source_control::{RepositoryName, require_forge};
use crate::store::{environments, repo_metadata};

const SHAPE: &str = "Invalid repository metadata";
/// Attempts of a change that names no version and meets others.
const ATTEMPTS: u32 = 4;

fn named(cx: &Cx<'_>) -> Result<RepositoryName, Failure> {
    require_forge(cx.env)?;
    let segment = |index: usize| cx.parameters.get(index).map(String::as_str).unwrap_or_default();
    Ok(session_target::of_path(segment(0), segment(1))?)
}

fn wrong(refusal: &Refusal) -> Refusal {
    Refusal::invalid_body(format!("{SHAPE}: {}", refusal.sentence))
}

/// A body within its limits.
fn checked(body: &RepositoryMetadata) -> Result<RepositoryMetadata, Refusal> {
    let list = |path: &str, list: Option<Vec<String>>| list.map(|list| words(path, list)).transpose();
    let checked = || {
        Ok(RepositoryMetadata {
            description: body.description.as_deref().map(description).transpose()?.flatten(),
            aliases: list("aliases", body.aliases.clone())?,
            channel_associations: list("channelAssociations", body.channel_associations.clone())?,
            keywords: list("keywords", body.keywords.clone())?,
            default_environment_id: body.default_environment_id.clone(),
            version: body.version,
        })
    };
    checked().map_err(|refusal| wrong(&refusal))
}

/// Names of the fields that are there.
fn fields(metadata: &RepositoryMetadata) -> Vec<&'static str> {
    let all = [
        ("description", metadata.description.is_some()),
        ("aliases", metadata.aliases.is_some()),
        ("channelAssociations", metadata.channel_associations.is_some()),
        ("keywords", metadata.keywords.is_some()),
        ("defaultEnvironmentId", metadata.default_environment_id.is_some()),
    ];
    all.into_iter().filter_map(|(name, is_set)| is_set.then_some(name)).collect()
}

pub(super) async fn get(cx: &Cx<'_>) -> Result<Response, Failure> {
    let name = named(cx)?;
    let metadata = repo_metadata::get(&cx.db()?, &name).await?;
    reply::json(200, &RepositoryMetadataAnswer { repo: name.as_path(), metadata })
}

pub(super) async fn put(cx: &Cx<'_>) -> Result<Response, Failure> {
    let name = named(cx)?;
    let wanted = checked(&request_body::parse(&cx.body, SHAPE)?)?;
    let entry = cx.audit("repository_metadata.set", "repository_metadata", &name.as_path());
    let entry = entry.detail(&json!({"fields": fields(&wanted)}));
    let db = cx.db()?;
    for _ in 0..ATTEMPTS {
        if let Some(id) = &wanted.default_environment_id {
            let environment = environments::get(&db, id).await?;
            let is_member = environment.is_some_and(|environment| {
                environment.repositories.iter().any(|r| r.repo_owner == name.owner() && r.repo_name == name.name())
            });
            if !is_member {
                let sentence =
                    format!("{SHAPE}: defaultEnvironmentId: no environment of this id has {}", name.as_path());
                return Err(Refusal::invalid_body(sentence).into());
            }
        }
        let current = repo_metadata::get(&db, &name).await?.and_then(|metadata| metadata.version).unwrap_or(0);
        if wanted.version.is_some_and(|version| version != current) {
            break;
        }
        if repo_metadata::put(&db, &name, &wanted, current, &random::hex::<16>(), clock::now(), &entry).await? {
            Line::info("control-plane", "repository.metadata_set").trace(cx.trace).with("repo", name.as_path()).write();
            let metadata = RepositoryMetadata { version: Some(current + 1), ..wanted };
            return reply::json(200, &json!({"status": "updated", "repo": name.as_path(), "metadata": metadata}));
        }
    }
    Err(Refusal::conflict("The repository's metadata were changed meanwhile. Reload them and try again").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &serde_json::Value) -> Result<RepositoryMetadata, Refusal> {
        checked(&request_body::parse(body.to_string().as_bytes(), SHAPE)?)
    }

    #[test]
    fn a_body_is_taken_within_its_limits_and_more_is_left_out() {
        let body = json!({"description": " It greets. ", "aliases": ["a", "a"], "keywords": [], "unknown": 1});
        let expected = RepositoryMetadata {
            description: Some("It greets.".to_owned()),
            aliases: Some(vec!["a".to_owned()]),
            keywords: Some(vec![]),
            ..RepositoryMetadata::default()
        };
        assert_eq!(read(&body), Ok(expected));
        for bad in [
            json!({"description": 1}),
            json!({"aliases": "a"}),
            json!({"aliases": [1]}),
            json!({"aliases": [" "]}),
            json!({"keywords": ["x".repeat(65)]}),
            json!({"channelAssociations": null}),
            json!({"defaultEnvironmentId": "prod"}),
            json!({"description": "x".repeat(2_001)}),
            json!({"version": "1"}),
        ] {
            let refusal = read(&bad).expect_err("does not fit");
            assert!(refusal.status == 400 && refusal.sentence.starts_with(SHAPE), "{bad}: {refusal}");
        }
    }
}
