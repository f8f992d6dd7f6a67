//! What answers each route: parse, ask one service or the session, answer.

mod analytics;
mod app_config;
mod attachments;
mod audit_log;
mod auth;
mod children;
mod commit_signing;
mod diffs;
mod environments;
mod faults;
mod image_builds;
mod inbox;
mod integration_settings;
mod keyboard_shortcuts;
mod mcp_servers;
mod media;
mod model_preferences;
mod outputs;
mod participant_profiles;
mod people;
mod personal_tokens;
mod provider_accounts;
mod provider_tokens;
mod repositories;
mod repository_metadata;
mod sandbox_broker;
mod sandbox_reach;
mod search;
mod secrets;
mod session_calls;
mod session_life;
mod session_list;
mod sessions;
mod settings_request;
mod skills;
mod terminal;
mod webhook_deliveries;

pub(crate) use children::abandon as abandon_child;
pub(crate) use mcp_servers::for_session as mcp_servers_for;
use oi_protocol::ErrorCode;
use oi_worker_kit::{Failure, Refusal, reply};
use serde_json::json;
use worker::Response;

use crate::auth::sign_in::Provider;
use crate::request::Cx;
use crate::routes::Handler;

/// Answers a request of a caller whom the route's policy has admitted.
pub async fn handle(handler: Handler, cx: &Cx<'_>) -> Result<Response, Failure> {
    match handler {
        Handler::Health => reply::json(200, &json!({"status": "healthy", "service": "open-inspect-control-plane"})),
        Handler::AppConfig => app_config::show(cx),
        Handler::ListModels => app_config::models(cx).await,
        Handler::SignIn => auth::sign_in(cx).await,
        Handler::GithubCallback => auth::callback(cx, Provider::Github).await,
        Handler::GoogleCallback => auth::callback(cx, Provider::Google).await,
        Handler::SignInError => auth::error(cx),
        Handler::GetSession => auth::get_session(cx).await,
        Handler::SignOut => auth::sign_out(cx).await,
        Handler::SignInProviders => auth::providers(cx),
        Handler::ListRepositories => repositories::list(cx).await,
        Handler::ListBranches => repositories::branches(cx).await,
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
        Handler::ListParticipantProfiles => participant_profiles::list(cx).await,
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
        Handler::TerminalBridge | Handler::TerminalViewer => terminal::without_upgrade(cx).await,
        Handler::TunnelUrls => sandbox_reach::tunnel_urls(cx).await,
        Handler::SandboxError => sandbox_reach::error(cx).await,
        Handler::SignOutEverywhere => auth::sign_out_everywhere(cx).await,
        Handler::ListGlobalSecrets => secrets::list_global(cx).await,
        Handler::PutGlobalSecrets => secrets::put_global(cx).await,
        Handler::DeleteGlobalSecret => secrets::delete_global(cx).await,
        Handler::ListRepositorySecrets => secrets::list_of_repository(cx).await,
        Handler::PutRepositorySecrets => secrets::put_of_repository(cx).await,
        Handler::DeleteRepositorySecret => secrets::delete_of_repository(cx).await,
        Handler::ListEnvironmentSecrets => secrets::list_of_environment(cx).await,
        Handler::PutEnvironmentSecrets => secrets::put_of_environment(cx).await,
        Handler::DeleteEnvironmentSecret => secrets::delete_of_environment(cx).await,
        Handler::ImportSecrets => secrets::import(cx).await,
        Handler::SecretRotation => secrets::rotation(cx).await,
        Handler::GetRepositoryMetadata => repository_metadata::get(cx).await,
        Handler::PutRepositoryMetadata => repository_metadata::put(cx).await,
        Handler::ListEnvironments => environments::list(cx).await,
        Handler::CreateEnvironment => environments::create(cx).await,
        Handler::GetEnvironment => environments::get(cx).await,
        Handler::UpdateEnvironment => environments::update(cx).await,
        Handler::DeleteEnvironment => environments::delete(cx).await,
        Handler::Search => search::search(cx).await,
        Handler::RebuildSearch => search::rebuild(cx).await,
        Handler::ProvokePanic => faults::provoke(cx).await,
        Handler::SessionCosts => faults::session_costs(cx).await,
        Handler::ListPersonalTokens => personal_tokens::list(cx).await,
        Handler::CreatePersonalToken => personal_tokens::create(cx).await,
        Handler::RevokePersonalToken => personal_tokens::revoke(cx).await,
        Handler::ListPeople => people::list(cx).await,
        Handler::ChangePerson => people::change(cx).await,
        Handler::SignOutPerson => people::sign_out(cx).await,
        Handler::ListAuditLog => audit_log::list(cx).await,
        Handler::ImageBuildComplete => image_builds::complete(cx).await,
        Handler::ImageBuildFailed => image_builds::failed(cx).await,
        Handler::TriggerEnvironmentImage => image_builds::trigger_environment(cx).await,
        Handler::TriggerRepositoryImage => image_builds::trigger_repository(cx).await,
        Handler::ToggleRepositoryImages => image_builds::toggle(cx).await,
        Handler::ListImageBuilds => image_builds::status(cx).await,
        Handler::ListImageUnits => image_builds::enabled(cx).await,
        Handler::ListImageRepositories => image_builds::enabled_repositories(cx).await,
        Handler::Inbox => inbox::list(cx).await,
        Handler::GetModelPreferences => model_preferences::get(cx).await,
        Handler::PutModelPreferences => model_preferences::put(cx).await,
        Handler::ListProviderAccounts => provider_accounts::list(cx).await,
        Handler::ListLegacyCredentials => provider_accounts::legacy_credentials(cx).await,
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

/// Answers an upgrade of a caller whom the route's policy has admitted.
pub async fn upgrade(handler: Handler, cx: &Cx<'_>) -> Result<Response, Failure> {
    match handler {
        Handler::TerminalBridge => terminal::connect_bridge(cx).await,
        Handler::TerminalViewer => terminal::connect_viewer(cx).await,
        _ => Err(Refusal::invalid_parameter("This path takes no WebSocket upgrades").into()),
    }
}

/// Rows of a page when nobody says how many, and at most.
const PAGE: i64 = 50;
const PAGE_MAX: i64 = 100;

/// `limit` and `cursor` of a list. A cursor that this list did not give is refused.
fn page<T>(cx: &Cx<'_>, read: impl Fn(&str) -> Option<T>) -> Result<(i64, Option<T>), Refusal> {
    page_of(cx.head.query_value("limit").as_deref(), cx.head.query_value("cursor").as_deref(), read)
}

fn page_of<T>(
    limit: Option<&str>,
    cursor: Option<&str>,
    read: impl Fn(&str) -> Option<T>,
) -> Result<(i64, Option<T>), Refusal> {
    let limit = limit.map_or(Some(PAGE), |text| text.parse().ok()).filter(|limit| (1..=PAGE_MAX).contains(limit));
    let limit = limit.ok_or_else(|| Refusal::invalid_parameter("limit must be between 1 and 100"))?;
    let cursor = cursor
        .map(|text| read(text).ok_or_else(|| Refusal::new(400, ErrorCode::InvalidCursor, "Invalid cursor")))
        .transpose()?;
    Ok((limit, cursor))
}

/// Cuts a list that was read one row too long; the cursor of the next page when there was that row.
fn cut<T>(rows: &mut Vec<T>, limit: i64, cursor: impl Fn(&T) -> String) -> Option<String> {
    let more = rows.len() as i64 > limit;
    rows.truncate(limit as usize);
    rows.last().filter(|_| more).map(cursor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_a_length_and_a_cursor_of_its_own_list() {
        let read = |text: &str| text.parse::<i64>().ok();
        assert_eq!(page_of(None, None, read), Ok((PAGE, None)));
        assert_eq!(page_of(Some("7"), Some("5"), read), Ok((7, Some(5))));
        for limit in ["0", "101", "-1", "x", "1e1"] {
            assert_eq!(page_of(Some(limit), None, read).map_err(|refusal| refusal.status), Err(400), "{limit}");
        }
        let refusal = page_of(None, Some("x"), read).expect_err("no number");
        assert_eq!((refusal.status, refusal.code), (400, ErrorCode::InvalidCursor));
    }

    #[test]
    fn a_cursor_is_given_when_more_follows() {
        let of = |number: i64, limit| {
            let mut rows: Vec<i64> = (0..number).collect();
            let cursor = cut(&mut rows, limit, ToString::to_string);
            (rows.len(), cursor)
        };
        assert_eq!((of(3, 2), of(2, 2), of(0, 2)), ((2, Some("1".to_owned())), (2, None), (0, None)));
    }
}
