//! GitLab: projects, branches, credentials.

use serde_json::json;

use super::support::{GROUP_TOKEN, World, answer, branch, name, scripted};
use crate::source_control::{Listing, SourceControl as _};

#[tokio::test]
async fn projects_of_a_group_are_listed_and_what_did_not_change_is_not_sent_again() {
    let world = World::start().await;
    for (namespace, path) in [(Some("acme"), "/api/v4/groups/acme/projects"), (None, "/api/v4/projects")] {
        let gitlab = world.gitlab(namespace);
        let first = gitlab.repositories(Listing::default()).await.expect("is listed");
        let again = gitlab.repositories(first.clone()).await.expect("is listed");
        assert_eq!(first, again);
        let asked: Vec<_> = world.take().iter().map(|one| (one.path(), one.status)).collect();
        assert_eq!(asked, [(path.to_owned(), 200), (path.to_owned(), 304)]);
        let names: Vec<_> = first.into_repositories().into_iter().map(|facts| (facts.name, facts.private)).collect();
        assert_eq!(names, [("handbook".to_owned(), false), ("sample-service".to_owned(), true)]);
    }
    assert!(world.gitlab(Some("no-such")).repositories(Listing::default()).await.is_err());
}

#[tokio::test]
async fn every_page_of_projects_and_branches_is_read() {
    let world = World::start().await;
    let recorded = scripted(|call| {
        let page: u64 = call.url.rsplit_once("page=").expect("a page").1.parse().expect("a number");
        let next = if page < 3 { (page + 1).to_string() } else { String::new() };
        let project = json!({
            "id": page, "path": format!("p{page}"), "namespace": {"full_path": "Acme/Web"}, "default_branch": "main",
            "visibility": "private",
        });
        let branch = json!({"name": format!("b{page}"), "commit": {"id": "a"}});
        let one = if call.url.contains("/branches") { branch } else { project };
        answer(200, &[("x-next-page", &next)], &json!([one]))
    });
    let gitlab = world.gitlab(None);
    let all = gitlab.repositories(Listing::default()).await.expect("is listed").into_repositories();
    assert_eq!(all.iter().map(|facts| facts.id).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!((all[0].owner.as_str(), recorded.borrow().len()), ("Acme/Web", 3));
    let project = name("acme/web/p1");
    let page = |page| gitlab.branches(&project, page);
    assert!(page(1).await.is_ok_and(|page| page.is_some_and(|page| page.has_more)));
    assert!(page(3).await.is_ok_and(|page| page.is_some_and(|page| !page.has_more && page.names == ["b3"])));
    let url = recorded.borrow().last().expect("a call").call.url.clone();
    assert!(url.ends_with("/api/v4/projects/acme%2Fweb%2Fp1/repository/branches?per_page=100&page=3"), "{url}");
}

#[tokio::test]
async fn a_project_is_found_by_its_own_name_only() {
    let world = World::start().await;
    let gitlab = world.gitlab(None);
    let sample = name("acme/sample-service");
    let found = gitlab.repository(&sample).await.expect("answers").expect("is there");
    assert_eq!((found.id, found.default_branch.as_str(), found.private), (1001, "main", true));
    assert_eq!(gitlab.repository(&name("acme/no-such")).await, Ok(None));
    assert!(gitlab.branch_head(&sample, &branch("main")).await.expect("answers").is_some());
    assert_eq!(gitlab.branch_head(&sample, &branch("no/such")).await, Ok(None));
    world.push("Fix/ä#1", "main").await;
    assert!(gitlab.branch_head(&sample, &branch("Fix/ä#1")).await.expect("answers").is_some());
    let _moved = scripted(|_| {
        let namespace = json!({"full_path": "other"});
        let project = json!({"id": 1, "path": "x", "namespace": namespace, "default_branch": "main"});
        answer(200, &[], &project)
    });
    assert_eq!(gitlab.repository(&sample).await, Ok(None), "it went elsewhere, which is not what was asked for");
}

#[tokio::test]
async fn git_gets_the_groups_token_for_an_hour() {
    let world = World::start().await;
    let credentials = world.gitlab(None).git_credentials(&[1001]).await.expect("are there");
    assert_eq!((credentials.username.as_str(), credentials.password.as_str()), ("oauth2", GROUP_TOKEN));
    // With it git really clones and pushes.
    world.push("fix", "main").await;
}

#[tokio::test]
async fn a_wrong_token_is_an_error_that_does_not_show_it() {
    let world = World::start().await;
    let mut vars = world.vars();
    vars.insert("GITLAB_ACCESS_TOKEN", "glpat-wrong-token");
    let gitlab = crate::source_control::gitlab::Gitlab::of(&vars).expect("is set up");
    let error = gitlab.repositories(Listing::default()).await.expect_err("is refused");
    assert_eq!(error.status(), Some(401));
    assert!(!format!("{error} {error:?}").contains("glpat"), "{error:?}");
}
