-- Accounts of the embedded default, version 1.  Run inside a transaction by tpops.db.sqlite.
CREATE TABLE users (
    name          TEXT PRIMARY KEY NOT NULL CHECK (name <> ''),
    password_hash TEXT NOT NULL,
    enabled       INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    maildrop      TEXT,
    home          TEXT,
    uid           INTEGER,
    gid           INTEGER,
    created_at    INTEGER NOT NULL,
    changed_at    INTEGER NOT NULL
) WITHOUT ROWID;
