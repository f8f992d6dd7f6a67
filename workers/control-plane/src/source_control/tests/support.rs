//! A forge that runs, and what the clients say to it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::OnceLock;

use devkit::forge::{Config, Forge};
use futures_util::FutureExt as _;
use oi_protocol::UnixMillis;
use oi_worker_kit::clock;
use oi_worker_kit::http_client::native::{self, Outgoing};
use oi_worker_kit::http_client::{Answer, CallError};
use rsa::RsaPrivateKey;
use rsa::pkcs1::EncodeRsaPrivateKey as _;
use rsa::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::source_control::cache::Cache;
use crate::source_control::github::Github;
use crate::source_control::github::user_account::UserTokens;
use crate::source_control::github::user_tokens;
use crate::source_control::gitlab::Gitlab;
use crate::source_control::{BranchName, RepositoryName};
use crate::store::native::Native;
use crate::store::user_identities::{self, Account};
use crate::store::users::Profile;

pub const ADMIN_SECRET: &str = "admin-secret";
pub const GROUP_TOKEN: &str = "glpat-group-token";
const SEALING_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// The App's key in its three forms.
pub struct Key {
    pub pkcs8: String,
    pub pkcs1: String,
    pub public: String,
}

pub fn app_key() -> &'static Key {
    static KEY: OnceLock<Key> = OnceLock::new();
    KEY.get_or_init(|| {
        let key = RsaPrivateKey::new(&mut rand08::thread_rng(), 2048).expect("a key");
        Key {
            pkcs8: key.to_pkcs8_pem(LineEnding::LF).expect("PEM").to_string(),
            pkcs1: key.to_pkcs1_pem(LineEnding::LF).expect("PEM").to_string(),
            public: key.to_public_key().to_public_key_pem(LineEnding::LF).expect("PEM"),
        }
    })
}

/// A call and its answer.
#[derive(Clone)]
pub struct Exchange {
    pub call: Outgoing,
    pub status: u16,
    pub answer: Vec<u8>,
}

impl Exchange {
    /// A header of the call; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.call.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn path(&self) -> String {
        url::Url::parse(&self.call.url).expect("a URL").path().to_owned()
    }
}

type Recorded = Rc<RefCell<Vec<Exchange>>>;

fn http() -> reqwest::Client {
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    client.build().expect("a client")
}

/// Sends every call of this thread over the network, and writes it down.
fn over_the_network(recorded: Recorded) {
    let client = http();
    native::install(Rc::new(move |call: Outgoing| {
        let (client, recorded) = (client.clone(), Rc::clone(&recorded));
        async move {
            let failed = |error: reqwest::Error| CallError::Network(error.to_string());
            let method = call.method.parse().expect("a method");
            let mut request = client.request(method, &call.url);
            for (name, value) in &call.headers {
                request = request.header(*name, value);
            }
            if let Some(body) = &call.body {
                request = request.body(body.clone());
            }
            let response = request.send().await.map_err(failed)?;
            let status = response.status().as_u16();
            let text = |value: &reqwest::header::HeaderValue| value.to_str().unwrap_or_default().to_owned();
            let headers = response.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
            let body = response.bytes().await.map_err(failed)?.to_vec();
            recorded.borrow_mut().push(Exchange { call, status, answer: body.clone() });
            Ok(Answer { status, headers, body })
        }
        .boxed_local()
    }));
}

/// Answers every call of this thread by a function.
pub fn scripted(answer: impl Fn(&Outgoing) -> Answer + 'static) -> Recorded {
    let recorded = Recorded::default();
    let written = Rc::clone(&recorded);
    native::install(Rc::new(move |call: Outgoing| {
        let answer = answer(&call);
        written.borrow_mut().push(Exchange { status: answer.status, answer: answer.body.clone(), call });
        async move { Ok(answer) }.boxed_local()
    }));
    recorded
}

pub fn answer(status: u16, headers: &[(&str, &str)], body: &Value) -> Answer {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Answer { status, headers, body: body.to_string().into_bytes() }
}

pub fn name(full: &str) -> RepositoryName {
    let (owner, name) = full.rsplit_once('/').expect("owner/name");
    RepositoryName::parse(owner, name).expect("a name")
}

pub fn branch(text: &str) -> BranchName {
    BranchName::parse(text).expect("a branch")
}

/// A running forge, a database, a cache, and everything that was sent.
pub struct World {
    pub url: String,
    pub db: Native,
    pub cache: Cache,
    pub recorded: Recorded,
    key: String,
    http: reqwest::Client,
    state: TempDir,
    server: JoinHandle<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl World {
    pub async fn start() -> Self {
        Self::start_at("").await
    }

    /// With everything below a path, as GitHub Enterprise may be.
    pub async fn start_at(base: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}{base}", listener.local_addr().expect("an address"));
        let config = json!({
            "publicUrl": url,
            "oauth": {
                "clientId": "Iv1.test", "clientSecret": "client-secret",
                "redirectOrigins": ["http://127.0.0.1:9/api/auth"],
            },
            "app": { "id": 4242, "publicKeyPem": app_key().public, "installationId": 77 },
            "gitlab": { "accessToken": GROUP_TOKEN },
            "adminSecret": ADMIN_SECRET,
        });
        let config: Config = serde_json::from_value(config).expect("a configuration");
        let state = tempfile::tempdir().expect("a folder");
        let forge = Forge::open(config, state.path()).await.expect("the forge opens");
        let server = tokio::spawn(async move { devkit::forge::serve(listener, forge).await.expect("it serves") });
        let recorded = Recorded::default();
        over_the_network(Rc::clone(&recorded));
        let (db, cache) = (Native::new(), Cache::in_memory());
        Self { url, db, cache, recorded, key: app_key().pkcs8.clone(), http: http(), state, server }
    }

    /// With the App's key in another form.
    pub fn with_key(mut self, pem: &str) -> Self {
        pem.clone_into(&mut self.key);
        self
    }

    pub fn vars(&self) -> BTreeMap<&str, &str> {
        BTreeMap::from([
            ("GITHUB_URL", self.url.as_str()),
            ("GITLAB_URL", &self.url),
            ("GITHUB_APP_ID", "4242"),
            ("GITHUB_APP_PRIVATE_KEY", &self.key),
            ("GITHUB_APP_INSTALLATION_ID", "77"),
            ("GITHUB_CLIENT_ID", "Iv1.test"),
            ("GITHUB_CLIENT_SECRET", "client-secret"),
            ("GITLAB_CLIENT_ID", "Iv1.test"),
            ("GITLAB_CLIENT_SECRET", "client-secret"),
            ("GITLAB_ACCESS_TOKEN", GROUP_TOKEN),
            ("TOKEN_ENCRYPTION_KEY", SEALING_KEY),
            ("WEB_APP_URL", "https://app.example"),
        ])
    }

    pub fn github(&self) -> Github<&Native> {
        Github::new(&self.vars(), self.cache.clone(), &self.db).expect("is set up")
    }

    pub fn gitlab(&self, namespace: Option<&str>) -> Gitlab {
        let mut vars = self.vars();
        vars.extend(namespace.map(|group| ("GITLAB_NAMESPACE", group)));
        Gitlab::of(&vars).expect("is set up")
    }

    /// What was sent since the last look.
    pub fn take(&self) -> Vec<Exchange> {
        std::mem::take(&mut *self.recorded.borrow_mut())
    }

    /// How often a path was asked for since the last look, which this is not.
    pub fn count(&self, method: &str, path: &str) -> usize {
        let recorded = self.recorded.borrow();
        recorded.iter().filter(|one| one.call.method == method && one.path().ends_with(path)).count()
    }

    pub async fn admin(&self, path: &str, body: &Value) -> Value {
        let request = self.http.post(format!("{}/_admin/{path}", self.url)).bearer_auth(ADMIN_SECRET).json(body);
        let response = request.send().await.expect("an answer");
        assert!(response.status().is_success(), "{path}: {}", response.status());
        response.json().await.expect("JSON")
    }

    /// All pull requests, as the forge has them.
    pub async fn pulls(&self) -> Vec<Value> {
        let request = self.http.get(format!("{}/_admin/pulls", self.url)).bearer_auth(ADMIN_SECRET);
        let all: Value = request.send().await.expect("an answer").json().await.expect("JSON");
        all["pulls"].as_array().expect("a list").clone()
    }

    /// Ends a token of the installation at the forge, behind the client's back.
    pub async fn revoke_installation_token(&self, token: &str) {
        let request = self.http.delete(format!("{}/api/v3/installation/token", self.url)).bearer_auth(token);
        let response = request.header("user-agent", "test").send().await.expect("an answer");
        assert_eq!(response.status().as_u16(), 204);
    }

    /// Somebody who signed in with the provider a while ago; their tokens end in so many seconds.
    pub async fn person(&self, provider: &str, login: &str, expires_in: i64) -> String {
        let tokens = self.admin("user-tokens", &json!({"login": login})).await;
        let text = |field: &str| tokens[field].as_str().expect("a token").to_owned();
        let account = Account { provider, provider_user_id: login, login: Some(login), email: None };
        let profile = Profile { display_name: Some(login.to_owned()), verified_email: None, avatar_url: None };
        let ids = (format!("user-{provider}-{login}"), format!("identity-{provider}-{login}"));
        let identity = user_identities::find_or_create(&self.db, &account, &profile, (&ids.0, &ids.1), UnixMillis(1));
        let identity = identity.await.expect("is made");
        let tokens = UserTokens {
            access_token: text("access_token"),
            expires_in: Some(expires_in),
            refresh_token: Some(text("refresh_token")),
        };
        let key = user_tokens::sealing_key(&self.vars()).expect("a key");
        let sealed = user_tokens::seal(&key, &identity.id, &tokens, clock::now()).expect("seals");
        user_identities::set_tokens(&self.db, &sealed, None, clock::now()).await.expect("are stored");
        identity.user_id
    }

    /// Pushes a branch of the sample repository with one commit more than `from` has.
    pub async fn push(&self, branch: &str, from: &str) {
        let remote = format!(
            "{}/acme/sample-service.git",
            self.url.replace("http://", &format!("http://oauth2:{GROUP_TOKEN}@"))
        );
        let folder = self.state.path().join(format!("work-{}", branch.replace('/', "-")));
        let folder = folder.to_str().expect("a path");
        git(self.state.path(), &["clone", "-q", "-b", from, &remote, folder]).await;
        std::fs::write(Path::new(folder).join("notes.txt"), branch).expect("is written");
        git(Path::new(folder), &["add", "--all"]).await;
        git(Path::new(folder), &["commit", "-q", "-m", "Add notes"]).await;
        git(Path::new(folder), &["push", "-q", "origin", &format!("HEAD:refs/heads/{branch}")]).await;
    }
}

async fn git(folder: &Path, arguments: &[&str]) {
    let mut command = tokio::process::Command::new("git");
    command.args(arguments).current_dir(folder);
    for (name, value) in [
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_AUTHOR_NAME", "Ada Lovelace"),
        ("GIT_AUTHOR_EMAIL", "ada@example.com"),
        ("GIT_COMMITTER_NAME", "Ada Lovelace"),
        ("GIT_COMMITTER_EMAIL", "ada@example.com"),
        ("no_proxy", "*"),
    ] {
        command.env(name, value);
    }
    let output = command.output().await.expect("git runs");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
