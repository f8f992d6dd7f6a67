//! What sessions ask to be done about bots, parents, forks and what they keep in the bucket.

use std::time::Duration;

use oi_session::archive_file::{self, ArchivedRange};
use oi_session::call::{Principal, SessionCall};
use oi_session::callbacks::{Bot, BotCallback, signed};
use oi_session::children::{OfferResult, TellParent};
use oi_session::fork::CopyTimeline;
use oi_session::job::{CollectStorage, JobResult};
use oi_session::storage_keys;
use oi_worker_kit::http_client::Call;
use oi_worker_kit::mac;
use oi_worker_kit::service_signature::Service;
use oi_worker_kit::trace::{TRACE_HEADER, Trace};
use oi_worker_kit::vars::Vars;
use worker::Env;

use crate::effects::{Failed, permanent};
use crate::media_store::MediaStore;
use crate::session_client;

/// A bot answers within this.
const BOT_WITHIN: Duration = Duration::from_secs(10);
/// Header of what a receiver knows a repetition by.
const IDEMPOTENCY_HEADER: &str = "Idempotency-Key";
/// Pages of one attempt.
const PAGES: usize = 4;

fn transient(error: impl Into<String>) -> Failed {
    Failed { error: error.into(), transient: true }
}

/// Binding, and variable of the URL where there is none, of a bot.
const fn bot(bot: Bot) -> (Service, &'static str, &'static str) {
    match bot {
        Bot::Slack => (Service::SlackBot, "SLACK_BOT", "SLACK_BOT_URL"),
        Bot::Linear => (Service::LinearBot, "LINEAR_BOT", "LINEAR_BOT_URL"),
    }
}

/// The whole body, signed with the secret of the bot that takes it.
fn callback_body(callback: &BotCallback, secret: &str) -> String {
    let unsigned = callback.unsigned();
    let signature = mac::hmac_hex(secret.as_bytes(), &[unsigned.as_bytes()]);
    signed(&unsigned, &signature)
}

/// Tells a bot. One that this deployment does not have is given up at once.
pub async fn tell_bot(env: &Env, callback: &BotCallback) -> Result<JobResult, Failed> {
    let (service, binding, url) = bot(callback.bot);
    let secret = Vars::get(env, service.secret_variable())
        .ok_or_else(|| permanent(format!("{} is not set", service.secret_variable())))?;
    let trace = Trace::begin(None);
    let call = |base: &str| {
        Call::post(format!("{}{}", base.trim_end_matches('/'), callback.path()))
            .header(IDEMPOTENCY_HEADER, callback.idempotency_key())
            .header(TRACE_HEADER, trace.trace_id.clone())
            .body(callback_body(callback, &secret).into_bytes(), "application/json")
            .within(BOT_WITHIN)
    };
    let answer = match (env.service(binding), Vars::get(env, url)) {
        (_, Some(base)) => call(&base).send().await,
        (Ok(service), None) => call("https://internal").send_to(&service).await,
        (Err(_), None) => return Err(permanent(format!("neither {binding} nor {url} is set"))),
    };
    let answer = answer.map_err(|error| transient(error.to_string()))?;
    match answer.status {
        200..=299 => Ok(JobResult::Done),
        // A body that cannot be taken will not be taken later either.
        status @ (400 | 413) => Err(permanent(format!("the bot answered {status}"))),
        status => Err(transient(format!("the bot answered {status}"))),
    }
}

/// Calls another session. A session that is gone, or that takes nothing any more, is no failure.
async fn tell(env: &Env, id: &oi_protocol::SessionId, call: SessionCall) -> Result<JobResult, Failed> {
    let answer = session_client::call(env, id, Principal::Platform, call).await.map_err(Failed::from)?;
    match answer.status {
        200..=299 | 404 => Ok(JobResult::Done),
        409 => Err(permanent("the parent session takes no prompts any more")),
        429 => Err(transient("the parent's queue is full")),
        status => Err(Failed { error: format!("the session answered {status}"), transient: status >= 500 }),
    }
}

/// Shows a child's state in its parent's pages.
pub async fn tell_parent(env: &Env, notice: &TellParent) -> Result<JobResult, Failed> {
    let call = SessionCall::ChildChanged {
        child_session_id: notice.child_session_id.clone(),
        status: notice.status,
        title: notice.title.clone(),
    };
    tell(env, &notice.parent_session_id, call).await
}

/// Prompts the parent's agent with what its child did.
pub async fn offer_result(env: &Env, offer: &OfferResult) -> Result<JobResult, Failed> {
    tell(env, &offer.parent_session_id, SessionCall::Prompt(Box::new(offer.prompt()))).await
}

/// Reads a page of the timeline that a fork continues.
pub async fn copy_timeline(env: &Env, copy: &CopyTimeline) -> Result<JobResult, Failed> {
    let call = SessionCall::ForkPage { from_sequence: copy.from_sequence, through_sequence: copy.through_sequence };
    let answer = session_client::call(env, &copy.source_session_id, Principal::Platform, call).await?;
    if !answer.is_success() {
        return Err(Failed {
            error: format!("the session answered {}", answer.status),
            transient: answer.status >= 500,
        });
    }
    if answer.status != archive_file::ELSEWHERE {
        return Ok(JobResult::Page(answer.read("reading a timeline")?));
    }
    let file: ArchivedRange = answer.read("reading where a timeline is")?;
    let text = MediaStore::of(env)?.text(&file.key).await?;
    let text = text.ok_or_else(|| transient("the file of the old events is missing"))?;
    let page = archive_file::copied(&text, &file, copy.from_sequence, copy.through_sequence);
    page.map(JobResult::Page).map_err(|error| permanent(error.to_string()))
}

/// Deletes what is below the session's prefix.
pub async fn collect_storage(env: &Env, collect: &CollectStorage) -> Result<JobResult, Failed> {
    let is_empty = MediaStore::of(env)?.delete_below(&storage_keys::prefix(&collect.session_id), PAGES).await?;
    Ok(if is_empty { JobResult::Done } else { JobResult::More })
}

#[cfg(test)]
mod tests {
    use super::*;
    use oi_protocol::callback::{CallbackContext, SlackContext};
    use oi_protocol::{MessageId, SessionId, UnixMillis};
    use oi_session::callbacks::Notice;

    #[test]
    fn a_callbacks_body_is_signed_as_it_is_sent() {
        let callback = BotCallback {
            session_id: SessionId::from_bytes([1; 16]),
            message_id: MessageId::from_bytes([2; 16]),
            bot: Bot::Slack,
            context: CallbackContext::Slack(SlackContext {
                channel: "C1".to_owned(),
                thread_ts: "1.2".to_owned(),
                repo_full_name: "acme/app".to_owned(),
                model: "demo/scripted".to_owned(),
                reasoning_effort: None,
                reaction_message_ts: None,
                automation_id: None,
            }),
            timestamp: UnixMillis(1_800_000_000_000),
            notice: Notice::Complete { success: false, error: Some("no \"luck\"".to_owned()) },
        };
        let (session, message) = ("01".repeat(16), "02".repeat(16));
        let unsigned = format!(
            r#"{{"sessionId":"{session}","messageId":"{message}","success":false,"error":"no \"luck\"","timestamp":1800000000000,"context":{{"source":"slack","channel":"C1","threadTs":"1.2","repoFullName":"acme/app","model":"demo/scripted"}}}}"#
        );
        assert_eq!(callback.unsigned(), unsigned);
        let signature = mac::hmac_hex(b"secret", &[unsigned.as_bytes()]);
        let body = callback_body(&callback, "secret");
        assert_eq!(body, format!(r#"{},"signature":"{signature}"}}"#, unsigned.strip_suffix('}').expect("an object")));
        assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok());
        assert_eq!(
            (callback.path(), callback.idempotency_key()),
            ("/callbacks/complete", format!("complete:{message}"))
        );
    }
}
