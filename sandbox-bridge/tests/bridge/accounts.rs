//! Providers that a session reaches by an account, with the real OpenCode: `OI_OPENCODE` names the binary.

use serde_json::{Value, json};

use crate::environment::assert_files_hold_none_of;
use crate::id;
use crate::real_opencode::opencode;
use crate::support::responses::Vendor;
use crate::support::sandbox::{Sandbox, config};
use crate::support::session::Session;

const ACCESS_TOKEN: &str = "the-access-token-of-the-account";

async fn world(provider: &str, answers: &[(u16, Value)]) -> (Session, Vendor, Sandbox) {
    let (session, vendor) = (Session::start().await, Vendor::start().await);
    let what = format!("POST provider-auth/{provider}/access-token");
    for (status, body) in answers {
        session.taken().calls.answer(&what, *status, body.clone());
    }
    let mut config = config(&session, None, "http://127.0.0.1:9/v1");
    config.provider_accounts = vec![provider.to_owned()];
    let (codex, xai) = (format!("{}/backend-api/codex/responses", vendor.url), format!("{}/v1", vendor.url));
    let arguments = ["--account-codex-url", &codex, "--account-xai-url", &xai];
    let sandbox = Sandbox::configured(config, &opencode(), &arguments);
    session.booted().await;
    (session, vendor, sandbox)
}

fn prompt(session: &Session, message_id: &str, model: &str, effort: Option<&str>) {
    session.send(&json!({"type": "prompt", "messageId": message_id, "content": "Hello", "model": model,
        "reasoningEffort": effort, "author": {"userId": "u", "gitIdentity": {"mode": "agent-only"}}}));
}

fn token() -> (u16, Value) {
    let body = json!({"accessToken": ACCESS_TOKEN, "expiresIn": 3600, "providerMetadata": {"accountId": "acct_1"}});
    (200, body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the OpenCode binary: set OI_OPENCODE"]
async fn an_openai_account_is_used_at_codex_alone_and_its_token_stays_with_the_supervisor() {
    let passing = (502, json!({"error": "The provider did not answer", "code": "UPSTREAM_FAILED"}));
    let (session, vendor, sandbox) = world("openai", &[passing, token()]).await;
    prompt(&session, &id(1), "openai/gpt-5.5", Some("high"));
    let done = session.completed(&id(1)).await;
    assert_eq!(done["success"], true, "{done}");
    assert_eq!(session.texts(&id(1)).last().map(String::as_str), Some("By subscription."));
    let cost = session.frame("its cost", |frame| frame["type"] == "step_finish").await;
    assert_eq!(cost["cost"].as_f64(), Some(0.0));
    let asked = vendor.asked.lock().expect("no test panicked in it");
    let turn = asked.iter().find(|asked| asked.body["tools"].is_array()).expect("the turn came");
    for asked in asked.iter() {
        assert_eq!(asked.path, "/backend-api/codex/responses");
        assert_eq!(asked.headers["authorization"], format!("Bearer {ACCESS_TOKEN}").as_str());
        assert_eq!(asked.headers["chatgpt-account-id"], "acct_1");
        assert_eq!(asked.headers["originator"], "opencode");
        assert!(asked.headers["session_id"].to_str().expect("text").starts_with("ses_"));
        assert_eq!((&asked.body["store"], asked.body.get("max_output_tokens")), (&json!(false), None));
    }
    assert!(turn.body["instructions"].as_str().expect("instructions").len() > 1000);
    assert!(turn.body["input"].as_array().expect("input").iter().all(|item| item["role"] != "developer"));
    assert_eq!(turn.body["reasoning"]["effort"], "high");
    let fetched = session.taken().calls.of("POST provider-auth/openai/access-token").len();
    assert_eq!(fetched, 2, "one answer, after one that may be repeated, serves all requests");
    assert_files_hold_none_of(sandbox.folder.path(), &[ACCESS_TOKEN]);
    crate::environment::assert_processes_hold_none_of(&sandbox, &[ACCESS_TOKEN]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the OpenCode binary: set OI_OPENCODE"]
async fn an_account_that_must_be_connected_again_fails_the_prompt_with_that_sentence() {
    let refused = (409, json!({"error": "Connect the account again", "code": "CONFLICT"}));
    let (session, vendor, _sandbox) = world("openai", &[refused]).await;
    prompt(&session, &id(1), "openai/gpt-5.5", None);
    let done = session.completed(&id(1)).await;
    let error = done["error"].as_str().expect("a reason");
    assert!(error.contains("Connect the account again"), "{error}");
    assert!(vendor.asked.lock().expect("no test panicked in it").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the OpenCode binary: set OI_OPENCODE"]
async fn an_xai_account_is_a_bearer_and_a_refused_token_is_asked_for_again() {
    let (session, vendor, _sandbox) = world("xai", &[token()]).await;
    *vendor.refusals.lock().expect("no test panicked in it") = 1;
    prompt(&session, &id(1), "xai/grok-build-0.1", None);
    assert_eq!(session.completed(&id(1)).await["success"], false);
    prompt(&session, &id(2), "xai/grok-build-0.1", None);
    let done = session.completed(&id(2)).await;
    assert_eq!(done["success"], true, "{done}");
    let asked = vendor.asked.lock().expect("no test panicked in it");
    for asked in asked.iter() {
        assert!(asked.path.starts_with("/v1/"), "{}", asked.path);
        assert_eq!(asked.headers["authorization"], format!("Bearer {ACCESS_TOKEN}").as_str());
        assert!(asked.headers.get("chatgpt-account-id").is_none());
    }
    assert!(session.taken().calls.of("POST provider-auth/xai/access-token").len() >= 2);
}
