//! `skills` with their revisions, assignments and profiles, and what sessions are pinned to.

use oi_protocol::settings::SkillAssignment;
use oi_protocol::{SessionId, UnixMillis};
use serde::Deserialize;
use serde_json::json;

use super::{Database, DbError, Param, Statement, params};
use crate::skills::Rendered;
use crate::skills::resolve::{RESOLVER_VERSION, Resolved, Selection, Target};

/// Skills that a deployment may have.
pub const SKILLS_MAX: i64 = 500;
/// Profiles that a person may have.
pub const PROFILES_MAX: i64 = 50;
/// Bytes of files that one statement brings.
const CHUNK_BYTES: usize = 700_000;

/// A skill with its current revision, with the columns' names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Row {
    pub id: String,
    pub name: String,
    pub enabled: i64,
    pub version: i64,
    pub revision_id: String,
    pub revision_number: i64,
    pub revision_sha256: String,
    pub description: String,
    pub body: String,
    pub license: Option<String>,
    pub compatibility: Option<String>,
    pub metadata_json: String,
    pub total_bytes: i64,
    pub created_by: String,
    pub updated_by: String,
    pub created_at: i64,
    pub updated_at: i64,
}

const COLUMNS: &str = "skill.id, skill.name, skill.enabled, skill.version, revision.id AS revision_id,
    revision.revision_number, revision.revision_sha256, revision.description, revision.body, revision.license,
    revision.compatibility, revision.metadata_json, revision.total_bytes, skill.created_by, skill.updated_by,
    skill.created_at, skill.updated_at";
const LIVE: &str = "FROM skills skill JOIN skill_revisions revision ON revision.id = skill.current_revision_id
    WHERE skill.deleted_at IS NULL";

/// A page by name, after one; and whether more follow.
pub async fn list(db: &impl Database, after: &str, limit: i64) -> Result<(Vec<Row>, bool), DbError> {
    let sql = format!("SELECT {COLUMNS} {LIVE} AND skill.name > ? ORDER BY skill.name LIMIT ?");
    let mut rows: Vec<Row> = db.rows(&sql, params![after, limit + 1]).await?;
    let more = rows.len() as i64 > limit;
    rows.truncate(limit as usize);
    Ok((rows, more))
}

/// One that is not deleted.
pub async fn get(db: &impl Database, id: &str) -> Result<Option<Row>, DbError> {
    db.row(&format!("SELECT {COLUMNS} {LIVE} AND skill.id = ?"), params![id]).await
}

/// A file of a revision.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FileRow {
    pub path: String,
    pub content: String,
    pub content_sha256: String,
    pub size_bytes: i64,
    pub executable: i64,
}

/// The files of a revision, by path.
pub async fn files(db: &impl Database, revision: &str) -> Result<Vec<FileRow>, DbError> {
    db.rows(
        "SELECT path, content, content_sha256, size_bytes, executable FROM skill_revision_files
            WHERE revision_id = ? ORDER BY path",
        params![revision],
    )
    .await
}

/// Where skills apply: pairs of skill and place.
pub async fn assignments(db: &impl Database, skills: &[&str]) -> Result<Vec<(String, SkillAssignment)>, DbError> {
    #[derive(Deserialize)]
    struct Found {
        skill_id: String,
        scope_type: String,
        target: String,
    }
    let rows: Vec<Found> = db
        .rows(
            "SELECT skill_id, scope_type, target FROM skill_assignments
                WHERE skill_id IN (SELECT value FROM json_each(?)) ORDER BY skill_id, scope_type, target",
            params![json!(skills).to_string()],
        )
        .await?;
    let place = |row: &Found| match row.scope_type.as_str() {
        "repository" => {
            let (owner, name) = row.target.split_once('/')?;
            Some(SkillAssignment::Repository { repo_owner: owner.to_owned(), repo_name: name.to_owned() })
        }
        "environment" => Some(SkillAssignment::Environment { environment_id: row.target.clone() }),
        _ => Some(SkillAssignment::Global {}),
    };
    Ok(rows.iter().filter_map(|row| Some((row.skill_id.clone(), place(row)?))).collect())
}

fn scope(assignment: &SkillAssignment) -> (&'static str, String) {
    match assignment {
        SkillAssignment::Global {} => ("global", String::new()),
        SkillAssignment::Repository { repo_owner, repo_name } => ("repository", format!("{repo_owner}/{repo_name}")),
        SkillAssignment::Environment { environment_id } => ("environment", environment_id.clone()),
    }
}

/// A change of a skill. Its further statements look for its id, so that what was not made has no effects.
pub struct Edit<'a> {
    pub skill: &'a str,
    /// Names this change.
    pub id: &'a str,
    pub by: &'a str,
    pub now: UnixMillis,
}

/// A revision that a change brings.
pub struct NewRevision<'a> {
    pub id: &'a str,
    pub description: &'a str,
    pub body: &'a str,
    pub license: Option<&'a str>,
    pub compatibility: Option<&'a str>,
    pub metadata_json: &'a str,
    pub rendered: &'a Rendered,
}

fn revision(edit: &Edit<'_>, new: &NewRevision<'_>) -> Vec<Statement> {
    let mut statements = vec![(
        "INSERT INTO skill_revisions (id, skill_id, revision_number, revision_sha256, description, body, license,
            compatibility, metadata_json, total_bytes, created_by, created_at)
         SELECT ?1, id, COALESCE((SELECT MAX(revision_number) FROM skill_revisions WHERE skill_id = ?2), 0) + 1, ?3, ?4,
            ?5, ?6, ?7, ?8, ?9, ?10, ?11 FROM skills WHERE id = ?2 AND edit_id = ?12",
        params![
            new.id,
            edit.skill,
            new.rendered.sha256.as_str(),
            new.description,
            new.body,
            new.license,
            new.compatibility,
            new.metadata_json,
            new.rendered.total_bytes as i64,
            edit.by,
            edit.now.0,
            edit.id,
        ],
    )];
    let mut some: Vec<serde_json::Value> = Vec::new();
    let mut bytes = 0;
    let mut bring = |some: &mut Vec<serde_json::Value>| {
        statements.push((
            "INSERT INTO skill_revision_files (revision_id, path, content, content_sha256, size_bytes, executable)
             SELECT revision.id, json_extract(file.value, '$.path'), json_extract(file.value, '$.content'),
                json_extract(file.value, '$.sha256'), json_extract(file.value, '$.size'),
                json_extract(file.value, '$.executable')
             FROM json_each(?2) file, skill_revisions revision WHERE revision.id = ?1",
            params![new.id, serde_json::Value::from(std::mem::take(some)).to_string()],
        ));
    };
    for file in &new.rendered.files {
        // As JSON a byte may take six.
        let size = json!(file.content).to_string().len();
        if bytes + size > CHUNK_BYTES && !some.is_empty() {
            bring(&mut some);
            bytes = 0;
        }
        bytes += size;
        some.push(json!({"path": file.path, "content": file.content, "size": file.content.len(),
            "sha256": oi_worker_kit::mac::sha256_hex(file.content.as_bytes()),
            "executable": i64::from(file.executable)}));
    }
    bring(&mut some);
    statements
}

fn assign(edit: &Edit<'_>, assignments: &[(String, SkillAssignment)]) -> Vec<Statement> {
    let listed: Vec<serde_json::Value> = assignments
        .iter()
        .map(|(id, assignment)| {
            let (word, target) = scope(assignment);
            json!({"id": id, "scope": word, "target": target})
        })
        .collect();
    vec![
        (
            "DELETE FROM skill_assignments WHERE skill_id = ?1
                AND EXISTS (SELECT 1 FROM skills WHERE id = ?1 AND edit_id = ?2)",
            params![edit.skill, edit.id],
        ),
        (
            "INSERT INTO skill_assignments (id, skill_id, scope_type, target, created_at)
             SELECT json_extract(place.value, '$.id'), skill.id, json_extract(place.value, '$.scope'),
                json_extract(place.value, '$.target'), ?4
             FROM json_each(?3) place, skills skill WHERE skill.id = ?1 AND skill.edit_id = ?2",
            params![edit.skill, edit.id, serde_json::Value::from(listed).to_string(), edit.now.0],
        ),
    ]
}

/// A new skill.
pub fn create(
    edit: &Edit<'_>,
    name: &str,
    new: &NewRevision<'_>,
    assignments: &[(String, SkillAssignment)],
) -> Vec<Statement> {
    let mut statements = vec![(
        "INSERT INTO skills (id, name, current_revision_id, edit_id, created_by, updated_by, created_at, updated_at)
         SELECT ?1, ?2, ?3, ?4, ?5, ?5, ?6, ?6
            WHERE (SELECT COUNT(*) FROM skills WHERE deleted_at IS NULL) < ?7",
        params![edit.skill, name, new.id, edit.id, edit.by, edit.now.0, SKILLS_MAX],
    )];
    statements.extend(revision(edit, new));
    statements.extend(assign(edit, assignments));
    statements
}

/// Another content, or only other places, of a skill that is still of the version that was seen.
pub fn update(
    edit: &Edit<'_>,
    seen: &Row,
    new: Option<&NewRevision<'_>>,
    assignments: &[(String, SkillAssignment)],
) -> Vec<Statement> {
    let mut statements = vec![(
        "UPDATE skills SET current_revision_id = COALESCE(?3, current_revision_id), version = version + 1, edit_id = ?4,
            updated_by = ?5, updated_at = ?6
         WHERE id = ?1 AND version = ?2 AND current_revision_id = ?7 AND deleted_at IS NULL",
        params![
            edit.skill,
            seen.version,
            new.map(|new| new.id),
            edit.id,
            edit.by,
            edit.now.0,
            seen.revision_id.as_str()
        ],
    )];
    if let Some(new) = new {
        statements.extend(revision(edit, new));
    }
    statements.extend(assign(edit, assignments));
    statements
}

/// Whether sessions get it, if it is still of the version that was seen.
pub fn set_enabled(edit: &Edit<'_>, enabled: bool, seen: i64) -> Statement {
    (
        "UPDATE skills SET enabled = ?2, version = version + 1, edit_id = ?3, updated_by = ?4, updated_at = ?5
            WHERE id = ?1 AND deleted_at IS NULL AND version = ?6",
        params![edit.skill, enabled, edit.id, edit.by, edit.now.0, seen],
    )
}

/// Deletes it; sessions that have it keep it.
pub fn delete(edit: &Edit<'_>) -> Statement {
    (
        "UPDATE skills SET deleted_at = ?4, version = version + 1, edit_id = ?2, updated_by = ?3, updated_at = ?4
            WHERE id = ?1 AND deleted_at IS NULL",
        params![edit.skill, edit.id, edit.by, edit.now.0],
    )
}

/// A skill that applies somewhere, with one reason.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Applicable {
    pub skill_id: String,
    pub revision_id: String,
    pub name: String,
    pub description: String,
    pub revision_number: i64,
    pub revision_sha256: String,
    pub total_bytes: i64,
    pub assignment_id: String,
    pub scope_type: String,
    pub target: String,
}

/// Skills that apply, with each reason: one statement, so that they are of one moment.
pub async fn applicable(db: &impl Database, target: &Target) -> Result<Vec<Applicable>, DbError> {
    db.rows(
        "SELECT skill.id AS skill_id, revision.id AS revision_id, skill.name, revision.description,
            revision.revision_number, revision.revision_sha256, revision.total_bytes, place.id AS assignment_id,
            place.scope_type, place.target
         FROM skill_assignments place JOIN skills skill ON skill.id = place.skill_id
            JOIN skill_revisions revision ON revision.id = skill.current_revision_id
         WHERE skill.deleted_at IS NULL AND skill.enabled = 1
            AND ((place.scope_type = 'global' AND place.target = '')
                OR (place.scope_type = 'repository' AND place.target IN (SELECT value FROM json_each(?1)))
                OR (place.scope_type = 'environment' AND place.target = ?2))",
        params![json!(target.repositories).to_string(), target.environment.clone()],
    )
    .await
}

/// A person's profile.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ProfileRow {
    pub id: String,
    pub name: String,
    pub version: i64,
    pub created_at: i64,
    pub updated_at: i64,
}

/// One that is theirs.
pub async fn profile(db: &impl Database, id: &str, user: &str) -> Result<Option<ProfileRow>, DbError> {
    db.row(
        "SELECT id, name, version, created_at, updated_at FROM skill_profiles WHERE id = ? AND user_id = ?",
        params![id, user],
    )
    .await
}

/// All that are theirs, by name.
pub async fn profiles(db: &impl Database, user: &str) -> Result<Vec<ProfileRow>, DbError> {
    db.rows(
        "SELECT id, name, version, created_at, updated_at FROM skill_profiles WHERE user_id = ? ORDER BY name LIMIT ?",
        params![user, PROFILES_MAX],
    )
    .await
}

/// The live skills of a profile.
pub async fn profile_items(db: &impl Database, id: &str) -> Result<Vec<String>, DbError> {
    #[derive(Deserialize)]
    struct Found {
        skill_id: String,
    }
    let rows: Vec<Found> = db
        .rows(
            "SELECT item.skill_id FROM skill_profile_items item JOIN skills skill ON skill.id = item.skill_id
                WHERE item.profile_id = ? AND skill.deleted_at IS NULL ORDER BY item.skill_id",
            params![id],
        )
        .await?;
    Ok(rows.into_iter().map(|row| row.skill_id).collect())
}

fn items(id: &str, version: i64, skills: &[String]) -> Vec<Statement> {
    vec![
        (
            "DELETE FROM skill_profile_items WHERE profile_id = ?1
                AND EXISTS (SELECT 1 FROM skill_profiles WHERE id = ?1 AND version = ?2)",
            params![id, version],
        ),
        (
            "INSERT INTO skill_profile_items (profile_id, skill_id) SELECT profile.id, skill.id
                FROM skill_profiles profile, skills skill WHERE profile.id = ?1 AND profile.version = ?2
                AND skill.id IN (SELECT value FROM json_each(?3)) AND skill.deleted_at IS NULL",
            params![id, version, json!(skills).to_string()],
        ),
    ]
}

/// A new profile.
pub fn create_profile(id: &str, user: &str, name: &str, skills: &[String], now: UnixMillis) -> Vec<Statement> {
    let mut statements = vec![(
        "INSERT INTO skill_profiles (id, user_id, name, created_at, updated_at) SELECT ?1, ?2, ?3, ?4, ?4
            WHERE (SELECT COUNT(*) FROM skill_profiles WHERE user_id = ?2) < ?5",
        params![id, user, name, now.0, PROFILES_MAX],
    )];
    statements.extend(items(id, 1, skills));
    statements
}

/// Another name or other skills, if it is still of the version that was seen.
pub fn update_profile(
    seen: &ProfileRow,
    user: &str,
    name: &str,
    skills: Option<&[String]>,
    now: UnixMillis,
) -> Vec<Statement> {
    let mut statements = vec![(
        "UPDATE skill_profiles SET name = ?3, version = version + 1, updated_at = ?5
            WHERE id = ?1 AND user_id = ?2 AND version = ?4",
        params![seen.id.as_str(), user, name, seen.version, now.0],
    )];
    if let Some(skills) = skills {
        statements.extend(items(&seen.id, seen.version + 1, skills));
    }
    statements
}

/// Drops a profile.
pub fn delete_profile(id: &str, user: &str) -> Statement {
    ("DELETE FROM skill_profiles WHERE id = ? AND user_id = ?", params![id, user])
}

/// Whether a name is taken.
pub fn is_name_constraint(error: &DbError) -> bool {
    error.0.contains("UNIQUE constraint failed")
}

/// What a session gets: goes into the batch that lists it.
pub fn pin(session: &SessionId, resolved: &Resolved, now: UnixMillis) -> Vec<Statement> {
    let (mode, profile_id): (&str, Option<&str>) = match &resolved.selection {
        Selection::All => ("all", None),
        Selection::None => ("none", None),
        Selection::Profile { profile_id } => ("profile", Some(profile_id)),
    };
    let mut statements = vec![(
        "INSERT INTO session_skill_manifests (session_id, selection_mode, profile_id, profile_name, resolver_version,
            manifest_sha256, resolved_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        params![
            session.as_str(),
            mode,
            profile_id,
            resolved.profile_name.clone(),
            RESOLVER_VERSION,
            resolved.sha256.as_str(),
            now.0,
        ],
    )];
    if !resolved.skills.is_empty() {
        statements.push((
            "INSERT INTO session_skill_revisions (session_id, position, skill_id, revision_id, skill_name, description,
                revision_number, revision_sha256, total_bytes, assignment_sources)
             SELECT ?1, skill.key, json_extract(skill.value, '$.skillId'), json_extract(skill.value, '$.revisionId'),
                json_extract(skill.value, '$.name'), json_extract(skill.value, '$.description'),
                json_extract(skill.value, '$.revisionNumber'), json_extract(skill.value, '$.revisionSha256'),
                json_extract(skill.value, '$.totalBytes'), json_extract(skill.value, '$.assignmentSources')
             FROM json_each(?2) skill",
            vec![Param::from(session.as_str()), Param::from(json!(resolved.skills).to_string())],
        ));
    }
    statements
}

/// A session's manifest.
#[expect(clippy::struct_field_names, reason = "they are the columns' names")]
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Manifest {
    pub selection_mode: String,
    pub profile_id: Option<String>,
    pub profile_name: Option<String>,
    pub resolver_version: i64,
    pub manifest_sha256: String,
    pub resolved_at: i64,
}

/// That of a session; `None` when it began without one.
pub async fn manifest(db: &impl Database, session: &SessionId) -> Result<Option<Manifest>, DbError> {
    db.row(
        "SELECT selection_mode, profile_id, profile_name, resolver_version, manifest_sha256, resolved_at
            FROM session_skill_manifests WHERE session_id = ?",
        params![session.as_str()],
    )
    .await
}

/// A skill of a session.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Pinned {
    pub position: i64,
    pub skill_id: String,
    pub revision_id: String,
    pub skill_name: String,
    pub description: String,
    pub revision_number: i64,
    pub revision_sha256: String,
    pub total_bytes: i64,
    pub assignment_sources: String,
}

/// Those of a session from a position on.
pub async fn pinned(db: &impl Database, session: &SessionId, from: i64, limit: i64) -> Result<Vec<Pinned>, DbError> {
    db.rows(
        "SELECT position, skill_id, revision_id, skill_name, description, revision_number, revision_sha256, total_bytes,
            assignment_sources FROM session_skill_revisions WHERE session_id = ? AND position >= ? ORDER BY position
            LIMIT ?",
        params![session.as_str(), from, limit],
    )
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::skills::{render, resolve, tests::content};
    use crate::store::audit_log::tests::{about_a, told};
    use crate::store::children;
    use crate::store::native::Native;
    use crate::store::sessions::{self, NewSession};
    use futures_executor::block_on;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn run(db: &Native, statements: Vec<Statement>) -> Vec<u64> {
        block_on(db.batch(statements)).expect("runs")
    }

    fn add(db: &Native, id: &str, name: &str, body: &str, places: &[SkillAssignment]) {
        let content = oi_protocol::settings::SkillContent { body: body.to_owned(), ..content() };
        let rendered = render(name, &content).expect("fits");
        let revision_id = format!("rev-{id}");
        let new = NewRevision {
            id: &revision_id,
            description: &content.description,
            body: &content.body,
            license: None,
            compatibility: None,
            metadata_json: "{}",
            rendered: &rendered,
        };
        let edit = Edit { skill: id, id: &format!("edit-{id}"), by: "u", now: NOW };
        let places: Vec<_> =
            places.iter().enumerate().map(|(at, place)| (format!("{id}-{at}"), place.clone())).collect();
        let changed = run(db, create(&edit, name, &new, &places));
        assert!(changed[0] > 0, "{changed:?}");
    }

    fn repository(name: &str) -> SkillAssignment {
        SkillAssignment::Repository { repo_owner: "acme".to_owned(), repo_name: name.to_owned() }
    }

    fn names(db: &Native, repositories: &[&str], selection: Selection) -> (Vec<String>, Vec<String>) {
        let target =
            Target { repositories: repositories.iter().map(|name| (*name).to_owned()).collect(), environment: None };
        let found = block_on(resolve::resolve(db, &target, selection, Some("u1"))).expect("resolves");
        (found.skills.into_iter().map(|skill| skill.name).collect(), found.ignored)
    }

    #[test]
    fn a_session_gets_what_is_assigned_to_where_it_works_and_a_profile_only_narrows() {
        let db = Native::new();
        block_on(db.change("INSERT INTO users (id, created_at, updated_at) VALUES ('u1', 1, 1)", params![]))
            .expect("runs");
        add(&db, "s1", "everywhere", "x", &[SkillAssignment::Global {}, repository("app")]);
        add(&db, "s2", "app-only", "x", &[repository("app")]);
        add(&db, "s3", "nowhere", "x", &[]);
        assert_eq!(names(&db, &["acme/app"], Selection::All).0, ["app-only", "everywhere"]);
        assert_eq!(names(&db, &[], Selection::All).0, ["everywhere"]);
        assert!(names(&db, &["acme/app"], Selection::None).0.is_empty());
        run(&db, create_profile("p1", "u1", "Mine", &["s2".to_owned(), "s3".to_owned()], NOW));
        let profile = || Selection::Profile { profile_id: "p1".to_owned() };
        assert_eq!(names(&db, &["acme/app"], profile()), (vec!["app-only".to_owned()], vec!["s3".to_owned()]));
        let stranger = block_on(resolve::resolve(&db, &Target::default(), profile(), Some("u2")));
        assert_eq!(stranger.expect_err("another's").status(), 404);
        let nobody = block_on(resolve::resolve(&db, &Target::default(), profile(), None));
        assert_eq!(nobody.expect_err("nobody's").status(), 403);
        run(&db, vec![set_enabled(&Edit { skill: "s2", id: "e", by: "u", now: NOW }, false, 1)]);
        assert_eq!(names(&db, &["acme/app"], Selection::All).0, ["everywhere"]);
        run(&db, vec![delete(&Edit { skill: "s1", id: "e", by: "u", now: NOW })]);
        assert!(names(&db, &["acme/app"], Selection::All).0.is_empty());
    }

    #[test]
    fn an_edit_that_saw_another_version_leaves_nothing_behind() {
        let db = Native::new();
        add(&db, "s1", "one", "first", &[SkillAssignment::Global {}]);
        let seen = block_on(get(&db, "s1")).expect("runs").expect("is there");
        let edited = |edit_id: &str, body: &str| {
            let content = oi_protocol::settings::SkillContent { body: body.to_owned(), ..content() };
            let rendered = render("one", &content).expect("fits");
            let revision_id = format!("rev-{edit_id}");
            let new = NewRevision {
                id: &revision_id,
                description: &content.description,
                body: &content.body,
                license: None,
                compatibility: None,
                metadata_json: "{}",
                rendered: &rendered,
            };
            let edit = Edit { skill: "s1", id: edit_id, by: "u", now: NOW };
            let change = update(&edit, &seen, Some(&new), &[(format!("a-{edit_id}"), repository(edit_id))]);
            run(&db, about_a("skill.update").behind_the_first(change))
        };
        assert!(edited("won", "second")[0] > 0);
        assert!(edited("lost", "third").iter().all(|changed| *changed == 0));
        assert_eq!(told(&db), ["skill.update A"], "of the one that counted");
        let now = block_on(get(&db, "s1")).expect("runs").expect("is there");
        assert_eq!((now.body.as_str(), now.version, now.revision_number), ("second", 2, 2));
        assert_eq!(block_on(assignments(&db, &["s1"])).expect("runs"), [("s1".to_owned(), repository("won"))]);
        assert_eq!(block_on(files(&db, &now.revision_id)).expect("runs").len(), 2);
        assert!(block_on(files(&db, "rev-lost")).expect("runs").is_empty());
        // Only places change: the revision stays, the version does not.
        let edit = Edit { skill: "s1", id: "places", by: "u", now: NOW };
        assert!(run(&db, update(&edit, &now, None, &[]))[0] > 0);
        assert!(run(&db, update(&Edit { id: "late", ..edit }, &now, None, &[]))[0] == 0);
        assert!(block_on(assignments(&db, &["s1"])).expect("runs").is_empty());
    }

    #[test]
    fn a_name_is_free_again_when_its_skill_is_deleted() {
        let db = Native::new();
        add(&db, "s1", "one", "x", &[]);
        let content = content();
        let rendered = render("one", &content).expect("fits");
        let new = NewRevision {
            id: "rev-2",
            description: "d",
            body: "b",
            license: None,
            compatibility: None,
            metadata_json: "{}",
            rendered: &rendered,
        };
        let edit = Edit { skill: "s2", id: "e2", by: "u", now: NOW };
        let again = block_on(db.batch(create(&edit, "one", &new, &[])));
        assert!(is_name_constraint(&again.expect_err("taken")));
        run(&db, vec![delete(&Edit { skill: "s1", id: "e", by: "u", now: NOW })]);
        assert!(run(&db, create(&edit, "one", &new, &[]))[0] > 0);
        assert_eq!(block_on(list(&db, "", 10)).expect("runs").0.len(), 1);
    }

    #[test]
    fn a_child_has_its_parents_skills_as_they_were() {
        let db = Native::new();
        add(&db, "s1", "one", "x", &[SkillAssignment::Global {}]);
        let new = |byte: u8| NewSession::plain(SessionId::from_bytes([byte; 16]));
        let resolved = block_on(resolve::resolve(&db, &Target::default(), Selection::All, None)).expect("resolves");
        let parent = new(1);
        block_on(sessions::insert_with(&db, &parent, NOW, pin(&parent.id, &resolved, NOW))).expect("runs");
        run(&db, vec![delete(&Edit { skill: "s1", id: "e", by: "u", now: NOW })]);
        assert!(
            block_on(children::admit(&db, &parent.id, &new(2), children::ChildLimits::default(), NOW)).expect("runs")
        );
        let child = new(2).id;
        let of_child = block_on(manifest(&db, &child)).expect("runs").expect("it has one");
        assert_eq!(of_child.manifest_sha256, resolved.sha256);
        let skills = block_on(pinned(&db, &child, 0, 10)).expect("runs");
        assert_eq!((skills.len(), skills[0].skill_name.as_str()), (1, "one"));
        assert!(skills[0].assignment_sources.contains("global"));
        assert_eq!(block_on(files(&db, &skills[0].revision_id)).expect("runs").len(), 2, "its files are kept");
        assert!(block_on(pinned(&db, &child, 1, 10)).expect("runs").is_empty());
    }
}
