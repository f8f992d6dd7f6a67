-- What search knows of sessions. A database of its own, since one with an FTS5 table cannot be exported whole; all of it
-- can be made again from the sessions. Times are Unix milliseconds.

-- What results are filtered by and show. `counter` is that of the session's own object.
CREATE TABLE search_sessions (
    session_id TEXT PRIMARY KEY,
    counter INTEGER NOT NULL,
    title TEXT,
    repo_owner TEXT,
    repo_name TEXT,
    user_id TEXT,
    status TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) WITHOUT ROWID;

-- One row a document: `title`, `turn:<message>` or `pull_request:<artifact>` of a session. Its id is the text's rowid, and
-- grows with time, so that the newest are found first.
CREATE TABLE search_documents (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    session_id TEXT NOT NULL,
    name TEXT NOT NULL,
    -- Grows with each change of the same document.
    version INTEGER NOT NULL,
    at INTEGER NOT NULL,
    UNIQUE (session_id, name)
);

-- `facets` holds words that no person types, for what a document is filtered by and never changes.
CREATE VIRTUAL TABLE search_text USING fts5 (
    title, prompt, answer, paths, facets,
    tokenize = 'unicode61 remove_diacritics 2', prefix = '2 3'
);

-- How far the index has been made again. One row while that goes on.
CREATE TABLE search_rebuild (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    -- `sessions`: each session is asked; `strays`: what no session has is removed.
    phase TEXT NOT NULL,
    -- The session that was done last.
    after_id TEXT NOT NULL,
    -- How far within the next one.
    turns_after INTEGER NOT NULL,
    sessions INTEGER NOT NULL,
    documents INTEGER NOT NULL,
    -- Sessions that could not be asked.
    failed INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
