//! `AGENTS.md` of a workspace with several repositories: what is where, for the agent.

use std::fmt::Write as _;
use std::path::Path;

use crate::git::Workspace;

const FILE: &str = "AGENTS.md";

/// Writes it anew; a workspace of one repository has that one's own.
pub fn write(root: &Path, workspace: &Workspace, working_branch: Option<&str>) -> std::io::Result<()> {
    if workspace.checkouts.len() < 2 {
        return Ok(());
    }
    std::fs::write(root.join(FILE), text(workspace, working_branch))
}

fn text(workspace: &Workspace, working_branch: Option<&str>) -> String {
    let mut text = "<!-- Generated at each start. Do not edit. -->\n\n# Workspace\n\n\
        This session works on several repositories, each in a folder of its own.\n\n\
        | Path | Repository | Base branch |\n| --- | --- | --- |\n"
        .to_owned();
    for checkout in &workspace.checkouts {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "| `{}` | {}/{} | `{}` |",
            checkout.path.display(),
            checkout.owner,
            checkout.name,
            checkout.branch
        );
    }
    if let Some(branch) = working_branch {
        let _ = write!(
            text,
            "\nWork on the branch `{branch}` in each repository that you change; create it where it is missing.\n"
        );
    }
    let instructions: Vec<String> = workspace
        .checkouts
        .iter()
        .map(|checkout| checkout.path.join(FILE))
        .filter(|path| path.is_file())
        .map(|path| format!("* `{}`", path.display()))
        .collect();
    if !instructions.is_empty() {
        let _ = write!(
            text,
            "\nThese repositories have instructions of their own. Read them before you work there:\n\n{}\n",
            instructions.join("\n")
        );
    }
    text.push_str(
        "\nRun git inside the repository's folder. Call `create-pull-request` once for each repository that you changed, \
         with `repo` set to its name; a call from the same branch again updates its pull request. For a pull request on \
         top of another set `baseBranch`.\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::Checkout;

    fn workspace(root: &Path, names: &[&str]) -> Workspace {
        let checkout = |(position, name): (u32, &&str)| Checkout {
            position,
            owner: "acme".to_owned(),
            name: (*name).to_owned(),
            branch: "main".to_owned(),
            path: root.join(name),
            base_sha: None,
        };
        Workspace { directory: root.to_owned(), checkouts: (0..).zip(names).map(checkout).collect() }
    }

    #[test]
    fn several_repositories_are_listed_with_the_instructions_that_they_have() {
        let root = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(root.path().join("web")).expect("made");
        std::fs::write(root.path().join("web/AGENTS.md"), "Be brief.").expect("written");
        write(root.path(), &workspace(root.path(), &["web", "api"]), Some("open-inspect/x")).expect("written");
        let text = std::fs::read_to_string(root.path().join(FILE)).expect("is there");
        let line = |name: &str| format!("| `{}` | acme/{name} | `main` |", root.path().join(name).display());
        assert!(text.contains(&line("web")) && text.contains(&line("api")), "{text}");
        assert!(text.contains("the branch `open-inspect/x` in each repository"), "{text}");
        assert!(text.contains("web/AGENTS.md`") && !text.contains("api/AGENTS.md`"), "{text}");
    }

    #[test]
    fn a_workspace_of_one_repository_gets_none() {
        let root = tempfile::tempdir().expect("a folder");
        write(root.path(), &workspace(root.path(), &["web"]), None).expect("nothing to do");
        assert!(!root.path().join(FILE).exists());
    }
}
