//! What a session, or an environment, is to work on: named in a body, checked, and looked up at the forge.

use std::collections::HashSet;

use futures_util::future::join_all;
use oi_protocol::ErrorCode;
use oi_protocol::environments::{REPOSITORIES_MAX, WantedRepository};
use oi_session::call::InitRepository;
use oi_worker_kit::{Failure, Refusal, clock};
use worker::Env;

use crate::source_control::cache::Cache;
use crate::source_control::{
    BranchName, Forge, ForgeError, RepositoryFacts, RepositoryName, SourceControl, repository_cache,
};

/// A repository that is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// It.
    pub name: RepositoryName,
    /// Where work starts from; the repository's default when absent.
    pub branch: Option<BranchName>,
}

/// A branch as the wire takes it: fewer characters than git.
pub fn branch(text: &str) -> Option<BranchName> {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_./-".contains(&b));
    BranchName::parse(text).filter(|_| plain)
}

/// A list of repositories. They are checked out side by side, into folders of their names.
pub fn named(list: &[WantedRepository]) -> Result<Vec<Named>, Refusal> {
    if !(1..=REPOSITORIES_MAX).contains(&list.len()) {
        return Err(Refusal::invalid_body(format!("repositories: 1 to {REPOSITORIES_MAX} are required")));
    }
    let mut all: Vec<Named> = Vec::new();
    for (index, wanted) in list.iter().enumerate() {
        let name = RepositoryName::parse(&wanted.repo_owner, &wanted.repo_name).ok_or_else(|| {
            Refusal::invalid_body(format!("repositories.{index}: repoOwner and repoName must name a repository"))
        })?;
        let branch = match &wanted.base_branch {
            Some(text) => {
                let wrong = || Refusal::invalid_body(format!("Invalid branch name for {}", name.as_path()));
                Some(branch(text).ok_or_else(wrong)?)
            }
            None => None,
        };
        all.push(Named { name, branch });
    }
    require_apart(all.iter().map(|named| (named.name.owner(), named.name.name())))?;
    Ok(all)
}

/// The members of an environment: they were checked when it was saved, and a branch may have any name that git has.
pub fn of_environment(members: impl IntoIterator<Item = WantedRepository>) -> Vec<Named> {
    let named = |wanted: WantedRepository| {
        let name = RepositoryName::parse(&wanted.repo_owner, &wanted.repo_name)?;
        let branch = wanted.base_branch.as_deref().and_then(BranchName::parse);
        Some(Named { name, branch })
    };
    members.into_iter().filter_map(named).collect()
}

fn require_apart<'a>(names: impl Iterator<Item = (&'a str, &'a str)>) -> Result<(), Refusal> {
    let (mut known, mut folders) = (HashSet::new(), HashSet::new());
    for (owner, name) in names {
        let (owner, folder) = (owner.to_ascii_lowercase(), name.to_ascii_lowercase());
        if !known.insert((owner.clone(), folder.clone())) {
            return Err(Refusal::invalid_body(format!("repositories: {owner}/{folder} is listed twice")));
        }
        if !folders.insert(folder.clone()) {
            let sentence = format!("repositories: two are named `{folder}`, and each needs a folder of its own name");
            return Err(Refusal::invalid_body(sentence));
        }
    }
    Ok(())
}

/// Why one cannot be worked on.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Denied {
    NotInstalled,
    NoBranch(String),
    Unknown(ForgeError),
}

impl Denied {
    fn reason(&self) -> String {
        match self {
            Self::NotInstalled => "not installed for the GitHub App".to_owned(),
            Self::NoBranch(branch) => format!("branch `{branch}` does not exist"),
            Self::Unknown(_) => "the code host could not be asked".to_owned(),
        }
    }
}

/// What is asked of the forge here.
pub trait Directory {
    /// A repository; `None` when it was not given to the platform.
    async fn facts(&self, name: &RepositoryName) -> Result<Option<RepositoryFacts>, ForgeError>;
    /// Whether there is such a branch.
    async fn has_branch(&self, name: &RepositoryName, branch: &BranchName) -> Result<bool, ForgeError>;
}

/// The deployment's forge, of which facts are remembered for some minutes.
pub struct KnownForge {
    forge: Forge,
    cache: Cache,
}

impl KnownForge {
    /// That of the deployment.
    pub fn of(env: &Env) -> Result<Self, Failure> {
        Ok(Self { forge: Forge::of(env)?, cache: Cache::of(env)? })
    }
}

impl Directory for KnownForge {
    async fn facts(&self, name: &RepositoryName) -> Result<Option<RepositoryFacts>, ForgeError> {
        repository_cache::facts(&self.cache, &self.forge, name, clock::now()).await
    }

    async fn has_branch(&self, name: &RepositoryName, branch: &BranchName) -> Result<bool, ForgeError> {
        Ok(self.forge.branch_head(name, branch).await?.is_some())
    }
}

async fn look_up(forge: &impl Directory, named: &Named) -> Result<InitRepository, Denied> {
    let facts = forge.facts(&named.name).await.map_err(Denied::Unknown)?.ok_or(Denied::NotInstalled)?;
    let base_branch = match &named.branch {
        Some(branch) if branch.as_str() != facts.default_branch => {
            if !forge.has_branch(&named.name, branch).await.map_err(Denied::Unknown)? {
                return Err(Denied::NoBranch(branch.as_str().to_owned()));
            }
            branch.as_str().to_owned()
        }
        _ => facts.default_branch,
    };
    Ok(InitRepository {
        repo_owner: named.name.owner().to_owned(),
        repo_name: named.name.name().to_owned(),
        repo_id: facts.id,
        base_branch,
        base_sha: None,
    })
}

/// One repository at the forge.
pub async fn resolve_one(forge: &impl Directory, named: &Named) -> Result<InitRepository, Failure> {
    look_up(forge, named).await.map_err(|denied| match denied {
        Denied::NotInstalled => Refusal::not_found("Repository is not installed for the GitHub App").into(),
        Denied::NoBranch(branch) => {
            let sentence = format!("Branch `{branch}` does not exist in {}", named.name.as_path());
            Refusal::invalid_body(sentence).into()
        }
        Denied::Unknown(error) => error.into(),
    })
}

/// All of them at the forge, or everything that is wrong with any.
pub async fn resolve(forge: &impl Directory, all: &[Named]) -> Result<Vec<InitRepository>, Failure> {
    let found = join_all(all.iter().map(|named| look_up(forge, named))).await;
    let (mut resolved, mut denied, mut unknown) = (Vec::new(), Vec::new(), false);
    for (named, outcome) in all.iter().zip(found) {
        match outcome {
            Ok(repository) => resolved.push(repository),
            Err(why) => {
                unknown |= matches!(why, Denied::Unknown(_));
                denied.push(format!("{} ({})", named.name.as_path(), why.reason()));
            }
        }
    }
    if !denied.is_empty() {
        let sentence = format!("Failed to resolve repositories: {}", denied.join(", "));
        return Err(if unknown {
            Refusal::new(500, ErrorCode::UpstreamFailed, sentence).into()
        } else {
            Refusal::invalid_body(sentence).into()
        });
    }
    // Two names of one repository: it was renamed.
    let ids: HashSet<i64> = resolved.iter().map(|repository| repository.repo_id).collect();
    if ids.len() < resolved.len() {
        return Err(Refusal::invalid_body("repositories: two names are of one repository").into());
    }
    Ok(resolved)
}

/// The repository that two segments of a path name. They may be percent-encoded.
pub fn of_path(owner: &str, name: &str) -> Result<RepositoryName, Refusal> {
    let wrong = || Refusal::invalid_parameter("Owner and name must be valid repository path segments");
    RepositoryName::from_path(owner, name).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_executor::block_on;

    fn wanted(name: &str, branch: Option<&str>) -> WantedRepository {
        let (owner, name) = name.split_once('/').expect("owner/name");
        WantedRepository {
            repo_owner: owner.to_owned(),
            repo_name: name.to_owned(),
            base_branch: branch.map(str::to_owned),
        }
    }

    /// Knows `acme/<letter>`; `acme/down` cannot be asked about; `acme/old` is `acme/a`, renamed.
    struct Played;

    impl Directory for Played {
        async fn facts(&self, name: &RepositoryName) -> Result<Option<RepositoryFacts>, ForgeError> {
            let id = match name.name() {
                "down" => return Err(ForgeError::Setup("secret detail".to_owned())),
                "old" => i64::from(b'a'),
                one if one.len() == 1 => i64::from(one.as_bytes()[0]),
                _ => return Ok(None),
            };
            Ok(Some(RepositoryFacts {
                id,
                owner: "Acme".to_owned(),
                name: name.name().to_owned(),
                description: None,
                private: true,
                default_branch: "main".to_owned(),
                language: None,
                topics: Vec::new(),
            }))
        }

        async fn has_branch(&self, _: &RepositoryName, branch: &BranchName) -> Result<bool, ForgeError> {
            Ok(branch.as_str() == "dev")
        }
    }

    fn resolved(list: &[WantedRepository]) -> Result<Vec<String>, (u16, String)> {
        let told = |failure: Failure| (failure.status(), failure.to_string());
        let all = named(list).map_err(|refusal| told(refusal.into()))?;
        let found = block_on(resolve(&Played, &all)).map_err(told)?;
        Ok(found.iter().map(|r| format!("{}/{}@{}", r.repo_owner, r.repo_name, r.base_branch)).collect())
    }

    #[test]
    fn repositories_are_found_in_their_order() {
        let list = [wanted("ACME/b", Some("dev")), wanted("acme/a", None), wanted("acme/c", Some("main"))];
        assert_eq!(resolved(&list), Ok(["acme/b@dev", "acme/a@main", "acme/c@main"].map(str::to_owned).to_vec()));
    }

    #[test]
    fn a_list_that_cannot_be_is_refused_before_anybody_is_asked() {
        let eleven: Vec<_> = (0..11).map(|n| wanted(&format!("acme/r{n}"), None)).collect();
        for (list, part) in [
            (vec![], "1 to 10"),
            (eleven, "1 to 10"),
            (vec![wanted("acme/a", None), wanted("Acme/A", None)], "acme/a is listed twice"),
            (vec![wanted("acme/a", None), wanted("other/A", None)], "two are named `a`"),
            (vec![wanted("acme/..", None)], "repositories.0"),
            (vec![wanted("acme/a", Some("a b"))], "Invalid branch name for acme/a"),
        ] {
            let (status, sentence) = resolved(&list).expect_err("does not fit");
            assert!(status == 400 && sentence.contains(part), "{sentence}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once_and_an_outage_is_no_denial() {
        let denied = [wanted("acme/gone", None), wanted("acme/a", None), wanted("acme/b", Some("lost"))];
        let (status, sentence) = resolved(&denied).expect_err("denied");
        assert_eq!(status, 400);
        let both = "acme/gone (not installed for the GitHub App), acme/b (branch `lost` does not exist)";
        assert_eq!(sentence, format!("Failed to resolve repositories: {both}"));
        let (status, sentence) = resolved(&[wanted("acme/gone", None), wanted("acme/down", None)]).expect_err("down");
        assert!(status == 500 && !sentence.contains("secret detail"), "{sentence}");
        let (status, sentence) = resolved(&[wanted("acme/a", None), wanted("acme/old", None)]).expect_err("the same");
        assert!(status == 400 && sentence.contains("one repository"), "{sentence}");
    }

    #[test]
    fn a_path_names_a_repository_and_cannot_leave_its_place() {
        let path = |owner, name| of_path(owner, name).map(|name| name.as_path());
        assert_eq!(path("Acme", "App.js"), Ok("acme/app.js".to_owned()));
        assert_eq!(path("a%63me", "app"), Ok("acme/app".to_owned()));
        // A group within a group is one owner.
        assert_eq!(path("a%2Fb", "c"), Ok("a/b/c".to_owned()));
        for (owner, name) in [
            ("a%2F..", "c"),
            ("a%2F", "c"),
            ("%2Fa", "c"),
            ("a", "b%2Fc"),
            ("..", "a"),
            ("a", "%2e%2e"),
            ("a", "b%"),
            ("a", "%zz"),
            ("a", "%ff"),
            ("%20a", "b"),
        ] {
            let refusal = of_path(owner, name).expect_err("no name");
            assert_eq!(
                (refusal.status, refusal.sentence.as_ref()),
                (400, "Owner and name must be valid repository path segments")
            );
        }
    }
}
