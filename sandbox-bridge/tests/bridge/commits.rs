//! Whose a sandbox's commits are, and that git itself finds their signatures good.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use crate::id;
use crate::support::eventually;
use crate::support::forge::Forge;
use crate::support::opencode::FakeOpenCode;
use crate::support::sandbox::Sandbox;
use crate::support::session::Session;
use crate::support::signing_key::{COMMITTER, COMMITTER_EMAIL, SigningKey};

struct World {
    session: Session,
    _forge: Forge,
    _opencode: FakeOpenCode,
    sandbox: Sandbox,
}

impl World {
    async fn start(key: Option<SigningKey>) -> Self {
        let (session, forge, opencode) = (Session::start().await, Forge::start().await, FakeOpenCode::start().await);
        *session.inner.signing.lock().expect("free") = key;
        let sandbox = Sandbox::with_stand_in(&session, Some(&forge), &opencode.url);
        session.booted().await;
        // Git's own lock on the settings is free again from here on.
        let config = sandbox.path("workspace/api/.git/config");
        let settled = || std::fs::read_to_string(&config).ok()?.contains("Open-Inspect").then_some(());
        eventually("the checkout's settings", Duration::from_secs(10), settled).await;
        Self { session, _forge: forge, _opencode: opencode, sandbox }
    }

    async fn prompt(&self, n: u8) {
        self.session.prompt(&id(n), "PLAIN");
        let done = self.session.completed(&id(n)).await;
        assert_eq!(done["success"], true, "{done}");
    }

    fn checkout(&self) -> PathBuf {
        self.sandbox.path("workspace/api")
    }

    /// A program as the agent runs it: in the checkout, with the supervisor's socket.
    async fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.checkout())
            .env("HOME", self.sandbox.path("home"))
            .env("TMPDIR", self.sandbox.path("tmp"))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("OI_SOCKET", self.sandbox.path("run/bridge.sock"));
        tokio::task::spawn_blocking(move || command.output().expect("it runs")).await.expect("it ends")
    }

    async fn git(&self, arguments: &[&str]) -> String {
        let output = self.run("git", arguments).await;
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    async fn verify(&self, key: &SigningKey) -> Output {
        let signers = self.sandbox.path("signers");
        std::fs::write(&signers, key.allowed()).expect("written");
        let setting = format!("gpg.ssh.allowedSignersFile={}", signers.display());
        self.run("git", &["-c", &setting, "verify-commit", "HEAD"]).await
    }

    fn replace_key(&self, key: Option<SigningKey>) -> Option<SigningKey> {
        std::mem::replace(&mut self.session.inner.signing.lock().expect("free"), key)
    }
}

/// Every git of this machine: before 2.40 the key is given to the signer as it is, from then on in a file.
fn gits() -> Vec<PathBuf> {
    let all = ["/usr/local/bin/git", "/usr/bin/git"].map(PathBuf::from);
    all.into_iter().filter(|git| git.is_file()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_is_signed_and_git_finds_the_signature_good() {
    let key = SigningKey::generate();
    let world = World::start(Some(key)).await;
    world.prompt(1).await;
    for (n, git) in gits().iter().enumerate() {
        let output = world.run(&git.display().to_string(), &["commit", "-q", "--allow-empty", "-m", "work"]).await;
        assert!(output.status.success(), "{}: {}", git.display(), String::from_utf8_lossy(&output.stderr));
        let people = world.git(&["log", "-1", "--format=%an <%ae> %cn <%ce>"]).await;
        assert_eq!(people, format!("Ada Lovelace <ada@example.com> {COMMITTER} <{COMMITTER_EMAIL}>"), "{n}");
        let key = world.replace_key(None).expect("there is one");
        let good = world.verify(&key).await;
        assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stderr));
        assert!(!world.verify(&SigningKey::generate()).await.status.success(), "another key did not sign it");
        world.replace_key(Some(key));
    }
    world.git(&["tag", "-s", "-m", "first", "v1"]).await;
    assert!(world.git(&["cat-file", "tag", "v1"]).await.contains("BEGIN SSH SIGNATURE"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_first_prompt_commits_are_the_signers_own() {
    let world = World::start(Some(SigningKey::generate())).await;
    world.git(&["commit", "-q", "--allow-empty", "-m", "by hand"]).await;
    assert_eq!(world.git(&["log", "-1", "--format=%an %cn"]).await, format!("{COMMITTER} {COMMITTER}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_signed_is_not_committed_and_stays_staged() {
    let world = World::start(Some(SigningKey::generate())).await;
    world.prompt(1).await;
    std::fs::write(world.checkout().join("new.txt"), "work").expect("written");
    world.git(&["add", "new.txt"]).await;
    let head = world.git(&["rev-parse", "HEAD"]).await;
    world.session.inner.refuse_signing_with.lock().expect("free").push_back(400);
    let refused = world.run("git", &["commit", "-qm", "work"]).await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("No signatures today"), "{said}");
    assert_eq!(world.git(&["rev-parse", "HEAD"]).await, head);
    assert_eq!(world.git(&["diff", "--cached", "--name-only"]).await, "new.txt");
    assert_eq!(left_signatures(&world.checkout()) + left_signatures(&world.sandbox.path("tmp")), 0);
    world.session.inner.refuse_signing_with.lock().expect("free").extend([503, 503]);
    world.git(&["commit", "-qm", "work"]).await;
    assert_ne!(world.git(&["rev-parse", "HEAD"]).await, head, "what passes is tried again");
}

fn left_signatures(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().contains(".sig")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_changed_signs_and_is_told_to_the_checkouts() {
    let world = World::start(Some(SigningKey::generate())).await;
    world.prompt(1).await;
    world.replace_key(Some(SigningKey::generate()));
    let reads = world.session.inner.signing_reads.load(Ordering::Relaxed);
    world.git(&["commit", "-q", "--allow-empty", "-m", "work"]).await;
    assert_eq!(world.session.inner.signing_reads.load(Ordering::Relaxed), reads + 1, "it is read once");
    let key = world.replace_key(None).expect("there is one");
    assert!(world.verify(&key).await.status.success());
    let told = world.git(&["config", "--local", "user.signingkey"]).await;
    assert_eq!(told, format!("key::{}", key.public_key.trim()));
    // Now it is turned off: this commit fails, the next one is not signed.
    let refused = world.run("git", &["commit", "-q", "--allow-empty", "-m", "more"]).await;
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("commit again"));
    world.git(&["commit", "-q", "--allow-empty", "-m", "more"]).await;
    assert!(!world.git(&["cat-file", "commit", "HEAD"]).await.contains("gpgsig"));
    assert_eq!(world.git(&["log", "-1", "--format=%cn"]).await, "Ada Lovelace");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_setting_is_read_once_for_prompts_that_follow_each_other() {
    let world = World::start(None).await;
    for n in 1..=3 {
        world.prompt(n).await;
    }
    assert_eq!(world.session.inner.signing_reads.load(Ordering::Relaxed), 1);
    let config = std::fs::read_to_string(world.checkout().join(".git/config")).expect("readable");
    assert!(config.contains("name = \"Ada Lovelace\"") && !config.contains("gpgsign"), "{config}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_earlier_runtime_left_in_a_checkout_does_not_sign_or_name_anybody() {
    let world = World::start(None).await;
    for (key, value) in [
        ("commit.gpgsign", "true"),
        ("gpg.format", "ssh"),
        ("gpg.ssh.program", "/usr/local/bin/oi-git-sign"),
        ("user.signingkey", "key::ssh-ed25519 AAAA"),
        ("author.name", "Eve"),
        ("committer.email", "eve@example.com"),
    ] {
        world.git(&["config", "--local", key, value]).await;
    }
    world.prompt(1).await;
    world.git(&["commit", "-q", "--allow-empty", "-m", "work"]).await;
    let people = world.git(&["log", "-1", "--format=%an <%ae> %cn <%ce>"]).await;
    assert_eq!(people, "Ada Lovelace <ada@example.com> Ada Lovelace <ada@example.com>");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prompt_of_nobody_is_the_signers_own() {
    let world = World::start(Some(SigningKey::generate())).await;
    world.session.send(&json!({"type": "prompt", "messageId": id(1), "content": "PLAIN", "model": "demo/scripted",
        "author": {"userId": "u", "gitIdentity": {"mode": "agent-only"}}}));
    assert_eq!(world.session.completed(&id(1)).await["success"], true);
    assert_eq!(world.git(&["var", "GIT_AUTHOR_IDENT"]).await.split(" <").next(), Some(COMMITTER));
}
