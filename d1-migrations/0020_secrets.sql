-- Secrets of the deployment (scope_id ''), of repositories (the forge's number, so that a renamed one keeps its own) and of
-- environments. A value is sealed by the key `key_id` for its scope and name: moved to another row it does not open.
CREATE TABLE secrets (
    scope_kind TEXT NOT NULL CHECK (scope_kind IN ('global', 'repository', 'environment')),
    scope_id TEXT NOT NULL,
    name TEXT NOT NULL,
    sealed_value TEXT NOT NULL,
    key_id TEXT NOT NULL,
    -- Of the value as it was given; what a scope may hold is counted with it.
    value_bytes INTEGER NOT NULL,
    -- Found not to open when the keys changed: not tried again until it is set anew.
    unreadable INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (scope_kind, scope_id, name)
) WITHOUT ROWID;
CREATE INDEX secrets_by_key ON secrets (key_id, unreadable);

-- Which change a scope's secrets are at. `last_write` is the mark of the change that made the version: the statements of one
-- batch know by it that theirs is the one.
CREATE TABLE secret_scopes (
    scope_kind TEXT NOT NULL,
    scope_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    last_write TEXT NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (scope_kind, scope_id)
) WITHOUT ROWID;
