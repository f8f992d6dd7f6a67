//! `audit_log`: who did what, and when. Entries are only added; the database itself refuses anything else.
//!
//! A change in D1 and its entry go into one batch: [`Entry::statement`], or [`Entry::statement_if_changed`] right after a
//! guarded statement that may change nothing, which [`Entry::behind_the_first`] puts where it belongs. What happens elsewhere is written by [`write`], before the act where that
//! is possible. Entries hold ids and plain words, never a value or a secret.

use oi_protocol::UnixMillis;
use oi_protocol::identity::{AuditActorKind, AuditEntry};
use oi_protocol::text::truncate_bytes;
use serde::Deserialize;

use super::{Database, DbError, Param, Statement, params};

/// Longest subject, in bytes.
const SUBJECT_BYTES: usize = 300;
/// Longest detail, in bytes.
const DETAIL_BYTES: usize = 2_000;

/// Who acts, and in which request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// What it is.
    pub kind: AuditActorKind,
    /// The person, or whom a service acts for.
    pub id: Option<String>,
    /// The token's id or the service's name.
    pub via: Option<String>,
    /// The request.
    pub request_id: Option<String>,
}

impl Author {
    /// The control plane itself.
    pub const fn system() -> Self {
        Self { kind: AuditActorKind::System, id: None, via: None, request_id: None }
    }

    /// A person who signs in right now.
    pub fn person(user_id: &str, request_id: &str) -> Self {
        Self {
            kind: AuditActorKind::Person,
            id: Some(user_id.to_owned()),
            via: None,
            request_id: Some(request_id.to_owned()),
        }
    }
}

/// An entry that is about to be written.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "an entry is written by one of its statements"]
pub struct Entry {
    author: Author,
    action: &'static str,
    subject_kind: &'static str,
    subject_id: String,
    detail: Option<String>,
    at: UnixMillis,
}

impl Entry {
    /// `action` is `<kind>.<verb>`, such as `secret.set`; the subject is what it was done to.
    pub fn new(
        author: Author,
        action: &'static str,
        subject_kind: &'static str,
        subject_id: &str,
        at: UnixMillis,
    ) -> Self {
        let subject_id = truncate_bytes(subject_id, SUBJECT_BYTES).to_owned();
        Self { author, action, subject_kind, subject_id, detail: None, at }
    }

    /// Adds what else there is to know, as an object of plain words. One that is too long is left out.
    pub fn detail(self, detail: &serde_json::Value) -> Self {
        let text = Some(detail.to_string()).filter(|text| detail.is_object() && text.len() <= DETAIL_BYTES);
        Self { detail: text, ..self }
    }

    fn values(&self) -> Vec<Param> {
        params![
            self.at.0,
            kind_word(self.author.kind),
            self.author.id.clone(),
            self.author.via.clone(),
            self.action,
            self.subject_kind,
            self.subject_id.as_str(),
            self.detail.clone(),
            self.author.request_id.clone(),
        ]
    }

    /// For the batch of the change.
    pub fn statement(&self) -> Statement {
        (
            "INSERT INTO audit_log (at, actor_kind, actor_id, via, action, subject_kind, subject_id, detail, request_id)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            self.values(),
        )
    }

    /// For the batch of the change, right after a statement that may change nothing: then nothing is written.
    pub fn statement_if_changed(&self) -> Statement {
        (
            "INSERT INTO audit_log (at, actor_kind, actor_id, via, action, subject_kind, subject_id, detail, request_id)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 WHERE changes() > 0",
            self.values(),
        )
    }

    /// The same of each of these subjects, in place of the entry's own.
    pub fn statement_of_each_if_changed<'s>(&self, subjects: impl IntoIterator<Item = &'s str>) -> Statement {
        let subjects: Vec<&str> = subjects.into_iter().map(|id| truncate_bytes(id, SUBJECT_BYTES)).collect();
        let mut values = self.values();
        values[6] = serde_json::Value::from(subjects).to_string().into();
        (
            "INSERT INTO audit_log (at, actor_kind, actor_id, via, action, subject_kind, subject_id, detail, request_id)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, subject.value, ?8, ?9 FROM json_each(?7) subject WHERE changes() > 0
                ORDER BY subject.key",
            values,
        )
    }

    /// The batch of a change whose first statement may change nothing, with the entry right behind that. How many rows
    /// the first one changed is still the first number of the answer.
    pub fn behind_the_first(&self, mut change: Vec<Statement>) -> Vec<Statement> {
        change.insert(change.len().min(1), self.statement_if_changed());
        change
    }
}

const fn kind_word(kind: AuditActorKind) -> &'static str {
    match kind {
        AuditActorKind::Person => "person",
        AuditActorKind::Token => "token",
        AuditActorKind::Service => "service",
        AuditActorKind::Sandbox => "sandbox",
        AuditActorKind::System => "system",
    }
}

/// Writes an entry for what happens outside of D1.
pub async fn write(db: &impl Database, entry: &Entry) -> Result<(), DbError> {
    let (sql, values) = entry.statement();
    db.change(sql, values).await.map(|_| ())
}

/// Which entries are wanted. All that is given must fit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Of this person, or of whom a service acted for.
    pub actor_id: Option<String>,
    /// This action.
    pub action: Option<String>,
    /// Done to this kind.
    pub subject_kind: Option<String>,
    /// And to this one; only with a kind.
    pub subject_id: Option<String>,
    /// At this time or later.
    pub since: Option<UnixMillis>,
    /// Before this time.
    pub until: Option<UnixMillis>,
    /// Older than this entry.
    pub before_id: Option<i64>,
}

#[derive(Deserialize)]
struct Row {
    id: i64,
    at: i64,
    actor_kind: AuditActorKind,
    actor_id: Option<String>,
    actor_name: Option<String>,
    via: Option<String>,
    action: String,
    subject_kind: String,
    subject_id: String,
    detail: Option<String>,
    request_id: Option<String>,
}

fn query(filter: &Filter, limit: i64) -> (String, Vec<Param>) {
    let mut values = Vec::new();
    let mut wanted = Vec::new();
    let mut want = |condition: &'static str, value: Option<Param>| {
        if let Some(value) = value {
            wanted.push(condition);
            values.push(value);
        }
    };
    want("l.actor_id = ?", filter.actor_id.clone().map(Param::from));
    want("l.action = ?", filter.action.clone().map(Param::from));
    want("l.subject_kind = ?", filter.subject_kind.clone().map(Param::from));
    want("l.subject_id = ?", filter.subject_id.clone().map(Param::from));
    want("l.at >= ?", filter.since.map(|at| at.0.into()));
    want("l.at < ?", filter.until.map(|at| at.0.into()));
    want("l.id < ?", filter.before_id.map(Param::from));
    values.push(limit.into());
    let wanted = if wanted.is_empty() { String::new() } else { format!(" WHERE {}", wanted.join(" AND ")) };
    let sql = format!(
        "SELECT l.*, u.display_name AS actor_name FROM audit_log l LEFT JOIN users u ON u.id = l.actor_id{wanted}
         ORDER BY l.id DESC LIMIT ?"
    );
    (sql, values)
}

/// Entries, the newest first.
pub async fn list(db: &impl Database, filter: &Filter, limit: i64) -> Result<Vec<AuditEntry>, DbError> {
    let (sql, values) = query(filter, limit);
    let rows: Vec<Row> = db.rows(&sql, values).await?;
    Ok(rows
        .into_iter()
        .map(|row| AuditEntry {
            id: row.id,
            at: UnixMillis(row.at),
            actor_kind: row.actor_kind,
            actor_id: row.actor_id,
            actor_name: row.actor_name,
            via: row.via,
            action: row.action,
            subject_kind: row.subject_kind,
            subject_id: row.subject_id,
            detail: row.detail.and_then(|text| serde_json::from_str(&text).ok()),
            request_id: row.request_id,
        })
        .collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::store::native::Native;
    use futures_executor::block_on;
    use serde_json::json;

    /// An entry about `A` for a store's tests.
    pub fn about_a(action: &'static str) -> Entry {
        Entry::new(Author::person("u1", "r1"), action, "test", "A", UnixMillis(7))
    }

    /// What the log tells, oldest first: `secret.set A`.
    pub fn told(db: &Native) -> Vec<String> {
        let entries = block_on(list(db, &Filter::default(), 100)).expect("runs");
        entries.iter().rev().map(|entry| format!("{} {}", entry.action, entry.subject_id)).collect()
    }

    fn entry(who: &str, action: &'static str, subject: &str, at: i64) -> Entry {
        Entry::new(Author::person(who, "r1"), action, "secret", subject, UnixMillis(at))
    }

    fn subjects(db: &Native, filter: &Filter, limit: i64) -> Vec<String> {
        let found = block_on(list(db, filter, limit)).expect("runs");
        found.into_iter().map(|entry| entry.subject_id).collect()
    }

    #[test]
    fn an_entry_goes_with_its_change_or_not_at_all() {
        let db = Native::new();
        let insert = ("INSERT INTO users (id, created_at, updated_at) VALUES (?, 0, 0)", params!["u1"]);
        block_on(db.batch(vec![insert.clone(), entry("u1", "secret.set", "A", 1).statement()])).expect("runs");
        let again = block_on(db.batch(vec![entry("u1", "secret.set", "B", 2).statement(), insert]));
        assert!(again.is_err(), "the change fails");
        assert_eq!(subjects(&db, &Filter::default(), 10), ["A"], "and takes its entry with it");
        let update = |id: &str| ("UPDATE users SET display_name = 'x' WHERE id = ?", params![id]);
        for (id, name) in [("u1", "C"), ("nobody", "D")] {
            let of = entry("u1", "secret.set", name, 3).statement_if_changed();
            block_on(db.batch(vec![update(id), of])).expect("runs");
        }
        assert_eq!(subjects(&db, &Filter::default(), 10), ["C", "A"], "what changed nothing has no entry");
    }

    #[test]
    fn a_change_of_many_has_an_entry_of_each_or_of_none() {
        let db = Native::new();
        block_on(db.change("INSERT INTO users (id, created_at, updated_at) VALUES ('u1', 0, 0)", vec![]))
            .expect("runs");
        for (id, names) in [("u1", ["A", "B"]), ("nobody", ["C", "D"])] {
            let update = ("UPDATE users SET display_name = 'x' WHERE id = ?", params![id]);
            let of_each = entry("u1", "secret.set", "", 3).statement_of_each_if_changed(names);
            block_on(db.batch(vec![update, of_each])).expect("runs");
        }
        assert_eq!(subjects(&db, &Filter::default(), 10), ["B", "A"]);
        let nothing = entry("u1", "secret.set", "E", 4).behind_the_first(vec![
            ("UPDATE users SET display_name = 'y' WHERE id = 'nobody'", vec![]),
            ("UPDATE users SET display_name = 'y' WHERE id = 'u1'", vec![]),
        ]);
        assert_eq!(block_on(db.batch(nothing)), Ok(vec![0, 0, 1]), "what comes later does not count");
    }

    #[test]
    fn entries_are_never_changed_and_never_removed() {
        let db = Native::new();
        block_on(write(&db, &entry("u1", "secret.set", "A", 1))).expect("runs");
        for sql in ["UPDATE audit_log SET actor_id = 'u2'", "DELETE FROM audit_log"] {
            let refused = block_on(db.change(sql, vec![])).expect_err("is refused");
            assert!(refused.0.contains("only added to"), "{refused}");
        }
        assert_eq!(subjects(&db, &Filter::default(), 10), ["A"]);
    }

    #[test]
    fn entries_are_listed_newest_first_in_pages_and_by_what_is_asked_for() {
        let db = Native::new();
        block_on(
            db.change(
                "INSERT INTO users (id, display_name, created_at, updated_at) VALUES ('u1', 'Ada', 0, 0)",
                vec![],
            ),
        )
        .expect("runs");
        for (who, action, subject, at) in
            [("u1", "secret.set", "A", 10), ("u2", "secret.set", "B", 20), ("u1", "secret.delete", "A", 30)]
        {
            block_on(write(&db, &entry(who, action, subject, at).detail(&json!({"scope": "global"})))).expect("runs");
        }
        let all = block_on(list(&db, &Filter::default(), 2)).expect("runs");
        let shown: Vec<_> = all.iter().map(|e| (e.action.as_str(), e.actor_name.as_deref())).collect();
        assert_eq!(shown, [("secret.delete", Some("Ada")), ("secret.set", None)]);
        assert_eq!(all[0].detail, Some(json!({"scope": "global"})));
        let rest = Filter { before_id: Some(all[1].id), ..Filter::default() };
        assert_eq!(subjects(&db, &rest, 2), ["A"]);
        let of = |text: &str| Some(text.to_owned());
        for (filter, expected) in [
            (Filter { actor_id: of("u1"), ..Filter::default() }, vec!["A", "A"]),
            (Filter { action: of("secret.set"), ..Filter::default() }, vec!["B", "A"]),
            (Filter { subject_kind: of("secret"), subject_id: of("B"), ..Filter::default() }, vec!["B"]),
            (Filter { since: Some(UnixMillis(20)), until: Some(UnixMillis(30)), ..Filter::default() }, vec!["B"]),
            (Filter { action: of("secret.set"), actor_id: of("u2"), ..Filter::default() }, vec!["B"]),
            (Filter { subject_kind: of("person"), ..Filter::default() }, vec![]),
        ] {
            assert_eq!(subjects(&db, &filter, 10), expected, "{filter:?}");
        }
    }

    #[test]
    fn every_way_to_ask_has_an_index() {
        #[derive(Deserialize)]
        struct Step {
            detail: String,
        }
        let db = Native::new();
        let of = |text: &str| Some(text.to_owned());
        for filter in [
            Filter::default(),
            Filter { before_id: Some(5), ..Filter::default() },
            Filter { actor_id: of("u1"), before_id: Some(5), ..Filter::default() },
            Filter { action: of("a"), ..Filter::default() },
            Filter { subject_kind: of("k"), subject_id: of("s"), ..Filter::default() },
        ] {
            let (sql, values) = query(&filter, 10);
            let plan: Vec<Step> = block_on(db.rows(&format!("EXPLAIN QUERY PLAN {sql}"), values)).expect("runs");
            let text = plan.into_iter().map(|step| step.detail).collect::<Vec<_>>().join("; ");
            // Without a condition the newest are read off the table's own end.
            let fits = text.contains("SEARCH l") || (filter == Filter::default() && !text.contains("TEMP B-TREE"));
            assert!(fits, "{filter:?}: {text}");
            assert!(!text.contains("TEMP B-TREE FOR ORDER BY") || filter.subject_id.is_none(), "{filter:?}: {text}");
        }
    }
}
