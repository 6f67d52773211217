"""
Ready-made queries for tables that others have made.

Purpose: for each kind of tables the query, how passwords are stored in them, and what else goes with them.  The
templates are those that an operator could write himself (see tpops.cred.sql_queries, tpops.cred.sql_rows).

    tpops-classic   user(login, passwd, maildir, quota) of TPOPS 0.4 to 0.8; passwords as they are
    tpops-v2        tpops_user of tpops/db/schema/mysql-v2-accounts.sql; hashes of any scheme
    vmail-sql       domain and popbox of vmail-sql, which tpop3d and Exim read; a mailbox whose name ends with "/" is a
                    Maildir, another one a file
    postfixadmin    mailbox and domain of PostfixAdmin; switched off are mailboxes and domains that are not active
    vpopmail        vpopmail with all domains in one table; bit 2 of pw_gid is "no POP"

Limits: limits per domain of vpopmail (table limits) and PostfixAdmin's password_expiry are not looked at.
"""

from __future__ import annotations

import attrs


@attrs.frozen
class Preset:
    """
    A kind of tables.

    @ivar queries: templates, in the order in which they are asked
    @ivar password_scheme: what passwords without "{SCHEME}" are
    @ivar needs_domain: whether a name without a domain is in none of the tables
    """

    queries: tuple[str, ...]
    password_scheme: str = "auto"  # noqa: S105  # no password
    needs_domain: bool = False


PRESETS: dict[str, Preset] = {
    "tpops-classic": Preset(
        (
            "SELECT login AS name, passwd AS password, maildir AS maildrop, quota AS quota_octets "
            "FROM user WHERE login = %s",
        ),
        password_scheme="plain",  # noqa: S106
    ),
    "tpops-v2": Preset(
        (
            "SELECT name, password_hash AS password, enabled, maildrop, home, unix_uid AS uid, unix_gid AS gid, "
            "quota_octets, quota_messages FROM tpops_user WHERE name = %s",
        ),
    ),
    "vmail-sql": Preset(
        (
            "SELECT CONCAT(popbox.local_part, '@', popbox.domain_name) AS name, popbox.password_hash AS password, "
            "CONCAT(domain.path, '/', popbox.mbox_name) AS maildrop, "
            "IF(RIGHT(popbox.mbox_name, 1) = '/', 'maildir', 'bsd') AS type, domain.unix_user AS unix_user "
            "FROM popbox JOIN domain ON popbox.domain_name = domain.domain_name "
            "WHERE popbox.local_part = %u AND popbox.domain_name = %d",
        ),
        needs_domain=True,
    ),
    "postfixadmin": Preset(
        (
            "SELECT mailbox.username AS name, mailbox.password AS password, mailbox.maildir AS maildrop, "
            "mailbox.active = 1 AND COALESCE(domain.active, 0) = 1 AS enabled "
            "FROM mailbox LEFT JOIN domain ON mailbox.domain = domain.domain WHERE mailbox.username = %s",
        ),
    ),
    "vpopmail": Preset(
        (
            "SELECT CONCAT(pw_name, '@', pw_domain) AS name, pw_passwd AS password, "
            "CONCAT(pw_dir, '/Maildir') AS maildrop, (pw_gid & 2) = 0 AS enabled "
            "FROM vpopmail WHERE pw_name = %u AND pw_domain = %d",
        ),
        needs_domain=True,
    ),
}
