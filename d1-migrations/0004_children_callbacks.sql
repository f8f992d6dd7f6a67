-- Children by their parent, newest first.
CREATE INDEX sessions_parent ON sessions (parent_session_id, created_at DESC) WHERE parent_session_id IS NOT NULL;

-- Prompts to children that had ended, on their way: each counts as a live child until the child says that it is active,
-- or until the lease ends.
CREATE TABLE child_admission_leases (
    lease_token TEXT PRIMARY KEY,
    parent_session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    child_session_id TEXT NOT NULL UNIQUE,
    expires_at INTEGER NOT NULL
);
CREATE INDEX child_admission_leases_parent ON child_admission_leases (parent_session_id, expires_at);

-- Sessions below which nothing is spawned or woken: for good once they are cancelled, for a while when only what is
-- below them is.
CREATE TABLE session_cancellations (
    session_id TEXT PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE,
    expires_at INTEGER
);

-- Sessions that were deleted. Open until their object and their files are gone; kept, so that a parent's count of
-- children never shrinks.
CREATE TABLE deleted_sessions (
    session_id TEXT PRIMARY KEY,
    parent_session_id TEXT,
    deleted_at INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    finished_at INTEGER,
    last_error TEXT
);
CREATE INDEX deleted_sessions_parent ON deleted_sessions (parent_session_id) WHERE parent_session_id IS NOT NULL;
CREATE INDEX deleted_sessions_open ON deleted_sessions (due_at) WHERE finished_at IS NULL;
