"""SCRAM between a real server and real clients: scramp, OpenSSL, Python's ssl."""

from __future__ import annotations

import base64
import hashlib
import socket
import ssl
from typing import Any

from OpenSSL import SSL
from scramp import ScramClient as Scramp
from twisted.trial.unittest import SynchronousTestCase

from tests.integration.server import PASSWORD, USER, RunningServer
from tests.integration.wire import Wire
from tests.pki import write_pem
from tests.scram_client import ScramClient
from tpops.cred.hashes import hash_password

_WRONG = b"-ERR [AUTH] authentication failed"

FOUR = ["SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"]


def challenge(line: bytes) -> bytes:
    """What the server says within AUTH."""
    assert line.startswith(b"+ "), line
    return base64.b64decode(line[2:], validate=True)


class Blocking:
    """An OpenSSL connection with what L{Wire} needs of a socket."""

    def __init__(self, connection: SSL.Connection) -> None:
        self.connection = connection
        self.recv = connection.recv
        self.sendall = connection.sendall

    def settimeout(self, seconds: float) -> None:
        """It blocks."""


class ScramCase(SynchronousTestCase):
    """A server with one user, and one message."""

    stored: str = "{PLAIN}" + PASSWORD
    tables: dict[str, Any] = {}

    def setUp(self) -> None:
        self.server = RunningServer(self, protocol={"auth_delay_seconds": 0.05}, **self.tables)
        self.server.deliver("1.a.host", b"Subject: x\n\ny\n")
        self.store(self.stored)
        self.server.start()

    def store(self, stored: str) -> None:
        """Write the accounts file."""
        home = self.server.directory / USER
        (self.server.directory / "users").write_text(f"{USER}:{stored}::::{home}:\n")

    def wire(self) -> Wire:
        """A connection after its greeting."""
        wire = self.server.connect()
        self.assertTrue(wire.line().startswith(b"+OK"))
        return wire

    def mechanisms(self, wire: Wire) -> list[str]:
        """The SASL mechanisms that CAPA lists beside those with the password."""
        lines = wire.multi_line(b"CAPA")[1].decode().split("\r\n")
        (line,) = [one for one in lines if one.startswith("SASL")]
        return [one for one in line.split()[1:] if one not in ("PLAIN", "LOGIN", "CRAM-MD5")]

    def scramp(
        self, wire: Wire, mechanism: str, password: str = PASSWORD, user: str = USER, binding: Any = None
    ) -> bytes:
        """Log in with scramp; gives the server's last line."""
        client = Scramp([mechanism], user, password, channel_binding=binding)
        first = base64.b64encode(client.get_client_first().encode())
        client.set_server_first(challenge(wire.command(b"AUTH " + mechanism.encode() + b" " + first)).decode())
        answer = wire.command(base64.b64encode(client.get_client_final().encode()))
        if not answer.startswith(b"+ "):
            return answer
        client.set_server_final(challenge(answer).decode())
        return wire.command(b"")

    def ours(self, wire: Wire, client: ScramClient, mechanism: bytes) -> bytes:
        """Log in with the client of the tests; gives the server's last line."""
        answer = wire.command(b"AUTH " + mechanism)
        self.assertEqual(answer, b"+ ")
        answer = wire.command(base64.b64encode(client.first()))
        if not answer.startswith(b"+ "):
            return answer
        answer = wire.command(base64.b64encode(client.final(challenge(answer))))
        if not answer.startswith(b"+ "):
            return answer
        self.assertEqual(challenge(answer), client.expected)
        return wire.command(b"")

    def check_log(self) -> None:
        """Whatever came, nothing broke."""
        self.assertNotIn("Traceback", self.server.output())


class PlainSecretTests(ScramCase):
    """Passwords that are stored as they are."""

    def test_log_in(self) -> None:
        """RFC 5802 and RFC 7677: with initial response; the event log has the mechanism."""
        for mechanism in ("SCRAM-SHA-1", "SCRAM-SHA-256"):
            wire = self.wire()
            self.assertEqual(self.mechanisms(wire), FOUR[:2])
            self.assertTrue(self.scramp(wire, mechanism).startswith(b"+OK joe has 1 message"))
            self.assertTrue(wire.command(b"STAT").startswith(b"+OK 1 "))
            wire.command(b"QUIT")
            self.assertEqual(self.server.event("login", mechanism=mechanism)["user"], USER)

    def test_every_mechanism_is_in_the_event_log(self) -> None:
        """Promise: PASS, APOP and the name of the SASL mechanism, also for logins that fail."""
        wire = self.wire()
        plain = base64.b64encode(f"\0{USER}\0{PASSWORD}".encode())
        wire.command(b"AUTH plain " + base64.b64encode(b"\0joe\0wrong"))
        self.assertEqual(self.server.event("login-failed")["mechanism"], "PLAIN")
        wire.command(b"AUTH plain " + plain)
        self.server.event("login", mechanism="PLAIN")
        wire.close()
        greeting = (wire := self.server.connect()).line()
        stamp = greeting[greeting.index(b"<") :]
        digest = hashlib.md5(stamp + PASSWORD.encode(), usedforsecurity=False).hexdigest()
        self.assertTrue(wire.command(f"APOP {USER} {digest}".encode()).startswith(b"+OK"))
        self.server.event("login", mechanism="APOP")
        wire.close()
        self.server.session().close()
        self.server.event("login", mechanism="PASS")

    def test_wrong_passwords_and_unknown_users_look_alike(self) -> None:
        """RFC 5802 section 9: rounds, length of salt and nonce, answers; the log alone tells."""
        wire = self.wire()
        seen = []
        for user in (USER, "nobody"):
            client = ScramClient(user.encode(), b"wrong")
            first = challenge(wire.command(b"AUTH SCRAM-SHA-256 " + base64.b64encode(client.first())))
            seen.append((len(first), first.split(b",")[2], wire.command(base64.b64encode(client.final(first)))))
        self.assertEqual(*seen)
        self.assertEqual(seen[0][2], _WRONG)
        details = [one["detail"] for one in self.server.events("login-failed")]
        self.assertIn("wrong password", details[0])
        self.assertIn("unknown user", details[1])
        self.assertEqual([one["named"] for one in self.server.events("login-failed")], [USER, "nobody"])

    def test_failures_count(self) -> None:
        """Promise: as with any other wrong password the third one ends the connection."""
        wire = self.wire()
        for _ in range(3):
            self.assertEqual(self.scramp(wire, "SCRAM-SHA-256", "wrong"), _WRONG)
        self.assertEqual(wire.rest(), b"")
        self.server.event("disconnect", reason="authentication failed", login_failures=3)

    def salts(self) -> list[bytes]:
        """What the server says of two names."""
        wire = self.wire()
        found = []
        for name in (USER.encode(), b"nobody"):
            client = ScramClient(name, b"x")
            first = challenge(wire.command(b"AUTH SCRAM-SHA-256 " + base64.b64encode(client.first())))
            self.assertTrue(wire.command(b"*").startswith(b"-ERR authentication cancelled"))
            found.append(first.split(b",")[1])
        return found

    def test_salts_outlive_a_restart(self) -> None:
        """RFC 5802 section 9: who asks again later finds the same salt, whether there is such a user or not."""
        before = self.salts()
        self.server.restart()
        self.assertEqual(self.salts(), before)
        self.assertEqual((self.server.directory / "scram_secret").stat().st_mode & 0o777, 0o600)

    def test_state_directory_that_cannot_be_used(self) -> None:
        """Promise: SCRAM works all the same; the log says what is lost."""
        self.server.stop()
        self.server.configuration["server"]["state_dir"] = "/no/such/directory"
        self.server.start()
        self.assertTrue(self.scramp(self.wire(), "SCRAM-SHA-256").startswith(b"+OK"))
        self.assertIn("cannot use /no/such/directory/scram_secret: No such file or directory", self.server.output())

    def test_nonsense(self) -> None:
        """Promise: at every step a refusal, never more; the same connection can go on."""
        wire = self.wire()
        client = ScramClient(USER.encode(), PASSWORD.encode())
        for nonsense in (b"rubbish", b"\xff\x00", b"n,,n=joe", b"c=,r=,p=", b"x" * 5000):
            text = base64.b64encode(nonsense)
            self.assertTrue(wire.command(b"AUTH SCRAM-SHA-256 " + text).startswith(b"-ERR SCRAM: malformed"))
            challenge(wire.command(b"AUTH SCRAM-SHA-256 " + base64.b64encode(client.first())))
            self.assertTrue(wire.command(text).startswith(b"-ERR SCRAM: malformed"))
            first = challenge(wire.command(b"AUTH SCRAM-SHA-256 " + base64.b64encode(client.first())))
            challenge(wire.command(base64.b64encode(client.final(first))))
            self.assertTrue(wire.command(text).startswith(b"-ERR SCRAM: malformed"))
        self.assertTrue(self.ours(wire, client, b"SCRAM-SHA-256").startswith(b"+OK"))
        self.check_log()


class StoredKeysTests(ScramCase):
    """Passwords that are stored as SCRAM keys."""

    stored = hash_password(PASSWORD.encode(), "SCRAM-SHA-256")

    def test_log_in(self) -> None:
        """RFC 7677: the mechanism of the stored keys is offered, and no other; the password itself works too."""
        wire = self.wire()
        self.assertEqual(self.mechanisms(wire), ["SCRAM-SHA-256"])
        self.assertTrue(wire.command(b"AUTH SCRAM-SHA-1").startswith(b"-ERR SASL mechanism not available"))
        self.assertEqual(self.scramp(wire, "SCRAM-SHA-256", "wrong"), _WRONG)
        self.assertTrue(self.scramp(wire, "SCRAM-SHA-256").startswith(b"+OK"))
        wire.command(b"QUIT")
        self.server.session().close()

    def test_locked_account(self) -> None:
        """Promise: it looks like any other; nobody gets in."""
        self.server.stop()
        self.store("!" + self.stored)
        with open(self.server.directory / "users", "a") as users:
            users.write(f"ann:{self.stored}::::/nowhere:\n")
        self.server.start()
        self.assertEqual(self.scramp(self.wire(), "SCRAM-SHA-256"), _WRONG)

    def test_never(self) -> None:
        """Promise: protocol.digests = "never" is without SCRAM."""
        self.server.stop()
        self.server.configuration["protocol"]["digests"] = "never"
        self.server.start()
        self.assertEqual(self.mechanisms(self.wire()), [])


class OtherSourcesTests(ScramCase):
    """Where the secrets are, and whose."""

    def test_lookup_table(self) -> None:
        """Promise: the table that serves APOP and PASS serves SCRAM as well."""
        self.server.stop()
        table = self.server.directory / "secrets"
        table.touch(0o600)
        table.write_text(f"{USER}  {PASSWORD}\n")
        self.server.configuration["accounts"] = [{"driver": "apop_db", "table": f"texthash:{table}"}]
        self.server.configuration["mail"] = {"location": f"maildir:{self.server.directory}/$(user)/Maildir"}
        self.server.start()
        for mechanism in ("SCRAM-SHA-1", "SCRAM-SHA-256"):
            wire = self.wire()
            self.assertEqual(self.scramp(wire, mechanism, "wrong"), _WRONG)
            self.assertTrue(self.scramp(wire, mechanism).startswith(b"+OK joe has 1 message"), mechanism)
            wire.command(b"QUIT")

    def test_disabled_account(self) -> None:
        """Promise: refused, and told so, after the right proof only."""
        self.server.stop()
        users = self.server.directory / "users"
        users.write_text(f"{USER}:{self.stored}::::/nowhere::nologin\n")
        self.server.start()
        self.assertEqual(self.scramp(self.wire(), "SCRAM-SHA-256", "wrong"), _WRONG)
        self.assertIn(b"account is disabled", self.scramp(self.wire(), "SCRAM-SHA-256"))
        self.assertIn("AccountDisabled", self.server.event("login-refused")["detail"])


class ChannelBindingTests(ScramCase):
    """The -PLUS mechanisms."""

    tables = {
        "listen": [{"address": "127.0.0.1", "port": 0, "tls": mode} for mode in ("implicit", "optional")],
        "tls": {"certificate": "certificates"},
    }

    def setUp(self) -> None:
        """Two certificates, from which the client's SNI chooses."""
        self.patch(RunningServer, "write_configuration", _with_certificates(RunningServer.write_configuration))
        super().setUp()

    def over_tls(self, name: str, version: ssl.TLSVersion) -> tuple[Wire, bytes]:
        """A connection of Python's ssl, and the certificate that it got."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.maximum_version = version
        raw = socket.create_connection(("127.0.0.1", self.server.port))
        self.addCleanup(raw.close)
        secure = context.wrap_socket(raw, server_hostname=name)
        self.addCleanup(secure.close)
        wire = Wire(secure)
        self.assertTrue(wire.line().startswith(b"+OK"))
        certificate = secure.getpeercert(binary_form=True)
        assert certificate is not None
        return wire, certificate

    def by_openssl(self, stls: bool = False) -> tuple[Wire, bytes]:
        """A connection of OpenSSL with TLS 1.3, and its tls-exporter."""
        port = self.server.configuration["listen"][1 if stls else 0]["port"]
        raw = socket.create_connection(("127.0.0.1", port))
        self.addCleanup(raw.close)
        if stls:
            wire = Wire(raw)
            wire.line()
            self.assertEqual(self.mechanisms(wire), FOUR[:2])
            self.assertTrue(wire.command(b"STLS").startswith(b"+OK"))
        raw.settimeout(None)
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_verify(SSL.VERIFY_NONE)
        connection = SSL.Connection(context, raw)
        connection.set_connect_state()
        connection.do_handshake()
        exported = connection.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")
        wire = Wire(Blocking(connection))  # type: ignore[arg-type]  # as much of a socket as it needs
        if not stls:
            self.assertTrue(wire.line().startswith(b"+OK"))
        return wire, exported

    def test_tls_server_end_point(self) -> None:
        """RFC 5929 section 4: the certificate that was served, by every version of TLS."""
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            for name in ("a.example", "b.example"):
                for mechanism in FOUR[2:]:
                    wire, certificate = self.over_tls(name, version)
                    self.assertEqual(self.mechanisms(wire), FOUR)
                    binding = ("tls-server-end-point", hashlib.sha256(certificate).digest())
                    answer = self.scramp(wire, mechanism, binding=binding)
                    self.assertTrue(answer.startswith(b"+OK"), answer)
                    self.server.event("login", mechanism=mechanism)
                    wire.command(b"QUIT")

    def test_tls_exporter(self) -> None:
        """RFC 9266, with implicit TLS and after STLS."""
        for stls in (False, True):
            wire, exported = self.by_openssl(stls)
            self.assertEqual(self.mechanisms(wire), FOUR)
            client = ScramClient(USER.encode(), PASSWORD.encode(), flag=b"p=tls-exporter", binding=exported)
            self.assertTrue(self.ours(wire, client, b"SCRAM-SHA-256-PLUS").startswith(b"+OK"))
            wire.command(b"QUIT")

    def test_somebody_in_between(self) -> None:
        """RFC 5802 section 6: the TLS connection of the client ends elsewhere: no login, and the log says why."""
        _, other = self.by_openssl()
        wire, _ = self.by_openssl()
        client = ScramClient(USER.encode(), PASSWORD.encode(), flag=b"p=tls-exporter", binding=other)
        self.assertEqual(self.ours(wire, client, b"SCRAM-SHA-256-PLUS"), _WRONG)
        self.assertIn("channel binding does not match", self.server.event("login-failed")["detail"])

    def test_hidden_offer(self) -> None:
        """RFC 5802 section 6: a client that could bind and was told that we cannot."""
        wire, _ = self.by_openssl()
        client = ScramClient(USER.encode(), PASSWORD.encode(), flag=b"y")
        self.assertEqual(self.ours(wire, client, b"SCRAM-SHA-256"), _WRONG)
        self.assertIn("has hidden", self.server.event("login-failed")["detail"])

    def test_without_channel_binding(self) -> None:
        """RFC 5802: clients that cannot bind log in over TLS as well."""
        wire, _ = self.over_tls("a.example", ssl.TLSVersion.TLSv1_3)
        self.assertTrue(self.scramp(wire, "SCRAM-SHA-256").startswith(b"+OK"))


def _with_certificates(write: Any) -> Any:
    """Put certificates beside the configuration when that is written."""

    def written(server: RunningServer) -> None:
        directory = server.directory / "certificates"
        if not directory.exists():
            directory.mkdir()
            write_pem(directory / "a.pem", "a.example")
            write_pem(directory / "b.pem", "b.example")
        write(server)

    return written
