"""JavaMail (Jakarta Mail), the real one: in which order it says what, with every mechanism that it has."""

from __future__ import annotations

import base64
from pathlib import Path

from tests.integration import corpus
from tests.integration.clients import ClientCase
from tests.integration.server import PASSWORD, USER
from tests.pki import write_pem
from tests.support import lacking, need
from tests.tokens import AUDIENCE, ISSUER, SigningKey, claims, key_set
from tests.web_server import WebServer

JARS = [Path("/usr/share/java") / name for name in ("javax.mail.jar", "javax.activation.jar")]


def missing() -> str | None:
    """The reason to skip where there is no Java or no JavaMail; a failure in continuous integration."""
    reason = need(None, "java", "javac")
    if reason is None and not all(jar.exists() for jar in JARS):
        return lacking(None, "not installed: libmail-java (scripts/test installs what tests need)")
    return reason


class JavaCase(ClientCase):
    """A server with one message, a certificate, and an issuer of tokens."""

    messages = {"lf": corpus.ALL["lf"]}

    def setUp(self) -> None:
        super().setUp()
        self.key = SigningKey("one")
        self.web = WebServer(self, key_set(self.key))
        self.server.stop()
        write_pem(self.server.directory / "mail.pem", "127.0.0.1")
        self.server.configuration["tls"] = {"certificate": "mail.pem"}
        self.server.configuration["oauth"] = {"jwks_url": self.web.address, "issuer": ISSUER, "audience": [AUDIENCE]}
        self.server.start()


class JavaMailTests(JavaCase):
    """The program itself."""

    skip = missing()

    def fetch(self, *properties: str, password: str = PASSWORD, statuses: tuple[int, ...] = (0,)) -> str:
        """The dialogue of a session that fetches everything; the mail is compared."""
        program = Path(__file__).with_name("Fetch.java")
        classes = ":".join(str(jar) for jar in JARS)
        command = ["java", "-cp", classes, str(program), "127.0.0.1", str(self.server.port), USER, password]
        said = self.server.directory / "dialogue"
        # JavaMail talks of itself on standard error, for which there is a file.
        shell = ("sh", "-c", f'exec "$@" 2>"{said}"', "java", *command, *properties)
        got = self.run_client(*shell, statuses=statuses)
        self.assertEqual(corpus.wire(self.messages["lf"]) in got, 0 in statuses, got)
        return said.read_text()

    def assertInOrder(self, dialogue: str, *lines: str) -> None:
        """These lines are there, in this order, others between them."""
        position = 0
        for line in lines:
            found = f"\n{dialogue}".find(f"\n{line}", position)
            self.assertGreaterEqual(found, 0, f"{line!r} in {dialogue}")
            position = found + 1

    def test_user_and_pass(self) -> None:
        """Promise: what JavaMail does by itself; it reads CAPA before login only, and pipelines."""
        dialogue = self.fetch()
        self.assertInOrder(
            dialogue, "CAPA", "UIDL", "PIPELINING", "DEBUG POP3: PIPELINING enabled", "USER joe", "PASS ",
            "+OK joe has 1", "STAT", "+OK 1 ", "NOOP", "UIDL 1", "+OK 1 1001.lf.host", "TOP 1 0", "RETR 1",
            "QUIT", "+OK bye",
        )  # fmt: skip
        self.assertEqual(dialogue.count("\nCAPA"), 1)

    def test_plain_with_initial_response(self) -> None:
        """RFC 5034 section 4: one line, with CAPA's SASL believed; a wrong password is an authentication failure."""
        response = base64.b64encode(f"{USER}\0{USER}\0{PASSWORD}".encode()).decode()
        self.assertInOrder(self.fetch("auth.mechanisms=PLAIN"), "CAPA", f"AUTH PLAIN {response}", "+OK joe has 1")
        dialogue = self.fetch("auth.mechanisms=PLAIN", password="wrong", statuses=(1,))
        self.assertInOrder(dialogue, "AUTH PLAIN ", "-ERR [AUTH] authentication failed")
        self.assertIn("AuthenticationFailedException", dialogue)

    def test_stls(self) -> None:
        """RFC 2595 section 4: CAPA is asked again after the handshake."""
        dialogue = self.fetch("starttls.enable=true", "starttls.required=true", "ssl.trust=*", "auth.mechanisms=PLAIN")
        self.assertInOrder(dialogue, "CAPA", "STLS", "+OK begin TLS", "CAPA", "SASL ", "AUTH PLAIN ", "+OK joe has 1")
        self.assertRegex(self.server.event("disconnect")["tls"], r"^TLSv1\.")

    def test_apop(self) -> None:
        """RFC 1939 section 7."""
        self.assertInOrder(self.fetch("apop.enable=true"), "APOP joe ", "+OK joe has 1")

    def test_xoauth2_with_initial_response(self) -> None:
        """Promise: the token with the command, far beyond 255 octets."""
        token = self.key.sign(claims())
        self.assertGreater(len(token), 255)
        dialogue = self.fetch("auth.mechanisms=XOAUTH2", password=token)
        self.assertInOrder(dialogue, "CAPA", "AUTH XOAUTH2 ", "+OK joe has 1")

    def test_bad_token(self) -> None:
        """Promise: a failed login also for a client that goes when it sees the advice, as JavaMail does."""
        dialogue = self.fetch("auth.mechanisms=XOAUTH2", password=self.key.sign(claims(exp=1)), statuses=(1,))
        self.assertInOrder(dialogue, "AUTH XOAUTH2 ", "+ ", "DEBUG POP3: AUTH XOAUTH2 failed")
        self.server.event("login-failed", detail="BadCredentials: the token has expired")


class DialogueTests(JavaCase):
    """Its dialogue by hand, where the version that Debian has cannot be told to."""

    def test_xoauth2_in_two_lines(self) -> None:
        """
        Promise: the form that Exchange wants, too.

        Jakarta Mail has it since 1.6.6 (mail.pop3.auth.xoauth2.two.line.authentication.format).  This is its dialogue
        line by line, from Protocol.java and POP3Store.java: CAPA, AUTH without a response, the response after the
        empty challenge, and then what it always does when a folder is opened, read and closed.
        """
        wire = self.server.connect()
        self.assertTrue(wire.line().startswith(b"+OK"))
        self.assertIn(b"XOAUTH2", wire.multi_line(b"CAPA")[1])
        self.assertEqual(wire.command(b"AUTH XOAUTH2"), b"+ ")
        response = f"user={USER}\x01auth=Bearer {self.key.sign(claims())}\x01\x01"
        self.assertIn(b"+OK joe has 1", wire.command(base64.b64encode(response.encode())))
        self.assertTrue(wire.command(b"STAT").startswith(b"+OK 1 "))
        self.assertEqual(wire.command(b"NOOP"), b"+OK")
        self.assertEqual(wire.command(b"UIDL 1"), b"+OK 1 1001.lf.host")
        self.assertTrue(wire.multi_line(b"TOP 1 0")[1].endswith(b"\r\n\r\n"))
        self.assertEqual(wire.multi_line(b"RETR 1")[1], corpus.wire(self.messages["lf"]))
        self.assertTrue(wire.command(b"QUIT").startswith(b"+OK bye"))

    def test_plain_in_every_line_form(self) -> None:
        """RFC 5034 section 4: initial response, "=" for an empty one (which is no name), and a response of its own."""
        response = base64.b64encode(f"\0{USER}\0{PASSWORD}".encode())
        for lines in (
            (b"AUTH PLAIN " + response,),
            (b"AUTH PLAIN", response),
            (b"AUTH PLAIN =", b"AUTH PLAIN", response),
            (b"AUTH PLAIN", b"*", b"AUTH PLAIN " + response),
            (b"AUTH LOGIN " + base64.b64encode(USER.encode()), base64.b64encode(PASSWORD.encode())),
        ):
            wire = self.server.connect()
            self.assertTrue(wire.line().startswith(b"+OK"))
            *answers, last = [wire.command(line) for line in lines]
            self.assertIn(b"+OK joe has 1", last, (lines, answers))
            wire.command(b"QUIT")
