//! The forge's configuration file, and the accounts and repositories it starts with.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Deserializer, de::Error as _};
use url::Url;

use super::ForgeError;
use super::names::{BranchName, OwnerName, RepoName};

/// Largest configuration file that is read, in bytes.
const MAX_CONFIG_BYTES: u64 = 1024 * 1024;

/// Everything that a run of the forge is told. Read once, at the start.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// Address under which browsers, git and the control plane reach the forge: an origin, or a path of one, as GitHub
    /// Enterprise behind another server has.
    pub public_url: Url,
    pub oauth: OAuthConfig,
    pub app: AppConfig,
    /// Answers as GitLab does too, below `/api/v4`, when it is there.
    #[serde(default)]
    pub gitlab: Option<GitlabConfig>,
    /// Bearer secret of the `/_admin` routes.
    pub admin_secret: Secret,
    /// Where events are posted; none are sent without it.
    #[serde(default)]
    pub webhook: Option<WebhookConfig>,
    #[serde(default = "default_users")]
    pub users: Vec<UserConfig>,
    #[serde(default = "default_organizations")]
    pub organizations: Vec<OrganizationConfig>,
    #[serde(default = "default_repositories")]
    pub repositories: Vec<RepositoryConfig>,
}

/// The OAuth client of the App.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OAuthConfig {
    pub client_id: String,
    pub client_secret: Secret,
    /// Callback URLs: a redirect must have the same origin, and the path as its prefix.
    pub redirect_origins: Vec<Url>,
}

/// The GitHub App and its one installation.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppConfig {
    #[serde(deserialize_with = "number_or_digits")]
    pub id: u64,
    #[serde(default = "default_slug")]
    pub slug: String,
    /// Public half of the App's RSA key, PEM (`PUBLIC KEY` or `RSA PUBLIC KEY`).
    pub public_key_pem: String,
    #[serde(deserialize_with = "number_or_digits")]
    pub installation_id: u64,
    /// What the installation was granted, as in GitHub's App settings.
    #[serde(default = "default_permissions")]
    pub permissions: BTreeMap<String, Level>,
}

/// What the forge has as a GitLab.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GitlabConfig {
    /// A group's access token: it may do what the App's installation may.
    pub access_token: Secret,
}

#[derive(Debug, Clone, Deserialize)]
pub struct WebhookConfig {
    pub url: Url,
    pub secret: Secret,
}

#[derive(Debug, Clone, Deserialize)]
pub struct UserConfig {
    pub login: OwnerName,
    pub name: String,
    pub email: String,
    pub id: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub struct OrganizationConfig {
    pub login: OwnerName,
    pub id: u64,
    /// Login to role.
    #[serde(default)]
    pub members: BTreeMap<String, OrganizationRole>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OrganizationRole {
    Admin,
    Member,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryConfig {
    pub owner: OwnerName,
    pub name: RepoName,
    pub id: u64,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub private: bool,
    #[serde(default)]
    pub archived: bool,
    #[serde(default = "default_branch")]
    pub default_branch: BranchName,
    /// Login to what that person may do.
    #[serde(default)]
    pub collaborators: BTreeMap<String, Level>,
    /// Whether the App is installed on it.
    #[serde(default = "yes")]
    pub installed: bool,
    #[serde(default)]
    pub seed: Seed,
}

/// What a new repository holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seed {
    SampleService,
    #[default]
    Handbook,
}

/// How much a token or a person may do with one kind of thing. Ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    None,
    Read,
    Write,
    Admin,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "read" => Some(Self::Read),
            "write" => Some(Self::Write),
            "admin" => Some(Self::Admin),
            _ => None,
        }
    }
}

/// A secret of the configuration. Its `Debug` shows nothing.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Compares in constant time. An empty secret equals nothing.
    pub fn matches(&self, candidate: &str) -> bool {
        use subtle::ConstantTimeEq as _;
        !self.0.is_empty() && bool::from(self.0.as_bytes().ct_eq(candidate.as_bytes()))
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Config {
    /// Reads and checks a configuration file of at most 1 MiB.
    pub fn from_file(path: &Path) -> Result<Self, ForgeError> {
        let invalid = |reason: String| ForgeError::Config { path: path.to_owned(), reason };
        let size = std::fs::metadata(path).map_err(|e| invalid(e.to_string()))?.len();
        if size > MAX_CONFIG_BYTES {
            return Err(invalid("the file is larger than 1 MiB".into()));
        }
        let text = std::fs::read_to_string(path).map_err(|e| invalid(e.to_string()))?;
        let config: Self = serde_json::from_str(&text).map_err(|e| invalid(e.to_string()))?;
        config.check().map_err(invalid)?;
        Ok(config)
    }

    /// The rules that the types don't carry.
    pub(super) fn check(&self) -> Result<(), String> {
        let path = self.public_url.path();
        let plain = path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-_".contains(&b)) && !path.contains("//");
        if !plain || self.public_url.query().is_some() || self.public_url.fragment().is_some() {
            return Err("`publicUrl` must be an origin, or a plain path of one".into());
        }
        if self.admin_secret.expose().is_empty() || self.oauth.client_secret.expose().is_empty() {
            return Err("`adminSecret` and `oauth.clientSecret` must not be empty".into());
        }
        for redirect in &self.oauth.redirect_origins {
            if !matches!(redirect.scheme(), "http" | "https") || redirect.host().is_none() {
                return Err(format!("`{redirect}` is not a web address"));
            }
        }
        for repository in &self.repositories {
            let owner = repository.owner.as_str();
            let known = self.organizations.iter().any(|o| o.login.as_str() == owner)
                || self.users.iter().any(|u| u.login.as_str() == owner);
            if !known {
                return Err(format!("the repository owner `{owner}` is no account"));
            }
        }
        Ok(())
    }

    /// `scheme://host[:port]`, with the path where there is one, without a slash at the end.
    pub fn origin(&self) -> &str {
        self.public_url.as_str().trim_end_matches('/')
    }

    /// The path of the public address, without a slash at the end; empty for an origin.
    pub fn base_path(&self) -> &str {
        self.public_url.path().trim_end_matches('/')
    }
}

fn number_or_digits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u64),
        Text(String),
    }
    match Either::deserialize(deserializer)? {
        Either::Number(number) => Ok(number),
        Either::Text(text) => text.parse().map_err(D::Error::custom),
    }
}

fn yes() -> bool {
    true
}

fn default_slug() -> String {
    "open-inspect-dev".into()
}

fn default_branch() -> BranchName {
    BranchName::parse("main").expect("`main` is a branch name")
}

fn default_permissions() -> BTreeMap<String, Level> {
    [
        ("metadata", Level::Read),
        ("contents", Level::Write),
        ("pull_requests", Level::Write),
        ("issues", Level::Write),
        ("members", Level::Read),
    ]
    .map(|(name, level)| (name.to_owned(), level))
    .into()
}

fn owner(login: &str) -> OwnerName {
    OwnerName::parse(login).expect("the built-in logins are valid")
}

fn default_users() -> Vec<UserConfig> {
    [("ada", "Ada Lovelace", 1815), ("grace", "Grace Hopper", 1906), ("linus", "Linus Pauling", 1901)]
        .map(|(login, name, id)| UserConfig {
            login: owner(login),
            name: name.into(),
            email: format!("{login}@example.com"),
            id,
        })
        .into()
}

fn default_organizations() -> Vec<OrganizationConfig> {
    vec![OrganizationConfig {
        login: owner("acme"),
        id: 5000,
        members: [("ada", OrganizationRole::Admin), ("grace", OrganizationRole::Member)]
            .map(|(login, role)| (login.to_owned(), role))
            .into(),
    }]
}

fn default_repositories() -> Vec<RepositoryConfig> {
    let repository = |name: &str, id, description: &str, private, seed| RepositoryConfig {
        owner: owner("acme"),
        name: RepoName::parse(name).expect("the built-in names are valid"),
        id,
        description: description.into(),
        private,
        archived: false,
        default_branch: default_branch(),
        collaborators: [("ada", Level::Admin), ("grace", Level::Write)]
            .map(|(login, level)| (login.to_owned(), level))
            .into(),
        installed: true,
        seed,
    };
    vec![
        repository("sample-service", 1001, "A small service that greets people", true, Seed::SampleService),
        repository("handbook", 1002, "How we work at Acme", false, Seed::Handbook),
    ]
}
