"""Where LMTP listens: sockets and their owners, reloads, workers."""

from __future__ import annotations

import grp
import os
import pwd
import signal
import stat
from pathlib import Path

from tests.integration.lmtp_case import MESSAGE, LMTPTests, on_the_wire
from tests.integration.server import wait_until
from tests.integration.wire import Wire
from tests.support import need_root


class ListenerTests(LMTPTests):
    """Where it listens."""

    def test_socket_of_another_group(self) -> None:
        """Promise: the UNIX socket has the mode, user and group that are configured."""
        need_root(self, "what is tested")
        self.server.configuration["lmtp"] |= {"socket_mode": "0620", "socket_user": "daemon", "socket_group": "mail"}
        self.server.start()
        found = os.stat(self.path)
        self.assertEqual(stat.S_IMODE(found.st_mode), 0o620)
        self.assertEqual((found.st_uid, found.st_gid), (1, grp.getgrnam("mail").gr_gid))

    def test_reload(self) -> None:
        """Promise: HUP changes the limits for new connections; the socket stays, and a message on its way is taken."""
        self.server.start()
        idle = Wire.connect(self, self.path)
        self.assertEqual(idle.line()[:3], b"220")
        wire = self.wire("joe")
        inode = os.stat(self.path).st_ino
        self.server.configuration["lmtp"] |= {"message_octets": 50, "networks": ["192.0.2.0/24"]}
        self.server.write_configuration()
        os.kill(self.server.pid, signal.SIGHUP)
        wait_until(lambda: "reloaded" in self.server.output(), "the configuration is read again")
        self.assertEqual(idle.rest()[:9], b"421 4.3.2")
        wire.send(b"x" * 1000 + b"\r\n.\r\n")
        self.assertEqual([line[:9] for line in wire.rest().splitlines()], [b"250 2.1.5", b"421 4.3.2"])
        wire = self.wire("joe")
        wire.send(b"x" * 1000 + b"\r\n.\r\n")
        self.assertEqual(wire.line()[:9], b"552 5.3.4")
        self.assertEqual(Wire.connect(self, ("127.0.0.1", self.port)).rest()[:9], b"554 5.7.1")
        self.assertEqual(os.stat(self.path).st_ino, inode)

    def test_reload_without_rights(self) -> None:
        """Promise: HUP works, too, when the socket belongs to the MTA and the server has given up root's rights."""
        need_root(self, "what is tested")
        self.server.directory.chmod(0o755)
        self.server.configuration["server"]["user"] = "daemon"
        self.server.configuration["lmtp"] |= {"socket_mode": "0600", "socket_user": "postfix", "socket_group": "mail"}
        for folder, _, names in os.walk(self.server.directory):
            for path in (folder, *(os.path.join(folder, name) for name in names)):
                os.chown(path, pwd.getpwnam("daemon").pw_uid, -1)
        self.server.write_configuration()
        os.chown(self.server.configuration_file, pwd.getpwnam("daemon").pw_uid, -1)
        self.server.start()
        # Once it talks to clients, it listens to signals.
        self.client().close()
        os.kill(self.server.pid, signal.SIGHUP)
        wait_until(lambda: "reloaded" in self.server.output() or "reload-failed" in self.server.output(), "HUP")
        self.assertNotIn("reload-failed", self.server.output())
        with self.client() as client:
            client.sendmail("", ["joe"], on_the_wire(MESSAGE))
        self.assertEqual(len(self.server.names("joe")), 1)

    def test_workers(self) -> None:
        """Promise: several workers take mail at the same socket; HUP and the end of one refuse nobody."""
        self.server.configuration["server"]["workers"] = 2
        self.server.start()

        def deliver() -> None:
            for _ in range(10):
                with self.client() as client:
                    client.sendmail("", ["joe"], on_the_wire(MESSAGE))

        deliver()
        wire = self.wire("eva")
        former = set(self.server.workers())
        self.server.configuration["lmtp"]["over_quota"] = "defer"
        self.server.write_configuration()
        os.kill(self.server.pid, signal.SIGHUP)
        wait_until(lambda: "reloaded" in self.server.output(), "the configuration is read again")
        deliver()
        wire.send(on_the_wire(MESSAGE) + b".\r\n")
        self.assertEqual(wire.line()[:9], b"250 2.1.5")
        wait_until(lambda: not former & set(self.server.workers()), "the former workers end")
        deliver()
        self.assertEqual((len(self.server.names("joe")), len(self.server.names("eva"))), (30, 1))
        wire = self.wire("full")
        wire.send(on_the_wire(MESSAGE) + b".\r\n")
        self.assertEqual(wire.line()[:9], b"452 4.2.2")
        self.server.stop()
        self.assertFalse(Path(self.path).exists())

    def test_unknown_group(self) -> None:
        """Promise: a group that is not there stops the start, and is named."""
        self.server.configuration["lmtp"]["socket_group"] = "no-such-group"
        self.assertIn(
            "lmtp.socket_group: there is no group 'no-such-group' on this machine", self.server.refuses_to_start()
        )

    def test_other_machines(self) -> None:
        """Promise: a port that others get to is a warning, for there is no password; others are refused."""
        self.server.configuration["lmtp"] |= {"listen": ["0.0.0.0:0"], "networks": ["192.0.2.0/24"]}
        self.server.start()
        self.assertIn("LMTP has no password; lmtp.networks (192.0.2.0/24) says who may deliver", self.server.output())
        wire = Wire.connect(self, ("127.0.0.1", self.port))
        self.assertEqual(wire.rest()[:9], b"554 5.7.1")
        self.assertIn("greeting-refused", self.server.output())

    def test_off(self) -> None:
        """Promise: without `listen` there is no LMTP, and keys without it are a mistake that is told."""
        self.server.configuration["lmtp"] = {"recipients": 5}
        self.assertIn("lmtp has recipients, which means nothing without listen", self.server.refuses_to_start())
        del self.server.configuration["lmtp"]
        self.server.start()
        self.assertEqual(len(self.server.ready()), 1)
