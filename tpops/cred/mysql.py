"""
Accounts in MySQL or MariaDB.

Purpose: whoever has his users in a database serves them from there, with a ready-made query or his own (see
tpops.cred.sql_presets, tpops.cred.sql_queries and tpops.cred.sql_rows).  A login is one query; a server that does not
answer is passed over for the next of the list, and nobody waits longer than the time limit (see tpops.db.mysql,
tpops.db.mysql_pool).
Limits: accounts are not listed; what their passwords are good for is said in the configuration.
Errors: whatever goes wrong in the database is LookupUnavailable, more than one row for a name too.
"""

from __future__ import annotations

import secrets as random
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer

from tpops.cred import schemes, sql_queries
from tpops.cred.password_file import read_secret
from tpops.cred.source import LookupSource, Means, Record
from tpops.cred.sql_presets import PRESETS, Preset
from tpops.cred.sql_queries import Query
from tpops.cred.sql_rows import Rows, meanings
from tpops.db.mysql import Client, DatabaseFailed
from tpops.db.mysql_pool import Pool
from tpops.db.mysql_servers import Access, Line, Server, access_of
from tpops.errors import ConfigError, LookupUnavailable, UnknownUser
from tpops.interfaces import IAccounts
from tpops.model import Peer

#: Server's error numbers that an operator can do something about.
_HINTS = {
    1044: "grant the user SELECT on the database",
    1045: "the user or the password is wrong, or the user may not come from this machine",
    1142: "grant the user SELECT on the table",
    1146: "the database has not the tables of the preset",
    1054: 'the tables are not those of the preset; "tpops db upgrade" makes those of an older tpops new',
}

#: What stored passwords can prove, by the word of the configuration.
_SECRETS: dict[str, tuple[frozenset[str], ...]] = {
    "plain": (schemes.serves("PLAIN"),),
    "hashed": (schemes.NOTHING,),
    "mixed": (schemes.serves("PLAIN"), schemes.NOTHING),
    "cram-md5": (schemes.serves("CRAM-MD5"),),
    "scram-sha-1": (schemes.serves("SCRAM-SHA-1"),),
    "scram-sha-256": (schemes.serves("SCRAM-SHA-256"),),
}


@attrs.frozen(kw_only=True)
class Settings:
    """The keys of the configuration (tpops.config.accounts.sql)."""

    servers: Sequence[str]
    user: str
    password: str = attrs.field(repr=False)
    password_file: str
    database: str
    tls: str
    tls_ca: str
    tls_certificate: str
    tls_key: str
    timeout_seconds: float
    connections: int
    preset: str
    query: str
    queries: Sequence[str]
    columns: Sequence[str]
    password_scheme: str
    secrets: str
    maildrop_base: str

    def access(self) -> Access:
        """How to get into the database, but for the password in a file."""
        return access_of(
            self.servers,
            self.tls,
            user=self.user,
            password=self.password,
            database=self.database,
            tls_ca=self.tls_ca,
            tls_certificate=self.tls_certificate,
            tls_key=self.tls_key,
            timeout_seconds=self.timeout_seconds,
        )

    def asks(self) -> Preset:
        """The queries, and what goes with them."""
        if self.preset:
            return PRESETS[self.preset]
        return Preset((self.query,) if self.query else tuple(self.queries))


@implementer(IAccounts)
class MySQLAccounts(LookupSource):
    """
    Accounts of one database.

    @ivar settings: the keys of the configuration, by name
    @ivar password_scheme: what passwords without "{SCHEME}" are
    """

    def __init__(self, name: str, means: Means, **settings: Any) -> None:
        super().__init__(name, means)
        self._means = means
        self._pool: Pool | None = None
        self.settings = Settings(**settings)
        asks = self.settings.asks()
        self._needs_domain = asks.needs_domain
        self._queries = tuple(self._parsed(one) for one in asks.queries)
        self.password_scheme = self.settings.password_scheme
        if self.password_scheme == "preset":  # noqa: S105  # no password
            self.password_scheme = asks.password_scheme
        self._rows = Rows(
            name,
            means.split,
            exact=bool(self.settings.preset),
            scheme=self.password_scheme,
            base=self.settings.maildrop_base,
            positions=tuple(self.settings.columns),
        )

    def mechanisms(self) -> Iterable[frozenset[str]]:
        """See L{Source.mechanisms}: what the configuration says, for all."""
        secrets = self.settings.secrets
        if secrets == "auto":
            secrets = "plain" if self.password_scheme == "plain" else "hashed"  # noqa: S105  # no passwords
        return _SECRETS[secrets]

    def start(self) -> None:
        """See L{Source.start}."""
        self._pool = Pool(self.access(), self.settings.connections, self._means.reactor)
        self._pool.start()

    def stop(self) -> Deferred[None] | None:
        """See L{Source.stop}."""
        if self._pool is not None:
            self._pool.stop()
        return None

    async def find(self, name: str, peer: Peer | None) -> Record:
        """See L{LookupSource.find}."""
        local_part, domain = self._means.split(name)
        if self._needs_domain and not domain:
            raise UnknownUser(f"{self.name} has names with a domain only")
        given = {
            "user": name,
            "local_part": local_part,
            "domain": domain,
            "serverhost": peer.local_host if peer else "",
        }
        if self._pool is None:
            raise LookupUnavailable(f"accounts source {self.name} is not started")
        try:
            record = await self._pool.run(partial(self._look_up, name, given))
        except (DatabaseFailed, ValueError) as error:
            raise LookupUnavailable(f"accounts source {self.name}: {error}") from None
        if record is None:
            raise UnknownUser(f"not in {self.name}")
        return record

    def check(self) -> list[str]:
        """See L{Source.check}: every server is asked for somebody who does not exist."""
        try:
            access = self.access()
        except ConfigError as error:
            return list(error.problems)
        problems = [problem for server in access.servers for problem in self._check_server(access, server)]
        return [f"accounts source {self.name}: {problem}" for problem in problems]

    def _parsed(self, template: str) -> Query:
        try:
            return sql_queries.parse(template)
        except ValueError as error:
            raise ConfigError([f"accounts source {self.name}: the query {error}"]) from None

    def access(self) -> Access:
        """
        How to get into the database, with the password.

        @raise ConfigError: when the file with the password cannot be used
        """
        access, path = self.settings.access(), self.settings.password_file
        if not path:
            return access
        return attrs.evolve(access, password=read_secret(path, f"accounts source {self.name}: password_file"))

    def _look_up(self, name: str, given: Mapping[str, str], client: Client, until: float) -> Record | None:
        """In a thread: the record of a name, None when there is none."""
        for query in self._queries:
            answer = client.select(query.sql, query.values(given), until)
            if len(answer.rows) > 1:
                raise ValueError("the query gives more than one row for this name")
            if answer.rows:
                return self._rows.record(name, answer.columns, answer.rows[0])
        return None

    def _check_server(self, access: Access, server: Server) -> list[str]:
        """What is wrong with one server."""
        nobody = f"check-{random.token_hex(8)}"
        given = {"user": f"{nobody}@invalid", "local_part": nobody, "domain": "invalid", "serverhost": "127.0.0.1"}
        client = Client(attrs.evolve(access, servers=(server,)), Line((server,), self._means.seconds))
        try:
            for query in self._queries:
                answer = client.select(query.sql, query.values(given))
                if answer.rows:
                    return [f"{server}: the query gives an account for a name that does not exist"]
                meanings(answer.columns, self._rows.positions)
        except DatabaseFailed as error:
            hint = _HINTS.get(error.number)
            return [f"{error}; {hint}" if hint else str(error)]
        except ValueError as error:
            return [f"{server}: {error}"]
        finally:
            client.close()
        return []
