"""Addresses and networks in one form."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tpops.db.addresses import canonical, network, networks_around, site


class CanonicalTests(SynchronousTestCase):
    """One text for each address."""

    def test_one_form(self) -> None:
        """IPv4 in IPv6, capitals, zeros and zones make no difference."""
        for text, wanted in (
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("::FFFF:C000:0201", "192.0.2.1"),
            ("2001:DB8:0:0::1", "2001:db8::1"),
            ("fe80::1%eth0", "fe80::1"),
        ):
            self.assertEqual(canonical(text), wanted)

    def test_no_address(self) -> None:
        """The path of a socket, Postfix' "unknown", octal digits."""
        for text in ("", "unix", "/run/tpops.sock", "unknown", "192.0.2.01", "192.0.2", "\0"):
            self.assertIsNone(canonical(text))
            self.assertIsNone(site(text, 64))


class SiteTests(SynchronousTestCase):
    """Where a client is."""

    def test_prefix_is_for_ipv6_alone(self) -> None:
        """Of an IPv6 address so many bits count."""
        self.assertEqual(site("::ffff:192.0.2.1", 64), "192.0.2.1")
        self.assertEqual(site("2001:db8:1:2:3::4", 64), "2001:db8:1:2::/64")
        self.assertEqual(site("2001:db8:1:2:3::4", 48), "2001:db8:1::/48")
        self.assertEqual(site("2001:db8:1:2:3::4", 128), "2001:db8:1:2:3::4")

    @given(st.ip_addresses(v=6), st.integers(16, 128), st.integers(0, 127))
    def test_same_site_when_the_leading_bits_are_the_same(
        self, address: ipaddress.IPv6Address, prefix: int, bit: int
    ) -> None:
        """Bits behind the prefix do not matter, those before it do."""
        if address.ipv4_mapped is not None:
            return
        other = ipaddress.IPv6Address(int(address) ^ (1 << bit))
        if other.ipv4_mapped is not None:
            return
        self.assertEqual(site(str(address), prefix) == site(str(other), prefix), bit < 128 - prefix)


class NetworkTests(SynchronousTestCase):
    """What operators write."""

    def test_one_form(self) -> None:
        """A network of one address is that address."""
        for text, wanted in (
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("192.0.2.1/32", "192.0.2.1"),
            (" 192.0.2.1 ", "192.0.2.1"),
            ("2001:DB8::/32", "2001:db8::/32"),
            ("2001:db8::1/128", "2001:db8::1"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ):
            self.assertEqual(network(text), wanted)

    def test_mistakes_are_told_with_what_would_be_right(self) -> None:
        """No mistake becomes another network silently."""
        for text, wanted in (
            ("192.0.2.7/24", "write 192.0.2.7 or 192.0.2.0/24"),
            ("192.0.2.", "is no address or network"),
            ("host.example.org", "is no address or network"),
            ("192.0.2.0/33", "is no address or network"),
            ("192.0.2.0/255.255.255.0", "must be written 192.0.2.0/24"),
            ("::ffff:0:0/90", "is an address in the network"),
        ):
            with self.assertRaisesRegex(ValueError, wanted):
                network(text)

    @given(st.ip_addresses())
    def test_networks_around(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
        """All that contain it, the smallest first, each in the one form."""
        text = canonical(str(address))
        assert text is not None
        around = networks_around(text)
        self.assertEqual(len(around), ipaddress.ip_address(text).max_prefixlen + 1)
        self.assertEqual(around[0], text)
        self.assertTrue(all(ipaddress.ip_address(text) in ipaddress.ip_network(one) for one in around))
