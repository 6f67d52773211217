"""Lookup tables about POP before SMTP, asked by Postfix' own programs."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

from tests.integration.relay_case import OWN, RelayCase, make_server, postfix
from tests.integration.server import PATIENCE_SECONDS, RunningServer, wait_until
from tests.support import need
from tpops.db.relay import Login
from tpops.db.relay_sqlite import SQLiteRelayStore
from tpops.postfix.map_file import MapFailed, MapFile

JOE = "joe@example.org"
HERE = "127.0.0.5"


class TableCase(RelayCase):
    """A tpops of the test's own."""

    skip = RelayCase.skip or need(None, "postmap")
    asked = OWN

    def look_up(self, table: str, key: str) -> str | None:
        """What Postfix finds in a table; None where the key is not there."""
        done = subprocess.run(
            ["postmap", "-c", str(postfix().directory), "-q", key, table],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        self.assertEqual(done.stderr, "")
        return done.stdout.rstrip("\n") if done.returncode == 0 else None

    def start(self, **settings: Any) -> RunningServer:
        """A server; postmap finds the configuration of the tests' Postfix."""
        server = make_server(self, OWN, policy=[], **settings)
        return server.start(env={**os.environ, "MAIL_CONFIG": str(postfix().directory)})


class ServedTests(TableCase):
    """socketmap and tcp_table."""

    def make_server(self) -> RunningServer:
        with contextlib.ExitStack() as stack:
            probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
            self.ports = [probe.getsockname()[1] for probe in probes]
        places = [f"127.0.0.1:{port}" for port in self.ports]
        return self.start(socketmap=places[:1], tcp_table=places[1:], action="OK after POP")

    def test_tables_of_postfix(self) -> None:
        """Address and sender together, or the address for what may send as anybody."""
        self.may("joe", JOE)
        self.log_in("joe", HERE)
        for table in (f"socketmap:inet:127.0.0.1:{self.ports[0]}:relay", f"tcp:127.0.0.1:{self.ports[1]}"):
            self.assertEqual(self.look_up(table, f"{HERE} {JOE}"), "OK after POP", table)
            for key in (f"{HERE} ann@example.org", f"127.0.0.6 {JOE}", HERE, "example.org"):
                self.assertIsNone(self.look_up(table, key), (table, key))
        self.rule("127.0.0.0/24")
        for table in (f"socketmap:inet:127.0.0.1:{self.ports[0]}:relay", f"tcp:127.0.0.1:{self.ports[1]}"):
            self.assertEqual(self.look_up(table, HERE), "OK after POP", table)


class MapTests(TableCase):
    """Tables in files, made by postmap."""

    kinds = ("hash", "btree", "cdb", "lmdb", "texthash")

    def make_server(self) -> RunningServer:
        return make_server(self, OWN)

    def setUp(self) -> None:
        self.server = self.make_server()

    def started(self, kind: str, **settings: Any) -> str:
        """A server that makes a table of this kind."""
        self.table = f"{kind}:{self.server.directory}/{kind}-map"
        self.server = self.start(map=self.table, map_seconds=1, path=f"{kind}.sqlite", **settings)
        self.wait_made(kind)
        return self.table

    def wait_found(self, key: str, wanted: str | None) -> None:
        """Until Postfix finds it."""
        wait_until(lambda: self.look_up(self.table, key) == wanted, f"{key} in {self.table}")

    def test_every_kind(self) -> None:
        """What postmap makes is found, changed and emptied, by whoever was first."""
        self.server.directory.mkdir(exist_ok=True)
        path = str(self.server.directory / "kinds.sqlite")
        self.configure_postmap(postfix().directory)
        store = SQLiteRelayStore(path, 1800)
        self.addCleanup(store.close)
        store.make()
        for kind in self.kinds:
            self.table = f"{kind}:{self.server.directory}/{kind}-map"
            first, second = (MapFile(self.table, lambda: SQLiteRelayStore(path, 1800), True, "OK") for _ in range(2))
            store.forget(HERE, None)
            first.refresh()
            self.assertIsNone(self.look_up(self.table, HERE), kind)
            store.record([Login(HERE, "joe", int(time.time())), Login("2001:db8::/64", "joe", int(time.time()))])
            second.refresh()
            self.assertIsNone(self.look_up(self.table, HERE), kind)
            first.refresh()
            self.assertEqual(self.look_up(self.table, HERE), "OK", kind)
            first.close()
            self.assertIsNone(self.look_up(self.table, HERE), kind)
            second.refresh()
            self.assertEqual(self.look_up(self.table, HERE), "OK", kind)
            second.close()

    def configure_postmap(self, directory: Path) -> None:
        """Where the programs of Postfix that this process starts find their configuration."""
        os.environ["MAIL_CONFIG"] = str(directory)
        self.addCleanup(os.environ.pop, "MAIL_CONFIG", None)

    def test_what_cannot_be_made(self) -> None:
        """It is told why, and that the old one stays."""
        place = self.server.directory / "place"
        store = partial(SQLiteRelayStore, str(self.server.directory / "kinds.sqlite"), 1800)
        store().make()
        with self.assertRaisesRegex(MapFailed, "cannot make .*/place/map.lock: No such file or directory"):
            MapFile(f"hash:{place}/map", store, True, "OK").refresh()
        self.configure_postmap(place)
        with self.assertRaisesRegex(MapFailed, "cannot make .*map.db: postmap: fatal: .*; it stays as it is"):
            MapFile(f"hash:{self.server.directory}/map", store, True, "OK").refresh()

    def wait_made(self, kind: str) -> None:
        """Until the table is there for the first time."""
        ending = {"cdb": ".cdb", "lmdb": ".lmdb", "texthash": ""}.get(kind, ".db")
        path = Path(self.table.partition(":")[2] + ending)
        wait_until(path.exists, str(path))

    def test_where_the_sender_matters(self) -> None:
        """Addresses alone for which a rule allows any sender."""
        self.started("hash")
        self.may("joe", JOE)
        self.rule("127.0.0.0/29")
        self.rule("127.0.0.6", None, 0)
        for source in (HERE, "127.0.0.6", "127.0.0.9"):
            self.log_in("joe", source)
        self.wait_found(HERE, "OK")
        self.assertIsNone(self.look_up(self.table, "127.0.0.6"))
        self.assertIsNone(self.look_up(self.table, "127.0.0.9"))

    def test_store_that_breaks(self) -> None:
        """The table becomes empty: nothing is allowed that cannot be known; it is said once."""
        self.started("cdb", match="address")
        self.log_in("joe", HERE)
        self.wait_found(HERE, "OK")
        for path in self.server.directory.glob("cdb.sqlite-*"):
            path.unlink()
        rubbish = self.server.directory / "rubbish"
        rubbish.write_bytes(b"rubbish " * 4096)
        rubbish.rename(self.database)
        self.wait_found(HERE, None)
        wait_until(lambda: "is empty: cannot use" in self.server.output(), "it is said")

    def test_stop_leaves_nothing_open(self) -> None:
        """When the server has stopped, nobody is in the table."""
        self.started("hash", match="address")
        self.log_in("joe", HERE)
        self.wait_found(HERE, "OK")
        self.server.stop(signal.SIGTERM)
        self.assertIsNone(self.look_up(self.table, HERE))
        leftovers = [one.name for one in self.server.directory.iterdir() if one.name.startswith(".tpops-")]
        self.assertEqual(leftovers, [])
