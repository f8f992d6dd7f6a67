//! Pull requests of sessions: read from the code host, and told to D1, where webhooks look for the session.

use std::time::Duration;

use oi_session::job::JobResult;
use oi_session::pull_request_snapshots::{RecordPullRequest, RefreshPullRequests};
use oi_worker_kit::log::Line;
use oi_worker_kit::{Failure, clock};
use worker::Env;

use crate::effects::Failed;
use crate::search_index;
use crate::source_control::{Forge, RepositoryName, SourceControl};
use crate::store::{D1, session_pull_requests};

/// After this no further pull request is asked for: the last call's own deadline is still within the job's lease.
const ASK_WITHIN: Duration = Duration::from_secs(60);

/// Reads each pull request, one after the other. One that cannot be read is left out; when none can, the job failed.
pub async fn refresh(env: &Env, refresh: &RefreshPullRequests) -> Result<JobResult, Failed> {
    let forge = Forge::of(env)?;
    let began = clock::now();
    let (mut read, mut failed) = (Vec::new(), None);
    for wanted in &refresh.pull_requests {
        if clock::now().since(began) > ASK_WITHIN.as_millis() as i64 {
            break;
        }
        let Some(name) = RepositoryName::parse(&wanted.repo_owner, &wanted.repo_name) else { continue };
        match forge.pull_request(&name, wanted.number).await {
            Ok(Some(snapshot)) => read.push((wanted.artifact_id.clone(), snapshot)),
            Ok(None) => {}
            Err(error) => {
                Line::warn("control-plane", "pull_request.unreadable")
                    .with("session_id", refresh.session_id.as_str())
                    .with("number", wanted.number)
                    .with("error", error.to_string())
                    .write();
                failed = Some(error);
            }
        }
    }
    match failed {
        Some(error) if read.is_empty() => Err(error.into()),
        _ => Ok(JobResult::PullRequestsRead { read }),
    }
}

/// Tells D1.
pub async fn record(env: &Env, record: &RecordPullRequest) -> Result<JobResult, Failed> {
    session_pull_requests::record(&D1::of(env)?, record).await.map_err(Failure::from)?;
    search_index::pull_request(env, record).await?;
    Ok(JobResult::Done)
}
