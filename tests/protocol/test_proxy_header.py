"""The PROXY protocol's header."""

from __future__ import annotations

import ipaddress
import struct

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tpops.protocol.proxy_header import MOST_OCTETS, SIGNATURE, Origin, parse

ONE = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 110\r\n"


def two(command: int, family: int, body: bytes) -> bytes:
    """A header of version 2."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body


def addresses(source: str, destination: str, *ports: int) -> bytes:
    """The part about addresses."""
    packed = b"".join(ipaddress.ip_address(one).packed for one in (source, destination))
    return packed + struct.pack("!HH", *ports)


def extension(kind: int, value: bytes) -> bytes:
    """One TLV."""
    return struct.pack("!BH", kind, len(value)) + value


TCP4 = addresses("192.0.2.7", "198.51.100.1", 56324, 995)
TLS = extension(0x20, b"\x01" + bytes(4) + extension(0x21, b"TLSv1.3") + extension(0x23, b"TLS_AES_256_GCM_SHA384"))

GOOD: tuple[tuple[bytes, Origin | None], ...] = (
    (ONE, Origin("192.0.2.7", 56324, "198.51.100.1", 110)),
    (b"PROXY TCP6 2001:db8::7 2001:DB8:0::1 1 65535\r\n", Origin("2001:db8::7", 1, "2001:db8::1", 65535)),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", None),
    (two(0x21, 0x11, TCP4), Origin("192.0.2.7", 56324, "198.51.100.1", 995)),
    (two(0x21, 0x21, addresses("2001:db8::7", "::1", 1, 2)), Origin("2001:db8::7", 1, "::1", 2)),
    (two(0x21, 0x31, b"/client".ljust(108, b"\0") + b"/server".ljust(108, b"\0")), Origin("unix", 0, "unix", 0)),
    (two(0x20, 0x00, b""), None),
    (two(0x20, 0x11, TCP4), None),
    (two(0x21, 0x00, b"whatever"), None),
    (
        two(0x21, 0x11, TCP4 + extension(0x04, b"\0\0\0") + TLS),
        Origin("192.0.2.7", 56324, "198.51.100.1", 995, "TLSv1.3 TLS_AES_256_GCM_SHA384"),
    ),
    (
        two(0x21, 0x11, TCP4 + extension(0x20, b"\x01" + bytes(4))),
        Origin("192.0.2.7", 56324, "198.51.100.1", 995, "TLS"),
    ),
    (two(0x21, 0x11, TCP4 + extension(0x20, bytes(5))), Origin("192.0.2.7", 56324, "198.51.100.1", 995)),
)

BAD = (
    (b"USER joe\r\n", "no PROXY header"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00", "no PROXY header"),
    (b"\r\n\r\n\0\r\nQUIT\r\n", "no PROXY header"),
    (b"PROXY TCP4 192.0.2.7 198.51.100.1 56324\r\n", "not 'PROXY"),
    (b"PROXY UDP4 192.0.2.7 198.51.100.1 1 2\r\n", "not 'PROXY"),
    (b"PROXY TCP4 192.0.2.777 198.51.100.1 1 2\r\n", "wrong address"),
    (b"PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n", "wrong address"),
    (b"PROXY TCP6 192.0.2.7 198.51.100.1 1 2\r\n", "wrong address"),
    (b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 2\r\n", "wrong port"),
    (b"PROXY TCP4 192.0.2.7 198.51.100.1 -1 2\r\n", "wrong port"),
    (b"PROXY TCP4 " + b"1" * 100, "longer than 107"),
    (two(0x11, 0x11, TCP4), "0x11"),
    (two(0x22, 0x11, TCP4), "0x22"),
    (two(0x21, 0x12, TCP4), "0x12"),
    (two(0x21, 0x11, TCP4[:-1]), "too short"),
    (two(0x21, 0x11, bytes(MOST_OCTETS)), "at most 4096"),
    (two(0x21, 0x11, TCP4 + b"\x04\0"), "cut off"),
    (two(0x21, 0x11, TCP4 + b"\x04\0\x09\0"), "cut off"),
)


class ProxyHeaderTests(SynchronousTestCase):
    """HAProxy's proxy-protocol.txt."""

    def test_headers(self) -> None:
        """Sections 2.1 and 2.2: what they say, and where the client's octets begin."""
        for header, origin in GOOD:
            self.assertEqual(parse(header + b"USER joe\r\n"), (origin, len(header)), header)

    def test_more_is_needed(self) -> None:
        """Promise: no beginning of a good header is refused or taken for the whole."""
        for header, _ in GOOD:
            for end in range(len(header)):
                self.assertIsNone(parse(header[:end]), header[:end])

    def test_bad_headers(self) -> None:
        """Promise: what is wrong is said."""
        for octets, words in BAD:
            self.assertIn(words, str(self.assertRaises(ValueError, parse, octets)), octets)

    def test_longest_line(self) -> None:
        """Section 2.1: 107 octets are enough for everybody."""
        longest = b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535".ljust(105) + b"\r\n"
        self.assertEqual(parse(longest), (None, 107))

    @given(st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(lambda more: SIGNATURE + b"\x21" + more)))
    def test_anything(self, octets: bytes) -> None:
        """Promise: whatever comes is a header, too little, or wrong; never more than came."""
        try:
            found = parse(octets)
        except ValueError:
            return
        self.assertTrue(found is None or found[1] <= len(octets))
