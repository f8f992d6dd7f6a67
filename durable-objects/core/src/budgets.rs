//! What the agent spends, and how much it may: tokens and US dollars of a prompt and of the session are known here; of
//! a person and of the deployment D1 knows, which is told of the usage and answers whether a limit is reached.

use oi_protocol::client_socket::ServerMessage;
use oi_protocol::event::{Outcome, StepFinish};
use oi_protocol::{ErrorCode, MessageId, UnixMillis};
use serde_json::Value;

use crate::core::Turn;
use crate::job::{Job, ReportUsage};
use crate::participants::Participant;
use crate::prompts::Refusal;
use crate::sql::{Columns, Sql, SqlError, params};

/// D1 is told of a prompt that runs this often, in ms, and when it ends.
const REPORT_EVERY_MS: i64 = 30_000;
/// What D1 said last counts this long, in ms; after that a prompt is let in and asks anew.
const STANDING_MS: i64 = 300_000;
/// Tokens and dollars of one step beyond this are an error of the agent and do not count.
const STEP_MAX_TOKENS: i64 = 1_000_000_000;
const STEP_MAX_USD: f64 = 100_000.0;

/// A limit; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Limit {
    /// US dollars.
    pub usd: Option<f64>,
    /// Tokens of all kinds.
    pub tokens: Option<i64>,
}

impl Limit {
    /// Which part of it is used up, in words.
    pub fn reached(&self, usd: f64, tokens: i64) -> Option<String> {
        match (self.usd.filter(|most| usd >= *most), self.tokens.filter(|most| tokens >= *most)) {
            (Some(most), _) => Some(format!("${most:.2}")),
            (None, Some(most)) => Some(format!("{most} tokens")),
            (None, None) => None,
        }
    }
}

/// Limits that the session itself keeps.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Budgets {
    /// Of one prompt.
    pub prompt: Limit,
    /// Of the session.
    pub session: Limit,
}

/// Somebody who may spend no more: a participant, or everybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// Empty for everybody.
    who: String,
    sentence: String,
    checked_at: UnixMillis,
}

impl Block {
    fn concerns(&self, author_id: &str) -> bool {
        self.who.is_empty() || self.who == author_id
    }
}

/// What was spent, as the object has it in memory.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Spent {
    /// By the prompt that runs.
    usd: f64,
    tokens: i64,
    /// Memory only: when D1 was told of it.
    reported_at: Option<UnixMillis>,
    blocks: Vec<Block>,
}

impl Spent {
    pub fn load(sql: &dyn Sql) -> Result<Self, SqlError> {
        let blocks = sql
            .run("SELECT who, sentence, checked_at FROM budget_blocks", &[])?
            .into_iter()
            .map(|row| {
                let mut c = Columns::of(row);
                Ok(Block { who: c.text()?, sentence: c.text()?, checked_at: UnixMillis(c.int()?) })
            })
            .collect::<Result<_, SqlError>>()?;
        let rows = sql.run(
            "SELECT usd, tokens FROM usage WHERE message_id = (SELECT id FROM messages WHERE status = 'processing')",
            &[],
        )?;
        let (usd, tokens) = match rows.into_iter().next() {
            Some(row) => {
                let mut c = Columns::of(row);
                (c.real()?, c.int()?)
            }
            None => (0.0, 0),
        };
        Ok(Self { usd, tokens, reported_at: None, blocks })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Tokens {
    total: i64,
    input: i64,
    output: i64,
    reasoning: i64,
    cache_read: i64,
    cache_write: i64,
}

impl Tokens {
    /// From the number, or the object, that the agent gives.
    fn of(value: Option<&Value>) -> Self {
        let count = |value: Option<&Value>| {
            let number = value.and_then(Value::as_f64).filter(|n| n.is_finite() && *n > 0.0);
            number.map_or(0, |n| (n as i64).min(STEP_MAX_TOKENS))
        };
        let Some(value) = value else { return Self::default() };
        if value.is_number() {
            return Self { total: count(Some(value)), ..Self::default() };
        }
        let cache = value.get("cache");
        let part = |key: &str| count(value.get(key));
        let mut tokens = Self {
            total: part("total"),
            input: part("input"),
            output: part("output"),
            reasoning: part("reasoning"),
            cache_read: count(cache.and_then(|cache| cache.get("read"))),
            cache_write: count(cache.and_then(|cache| cache.get("write"))),
        };
        if tokens.total == 0 {
            let sum = tokens.input + tokens.output + tokens.reasoning + tokens.cache_read + tokens.cache_write;
            tokens.total = sum.min(STEP_MAX_TOKENS);
        }
        tokens
    }
}

impl Turn<'_, '_> {
    /// A step of the running prompt cost something. A limit that is reached stops the run.
    pub(crate) fn spend(&mut self, step: &StepFinish) -> Result<(), SqlError> {
        let usd = step.cost.filter(|usd| usd.is_finite() && *usd > 0.0).unwrap_or(0.0).min(STEP_MAX_USD);
        let tokens = Tokens::of(step.tokens.as_ref());
        if usd == 0.0 && tokens.total == 0 {
            return Ok(());
        }
        self.sql.run(
            "INSERT INTO usage (message_id, usd, tokens, input, output, reasoning, cache_read, cache_write)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (message_id) DO UPDATE SET usd = usd + excluded.usd, tokens = tokens + excluded.tokens,
                input = input + excluded.input, output = output + excluded.output,
                reasoning = reasoning + excluded.reasoning, cache_read = cache_read + excluded.cache_read,
                cache_write = cache_write + excluded.cache_write",
            params![
                step.message_id.as_str(),
                usd,
                tokens.total,
                tokens.input,
                tokens.output,
                tokens.reasoning,
                tokens.cache_read,
                tokens.cache_write,
            ],
        )?;
        self.hot.spent.usd += usd;
        self.hot.spent.tokens += tokens.total;
        if let Some(session) = &mut self.hot.session {
            session.total_cost += usd;
            session.total_tokens += tokens.total;
            self.hot.session_dirty = true;
        }
        if self.hot.spent.reported_at.is_none_or(|at| self.cx.now.since(at) >= REPORT_EVERY_MS) {
            self.report_usage()?;
        }
        let prompt = self.cx.config.budgets.prompt.reached(self.hot.spent.usd, self.hot.spent.tokens);
        let over = prompt.map(|most| format!("The prompt has used up its budget of {most}."));
        match over.or_else(|| self.session_over_budget()) {
            Some(sentence) => self.stop_for_budget(&sentence),
            None => Ok(()),
        }
    }

    fn session_over_budget(&self) -> Option<String> {
        let session = self.hot.session.as_ref()?;
        let most = self.cx.config.budgets.session.reached(session.total_cost, session.total_tokens)?;
        Some(format!("The session has used up its budget of {most}."))
    }

    fn stop_for_budget(&mut self, sentence: &str) -> Result<(), SqlError> {
        self.broadcast(&ServerMessage::SandboxWarning { message: sentence.to_owned() });
        self.stop_running(Outcome::Failed, sentence)
    }

    /// Tells D1 what the running prompt has used.
    fn report_usage(&mut self) -> Result<(), SqlError> {
        let Some(running) = &self.hot.running else { return Ok(()) };
        let (message_id, author_id) = (running.message_id.clone(), running.author_id.clone());
        self.report(&message_id, &author_id, self.hot.spent.usd, self.hot.spent.tokens)
    }

    fn report(&mut self, message_id: &MessageId, author_id: &str, usd: f64, tokens: i64) -> Result<(), SqlError> {
        let Some(session) = &self.hot.session else { return Ok(()) };
        let session_id = session.session_id.clone();
        let Some(author) = Participant::by_id(self.sql, author_id)? else { return Ok(()) };
        self.hot.spent.reported_at = Some(self.cx.now);
        let job = Job::ReportUsage(ReportUsage {
            session_id,
            message_id: message_id.clone(),
            participant_id: author_id.to_owned(),
            user_id: author.public_user_id(),
            usd,
            tokens,
            at: self.cx.now,
        });
        self.enqueue(&job, Some(&format!("usage:{message_id}")))
    }

    /// The prompt ended: what it used is told, and the next one begins at nothing.
    pub(crate) fn close_account(&mut self, message_id: &MessageId, author_id: &str) -> Result<(), SqlError> {
        let spent = &mut self.hot.spent;
        let (usd, tokens) = (std::mem::take(&mut spent.usd), std::mem::take(&mut spent.tokens));
        if usd > 0.0 || tokens > 0 {
            self.report(message_id, author_id, usd, tokens)?;
        }
        self.hot.spent.reported_at = None;
        Ok(())
    }

    /// D1 has the usage, and says who may spend no more.
    pub(crate) fn take_standing(
        &mut self,
        report: &ReportUsage,
        person: Option<String>,
        deployment: Option<String>,
    ) -> Result<(), SqlError> {
        for (who, sentence) in [(report.participant_id.as_str(), person), ("", deployment)] {
            let known = self.hot.spent.blocks.iter().any(|block| block.who == who);
            self.hot.spent.blocks.retain(|block| block.who != who);
            let Some(sentence) = sentence else {
                if known {
                    self.sql.run("DELETE FROM budget_blocks WHERE who = ?", params![who])?;
                }
                continue;
            };
            self.sql.run(
                "INSERT OR REPLACE INTO budget_blocks (who, sentence, checked_at) VALUES (?, ?, ?)",
                params![who, sentence.as_str(), self.cx.now.0],
            )?;
            self.hot.spent.blocks.push(Block { who: who.to_owned(), sentence, checked_at: self.cx.now });
        }
        let author = self.hot.running.as_ref().map(|running| running.author_id.clone());
        match author.and_then(|author| self.blocked(&author)) {
            Some(sentence) => self.stop_for_budget(&sentence),
            None => Ok(()),
        }
    }

    /// Why this person's prompts may not run.
    pub(crate) fn blocked(&self, author_id: &str) -> Option<String> {
        let fresh = |block: &&Block| self.cx.now.since(block.checked_at) < STANDING_MS;
        let mut blocks = self.hot.spent.blocks.iter().filter(fresh);
        blocks.find(|block| block.concerns(author_id)).map(|block| block.sentence.clone())
    }

    /// Refuses a prompt for which nothing is left.
    pub(crate) fn refuse_over_budget(&self, author_id: &str) -> Option<Refusal> {
        let sentence = self.session_over_budget().or_else(|| self.blocked(author_id))?;
        Some(Refusal::new(ErrorCode::BudgetExceeded, 402, sentence))
    }

    /// Ends waiting prompts for which nothing is left, from the first on. D1 is asked anew when it spoke long ago.
    pub(crate) fn end_unaffordable(&mut self) -> Result<(), SqlError> {
        if let Some(sentence) = self.session_over_budget() {
            return self.end_pending(Outcome::Failed, &sentence);
        }
        while !self.hot.spent.blocks.is_empty() && self.hot.pending > 0 {
            let rows = self.sql.run(
                "SELECT id, author_id FROM messages WHERE status = 'pending' ORDER BY COALESCE(place, number) LIMIT 1",
                &[],
            )?;
            let Some(row) = rows.into_iter().next() else { return Ok(()) };
            let mut c = Columns::of(row);
            let (message_id, author_id) = (c.word(|t| MessageId::parse(t).ok())?, c.text()?);
            let Some(sentence) = self.blocked(&author_id) else {
                if self.hot.spent.blocks.iter().any(|block| block.concerns(&author_id)) {
                    self.report(&message_id, &author_id, 0.0, 0)?;
                }
                return Ok(());
            };
            self.end_waiting(&[message_id], Outcome::Failed, &sentence)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tokens_are_a_number_or_an_object() {
        let total = |value: Value| Tokens::of(Some(&value)).total;
        assert_eq!(total(json!(12)), 12);
        assert_eq!(total(json!({"total": 5, "input": 9})), 5);
        assert_eq!(total(json!({"input": 1, "output": 2, "reasoning": 3, "cache": {"read": 4, "write": 5}})), 15);
        for nothing in [json!(-4), json!("many"), json!({}), json!({"input": -1, "cache": 3}), json!(null)] {
            assert_eq!(Tokens::of(Some(&nothing)), Tokens::default(), "{nothing}");
        }
        assert_eq!(total(json!(1e300)), STEP_MAX_TOKENS);
    }

    #[test]
    fn a_limit_says_which_part_is_used_up() {
        let limit = Limit { usd: Some(2.5), tokens: Some(1_000) };
        assert_eq!(limit.reached(2.49, 999), None);
        assert_eq!(limit.reached(2.5, 0).as_deref(), Some("$2.50"));
        assert_eq!(limit.reached(0.0, 1_000).as_deref(), Some("1000 tokens"));
        assert_eq!(Limit::default().reached(1e9, i64::MAX), None);
    }
}
