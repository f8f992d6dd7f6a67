//! Skills that come with this program: how the agent uses what is in its sandbox.

use std::path::Path;

/// Name and text.
pub const BUNDLED: [(&str, &str); 2] = [
    ("agent-browser", include_str!("skills/agent-browser.md")),
    ("upload-screenshot", include_str!("skills/upload-screenshot.md")),
];

/// Folder of them in the agent's own configuration, beside that of managed skills, which is replaced as a whole.
const FOLDER: &str = "skill";

/// Writes them below the agent's global configuration.
pub fn install(configuration: &Path) -> std::io::Result<()> {
    for (name, text) in BUNDLED {
        let folder = configuration.join(FOLDER).join(name);
        std::fs::create_dir_all(&folder)?;
        let file = folder.join("SKILL.md");
        if std::fs::read_to_string(&file).is_ok_and(|written| written == text) {
            continue;
        }
        // A link in its place would be written through.
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => std::fs::write(file, text)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_skill_names_itself_and_says_when_to_use_it() {
        for (name, text) in BUNDLED {
            let head = text.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---\n")).expect("a head").0;
            assert!(head.starts_with(&format!("name: {name}\ndescription: ")), "{name}");
        }
    }

    #[test]
    fn they_are_written_anew_when_they_differ_and_follow_no_link() {
        let folder = tempfile::tempdir().expect("a folder");
        install(folder.path()).expect("written");
        let file = folder.path().join("skill/agent-browser/SKILL.md");
        assert_eq!(std::fs::read_to_string(&file).expect("there"), BUNDLED[0].1);
        let precious = folder.path().join("precious");
        std::fs::write(&precious, "mine").expect("written");
        std::fs::remove_file(&file).expect("removed");
        std::os::unix::fs::symlink(&precious, &file).expect("linked");
        install(folder.path()).expect("written");
        assert_eq!(std::fs::read_to_string(&precious).expect("there"), "mine");
        assert_eq!(std::fs::read_to_string(&file).expect("there"), BUNDLED[0].1);
    }
}
