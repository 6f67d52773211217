"""LMTP in a real server: over UNIX sockets and TCP, with Python's client and with octets of our own."""

from __future__ import annotations

import fcntl
import re
import signal
import smtplib
import threading
from pathlib import Path

from tests.integration import corpus
from tests.integration.lmtp_case import MESSAGE, MOST_MIB, RETURN_PATH, USERS, LMTPTests, on_the_wire
from tests.integration.server import PATIENCE_SECONDS, wait_until
from tests.integration.wire import Wire


class DeliveryTests(LMTPTests):
    """Mail comes in by LMTP and is collected by POP3."""

    def test_every_message(self) -> None:
        """Promise: what comes by LMTP leaves by POP3 octet by octet, but for the three fields put before it."""
        self.server.start()
        with self.client() as client:
            for message in corpus.ALL.values():
                client.sendmail("ann@example.org", ["joe"], on_the_wire(message))
        collected = {}
        session = self.server.session("joe", "secret")
        for number in range(1, len(corpus.ALL) + 1):
            octets = re.sub(rb"(?:\A|(?<=\r\n))\.", b"", session.multi_line(b"RETR %d" % number)[1])
            header, _, rest = octets.partition(b"\r\n\tfor <joe>; ")
            self.assertTrue(header.startswith(RETURN_PATH + b"Delivered-To: joe\r\nReceived: from "), header)
            message = rest.partition(b"\r\n")[2]
            collected[message.partition(b"Subject: ")[2].partition(b"\r\n")[0].decode()] = message
        for name, message in corpus.ALL.items():
            sent = on_the_wire(message).replace(RETURN_PATH, b"", 1)
            self.assertEqual(collected[name], sent if sent.endswith(b"\r\n") else sent + b"\r\n", name)

    def test_each_has_a_reply(self) -> None:
        """RFC 2033 section 4.2: one unknown, one over quota, two fine, one of them twice; each is told for himself."""
        self.server.start()
        wire = Wire.connect(self, ("127.0.0.1", self.port))
        recipients = ["nobody", "full", "joe", "eva", "joe"]
        wire.send(
            b"LHLO me\r\nMAIL FROM:<ann@example.org> SIZE=100 BODY=8BITMIME\r\n"
            + b"".join(b"RCPT TO:<%s>\r\n" % one.encode() for one in recipients)
            + b"DATA\r\n"
            + on_the_wire(MESSAGE)
            + b".\r\nQUIT\r\n"
        )
        lines = wire.rest().decode().splitlines()[8:]
        self.assertEqual(
            [line[:9] for line in lines],
            ["250 2.1.0", "550 5.1.1", *["250 2.1.5"] * 4, "354 send ", "552 5.2.2", *["250 2.1.5"] * 3, "221 2.0.0"],
        )
        self.assertEqual({user: len(self.server.names(user)) for user in USERS}, {"joe": 2, "eva": 1, "full": 0})
        found = [
            (one["event"], one["recipient"], one["reply"][:9]) for one in self.server.events() if "recipient" in one
        ]
        self.assertEqual(found[0], ("recipient-refused", "nobody", "550 5.1.1"))
        self.assertEqual(
            sorted(found[1:]),
            [
                ("bounced", "full", "552 5.2.2"),
                ("delivered", "eva", "250 2.1.5"),
                *[("delivered", "joe", "250 2.1.5")] * 2,
            ],
        )
        for words in (
            "recipient-refused: session",
            "bounced: ",
            "delivered: ",
            "from <ann@example.org>, to <eva>, account eva, ",
            "unique-id " + next(iter(self.server.names("eva"))).partition(",")[0],
            "552 5.2.2 mailbox is full (full has 0 octets",
        ):
            wait_until(lambda words=words: words in self.server.output(), words)

    def test_mail_spool(self) -> None:
        """Promise: mail for somebody with a spool comes there, next to others with a Maildir, and leaves by POP3."""
        spool = self.server.directory / "spool"
        spool.touch(0o600)
        self.server.configuration["mbox"] = {"quoting": "mboxrd"}
        with open(self.server.directory / "users", "a") as users:
            users.write(f"ann:{{PLAIN}}secret::::{self.server.directory}::userdb_mail=mbox:{spool}\n")
        self.server.start()
        message = b"Subject: x\n\nFrom the beginning\n.\n"
        with self.client() as client:
            for user in ("ann", "joe", "ann"):
                client.sendmail("bob@example.org", [user], on_the_wire(message))
        session = self.server.session("ann", "secret")
        self.assertTrue(session.command(b"STAT").startswith(b"+OK 2 "))
        for number in (b"1", b"2"):
            text = session.multi_line(b"RETR " + number)[1]
            self.assertTrue(text.startswith(RETURN_PATH.replace(b"ann@", b"bob@") + b"Delivered-To: ann\r\n"))
            self.assertTrue(text.endswith(b"\r\n" + on_the_wire(message).replace(b"\n.", b"\n..")), text)
        self.assertTrue(spool.read_bytes().startswith(b"From bob@example.org "))

    def test_sessions_do_not_block(self) -> None:
        """Promise: mail comes in during a POP3 session, which sees it the next time."""
        self.server.start()
        session = self.server.session("joe", "secret")
        with self.client(unix=False) as client:
            client.sendmail("", ["joe"], on_the_wire(MESSAGE))
        self.assertEqual(session.command(b"STAT"), b"+OK 0 0")
        session.command(b"QUIT")
        self.assertTrue(self.server.session("joe", "secret").command(b"STAT").startswith(b"+OK 1 "))

    def test_leaving_in_the_message(self) -> None:
        """RFC 5321 section 4.1.1.4: a client that goes within a message, small or big, has delivered nothing."""
        self.server.start()
        self.wire("joe").close()
        descriptors = self.server.descriptors()
        for octets in (b"x" * 100, b"x\r\n" * 1_000_000):
            for leave in (Wire.close, Wire.reset):
                wire = self.wire("joe")
                wire.send(octets + b"\r\n.")
                leave(wire)
        wait_until(lambda: self.server.descriptors() <= descriptors, "all is closed")
        self.assertEqual((self.server.names("joe"), self.temporaries()), (set(), []))

    def test_big_message(self) -> None:
        """Promise: 100 MB for two recipients take little memory, and arrive."""
        self.server.start()
        with self.client() as client:
            client.sendmail("", ["joe"], on_the_wire(MESSAGE))
        before = self.server.memory_mib()
        wire = self.wire("joe", "eva")
        piece = (b"x" * 998 + b"\r\n") * 1000
        most = before
        for _ in range(100):
            wire.send(piece)
            most = max(most, self.server.memory_mib())
        wire.send(b".\r\n")
        self.assertEqual([line[:9] for line in wire.lines(2)], [b"250 2.1.5"] * 2)
        self.assertLess(max(most, self.server.memory_mib()) - before, MOST_MIB)
        for user in ("joe", "eva"):
            sizes = [path.stat().st_size for path in self.server.maildir(user, "new").iterdir()]
            self.assertEqual(max(sizes) // 1000, 99_900_000 // 1000)

    def test_slow_client(self) -> None:
        """Promise: who takes his time holds nobody up; each octet by itself is the same message."""
        self.server.start()
        slow = self.wire("joe")
        for octet in on_the_wire(MESSAGE) + b"..\r\n.\r":
            slow.send(bytes((octet,)))
        with self.client() as client:
            client.sendmail("", ["eva"], on_the_wire(MESSAGE))
        slow.send(b"\n")
        self.assertEqual(slow.line()[:9], b"250 2.1.5")
        (message,) = self.server.stored("joe").values()
        self.assertTrue(message.endswith(b"\n" + MESSAGE + b".\n"))

    def test_killed(self) -> None:
        """Promise: kill -9 within a message leaves nothing; the next start needs no help."""
        self.server.start()
        wire = self.wire("joe")
        wire.send(b"x\r\n" * 1_000_000)
        self.server.stop(signal.SIGKILL)
        self.assertEqual(wire.rest(), b"")
        self.server.configuration["listen"][0]["port"] = 0
        self.server.start()
        with self.client() as client:
            client.sendmail("", ["joe"], on_the_wire(MESSAGE))
        self.assertEqual((len(self.server.names("joe")), self.temporaries()), (1, []))

    def test_stopping(self) -> None:
        """RFC 5321 section 3.8: a stop waits for the delivery under way and answers it; others get 421."""
        self.server.start()
        idle = Wire.connect(self, self.path)
        self.assertEqual(idle.line()[:3], b"220")
        (self.server.maildir("full") / "maildirsize").write_text("100000S\n")
        with open(self.server.maildir("full") / "tpops_quota_lock", "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            wire = self.wire("full")
            wire.send(on_the_wire(MESSAGE) + b".\r\n")
            wait_until(lambda: self.temporaries("full"), "the delivery has begun")
            assert self.server.process is not None
            self.server.process.send_signal(signal.SIGTERM)
            self.assertEqual(idle.rest()[:9], b"421 4.3.2")
            self.assertIsNone(self.server.process.poll())
        self.assertEqual([line[:9] for line in wire.rest().splitlines()], [b"250 2.1.5", b"421 4.3.2"])
        self.assertEqual(self.server.process.wait(PATIENCE_SECONDS), -signal.SIGTERM)
        self.assertEqual(len(self.server.names("full")), 1)
        self.assertFalse(Path(self.path).exists())

    def test_draining(self) -> None:
        """Promise: a message that has begun is taken while the server waits for sessions; idle clients go at once."""
        self.server.configuration["server"]["drain_seconds"] = PATIENCE_SECONDS
        self.server.start()
        idle = Wire.connect(self, self.path)
        self.assertEqual(idle.line()[:3], b"220")
        wire = self.wire("joe")
        assert self.server.process is not None
        self.server.process.send_signal(signal.SIGTERM)
        self.assertEqual(idle.rest()[:9], b"421 4.3.2")
        wire.send(on_the_wire(MESSAGE) + b".\r\n")
        self.assertEqual([line[:9] for line in wire.rest().splitlines()], [b"250 2.1.5", b"421 4.3.2"])
        self.assertEqual(self.server.process.wait(PATIENCE_SECONDS), -signal.SIGTERM)

    def test_many_clients(self) -> None:
        """Promise: connections beyond the limit are refused for the moment; the others deliver side by side."""
        self.server.configuration["lmtp"]["connections"] = 8
        # The limit is each worker's own.
        self.server.configuration["server"]["workers"] = 1
        self.server.start()

        def deliver() -> None:
            with smtplib.LMTP("127.0.0.1", self.port) as client:
                for _ in range(5):
                    client.sendmail("", ["joe"], on_the_wire(MESSAGE))

        threads = [threading.Thread(target=deliver) for _ in range(7)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
        self.assertEqual(len(self.server.names("joe")), 35)
        wires = [self.wire("joe") for _ in range(8)]
        self.assertEqual(Wire.connect(self, self.path).rest()[:9], b"421 4.3.2")
        wires[0].close()
        wait_until(lambda: Wire.connect(self, self.path).line().startswith(b"220"), "a place is free")
