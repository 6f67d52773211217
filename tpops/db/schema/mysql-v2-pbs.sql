-- Schema v2 of tpops in MySQL (5.7 or later) or MariaDB (10.3 or later): POP before SMTP.
--
-- "tpops pbs init" makes it.  Times are seconds since 1970 by the clock of this server, which is that of all hosts.
CREATE TABLE IF NOT EXISTS tpops_pbs_login (
    address       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'IPv4 address or IPv6 network',
    user          VARCHAR(255) NOT NULL,
    at            BIGINT NOT NULL,
    PRIMARY KEY (address, user),
    KEY user (user, at),
    KEY at (at)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS tpops_pbs_sender (
    sender        VARCHAR(320) NOT NULL,
    user          VARCHAR(255) NOT NULL,
    status        TINYINT UNSIGNED NOT NULL DEFAULT 1 COMMENT '1 is in force, 0 is not',
    PRIMARY KEY (sender, user),
    KEY user (user)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS tpops_pbs_rule (
    network       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'address or CIDR',
    sender        VARCHAR(320) NOT NULL DEFAULT '' COMMENT 'empty is any',
    status        TINYINT UNSIGNED NOT NULL DEFAULT 1 COMMENT '1, 2 (not without a sender) or 0',
    PRIMARY KEY (network, sender)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS tpops_pbs_param (
    name          VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    value         BIGINT NOT NULL COMMENT 'expire: seconds'
) ENGINE = InnoDB;
