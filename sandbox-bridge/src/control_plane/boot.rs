//! What a boot asks and tells.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use serde::Deserialize;
use serde_json::json;

use super::{ControlPlane, ControlPlaneError, answer, answer_of, done, until_answered, within};
use crate::supervise::skills::page::SkillsPage;

/// For one attempt at a page of skills.
const SKILLS_WITHIN: Duration = Duration::from_secs(15);
/// Repetitions of one.
const SKILLS_AGAIN: u32 = 2;
const PAGE: u32 = 50;
const PAGE_MAX_BYTES: usize = 32 << 20;
const TUNNELS_WITHIN: Duration = Duration::from_secs(5);
const FATAL_WITHIN: Duration = Duration::from_secs(5);

impl ControlPlane {
    /// A page of the session's managed skills.
    pub async fn skills(&self, cursor: Option<&str>) -> Result<SkillsPage, ControlPlaneError> {
        let again = |error: &ControlPlaneError, attempt: u32| {
            let passes = match error {
                ControlPlaneError::Unreachable | ControlPlaneError::TimedOut(_) => true,
                ControlPlaneError::Refused { status, .. } => matches!(*status, 408 | 429 | 500..),
                ControlPlaneError::Odd | ControlPlaneError::Local(_) => false,
            };
            passes && attempt < SKILLS_AGAIN
        };
        let all = SKILLS_WITHIN * (SKILLS_AGAIN + 1) + Duration::from_secs(1);
        until_answered(all, Duration::from_millis(250), again, || async {
            let request = self.request(Method::GET, "/sandbox-skills").query(&[("limit", PAGE)]);
            let request = if let Some(cursor) = cursor { request.query(&[("cursor", cursor)]) } else { request };
            within(SKILLS_WITHIN, async { answer_of(request.send().await, PAGE_MAX_BYTES).await }).await
        })
        .await
    }

    /// Where the sandbox's ports are reached from outside, as far as its backend has said; control-plane.md 1.
    pub async fn tunnel_urls(&self) -> Result<BTreeMap<u16, String>, ControlPlaneError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Known {
            tunnel_urls: BTreeMap<u16, String>,
        }
        let request = self.request(Method::GET, "/tunnel-urls").timeout(TUNNELS_WITHIN);
        answer::<Known>(request.send().await).await.map(|known| known.tunnel_urls)
    }

    /// Tells that the boot failed, where no socket could.
    pub async fn report_fatal(&self, error: &str) -> Result<(), ControlPlaneError> {
        let (base, _) = self.session_url.rsplit_once("/sessions/").unwrap_or_default();
        let url = format!("{base}/sandbox/{}/error", self.sandbox_id);
        let body = json!({"error": error, "fatal": true});
        let request = self.at(Method::POST, url).timeout(FATAL_WITHIN).json(&body);
        done(request.send().await).await
    }
}
