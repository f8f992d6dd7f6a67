//! A GitHub-compatible forge for one machine: the REST calls, the OAuth flow, git over HTTP, plain pages and webhooks
//! that Open-Inspect uses, with real git behind them.
//!
//! State is one SQLite file and bare repositories in the state folder. Accounts and repositories come from the
//! configuration and stay the same for a run.

mod admin;
mod api;
mod auth;
mod config;
mod directory;
mod edge;
mod git;
mod gitlab;
mod lifecycle;
mod names;
mod oauth;
mod pages;
mod seed;
mod smart_http;
mod store;
mod webhooks;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::OwnedMutexGuard;

pub use config::{
    AppConfig, Config, GitlabConfig, Level, OAuthConfig, OrganizationConfig, OrganizationRole, RepositoryConfig,
    Secret, Seed, UserConfig, WebhookConfig,
};
use directory::{Directory, Repository};
use git::Git;
use store::Store;

/// Largest body of an API call or a form, in bytes. A push has its own limit.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// Why the forge could not start.
#[derive(Debug, thiserror::Error)]
pub enum ForgeError {
    #[error("the configuration `{path}` can't be used: {reason}")]
    Config { path: PathBuf, reason: String },
    #[error("the configuration can't be used: {0}")]
    Rules(String),
    #[error("the state folder `{path}` can't be used: {source}")]
    StateDir { path: PathBuf, source: std::io::Error },
    #[error("the state can't be opened: {0}")]
    Store(String),
    #[error("the repository `{repository}` could not be made: {reason}")]
    Seed { repository: String, reason: String },
}

/// An open forge, ready to be served.
pub struct Forge {
    config: Config,
    app_key: jsonwebtoken::DecodingKey,
    directory: Directory,
    store: Store,
    git: Git,
    webhooks: webhooks::Webhooks,
    faults: admin::Faults,
    git_requests: Arc<tokio::sync::Semaphore>,
    locks: Mutex<HashMap<u64, Arc<tokio::sync::Mutex<()>>>>,
}

/// The forge, as every handler gets it.
type Shared = Arc<Forge>;

impl Forge {
    /// Opens the state folder, making it and the repositories that are missing.
    pub async fn open(config: Config, state_dir: &Path) -> Result<Arc<Self>, ForgeError> {
        config.check().map_err(ForgeError::Rules)?;
        let directory = Directory::new(&config).map_err(ForgeError::Rules)?;
        let app_key = jsonwebtoken::DecodingKey::from_rsa_pem(config.app.public_key_pem.as_bytes())
            .map_err(|error| ForgeError::Rules(format!("`app.publicKeyPem` is no RSA public key: {error}")))?;
        let root = state_dir.join("repositories");
        std::fs::create_dir_all(&root).map_err(|source| ForgeError::StateDir { path: state_dir.to_owned(), source })?;
        // Git is run in other folders: the path must not depend on ours.
        let root = root.canonicalize().map_err(|source| ForgeError::StateDir { path: root, source })?;
        let store =
            Store::open(&state_dir.join("forge.sqlite")).map_err(|error| ForgeError::Store(error.to_string()))?;
        let webhooks = webhooks::Webhooks::start(config.webhook.clone());
        let forge = Arc::new(Self {
            app_key,
            git: Git::new(root, &directory),
            directory,
            store,
            webhooks,
            faults: admin::Faults::default(),
            git_requests: Arc::new(tokio::sync::Semaphore::new(smart_http::MAX_REQUESTS)),
            locks: Mutex::default(),
            config,
        });
        for repository in forge.directory.repositories() {
            if !forge.git.exists(repository.id) {
                forge.plant(repository).await?;
            } else if let Err(error) = forge.catch_up(repository).await {
                tracing::error!(?error, repository = %repository.full_name(), "pull requests may lag behind their branches");
            }
        }
        Ok(forge)
    }

    /// Makes a repository anew from its seed.
    async fn plant(&self, repository: &Repository) -> Result<(), ForgeError> {
        let history = seed::history(repository.seed, &repository.default_branch, &self.directory);
        self.git
            .create(repository.id, &repository.default_branch, &history)
            .await
            .map_err(|error| ForgeError::Seed { repository: repository.full_name(), reason: error.to_string() })
    }

    /// Keeps everyone else from changing a repository's branches and pull requests.
    async fn lock(&self, repository: u64) -> OwnedMutexGuard<()> {
        let lock = self.locks.lock().unwrap_or_else(PoisonError::into_inner).entry(repository).or_default().clone();
        lock.lock_owned().await
    }

    /// An address under the forge's public origin.
    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.config.origin())
    }
}

/// Serves the forge until the listener fails.
pub async fn serve(listener: TcpListener, forge: Arc<Forge>) -> std::io::Result<()> {
    axum::serve(listener, router(forge)).await
}

fn router(forge: Shared) -> Router {
    let base = forge.config.base_path().to_owned();
    let router = Router::new()
        .route("/health", get(health))
        .nest("/api/v3", api::router(&forge))
        .nest("/api/v4", gitlab::router(&forge))
        .merge(gitlab::pages())
        .merge(oauth::router())
        .merge(smart_http::router())
        .merge(pages::router())
        .merge(admin::router())
        .fallback(pages::not_found)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(axum::middleware::from_fn_with_state(forge.clone(), edge::edge))
        .with_state(forge);
    if base.is_empty() { router } else { Router::new().nest(&base, router) }
}

async fn health() -> axum::Json<serde_json::Value> {
    axum::Json(serde_json::json!({ "status": "healthy", "service": "devkit-forge" }))
}
