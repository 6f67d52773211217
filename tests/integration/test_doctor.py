"""tpops doctor, against ourselves, Dovecot, Twisted's own server, and servers that make one mistake each."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from typing import Any

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from tests.integration import corpus, dovecot
from tests.integration.patients import Patient
from tests.integration.server import PASSWORD, PATIENCE_SECONDS, USER, RunningServer, end, program, temporary
from tests.pki import write_pem
from tpops.admin import cli
from tpops.admin.doctor.clients import DIALOGUES

#: Twisted's POP3 server on the maildrop of a list.
_TWISTED = """
import io, sys
from twisted.cred import checkers, portal
from twisted.internet import endpoints, protocol, reactor
from twisted.mail import pop3
from zope.interface import implementer

TEXTS = [b"Subject: one\\n\\nbody\\n", b"Subject: two\\n\\n.dot\\n"]

@implementer(pop3.IMailbox)
class Mailbox:
    def listMessages(self, index=None):
        sizes = [len(text) for text in TEXTS]
        return sizes if index is None else sizes[index]
    def getMessage(self, index):
        return io.BytesIO(TEXTS[index])
    def getUidl(self, index):
        return b"id%d" % index
    def deleteMessage(self, index):
        pass
    def undeleteMessages(self):
        pass
    def sync(self):
        pass

@implementer(portal.IRealm)
class Realm:
    def requestAvatar(self, avatar_id, mind, *interfaces):
        return pop3.IMailbox, Mailbox(), lambda: None

class Factory(protocol.ServerFactory):
    def buildProtocol(self, address):
        server = pop3.POP3()
        server.factory = self
        server.portal = portal.Portal(Realm(), [checkers.InMemoryUsernamePasswordDatabaseDontUse(joe=b"secret")])
        return server

def ready(port):
    print(port.getHost().port, flush=True)

endpoints.TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Factory()).addCallback(ready)
reactor.run()
"""

Row = dict[str, Any]


def examine(*arguments: str, password: str = "secret", status: int | None = 0) -> list[Row]:
    """What the doctor says."""
    done = CliRunner().invoke(cli.tpops, ("doctor", "--json", *arguments), input=f"{password}\n")
    if status is not None and done.exit_code != status:
        raise AssertionError(f"exit status {done.exit_code}: {done.output}")
    rows: list[Row] = json.loads(done.stdout)
    return rows


def wrong(rows: list[Row]) -> list[str]:
    """The problems and warnings."""
    return [f"{one['subject']}: {one['text']}" for one in rows if one["level"] in ("problem", "warning")]


class OurselvesTests(SynchronousTestCase):
    """There is nothing to say of tpops."""

    def setUp(self) -> None:
        listen = [{"address": "127.0.0.1", "port": 0, "tls": mode} for mode in ("off", "optional", "implicit")]
        protocol = {"auth_delay_seconds": 0.05}
        tables = {"tls": {"certificate": "mail.pem"}, "maildir": {"lock_wait_seconds": 0.1}}
        self.server = RunningServer(self, listen=listen, protocol=protocol, **tables)
        self.trusted = self.server.directory / "trusted.pem"
        self.trusted.write_bytes(write_pem(self.server.directory / "mail.pem", "localhost", "127.0.0.1"))
        for number, message in enumerate(corpus.ALL.values()):
            self.server.deliver(f"{number}.a.host", message)
        self.server.start()
        self.ports = {one["tls"]: one["port"] for one in self.server.configuration["listen"]}

    def test_each_listener(self) -> None:
        """Promise: no problem, and no warning but of the mail's own lines, with every way to TLS."""
        for mode, tls in (("off", "none"), ("optional", "stls"), ("optional", "none"), ("implicit", "implicit")):
            rows = examine(
                *(f"127.0.0.1:{self.ports[mode]}", "--tls", tls, "--user", USER, "--stdin", "--guess"),
                *("--ca", str(self.trusted), "--messages", "100"),
                password=PASSWORD,
            )
            unexpected = [one for one in wrong(rows) if not one.startswith(("long lines", "certificate"))]
            self.assertEqual(unexpected, [], (mode, tls))
            subjects = {one["subject"] for one in rows if one["level"] == "ok"}
            self.assertLessEqual({"RETR", "dots", "TOP", "unique-ids", "lock", "UIDL", *DIALOGUES}, subjects)
        self.assertEqual(len(self.server.stored()), len(corpus.ALL))

    def test_without_an_account(self) -> None:
        """Promise: what can be seen before a login, by the console script, in words for people."""
        done = subprocess.run(
            [program("tpops"), "doctor", f"127.0.0.1:{self.ports['optional']}"],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("ok       STLS: a command behind it in the clear makes the server refuse", done.stdout)
        self.assertIn("0 problems, 0 warnings\n", done.stdout)

    def test_wrong_password(self) -> None:
        """Promise: that the password is wrong is said, and not that the server is."""
        rows = examine(f"127.0.0.1:{self.ports['off']}", "--user", USER, "--stdin", password="no", status=1)
        self.assertIn("login: the server says -ERR [AUTH] authentication failed", wrong(rows))

    def test_short_idle(self) -> None:
        """RFC 1939 §3: a session must live for ten minutes; and one that lives as long as was asked for."""
        address = f"127.0.0.1:{self.ports['off']}"
        rows = examine(address, "--user", USER, "--stdin", "--idle", "0.2", password=PASSWORD)
        self.assertIn("a session lives after 0.2 seconds of silence", [one["text"] for one in rows])
        self.server.configuration["protocol"]["idle_timeout_seconds"] = 1
        self.server.restart()
        arguments = ("--user", USER, "--stdin", "--messages", "1", "--idle", "30")
        rows = examine(address, *arguments, password=PASSWORD, status=1)
        found = [one for one in wrong(rows) if not one.startswith("long lines")]
        self.assertEqual(found, ["idle: a session is ended within 30 seconds of silence"])


class PatientTests(SynchronousTestCase):
    """Each mistake is found, and nothing else."""

    def examine(self, *mistakes: str, context: ssl.SSLContext | None = None) -> list[str]:
        """Problems and warnings of a server with these mistakes."""
        port = Patient(self, mistakes, context).port
        arguments = (f"127.0.0.1:{port}", "--user", "joe", "--stdin", "--guess", "--timeout", "2")
        return wrong(examine(*arguments, status=None))

    def test_healthy(self) -> None:
        """Promise: no mistake, no finding."""
        self.assertEqual(self.examine(), [])

    def test_mistakes(self) -> None:
        """Promise: each is told, by what was seen."""
        for mistake, words in (
            ("greeting", ["greeting: the first line is '* hello'"]),
            ("same stamp", ["greeting: the timestamp <1@host> is the same on two connections"]),
            ("no capa", ["CAPA: there is none"]),
            ("uidl hidden", ["CAPA: UIDL is not listed before login"]),
            ("sasl", ["SASL PLAIN: it is announced, and AUTH PLAIN is answered with '-ERR no such mechanism'"]),
            ("cancel", ["SASL PLAIN: '*' is answered with '+OK'"]),
            ("lets everybody in", ["wrong password: it is let in"]),
            ("no codes", ["wrong password: '-ERR wrong' has no response code"]),
            ("closes", ["errors: 'XDOCTOR': the server closed the connection at XDOCTOR"]),
            ("stat", ["STAT and LIST: STAT says 3 messages of 59 octets, LIST 2 of 59", "JavaMail: "]),
            ("sizes", ["RETR: octets differ from LIST: message 1 (21 announced, 22 sent); 2 (36 announced, 37 sent)"]),
            ("no uidl", ["UIDL: not there"]),
            ("doubled", ["UIDL: same is there twice"]),
            ("bad id", ["UIDL: 'xxx"]),
            ("uidl n", ["UIDL n: '+OK id1.0'"]),
            ("beyond", ["errors: LIST 3 is answered with '+OK'"]),
            ("top", ["TOP: TOP n 0 is not the header of RETR n: message 1; 2"]),
            ("long line", ["long lines: messages 1, 2 have lines over 2048 octets"]),
            ("dots", ["dots: a line begins with a single dot: message 2"]),
            ("lf", ["line ends: a line ends with LF alone: message 1"]),
            ("unstable", ["unique-ids: 2 of 2 are others in the next session"]),
            ("quit", ["QUIT: it is answered with '-ERR no'"]),
        ):
            found = self.examine(mistake)
            for part in words:
                self.assertTrue([one for one in found if one.startswith(part.rstrip("'"))], (mistake, found))

    def test_pipelining(self) -> None:
        """Promise: what is announced and does not work is found, though the server only stays silent."""
        found = self.examine("no pipelining")
        self.assertIn("connection: no answer to CAPA within 2 seconds", found)
        self.assertIn("mpop: no answer to STAT within 2 seconds", found)

    def test_no_lock(self) -> None:
        """RFC 1939 §4: told, though many servers do it; no problem of its own."""
        port = Patient(self, ["no lock"]).port
        rows = examine(f"127.0.0.1:{port}", "--user", "joe", "--stdin")
        self.assertIn("a second session is let in while the first goes on", [one["text"] for one in rows])

    def test_injection(self) -> None:
        """CVE-2011-0411: commands in the clear behind STLS."""
        directory = temporary(self)
        write_pem(directory / "mail.pem", "127.0.0.1")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory / "mail.pem")
        self.assertEqual(self.examine(context=context), [])
        told = "STLS: a command that was sent in the clear behind STLS is carried out inside TLS"
        self.assertEqual(self.examine("injection", context=context), [told])


class DovecotTests(SynchronousTestCase):
    """A real Dovecot, by each way to TLS."""

    skip = dovecot.missing()

    def test_a_good_server(self) -> None:
        """Promise: no problem is made up; that its certificate is nobody's is told, since nobody here trusts it."""
        server = dovecot.shared()
        user = server.user(b"Subject: one\n\n.dots\n..\n", b"Subject: two\n\nend\n")
        for tls, port in (("none", server.port), ("stls", server.port), ("implicit", server.tls_port)):
            arguments = ("--tls", tls, "--user", user, "--stdin", "--guess", "--ca", str(server.certificate))
            rows = examine(f"127.0.0.1:{port}", *arguments, status=None)
            self.assertEqual([one for one in wrong(rows) if not one.startswith("certificate")], [], tls)
            subjects = {one["subject"] for one in rows if one["level"] == "ok"}
            self.assertLessEqual({"RETR", "dots", "TOP", "unique-ids", "lock", "UIDL", "Thunderbird"}, subjects)
        self.assertEqual(len(server.stored(user)), 2)

    def test_its_mistake(self) -> None:
        """RFC 1939 §11: LIST of Dovecot 2.3 does not count the line end that it adds to a message without one."""
        server = dovecot.shared()
        user = server.user(b"Subject: one\n\nno end")
        found = wrong(examine(f"127.0.0.1:{server.port}", "--user", user, "--stdin", status=1))
        self.assertEqual(found, ["RETR: octets differ from LIST: message 1 (22 announced, 24 sent)"])


class TwistedTests(SynchronousTestCase):
    """Twisted's own POP3 server, whose mistakes are known."""

    def test_its_mistakes(self) -> None:
        """Promise: what is wrong in a real server is found: capabilities, UIDL n, sizes, dots at the beginning."""
        server = subprocess.Popen([sys.executable, "-c", _TWISTED], stdout=subprocess.PIPE, text=True)
        self.addCleanup(end, server)
        assert server.stdout is not None
        port = int(server.stdout.readline())
        found = wrong(examine(f"127.0.0.1:{port}", "--user", "joe", "--stdin", "--timeout", "5", status=1))
        self.assertIn("UIDL n: '+OK id1'", found)
        self.assertTrue([one for one in found if one.startswith("RETR: octets differ from LIST: message 1")], found)


class CommandLineTests(SynchronousTestCase):
    """What cannot be meant."""

    def test_arguments(self) -> None:
        """Promise: the error names what is wrong."""
        for arguments, words in (
            (("a:b",), "'a:b' is not HOST or HOST:PORT"),
            (("host:0",), "is not HOST or HOST:PORT"),
            (("host", "--stdin"), "--stdin goes with --user"),
            (("host", "--idle", "5"), "--idle goes with --user"),
        ):
            done = CliRunner().invoke(cli.tpops, ("doctor", *arguments))
            self.assertEqual(done.exit_code, 2)
            self.assertIn(words, done.stderr)

    def test_nobody_there(self) -> None:
        """Promise: a port where nobody listens is told as such, for IPv6, too."""
        for host in ("127.0.0.1:1", "[::1]:1"):
            self.assertTrue(wrong(examine(host, status=1))[0].startswith(f"connection: cannot connect to {host}: "))
