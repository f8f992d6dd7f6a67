//! Connecting an account: with tokens that a person pasted, or that a device's authorisation gave. One identity is one
//! account: connecting it again gives the account that is there its new tokens.

use oi_protocol::UnixMillis;
use oi_worker_kit::sealed::SealingKey;
use oi_worker_kit::{Failure, Fault, Refusal};

use super::Provider;
use super::broker::Surroundings;
use super::oauth::{Exchange, ExchangeError};
use super::tokens::{Kept, Tokens};
use crate::store::audit_log::{Author, Entry};
use crate::store::provider_accounts::{self, Account};
use crate::store::provider_credentials::{self, Connected, Guard};
use crate::store::{Database, Statement, provider_authorizations};

/// Tokens whose owner is known.
pub struct Proven {
    tokens: Tokens,
    refresh_token: String,
    external_id: String,
}

/// Why tokens prove nothing.
fn refused(error: ExchangeError) -> Failure {
    match error {
        ExchangeError::Unauthorized => Refusal::invalid_body("The provider refused the refresh token").into(),
        ExchangeError::RetrySafe | ExchangeError::Ambiguous => {
            Refusal::upstream("The provider did not answer. Try again in a moment").into()
        }
    }
}

/// Asks the provider whose tokens are. Without an answer nothing is connected.
pub async fn prove(exchange: &impl Exchange, provider: Provider, tokens: Tokens) -> Result<Proven, Failure> {
    let external_id = exchange.identity(provider, &tokens).await.map_err(refused)?;
    let external_id =
        external_id.ok_or_else(|| Refusal::invalid_body("The provider did not say whose account this is"))?;
    let refresh_token =
        tokens.refresh_token.clone().ok_or_else(|| Refusal::invalid_body("The provider gave no refresh token"))?;
    Ok(Proven { tokens, refresh_token, external_id })
}

/// Spends a pasted refresh token, which thereby proves itself.
pub async fn prove_pasted(
    exchange: &impl Exchange,
    provider: Provider,
    refresh_token: &str,
    claimed: Option<&str>,
) -> Result<Proven, Failure> {
    let mut tokens = exchange.refresh(provider, refresh_token).await.map_err(refused)?;
    tokens.refresh_token.get_or_insert_with(|| refresh_token.to_owned());
    let proven = prove(exchange, provider, tokens).await?;
    if claimed.is_some_and(|claimed| claimed != proven.external_id) {
        return Err(Refusal::invalid_body("accountId is not the account of this refresh token").into());
    }
    Ok(proven)
}

/// What an account is connected with.
pub struct Connector<'a, D, S> {
    /// The database.
    pub db: &'a D,
    /// What tokens are sealed with.
    pub key: &'a SealingKey,
    /// Time and randomness.
    pub surroundings: &'a S,
    /// Who does it.
    pub by: &'a str,
    /// The same, as the audit log names them.
    pub author: &'a Author,
    /// The authorisation that it ends, when there is one.
    pub guard: Option<Guard<'a>>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The account, and whether it was there before.
    Connected { account: String, existing: bool },
    /// Something changed meanwhile, and nothing was done.
    Changed,
    /// The account is somebody else's at the provider, or is disabled.
    Refused(&'static str),
}

impl<D: Database, S: Surroundings> Connector<'_, D, S> {
    fn sealed(&self, account: &str, provider: Provider, proven: &Proven) -> Result<String, Failure> {
        let kept = Kept {
            access_token: proven.tokens.access_token.clone(),
            refresh_token: proven.refresh_token.clone(),
            external_account_id: Some(proven.external_id.clone()),
        };
        kept.seal(self.key, account, provider)
            .map_err(|error| Fault::new("sealing a provider account's tokens", error).into())
    }

    /// An account and the id of its connection, with what is written of it.
    fn connected<'c>(
        &'c self,
        (account, id): (&'c str, &'c str),
        provider: Provider,
        proven: &'c Proven,
        payload: &'c str,
        now: UnixMillis,
    ) -> Connected<'c> {
        let (external_id, expires_at) = (proven.external_id.as_str(), proven.tokens.end(now));
        Connected { account, provider, external_id, payload, expires_at, by: self.by, id, now }
    }

    async fn run(
        &self,
        statements: Vec<Statement>,
        connection: &Connected<'_>,
        existing: bool,
    ) -> Result<Outcome, Failure> {
        let (account, connection_id) = (connection.account, connection.id);
        let action = if existing { "provider_account.reconnect" } else { "provider_account.connect" };
        let entry = Entry::new(self.author.clone(), action, "provider_account", account, connection.now);
        let entry = entry.detail(&serde_json::json!({"provider": connection.provider.as_str()}));
        let mut statements = entry.behind_the_first(statements);
        let connected = Outcome::Connected { account: account.to_owned(), existing };
        if let Some(guard) = self.guard {
            let now = self.surroundings.now();
            let (id, owner) = (guard.transaction, guard.owner);
            statements.push(provider_authorizations::connected(id, owner, (account, connection_id), existing, now));
        }
        match self.db.batch(statements).await {
            Ok(changed) if changed.iter().all(|changed| *changed > 0) => Ok(connected),
            Ok(_) => Ok(Outcome::Changed),
            // Somebody connected the same identity at the same moment.
            Err(error) if provider_accounts::is_identity_constraint(&error) => Ok(Outcome::Changed),
            Err(error) => Err(error.into()),
        }
    }

    /// New tokens for an account as it was seen.
    pub async fn reconnect(
        &self,
        account: &Account,
        lifecycle: i64,
        provider: Provider,
        proven: &Proven,
    ) -> Result<Outcome, Failure> {
        if account.external_account_id.as_deref().is_some_and(|known| known != proven.external_id) {
            return Ok(Outcome::Refused("This is another account at the provider"));
        }
        if account.status == "disabled" {
            return Ok(Outcome::Refused("The provider account is disabled: enable it first"));
        }
        let (now, connection) = (self.surroundings.now(), self.surroundings.unique());
        let payload = self.sealed(&account.id, provider, proven)?;
        let connected = self.connected((&account.id, &connection), provider, proven, &payload, now);
        let statements = provider_credentials::reconnect(&connected, lifecycle, self.guard);
        self.run(statements, &connected, true).await
    }

    /// A new account, or new tokens for the one of this identity.
    pub async fn create(&self, provider: Provider, display_name: &str, proven: &Proven) -> Result<Outcome, Failure> {
        for _ in 0..2 {
            if let Some(known) = provider_accounts::by_identity(self.db, provider, &proven.external_id).await? {
                return self.reconnect(&known, known.lifecycle_version, provider, proven).await;
            }
            let id = self.surroundings.unique();
            let (now, connection) = (self.surroundings.now(), self.surroundings.unique());
            let payload = self.sealed(&id, provider, proven)?;
            let connected = self.connected((&id, &connection), provider, proven, &payload, now);
            let statements = provider_credentials::insert(&connected, display_name, self.guard);
            let outcome = self.run(statements, &connected, false).await?;
            if outcome != Outcome::Changed {
                return Ok(outcome);
            }
        }
        Ok(Outcome::Changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider_accounts::broker::Broker;
    use crate::provider_accounts::broker::tests::{ACCOUNT, Vendor, connected, key, played};
    use crate::store::audit_log::tests::told;
    use futures_executor::block_on;

    fn grace() -> Author {
        Author::person("grace", "r1")
    }

    fn proven(vendor: &Vendor, identity: &str) -> Proven {
        vendor.identity.replace(Some(identity.to_owned()));
        let live = vendor.live.borrow().clone();
        block_on(prove_pasted(vendor, Provider::Openai, &live, None)).expect("it proves itself")
    }

    #[test]
    fn one_identity_is_one_account_whoever_connects_it() {
        let (vendor, at) = (Vendor::default(), played());
        let db = connected(&vendor, &at);
        let key = key();
        let connector = Connector { db: &db, key: &key, surroundings: &at, by: "grace", author: &grace(), guard: None };
        let again = block_on(connector.create(Provider::Openai, "Again", &proven(&vendor, "acc"))).expect("runs");
        assert_eq!(again, Outcome::Connected { account: ACCOUNT.to_owned(), existing: true });
        let other = block_on(connector.create(Provider::Openai, "Other", &proven(&vendor, "acc-2"))).expect("runs");
        let Outcome::Connected { account, existing: false } = other else { panic!("{other:?}") };
        let listed = block_on(provider_accounts::list(&db, Some(Provider::Openai), None, false)).expect("runs");
        assert_eq!(listed.iter().map(|account| account.display_name.as_str()).collect::<Vec<_>>(), ["Ours", "Other"]);
        let expected = [format!("provider_account.reconnect {ACCOUNT}"), format!("provider_account.connect {account}")];
        assert_eq!(told(&db), expected);
        let broker = Broker { db: &db, key: &key, exchange: &vendor, surroundings: &at };
        let access = block_on(broker.access_of(&account, Provider::Openai)).expect("a token");
        assert_eq!(access.external_account_id.as_deref(), Some("acc-2"));
        assert!(block_on(broker.access_of(&account, Provider::Xai)).is_err());
    }

    #[test]
    fn an_account_is_reconnected_by_its_own_identity_and_as_it_was_seen() {
        let (vendor, at) = (Vendor::default(), played());
        let db = connected(&vendor, &at);
        let key = key();
        let connector = Connector { db: &db, key: &key, surroundings: &at, by: "grace", author: &grace(), guard: None };
        let seen = block_on(provider_accounts::get(&db, ACCOUNT)).expect("runs").expect("is there");
        let reconnect = |account: &Account, lifecycle, proven: &Proven| {
            block_on(connector.reconnect(account, lifecycle, Provider::Openai, proven)).expect("runs")
        };
        assert!(matches!(reconnect(&seen, 0, &proven(&vendor, "other")), Outcome::Refused(_)));
        block_on(db.batch(vec![provider_accounts::rename(ACCOUNT, "New name", "u", at.now())])).expect("runs");
        assert!(matches!(reconnect(&seen, 0, &proven(&vendor, "acc")), Outcome::Connected { existing: true, .. }));
        assert_eq!(reconnect(&seen, 0, &proven(&vendor, "acc")), Outcome::Changed, "it is another by now");
        block_on(db.batch(provider_accounts::archive(ACCOUNT, "u", at.now()))).expect("runs");
        assert_eq!(reconnect(&seen, 2, &proven(&vendor, "acc")), Outcome::Changed, "what is put away stays so");
        assert_eq!(told(&db).len(), 1, "what came too late is in no entry");
    }

    #[test]
    fn a_token_that_proves_nothing_connects_nothing() {
        let vendor = Vendor::default();
        "live".clone_into(&mut vendor.live.borrow_mut());
        let pasted = |token: &str, claimed: Option<&str>| {
            block_on(prove_pasted(&vendor, Provider::Openai, token, claimed)).err().map(|failure| failure.status())
        };
        assert_eq!(pasted("dead", None), Some(400));
        vendor.troubles.borrow_mut().push_back(ExchangeError::RetrySafe);
        assert_eq!(pasted("live", None), Some(502));
        assert_eq!(pasted("live", None), Some(400), "nobody says whose it is");
        vendor.identity.replace(Some("acc".to_owned()));
        let live = vendor.live.borrow().clone();
        assert_eq!(pasted(&live, Some("claimed")), Some(400));
        let live = vendor.live.borrow().clone();
        assert_eq!(pasted(&live, Some("acc")), None);
    }
}
