//! The build of an image: checkouts and `setup.sh`, then the callback, then nothing, so that the backend can keep a
//! machine that lives. Sandbox.md, section 1.12.

use std::sync::Arc;
use std::time::Duration;

use oi_protocol::local_backend::{CreateSandboxRequest, ImageBuild};
use oi_protocol::text::truncate_bytes;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::SuperviseError;
use super::boot::RUNTIME_VERSION;
use super::boot_plan::BootPlan;
use super::environment::{self, Recipient, Sources};
use super::failure::BootError;
use super::hooks::Hooks;
use super::places::{self, Places};
use super::teller::Teller;
use super::workspace_boot::WorkspaceBoot;
use crate::bridge::Stamp;
use crate::broker::scm_credentials::CredentialBroker;
use crate::broker::{self, Broker};
use crate::git::{Git, Workspace, sync};
use crate::secret::Secret;

const CALLBACK_WITHIN: Duration = Duration::from_secs(30);
/// Waits between the attempts at a callback.
const CALLBACK_WAITS: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(4)];
/// Longest reason of a failure: its end says most.
const ERROR_MAX_BYTES: usize = 500;

/// Builds until `signal`. A signal at any moment ends the work, tells nobody, and is an orderly end.
pub async fn run(
    config: CreateSandboxRequest,
    build: ImageBuild,
    places: Places,
    signal: impl Future<Output = ()>,
) -> Result<(), SuperviseError> {
    let began = Instant::now();
    let socket = places.socket()?;
    let program = std::env::current_exe()?;
    let config = Arc::new(config);
    let work = async {
        tracing::info!(event = "supervisor.image_build_mode", build_id = build.build_id);
        serve_credentials(&config, &build, &socket)?;
        let boot = workspace_boot(Arc::clone(&config), &places, &socket, &program).await;
        // Without a limit of its own it may take the sandbox's life.
        let limit = build.execution_timeout_seconds.unwrap_or(boot.config.timeout_seconds);
        let result = match within(limit, boot_workspace(&boot)).await {
            Ok(workspace) => {
                let duration_ms = began.elapsed().as_millis();
                tracing::info!(event = "image_build.complete", duration_ms, runtime_version = RUNTIME_VERSION);
                let body = success(&build, &workspace, began.elapsed());
                told(&build, &build.callback_url, &body).await.then_some(()).ok_or(BootError::Callback)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            tracing::error!(event = "supervisor.fatal", %error);
            told(&build, &build.failure_callback_url, &failure(&build, &error.to_string())).await;
            return Err(SuperviseError::Boot(error));
        }
        // The backend keeps the files of a machine that lives, and ends it.
        std::future::pending().await
    };
    let ended = tokio::select! {
        biased;
        () = signal => {
            tracing::info!(event = "image_build.cancelled");
            Ok(())
        }
        ended = work => ended,
    };
    places::remove_socket(&socket);
    ended
}

/// The clone token stays in this process, which answers git's credential helper.
fn serve_credentials(
    config: &CreateSandboxRequest,
    build: &ImageBuild,
    socket: &std::path::Path,
) -> Result<(), SuperviseError> {
    let clone_token = build.clone_token.clone().map(Secret::new);
    let broker = Broker {
        credentials: CredentialBroker::of_build(config.vcs_host.clone(), build.clone_username.clone(), clone_token),
        session: None,
    };
    tokio::spawn(broker::serve(broker::listen(socket)?, Arc::new(broker)));
    Ok(())
}

async fn workspace_boot(
    config: Arc<CreateSandboxRequest>,
    places: &Places,
    socket: &std::path::Path,
    program: &std::path::Path,
) -> WorkspaceBoot {
    let plan = BootPlan::of(&config.boot);
    let sources = Sources { places, config: &config, socket, program };
    let git = Git::new(environment::of(Recipient::PlatformGit, &sources));
    let environment = environment::of(Recipient::Hook, &sources);
    let found = sync::look(&git, &places.workspace, &config.repositories).await;
    // Its output may hold secrets, and an image is for many.
    let hooks = Hooks { environment, logs: None, hidden: Vec::new() };
    let teller = Teller { outbox: None, stamp: Stamp { sandbox_id: config.sandbox_id.clone() } };
    WorkspaceBoot { config, places: places.clone(), git, teller, plan, found, hooks }
}

async fn boot_workspace(boot: &WorkspaceBoot) -> Result<Workspace, BootError> {
    boot.arrange().await?;
    let workspace = boot.sync().await?;
    boot.set_up(&workspace).await?;
    Ok(workspace)
}

async fn within<T>(seconds: u32, work: impl Future<Output = Result<T, BootError>>) -> Result<T, BootError> {
    let limit = Duration::from_secs(u64::from(seconds));
    timeout(limit, work).await.unwrap_or(Err(BootError::BuildTimedOut(seconds)))
}

fn success(build: &ImageBuild, workspace: &Workspace, took: Duration) -> Value {
    let shas: Vec<Value> = workspace
        .checkouts
        .iter()
        .map(|c| json!({"repoOwner": c.owner, "repoName": c.name, "baseSha": c.base_sha}))
        .collect();
    json!({
        "build_id": build.build_id,
        "build_duration_seconds": (took.as_secs_f64() * 1000.0).round() / 1000.0,
        "repository_shas": shas,
        "runtime_version": RUNTIME_VERSION,
        "provider_session_id": build.provider_session_id,
    })
}

fn failure(build: &ImageBuild, error: &str) -> Value {
    let mut from = error.len().saturating_sub(ERROR_MAX_BYTES);
    while !error.is_char_boundary(from) {
        from += 1;
    }
    json!({
        "build_id": build.build_id,
        "error": &error[from..],
        "provider_session_id": build.provider_session_id,
    })
}

/// Posts a callback, three times at most; whether it was taken. A build without one has nobody to tell.
async fn told(build: &ImageBuild, url: &str, body: &Value) -> bool {
    if url.is_empty() {
        return true;
    }
    // A redirect would carry the bearer elsewhere.
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build();
    let (Ok(client), Some(bearer)) = (client, Secret::new(build.callback_token.clone()).bearer()) else { return false };
    let mut waits = CALLBACK_WAITS.into_iter();
    loop {
        let request = client
            .post(url)
            .header(http::header::AUTHORIZATION, bearer.clone())
            .header(http::header::USER_AGENT, "open-inspect/repo-image-builder")
            .timeout(CALLBACK_WITHIN)
            .json(body);
        match request.send().await {
            Ok(answer) if answer.status().is_success() => return true,
            Ok(answer) => tracing::warn!(event = "image_build.callback_refused", status = answer.status().as_u16()),
            // The address is left out of it.
            Err(error) => {
                let error = error.without_url().to_string();
                tracing::warn!(event = "image_build.callback_failed", error = truncate_bytes(&error, 200));
            }
        }
        match waits.next() {
            Some(wait) => sleep(wait).await,
            None => return false,
        }
    }
}
