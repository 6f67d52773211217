"""POP before SMTP in the running server: what is made from a configuration, used, and let go."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

from tests.events.samples import session
from tpops.config.load import load
from tpops.config.schema import Config
from tpops.db.relay import Contents, Login, Sender
from tpops.db.relay_sqlite import SQLiteRelayStore
from tpops.errors import ConfigError
from tpops.model import Event
from tpops.postfix import stores
from tpops.postfix.service import RelayService

JOE = "joe@example.org"
_REQUEST = f"request=smtpd_access_policy\nclient_address=192.0.2.7\nsender={JOE}\n\n".encode()
_ALL = 'policy = ["unix:p"]\nsocketmap = ["127.0.0.1:10041"]\ntcp_table = ["[::1]:10042"]\n'


class ServiceCase(TestCase):
    """A configuration with a store in a directory of the test's own."""

    timeout = 60

    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        os.mkdir(self.directory)
        self.logged: list[LogEvent] = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)

    def configuration(self, keys: str, tables: str = "") -> Config:
        """With these keys of [pop_before_smtp]."""
        path = Path(self.directory, "tpops.toml")
        path.write_text(f'[server]\nstate_dir = "."\n[pop_before_smtp]\n{keys}\n{tables}')
        return load(str(path)).config

    def service(self, keys: str, store: str = "sqlite") -> RelayService:
        """A service that is stopped when the test ends."""
        made = RelayService(self.configuration(f'store = "{store}"\n{keys}'), reactor)
        self.addCleanup(lambda: Deferred.fromCoroutine(made.stop()))
        return made

    def store(self) -> SQLiteRelayStore:
        """The same store."""
        store = SQLiteRelayStore(os.path.join(self.directory, "pbs.sqlite"), 1800)
        self.addCleanup(store.close)
        return store

    def damage(self) -> None:
        """Put rubbish in place of the store."""
        Path(self.directory, "pbs.sqlite").write_bytes(b"rubbish " * 1000)

    def table(self) -> str:
        """What is in the lookup table."""
        path = Path(self.directory, "relay")
        return path.read_text() if path.exists() else ""

    def problems(self) -> list[str]:
        """What has gone wrong, as the log says it."""
        return [str(entry.get("why")) for entry in self.logged if entry.get("event") == "relaying-failed"]

    async def wait(self, condition: Any) -> None:
        """Until that is so."""
        while not condition():
            await deferLater(reactor, 0.01, lambda: None)  # type: ignore[arg-type]


class ServedTests(ServiceCase):
    """Writing and answering."""

    async def test_login_is_written_and_known_everywhere(self) -> None:
        """All three protocols answer from the same store."""
        self.store().put(Contents(senders=[Sender("joe", JOE, 1)]))
        service = self.service(_ALL)
        service.start()
        listeners = list(service.listeners())
        self.assertEqual(
            [str(one) for one, _ in listeners], [f"unix:{self.directory}/p", "127.0.0.1:10041", "[::1]:10042"]
        )
        facts = session(user="joe")
        facts.peer = attrs.evolve(facts.peer, host="192.0.2.7")
        written = service.sink.notify(Event("login", time.time(), facts))
        assert written is not None
        await written
        key = f"192.0.2.7 {JOE}".encode()
        for (_, factory), question, answer in zip(
            listeners,
            (_REQUEST, b"%d:r %s," % (len(key) + 2, key), b"get %s\n" % key),
            (b"action=OK\n\n", b"5:OK OK,", b"200 OK\n"),
            strict=True,
        ):
            protocol: Any = factory.buildProtocol(None)  # type: ignore[arg-type]
            transport = StringTransport()
            protocol.makeConnection(transport)
            protocol.dataReceived(question)
            self.assertEqual(transport.value(), answer)
            service.drain()
            self.assertTrue(transport.disconnecting)

    async def test_what_has_expired_goes_by_itself(self) -> None:
        """Nobody has to do anything for it; the store is made where it is missing."""
        self.store().record([Login("192.0.2.7", "joe", 5)])
        service = self.service("")
        service.start()
        await self.wait(lambda: self.store().purge() == 0)
        self.assertEqual(self.problems(), [])

    async def test_store_that_cannot_be_used(self) -> None:
        """It is told, and nothing ends of it."""
        self.damage()
        service = self.service("")
        service.start()
        await self.wait(self.problems)
        self.assertIn("file is not a database", self.problems()[0])

    async def test_table_in_a_file(self) -> None:
        """Made, changed, and left empty; what is wrong with it is told once."""
        self.store().record([Login("192.0.2.7", "joe", int(time.time()))])
        service = self.service('map = "texthash:relay"\nmap_seconds = 1\nmatch = "address"\n')
        service.start()
        await self.wait(self.table)
        self.assertEqual(self.table(), "192.0.2.7\tOK\n")
        await service.stop()
        self.assertEqual(self.table(), "")

    async def test_table_that_cannot_be_made(self) -> None:
        """The same problem is told once."""
        service = self.service('map = "texthash:no/such/relay"\nmap_seconds = 1\n')
        service.start()
        await self.wait(self.problems)
        service._mapping.stop()
        await service._refresh_map()
        self.assertEqual(len(self.problems()), 1)
        self.assertIn("cannot make", self.problems()[0])

    def test_unknown_group(self) -> None:
        """Said when the sockets are wanted."""
        service = self.service('policy = ["unix:p"]\nsocket_group = "no-such-group"')
        with self.assertRaises(ConfigError) as raised:
            list(service.listeners())
        self.assertIn("there is no group no-such-group", raised.exception.problems[0])


class MySQLTests(ServiceCase):
    """A database server that is not there."""

    tables = '[pop_before_smtp_mysql]\nservers = ["127.0.0.1:1"]\ntimeout_seconds = 2\n'

    async def test_nobody_may_and_nothing_hangs(self) -> None:
        """The answer is DUNNO, the failures are told."""
        config = self.configuration('store = "mysql"\npolicy = ["unix:p"]', self.tables)
        service = RelayService(config, reactor)
        service.start()
        ((_, factory),) = service.listeners()
        protocol: Any = factory.buildProtocol(None)  # type: ignore[arg-type]
        transport = StringTransport()
        protocol.makeConnection(transport)
        protocol.dataReceived(_REQUEST)
        await self.wait(transport.value)
        self.assertEqual(transport.value(), b"action=DUNNO\n\n")
        await service.stop()
        self.assertIn("127.0.0.1:1", self.problems()[0])

    def test_access(self) -> None:
        """The own table, else that of mail and accounts; nowhere is an error."""
        text = 'store = "mysql"'
        there = stores.access(self.configuration(text, self.tables))
        self.assertEqual([str(one) for one in there.servers], ["127.0.0.1:1"])
        there = stores.access(self.configuration(text, '[mysql]\nservers = ["127.0.0.1:2"]\n'))
        self.assertEqual([str(one) for one in there.servers], ["127.0.0.1:2"])
        with self.assertRaises(ConfigError):
            stores.access(self.configuration(text))

    def test_password_file(self) -> None:
        """Read when it is needed."""
        secret = Path(self.directory, "secret")
        secret.touch(0o600)
        secret.write_text("word\n")
        there = stores.access(self.configuration('store = "mysql"', self.tables + 'password_file = "secret"\n'))
        self.assertEqual(there.password, "word")
