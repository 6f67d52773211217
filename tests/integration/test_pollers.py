"""
Mail programs that poll, as people run them from cron: fetchmail, mpop, getmail6.

What each of them is known to change is said in its class; everything else must arrive octet by octet.
"""

from __future__ import annotations

import os
import pwd
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from shutil import rmtree
from typing import Any

from tests.integration import corpus
from tests.integration.clients import ClientCase
from tests.integration.server import PASSWORD, USER, RunningServer, temporary
from tests.support import need

#: Header fields that clients put in.
_ADDED = re.compile(rb"^(Received|Delivered-To|X-Getmail-[-\w]+):.*\n([ \t].*\n)*", re.MULTILINE)


class PollingClients:
    """What a program that polls must do; subclasses say how it is started."""

    server: RunningServer
    messages: Mapping[str, bytes]

    def poll(self, delete: bool = False) -> None:
        """Fetch what is new."""
        raise NotImplementedError

    def fetched(self) -> list[bytes]:
        """Everything that was fetched since the test began."""
        raise NotImplementedError

    def changed(self, name: str, octets: bytes) -> bytes:
        """A message, with LF, as this client is known to store it."""
        return octets

    def check_fetched(self: Any) -> None:
        """Each message of the corpus was fetched once, as it is stored."""
        found = {}
        for octets in self.fetched():
            header, blank, body = octets.partition(b"\n\n")
            octets = _ADDED.sub(b"", header + blank[:1]) + blank[1:] + body
            found[corpus.subject(octets)] = octets
        self.assertEqual(set(found), set(self.messages))
        for name, octets in self.messages.items():
            expected = self.changed(name, corpus.text(octets))
            got = found[name]
            at = next((at for at, (one, two) in enumerate(zip(got, expected, strict=False)) if one != two), -1)
            self.assertTrue(got == expected, f"{name} at {at}: {got[max(0, at - 50) : at + 50]!r}")
        self.assertEqual(len(self.fetched()), len(self.messages))

    def test_mail_arrives_and_is_deleted(self: Any) -> None:
        """Promise: with the client's option, all of it, once it is fetched."""
        self.poll(delete=True)
        self.check_fetched()
        self.assertEqual(self.server.names(), set())
        event = self.server.event("disconnect", dele_count=len(self.messages))
        self.assertEqual(event["reason"], "quit")

    def test_only_new_mail_is_fetched_again(self: Any) -> None:
        """
        RFC 1939 section 7: unique-ids stay, so a second poll fetches nothing that was fetched; and nothing is deleted
        when nobody asks for it.
        """
        before = self.server.stored()
        self.poll()
        self.check_fetched()
        self.poll()
        self.assertTrue(self.server.stored() == before)
        for path in list(self.server.maildir(part="new").iterdir()):
            path.rename(self.server.maildir(part="cur") / f"{path.name}:2,S")
        self.poll()
        self.server.stop()
        (self.server.maildir() / "tpops_index").unlink()
        self.server.start()
        self.poll()
        self.check_fetched()
        self.server.deliver("0999.more.host", self.messages["lf"].replace(b"Subject: lf", b"Subject: more"))
        self.poll()
        self.assertEqual(len(self.fetched()), len(self.messages) + 1)


class FetchmailTests(PollingClients, ClientCase):
    """
    fetchmail, delivering to a program.

    Known: it adds Received, drops bare CR and adds the blank line behind a header.  Lines over its 8 KiB buffer get
    octets in between that nobody sent (6.4.37).
    """

    skip = need(None, "fetchmail")
    messages = {name: octets for name, octets in corpus.ALL.items() if name not in corpus.LONG}

    def setUp(self) -> None:
        """Its own home, with a program that takes the mail."""
        super().setUp()
        self.home = temporary(self)
        (self.home / "in").mkdir()
        program = self.home / "take"
        program.write_text(f'#!/bin/sh\nexec cat > "$(mktemp {self.home}/in/XXXXXXXXXX)"\n')
        program.chmod(0o700)
        self.settings = self.home / "fetchmailrc"
        self.settings.touch(0o600)
        self.settings.write_text(
            f"poll 127.0.0.1 service {self.server.port} protocol pop3 auth password uidl timeout 60\n"
            f'  user "{USER}" password "{PASSWORD}" mda "{program}" no rewrite no mimedecode sslproto \'\'\n'
        )

    def poll(self, delete: bool = False) -> None:
        """Exit status 1 is "no new mail"."""
        self.fetchmail(*(("--fetchall", "--nokeep") if delete else ("--keep",)))

    def fetchmail(self, *options: str) -> None:
        """Run it once."""
        files = ("-f", str(self.settings), "--pidfile", str(self.home / "pid"), "-i", str(self.home / "ids"))
        self.run_client(
            *("fetchmail", "--nodetach", "--nosyslog", *files, *options),
            statuses=(0, 1),
            env={**os.environ, "FETCHMAILHOME": str(self.home), "HOME": str(self.home)},
        )

    def fetched(self) -> list[bytes]:
        return [path.read_bytes() for path in (self.home / "in").iterdir()]

    def changed(self, name: str, octets: bytes) -> bytes:
        if name in corpus.HEADER_ONLY:
            return octets + b"\n"
        return octets.replace(b"\r", b"")

    def test_batch_smtp_and_flush(self) -> None:
        """
        Promise: the mail comes as an SMTP dialogue in a file, with every message in it; and --flush deletes what was
        fetched before, but not what came later.
        """
        self.fetchmail("--bsmtp", str(self.home / "batch"), "--keep")
        batch = (self.home / "batch").read_bytes().replace(b"\r\n", b"\n")
        self.assertEqual(batch.count(b"\nDATA\n"), len(self.messages))
        for name in ("lf", "8-bit", "attachment"):
            body = corpus.text(self.messages[name]).partition(b"\n\n")[2]
            self.assertTrue(body + b".\n" in batch, name)
        self.server.deliver("0999.more.host", self.messages["lf"].replace(b"Subject: lf", b"Subject: more"))
        self.fetchmail("--flush", "--keep")
        self.assertEqual(self.server.names(), {"0999.more.host"})
        self.assertEqual(len(self.fetched()), 1)


class MpopTests(PollingClients, ClientCase):
    """mpop with pipelining, delivering to a Maildir.  Known: it adds Received."""

    skip = need(None, "mpop")

    def setUp(self) -> None:
        """Its own home, with a Maildir."""
        super().setUp()
        self.home = temporary(self)
        for part in ("tmp", "new", "cur"):
            (self.home / "Maildir" / part).mkdir(parents=True)
        self.settings = self.home / "mpoprc"
        self.settings.touch(0o600)
        self.settings.write_text(
            f'account test\nhost 127.0.0.1\nport {self.server.port}\nuser {USER}\npassword "{PASSWORD}"\n'
            f"auth user\ntls off\npipelining on\ndelivery maildir {self.home}/Maildir\nuidls_file {self.home}/uidls\n"
        )

    def poll(self, delete: bool = False) -> None:
        self.run_client(
            *("mpop", "-C", str(self.settings), "-q", f"--keep={'off' if delete else 'on'}", "test"),
            env={**os.environ, "HOME": str(self.home)},
        )

    def fetched(self) -> list[bytes]:
        return [path.read_bytes() for path in (self.home / "Maildir" / "new").iterdir()]


class GetmailTests(PollingClients, ClientCase):
    """
    getmail6, delivering to a Maildir; not as root, which it refuses.

    Known: it adds Delivered-To and Received, takes bare CR for a line end, and adds the blank line behind a header.
    """

    skip = need(None, "getmail")

    def setUp(self) -> None:
        """A home that somebody else can reach."""
        super().setUp()
        self.home = Path(tempfile.mkdtemp(prefix="tpops-getmail-"))
        self.addCleanup(rmtree, self.home)
        for part in ("tmp", "new", "cur"):
            (self.home / "Maildir" / part).mkdir(parents=True)
        self.settings = self.home / "getmailrc"
        self.settings.write_text(
            f"[retriever]\ntype = SimplePOP3Retriever\nserver = 127.0.0.1\nport = {self.server.port}\n"
            f"username = {USER}\npassword = {PASSWORD}\n"
            f"[destination]\ntype = Maildir\npath = {self.home}/Maildir/\n"
            "[options]\ndelete = false\nread_all = false\n"
        )
        self.identity: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            for directory, _, files in os.walk(self.home):
                for path in (directory, *(os.path.join(directory, file) for file in files)):
                    os.chown(path, nobody.pw_uid, nobody.pw_gid)
            self.identity = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}

    def poll(self, delete: bool = False) -> None:
        self.run_client(
            *("getmail", "-q", "-g", str(self.home), "-r", str(self.settings), *(("--delete",) if delete else ())),
            env={**os.environ, "HOME": str(self.home)},
            cwd=self.home,
            **self.identity,
        )

    def fetched(self) -> list[bytes]:
        return [path.read_bytes() for path in (self.home / "Maildir" / "new").iterdir()]

    def changed(self, name: str, octets: bytes) -> bytes:
        if name in corpus.HEADER_ONLY:
            return octets + b"\n"
        return re.sub(rb"\r\n?", b"\n", octets) if name == "bare-cr" else octets
