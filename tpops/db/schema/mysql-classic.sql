-- The schema of TPOPS 0.4 to 0.8, for MySQL (5.7 or later) or MariaDB (10.3 or later).
--
-- "tpops db init --classic" makes it.  The columns are those of TPOPS; the engine has transactions, and latin1 takes
-- every octet of a message as it is.

CREATE TABLE IF NOT EXISTS user (
    uid           INT AUTO_INCREMENT PRIMARY KEY,
    login         CHAR(16) UNIQUE,
    passwd        CHAR(16),
    mail          CHAR(64) UNIQUE,
    maildir       CHAR(64),
    quota         INT
) ENGINE = InnoDB DEFAULT CHARSET = latin1;

CREATE TABLE IF NOT EXISTS msg (
    id            INT AUTO_INCREMENT PRIMARY KEY,
    uid           INT,
    msgno         INT,
    timestamp     DATETIME,
    header        MEDIUMTEXT,
    body          MEDIUMTEXT,
    size          INT,
    INDEX (uid)
) ENGINE = InnoDB DEFAULT CHARSET = latin1;

CREATE TABLE IF NOT EXISTS locks (
    uid           INT UNIQUE,
    pid           INT,
    timestamp     TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
) ENGINE = InnoDB DEFAULT CHARSET = latin1;

CREATE TABLE IF NOT EXISTS pbs (
    ip            CHAR(16) UNIQUE,
    timestamp     TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
) ENGINE = InnoDB DEFAULT CHARSET = latin1;
