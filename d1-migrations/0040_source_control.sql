-- What only one may do at a time at the code host: mint a token, refresh one, read the list of repositories. `value` is what
-- came of it, sealed, for those who waited and for caches that do not have it yet.
CREATE TABLE forge_leases (
    name TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    value TEXT
) WITHOUT ROWID;
CREATE INDEX forge_leases_expiry ON forge_leases (expires_at);
