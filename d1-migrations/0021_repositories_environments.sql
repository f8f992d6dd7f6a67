-- Repositories that are worked on together. `name_key` is the name in lower case. `last_write` as in secret_scopes.
CREATE TABLE environments (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL UNIQUE,
    description TEXT,
    prebuild_enabled INTEGER NOT NULL DEFAULT 0,
    -- A JSON array; NULL when there are none.
    channel_associations TEXT,
    version INTEGER NOT NULL,
    last_write TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE INDEX environments_newest ON environments (created_at DESC, id DESC);

CREATE TABLE environment_repositories (
    environment_id TEXT NOT NULL REFERENCES environments (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    repo_owner TEXT NOT NULL,
    repo_name TEXT NOT NULL,
    repo_id INTEGER,
    base_branch TEXT NOT NULL,
    PRIMARY KEY (environment_id, position),
    UNIQUE (environment_id, repo_owner, repo_name)
) WITHOUT ROWID;

-- What people noted of a repository, by its name in lower case. Lists are JSON arrays.
CREATE TABLE repo_metadata (
    repo_owner TEXT NOT NULL,
    repo_name TEXT NOT NULL,
    description TEXT,
    aliases TEXT,
    channel_associations TEXT,
    keywords TEXT,
    default_environment_id TEXT REFERENCES environments (id) ON DELETE SET NULL,
    version INTEGER NOT NULL,
    last_write TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (repo_owner, repo_name)
) WITHOUT ROWID;
CREATE INDEX repo_metadata_environment ON repo_metadata (default_environment_id) WHERE default_environment_id IS NOT NULL;

-- What sessions work on, as the list shows it.
CREATE TABLE session_repositories (
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    repo_owner TEXT NOT NULL,
    repo_name TEXT NOT NULL,
    repo_id INTEGER,
    base_branch TEXT NOT NULL,
    PRIMARY KEY (session_id, position)
) WITHOUT ROWID;
CREATE INDEX session_repositories_by_name ON session_repositories (repo_owner, repo_name, session_id);
