//! Files: what people attach to prompts and what the agent shows, from the upload to the bucket and back.

use std::time::Duration;

use e2e::api::{Person, raw};
use e2e::bridge::Bridge;
use e2e::socket::subscribe;
use e2e::stack::Ready;
use e2e::{Failed, Outcome, check, check_eq};
use reqwest::header::{AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, COOKIE, ORIGIN, RANGE};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

use crate::World;

const BOUNDARY: &str = "a-boundary-of-the-test";
const MIB: usize = 1024 * 1024;

/// Bytes that differ from place to place, so that a part in a wrong place is seen.
fn filled(head: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = head.to_vec();
    let mut state = 1_u32;
    while bytes.len() < length {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bytes.extend_from_slice(&state.to_be_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn png(length: usize) -> Vec<u8> {
    filled(b"\x89PNG\r\n\x1a\n", length)
}

fn mp4(length: usize) -> Vec<u8> {
    filled(b"\0\0\0\x18ftypisom\0\0\x02\0isomavc1", length)
}

/// A form with fields before and after its file.
fn form(before: &[(&str, &str)], file: &[u8], content_type: &str, after: &[(&str, &str)]) -> Vec<u8> {
    let field = |(name, value): &(&str, &str)| {
        format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n").into_bytes()
    };
    let mut body: Vec<u8> = before.iter().flat_map(field).collect();
    let head = "Content-Disposition: form-data; name=\"file\"; filename=\"a file\"";
    body.extend(format!("--{BOUNDARY}\r\n{head}\r\nContent-Type: {content_type}\r\n\r\n").bytes());
    body.extend(file);
    body.extend(b"\r\n");
    body.extend(after.iter().flat_map(field));
    body.extend(format!("--{BOUNDARY}--\r\n").bytes());
    body
}

fn form_type() -> String {
    format!("multipart/form-data; boundary={BOUNDARY}")
}

struct Caller<'w> {
    ready: &'w Ready,
    client: Client,
}

impl<'w> Caller<'w> {
    fn new(ready: &'w Ready) -> Outcome<Self> {
        Ok(Self { ready, client: Client::builder().timeout(Duration::from_secs(60)).build()? })
    }

    /// As a browser of this person.
    async fn upload(&self, who: &Person, session: &str, body: impl Into<reqwest::Body>) -> Outcome<(u16, Value)> {
        let url = format!("{}/api/sessions/{session}/attachments", self.ready.base_url);
        let request = self.client.post(url).header(COOKIE, &who.cookie).header(ORIGIN, &self.ready.base_url);
        read(request.header(CONTENT_TYPE, form_type()).body(body).send().await?).await
    }

    /// As a sandbox.
    async fn send_media(&self, token: &str, session: &str, body: Vec<u8>) -> Outcome<(u16, Value)> {
        let url = format!("{}/sessions/{session}/media", self.ready.base_url);
        let request = self.client.post(url).header(AUTHORIZATION, format!("Bearer {token}"));
        read(request.header(CONTENT_TYPE, form_type()).body(body).send().await?).await
    }

    async fn get_as_sandbox(&self, token: &str, path: &str) -> Outcome<Response> {
        let url = format!("{}{path}", self.ready.base_url);
        Ok(self.client.get(url).header(AUTHORIZATION, format!("Bearer {token}")).send().await?)
    }

    async fn get(&self, who: &Person, path: &str, range: Option<&str>) -> Outcome<Response> {
        let mut request = self.client.get(format!("{}{path}", self.ready.base_url)).header(COOKIE, &who.cookie);
        if let Some(range) = range {
            request = request.header(RANGE, range);
        }
        Ok(request.send().await?)
    }
}

async fn read(response: Response) -> Outcome<(u16, Value)> {
    let status = response.status().as_u16();
    let text = response.text().await?;
    Ok((status, serde_json::from_str(&text).map_err(|_| Failed(format!("{status}: not JSON: {text}")))?))
}

fn header<'r>(response: &'r Response, name: &str) -> &'r str {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

async fn connected(world: &World, session: &str) -> Outcome<(Bridge, String)> {
    let sandbox = world.backend()?.sandbox_of(session).await?;
    let token = sandbox.auth_token.clone();
    let mut bridge = Bridge::new(sandbox);
    bridge.connect(&world.stack.ready).await?.map_err(|status| Failed(format!("upgrade refused: {status}")))?;
    Ok((bridge, token))
}

pub async fn a_picture_goes_with_a_prompt_to_the_sandbox(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let caller = Caller::new(ready)?;
    let ada = Person::sign_in(ready, "ada").await?;
    let session = ada.create_session().await?;
    let (small, large) = (png(70_000), png(7 * MIB + 1));
    let mut files = Vec::new();
    // The second is longer than a part of an object, and comes in pieces without a length.
    let announced = reqwest::Body::from(form(&[], &small, "image/png", &[("ignored", "x")]));
    let pieces: Vec<_> = form(&[], &large, "image/png", &[]).chunks(100_001).map(<[u8]>::to_vec).collect();
    let pieces = futures_util::stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>));
    for body in [announced, reqwest::Body::wrap_stream(pieces)] {
        let (status, answer) = caller.upload(&ada, &session, body).await?;
        check_eq!((status, &answer["mimeType"]), (201, &json!("image/png")), "{answer}");
        files.push(answer["attachmentId"].as_str().unwrap_or_default().to_owned());
    }
    let attachments: Vec<_> = files.iter().map(|id| json!({"attachmentId": id, "name": "shot.png"})).collect();
    let prompt = format!("/api/sessions/{session}/prompt");
    let body = json!({"content": "", "attachments": attachments});
    let queued = ada.call(Method::POST, &prompt, Some(&body)).await?;
    check_eq!(queued.status.as_u16(), 200, "a prompt of files alone ({})", queued.text);
    let again = ada.call(Method::POST, &prompt, Some(&body)).await?;
    check_eq!((again.status.as_u16(), &again.json["code"]), (400, &json!("INVALID_ATTACHMENTS")), "taken already");

    let (mut bridge, token) = connected(world, &session).await?;
    bridge.listen(Duration::from_secs(10), |b| b.prompts.len() == 1).await?;
    let given = bridge.prompts.first().map(|prompt| prompt["attachments"].clone()).unwrap_or_default();
    let expected: Vec<_> =
        files.iter().map(|id| json!({"attachmentId": id, "name": "shot.png", "mimeType": "image/png"})).collect();
    check_eq!(given, json!(expected), "what the sandbox is told");
    for (id, bytes) in files.iter().zip([&small, &large]) {
        let path = format!("/sessions/{session}/attachments/{id}");
        let response = caller.get_as_sandbox(&token, &path).await?;
        check_eq!((response.status().as_u16(), header(&response, "content-type")), (200, "image/png"), "{id}");
        check!(response.bytes().await? == bytes.as_slice(), "the sandbox gets the same bytes of {id}");
        let shown = caller.get(&ada, &format!("/api{path}"), Some("bytes=8-15")).await?;
        check_eq!(shown.status().as_u16(), 206, "a person reads a part");
        check!(shown.bytes().await? == bytes[8..16], "the part that was asked for");
    }

    let other = ada.create_session().await?;
    let foreign = world.backend()?.sandbox_of(&other).await?.auth_token;
    let path = format!("/sessions/{session}/attachments/{}", files[0]);
    check_eq!(caller.get_as_sandbox(&foreign, &path).await?.status().as_u16(), 401, "another session's sandbox");
    let elsewhere = format!("/sessions/{other}/attachments/{}", files[0]);
    check_eq!(caller.get_as_sandbox(&foreign, &elsewhere).await?.status().as_u16(), 404, "in another session");
    check_eq!(raw(ready, Method::GET, &format!("/api{path}"), &[], None).await?.status.as_u16(), 401, "nobody");
    Ok(())
}

pub async fn files_that_cannot_go_with_a_prompt_are_refused(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let caller = Caller::new(ready)?;
    let ada = Person::sign_in(ready, "ada").await?;
    let session = ada.create_session().await?;
    let svg = b"<svg xmlns=\"http://www.w3.org/2000/svg\"><script>alert(1)</script></svg>";
    let whole = form(&[], &png(5_000), "image/png", &[]);
    let two: Vec<u8> = [&whole[..whole.len() - BOUNDARY.len() - 6], whole.as_slice()].concat();
    for (what, status, code, body) in [
        ("an SVG", 400, "INVALID_ATTACHMENTS", form(&[], svg, "image/svg+xml", &[])),
        ("an SVG that says PNG", 400, "INVALID_ATTACHMENTS", form(&[], svg, "image/png", &[])),
        ("a PNG that says GIF", 400, "INVALID_ATTACHMENTS", form(&[], &png(5_000), "image/gif", &[])),
        ("an MP4", 400, "INVALID_ATTACHMENTS", form(&[], &mp4(5_000), "video/mp4", &[])),
        ("nothing", 400, "INVALID_ATTACHMENTS", form(&[], b"", "image/png", &[])),
        ("two files", 400, "INVALID_ATTACHMENTS", two),
        ("a byte too much", 400, "INVALID_ATTACHMENTS", form(&[], &png(10 * MIB + 1), "image/png", &[])),
        ("a form that is cut off", 400, "INVALID_BODY", whole[..3_000].to_vec()),
        ("no form", 400, "INVALID_BODY", b"hello".to_vec()),
    ] {
        let (got, answer) = caller.upload(&ada, &session, body).await?;
        check_eq!((got, &answer["code"]), (status, &json!(code)), "{what}: {answer}");
        check!(answer["error"].as_str().is_some_and(|text| !text.is_empty()), "{what} says why");
    }
    let field = "x".repeat(9_000);
    let (status, answer) = caller.upload(&ada, &session, form(&[("x", &field)], &png(9), "image/png", &[])).await?;
    check_eq!((status, &answer["code"]), (400, &json!("INVALID_BODY")), "a field that is too long: {answer}");
    // Without a length, so that it is counted while it comes.
    let pieces: Vec<_> =
        form(&[("x", "y")], &png(11 * MIB), "image/png", &[]).chunks(MIB).map(<[u8]>::to_vec).collect();
    let pieces = futures_util::stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>));
    // The server may hang up on what is still being sent.
    if let Ok((status, answer)) = caller.upload(&ada, &session, reqwest::Body::wrap_stream(pieces)).await {
        check!(matches!(status, 400 | 413), "11 MiB: {status} {answer}");
    }
    // A file that fits, in a form that does not: what is around the file may have 128 KiB.
    let filler = "x".repeat(8_000);
    let fields: Vec<(&str, &str)> = (0..17).map(|_| ("x", filler.as_str())).collect();
    let body = form(&[], &png(10 * MIB), "image/png", &fields);
    let last = body.len() - body.len() % MIB;
    let pieces: Vec<_> = [&body[..last], &body[last..]].map(<[u8]>::to_vec).into();
    let pieces = futures_util::stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>));
    let (status, answer) = caller.upload(&ada, &session, reqwest::Body::wrap_stream(pieces)).await?;
    check_eq!((status, &answer["error"]), (413, &json!("Attachment request is too large")), "a form that is too long");
    let json = [("Cookie", ada.cookie.clone()), ("Origin", ready.base_url.clone())];
    let path = format!("/api/sessions/{session}/attachments");
    let answer = raw(ready, Method::POST, &path, &json, Some(b"{}".to_vec())).await?;
    check_eq!((answer.status.as_u16(), &answer.json["code"]), (400, &json!("INVALID_BODY")), "no form at all");
    let sandbox = world.backend()?.sandbox_of(&session).await?;
    let bearer = [("Authorization", format!("Bearer {}", sandbox.auth_token)), ("Content-Type", form_type())];
    let path = format!("/sessions/{session}/attachments");
    let answer = raw(ready, Method::POST, &path, &bearer, Some(form(&[], &png(50), "image/png", &[]))).await?;
    check_eq!(answer.status.as_u16(), 401, "a sandbox attaches nothing");
    let (status, answer) = caller.upload(&ada, &session, whole).await?;
    check_eq!(status, 201, "after all that a right one is taken: {answer}");
    Ok(())
}

pub async fn a_recording_is_stored_shown_and_played_in_ranges(world: &World) -> Outcome {
    let ready = &world.stack.ready;
    let caller = Caller::new(ready)?;
    let ada = Person::sign_in(ready, "ada").await?;
    let session = ada.create_session().await?;
    let (mut bridge, token) = connected(world, &session).await?;
    let fields = [
        ("artifactType", "video"),
        ("caption", "A click"),
        ("durationMs", "4000"),
        ("recordingStartedAt", "2026-01-31T12:00:00Z"),
        ("recordingEndedAt", "2026-01-31T12:00:04Z"),
    ];
    let rest = [("dimensions", r#"{"width":1280,"height":720}"#), ("truncated", "false"), ("hasAudio", "false")];
    let video = mp4(12 * MIB + 345);
    // Small, since a server that refuses may hang up on what is still being sent.
    let small = form(&fields, &mp4(5_000), "video/mp4", &rest);
    let (status, answer) = caller.send_media(&token, &session, small.clone()).await?;
    check_eq!((status, &answer["error"]), (409, &json!("No active prompt")), "before a prompt runs");
    ada.prompt(&session, "record it").await?;
    bridge.listen(Duration::from_secs(10), |b| b.prompts.len() == 1).await?;
    let client_token = ada.ws_token(&session).await?;
    let (mut page, _) = subscribe(ready, &session, &client_token, None).await?;

    let other = ada.create_session().await?;
    let foreign = world.backend()?.sandbox_of(&other).await?.auth_token;
    check_eq!(caller.send_media(&foreign, &session, small).await?.0, 401, "another session's sandbox");
    let (status, answer) =
        caller.send_media(&token, &session, form(&fields[..2], &png(500), "image/png", &rest)).await?;
    check_eq!((status, &answer["code"]), (400, &json!("INVALID_BODY")), "a picture that says video: {answer}");
    let (status, answer) =
        caller.send_media(&token, &session, form(&fields, &mp4(100 * MIB + 1), "video/mp4", &rest)).await?;
    check_eq!(status, 413, "a byte more than 100 MiB: {answer}");
    let body = form(&fields, &video, "video/mp4", &rest);
    let (status, answer) = caller.send_media(&token, &session, body).await?;
    check_eq!(status, 201, "{answer}");
    let id = answer["artifactId"].as_str().unwrap_or_default().to_owned();
    check_eq!(answer["objectKey"], json!(format!("sessions/{session}/media/{id}.mp4")), "where it is");

    let created = page.wait_for(Duration::from_secs(10), |f| f["type"] == "artifact_created").await?;
    let (artifact, metadata) = (&created["artifact"], &created["artifact"]["metadata"]);
    check_eq!((&artifact["id"], &artifact["type"]), (&json!(id), &json!("video")), "the artifact");
    check_eq!((&metadata["mimeType"], &metadata["sizeBytes"]), (&json!("video/mp4"), &json!(video.len())), "its file");
    check_eq!(metadata["durationMs"], json!(4_000), "what was said of it");
    let path = format!("/api/sessions/{session}/media/{id}");
    let response = caller.get(&ada, &path, None).await?;
    check_eq!((response.status().as_u16(), header(&response, "content-type")), (200, "video/mp4"), "all of it");
    check_eq!(header(&response, "x-content-type-options"), "nosniff", "it is what it says");
    check!(response.bytes().await? == video.as_slice(), "the same bytes come back");
    let last = video.len() - 1;
    for (range, first, end) in
        [("bytes=0-0", 0, 0), ("bytes=5242870-5242890", 5_242_870, 5_242_890), ("bytes=-100", last - 99, last)]
    {
        let response = caller.get(&ada, &path, Some(range)).await?;
        check_eq!(response.status().as_u16(), 206, "{range}");
        let expected = format!("bytes {first}-{end}/{}", video.len());
        check_eq!(header(&response, CONTENT_RANGE.as_str()), expected, "{range}");
        check!(response.bytes().await? == video[first..=end], "{range} has its bytes");
    }
    let response = caller.get(&ada, &path, Some("bytes=99999999-")).await?;
    check_eq!(response.status().as_u16(), 416, "beyond the end");
    check_eq!(header(&response, CONTENT_RANGE.as_str()), format!("bytes */{}", video.len()), "how long it is");
    for (path, status) in [
        (format!("/api/sessions/{other}/media/{id}"), 404),
        (format!("/api/sessions/{session}/media/{}", "0".repeat(32)), 404),
        (format!("/api/sessions/{session}/media/a.b"), 400),
    ] {
        check_eq!(caller.get(&ada, &path, None).await?.status().as_u16(), status, "{path}");
    }
    let response = caller.get_as_sandbox(&token, &format!("/sessions/{session}/media/{id}")).await?;
    check_eq!(response.status().as_u16(), 401, "a sandbox needs none of them back");
    Ok(())
}
