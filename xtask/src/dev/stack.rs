//! What a development stack is made of: each program with its arguments, environment and sign of life.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::env_file;
use super::secrets::Secrets;
use super::supervisor::{Spec, Stage};
use super::{CONTROL_PLANE, wrangler_config};
use crate::failure::{Failure, Result};
use crate::program::Program;
use crate::setup::Ready;
use crate::workers::{DATABASES, Worker};

/// The forge's one App and its installation. The numbers mean nothing.
const GITHUB_APP_ID: &str = "4242";
const GITHUB_INSTALLATION_ID: &str = "77001";
const GITHUB_CLIENT_ID: &str = "Iv1.opendevlocal";
const GOOGLE_CLIENT_ID: &str = "open-inspect-dev.apps.googleusercontent.local";

/// Any of these names a real model, which then takes the demo model's place.
pub const MODEL_VARIABLES: &[&str] = &[
    "ANTHROPIC_API_KEY",
    "OPENAI_API_KEY",
    "OPENAI_COMPATIBLE_BASE_URL",
    "OPENAI_COMPATIBLE_API_KEY",
    "OPENAI_COMPATIBLE_MODEL",
];

/// Taken over from our own environment when set.
const PASSED_ON: &[&str] = &["DEFAULT_MODEL", "LOG_LEVEL", "EXECUTION_TIMEOUT_MS", "SANDBOX_INACTIVITY_TIMEOUT_MS"];

/// Secrets and steering of other accounts, which a local stack must not see.
const HIDDEN_FROM_WRANGLER: &[&str] = &[
    "CLOUDFLARE_API_TOKEN",
    "CLOUDFLARE_API_KEY",
    "CLOUDFLARE_EMAIL",
    "CLOUDFLARE_ACCOUNT_ID",
    "CLOUDFLARE_ENV",
    "ANTHROPIC_API_KEY",
    "OPENAI_API_KEY",
    "OPENAI_COMPATIBLE_API_KEY",
];

/// Ports of the programs, all on the loopback address.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    pub control_plane: u16,
    pub forge: u16,
    pub google: u16,
    pub model: Option<u16>,
    /// None when somebody else plays the backend.
    pub sandbox_host: Option<u16>,
    pub slack: Option<u16>,
    pub github: Option<u16>,
    pub linear: Option<u16>,
    /// Of the Workers' debuggers, one each in the order of `Worker::ALL`.
    pub inspectors: [u16; 4],
}

/// Origins of the programs.
#[derive(Debug, Clone)]
pub struct Addresses {
    pub control_plane: String,
    pub forge: String,
    pub google: String,
    pub model: Option<String>,
    pub sandbox_host: String,
    pub slack: Option<String>,
    pub github: Option<String>,
    pub linear: Option<String>,
}

impl Addresses {
    pub fn of(ports: &Ports) -> Self {
        let origin = |port: u16| format!("http://127.0.0.1:{port}");
        Self {
            control_plane: origin(ports.control_plane),
            forge: origin(ports.forge),
            google: origin(ports.google),
            model: ports.model.map(origin),
            sandbox_host: ports.sandbox_host.map(origin).unwrap_or_default(),
            slack: ports.slack.map(origin),
            github: ports.github.map(origin),
            linear: ports.linear.map(origin),
        }
    }
}

/// One stack: where its state is and what it was told.
pub struct Stack<'a> {
    pub ready: &'a Ready,
    pub state: &'a Path,
    pub secrets: &'a Secrets,
    pub ports: Ports,
    pub at: Addresses,
    /// Variables of the control plane that were asked for by flag, last and so strongest.
    pub vars: &'a [(String, String)],
}

impl Stack<'_> {
    /// Writes the configuration files and says what to run.
    pub fn specs(&self) -> Result<Vec<Spec>> {
        let mut specs = vec![self.forge()?, self.google()?, self.control_plane()?];
        specs.extend(self.sandbox_host());
        specs.extend(self.model());
        for worker in Worker::BOTS {
            specs.extend(self.bot(worker)?);
        }
        Ok(specs)
    }

    /// Brings the local D1 databases up to date.
    pub fn migrate(&self) -> Result<()> {
        DATABASES.into_iter().try_for_each(|(binding, _)| self.migrate_one(binding))
    }

    fn migrate_one(&self, binding: &str) -> Result<()> {
        let config = self.config(Worker::ControlPlane)?;
        Program::new("applying the D1 migrations", self.ready.node.node(), std::time::Duration::from_secs(120))
            .args([self.ready.node.wrangler().as_os_str()])
            .args(["d1", "migrations", "apply", binding, "--local", "-c"])
            .args([config.as_os_str(), "--persist-to".as_ref(), self.persist().as_os_str()])
            .dir(&self.ready.places.root)
            .envs(self.wrangler_env())
            // It asks nothing then.
            .env("CI", "true")
            .log(self.state.join(format!("logs/migrations-{binding}.log")))
            .run()
    }

    fn persist(&self) -> PathBuf {
        self.state.join("state/wrangler")
    }

    fn log(&self, name: &str) -> PathBuf {
        self.state.join("logs").join(format!("{name}.log"))
    }

    fn forge(&self) -> Result<Spec> {
        let secrets_file = self.state.join("secrets.json");
        let mut config = json!({
            "publicUrl": self.at.forge,
            "oauth": {
                "clientId": GITHUB_CLIENT_ID,
                "clientSecret": self.secrets.github_client_secret,
                "redirectOrigins": [self.at.control_plane],
            },
            "app": {
                "id": GITHUB_APP_ID,
                "installationId": GITHUB_INSTALLATION_ID,
                "publicKeyPem": self.secrets.github_app_public_key(&secrets_file)?,
            },
            "adminSecret": self.secrets.forge_admin_secret,
        });
        if let Some(github) = &self.at.github {
            config["webhook"] =
                json!({"url": format!("{github}/webhooks/github"), "secret": self.secrets.github_webhook_secret});
        }
        let path = self.state.join("config/forge.json");
        let bytes = serde_json::to_vec_pretty(&config).map_err(|error| Failure::content(&path, error))?;
        env_file::write_private(&path, &bytes)?;
        Ok(Spec {
            name: "forge",
            program: self.devkit(),
            args: words(&["forge", "--listen", &listen(self.ports.forge), "--state-dir"])
                .into_iter()
                .chain([self.state.join("state/forge").into(), "--config".into(), path.into()])
                .collect(),
            env: Vec::new(),
            unset: MODEL_VARIABLES.to_vec(),
            dir: self.state.to_path_buf(),
            log: self.log("forge"),
            health: format!("{}/health", self.at.forge),
            stage: Stage::Services,
            wrangler_port: None,
        })
    }

    /// The stand-in for Google's sign-in.
    fn google(&self) -> Result<Spec> {
        let config = json!({
            "publicUrl": self.at.google,
            "clientId": GOOGLE_CLIENT_ID,
            "clientSecret": self.secrets.google_client_secret,
            "redirectOrigins": [self.at.control_plane],
            "adminSecret": self.secrets.forge_admin_secret,
        });
        let path = self.state.join("config/google.json");
        let bytes = serde_json::to_vec_pretty(&config).map_err(|error| Failure::content(&path, error))?;
        env_file::write_private(&path, &bytes)?;
        Ok(Spec {
            name: "google",
            program: self.devkit(),
            args: words(&["google", "--listen", &listen(self.ports.google), "--config"])
                .into_iter()
                .chain([path.into()])
                .collect(),
            env: Vec::new(),
            unset: MODEL_VARIABLES.to_vec(),
            dir: self.state.to_path_buf(),
            log: self.log("google"),
            health: format!("{}/health", self.at.google),
            stage: Stage::Services,
            wrangler_port: None,
        })
    }

    fn model(&self) -> Option<Spec> {
        let port = self.ports.model?;
        Some(Spec {
            name: "model",
            program: self.devkit(),
            args: words(&["model", "--listen", &listen(port)]),
            env: Vec::new(),
            unset: MODEL_VARIABLES.to_vec(),
            dir: self.state.to_path_buf(),
            log: self.log("model"),
            health: format!("http://127.0.0.1:{port}/health"),
            stage: Stage::Services,
            wrangler_port: None,
        })
    }

    /// Folders for the `PATH` of sandboxes.
    fn tool_path(&self) -> OsString {
        let folders = std::iter::once(self.ready.node.bin_dir()).chain(self.ready.development.as_deref());
        std::env::join_paths(folders).unwrap_or_else(|_| self.ready.node.bin_dir().into())
    }

    fn sandbox_host(&self) -> Option<Spec> {
        let port = self.ports.sandbox_host?;
        let node = &self.ready.node;
        Some(Spec {
            name: "sandbox-host",
            program: self.ready.places.target().join("release/sandbox-bridge"),
            args: words(&["host", "--listen", &listen(port), "--state-dir"])
                .into_iter()
                .chain([self.state.join("state/sandboxes").into()])
                .collect(),
            env: vec![
                ("LOCAL_SANDBOX_SECRET".into(), self.secrets.sandbox_host_secret.clone().into()),
                ("OPENCODE_BIN".into(), node.opencode().into()),
                // What the agent and the projects it works on may expect to find.
                ("OI_TOOL_PATH".into(), self.tool_path()),
            ],
            // The model's key comes with each sandbox's configuration, and only its supervisor holds it.
            unset: MODEL_VARIABLES.to_vec(),
            dir: self.state.to_path_buf(),
            log: self.log("sandbox-host"),
            health: format!("{}/health", self.at.sandbox_host),
            stage: Stage::Sandboxes,
            wrangler_port: None,
        })
    }

    fn control_plane(&self) -> Result<Spec> {
        self.worker(Worker::ControlPlane, CONTROL_PLANE, self.ports.control_plane, &self.control_plane_variables())
    }

    fn bot(&self, worker: Worker) -> Result<Option<Spec>> {
        let (name, port, auth, hook) = match worker {
            Worker::ControlPlane => return Ok(None),
            Worker::Slack => (
                "slack",
                self.ports.slack,
                &self.secrets.service_auth_slack_bot,
                ("SLACK_SIGNING_SECRET", &self.secrets.slack_signing_secret),
            ),
            Worker::Github => (
                "github",
                self.ports.github,
                &self.secrets.service_auth_github_bot,
                ("GITHUB_WEBHOOK_SECRET", &self.secrets.github_webhook_secret),
            ),
            Worker::Linear => (
                "linear",
                self.ports.linear,
                &self.secrets.service_auth_linear_bot,
                ("LINEAR_WEBHOOK_SECRET", &self.secrets.linear_webhook_secret),
            ),
        };
        let Some(port) = port else { return Ok(None) };
        let variables = [
            ("SERVICE_AUTH_SECRET".to_owned(), auth.clone()),
            (hook.0.to_owned(), hook.1.clone()),
            ("DEPLOYMENT_NAME".to_owned(), "local".to_owned()),
            ("WEB_APP_URL".to_owned(), self.at.control_plane.clone()),
        ];
        self.worker(worker, name, port, &variables).map(Some)
    }

    fn worker(&self, worker: Worker, name: &'static str, port: u16, vars: &[(String, String)]) -> Result<Spec> {
        let config = self.config(worker)?;
        let env_path = self.folder(worker).join("variables.env");
        env_file::write(&env_path, vars)?;
        let inspector =
            Worker::ALL.iter().position(|each| *each == worker).map_or(0, |index| self.ports.inspectors[index]);
        let node = &self.ready.node;
        let args = [
            node.wrangler().into_os_string(),
            "dev".into(),
            "-c".into(),
            config.into(),
            "--env-file".into(),
            env_path.into(),
            "--persist-to".into(),
            self.persist().into(),
        ]
        .into_iter()
        .chain(words(&["--ip", "127.0.0.1", "--port", &port.to_string()]))
        .chain(words(&["--inspector-port", &inspector.to_string(), "--show-interactive-dev-session", "false"]))
        .collect();
        Ok(Spec {
            name,
            program: node.node(),
            args,
            env: self.wrangler_env(),
            unset: HIDDEN_FROM_WRANGLER.to_vec(),
            dir: self.ready.places.root.clone(),
            log: self.log(name),
            health: format!("http://127.0.0.1:{port}/health"),
            stage: Stage::Edge,
            wrangler_port: Some(port),
        })
    }

    fn folder(&self, worker: Worker) -> PathBuf {
        self.state.join("config").join(worker.name())
    }

    fn config(&self, worker: Worker) -> Result<PathBuf> {
        wrangler_config::write(&worker.config(&self.ready.places), &self.folder(worker))
    }

    /// Offline, alone, and quiet.
    fn wrangler_env(&self) -> Vec<(OsString, OsString)> {
        let wrangler = self.state.join("state/wrangler-own");
        vec![
            ("PATH".into(), self.ready.path()),
            ("OI_WORKERS_PREBUILT".into(), "1".into()),
            ("WRANGLER_SEND_METRICS".into(), "false".into()),
            ("WRANGLER_SEND_ERROR_REPORTS".into(), "false".into()),
            ("WRANGLER_HIDE_BANNER".into(), "true".into()),
            ("WRANGLER_NO_SKILLS_UPDATE_PROMPTS".into(), "true".into()),
            ("CLOUDFLARE_CF_FETCH_ENABLED".into(), "false".into()),
            // Else every statement of every session is traced into a database of wrangler's own: most of a session's time.
            ("X_LOCAL_OBSERVABILITY".into(), "false".into()),
            ("X_LOCAL_EXPLORER".into(), "false".into()),
            ("NO_COLOR".into(), "1".into()),
            ("FORCE_COLOR".into(), "0".into()),
            // Bots find the control plane through this folder, and only that of their own stack.
            ("WRANGLER_REGISTRY_PATH".into(), wrangler.join("registry").into()),
            ("WRANGLER_LOG_PATH".into(), wrangler.join("logs").into()),
            ("WRANGLER_CACHE_DIR".into(), wrangler.join("cache").into()),
        ]
    }

    fn control_plane_variables(&self) -> Vec<(String, String)> {
        let secrets = self.secrets;
        let mut vars: Vec<(String, String)> = [
            ("WEB_APP_URL", self.at.control_plane.as_str()),
            ("WORKER_URL", &self.at.control_plane),
            ("DEPLOYMENT_NAME", "local"),
            ("APP_NAME", "Open-Inspect"),
            ("SCM_PROVIDER", "github"),
            ("GITHUB_APP_ID", GITHUB_APP_ID),
            ("GITHUB_APP_PRIVATE_KEY", &secrets.github_app_private_key),
            ("GITHUB_APP_INSTALLATION_ID", GITHUB_INSTALLATION_ID),
            ("GITHUB_CLIENT_ID", GITHUB_CLIENT_ID),
            ("GITHUB_CLIENT_SECRET", &secrets.github_client_secret),
            ("GITHUB_URL", &self.at.forge),
            ("BROWSER_AUTH_SECRET", &secrets.browser_auth_secret),
            ("GOOGLE_CLIENT_ID", GOOGLE_CLIENT_ID),
            ("GOOGLE_CLIENT_SECRET", &secrets.google_client_secret),
            ("GOOGLE_ISSUER", &self.at.google),
            ("ALLOWED_USERS", "ada,grace"),
            ("ALLOWED_EMAILS", "ada@example.com,grace@example.com"),
            ("ADMIN_USERS", "ada"),
            ("TOKEN_ENCRYPTION_KEY", &secrets.token_encryption_key),
            ("REPO_SECRETS_ENCRYPTION_KEY", &secrets.repo_secrets_encryption_key),
            ("PROVIDER_ACCOUNTS_ENCRYPTION_KEY", &secrets.provider_accounts_encryption_key),
            ("IMAGE_CALLBACK_TOKEN_PEPPER", &secrets.image_callback_token_pepper),
            ("SERVICE_AUTH_SECRET_WEB", &secrets.service_auth_web),
            ("SERVICE_AUTH_SECRET_SLACK_BOT", &secrets.service_auth_slack_bot),
            ("SERVICE_AUTH_SECRET_GITHUB_BOT", &secrets.service_auth_github_bot),
            ("SERVICE_AUTH_SECRET_LINEAR_BOT", &secrets.service_auth_linear_bot),
            ("SANDBOX_PROVIDER", "local"),
            ("LOCAL_SANDBOX_URL", &self.at.sandbox_host),
            ("LOCAL_SANDBOX_SECRET", &secrets.sandbox_host_secret),
            ("SANDBOX_TOKEN_KEY", &secrets.sandbox_token_key),
            ("SANDBOX_CONTROL_PLANE_URL", &self.at.control_plane),
            ("FAULT_INJECTION", "true"),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
        vars.push(("GITHUB_API_URL".into(), format!("{}/api/v3", self.at.forge)));
        let google = [
            ("GOOGLE_AUTHORIZE_URL", "/o/oauth2/v2/auth"),
            ("GOOGLE_TOKEN_URL", "/token"),
            ("GOOGLE_KEYS_URL", "/oauth2/v3/certs"),
        ];
        vars.extend(google.map(|(name, path)| (name.to_owned(), format!("{}{path}", self.at.google))));
        match &self.at.model {
            Some(model) => vars.push(("DEMO_MODEL_URL".into(), format!("{model}/v1"))),
            None => vars.extend(from_environment(MODEL_VARIABLES)),
        }
        for (name, port) in [("SLACK_BOT_URL", self.ports.slack), ("LINEAR_BOT_URL", self.ports.linear)] {
            vars.extend(port.map(|port| (name.to_owned(), format!("http://127.0.0.1:{port}"))));
        }
        vars.extend(from_environment(PASSED_ON));
        vars.extend_from_slice(self.vars);
        vars
    }

    fn devkit(&self) -> PathBuf {
        self.ready.places.target().join("debug/devkit")
    }
}

/// Whether a real model is configured.
pub fn real_model() -> bool {
    ["ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OPENAI_COMPATIBLE_BASE_URL"]
        .iter()
        .any(|name| env::var_os(name).is_some_and(|value| !value.is_empty()))
}

fn from_environment(names: &[&str]) -> Vec<(String, String)> {
    names
        .iter()
        .filter_map(|name| {
            env::var(name).ok().filter(|value| !value.is_empty()).map(|value| ((*name).to_owned(), value))
        })
        .collect()
}

fn listen(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}
