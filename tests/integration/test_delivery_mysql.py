"""tpops-pipe and tpops-useradd where accounts and mail are in MySQL: both schemas."""

from __future__ import annotations

import poplib

from tests.integration.mail_database import MailDatabaseTests
from tests.integration.server import RunningServer
from tests.integration.test_delivery_commands import LETTER, run
from tpops.delivery import exits


class V2DeliveryTests(MailDatabaseTests):
    """Schema v2, where the address is the name."""

    kind = "v2"
    login, address = "ann@example.org", "ann@example.org"

    def limit(self, octets: int) -> None:
        """Give everybody a quota."""
        self.run_sql(f"UPDATE tpops_user SET quota_octets = {octets}")

    def status(self, server: RunningServer, name: str, *words: str) -> int:
        """The exit status of a command."""
        return run(server, name, *words).returncode

    def test_from_the_account_to_the_client(self) -> None:
        """Promise: an account is added, mail for its address arrives, other mail does not, and a client fetches it."""
        server = self.mail_server()
        self.assertEqual(self.status(server, "tpops-useradd", self.login, "secret", self.address), 0)
        self.assertEqual(self.status(server, "tpops-pipe", "nobody@example.org", self.address.upper()), 67)
        self.assertEqual(self.status(server, "tpops-store", self.address), exits.DELIVERED)
        # TPOPS counts line ends as two octets.
        self.limit(2 * len(LETTER) + 10)
        self.assertEqual(self.status(server, "tpops-pipe", self.address), exits.FULL)
        client = poplib.POP3("127.0.0.1", server.port)
        self.addCleanup(client.close)
        client.user(self.login)
        client.pass_("secret")
        self.assertEqual(client.stat()[0], 2)
        self.assertEqual(b"\n".join(client.retr(2)[1]) + b"\n", LETTER)
        client.dele(1)
        client.quit()
        self.assertEqual(self.status(server, "tpops-pipe", self.address), exits.DELIVERED)
        server.configuration["mysql"]["servers"] = ["unix:/nowhere"]
        server.write_configuration()
        self.assertEqual(self.status(server, "tpops-pipe", self.address), exits.TRY_AGAIN)


class ClassicDeliveryTests(V2DeliveryTests):
    """TPOPS' own tables, where the address is in the column "mail"."""

    kind = "classic"
    login, address = "ann", "Ann.Miller@example.org"

    def limit(self, octets: int) -> None:
        """Give everybody a quota."""
        self.run_sql(f"UPDATE user SET quota = {octets}")
