//! What sessions ask to be done outside of them.

use oi_protocol::local_backend::{CheckoutRepository, CreateSandboxRequest};
use oi_session::budgets::{Budgets, Limit};
use oi_session::call::{InitRepository, Principal, SessionCall};
use oi_session::clock::{BackendTraits, Config};
use oi_session::job::{
    ArchiveEvents, ClaimedJob, Job, JobResult, ReadArchive, ReportUsage, StartSandbox, StopSandbox, TakeSnapshot,
};
use oi_session::token::sandbox_token;
use oi_session_host::Effects;
use oi_worker_kit::log::Line;
use oi_worker_kit::vars::Vars;
use oi_worker_kit::{Failure, random};
use worker::Env;

use crate::family_effects;
use crate::media_store::{ContentType, MediaStore};
use crate::models::Models;
use crate::pull_request_effects;
use crate::pull_request_opening;
use crate::sandbox_backend::{self, BackendError, Fate, SandboxBackend};
use crate::sandbox_start;
use crate::search_index;
use crate::session_client;
use crate::source_control::{ForgeError, RepositoryName, clone_url, git_host, web_url};
use crate::store::{D1, sessions, usage};
use crate::terminal;

/// The runner of sessions' jobs, with the deployment's bindings and variables.
pub struct ControlPlaneEffects {
    env: Env,
}

/// The key of sandbox tokens: `SANDBOX_TOKEN_KEY`, hex of 32 bytes.
fn sandbox_token_key(vars: &impl Vars) -> Option<Vec<u8>> {
    hex::decode(vars.get("SANDBOX_TOKEN_KEY")?).ok().filter(|key| key.len() == 32)
}

/// `SANDBOX_TIMEOUT_SECONDS`: how long a sandbox lives.
fn life_seconds(vars: &impl Vars, default: u32) -> u32 {
    u32::try_from(vars.positive_or("SANDBOX_TIMEOUT_SECONDS", i64::from(default))).unwrap_or(default)
}

/// What the configured backend can do; nothing when none is configured, which each start says by itself.
fn backend_traits(vars: &impl Vars) -> BackendTraits {
    let Ok(backend) = sandbox_backend::configured(vars) else { return BackendTraits::default() };
    let can = backend.capabilities();
    BackendTraits {
        snapshots: can.snapshot,
        snapshot_ends: can.snapshot_ends,
        resumes: can.resume,
        max_life_seconds: can.max_life_seconds,
    }
}

/// Settings of the deployment that sessions need.
fn config(vars: &impl Vars) -> Config {
    // Without a key no sandbox is started; a random one makes sure that no token is ever accepted by chance.
    let key = sandbox_token_key(vars).unwrap_or_else(|| random::bytes::<32>().to_vec());
    let defaults = Config::with_key(key);
    Config {
        inactivity_timeout_ms: vars.positive_or("SANDBOX_INACTIVITY_TIMEOUT_MS", defaults.inactivity_timeout_ms),
        execution_timeout_ms: vars.positive_or("EXECUTION_TIMEOUT_MS", defaults.execution_timeout_ms),
        sandbox_life_seconds: life_seconds(vars, defaults.sandbox_life_seconds),
        backend: backend_traits(vars),
        budgets: Budgets { prompt: limit(vars, "BUDGET_PROMPT"), session: limit(vars, "BUDGET_SESSION") },
        retention_rows: vars.positive_or("EVENT_RETENTION_ROWS", defaults.retention_rows),
        forge_url: web_url(vars),
        fault_injection: vars.is_true("FAULT_INJECTION"),
        ..defaults
    }
}

impl ControlPlaneEffects {
    /// With the bindings of the object.
    pub fn new(env: Env) -> Self {
        Self { env }
    }
}

impl Effects for ControlPlaneEffects {
    fn config(&self) -> Config {
        config(&self.env)
    }

    fn counts_costs(&self) -> bool {
        self.env.is_true("COUNT_COSTS")
    }

    async fn run(&self, claimed: &ClaimedJob) -> JobResult {
        let outcome = match &claimed.job {
            Job::IndexSession(facts) => index(&self.env, facts).await,
            Job::StartSandbox(start) => sandbox_start::run(&self.env, start, claimed).await,
            Job::StopSandbox(stop) => stop_sandbox(&self.env, stop).await,
            Job::TakeSnapshot(take) => take_snapshot(&self.env, take, claimed.look_first).await,
            Job::DeleteSnapshot(delete) => delete_snapshot(&self.env, &delete.image_id).await,
            Job::ReportUsage(report) => report_usage(&self.env, report).await,
            Job::ArchiveEvents(archive) => archive_events(&self.env, archive).await,
            Job::ReadArchive(read) => read_archive(&self.env, read).await,
            Job::OpenPullRequest(open) => pull_request_opening::run(&self.env, open, claimed.look_first).await,
            Job::BotCallback(callback) => family_effects::tell_bot(&self.env, callback).await,
            Job::TellParent(notice) => family_effects::tell_parent(&self.env, notice).await,
            Job::OfferResult(offer) => family_effects::offer_result(&self.env, offer).await,
            Job::CopyTimeline(copy) => family_effects::copy_timeline(&self.env, copy).await,
            Job::CollectStorage(collect) => family_effects::collect_storage(&self.env, collect).await,
            Job::RefreshPullRequests(refresh) => pull_request_effects::refresh(&self.env, refresh).await,
            Job::RecordPullRequest(record) => pull_request_effects::record(&self.env, record).await,
            Job::IndexTurn(turn) => search_index::index_turn(&self.env, turn).await,
        };
        outcome.unwrap_or_else(|failed| {
            Line::warn("control-plane", "job.failed")
                .with("kind", claimed.job.kind())
                .with("attempt", claimed.attempt)
                .with("transient", failed.transient)
                .with("error", &failed.error)
                .write();
            JobResult::Failed { error: failed.error, transient: failed.transient }
        })
    }
}

/// Why an attempt failed: a sentence for people, without secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failed {
    /// The sentence.
    pub error: String,
    /// Whether a repetition may help.
    pub transient: bool,
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        let transient = failure.status() >= 500 && failure.status() != 501;
        let error = match failure {
            Failure::Refused(refusal) => refusal.sentence.into_owned(),
            Failure::Faulted(fault) => {
                Line::error("control-plane", "job.fault").with("error", fault.to_string()).write();
                "something failed on our side".to_owned()
            }
        };
        Self { error, transient }
    }
}

impl From<BackendError> for Failed {
    fn from(error: BackendError) -> Self {
        Self { transient: error.is_transient(), error: error.to_string() }
    }
}

impl From<ForgeError> for Failed {
    fn from(error: ForgeError) -> Self {
        Self { transient: error.is_transient(), error: error.to_string() }
    }
}

pub(crate) fn permanent(error: impl Into<String>) -> Failed {
    Failed { error: error.into(), transient: false }
}

async fn index(env: &Env, facts: &oi_session::job::IndexSession) -> Result<JobResult, Failed> {
    sessions::project(&D1::of(env)?, facts).await.map_err(Failure::from)?;
    search_index::session_changed(env, &facts.session_id).await?;
    Ok(JobResult::Done)
}

/// Asks the session for the rows and writes them: at most a megabyte.
async fn archive_events(env: &Env, archive: &ArchiveEvents) -> Result<JobResult, Failed> {
    let call = SessionCall::ArchiveFile { first_seq: archive.first_seq, last_seq: archive.last_seq };
    let answer = session_client::call(env, &archive.session_id, Principal::Platform, call).await?;
    if !answer.is_success() {
        return Err(permanent("the session does not ask for this file any more"));
    }
    let ndjson = ContentType("application/x-ndjson");
    MediaStore::of(env)?.put_bytes(&archive.key, answer.body.into_bytes(), ndjson).await?;
    Ok(JobResult::Done)
}

async fn read_archive(env: &Env, read: &ReadArchive) -> Result<JobResult, Failed> {
    let text = MediaStore::of(env)?.text(&read.key).await?;
    let text = text.ok_or_else(|| permanent("a file of archived events is missing"))?;
    Ok(JobResult::ArchiveRead { text })
}

/// Where machines reach us, without a slash at the end.
pub(crate) fn control_plane_url(vars: &impl Vars) -> Option<String> {
    let url = vars.get("SANDBOX_CONTROL_PLANE_URL").or_else(|| vars.get("WORKER_URL"))?;
    Some(url.trim_end_matches('/').to_owned())
}

/// What a machine checks out; `None` where the repository has no valid name.
pub(crate) fn checkout(vars: &impl Vars, repository: &InitRepository, position: u32) -> Option<CheckoutRepository> {
    let name = RepositoryName::parse(&repository.repo_owner, &repository.repo_name)?;
    Some(CheckoutRepository {
        position,
        repo_owner: repository.repo_owner.clone(),
        repo_name: repository.repo_name.clone(),
        branch: repository.base_branch.clone(),
        clone_url: clone_url(vars, &name),
        base_sha: repository.base_sha.clone(),
    })
}

/// The request that starts a sandbox.
pub(crate) fn create_request(vars: &impl Vars, start: &StartSandbox) -> Result<CreateSandboxRequest, Failed> {
    let key = sandbox_token_key(vars).ok_or_else(|| permanent("SANDBOX_TOKEN_KEY is not hex of 32 bytes"))?;
    let control_plane_url = control_plane_url(vars).ok_or_else(|| permanent("WORKER_URL is not set"))?;
    let repositories = start.repositories.iter().zip(0..).map(|(repository, position)| {
        checkout(vars, repository, position).ok_or_else(|| permanent("a repository of the session has no valid name"))
    });
    Ok(CreateSandboxRequest {
        sandbox_id: start.sandbox_id.clone(),
        session_id: start.session_id.as_str().to_owned(),
        generation: start.generation,
        control_plane_url,
        auth_token: sandbox_token(&key, &start.session_id, start.generation, &start.nonce),
        timeout_seconds: start.timeout_seconds,
        vcs_host: git_host(vars),
        repositories: repositories.collect::<Result<_, Failed>>()?,
        model: start.model.clone(),
        model_providers: Models::of(vars).providers(),
        ..CreateSandboxRequest::default()
    })
}

/// Keeps the sandbox's files, labelled so that a repetition finds them.
async fn take_snapshot(env: &Env, take: &TakeSnapshot, look_first: bool) -> Result<JobResult, Failed> {
    let backend = sandbox_backend::configured(env)?;
    let label = format!("{}-{}", take.session_id, take.number);
    let image_id = backend.take_snapshot(&take.provider_object_id, &label, look_first).await?;
    Ok(JobResult::SnapshotTaken { image_id })
}

/// A limit of the deployment's variables: `<name>_USD` and `<name>_TOKENS`. Without them there is none.
fn limit(vars: &impl Vars, name: &str) -> Limit {
    let positive = |text: String| text.parse().ok().filter(|usd: &f64| usd.is_finite() && *usd > 0.0);
    Limit {
        usd: vars.get(&format!("{name}_USD")).and_then(positive),
        tokens: Some(vars.positive_or(&format!("{name}_TOKENS"), 0)).filter(|most| *most > 0),
    }
}

/// Takes a prompt's usage, and looks how its author and the deployment stand this month.
async fn report_usage(env: &Env, report: &ReportUsage) -> Result<JobResult, Failed> {
    let db = D1::of(env)?;
    usage::report(&db, report).await.map_err(Failure::from)?;
    let over = async |who: &str, name: &str, subject: &str| -> Result<Option<String>, Failed> {
        let limit = limit(env, name);
        if limit == Limit::default() {
            return Ok(None);
        }
        let used = usage::of_month(&db, who, report.at).await.map_err(Failure::from)?;
        let most = limit.reached(used.usd, used.tokens);
        Ok(most.map(|most| format!("{subject} used up this month's budget of {most}.")))
    };
    Ok(JobResult::Standing {
        person: over(&report.user_id, "BUDGET_PERSON_MONTHLY", "You have").await?,
        deployment: over("", "BUDGET_DEPLOYMENT_MONTHLY", "The organisation has").await?,
    })
}

async fn delete_snapshot(env: &Env, image_id: &str) -> Result<JobResult, Failed> {
    sandbox_backend::configured(env)?.delete_snapshot(image_id).await?;
    Ok(JobResult::Done)
}

async fn stop_sandbox(env: &Env, stop: &StopSandbox) -> Result<JobResult, Failed> {
    let backend = sandbox_backend::configured(env)?;
    let fate = Fate::of_reason(&stop.reason);
    // People at its terminals are told before it is gone.
    let notice = terminal::Notice::Ended { generation: stop.generation };
    terminal::client::tell(env, &stop.session_id, &notice).await;
    backend.stop(&stop.sandbox_id, stop.provider_object_id.as_deref(), fate).await?;
    Ok(JobResult::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use oi_protocol::SessionId;
    use oi_session::job::StartFrom;
    use std::collections::BTreeMap;

    fn start() -> StartSandbox {
        StartSandbox {
            session_id: SessionId::from_bytes([1; 16]),
            sandbox_id: "sandbox-acme-app-1".to_owned(),
            generation: 3,
            nonce: "n".to_owned(),
            repositories: vec![InitRepository {
                repo_owner: "acme".to_owned(),
                repo_name: "app".to_owned(),
                repo_id: 7,
                base_branch: "main".to_owned(),
                base_sha: None,
            }],
            environment_id: None,
            model: "demo/scripted".to_owned(),
            timeout_seconds: 7200,
            from: StartFrom::Fresh,
        }
    }

    fn vars() -> BTreeMap<&'static str, &'static str> {
        BTreeMap::from([
            ("SANDBOX_TOKEN_KEY", "0101010101010101010101010101010101010101010101010101010101010101"),
            ("WORKER_URL", "http://127.0.0.1:8787/"),
            ("WEB_APP_URL", "http://127.0.0.1:8787"),
            ("GITHUB_URL", "http://127.0.0.1:8788"),
            ("DEMO_MODEL_URL", "http://127.0.0.1:8789/v1"),
        ])
    }

    #[test]
    fn a_repeated_start_asks_for_the_same_sandbox_with_the_same_token() {
        let first = create_request(&vars(), &start()).expect("set up");
        assert!(create_request(&vars(), &start()).expect("set up") == first);
        assert_eq!(first.repositories[0].clone_url, "http://127.0.0.1:8788/acme/app.git");
        assert_eq!(
            (first.vcs_host.as_str(), first.control_plane_url.as_str()),
            ("127.0.0.1:8788", "http://127.0.0.1:8787")
        );
        let next = create_request(&vars(), &StartSandbox { generation: 4, ..start() }).expect("set up");
        assert_ne!(next.auth_token, first.auth_token);
        let mut other = vars();
        other.insert("SANDBOX_CONTROL_PLANE_URL", "http://host:1");
        assert_eq!(create_request(&other, &start()).expect("set up").control_plane_url, "http://host:1");
    }

    #[test]
    fn without_a_key_no_sandbox_is_started() {
        let mut vars = vars();
        for bad in ["", "01", "zz"] {
            vars.insert("SANDBOX_TOKEN_KEY", bad);
            assert_eq!(create_request(&vars, &start()).err().map(|failed| failed.transient), Some(false), "{bad}");
        }
        assert_ne!(config(&vars).sandbox_token_key, config(&vars).sandbox_token_key, "and none is accepted");
    }

    #[test]
    fn settings_have_defaults_and_bounds() {
        let mut vars = vars();
        vars.insert("EXECUTION_TIMEOUT_MS", "-5");
        vars.insert("SANDBOX_INACTIVITY_TIMEOUT_MS", "1000");
        let config = config(&vars);
        assert_eq!((config.execution_timeout_ms, config.inactivity_timeout_ms), (5_400_000, 1_000));
        assert!(!config.fault_injection);
    }
}
