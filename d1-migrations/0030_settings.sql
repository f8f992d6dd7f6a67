-- Settings of the deployment. A version grows with each change; who changes says which version was seen.

-- The enabled models, in order. No row: the default ones.
CREATE TABLE model_preferences (
    id TEXT PRIMARY KEY CHECK (id = 'global'),
    enabled_models TEXT NOT NULL,
    version INTEGER NOT NULL,
    updated_by TEXT,
    updated_at INTEGER NOT NULL
);
-- Which list of enabled models a session was told last, since its pages are let in by it.
CREATE TABLE session_models (
    session_id TEXT PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE,
    fingerprint TEXT NOT NULL
);

-- Settings of an integration: of all (scope 'global', target ''), of a repository (`owner/name` in lower case), or of an
-- environment (its id).
CREATE TABLE integration_settings (
    integration_id TEXT NOT NULL,
    scope TEXT NOT NULL CHECK (scope IN ('global', 'repository', 'environment')),
    target TEXT NOT NULL CHECK ((target = '') = (scope = 'global')),
    settings TEXT NOT NULL,
    version INTEGER NOT NULL,
    updated_by TEXT,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (integration_id, scope, target)
) WITHOUT ROWID;

-- The key that commits are signed with, sealed. One row.
CREATE TABLE commit_signing_configuration (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    encrypted_private_key TEXT NOT NULL,
    committer_name TEXT NOT NULL,
    committer_email TEXT NOT NULL,
    public_key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    version INTEGER NOT NULL,
    updated_by TEXT,
    updated_at INTEGER NOT NULL
);

-- MCP servers. `secrets` is sealed: the variables of a local one, the headers of a remote one. `repo_scope` is a list of
-- `owner/name`; NULL stands for every session, an empty list for none.
CREATE TABLE mcp_servers (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    type TEXT NOT NULL CHECK (type IN ('local', 'remote')),
    command TEXT,
    url TEXT,
    secrets TEXT,
    repo_scope TEXT,
    enabled INTEGER NOT NULL DEFAULT 1,
    revision INTEGER NOT NULL DEFAULT 1,
    updated_by TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    CHECK ((type = 'local') = (command IS NOT NULL)),
    CHECK ((type = 'remote') = (url IS NOT NULL))
);
CREATE UNIQUE INDEX mcp_servers_name ON mcp_servers (name COLLATE NOCASE);

-- Skills. A deleted one keeps its rows, since sessions are pinned to its revisions; its name is free again.
CREATE TABLE skills (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    current_revision_id TEXT NOT NULL,
    enabled INTEGER NOT NULL DEFAULT 1,
    -- Grows with every change, of content, assignments or `enabled`.
    version INTEGER NOT NULL DEFAULT 1,
    -- Of the change that made it what it is: by it the further statements of that change know that it was made.
    edit_id TEXT NOT NULL,
    deleted_at INTEGER,
    created_by TEXT NOT NULL,
    updated_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX skills_live_name ON skills (name) WHERE deleted_at IS NULL;
CREATE TABLE skill_revisions (
    id TEXT PRIMARY KEY,
    skill_id TEXT NOT NULL REFERENCES skills (id),
    revision_number INTEGER NOT NULL,
    revision_sha256 TEXT NOT NULL,
    description TEXT NOT NULL,
    body TEXT NOT NULL,
    license TEXT,
    compatibility TEXT,
    metadata_json TEXT NOT NULL,
    total_bytes INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (skill_id, revision_number)
);
CREATE TABLE skill_revision_files (
    revision_id TEXT NOT NULL REFERENCES skill_revisions (id),
    path TEXT NOT NULL,
    content TEXT NOT NULL,
    content_sha256 TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    executable INTEGER NOT NULL,
    PRIMARY KEY (revision_id, path)
);
CREATE TABLE skill_assignments (
    id TEXT PRIMARY KEY,
    skill_id TEXT NOT NULL REFERENCES skills (id),
    scope_type TEXT NOT NULL CHECK (scope_type IN ('global', 'repository', 'environment')),
    -- '' of all, `owner/name` in lower case, or the environment's id.
    target TEXT NOT NULL CHECK ((target = '') = (scope_type = 'global')),
    created_at INTEGER NOT NULL,
    UNIQUE (skill_id, scope_type, target)
);
CREATE INDEX skill_assignments_target ON skill_assignments (scope_type, target, skill_id);

-- Choices of skills, each its person's own.
CREATE TABLE skill_profiles (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    version INTEGER NOT NULL DEFAULT 1,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (user_id, name)
);
CREATE TABLE skill_profile_items (
    profile_id TEXT NOT NULL REFERENCES skill_profiles (id) ON DELETE CASCADE,
    skill_id TEXT NOT NULL REFERENCES skills (id),
    PRIMARY KEY (profile_id, skill_id)
) WITHOUT ROWID;

-- Which revisions a session has, from its beginning to its end.
CREATE TABLE session_skill_manifests (
    session_id TEXT PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE,
    selection_mode TEXT NOT NULL CHECK (selection_mode IN ('all', 'none', 'profile')),
    profile_id TEXT,
    profile_name TEXT,
    resolver_version INTEGER NOT NULL,
    manifest_sha256 TEXT NOT NULL,
    resolved_at INTEGER NOT NULL,
    CHECK ((selection_mode = 'profile') = (profile_id IS NOT NULL))
);
CREATE TABLE session_skill_revisions (
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    skill_id TEXT NOT NULL,
    revision_id TEXT NOT NULL REFERENCES skill_revisions (id),
    skill_name TEXT NOT NULL,
    description TEXT NOT NULL,
    revision_number INTEGER NOT NULL,
    revision_sha256 TEXT NOT NULL,
    total_bytes INTEGER NOT NULL,
    assignment_sources TEXT NOT NULL,
    PRIMARY KEY (session_id, position)
) WITHOUT ROWID;
CREATE INDEX session_skill_revisions_revision ON session_skill_revisions (revision_id);
-- A child has its parent's, and has them as soon as it is listed.
CREATE TRIGGER session_skills_of_a_child AFTER INSERT ON sessions WHEN NEW.parent_session_id IS NOT NULL
BEGIN
    INSERT INTO session_skill_manifests (session_id, selection_mode, profile_id, profile_name, resolver_version,
            manifest_sha256, resolved_at)
        SELECT NEW.id, selection_mode, profile_id, profile_name, resolver_version, manifest_sha256, resolved_at
            FROM session_skill_manifests WHERE session_id = NEW.parent_session_id;
    INSERT INTO session_skill_revisions (session_id, position, skill_id, revision_id, skill_name, description,
            revision_number, revision_sha256, total_bytes, assignment_sources)
        SELECT NEW.id, position, skill_id, revision_id, skill_name, description, revision_number, revision_sha256,
            total_bytes, assignment_sources FROM session_skill_revisions WHERE session_id = NEW.parent_session_id;
END;

-- What people set for themselves.
CREATE TABLE keyboard_shortcut_preferences (
    user_id TEXT PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    shortcuts TEXT NOT NULL,
    version INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
