"""What the tests of directories share: a directory with some people, and a server on it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import corpus
from tests.integration.server import PASSWORD, USER, RunningServer
from tests.integration.slapd import READER_PASSWORD, Slapd, person
from tests.support import need

WRONG = b"-ERR [AUTH] authentication failed"
DISABLED = b"-ERR [AUTH] account is disabled"
UNAVAILABLE = b"-ERR [SYS/TEMP]"


class LDAPCase(SynchronousTestCase):
    """A directory with some people, and a server on it."""

    skip = need(None, "slapd", "slapadd")
    timeout = 240

    def directory(self, **options: object) -> Slapd:
        """A running directory."""
        people = (
            person(USER, PASSWORD),
            person("jörg", "schlüssel"),
            person("raw", b"\xff\xfe octets"),
            person("former", "secret of former", employeeType="gone"),
            person("star*", "secret of star"),
            person("twin", "one"),
            person("other twin", "two", title="twin"),
        )
        return Slapd(self, *people, **options).start()

    def server(self, *tables: dict[str, object]) -> RunningServer:
        """A running server whose accounts are these."""
        server = RunningServer(
            self,
            users=dict.fromkeys((USER, "jörg", "raw", "former", "star*", "local"), "unused"),
            protocol={"auth_delay_seconds": 0.05, "auth_delay_max_seconds": 0.05, "auth_tries": 100},
        )
        server.configuration["mail"] = {"location": f"maildir:{server.directory}/$(user)/Maildir"}
        server.configuration["accounts"] = list(tables)
        server.deliver("1.host", corpus.ALL["lf"])
        return server.start()

    def answer(self, server: RunningServer, name: str = USER, password: str | bytes = PASSWORD) -> bytes:
        """What the client gets for PASS, on a connection of its own."""
        wire = server.connect()
        self.assertTrue(wire.line().startswith(b"+OK"))
        self.assertTrue(wire.command(b"USER " + name.encode()).startswith(b"+OK"))
        answer = wire.command(b"PASS " + (password.encode() if isinstance(password, str) else password))
        wire.command(b"QUIT")
        return answer

    def detail(self, server: RunningServer, kind: str = "login-failed") -> str:
        """What the log says of the last failed login."""
        server.event(kind)
        return str(server.events(kind)[-1]["detail"])

    def assertNoSecrets(self, server: RunningServer) -> None:
        """Passwords are in no log, and nothing went wrong that nobody thought of."""
        text = server.output() + server.json_log.read_text()
        for secret in (PASSWORD, READER_PASSWORD, "schlüssel", "secret of former"):
            self.assertNotIn(secret, text)
        self.assertNotIn("Traceback", text)
