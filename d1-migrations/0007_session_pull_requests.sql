-- Pull requests of sessions, as their objects told last: by them a webhook finds the sessions that it is about. Names are
-- in lower case. Several sessions may work on one.
CREATE TABLE session_pull_requests (
    artifact_id TEXT PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    repository_external_id TEXT,
    repo_owner TEXT NOT NULL,
    repo_name TEXT NOT NULL,
    pr_number INTEGER NOT NULL CHECK (pr_number > 0),
    url TEXT NOT NULL,
    lifecycle_state TEXT NOT NULL CHECK (lifecycle_state IN ('open', 'closed', 'merged')),
    is_draft INTEGER NOT NULL CHECK (is_draft = 0 OR lifecycle_state = 'open'),
    head_branch TEXT NOT NULL,
    base_branch TEXT NOT NULL,
    head_sha TEXT,
    provider_created_at INTEGER,
    provider_updated_at INTEGER,
    merged_at INTEGER,
    closed_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE INDEX session_pull_requests_named ON session_pull_requests (pr_number, repo_owner, repo_name);
CREATE INDEX session_pull_requests_session ON session_pull_requests (session_id);
