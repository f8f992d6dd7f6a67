//! Files that a host keeps of its sandboxes, and sandboxes that begin with them.

use std::time::Duration;

use oi_protocol::local_backend::{BootFrom, CreateSandboxRequest, ImageBuild};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::host::{Host, alive, isolations};
use crate::support::eventually;
use crate::support::inmate::{self, Inmate};
use crate::support::sandbox::config;
use crate::support::session::{Session, TOKEN};

async fn snapshot(host: &Host, id: &str, label: &str) -> (StatusCode, Value) {
    host.call(Method::POST, &format!("/v1/sandboxes/{id}/snapshots"), Some(json!({"label": label}))).await
}

async fn stop(host: &Host, id: &str, fate: &str) {
    let (status, answer) = host.call(Method::DELETE, &format!("/v1/sandboxes/{id}?fate={fate}"), None).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
}

fn booting(session: &Session, boot: BootFrom) -> CreateSandboxRequest {
    CreateSandboxRequest { boot, ..config(session, None, "http://127.0.0.1:9/v1") }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_of_a_running_sandbox_is_what_another_begins_with() {
    for isolation in isolations() {
        let mut host = inmate::host(isolation, &[]).await;
        let inmate = Inmate::start(&host).await;
        let id = inmate.config.sandbox_id.clone();
        inmate.sh("mkdir -p deep/er; echo work > deep/er/file; echo home > $HOME/file; echo tmp > $TMPDIR/file").await;
        // It goes on while its files are kept, and after that.
        inmate.sh("(n=0; while :; do n=$((n+1)); echo $n > counter; sleep 0.01; done) > /dev/null 2>&1 &").await;
        let (status, image) = snapshot(&host, &id, "s-1").await;
        assert_eq!(status, StatusCode::CREATED, "{image}");
        let counter = host.sandbox_folder(&id).join("workspace/counter");
        let at = std::fs::read_to_string(&counter).expect("there");
        let moved = || std::fs::read_to_string(&counter).ok().filter(|now| *now != at && !now.is_empty());
        eventually("the counter's going on", Duration::from_secs(5), moved).await;
        let (status, again) = snapshot(&host, &id, "s-1").await;
        assert_eq!((status, &again["imageId"]), (StatusCode::OK, &image["imageId"]), "the label finds it");
        inmate.sh("echo later > deep/er/file").await;
        stop(&host, &id, "discarded").await;
        assert!(!host.sandbox_folder(&id).exists() && alive(&id).is_empty());
        // The next host knows it.
        host.end("TERM");
        host.run().await;
        let (_, listed) =
            host.call(Method::GET, &format!("/v1/snapshots?sessionId={}", inmate.config.session_id), None).await;
        assert_eq!(listed["snapshots"], json!([image]));
        let image_id = image["imageId"].as_str().expect("an id").to_owned();
        let found = crate::support::sh(&host.state(), &format!("grep -rl {TOKEN} snapshots || true"));
        assert_eq!(found, "", "no credential is kept");
        let session = Session::start().await;
        let request = booting(&session, BootFrom::SnapshotRestore { image_id: Some(image_id.clone()) });
        let restored = Inmate::of(&host, session, request).await;
        assert_eq!(restored.sh("cat deep/er/file $HOME/file $TMPDIR/file").await, "work\nhome\ntmp", "{isolation}");
        restored.session.connected(1).await;
        let (status, _) = host.call(Method::DELETE, &format!("/v1/snapshots/{image_id}"), None).await;
        assert_eq!(status, StatusCode::OK);
        let session = Session::start().await;
        let request = booting(&session, BootFrom::RepoImage { image_id: Some(image_id), sha: None });
        let (status, answer) = host.create(&request).await;
        assert_eq!((status.as_u16(), &answer["error"]["code"]), (404, &json!("no_such_image")));
        assert!(!host.sandbox_folder(&request.sandbox_id).exists(), "nothing is left of it");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parked_sandbox_goes_on_in_place_with_its_own_credentials() {
    for isolation in isolations() {
        let mut host = inmate::host(isolation, &[]).await;
        let inmate = Inmate::start(&host).await;
        let id = inmate.config.sandbox_id.clone();
        inmate.session.connected(1).await;
        inmate.sh("echo work > file").await;
        stop(&host, &id, "parked").await;
        let (status, image) = snapshot(&host, &id, "while-parked").await;
        assert_eq!(status, StatusCode::CREATED, "{image}");
        // The control plane does not know the token any more: it is the sandbox's own that counts.
        let request = CreateSandboxRequest { generation: 2, auth_token: "f".repeat(32), ..inmate.config.clone() };
        let body = serde_json::to_value(&request).expect("JSON");
        for _ in 0..2 {
            let (status, answer) =
                host.call(Method::POST, &format!("/v1/sandboxes/{id}/resume"), Some(body.clone())).await;
            assert_eq!(
                (status, &answer["status"], &answer["generation"]),
                (StatusCode::OK, &json!("running"), &json!(2))
            );
        }
        // The played session refuses every other token.
        inmate.session.connected(2).await;
        assert_eq!(inmate.sh("cat file").await, "work");
        assert_eq!(inmate.session.taken().connections, 2, "asked twice it was started once");
        stop(&host, &id, "parked").await;
        host.end("TERM");
        host.run().await;
        let (status, answer) = host.call(Method::POST, &format!("/v1/sandboxes/{id}/resume"), Some(body)).await;
        assert_eq!((status.as_u16(), &answer["error"]["code"]), (410, &json!("cannot_go_on")), "{isolation}");
        stop(&host, &id, "discarded").await;
        let (status, _) = host.call(Method::GET, &format!("/v1/sandboxes/{id}"), None).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parked_sandboxes_are_bounded() {
    let host = inmate::host("none", &["--max-parked", "1"]).await;
    let mut names = Vec::new();
    for _ in 0..2 {
        let inmate = Inmate::start(&host).await;
        stop(&host, &inmate.config.sandbox_id, "parked").await;
        names.push(inmate.config.sandbox_id);
    }
    let first = host.sandbox_folder(&names[0]);
    eventually("the first one's end", Duration::from_secs(5), || (!first.exists()).then_some(())).await;
    assert!(host.sandbox_folder(&names[1]).exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_parked_sandboxes_the_one_that_stopped_first_goes_first() {
    let host = inmate::host("none", &["--max-parked", "1"]).await;
    let (older, newer) = (Inmate::start(&host).await, Inmate::start(&host).await);
    let [older, newer] = [older, newer].map(|inmate| inmate.config.sandbox_id);
    stop(&host, &newer, "parked").await;
    stop(&host, &older, "parked").await;
    let gone = host.sandbox_folder(&newer);
    eventually("the end of one", Duration::from_secs(5), || (!gone.exists()).then_some(())).await;
    assert!(host.sandbox_folder(&older).exists(), "it has just stopped, however long it ran");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_is_made_once_becomes_an_image_and_goes() {
    for isolation in isolations() {
        let host = inmate::host(isolation, &[]).await;
        let session = Session::start().await;
        let build = |build_id: &str| {
            BootFrom::Build(ImageBuild {
                build_id: build_id.to_owned(),
                callback_url: format!("{}/image-builds/build-complete", session.url),
                failure_callback_url: format!("{}/image-builds/build-failed", session.url),
                callback_token: "a-token-of-this-build-alone".to_owned(),
                provider_session_id: "p".to_owned(),
                execution_timeout_seconds: None,
                clone_token: None,
                clone_username: None,
            })
        };
        let request = booting(&session, build("b-1"));
        let (status, answer) = host.create(&request).await;
        assert_eq!(
            (status.as_u16(), &answer["error"]["code"]),
            (400, &json!("invalid_boot")),
            "a build has its own route"
        );
        let body = |request: &CreateSandboxRequest| Some(serde_json::to_value(request).expect("JSON"));
        let (status, answer) =
            host.call(Method::POST, "/v1/builds", body(&config(&session, None, "http://127.0.0.1:9/v1"))).await;
        assert_eq!((status.as_u16(), &answer["error"]["code"]), (400, &json!("invalid_boot")));
        let (status, made) = host.call(Method::POST, "/v1/builds", body(&request)).await;
        assert_eq!((status, &made["sandbox"]["status"]), (StatusCode::CREATED, &json!("running")), "{made}");
        let second = booting(&session, build("b-1"));
        assert_ne!(second.sandbox_id, request.sandbox_id);
        let (status, again) = host.call(Method::POST, "/v1/builds", body(&second)).await;
        assert_eq!((status, &again["sandbox"]), (StatusCode::OK, &made["sandbox"]), "one build, one sandbox");
        assert!(alive(&second.sandbox_id).is_empty());
        let files = host.sandbox_folder(&request.sandbox_id);
        std::fs::write(files.join("workspace/built"), "built ahead").expect("written");
        let (status, image) = host.call(Method::POST, "/v1/builds/b-1/snapshot", None).await;
        assert_eq!((status, &image["buildId"]), (StatusCode::CREATED, &json!("b-1")), "{image}");
        let (_, shown) = host.call(Method::GET, "/v1/builds/b-1", None).await;
        assert_eq!(shown["imageId"], image["imageId"]);
        let log = host.text("/v1/builds/b-1/log").await;
        assert!(!log.contains("a-token-of-this-build-alone"), "{log}");
        let (status, _) = host.call(Method::DELETE, "/v1/builds/b-1", None).await;
        assert_eq!(status, StatusCode::OK);
        assert!(!files.exists() && alive(&request.sandbox_id).is_empty());
        let (status, _) = host.call(Method::GET, "/v1/builds/b-1", None).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        let image_id = image["imageId"].as_str().map(ToOwned::to_owned);
        let session = Session::start().await;
        let request = booting(&session, BootFrom::RepoImage { image_id, sha: None });
        let inmate = Inmate::of(&host, session, request).await;
        assert_eq!(inmate.sh("cat built").await, "built ahead", "{isolation}");
    }
}
