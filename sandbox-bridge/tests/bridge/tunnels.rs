//! Tunnels of a host's sandboxes: opened once for each start, whoever waits for it.

use std::io::Write as _;
use std::time::Duration;

use oi_protocol::local_backend::CreateSandboxRequest;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::host::{Host, SECRET};
use crate::support::eventually;
use crate::support::inmate::{self, Inmate};
use crate::support::sandbox::config;
use crate::support::session::Session;

fn with_a_tunnel(session: &Session) -> CreateSandboxRequest {
    let mut config = config(session, None, "http://127.0.0.1:9/v1");
    config.services.tunnel_ports = vec![3000];
    config
}

async fn url(host: &Host, id: &str) -> Option<String> {
    let (_, sandbox) = host.call(Method::GET, &format!("/v1/sandboxes/{id}"), None).await;
    sandbox["access"]["tunnelUrls"]["3000"].as_str().map(str::to_owned)
}

fn told(host: &Host, id: &str) -> String {
    std::fs::read_to_string(host.sandbox_folder(id).join("workspace/.tunnels.env")).unwrap_or_default()
}

#[tokio::test]
async fn a_caller_that_leaves_during_a_start_does_not_take_the_tunnels_along() {
    let (session, host) = (Session::start().await, inmate::host("none", &[]).await);
    let config = with_a_tunnel(&session);
    let id = config.sandbox_id.clone();
    let body = serde_json::to_vec(&config).expect("JSON");
    let address = host.url.strip_prefix("http://").expect("an address").to_owned();
    let mut caller = std::net::TcpStream::connect(&address).expect("it listens");
    write!(
        caller,
        "POST /v1/sandboxes HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {SECRET}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .expect("sent");
    caller.write_all(&body).expect("sent");
    // It leaves when the start has begun, and not before.
    let path = format!("/v1/sandboxes/{id}");
    for _ in 0..500 {
        if host.call(Method::GET, &path, None).await.0 == StatusCode::OK {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(caller);
    session.connected(1).await;
    let mut open = None;
    for _ in 0..100 {
        open = url(&host, &id).await;
        if open.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let open = open.expect("the tunnel is open");
    assert!(told(&host, &id).contains(&format!("TUNNEL_3000={open}\n")), "the sandbox is told");
    let (status, again) = host.create(&config).await;
    assert_eq!((status, &again["access"]["tunnelUrls"]["3000"]), (StatusCode::OK, &Value::from(open)));
}

#[tokio::test]
async fn a_start_that_is_asked_for_again_leaves_the_tunnels_of_a_running_sandbox_alone() {
    let host = inmate::host("none", &[]).await;
    let session = Session::start().await;
    let config = with_a_tunnel(&session);
    let inmate = Inmate::of(&host, session, config.clone()).await;
    inmate.session.connected(1).await;
    let id = config.sandbox_id.as_str();
    let (first, file) = (url(&host, id).await.expect("open"), told(&host, id));
    let body = serde_json::to_value(&config).expect("JSON");
    let resume = async || host.call(Method::POST, &format!("/v1/sandboxes/{id}/resume"), Some(body.clone())).await;
    let (status, resumed) = resume().await;
    assert_eq!((status, &resumed["access"]["tunnelUrls"]["3000"]), (StatusCode::OK, &Value::from(first.clone())));
    assert_eq!((url(&host, id).await, told(&host, id)), (Some(first.clone()), file));
    // One that was stopped gets new ones, once.
    host.delete(id).await;
    assert_eq!(url(&host, id).await, None);
    let (status, resumed) = resume().await;
    let second = resumed["access"]["tunnelUrls"]["3000"].as_str().expect("open").to_owned();
    assert_eq!(status, StatusCode::OK);
    assert_ne!(second, first);
    let (_, again) = resume().await;
    assert_eq!(again["access"]["tunnelUrls"]["3000"].as_str(), Some(&*second));
    let is_told = || told(&host, id).contains(&format!("TUNNEL_3000={second}\n")).then_some(());
    eventually("the sandbox is told", Duration::from_secs(5), is_told).await;
}
