//! Subscriptions at model providers: listed, connected, renamed, put away; and what new sessions use.

use oi_protocol::UnixMillis;
use oi_protocol::settings::{ProviderAccount, ProviderAccountDefault};
use oi_worker_kit::{Failure, Refusal, clock, reply, request_body};
use serde::Deserialize;
use serde_json::json;
use worker::Response;

use super::settings_request::{actor, no_content};
use crate::provider_accounts::broker::{Broker, Platform};
use crate::provider_accounts::connect::{Connector, Outcome, prove_pasted};
use crate::provider_accounts::device::{Answered, Devices, Wanted, words};
use crate::provider_accounts::oauth::Providers;
use crate::provider_accounts::{Provider, sealing_key};
use crate::request::Cx;
use crate::store::audit_log::Entry;
use crate::store::provider_accounts::{self, Account};
use crate::store::{Database, Statement, secrets};

const SHAPE: &str = "Invalid provider account body";
const REFRESH_TOKEN_MAX: usize = 65_536;
const ACCOUNT_ID_MAX: usize = 512;
const NAME_MAX: usize = 100;

fn shown(row: Account) -> ProviderAccount {
    ProviderAccount {
        id: row.id,
        provider: row.provider,
        display_name: row.display_name,
        external_account_id: row.external_account_id,
        status: row.status,
        created_by: row.created_by,
        updated_by: row.updated_by,
        last_verified_at: row.last_verified_at.map(UnixMillis),
        last_used_at: row.last_used_at.map(UnixMillis),
        created_at: UnixMillis(row.created_at),
        updated_at: UnixMillis(row.updated_at),
        archived_at: row.archived_at.map(UnixMillis),
    }
}

fn shown_default(row: provider_accounts::Default) -> ProviderAccountDefault {
    ProviderAccountDefault {
        provider: row.provider,
        provider_account_id: row.provider_account_id,
        unattended_mode: row.unattended_mode,
        created_by: row.created_by,
        updated_by: row.updated_by,
        created_at: UnixMillis(row.created_at),
        updated_at: UnixMillis(row.updated_at),
    }
}

fn not_found() -> Refusal {
    Refusal::not_found("Provider account not found")
}

fn changed_meanwhile() -> Refusal {
    Refusal::conflict("The provider account changed; reload and try again")
}

/// The account that the path names, unless it is put away.
async fn named(cx: &Cx<'_>) -> Result<Account, Failure> {
    let id = cx.parameters.first().map(String::as_str).unwrap_or_default();
    if !oi_protocol::ids::is_minted_id(id) {
        return Err(not_found().into());
    }
    Ok(provider_accounts::get(&cx.db()?, id).await?.ok_or_else(not_found)?)
}

async fn live(cx: &Cx<'_>) -> Result<(Account, Provider), Failure> {
    let account = named(cx).await?;
    let provider = Provider::parse(&account.provider).ok_or_else(not_found)?;
    if account.archived_at.is_some() {
        return Err(Refusal::conflict("The provider account is archived").into());
    }
    Ok((account, provider))
}

async fn answer(cx: &Cx<'_>, id: &str) -> Result<Response, Failure> {
    let account = provider_accounts::get(&cx.db()?, id).await?.ok_or_else(not_found)?;
    reply::json(200, &json!({"account": shown(account)}))
}

/// An entry about an account.
fn entry(cx: &Cx<'_>, action: &'static str, account: &Account) -> Entry {
    cx.audit(action, "provider_account", &account.id).detail(&json!({"provider": account.provider}))
}

/// Runs a change with its entry, and says what the database says of default accounts.
async fn run(cx: &Cx<'_>, statements: Vec<Statement>, entry: &Entry) -> Result<bool, Failure> {
    match cx.db()?.batch(entry.behind_the_first(statements)).await {
        Ok(changed) => Ok(changed.first().is_some_and(|changed| *changed > 0)),
        Err(error) if provider_accounts::is_default_constraint(&error) => {
            Err(Refusal::conflict("A default provider account cannot be changed").into())
        }
        Err(error) if provider_accounts::is_identity_constraint(&error) => {
            Err(Refusal::conflict("Provider account conflicts with an existing account").into())
        }
        Err(error) => Err(error.into()),
    }
}

fn display_name(name: &str) -> Result<&str, Refusal> {
    let name = name.trim();
    if (1..=NAME_MAX).contains(&name.chars().count()) && !name.contains(char::is_control) {
        Ok(name)
    } else {
        Err(Refusal::invalid_body("displayName must have 1 to 100 characters"))
    }
}

pub(super) async fn list(cx: &Cx<'_>) -> Result<Response, Failure> {
    let provider = match cx.head.query_value("provider") {
        None => None,
        Some(word) => {
            Some(Provider::parse(&word).ok_or_else(|| Refusal::invalid_parameter("provider must be openai or xai"))?)
        }
    };
    let status = cx.head.query_value("status");
    let known = ["active", "disabled", "reconnect_required"];
    if status.as_deref().is_some_and(|status| !known.contains(&status)) {
        return Err(Refusal::invalid_parameter(format!("status must be one of {}", known.join(", "))).into());
    }
    let archived = match cx.head.query_value("archived").as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Refusal::invalid_parameter("archived must be true or false").into()),
    };
    let rows = provider_accounts::list(&cx.db()?, provider, status.as_deref(), archived).await?;
    let accounts: Vec<ProviderAccount> = rows.into_iter().map(shown).collect();
    reply::json(200, &json!({"accounts": accounts}))
}

/// Names of secrets that hold tokens of subscriptions, as Open-Inspect kept them before there were accounts: connecting an
/// account makes them needless.
pub(super) async fn legacy_credentials(cx: &Cx<'_>) -> Result<Response, Failure> {
    let legacy_keys: Vec<serde_json::Value> = secrets::with_legacy_tokens(&cx.db()?)
        .await?
        .into_iter()
        .map(|found| {
            let mut shown = json!({"scope": found.scope_kind, "key": found.name});
            if found.scope_kind != "global" {
                shown["scopeId"] = json!(found.scope_id);
            }
            shown
        })
        .collect();
    reply::json(200, &json!({"legacyKeys": legacy_keys}))
}

pub(super) async fn get(cx: &Cx<'_>) -> Result<Response, Failure> {
    let account = named(cx).await?;
    reply::json(200, &json!({"account": shown(account)}))
}

/// Tokens that a person pasted.
#[derive(PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Pasted {
    #[serde(default)]
    provider: Option<String>,
    #[serde(default)]
    display_name: Option<String>,
    refresh_token: String,
    #[serde(default)]
    account_id: Option<String>,
}

impl Pasted {
    /// `accountId` is OpenAI's, and OpenAI's only.
    fn check(&self, provider: Provider) -> Result<(), Refusal> {
        if !(1..=REFRESH_TOKEN_MAX).contains(&self.refresh_token.len()) {
            return Err(Refusal::invalid_body("refreshToken must have 1 to 65536 characters"));
        }
        match (provider, self.account_id.as_deref()) {
            (Provider::Openai, Some(id)) if (1..=ACCOUNT_ID_MAX).contains(&id.len()) => Ok(()),
            (Provider::Openai, _) => Err(Refusal::invalid_body("accountId must have 1 to 512 characters")),
            (Provider::Xai, None) => Ok(()),
            (Provider::Xai, Some(_)) => Err(Refusal::invalid_body(SHAPE)),
        }
    }
}

pub(super) async fn create(cx: &Cx<'_>) -> Result<Response, Failure> {
    let pasted: Pasted = request_body::parse(&cx.body, SHAPE)?;
    let provider = pasted.provider.as_deref().and_then(Provider::parse);
    let provider = provider.ok_or_else(|| Refusal::invalid_body("provider must be openai or xai"))?;
    pasted.check(provider)?;
    let name = pasted.display_name.as_deref().ok_or_else(|| Refusal::invalid_body(SHAPE))?;
    let name = display_name(name)?;
    let (key, providers, db) = (sealing_key(cx.env)?, Providers::of(cx.env), cx.db()?);
    let proven = prove_pasted(&providers, provider, &pasted.refresh_token, pasted.account_id.as_deref()).await?;
    let by = actor(cx);
    let author = cx.who.author(&cx.trace.request_id);
    let connector = Connector { db: &db, key: &key, surroundings: &Platform, by: &by, author: &author, guard: None };
    match connector.create(provider, name, &proven).await? {
        Outcome::Connected { account, existing } => {
            let account = provider_accounts::get(&db, &account).await?.ok_or_else(not_found)?;
            let body = json!({"account": shown(account), "reconnectedExisting": existing});
            reply::json(if existing { 200 } else { 201 }, &body)
        }
        Outcome::Changed => Err(Refusal::conflict("Provider account conflicts with an existing account").into()),
        Outcome::Refused(sentence) => Err(Refusal::conflict(sentence).into()),
    }
}

pub(super) async fn reconnect(cx: &Cx<'_>) -> Result<Response, Failure> {
    let (account, provider) = live(cx).await?;
    let pasted: Pasted = request_body::parse(&cx.body, SHAPE)?;
    if pasted.provider.is_some() || pasted.display_name.is_some() {
        return Err(Refusal::invalid_body(SHAPE).into());
    }
    pasted.check(provider)?;
    if provider == Provider::Xai && account.external_account_id.is_some() {
        return Err(Refusal::conflict("Reconnect this account by a device authorization").into());
    }
    let (key, providers, db) = (sealing_key(cx.env)?, Providers::of(cx.env), cx.db()?);
    let proven = prove_pasted(&providers, provider, &pasted.refresh_token, pasted.account_id.as_deref()).await?;
    let by = actor(cx);
    let author = cx.who.author(&cx.trace.request_id);
    let connector = Connector { db: &db, key: &key, surroundings: &Platform, by: &by, author: &author, guard: None };
    match connector.reconnect(&account, account.lifecycle_version, provider, &proven).await? {
        Outcome::Connected { account, .. } => answer(cx, &account).await,
        Outcome::Changed => Err(changed_meanwhile().into()),
        Outcome::Refused(sentence) => Err(Refusal::conflict(sentence).into()),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Name {
    display_name: String,
}

pub(super) async fn rename(cx: &Cx<'_>) -> Result<Response, Failure> {
    let Name { display_name: name } = request_body::parse(&cx.body, SHAPE)?;
    let name = display_name(&name)?;
    let (account, _) = live(cx).await?;
    let change = provider_accounts::rename(&account.id, name, &actor(cx), clock::now());
    if !run(cx, vec![change], &entry(cx, "provider_account.rename", &account)).await? {
        return Err(changed_meanwhile().into());
    }
    answer(cx, &account.id).await
}

pub(super) async fn archive(cx: &Cx<'_>) -> Result<Response, Failure> {
    let account = named(cx).await?;
    // Put away twice is put away.
    let change = provider_accounts::archive(&account.id, &actor(cx), clock::now());
    run(cx, change, &entry(cx, "provider_account.archive", &account)).await?;
    no_content()
}

pub(super) async fn disable(cx: &Cx<'_>) -> Result<Response, Failure> {
    let (account, _) = live(cx).await?;
    let change = provider_accounts::disable(&account.id, &actor(cx), clock::now());
    run(cx, vec![change], &entry(cx, "provider_account.disable", &account)).await?;
    answer(cx, &account.id).await
}

pub(super) async fn enable(cx: &Cx<'_>) -> Result<Response, Failure> {
    let (account, _) = live(cx).await?;
    if account.status == "reconnect_required" {
        return Err(Refusal::conflict("The provider takes its tokens no more: reconnect the account").into());
    }
    let change = provider_accounts::enable(&account.id, &actor(cx), clock::now());
    run(cx, vec![change], &entry(cx, "provider_account.enable", &account)).await?;
    answer(cx, &account.id).await
}

pub(super) async fn verify(cx: &Cx<'_>) -> Result<Response, Failure> {
    let (account, provider) = live(cx).await?;
    let (key, providers, db) = (sealing_key(cx.env)?, Providers::of(cx.env), cx.db()?);
    let broker = Broker { db: &db, key: &key, exchange: &providers, surroundings: &Platform };
    broker.verify(&account.id, provider).await?;
    answer(cx, &account.id).await
}

fn path_provider(cx: &Cx<'_>) -> Result<Provider, Refusal> {
    let word = cx.parameters.first().map(String::as_str).unwrap_or_default();
    Provider::parse(word).ok_or_else(|| Refusal::invalid_parameter("Unsupported provider"))
}

#[derive(Deserialize)]
#[serde(tag = "operation", rename_all = "snake_case", rename_all_fields = "camelCase", deny_unknown_fields)]
enum Begin {
    Create { display_name: String },
    Reconnect { provider_account_id: String },
}

/// What authorising a device takes, for the signed-in person.
macro_rules! devices {
    ($cx:ident, $provider:expr => $devices:ident) => {
        let (key, providers, db) = (sealing_key($cx.env)?, Providers::of($cx.env), $cx.db()?);
        let person = $cx.person().ok_or_else(Refusal::unauthorized)?;
        let author = $cx.who.author(&$cx.trace.request_id);
        let $devices = Devices {
            db: &db,
            key: &key,
            exchange: &providers,
            surroundings: &Platform,
            user: &person.user_id,
            author: &author,
            provider: $provider,
        };
    };
}

pub(super) async fn begin_device(cx: &Cx<'_>) -> Result<Response, Failure> {
    let provider = path_provider(cx)?;
    let begin: Begin = request_body::parse(&cx.body, "Invalid device authorization body")?;
    devices!(cx, provider => devices);
    let begun = match begin {
        Begin::Create { display_name: name } => devices.begin(Wanted::Create(display_name(&name)?)).await?,
        Begin::Reconnect { provider_account_id } => {
            let account = provider_accounts::get(devices.db, &provider_account_id).await?;
            let account = account.filter(|account| account.provider == provider.as_str()).ok_or_else(not_found)?;
            if account.archived_at.is_some() || account.status == "disabled" {
                return Err(Refusal::conflict("The provider account is disabled or archived").into());
            }
            devices.begin(Wanted::Reconnect(&account)).await?
        }
    };
    reply::json(201, &begun)
}

/// The transaction that the path names. What cannot be one is none.
fn transaction<'a>(cx: &'a Cx<'_>) -> Result<&'a str, Refusal> {
    let id = cx.parameters.get(1).map(String::as_str).unwrap_or_default();
    let fits = id.len() == 64 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if fits { Ok(id) } else { Err(Refusal::not_found("Authorization transaction not found")) }
}

pub(super) async fn poll_device(cx: &Cx<'_>) -> Result<Response, Failure> {
    let (provider, id) = (path_provider(cx)?, transaction(cx)?);
    devices!(cx, provider => devices);
    match devices.poll(id).await? {
        Answered::Pending { expires_at, poll_interval_ms, next_poll_at } => reply::json(
            200,
            &json!({"status": "pending", "expiresAt": expires_at, "pollIntervalMs": poll_interval_ms,
                "nextPollAt": next_poll_at}),
        ),
        Answered::Connected { account, existing, completed_at } => {
            let account = provider_accounts::get(devices.db, &account).await?.ok_or_else(not_found)?;
            reply::json(
                200,
                &json!({"status": "connected", "account": shown(account), "reconnectedExisting": existing,
                    "completedAt": completed_at}),
            )
        }
        Answered::Ended(state) => {
            let (error, retryable) = words(&state);
            reply::json(200, &json!({"status": state, "error": error, "retryable": retryable}))
        }
    }
}

pub(super) async fn cancel_device(cx: &Cx<'_>) -> Result<Response, Failure> {
    let (provider, id) = (path_provider(cx)?, transaction(cx)?);
    devices!(cx, provider => devices);
    let statements = devices.cancel(id).await?;
    devices.db.batch(statements).await?;
    no_content()
}

pub(super) async fn defaults(cx: &Cx<'_>) -> Result<Response, Failure> {
    let rows = provider_accounts::defaults(&cx.db()?).await?;
    let defaults: Vec<ProviderAccountDefault> = rows.into_iter().map(shown_default).collect();
    reply::json(200, &json!({"defaults": defaults}))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Chosen {
    provider_account_id: String,
    unattended_mode: String,
}

pub(super) async fn set_default(cx: &Cx<'_>) -> Result<Response, Failure> {
    let provider = path_provider(cx)?;
    let chosen: Chosen = request_body::parse(&cx.body, "Invalid default body")?;
    if !matches!(chosen.unattended_mode.as_str(), "provider_account" | "api_key") {
        return Err(Refusal::invalid_body("unattendedMode must be provider_account or api_key").into());
    }
    let db = cx.db()?;
    let account = provider_accounts::get(&db, &chosen.provider_account_id).await?.ok_or_else(not_found)?;
    if account.provider != provider.as_str() {
        return Err(Refusal::invalid_body(format!("The provider account is not one of {}", provider.as_str())).into());
    }
    let set = provider_accounts::set_default(provider, &account.id, &chosen.unattended_mode, &actor(cx), clock::now());
    let entry = cx.audit("provider_account_default.set", "provider_account_default", provider.as_str());
    if !run(cx, vec![set], &entry.detail(&json!({"accountId": account.id}))).await? {
        return Err(Refusal::conflict("Only an active provider account can be the default").into());
    }
    let set = provider_accounts::defaults(&db).await?.into_iter().find(|set| set.provider == provider.as_str());
    reply::json(200, &json!({"default": set.map(shown_default)}))
}

pub(super) async fn clear_default(cx: &Cx<'_>) -> Result<Response, Failure> {
    let provider = path_provider(cx)?;
    let entry = cx.audit("provider_account_default.clear", "provider_account_default", provider.as_str());
    run(cx, vec![provider_accounts::clear_default(provider)], &entry).await?;
    no_content()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider_accounts::Provider::{Openai, Xai};

    #[test]
    fn a_pasted_token_has_what_its_provider_needs_and_nothing_else() {
        for (provider, body, fits) in [
            (Openai, json!({"refreshToken": "r", "accountId": "a"}), true),
            (Openai, json!({"refreshToken": "r"}), false),
            (Openai, json!({"refreshToken": "", "accountId": "a"}), false),
            (Openai, json!({"refreshToken": "x".repeat(65_537), "accountId": "a"}), false),
            (Openai, json!({"refreshToken": "r", "accountId": "a".repeat(513)}), false),
            (Xai, json!({"refreshToken": "r"}), true),
            (Xai, json!({"refreshToken": "r", "accountId": "a"}), false),
        ] {
            let read: Pasted = serde_json::from_value(body.clone()).expect("the shape");
            assert_eq!(read.check(provider).is_ok(), fits, "{provider:?} {body}");
        }
        assert!(serde_json::from_value::<Pasted>(json!({"refreshToken": "r", "other": 1})).is_err());
    }

    #[test]
    fn a_name_is_trimmed_and_has_1_to_100_characters() {
        assert_eq!(display_name(" Ours "), Ok("Ours"));
        assert_eq!(display_name(&"ä".repeat(100)).map(str::len), Ok(200));
        for bad in ["", "  ", "a\nb", &"ä".repeat(101)] {
            assert_eq!(display_name(bad).expect_err("refused").status, 400, "{bad}");
        }
    }
}
