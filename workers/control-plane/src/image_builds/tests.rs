//! Builds from their beginning to a sandbox that begins with the image: a real database, the vendors' clients over real
//! HTTP against devkit's stand-ins, and a code host that is a table.

use std::cell::{Cell, RefCell};

use devkit::vendors::e2b::E2b as E2bCloud;
use devkit::vendors::edge::{Fake, Trouble, Vendor};
use devkit::vendors::modal::Modal as ModalCloud;
use devkit::vendors::opencomputer::OpenComputer as OpenComputerCloud;
use devkit::vendors::vercel::Vercel as VercelCloud;
use futures_util::future::join3;
use oi_protocol::SessionId;
use oi_session::job::{StartFrom, StartSandbox};
use serde_json::{Value, json};

use super::callbacks::{Complete, Failed as FailedCallback, complete, failed};
use super::finishing::Next;
use super::queue::{Message, work};
use super::starting::{Begun, begin, refresh};
use super::*;
use crate::sandbox_backend::e2b::E2b;
use crate::sandbox_backend::modal::Modal;
use crate::sandbox_backend::opencomputer::OpenComputer;
use crate::sandbox_backend::vendor_tests::{self, Native as Wire};
use crate::sandbox_backend::vercel::Vercel;
use crate::sandbox_start;
use crate::store::audit_log::tests::about_a;
use crate::store::image_builds::{self, Build, scopes};
use crate::store::integration_settings::{self, Scope};
use crate::store::native::Native;

const KEY: &str = "vendor-key-1234567890";
const SECRET: &str = "hunter2-of-the-repository";
const CLONE_TOKEN: &str = "ghs_0123456789abcdef0123";
const START: i64 = 1_800_000_000_000;

type Make<B> = Box<dyn Fn() -> Result<B, BackendError>>;

/// The outside, as a test has it.
struct Played<B> {
    db: Native,
    settings: Settings,
    make: Make<B>,
    now: Cell<i64>,
    drawn: Cell<u64>,
    head: RefCell<String>,
    published: RefCell<Vec<Message>>,
    /// What fails: `secrets`, `clone`, `queue`, `repositories`.
    broken: Cell<&'static str>,
    /// Ends builds while their secrets are read and while a backend is made, as a change of secrets does.
    ends_builds: Cell<bool>,
}

impl<B: SandboxBackend> World for Played<B> {
    type Db = Native;
    type Backend = B;

    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn db(&self) -> &Native {
        &self.db
    }

    fn backend(&self, provider: &str) -> Result<B, BackendError> {
        assert_eq!(provider, self.settings.provider);
        if self.ends_builds.get() {
            futures_executor::block_on(self.switch(false));
        }
        (self.make)()
    }

    fn now(&self) -> UnixMillis {
        UnixMillis(self.now.get())
    }

    fn random_hex(&self, bytes: usize) -> String {
        self.drawn.set(self.drawn.get() + 1);
        format!("{:0width$x}", self.drawn.get(), width = 2 * bytes)
    }

    async fn repositories(&self, scope: &ImageScope) -> Result<Vec<InitRepository>, Failure> {
        match scope {
            ImageScope::Repository(name) if name.name() == "app" && self.broken.get() != "repositories" => {
                Ok(vec![app()])
            }
            _ => Err(Refusal::not_found("Repository is not installed for the GitHub App").into()),
        }
    }

    fn checkout(&self, repository: &InitRepository, position: u32) -> Result<CheckoutRepository, Failure> {
        Ok(CheckoutRepository {
            position,
            repo_owner: repository.repo_owner.clone(),
            repo_name: repository.repo_name.clone(),
            branch: repository.base_branch.clone(),
            clone_url: "https://github.com/acme/app.git".to_owned(),
            base_sha: None,
        })
    }

    async fn secrets(&self, _: &ImageScope, repo_id: Option<i64>) -> Result<BTreeMap<String, String>, Failure> {
        assert_eq!(repo_id, Some(7));
        if self.broken.get() == "secrets" {
            return Err(Refusal::new(500, oi_protocol::ErrorCode::Internal, "`KEY` cannot be decrypted").into());
        }
        if self.ends_builds.get() {
            self.switch(false).await;
        }
        Ok(BTreeMap::from([("NPM_TOKEN".to_owned(), SECRET.to_owned())]))
    }

    async fn clone_credentials(&self, repository_ids: &[i64]) -> Result<GitCredentials, ForgeError> {
        assert_eq!(repository_ids, [7]);
        if self.broken.get() == "clone" {
            return Err(ForgeError::Setup("no token".to_owned()));
        }
        let (username, password) = ("x-access-token".to_owned(), CLONE_TOKEN.to_owned());
        Ok(GitCredentials { username, password, expires_at: UnixMillis(0) })
    }

    async fn head(&self, _: &InitRepository) -> Result<Option<String>, ForgeError> {
        Ok(Some(self.head.borrow().clone()).filter(|head| !head.is_empty()))
    }

    async fn publish(&self, message: &Message) -> Result<(), Failure> {
        if self.broken.get() == "queue" {
            return Err(oi_worker_kit::Fault::new("queueing", "it is down").into());
        }
        self.published.borrow_mut().push(message.clone());
        Ok(())
    }
}

fn name() -> RepositoryName {
    RepositoryName::parse("acme", "app").expect("a name")
}

fn scope() -> ImageScope {
    ImageScope::Repository(name())
}

fn app() -> InitRepository {
    InitRepository {
        repo_owner: "acme".to_owned(),
        repo_name: "app".to_owned(),
        repo_id: 7,
        base_branch: "main".to_owned(),
        base_sha: None,
    }
}

fn commit() -> String {
    "a".repeat(40)
}

impl<B: SandboxBackend> Played<B> {
    fn new(provider: &str, make: Make<B>) -> Self {
        let world = Self {
            db: Native::new(),
            settings: Settings {
                provider: provider.to_owned(),
                control_plane_url: "https://cp.example".to_owned(),
                pepper: "pepper".to_owned(),
                vcs_host: "github.com".to_owned(),
            },
            make,
            now: Cell::new(START),
            drawn: Cell::new(0),
            head: RefCell::new(commit()),
            published: RefCell::default(),
            broken: Cell::new(""),
            ends_builds: Cell::new(false),
        };
        futures_executor::block_on(world.switch(true));
        world
    }

    async fn switch(&self, enabled: bool) {
        let entry = about_a("image_builds.toggle");
        scopes::set_enabled(&self.db, &name(), enabled, self.now(), &entry).await.expect("runs");
    }

    fn pass(&self, minutes: i64) {
        self.now.set(self.now.get() + minutes * 60_000);
    }

    async fn row(&self, id: &str) -> Build {
        image_builds::get(&self.db, id).await.expect("runs").expect("is there")
    }

    async fn begun(&self) -> String {
        match begin(self, &scope(), false).await {
            Ok(Begun::Building(id)) => id,
            other => panic!("no build: {other:?}"),
        }
    }

    /// What the machine of a build tells when it is done.
    async fn told(&self, id: &str) -> Complete {
        let machine = self.row(id).await.provider_session_id.expect("a machine");
        let body = json!({
            "build_id": id, "provider_session_id": machine, "runtime_version": "v61-x",
            "build_duration_seconds": 12.5,
            "repository_shas": [{"repoOwner": "Acme", "repoName": "App", "baseSha": commit()}],
        });
        Complete::read(body.to_string().as_bytes()).expect("fits")
    }

    /// Works off the queue, once.
    async fn work_off(&self) -> Vec<Next> {
        let messages: Vec<Message> = self.published.borrow_mut().drain(..).collect();
        let mut outcomes = Vec::new();
        for message in &messages {
            outcomes.push(work(self, message).await.expect("works"));
        }
        outcomes
    }

    async fn needs_a_build(&self) -> Result<bool, Failure> {
        let outlooks = upkeep::outlooks(self, &[scope()]).await?;
        upkeep::needs_a_build(self, &scope(), &outlooks[0]).await
    }

    /// From nothing to an image.
    async fn built(&self, token: impl Fn() -> String) -> String {
        let id = self.begun().await;
        complete(self, Some(&token()), &self.told(&id).await).await.expect("is believed");
        assert_eq!(self.work_off().await, [Next::Done]);
        assert_eq!(self.row(&id).await.status, "ready");
        id
    }

    async fn session(&self) -> Result<crate::sandbox_backend::BackendSandbox, BackendError> {
        let start = StartSandbox {
            session_id: SessionId::from_bytes([1; 16]),
            sandbox_id: "sandbox-acme-app-1".to_owned(),
            generation: 1,
            nonce: "n".to_owned(),
            repositories: vec![app()],
            environment_id: None,
            model: "anthropic/claude-sonnet-4-6".to_owned(),
            timeout_seconds: 7_200,
            from: StartFrom::Fresh,
        };
        let (backend, request) = ((self.make)()?, vendor_tests::request());
        let image = sandbox_start::image(&self.db, &backend, &self.settings.provider, &start).await;
        sandbox_start::create(&self.db, &backend, image, request, self.now()).await
    }
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, Failure>) -> (u16, String) {
    let failure = outcome.expect_err("refused");
    (failure.status(), failure.to_string())
}

/// A build's machine is told what it needs and nothing of a session.
fn check_environment(env: &BTreeMap<String, String>, id: &str) {
    let of = |name: &str| env.get(name).map(String::as_str);
    assert_eq!((of("IMAGE_BUILD_MODE"), of("OI_REPO_IMAGE_BUILD_ID")), (Some("true"), Some(id)));
    assert_eq!(of("OI_REPO_IMAGE_CALLBACK_URL"), Some("https://cp.example/image-builds/build-complete"));
    assert_eq!(of("OI_REPO_IMAGE_FAILURE_CALLBACK_URL"), Some("https://cp.example/image-builds/build-failed"));
    assert_eq!((of("NPM_TOKEN"), of("VCS_CLONE_TOKEN")), (Some(SECRET), Some(CLONE_TOKEN)));
    assert_eq!(of("SANDBOX_ID"), Some("build-env-acme/app"));
    let config: Value = serde_json::from_str(&env["SESSION_CONFIG"]).expect("JSON");
    assert_eq!(
        config,
        json!({"branch": "main", "repositories": [{"repo_owner": "acme", "repo_name": "app", "branch": "main"}]})
    );
    for session in ["SANDBOX_AUTH_TOKEN", "CONTROL_PLANE_URL", "OI_REPO_IMAGE_PROVIDER_SESSION_ID", "VNC_PASSWORD"] {
        assert_eq!(of(session), None, "{session}");
    }
}

type E2bWorld = (Fake<E2bCloud>, Played<E2b<Wire>>);

async fn e2b() -> E2bWorld {
    e2b_by(Wire::new).await
}

async fn e2b_by(wire: fn() -> Wire) -> E2bWorld {
    let fake = Fake::start(E2bCloud::new(KEY, "tmpl")).await.expect("listens");
    let url = fake.url.clone();
    let make = move || {
        let vars = BTreeMap::from([
            ("E2B_API_URL", url.as_str()),
            ("E2B_SANDBOX_URL", url.as_str()),
            ("E2B_API_KEY", KEY),
            ("E2B_TEMPLATE_ID", "tmpl"),
            ("SANDBOX_CALL_DEADLINE_MS", "1000"),
        ]);
        E2b::of(&vars, wire())
    };
    (fake, Played::new("e2b", Box::new(make)))
}

fn e2b_token(fake: &Fake<E2bCloud>) -> String {
    fake.with(|cloud| cloud.sandboxes.last().expect("a machine").env["OI_REPO_IMAGE_CALLBACK_TOKEN"].clone())
}

fn machines(fake: &Fake<E2bCloud>) -> usize {
    fake.with(|cloud| cloud.sandboxes.len())
}

fn no_address_has_a_secret<V: Vendor>(fake: &Fake<V>, token: &str) {
    for asked in fake.seen() {
        let address = format!("{} {:?}", asked.path, asked.query);
        for secret in [SECRET, CLONE_TOKEN, KEY, token] {
            assert!(!address.contains(secret), "{address}");
        }
    }
}

#[tokio::test]
async fn at_e2b_a_build_becomes_the_image_that_a_session_begins_with() {
    let (fake, world) = e2b().await;
    let id = world.begun().await;
    fake.with(|cloud| {
        let machine = &cloud.sandboxes[0];
        check_environment(&machine.env, &id);
        let machines_id = &machine.id;
        assert!(machine.scripts[0].contains(&format!("OI_REPO_IMAGE_PROVIDER_SESSION_ID='{machines_id}'")));
        assert!(!machine.scripts[0].contains(&machine.env["OI_REPO_IMAGE_CALLBACK_TOKEN"]), "scripts are logged");
        assert_eq!((machine.timeout, machine.metadata["openinspect_build_id"].as_str()), (2_400, id.as_str()));
    });
    let token = e2b_token(&fake);
    complete(&world, Some(&token), &world.told(&id).await).await.expect("is believed");
    assert_eq!(world.work_off().await, [Next::Done]);
    assert_eq!((world.row(&id).await.status.as_str(), machines(&fake)), ("ready", 0));
    assert!(fake.with(|cloud| cloud.snapshots.values().all(|clean| *clean)), "no process is in the image");
    world.session().await.expect("starts");
    fake.with(|cloud| {
        let sandbox = &cloud.sandboxes[0];
        assert_eq!(sandbox.template, "snap1:default");
        assert_eq!(sandbox.env["FROM_REPO_IMAGE"], "true");
        assert_eq!(sandbox.env["REPO_IMAGE_SHA"], commit());
        assert!(!sandbox.env.contains_key("OI_REPO_IMAGE_CALLBACK_TOKEN"));
    });
    no_address_has_a_secret(&fake, &token);
}

#[tokio::test]
async fn a_build_has_the_time_that_is_set_for_its_repository_and_no_others() {
    let (fake, world) = e2b().await;
    for (enabled, seconds) in [(json!(["acme/other"]), 1_800), (json!(["acme/app"]), 900), (json!(null), 900)] {
        let mut settings = json!({"enabledRepos": enabled, "defaults": {"buildTimeoutSeconds": 900}});
        if enabled.is_null() {
            settings.as_object_mut().expect("an object").remove("enabledRepos");
        }
        let set = integration_settings::put("sandbox", Scope::Global, &settings, None, "u", world.now());
        world.db.batch(vec![set]).await.expect("runs");
        let id = world.begun().await;
        assert_eq!(fake.with(|cloud| cloud.sandboxes.last().expect("a machine").timeout), seconds + 600, "{settings}");
        image_builds::fail(&world.db, &id, "enough", world.now()).await.expect("runs");
        world.pass(1);
    }
}

#[tokio::test]
async fn at_modal_a_build_becomes_the_image_that_a_session_begins_with() {
    let fake = Fake::start(ModalCloud::new(KEY)).await.expect("listens");
    let url = fake.url.clone();
    let make =
        move || Modal::of(&BTreeMap::from([("MODAL_API_URL", url.as_str()), ("MODAL_API_SECRET", KEY)]), Wire::new());
    let world = Played::new("modal", Box::new(make));
    let id = world.begun().await;
    let token = fake.with(|cloud| {
        let build = &cloud.builds[0];
        assert_eq!((&build.body["clone_token"], &build.body["scope_id"]), (&json!(CLONE_TOKEN), &json!("acme/app")));
        assert_eq!(build.body["user_env_vars"], json!({"NPM_TOKEN": SECRET}));
        assert_eq!(build.body["provider_session_timeout_seconds"], 2_400);
        build.token.clone().expect("it was started")
    });
    complete(&world, Some(&token), &world.told(&id).await).await.expect("is believed");
    assert_eq!(world.work_off().await, [Next::Done]);
    assert!(!fake.with(|cloud| cloud.builds[0].running));
    world.session().await.expect("starts");
    fake.with(|cloud| {
        let body = &cloud.sandboxes[0].body;
        assert_eq!((&body["repo_image_id"], &body["repo_image_sha"]), (&json!("im-1"), &json!(commit())));
    });
    no_address_has_a_secret(&fake, &token);
}

#[tokio::test]
async fn at_vercel_a_build_becomes_the_image_that_a_session_begins_with() {
    let fake = Fake::start(VercelCloud::new(KEY, "prj", "base")).await.expect("listens");
    let url = fake.url.clone();
    let make = move || {
        let vars = BTreeMap::from([
            ("VERCEL_SANDBOX_API_BASE_URL", url.as_str()),
            ("VERCEL_TOKEN", KEY),
            ("VERCEL_PROJECT_ID", "prj"),
            ("VERCEL_BASE_SNAPSHOT_ID", "base"),
        ]);
        Vercel::of(&vars, Wire::new())
    };
    let world = Played::new("vercel", Box::new(make));
    let id = world.begun().await;
    let token = fake.with(|cloud| {
        let machine = &cloud.sandboxes[0];
        check_environment(&machine.env, &id);
        assert_eq!(machine.env["OI_IMAGE_BUILD_EXECUTION_TIMEOUT_SECONDS"], "1800");
        assert_eq!(machine.ran.len(), 1);
        machine.env["OI_REPO_IMAGE_CALLBACK_TOKEN"].clone()
    });
    complete(&world, Some(&token), &world.told(&id).await).await.expect("is believed");
    assert_eq!(world.work_off().await, [Next::Done]);
    assert_eq!(fake.with(|cloud| cloud.sandboxes[0].status.clone()), "stopped");
    world.session().await.expect("starts");
    fake.with(|cloud| {
        let sandbox = &cloud.sandboxes[1];
        assert_eq!((sandbox.source.as_deref(), sandbox.env["FROM_REPO_IMAGE"].as_str()), (Some("snap_2"), "true"));
        assert!(!sandbox.env.contains_key("RESTORED_FROM_SNAPSHOT"));
    });
    no_address_has_a_secret(&fake, &token);
}

#[tokio::test]
async fn at_opencomputer_a_build_becomes_the_image_that_a_session_begins_with() {
    let fake = Fake::start(OpenComputerCloud::new(KEY, "base")).await.expect("listens");
    let url = fake.url.clone();
    let make = move || {
        let vars = BTreeMap::from([
            ("OPENCOMPUTER_API_URL", url.as_str()),
            ("OPENCOMPUTER_API_KEY", KEY),
            ("OPENCOMPUTER_TEMPLATE", "base"),
        ]);
        OpenComputer::of(&vars, Wire::new())
    };
    let world = Played::new("opencomputer", Box::new(make));
    let id = world.begun().await;
    let token = fake.with(|cloud| {
        check_environment(&cloud.sandboxes[0].envs, &id);
        assert_eq!(cloud.sandboxes[0].scripts.len(), 1);
        cloud.sandboxes[0].envs["OI_REPO_IMAGE_CALLBACK_TOKEN"].clone()
    });
    complete(&world, Some(&token), &world.told(&id).await).await.expect("is believed");
    assert_eq!(world.work_off().await, [Next::Done]);
    assert_eq!(fake.with(|cloud| cloud.sandboxes.len()), 0, "its machine is gone");
    world.session().await.expect("starts");
    fake.with(|cloud| {
        let envs = &cloud.sandboxes[0].envs;
        assert_eq!(cloud.sandboxes[0].source, cloud.checkpoints[0].id);
        assert_eq!((envs["FROM_REPO_IMAGE"].as_str(), envs["OI_REPO_IMAGE_CALLBACK_TOKEN"].as_str()), ("true", ""));
        assert_eq!((envs["IMAGE_BUILD_MODE"].as_str(), envs["VCS_CLONE_TOKEN"].as_str()), ("false", ""));
    });
    no_address_has_a_secret(&fake, &token);
}

#[tokio::test]
async fn of_many_who_ask_at_once_one_begins_a_build() {
    let (fake, world) = e2b().await;
    let (here, key) = (scope(), scope().key());
    let (one, two, three) =
        join3(begin(&world, &here, false), begin(&world, &here, false), begin(&world, &here, true)).await;
    let all: Vec<Begun> = [one, two, three].into_iter().map(|begun| begun.expect("is answered")).collect();
    let id = image_builds::active(&world.db, &key, "e2b").await.expect("runs").expect("goes on").id;
    assert_eq!(all.iter().filter(|begun| **begun == Begun::Building(id.clone())).count(), 1);
    assert_eq!(all.iter().filter(|begun| **begun == Begun::Already(id.clone())).count(), 2);
    assert_eq!(machines(&fake), 1);
}

#[tokio::test]
async fn a_callback_is_believed_with_its_token_from_its_machine_in_time_and_once() {
    let (fake, world) = e2b().await;
    let id = world.begun().await;
    let (token, told) = (e2b_token(&fake), world.told(&id).await);
    let with = |name: &str, value: Value| {
        let machine = fake.with(|cloud| cloud.sandboxes[0].id.clone());
        let mut body = json!({"build_id": id, "provider_session_id": machine, "runtime_version": "v61-x",
            "build_duration_seconds": 12.5,
            "repository_shas": [{"repoOwner": "acme", "repoName": "app", "baseSha": commit()}]});
        body[name] = value;
        Complete::read(body.to_string().as_bytes()).expect("fits")
    };
    let unknown = refused(complete(&world, Some(&token), &with("build_id", json!("imgb-other"))).await);
    for (bearer, told) in [
        (None, told.clone()),
        (Some("short".to_owned()), told.clone()),
        (Some("f".repeat(64)), told.clone()),
        (Some(token.to_uppercase() + "x"), told.clone()),
        (Some(token.clone()), with("provider_session_id", json!("another machine"))),
    ] {
        assert_eq!(refused(complete(&world, bearer.as_deref(), &told).await), unknown, "all alike");
    }
    assert_eq!(unknown.0, 401);
    assert_eq!(world.row(&id).await.callback_token_used_at, None, "and none of it used the token");
    world.now.set(START + TOKEN_LIFE_MS);
    assert_eq!(refused(complete(&world, Some(&token), &told).await).0, 401);
    world.now.set(START + TOKEN_LIFE_MS - 1);
    complete(&world, Some(&token), &told).await.expect("is believed");
    complete(&world, Some(&token), &told).await.expect("the same again is");
    assert_eq!(world.published.borrow().len(), 2);
    let other = with("build_duration_seconds", json!(13));
    assert_eq!(refused(complete(&world, Some(&token), &other).await).0, 409);
    let body = json!({"build_id": id, "provider_session_id": fake.with(|cloud| cloud.sandboxes[0].id.clone())});
    let failure = FailedCallback::read(body.to_string().as_bytes()).expect("fits");
    assert_eq!(refused(failed(&world, Some(&token), &failure).await).0, 409);
    assert_eq!(world.work_off().await, [Next::Done, Next::Done]);
    assert_eq!(fake.with(|cloud| cloud.snapshots.len()), 1, "told twice, it is one image");
}

#[tokio::test]
async fn what_a_failed_build_says_is_shown_without_secrets_and_its_machine_ends() {
    let (fake, world) = e2b().await;
    let id = world.begun().await;
    let token = e2b_token(&fake);
    let machine = world.row(&id).await.provider_session_id;
    let error = format!("npm with {SECRET} and https://x:{CLONE_TOKEN}@github.com failed");
    let body = json!({"build_id": id, "provider_session_id": machine, "error": error});
    let told = FailedCallback::read(body.to_string().as_bytes()).expect("fits");
    for _ in 0..2 {
        failed(&world, Some(&token), &told).await.expect("is believed");
    }
    let row = world.row(&id).await;
    let shown = row.error_message.expect("a sentence");
    assert!(shown.starts_with("npm with *** and https://***@github.com failed (failure 1; built again"), "{shown}");
    assert_eq!((row.status.as_str(), machines(&fake)), ("failed", 1));
    assert_eq!(world.work_off().await, [Next::Done, Next::Done]);
    assert_eq!(machines(&fake), 0);
    assert_eq!(world.row(&id).await.provider_session_cleanup_pending, 0);
}

#[tokio::test]
async fn a_machine_that_cannot_be_made_or_started_leaves_nothing_behind() {
    let (fake, world) = e2b().await;
    let said = Trouble::Status(400, format!("bad env {SECRET} {CLONE_TOKEN}"));
    for (path, trouble, after) in [
        ("/sandboxes", said.clone(), false),
        ("/sandboxes", Trouble::CutOff, true),
        ("/process.Process/Start", said, false),
        ("/process.Process/Start", Trouble::CutOff, false),
    ] {
        if after {
            fake.order_after("POST", path, trouble.clone(), 1);
        } else {
            fake.order("POST", path, trouble.clone(), 1);
        }
        let (status, sentence) = refused(begin(&world, &scope(), false).await);
        assert_eq!(status, 500, "{path} {trouble:?}");
        assert!(!sentence.contains(SECRET) && !sentence.contains(CLONE_TOKEN), "{sentence}");
        assert_eq!(machines(&fake), 0, "{path} {trouble:?}");
        world.pass(1);
    }
    let rows = image_builds::page(&world.db, None, "e2b", None, 9).await.expect("runs");
    assert!(rows.len() == 4 && rows.iter().all(|row| row.status == "failed"), "{rows:?}");
    assert!(rows.iter().all(|row| !row.error_message.as_ref().is_some_and(|text| text.contains(SECRET))));
    world.begun().await;
}

/// Two calls of such a backend take longer than an end or a deletion may.
#[tokio::test]
async fn what_took_long_to_make_is_taken_away_all_the_same() {
    let (fake, world) = e2b_by(|| Wire::slow(15)).await;
    let said = Trouble::Status(400, "no".to_owned());
    fake.order("POST", "/process.Process/Start", said, 1);
    assert_eq!(refused(begin(&world, &scope(), false).await).0, 500);
    assert_eq!(machines(&fake), 0, "started in vain");
    world.pass(1);
    fake.order_after("POST", "/sandboxes", Trouble::CutOff, 1);
    assert_eq!(refused(begin(&world, &scope(), false).await).0, 500);
    assert_eq!(machines(&fake), 0, "its creation was not heard");
    world.pass(1);
    let id = world.begun().await;
    complete(&world, Some(&e2b_token(&fake)), &world.told(&id).await).await.expect("is believed");
    world.ends_builds.set(true);
    assert_eq!(world.work_off().await, [Next::Done]);
    assert!(fake.seen().iter().any(|asked| asked.path.ends_with("/snapshots")), "an image was made");
    assert_eq!(fake.with(|cloud| cloud.snapshots.len()), 0, "the build ended meanwhile");
}

#[tokio::test]
async fn without_its_secrets_or_its_token_nothing_is_built() {
    let (fake, world) = e2b().await;
    for broken in ["secrets", "clone"] {
        world.broken.set(broken);
        let (status, _) = refused(begin(&world, &scope(), false).await);
        assert_eq!(status, 500, "{broken}");
        world.pass(1);
    }
    assert!(fake.seen().is_empty(), "no machine was asked for");
    let rows = image_builds::page(&world.db, None, "e2b", None, 9).await.expect("runs");
    assert!(rows[1].error_message.as_ref().is_some_and(|text| text.contains("cannot be decrypted")), "{rows:?}");
    assert!(rows[0].error_message.as_ref().is_some_and(|text| !text.contains("no token")), "a fault is not told");
}

#[tokio::test]
async fn what_is_changed_while_a_build_begins_ends_it_and_its_machine() {
    let (fake, world) = e2b().await;
    world.ends_builds.set(true);
    let (status, _) = refused(begin(&world, &scope(), false).await);
    assert_eq!((status, machines(&fake)), (409, 0));
    let rows = image_builds::page(&world.db, None, "e2b", None, 9).await.expect("runs");
    assert_eq!(rows[0].status, "superseded");
}

#[tokio::test]
async fn what_made_nothing_is_tried_again_and_what_may_have_made_something_is_not() {
    let (fake, world) = e2b().await;
    let id = world.begun().await;
    complete(&world, Some(&e2b_token(&fake)), &world.told(&id).await).await.expect("is believed");
    let message = world.published.borrow()[0].clone();
    let snapshots = format!("/sandboxes/{}/snapshots", fake.with(|cloud| cloud.sandboxes[0].id.clone()));
    fake.order("POST", &snapshots, Trouble::Status(429, "slow down".to_owned()), 1);
    assert_eq!(work(&world, &message).await, Ok(Next::AgainAfter(15)));
    fake.order_after("POST", &snapshots, Trouble::CutOff, 1);
    assert_eq!(work(&world, &message).await, Ok(Next::Done));
    let row = world.row(&id).await;
    assert_eq!((row.status.as_str(), row.provider_image_id.as_deref()), ("failed", None));
    assert_eq!(work(&world, &message).await, Ok(Next::Done));
    assert_eq!((fake.with(|cloud| cloud.snapshots.len()), machines(&fake)), (1, 0), "never a second one");
}

#[tokio::test]
async fn a_lease_is_waited_for_and_one_that_ended_without_an_image_ends_the_build() {
    let (fake, world) = e2b().await;
    let id = world.begun().await;
    complete(&world, Some(&e2b_token(&fake)), &world.told(&id).await).await.expect("is believed");
    let message = world.published.borrow()[0].clone();
    let claimed = image_builds::finalization::claim(&world.db, &id, "of one that is gone", world.now()).await;
    assert!(claimed.expect("runs").is_some());
    assert_eq!(work(&world, &message).await, Ok(Next::AgainAfter(365)));
    world.pass(7);
    assert_eq!(work(&world, &message).await, Ok(Next::Done));
    let row = world.row(&id).await;
    assert!(row.error_message.is_some_and(|text| text.starts_with("It is not known whether")));
    assert_eq!((row.status.as_str(), fake.with(|cloud| cloud.snapshots.len()), machines(&fake)), ("failed", 0, 0));
}

#[tokio::test]
async fn a_message_that_is_lost_or_of_something_else_stops_nothing() {
    let (fake, world) = e2b().await;
    let id = world.begun().await;
    world.broken.set("queue");
    complete(&world, Some(&e2b_token(&fake)), &world.told(&id).await).await.expect("is believed all the same");
    world.broken.set("");
    for nothing in [Message::finish("imgb-unknown", "x"), Message::finish(&id, "another hash")] {
        assert_eq!(work(&world, &nothing).await, Ok(Next::Done));
    }
    assert_eq!(world.row(&id).await.status, "building");
    upkeep::run(&world).await;
    assert_eq!(world.work_off().await, [Next::Done]);
    assert_eq!(world.row(&id).await.status, "ready");
}

#[tokio::test]
async fn a_build_of_which_nothing_is_heard_fails_and_its_machine_ends() {
    let (fake, world) = e2b().await;
    let id = world.begun().await;
    world.pass(75);
    upkeep::run(&world).await;
    assert_eq!((world.row(&id).await.status.as_str(), machines(&fake)), ("building", 1));
    world.now.set(world.now.get() + 1);
    upkeep::run(&world).await;
    assert_eq!((world.row(&id).await.status.as_str(), machines(&fake)), ("failed", 0));
    // The next one is told by whoever asks, and does not wait for the cron.
    world.pass(90);
    let next = world.begun().await;
    world.pass(76);
    assert_ne!(world.begun().await, next);
}

#[tokio::test]
async fn a_scope_is_built_when_it_has_no_image_or_its_branch_moved_and_waits_after_failures() {
    let (fake, world) = e2b().await;
    upkeep::run(&world).await;
    let rows = image_builds::page(&world.db, None, "e2b", None, 9).await.expect("runs");
    let id = rows[0].id.clone();
    assert_eq!(world.needs_a_build().await, Ok(false), "it goes on");
    complete(&world, Some(&e2b_token(&fake)), &world.told(&id).await).await.expect("is believed");
    world.work_off().await;
    for head in [commit().to_uppercase(), String::new()] {
        *world.head.borrow_mut() = head;
        assert_eq!(world.needs_a_build().await, Ok(false), "the same, or nobody knows");
    }
    *world.head.borrow_mut() = "b".repeat(40);
    assert_eq!(world.needs_a_build().await, Ok(true));
    fake.order("POST", "/sandboxes", Trouble::Status(400, "no".to_owned()), 1);
    upkeep::run(&world).await;
    assert_eq!(world.needs_a_build().await, Ok(false), "it failed just now");
    assert_eq!(world.row(&id).await.status, "ready", "the old image serves meanwhile");
    world.pass(30);
    assert_eq!(world.needs_a_build().await, Ok(true));
    world.broken.set("repositories");
    assert_eq!(world.needs_a_build().await, Ok(false), "it cannot be worked on");
}

/// An invocation has a thousand queries.
#[tokio::test]
async fn many_scopes_that_need_nothing_cost_no_more_queries_than_one() {
    let (_fake, world) = e2b().await;
    let mut costs = Vec::new();
    for (first, last) in [(1, 1), (2, 120)] {
        for number in first..=last {
            let name = RepositoryName::parse("acme", &format!("lib{number}")).expect("a name");
            let entry = about_a("image_builds.toggle");
            scopes::set_enabled(&world.db, &name, true, world.now(), &entry).await.expect("runs");
        }
        world.switch(false).await;
        world.db.plans();
        upkeep::build_what_is_missing(&world).await.expect("runs");
        costs.push(world.db.plans());
    }
    assert_eq!(costs[0], costs[1]);
    assert_eq!(upkeep::wanted(&world).await.expect("runs").len(), 120);
}

#[tokio::test]
async fn a_change_is_built_at_once_whatever_failed_before_and_nothing_that_is_switched_off() {
    let (fake, world) = e2b().await;
    fake.order("POST", "/sandboxes", Trouble::Status(400, "no".to_owned()), 1);
    refresh(&world, &scope()).await.expect("a refusal is on the row");
    refresh(&world, &scope()).await.expect("begins");
    assert_eq!(machines(&fake), 1);
    world.switch(false).await;
    assert_eq!(work(&world, &Message::refresh(&scope())).await, Ok(Next::Done));
    assert_eq!(machines(&fake), 0, "its machine ended, and no other was made");
    upkeep::run(&world).await;
    assert_eq!(machines(&fake), 0);
}

#[tokio::test]
async fn an_image_that_was_replaced_is_deleted_and_one_that_could_not_be_is_kept_in_mind() {
    let (fake, world) = e2b().await;
    let first = world.built(|| e2b_token(&fake)).await;
    world.pass(1);
    fake.order("DELETE", "/templates", Trouble::Status(500, "no".to_owned()), 1);
    world.built(|| e2b_token(&fake)).await;
    let row = world.row(&first).await;
    assert_eq!((row.status.as_str(), row.provider_image_id.as_deref()), ("superseded", Some("snap1:default")));
    world.pass(9);
    upkeep::run(&world).await;
    assert_eq!(fake.with(|cloud| cloud.snapshots.len()), 2, "not yet");
    world.pass(1);
    upkeep::run(&world).await;
    assert_eq!(fake.with(|cloud| cloud.snapshots.keys().cloned().collect::<Vec<_>>()), ["snap2:default"]);
    world.pass(24 * 60);
    upkeep::run(&world).await;
    assert_eq!(image_builds::get(&world.db, &first).await, Ok(None), "it is forgotten a day later");
}

#[tokio::test]
async fn an_image_that_a_backend_refuses_is_tried_once_and_the_session_starts_without_it() {
    let (fake, world) = e2b().await;
    let id = world.built(|| e2b_token(&fake)).await;
    fake.with(|cloud| cloud.snapshots.clear());
    world.session().await.expect("starts");
    fake.with(|cloud| {
        assert_eq!(cloud.sandboxes[0].template, "tmpl");
        assert!(!cloud.sandboxes[0].env.contains_key("FROM_REPO_IMAGE"));
    });
    assert_eq!(world.row(&id).await.status, "failed");
    assert_eq!(world.needs_a_build().await, Ok(false), "and another is built, but not at once");
    // Where nothing starts at all, the image is not to blame.
    world.pass(60);
    let id = world.built(|| e2b_token(&fake)).await;
    fake.order("POST", "/sandboxes", Trouble::Status(400, "no".to_owned()), 2);
    assert!(world.session().await.is_err());
    fake.order("POST", "/sandboxes", Trouble::Status(503, "later".to_owned()), 1);
    assert!(world.session().await.is_err_and(|error| error.is_transient()), "an outage is told, and tried again");
    assert_eq!(world.row(&id).await.status, "ready");
}

#[tokio::test]
async fn a_session_of_another_branch_or_of_several_repositories_has_no_image() {
    let (fake, world) = e2b().await;
    world.built(|| e2b_token(&fake)).await;
    let image = async |repositories: &[InitRepository]| {
        selection::image_for(&world.db, "e2b", None, repositories).await.expect("runs")
    };
    assert!(image(&[app()]).await.is_some());
    assert_eq!(image(&[InitRepository { base_branch: "dev".to_owned(), ..app() }]).await, None);
    assert_eq!(image(&[app(), InitRepository { repo_name: "lib".to_owned(), ..app() }]).await, None);
    assert_eq!(image(&[]).await, None);
    assert_eq!(selection::image_for(&world.db, "modal", None, &[app()]).await, Ok(None), "each backend has its own");
    let old = "UPDATE image_builds SET runtime_version = 'v59'";
    world.db.change(old, vec![]).await.expect("runs");
    assert_eq!(image(&[app()]).await, None, "today's sandboxes cannot use it");
    assert_eq!(world.needs_a_build().await, Ok(true));
}

#[tokio::test]
async fn a_backend_that_builds_nothing_says_so() {
    use crate::sandbox_backend::daytona::Daytona;
    let make = || {
        let vars = BTreeMap::from([("DAYTONA_API_KEY", KEY), ("DAYTONA_BASE_SNAPSHOT", "base")]);
        Daytona::of(&vars, Wire::new())
    };
    let world = Played::new("daytona", Box::new(make));
    assert_eq!(refused(begin(&world, &scope(), false).await).0, 501);
    upkeep::run(&world).await;
    let make = || E2b::of(&BTreeMap::<&str, &str>::new(), Wire::new());
    let world = Played::new("e2b", Box::new(make));
    assert_eq!(refused(begin(&world, &scope(), false).await).0, 503);
}
