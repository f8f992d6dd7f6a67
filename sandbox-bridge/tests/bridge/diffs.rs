//! What changed since the session began, as the sandbox uploads it: real git, real files.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};

use crate::id;
use crate::support::forge::Forge;
use crate::support::opencode::FakeOpenCode;
use crate::support::sandbox::Sandbox;
use crate::support::session::Session;
use crate::support::{eventually, sh};

struct World {
    session: Session,
    sandbox: Sandbox,
    _forge: Forge,
    _opencode: FakeOpenCode,
}

impl World {
    async fn new() -> Self {
        let (session, forge) = (Session::start().await, Forge::start().await);
        let opencode = FakeOpenCode::start().await;
        let sandbox = Sandbox::with_stand_in(&session, Some(&forge), &opencode.url);
        session.booted().await;
        Self { session, sandbox, _forge: forge, _opencode: opencode }
    }

    fn checkout(&self) -> std::path::PathBuf {
        self.sandbox.path("workspace/api")
    }

    /// Asks for the changes and waits for the next bundle.
    async fn refreshed(&self) -> Value {
        let known = self.session.taken().diffs.len();
        self.session.send(&json!({"type": "refresh_diff"}));
        self.bundle(known).await
    }

    async fn bundle(&self, index: usize) -> Value {
        eventually("a bundle", Duration::from_secs(60), || self.session.taken().diffs.get(index).cloned()).await
    }
}

/// What is told of each file: status, render state, lines.
fn told(bundle: &Value) -> Vec<(String, String, String, Value, Value)> {
    let files = bundle["repositories"][0]["files"].as_array().expect("files");
    let text = |file: &Value, key: &str| file[key].as_str().unwrap_or_default().to_owned();
    files
        .iter()
        .map(|file| {
            (
                text(file, "path"),
                text(file, "status"),
                text(file, "renderState"),
                file["additions"].clone(),
                file["deletions"].clone(),
            )
        })
        .collect()
}

fn row(
    path: &str,
    status: &str,
    state: &str,
    additions: Value,
    deletions: Value,
) -> (String, String, String, Value, Value) {
    (path.to_owned(), status.to_owned(), state.to_owned(), additions, deletions)
}

fn patch(bundle: &Value, path: &str) -> String {
    let files = bundle["repositories"][0]["files"].as_array().expect("files");
    let file = files.iter().find(|file| file["path"] == path).expect("the file");
    file["patch"].as_str().expect("a patch").to_owned()
}

#[tokio::test]
async fn every_kind_of_change_is_told_as_it_is() {
    let world = World::new().await;
    let checkout = world.checkout();
    let bundle = world.refreshed().await;
    assert_eq!((bundle["version"].clone(), bundle["triggerMessageId"].clone()), (json!(1), Value::Null));
    assert_eq!(told(&bundle), [], "nothing has changed, and what the runtime put there is nobody's change");

    sh(
        &checkout,
        "printf 'one\\n2\\ntwo\\n' > a.txt
         printf 'x\\n' > 'new file.txt'; : > empty; printf 'a\\0b' > picture; ln -s a.txt link
         mkdir deep; printf '1\\n2\\n3\\n4\\n5\\n' > deep/old; git add deep; git commit -qm 'committed'
         git mv deep/old deep/moved; printf ignored > .gitignore; printf 1 > ignored
         git init -q inner; git -C inner commit -q --allow-empty -m inner",
    );
    let script = checkout.join("run.sh");
    std::fs::write(&script, "#!/bin/sh\n").expect("written");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("set");
    // What the repository configured for git runs nothing and changes nothing.
    let trap = checkout.join(".git/trap");
    sh(
        &checkout,
        "git config diff.external 'touch .git/trap #'; git config color.ui always; git config diff.noprefix true
         git config diff.mnemonicPrefix true; git config core.fsmonitor 'touch .git/trap #'
         printf '*.txt diff=trap\\n' > .git/info/attributes; git config diff.trap.textconv 'touch .git/trap #'",
    );
    let bundle = world.refreshed().await;
    assert_eq!(
        told(&bundle),
        [
            row(".gitignore", "added", "renderable", json!(1), json!(0)),
            row("a.txt", "modified", "renderable", json!(1), json!(0)),
            row("deep/moved", "added", "renderable", json!(5), json!(0)),
            row("empty", "added", "metadata_only", json!(0), json!(0)),
            row("link", "added", "renderable", json!(1), json!(0)),
            row("new file.txt", "added", "renderable", json!(1), json!(0)),
            row("picture", "added", "binary", Value::Null, Value::Null),
            row("run.sh", "added", "renderable", json!(1), json!(0)),
        ]
    );
    let text = patch(&bundle, "a.txt");
    assert!(
        text.starts_with("diff --git a/a.txt b/a.txt\n") && text.ends_with("@@ -1,2 +1,3 @@\n one\n+2\n two\n"),
        "{text}"
    );
    assert!(!trap.exists(), "nothing ran");
    let repository = &bundle["repositories"][0];
    assert_eq!(
        (&repository["status"], &repository["repoOwner"], &repository["truncated"]),
        (&json!("ready"), &json!("acme"), &json!(false))
    );
    assert_ne!(repository["baseSha"], repository["headSha"], "what was committed counts from where the session began");

    sh(&checkout, "git checkout -q . ; git rm -q --cached a.txt;");
    let bundle = world.refreshed().await;
    let a = told(&bundle).into_iter().find(|file| file.0 == "a.txt").expect("told once");
    assert_eq!(a, row("a.txt", "modified", "metadata_only", Value::Null, Value::Null), "not followed, but there");
}

#[tokio::test]
async fn renames_deletions_modes_and_conflicts_are_told() {
    let world = World::new().await;
    let checkout = world.checkout();
    sh(&checkout, "git mv a.txt b.txt; chmod 755 b.txt");
    let bundle = world.refreshed().await;
    let file = &bundle["repositories"][0]["files"][0];
    assert_eq!(
        (&file["status"], &file["oldPath"], &file["path"]),
        (&json!("renamed"), &json!("a.txt"), &json!("b.txt"))
    );
    assert_eq!((&file["oldMode"], &file["newMode"]), (&json!("100644"), &json!("100755")));
    assert_eq!(file["renderState"], "metadata_only", "no line of it changed");
    sh(&checkout, "git reset -q --hard; git rm -q a.txt");
    assert_eq!(told(&world.refreshed().await), [row("a.txt", "deleted", "renderable", json!(0), json!(2))]);
    sh(
        &checkout,
        "git reset -q --hard; git checkout -q -b other; printf 'ours\\n' > a.txt; git commit -qam ours
         git checkout -q main; printf 'theirs\\n' > a.txt; git commit -qam theirs; git merge -q other || true",
    );
    let told = told(&world.refreshed().await);
    assert_eq!((told.len(), told[0].0.as_str(), told[0].1.as_str()), (1, "a.txt", "unmerged"));
}

#[tokio::test]
async fn what_does_not_fit_is_left_out_and_said() {
    let world = World::new().await;
    sh(
        &world.checkout(),
        "head -c 600000 /dev/zero | tr '\\0' 'x' | fold -w 80 > long
         for n in 1 2 3; do head -c 400000 /dev/zero | tr '\\0' \"$n\" | fold -w 80 > part$n; done
         mkdir many; for n in $(seq 1010); do echo $n > many/$n; done",
    );
    let bundle = world.refreshed().await;
    let files = told(&bundle);
    let repository = &bundle["repositories"][0];
    assert_eq!(
        (files.len(), &repository["omittedFileCount"]),
        (1_000, &json!(14)),
        "1014 files, of which 1000 are told"
    );
    assert_eq!(repository["truncated"], true);
    world.session.taken().diffs.clear();
    sh(&world.checkout(), "rm -r many");
    let bundle = world.refreshed().await;
    let state = |path: &str| told(&bundle).into_iter().find(|file| file.0 == path).expect("told").2;
    assert_eq!(state("long"), "too_large");
    let parts = ["part1", "part2", "part3"].map(state);
    assert_eq!(
        parts.iter().filter(|state| *state == "renderable").count(),
        2,
        "three are more than a mebibyte: {parts:?}"
    );
}

#[tokio::test]
async fn changes_are_told_after_each_prompt() {
    let world = World::new().await;
    std::fs::write(world.checkout().join("a.txt"), "changed\n").expect("written");
    world.session.prompt(&id(1), "PLAIN");
    world.session.completed(&id(1)).await;
    let bundle = world.bundle(0).await;
    assert_eq!(bundle["triggerMessageId"], id(1));
    assert_eq!(told(&bundle)[0].0, "a.txt");
}

#[tokio::test]
async fn a_failure_is_reported_and_a_session_that_takes_no_diffs_is_left_alone() {
    let world = World::new().await;
    let session = &world.session;
    session.inner.refuse_diffs_with.store(413, Ordering::Relaxed);
    session.send(&json!({"type": "refresh_diff"}));
    let said =
        eventually("a failure", Duration::from_secs(30), || session.taken().diff_failures.first().cloned()).await;
    assert_eq!(said, "No diffs today (status 413)");
    session.inner.refuse_diffs_with.store(0, Ordering::Relaxed);
    assert_eq!(told(&world.refreshed().await), [], "the next one goes");

    let git = world.checkout().join(".git");
    std::fs::rename(&git, world.checkout().join("../hidden")).expect("moved");
    session.send(&json!({"type": "refresh_diff"}));
    eventually("a failure", Duration::from_secs(30), || session.taken().diff_failures.get(1).cloned()).await;
    std::fs::rename(world.checkout().join("../hidden"), &git).expect("moved");

    session.inner.refuse_diffs_with.store(404, Ordering::Relaxed);
    let known = session.taken().diff_failures.len();
    let refused = session.taken().refused_diffs;
    session.send(&json!({"type": "refresh_diff"}));
    eventually("a refusal", Duration::from_secs(30), || (session.taken().refused_diffs > refused).then_some(())).await;
    session.prompt(&id(1), "PLAIN");
    session.completed(&id(1)).await;
    session.inner.refuse_diffs_with.store(0, Ordering::Relaxed);
    let bundles = session.taken().diffs.len();
    session.send(&json!({"type": "refresh_diff"}));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(session.taken().diffs.len(), bundles, "it is left alone");
    assert_eq!(session.taken().diff_failures.len(), known);
    assert!(Path::new(&git).exists());
}
