//! Pull requests at both forges: as the person, and as the platform where the person's token does not do.

use futures_util::future::join;
use oi_protocol::SessionId;
use oi_session::job::{JobResult, OpenPullRequest};
use oi_session::pull_request_snapshots::LifecycleState;
use oi_worker_kit::vars::Vars;
use serde_json::{Value, json};

use super::support::{World, name};
use crate::pull_request_opening;
use crate::source_control::github::user_tokens;
use crate::source_control::{Provider, SourceControl};

const HOUR: i64 = 3_600;

/// What a session asks for, by this person.
fn wanted(head: &str, base: &str, user_id: Option<&str>) -> OpenPullRequest {
    OpenPullRequest {
        session_id: SessionId::from_bytes([1; 16]),
        operation_id: "o".to_owned(),
        repo_owner: "acme".to_owned(),
        repo_name: "sample-service".to_owned(),
        head: head.to_owned(),
        base: base.to_owned(),
        title: format!("Mend {head}"),
        body: "It was broken.".to_owned(),
        draft: false,
        author_user_id: user_id.map(str::to_owned),
        author_name: "Ada Lovelace".to_owned(),
        existing_number: None,
    }
}

/// The number, and whether it was there before.
async fn open(world: &World, forge: &impl SourceControl, vars: &impl Vars, open: &OpenPullRequest) -> (i64, bool) {
    match pull_request_opening::open(forge, &world.db, vars, open, false).await {
        Ok(JobResult::PullRequestOpened { number, updated, .. }) => (number, updated),
        other => panic!("{other:?}"),
    }
}

async fn pull(world: &World, number: i64) -> (String, String) {
    let pulls = world.pulls().await;
    let found = pulls.iter().find(|pull| pull["number"] == number).expect("is there");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&found["user"]["login"]), text(&found["body"]))
}

const BOT: &str = "open-inspect-dev[bot]";
const NAMED: &str = "Requested by Ada Lovelace.";

#[tokio::test]
async fn a_pull_request_is_the_persons_where_their_token_allows_it() {
    let world = World::start().await;
    world.push("fix", "main").await;
    let ada = world.person("github", "ada", HOUR).await;
    let opened = open(&world, &world.github(), &world.vars(), &wanted("fix", "main", Some(&ada))).await;
    let (author, body) = pull(&world, opened.0).await;
    assert_eq!(author, "ada");
    assert!(!body.contains("Requested by") && body.contains("https://app.example/session/0101"), "{body}");
    // The session's own one again: another title, and as the person again.
    let again = OpenPullRequest { existing_number: Some(opened.0), ..wanted("fix", "main", Some(&ada)) };
    world.take();
    assert_eq!(open(&world, &world.github(), &world.vars(), &again).await, (opened.0, true));
    let changed = world.take().into_iter().find(|one| one.call.method == "PATCH").expect("a change");
    assert!(changed.header("authorization").is_some_and(|token| token.starts_with("Bearer ghu_")));
}

#[tokio::test]
async fn without_a_token_that_works_the_app_opens_it_and_names_the_person() {
    let world = World::start().await;
    for head in ["nobody", "revoked", "no-right", "ended"] {
        world.push(head, "main").await;
    }
    let github = world.github();
    let by_app = async |head: &str, user: Option<&str>| {
        let (number, _) = open(&world, &github, &world.vars(), &wanted(head, "main", user)).await;
        let (author, body) = pull(&world, number).await;
        assert_eq!(author, BOT, "{head}");
        assert!(body.contains(NAMED), "{head}: {body}");
    };
    by_app("nobody", None).await;

    let ada = world.person("github", "ada", HOUR).await;
    world.admin("revoke-user-tokens", &json!({"login": "ada"})).await;
    by_app("revoked", Some(&ada)).await;
    // It was told that the token ended: it is not shown to GitHub again, and neither is what would have refreshed it.
    world.take();
    assert!(user_tokens::valid_token(&world.db, &world.vars(), &ada).await.expect("answers").is_none());
    assert_eq!(world.take().len(), 1);
    assert!(user_tokens::valid_token(&world.db, &world.vars(), &ada).await.expect("answers").is_none());
    assert_eq!(world.take().len(), 0);

    // Linus may read the other repository only.
    let linus = world.person("github", "linus", HOUR).await;
    by_app("no-right", Some(&linus)).await;
    assert!(
        user_tokens::valid_token(&world.db, &world.vars(), &linus).await.expect("answers").is_some(),
        "it works elsewhere"
    );

    let grace = world.person("github", "grace", 0).await;
    world.admin("revoke-user-tokens", &json!({"login": "grace"})).await;
    by_app("ended", Some(&grace)).await;
}

#[tokio::test]
async fn a_token_that_ended_is_refreshed_once_however_many_want_it() {
    let world = World::start().await;
    world.push("one", "main").await;
    world.push("two", "main").await;
    let ada = world.person("github", "ada", 0).await;
    let (github, vars) = (world.github(), world.vars());
    let (first, second) = (wanted("one", "main", Some(&ada)), wanted("two", "main", Some(&ada)));
    let (one, two) = join(open(&world, &github, &vars, &first), open(&world, &github, &vars, &second)).await;
    assert_eq!((pull(&world, one.0).await.0, pull(&world, two.0).await.0), ("ada".to_owned(), "ada".to_owned()));
    assert_eq!(world.count("POST", "/login/oauth/access_token"), 1);
    let vars_of_another = {
        let mut vars = world.vars();
        vars.insert("GITHUB_CLIENT_SECRET", "wrong");
        vars
    };
    // What is wrong with the deployment's own name and secret costs nobody their sign-in.
    let grace = world.person("github", "grace", 0).await;
    assert!(user_tokens::valid_token(&world.db, &vars_of_another, &grace).await.expect("answers").is_none());
    assert!(user_tokens::valid_token(&world.db, &world.vars(), &grace).await.expect("answers").is_some());
}

#[tokio::test]
async fn a_token_that_was_only_ended_early_is_refreshed_for_the_next_one() {
    let world = World::start().await;
    world.push("one", "main").await;
    world.push("two", "main").await;
    let ada = world.person("github", "ada", HOUR).await;
    world.admin("revoke-user-tokens", &json!({"login": "ada", "access_only": true})).await;
    let (github, vars) = (world.github(), world.vars());
    let one = open(&world, &github, &vars, &wanted("one", "main", Some(&ada))).await;
    let two = open(&world, &github, &vars, &wanted("two", "main", Some(&ada))).await;
    assert_eq!(pull(&world, one.0).await.0, BOT);
    assert_eq!(pull(&world, two.0).await.0, "ada");
}

#[tokio::test]
async fn one_that_is_open_already_is_found_and_several_may_be_stacked() {
    let world = World::start().await;
    world.push("one", "main").await;
    world.push("two", "one").await;
    let (github, vars) = (world.github(), world.vars());
    let first = open(&world, &github, &vars, &wanted("one", "main", None)).await;
    assert_eq!(first, (1, false));
    assert_eq!(open(&world, &github, &vars, &wanted("one", "main", None)).await, (1, true), "somebody else's");
    assert_eq!(
        open(&world, &github, &vars, &wanted("two", "one", None)).await,
        (2, false),
        "on the first one's branch"
    );
    // An attempt that was not heard of.
    let look = pull_request_opening::open(&github, &world.db, &vars, &wanted("two", "one", None), true).await;
    assert!(matches!(look, Ok(JobResult::PullRequestOpened { number: 2, updated: false, .. })), "{look:?}");
    let missing = pull_request_opening::open(&github, &world.db, &vars, &wanted("no-such", "main", None), false).await;
    assert!(missing.is_err_and(|failed| !failed.transient));
    let read = github.pull_request(&name("acme/sample-service"), 2).await.expect("answers").expect("is there");
    assert_eq!((read.head_branch.as_str(), read.base_branch.as_str()), ("two", "one"));
    assert_eq!(read.lifecycle_state, LifecycleState::Open);
    assert_eq!(github.pull_request(&name("acme/sample-service"), 99).await, Ok(None));
}

#[tokio::test]
async fn at_gitlab_a_merge_request_is_the_persons_or_the_groups_with_the_person_named() {
    let world = World::start().await;
    for head in ["mine", "revoked", "ended", "draft"] {
        world.push(head, "main").await;
    }
    let mut vars = world.vars();
    vars.insert("SCM_PROVIDER", "gitlab");
    let gitlab = world.gitlab(None);
    let ada = world.person("gitlab", "ada", HOUR).await;
    let mine = open(&world, &gitlab, &vars, &wanted("mine", "main", Some(&ada))).await;
    let (author, body) = pull(&world, mine.0).await;
    assert!(author == "ada" && !body.contains("Requested by"), "{author}: {body}");
    let again = OpenPullRequest { existing_number: Some(mine.0), ..wanted("mine", "main", Some(&ada)) };
    assert_eq!(open(&world, &gitlab, &vars, &again).await, (mine.0, true));
    assert_eq!(open(&world, &gitlab, &vars, &wanted("mine", "main", Some(&ada))).await, (mine.0, true), "a conflict");

    let grace = world.person("gitlab", "grace", 0).await;
    let ended = open(&world, &gitlab, &vars, &wanted("ended", "main", Some(&grace))).await;
    assert_eq!(pull(&world, ended.0).await.0, "grace", "it was refreshed");
    assert_eq!(world.count("POST", "/oauth/token"), 1);

    world.admin("revoke-user-tokens", &json!({"login": "ada"})).await;
    let revoked = open(&world, &gitlab, &vars, &wanted("revoked", "main", Some(&ada))).await;
    let (author, body) = pull(&world, revoked.0).await;
    assert!(author == BOT && body.contains(NAMED), "{author}: {body}");
    let tokens = user_tokens::acting_token(&world.db, &vars, Provider::Gitlab, &ada).await.expect("answers");
    assert!(tokens.is_none(), "and is not used again");

    let draft = OpenPullRequest { draft: true, ..wanted("draft", "main", None) };
    let draft = open(&world, &gitlab, &vars, &draft).await;
    let snapshot =
        gitlab.pull_request(&name("acme/sample-service"), draft.0).await.expect("answers").expect("is there");
    assert!(snapshot.is_draft && snapshot.title.as_deref() == Some("Draft: Mend draft"), "{snapshot:?}");
    let again = OpenPullRequest { existing_number: Some(draft.0), ..wanted("draft", "main", None) };
    open(&world, &gitlab, &vars, &again).await;
    let snapshot =
        gitlab.pull_request(&name("acme/sample-service"), draft.0).await.expect("answers").expect("is there");
    assert!(snapshot.is_draft, "a new title leaves it a draft");
}
