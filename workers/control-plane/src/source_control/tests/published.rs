//! Every request of a client, and every answer of the local forge to it, against what the vendors publish:
//! `devkit/tests/fixtures/*-openapi.json`.

use std::collections::BTreeSet;

use jsonschema::Validator;
use serde_json::{Value, json};

use super::support::{Exchange, World, branch, name};
use crate::source_control::github::user_account::OauthClient;
use crate::source_control::{Listing, NewPullRequest, Opener, SourceControl};

struct Published(Value);

/// What a description says of a request: its operation, and the values of its path's parameters.
struct Met<'p> {
    operation: &'p str,
    path: Vec<(String, String)>,
}

fn decoded(text: &str) -> String {
    let text = text.replace('+', "%2B");
    url::form_urlencoded::parse(format!("x={text}").as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

impl Published {
    fn github() -> Self {
        let text = include_str!("../../../../../devkit/tests/fixtures/github-openapi.json");
        Self(serde_json::from_str(text).expect("is JSON"))
    }

    fn gitlab() -> Self {
        let text = include_str!("../../../../../devkit/tests/fixtures/gitlab-openapi.json");
        Self(serde_json::from_str(text).expect("is JSON"))
    }

    fn validator(&self, schema: &Value) -> Validator {
        let mut schema = json!({ "allOf": [schema] });
        if self.0["$defs"].is_object() {
            schema["$defs"] = self.0["$defs"].clone();
        }
        jsonschema::options().should_validate_formats(false).build(&schema).expect("is a schema")
    }

    #[track_caller]
    fn check(&self, what: &str, schema: &Value, value: &Value) {
        let validator = self.validator(schema);
        let errors: Vec<_> =
            validator.iter_errors(value).map(|e| format!("{} at {}", e.masked(), e.instance_path())).collect();
        assert!(errors.is_empty(), "{what}: {errors:#?}");
    }

    /// The operation that a path is of. Only `{ref}` and `{branch}` hold slashes.
    fn find(&self, method: &str, path: &str) -> Option<Met<'_>> {
        let operations = self.0["operations"].as_object().expect("operations");
        operations.keys().find_map(|operation| {
            let template = operation.strip_prefix(method)?.strip_prefix(' ')?;
            let (mut given, mut values) = (path.split('/'), Vec::new());
            let mut wanted = template.split('/').peekable();
            while let Some(segment) = wanted.next() {
                let parameter = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
                match parameter {
                    Some(long @ ("ref" | "branch")) if wanted.peek().is_none() => {
                        let rest = given.by_ref().collect::<Vec<_>>().join("/");
                        if rest.is_empty() {
                            return None;
                        }
                        values.push((long.to_owned(), decoded(&rest)));
                    }
                    Some(parameter) => values.push((parameter.to_owned(), decoded(given.next()?))),
                    None if given.next()? == segment => {}
                    None => return None,
                }
            }
            given.next().is_none().then_some(Met { operation, path: values })
        })
    }

    /// A text as the type that a parameter has.
    fn typed(schema: &Value, text: &str) -> Value {
        match schema["type"].as_str() {
            Some("integer") => text.parse::<i64>().map_or_else(|_| text.into(), Value::from),
            Some("boolean") => text.parse::<bool>().map_or_else(|_| text.into(), Value::from),
            _ => text.into(),
        }
    }

    /// Checks method, path, query and body; gives the operation.
    #[track_caller]
    fn check_request<'p>(&'p self, base: &str, one: &Exchange) -> &'p str {
        let url = url::Url::parse(&one.call.url).expect("a URL");
        let path = url.path().strip_prefix(base).unwrap_or_else(|| panic!("{url} is outside of {base}"));
        let met =
            self.find(one.call.method, path).unwrap_or_else(|| panic!("{} {url} is not described", one.call.method));
        let described = &self.0["operations"][met.operation];
        let parameters = described["parameters"].as_array().expect("parameters");
        let given: Vec<(&str, String, String)> = met
            .path
            .into_iter()
            .map(|(name, value)| ("path", name, value))
            .chain(url.query_pairs().map(|(name, value)| ("query", name.into_owned(), value.into_owned())))
            .collect();
        for (place, name, value) in &given {
            let known = parameters.iter().find(|known| known["in"] == *place && known["name"] == name.as_str());
            let known = known.unwrap_or_else(|| panic!("{} has no parameter {name}", met.operation));
            let what = format!("{} parameter {name}", met.operation);
            let may_hold_slashes = *place == "query" || matches!(name.as_str(), "ref" | "branch" | "id");
            assert!(may_hold_slashes || !value.contains('/'), "{what} is `{value}`");
            self.check(&what, &known["schema"], &Self::typed(&known["schema"], value));
        }
        for required in parameters.iter().filter(|known| known["required"] == true) {
            let there =
                given.iter().any(|(place, name, _)| required["in"] == *place && required["name"] == name.as_str());
            assert!(there, "{} lacks {}", met.operation, required["name"]);
        }
        let body: Option<Value> = one.call.body.as_deref().map(|body| serde_json::from_slice(body).expect("is JSON"));
        match (&described["request"], body) {
            (Value::Null, None) => {}
            (Value::Null, Some(_)) => panic!("{} takes no body", met.operation),
            (schema, Some(body)) => {
                self.check(&format!("{} body", met.operation), schema, &body);
                assert_eq!(one.header("content-type"), Some("application/json"));
                // A schema allows what it does not know; GitHub ignores it, and we should not send it.
                let known = schema["properties"].as_object().expect("properties");
                let strange: Vec<_> =
                    body.as_object().expect("an object").keys().filter(|key| !known.contains_key(*key)).collect();
                assert!(strange.is_empty(), "{} knows no {strange:?}", met.operation);
            }
            (_, None) => assert_ne!(described["requestRequired"], true, "{} lacks its body", met.operation),
        }
        met.operation
    }
}

/// Everything that a client can ask.
async fn everything(forge: &impl SourceControl, person: Opener<'_>) {
    let sample = name("acme/sample-service");
    let (head, base) = (branch("Fix/ä#1"), branch("main"));
    let listing = forge.repositories(Listing::default()).await.expect("is listed");
    forge.repositories(listing).await.expect("is listed");
    for found in ["acme/sample-service", "acme/handbook", "acme/no-such"] {
        forge.repository(&name(found)).await.expect("answers");
    }
    forge.branches(&sample, 1).await.expect("answers");
    forge.branches(&name("acme/no-such"), 1).await.expect("answers");
    for one in [&head, &branch("no/such")] {
        forge.branch_head(&sample, one).await.expect("answers");
    }
    forge.git_credentials(&[1001]).await.expect("are there");
    assert_eq!(forge.open_pull_request_of(&sample, &head, &base).await, Ok(None));
    let new = NewPullRequest { title: "Mend it", body: "It was broken.", head: &head, base: &base, draft: true };
    let opened = forge.create_pull_request(person, &sample, new).await.expect("is opened");
    assert!(forge.create_pull_request(Opener::App, &sample, new).await.is_err(), "it is open already");
    assert!(forge.open_pull_request_of(&sample, &head, &base).await.expect("answers").is_some());
    forge.update_pull_request(Opener::App, &sample, opened.number, "Mended", "It was.").await.expect("is changed");
    forge.pull_request(&sample, opened.number).await.expect("answers").expect("is there");
    assert_eq!(forge.pull_request(&sample, 99).await, Ok(None));
}

#[tokio::test]
async fn what_is_asked_of_github_is_as_github_describes_it() {
    let world = World::start().await;
    world.push("Fix/ä#1", "main").await;
    let tokens = world.admin("user-tokens", &json!({"login": "ada"})).await;
    let token = tokens["access_token"].as_str().expect("a token");
    everything(&world.github(), Opener::Person(token)).await;
    let people = OauthClient::of(&world.vars()).expect("is set up");
    people.user(token).await.expect("answers");
    people.verified_emails(token).await.expect("answers");
    people.is_active_member(token, "acme").await.expect("answers");
    people.is_active_member(token, "no-such").await.expect("answers");

    let published = Published::github();
    let mut asked = BTreeSet::new();
    for one in world.take() {
        let operation = published.check_request("/api/v3", &one);
        asked.insert(operation);
        assert_eq!(one.header("accept"), Some("application/vnd.github+json"), "{operation}");
        assert_eq!(one.header("x-github-api-version"), Some("2022-11-28"), "{operation}");
        assert!(one.header("user-agent").is_some_and(|agent| !agent.is_empty()), "{operation}");
        assert!(one.header("authorization").is_some_and(|token| token.starts_with("Bearer ")), "{operation}");
        if one.status == 304 {
            assert!(one.header("if-none-match").is_some() && one.answer.is_empty(), "{operation}");
            continue;
        }
        let schema = &published.0["operations"][operation][one.status.to_string()];
        assert!(schema.is_object(), "{operation} does not answer {}", one.status);
        let body = serde_json::from_slice(&one.answer).expect("is JSON");
        published.check(&format!("{operation} {}", one.status), schema, &body);
    }
    let all = [
        "GET /installation/repositories",
        "GET /repos/{owner}/{repo}",
        "GET /repos/{owner}/{repo}/branches",
        "GET /repos/{owner}/{repo}/git/ref/{ref}",
        "GET /repos/{owner}/{repo}/installation",
        "GET /repos/{owner}/{repo}/pulls",
        "GET /repos/{owner}/{repo}/pulls/{pull_number}",
        "GET /user",
        "GET /user/emails",
        "GET /user/memberships/orgs/{org}",
        "PATCH /repos/{owner}/{repo}/pulls/{pull_number}",
        "POST /app/installations/{installation_id}/access_tokens",
        "POST /repos/{owner}/{repo}/pulls",
    ];
    assert_eq!(asked, BTreeSet::from(all), "and nothing else");
}

#[tokio::test]
async fn what_is_asked_of_gitlab_about_merge_requests_is_as_gitlab_describes_it() {
    let world = World::start().await;
    world.push("Fix/ä#1", "main").await;
    let tokens = world.admin("user-tokens", &json!({"login": "ada"})).await;
    everything(&world.gitlab(None), Opener::Person(tokens["access_token"].as_str().expect("a token"))).await;
    let published = Published::gitlab();
    let fields: BTreeSet<&str> =
        published.0["merge_request"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    let mut asked = BTreeSet::new();
    for one in world.take().iter().filter(|one| one.path().contains("/merge_requests")) {
        let operation = published.check_request("/api/v4", one);
        asked.insert(operation);
        let statuses = published.0["operations"][operation]["statuses"].as_object().expect("statuses");
        let shape = statuses.get(&one.status.to_string());
        let shape = shape.unwrap_or_else(|| panic!("{operation} does not answer {}", one.status));
        let body: Value = serde_json::from_slice(&one.answer).expect("is JSON");
        let found = match shape.as_str() {
            Some("merge_request") => vec![body],
            Some("merge_requests") => body.as_array().expect("a list").clone(),
            _ => Vec::new(),
        };
        for found in found {
            let strange: Vec<_> =
                found.as_object().expect("an object").keys().filter(|key| !fields.contains(key.as_str())).collect();
            assert!(strange.is_empty(), "a merge request has no {strange:?}");
        }
    }
    assert_eq!(asked.len(), 4, "{asked:?}");
}

#[test]
fn the_checks_are_not_empty() {
    let published = Published::github();
    let exchange = |method: &'static str, path: &str, body: Option<&str>| Exchange {
        call: oi_worker_kit::http_client::native::Outgoing {
            method,
            url: format!("https://x/api/v3{path}"),
            headers: vec![("Content-Type", "application/json".to_owned())],
            body: body.map(|body| body.as_bytes().to_vec()),
        },
        status: 200,
        answer: Vec::new(),
    };
    let refused = |one: Exchange| {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| published.check_request("/api/v3", &one).to_owned()))
            .is_err()
    };
    assert!(!refused(exchange("GET", "/repos/a/b/pulls?state=open", None)));
    assert!(refused(exchange("GET", "/repos/a/b/pulls?state=opened", None)), "no such state");
    assert!(refused(exchange("GET", "/repos/a/b/pulls?status=open", None)), "no such parameter");
    assert!(refused(exchange("GET", "/repos/a/b/pulls/x", None)), "no number");
    assert!(refused(exchange("GET", "/repos/a%2Fb/pull", None)), "no such path");
    assert!(refused(exchange("POST", "/repos/a/b/pulls", None)), "no body");
    assert!(refused(exchange("POST", "/repos/a/b/pulls", Some(r#"{"title":"t","head":"h"}"#))), "no base");
    assert!(refused(exchange("POST", "/repos/a/b/pulls", Some(r#"{"title":1,"head":"h","base":"b"}"#))), "no text");
    assert!(
        refused(exchange("POST", "/repos/a/b/pulls", Some(r#"{"head":"h","base":"b","colour":"red"}"#))),
        "no such field"
    );
}
