//! What answers each route: parse, ask one service or the session, answer.

mod app_config;
mod attachments;
mod auth;
mod children;
mod diffs;
mod faults;
mod media;
mod outputs;
mod repositories;
mod sandbox_broker;
mod sandbox_reach;
mod search;
mod session_calls;
mod session_life;
mod session_list;
mod sessions;
mod webhook_deliveries;

pub(crate) use children::abandon as abandon_child;
use oi_worker_kit::{Failure, reply};
use serde_json::json;
use worker::Response;

use crate::request::Cx;
use crate::routes::Handler;

/// Answers a request of a caller whom the route's policy has admitted.
pub async fn handle(handler: Handler, cx: &Cx<'_>) -> Result<Response, Failure> {
    match handler {
        Handler::Health => reply::json(200, &json!({"status": "healthy", "service": "open-inspect-control-plane"})),
        Handler::AppConfig => app_config::show(cx),
        Handler::ListModels => app_config::models(cx),
        Handler::SignIn => auth::sign_in(cx).await,
        Handler::GithubCallback => auth::github_callback(cx).await,
        Handler::GetSession => auth::get_session(cx).await,
        Handler::SignOut => auth::sign_out(cx).await,
        Handler::SignInProviders => auth::providers(cx),
        Handler::ListRepositories => repositories::list(cx).await,
        Handler::CreateSession => sessions::create(cx).await,
        Handler::ListSessions => session_list::list(cx).await,
        Handler::SessionSnapshot => session_calls::snapshot(cx).await,
        Handler::UpdateTitle => session_calls::update_title(cx).await,
        Handler::Archive => session_calls::archive(cx).await,
        Handler::Unarchive => session_calls::unarchive(cx).await,
        Handler::Stop => session_calls::stop(cx).await,
        Handler::AnswerQuestion => session_calls::answer_question(cx).await,
        Handler::Cancel => session_calls::cancel(cx).await,
        Handler::Prompt => session_calls::prompt(cx).await,
        Handler::MintClientToken => session_calls::client_token(cx).await,
        Handler::ListEvents => session_calls::events(cx).await,
        Handler::ListMessages => session_calls::messages(cx).await,
        Handler::ListArtifacts => session_calls::artifacts(cx).await,
        Handler::ListParticipants => session_calls::participants(cx).await,
        Handler::AddParticipant => session_calls::add_participant(cx).await,
        Handler::RefreshPullRequests => session_calls::refresh_pull_requests(cx).await,
        Handler::DiffState => diffs::state(cx).await,
        Handler::PutDiff => diffs::put(cx).await,
        Handler::ReportDiffFailure => diffs::failure(cx).await,
        Handler::GetDiffFile => diffs::file(cx).await,
        Handler::RetryDiff => diffs::retry(cx).await,
        Handler::ScmCredentials => sandbox_broker::scm_credentials(cx).await,
        Handler::CreatePullRequest => sandbox_broker::create_pull_request(cx).await,
        Handler::SpawnChild => children::spawn(cx).await,
        Handler::ListChildren => children::list(cx).await,
        Handler::GetChild => children::get(cx).await,
        Handler::PromptChild => children::prompt(cx).await,
        Handler::CancelChild => children::cancel(cx).await,
        Handler::Fork => session_life::fork(cx).await,
        Handler::DeleteSession => session_life::delete(cx).await,
        Handler::ListDeliveries => session_life::deliveries(cx).await,
        Handler::StoreWebhookDelivery => webhook_deliveries::store(cx).await,
        Handler::ListWebhookDeliveries => webhook_deliveries::list(cx).await,
        Handler::PutOutput => outputs::put(cx).await,
        Handler::GetOutput => outputs::get(cx).await,
        Handler::UploadAttachment => attachments::post(cx).await,
        Handler::GetAttachment => attachments::get(cx).await,
        Handler::UploadMedia => media::post(cx).await,
        Handler::GetMedia => media::get(cx).await,
        Handler::SandboxAccess => sandbox_reach::access(cx).await,
        Handler::TunnelUrls => sandbox_reach::tunnel_urls(cx).await,
        Handler::SandboxError => sandbox_reach::error(cx).await,
        Handler::SignOutEverywhere => auth::sign_out_everywhere(cx).await,
        Handler::Search => search::search(cx).await,
        Handler::RebuildSearch => search::rebuild(cx).await,
        Handler::ProvokePanic => faults::provoke(cx).await,
        Handler::SessionCosts => faults::session_costs(cx).await,
    }
}
