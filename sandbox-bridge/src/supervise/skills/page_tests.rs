use proptest::prelude::*;

use super::*;

fn file(path: &str, content: &str) -> SkillFile {
    SkillFile {
        path: path.to_owned(),
        content: content.to_owned(),
        sha256: hex::encode(Sha256::digest(content.as_bytes())),
        size_bytes: content.len() as u64,
        executable: false,
    }
}

fn skill(name: &str) -> Skill {
    Skill { name: name.to_owned(), files: vec![file(MAIN_FILE, &format!("---\nname: {name}\n---\nDo it."))] }
}

fn page(skills: Vec<Skill>, next: Option<&str>) -> SkillsPage {
    SkillsPage { schema_version: 1, manifest_sha256: "m".to_owned(), skills, next_cursor: next.map(str::to_owned) }
}

fn code(pages: &[SkillsPage]) -> &'static str {
    let mut check = PageCheck::default();
    pages.iter().find_map(|page| check.check(page).err()).map_or("ok", |error| error.code())
}

fn with(change: impl FnOnce(&mut Skill)) -> &'static str {
    let mut changed = skill("a-skill");
    change(&mut changed);
    code(&[page(vec![changed], None)])
}

#[test]
fn each_rule_has_its_code() {
    let big = |bytes: usize| "x".repeat(bytes);
    let add = |path: &str, content: &str| with(|skill| skill.files.push(file(path, content)));
    let cases = [
        ("whole", with(|_| {}), "ok"),
        ("another file", add("references/more.md", "x"), "ok"),
        ("an empty name", with(|skill| skill.name.clear()), "installation_invalid"),
        ("an upper-case name", with(|skill| skill.name = "A".to_owned()), "installation_invalid"),
        ("two dashes", with(|skill| skill.name = "a--b".to_owned()), "installation_invalid"),
        ("a long name", with(|skill| skill.name = big(65)), "installation_invalid"),
        ("no files", with(|skill| skill.files.clear()), "installation_invalid"),
        ("no main file", with(|skill| skill.files[0] = file("README.md", "x")), "installation_invalid"),
        ("no frontmatter", with(|skill| skill.files[0] = file(MAIN_FILE, "name: a-skill")), "installation_invalid"),
        (
            "another's name",
            with(|skill| skill.files[0] = file(MAIN_FILE, "---\nname: other\n---\n")),
            "installation_invalid",
        ),
        (
            "too many files",
            with(|s| (0..100).for_each(|n| s.files.push(file(&format!("f{n}"), "")))),
            "installation_invalid",
        ),
        ("a large file", add("f", &big(FILE_MAX_BYTES + 1)), "installation_too_large"),
        ("the largest file", add("f", &big(FILE_MAX_BYTES)), "ok"),
        (
            "a large skill",
            with(|s| (0..5).for_each(|n| s.files.push(file(&format!("f{n}"), &big(FILE_MAX_BYTES))))),
            "installation_too_large",
        ),
        ("a wrong size", with(|skill| skill.files[0].size_bytes += 1), "hash_mismatch"),
        ("a wrong hash", with(|skill| skill.files[0].sha256 = "0".repeat(64)), "hash_mismatch"),
        ("a program", with(|skill| skill.files[0].executable = true), "installation_invalid"),
        ("a script", with(|skill| skill.files.push(SkillFile { executable: true, ..file("scripts/x.sh", "x") })), "ok"),
        ("the same path", add(MAIN_FILE, "x"), "path_invalid"),
        ("a folder over a file", add("SKILL.md/x", "x"), "path_invalid"),
        ("a way out", add("../x", "x"), "path_invalid"),
        ("a dot", add("a/./x", "x"), "path_invalid"),
        ("the root", add("/etc/x", "x"), "path_invalid"),
        ("a gap", add("a//x", "x"), "path_invalid"),
        ("nothing", add("", "x"), "path_invalid"),
        ("a backslash", add("a\\x", "x"), "path_invalid"),
        ("a line break", add("a\nx", "x"), "path_invalid"),
        ("many folders", add("1/2/3/4/5/6/7/8/9/10/11", "x"), "path_invalid"),
        ("a long path", add(&big(241), "x"), "path_invalid"),
    ];
    for (what, found, expected) in cases {
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn pages_belong_together() {
    let other = SkillsPage { manifest_sha256: "n".to_owned(), ..page(vec![skill("b")], None) };
    let newer = SkillsPage { schema_version: 2, ..page(Vec::new(), None) };
    let cases = [
        ("none", vec![page(Vec::new(), None)], "ok"),
        ("two", vec![page(vec![skill("a")], Some("1")), page(vec![skill("b")], None)], "ok"),
        ("another list's", vec![page(vec![skill("a")], Some("1")), other], "installation_invalid"),
        ("twice", vec![page(vec![skill("a")], Some("1")), page(vec![skill("a")], None)], "installation_invalid"),
        ("an empty one before the last", vec![page(Vec::new(), Some("1"))], "installation_invalid"),
        (
            "a circle",
            vec![page(vec![skill("a")], Some("1")), page(vec![skill("b")], Some("1"))],
            "installation_invalid",
        ),
        ("a later form", vec![newer], "installation_invalid"),
    ];
    for (what, pages, expected) in cases {
        assert_eq!(code(&pages), expected, "{what}");
    }
    // However many there are.
    let mut check = PageCheck::default();
    for n in 0..500 {
        check.check(&page(vec![skill(&format!("s{n}"))], Some(&n.to_string()))).expect("one more");
    }
}

#[test]
fn the_name_is_read_as_people_write_it() {
    let of = |line: &str| frontmatter_name(&format!("---\ndescription: x\n{line}\n---\nname: not-this\n"));
    for line in ["name: a-b", "name:   a-b  ", "name: \"a-b\"", "name: 'a-b' # it", "name: a-b # it"] {
        assert_eq!(of(line).as_deref(), Some("a-b"), "{line}");
    }
    for line in ["title: a-b", "  name: a-b", "name: a-b\nname: a-b"] {
        assert_eq!(of(line), None, "{line}");
    }
    assert_eq!(frontmatter_name("---\r\nname: a-b\r\n---\r\n").as_deref(), Some("a-b"));
    assert_eq!(frontmatter_name("---\nname: a-b\n"), None, "it has no end");
}

proptest! {
    #[test]
    fn a_path_that_passes_stays_in_its_folder(path in r"[a-z./\\\x00-\x20]{0,12}") {
        if check_path("s", &path).is_ok() {
            let mut depth = 0_i32;
            for part in std::path::Path::new(&path).components() {
                prop_assert!(matches!(part, std::path::Component::Normal(_)), "{path:?}");
                depth += 1;
            }
            prop_assert!(depth >= 1);
        }
    }

    #[test]
    fn a_name_that_passes_is_one_plain_segment(name in r"[a-zA-Z0-9._/-]{0,10}") {
        if is_name(&name) {
            prop_assert!(!name.is_empty() && !name.contains(['/', '.', '_']) && !name.starts_with('-'));
            prop_assert!(!name.ends_with('-') && !name.contains("--"));
        }
    }

    #[test]
    fn text_that_was_changed_does_not_pass(content in "[a-z]{1,40}", at in 0_usize..40) {
        let mut changed = file("x", &content);
        let at = at % content.len();
        let letter = if content.as_bytes()[at] == b'a' { "b" } else { "a" };
        changed.content.replace_range(at..=at, letter);
        prop_assert_eq!(check_file("s", &changed).map_err(|error| error.code()), Err("hash_mismatch"));
    }
}
