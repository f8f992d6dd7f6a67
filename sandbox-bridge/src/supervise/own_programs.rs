//! The names under which the sandbox's programs find this one: a folder of links, before all others on their PATH.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::places::Places;
use crate::gh;

/// Git's credential helper, for configurations of images that name it.
pub const CREDENTIALS: &str = "oi-git-credentials";
/// Git's `gpg.ssh.program`.
pub const SIGNER: &str = "oi-git-sign";
/// What the agent shows pictures and recordings with.
pub const UPLOAD_MEDIA: &str = "upload-media";

/// The folder. Nothing keeps it: each start makes it anew.
pub fn folder(places: &Places) -> PathBuf {
    places.runtime_dir.join("bin")
}

/// Makes the links. `gh` is one of them only where there is a `gh` that it can become.
pub fn install(places: &Places, program: &Path) -> std::io::Result<()> {
    let folder = folder(places);
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => std::fs::create_dir_all(&folder)?,
    }
    let has_gh = gh::find_real(&places.path_variable(), program).is_some();
    let names = [CREDENTIALS, SIGNER, UPLOAD_MEDIA].into_iter().chain(has_gh.then_some(gh::NAME));
    for name in names {
        symlink(program, folder.join(name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn gh_is_taken_over_only_where_there_is_one() {
        let root = tempfile::tempdir().expect("a folder");
        let tools = root.path().join("tools");
        std::fs::create_dir(&tools).expect("made");
        let program = std::env::current_exe().expect("known");
        let places = Places {
            workspace: root.path().join("w"),
            home: root.path().join("h"),
            runtime_dir: root.path().join("run"),
            temporary_dir: root.path().join("t"),
            opencode: "opencode".into(),
            tool_path: vec![tools.clone()],
        };
        let target = |name: &str| std::fs::read_link(folder(&places).join(name)).ok();
        if gh::find_real(&places.path_variable(), &program).is_none() {
            install(&places, &program).expect("made");
            assert_eq!(target("gh"), None);
        }
        std::fs::write(tools.join("gh"), "#!/bin/sh\n").expect("written");
        std::fs::set_permissions(tools.join("gh"), std::fs::Permissions::from_mode(0o755)).expect("set");
        for _ in 0..2 {
            install(&places, &program).expect("made, a second time too");
            for name in [CREDENTIALS, SIGNER, UPLOAD_MEDIA, "gh"] {
                assert_eq!(target(name).as_deref(), Some(program.as_path()), "{name}");
            }
        }
    }
}
