"""
Tables in MySQL or MariaDB that tpops may also write: TPOPS' own, and schema v2.

Purpose: "tpops user" for the presets tpops-classic and tpops-v2; better hashes at login for the latter.
Limits: for command lines and threads; each change is a connection of its own.  TPOPS' table has neither a home nor a
way to keep somebody out, and its column for passwords is short: what does not fit is refused, not cut off.  There, a
password whose form the configuration says (password_scheme) has no "{SCHEME}", so that TPOPS can go on reading it.
Errors: LookupUnavailable, also when the database's user may not write.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import attrs
from zope.interface import implementer

from tpops.cred import schemes, sql_queries
from tpops.cred.mysql import MySQLAccounts
from tpops.cred.source import Means
from tpops.cred.sql_rows import stored_password
from tpops.db.mysql import Answer, Client, DatabaseFailed, Statement
from tpops.db.mysql_servers import Line
from tpops.errors import LookupUnavailable, UnknownUser
from tpops.interfaces import IAccountAdmin, IAddressAdmin, IAddresses, IRenewsHashes
from tpops.model import Account

_DUPLICATE, _TOO_LONG = 1062, 1406

_LOCATION = "maildir:"


@attrs.frozen
class _Table:
    """
    How a kind of table is written.

    @ivar add: values are name, password, maildrop, home, uid, gid, time, time
    @ivar password: values are password, time, name
    @ivar enabled: values are 1 or 0, time, name; "" where the table has no such column
    @ivar names: gives name and whether he is enabled, in order
    """

    add: str
    password: str
    enabled: str
    remove: str
    names: str


_CLASSIC = _Table(
    add="INSERT INTO user (login, passwd, maildir) VALUES (%s, %s, %s)",
    password="UPDATE user SET passwd = %s WHERE login = %s",  # noqa: S106  # no password
    enabled="",
    remove="DELETE FROM user WHERE login = %s",
    names="SELECT login, 1 FROM user ORDER BY login",
)

_V2 = _Table(
    add=(
        "INSERT INTO tpops_user (name, password_hash, maildrop, home, unix_uid, unix_gid, quota_octets, "
        "quota_messages, created_at, changed_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
    ),
    password="UPDATE tpops_user SET password_hash = %s, changed_at = %s WHERE name = %s",  # noqa: S106
    enabled="UPDATE tpops_user SET enabled = %s, changed_at = %s WHERE name = %s",
    remove="DELETE FROM tpops_user WHERE name = %s",
    names="SELECT name, enabled FROM tpops_user ORDER BY name",
)

_ADD_ADDRESS = "INSERT INTO tpops_address (address, user) SELECT %s, id FROM tpops_user WHERE name = %s"

_RENEW = "UPDATE tpops_user SET password_hash = %s, changed_at = %s WHERE name = %s AND password_hash = %s"


@implementer(IAccountAdmin)
class WritableAccounts(MySQLAccounts):
    """See the module."""

    clock: Callable[[], float] = staticmethod(time.time)

    @property
    def _table(self) -> _Table:
        return _CLASSIC if self.settings.preset == "tpops-classic" else _V2

    def add(self, account: Account, password_hash: str) -> None:
        """See L{IAccountAdmin.add}."""
        values = self._classic_values if self._table is _CLASSIC else self._values
        self._insert(((self._table.add, values(account, password_hash)),), account.name)

    def set_password(self, name: str, password_hash: str) -> None:
        """See L{IAccountAdmin.set_password}."""
        self._change(self._table.password, self._column(password_hash), name)

    def set_enabled(self, name: str, enabled: bool) -> None:
        """See L{IAccountAdmin.set_enabled}."""
        if not self._table.enabled:
            raise LookupUnavailable(
                f"accounts source {self.name}: TPOPS' table cannot keep anybody out; give him another password"
            )
        self._change(self._table.enabled, int(enabled), name)

    def remove(self, name: str) -> None:
        """See L{IAccountAdmin.remove}."""
        self._change(self._table.remove, None, name)

    def names(self) -> list[tuple[str, bool]]:
        """See L{IAccountAdmin.names}."""
        try:
            return [(str(name), bool(enabled)) for name, enabled in self._write(self._table.names, ()).rows]
        except DatabaseFailed as error:
            raise self._failed(error) from None

    async def _name_of(self, look: Callable[[Client, float], str | None]) -> str | None:
        """Whose an address is, by a look into the tables; None when it is nobody's."""
        if self._pool is None:
            raise LookupUnavailable(f"accounts source {self.name} is not started")
        try:
            return await self._pool.run(look)
        except (DatabaseFailed, ValueError) as error:
            raise LookupUnavailable(f"accounts source {self.name}: {error}") from None

    def _values(self, account: Account, password_hash: str) -> list[object]:
        now = int(self.clock())
        return [
            account.name,
            self._column(password_hash),
            account.maildrop,
            account.home,
            account.uid,
            account.gid,
            account.quota_octets,
            account.quota_messages,
            now,
            now,
        ]

    def _classic_values(self, account: Account, password_hash: str) -> list[object]:
        if account.home:
            raise LookupUnavailable(f"accounts source {self.name}: TPOPS' table has no home; give a Maildir")
        maildrop = (account.maildrop or "").removeprefix(_LOCATION) or None
        return [account.name, self._column(password_hash), maildrop]

    def _insert(self, statements: Sequence[Statement], what: str) -> None:
        """All of them, or none."""
        try:
            self._write_all(statements)
        except DatabaseFailed as error:
            if error.number == _DUPLICATE:
                raise ValueError(f"there is already an account {what}") from None
            raise self._failed(error) from None

    def _column(self, password_hash: str) -> str:
        """A stored password as the table has it: without its scheme where that goes without saying."""
        bare = password_hash.partition("}")[2]
        said, unsaid = schemes.parse(password_hash), stored_password(bare, self.password_scheme)
        try:
            meant = schemes.parse(unsaid)
        except ValueError:
            return password_hash
        same = bare and meant[1] == said[1] and meant[0].check is said[0].check
        return bare if same and self._table is _CLASSIC else password_hash

    def _change(self, statement: str, value: object, name: str) -> None:
        """Write to one account."""
        values = [] if value is None else [value] if self._table is _CLASSIC else [value, int(self.clock())]
        try:
            found = self._write(statement, [*values, name]).affected
        except DatabaseFailed as error:
            raise self._failed(error) from None
        if not found:
            raise UnknownUser(f"there is no account {name} in {self.name}")

    def _write(self, statement: str, values: Sequence[object]) -> Answer:
        """Run one statement on a connection of its own."""
        return self._write_all(((statement, values),))[0]

    def _write_all(self, statements: Sequence[Statement]) -> list[Answer]:
        """Run statements in one transaction, on a connection of its own."""
        access = self.access()
        client = Client(access, Line(access.servers, time.monotonic), writable=True)
        try:
            answers: list[Answer] = client.transaction(lambda execute: [execute(*one) for one in statements])
        finally:
            client.close()
        return answers

    def _failed(self, error: DatabaseFailed) -> LookupUnavailable:
        hint = ""
        if error.number == _TOO_LONG:
            hint = "; choose another scheme (--scheme), or make the column longer"
        return LookupUnavailable(f"accounts source {self.name}: {error}{hint}")


@implementer(IAddresses, IAddressAdmin)
class ClassicAccounts(WritableAccounts):
    """TPOPS' table, whose column "mail" has the addresses."""

    async def account_of_address(self, address: str) -> Account:
        """See L{IAddresses.account_of_address}."""
        login = await self._name_of(partial(_login_of, address))
        if login is None:
            raise UnknownUser(f"no address in {self.name}")
        return (await self.find(login, None)).account

    def add_with_address(self, account: Account, password_hash: str, address: str) -> None:
        """See L{IAddressAdmin.add_with_address}."""
        statement = "INSERT INTO user (login, passwd, maildir, mail) VALUES (%s, %s, %s, %s)"
        values = [*self._classic_values(account, password_hash), address]
        self._insert(((statement, values),), f"{account.name} or {address}")

    def address(self, name: str) -> str | None:
        """The address of an account, None where it has none.  Blocks."""
        try:
            rows = self._write("SELECT mail FROM user WHERE login = %s", (name,)).rows
        except DatabaseFailed as error:
            raise self._failed(error) from None
        return _text(rows[0][0]) if rows and rows[0][0] else None


@implementer(IRenewsHashes, IAddresses, IAddressAdmin)
class V2Accounts(WritableAccounts):
    """Schema v2, where a better hash fits.  A name is an address, too; tpops_address has further ones."""

    async def account_of_address(self, address: str) -> Account:
        """See L{IAddresses.account_of_address}."""
        name = await self._name_of(partial(_v2_name_of, address))
        return (await self.find(name or address, None)).account

    def add_with_address(self, account: Account, password_hash: str, address: str) -> None:
        """See L{IAddressAdmin.add_with_address}."""
        statements: list[Statement] = [(self._table.add, self._values(account, password_hash))]
        if address != account.name:
            statements.append((_ADD_ADDRESS, (address, account.name)))
        self._insert(statements, f"{account.name} or {address}")

    def renew_hash(self, name: str, old: str, new: str) -> bool:
        """See L{IRenewsHashes.renew_hash}."""
        try:
            return self._write(_RENEW, (new, int(self.clock()), name, old)).affected > 0
        except DatabaseFailed as error:
            raise self._failed(error) from None


def _login_of(address: str, client: Client, until: float) -> str | None:
    """In a thread: whose an address is; None when it is nobody's.  Letters may be large or small, no more."""
    query = sql_queries.parse("SELECT login, mail FROM user WHERE mail = %s")
    given = {"user": address, "local_part": "", "domain": "", "serverhost": ""}
    rows = client.select(query.sql, query.values(given), until).rows
    found = [_text(login) for login, mail in rows if _text(mail).lower() == address.lower()]
    if len(found) > 1:
        raise ValueError("the table has more than one row for this address")
    return found[0] if found else None


def _v2_name_of(address: str, client: Client, until: float) -> str | None:
    """The same for schema v2, whose addresses are canonical."""
    sql = "SELECT u.name FROM tpops_address a JOIN tpops_user u ON u.id = a.user WHERE a.address = %s"
    rows = client.select(sql, (address,), until).rows
    return str(rows[0][0]) if rows else None


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def open_accounts(name: str, means: Means, **settings: Any) -> MySQLAccounts:
    """The accounts of a database, with a way to change them where their tables are known."""
    kinds = {"tpops-classic": ClassicAccounts, "tpops-v2": V2Accounts}
    return kinds.get(settings["preset"], MySQLAccounts)(name, means, **settings)
