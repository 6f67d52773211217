"""Sockets that systemd has opened, and the listeners that get them."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile

from twisted.trial.unittest import SynchronousTestCase

from tpops.errors import ConfigError
from tpops.process.activation import take
from tpops.process.sockets import Sockets, match
from tpops.server.listeners import Listener


class ActivationTests(SynchronousTestCase):
    """Without systemd."""

    def listening(self, address: str = "127.0.0.1") -> socket.socket:
        """A listening socket."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        opened = socket.create_server((address, 0), family=family)
        self.addCleanup(opened.close)
        return opened

    def unix(self) -> tuple[socket.socket, str]:
        """A listening UNIX socket, and its path."""
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        path = os.path.join(directory, "pop3")
        opened = socket.socket(socket.AF_UNIX)
        self.addCleanup(opened.close)
        opened.bind(path)
        opened.listen()
        return opened, path

    def environment(self, count: int = 1, names: str = "a", process: int = 0) -> dict[str, str]:
        """As systemd makes it."""
        return {"LISTEN_PID": str(process or os.getpid()), "LISTEN_FDS": str(count), "LISTEN_FDNAMES": names}

    def refused(self, call: object, *arguments: object) -> str:
        """The problems."""
        assert callable(call)
        return str(self.assertRaises(ConfigError, call, *arguments))

    def test_environment(self) -> None:
        """sd_listen_fds(3): descriptors with names; taken once, and no program that is started here gets them."""
        opened = self.listening()
        copy = os.dup(opened.fileno())
        os.set_inheritable(copy, True)
        environment = self.environment()
        ((taken, name),) = take(environment, copy).items()
        self.addCleanup(taken.close)
        self.assertEqual((taken.getsockname(), name), (opened.getsockname(), "a"))
        self.assertFalse(taken.get_inheritable())
        self.assertFalse(taken.getblocking())
        self.assertEqual(environment, {})
        self.assertEqual(take(environment), {})

    def test_another_process(self) -> None:
        """sd_listen_fds(3): LISTEN_PID says whose they are."""
        self.assertEqual(take(self.environment(process=1)), {})

    def test_what_is_no_listening_socket(self) -> None:
        """Promise: a datagram socket, a connection, a file and nothing at all are told apart."""
        ours, other = socket.socketpair()
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for one in (ours, other, datagrams):
            self.addCleanup(one.close)
        for one in (ours, datagrams):
            self.assertIn("does not listen: use ListenStream=", self.refused(take, self.environment(), one.fileno()))
        with open(os.devnull) as file:
            self.assertIn("(a), which is no socket", self.refused(take, self.environment(), file.fileno()))
        self.assertIn("which is not open", self.refused(take, self.environment(names=""), 9999))

    def test_by_address(self) -> None:
        """Promise: the listener with the same address and port, or path, gets it; others open their own."""
        four, six = self.listening(), self.listening("::1")
        unix, path = self.unix()
        wanted = [
            Listener("127.0.0.1", 0),
            Listener(f"unix:{path}"),
            Listener("::1", six.getsockname()[1]),
            Listener("127.0.0.1", four.getsockname()[1]),
        ]
        found = match({four: "x", six: "x", unix: ""}, wanted)
        self.assertEqual(list(found.values()), [unix, six, four])
        self.assertEqual(match({}, wanted), {})

    def test_by_name(self) -> None:
        """Promise: a name counts more than the address; where several have it, the address chooses."""
        one, two, three = self.listening(), self.listening(), self.listening("::1")
        given = {one: "a", two: "a", three: "b"}
        wanted = [
            Listener("0.0.0.0", 110, systemd_name="b"),
            Listener("127.0.0.1", two.getsockname()[1], systemd_name="a"),
            Listener("127.0.0.1", 111, systemd_name="a"),
        ]
        self.assertEqual(list(match(given, wanted).values()), [three, two, one])

    def test_what_does_not_match(self) -> None:
        """Promise: the error names the socket, and what would be right."""
        one = self.listening()
        where = f"127.0.0.1:{one.getsockname()[1]}"
        text = self.refused(match, {one: "a"}, [Listener("127.0.0.1", 110)])
        self.assertIn(f"systemd passes the socket {where} (a), and no listener has this address", text)
        self.assertIn("systemd_name", text)
        text = self.refused(match, {one: "a"}, [Listener("127.0.0.1", 110, systemd_name="b")])
        self.assertIn("systemd passes no socket 'b' for 127.0.0.1:110, but: a", text)
        text = self.refused(match, {one: "a"}, [Listener("unix:/run/x", systemd_name="a")])
        self.assertIn("no socket 'a' for unix:/run/x", text)

    def test_they_stay(self) -> None:
        """Promise: they are neither closed nor removed nor given other permissions, since systemd has them, too."""
        unix, path = self.unix()
        os.chmod(path, 0o600)
        sockets = Sockets({unix: "a"})
        sockets.keep(sockets.prepare([Listener(f"unix:{path}", mode=0o666)], None))
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        sockets.keep({})
        self.assertTrue(os.path.exists(path))
        self.assertGreaterEqual(unix.fileno(), 0)
