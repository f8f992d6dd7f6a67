-- Subscriptions at model providers. Their tokens are sealed for their account.
CREATE TABLE model_provider_accounts (
    id TEXT PRIMARY KEY,
    provider TEXT NOT NULL CHECK (provider IN ('openai', 'xai')),
    display_name TEXT NOT NULL,
    external_account_id TEXT,
    status TEXT NOT NULL CHECK (status IN ('active', 'disabled', 'reconnect_required')),
    -- Grows when it is disabled, enabled, archived or connected anew; not with its name.
    lifecycle_version INTEGER NOT NULL DEFAULT 0,
    -- Names the connection that it was last given tokens by: the further statements of that know that it was made.
    connection_id TEXT NOT NULL,
    created_by TEXT NOT NULL,
    updated_by TEXT NOT NULL,
    last_verified_at INTEGER,
    last_used_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    archived_at INTEGER,
    UNIQUE (id, provider)
);
CREATE UNIQUE INDEX model_provider_accounts_identity ON model_provider_accounts (provider, external_account_id)
    WHERE archived_at IS NULL AND external_account_id IS NOT NULL;
CREATE INDEX model_provider_accounts_listed ON model_provider_accounts (provider, created_at, id);

-- One refresh at a time: `in_flight` from its claim to its end, or until the claim is old.
CREATE TABLE model_provider_account_credentials (
    provider_account_id TEXT PRIMARY KEY REFERENCES model_provider_accounts (id) ON DELETE CASCADE,
    encrypted_payload TEXT NOT NULL,
    credential_schema_version INTEGER NOT NULL,
    credential_version INTEGER NOT NULL,
    exchange_generation INTEGER NOT NULL DEFAULT 0,
    exchange_state TEXT NOT NULL DEFAULT 'idle' CHECK (exchange_state IN ('idle', 'in_flight')),
    exchange_owner TEXT,
    exchange_started_at INTEGER,
    access_token_expires_at INTEGER,
    updated_at INTEGER NOT NULL,
    CHECK ((exchange_state = 'in_flight') = (exchange_owner IS NOT NULL)),
    CHECK ((exchange_state = 'in_flight') = (exchange_started_at IS NOT NULL))
);

CREATE TABLE model_provider_account_defaults (
    provider TEXT PRIMARY KEY,
    provider_account_id TEXT NOT NULL,
    unattended_mode TEXT NOT NULL CHECK (unattended_mode IN ('provider_account', 'api_key')),
    created_by TEXT NOT NULL,
    updated_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    FOREIGN KEY (provider_account_id, provider) REFERENCES model_provider_accounts (id, provider)
);
CREATE INDEX model_provider_account_defaults_account ON model_provider_account_defaults (provider_account_id);
-- What new sessions use is not taken from under them.
CREATE TRIGGER model_provider_account_default_stays_active
BEFORE UPDATE OF status, archived_at ON model_provider_accounts
WHEN (NEW.status = 'disabled' OR NEW.archived_at IS NOT NULL)
    AND EXISTS (SELECT 1 FROM model_provider_account_defaults WHERE provider_account_id = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'provider default account must remain active');
END;

-- Devices that are being authorised. The id is 64 hex digits.
CREATE TABLE model_provider_account_authorizations (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    provider TEXT NOT NULL,
    operation TEXT NOT NULL CHECK (operation IN ('create', 'reconnect')),
    target_account_id TEXT,
    target_lifecycle_version INTEGER,
    display_name TEXT,
    -- Sealed; gone once it has ended.
    encrypted_provider_data TEXT,
    interval_ms INTEGER NOT NULL CHECK (interval_ms BETWEEN 0 AND 60000),
    next_poll_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'processing', 'connected', 'denied', 'expired', 'failed',
        'cancelled', 'superseded')),
    processing_owner TEXT,
    processing_started_at INTEGER,
    result_provider_account_id TEXT,
    reconnected_existing INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    completed_at INTEGER,
    CHECK ((operation = 'reconnect') = (target_account_id IS NOT NULL)),
    CHECK ((operation = 'reconnect') = (target_lifecycle_version IS NOT NULL)),
    CHECK ((operation = 'create') = (display_name IS NOT NULL)),
    CHECK ((state IN ('pending', 'processing')) = (encrypted_provider_data IS NOT NULL)),
    CHECK ((state IN ('pending', 'processing')) = (completed_at IS NULL)),
    CHECK ((state = 'processing') = (processing_owner IS NOT NULL)),
    CHECK ((state = 'processing') = (processing_started_at IS NOT NULL)),
    CHECK ((state = 'connected') = (result_provider_account_id IS NOT NULL))
);
CREATE INDEX model_provider_account_authorizations_live ON model_provider_account_authorizations (user_id, provider)
    WHERE state IN ('pending', 'processing');
CREATE INDEX model_provider_account_authorizations_ended ON model_provider_account_authorizations (completed_at)
    WHERE completed_at IS NOT NULL;
CREATE INDEX model_provider_account_authorizations_expiry ON model_provider_account_authorizations (expires_at)
    WHERE completed_at IS NULL;
CREATE TABLE model_provider_account_authorization_attempts (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    attempted_at INTEGER NOT NULL
);
CREATE INDEX model_provider_account_authorization_attempts_recent
    ON model_provider_account_authorization_attempts (user_id, attempted_at);
CREATE INDEX model_provider_account_authorization_attempts_old
    ON model_provider_account_authorization_attempts (attempted_at);

-- How a session reaches each provider, from its beginning to its end.
CREATE TABLE session_model_provider_auth (
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    provider TEXT NOT NULL,
    auth_mode TEXT NOT NULL CHECK (auth_mode IN ('provider_account', 'api_key', 'legacy_scoped_oauth')),
    provider_account_id TEXT,
    selection_source TEXT NOT NULL,
    inherited_from_session_id TEXT,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (session_id, provider),
    CHECK ((auth_mode = 'provider_account') = (provider_account_id IS NOT NULL)),
    FOREIGN KEY (provider_account_id, provider) REFERENCES model_provider_accounts (id, provider)
) WITHOUT ROWID;
CREATE INDEX session_model_provider_auth_account ON session_model_provider_auth (provider_account_id)
    WHERE provider_account_id IS NOT NULL;
-- A child has its parent's, and has it as soon as it is listed.
CREATE TRIGGER session_model_provider_auth_of_a_child AFTER INSERT ON sessions WHEN NEW.parent_session_id IS NOT NULL
BEGIN
    INSERT INTO session_model_provider_auth (session_id, provider, auth_mode, provider_account_id, selection_source,
            inherited_from_session_id, created_at)
        SELECT NEW.id, provider, auth_mode, provider_account_id, selection_source, NEW.parent_session_id, NEW.created_at
            FROM session_model_provider_auth WHERE session_id = NEW.parent_session_id;
END;
