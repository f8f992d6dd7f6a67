//! Old events in the bucket: listed, scrolled to and forked from as if they were in the session still.

use std::path::Path;
use std::time::{Duration, Instant};

use e2e::api::Person;
use e2e::bridge::Bridge;
use e2e::socket::subscribe;
use e2e::{Outcome, check, check_eq};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::World;
use crate::family::bridge_of;

const SOON: Duration = Duration::from_secs(60);
/// A file has 1 000 events, and a session of this group keeps 100 besides.
const CALLS: usize = 1_300;

/// Files of the local bucket.
fn blobs(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let is_bucket = |path: &Path| path.components().any(|part| part.as_os_str() == "r2");
    entries
        .flatten()
        .map(|entry| entry.path())
        .map(
            |path| {
                if path.is_dir() { blobs(&path) } else { usize::from(is_bucket(&path) && path.extension().is_none()) }
            },
        )
        .sum()
}

pub async fn old_events_leave_for_the_bucket_and_are_read_and_forked_as_before(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let ada = Person::sign_in(ready, "ada").await?;
    let session = ada.create_session().await?;
    let (mut bridge, _) = bridge_of(world, &session).await?;
    ada.prompt(&session, "call many tools").await?;
    bridge.listen(SOON, |bridge| !bridge.prompts.is_empty()).await?;
    let id = bridge.prompts[0]["messageId"].clone();
    let before = blobs(Path::new(&ready.state_dir));
    for call in 0..CALLS {
        bridge
            .emit(json!({"type": "tool_call", "messageId": id, "tool": "bash", "args": {"n": call}, "callId": format!("c{call}"),
                "status": "completed"}))
            .await;
        if call % 1_000 == 999 {
            bridge.listen(SOON, Bridge::is_settled).await?;
        }
    }
    bridge.emit(json!({"type": "execution_complete", "messageId": id, "success": true})).await;
    bridge.listen(SOON, Bridge::is_settled).await?;
    check!(bridge.is_settled(), "all is acknowledged");
    let begun = Instant::now();
    while blobs(Path::new(&ready.state_dir)) == before {
        check!(begun.elapsed() < SOON, "no file is in the bucket");
        sleep(Duration::from_millis(200)).await;
    }
    let quiet = Instant::now();
    loop {
        let waiting = ada.call(Method::GET, &format!("/api/sessions/{session}/deliveries"), None).await?;
        if !waiting.text.contains("archive_events") {
            break;
        }
        check!(quiet.elapsed() < SOON, "the archive is not written: {}", waiting.text);
        sleep(Duration::from_millis(200)).await;
    }

    // The listing, from the newest to the first, a page at a time.
    let (mut cursor, mut seen) = (None::<String>, 0_usize);
    let mut first = Value::Null;
    loop {
        let query = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let path = format!("/api/sessions/{session}/events?limit=200&type=tool_call{query}");
        let page = ada.call(Method::GET, &path, None).await?;
        check_eq!(page.status.as_u16(), 200, "a page ({})", page.text);
        let events = page.json["events"].as_array().cloned().unwrap_or_default();
        seen += events.len();
        first = events.last().cloned().unwrap_or(first);
        match page.json["cursor"].as_str() {
            Some(next) => cursor = Some(next.replace(':', "%3A")),
            None => break,
        }
    }
    check_eq!(seen, CALLS, "every call is listed once");
    check_eq!(first["data"]["args"]["n"], 0, "down to the first");

    // A page scrolls to what is in the bucket.
    let token = ada.ws_token(&session).await?;
    let (mut page, _) = subscribe(ready, &session, &token, None).await?;
    page.send(&json!({"type": "fetch_history", "cursor": {"timestamp": 1, "id": "x", "sequence": 20}, "limit": 5}))
        .await?;
    let history = page.wait_for(SOON, |frame| frame["type"] == "history_page").await?;
    let places: Vec<_> =
        history["items"].as_array().into_iter().flatten().map(|e| e["timelineSequence"].clone()).collect();
    check_eq!(json!(places), json!([15, 16, 17, 18, 19]), "history from a file");

    // Forks of an event in a file, by its id and by its place.
    let event = history["items"][2].clone();
    for body in [json!({"eventId": event["eventId"]}), json!({"timelineSequence": 17})] {
        let forked = ada.call(Method::POST, &format!("/api/sessions/{session}/fork"), Some(&body)).await?;
        check_eq!(forked.status.as_u16(), 201, "a fork ({})", forked.text);
        let fork = forked.json["sessionId"].as_str().unwrap_or_default().to_owned();
        let token = ada.ws_token(&fork).await?;
        let begun = Instant::now();
        loop {
            let (socket, subscribed) = subscribe(ready, &fork, &token, None).await?;
            socket.close().await;
            let events = subscribed["timeline"]["events"].as_array().cloned().unwrap_or_default();
            if events.last().is_some_and(|last| last["eventId"] == event["eventId"]) {
                check!(events.len() >= 15, "its past is whole: {}", events.len());
                break;
            }
            check!(begun.elapsed() < SOON, "the fork has no past: {subscribed}");
            sleep(Duration::from_millis(100)).await;
        }
    }
    let nowhere = json!({"eventId": "tool_call:nowhere"});
    let refused = ada.call(Method::POST, &format!("/api/sessions/{session}/fork"), Some(&nowhere)).await?;
    check_eq!(refused.status.as_u16(), 404, "an event that is nowhere ({})", refused.text);
    Ok(())
}
