-- What a person may do. Admins change secrets, settings and roles; members work.
ALTER TABLE users ADD COLUMN role TEXT NOT NULL DEFAULT 'member' CHECK (role IN ('member', 'admin'));
-- Since when the lists do not have them any more; nobody acts for them then.
ALTER TABLE users ADD COLUMN shut_out_at INTEGER;
CREATE INDEX users_admins ON users (id) WHERE role = 'admin';

-- Who did what, and when. Names and ids only: never a value, never a secret. Only added to.
CREATE TABLE audit_log (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    -- person, token, service, sandbox, system
    actor_kind TEXT NOT NULL,
    -- The person, by themselves or by a token; else whom a service acts for, or the service.
    actor_id TEXT,
    -- The token or the service, when the act was by one.
    via TEXT,
    action TEXT NOT NULL,
    subject_kind TEXT NOT NULL,
    subject_id TEXT NOT NULL,
    -- What else there is to know, as a JSON object of plain words.
    detail TEXT,
    request_id TEXT
);
CREATE INDEX audit_log_actor ON audit_log (actor_id, id);
CREATE INDEX audit_log_action ON audit_log (action, id);
CREATE INDEX audit_log_subject ON audit_log (subject_kind, subject_id, id);
CREATE INDEX audit_log_at ON audit_log (at);
CREATE TRIGGER audit_log_no_update BEFORE UPDATE ON audit_log BEGIN
    SELECT RAISE(ABORT, 'the audit log is only added to');
END;
CREATE TRIGGER audit_log_no_delete BEFORE DELETE ON audit_log BEGIN
    SELECT RAISE(ABORT, 'the audit log is only added to');
END;

-- What a sign-in provider last said of an account, so that the deployment's lists can be asked again without it.
CREATE TABLE admissions (
    identity_id TEXT PRIMARY KEY REFERENCES user_identities (id) ON DELETE CASCADE,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    login TEXT,
    -- Verified by the provider: a JSON list in lower case.
    emails TEXT NOT NULL,
    -- Organizations that were asked for: a JSON object, true for an active member.
    organizations TEXT NOT NULL,
    -- Fingerprint of the lists that this was last held against.
    lists TEXT NOT NULL,
    -- When the provider last said it, and when it is asked next.
    checked_at INTEGER NOT NULL,
    due_at INTEGER NOT NULL
);
CREATE INDEX admissions_user ON admissions (user_id);
CREATE INDEX admissions_due ON admissions (due_at);
CREATE INDEX admissions_lists ON admissions (lists);

-- Sign-ins from before know nothing of that: they sign in once more.
DELETE FROM browser_sessions;

-- Tokens of people's own scripts. Only a hash is stored.
CREATE TABLE personal_tokens (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    token_hash TEXT NOT NULL UNIQUE,
    -- Words of `read`, `sessions`, `settings`, `admin`, separated by spaces.
    scopes TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    -- Within a quarter of an hour.
    last_used_at INTEGER,
    revoked_at INTEGER
);
CREATE INDEX personal_tokens_user ON personal_tokens (user_id, created_at DESC, id DESC);
CREATE INDEX personal_tokens_expiry ON personal_tokens (expires_at);
