//! A session's managed skills: fetched page by page, installed as a whole, or the boot fails.

use oi_protocol::local_backend::{BootFrom, CreateSandboxRequest};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::forge::Forge;
use crate::support::opencode::FakeOpenCode;
use crate::support::sandbox::{Sandbox, config};
use crate::support::session::Session;

fn skill(name: &str, text: &str) -> Value {
    let content = format!("---\nname: {name}\ndescription: x\n---\n{text}\n");
    let hash = hex::encode(Sha256::digest(content.as_bytes()));
    json!({"name": name, "files": [{"path": "SKILL.md", "content": content, "sha256": hash,
        "sizeBytes": content.len(), "executable": false}]})
}

fn page(skills: &[Value], next: Option<&str>) -> (u16, Value) {
    (200, json!({"schemaVersion": 1, "manifestSha256": "m", "skills": skills, "nextCursor": next, "more": "ignored"}))
}

struct World {
    session: Session,
    forge: Forge,
    opencode: FakeOpenCode,
}

async fn world(pages: Vec<(u16, Value)>) -> World {
    let session = Session::start().await;
    session.taken().skills.extend(pages);
    World { session, forge: Forge::start().await, opencode: FakeOpenCode::start().await }
}

impl World {
    fn config(&self) -> CreateSandboxRequest {
        CreateSandboxRequest {
            skills_manifest_sha256: Some("m".to_owned()),
            boot: BootFrom::Fresh,
            ..config(&self.session, Some(&self.forge), "http://127.0.0.1:9/v1")
        }
    }

    fn start(&self) -> Sandbox {
        Sandbox::prepared(self.config(), &self.opencode.url, |_| {})
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skills_are_fetched_page_by_page_and_those_of_the_repository_stand() {
    let pages = vec![
        (503, json!({"error": "not now"})),
        page(&[skill("deploy", "ours"), skill("review", "ours")], Some("50")),
        page(&[skill("agent-browser", "ours"), skill("triage", "ours")], None),
    ];
    let world = world(pages).await;
    world.forge.change("api", "mkdir -p .claude/skills/review; echo theirs > .claude/skills/review/SKILL.md;");
    let mut sandbox = world.start();
    world.session.booted().await;
    let queries = world.session.taken().skill_queries.clone();
    assert_eq!(queries, ["limit=50", "limit=50", "limit=50&cursor=50"]);
    let skills = sandbox.path("home/.config/opencode/skills");
    let mut names: Vec<String> = std::fs::read_dir(&skills)
        .expect("installed")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["deploy", "triage"]);
    let warnings = world.session.warnings("assembly");
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings.iter().any(|warning| warning["message"].as_str().unwrap().contains("`review`")));
    assert_eq!(world.session.phase("skills").as_deref(), Some("completed"));
    // The next start installs what there is then.
    sandbox.crash();
    world.session.taken().skills = [page(&[skill("newer", "ours")], None)].into();
    world.session.taken().frames.clear();
    sandbox.start();
    world.session.booted().await;
    assert!(skills.join("newer/SKILL.md").exists() && !skills.join("deploy").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skills_that_cannot_be_had_fail_the_boot_and_leave_what_was_installed() {
    let mut broken = skill("deploy", "x");
    broken["files"][0]["sha256"] = json!("0".repeat(64));
    let cases = [vec![page(&[broken], None)], vec![(404, json!({"error": "gone"}))], vec![(200, json!({"odd": 1}))]];
    for pages in cases {
        let world = world(pages).await;
        let installed = "home/.config/opencode/skills/earlier/SKILL.md";
        let mut sandbox = Sandbox::prepared(world.config(), &world.opencode.url, |folder| {
            let file = folder.join(installed);
            std::fs::create_dir_all(file.parent().expect("has one")).expect("made");
            std::fs::write(file, "earlier").expect("written");
        });
        let reason = world.session.boot_failed().await;
        assert!(reason.contains("managed skills could not be installed"), "{reason}");
        assert!(sandbox.path(installed).exists());
        world.session.send(&json!({"type": "shutdown"}));
        assert_eq!(sandbox.ended().await.code(), Some(14));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_without_skills_asks_for_none() {
    let world = world(Vec::new()).await;
    let mut config = world.config();
    config.skills_manifest_sha256 = None;
    let _sandbox = Sandbox::prepared(config, &world.opencode.url, |_| {});
    world.session.booted().await;
    assert!(world.session.taken().skill_queries.is_empty());
}
