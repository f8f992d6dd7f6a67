//! Who and what exists: accounts, the organisation's members, repositories. Fixed for a run by the configuration.

use std::collections::BTreeMap;

use super::config::{Config, Level, OrganizationRole, Seed};
use super::names::{BranchName, OwnerName, RepoName};

/// Added to the App's id to get the id of its bot account.
const BOT_ID_BASE: u64 = 1_000_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountKind {
    User,
    Organization,
    Bot,
}

impl AccountKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "User",
            Self::Organization => "Organization",
            Self::Bot => "Bot",
        }
    }
}

#[derive(Debug, Clone)]
pub struct Account {
    pub id: u64,
    pub login: String,
    pub name: String,
    pub email: Option<String>,
    pub kind: AccountKind,
    /// An organisation's members by lower-case login; empty for others.
    pub members: BTreeMap<String, OrganizationRole>,
}

impl Account {
    /// The address that commits made for this account carry.
    pub fn noreply_email(&self) -> String {
        format!("{}+{}@users.noreply.github.com", self.id, self.login)
    }
}

#[derive(Debug, Clone)]
pub struct Repository {
    pub id: u64,
    pub owner: OwnerName,
    pub owner_id: u64,
    pub name: RepoName,
    pub description: String,
    pub private: bool,
    pub archived: bool,
    pub default_branch: BranchName,
    pub installed: bool,
    pub seed: Seed,
    collaborators: BTreeMap<String, Level>,
}

impl Repository {
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    /// What a person may do here by being a collaborator or, on a public repository, anyone.
    pub fn level_of(&self, login: &str) -> Level {
        let given = self.collaborators.get(&login.to_ascii_lowercase()).copied().unwrap_or(Level::None);
        given.max(self.public_level())
    }

    pub fn public_level(&self) -> Level {
        if self.private { Level::None } else { Level::Read }
    }
}

/// All accounts and repositories.
#[derive(Debug)]
pub struct Directory {
    accounts: Vec<Account>,
    repositories: Vec<Repository>,
    bot_id: u64,
}

impl Directory {
    /// Builds the directory; an error names two entries that collide.
    pub fn new(config: &Config) -> Result<Self, String> {
        let mut accounts = Vec::new();
        for user in &config.users {
            accounts.push(Account {
                id: user.id,
                login: user.login.to_string(),
                name: user.name.clone(),
                email: Some(user.email.clone()),
                kind: AccountKind::User,
                members: BTreeMap::new(),
            });
        }
        for organization in &config.organizations {
            accounts.push(Account {
                id: organization.id,
                login: organization.login.to_string(),
                name: organization.login.to_string(),
                email: None,
                kind: AccountKind::Organization,
                members: organization.members.iter().map(|(login, role)| (login.to_ascii_lowercase(), *role)).collect(),
            });
        }
        let bot_id = BOT_ID_BASE + config.app.id;
        accounts.push(Account {
            id: bot_id,
            login: format!("{}[bot]", config.app.slug),
            name: config.app.slug.clone(),
            email: None,
            kind: AccountKind::Bot,
            members: BTreeMap::new(),
        });
        for (index, account) in accounts.iter().enumerate() {
            if accounts[..index].iter().any(|a| a.id == account.id || a.login.eq_ignore_ascii_case(&account.login)) {
                return Err(format!("the account `{}` is there twice", account.login));
            }
        }

        let mut repositories: Vec<Repository> = Vec::new();
        for entry in &config.repositories {
            let owner = accounts
                .iter()
                .find(|a| a.login.eq_ignore_ascii_case(entry.owner.as_str()))
                .ok_or_else(|| format!("the repository owner `{}` is no account", entry.owner))?;
            let repository = Repository {
                id: entry.id,
                owner: entry.owner.clone(),
                owner_id: owner.id,
                name: entry.name.clone(),
                description: entry.description.clone(),
                private: entry.private,
                archived: entry.archived,
                default_branch: entry.default_branch.clone(),
                installed: entry.installed,
                seed: entry.seed,
                collaborators: entry
                    .collaborators
                    .iter()
                    .map(|(login, level)| (login.to_ascii_lowercase(), *level))
                    .collect(),
            };
            if repositories
                .iter()
                .any(|r| r.id == repository.id || r.full_name().eq_ignore_ascii_case(&repository.full_name()))
            {
                return Err(format!("the repository `{}` is there twice", repository.full_name()));
            }
            repositories.push(repository);
        }
        Ok(Self { accounts, repositories, bot_id })
    }

    pub fn account(&self, login: &str) -> Option<&Account> {
        self.accounts.iter().find(|a| a.login.eq_ignore_ascii_case(login))
    }

    pub fn account_by_id(&self, id: u64) -> Option<&Account> {
        self.accounts.iter().find(|a| a.id == id)
    }

    /// The people who can sign in.
    pub fn users(&self) -> impl Iterator<Item = &Account> {
        self.accounts.iter().filter(|a| a.kind == AccountKind::User)
    }

    pub fn user(&self, login: &str) -> Option<&Account> {
        self.account(login).filter(|a| a.kind == AccountKind::User)
    }

    /// The App's own account, `<slug>[bot]`.
    pub fn bot(&self) -> &Account {
        self.account_by_id(self.bot_id).expect("the bot's account is made with the directory")
    }

    pub fn repositories(&self) -> &[Repository] {
        &self.repositories
    }

    pub fn repository(&self, owner: &str, name: &str) -> Option<&Repository> {
        self.repositories
            .iter()
            .find(|r| r.owner.as_str().eq_ignore_ascii_case(owner) && r.name.as_str().eq_ignore_ascii_case(name))
    }

    pub fn repository_by_id(&self, id: u64) -> Option<&Repository> {
        self.repositories.iter().find(|r| r.id == id)
    }

    /// The person or bot that a commit's address names, by the configured or the no-reply form.
    pub fn account_by_email(&self, email: &str) -> Option<&Account> {
        self.accounts
            .iter()
            .find(|a| a.email.as_deref() == Some(email) || a.noreply_email().eq_ignore_ascii_case(email))
    }
}
