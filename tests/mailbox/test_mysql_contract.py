"""Mail in a real MariaDB keeps to the contract of maildrops, in both schemas."""

from __future__ import annotations

from typing import Any

from tests.contracts.append import AppendContract
from tests.contracts.maildrop import MAIL, MaildropContract, on_the_wire
from tests.integration.mail_database import MailDatabaseTests
from tpops.db.mysql_changes import Changes
from tpops.errors import MaildropBusy
from tpops.mailbox.locations import Maildrops
from tpops.mailbox.mysql_schema import LockLost
from tpops.mailbox.mysql_v2 import V2


def text_of(message: bytes) -> bytes:
    """A message with the line ends of TPOPS' table."""
    return message.replace(b"\r\n", b"\n")


class Words:
    """Words of the contract for a driver over a real connection."""

    def make_driver(self: Any) -> Any:
        """See MaildropContract."""
        return Maildrops("mysql:$(user)", lambda name: (name, ""), {"mysql": self.driver()})

    def as_stored(self, message: bytes) -> bytes:
        """See MaildropContract."""
        return message

    def test_lock_is_exclusive_between_drivers(self: Any) -> None:
        """RFC 1939 §4: also between two configurations of one process, while the old one ends."""
        first = self.session()
        self.fails(self.make_driver().open_maildrop(self.account), MaildropBusy)
        self.wait(first.close())
        self.wait(self.session().close())


class V2Tests(Words, AppendContract, MailDatabaseTests, MaildropContract):
    """Schema v2."""

    kind = "v2"

    def test_clocks_of_hosts_do_not_matter(self) -> None:
        """Promise: leases are by the clock of the database server, whatever the hosts believe."""
        for ours, theirs in ((0.0, 4e9), (4e9, 0.0)):
            client = self.client()
            one, other = (V2(name, 60, Changes(20.0), lambda at=at: at) for name, at in (("a", ours), ("b", theirs)))
            held = one.take(client, 1e9, "joe")
            assert held is not None
            self.assertIsNone(other.take(client, 1e9, "joe"))
            self.run_sql("UPDATE tpops_lease SET expires_at = UTC_TIMESTAMP(6)")
            taken = other.take(client, 1e9, "joe")
            assert taken is not None
            self.assertRaises(LockLost, one.remove, client, held, [b"1"])
            one.release(client, None, held)
            self.assertIsNone(one.take(client, 1e9, "joe"))
            other.release(client, None, taken)


class ClassicWords(Words):
    """The same for TPOPS' own tables."""

    kind = "classic"
    keeps_line_ends = False

    def counted(self, message: bytes) -> int:
        """See AppendContract: TPOPS counts what LIST says."""
        return len(on_the_wire(message))

    def as_stored(self, message: bytes) -> bytes:
        """See MaildropContract: line ends are LF."""
        return text_of(message)


class ClassicTests(ClassicWords, AppendContract, MailDatabaseTests, MaildropContract):
    """TPOPS' own tables, with mail that we store."""


class TPOPSTests(ClassicWords, MailDatabaseTests, MaildropContract):
    """The same with mail that TPOPS has stored, and marks that it has left behind."""

    def store(self, message: bytes, name: str = "joe") -> None:
        """See MaildropContract."""
        text = text_of(message)
        header, blank, body = (b"", b"\n", text[1:]) if text[:1] == b"\n" else text.partition(b"\n\n")
        header += b"\n" if blank and header else b""
        whole = header + (b"\n" + body if blank else b"")
        size = len(whole.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
        size += 2 if whole and not whole.endswith(b"\n") else 0
        with self.mariadb.connection(self.schema) as connection:
            connection.cursor().execute(
                "INSERT INTO msg (uid, msgno, timestamp, header, body, size) VALUES (7, -1, NOW(), %s, %s, %s)",
                (header, body, size),
            )


class SizeTests(MailDatabaseTests):
    """Sizes that are not in the table."""

    kind = "classic"

    def test_null_is_counted(self) -> None:
        """Promise: where `size` is NULL the server counts as RETR sends."""
        for message in MAIL:
            self.store(message)
        announced = [row[0] for row in self.run_sql("SELECT size FROM msg ORDER BY id")]
        self.run_sql("UPDATE msg SET size = NULL")
        schema = self.tables()
        client = self.client()
        held = schema.take(client, 1e9, "joe")
        assert held is not None
        _, snapshot = schema.listing(client, 1e9, held, None)
        self.assertEqual(list(snapshot.sizes), announced)
