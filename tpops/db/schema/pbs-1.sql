-- POP before SMTP, version 1.  Run inside a transaction by tpops.db.sqlite.
--
-- Who has logged in, from where, when (seconds since 1970).
CREATE TABLE logins (
    address TEXT NOT NULL CHECK (address <> ''),
    user    TEXT NOT NULL CHECK (user <> ''),
    at      INTEGER NOT NULL,
    PRIMARY KEY (address, user)
) WITHOUT ROWID;

CREATE INDEX logins_of_user ON logins (user, at);
CREATE INDEX logins_by_time ON logins (at);

-- Which sender addresses a user may use: 1 is in force, 0 is not.
CREATE TABLE usermap (
    sender TEXT NOT NULL CHECK (sender <> ''),
    user   TEXT NOT NULL CHECK (user <> ''),
    status INTEGER NOT NULL DEFAULT 1 CHECK (status IN (0, 1)),
    PRIMARY KEY (sender, user)
) WITHOUT ROWID;

CREATE INDEX usermap_by_user ON usermap (user);

-- Networks with rules of their own; a sender of NULL is any.
CREATE TABLE accessmap (
    network TEXT NOT NULL CHECK (network <> ''),
    sender  TEXT CHECK (sender <> ''),
    status  INTEGER NOT NULL DEFAULT 1 CHECK (status IN (0, 1, 2)),
    CHECK (status <> 2 OR sender IS NOT NULL)
);

CREATE UNIQUE INDEX accessmap_key ON accessmap (network, coalesce(sender, ''));

-- What can be changed at run time: 'expire', in seconds.
CREATE TABLE param (
    name  TEXT PRIMARY KEY NOT NULL,
    value INTEGER NOT NULL CHECK (name <> 'expire' OR value BETWEEN 1 AND 31536000)
) WITHOUT ROWID;
