"""L{tpops.policy.limits}."""

from __future__ import annotations

from unittest import mock

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tpops.errors import LimitReached, TooSoon
from tpops.interfaces import ILimiter, ITicket
from tpops.model import Peer
from tpops.policy import limits as limits_module
from tpops.policy import memory as memory_module
from tpops.policy.limits import Limits
from tpops.policy.memory import Memory
from tpops.policy.penalties import Penalties


def make(
    connections: int = 0,
    connections_per_address: int = 0,
    ipv6_prefix: int = 64,
    exempt: tuple[str, ...] = (),
    login_delay_seconds: float = 0,
    auth_delay_seconds: float = 0,
    auth_delay_max_seconds: float = 0,
    clock: Clock | None = None,
    connections_per_user: int = 0,
    connections_per_user_and_address: int = 0,
) -> Limits:
    """Limits with nothing limited but what the test says."""
    seconds = (clock or Clock()).seconds
    memory = Memory()
    return Limits(
        connections=connections,
        connections_per_address=connections_per_address,
        ipv6_prefix=ipv6_prefix,
        exempt=exempt,
        login_delay_seconds=login_delay_seconds,
        penalties=Penalties(auth_delay_seconds, auth_delay_max_seconds, seconds, memory),
        memory=memory,
        seconds=seconds,
        connections_per_user=connections_per_user,
        connections_per_user_and_address=connections_per_user_and_address,
    )


class UserTests(SynchronousTestCase):
    """So many sessions of one user, so many of him at one address."""

    def assert_refused(self, limits: Limits, host: str, name: str, limit: str, why: str) -> None:
        """Check that a session is refused, by which limit, with which text for the log and which one for the client."""
        before = dict(limits.memory.by_user)
        with self.assertRaises(LimitReached) as refused:
            limits.admit_user(Peer(host, 4711), name)
        self.assertEqual((refused.exception.limit, str(refused.exception)), (limit, why))
        self.assertIn("of this user", refused.exception.public)
        self.assertEqual(limits.memory.by_user, before)

    def test_zero_counts_nobody(self) -> None:
        """Promise: without these limits nothing is done for a login."""
        limits = make()
        self.assertIsNone(limits.admit_user(Peer("192.0.2.1", 4711), "joe"))
        self.assertEqual(limits.memory.by_user, {})

    def test_of_one_user(self) -> None:
        """Promise: wherever he comes from, UNIX sockets among them; others have places of their own."""
        limits = make(connections_per_user=2)
        ticket = limits.admit_user(Peer("192.0.2.1", 4711), "joe")
        self.assertTrue(verifyObject(ITicket, ticket))
        limits.admit_user(Peer("unix"), "joe")
        why = "2 connections of joe, at most 2"
        self.assert_refused(limits, "2001:db8::1", "joe", "connections_per_user", why)
        limits.admit_user(Peer("192.0.2.1", 4711), "ann")
        ticket.release()
        ticket.release()
        limits.admit_user(Peer("2001:db8::1", 4711), "joe")
        self.assert_refused(limits, "unix", "joe", "connections_per_user", why)

    def test_of_one_user_at_one_address(self) -> None:
        """Promise: an IPv6 prefix is one address; other users, addresses and UNIX sockets do not count."""
        limits = make(connections_per_user_and_address=1)
        ticket = limits.admit_user(Peer("2001:db8::1", 4711), "joe")
        key = "2001:db8::/64"
        why = f"1 connections of joe from {key}, at most 1"
        self.assert_refused(limits, "2001:db8::2", "joe", "connections_per_user_and_address", why)
        limits.admit_user(Peer("2001:db8::2", 4711), "ann")
        limits.admit_user(Peer("192.0.2.1", 4711), "joe")
        for _ in range(3):
            limits.admit_user(Peer("unix"), "joe")
        ticket.release()
        limits.admit_user(Peer("2001:db8::2", 4711), "joe")

    def test_exempt_networks(self) -> None:
        """Promise: a webmail server has as many sessions of a user as it likes, and they are not his."""
        limits = make(connections_per_user=1, connections_per_user_and_address=1, exempt=("10.0.0.0/8",))
        self.assertTrue(limits.exempt(Peer("10.1.2.3", 4711)))
        self.assertFalse(limits.exempt(Peer("192.0.2.1", 4711)))
        for _ in range(3):
            self.assertIsNone(limits.admit_user(Peer("10.1.2.3", 4711), "joe"))
        limits.admit_user(Peer("192.0.2.1", 4711), "joe")


class ConnectionTests(SynchronousTestCase):
    """So many connections together, so many from one address."""

    def assert_refused(self, limits: Limits, host: str, limit: str, why: str) -> None:
        """Check that a connection is refused, by which limit and with which text for the log."""
        before = limits.memory.open_connections
        with self.assertRaises(LimitReached) as refused:
            limits.admit(Peer(host))
        self.assertEqual((refused.exception.limit, str(refused.exception)), (limit, why))
        self.assertEqual(limits.memory.open_connections, before)

    def test_provides_its_interfaces(self) -> None:
        """Promise: Limits is an ILimiter, what admit gives is an ITicket."""
        limits = make()
        self.assertTrue(verifyObject(ILimiter, limits))
        self.assertTrue(verifyObject(ITicket, limits.admit(Peer("192.0.2.1"))))

    def test_zero_is_no_limit(self) -> None:
        """Promise: 0 admits everybody."""
        limits = make()
        for _ in range(1000):
            limits.admit(Peer("192.0.2.1"))
        self.assertEqual(limits.memory.open_connections, 1000)

    def test_total_limit(self) -> None:
        """Promise: the connection after the last one is refused, whoever it is, until a place is free."""
        limits = make(connections=2, exempt=("10.0.0.0/8",))
        limits.admit(Peer("192.0.2.1"))
        ticket = limits.admit(Peer("/run/pop.sock"))
        for host in ("192.0.2.2", "10.0.0.1", "2001:db8::1", "unix"):
            self.assert_refused(limits, host, "connections", "2 connections, at most 2")
        ticket.release()
        limits.admit(Peer("192.0.2.2"))

    def test_limit_per_address(self) -> None:
        """Promise: each IPv4 address has its own places."""
        limits = make(connections_per_address=2)
        tickets = [limits.admit(Peer("192.0.2.1")) for _ in range(2)]
        self.assert_refused(limits, "192.0.2.1", "connections_per_address", "2 connections from 192.0.2.1, at most 2")
        limits.admit(Peer("192.0.2.2"))
        tickets[0].release()
        limits.admit(Peer("192.0.2.1"))
        self.assert_refused(limits, "192.0.2.1", "connections_per_address", "2 connections from 192.0.2.1, at most 2")

    def test_release_twice_gives_one_place(self) -> None:
        """Promise: release is idempotent."""
        limits = make(connections_per_address=1)
        ticket = limits.admit(Peer("192.0.2.1"))
        ticket.release()
        ticket.release()
        self.assertEqual(limits.memory.open_connections, 0)
        limits.admit(Peer("192.0.2.1"))
        ticket.release()
        self.assertEqual(limits.memory.open_connections, 1)

    def test_addresses_without_connections_are_forgotten(self) -> None:
        """Promise: memory is bounded by the open connections."""
        limits = make(connections_per_address=3)
        tickets = [limits.admit(Peer(f"192.0.2.{number}")) for number in range(200)]
        for ticket in tickets:
            ticket.release()
        self.assertEqual(limits.memory.by_key, {})

    def test_ipv6_is_counted_by_prefix(self) -> None:
        """Promise: all addresses of one IPv6 prefix are one client."""
        limits = make(connections_per_address=1, ipv6_prefix=56)
        limits.admit(Peer("2001:db8:0:aa00::1"))
        self.assert_refused(
            limits,
            "2001:db8:0:aaff:1:2:3:4",
            "connections_per_address",
            "1 connections from 2001:db8:0:aa00::/56, at most 1",
        )
        limits.admit(Peer("2001:db8:0:ab00::1"))

    def test_ipv6_with_a_full_prefix_is_counted_by_address(self) -> None:
        """Promise: prefix 128 keeps addresses apart; a scope does not."""
        limits = make(connections_per_address=1, ipv6_prefix=128)
        limits.admit(Peer("fe80::1%eth0"))
        limits.admit(Peer("fe80::2%eth0"))
        self.assert_refused(
            limits, "fe80::1%eth1", "connections_per_address", "1 connections from fe80::1/128, at most 1"
        )

    def test_mapped_ipv4_is_ipv4(self) -> None:
        """Promise: RFC 4291 section 2.5.5.2: ::ffff:a.b.c.d counts as a.b.c.d and not with its neighbours."""
        limits = make(connections_per_address=1)
        limits.admit(Peer("::ffff:192.0.2.1", 40001))
        limits.admit(Peer("::ffff:192.0.2.2", 40001))
        with self.assertRaises(LimitReached):
            limits.admit(Peer("192.0.2.2", 40002))
        for host in ("192.0.2.1", "::ffff:c000:201", "::FFFF:192.0.2.1"):
            self.assert_refused(limits, host, "connections_per_address", "1 connections from 192.0.2.1, at most 1")

    def test_exempt_networks_have_no_limit_per_address(self) -> None:
        """Promise: exempt clients are not counted by address, in any spelling; the others still are."""
        limits = make(
            connections_per_address=1, exempt=("10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "::ffff:172.16.0.0/108")
        )
        for host in ("10.1.2.3", "::ffff:10.1.2.3", "192.0.2.1", "2001:db8:ff::1", "172.17.0.1"):
            for _ in range(3):
                limits.admit(Peer(host))
        for host, key in (
            ("11.0.0.1", "11.0.0.1"),
            ("192.0.2.2", "192.0.2.2"),
            ("2001:db9::1", "2001:db9::/64"),
            ("::a00:1", "::/64"),
        ):
            limits.admit(Peer(host))
            self.assert_refused(limits, host, "connections_per_address", f"1 connections from {key}, at most 1")

    def test_whole_internet_may_be_exempt(self) -> None:
        """Promise: a network of zero bits matches its own family only."""
        limits = make(connections_per_address=1, exempt=("0.0.0.0/0",))
        for _ in range(3):
            limits.admit(Peer("192.0.2.1"))
        limits.admit(Peer("2001:db8::1"))
        with self.assertRaises(LimitReached):
            limits.admit(Peer("2001:db8::1"))

    def test_peers_without_an_address_have_no_limit_per_address(self) -> None:
        """Promise: UNIX sockets count towards the total only, whatever their name looks like."""
        for exempt in ((), ("10.0.0.0/8",)):
            limits = make(connections_per_address=1, exempt=exempt)
            for host in ("unix", "/run/tpops/pop3", "/run/1.2.3.4", "", "\0abstract", "1.2.3", "a:b", "1.2.3.٤"):
                for _ in range(2):
                    limits.admit(Peer(host))
            self.assertEqual(limits.memory.open_connections, 16)

    def test_ipv4_is_not_parsed_without_exempt_networks(self) -> None:
        """Promise: on the usual path the text of the address is the key."""
        with mock.patch.object(limits_module.socket, "inet_pton", side_effect=AssertionError):
            limits = make(connections_per_address=2, login_delay_seconds=5)
            peer = Peer("192.0.2.1", 40001)
            ticket = limits.admit(peer)
            limits.failed(peer, b"joe", b"x")
            limits.login_delay(peer, "joe")
            ticket.release()

    def test_address_is_parsed_once(self) -> None:
        """Promise: where it has to be parsed, it is parsed once for a connection."""
        limits = make(connections_per_address=2, login_delay_seconds=5, exempt=("10.0.0.0/8",))
        with mock.patch.object(limits_module.socket, "inet_pton", wraps=limits_module.socket.inet_pton) as parse:
            peer = Peer("2001:db8::1")
            ticket = limits.admit(peer)
            limits.login_delay(peer, "joe")
            ticket.release()
        self.assertEqual(parse.call_count, 1)

    def test_wrong_arguments_are_errors(self) -> None:
        """Promise: what is no network and no prefix is refused at the start."""
        for prefix in (0, 129, -1):
            with self.assertRaisesRegex(ValueError, "must be 1 to 128"):
                make(ipv6_prefix=prefix)
        with self.assertRaises(ValueError):
            make(exempt=("10.0.0.0/33",))


class DelayTests(SynchronousTestCase):
    """Pauses after failures and between logins."""

    def setUp(self) -> None:
        """A clock somewhere in the day."""
        self.clock = Clock()
        self.clock.advance(1000)
        self.peer = Peer("192.0.2.1")

    def test_failed_logins_wait_longer_and_longer(self) -> None:
        """Promise: by client, an IPv6 prefix being one client; never for exempt networks."""
        limits = make(auth_delay_seconds=2, auth_delay_max_seconds=15, exempt=("10.0.0.0/8",))

        def waits(hosts: list[str]) -> list[float]:
            return [limits.failed(Peer(host), b"%d" % at, b"x%d" % at) for at, host in enumerate(hosts)]

        self.assertEqual(waits(["192.0.2.1"] * 5), [2, 4, 8, 15, 15])
        self.assertEqual(waits(["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"]), [2, 4, 2])
        self.assertEqual(waits(["10.1.2.3"] * 5), [2] * 5)
        self.assertEqual(waits(["unix"] * 2), [2, 4])

    def test_second_login_within_the_delay_is_too_soon(self) -> None:
        """Promise: RFC 2449 section 8.1.1: the seconds left are in the text; other users are not concerned."""
        limits = make(login_delay_seconds=60, clock=self.clock)
        limits.login_delay(self.peer, "joe")
        self.clock.advance(20)
        limits.login_delay(self.peer, "ann")
        with self.assertRaises(TooSoon) as refused:
            limits.login_delay(Peer("198.51.100.1"), "joe")
        self.assertEqual(str(refused.exception), "last login 20.0 seconds ago, 40.0 seconds left")

    def test_refused_login_does_not_prolong_the_delay(self) -> None:
        """Promise: the delay counts from the last login that was let through."""
        limits = make(login_delay_seconds=60, clock=self.clock)
        limits.login_delay(self.peer, "joe")
        self.clock.advance(59)
        self.assertRaises(TooSoon, limits.login_delay, self.peer, "joe")
        self.clock.advance(1)
        limits.login_delay(self.peer, "joe")
        self.clock.advance(59)
        self.assertRaises(TooSoon, limits.login_delay, self.peer, "joe")

    def test_zero_is_no_delay(self) -> None:
        """Promise: 0 lets everybody in and remembers nobody."""
        limits = make(clock=self.clock)
        limits.login_delay(self.peer, "joe")
        limits.login_delay(self.peer, "joe")
        self.assertEqual(limits.memory.last_logins, {})

    def test_exempt_networks_are_not_delayed(self) -> None:
        """Promise: a webmail server logs in as often as it likes and does not delay the user elsewhere."""
        limits = make(login_delay_seconds=60, exempt=("10.0.0.0/8",), clock=self.clock)
        for _ in range(3):
            limits.login_delay(Peer("10.0.0.1"), "joe")
        limits.login_delay(self.peer, "joe")
        self.assertRaises(TooSoon, limits.login_delay, self.peer, "joe")
        limits.login_delay(Peer("10.0.0.1"), "joe")

    def test_unix_peers_are_delayed(self) -> None:
        """Promise: only exempt networks are free of the delay."""
        limits = make(login_delay_seconds=60, clock=self.clock)
        limits.login_delay(Peer("unix"), "joe")
        self.assertRaises(TooSoon, limits.login_delay, Peer("unix"), "joe")

    def test_expired_logins_are_forgotten(self) -> None:
        """Promise: memory holds the logins of the last delay only."""
        limits = make(login_delay_seconds=60, clock=self.clock)
        for number in range(100):
            limits.login_delay(self.peer, f"user{number}")
            self.clock.advance(1)
        self.assertEqual(len(limits.memory.last_logins), 60)

    def test_number_of_users_is_bounded(self) -> None:
        """Promise: beyond the most, the oldest login is forgotten."""
        self.patch(memory_module, "MOST_NAMES", 3)
        limits = make(login_delay_seconds=60, clock=self.clock)
        for name in ("a", "b", "c", "d"):
            limits.login_delay(self.peer, name)
        self.assertEqual(list(limits.memory.last_logins), ["b", "c", "d"])
        limits.login_delay(self.peer, "a")
        self.assertRaises(TooSoon, limits.login_delay, self.peer, "d")

    def test_clock_set_back_locks_nobody_out(self) -> None:
        """Promise: a login that lies in the future does not count."""
        now = [1000.0]
        limits = Limits(0, 0, 64, (), 60, Penalties(0, 0, lambda: now[0], Memory()), Memory(), lambda: now[0])
        limits.login_delay(self.peer, "joe")
        now[0] = 10.0
        limits.login_delay(self.peer, "joe")
        self.assertRaises(TooSoon, limits.login_delay, self.peer, "joe")
