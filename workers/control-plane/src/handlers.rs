//! What answers each route: parse, ask one service or the session, answer.

mod analytics;
mod app_config;
mod attachments;
mod auth;
mod children;
mod commit_signing;
mod diffs;
mod faults;
mod inbox;
mod integration_settings;
mod keyboard_shortcuts;
mod mcp_servers;
mod media;
mod model_preferences;
mod outputs;
mod provider_accounts;
mod provider_tokens;
mod repositories;
mod sandbox_broker;
mod sandbox_reach;
mod session_calls;
mod session_life;
mod session_list;
mod sessions;
mod settings_request;
mod skills;
mod webhook_deliveries;

pub(crate) use children::abandon as abandon_child;
pub(crate) use mcp_servers::for_session as mcp_servers_for;
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
        Handler::ListModels => app_config::models(cx).await,
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
        Handler::ProvokePanic => faults::provoke(cx).await,
        Handler::SessionCosts => faults::session_costs(cx).await,
        Handler::Inbox => inbox::list(cx).await,
        Handler::GetModelPreferences => model_preferences::get(cx).await,
        Handler::PutModelPreferences => model_preferences::put(cx).await,
        Handler::ListProviderAccounts => provider_accounts::list(cx).await,
        Handler::CreateProviderAccount => provider_accounts::create(cx).await,
        Handler::GetProviderAccount => provider_accounts::get(cx).await,
        Handler::RenameProviderAccount => provider_accounts::rename(cx).await,
        Handler::ArchiveProviderAccount => provider_accounts::archive(cx).await,
        Handler::VerifyProviderAccount => provider_accounts::verify(cx).await,
        Handler::EnableProviderAccount => provider_accounts::enable(cx).await,
        Handler::DisableProviderAccount => provider_accounts::disable(cx).await,
        Handler::ReconnectProviderAccount => provider_accounts::reconnect(cx).await,
        Handler::BeginDeviceAuthorization => provider_accounts::begin_device(cx).await,
        Handler::PollDeviceAuthorization => provider_accounts::poll_device(cx).await,
        Handler::CancelDeviceAuthorization => provider_accounts::cancel_device(cx).await,
        Handler::ListProviderDefaults => provider_accounts::defaults(cx).await,
        Handler::SetProviderDefault => provider_accounts::set_default(cx).await,
        Handler::ClearProviderDefault => provider_accounts::clear_default(cx).await,
        Handler::ProviderAccessToken => provider_tokens::access_token(cx).await,
        Handler::OpenaiTokenRefresh => provider_tokens::openai_refresh(cx).await,
        Handler::XaiTokenRefresh => provider_tokens::xai_refresh(cx).await,
        Handler::SlackChannels => integration_settings::slack_channels(cx).await,
        Handler::GetIntegration => integration_settings::get_global(cx).await,
        Handler::PutIntegration => integration_settings::put_global(cx).await,
        Handler::DeleteIntegration => integration_settings::delete_global(cx).await,
        Handler::ListIntegrationRepositories => integration_settings::list_repositories(cx).await,
        Handler::GetIntegrationRepository => integration_settings::get_repository(cx).await,
        Handler::PutIntegrationRepository => integration_settings::put_repository(cx).await,
        Handler::DeleteIntegrationRepository => integration_settings::delete_repository(cx).await,
        Handler::GetIntegrationEnvironment => integration_settings::get_environment(cx).await,
        Handler::PutIntegrationEnvironment => integration_settings::put_environment(cx).await,
        Handler::DeleteIntegrationEnvironment => integration_settings::delete_environment(cx).await,
        Handler::ResolvedIntegration => integration_settings::resolved(cx).await,
        Handler::GetScmSettings => integration_settings::get_scm(cx).await,
        Handler::PutScmSettings => integration_settings::put_scm(cx).await,
        Handler::DeleteScmSettings => integration_settings::delete_scm(cx).await,
        Handler::ListScmRepositories => integration_settings::list_scm_repositories(cx).await,
        Handler::PutScmRepository => integration_settings::put_scm_repository(cx).await,
        Handler::DeleteScmRepository => integration_settings::delete_scm_repository(cx).await,
        Handler::GetCommitSigning => commit_signing::get(cx).await,
        Handler::PutCommitSigning => commit_signing::put(cx).await,
        Handler::DeleteCommitSigning => commit_signing::delete(cx).await,
        Handler::SandboxCommitSigning => commit_signing::for_sandbox(cx).await,
        Handler::SignCommit => commit_signing::sign(cx).await,
        Handler::ListMcpServers => mcp_servers::list(cx).await,
        Handler::CreateMcpServer => mcp_servers::create(cx).await,
        Handler::GetMcpServer => mcp_servers::get(cx).await,
        Handler::PutMcpServer => mcp_servers::update(cx).await,
        Handler::DeleteMcpServer => mcp_servers::delete(cx).await,
        Handler::ListSkills => skills::list(cx).await,
        Handler::CreateSkill => skills::create(cx).await,
        Handler::PreviewSkill => skills::preview(cx),
        Handler::ResolveSkillsPreview => skills::resolve_preview(cx).await,
        Handler::GetSkill => skills::get(cx).await,
        Handler::EnableSkill => skills::set_enabled(cx).await,
        Handler::PutSkill => skills::update(cx).await,
        Handler::DeleteSkill => skills::delete(cx).await,
        Handler::ListSkillProfiles => skills::list_profiles(cx).await,
        Handler::CreateSkillProfile => skills::create_profile(cx).await,
        Handler::UpdateSkillProfile => skills::update_profile(cx).await,
        Handler::DeleteSkillProfile => skills::delete_profile(cx).await,
        Handler::SandboxSkills => skills::for_sandbox(cx).await,
        Handler::SessionSkills => skills::of_session(cx).await,
        Handler::GetShortcuts => keyboard_shortcuts::get(cx).await,
        Handler::PutShortcuts => keyboard_shortcuts::put(cx).await,
        Handler::MarkRead => inbox::mark_read(cx).await,
        Handler::AnalyticsSummary => analytics::summary(cx).await,
        Handler::AnalyticsTimeseries => analytics::timeseries(cx).await,
        Handler::AnalyticsPullRequests => analytics::pull_requests(cx).await,
        Handler::AnalyticsBreakdown => analytics::breakdown(cx).await,
    }
}
