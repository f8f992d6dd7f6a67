//! Projects and their branches.

use oi_worker_kit::http_client::{Answer, Call};
use oi_worker_kit::service_signature::encode_component;
use serde::Deserialize;

use super::{Gitlab, refused};
use crate::source_control::{
    BranchName, BranchPage, ForgeError, ListedPage, Listing, Opener, RepositoryFacts, RepositoryName,
};

const PER_PAGE: u32 = 100;
/// Pages of projects that are read at most.
const MAX_PAGES: usize = 50;

#[derive(Deserialize)]
struct Namespace {
    full_path: String,
}

#[derive(Deserialize)]
struct Project {
    id: i64,
    /// Its name in addresses.
    path: String,
    namespace: Namespace,
    #[serde(default)]
    description: Option<String>,
    /// Absent for who may not read the code.
    #[serde(default)]
    default_branch: Option<String>,
    #[serde(default)]
    visibility: Option<String>,
    #[serde(default)]
    archived: bool,
    #[serde(default)]
    topics: Vec<String>,
}

impl Project {
    /// `None` for one that there is nothing to work on: archived, empty, or its code is hidden from the token.
    fn facts(self) -> Option<RepositoryFacts> {
        let default_branch = self.default_branch.filter(|branch| !branch.is_empty())?;
        if self.archived {
            return None;
        }
        Some(RepositoryFacts {
            id: self.id,
            owner: self.namespace.full_path,
            name: self.path,
            description: self.description.filter(|text| !text.is_empty()),
            // What is not said to be public is not.
            private: self.visibility.as_deref() != Some("public"),
            default_branch,
            language: None,
            topics: self.topics,
        })
    }
}

#[derive(Deserialize)]
struct Branch {
    name: String,
    commit: Commit,
}

#[derive(Deserialize)]
struct Commit {
    id: String,
}

/// Whether another page follows. Totals are left out of long lists, the next page is not.
fn has_next(answer: &Answer) -> bool {
    answer.header("x-next-page").is_some_and(|page| !page.trim().is_empty())
}

impl Gitlab {
    fn projects_page_url(&self, number: usize) -> String {
        let page = format!("archived=false&per_page={PER_PAGE}&page={number}");
        match &self.namespace {
            Some(group) => {
                let group = encode_component(group);
                self.url(&format!("/groups/{group}/projects?include_subgroups=true&{page}"))
            }
            None => self.url(&format!("/projects?membership=true&{page}")),
        }
    }

    async fn projects_page(&self, number: usize, known: Option<&ListedPage>) -> Result<ListedPage, ForgeError> {
        let mut call = Call::get(self.projects_page_url(number));
        let known = known.and_then(|page| Some((page, page.etag.as_deref()?)));
        if let Some((_, etag)) = known {
            call = call.header("If-None-Match", etag);
        }
        let answer = self.ask(Opener::App, call).await?;
        if let (304, Some((page, _))) = (answer.status, known) {
            return Ok(page.clone());
        }
        if !answer.is_success() {
            return Err(refused(&answer, "listing projects"));
        }
        let projects: Vec<Project> = answer.json()?;
        Ok(ListedPage {
            etag: answer.header("etag").map(str::to_owned),
            pages: has_next(&answer).then_some(number as u64 + 1),
            repositories: projects.into_iter().filter_map(Project::facts).collect(),
        })
    }

    pub(super) async fn list_projects(&self, known: Listing) -> Result<Listing, ForgeError> {
        let mut pages: Vec<ListedPage> = Vec::new();
        while pages.len() < MAX_PAGES {
            let page = self.projects_page(pages.len() + 1, known.pages.get(pages.len())).await?;
            let more = page.pages.is_some();
            pages.push(page);
            if !more {
                break;
            }
        }
        Ok(Listing { pages })
    }

    pub(super) async fn find_project(&self, name: &RepositoryName) -> Result<Option<RepositoryFacts>, ForgeError> {
        let answer = self.ask(Opener::App, Call::get(self.project(name, ""))).await?;
        match answer.status {
            200 => {
                let facts = answer.json::<Project>()?.facts();
                // GitLab follows an old name to where a project went; only its own name counts.
                Ok(facts.filter(|facts| RepositoryName::parse(&facts.owner, &facts.name).as_ref() == Some(name)))
            }
            301 | 302 | 403 | 404 => Ok(None),
            _ => Err(refused(&answer, "reading a project")),
        }
    }

    pub(super) async fn list_branches(
        &self,
        name: &RepositoryName,
        page: u32,
    ) -> Result<Option<BranchPage>, ForgeError> {
        let url = self.project(name, &format!("/repository/branches?per_page={PER_PAGE}&page={page}"));
        let answer = self.ask(Opener::App, Call::get(url)).await?;
        match answer.status {
            200 => {
                let names: Vec<_> = answer.json::<Vec<Branch>>()?.into_iter().map(|branch| branch.name).collect();
                Ok(Some(BranchPage { names, has_more: has_next(&answer) }))
            }
            301 | 302 | 404 => Ok(None),
            _ => Err(refused(&answer, "listing branches")),
        }
    }

    pub(super) async fn find_branch_head(
        &self,
        name: &RepositoryName,
        branch: &BranchName,
    ) -> Result<Option<String>, ForgeError> {
        let url = self.project(name, &format!("/repository/branches/{}", branch.as_one_segment()));
        let answer = self.ask(Opener::App, Call::get(url)).await?;
        match answer.status {
            200 => Ok(Some(answer.json::<Branch>()?.commit.id)),
            404 => Ok(None),
            _ => Err(refused(&answer, "reading a branch")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn facts(change: impl Fn(&mut Value)) -> Option<RepositoryFacts> {
        let mut project = json!({
            "id": 7, "path": "app", "namespace": {"full_path": "acme/web"}, "description": "", "default_branch": "main",
            "visibility": "internal", "archived": false, "topics": ["rust"],
        });
        change(&mut project);
        serde_json::from_value::<Project>(project).expect("a project").facts()
    }

    #[test]
    fn a_project_without_code_to_work_on_is_left_out() {
        let found = facts(|_| ()).expect("is worked on");
        assert_eq!((found.owner.as_str(), found.name.as_str(), found.private), ("acme/web", "app", true));
        assert_eq!((found.description, found.topics), (None, vec!["rust".to_owned()]));
        assert_eq!(facts(|p| p["visibility"] = json!("public")).map(|found| found.private), Some(false));
        assert_eq!(facts(|p| p["archived"] = json!(true)), None);
        assert_eq!(facts(|p| p["default_branch"] = Value::Null), None);
    }
}
