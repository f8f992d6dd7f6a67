//! Starting a sandbox: whether the backend is asked at all, what it is asked for, and what its answer says.

use futures_util::future::{join, join3, join4};
use oi_protocol::UnixMillis;
use oi_protocol::local_backend::{BootFrom, CreateSandboxRequest, SandboxLimits, SandboxMcpServer, SandboxServices};
use oi_session::access::SandboxAccess;
use oi_session::call::InitRepository;
use oi_session::job::{ClaimedJob, JobResult, StartFrom, StartSandbox};
use oi_worker_kit::log::Line;
use oi_worker_kit::{Failure, clock};
use worker::Env;

use crate::effects::{Failed, create_request, permanent};
use crate::handlers::mcp_servers_for;
use crate::image_builds::selection::{self, Image};
use crate::models::Models;
use crate::sandbox_access::{self, BackendAccess};
use crate::sandbox_backend::{self, BackendError, BackendSandbox, Restored, SandboxBackend};
use crate::sandbox_services;
use crate::secret_injection;
use crate::source_control::github::user_tokens;
use crate::store::backend_breakers::{self, Admission};
use crate::store::{D1, Database, DbError, image_builds, sandboxes, session_provider_auth, skills};

/// Why there is no sandbox.
enum NotStarted {
    Backend(BackendError),
    Other(Failed),
}

impl From<BackendError> for NotStarted {
    fn from(error: BackendError) -> Self {
        Self::Backend(error)
    }
}

impl From<Failed> for NotStarted {
    fn from(failed: Failed) -> Self {
        Self::Other(failed)
    }
}

/// What is only a help must not stand in the way of a sandbox.
fn log(doing: &'static str, error: &DbError) {
    Line::error("control-plane", "sandbox.start_unnoted").with("doing", doing).with("error", error.to_string()).write();
}

/// Runs one attempt.
pub(crate) async fn run(env: &Env, start: &StartSandbox, claimed: &ClaimedJob) -> Result<JobResult, Failed> {
    let (db, backend) = (D1::of(env)?, sandbox_backend::name(env));
    // Asked and noted at the same time: a start waits for one answer of the database. A note of one that is held does no harm.
    let (admission, noted) = join(
        backend_breakers::admit(&db, &backend, clock::now()),
        sandboxes::remember(&db, &start.sandbox_id, &start.session_id, clock::now()),
    )
    .await;
    let admission = admission.unwrap_or_else(|error| {
        log("asking the breaker", &error);
        Admission::Go { after_failures: false, trial: false }
    });
    let (after_failures, trial) = match admission {
        Admission::Go { after_failures, trial } => (after_failures, trial),
        Admission::Held { until, reason } => return Ok(JobResult::Held { until, error: reason }),
    };
    if let Err(error) = noted {
        log("noting its session", &error);
    }
    let error = match ask(env, start, claimed.look_first).await {
        Err(NotStarted::Backend(error)) if error.is_outage() => error,
        outcome => {
            if after_failures && let Err(error) = backend_breakers::succeeded(&db, &backend).await {
                log("closing the breaker", &error);
            }
            return match outcome {
                Ok(started) => Ok(started),
                Err(NotStarted::Backend(error)) => Err(error.into()),
                Err(NotStarted::Other(failed)) => Err(failed),
            };
        }
    };
    // One that is tried again and may pass counts nothing.
    if !trial && error.is_transient() && claimed.attempt < claimed.job.attempt_budget() {
        return Err(error.into());
    }
    match backend_breakers::failed(&db, &backend, &error.to_string(), clock::now()).await {
        Ok(Some(until)) => {
            Line::error("control-plane", "sandbox.backend_down").with("error", error.to_string()).write();
            Ok(JobResult::Held { until, error: error.to_string() })
        }
        Ok(None) => Err(error.into()),
        Err(unnoted) => {
            log("counting a failure", &unnoted);
            Err(error.into())
        }
    }
}

async fn ask(env: &Env, start: &StartSandbox, look_first: bool) -> Result<JobResult, NotStarted> {
    let (db, backend_name) = (D1::of(env).map_err(Failed::from)?, sandbox_backend::name(env));
    let backend = sandbox_backend::configured(env)?;
    // The users' secrets go from here to the backend and are kept nowhere on the way.
    let (variables, settings, image) = join3(
        secret_injection::variables(env, start),
        settings(&db, env, start),
        image(&db, &backend, &backend_name, start),
    )
    .await;
    let request = CreateSandboxRequest { env: variables?, ..create_request(env, start)? };
    let request = with_settings(env, settings.map_err(Failed::from)?, request);
    // A stopped one is there; that it goes on is asked for again.
    if look_first
        && !matches!(start.from, StartFrom::Parked { .. })
        && backend.capabilities().find
        && let Some(found) = backend.find(&request).await?
    {
        return Ok(started(env, start, found)?);
    }
    let sandbox = match &start.from {
        StartFrom::Fresh => create(&db, &backend, image, request, clock::now()).await?,
        StartFrom::Snapshot { image_id, .. } => backend.restore(&request, Restored::Image(image_id)).await?,
        StartFrom::Parked { provider_object_id } => {
            backend.restore(&request, Restored::Parked(provider_object_id)).await?
        }
    };
    Ok(started(env, start, sandbox)?)
}

/// The image that a sandbox may begin with: one that has no files of its own yet.
pub(crate) async fn image(
    db: &impl Database,
    backend: &impl SandboxBackend,
    name: &str,
    start: &StartSandbox,
) -> Option<Image> {
    if start.from != StartFrom::Fresh || !backend.capabilities().image_build {
        return None;
    }
    let found = selection::image_for(db, name, start.environment_id.as_ref(), &start.repositories).await;
    found.unwrap_or_else(|error| {
        log("looking for an image", &error);
        None
    })
}

/// Starts a sandbox with the image of what it works on, where there is one. One that the backend refuses to start is
/// never tried again: the sandbox begins with the backend's own image, and when that works, the fault was the image's.
pub(crate) async fn create(
    db: &impl Database,
    backend: &impl SandboxBackend,
    image: Option<Image>,
    request: CreateSandboxRequest,
    now: UnixMillis,
) -> Result<BackendSandbox, BackendError> {
    let Some(image) = image else { return backend.create(&request).await };
    let boot = BootFrom::RepoImage { image_id: Some(image.image_id), sha: image.sha };
    let with_image = CreateSandboxRequest { boot, ..request.clone() };
    let refused = match backend.create(&with_image).await {
        Err(error) if !error.is_transient() && !error.is_outage() => error,
        outcome => return outcome,
    };
    let sandbox = backend.create(&request).await?;
    let why = format!("No sandbox could be started with it: {refused}");
    match image_builds::restore_failed(db, &image.build_id, &why, now).await {
        Ok(noted) => Line::warn("control-plane", "sandbox.image_refused")
            .with("build_id", &image.build_id)
            .with("noted", noted)
            .with("error", refused.to_string())
            .write(),
        Err(error) => log("noting a refused image", &error),
    }
    Ok(sandbox)
}

/// What the deployment's settings and the session's own pins give a sandbox.
struct Settings {
    provider_accounts: Vec<String>,
    mcp_servers: Vec<SandboxMcpServer>,
    skills_manifest_sha256: Option<String>,
    services: SandboxServices,
    limits: SandboxLimits,
}

async fn settings(db: &D1, env: &Env, start: &StartSandbox) -> Result<Settings, Failure> {
    let repositories: Vec<String> = start.repositories.iter().map(InitRepository::path).collect();
    let (provider_accounts, mcp_servers, manifest, services) = join4(
        session_provider_auth::by_account(db, &start.session_id),
        mcp_servers_for(db, env, &repositories),
        skills::manifest(db, &start.session_id),
        sandbox_services::of_start(db, env, start),
    )
    .await;
    let provider_accounts = provider_accounts?;
    let (services, limits) = services?;
    let (mcp_servers, manifest) = (mcp_servers?, manifest?);
    let skills_manifest_sha256 = manifest.map(|found| found.manifest_sha256);
    Ok(Settings { provider_accounts, mcp_servers, skills_manifest_sha256, services, limits })
}

fn with_settings(env: &Env, settings: Settings, request: CreateSandboxRequest) -> CreateSandboxRequest {
    let Settings { provider_accounts, mcp_servers, skills_manifest_sha256, services, limits } = settings;
    let mut secrets = request.env;
    CreateSandboxRequest {
        model_providers: Models::providers_for(env, &provider_accounts, &mut secrets),
        env: secrets,
        provider_accounts,
        mcp_servers,
        services,
        limits,
        skills_manifest_sha256,
        ..request
    }
}

fn started(env: &Env, start: &StartSandbox, sandbox: BackendSandbox) -> Result<JobResult, Failed> {
    if !sandbox.running {
        return Err(permanent("the sandbox ended before it connected"));
    }
    let access = sandbox.access.map(|access| sealed(env, start, *access)).transpose()?;
    Ok(JobResult::SandboxStarted { provider_object_id: sandbox.provider_object_id, access: access.map(Box::new) })
}

fn sealed(env: &Env, start: &StartSandbox, access: BackendAccess) -> Result<SandboxAccess, Failed> {
    let key = user_tokens::sealing_key(env).map_err(Failure::from)?;
    sandbox_access::seal(&key, &start.session_id, &start.sandbox_id, access)
        .map_err(|error| permanent(error.to_string()))
}
