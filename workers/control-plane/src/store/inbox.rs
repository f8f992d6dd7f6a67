//! The inbox: trees of sessions by their newest change, and what each person has read. `session_roots` has one row a tree,
//! kept by triggers, so that a page is found by an index and not by walking all sessions.

use oi_protocol::inbox::InboxCategory;
use oi_protocol::{SessionId, UnixMillis};
use serde::Deserialize;
use serde_json::json;

use super::{Database, DbError, Param, Statement, params};

/// Trees of a page; one more is read, to know whether more follow.
pub const PAGE: i64 = 20;
/// Sessions of one page that are read.
const MEMBERS_MAX: i64 = 2_000;

/// Where a page begins: behind this tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    pub newest_at: i64,
    pub root: String,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query {
    /// Only what the person started, and nothing that automations did.
    pub mine: bool,
    /// Trees with a session whose title has this text.
    pub search: Option<String>,
    /// Trees with a session of `owner/name`.
    pub repository: Option<String>,
    pub cursor: Option<Cursor>,
}

/// A tree of a page.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Tree {
    pub root: String,
    pub newest_at: i64,
}

/// A session of a tree, with the columns' names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Member {
    pub id: String,
    pub root: String,
    pub title: Option<String>,
    pub repo_owner: Option<String>,
    pub repo_name: Option<String>,
    pub base_branch: Option<String>,
    pub status: String,
    pub parent_session_id: Option<String>,
    pub spawn_source: String,
    pub environment_id: Option<String>,
    pub created_at: i64,
    pub updated_at: i64,
    pub latest_message_id: Option<String>,
    pub unread: i64,
}

/// Sessions `?2` is shown: not archived, and with `?1` their own.
const SHOWN: &str = "member.status <> 'archived' AND (?1 = 0 OR (member.user_id = ?2 AND member.automation_id IS NULL
        AND member.spawn_source NOT IN ('automation', 'github-bot')))";
/// One of them that `?2` has not read.
const UNREAD: &str =
    "member.latest_terminal_message_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM session_read_states seen
        WHERE seen.user_id = ?2 AND seen.session_id = member.id
            AND seen.last_read_message_id = member.latest_terminal_message_id)";

/// Trees of a category for a person, newest change first; and whether more follow.
pub async fn trees(
    db: &impl Database,
    category: InboxCategory,
    user: &str,
    query: &Query,
) -> Result<(Vec<Tree>, bool), DbError> {
    // A person's own sessions are found by an index of theirs; everybody's trees are rows that triggers keep.
    let from = if query.mine {
        format!(
            "(SELECT member.root_session_id, MAX(member.updated_at) AS newest_at, SUM(member.status = 'active') AS active,
                SUM(member.latest_terminal_message_id IS NOT NULL) AS with_output
              FROM sessions member WHERE {SHOWN} GROUP BY member.root_session_id) tree"
        )
    } else {
        "session_roots tree".to_owned()
    };
    let has = |what: &str| {
        format!(
            "EXISTS (SELECT 1 FROM sessions member WHERE member.root_session_id = tree.root_session_id AND {SHOWN} AND {what})"
        )
    };
    let unread = has(UNREAD);
    // What the column says first is what an index is of.
    let fits = match category {
        InboxCategory::NeedsAttention => format!("tree.with_output > 0 AND {unread}"),
        InboxCategory::InProgress => format!("tree.active > 0 AND NOT {unread}"),
        InboxCategory::Finished => format!("tree.active = 0 AND NOT (tree.with_output > 0 AND {unread})"),
    };
    let mut sql = format!(
        "SELECT tree.root_session_id AS root, tree.newest_at FROM {from}
            WHERE {fits} AND (tree.newest_at, tree.root_session_id) < (?3, ?4)"
    );
    let (newest_at, root) = match &query.cursor {
        Some(cursor) => (cursor.newest_at, cursor.root.as_str()),
        None => (i64::MAX >> 11, ""),
    };
    let mut values: Vec<Param> = params![query.mine, user, newest_at, root];
    if let Some(text) = &query.search {
        // Not LIKE: D1 takes patterns of 50 bytes at most.
        values.push(text.as_str().into());
        sql += " AND ";
        sql += &has(&format!("instr(lower(member.title), lower(?{})) > 0", values.len()));
    }
    if let Some((owner, name)) = query.repository.as_deref().and_then(|name| name.split_once('/')) {
        values.push(owner.into());
        values.push(name.into());
        let (owner, name) = (values.len() - 1, values.len());
        sql += " AND ";
        sql += &has(&format!("member.repo_owner = ?{owner} AND member.repo_name = ?{name}"));
    }
    sql += " ORDER BY tree.newest_at DESC, tree.root_session_id DESC LIMIT 21";
    let mut rows: Vec<Tree> = db.rows(&sql, values).await?;
    let more = rows.len() as i64 > PAGE;
    rows.truncate(PAGE as usize);
    Ok((rows, more))
}

/// The sessions of trees that a person is shown.
pub async fn members(db: &impl Database, trees: &[Tree], user: &str, mine: bool) -> Result<Vec<Member>, DbError> {
    let roots: Vec<&str> = trees.iter().map(|tree| tree.root.as_str()).collect();
    let sql = format!(
        "SELECT member.id, member.root_session_id AS root, member.title, member.repo_owner, member.repo_name,
            member.base_branch, member.status, member.parent_session_id, member.spawn_source, member.environment_id,
            member.created_at, member.updated_at, member.latest_terminal_message_id AS latest_message_id,
            ({UNREAD}) AS unread
         FROM sessions member WHERE member.root_session_id IN (SELECT value FROM json_each(?3)) AND {SHOWN}
         ORDER BY member.updated_at DESC, member.id LIMIT {MEMBERS_MAX}"
    );
    db.rows(&sql, params![mine, user, json!(roots).to_string()]).await
}

/// Pull requests of a session, by state.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PullRequests {
    pub session_id: String,
    pub total: u32,
    pub open: u32,
    pub draft: u32,
    pub merged: u32,
    pub closed: u32,
}

/// Those of some sessions.
pub async fn pull_requests(db: &impl Database, sessions: &[&str]) -> Result<Vec<PullRequests>, DbError> {
    db.rows(
        "SELECT session_id, COUNT(*) AS total, SUM(lifecycle_state = 'open' AND is_draft = 0) AS open,
            SUM(is_draft = 1) AS draft, SUM(lifecycle_state = 'merged') AS merged,
            SUM(lifecycle_state = 'closed') AS closed
         FROM session_pull_requests WHERE session_id IN (SELECT value FROM json_each(?)) GROUP BY session_id",
        params![json!(sessions).to_string()],
    )
    .await
}

/// How far a person has read a session.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Standing {
    pub latest_message_id: Option<String>,
    pub last_read_message_id: Option<String>,
}

/// `None` when the session is not listed.
pub async fn standing(db: &impl Database, user: &str, session: &SessionId) -> Result<Option<Standing>, DbError> {
    db.row(
        "SELECT member.latest_terminal_message_id AS latest_message_id, seen.last_read_message_id
            FROM sessions member LEFT JOIN session_read_states seen
                ON seen.session_id = member.id AND seen.user_id = ?1
            WHERE member.id = ?2",
        params![user, session.as_str()],
    )
    .await
}

/// A person has read this, if it is still the newest.
pub fn mark_read(user: &str, session: &SessionId, message: &str, now: UnixMillis) -> Statement {
    (
        "INSERT INTO session_read_states (user_id, session_id, last_read_message_id, updated_at)
         SELECT ?1, id, ?3, ?4 FROM sessions WHERE id = ?2 AND latest_terminal_message_id = ?3
         ON CONFLICT (user_id, session_id) DO UPDATE SET last_read_message_id = excluded.last_read_message_id,
            updated_at = excluded.updated_at",
        params![user, session.as_str(), message, now.0],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::audit_log::{Author, Entry};
    use crate::store::native::Native;
    use crate::store::sessions::NewSession;
    use crate::store::{children, deleted_sessions, sessions};
    use futures_executor::block_on;
    use oi_protocol::MessageId;
    use oi_protocol::session_state::SessionStatus;
    use oi_session::call::InitRepository;
    use oi_session::job::{IndexSession, LatestOutput};
    use std::cell::Cell;

    #[derive(Deserialize)]
    struct Plan {
        detail: String,
    }

    struct World {
        db: Native,
        counter: Cell<i64>,
    }

    fn id(byte: u8) -> SessionId {
        SessionId::from_bytes([byte; 16])
    }

    impl World {
        fn new() -> Self {
            let db = Native::new();
            for user in ["ada", "grace"] {
                block_on(db.change("INSERT INTO users (id, created_at, updated_at) VALUES (?, 1, 1)", params![user]))
                    .expect("runs");
            }
            Self { db, counter: Cell::new(0) }
        }

        fn session(byte: u8, user: &str) -> NewSession {
            NewSession {
                title: Some(format!("title {byte} 100%")),
                repositories: vec![InitRepository {
                    repo_owner: "acme".to_owned(),
                    repo_name: format!("r{byte}"),
                    repo_id: i64::from(byte),
                    base_branch: "main".to_owned(),
                    base_sha: None,
                }],
                user_id: Some(user.to_owned()),
                ..NewSession::plain(id(byte))
            }
        }

        fn add(&self, byte: u8, user: &str) {
            block_on(sessions::insert(&self.db, &Self::session(byte, user), UnixMillis(i64::from(byte))))
                .expect("runs");
        }

        fn child(&self, byte: u8, parent: u8, user: &str) {
            let limits = children::ChildLimits::default();
            let at = UnixMillis(i64::from(byte));
            let child = Self::session(byte, user);
            assert!(block_on(children::admit(&self.db, &id(parent), &child, limits, at)).expect("runs"));
        }

        /// What the session's object says: its status, its time, and the prompt that ended last.
        fn tell(&self, byte: u8, status: SessionStatus, at: i64, output: Option<u8>) {
            self.counter.set(self.counter.get() + 1);
            let facts = IndexSession {
                session_id: id(byte),
                counter: self.counter.get(),
                status,
                title: Some(format!("title {byte} 100%")),
                updated_at: UnixMillis(at),
                message_count: 1,
                pr_count: 0,
                total_cost: 0.0,
                active_duration_ms: 0,
                latest_output: output.map(|byte| LatestOutput {
                    message_id: MessageId::from_bytes([byte; 16]),
                    created_at: UnixMillis(1),
                    completed_at: UnixMillis(2),
                }),
            };
            block_on(sessions::project(&self.db, &facts)).expect("runs");
        }

        fn roots(&self, category: InboxCategory, user: &str, query: &Query) -> Vec<u8> {
            let (found, _) = block_on(trees(&self.db, category, user, query)).expect("runs");
            found.into_iter().map(|tree| u8::from_str_radix(&tree.root[..2], 16).expect("hex")).collect()
        }

        fn all(&self, user: &str, query: &Query) -> [Vec<u8>; 3] {
            [InboxCategory::NeedsAttention, InboxCategory::InProgress, InboxCategory::Finished]
                .map(|category| self.roots(category, user, query))
        }

        fn read(&self, user: &str, byte: u8, message: u8) -> bool {
            let message = MessageId::from_bytes([message; 16]);
            let changed = block_on(self.db.batch(vec![mark_read(user, &id(byte), message.as_str(), UnixMillis(9))]));
            changed.expect("runs")[0] > 0
        }
    }

    #[test]
    fn a_tree_belongs_to_one_category_for_each_person() {
        let world = World::new();
        for byte in 1..=4 {
            world.add(byte, "ada");
        }
        world.tell(2, SessionStatus::Active, 20, None);
        world.tell(3, SessionStatus::Completed, 30, Some(0x31));
        world.tell(4, SessionStatus::Failed, 40, None);
        let any = Query::default();
        assert_eq!(world.all("ada", &any), [vec![3], vec![2], vec![4, 1]], "a failure without a word is finished");
        assert!(!world.read("ada", 3, 0x99), "only the newest can be read");
        assert!(world.read("ada", 3, 0x31));
        assert_eq!(world.all("ada", &any), [vec![], vec![2], vec![4, 3, 1]]);
        assert_eq!(world.all("grace", &any), [vec![3], vec![2], vec![4, 1]], "another has read nothing");
        world.tell(2, SessionStatus::Active, 50, Some(0x21));
        assert_eq!(world.all("ada", &any)[0], vec![2], "what is unread comes before what runs");
        world.tell(3, SessionStatus::Archived, 60, Some(0x32));
        assert_eq!(world.all("grace", &any), [vec![2], vec![], vec![4, 1]], "what is archived is not there");
    }

    #[test]
    fn a_tree_is_ordered_by_its_newest_session_and_split_when_its_root_is_gone() {
        let world = World::new();
        world.add(1, "ada");
        world.add(2, "ada");
        world.child(3, 1, "ada");
        world.child(4, 3, "grace");
        let any = Query::default();
        assert_eq!(world.roots(InboxCategory::Finished, "ada", &any), [1, 2]);
        world.tell(2, SessionStatus::Completed, 10, None);
        assert_eq!(world.roots(InboxCategory::Finished, "ada", &any), [2, 1]);
        world.tell(4, SessionStatus::Completed, 20, Some(0x41));
        assert_eq!(world.all("ada", &any), [vec![1], vec![], vec![2]], "a grandchild has something to read");
        let entry = Entry::new(Author::system(), "session.delete", "session", id(1).as_str(), UnixMillis(30));
        block_on(deleted_sessions::delete(&world.db, &id(1), UnixMillis(30), &entry)).expect("runs");
        assert_eq!(world.all("ada", &any), [vec![3], vec![], vec![2]], "the child is a root now");
        let listed = block_on(trees(&world.db, InboxCategory::NeedsAttention, "ada", &any)).expect("runs").0;
        let found = block_on(members(&world.db, &listed, "ada", false)).expect("runs");
        assert_eq!(found.iter().map(|member| member.unread).collect::<Vec<_>>(), [1, 0]);
    }

    #[test]
    fn ones_own_are_found_among_all_and_filters_narrow() {
        let world = World::new();
        world.add(1, "ada");
        world.add(2, "grace");
        world.child(3, 2, "ada");
        let mine = Query { mine: true, ..Query::default() };
        assert_eq!(world.roots(InboxCategory::Finished, "ada", &mine), [2, 1], "one's own below another's");
        let listed = block_on(trees(&world.db, InboxCategory::Finished, "ada", &mine)).expect("runs").0;
        let found = block_on(members(&world.db, &listed, "ada", true)).expect("runs");
        assert_eq!(found.iter().map(|member| member.id[..2].to_owned()).collect::<Vec<_>>(), ["03", "01"]);
        let search = |text: &str| Query { search: Some(text.to_owned()), ..Query::default() };
        assert_eq!(world.roots(InboxCategory::Finished, "ada", &search("TITLE 3")), [2]);
        assert_eq!(world.roots(InboxCategory::Finished, "ada", &search("100%")), [2, 1]);
        assert!(world.roots(InboxCategory::Finished, "ada", &search("10_%")).is_empty(), "a text, no pattern");
        assert!(
            world.roots(InboxCategory::Finished, "ada", &search(&"long ".repeat(40))).is_empty(),
            "as long as may be"
        );
        let repository = Query { repository: Some("acme/r1".to_owned()), ..Query::default() };
        assert_eq!(world.roots(InboxCategory::Finished, "ada", &repository), [1]);
    }

    #[test]
    fn pages_follow_each_other_without_a_gap_and_by_an_index() {
        let world = World::new();
        for byte in 1..=50 {
            world.add(byte, "ada");
        }
        let (mut seen, mut query) = (Vec::new(), Query::default());
        loop {
            let (page, more) = block_on(trees(&world.db, InboxCategory::Finished, "ada", &query)).expect("runs");
            seen.extend(page.iter().map(|tree| tree.root.clone()));
            let last = page.last().expect("a page has rows");
            query.cursor = Some(Cursor { newest_at: last.newest_at, root: last.root.clone() });
            if !more {
                break;
            }
        }
        let expected: Vec<String> = (1..=50).rev().map(|byte| id(byte).to_string()).collect();
        assert_eq!(seen, expected);
        for (sql, index) in [
            (
                "SELECT 1 FROM session_roots WHERE active > 0 ORDER BY newest_at DESC, root_session_id DESC LIMIT 21",
                "session_roots_active",
            ),
            (
                "SELECT 1 FROM session_roots WHERE with_output > 0 ORDER BY newest_at DESC, root_session_id DESC LIMIT 21",
                "session_roots_output",
            ),
            (
                "SELECT 1 FROM session_roots ORDER BY newest_at DESC, root_session_id DESC LIMIT 21",
                "session_roots_newest",
            ),
        ] {
            let plan: Vec<Plan> =
                block_on(world.db.rows(&format!("EXPLAIN QUERY PLAN {sql}"), params![])).expect("runs");
            assert!(plan.iter().all(|step| step.detail.contains(index)), "{sql}: {}", plan[0].detail);
        }
    }
}
