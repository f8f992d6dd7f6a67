//! Managed skills: what one may say, how it is written into files, and by which hashes its revisions are known.

pub mod resolve;

use oi_protocol::settings::{SkillAssignment, SkillContent, SkillFile};
use oi_protocol::text::utf16_len;
use oi_worker_kit::{Refusal, mac};

use crate::source_control::RepositoryName;

const NAME_MAX: usize = 64;
const DESCRIPTION_MAX: usize = 1_024;
const COMPATIBILITY_MAX: usize = 500;
const LICENSE_MAX: usize = 200;
const METADATA_MAX: usize = 100;
const METADATA_KEY_MAX: usize = 100;
const METADATA_VALUE_MAX: usize = 500;
/// Files besides `SKILL.md`.
const FILES_MAX: usize = 99;
const FILE_MAX: usize = 256 * 1024;
const REVISION_MAX: usize = 1024 * 1024;
const PATH_MAX: usize = 240;
const PATH_DEPTH: usize = 10;
/// Places that a skill is assigned to.
const ASSIGNMENTS_MAX: usize = 200;
/// Skills that the agent has anyway.
const RESERVED: [&str; 5] =
    ["agent-browser", "record-video", "upload-screenshot", "visual-verification", "customize-opencode"];

fn invalid(sentence: impl Into<String>) -> Refusal {
    Refusal::invalid_body(sentence.into())
}

/// A name that a skill may have.
pub fn checked_name(name: &str) -> Result<&str, Refusal> {
    let part = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if name.len() > NAME_MAX || !name.split('-').all(part) {
        return Err(invalid(
            "name must be lower-case letters and digits in words joined by `-`, 64 characters at most",
        ));
    }
    if RESERVED.contains(&name) {
        return Err(Refusal::conflict(format!("`{name}` is a skill that every agent has")));
    }
    Ok(name)
}

fn checked_path(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    (1..=PATH_MAX).contains(&path.len())
        && parts.len() <= PATH_DEPTH
        && !path.contains('\\')
        && !path.contains(char::is_control)
        && parts.iter().all(|part| !part.is_empty() && *part != "." && *part != "..")
        && !parts[0].eq_ignore_ascii_case("SKILL.md")
}

fn checked_files(files: &[SkillFile]) -> Result<(), Refusal> {
    if files.len() > FILES_MAX {
        return Err(invalid("A skill has 99 files at most"));
    }
    let mut paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    paths.sort_unstable();
    for (at, path) in paths.iter().enumerate() {
        let shown = oi_protocol::text::truncate_bytes(path, 100);
        if !checked_path(path) {
            return Err(invalid(format!("`{shown}` is not a path that a skill's file may have")));
        }
        // Sorted, a folder's files follow it, but for names that sort between.
        if paths[at + 1..]
            .iter()
            .any(|other| other == path || other.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')))
        {
            return Err(invalid(format!("`{shown}` is there twice, or as a file and as a folder")));
        }
    }
    for file in files {
        let shown = oi_protocol::text::truncate_bytes(&file.path, 100);
        if file.content.len() > FILE_MAX {
            return Err(invalid(format!("`{shown}` is longer than 256 KiB")));
        }
        if file.executable && !file.path.starts_with("scripts/") {
            return Err(invalid(format!("`{shown}` may be executable below scripts/ only")));
        }
    }
    Ok(())
}

/// What a skill says, once it is known to be within the bounds.
pub fn checked(mut content: SkillContent) -> Result<SkillContent, Refusal> {
    content.description = content.description.trim().to_owned();
    if !(1..=DESCRIPTION_MAX).contains(&utf16_len(&content.description)) {
        return Err(invalid("description must have 1 to 1024 characters"));
    }
    let too_long = |text: &Option<String>, max: usize| text.as_ref().is_some_and(|text| utf16_len(text) > max);
    if too_long(&content.license, LICENSE_MAX) {
        return Err(invalid("license must have 200 characters at most"));
    }
    if too_long(&content.compatibility, COMPATIBILITY_MAX) {
        return Err(invalid("compatibility must have 500 characters at most"));
    }
    let fits = |(key, value): (&String, &String)| {
        (1..=METADATA_KEY_MAX).contains(&utf16_len(key)) && utf16_len(value) <= METADATA_VALUE_MAX
    };
    if content.metadata.len() > METADATA_MAX || !content.metadata.iter().all(fits) {
        return Err(invalid("metadata must have 100 keys at most, of 100 characters, with values of 500"));
    }
    checked_files(&content.files)?;
    Ok(content)
}

/// Where a skill applies, each place once.
pub fn checked_assignments(assignments: Vec<SkillAssignment>) -> Result<Vec<SkillAssignment>, Refusal> {
    if assignments.len() > ASSIGNMENTS_MAX {
        return Err(invalid("A skill has 200 assignments at most"));
    }
    let mut all: Vec<SkillAssignment> = Vec::new();
    for assignment in assignments {
        let assignment = match assignment {
            SkillAssignment::Repository { repo_owner, repo_name } => {
                let name = RepositoryName::parse(&repo_owner, &repo_name)
                    .ok_or_else(|| invalid("An assignment's repoOwner and repoName must name a repository"))?;
                SkillAssignment::Repository { repo_owner: name.owner().to_owned(), repo_name: name.name().to_owned() }
            }
            SkillAssignment::Environment { environment_id } => {
                let plain = environment_id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
                if !plain || !(1..=100).contains(&environment_id.len()) {
                    return Err(invalid("An assignment's environmentId must be the id of an environment"));
                }
                SkillAssignment::Environment { environment_id }
            }
            everywhere @ SkillAssignment::Global {} => everywhere,
        };
        if !all.contains(&assignment) {
            all.push(assignment);
        }
    }
    Ok(all)
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The text of `SKILL.md`.
fn markdown(name: &str, content: &SkillContent) -> String {
    let mut text = format!("---\nname: {name}\ndescription: {}\n", quoted(&content.description));
    if let Some(license) = &content.license {
        text += "license: ";
        text += &quoted(license);
        text.push('\n');
    }
    if let Some(compatibility) = &content.compatibility {
        text += "compatibility: ";
        text += &quoted(compatibility);
        text.push('\n');
    }
    if !content.metadata.is_empty() {
        text += "metadata:\n";
        // The map is in the order of its keys' bytes.
        for (key, value) in &content.metadata {
            text.push_str(&["  ", &quoted(key), ": ", &quoted(value), "\n"].concat());
        }
    }
    text + "---\n" + &content.body
}

/// A skill's files, in order of their paths, with the hash that they are known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    pub files: Vec<SkillFile>,
    pub sha256: String,
    pub total_bytes: usize,
    pub skill_markdown: String,
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes()
}

/// Writes a skill into files.
pub fn render(name: &str, content: &SkillContent) -> Result<Rendered, Refusal> {
    let skill_markdown = markdown(name, content);
    if skill_markdown.len() > FILE_MAX {
        return Err(invalid("SKILL.md is longer than 256 KiB"));
    }
    let mut files = content.files.clone();
    files.push(SkillFile { path: "SKILL.md".to_owned(), content: skill_markdown.clone(), executable: false });
    files.sort_by(|one, other| one.path.as_bytes().cmp(other.path.as_bytes()));
    let total_bytes = files.iter().map(|file| file.content.len()).sum();
    if total_bytes > REVISION_MAX {
        return Err(invalid("A skill's files must be 1 MiB or smaller together"));
    }
    let mut hashed = b"OPEN_INSPECT_SKILL_REVISION_V1\0".to_vec();
    hashed.extend(length(files.len()));
    for file in &files {
        hashed.extend(length(file.path.len()));
        hashed.extend(file.path.as_bytes());
        hashed.push(u8::from(file.executable));
        hashed.extend((file.content.len() as u64).to_be_bytes());
        hashed.extend(file.content.as_bytes());
    }
    Ok(Rendered { files, sha256: mac::sha256_hex(&hashed), total_bytes, skill_markdown })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::collections::BTreeMap;

    pub fn content() -> SkillContent {
        SkillContent {
            description: " When \"it\" fails ".to_owned(),
            body: "Do this.\n".to_owned(),
            license: Some("MIT".to_owned()),
            compatibility: None,
            metadata: BTreeMap::from([("b".to_owned(), "2".to_owned()), ("a:".to_owned(), "1\n".to_owned())]),
            files: vec![SkillFile {
                path: "scripts/run.sh".to_owned(),
                content: "echo hi\n".to_owned(),
                executable: true,
            }],
        }
    }

    #[test]
    fn a_skill_is_written_with_quoted_facts_and_known_by_its_files() {
        let content = checked(content()).expect("fits");
        let rendered = render("my-skill", &content).expect("fits");
        assert_eq!(
            rendered.skill_markdown,
            "---\nname: my-skill\ndescription: \"When \\\"it\\\" fails\"\nlicense: \"MIT\"\nmetadata:\n  \"a:\": \"1\\n\"\n  \"b\": \"2\"\n---\nDo this.\n"
        );
        let paths: Vec<&str> = rendered.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["SKILL.md", "scripts/run.sh"]);
        assert_eq!(rendered.total_bytes, rendered.skill_markdown.len() + 8);
        // Computed with Python's hashlib over the layout of the specification.
        assert_eq!(rendered.sha256, GOLDEN);
        let mut other = content.clone();
        other.files[0].executable = false;
        assert_ne!(render("my-skill", &other).expect("fits").sha256, rendered.sha256);
    }

    const GOLDEN: &str = "f4004b8694698cefb231be611f09730ae4ce6381930a8471f069f092debe41a6";

    #[test]
    fn names_are_words_joined_by_dashes() {
        for good in ["a", "a-b-2", &"a".repeat(64)] {
            assert_eq!(checked_name(good), Ok(good));
        }
        for bad in ["", "A", "a--b", "-a", "a-", "a_b", "a/b", "ä", &"a".repeat(65)] {
            assert_eq!(checked_name(bad).expect_err(bad).status, 400, "{bad}");
        }
        assert_eq!(checked_name("agent-browser").expect_err("reserved").status, 409);
    }

    #[test]
    fn files_stay_in_the_skills_folder_and_do_not_clash() {
        let file = |path: &str, executable| SkillFile { path: path.to_owned(), content: "x".to_owned(), executable };
        let fits = |files: Vec<SkillFile>| checked(SkillContent { files, ..content() }).is_ok();
        assert!(fits(vec![file("a.md", false), file("b/c.md", false), file("b/d.md", false), file("b-x", false)]));
        for bad in [
            "",
            "/a",
            "a/",
            "a//b",
            "./a",
            "a/../b",
            "..",
            "a\\b",
            "a\u{7}b",
            "SKILL.md",
            "skill.md",
            "SKILL.md/x",
            "1/2/3/4/5/6/7/8/9/10/11",
            &"a".repeat(241),
        ] {
            assert!(!fits(vec![file(bad, false)]), "{bad}");
        }
        assert!(!fits(vec![file("a", false), file("a", false)]), "twice");
        assert!(!fits(vec![file("a", false), file("a-b", false), file("a/b", false)]), "a file and a folder");
        assert!(!fits(vec![file("run.sh", true)]), "executable elsewhere");
        assert!(!fits((0..100).map(|n| file(&format!("f{n}"), false)).collect()), "too many");
        let large = SkillFile { path: "big".to_owned(), content: "x".repeat(256 * 1024 + 1), executable: false };
        assert!(!fits(vec![large]));
        let many: Vec<SkillFile> = (0..5)
            .map(|n| SkillFile { path: format!("f{n}"), content: "x".repeat(256 * 1024), executable: false })
            .collect();
        let content = checked(SkillContent { files: many, ..content() }).expect("each fits");
        assert!(render("a", &content).is_err(), "together they do not");
    }

    #[test]
    fn facts_are_bounded() {
        for bad in [
            SkillContent { description: "  ".to_owned(), ..content() },
            SkillContent { description: "x".repeat(1_025), ..content() },
            SkillContent { license: Some("x".repeat(201)), ..content() },
            SkillContent { compatibility: Some("x".repeat(501)), ..content() },
            SkillContent { metadata: BTreeMap::from([("x".repeat(101), String::new())]), ..content() },
            SkillContent { metadata: BTreeMap::from([("x".to_owned(), "x".repeat(501))]), ..content() },
        ] {
            assert!(checked(bad).is_err());
        }
        assert!(checked(SkillContent { body: String::new(), ..content() }).is_ok());
    }

    #[test]
    fn a_place_is_assigned_once() {
        let repository =
            |owner: &str| SkillAssignment::Repository { repo_owner: owner.to_owned(), repo_name: "app".to_owned() };
        let all = checked_assignments(vec![repository("Acme"), repository("acme"), SkillAssignment::Global {}]);
        assert_eq!(all.expect("fits"), [repository("acme"), SkillAssignment::Global {}]);
        assert!(checked_assignments(vec![repository("..")]).is_err());
        assert!(checked_assignments(vec![SkillAssignment::Environment { environment_id: "a b".to_owned() }]).is_err());
    }
}
