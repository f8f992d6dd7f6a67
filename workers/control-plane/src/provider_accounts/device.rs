//! Authorising a device: a person types a code at the provider, and we ask until they have.

use oi_protocol::settings::DeviceAuthorization;
use oi_protocol::{ErrorCode, UnixMillis};
use oi_worker_kit::sealed::SealingKey;
use oi_worker_kit::{Failure, Fault, Refusal};

use super::Provider;
use super::broker::Surroundings;
use super::connect::{self, Connector, Outcome};
use super::oauth::{DeviceKept, Exchange, Polled};
use crate::store::audit_log::Author;
use crate::store::provider_accounts::{self, Account};
use crate::store::provider_authorizations::{self as store, Authorization, New, Operation, PROCESSING_MS};
use crate::store::provider_credentials::Guard;
use crate::store::{Database, Statement};

/// What is sealed opens for this transaction only.
fn place(id: &str, provider: Provider) -> String {
    serde_json::json!(["v1", "device-authorization", id, provider.as_str(), 1]).to_string()
}

fn too_many(sentence: &'static str) -> Failure {
    Refusal::new(429, ErrorCode::RateLimited, sentence).retry_after(Some(60)).into()
}

fn not_found() -> Refusal {
    Refusal::not_found("Authorization transaction not found")
}

/// What a poll answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answered {
    /// Ask again then.
    Pending { expires_at: UnixMillis, poll_interval_ms: i64, next_poll_at: UnixMillis },
    /// There is an account.
    Connected { account: String, existing: bool, completed_at: UnixMillis },
    /// There is none: the state.
    Ended(String),
}

/// What people are told of an end, and whether beginning anew may help.
pub fn words(state: &str) -> (&'static str, bool) {
    match state {
        "denied" => ("The authorization was denied", false),
        "expired" => ("The authorization expired: start again", true),
        "cancelled" => ("The authorization was cancelled", true),
        "superseded" => ("A newer authorization took its place", true),
        _ => ("The authorization failed: start again", true),
    }
}

/// What it is for.
pub enum Wanted<'a> {
    /// A new account of this name.
    Create(&'a str),
    /// New tokens of an account.
    Reconnect(&'a Account),
}

/// A person's authorisations at a provider.
pub struct Devices<'a, D, E, S> {
    /// The database.
    pub db: &'a D,
    /// What is sealed, is sealed with this.
    pub key: &'a SealingKey,
    /// The providers.
    pub exchange: &'a E,
    /// Time and randomness.
    pub surroundings: &'a S,
    /// The person.
    pub user: &'a str,
    /// The same, as the audit log names them.
    pub author: &'a Author,
    /// The provider.
    pub provider: Provider,
}

impl<D: Database, E: Exchange, S: Surroundings> Devices<'_, D, E, S> {
    /// Begins one.
    pub async fn begin(&self, wanted: Wanted<'_>) -> Result<DeviceAuthorization, Failure> {
        let now = self.surroundings.now();
        if !store::attempt(self.db, &self.surroundings.unique(), self.user, now).await? {
            return Err(too_many("Too many authorization attempts; try again shortly"));
        }
        let creates = matches!(wanted, Wanted::Create(_));
        if !store::has_room(self.db, self.user, self.provider, creates).await? {
            return Err(too_many("Too many authorizations are under way; finish or cancel one"));
        }
        let device = self.exchange.begin_device(self.provider).await;
        let device = device.map_err(|_| Refusal::upstream("The provider did not answer. Try again in a moment"))?;
        let id = format!("{}{}", self.surroundings.unique(), self.surroundings.unique());
        let kept = serde_json::to_string(&device.kept).map_err(|error| Fault::new("writing a device", error))?;
        let sealed = self.key.seal(&kept, &place(&id, self.provider));
        let sealed = sealed.map_err(|error| Fault::new("sealing a device", error))?;
        let (word, operation) = match wanted {
            Wanted::Create(display_name) => ("create", Operation::Create { display_name }),
            Wanted::Reconnect(account) => {
                ("reconnect", Operation::Reconnect { account: &account.id, lifecycle: account.lifecycle_version })
            }
        };
        let now = self.surroundings.now();
        let new = New {
            id: &id,
            user: self.user,
            provider: self.provider,
            operation,
            sealed: &sealed,
            interval_ms: device.interval_ms,
            expires_at: device.expires_at,
            now,
        };
        if !store::begin(self.db, &new).await? {
            return Err(too_many("Too many authorizations are under way; finish or cancel one"));
        }
        Ok(DeviceAuthorization {
            transaction_id: id,
            provider: self.provider.as_str().to_owned(),
            operation: word.to_owned(),
            user_code: device.user_code,
            verification_url: device.verification_url,
            expires_at: device.expires_at,
            expires_in_ms: device.expires_at.since(now),
            poll_interval_ms: device.interval_ms,
        })
    }

    async fn load(&self, id: &str) -> Result<Authorization, Failure> {
        Ok(store::get(self.db, id, self.user, self.provider).await?.ok_or_else(not_found)?)
    }

    fn shown(&self, found: &Authorization) -> Answered {
        let now = self.surroundings.now().0;
        match found.state.as_str() {
            "pending" if found.expires_at <= now => Answered::Ended("expired".to_owned()),
            "processing" if found.processing_started_at.is_some_and(|begun| begun <= now - PROCESSING_MS) => {
                Answered::Ended("failed".to_owned())
            }
            "pending" | "processing" => Answered::Pending {
                expires_at: UnixMillis(found.expires_at),
                poll_interval_ms: found.interval_ms,
                next_poll_at: UnixMillis(found.next_poll_at),
            },
            "connected" => Answered::Connected {
                account: found.result_provider_account_id.clone().unwrap_or_default(),
                existing: found.reconnected_existing == Some(1),
                completed_at: UnixMillis(found.completed_at.unwrap_or(0)),
            },
            ended => Answered::Ended(ended.to_owned()),
        }
    }

    /// Asks the provider, when it is time and nobody else does; otherwise answers what is known.
    pub async fn poll(&self, id: &str) -> Result<Answered, Failure> {
        let found = self.load(id).await?;
        let now = self.surroundings.now();
        let owner = self.surroundings.unique();
        if found.state != "pending" || !store::claim(self.db, id, &owner, now).await? {
            return Ok(self.shown(&found));
        }
        let sealed = found.encrypted_provider_data.as_deref().unwrap_or_default();
        let kept = self.key.open(sealed, &place(id, self.provider));
        let kept = kept.map_err(|error| Fault::new("opening a device", error))?;
        let kept: DeviceKept = serde_json::from_str(&kept).map_err(|error| Fault::new("reading a device", error))?;
        let polled = self.exchange.poll_device(&kept, found.interval_ms).await;
        let now = self.surroundings.now();
        match polled {
            Ok(Polled::Pending { interval_ms }) => store::wait(self.db, id, &owner, interval_ms, now).await?,
            // The code is not used up by a question that nobody answered.
            Err(_) => store::wait(self.db, id, &owner, found.interval_ms, now).await?,
            Ok(Polled::Denied) => store::end(self.db, id, &owner, "denied", now).await?,
            Ok(Polled::Expired) => store::end(self.db, id, &owner, "expired", now).await?,
            Ok(Polled::Failed) => store::end(self.db, id, &owner, "failed", now).await?,
            Ok(Polled::Authorized(tokens)) => {
                let finished = self.finish(&found, &owner, tokens).await;
                if !matches!(finished, Ok(Outcome::Connected { .. })) {
                    store::end(self.db, id, &owner, "failed", self.surroundings.now()).await?;
                }
                if let Err(Failure::Faulted(fault)) = finished {
                    return Err(fault.into());
                }
            }
        }
        Ok(self.shown(&self.load(id).await?))
    }

    async fn finish(
        &self,
        found: &Authorization,
        owner: &str,
        tokens: super::tokens::Tokens,
    ) -> Result<Outcome, Failure> {
        let proven = connect::prove(self.exchange, self.provider, tokens).await?;
        let guard = Some(Guard { transaction: &found.id, owner });
        let (db, key, surroundings, by, author) = (self.db, self.key, self.surroundings, self.user, self.author);
        let connector = Connector { db, key, surroundings, by, author, guard };
        let target = found.target_account_id.as_deref().zip(found.target_lifecycle_version);
        let Some((account, lifecycle)) = target else {
            let name = found.display_name.as_deref().unwrap_or_default();
            return connector.create(self.provider, name, &proven).await;
        };
        let Some(account) = provider_accounts::get(self.db, account).await? else { return Ok(Outcome::Changed) };
        connector.reconnect(&account, lifecycle, self.provider, &proven).await
    }

    /// Ends one that the person does not want any more.
    pub async fn cancel(&self, id: &str) -> Result<Vec<Statement>, Failure> {
        self.load(id).await?;
        Ok(vec![store::cancel(id, self.surroundings.now())])
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;

    use futures_executor::block_on;

    use super::*;
    use crate::provider_accounts::broker::tests::{ACCOUNT, Played, Vendor, connected, key, played};
    use crate::provider_accounts::oauth::{Device, ExchangeError};
    use crate::provider_accounts::tokens::Tokens;
    use crate::store::audit_log::tests::told;
    use crate::store::native::Native;

    /// A provider of devices, which answers what is planned.
    #[derive(Default)]
    struct Desk {
        answers: RefCell<VecDeque<Result<Polled, ExchangeError>>>,
        asked: RefCell<Vec<DeviceKept>>,
    }

    impl Exchange for Desk {
        async fn refresh(&self, _: Provider, _: &str) -> Result<Tokens, ExchangeError> {
            Err(ExchangeError::RetrySafe)
        }

        async fn identity(&self, _: Provider, tokens: &Tokens) -> Result<Option<String>, ExchangeError> {
            Ok(tokens.external_id.clone())
        }

        async fn begin_device(&self, _: Provider) -> Result<Device, ExchangeError> {
            Ok(Device {
                user_code: "ABCD-EFGH".to_owned(),
                verification_url: "https://auth.openai.com/codex/device".to_owned(),
                interval_ms: 5_000,
                expires_at: UnixMillis(1_800_000_600_000),
                kept: DeviceKept::Openai { device_auth_id: "secret".to_owned(), user_code: "ABCD-EFGH".to_owned() },
            })
        }

        async fn poll_device(&self, kept: &DeviceKept, interval_ms: i64) -> Result<Polled, ExchangeError> {
            self.asked.borrow_mut().push(kept.clone());
            self.answers.borrow_mut().pop_front().unwrap_or(Ok(Polled::Pending { interval_ms }))
        }
    }

    fn authorized(identity: &str) -> Result<Polled, ExchangeError> {
        Ok(Polled::Authorized(Tokens {
            access_token: "a".to_owned(),
            refresh_token: Some("r".to_owned()),
            life_seconds: 3_600,
            external_id: Some(identity.to_owned()),
        }))
    }

    struct Table {
        db: Native,
        desk: Desk,
        at: Played,
    }

    impl Table {
        fn new() -> Self {
            let at = played();
            Self { db: connected(&Vendor::default(), &at), desk: Desk::default(), at }
        }

        fn of<T>(&self, user: &str, act: impl AsyncFnOnce(&Devices<'_, Native, Desk, Played>) -> T) -> T {
            let key = key();
            let devices = Devices {
                db: &self.db,
                key: &key,
                exchange: &self.desk,
                surroundings: &self.at,
                user,
                author: &Author::person(user, "r1"),
                provider: Provider::Openai,
            };
            block_on(act(&devices))
        }

        fn begin(&self, user: &str) -> String {
            self.of(user, async |devices| devices.begin(Wanted::Create("Mine")).await).expect("begins").transaction_id
        }

        fn poll(&self, id: &str) -> Answered {
            self.of("ada", async |devices| devices.poll(id).await).expect("answers")
        }

        fn later(&self, ms: i64) {
            self.at.now.set(self.at.now.get() + ms);
        }
    }

    #[test]
    fn a_person_types_the_code_and_has_an_account() {
        let table = Table::new();
        let id = table.begin("ada");
        assert!(matches!(table.poll(&id), Answered::Pending { poll_interval_ms: 5_000, .. }));
        assert!(table.desk.asked.borrow().is_empty(), "asked too early, the database answers");
        table.later(5_000);
        assert!(matches!(table.poll(&id), Answered::Pending { .. }));
        assert_eq!(table.desk.asked.borrow().len(), 1);
        table.desk.answers.borrow_mut().push_back(Err(ExchangeError::RetrySafe));
        table.later(5_000);
        assert!(matches!(table.poll(&id), Answered::Pending { .. }), "an outage ends nothing");
        table.desk.answers.borrow_mut().push_back(authorized("new-identity"));
        table.later(5_000);
        let Answered::Connected { account, existing: false, .. } = table.poll(&id) else { panic!("connected") };
        let made = block_on(provider_accounts::get(&table.db, &account)).expect("runs").expect("is there");
        assert_eq!((made.display_name.as_str(), made.created_by.as_str()), ("Mine", "ada"));
        assert!(matches!(table.poll(&id), Answered::Connected { .. }), "asked again it is still so");
        assert_eq!(told(&table.db), [format!("provider_account.connect {account}")], "and told once");
        let stranger = table.of("grace", async |devices| devices.poll(&id).await);
        assert_eq!(stranger.expect_err("another's").status(), 404);
    }

    #[test]
    fn an_account_that_changed_meanwhile_is_not_reconnected() {
        let table = Table::new();
        let account = block_on(provider_accounts::get(&table.db, ACCOUNT)).expect("runs").expect("is there");
        let begin = || {
            let begun = table.of("ada", async |devices| devices.begin(Wanted::Reconnect(&account)).await);
            begun.expect("begins").transaction_id
        };
        let (first, second) = (begin(), begin());
        table.later(5_000);
        table.desk.answers.borrow_mut().push_back(authorized("acc"));
        assert!(matches!(table.poll(&first), Answered::Connected { existing: true, .. }));
        table.desk.answers.borrow_mut().push_back(authorized("acc"));
        assert_eq!(table.poll(&second), Answered::Ended("failed".to_owned()));
        let other = begin_of_other(&table);
        table.later(5_000);
        table.desk.answers.borrow_mut().push_back(authorized("somebody-else"));
        assert_eq!(table.poll(&other), Answered::Ended("failed".to_owned()));
    }

    fn begin_of_other(table: &Table) -> String {
        let account = block_on(provider_accounts::get(&table.db, ACCOUNT)).expect("runs").expect("is there");
        let begun = table.of("ada", async |devices| devices.begin(Wanted::Reconnect(&account)).await);
        begun.expect("begins").transaction_id
    }

    #[test]
    fn a_newer_creation_takes_the_place_of_an_older_one_and_a_cancelled_one_stays_so() {
        let table = Table::new();
        let (first, second) = (table.begin("ada"), table.begin("ada"));
        assert_eq!(table.poll(&first), Answered::Ended("superseded".to_owned()));
        let statements = table.of("ada", async |devices| devices.cancel(&second).await).expect("cancels");
        block_on(table.db.batch(statements)).expect("runs");
        table.later(5_000);
        table.desk.answers.borrow_mut().push_back(authorized("late"));
        assert_eq!(table.poll(&second), Answered::Ended("cancelled".to_owned()));
        assert!(block_on(provider_accounts::by_identity(&table.db, Provider::Openai, "late")).expect("runs").is_none());
    }

    #[test]
    fn attempts_are_limited_and_room_is_made_by_time() {
        let table = Table::new();
        for _ in 0..5 {
            table.begin("ada");
        }
        let sixth = table.of("ada", async |devices| devices.begin(Wanted::Create("x")).await);
        assert_eq!(sixth.expect_err("too many").status(), 429);
        table.begin("grace");
        table.later(60_001);
        let id = table.begin("ada");
        table.later(600_000);
        assert_eq!(table.poll(&id), Answered::Ended("expired".to_owned()));
        block_on(store::sweep(&table.db, table.at.now())).expect("runs");
        assert_eq!(table.poll(&id), Answered::Ended("expired".to_owned()));
        table.later(600_001);
        block_on(store::sweep(&table.db, table.at.now())).expect("runs");
        let gone = table.of("ada", async |devices| devices.poll(&id).await);
        assert_eq!(gone.expect_err("forgotten").status(), 404);
    }

    #[test]
    fn who_is_gone_in_the_middle_ends_a_transaction_as_failed() {
        let table = Table::new();
        let id = table.begin("ada");
        table.later(5_000);
        assert!(block_on(store::claim(&table.db, &id, "gone", table.at.now())).expect("runs"));
        assert!(matches!(table.poll(&id), Answered::Pending { .. }));
        table.later(PROCESSING_MS);
        assert_eq!(table.poll(&id), Answered::Ended("failed".to_owned()));
        assert!(table.desk.asked.borrow().is_empty());
    }
}
