-- Schema v2 of tpops in MySQL (5.7 or later) or MariaDB (10.3 or later): the accounts.
--
-- "tpops db init" makes it, together with the tables for mail; without those:   mysql tpops < mysql-v2-accounts.sql
--
-- Names are compared octet by octet; tpops turns them to lower case itself (names.lowercase).  No statement may
-- assume that ids have no gaps.
CREATE TABLE IF NOT EXISTS tpops_schema (
    part          VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    version       INT UNSIGNED NOT NULL
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS tpops_user (
    id            BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    name          VARCHAR(255) NOT NULL,
    password_hash VARCHAR(1024) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL COMMENT '{SCHEME}data; NULL lets nobody in',
    enabled       TINYINT UNSIGNED NOT NULL DEFAULT 1,
    maildrop      VARCHAR(1024) NULL COMMENT 'NULL is the location of the configuration',
    home          VARCHAR(1024) NULL,
    unix_uid      INT UNSIGNED NULL,
    unix_gid      INT UNSIGNED NULL,
    quota_octets  BIGINT UNSIGNED NULL COMMENT 'most octets of his mail; 0 is any, NULL is what is configured',
    quota_messages BIGINT UNSIGNED NULL COMMENT 'most messages, likewise',
    created_at    BIGINT NOT NULL COMMENT 'seconds since 1970',
    changed_at    BIGINT NOT NULL COMMENT 'seconds since 1970',
    UNIQUE KEY name (name)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS tpops_address (
    address       VARCHAR(255) NOT NULL PRIMARY KEY,
    user          BIGINT UNSIGNED NOT NULL COMMENT 'whose it is',
    CONSTRAINT tpops_address_user FOREIGN KEY (user) REFERENCES tpops_user (id) ON DELETE CASCADE
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- Last: the part is complete.
INSERT IGNORE INTO tpops_schema (part, version) VALUES ('accounts', 4);
