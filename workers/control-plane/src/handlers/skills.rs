//! Managed skills: the catalogue, people's choices of it, and what sessions have.

use oi_protocol::UnixMillis;
use oi_protocol::settings::{Skill, SkillAssignment, SkillContent, SkillFile, SkillProfile};
use oi_worker_kit::failure::while_doing;
use oi_worker_kit::{Failure, Refusal, clock, random, reply, request_body};
use serde::Deserialize;
use serde_json::{Value, json};
use worker::Response;

use super::provider_tokens::sandbox_session;
use super::sandbox_broker::listed_session;
use super::settings_request::{canonical_user, stale, write};
use crate::request::Cx;
use crate::skills::resolve::{self, RESOLVER_VERSION, Selection, Target};
use crate::skills::{self as rules, Rendered};
use crate::source_control::RepositoryName;
use crate::store::skills::{self as store, Edit, NewRevision, Row};
use crate::store::{Database, DbError};

const DEFAULT_LIMIT: i64 = 25;
const MAX_LIMIT: i64 = 100;
/// Skills of one page for a sandbox.
const SANDBOX_LIMIT: i64 = 200;
/// Repositories that a preview may name.
const REPOSITORIES_MAX: usize = 10;

fn not_found() -> Refusal {
    Refusal::not_found("Skill not found")
}

fn content(row: &Row, files: Vec<store::FileRow>) -> SkillContent {
    let files = files.into_iter().filter(|file| file.path != "SKILL.md").map(|file| SkillFile {
        path: file.path,
        content: file.content,
        executable: file.executable != 0,
    });
    SkillContent {
        description: row.description.clone(),
        body: row.body.clone(),
        license: row.license.clone(),
        compatibility: row.compatibility.clone(),
        metadata: serde_json::from_str(&row.metadata_json).unwrap_or_default(),
        files: files.collect(),
    }
}

fn shown(row: Row, assignments: Vec<SkillAssignment>, content: Option<SkillContent>) -> Skill {
    Skill {
        id: row.id,
        name: row.name,
        enabled: row.enabled != 0,
        version: row.version,
        revision_id: row.revision_id,
        revision_number: row.revision_number,
        revision_sha256: row.revision_sha256,
        description: row.description,
        total_bytes: row.total_bytes,
        assignments,
        content,
        created_by: row.created_by,
        updated_by: row.updated_by,
        created_at: UnixMillis(row.created_at),
        updated_at: UnixMillis(row.updated_at),
    }
}

async fn named(cx: &Cx<'_>) -> Result<Row, Failure> {
    let id = cx.parameters.first().map(String::as_str).unwrap_or_default();
    Ok(store::get(&cx.db()?, id).await?.ok_or_else(not_found)?)
}

async fn answer(cx: &Cx<'_>, status: u16, id: &str) -> Result<Response, Failure> {
    let db = cx.db()?;
    let row = store::get(&db, id).await?.ok_or_else(not_found)?;
    let files = store::files(&db, &row.revision_id).await?;
    let places = store::assignments(&db, &[&row.id]).await?.into_iter().map(|(_, place)| place).collect();
    let content = content(&row, files);
    reply::json(status, &json!({"skill": shown(row, places, Some(content))}))
}

/// A number of the query within its bounds.
fn limit(cx: &Cx<'_>, most: i64) -> Result<Option<i64>, Refusal> {
    let Some(text) = cx.head.query_value("limit") else { return Ok(None) };
    let number = text.parse().ok().filter(|number| (1..=most).contains(number));
    number.map(Some).ok_or_else(|| Refusal::invalid_parameter(format!("limit must be an integer between 1 and {most}")))
}

pub(super) async fn list(cx: &Cx<'_>) -> Result<Response, Failure> {
    let limit = limit(cx, MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT);
    let after = cx.head.query_value("cursor").unwrap_or_default();
    if after.len() > 64 {
        return Err(Refusal::invalid_parameter("cursor must be the last name of a page").into());
    }
    let db = cx.db()?;
    let (rows, more) = store::list(&db, &after, limit).await?;
    let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    let places = store::assignments(&db, &ids).await?;
    let next = rows.last().filter(|_| more).map(|row| row.name.clone());
    let skills: Vec<Skill> = rows
        .into_iter()
        .map(|row| {
            let of_it = places.iter().filter(|(id, _)| *id == row.id).map(|(_, place)| place.clone()).collect();
            shown(row, of_it, None)
        })
        .collect();
    reply::json(200, &json!({"skills": skills, "hasMore": more, "nextCursor": next}))
}

pub(super) async fn get(cx: &Cx<'_>) -> Result<Response, Failure> {
    let row = named(cx).await?;
    answer(cx, 200, &row.id).await
}

/// Places with ids for their rows.
fn with_ids(assignments: Vec<SkillAssignment>) -> Vec<(String, SkillAssignment)> {
    assignments.into_iter().map(|place| (format!("skillassign_{}", random::hex::<16>()), place)).collect()
}

fn new_revision<'a>(
    id: &'a str,
    content: &'a SkillContent,
    metadata_json: &'a str,
    rendered: &'a Rendered,
) -> NewRevision<'a> {
    NewRevision {
        id,
        description: &content.description,
        body: &content.body,
        license: content.license.as_deref(),
        compatibility: content.compatibility.as_deref(),
        metadata_json,
        rendered,
    }
}

fn taken(error: DbError) -> Failure {
    if store::is_name_constraint(&error) {
        Refusal::conflict("A skill of this name exists").into()
    } else {
        error.into()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    name: String,
    content: SkillContent,
    #[serde(default)]
    assignments: Vec<SkillAssignment>,
}

const SHAPE: &str = "Invalid skill body";

pub(super) async fn create(cx: &Cx<'_>) -> Result<Response, Failure> {
    let body: Create = request_body::parse(&cx.body, SHAPE)?;
    let name = rules::checked_name(&body.name)?;
    let content = rules::checked(body.content)?;
    let rendered = rules::render(name, &content)?;
    let places = with_ids(rules::checked_assignments(body.assignments)?);
    let by = canonical_user(cx).await?;
    let (id, edit_id) = (format!("skill_{}", random::hex::<16>()), random::hex::<16>());
    let (revision_id, metadata) = (format!("skillrev_{}", random::hex::<16>()), write(&content.metadata)?);
    let edit = Edit { skill: &id, id: &edit_id, by: &by, now: clock::now() };
    let new = new_revision(&revision_id, &content, &metadata, &rendered);
    let entry = cx.audit("skill.create", "skill", &id).detail(&json!({"name": name}));
    let change = entry.behind_the_first(store::create(&edit, name, &new, &places));
    let changed = cx.db()?.batch(change).await.map_err(taken)?;
    if changed.first() == Some(&0) {
        return Err(Refusal::conflict("A deployment has 500 skills at most").into());
    }
    answer(cx, 201, &id).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Preview {
    name: String,
    content: SkillContent,
}

pub(super) fn preview(cx: &Cx<'_>) -> Result<Response, Failure> {
    let body: Preview = request_body::parse(&cx.body, SHAPE)?;
    let rendered = rules::render(rules::checked_name(&body.name)?, &rules::checked(body.content)?)?;
    reply::json(
        200,
        &json!({"skillMarkdown": rendered.skill_markdown, "revisionSha256": rendered.sha256,
            "totalBytes": rendered.total_bytes}),
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Enabled {
    enabled: bool,
    #[serde(default)]
    version: Option<u32>,
}

pub(super) async fn set_enabled(cx: &Cx<'_>) -> Result<Response, Failure> {
    let body: Enabled = request_body::parse(&cx.body, SHAPE)?;
    let row = named(cx).await?;
    let seen = body.version.map_or(row.version, i64::from);
    let (by, edit_id) = (canonical_user(cx).await?, random::hex::<16>());
    let edit = Edit { skill: &row.id, id: &edit_id, by: &by, now: clock::now() };
    let action = if body.enabled { "skill.enable" } else { "skill.disable" };
    let entry = cx.audit(action, "skill", &row.id).detail(&json!({"name": row.name}));
    let change = store::set_enabled(&edit, body.enabled, seen);
    let changed = cx.db()?.batch(entry.behind_the_first(vec![change])).await?;
    if changed.first() == Some(&0) {
        return Err(stale("Skill").into());
    }
    answer(cx, 200, &row.id).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Update {
    content: SkillContent,
    assignments: Vec<SkillAssignment>,
    /// Covers the places too, which the revision does not.
    #[serde(default)]
    version: Option<u32>,
}

pub(super) async fn update(cx: &Cx<'_>) -> Result<Response, Failure> {
    let seen = cx.head.header("If-Match").ok_or_else(|| {
        Refusal::new(
            428,
            oi_protocol::ErrorCode::InvalidParameter,
            "If-Match with the revision that was seen is required",
        )
    })?;
    let body: Update = request_body::parse(&cx.body, SHAPE)?;
    let row = named(cx).await?;
    if seen.trim_matches('"') != row.revision_id
        || body.version.is_some_and(|version| i64::from(version) != row.version)
    {
        return Err(stale("Skill").into());
    }
    let content = rules::checked(body.content)?;
    let rendered = rules::render(&row.name, &content)?;
    let places = with_ids(rules::checked_assignments(body.assignments)?);
    let (by, edit_id) = (canonical_user(cx).await?, random::hex::<16>());
    let (revision_id, metadata) = (format!("skillrev_{}", random::hex::<16>()), write(&content.metadata)?);
    let new = new_revision(&revision_id, &content, &metadata, &rendered);
    // What says the same as before is the same revision.
    let new = (rendered.sha256 != row.revision_sha256).then_some(&new);
    let edit = Edit { skill: &row.id, id: &edit_id, by: &by, now: clock::now() };
    let detail = json!({"name": row.name, "revisionId": new.map(|new| new.id)});
    let entry = cx.audit("skill.update", "skill", &row.id).detail(&detail);
    let changed = cx.db()?.batch(entry.behind_the_first(store::update(&edit, &row, new, &places))).await?;
    if changed.first() == Some(&0) {
        return Err(stale("Skill").into());
    }
    answer(cx, 200, &row.id).await
}

pub(super) async fn delete(cx: &Cx<'_>) -> Result<Response, Failure> {
    let row = named(cx).await?;
    let (by, edit_id) = (canonical_user(cx).await?, random::hex::<16>());
    let edit = Edit { skill: &row.id, id: &edit_id, by: &by, now: clock::now() };
    let entry = cx.audit("skill.delete", "skill", &row.id).detail(&json!({"name": row.name}));
    cx.db()?.batch(entry.behind_the_first(vec![store::delete(&edit)])).await?;
    reply::json(200, &json!({"ok": true}))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NamedRepository {
    repo_owner: String,
    repo_name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ResolvePreview {
    #[serde(default)]
    repo_owner: Option<String>,
    #[serde(default)]
    repo_name: Option<String>,
    #[serde(default)]
    repositories: Option<Vec<NamedRepository>>,
    #[serde(default)]
    environment_id: Option<String>,
    #[serde(default)]
    selection: Selection,
}

fn target(body: &ResolvePreview) -> Result<Target, Refusal> {
    let one = "Give one of repoOwner and repoName, repositories, or environmentId";
    let name = |owner: &str, name: &str| {
        let parsed = RepositoryName::parse(owner, name);
        parsed
            .map(|name| name.as_path())
            .ok_or_else(|| Refusal::invalid_body("repoOwner and repoName must name a repository"))
    };
    let mut target = Target::default();
    match (&body.repo_owner, &body.repo_name, &body.repositories, &body.environment_id) {
        (None, None, None, None) => {}
        (Some(owner), Some(repo), None, None) => target.repositories.push(name(owner, repo)?),
        (None, None, Some(listed), None) if (1..=REPOSITORIES_MAX).contains(&listed.len()) => {
            for one in listed {
                target.repositories.push(name(&one.repo_owner, &one.repo_name)?);
            }
        }
        (None, None, None, Some(id)) if (1..=100).contains(&id.len()) => target.environment = Some(id.clone()),
        _ => return Err(Refusal::invalid_body(one)),
    }
    Ok(target)
}

pub(super) async fn resolve_preview(cx: &Cx<'_>) -> Result<Response, Failure> {
    let body: ResolvePreview = request_body::parse(&cx.body, "Invalid preview body")?;
    let target = target(&body)?;
    let user = match body.selection {
        Selection::Profile { .. } => Some(canonical_user(cx).await?),
        _ => None,
    };
    let resolved = resolve::resolve(&cx.db()?, &target, body.selection, user.as_deref()).await?;
    reply::json(
        200,
        &json!({"skills": resolved.skills, "totalBytes": resolved.total_bytes,
            "ignoredProfileSkillIds": resolved.ignored}),
    )
}

async fn shown_profile(db: &impl Database, row: store::ProfileRow) -> Result<SkillProfile, Failure> {
    Ok(SkillProfile {
        skill_ids: store::profile_items(db, &row.id).await?,
        id: row.id,
        name: row.name,
        version: row.version,
        created_at: UnixMillis(row.created_at),
        updated_at: UnixMillis(row.updated_at),
    })
}

pub(super) async fn list_profiles(cx: &Cx<'_>) -> Result<Response, Failure> {
    let (db, user) = (cx.db()?, canonical_user(cx).await?);
    let mut profiles = Vec::new();
    for row in store::profiles(&db, &user).await? {
        profiles.push(shown_profile(&db, row).await?);
    }
    reply::json(200, &json!({"profiles": profiles}))
}

fn profile_name(name: &str) -> Result<&str, Refusal> {
    let name = name.trim();
    let fits = (1..=200).contains(&oi_protocol::text::utf16_len(name)) && !name.contains(char::is_control);
    if fits { Ok(name) } else { Err(Refusal::invalid_body("name must have 1 to 200 characters")) }
}

fn checked_ids(ids: &[String]) -> Result<(), Refusal> {
    let fits = ids.len() <= 500 && ids.iter().all(|id| id.starts_with("skill_") && id.len() == 38);
    if fits { Ok(()) } else { Err(Refusal::invalid_body("skillIds must be ids of skills, 500 at most")) }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateProfile {
    name: String,
    #[serde(default)]
    skill_ids: Vec<String>,
}

fn profile_taken(error: DbError) -> Failure {
    if store::is_name_constraint(&error) {
        Refusal::conflict("You have a skill profile of this name").into()
    } else {
        error.into()
    }
}

pub(super) async fn create_profile(cx: &Cx<'_>) -> Result<Response, Failure> {
    let body: CreateProfile = request_body::parse(&cx.body, "Invalid skill profile body")?;
    let name = profile_name(&body.name)?;
    checked_ids(&body.skill_ids)?;
    let (db, user) = (cx.db()?, canonical_user(cx).await?);
    let id = format!("skillprof_{}", random::hex::<16>());
    let changed = db.batch(store::create_profile(&id, &user, name, &body.skill_ids, clock::now())).await;
    if changed.map_err(profile_taken)?.first() == Some(&0) {
        return Err(Refusal::conflict("A person has 50 skill profiles at most").into());
    }
    let row = store::profile(&db, &id, &user).await?.ok_or_else(no_profile)?;
    reply::json(201, &json!({"profile": shown_profile(&db, row).await?}))
}

fn no_profile() -> Refusal {
    Refusal::not_found("Skill profile not found")
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UpdateProfile {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    skill_ids: Option<Vec<String>>,
    #[serde(default)]
    version: Option<u32>,
}

async fn own_profile(cx: &Cx<'_>, user: &str) -> Result<store::ProfileRow, Failure> {
    let id = cx.parameters.first().map(String::as_str).unwrap_or_default();
    Ok(store::profile(&cx.db()?, id, user).await?.ok_or_else(no_profile)?)
}

pub(super) async fn update_profile(cx: &Cx<'_>) -> Result<Response, Failure> {
    let body: UpdateProfile = request_body::parse(&cx.body, "Invalid skill profile body")?;
    if let Some(ids) = &body.skill_ids {
        checked_ids(ids)?;
    }
    let (db, user) = (cx.db()?, canonical_user(cx).await?);
    let seen = own_profile(cx, &user).await?;
    if body.version.is_some_and(|version| i64::from(version) != seen.version) {
        return Err(stale("Skill profile").into());
    }
    let name = profile_name(body.name.as_deref().unwrap_or(&seen.name))?.to_owned();
    let changed = db.batch(store::update_profile(&seen, &user, &name, body.skill_ids.as_deref(), clock::now())).await;
    if changed.map_err(profile_taken)?.first() == Some(&0) {
        return Err(stale("Skill profile").into());
    }
    let row = own_profile(cx, &user).await?;
    reply::json(200, &json!({"profile": shown_profile(&db, row).await?}))
}

pub(super) async fn delete_profile(cx: &Cx<'_>) -> Result<Response, Failure> {
    let user = canonical_user(cx).await?;
    let row = own_profile(cx, &user).await?;
    cx.db()?.batch(vec![store::delete_profile(&row.id, &user)]).await?;
    reply::json(200, &json!({"ok": true}))
}

/// The skills of a session, for its sandbox: with files, by pages when it asks for them.
pub(super) async fn for_sandbox(cx: &Cx<'_>) -> Result<Response, Failure> {
    let limit = limit(cx, SANDBOX_LIMIT)?;
    let from = match cx.head.query_value("cursor") {
        None => 0,
        Some(text) => text
            .parse()
            .ok()
            .filter(|position| (0..=1_000_000).contains(position))
            .ok_or_else(|| Refusal::invalid_parameter("cursor is not a valid position"))?,
    };
    let id = sandbox_session(cx).await?;
    let db = cx.db()?;
    let hash = store::manifest(&db, &id).await?.map_or_else(resolve::empty_hash, |manifest| manifest.manifest_sha256);
    let most = limit.unwrap_or(store::SKILLS_MAX);
    let mut pinned = store::pinned(&db, &id, from, most + 1).await?;
    let next = pinned.get(most as usize).map(|skill| skill.position.to_string());
    pinned.truncate(most as usize);
    let mut skills: Vec<Value> = Vec::new();
    for skill in pinned {
        let files = store::files(&db, &skill.revision_id).await?;
        let files: Vec<Value> = files
            .into_iter()
            .map(|file| {
                json!({"path": file.path, "content": file.content, "sha256": file.content_sha256,
                    "sizeBytes": file.size_bytes, "executable": file.executable != 0})
            })
            .collect();
        skills.push(json!({"name": skill.skill_name, "files": files}));
    }
    let body = json!({"schemaVersion": 1, "manifestSha256": hash, "skills": skills, "nextCursor": next});
    let mut response = reply::json(200, &body)?;
    if limit.is_none() {
        let set = response.headers_mut().set("ETag", &format!("\"{hash}\""));
        set.map_err(while_doing("writing an answer"))?;
    }
    Ok(response)
}

/// The skills of a session, for people.
pub(super) async fn of_session(cx: &Cx<'_>) -> Result<Response, Failure> {
    let id = listed_session(cx).await?;
    let db = cx.db()?;
    let manifest = store::manifest(&db, &id).await?;
    let manifest = manifest.ok_or_else(|| Refusal::not_found("The session has no skills manifest"))?;
    let skills: Vec<Value> = store::pinned(&db, &id, 0, store::SKILLS_MAX)
        .await?
        .into_iter()
        .map(|skill| {
            let sources: Value = serde_json::from_str(&skill.assignment_sources).unwrap_or_else(|_| json!([]));
            json!({"skillId": skill.skill_id, "revisionId": skill.revision_id, "name": skill.skill_name,
                "description": skill.description, "revisionNumber": skill.revision_number,
                "revisionSha256": skill.revision_sha256, "totalBytes": skill.total_bytes,
                "assignmentSources": sources})
        })
        .collect();
    let selection = match manifest.profile_id {
        Some(id) => json!({"mode": "profile", "profileId": id, "profileName": manifest.profile_name}),
        None => json!({"mode": manifest.selection_mode}),
    };
    reply::json(
        200,
        &json!({"manifestSha256": manifest.manifest_sha256, "resolverVersion": RESOLVER_VERSION,
            "selection": selection, "resolvedAt": manifest.resolved_at, "skills": skills}),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preview_names_one_place_at_most() {
        let read = |body: Value| {
            let body: ResolvePreview = serde_json::from_value(body).expect("the shape");
            target(&body).map_err(|refusal| refusal.status)
        };
        let of = |repositories: &[&str]| Target {
            repositories: repositories.iter().map(|name| (*name).to_owned()).collect(),
            environment: None,
        };
        assert_eq!(read(json!({})), Ok(Target::default()));
        assert_eq!(read(json!({"repoOwner": "Acme", "repoName": "App"})), Ok(of(&["acme/app"])));
        let two = json!({"repositories": [{"repoOwner": "a", "repoName": "b"}, {"repoOwner": "a", "repoName": "c"}]});
        assert_eq!(read(two), Ok(of(&["a/b", "a/c"])));
        for bad in [
            json!({"repoOwner": "a"}),
            json!({"repositories": []}),
            json!({"repoOwner": "a", "repoName": "b", "environmentId": "e"}),
            json!({"repoOwner": "..", "repoName": "b"}),
        ] {
            assert_eq!(read(bad.clone()), Err(400), "{bad}");
        }
    }
}
