//! A running forge, and clients of it.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use devkit::forge::{Config, Forge};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rsa::RsaPrivateKey;
use rsa::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub const APP_ID: u64 = 4242;
pub const INSTALLATION: u64 = 77;
pub const CLIENT_ID: &str = "Iv1.test";
pub const CLIENT_SECRET: &str = "client-secret";
pub const ADMIN_SECRET: &str = "admin-secret";
pub const CALLBACK: &str = "http://127.0.0.1:9/api/auth/callback/github";

/// An RSA key in the forms that its two owners want.
pub struct Key {
    pub private_pem: String,
    pub public_pem: String,
}

fn new_key() -> Key {
    let private = RsaPrivateKey::new(&mut rand08::thread_rng(), 2048).unwrap();
    Key {
        private_pem: private.to_pkcs8_pem(LineEnding::LF).unwrap().to_string(),
        public_pem: private.to_public_key().to_public_key_pem(LineEnding::LF).unwrap(),
    }
}

/// The App's key.
pub fn app_key() -> &'static Key {
    static KEY: OnceLock<Key> = OnceLock::new();
    KEY.get_or_init(new_key)
}

/// A key that the forge doesn't know.
pub fn other_key() -> &'static Key {
    static KEY: OnceLock<Key> = OnceLock::new();
    KEY.get_or_init(new_key)
}

pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

/// A JWT with these claims, signed by this key.
pub fn jwt(key: &Key, claims: &Value) -> String {
    jsonwebtoken::encode(
        &Header::new(Algorithm::RS256),
        claims,
        &EncodingKey::from_rsa_pem(key.private_pem.as_bytes()).unwrap(),
    )
    .unwrap()
}

/// The JWT that the control plane makes.
pub fn good_jwt() -> String {
    jwt(app_key(), &json!({ "iat": now() - 60, "exp": now() + 540, "iss": APP_ID.to_string() }))
}

pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("{} is no JSON: {}", self.status, self.text))
    }

    /// The body of an answer that must have this status.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        if self.text.is_empty() { Value::Null } else { self.json() }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    pub async fn of(response: reqwest::Response) -> Self {
        Self {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.text().await.unwrap(),
        }
    }
}

/// A forge that serves on a port of its own.
pub struct TestForge {
    pub url: String,
    pub http: reqwest::Client,
    config: Config,
    state: TempDir,
    server: JoinHandle<()>,
}

impl TestForge {
    pub async fn start() -> Self {
        Self::start_with(json!({})).await
    }

    /// Starts with more or other configuration.
    pub async fn start_with(more: Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut config = json!({
            "publicUrl": url,
            "oauth": {
                "clientId": CLIENT_ID,
                "clientSecret": CLIENT_SECRET,
                "redirectOrigins": ["http://127.0.0.1:9/api/auth"],
            },
            "app": {
                "id": APP_ID,
                "slug": "open-inspect-dev",
                "publicKeyPem": app_key().public_pem,
                "installationId": INSTALLATION.to_string(),
            },
            "adminSecret": ADMIN_SECRET,
        });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let config: Config = serde_json::from_value(config).unwrap();
        let state = tempfile::tempdir().unwrap();
        let server = run(listener, config.clone(), state.path()).await;
        Self { url, http: client(), config, state, server }
    }

    /// Stops the server and starts another on the same state and port.
    pub async fn restart(mut self) -> Self {
        self.server.abort();
        let _ = (&mut self.server).await;
        let address = self.url.trim_start_matches("http://").to_owned();
        let listener = loop {
            match TcpListener::bind(&address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        };
        self.server = run(listener, self.config.clone(), self.state.path()).await;
        self.http = client();
        self
    }

    pub fn state_dir(&self) -> &Path {
        self.state.path()
    }

    /// An API call. `token` may be empty.
    pub async fn call(&self, method: &str, path: &str, token: &str, body: Option<Value>) -> Answer {
        let mut request = self
            .http
            .request(method.parse().unwrap(), format!("{}/api/v3{path}", self.url))
            .header("accept", "application/vnd.github+json");
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        Answer::of(request.send().await.unwrap()).await
    }

    pub async fn get(&self, path: &str, token: &str) -> Answer {
        self.call("GET", path, token, None).await
    }

    pub async fn post(&self, path: &str, token: &str, body: Value) -> Answer {
        self.call("POST", path, token, Some(body)).await
    }

    pub async fn page(&self, path: &str) -> Answer {
        Answer::of(self.http.get(format!("{}{path}", self.url)).send().await.unwrap()).await
    }

    /// An installation token, narrowed by this body.
    pub async fn installation_token(&self, body: Value) -> String {
        let path = format!("/app/installations/{INSTALLATION}/access_tokens");
        let answer = self.post(&path, &good_jwt(), body).await.expect(201);
        answer["token"].as_str().unwrap().to_owned()
    }

    pub async fn admin(&self, method: &str, path: &str, body: Value) -> Answer {
        let request = self
            .http
            .request(method.parse().unwrap(), format!("{}{path}", self.url))
            .bearer_auth(ADMIN_SECRET)
            .json(&body);
        Answer::of(request.send().await.unwrap()).await
    }

    /// Signs in as this person; answers the whole token response.
    pub async fn sign_in(&self, login: &str) -> Value {
        let consent = self
            .authorize(&[("client_id", CLIENT_ID), ("redirect_uri", CALLBACK), ("state", "s"), ("login", login)])
            .await;
        self.exchange(&[("code", &consent.code)]).await.expect(200)
    }

    pub async fn user_token(&self, login: &str) -> String {
        self.sign_in(login).await["access_token"].as_str().unwrap().to_owned()
    }

    /// Posts the sign-in form.
    pub async fn authorize(&self, form: &[(&str, &str)]) -> Consent {
        let response = self.http.post(format!("{}/login/oauth/authorize", self.url)).form(form).send().await.unwrap();
        let answer = Answer::of(response).await;
        let location = answer.header("location").to_owned();
        let code = url::Url::parse(&location)
            .ok()
            .and_then(|url| url.query_pairs().find(|(name, _)| name == "code").map(|(_, code)| code.into_owned()))
            .unwrap_or_default();
        Consent { answer, location, code }
    }

    /// Posts to the token endpoint with the right client, which `form` may override.
    pub async fn exchange(&self, form: &[(&str, &str)]) -> Answer {
        let mut all = vec![("client_id", CLIENT_ID), ("client_secret", CLIENT_SECRET)];
        all.retain(|(name, _)| form.iter().all(|(other, _)| other != name));
        all.extend(form);
        let response = self
            .http
            .post(format!("{}/login/oauth/access_token", self.url))
            .header("accept", "application/json")
            .form(&all)
            .send()
            .await
            .unwrap();
        Answer::of(response).await
    }

    /// The address of a repository with credentials in it.
    pub fn remote(&self, token: &str, repository: &str) -> String {
        format!("{}/{repository}.git", self.url.replace("http://", &format!("http://x-access-token:{token}@")))
    }

    /// A clone of the sample repository.
    pub async fn clone_sample(&self, token: &str) -> Checkout {
        Checkout::clone(&self.remote(token, "acme/sample-service")).await
    }

    /// Pushes a branch with one commit by Ada and opens a pull request; answers it.
    pub async fn open_pull(&self, token: &str, branch: &str, title: &str) -> Value {
        let checkout = self.clone_sample(token).await;
        checkout.commit("notes.txt", &format!("{branch}\n"), "Add notes").await;
        checkout.git(&["push", "-q", "origin", &format!("HEAD:refs/heads/{branch}")]).await.ok();
        self.post(
            "/repos/acme/sample-service/pulls",
            token,
            json!({ "title": title, "body": "Why.", "head": branch, "base": "main" }),
        )
        .await
        .expect(201)
    }
}

impl Drop for TestForge {
    fn drop(&mut self) {
        self.server.abort();
    }
}

pub struct Consent {
    pub answer: Answer,
    pub location: String,
    pub code: String,
}

async fn run(listener: TcpListener, config: Config, state: &Path) -> JoinHandle<()> {
    let forge = Forge::open(config, state).await.unwrap();
    tokio::spawn(async move { devkit::forge::serve(listener, forge).await.unwrap() })
}

fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .user_agent("forge-tests")
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(std::time::Duration::from_secs(60))
        .build()
        .unwrap()
}

/// A work tree.
pub struct Checkout {
    _folder: TempDir,
    pub path: PathBuf,
}

pub struct GitResult {
    pub success: bool,
    pub output: String,
}

impl GitResult {
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.success, "git failed: {}", self.output);
        self.output
    }

    /// What git said when it must not have worked.
    #[track_caller]
    pub fn refused(self) -> String {
        assert!(!self.success, "git was let through: {}", self.output);
        self.output
    }
}

impl Checkout {
    pub async fn clone(remote: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("work");
        git_in(folder.path(), &["clone", "-q", remote, "work"]).await.ok();
        Self { _folder: folder, path }
    }

    pub async fn git(&self, arguments: &[&str]) -> GitResult {
        git_in(&self.path, arguments).await
    }

    /// Commits one file as Ada; answers the commit's id.
    pub async fn commit(&self, file: &str, content: &str, message: &str) -> String {
        std::fs::write(self.path.join(file), content).unwrap();
        self.git(&["add", "--all"]).await.ok();
        self.git(&["commit", "-q", "-m", message]).await.ok();
        self.git(&["rev-parse", "HEAD"]).await.ok().trim().to_owned()
    }
}

/// Runs git as Ada, without this machine's configuration.
pub async fn git_in(folder: &Path, arguments: &[&str]) -> GitResult {
    let output = tokio::process::Command::new("git")
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_AUTHOR_NAME", "Ada Lovelace")
        .env("GIT_AUTHOR_EMAIL", "1815+ada@users.noreply.github.com")
        .env("GIT_COMMITTER_NAME", "Ada Lovelace")
        .env("GIT_COMMITTER_EMAIL", "1815+ada@users.noreply.github.com")
        .env("no_proxy", "*")
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    GitResult {
        success: output.status.success(),
        output: format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
    }
}
