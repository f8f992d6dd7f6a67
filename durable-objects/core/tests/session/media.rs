//! Screenshots and recordings: artifacts of the prompt that runs, counted, shown and found again.

use oi_protocol::session_state::ArtifactType;
use oi_session::call::{CallReply, Principal, SessionCall};
use oi_session::media::NewMedia;
use serde_json::{Value, json};

use crate::support::session::{Session, complete, delta, session_id, value};

fn new(n: u32, kind: ArtifactType, extension: &str) -> NewMedia {
    let id = format!("{n:032x}");
    NewMedia {
        object_key: format!("sessions/{}/media/{id}.{extension}", session_id()),
        artifact_id: id,
        artifact_type: kind,
        bytes: 5,
        metadata: [("caption".to_owned(), json!("The page"))].into_iter().collect(),
    }
}

fn create(s: &mut Session, token: &str, media: NewMedia) -> CallReply {
    let principal = Principal::Sandbox { token: token.to_owned() };
    s.call_as(principal, SessionCall::CreateMediaArtifact(Box::new(media)))
}

fn authorize(s: &mut Session, token: &str, artifact_type: ArtifactType) -> u16 {
    let principal = Principal::Sandbox { token: token.to_owned() };
    s.call_as(principal, SessionCall::AuthorizeMedia { artifact_type }).status
}

fn told(reply: &CallReply) -> (u16, Value) {
    (reply.status, value(&reply.body)["error"].clone())
}

#[test]
fn a_screenshot_is_an_artifact_and_an_event_of_the_prompt_that_runs() {
    let (mut s, page, bridge, id) = Session::with_run();
    let token = s.sandbox().token;
    s.frame(bridge, 3, delta(&id, "p", 0, "Look:"));
    let _ = s.take(page);
    let media = new(1, ArtifactType::Screenshot, "png");
    let (artifact_id, key) = (media.artifact_id.clone(), media.object_key.clone());
    assert_eq!(authorize(&mut s, &token, ArtifactType::Screenshot), 200);
    let reply = create(&mut s, &token, media.clone());
    assert_eq!((reply.status, value(&reply.body)), (200, json!({"status": "ok", "artifactId": artifact_id})));
    let metadata = json!({"caption": "The page", "objectKey": key, "mimeType": "image/png", "sizeBytes": 5});
    let frames = s.take(page);
    let created = frames.iter().find(|frame| frame["type"] == "artifact_created").expect("pages are told");
    let artifact = &created["artifact"];
    assert_eq!(
        (&artifact["id"], &artifact["type"], &artifact["url"]),
        (&json!(artifact_id), &json!("screenshot"), &json!(key))
    );
    assert_eq!(artifact["metadata"], metadata);
    let event = frames.iter().find(|frame| frame["event"]["type"] == "artifact").expect("the event is shown");
    assert_eq!((&event["event"]["messageId"], &event["event"]["metadata"]), (&json!(id), &metadata));
    let order = s.count("SELECT seq FROM events WHERE type = 'artifact'")
        - s.count("SELECT seq FROM events WHERE type = 'part'");
    assert_eq!(order, 1, "it follows what the agent said before it");
    assert_eq!(s.events("artifact").len(), 1);

    let again = create(&mut s, &token, media);
    assert_eq!(again.status, 200, "an answer that was lost is given again");
    assert!(s.take_of(page, "artifact_created").is_empty());
    assert_eq!(s.count("SELECT objects * 1000 + bytes FROM storage_use WHERE kind = 'screenshot'"), 1_005);
    s.host.evict();
    let found = s.call(SessionCall::Media { artifact_id });
    assert_eq!((found.status, value(&found.body)), (200, json!({"objectKey": key, "mimeType": "image/png"})));
}

#[test]
fn media_needs_the_sandbox_that_may_act_and_a_prompt_that_runs() {
    let mut s = Session::new();
    let call = SessionCall::CreateMediaArtifact(Box::new(new(1, ArtifactType::Video, "mp4")));
    assert_eq!(told(&s.call(call)), (404, json!("No sandbox")));
    let (mut s, _page, bridge, id) = Session::with_run();
    let token = s.sandbox().token;
    assert_eq!(create(&mut s, &"0".repeat(32), new(1, ArtifactType::Video, "mp4")).status, 401);
    assert_eq!(authorize(&mut s, &"0".repeat(32), ArtifactType::Video), 401);
    s.frame(bridge, 3, complete(&id, true));
    let refused = create(&mut s, &token, new(1, ArtifactType::Video, "mp4"));
    assert_eq!(told(&refused), (409, json!("No active prompt")));
    assert_eq!(authorize(&mut s, &token, ArtifactType::Video), 409);
    assert_eq!(s.count("SELECT COUNT(*) FROM artifacts"), 0);
    assert_eq!(s.count("SELECT COUNT(*) FROM storage_use WHERE kind = 'video'"), 0, "a refusal writes nothing");
}

#[test]
fn a_session_has_as_many_screenshots_and_videos_as_its_limits_and_no_more() {
    let (mut s, _page, _bridge, _id) = Session::with_run();
    let token = s.sandbox().token;
    for (kind, extension, most, first) in
        [(ArtifactType::Screenshot, "webp", 100, 1_000), (ArtifactType::Video, "mp4", 20, 2_000)]
    {
        let taken = (0..=most).filter(|n| create(&mut s, &token, new(first + n, kind, extension)).status == 200);
        assert_eq!(taken.count() as u32, most, "{kind:?}");
        let (status, refused) = told(&create(&mut s, &token, new(first + 500, kind, extension)));
        assert_eq!(status, 429);
        assert!(refused.as_str().is_some_and(|text| text.contains(&most.to_string())), "{refused}");
        assert_eq!(authorize(&mut s, &token, kind), 429, "it is said before the file is sent");
    }
}

#[test]
fn a_media_artifact_names_its_own_object_and_nothing_else() {
    let (mut s, _page, _bridge, _id) = Session::with_run();
    let token = s.sandbox().token;
    let picture = || new(1, ArtifactType::Screenshot, "png");
    let other = "61".repeat(16);
    let wrong = [
        NewMedia { object_key: picture().object_key.replace(session_id().as_str(), &other), ..picture() },
        NewMedia { object_key: new(2, ArtifactType::Screenshot, "png").object_key, ..picture() },
        NewMedia { object_key: picture().object_key.replace("/media/", "/attachments/"), ..picture() },
        NewMedia { artifact_id: "not-an-id".to_owned(), ..picture() },
        NewMedia { artifact_type: ArtifactType::Video, ..picture() },
        NewMedia { artifact_type: ArtifactType::Pr, ..picture() },
        NewMedia { bytes: 0, ..picture() },
        NewMedia { bytes: 10 * 1024 * 1024 + 1, ..picture() },
        NewMedia { metadata: [("caption".to_owned(), json!("x".repeat(20_000)))].into_iter().collect(), ..picture() },
    ];
    for media in wrong {
        let reply = create(&mut s, &token, media.clone());
        assert_eq!(told(&reply), (400, json!("Invalid media artifact body")), "{media:?}");
    }
    let empty = NewMedia { object_key: String::new(), ..picture() };
    assert_eq!(told(&create(&mut s, &token, empty)), (400, json!("artifactId and objectKey are required")));
    assert_eq!(authorize(&mut s, &token, ArtifactType::Pr), 400);
    assert_eq!(s.count("SELECT COUNT(*) FROM artifacts"), 0);
}

#[test]
fn only_media_of_this_session_is_found() {
    let (mut s, _page, bridge, _id) = Session::with_run();
    let foreign = format!("sessions/{}/media/{}.png", "61".repeat(16), "0".repeat(32));
    let page = format!("sessions/{}/archive/x.png", session_id());
    for (seq, n, url) in [(3, 1, foreign.as_str()), (4, 2, "https://example.com/x.png"), (5, 3, page.as_str())] {
        let artifact = json!({"type": "artifact", "artifactType": "screenshot", "artifactId": format!("{n:032x}"),
            "url": url, "metadata": {"objectKey": url}, "timestamp": 1});
        s.frame(bridge, seq, artifact);
    }
    assert_eq!(s.count("SELECT COUNT(*) FROM artifacts"), 3, "a sandbox may say so");
    for id in ["1", "2", "3", "4"].map(|n| format!("{n:0>32}")).into_iter().chain(["../x".to_owned()]) {
        let found = s.call(SessionCall::Media { artifact_id: id.clone() });
        assert_eq!(told(&found), (404, json!("Media artifact not found")), "{id}");
    }
}
