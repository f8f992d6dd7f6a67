-- The inbox: sessions with the ones below them, and what each person has read.

ALTER TABLE sessions ADD COLUMN root_session_id TEXT;
-- The newest prompt that ended and has something to read.
ALTER TABLE sessions ADD COLUMN latest_terminal_message_id TEXT;
ALTER TABLE sessions ADD COLUMN latest_terminal_created_at INTEGER;
ALTER TABLE sessions ADD COLUMN latest_terminal_completed_at INTEGER;

-- There are two levels below a session that a person started, and no more.
UPDATE sessions SET root_session_id = COALESCE(
    (SELECT COALESCE(above.parent_session_id, above.id) FROM sessions above WHERE above.id = sessions.parent_session_id),
    id);
CREATE INDEX sessions_root ON sessions (root_session_id, updated_at DESC);
-- Analytics look at a window of time.
CREATE INDEX sessions_created ON sessions (created_at, spawn_source, status, user_id);

-- One row a root: what the inbox is ordered and sorted by. Archived sessions do not count.
CREATE TABLE session_roots (
    root_session_id TEXT PRIMARY KEY,
    newest_at INTEGER NOT NULL,
    active INTEGER NOT NULL,
    with_output INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO session_roots (root_session_id, newest_at, active, with_output)
    SELECT root_session_id, MAX(updated_at), SUM(status = 'active'), 0 FROM sessions WHERE status <> 'archived'
        GROUP BY root_session_id;
CREATE INDEX session_roots_newest ON session_roots (newest_at DESC, root_session_id DESC);
CREATE INDEX session_roots_active ON session_roots (newest_at DESC, root_session_id DESC) WHERE active > 0;
CREATE INDEX session_roots_output ON session_roots (newest_at DESC, root_session_id DESC) WHERE with_output > 0;

CREATE TRIGGER session_roots_on_insert AFTER INSERT ON sessions
BEGIN
    UPDATE sessions SET root_session_id =
            COALESCE((SELECT above.root_session_id FROM sessions above WHERE above.id = NEW.parent_session_id), NEW.id)
        WHERE id = NEW.id;
END;
-- A row that gets its root, another root, another status, a newer time or something to read.
CREATE TRIGGER session_roots_on_update
AFTER UPDATE OF root_session_id, status, updated_at, latest_terminal_message_id ON sessions
BEGIN
    DELETE FROM session_roots WHERE root_session_id IN (OLD.root_session_id, NEW.root_session_id);
    INSERT INTO session_roots (root_session_id, newest_at, active, with_output)
        SELECT root_session_id, MAX(updated_at), SUM(status = 'active'), SUM(latest_terminal_message_id IS NOT NULL)
            FROM sessions WHERE root_session_id IN (OLD.root_session_id, NEW.root_session_id) AND status <> 'archived'
            GROUP BY root_session_id;
END;
CREATE TRIGGER session_roots_on_delete AFTER DELETE ON sessions
BEGIN
    DELETE FROM session_roots WHERE root_session_id = OLD.root_session_id;
    INSERT INTO session_roots (root_session_id, newest_at, active, with_output)
        SELECT root_session_id, MAX(updated_at), SUM(status = 'active'), SUM(latest_terminal_message_id IS NOT NULL)
            FROM sessions WHERE root_session_id = OLD.root_session_id AND status <> 'archived' GROUP BY root_session_id;
END;
-- Who loses its parent begins a tree of its own, with what is below it.
CREATE TRIGGER session_roots_on_orphaned AFTER UPDATE OF parent_session_id ON sessions
WHEN NEW.parent_session_id IS NULL AND OLD.parent_session_id IS NOT NULL
BEGIN
    UPDATE sessions SET root_session_id = NEW.id WHERE id = NEW.id OR parent_session_id = NEW.id;
END;

CREATE TABLE session_read_states (
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    last_read_message_id TEXT NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, session_id)
) WITHOUT ROWID;
CREATE INDEX session_read_states_session ON session_read_states (session_id);

CREATE INDEX session_pull_requests_created ON session_pull_requests (COALESCE(provider_created_at, created_at));
CREATE INDEX session_pull_requests_merged ON session_pull_requests (merged_at) WHERE merged_at IS NOT NULL;
CREATE INDEX session_pull_requests_open ON session_pull_requests (lifecycle_state) WHERE lifecycle_state = 'open';
