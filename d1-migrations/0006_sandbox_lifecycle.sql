-- Which session a sandbox is of: a sandbox that cannot boot knows only its own name. Forgotten after a while.
CREATE TABLE sandboxes (
    sandbox_id TEXT PRIMARY KEY,
    session_id TEXT NOT NULL,
    started_at INTEGER NOT NULL
);
CREATE INDEX sandboxes_old ON sandboxes (started_at);

-- A backend whose starts fail for lasting reasons is not asked by every session: open until a time, then tried by one.
-- No row: all is well.
CREATE TABLE backend_breakers (
    backend TEXT PRIMARY KEY,
    failures INTEGER NOT NULL,
    last_failure_at INTEGER NOT NULL,
    open_until INTEGER,
    trial_until INTEGER,
    reason TEXT NOT NULL
);

-- In which sessions a person may have a page open: where to close them when the person signs out everywhere. Until a
-- session has closed them, it is revoked.
CREATE TABLE session_pages (
    user_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    token_ends_at INTEGER NOT NULL,
    revoked INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (user_id, session_id)
);
CREATE INDEX session_pages_old ON session_pages (token_ends_at);
CREATE INDEX session_pages_revoked ON session_pages (token_ends_at) WHERE revoked = 1;
