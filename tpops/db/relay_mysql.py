"""
The stores for POP before SMTP in MySQL or MariaDB, for sites with several hosts.

    v2          tpops' own tables, with all that there is to know (L{MySQLRelayStore})
    classic     pbs(ip, timestamp), which old SMTP servers read: addresses alone (L{ClassicRelayStore})
    both        v2, and the old table is kept up (L{BothRelayStore})

Purpose: the same contract as the store in SQLite.  All times are those of the database's clock, so that hosts need not
agree.
Limits: blocking.  C{connection} gives a client for the thread that asks; it is asked anew for each call.
Each change may be done twice without harm, so one whose outcome is unknown is done again.
Errors: L{StoreFailed}.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from zope.interface import implementer

from tpops.db.addresses import networks_around
from tpops.db.mysql import Client, DatabaseFailed, Execute
from tpops.db.mysql_changes import Changes
from tpops.db.relay import Contents, Facts, IRelayStore, Login, Rule, Sender, StoreFailed, smallest

_T = TypeVar("_T")

#: The tables of v2.
SCHEMA = pathlib.Path(__file__).parent / "schema" / "mysql-v2-pbs.sql"

#: Gives the connection of the present thread.
Connection = Callable[[], Client]

_EXPIRE = "COALESCE((SELECT value FROM tpops_pbs_param WHERE name = 'expire'), %s)"
_COUNTS = f"at <= UNIX_TIMESTAMP() AND at > UNIX_TIMESTAMP() - {_EXPIRE}"
_OWNER = "tpops_pbs_sender AS s JOIN tpops_pbs_login AS l ON l.user = s.user WHERE s.sender = %s AND"

_FACTS = f"""
    SELECT
        EXISTS (SELECT 1 FROM tpops_pbs_login WHERE address = %s AND {_COUNTS}),
        EXISTS (SELECT 1 FROM {_OWNER} s.status = 1 AND l.address = %s AND {_COUNTS}),
        EXISTS (SELECT 1 FROM {_OWNER} {_COUNTS})
"""  # noqa: S608  # our own words

_LOGIN = "INSERT INTO tpops_pbs_login (address, user, at) VALUES (%s, %s, {}) ON DUPLICATE KEY UPDATE at = VALUES(at)"
_NOW = _LOGIN.format("UNIX_TIMESTAMP()")
_THEN = _LOGIN.format("%s")
_SENDER = (
    "INSERT INTO tpops_pbs_sender (user, sender, status) VALUES (%s, %s, %s)"
    " ON DUPLICATE KEY UPDATE status = VALUES(status)"
)
_RULE = (
    "INSERT INTO tpops_pbs_rule (network, sender, status) VALUES (%s, %s, %s)"
    " ON DUPLICATE KEY UPDATE status = VALUES(status)"
)
_PARAM = "INSERT INTO tpops_pbs_param (name, value) VALUES ('expire', %s) ON DUPLICATE KEY UPDATE value = VALUES(value)"

#: The error of a value that is too long for its column, and that of a table that is not there.
_TOO_LONG, _NO_TABLE = 1406, 1146


class _Tables:
    """What both kinds of tables need: a connection, and how long a login counts."""

    def __init__(self, connection: Connection, expire_seconds: int, timeout_seconds: float) -> None:
        self._connection = connection
        self._configured = expire_seconds
        self._changes = Changes(timeout_seconds)

    def _select(self, sql: str, *values: object) -> Sequence[tuple[object, ...]]:
        with _errors():
            return self._connection().select(sql, values).rows

    def _change(self, work: Callable[[Execute], _T]) -> _T | None:
        """A transaction; what it gave, or None where it had to be done twice."""

        def again(execute: Execute) -> bool:
            work(execute)
            return True

        with _errors():
            return self._changes.make(self._connection(), work, again)

    def _changed(self, sql: str, *values: object) -> int:
        """One statement; for how many rows it was."""
        return self._change(lambda execute: execute(sql, values).affected) or 0

    def close(self) -> None:
        """See L{IRelayStore.close}; connections belong to who has made them."""


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except DatabaseFailed as error:
        advice = "; 'tpops pbs init' makes the tables" if error.number == _NO_TABLE else ""
        raise StoreFailed(f"{error}{advice}") from None


@implementer(IRelayStore)
class MySQLRelayStore(_Tables):
    """Tables v2."""

    detailed = True

    def make(self) -> None:
        """See L{IRelayStore.make}."""
        for statement in _statements(SCHEMA.read_text("utf-8")):
            self._change(lambda execute, statement=statement: execute(statement))  # type: ignore[misc]

    def facts(self, site: str, address: str, sender: str) -> Facts:
        """See L{IRelayStore.facts}."""
        # For the database, spaces at the end are not there.
        sender = sender if sender == sender.rstrip(" ") else "\0"
        expire = self._configured
        ((here, owner_here, owner_anywhere),) = self._select(_FACTS, site, expire, sender, site, expire, sender, expire)
        around = networks_around(address)
        places = ", ".join(["%s"] * len(around))
        found = self._select(
            f"SELECT network, sender, status FROM tpops_pbs_rule WHERE network IN ({places}) AND sender IN ('', %s)",  # noqa: S608
            *around,
            sender,
        )
        any_sender, this_sender = smallest([_rule(row) for row in found], around)
        return Facts(any_sender, this_sender, bool(here), bool(owner_here), bool(owner_anywhere))

    def record(self, logins: Collection[Login]) -> None:
        """See L{IRelayStore.record}; their time is now, by the database's clock."""
        rows = sorted((login.address, login.user) for login in logins)

        def work(execute: Execute) -> None:
            for row in rows:
                execute(_NOW, row)

        self._change(work)

    def forget(self, address: str, user: str | None) -> int:
        """See L{IRelayStore.forget}."""
        if user is None:
            return self._changed("DELETE FROM tpops_pbs_login WHERE address = %s", address)
        return self._changed("DELETE FROM tpops_pbs_login WHERE address = %s AND user = %s", address, user)

    def purge(self) -> int:
        """See L{IRelayStore.purge}."""
        seconds = self.expire_seconds()
        return self._changed(
            "DELETE FROM tpops_pbs_login WHERE at > UNIX_TIMESTAMP() OR at <= UNIX_TIMESTAMP() - %s", seconds
        )

    def logins(self) -> list[Login]:
        """See L{IRelayStore.logins}."""
        rows = self._select(
            f"SELECT address, user, at FROM tpops_pbs_login WHERE {_COUNTS} ORDER BY at DESC, address, user",  # noqa: S608
            self._configured,
        )
        return [Login(str(address), str(user), _int(at)) for address, user, at in rows]

    def expire_seconds(self) -> int:
        """See L{IRelayStore.expire_seconds}."""
        ((seconds,),) = self._select(f"SELECT {_EXPIRE}", self._configured)
        return _int(seconds)

    def set_expire(self, seconds: int | None) -> None:
        """See L{IRelayStore.set_expire}."""
        if seconds is None:
            self._changed("DELETE FROM tpops_pbs_param WHERE name = 'expire'")
        else:
            self._changed(_PARAM, seconds)

    def senders(self, user: str | None) -> list[Sender]:
        """See L{IRelayStore.senders}."""
        rows = self._select(
            "SELECT user, sender, status FROM tpops_pbs_sender WHERE user = %s OR %s ORDER BY user, sender",
            user or "",
            user is None,
        )
        return [Sender(str(name), str(sender), _int(status)) for name, sender, status in rows]

    def rules(self) -> list[Rule]:
        """See L{IRelayStore.rules}."""
        return [
            _rule(row)
            for row in self._select("SELECT network, sender, status FROM tpops_pbs_rule ORDER BY network, sender")
        ]

    def put(self, contents: Contents) -> None:
        """See L{IRelayStore.put}."""

        def work(execute: Execute) -> None:
            for login in contents.logins:
                execute(_THEN, (login.address, login.user, login.at))
            for one in contents.senders:
                execute(_SENDER, (one.user, one.sender, one.status))
            for rule in contents.rules:
                execute(_RULE, (rule.network, rule.sender or "", rule.status))
            if contents.expire_seconds is not None:
                execute(_PARAM, (contents.expire_seconds,))

        if any(rule.status == 2 and not rule.sender for rule in contents.rules):
            raise StoreFailed("a rule with status 2 needs a sender")
        self._change(work)

    def remove_sender(self, user: str, sender: str | None) -> int:
        """See L{IRelayStore.remove_sender}."""
        if sender is None:
            return self._changed("DELETE FROM tpops_pbs_sender WHERE user = %s", user)
        return self._changed("DELETE FROM tpops_pbs_sender WHERE user = %s AND sender = %s", user, sender)

    def remove_rule(self, network: str, sender: str | None) -> bool:
        """See L{IRelayStore.remove_rule}."""
        statement = "DELETE FROM tpops_pbs_rule WHERE network = %s AND sender = %s"
        return self._changed(statement, network, sender or "") > 0

    def check(self) -> list[str]:
        """See L{IRelayStore.check}."""
        self.facts("192.0.2.1", "192.0.2.1", "")
        return []


@implementer(IRelayStore)
class ClassicRelayStore(_Tables):
    """The table pbs(ip, timestamp), as TPOPS' hook wrote it: who has logged in is not in it."""

    detailed = False

    def make(self) -> None:
        """See L{IRelayStore.make}."""
        self._changed("CREATE TABLE IF NOT EXISTS pbs (ip VARCHAR(45) NOT NULL PRIMARY KEY, `timestamp` TIMESTAMP)")

    def facts(self, site: str, address: str, sender: str) -> Facts:
        """See L{IRelayStore.facts}."""
        ((here,),) = self._select(
            "SELECT EXISTS (SELECT 1 FROM pbs WHERE ip = %s"
            " AND `timestamp` <= NOW() AND `timestamp` > NOW() - INTERVAL %s SECOND)",
            site,
            self._configured,
        )
        return Facts(here=bool(here))

    def record(self, logins: Collection[Login]) -> None:
        """See L{IRelayStore.record}."""
        # Old tables have room for IPv4 alone, and the others should not suffer from that.
        for family in (False, True):
            rows = sorted({login.address for login in logins if (":" in login.address) == family})
            if rows:
                self._write(rows)

    def _write(self, rows: Sequence[str]) -> None:
        def work(execute: Execute) -> None:
            for address in rows:
                execute("REPLACE INTO pbs (ip, `timestamp`) VALUES (%s, NOW())", (address,))

        try:
            self._change(work)
        except StoreFailed as error:
            if f"error {_TOO_LONG}" in str(error):
                raise StoreFailed("pbs.ip has no room for IPv6: ALTER TABLE pbs MODIFY ip VARCHAR(45)") from None
            raise

    def forget(self, address: str, user: str | None) -> int:
        """See L{IRelayStore.forget}; whose logins they were is not known."""
        return self._changed("DELETE FROM pbs WHERE ip = %s", address)

    def purge(self) -> int:
        """See L{IRelayStore.purge}."""
        return self.purge_older(self._configured)

    def purge_older(self, seconds: int) -> int:
        """Remove logins that are older, and those in the future; how many."""
        statement = "DELETE FROM pbs WHERE `timestamp` > NOW() OR `timestamp` <= NOW() - INTERVAL %s SECOND"
        return self._changed(statement, seconds)

    def logins(self) -> list[Login]:
        """See L{IRelayStore.logins}."""
        rows = self._select(
            "SELECT ip, UNIX_TIMESTAMP(`timestamp`) FROM pbs WHERE `timestamp` <= NOW()"
            " AND `timestamp` > NOW() - INTERVAL %s SECOND ORDER BY `timestamp` DESC, ip",
            self._configured,
        )
        return [Login(str(address), "(not known)", _int(at)) for address, at in rows]

    def expire_seconds(self) -> int:
        """See L{IRelayStore.expire_seconds}."""
        return self._configured

    def set_expire(self, seconds: int | None) -> None:
        """See L{IRelayStore.set_expire}."""
        raise self._unable("a time that is changed at run time")

    def senders(self, user: str | None) -> list[Sender]:
        """See L{IRelayStore.senders}."""
        return []

    def rules(self) -> list[Rule]:
        """See L{IRelayStore.rules}."""
        return []

    def put(self, contents: Contents) -> None:
        """See L{IRelayStore.put}."""
        raise self._unable("senders and rules")

    def remove_sender(self, user: str, sender: str | None) -> int:
        """See L{IRelayStore.remove_sender}."""
        raise self._unable("senders")

    def remove_rule(self, network: str, sender: str | None) -> bool:
        """See L{IRelayStore.remove_rule}."""
        raise self._unable("rules")

    def check(self) -> list[str]:
        """See L{IRelayStore.check}."""
        self.facts("192.0.2.1", "192.0.2.1", "")
        return []

    @staticmethod
    def _unable(what: str) -> StoreFailed:
        return StoreFailed(f'the table pbs has no place for {what}; set mysql_tables = "v2" or "both"')


@implementer(IRelayStore)
class BothRelayStore(MySQLRelayStore):
    """Tables v2; what they learn of logins goes on to the old table."""

    def __init__(self, connection: Connection, expire_seconds: int, timeout_seconds: float) -> None:
        super().__init__(connection, expire_seconds, timeout_seconds)
        self._old = ClassicRelayStore(connection, expire_seconds, timeout_seconds)

    def make(self) -> None:
        """See L{IRelayStore.make}."""
        super().make()
        self._old.make()

    def record(self, logins: Collection[Login]) -> None:
        """See L{IRelayStore.record}."""
        super().record(logins)
        self._old.record(logins)

    def forget(self, address: str, user: str | None) -> int:
        """See L{IRelayStore.forget}; an address where others have logged in stays in the old table."""
        count = super().forget(address, user)
        if not any(login.address == address for login in self.logins()):
            self._old.forget(address, None)
        return count

    def purge(self) -> int:
        """See L{IRelayStore.purge}."""
        count = super().purge()
        self._old.purge_older(self.expire_seconds())
        return count


def _rule(row: tuple[object, ...]) -> Rule:
    network, sender, status = row
    return Rule(str(network), str(sender) or None, _int(status))


def _int(value: object) -> int:
    return int(str(value))


def _statements(script: str) -> list[str]:
    """The statements of our own script: no text in it has a semicolon."""
    lines = [line for line in script.splitlines() if not line.startswith("--")]
    return [one for one in "\n".join(lines).split(";") if one.strip()]
