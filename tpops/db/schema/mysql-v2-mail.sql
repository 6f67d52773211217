-- Schema v2 of tpops in MySQL (5.7 or later) or MariaDB (10.3 or later): the mail.
--
-- "tpops db init" makes it.  All octets of messages are in tpops_chunk, at most 1 MiB a row; nothing depends on ids
-- without gaps, on names of processes or on locks of the server's, so several hosts and a Galera cluster will do.
-- Whoever removes or changes messages by hand also writes, in the same transaction,
--     UPDATE tpops_mailbox SET rewritten = rewritten + 1, messages = ..., octets = ... WHERE id = ...

CREATE TABLE IF NOT EXISTS tpops_schema (
    part          VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    version       INT UNSIGNED NOT NULL
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS tpops_mailbox (
    id            BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    name          VARCHAR(255) NOT NULL COMMENT 'the owner',
    next_sequence BIGINT UNSIGNED NOT NULL DEFAULT 1 COMMENT 'of the next message; never goes back',
    rewritten     BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'grows with every change other than new mail',
    messages      BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'how many there are',
    octets        BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'stored octets of all of them',
    created_at    BIGINT NOT NULL COMMENT 'seconds since 1970',
    UNIQUE KEY name (name)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS tpops_lease (
    mailbox       BIGINT UNSIGNED NOT NULL PRIMARY KEY,
    owner         VARCHAR(255) NOT NULL DEFAULT '' COMMENT 'whose session it is: host and a random word; empty: nobody''s',
    fence         BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'grows with every session',
    expires_at    DATETIME(6) NOT NULL DEFAULT '1970-01-01 00:00:00' COMMENT 'UTC, by the clock of this server',
    CONSTRAINT tpops_lease_mailbox FOREIGN KEY (mailbox) REFERENCES tpops_mailbox (id) ON DELETE CASCADE
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS tpops_content (
    id            BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    octets        BIGINT UNSIGNED NOT NULL COMMENT 'stored octets'
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

CREATE TABLE IF NOT EXISTS tpops_chunk (
    content       BIGINT UNSIGNED NOT NULL,
    part          INT UNSIGNED NOT NULL COMMENT '0 is the first',
    data          MEDIUMBLOB NOT NULL COMMENT 'at most 1 MiB',
    PRIMARY KEY (content, part),
    CONSTRAINT tpops_chunk_content FOREIGN KEY (content) REFERENCES tpops_content (id) ON DELETE CASCADE
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

CREATE TABLE IF NOT EXISTS tpops_message (
    mailbox       BIGINT UNSIGNED NOT NULL,
    sequence      BIGINT UNSIGNED NOT NULL COMMENT 'the order of delivery',
    wire_octets   BIGINT UNSIGNED NOT NULL COMMENT 'what LIST says',
    unique_id     VARBINARY(70) NOT NULL COMMENT 'what UIDL says',
    content       BIGINT UNSIGNED NOT NULL,
    received_at   BIGINT NOT NULL COMMENT 'seconds since 1970',
    PRIMARY KEY (mailbox, sequence),
    UNIQUE KEY unique_id (mailbox, unique_id),
    UNIQUE KEY content (content),
    CONSTRAINT tpops_message_mailbox FOREIGN KEY (mailbox) REFERENCES tpops_mailbox (id),
    CONSTRAINT tpops_message_content FOREIGN KEY (content) REFERENCES tpops_content (id) ON DELETE CASCADE
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

-- Last: the part is complete.
INSERT IGNORE INTO tpops_schema (part, version) VALUES ('mail', 2);
