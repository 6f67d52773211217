"""What tests of the status page share."""

from __future__ import annotations

import http.client
import json
import socket
import urllib.parse
from email.message import Message
from pathlib import Path
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from tests.integration.server import PASSWORD, PATIENCE_SECONDS, USER, RunningServer, temporary
from tests.integration.wire import Wire

TOKEN = "f3b1c4d5e6a7b8c9d0e1f2a3"

#: A name that would be markup.
HOSTILE = "<img src=x onerror=document.title='broken'>"


@attrs.frozen
class Answer:
    """What a request gets."""

    status: int
    headers: Message
    body: bytes

    @property
    def text(self) -> str:
        """The body."""
        return self.body.decode()


def token_file(directory: Path) -> Path:
    """A file with the token."""
    path = directory / "token"
    path.touch(0o600)
    path.write_text(f"{TOKEN}\n")
    return path


class StatusCase(SynchronousTestCase):
    """Servers with a status page, and requests."""

    timeout = 240

    def server(self, workers: int = 1, users: dict[str, str] | None = None, **tables: Any) -> RunningServer:
        """One that runs."""
        directory = temporary(self)
        token_file(directory)
        status = {"listen": "127.0.0.1:0", "token_file": "token", **tables.pop("status", {})}
        protocol = {"auth_delay_seconds": 0.05, "auth_delay_max_seconds": 0.1}
        users = users or {USER: PASSWORD, "ann": PASSWORD}
        server = RunningServer(
            self, directory, users=users, server={"workers": workers}, status=status, protocol=protocol, **tables
        )
        return server.start()

    def place(self, server: RunningServer) -> tuple[str, int]:
        """Where the page is."""
        host, _, port = server.ready()[-1].rpartition(":")
        return host, int(port)

    def ask(
        self, server: RunningServer, path: str = "/", method: str = "GET", body: str | None = None, **headers: str
    ) -> Answer:
        """The answer to a request; C{_} in the name of a header is C{-}."""
        connection = http.client.HTTPConnection(*self.place(server), timeout=PATIENCE_SECONDS)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            sent.setdefault("Content-Type", "application/x-www-form-urlencoded")
        try:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def log_in(self, server: RunningServer, token: str = TOKEN, **headers: str) -> Answer:
        """Send the form."""
        return self.ask(server, "/login", "POST", urllib.parse.urlencode({"token": token}), **headers)

    def data(self, server: RunningServer) -> dict[str, Any]:
        """What the page shows."""
        answer = self.ask(server, "/data", Authorization=f"Bearer {TOKEN}")
        self.assertEqual(answer.status, 200, answer.text)
        found: dict[str, Any] = json.loads(answer.body)
        return found

    def raw(self, server: RunningServer) -> socket.socket:
        """A connection."""
        connected = socket.create_connection(self.place(server), PATIENCE_SECONDS)
        self.addCleanup(connected.close)
        return connected

    def guess(self, server: RunningServer, name: str = HOSTILE) -> Wire:
        """A failed login whose connection stays."""
        wire = server.connect()
        wire.line()
        wire.command(f"USER {name}".encode())
        self.assertTrue(wire.command(b"PASS wrong").startswith(b"-ERR"))
        return wire
