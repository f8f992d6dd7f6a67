//! Which skills a session gets: those that are enabled and assigned to where it works, narrowed by a person's choice. It
//! is pinned with the session, and known by a hash.

use oi_protocol::UnixMillis;
use oi_worker_kit::{Failure, Refusal, mac};
use serde::{Deserialize, Serialize};

use crate::store::skills::{self as store, Applicable};
use crate::store::{Database, Statement};

/// Version of these rules.
pub const RESOLVER_VERSION: i64 = 1;
/// Bytes of all skills of a session.
const MANIFEST_MAX: i64 = 5 * 1024 * 1024;

/// `skillSelection`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Selection {
    /// All that apply.
    #[default]
    All,
    /// None.
    None,
    /// Those of a profile that apply.
    Profile { profile_id: String },
}

/// Where a session works.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Target {
    /// `owner/name` in lower case.
    pub repositories: Vec<String>,
    /// Its environment.
    pub environment: Option<String>,
}

/// Why a skill applies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// `global`, `repository` or `environment`
    #[serde(rename = "type")]
    pub kind: String,
    /// The assignment.
    pub id: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub repo_owner: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub repo_name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub environment_id: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub environment_name: String,
}

/// A skill that a session gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Chosen {
    pub skill_id: String,
    pub revision_id: String,
    pub name: String,
    pub description: String,
    pub revision_number: i64,
    pub revision_sha256: String,
    pub total_bytes: i64,
    pub assignment_sources: Vec<Source>,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    pub selection: Selection,
    pub profile_name: Option<String>,
    pub skills: Vec<Chosen>,
    pub total_bytes: i64,
    /// Skills of the profile that do not apply.
    pub ignored: Vec<String>,
    pub sha256: String,
}

fn source(row: &Applicable) -> Source {
    let (owner, name) = row.target.split_once('/').unwrap_or_default();
    let repository = row.scope_type == "repository";
    Source {
        kind: row.scope_type.clone(),
        id: row.assignment_id.clone(),
        repo_owner: if repository { owner.to_owned() } else { String::new() },
        repo_name: if repository { name.to_owned() } else { String::new() },
        environment_id: if row.scope_type == "environment" { row.target.clone() } else { String::new() },
        environment_name: String::new(),
    }
}

fn put(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend(text.as_bytes());
}

fn count(bytes: &mut Vec<u8>, count: usize) {
    bytes.extend(u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
}

/// What a manifest is known by.
fn manifest_hash(selection: &Selection, profile_name: &str, skills: &[Chosen]) -> String {
    let mut bytes = b"OPEN_INSPECT_SKILL_MANIFEST_V1\0".to_vec();
    bytes.extend((RESOLVER_VERSION as u32).to_be_bytes());
    match selection {
        Selection::All => bytes.push(0),
        Selection::None => bytes.push(1),
        Selection::Profile { profile_id } => {
            bytes.push(2);
            put(&mut bytes, profile_id);
            put(&mut bytes, profile_name);
        }
    }
    count(&mut bytes, skills.len());
    for skill in skills {
        for text in [&skill.skill_id, &skill.revision_id, &skill.name] {
            put(&mut bytes, text);
        }
        bytes.extend(hex::decode(&skill.revision_sha256).unwrap_or_default());
        count(&mut bytes, skill.assignment_sources.len());
        for source in &skill.assignment_sources {
            for text in [
                &source.kind,
                &source.id,
                &source.repo_owner,
                &source.repo_name,
                &source.environment_id,
                &source.environment_name,
            ] {
                put(&mut bytes, text);
            }
        }
    }
    mac::sha256_hex(&bytes)
}

/// The hash of a session that has none.
pub fn empty_hash() -> String {
    manifest_hash(&Selection::None, "", &[])
}

fn together(rows: Vec<Applicable>) -> Vec<Chosen> {
    let mut all: Vec<Chosen> = Vec::new();
    for row in rows {
        let found = source(&row);
        if let Some(chosen) = all.iter_mut().find(|chosen| chosen.skill_id == row.skill_id) {
            chosen.assignment_sources.push(found);
            continue;
        }
        all.push(Chosen {
            skill_id: row.skill_id,
            revision_id: row.revision_id,
            name: row.name,
            description: row.description,
            revision_number: row.revision_number,
            revision_sha256: row.revision_sha256,
            total_bytes: row.total_bytes,
            assignment_sources: vec![found],
        });
    }
    for chosen in &mut all {
        chosen.assignment_sources.sort();
    }
    all.sort_by(|one, other| (&one.name, &one.skill_id).cmp(&(&other.name, &other.skill_id)));
    all
}

/// What a session gets there. `user` is whose profile may be named.
pub async fn resolve(
    db: &impl Database,
    target: &Target,
    selection: Selection,
    user: Option<&str>,
) -> Result<Resolved, Failure> {
    let mut profile_name = None;
    let mut ignored = Vec::new();
    let skills = match &selection {
        Selection::None => Vec::new(),
        Selection::All => together(store::applicable(db, target).await?),
        Selection::Profile { profile_id } => {
            let user = user.ok_or_else(|| Refusal::forbidden("Canonical user required"))?;
            let profile = store::profile(db, profile_id, user).await?;
            let profile = profile.ok_or_else(|| Refusal::not_found("Skill profile not found"))?;
            let wanted = store::profile_items(db, &profile.id).await?;
            let mut skills = together(store::applicable(db, target).await?);
            ignored.extend(wanted.iter().filter(|id| !skills.iter().any(|skill| skill.skill_id == **id)).cloned());
            skills.retain(|skill| wanted.contains(&skill.skill_id));
            profile_name = Some(profile.name);
            skills
        }
    };
    let total_bytes: i64 = skills.iter().map(|skill| skill.total_bytes).sum();
    if total_bytes > MANIFEST_MAX {
        return Err(Refusal::invalid_body("The skills of a session must be 5 MiB or smaller together").into());
    }
    let sha256 = manifest_hash(&selection, profile_name.as_deref().unwrap_or_default(), &skills);
    Ok(Resolved { selection, profile_name, skills, total_bytes, ignored, sha256 })
}

/// Goes into the batch that lists the session.
pub fn pin(session: &oi_protocol::SessionId, resolved: &Resolved, now: UnixMillis) -> Vec<Statement> {
    store::pin(session, resolved, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_known_by_its_selection_its_skills_and_why_they_apply() {
        let source = |kind: &str, id: &str, owner: &str, name: &str| Source {
            kind: kind.to_owned(),
            id: id.to_owned(),
            repo_owner: owner.to_owned(),
            repo_name: name.to_owned(),
            environment_id: String::new(),
            environment_name: String::new(),
        };
        let mut skill = Chosen {
            skill_id: "skill_1".to_owned(),
            revision_id: "skillrev_1".to_owned(),
            name: "one".to_owned(),
            description: "d".to_owned(),
            revision_number: 3,
            revision_sha256: "ab".repeat(32),
            total_bytes: 9,
            assignment_sources: vec![
                source("global", "skillassign_2", "", ""),
                source("repository", "skillassign_1", "acme", "app"),
            ],
        };
        let profile = Selection::Profile { profile_id: "skillprof_1".to_owned() };
        let hash = manifest_hash(&profile, "Mine", std::slice::from_ref(&skill));
        // Computed with Python's hashlib over the layout of the specification.
        assert_eq!(hash, "dd8472bc50166c1d4291238157d904b63bb31bbe275bd691fbccb746164b7125");
        skill.assignment_sources.pop();
        assert_ne!(manifest_hash(&profile, "Mine", &[skill]), hash);
        assert_ne!(empty_hash(), manifest_hash(&Selection::All, "", &[]));
    }
}
