//! What the host lends to the core for one input: time, randomness, configuration.

use oi_protocol::UnixMillis;

use crate::budgets::Budgets;

/// Randomness, from the host (getrandom) or from a seed (the simulator).
pub trait Rng {
    /// Fills `bytes`.
    fn fill(&mut self, bytes: &mut [u8]);
}

impl<F: FnMut(&mut [u8])> Rng for F {
    fn fill(&mut self, bytes: &mut [u8]) {
        self(bytes);
    }
}

/// What the backend of sandboxes can do, as the lifecycle needs to know it. It is asked for this, never for its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BackendTraits {
    /// A sandbox's files can be kept and given to another.
    pub snapshots: bool,
    /// Keeping its files ends a sandbox.
    pub snapshot_ends: bool,
    /// A stopped sandbox can go on.
    pub resumes: bool,
    /// The longest life of a sandbox, in seconds, when the backend has such a limit.
    pub max_life_seconds: Option<u32>,
}

/// Settings of the deployment that the session needs.
#[derive(Clone)]
pub struct Config {
    /// Sandbox tokens are an HMAC under this key.
    pub sandbox_token_key: Vec<u8>,
    /// A ready sandbox with nothing to do is stopped after this, in ms.
    pub inactivity_timeout_ms: i64,
    /// A prompt that runs longer is stopped, in ms.
    pub execution_timeout_ms: i64,
    /// A sandbox's bridge must connect within this, in ms.
    pub connect_timeout_ms: i64,
    /// A dialect 2 bridge, which connects before it has booted, must be ready within this of its start, in ms.
    pub connect_hard_timeout_ms: i64,
    /// Newest events that stay in SQLite; older ones move to R2 when there are a tenth more.
    pub retention_rows: i64,
    /// Forge base URL for clones and pushes, such as `https://github.com`.
    pub forge_url: String,
    /// What prompts and sessions may use.
    pub budgets: Budgets,
    /// What the backend can do.
    pub backend: BackendTraits,
    /// A sandbox's life, in seconds, unless the backend's limit is shorter.
    pub sandbox_life_seconds: u32,
    /// Tests only: whether [`crate::call::SessionCall::Fault`] panics.
    pub fault_injection: bool,
}

impl Config {
    /// Defaults of the specification, with a key.
    pub fn with_key(sandbox_token_key: Vec<u8>) -> Self {
        Self {
            sandbox_token_key,
            inactivity_timeout_ms: 600_000,
            execution_timeout_ms: 5_400_000,
            connect_timeout_ms: 120_000,
            connect_hard_timeout_ms: 900_000,
            retention_rows: 10_000,
            forge_url: "https://github.com".to_owned(),
            budgets: Budgets::default(),
            backend: BackendTraits::default(),
            sandbox_life_seconds: 7_200,
            fault_injection: false,
        }
    }
}

impl Config {
    /// As much of a wanted life as the backend gives, in seconds.
    pub fn bounded_life(&self, seconds: u32) -> u32 {
        self.backend.max_life_seconds.map_or(seconds, |most| most.min(seconds))
    }
}

/// Time, randomness and settings of one input.
pub struct Cx<'a> {
    /// Now.
    pub now: UnixMillis,
    /// Randomness.
    pub rng: &'a mut dyn Rng,
    /// Settings.
    pub config: &'a Config,
}

impl Cx<'_> {
    /// 16 random bytes.
    pub fn random_id(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.rng.fill(&mut bytes);
        bytes
    }
}
