-- Images of repositories that are built ahead of sessions.

CREATE TABLE image_builds (
    id TEXT PRIMARY KEY,
    scope_kind TEXT NOT NULL CHECK (scope_kind IN ('repo', 'environment')),
    -- `owner/name` in lower case, or the environment's id.
    scope_id TEXT NOT NULL,
    -- The code host's number of the one repository of a `repo`: whose secrets went into it.
    repo_id INTEGER,
    provider TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('building', 'ready', 'failed', 'superseded')),
    repositories_fingerprint TEXT NOT NULL,
    -- The machine that builds, and whether it may still be there.
    provider_session_id TEXT,
    provider_session_cleanup_pending INTEGER NOT NULL DEFAULT 1,
    callback_token_hash TEXT NOT NULL,
    callback_token_expires_at INTEGER NOT NULL,
    callback_token_used_at INTEGER,
    -- What the machine told of its end.
    completion_hash TEXT,
    repository_shas TEXT NOT NULL DEFAULT '[]',
    runtime_version TEXT NOT NULL DEFAULT '',
    build_duration_seconds REAL,
    error_message TEXT,
    -- The backend's name of the image; on a row that is not ready it waits to be deleted.
    provider_image_id TEXT,
    finalization_lease_token TEXT,
    finalization_lease_expires_at INTEGER,
    -- Attempts to clean up that failed, and when the next one is due.
    cleanup_failures INTEGER NOT NULL DEFAULT 0,
    cleanup_after INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
-- One build of a scope at a time, whoever asks.
CREATE UNIQUE INDEX image_builds_one_at_a_time ON image_builds (scope_kind, scope_id, provider)
    WHERE status = 'building';
CREATE INDEX image_builds_of_a_scope ON image_builds (scope_kind, scope_id, created_at DESC, id DESC);
CREATE INDEX image_builds_newest ON image_builds (created_at DESC, id DESC);
CREATE INDEX image_builds_building ON image_builds (created_at) WHERE status = 'building';
CREATE INDEX image_builds_machines ON image_builds (cleanup_after)
    WHERE provider_session_cleanup_pending = 1 AND status <> 'building';
CREATE INDEX image_builds_artifacts ON image_builds (cleanup_after)
    WHERE provider_image_id IS NOT NULL AND status IN ('failed', 'superseded');
CREATE INDEX image_builds_history ON image_builds (updated_at)
    WHERE provider_image_id IS NULL AND provider_session_cleanup_pending = 0 AND status IN ('failed', 'superseded');

-- Repositories whose images are built ahead; environments have a flag of their own.
CREATE TABLE image_build_repositories (
    repo_owner TEXT NOT NULL,
    repo_name TEXT NOT NULL,
    enabled_at INTEGER NOT NULL,
    PRIMARY KEY (repo_owner, repo_name)
) WITHOUT ROWID;

-- Builds of a scope that failed one after another, and when the next is tried by itself.
CREATE TABLE image_build_failures (
    scope_kind TEXT NOT NULL,
    scope_id TEXT NOT NULL,
    provider TEXT NOT NULL,
    failures INTEGER NOT NULL,
    retry_at INTEGER NOT NULL,
    PRIMARY KEY (scope_kind, scope_id, provider)
) WITHOUT ROWID;
CREATE INDEX environments_prebuilt ON environments (id) WHERE prebuild_enabled = 1;
