//! What the bots are told of their prompts: that one began, what its agent does, how it ended. Each notice is a job
//! of the outbox, written with the change that it tells of, with one body and one key for all its attempts.

use oi_protocol::callback::CallbackContext;
use oi_protocol::event::ToolCall;
use oi_protocol::js_json;
use oi_protocol::session_state::PromptSource;
use oi_protocol::{MessageId, SessionId, UnixMillis};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::core::Turn;
use crate::job::Job;
use crate::sql::{Columns, SqlError, params};

/// Least time between two notices of tool calls of a session, in ms.
const TOOL_INTERVAL_MS: i64 = 3_000;
/// Tool calls whose notice arrived and that are remembered.
const TOLD_KEPT: i64 = 500;
/// Larger arguments of a tool call are left out.
const ARGS_MAX_BYTES: usize = 32 * 1024;

/// Who is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bot {
    /// The Slack bot, which also gets what is no other bot's.
    Slack,
    /// The Linear bot.
    Linear,
}

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum Notice {
    /// The agent has the prompt.
    Start,
    /// The agent uses a tool.
    ToolCall {
        /// The tool.
        tool: String,
        /// Its arguments, as JSON.
        args: String,
        /// The agent's id of the call.
        call_id: String,
        /// How far it is.
        status: Option<String>,
    },
    /// The prompt ended.
    Complete {
        /// Whether it did what it should.
        success: bool,
        /// Why not.
        error: Option<String>,
    },
}

/// Tell a bot. Repeated as it is: the receiver knows a repetition by its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BotCallback {
    /// The session.
    pub session_id: SessionId,
    /// The prompt.
    pub message_id: MessageId,
    /// Who is told.
    pub bot: Bot,
    /// Where the prompt came from.
    pub context: CallbackContext,
    /// When it happened.
    pub timestamp: UnixMillis,
    /// What happened.
    pub notice: Notice,
}

impl BotCallback {
    /// Where the bot takes it.
    pub const fn path(&self) -> &'static str {
        match self.notice {
            Notice::Start => "/callbacks/start",
            Notice::ToolCall { .. } => "/callbacks/tool_call",
            Notice::Complete { .. } => "/callbacks/complete",
        }
    }

    /// The same for every attempt, and of this notice only.
    pub fn idempotency_key(&self) -> String {
        match &self.notice {
            Notice::Start => format!("start:{}", self.message_id),
            Notice::ToolCall { call_id, .. } => format!("tool_call:{}:{call_id}", self.message_id),
            Notice::Complete { .. } => format!("complete:{}", self.message_id),
        }
    }

    /// The body without its signature: one text in the order that receivers expect, which is signed as it is.
    pub fn unsigned(&self) -> String {
        let mut body = format!(r#"{{"sessionId":"{}""#, self.session_id);
        let mut add = |key: &str, json: &str| {
            body.push_str(",\"");
            body.push_str(key);
            body.push_str("\":");
            body.push_str(json);
        };
        match &self.notice {
            Notice::Start => add("messageId", &js_json::quoted(self.message_id.as_str())),
            Notice::ToolCall { tool, args, call_id, status } => {
                add("tool", &js_json::quoted(tool));
                let args = serde_json::from_str(args).unwrap_or_else(|_| Value::Object(Map::new()));
                add("args", &js_json::to_string(&args));
                add("callId", &js_json::quoted(call_id));
                if let Some(status) = status {
                    add("status", &js_json::quoted(status));
                }
            }
            Notice::Complete { success, error } => {
                add("messageId", &js_json::quoted(self.message_id.as_str()));
                add("success", if *success { "true" } else { "false" });
                if let Some(error) = error {
                    add("error", &js_json::quoted(error));
                }
            }
        }
        add("timestamp", &self.timestamp.0.to_string());
        // Texts and booleans only, in the order of their type.
        add("context", &serde_json::to_string(&self.context).unwrap_or_default());
        body.push('}');
        body
    }
}

/// The body with its signature as the last key.
pub fn signed(unsigned: &str, signature: &str) -> String {
    let open = unsigned.strip_suffix('}').unwrap_or(unsigned);
    format!(r#"{open},"signature":"{signature}"}}"#)
}

impl Turn<'_, '_> {
    /// Where a prompt came from, when a bot asked to be told of it.
    fn callback_of(&self, message_id: &MessageId) -> Result<Option<(PromptSource, CallbackContext)>, SqlError> {
        let rows = self.sql.run(
            "SELECT source, callback_context FROM messages WHERE id = ? AND callback_context IS NOT NULL",
            params![message_id.as_str()],
        )?;
        let Some(row) = rows.into_iter().next() else { return Ok(None) };
        let mut c = Columns::of(row);
        let (source, context) = (c.word(PromptSource::parse)?, c.text()?);
        Ok(serde_json::from_str(&context).ok().map(|context| (source, context)))
    }

    fn tell_bot(
        &mut self,
        message_id: &MessageId,
        source: PromptSource,
        context: CallbackContext,
        notice: Notice,
    ) -> Result<(), SqlError> {
        let Some(session) = &self.hot.session else { return Ok(()) };
        let callback = BotCallback {
            session_id: session.session_id.clone(),
            message_id: message_id.clone(),
            bot: if source == PromptSource::Linear { Bot::Linear } else { Bot::Slack },
            context,
            timestamp: self.cx.now,
            notice,
        };
        let key = callback.idempotency_key();
        self.enqueue(&Job::BotCallback(Box::new(callback)), Some(&key))
    }

    /// A prompt was given to the agent.
    pub(crate) fn tell_bot_of_start(&mut self, message_id: &MessageId) -> Result<(), SqlError> {
        match self.callback_of(message_id)? {
            Some((PromptSource::Linear, context)) => {
                self.tell_bot(message_id, PromptSource::Linear, context, Notice::Start)
            }
            _ => Ok(()),
        }
    }

    /// A prompt ended, in whatever way.
    pub(crate) fn tell_bot_of_end(
        &mut self,
        message_id: &MessageId,
        success: bool,
        error: Option<&str>,
    ) -> Result<(), SqlError> {
        let Some((source, context)) = self.callback_of(message_id)? else { return Ok(()) };
        let notice = Notice::Complete { success, error: error.map(str::to_owned) };
        self.tell_bot(message_id, source, context, notice)
    }

    /// The agent uses a tool: told once a call, and no more than once in three seconds.
    pub(crate) fn tell_bot_of_tool(&mut self, call: &ToolCall) -> Result<(), SqlError> {
        if self.hot.tool_told_at.is_some_and(|at| self.cx.now.since(at) < TOOL_INTERVAL_MS) {
            return Ok(());
        }
        let Some((source, context)) = self.callback_of(&call.message_id)? else {
            // Looked up as seldom as it is told.
            self.hot.tool_told_at = Some(self.cx.now);
            return Ok(());
        };
        let known = self.sql.run("SELECT 1 FROM told_tools WHERE call_id = ?", params![call.call_id.as_str()])?;
        if !known.is_empty() {
            return Ok(());
        }
        self.hot.tool_told_at = Some(self.cx.now);
        let args = serde_json::to_string(&call.args).ok().filter(|args| args.len() <= ARGS_MAX_BYTES);
        let notice = Notice::ToolCall {
            tool: call.tool.clone(),
            args: args.unwrap_or_else(|| "{}".to_owned()),
            call_id: call.call_id.clone(),
            status: call.status.clone().filter(|status| !status.is_empty()),
        };
        self.tell_bot(&call.message_id, source, context, notice)
    }

    /// A notice arrived.
    pub(crate) fn bot_told(&mut self, callback: &BotCallback) -> Result<(), SqlError> {
        let Notice::ToolCall { call_id, .. } = &callback.notice else { return Ok(()) };
        self.sql.run("INSERT OR IGNORE INTO told_tools (call_id) VALUES (?)", params![call_id.as_str()])?;
        self.sql.run(
            "DELETE FROM told_tools WHERE number <= (SELECT MAX(number) FROM told_tools) - ?",
            params![TOLD_KEPT],
        )?;
        Ok(())
    }
}
