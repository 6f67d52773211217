"""Clients that do what they are told fetch awkward mail from a real server, and delete it: poplib, curl, netcat."""

from __future__ import annotations

import poplib

from tests.integration import corpus
from tests.integration.clients import ClientCase
from tests.integration.server import PASSWORD, PATIENCE_SECONDS, USER, temporary
from tests.support import need


class PoplibTests(ClientCase):
    """Python's poplib."""

    def setUp(self) -> None:
        """Let it take long lines; it has a limit of its own."""
        super().setUp()
        self.patch(poplib, "_MAXLINE", 1 << 20)

    def test_messages_arrive_octet_by_octet(self) -> None:
        """RFC 1939 section 5: RETR sends what is stored, and as many octets as LIST says."""
        client = self.server.poplib()
        sizes = dict(map(int, line.split()) for line in client.list()[1])
        for number, (name, octets) in enumerate(self.messages.items(), 1):
            answer, lines, _ = client.retr(number)
            got = b"".join(line + b"\r\n" for line in lines)
            self.assertTrue(got == corpus.wire(octets), name)
            self.assertEqual((sizes[number], answer), (len(got), b"+OK %d octets" % len(got)))
        self.assertEqual(client.stat(), (len(sizes), sum(sizes.values())))
        client.quit()
        self.assertEqual(len(self.server.names()), len(self.messages))

    def test_every_command_of_the_client(self) -> None:
        """RFC 1939, 2449 and 6856: all that poplib can say is understood."""
        client = self.server.poplib()
        count = len(self.messages)
        capabilities = client.capa()
        self.assertLessEqual({"TOP", "UIDL", "PIPELINING", "UTF8", "RESP-CODES"}, set(capabilities))
        self.assertEqual(client.noop(), b"+OK")
        unique_ids = [line.split()[1] for line in client.uidl()[1]]
        self.assertEqual(len(set(unique_ids)), count)
        self.assertEqual(client.uidl(2), b"+OK 2 " + unique_ids[1])
        self.assertEqual(client.list(1), b"+OK 1 %d" % len(corpus.wire(self.messages["lf"])))
        header = corpus.wire(self.messages["lone-dot"]).partition(b"\r\n\r\n")[0].splitlines()
        self.assertEqual(client.top(5, 0)[1], [*header, b""])
        self.assertEqual(client.top(5, 2)[1], [*header, b"", b"before", b"."])
        client.dele(1)
        self.assertRaises(poplib.error_proto, client.retr, 1)
        client.dele(2)
        self.assertEqual(client.stat()[0], count - 2)
        client.rset()
        self.assertEqual(client.stat()[0], count)
        client.dele(3)
        client.quit()
        names = self.server.names()
        self.assertEqual(len(names), count - 1)
        self.assertFalse([name for name in names if name.startswith("1003.")])

    def test_utf8_is_said_before_login(self) -> None:
        """RFC 6856 section 2.1."""
        client = poplib.POP3("127.0.0.1", self.server.port, timeout=PATIENCE_SECONDS)
        self.addCleanup(client.close)
        self.assertTrue(client.utf8().startswith(b"+OK"))
        client.user(USER)
        client.pass_(PASSWORD)
        self.assertTrue(client.quit().startswith(b"+OK"))

    def test_unique_ids_stay(self) -> None:
        """RFC 1939 section 7: over sessions, deletions, flag changes, restarts and the loss of the index."""

        def unique_ids() -> dict[bytes, bytes]:
            client = self.server.poplib()
            found = {}
            for line in client.uidl()[1]:
                number, unique_id = line.split()
                found[unique_id] = client.top(int(number), 0)[1][3]
            client.quit()
            return found

        expected = unique_ids()
        self.assertEqual(len(expected), len(self.messages))
        self.assertEqual(unique_ids(), expected)
        for path in list(self.server.maildir(part="new").iterdir()):
            path.rename(self.server.maildir(part="cur") / f"{path.name}:2,FS")
        self.assertEqual(unique_ids(), expected)
        client = self.server.poplib()
        gone = client.uidl(1).split()[2]
        client.dele(1)
        client.quit()
        del expected[gone]
        self.assertEqual(unique_ids(), expected)
        self.server.restart()
        self.assertEqual(unique_ids(), expected)
        self.server.stop()
        (self.server.maildir() / "tpops_index").unlink()
        self.server.start()
        self.assertEqual(unique_ids(), expected)


class CurlTests(ClientCase):
    """curl, which carries everything."""

    skip = need(None, "curl")

    def curl(self, *arguments: str, path: str = "") -> bytes:
        """What curl gets."""
        url = f"pop3://127.0.0.1:{self.server.port}/{path}"
        return self.run_client("curl", "-sS", "-u", f"{USER}:{PASSWORD}", *arguments, url)

    def test_messages_arrive_octet_by_octet(self) -> None:
        """Promise: also all of them over one connection."""
        directory = temporary(self)
        self.curl("-o", str(directory / "#1"), path=f"[1-{len(self.messages)}]")
        for number, (name, octets) in enumerate(self.messages.items(), 1):
            self.assertTrue((directory / str(number)).read_bytes() == corpus.wire(octets), name)
        self.assertEqual(self.server.event("disconnect")["retr_count"], len(self.messages))

    def test_listings(self) -> None:
        """Promise: curl's own LIST, and UIDL and TOP as custom requests."""
        sizes = [len(corpus.wire(octets)) for octets in self.messages.values()]
        self.assertEqual(self.curl(), b"".join(b"%d %d\r\n" % one for one in enumerate(sizes, 1)))
        unique_ids = [f"{number + 1000}.{name}.host" for number, name in enumerate(self.messages, 1)]
        self.assertEqual(self.curl("-X", "UIDL").decode().split()[1::2], unique_ids)
        self.curl("-X", "UIDL 1", "--head")
        header = corpus.wire(self.messages["crlf"]).partition(b"\r\n\r\n")[0]
        self.assertEqual(self.curl("-X", "TOP 2 0"), header + b"\r\n\r\n")

    def test_deletes(self) -> None:
        """Promise: the message that DELE names is gone, and no other."""
        before = self.server.names()
        self.curl("-X", "DELE", "--head", path="4")
        self.assertEqual(before - self.server.names(), {"1004.dots.host"})

    def test_logs_in_with_plain(self) -> None:
        """RFC 5034 section 4: the response with the command and in a line of its own; 67 is curl's "login denied"."""
        for options in ((), ("--login-options", "AUTH=PLAIN"), ("--login-options", "AUTH=PLAIN", "--sasl-ir")):
            self.assertEqual(self.curl(*options).count(b"\n"), len(self.messages), options)
        url = f"pop3://127.0.0.1:{self.server.port}/"
        self.run_client("curl", "-sS", "-u", f"{USER}:wrong", url, statuses=(67,))


class NetcatTests(ClientCase):
    """A person with a terminal, or a script with a pipe."""

    skip = need(None, "nc")
    messages = {"lf": corpus.ALL["lf"]}

    def test_a_piped_session_is_answered(self) -> None:
        """Promise: a client that sends everything and closes its side gets every reply."""
        commands = temporary(self) / "commands"
        commands.write_text(f"USER {USER}\nPASS {PASSWORD}\nSTAT\nRETR 1\nDELE 1\nQUIT\n")
        with commands.open("rb") as file:
            replies = self.run_client("nc", "-N", "127.0.0.1", str(self.server.port), stdin=file)
        self.assertIn(b"+OK 1 ", replies)
        self.assertIn(corpus.wire(self.messages["lf"]) + b".\r\n", replies)
        self.assertTrue(replies.endswith(b"+OK bye (0 messages left)\r\n"), replies)
        self.assertEqual(self.server.names(), set())
