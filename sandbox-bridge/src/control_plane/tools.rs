//! Calls of the agent's tools: tasks, media and notices.

use std::time::Duration;

use axum::body::Bytes;
use futures_util::Stream;
use http::Method;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use oi_protocol::rest::MediaResponse;
use serde_json::Value;

use super::{ControlPlane, ControlPlaneError, answer, answer_of, is_passing, read, until_answered, within};
use crate::broker::wire::SlackNotice;

const TASK_WITHIN: Duration = Duration::from_secs(60);
/// A cascade of cancellations asks every descendant.
const CANCEL_WITHIN: Duration = Duration::from_secs(120);
/// 100 MiB on a slow line.
const MEDIA_WITHIN: Duration = Duration::from_secs(300);
const NOTICE_WITHIN: Duration = Duration::from_secs(60);
/// A page of a trajectory holds up to 1000 events.
const TASK_ANSWER_MAX_BYTES: usize = 8 << 20;
const NOTICE_ANSWER_MAX_BYTES: usize = 64 << 10;

/// The path of a child session, whatever the agent wrote as its id. A folder's name for itself or for the one above
/// would be folded away, and the call would reach another route.
fn child(id: &str, rest: &str) -> Result<String, ControlPlaneError> {
    if matches!(id, "" | "." | "..") {
        return Err(ControlPlaneError::Local("there is no such task".to_owned()));
    }
    let id = url::form_urlencoded::byte_serialize(id.as_bytes()).collect::<String>().replace('+', "%20");
    Ok(format!("/children/{id}{rest}"))
}

impl ControlPlane {
    /// Starts a child session. Not repeated: each time would start another.
    pub async fn spawn_child(&self, body: &Value) -> Result<Value, ControlPlaneError> {
        within(TASK_WITHIN, async { answer(self.post("/children").json(body).send().await).await }).await
    }

    /// The list of child sessions, or one of them, with what `query` asks for.
    pub async fn children(&self, id: Option<&str>, query: &[(&str, String)]) -> Result<Value, ControlPlaneError> {
        let path = id.map_or_else(|| Ok("/children".to_owned()), |id| child(id, ""))?;
        until_answered(TASK_WITHIN, Duration::from_millis(500), is_passing, || async {
            let sent = self.request(Method::GET, &path).query(query).send().await;
            answer_of(sent, TASK_ANSWER_MAX_BYTES).await
        })
        .await
    }

    /// Gives a child session another prompt. Not repeated: each time would be another prompt.
    pub async fn prompt_child(&self, id: &str, body: &Value) -> Result<Value, ControlPlaneError> {
        let path = child(id, "/prompt")?;
        within(TASK_WITHIN, async { answer(self.post(&path).json(body).send().await).await }).await
    }

    /// Cancels a child session.
    pub async fn cancel_child(&self, id: &str, body: &Value) -> Result<Value, ControlPlaneError> {
        let path = child(id, "/cancel")?;
        within(CANCEL_WITHIN, async { answer(self.post(&path).json(body).send().await).await }).await
    }

    /// Uploads a form of `length` bytes. Not repeated: the stream is gone.
    pub async fn store_media(
        &self,
        content_type: &str,
        length: u64,
        form: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    ) -> Result<MediaResponse, ControlPlaneError> {
        let request = self.post("/media").header(CONTENT_TYPE, content_type).header(CONTENT_LENGTH, length);
        let request = request.body(reqwest::Body::wrap_stream(form));
        within(MEDIA_WITHIN, async { answer(request.send().await).await }).await
    }

    /// Sends a notice to Slack: status and body, whatever they are. Not repeated: it may have been sent.
    pub async fn slack_notify(&self, notice: &SlackNotice) -> Result<(u16, Value), ControlPlaneError> {
        within(NOTICE_WITHIN, async {
            let sent = self.post("/slack-notify").json(notice).send().await;
            let (status, bytes) = read(sent, NOTICE_ANSWER_MAX_BYTES).await?;
            Ok((status.as_u16(), serde_json::from_slice(&bytes).unwrap_or_default()))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_segment_of_the_path_or_none_at_all() {
        for id in ["", ".", ".."] {
            assert!(matches!(child(id, "/prompt"), Err(ControlPlaneError::Local(_))), "{id:?}");
        }
        for id in ["c1", "...", "%2e%2e", ".%2E", "../x", "..\\", "..\t", " ..", "a?b", "a#b", "a+b", "\u{e4}\n"] {
            let path = child(id, "/prompt").expect("a path");
            let url = url::Url::parse(&format!("http://host/sessions/s{path}")).expect("an address");
            let segments: Vec<&str> = url.path_segments().expect("a path").collect();
            let [_, _, "children", segment, "prompt"] = segments.as_slice() else { panic!("{id:?}: {url}") };
            let read =
                url::form_urlencoded::parse(format!("id={segment}").as_bytes()).next().map(|(_, id)| id.into_owned());
            assert_eq!((read.as_deref(), url.query(), url.fragment()), (Some(id), None, None));
        }
    }
}
