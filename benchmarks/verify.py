"""Fetches mail over a socket and compares every octet with what the mail maker wrote.

Apart from the load generator on purpose: that one counts fast, this one looks.
"""

from __future__ import annotations

import socket
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.mail import digest


class Refused(Exception):
    """The server answered -ERR, or left."""


@dataclass
class Findings:
    """What came of fetching a set of mail."""

    messages: int = 0
    octets: int = 0
    true_octets: int = 0
    announced_wrong: int = 0
    content_wrong: int = 0
    first_problem: str = ""

    def note(self, problem: str) -> None:
        """Keep the first problem's text."""
        self.first_problem = self.first_problem or problem


class Client:
    """The few commands that are needed, one at a time."""

    def __init__(self, port: int, timeout_seconds: float = 30.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout_seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pending = b""
        self._status()

    def close(self) -> None:
        """Leave."""
        self.socket.close()

    def _until(self, end: bytes) -> bytes:
        """Everything up to and with `end`."""
        have = bytearray(self.pending)
        searched = 0
        while (at := have.find(end, searched)) < 0:
            searched = max(0, len(have) - len(end))
            data = self.socket.recv(1 << 18)
            if not data:
                raise Refused(f"the server closed after {bytes(have[-60:])!r}")
            have += data
        self.pending = bytes(have[at + len(end) :])
        return bytes(have[: at + len(end)])

    def _status(self) -> bytes:
        line = self._until(b"\r\n")
        if not line.startswith(b"+OK"):
            raise Refused(repr(line))
        return line

    def ask(self, command: str) -> bytes:
        """One line of reply."""
        self.socket.sendall(command.encode() + b"\r\n")
        return self._status()

    def fetch(self, command: str) -> bytes:
        """A body, stuffing and final dot taken off."""
        self.ask(command)
        self.pending = b"\r\n" + self.pending  # so that the first line looks like any other
        body = self._until(b"\r\n.\r\n")[2:-3]
        return (b"\r\n" + body).replace(b"\r\n.", b"\r\n")[2:]


def _look_at_user(client: Client, user: str, book: dict[str, Any], findings: Findings) -> None:
    client.ask(f"USER {user}")
    client.ask(f"PASS pw{user[4:]}")
    announced = [line.split() for line in client.fetch("LIST").splitlines()]
    found: Counter[str] = Counter()
    for number, octets in announced:
        message = client.fetch(f"RETR {int(number)}")
        found[digest(message)] += 1
        findings.messages += 1
        findings.octets += len(message)
        if len(message) != int(octets):
            findings.announced_wrong += 1
            findings.note(f"{user} message {int(number)}: LIST says {int(octets)}, {len(message)} octets came")
    client.ask("QUIT")
    expected = Counter(book["digests"])
    strangers = sum((found - expected).values())
    findings.content_wrong += max(strangers, sum((expected - found).values()))
    if found != expected:
        findings.note(f"{user}: {strangers} messages are not those of the mail maker")


def verify(port: int, manifest: dict[str, Any]) -> dict[str, Any]:
    """Fetch every message of every user in the manifest of the small set."""
    findings = Findings()
    for user, book in manifest["users"].items():
        findings.true_octets += book["octets"]
        try:
            client = Client(port)
            try:
                _look_at_user(client, user, book, findings)
            finally:
                client.close()
        except (OSError, Refused) as problem:
            findings.content_wrong += book["messages"]
            findings.note(f"{user}: {problem}")
            if findings.content_wrong > 5 * len(book["digests"]):
                break
    return asdict(findings)
