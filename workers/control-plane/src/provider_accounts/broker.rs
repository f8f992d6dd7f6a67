//! Access tokens of accounts for sandboxes. Of all isolates one refreshes at a time; the others wait for what it gets.
//!
//! A refresh token is good once. Who takes a claim shows the one that is stored; when the answer is lost, the token stays,
//! and the next one shows it again. Only the provider's own refusal ends an account: a person then connects it anew.

use std::fmt;

use oi_protocol::{ErrorCode, UnixMillis};
use oi_worker_kit::sealed::SealingKey;
use oi_worker_kit::{Failure, Fault, Refusal};

use super::Provider;
use super::oauth::{Exchange, ExchangeError};
use super::tokens::Kept;
use crate::store::provider_credentials::{self, CLAIM_MS, Credential};
use crate::store::{Database, provider_accounts};

/// A token that ends within this is refreshed first, in ms.
const FRESH_MS: i64 = 300_000;
/// Between two looks at what another one's refresh gives, in ms.
const LOOK_MS: u64 = 100;

/// Time and randomness.
pub trait Surroundings {
    /// Now.
    fn now(&self) -> UnixMillis;
    /// Waits.
    async fn pause(&self, ms: u64);
    /// A name that nobody else has.
    fn unique(&self) -> String;
}

/// The platform's.
pub struct Platform;

impl Surroundings for Platform {
    fn now(&self) -> UnixMillis {
        oi_worker_kit::clock::now()
    }

    async fn pause(&self, ms: u64) {
        worker::Delay::from(std::time::Duration::from_millis(ms)).await;
    }

    fn unique(&self) -> String {
        oi_worker_kit::random::hex::<16>()
    }
}

/// A token for a sandbox.
#[derive(Clone, PartialEq, Eq)]
pub struct Access {
    /// The token.
    pub token: String,
    /// How long it lives yet.
    pub expires_in: i64,
    /// Whose it is.
    pub external_account_id: Option<String>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("expires_in", &self.expires_in).finish_non_exhaustive()
    }
}

fn unusable() -> Refusal {
    Refusal::conflict("The provider account cannot be used: connect it again, or choose another one")
}

fn retry_safe() -> Failure {
    Refusal::upstream("The provider did not answer. Nothing is lost: try again in a moment").into()
}

/// What tokens are got with.
pub struct Broker<'a, D, E, S> {
    /// The database.
    pub db: &'a D,
    /// What tokens are sealed with.
    pub key: &'a SealingKey,
    /// The providers.
    pub exchange: &'a E,
    /// Time and randomness.
    pub surroundings: &'a S,
}

impl<D: Database, E: Exchange, S: Surroundings> Broker<'_, D, E, S> {
    async fn load(&self, account: &str, provider: Provider) -> Result<Credential, Failure> {
        let stored = provider_credentials::load(self.db, account).await?;
        let Some(stored) = stored else {
            return Err(match provider_accounts::get(self.db, account).await? {
                Some(_) => unusable().into(),
                None => Refusal::not_found("Provider account not found").into(),
            });
        };
        if stored.provider != provider.as_str() || stored.status != "active" || stored.archived_at.is_some() {
            return Err(unusable().into());
        }
        Ok(stored)
    }

    fn open(&self, stored: &Credential, account: &str, provider: Provider) -> Result<Kept, Failure> {
        Kept::open(self.key, &stored.encrypted_payload, account, provider)
            .map_err(|error| Fault::new("opening a provider account's tokens", error).into())
    }

    fn access(&self, stored: &Credential, kept: Kept) -> Access {
        let ends = stored.access_token_expires_at.unwrap_or(0);
        Access {
            token: kept.access_token,
            expires_in: (ends - self.surroundings.now().0) / 1_000,
            external_account_id: kept.external_account_id.or_else(|| stored.external_account_id.clone()),
        }
    }

    /// A token that lives for five minutes at least.
    pub async fn access_of(&self, account: &str, provider: Provider) -> Result<Access, Failure> {
        let got = self.newer_than(account, provider, None).await?;
        provider_accounts::note_use(self.db, account, self.surroundings.now()).await?;
        Ok(got)
    }

    /// Refreshes now, whatever there is: that the account works is thereby known.
    pub async fn verify(&self, account: &str, provider: Provider) -> Result<(), Failure> {
        let stored = self.load(account, provider).await?;
        self.newer_than(account, provider, Some(stored.credential_version)).await.map(|_| ())
    }

    /// A fresh token; of a version after `seen`, when that is given.
    async fn newer_than(&self, account: &str, provider: Provider, seen: Option<i64>) -> Result<Access, Failure> {
        let gives_up = self.surroundings.now().plus(CLAIM_MS + 5_000);
        loop {
            let stored = self.load(account, provider).await?;
            let now = self.surroundings.now();
            let fresh = stored.access_token_expires_at.is_some_and(|ends| ends > now.plus(FRESH_MS).0);
            if fresh && seen.is_none_or(|seen| stored.credential_version > seen) {
                let kept = self.open(&stored, account, provider)?;
                return Ok(self.access(&stored, kept));
            }
            let owner = self.surroundings.unique();
            if provider_credentials::claim(self.db, account, stored.credential_version, &owner, now).await? {
                return self.refresh(&stored, account, provider, &owner).await;
            }
            if now >= gives_up {
                return Err(
                    Refusal::new(503, ErrorCode::Retry, "The provider account is being refreshed. Try again").into()
                );
            }
            self.surroundings.pause(LOOK_MS).await;
        }
    }

    async fn refresh(
        &self,
        stored: &Credential,
        account: &str,
        provider: Provider,
        owner: &str,
    ) -> Result<Access, Failure> {
        let kept = self.open(stored, account, provider)?;
        let release = || provider_credentials::release(self.db, account, owner, self.surroundings.now());
        let got = match self.exchange.refresh(provider, &kept.refresh_token).await {
            Ok(tokens) => tokens,
            Err(ExchangeError::Unauthorized) => {
                provider_credentials::fence(self.db, account, owner, self.surroundings.now()).await?;
                return Err(unusable().into());
            }
            Err(ExchangeError::RetrySafe | ExchangeError::Ambiguous) => {
                release().await?;
                return Err(retry_safe());
            }
        };
        let known = stored.external_account_id.clone().or(kept.external_account_id);
        if let (Some(known), Some(said)) = (&known, &got.external_id)
            && known != said
        {
            // Somebody else's tokens are never used in an account's name.
            provider_credentials::fence(self.db, account, owner, self.surroundings.now()).await?;
            return Err(unusable().into());
        }
        let now = self.surroundings.now();
        let ends = got.end(now);
        let life_seconds = got.life_seconds;
        let new = Kept {
            refresh_token: got.refresh_token.unwrap_or(kept.refresh_token),
            access_token: got.access_token,
            external_account_id: known,
        };
        let sealed = new
            .seal(self.key, account, provider)
            .map_err(|error| Fault::new("sealing a provider account's tokens", error))?;
        // Nobody gets a token whose successor might be lost.
        if !provider_credentials::complete(self.db, account, owner, &sealed, ends, now).await? {
            return Err(unusable().into());
        }
        Ok(Access { token: new.access_token, expires_in: life_seconds, external_account_id: new.external_account_id })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::VecDeque;

    use futures_executor::block_on;
    use futures_util::future::join_all;

    use super::*;
    use crate::provider_accounts::oauth::{Device, DeviceKept, Polled};
    use crate::provider_accounts::tokens::Tokens;
    use crate::store::native::Native;
    use crate::store::provider_credentials::Connected;

    pub const ACCOUNT: &str = "0123456789abcdef0123456789abcdef";

    /// A clock that moves when somebody waits, and lets others go first.
    pub struct Played {
        pub now: Cell<i64>,
        names: Cell<u32>,
    }

    impl Surroundings for Played {
        fn now(&self) -> UnixMillis {
            UnixMillis(self.now.get())
        }

        async fn pause(&self, ms: u64) {
            self.now.set(self.now.get() + ms as i64);
            yield_once().await;
        }

        fn unique(&self) -> String {
            self.names.set(self.names.get() + 1);
            format!("owner-{}", self.names.get())
        }
    }

    async fn yield_once() {
        let mut done = false;
        std::future::poll_fn(|cx| {
            if std::mem::replace(&mut done, true) {
                return std::task::Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            std::task::Poll::Pending
        })
        .await;
    }

    pub fn played() -> Played {
        Played { now: Cell::new(1_800_000_000_000), names: Cell::new(0) }
    }

    /// A provider that takes each refresh token once.
    #[derive(Default)]
    pub struct Vendor {
        pub live: RefCell<String>,
        pub shown: RefCell<Vec<String>>,
        pub troubles: RefCell<VecDeque<ExchangeError>>,
        /// Loses the answer after it has rotated.
        pub loses_answer: Cell<bool>,
        pub identity: RefCell<Option<String>>,
    }

    impl Exchange for Vendor {
        async fn refresh(&self, _provider: Provider, refresh_token: &str) -> Result<Tokens, ExchangeError> {
            self.shown.borrow_mut().push(refresh_token.to_owned());
            yield_once().await;
            yield_once().await;
            if let Some(trouble) = self.troubles.borrow_mut().pop_front() {
                return Err(trouble);
            }
            if *self.live.borrow() != refresh_token {
                return Err(ExchangeError::Unauthorized);
            }
            let next = format!("refresh-{}", self.shown.borrow().len());
            next.clone_into(&mut self.live.borrow_mut());
            if self.loses_answer.take() {
                return Err(ExchangeError::Ambiguous);
            }
            Ok(Tokens {
                access_token: format!("access-{}", self.shown.borrow().len()),
                refresh_token: Some(next),
                life_seconds: 3_600,
                external_id: self.identity.borrow().clone(),
            })
        }

        async fn identity(&self, _: Provider, tokens: &Tokens) -> Result<Option<String>, ExchangeError> {
            Ok(tokens.external_id.clone())
        }

        async fn begin_device(&self, _: Provider) -> Result<Device, ExchangeError> {
            Err(ExchangeError::RetrySafe)
        }

        async fn poll_device(&self, _: &DeviceKept, _: i64) -> Result<Polled, ExchangeError> {
            Err(ExchangeError::RetrySafe)
        }
    }

    pub fn key() -> SealingKey {
        SealingKey::from_base64("AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=").expect("32 bytes")
    }

    /// A database with an account whose access token has ended.
    pub fn connected(vendor: &Vendor, at: &Played) -> Native {
        let db = Native::new();
        "refresh-0".clone_into(&mut vendor.live.borrow_mut());
        let kept = Kept {
            access_token: "access-0".to_owned(),
            refresh_token: "refresh-0".to_owned(),
            external_account_id: Some("acc".to_owned()),
        };
        let payload = kept.seal(&key(), ACCOUNT, Provider::Openai).expect("seals");
        let new = Connected {
            account: ACCOUNT,
            provider: Provider::Openai,
            external_id: "acc",
            payload: &payload,
            expires_at: at.now(),
            by: "u",
            id: "connection",
            now: at.now(),
        };
        let changed = block_on(db.batch(provider_credentials::insert(&new, "Ours", None))).expect("runs");
        assert_eq!(changed, [1, 1]);
        db
    }

    fn state(db: &Native) -> (String, String) {
        let account = block_on(provider_accounts::get(db, ACCOUNT)).expect("runs").expect("is there");
        let stored = block_on(provider_credentials::load(db, ACCOUNT)).expect("runs").expect("is there");
        (account.status, stored.exchange_state)
    }

    fn ask(db: &Native, vendor: &Vendor, at: &Played) -> Result<Access, Failure> {
        let key = key();
        let broker = Broker { db, key: &key, exchange: vendor, surroundings: at };
        block_on(broker.access_of(ACCOUNT, Provider::Openai))
    }

    #[test]
    fn of_many_that_ask_at_once_one_refreshes_and_all_get_its_token() {
        let (vendor, at) = (Vendor::default(), played());
        let db = connected(&vendor, &at);
        let key = key();
        let broker = Broker { db: &db, key: &key, exchange: &vendor, surroundings: &at };
        let all = block_on(join_all((0..20).map(|_| broker.access_of(ACCOUNT, Provider::Openai))));
        assert_eq!(vendor.shown.borrow().len(), 1, "one token was spent");
        for access in all {
            let access = access.expect("a token");
            assert_eq!((access.token.as_str(), access.external_account_id.as_deref()), ("access-1", Some("acc")));
            assert!((3_000..=3_600).contains(&access.expires_in));
        }
        ask(&db, &vendor, &at).expect("what is fresh is not refreshed");
        assert_eq!(vendor.shown.borrow().len(), 1);
        at.now.set(at.now.get() + 3_400_000);
        assert_eq!(ask(&db, &vendor, &at).expect("a new one").token, "access-2");
    }

    #[test]
    fn trouble_at_the_provider_costs_nothing_and_only_its_refusal_ends_an_account() {
        let (vendor, at) = (Vendor::default(), played());
        let db = connected(&vendor, &at);
        for trouble in [ExchangeError::RetrySafe, ExchangeError::Ambiguous] {
            vendor.troubles.borrow_mut().push_back(trouble);
            assert_eq!(ask(&db, &vendor, &at).expect_err("trouble").status(), 502);
            assert_eq!(state(&db), ("active".to_owned(), "idle".to_owned()));
        }
        assert_eq!(ask(&db, &vendor, &at).expect("the token was kept").token, "access-3");
        // The answer is lost after the provider has rotated: the old token is shown once more, and refused.
        at.now.set(at.now.get() + 3_600_000);
        vendor.loses_answer.set(true);
        assert_eq!(ask(&db, &vendor, &at).expect_err("lost").status(), 502);
        assert_eq!(state(&db).0, "active");
        assert_eq!(ask(&db, &vendor, &at).expect_err("refused").status(), 409);
        assert_eq!(state(&db), ("reconnect_required".to_owned(), "idle".to_owned()));
        assert_eq!(ask(&db, &vendor, &at).expect_err("a person must act").status(), 409);
    }

    #[test]
    fn a_claim_whose_holder_is_gone_is_taken_over_after_a_while() {
        let (vendor, at) = (Vendor::default(), played());
        let db = connected(&vendor, &at);
        assert!(block_on(provider_credentials::claim(&db, ACCOUNT, 1, "gone", at.now())).expect("runs"));
        let begun = at.now.get();
        assert_eq!(ask(&db, &vendor, &at).expect("taken over").token, "access-1");
        assert!(at.now.get() - begun >= CLAIM_MS, "not before its time");
        // The one that was gone comes back late: its claim is nobody's.
        let late = provider_credentials::complete(&db, ACCOUNT, "gone", "payload", UnixMillis(9), at.now());
        assert!(!block_on(late).expect("runs"));
        block_on(provider_credentials::fence(&db, ACCOUNT, "gone", at.now())).expect("runs");
        assert_eq!(state(&db).0, "active");
    }

    #[test]
    fn tokens_of_somebody_else_are_never_used() {
        let (vendor, at) = (Vendor::default(), played());
        let db = connected(&vendor, &at);
        vendor.identity.replace(Some("another".to_owned()));
        assert_eq!(ask(&db, &vendor, &at).expect_err("another's").status(), 409);
        assert_eq!(state(&db).0, "reconnect_required");
    }

    #[test]
    fn an_account_that_was_put_away_meanwhile_gets_no_token() {
        let (vendor, at) = (Vendor::default(), played());
        let db = connected(&vendor, &at);
        assert!(block_on(provider_credentials::claim(&db, ACCOUNT, 1, "mine", at.now())).expect("runs"));
        block_on(db.batch(provider_accounts::archive(ACCOUNT, "u", at.now()))).expect("runs");
        let late = provider_credentials::complete(&db, ACCOUNT, "mine", "payload", UnixMillis(9), at.now());
        assert!(!block_on(late).expect("runs"));
        assert_eq!(ask(&db, &vendor, &at).expect_err("archived").status(), 409);
        let key = key();
        let broker = Broker { db: &db, key: &key, exchange: &vendor, surroundings: &at };
        let unknown = block_on(broker.access_of("nobody", Provider::Openai));
        assert_eq!(unknown.expect_err("unknown").status(), 404);
    }

    #[test]
    fn verifying_refreshes_what_is_fresh_too() {
        let (vendor, at) = (Vendor::default(), played());
        let db = connected(&vendor, &at);
        ask(&db, &vendor, &at).expect("a token");
        let key = key();
        let broker = Broker { db: &db, key: &key, exchange: &vendor, surroundings: &at };
        block_on(broker.verify(ACCOUNT, Provider::Openai)).expect("it works");
        assert_eq!(vendor.shown.borrow().as_slice(), ["refresh-0", "refresh-1"]);
        assert_eq!(block_on(broker.verify(ACCOUNT, Provider::Xai)).expect_err("another provider's").status(), 409);
    }

    #[test]
    fn a_default_account_is_not_disabled_or_put_away() {
        let (vendor, at) = (Vendor::default(), played());
        let db = connected(&vendor, &at);
        let set = provider_accounts::set_default(Provider::Openai, ACCOUNT, "api_key", "u", at.now());
        assert_eq!(block_on(db.batch(vec![set])).expect("runs"), [1]);
        assert_eq!(block_on(provider_accounts::default_providers(&db)).expect("runs"), ["openai"]);
        for statements in [
            vec![provider_accounts::disable(ACCOUNT, "u", at.now())],
            provider_accounts::archive(ACCOUNT, "u", at.now()),
        ] {
            let error = block_on(db.batch(statements)).expect_err("kept");
            assert!(provider_accounts::is_default_constraint(&error), "{error}");
        }
        assert!(ask(&db, &vendor, &at).is_ok());
        block_on(db.batch(vec![provider_accounts::clear_default(Provider::Openai)])).expect("runs");
        block_on(db.batch(vec![provider_accounts::disable(ACCOUNT, "u", at.now())])).expect("runs");
        assert_eq!(state(&db).0, "disabled");
        let wrong = provider_accounts::set_default(Provider::Openai, ACCOUNT, "api_key", "u", at.now());
        assert_eq!(block_on(db.batch(vec![wrong])).expect("runs"), [0], "one that is disabled is no default");
    }
}
