-- Times are Unix milliseconds. Ids are 32 lowercase hex digits unless a comment says otherwise.

-- People. An e-mail is that of one person, whatever its case.
CREATE TABLE users (
    id TEXT PRIMARY KEY,
    display_name TEXT,
    email TEXT,
    email_verified INTEGER NOT NULL DEFAULT 0,
    avatar_url TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX users_email ON users (email COLLATE NOCASE) WHERE email IS NOT NULL;

-- Accounts of people elsewhere. Tokens are sealed for their row and column.
CREATE TABLE user_identities (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    provider TEXT NOT NULL,
    provider_user_id TEXT NOT NULL,
    provider_login TEXT,
    provider_email TEXT,
    access_token TEXT,
    access_token_expires_at INTEGER,
    refresh_token TEXT,
    refresh_token_expires_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (provider, provider_user_id)
);
CREATE INDEX user_identities_user ON user_identities (user_id);

-- Sign-ins of browsers. The cookie's token is not stored, only its keyed hash.
CREATE TABLE browser_sessions (
    id TEXT PRIMARY KEY,
    token_hash TEXT NOT NULL UNIQUE,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    user_agent TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
);
CREATE INDEX browser_sessions_user ON browser_sessions (user_id);
CREATE INDEX browser_sessions_expiry ON browser_sessions (expires_at);

-- Sign-ins under way. Each state is taken once.
CREATE TABLE oauth_states (
    state_hash TEXT PRIMARY KEY,
    callback_path TEXT NOT NULL,
    expires_at INTEGER NOT NULL
);
CREATE INDEX oauth_states_expiry ON oauth_states (expires_at);

-- Nonces of service signatures that were accepted, for as long as their signatures are fresh.
CREATE TABLE service_nonces (
    service TEXT NOT NULL,
    nonce TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (service, nonce)
) WITHOUT ROWID;
CREATE INDEX service_nonces_expiry ON service_nonces (expires_at);

-- The list of sessions. The session's own object holds the truth; it sends what it changes with a counter that grows.
CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    title TEXT,
    repo_owner TEXT,
    repo_name TEXT,
    base_branch TEXT,
    model TEXT NOT NULL,
    reasoning_effort TEXT,
    status TEXT NOT NULL,
    parent_session_id TEXT,
    spawn_source TEXT NOT NULL,
    spawn_depth INTEGER NOT NULL DEFAULT 0,
    automation_id TEXT,
    automation_run_id TEXT,
    environment_id TEXT,
    scm_login TEXT,
    user_id TEXT REFERENCES users (id) ON DELETE SET NULL,
    total_cost REAL NOT NULL DEFAULT 0,
    active_duration_ms INTEGER NOT NULL DEFAULT 0,
    message_count INTEGER NOT NULL DEFAULT 0,
    pr_count INTEGER NOT NULL DEFAULT 0,
    counter INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    CHECK ((repo_owner IS NULL) = (repo_name IS NULL)),
    CHECK (base_branch IS NULL OR repo_owner IS NOT NULL)
);
CREATE INDEX sessions_updated ON sessions (updated_at DESC);
CREATE INDEX sessions_status_updated ON sessions (status, updated_at DESC);
CREATE INDEX sessions_user_updated ON sessions (user_id, updated_at DESC);

-- Webhooks that arrived. `status` is stored, processing, processed, ignored or failed.
CREATE TABLE webhook_deliveries (
    id TEXT PRIMARY KEY,
    source TEXT NOT NULL,
    delivery_id TEXT NOT NULL,
    event TEXT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    -- While stored: not before this. While processing: the attempt's lease.
    due_at INTEGER NOT NULL,
    -- Inline up to 512 KiB, else in the bucket under `body_key`.
    body TEXT,
    body_key TEXT,
    received_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (source, delivery_id),
    CHECK ((body IS NULL) <> (body_key IS NULL))
);
CREATE INDEX webhook_deliveries_open ON webhook_deliveries (due_at) WHERE status IN ('stored', 'processing');
CREATE INDEX webhook_deliveries_received ON webhook_deliveries (received_at);
