//! Sandboxes at vendors' clouds, from a prompt to the end, with devkit's stand-in of the vendor as the cloud and a played
//! bridge in each sandbox. How the clients class every failure is tested natively, in the control plane's own tests.
//!
//! And the vendors' own clients against the same stand-ins, so that these are what the vendors publish.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use devkit::vendors::daytona::Daytona;
use devkit::vendors::e2b::E2b;
use devkit::vendors::edge::{Fake, Trouble, Vendor};
use devkit::vendors::opencomputer::OpenComputer;
use devkit::vendors::vercel::Vercel;
use e2e::api::Person;
use e2e::backend::Backend;
use e2e::bridge::Bridge;
use e2e::stack::{Options, Stack};
use e2e::{Failed, Outcome, check, check_eq};
use oi_protocol::local_backend::CreateSandboxRequest;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::World;

const SOON: Duration = Duration::from_secs(30);
pub(crate) const KEY: &str = "the-key-of-the-vendor-in-tests";

pub(crate) type Variables = BTreeMap<String, String>;

/// A cloud that a test looks into.
pub(crate) trait Cloud {
    /// What the control plane is configured with.
    fn vars(&self) -> Vec<(&'static str, String)>;
    /// Environments of all sandboxes that were started, oldest first.
    async fn environments(&self) -> Outcome<Vec<Variables>>;
    /// Whether a stopped sandbox goes on; else its files are kept and another begins with them.
    const GOES_ON: bool;
    /// Whether sandboxes that live are there.
    async fn has_live(&self) -> Outcome<bool>;
}

impl Cloud for Fake<Daytona> {
    const GOES_ON: bool = true;

    fn vars(&self) -> Vec<(&'static str, String)> {
        vec![
            ("SANDBOX_PROVIDER", "daytona".to_owned()),
            ("DAYTONA_API_URL", self.url.clone()),
            ("DAYTONA_API_KEY", KEY.to_owned()),
            ("DAYTONA_BASE_SNAPSHOT", "base".to_owned()),
        ]
    }

    async fn environments(&self) -> Outcome<Vec<Variables>> {
        Ok(self.with(|cloud| cloud.sandboxes.iter().map(|sandbox| sandbox.env.clone()).collect()))
    }

    async fn has_live(&self) -> Outcome<bool> {
        Ok(self.with(|cloud| cloud.sandboxes.iter().any(|sandbox| sandbox.state == "started")))
    }
}

impl Cloud for Fake<E2b> {
    const GOES_ON: bool = true;

    fn vars(&self) -> Vec<(&'static str, String)> {
        vec![
            ("SANDBOX_PROVIDER", "e2b".to_owned()),
            ("E2B_API_URL", self.url.clone()),
            ("E2B_SANDBOX_URL", self.url.clone()),
            ("E2B_API_KEY", KEY.to_owned()),
            ("E2B_TEMPLATE_ID", "base".to_owned()),
        ]
    }

    async fn environments(&self) -> Outcome<Vec<Variables>> {
        Ok(self.with(|cloud| cloud.sandboxes.iter().map(|sandbox| sandbox.env.clone()).collect()))
    }

    async fn has_live(&self) -> Outcome<bool> {
        Ok(self.with(|cloud| cloud.sandboxes.iter().any(|sandbox| sandbox.state == "running")))
    }
}

impl Cloud for Fake<Vercel> {
    const GOES_ON: bool = false;

    fn vars(&self) -> Vec<(&'static str, String)> {
        vec![
            ("SANDBOX_PROVIDER", "vercel".to_owned()),
            ("VERCEL_SANDBOX_API_BASE_URL", self.url.clone()),
            ("VERCEL_TOKEN", KEY.to_owned()),
            ("VERCEL_PROJECT_ID", "prj".to_owned()),
            ("VERCEL_BASE_SNAPSHOT_ID", "base".to_owned()),
        ]
    }

    async fn environments(&self) -> Outcome<Vec<Variables>> {
        Ok(self.with(|cloud| cloud.sandboxes.iter().map(|sandbox| sandbox.env.clone()).collect()))
    }

    async fn has_live(&self) -> Outcome<bool> {
        Ok(self.with(|cloud| cloud.sandboxes.iter().any(|sandbox| sandbox.status == "running")))
    }
}

impl Cloud for Fake<OpenComputer> {
    const GOES_ON: bool = true;

    fn vars(&self) -> Vec<(&'static str, String)> {
        vec![
            ("SANDBOX_PROVIDER", "opencomputer".to_owned()),
            ("OPENCOMPUTER_API_URL", self.url.clone()),
            ("OPENCOMPUTER_API_KEY", KEY.to_owned()),
            ("OPENCOMPUTER_TEMPLATE", "base".to_owned()),
        ]
    }

    async fn environments(&self) -> Outcome<Vec<Variables>> {
        Ok(self.with(|cloud| cloud.sandboxes.iter().map(|sandbox| sandbox.envs.clone()).collect()))
    }

    async fn has_live(&self) -> Outcome<bool> {
        Ok(self.with(|cloud| cloud.sandboxes.iter().any(|sandbox| sandbox.status == "running")))
    }
}

/// Modal's app itself, on a played cloud.
struct ModalApp {
    url: String,
    _process: Child,
}

/// What `cargo xtask test` installed for this.
fn installed(name: &str) -> Outcome<String> {
    std::env::var(name).map_err(|_| Failed(format!("{name} is not set: run these tests by `cargo xtask test`")))
}

fn app_folder() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../sandbox-bridge/images/modal")
}

impl ModalApp {
    async fn start(control_plane_host: &str) -> Outcome<Self> {
        let mut process = Command::new(installed("OI_VENDOR_PYTHON")?)
            .args(["-B", "played.py", "0", KEY, control_plane_host])
            .current_dir(app_folder())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let out = process.stdout.take().ok_or_else(|| Failed("no output".to_owned()))?;
        let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(out));
        let port = tokio::time::timeout(SOON, lines.next_line()).await??;
        let port = port.ok_or_else(|| Failed("the app did not start".to_owned()))?;
        Ok(Self { url: format!("http://127.0.0.1:{port}"), _process: process })
    }

    async fn machines(&self) -> Outcome<Vec<Value>> {
        let machines: Value = reqwest::get(&self.url).await?.json().await?;
        Ok(machines.as_array().cloned().unwrap_or_default())
    }
}

impl Cloud for ModalApp {
    const GOES_ON: bool = false;

    fn vars(&self) -> Vec<(&'static str, String)> {
        vec![
            ("SANDBOX_PROVIDER", "modal".to_owned()),
            ("MODAL_API_URL", self.url.clone()),
            ("MODAL_API_SECRET", KEY.to_owned()),
            // The one that the app lets sandboxes dial.
            ("SANDBOX_CONTROL_PLANE_URL", "https://cp.example".to_owned()),
        ]
    }

    async fn environments(&self) -> Outcome<Vec<Variables>> {
        let machines = self.machines().await?;
        Ok(machines
            .into_iter()
            .map(|mut machine| serde_json::from_value(machine["environment"].take()))
            .collect::<Result<_, _>>()?)
    }

    async fn has_live(&self) -> Outcome<bool> {
        Ok(self.machines().await?.iter().any(|machine| machine["running"] == true))
    }
}

/// A system whose sandboxes are at this cloud, and idle for four seconds at most.
pub(crate) async fn stack_on(cloud: &impl Cloud, more: &[(&str, &str)]) -> Outcome<Stack> {
    // The local backend stays away.
    let unused = Backend::start().await?;
    let fixed = [("SANDBOX_INACTIVITY_TIMEOUT_MS", "4000")];
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let mut vars: Vec<(String, String)> = fixed.iter().chain(more).map(owned).collect();
    vars.extend(cloud.vars().into_iter().map(|(name, value)| (name.to_owned(), value)));
    Stack::start(Options { backend: Some((unused.url.clone(), unused.secret.clone())), vars, ..Options::default() })
        .await
}

pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> Outcome<bool>) -> Outcome {
    let begun = Instant::now();
    while begun.elapsed() < SOON {
        if holds().await? {
            return Ok(());
        }
        sleep(Duration::from_millis(100)).await;
    }
    Err(Failed(format!("not within {SOON:?}: {what}")))
}

/// The environment of the n-th sandbox, once it is started.
async fn environment(cloud: &impl Cloud, index: usize) -> Outcome<Variables> {
    let mut found = None;
    until(&format!("sandbox {index} is started"), async || {
        found = cloud.environments().await?.into_iter().nth(index);
        Ok(found.is_some())
    })
    .await?;
    found.ok_or_else(|| Failed("no environment".to_owned()))
}

/// What a bridge knows of itself in this environment.
fn bridge_in(environment: &Variables) -> Outcome<Bridge> {
    let of = |name: &str| environment.get(name).cloned().ok_or_else(|| Failed(format!("the sandbox has no {name}")));
    let config: Value = serde_json::from_str(&of("SESSION_CONFIG")?)?;
    check_eq!(config["repo_owner"], "acme", "the repository ({config})");
    Ok(Bridge::new(CreateSandboxRequest {
        sandbox_id: of("SANDBOX_ID")?,
        session_id: config["session_id"].as_str().unwrap_or_default().to_owned(),
        generation: 0,
        control_plane_url: of("CONTROL_PLANE_URL")?,
        auth_token: of("SANDBOX_AUTH_TOKEN")?,
        timeout_seconds: 0,
        vcs_host: of("VCS_HOST")?,
        repositories: Vec::new(),
        model: String::new(),
        model_providers: Vec::new(),
        env: Variables::new(),
        ..CreateSandboxRequest::default()
    }))
}

/// Connects, once the session expects it.
async fn connect(bridge: &mut Bridge, stack: &Stack) -> Outcome {
    let mut last = 0;
    until("the bridge is let in", async || match bridge.connect(&stack.ready).await? {
        Ok(()) => Ok(true),
        Err(status) => {
            last = status;
            Ok(false)
        }
    })
    .await
    .map_err(|error| Failed(format!("{error}; refused with {last}")))?;
    bridge.emit(json!({"type": "ready", "runtimeVersion": "v100-e2e"})).await;
    Ok(())
}

/// Waits for the n-th prompt and ends it well.
async fn work(bridge: &mut Bridge, count: usize) -> Outcome {
    bridge.listen(SOON, |bridge| bridge.prompts.len() >= count).await?;
    let prompt = bridge.prompts.get(count - 1).ok_or_else(|| Failed(format!("prompt {count} did not come")))?;
    let id = prompt["messageId"].clone();
    bridge.emit(json!({"type": "execution_complete", "messageId": id, "success": true})).await;
    bridge.listen(SOON, Bridge::is_settled).await?;
    check!(bridge.is_settled(), "the end is acknowledged");
    Ok(())
}

async fn status(ada: &Person, session: &str) -> Outcome<String> {
    let snapshot = ada.snapshot(session).await?;
    Ok(snapshot["session"]["sandboxStatus"].as_str().unwrap_or_default().to_owned())
}

/// A whole life: started for a prompt, reached, put away when idle, brought back for the next prompt, ended with its
/// session.
async fn live(cloud: &impl Cloud) -> Outcome {
    let stack = stack_on(cloud, &[]).await?;
    let result = Box::pin(live_on(cloud, &stack)).await;
    let result = result.map_err(|error| Failed(format!("{error}\n{}", stack.log_tails())));
    stack.stop().await?;
    result
}

async fn live_on<C: Cloud>(cloud: &C, stack: &Stack) -> Outcome {
    let ada = Person::sign_in(&stack.ready, "ada").await?;
    let settings = [
        ("sandbox", json!({"tunnelPorts": [3000], "sandboxTimeoutMs": 1_200_000})),
        ("code-server", json!({"enabled": true})),
    ];
    for (name, defaults) in settings {
        let body = json!({"settings": {"defaults": defaults}});
        let put = ada.call(Method::PUT, &format!("/api/integration-settings/{name}"), Some(&body)).await?;
        check_eq!(put.status.as_u16(), 200, "settings of {name} ({})", put.text);
    }
    let session = ada.create_session().await?;
    let first = ada.prompt(&session, "one").await?;
    let told = environment(cloud, 0).await?;
    check_eq!(told.get("SANDBOX_TIMEOUT_SECONDS").map(String::as_str), Some("1200"), "its life");
    check_eq!(told.get("RESTORED_FROM_SNAPSHOT"), None, "it begins with the repositories");
    let mut bridge = bridge_in(&told)?;
    connect(&mut bridge, stack).await?;
    // The start may still be going on while its bridge is there already.
    let mut access = ada.call(Method::GET, &format!("/api/sessions/{session}/sandbox-access"), None).await?;
    until("it is told how the sandbox is reached", async || {
        access = ada.call(Method::GET, &format!("/api/sessions/{session}/sandbox-access"), None).await?;
        Ok(!access.json["codeServer"].is_null())
    })
    .await?;
    let (url, password) = (access.json["codeServer"]["url"].as_str(), access.json["codeServer"]["password"].as_str());
    check!(url.is_some_and(|url| url.starts_with("https://")), "code-server's address: {}", access.text);
    check_eq!(password, told.get("CODE_SERVER_PASSWORD").map(String::as_str), "code-server's password");
    let port = ada.snapshot(&session).await?["session"]["tunnelUrls"]["3000"].clone();
    check!(port.as_str().is_some_and(|url| url.starts_with("https://")), "the port's address: {port}");
    work(&mut bridge, 1).await?;
    ada.wait_for_end(&session, &first, SOON).await?;

    // Nobody is there: it is put away.
    bridge.listen(SOON, |_| false).await?;
    until("it is put away", async || Ok(status(&ada, &session).await? == "stopped" && !cloud.has_live().await?))
        .await?;

    // Brought back.
    let second = ada.prompt(&session, "two").await?;
    let mut bridge = if C::GOES_ON {
        bridge
    } else {
        let told = environment(cloud, 1).await?;
        check_eq!(told.get("RESTORED_FROM_SNAPSHOT").map(String::as_str), Some("true"), "it begins with kept files");
        bridge_in(&told)?
    };
    connect(&mut bridge, stack).await?;
    check!(cloud.has_live().await?, "it lives again");
    let count = if C::GOES_ON { 2 } else { 1 };
    work(&mut bridge, count).await?;
    ada.wait_for_end(&session, &second, SOON).await?;
    let expected = if C::GOES_ON { 1 } else { 2 };
    check_eq!(cloud.environments().await?.len(), expected, "no more sandboxes than are needed");

    let deleted = ada.call(Method::DELETE, &format!("/api/sessions/{session}"), None).await?;
    check_eq!(deleted.status.as_u16(), 200, "the session is deleted ({})", deleted.text);
    until("it ends with its session", async || Ok(!cloud.has_live().await?)).await
}

pub(crate) async fn start<V: Vendor>(vendor: V) -> Outcome<Fake<V>> {
    Ok(Fake::start(vendor).await?)
}

pub async fn a_sandbox_lives_at_daytona(_: &World) -> Outcome {
    live(&start(Daytona::new(KEY, "base")).await?).await
}

pub async fn a_sandbox_lives_at_e2b(_: &World) -> Outcome {
    live(&start(E2b::new(KEY, "base")).await?).await
}

pub async fn a_sandbox_lives_at_vercel(_: &World) -> Outcome {
    live(&start(Vercel::new(KEY, "prj", "base")).await?).await
}

pub async fn a_sandbox_lives_at_opencomputer(_: &World) -> Outcome {
    live(&start(OpenComputer::new(KEY, "base")).await?).await
}

pub async fn a_sandbox_lives_at_modal_by_the_app_itself(_: &World) -> Outcome {
    live(&ModalApp::start("cp.example").await?).await
}

/// What passes is tried again, and what does not is told; a call that hangs for minutes ends by its deadline.
pub async fn failures_of_a_cloud_are_met_by_their_class(_: &World) -> Outcome {
    let cloud = start(Daytona::new(KEY, "base")).await?;
    let stack = stack_on(&cloud, &[("SANDBOX_CALL_DEADLINE_MS", "1000")]).await?;
    let result = Box::pin(failures_on(&cloud, &stack)).await;
    let result = result.map_err(|error| Failed(format!("{error}\n{}", stack.log_tails())));
    stack.stop().await?;
    result
}

async fn failures_on(cloud: &Fake<Daytona>, stack: &Stack) -> Outcome {
    let ada = Person::sign_in(&stack.ready, "ada").await?;
    let passing = [Trouble::Status(503, "soon".to_owned()), Trouble::Hang, Trouble::Endless, Trouble::Page(502)];
    for (index, trouble) in passing.into_iter().enumerate() {
        cloud.order("POST", "/sandbox", trouble, 1);
        let session = ada.create_session().await?;
        let prompt = ada.prompt(&session, "go").await?;
        let mut bridge = bridge_in(&environment(cloud, index).await?)?;
        connect(&mut bridge, stack).await?;
        work(&mut bridge, 1).await?;
        ada.wait_for_end(&session, &prompt, SOON).await?;
    }
    let before = cloud.with(|cloud| cloud.sandboxes.len());

    // One whose answer was lost is taken up: there is one.
    cloud.order_after("POST", "/sandbox", Trouble::Hang, 1);
    let session = ada.create_session().await?;
    ada.prompt(&session, "go").await?;
    let mut bridge = bridge_in(&environment(cloud, before).await?)?;
    connect(&mut bridge, stack).await?;
    work(&mut bridge, 1).await?;
    check_eq!(cloud.with(|cloud| cloud.sandboxes.len()), before + 1, "it is not started twice");

    // What lasts ends the prompt, with the vendor's sentence and no secret.
    cloud.order("POST", "/sandbox", Trouble::Status(400, format!("no such region; key {KEY}")), 50);
    let session = ada.create_session().await?;
    let prompt = ada.prompt(&session, "go").await?;
    let ended = ada.wait_for_end(&session, &prompt, Duration::from_secs(90)).await?;
    check_eq!(ended["status"], "failed", "it ends ({ended})");
    let shown = ada.snapshot(&session).await?.to_string();
    check!(shown.contains("no such region"), "people are told why: {shown}");
    check!(!shown.contains(KEY), "without the key: {shown}");
    cloud.calm();
    Ok(())
}

async fn drive(vendor: &str, at: Value) -> Outcome {
    let folder = installed("OI_VENDOR_CLIENTS")?;
    // Node finds packages from where the script lies.
    let script = std::path::Path::new(&folder).join("clients.mjs");
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("vendor-clients/clients.mjs");
    std::fs::copy(source, &script)?;
    let run = Command::new(e2e::tool("node")?).arg(&script).args([vendor, &at.to_string()]).kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_secs(90), run).await??;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    check!(output.status.success() && out.contains("\"ok\":true"), "{vendor}'s own client: {out}{err}");
    Ok(())
}

pub async fn the_vendors_own_clients_get_along_with_the_stand_ins(_: &World) -> Outcome {
    let daytona = start(Daytona::new(KEY, "base")).await?;
    drive("daytona", json!({"url": daytona.url, "key": KEY, "base": "base"})).await?;
    let e2b = start(E2b::new(KEY, "base")).await?;
    drive("e2b", json!({"url": e2b.url, "key": KEY, "base": "base"})).await?;
    let vercel = start(Vercel::new(KEY, "prj", "base")).await?;
    vercel.with(|cloud| cloud.team = Some("team_1".to_owned()));
    drive("vercel", json!({"url": vercel.url, "key": KEY, "base": "base", "project": "prj", "team": "team_1"})).await?;
    let opencomputer = start(OpenComputer::new(KEY, "base")).await?;
    drive("opencomputer", json!({"url": opencomputer.url, "key": KEY, "base": "base"})).await
}

/// The app's own tests with the real package, and every call of it against the package's published types.
pub async fn the_modal_app_is_of_the_packages_types(_: &World) -> Outcome {
    let python = installed("OI_VENDOR_PYTHON")?;
    let cache = tempfile::tempdir()?;
    let cache = cache.path().to_string_lossy().into_owned();
    let runs: [&[&str]; 2] = [
        &["-B", "-W", "ignore", "-m", "unittest", "--verbose"],
        &[
            "-m",
            "mypy",
            "--strict",
            "--cache-dir",
            &cache,
            "app.py",
            "endpoints.py",
            "played.py",
            "test_endpoints.py",
            "image.py",
        ],
    ];
    for args in runs {
        let run = Command::new(&python).args(args).current_dir(app_folder()).kill_on_drop(true).output();
        let output = tokio::time::timeout(Duration::from_secs(120), run).await??;
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        check!(output.status.success() && !said.contains("skipped"), "{args:?}: {said}");
    }
    Ok(())
}
