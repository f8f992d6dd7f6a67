//! How a new session reaches each provider: what its maker chose, else what the deployment chose. It is pinned with the
//! session, so that a later choice changes no session that is there.

use oi_worker_kit::{Failure, Refusal};
use serde::Deserialize;

use super::Provider;
use crate::store::provider_accounts::{self, Account};
use crate::store::session_provider_auth::{Mode, Pinned};
use crate::store::{Database, DbError};

/// `providerSelections` of a new session.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selections {
    #[serde(default)]
    openai: Option<Selection>,
    #[serde(default)]
    xai: Option<Selection>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case", rename_all_fields = "camelCase", deny_unknown_fields)]
enum Selection {
    ProviderAccount { account_id: String },
    ApiKey {},
}

fn usable(account: Option<Account>, provider: Provider) -> Result<Account, Refusal> {
    let account = account.ok_or_else(|| Refusal::not_found("Provider account not found"))?;
    if account.provider != provider.as_str() {
        return Err(Refusal::invalid_body(format!("The provider account is not one of {}", provider.as_str())));
    }
    if !account.is_active() {
        return Err(Refusal::conflict("The provider account cannot be used: connect it again, or choose another one"));
    }
    Ok(account)
}

/// What is pinned for a session that uses `model`, and that somebody watches or not.
pub async fn resolve(
    db: &impl Database,
    wanted: &Selections,
    model: &str,
    unattended: bool,
) -> Result<Vec<Pinned>, Failure> {
    let defaults = provider_accounts::defaults(db).await?;
    let mut all = Vec::new();
    for provider in Provider::ALL {
        let selection = match provider {
            Provider::Openai => &wanted.openai,
            Provider::Xai => &wanted.xai,
        };
        let pinned = |mode, source| Pinned { provider, mode, source };
        let default = defaults.iter().find(|default| default.provider == provider.as_str());
        all.push(match (selection, default) {
            (Some(Selection::ApiKey {}), _) => pinned(Mode::ApiKey, "explicit"),
            (Some(Selection::ProviderAccount { account_id }), _) => {
                if !oi_protocol::ids::is_minted_id(account_id) {
                    return Err(Refusal::invalid_body("accountId must be the id of a provider account").into());
                }
                let account = usable(provider_accounts::get(db, account_id).await?, provider)?;
                pinned(Mode::Account(account.id), "explicit")
            }
            (None, None) => pinned(Mode::Legacy, "legacy_fallback"),
            (None, Some(default)) if unattended && default.unattended_mode == "api_key" => {
                pinned(Mode::ApiKey, "unattended_policy")
            }
            (None, Some(default)) => {
                let account: Result<Option<Account>, DbError> =
                    provider_accounts::get(db, &default.provider_account_id).await;
                match usable(account?, provider) {
                    Ok(account) => {
                        let source = if unattended { "unattended_policy" } else { "installation_default" };
                        pinned(Mode::Account(account.id), source)
                    }
                    // It stands in the way of those sessions only that need it.
                    Err(refusal) if model.starts_with(&format!("{}/", provider.as_str())) => return Err(refusal.into()),
                    Err(_) => pinned(Mode::ApiKey, "default_unusable"),
                }
            }
        });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use futures_executor::block_on;
    use serde_json::json;

    use super::*;
    use crate::provider_accounts::broker::Surroundings;
    use crate::provider_accounts::broker::tests::{ACCOUNT, Vendor, connected, played};
    use crate::store::params;

    fn read(body: serde_json::Value) -> Result<Selections, serde_json::Error> {
        serde_json::from_value(body)
    }

    #[test]
    fn a_selection_is_an_account_or_a_key() {
        assert!(
            read(json!({"openai": {"mode": "provider_account", "accountId": ACCOUNT}, "xai": {"mode": "api_key"}}))
                .is_ok()
        );
        for bad in [
            json!({"openai": {"mode": "other"}}),
            json!({"openai": {"mode": "api_key", "accountId": "x"}}),
            json!({"openai": {"mode": "provider_account"}}),
            json!({"anthropic": {"mode": "api_key"}}),
        ] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_was_chosen_comes_first_and_a_bad_default_hurts_only_who_needs_it() {
        let at = played();
        let db = connected(&Vendor::default(), &at);
        let openai = |wanted: serde_json::Value, model: &str, unattended| {
            let wanted = read(wanted).expect("fits");
            block_on(resolve(&db, &wanted, model, unattended))
                .map(|all| {
                    assert_eq!(all.len(), 2, "both providers are pinned");
                    (all[0].mode.clone(), all[0].source)
                })
                .map_err(|failure| failure.status())
        };
        let account = || Mode::Account(ACCOUNT.to_owned());
        assert_eq!(openai(json!({}), "openai/gpt-5.5", false), Ok((Mode::Legacy, "legacy_fallback")));
        let set = provider_accounts::set_default(Provider::Openai, ACCOUNT, "api_key", "u", at.now());
        block_on(db.batch(vec![set])).expect("runs");
        assert_eq!(openai(json!({}), "openai/gpt-5.5", false), Ok((account(), "installation_default")));
        assert_eq!(openai(json!({}), "openai/gpt-5.5", true), Ok((Mode::ApiKey, "unattended_policy")));
        let explicit = json!({"openai": {"mode": "provider_account", "accountId": ACCOUNT}});
        assert_eq!(openai(explicit.clone(), "a/b", true), Ok((account(), "explicit")));
        assert_eq!(openai(json!({"openai": {"mode": "api_key"}}), "a/b", false), Ok((Mode::ApiKey, "explicit")));
        let of = |id: &str| json!({"openai": {"mode": "provider_account", "accountId": id}});
        assert_eq!(openai(of("x"), "a/b", false), Err(400));
        assert_eq!(openai(of(&"0".repeat(32)), "a/b", false), Err(404));
        let other = json!({"xai": {"mode": "provider_account", "accountId": ACCOUNT}});
        assert_eq!(openai(other, "a/b", false), Err(400));
        block_on(db.change("UPDATE model_provider_accounts SET status = 'reconnect_required'", params![]))
            .expect("runs");
        assert_eq!(openai(json!({}), "openai/gpt-5.5", false), Err(409));
        assert_eq!(openai(json!({}), "anthropic/claude-opus-5", false), Ok((Mode::ApiKey, "default_unusable")));
        assert_eq!(openai(explicit, "anthropic/claude-opus-5", false), Err(409));
    }
}
