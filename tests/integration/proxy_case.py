"""What the tests of maildrops on another server share: a Dovecot, a tpops in front of it."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import dovecot
from tests.integration.server import RunningServer
from tests.integration.wire import Wire

#: A message with all that may go wrong on the way: dots, 8-bit octets, no line end.
TRICKY = b"Subject: dots\n\n.\n..two\n...\n\xff\xfe caf\xc3\xa9\n.\nno line end."


def wire_form(message: bytes) -> bytes:
    """A message with CRLF line ends, the last line included."""
    text = message.replace(b"\n", b"\r\n")
    return text if text.endswith(b"\r\n") else text + b"\r\n"


def unstuffed(body: bytes) -> bytes:
    """What a client makes of the lines of a multi-line reply."""
    return b"".join(line[1:] if line.startswith(b".") else line for line in body.splitlines(keepends=True))


class ProxyCase(SynchronousTestCase):
    """
    A Dovecot that is there for the whole run.

    @ivar dovecot: the server with the mail
    """

    timeout = 240
    skip = dovecot.missing()

    def setUp(self) -> None:
        """Each test makes users of its own."""
        self.dovecot = dovecot.shared()

    def asking(self, **tables: Any) -> RunningServer:
        """A tpops without accounts of its own."""
        server = self.front(**tables)
        server.configuration["accounts"] = [{"driver": "proxy", **tables.get("asking", {})}]
        return server.start()

    def behind(self, *lines: str, **tables: Any) -> RunningServer:
        """A tpops with accounts of its own, lines of a passwd-file, and the mail on the other server."""
        server = self.front(**tables)
        (server.directory / "users").write_text("".join(line + "\n" for line in lines))
        (server.directory / "users").chmod(0o600)
        server.configuration["mail"] = {"location": "proxy:"}
        return server.start()

    def front(self, **tables: Any) -> RunningServer:
        """A tpops that is not started yet."""
        port = self.dovecot.tls_port if tables.get("proxy", {}).get("tls") == "implicit" else self.dovecot.port
        proxy = {"server": f"127.0.0.1:{port}", "tls": "off", **tables.pop("proxy", {})}
        protocol = {"auth_delay_seconds": 0, "auth_delay_max_seconds": 0, **tables.pop("protocol", {})}
        tables.pop("asking", None)
        return RunningServer(self, users={}, proxy=proxy, protocol=protocol, **tables)

    def answer(self, server: RunningServer, user: str, password: str = "secret") -> bytes:
        """What a client gets for name and password, on a connection of its own."""
        wire = server.connect()
        self.assertTrue(wire.line().startswith(b"+OK"))
        wire.command(b"USER " + user.encode())
        answer = wire.command(b"PASS " + password.encode())
        wire.close()
        return answer

    def in_session(self, server: RunningServer, user: str, password: str = "secret") -> Wire:
        """A client that has logged in."""
        return server.session(user, password)
