"""The octets of L{tpops.events.udp_notify}, L{tpops.events.drac} and L{tpops.events.whoson}."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import socket
import struct
import sys

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.events.peers import UDPPeer
from tests.events.samples import MOMENT
from tests.integration.server import wait_until
from tests.private_network import PrivateNetwork
from tests.support import lacking
from tpops.events import drac, udp_notify, whoson
from tpops.events.deliveries import NotTold
from tpops.interfaces import IReceiver
from tpops.model import Notice

#: Linux: <bits/in.h>.
_IP_RECVTTL = 12

LOGIN = Notice(kind="login", at=MOMENT, session="s1", user="joe", peer="192.0.2.7", server="pop.example.org")

PLAIN = b"time 1741515072\nservice pop\nuser joe\nip 192.0.2.7\nsource pop.example.org\n"


class DatagramTests(SynchronousTestCase):
    """popserv's datagram."""

    def test_plain(self) -> None:
        """popserv, logudp.dst: lines of name and value, a dot at the end."""
        self.assertEqual(udp_notify.datagram(LOGIN, b"c"), PLAIN + b".\n")

    def test_with_a_secret(self) -> None:
        """popserv, logudp.secret: MD5 of challenge and secret, one behind the other."""
        digest = hashlib.md5(b"0123secret").hexdigest().encode()
        self.assertEqual(udp_notify.datagram(LOGIN, b"0123", b"secret"), b"md5 " + digest + b" 0123\n" + PLAIN + b".\n")

    def test_with_a_key(self) -> None:
        """Promise: HMAC-SHA256 of every octet before its line."""
        octets = udp_notify.datagram(LOGIN, b"0123", b"secret", b"key")
        covered, _, rest = octets.partition(b"hmac-sha256 ")
        self.assertTrue(covered.endswith(PLAIN))
        self.assertEqual(rest, hmac.new(b"key", covered, "sha256").hexdigest().encode() + b"\n.\n")

    def test_name_cannot_add_lines(self) -> None:
        """Promise: a line end in a name is written as it is not one."""
        evil = Notice(kind="login", at=MOMENT, user="joe\nuser ann\n.", peer="192.0.2.7")
        self.assertIn(b"\nuser joe\\x0auser\\x20ann\\x0a.\nip ", udp_notify.datagram(evil, b""))

    def test_multicast(self) -> None:
        """popserv, logudp.multicast.ttl: members of the group get it, with that many networks to cross."""
        # As root in a network that surely has multicast, else in that of this machine.
        with PrivateNetwork(self) if os.geteuid() == 0 else contextlib.nullcontext():
            self.multicast("239.255.77.7")

    def multicast(self, group: str) -> None:
        """Join a group, and send to it."""
        member = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(member.close)
        member.bind(("", 0))
        member.settimeout(60)
        try:
            joining = socket.inet_aton(group) + socket.inet_aton("0.0.0.0")
            member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joining)
        except OSError as problem:
            lacking(self, f"this machine has no multicast: {problem}")
        member.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
        receiver = udp_notify.UDPNotify(None, group, member.getsockname()[1], b"", b"", 7, lambda: b"")
        receiver.start()
        self.successResultOf(Deferred.fromCoroutine(receiver.send(LOGIN)))
        datagram, ancillary, _, _ = member.recvmsg(2000, 200)
        self.assertEqual(datagram, PLAIN + b".\n")
        self.assertEqual([int.from_bytes(data, sys.byteorder) for _, _, data in ancillary], [7])
        self.successResultOf(Deferred.fromCoroutine(receiver.stop()))

    def test_ipv6(self) -> None:
        """Promise: destinations may be IPv6."""
        peer = UDPPeer(self, lambda datagram: None, "::1")
        receiver = udp_notify.UDPNotify(None, "::1", peer.port, b"", b"", 1, lambda: b"")
        self.successResultOf(Deferred.fromCoroutine(receiver.send(LOGIN)))
        wait_until(lambda: peer.got == [PLAIN + b".\n"], "a datagram")
        self.successResultOf(Deferred.fromCoroutine(receiver.stop()))

    def test_network_that_is_not_there(self) -> None:
        """Promise: what the system says of sending is a failure with a reason."""
        receiver = udp_notify.UDPNotify(None, "255.255.255.255", 9, b"", b"", 1, lambda: b"")
        self.assertIn(
            "255.255.255.255, port 9: Permission denied",
            str(self.failureResultOf(Deferred.fromCoroutine(receiver.send(LOGIN)), NotTold).value),
        )
        self.successResultOf(Deferred.fromCoroutine(receiver.stop()))


class RPCTests(SynchronousTestCase):
    """Calls and replies of ONC RPC."""

    def test_call(self) -> None:
        """RFC 5531 section 9: ten words, then the arguments; the address is a number."""
        self.assertEqual(
            drac.call(7, drac.PROGRAM, 1, 1, (0xC0000207,)),
            bytes.fromhex("00000007 00000000 00000002 000dbc05 00000001 00000001" + "00000000" * 4 + "c0000207"),
        )

    def test_replies(self) -> None:
        """RFC 5531 section 9: accepted and done, with any verifier; everything else is a failure with a reason."""
        good = struct.pack(">6I", 7, 1, 0, 0, 0, 0)
        self.assertEqual(drac.answered(7, good + struct.pack(">I", 3)), 3)
        padded = struct.pack(">5I", 7, 1, 0, 0, 5) + b"abcde\0\0\0" + struct.pack(">2I", 0, 1)
        self.assertEqual(drac.answered(7, padded), 1)
        for reply, said in (
            (b"", "too short"),
            (good, "too short"),
            (struct.pack(">3I", 7, 0, 0), "none of RPC"),
            (struct.pack(">4I", 7, 1, 1, 0), "refused"),
            (struct.pack(">6I", 7, 1, 0, 0, 0, 1), "the program is not there"),
            (struct.pack(">6I", 7, 1, 0, 0, 0, 99), "fails with 99"),
            (struct.pack(">5I", 7, 1, 0, 0, 0xFFFFFFFF), "too short"),
        ):
            self.assertIn(said, str(self.assertRaises(NotTold, drac.answered, 7, reply)))


class LineTests(SynchronousTestCase):
    """Who is told of what, in which order."""

    def test_clients_without_an_address(self) -> None:
        """Promise: they are left out; DRAC knows IPv4 alone; a master user opens nothing for relaying."""
        receivers = (
            whoson.Whoson(Clock(), (), 5.0, True),
            udp_notify.UDPNotify(None, "", 1, b"", b"", 1, lambda: b""),
            drac.Drac(None, "", 0, 111, lambda: 1),
        )
        for receiver in receivers:
            self.assertTrue(verifyObject(IReceiver, receiver))
            self.assertIsNone(receiver.line(Notice(kind="login", at=MOMENT, session="s", peer="unix")))
            v6 = receiver.line(Notice(kind="login", at=MOMENT, session="s", peer="2001:db8::1"))
            self.assertEqual(v6 is None, isinstance(receiver, drac.Drac))
            self.assertIsNotNone(receiver.line(LOGIN))
            as_another = attrs.evolve(LOGIN, master="admin")
            self.assertEqual(receiver.line(as_another) is None, not isinstance(receiver, udp_notify.UDPNotify))

    def test_logout_of_the_last_session(self) -> None:
        """Promise: WHOSON forgets an address when nobody is logged in from there; its requests keep their order."""
        receiver = whoson.Whoson(Clock(), (), 5.0, True)
        logout = Notice(kind="logout", at=MOMENT, session="s1", peer="192.0.2.7")
        lines = [receiver.line(one) for one in (LOGIN, LOGIN, logout, logout, LOGIN, logout)]
        self.assertEqual(lines, ["192.0.2.7", "192.0.2.7", None, "192.0.2.7", "192.0.2.7", "192.0.2.7"])

    def test_addresses_are_not_kept_for_nothing(self) -> None:
        """Promise: without logouts nothing grows."""
        receiver = whoson.Whoson(Clock(), (), 5.0, False)
        for _ in range(3):
            self.assertEqual(receiver.line(LOGIN), "192.0.2.7")
        self.assertFalse(receiver._here)
