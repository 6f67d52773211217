-- When users logged in last, from where, version 1.  Run inside a transaction by tpops.db.sqlite.
--
-- Times are seconds since 1970; a client without an address (a UNIX socket) has the address ''.
CREATE TABLE last_logins (
    user      TEXT NOT NULL CHECK (user <> ''),
    address   TEXT NOT NULL,
    at        INTEGER NOT NULL,
    count     INTEGER NOT NULL CHECK (count > 0),
    mechanism TEXT NOT NULL,
    PRIMARY KEY (user, address)
) WITHOUT ROWID;

CREATE INDEX last_logins_by_time ON last_logins (at);
