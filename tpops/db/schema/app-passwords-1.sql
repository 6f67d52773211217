-- Application passwords, version 1.  Run inside a transaction by tpops.db.sqlite.
CREATE TABLE app_passwords (
    account       TEXT NOT NULL CHECK (account <> ''),
    name          TEXT NOT NULL CHECK (name <> ''),
    password_hash TEXT NOT NULL,
    chosen        INTEGER NOT NULL CHECK (chosen IN (0, 1)),
    secret        BLOB,
    created_at    INTEGER NOT NULL,
    last_used_at  INTEGER,
    PRIMARY KEY (account, name)
) WITHOUT ROWID;
