"""
A session of which a transcript is kept, for debugging, without secrets.

Purpose: tells each command and the first line of each answer; a class of its own, so that other sessions pay nothing.
Limits: what could be a secret, or somebody's mail, is left out: passwords, digests, SASL exchanges, lines that are no
commands (a password may come in the wrong place), messages and listings; of these only how many octets they had.
"""

from __future__ import annotations

from tpops.protocol.commands import COMMANDS
from tpops.server.pop3 import POP3Server


class TranscribedServer(POP3Server):
    """See the module."""

    transcribed = True

    _first = True

    def lineReceived(self, line: bytes) -> None:
        """Tell, then handle."""
        self._first = True
        self._tell(f"C: {_command(line, self.conversation.longest_line is not None)}")
        super().lineReceived(line)

    def send(self, octets: bytes) -> None:
        """Tell, then send."""
        if octets and not self.gone:
            if self._first:
                line, _, rest = octets.partition(b"\r\n")
                if line.startswith(b"+ "):
                    line, rest = b"+", octets[2:]
                more = f" (and {len(rest)} octets)" if rest else ""
                self._tell(f"S: {line.decode('utf-8', 'backslashreplace')}{more}")
                self._first = False
            else:
                self._tell(f"S: ({len(octets)} octets)")
        super().send(octets)

    def _tell(self, text: str) -> None:
        transcript = self.shared.transcript
        if transcript is not None:
            transcript.tell(self.session.peer.session, text)


def _command(line: bytes, exchange: bool) -> str:
    """A client's line, without what may be secret."""
    verb, _, rest = line.partition(b" ")
    if exchange or verb.upper() not in COMMANDS:
        return f"({'SASL response' if exchange else 'no command'}, {len(line)} octets)"
    name = verb.upper().decode("ascii")
    if name == "PASS":
        return "PASS (hidden)"
    if name in ("USER", "APOP", "AUTH"):
        first, space, _ = rest.partition(b" ")
        return f"{name} {first.decode('utf-8', 'backslashreplace')}{' (hidden)' if space else ''}"
    return line.decode("utf-8", "backslashreplace")
