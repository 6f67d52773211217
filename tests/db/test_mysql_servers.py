"""The list of database servers."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.cred.fakes import Time
from tpops.db.mysql_servers import AVOIDED_SECONDS, Access, Line, Server, parse_server


class ServerTests(SynchronousTestCase):
    """How a server is written."""

    def test_forms(self) -> None:
        """Hosts with and without a port, IPv6 in brackets, sockets; and how they are shown."""
        for text, server, shown in (
            ("db1", Server("db1"), "db1:3306"),
            ("db1.example.org:3307", Server("db1.example.org", 3307), "db1.example.org:3307"),
            ("192.0.2.1", Server("192.0.2.1"), "192.0.2.1:3306"),
            ("[2001:db8::1]", Server("2001:db8::1"), "[2001:db8::1]:3306"),
            ("[::1]:3307", Server("::1", 3307), "[::1]:3307"),
            ("unix:/run/x.sock", Server(path="/run/x.sock"), "unix:/run/x.sock"),
        ):
            self.assertEqual(parse_server(text), server)
            self.assertEqual(str(server), shown)

    def test_what_is_refused(self) -> None:
        """With what would be right."""
        for text, said in (
            ("", "must be a host such as"),
            ("db1:", "must be a host such as"),
            ("db1:x", "must be a host such as"),
            ("db 1", "must be a host such as"),
            ("[db1]", "must be a host such as"),
            ("[::1", "must be a host such as"),
            ("db1:0", "port from 1 to 65535"),
            ("db1:65536", "port from 1 to 65535"),
            ("2001:db8::1", "in brackets, such as [2001:db8::1]:3306"),
            ("unix:", 'absolute path after "unix:"'),
            ("unix:x", 'absolute path after "unix:"'),
            ("localhost", '"127.0.0.1:3306", or "unix:"'),
            ("LocalHost:3307", '"127.0.0.1:3307", or "unix:"'),
        ):
            self.assertIn(said, str(self.assertRaises(ValueError, parse_server, text)))

    def test_the_password_is_not_shown(self) -> None:
        """Neither by repr nor by str."""
        access = Access((Server("db1"),), "joe", "hidden", "mail")
        self.assertNotIn("hidden", repr(access) + str(access))

    def test_the_share_of_a_step(self) -> None:
        """Whole seconds, so that at least two steps fit into the time."""
        for servers, limit, share in ((1, 10.0, 5), (2, 10.0, 5), (3, 10.0, 3), (1, 2.0, 1), (8, 2.0, 1)):
            self.assertEqual(
                Access((Server("db"),) * servers, "", "", "", timeout_seconds=limit).share_seconds(), share
            )


class LineTests(SynchronousTestCase):
    """Whom to ask first."""

    def test_who_failed_is_asked_last_for_a_while(self) -> None:
        """Then, or when he has answered, the order is that of the configuration again."""
        clock = Time()
        first, second, third = (Server(name) for name in ("a", "b", "c"))
        line = Line((first, second, third), clock)
        self.assertEqual(line.order(), [first, second, third])
        line.failed(first, "refused")
        self.assertEqual(line.order(), [second, third, first])
        clock.now += AVOIDED_SECONDS / 2
        line.failed(second, "hangs")
        self.assertEqual(line.order(), [third, first, second])
        clock.now += AVOIDED_SECONDS / 2
        self.assertEqual(line.order(), [first, third, second])
        line.answered(second)
        self.assertEqual(line.order(), [first, second, third])

    def test_all_failed(self) -> None:
        """Then they are asked all the same."""
        line = Line((Server("a"), Server("b")), Time())
        for server in line.order():
            line.failed(server, "refused")
        self.assertEqual(line.order(), [Server("a"), Server("b")])

    def test_news(self) -> None:
        """Once when it fails, once when it is back."""
        first, second = Server("a"), Server("b")
        line = Line((first, second), Time())
        line.answered(first)
        self.assertEqual(list(line.news()), [])
        for why in ("refused", "hangs"):
            line.failed(second, why)
        self.assertEqual(list(line.news()), [(second, "refused")])
        for _ in range(2):
            line.answered(second)
        line.failed(first, "gone")
        self.assertEqual(list(line.news()), [(second, ""), (first, "gone")])
