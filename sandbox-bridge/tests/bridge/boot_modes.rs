//! What a sandbox begins with, and what its boot makes of it: real git, a real forge, real hooks.

use std::path::Path;
use std::time::Duration;

use oi_protocol::local_backend::{BootFrom, CheckoutRepository, CreateSandboxRequest};
use sandbox_bridge::host::processes;
use serde_json::{Value, json};

use crate::id;
use crate::support::forge::Forge;
use crate::support::opencode::FakeOpenCode;
use crate::support::sandbox::{Sandbox, config};
use crate::support::session::Session;
use crate::support::{eventually, sh};

const IMAGE: BootFrom = BootFrom::RepoImage { image_id: None, sha: None };
const RESTORE: BootFrom = BootFrom::SnapshotRestore { image_id: None };

struct World {
    session: Session,
    forge: Forge,
    opencode: FakeOpenCode,
}

async fn world() -> World {
    World { session: Session::start().await, forge: Forge::start().await, opencode: FakeOpenCode::start().await }
}

impl World {
    fn config(&self, boot: BootFrom) -> CreateSandboxRequest {
        CreateSandboxRequest { boot, ..config(&self.session, Some(&self.forge), "http://127.0.0.1:9/v1") }
    }

    fn with_second(&self, boot: BootFrom, script: &str) -> CreateSandboxRequest {
        self.forge.add("web", script);
        let mut config = self.config(boot);
        config.repositories.push(CheckoutRepository {
            position: 1,
            repo_name: "web".to_owned(),
            clone_url: self.forge.clone_url_of("web"),
            ..config.repositories[0].clone()
        });
        config
    }

    fn start(&self, config: CreateSandboxRequest, prepare: impl FnOnce(&Path)) -> Sandbox {
        Sandbox::prepared(config, &self.opencode.url, prepare)
    }
}

fn hook(folder: &Path, name: &str, script: &str) {
    let hooks = folder.join("workspace/api/.openinspect");
    std::fs::create_dir_all(&hooks).expect("made");
    std::fs::write(hooks.join(format!("{name}.sh")), script).expect("written");
}

/// HEAD, index, files: all that a restored workspace keeps.
fn state(checkout: &Path) -> (String, Vec<u8>) {
    let said = sh(
        checkout,
        "git symbolic-ref HEAD; git rev-parse HEAD; git status --porcelain; cat a.txt; cat .git/config | grep url",
    );
    (said, std::fs::read(checkout.join(".git/index")).expect("an index"))
}

/// Environments of what runs in a sandbox.
fn environments(sandbox: &Sandbox) -> Vec<Vec<u8>> {
    let all = processes::marked(&sandbox.config.sandbox_id).into_iter();
    let all = all.map(|pid| std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default());
    // One that has ended meanwhile has none.
    all.filter(|environment| !environment.is_empty()).collect()
}

fn has(environment: &[u8], variable: &str) -> bool {
    environment.split(|byte| *byte == 0).any(|found| found == variable.as_bytes())
}

async fn baseline(session: &Session) -> Value {
    session.frame("ready", |frame| frame["type"] == "ready").await["repositories"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_boot_clones_sets_up_and_starts_and_asks_the_forge_once() {
    let world = world().await;
    world.forge.change("api", "mkdir .openinspect; echo 'echo $OPENINSPECT_BOOT_MODE >> ../setup' > .openinspect/setup.sh; echo 'echo $OPENINSPECT_BOOT_MODE-$MY_OWN-$(test -e ../setup && echo after) >> ../start' > .openinspect/start.sh;");
    let sandbox = world.start(world.config(BootFrom::Fresh), |_| {});
    world.session.booted().await;
    assert_eq!(world.forge.looks(), 1, "a clone is up to date");
    let read = |name: &str| std::fs::read_to_string(sandbox.path("workspace").join(name)).expect("the hook ran");
    assert_eq!((read("setup").as_str(), read("start").as_str()), ("fresh\n", "fresh-user value-after\n"));
    for phase in ["workspace", "clone", "setup", "start", "agent", "ready"] {
        assert_eq!(world.session.phase(phase).as_deref(), Some("completed"), "{phase}");
    }
    assert_eq!(world.session.phase("fetch"), None);
    let agents = environments(&sandbox);
    assert!(!agents.is_empty() && agents.iter().all(|agent| has(agent, "OPENINSPECT_BOOT_MODE=fresh")));
    assert_eq!(baseline(&world.session).await[0]["baseSha"], world.forge.git("rev-parse main"));
    let manifest = std::fs::read_to_string(sandbox.path("tmp/oi-repo-manifest.json")).expect("written");
    let manifest: Value = serde_json::from_str(&manifest).expect("JSON");
    assert_eq!(manifest["repositories"][0]["baseSha"], world.forge.git("rev-parse main"));
    assert_eq!(manifest["repositories"][0]["path"], sandbox.path("workspace/api").display().to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supervisor_that_starts_again_moves_nothing_and_knows_where_the_session_began() {
    let world = world().await;
    world.forge.change("api", "mkdir .openinspect; echo 'echo x >> ../setup' > .openinspect/setup.sh; echo 'echo x >> ../start' > .openinspect/start.sh;");
    let began = world.forge.git("rev-parse main");
    let mut sandbox = world.start(world.config(BootFrom::Fresh), |_| {});
    world.session.booted().await;
    let checkout = sandbox.path("workspace/api");
    sh(&checkout, "git checkout -q -b work; echo mine >> a.txt; git commit -qam mine; echo more >> a.txt");
    let before = state(&checkout);
    sandbox.crash();
    world.forge.change("api", "echo theirs > b.txt;");
    world.session.taken().frames.clear();
    sandbox.start();
    world.session.booted().await;
    assert_eq!(state(&checkout), before);
    assert_eq!(baseline(&world.session).await[0]["baseSha"], began);
    assert_eq!(sh(&checkout, "git rev-parse origin/main"), world.forge.git("rev-parse main"));
    let lines =
        |name: &str| std::fs::read_to_string(sandbox.path("workspace").join(name)).expect("ran").lines().count();
    assert_eq!((lines("setup"), lines("start")), (1, 2));
    // Nor where the agent made the checkout anew, so that it has no mark.
    sh(&checkout, "git update-ref -d refs/open-inspect/baseline; git checkout -q -B main; git reset -q --hard");
    let before = state(&checkout);
    sandbox.crash();
    world.session.taken().frames.clear();
    sandbox.start();
    world.session.booted().await;
    assert_eq!(state(&checkout), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_brought_to_the_branchs_newest_commit_even_when_that_was_rewritten() {
    let world = world().await;
    let sandbox = world.start(world.config(IMAGE), |folder| {
        world.forge.check_out(folder);
        hook(folder, "setup", "touch ../setup");
        hook(folder, "start", "echo $OPENINSPECT_BOOT_MODE > ../start");
        world.forge.change("api", "git checkout -q --orphan other; echo rewritten > a.txt;");
    });
    world.session.booted().await;
    let checkout = sandbox.path("workspace/api");
    let newest = world.forge.git("rev-parse main");
    assert_eq!(
        sh(&checkout, "git rev-parse HEAD; cat a.txt; git symbolic-ref HEAD"),
        format!("{newest}\nrewritten\nrefs/heads/main")
    );
    assert_eq!(baseline(&world.session).await[0]["baseSha"], newest);
    assert!(!sandbox.path("workspace/setup").exists(), "the image was set up");
    assert_eq!(std::fs::read_to_string(sandbox.path("workspace/start")).expect("it ran"), "repo_image\n");
    assert_eq!(sh(&checkout, "git remote get-url origin"), world.forge.clone_url(), "the old address had a token");
    assert!(world.session.warnings("sync").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_cannot_be_brought_up_to_date_is_used_as_it_is_with_a_warning() {
    let world = world().await;
    let mut config = world.config(IMAGE);
    config.repositories[0].clone_url = world.forge.clone_url_of("gone");
    let sandbox = world.start(config, |folder| world.forge.check_out(folder));
    world.session.booted().await;
    let warnings = world.session.warnings("sync");
    assert_eq!((warnings.len(), &warnings[0]["repoName"]), (1, &"api".into()), "{warnings:?}");
    assert!(warnings[0]["message"].as_str().unwrap().contains("may be stale"), "{warnings:?}");
    assert_eq!(baseline(&world.session).await[0]["baseSha"], sh(&sandbox.path("workspace/api"), "git rev-parse HEAD"));
    assert_eq!(world.session.phase("fetch").as_deref(), Some("failed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_workspace_is_never_touched_whether_or_not_the_forge_answers() {
    for is_gone in [false, true] {
        let world = world().await;
        let mut config = world.config(RESTORE);
        if is_gone {
            config.repositories[0].clone_url = world.forge.clone_url_of("gone");
        }
        let address = config.repositories[0].clone_url.clone();
        let mut before = None;
        let sandbox = world.start(config, |folder| {
            world.forge.check_out(folder);
            hook(folder, "setup", "touch ../setup");
            hook(folder, "start", "echo $OPENINSPECT_BOOT_MODE > ../start");
            let checkout = folder.join("workspace/api");
            sh(&checkout, "echo staged > s; git add s; echo changed >> a.txt; git checkout -q -b work");
            sh(&checkout, &format!("git remote set-url origin {address}"));
            std::fs::write(folder.join("workspace/.tunnels.env"), "TUNNEL_3000=https://of-another\n").expect("written");
            before = Some(state(&checkout));
            world.forge.change("api", "echo new > b.txt;");
        });
        world.session.booted().await;
        let checkout = sandbox.path("workspace/api");
        assert_eq!(Some(state(&checkout)), before, "gone: {is_gone}");
        assert_eq!(world.session.warnings("sync").len(), usize::from(is_gone));
        let refreshed = sh(&checkout, "git rev-parse origin/main") == world.forge.git("rev-parse main");
        assert_eq!(refreshed, !is_gone);
        assert_eq!(baseline(&world.session).await, serde_json::json!([]), "where it began is the session's to know");
        assert!(!sandbox.path("workspace/setup").exists());
        assert_eq!(std::fs::read_to_string(sandbox.path("workspace/start")).expect("it ran"), "snapshot_restore\n");
        assert!(!sandbox.path("workspace/.tunnels.env").exists(), "it was another sandbox's");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prompt_is_given_to_the_agent_while_the_forge_is_silent_where_the_files_are_there() {
    let world = world().await;
    world.forge.hold(true);
    let sandbox = world.start(world.config(RESTORE), |folder| {
        world.forge.hold(false);
        world.forge.check_out(folder);
        world.forge.hold(true);
    });
    world.session.connected(1).await;
    world.session.prompt(&id(1), "PLAIN");
    assert_eq!(world.session.completed(&id(1)).await["success"], true);
    assert_eq!(world.session.phase("ready"), None, "the boot goes on");
    world.forge.hold(false);
    world.session.booted().await;
    drop(sandbox);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_fails_ends_the_boot_for_the_primary_repository_alone() {
    let world = world().await;
    let start = "mkdir .openinspect; echo 'echo sorry; exit 3' > .openinspect/start.sh;";
    let config = world.with_second(BootFrom::Fresh, start);
    let sandbox = world.start(config, |_| {});
    world.session.booted().await;
    let warnings = world.session.warnings("start");
    assert_eq!((warnings.len(), &warnings[0]["repoName"]), (1, &"web".into()), "{warnings:?}");
    let message = warnings[0]["message"].as_str().expect("a sentence");
    assert!(message.contains("start.sh of acme/web ended with exit status: 3"), "{message}");
    let log = std::fs::read_to_string(sandbox.path("run/hooks/start-web.log")).expect("kept");
    assert_eq!(log, "sorry\n");
    let text = std::fs::read_to_string(sandbox.path("workspace/AGENTS.md")).expect("written");
    assert!(text.contains("acme/web") && text.contains("create-pull-request"), "{text}");
    drop(sandbox);

    let world = self::world().await;
    world.forge.change("api", start);
    let mut sandbox = world.start(world.config(BootFrom::Fresh), |_| {});
    let reason = world.session.boot_failed().await;
    assert!(reason.contains("start hook failed for acme/api"), "{reason}");
    world.session.prompt(&id(1), "PLAIN");
    let done = world.session.completed(&id(1)).await;
    assert!(done["error"].as_str().unwrap().contains("start hook failed for acme/api"), "{done}");
    world.session.send(&serde_json::json!({"type": "shutdown"}));
    assert_eq!(sandbox.ended().await.code(), Some(13), "hooks have a code of their own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_setup_that_fails_is_warned_of_and_made_up_for_by_the_next_start() {
    let world = world().await;
    world
        .forge
        .change("api", "mkdir .openinspect; echo 'echo x >> ../setup; test -e ../good' > .openinspect/setup.sh;");
    let mut sandbox = world.start(world.config(BootFrom::Fresh), |_| {});
    world.session.booted().await;
    let warnings = world.session.warnings("setup");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(world.session.phase("setup").as_deref(), Some("failed"));
    for runs in [2, 2] {
        std::fs::write(sandbox.path("workspace/good"), "").expect("written");
        sandbox.crash();
        world.session.taken().frames.clear();
        sandbox.start();
        world.session.booted().await;
        let setup = std::fs::read_to_string(sandbox.path("workspace/setup")).expect("it ran");
        assert_eq!(setup.lines().count(), runs);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_lines_of_a_failed_hook_are_logged_without_the_users_values() {
    let world = world().await;
    let script = "for n in $(seq 100); do echo line-$n-; done; echo $MY_OWN; exit 1";
    world.forge.change("api", &format!("mkdir .openinspect; echo '{script}' > .openinspect/setup.sh;"));
    let sandbox = Sandbox::logged(world.config(BootFrom::Fresh), &world.opencode.url);
    world.session.booted().await;
    let log = std::fs::read_to_string(sandbox.path("log")).expect("kept");
    assert!(log.contains("line-52-") && log.contains("line-100-") && log.contains("***"), "{log}");
    assert!(!log.contains("line-51-") && !log.contains("user value"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_boot_names_every_repository_that_could_not_be_cloned_and_exits_with_its_code() {
    let world = world().await;
    let mut config = world.with_second(BootFrom::Fresh, "");
    config.repositories[1].branch = "no-such-branch".to_owned();
    config.repositories[0].clone_url = world.forge.clone_url_of("gone");
    let mut sandbox = world.start(config, |_| {});
    let reason = world.session.boot_failed().await;
    assert!(
        reason.contains("git sync failed for acme/api") && reason.contains("git sync failed for acme/web"),
        "{reason}"
    );
    world.session.send(&serde_json::json!({"type": "shutdown"}));
    assert_eq!(sandbox.ended().await.code(), Some(12));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_whose_second_repository_is_missing_goes_on_with_the_first() {
    let world = world().await;
    let mut config = world.with_second(RESTORE, "");
    config.repositories[1].branch = "no-such-branch".to_owned();
    let sandbox = world.start(config, |folder| world.forge.check_out(folder));
    world.session.booted().await;
    assert_eq!(world.session.warnings("sync").len(), 1);
    world.session.prompt(&id(1), "PLAIN");
    assert_eq!(world.session.completed(&id(1)).await["success"], true);
    drop(sandbox);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_boot_that_fails_without_a_socket_is_told_by_a_call() {
    use std::sync::atomic::Ordering;
    let world = world().await;
    // The upgrade fails in a way that is tried again.
    world.session.inner.refuse_with.store(503, Ordering::Relaxed);
    let mut config = world.config(BootFrom::Fresh);
    config.repositories[0].repo_name = "..".to_owned();
    let sandbox_id = config.sandbox_id.clone();
    let mut sandbox = world.start(config, |_| {});
    assert_eq!(sandbox.ended().await.code(), Some(10));
    let errors = world.session.taken().boot_errors.clone();
    assert_eq!(errors.len(), 1);
    assert_eq!((&errors[0]["sandbox"], &errors[0]["fatal"]), (&sandbox_id.into(), &true.into()));
    assert!(errors[0]["error"].as_str().unwrap().contains("invalid repository config"), "{errors:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_waits_for_the_addresses_of_the_ports() {
    let world = world().await;
    world.forge.change("api", "mkdir .openinspect; echo 'cat ../.tunnels.env > ../seen' > .openinspect/start.sh;");
    let mut config = world.config(BootFrom::Fresh);
    config.services.tunnel_ports = vec![3000];
    let line = format!("TUNNEL_SANDBOX_ID={}\nTUNNEL_3000=https://a.example\n", config.sandbox_id);
    let sandbox = world.start(config, |_| {});
    let waits = |f: &Value| f["phase"] == "tunnels" && f["status"] == "started";
    world.session.frame("the wait", waits).await;
    std::fs::write(sandbox.path("workspace/.tunnels.env"), &line).expect("written");
    world.session.booted().await;
    assert_eq!(std::fs::read_to_string(sandbox.path("workspace/seen")).expect("it ran"), line);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_that_the_backend_cannot_write_are_asked_for() {
    let world = world().await;
    world.forge.change("api", "mkdir .openinspect; echo 'cat ../.tunnels.env > ../seen' > .openinspect/start.sh;");
    let mut config = world.config(BootFrom::Fresh);
    config.services.tunnel_ports = vec![3000, 80];
    let lines = format!(
        "TUNNEL_SANDBOX_ID={}\nTUNNEL_80=https://b.example\nTUNNEL_3000=https://a.example\n",
        config.sandbox_id
    );
    // Not all of them yet.
    *world.session.inner.tunnel_urls.lock().expect("no panic") = json!({"80": "https://b.example"});
    let sandbox = world.start(config, |_| {});
    let waits = |f: &Value| f["phase"] == "tunnels" && f["status"] == "started";
    world.session.frame("the wait", waits).await;
    let urls = json!({"3000": "https://a.example", "80": "https://b.example", "9": "https://not-expected.example"});
    *world.session.inner.tunnel_urls.lock().expect("no panic") = urls;
    world.session.booted().await;
    assert_eq!(std::fs::read_to_string(sandbox.path("workspace/seen")).expect("it ran"), lines);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_configuration_of_several_repositories_is_put_together_with_a_warning() {
    let world = world().await;
    let folder = "mkdir -p .opencode/agent; echo one > .opencode/agent/a.md;";
    world.forge.change("api", folder);
    let sandbox = world.start(world.with_second(BootFrom::Fresh, folder), |_| {});
    world.session.booted().await;
    assert!(sandbox.path("workspace/.opencode/agent/a.md").exists());
    assert!(sandbox.path("workspace/.opencode/package.json").exists(), "nothing is installed");
    let warnings = world.session.warnings("assembly");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0]["message"].as_str().unwrap().contains("acme/web takes the place of that of acme/api"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_during_the_boot_ends_all_that_it_started() {
    let world = world().await;
    world.forge.change("api", "mkdir .openinspect; echo 'touch ../began; sleep 60' > .openinspect/setup.sh;");
    let mut sandbox = world.start(world.config(BootFrom::Fresh), |_| {});
    let began = sandbox.path("workspace/began");
    eventually("the hook", Duration::from_secs(20), || began.exists().then_some(())).await;
    sandbox.terminate();
    assert!(sandbox.ended().await.success());
    let none = || environments(&sandbox).is_empty().then_some(());
    eventually("nothing of it lives", Duration::from_secs(5), none).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_workspace_knows_where_its_session_began_by_its_mark() {
    let world = world().await;
    let mut sandbox = world.start(world.config(BootFrom::Fresh), |_| {});
    world.session.booted().await;
    let began = world.forge.git("rev-parse main");
    sh(&sandbox.path("workspace/api"), "echo mine >> a.txt; git -c user.name=A -c user.email=a@b commit -qam mine");
    sandbox.crash();
    world.session.taken().frames.clear();
    sandbox.config.boot = RESTORE;
    sandbox.start();
    world.session.booted().await;
    assert_eq!(baseline(&world.session).await[0]["baseSha"], began, "as a fork of it is told");
}
