"""Every way to log in, with real clients: each is told by its options which one to use."""

from __future__ import annotations

import os
from pathlib import Path

from tests.integration import corpus
from tests.integration.clients import ClientCase
from tests.integration.server import PASSWORD, USER, temporary
from tests.support import need


class MechanismCase(ClientCase):
    """A server with one message."""

    messages = {"lf": corpus.ALL["lf"]}

    def check_refused(self, logins: int = 0) -> None:
        """Nobody got in but these, and the server knows that a password was wrong."""
        event = self.server.event("login-failed")
        self.assertIn("wrong password", event["detail"])
        self.assertEqual(len(self.server.events("login")), logins)


class CurlTests(MechanismCase):
    """curl, with and without an initial response."""

    skip = need(None, "curl")

    def curl(self, mechanism: str, *options: str, password: str = PASSWORD, statuses: tuple[int, ...] = (0,)) -> bytes:
        """Fetch the message; 67 is "login denied"."""
        url = f"pop3://127.0.0.1:{self.server.port}/1"
        command = ("curl", "-sS", "-u", f"{USER}:{password}", "--login-options", f"AUTH={mechanism}", *options, url)
        return self.run_client(*command, statuses=statuses)

    def check(self, mechanism: str) -> None:
        """The right password gets the mail, a wrong one nothing."""
        for options in ((), ("--sasl-ir",)):
            self.assertEqual(self.curl(mechanism, *options), corpus.wire(self.messages["lf"]))
        self.curl(mechanism, password="wrong", statuses=(67,))
        self.check_refused(logins=2)

    def test_login(self) -> None:
        """Promise: LOGIN works, also with the name on the command line."""
        self.check("LOGIN")


class MpopTests(MechanismCase):
    """mpop."""

    skip = need(None, "mpop")

    def poll(self, mechanism: str, password: str = PASSWORD, statuses: tuple[int, ...] = (0,)) -> list[Path]:
        """Fetch into a new Maildir; gives what is there then."""
        home = temporary(self)
        for part in ("tmp", "new", "cur"):
            (home / "Maildir" / part).mkdir(parents=True)
        settings = home / "mpoprc"
        settings.touch(0o600)
        settings.write_text(
            f'account default\nhost 127.0.0.1\nport {self.server.port}\nuser {USER}\npassword "{password}"\n'
            f"auth {mechanism}\ntls off\nkeep on\ndelivery maildir {home}/Maildir\nuidls_file {home}/uidls\n"
        )
        self.run_client("mpop", "-C", str(settings), "-q", env={**os.environ, "HOME": str(home)}, statuses=statuses)
        return list((home / "Maildir" / "new").iterdir())

    def check(self, mechanism: str) -> None:
        """The right password gets the mail, a wrong one nothing; 77 is EX_NOPERM."""
        self.assertEqual(len(self.poll(mechanism)), 1)
        self.assertEqual(self.poll(mechanism, password="wrong", statuses=(77,)), [])
        self.check_refused(logins=1)

    def test_login(self) -> None:
        """Promise: LOGIN works."""
        self.check("login")
