"""How much mail somebody may have, as people and Dovecot write it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tpops.cred import quota_rules
from tpops.cred.passwd_file import parse_line


class RuleTests(SynchronousTestCase):
    """Sizes and rules."""

    def test_sizes(self) -> None:
        """Promise: octets, with units that are powers of 1024."""
        for text, octets in (("0", 0), ("17", 17), ("1b", 1), ("2k", 2048), ("100M", 100 << 20), ("3GiB", 3 << 30)):
            self.assertEqual(quota_rules.octets(text), octets)
        for text in ("", "M", "-1", "1.5G", "10%", "x", "1 0", "9" * 16):
            self.assertRaises(ValueError, quota_rules.octets, text)

    def test_rules(self) -> None:
        """Promise: Dovecot's rules for all folders; storage counts KiB without a unit, bytes octets."""
        for rule, expected in (
            ("*:storage=100M", (100 << 20, None)),
            ("*:storage=10", (10240, None)),
            ("*:bytes=1000:messages=5", (1000, 5)),
            ("*:messages=7", (None, 7)),
            ("*:storage=0", (0, None)),
            ("Trash:storage=+100M", (None, None)),
            ("Trash:ignore", (None, None)),
        ):
            self.assertEqual(quota_rules.parse(rule), expected, rule)
        for rule in ("", "100M", "*:", "*:storage", "*:storage=+10M", "*:storage=10%", "*:messages=x", "*:ignore"):
            self.assertRaises(ValueError, quota_rules.parse, rule)

    def test_passwd_file(self) -> None:
        """Promise: extra fields are the account's quota; one that cannot be read is told, and nobody's mail is lost."""
        told: list[str] = []
        extra = "userdb_quota_rule=*:storage=1M userdb_quota_rule2=*:messages=9 userdb_quota_rule3=Trash:ignore"
        record = parse_line(f"joe:{{PLAIN}}x::::/home/joe::{extra}", "one", told.append)
        assert record is not None
        self.assertEqual((record.account.quota_octets, record.account.quota_messages), (1 << 20, 9))
        self.assertEqual(told, [])
        record = parse_line("joe:{PLAIN}x::::/home/joe::userdb_quota_rule=*:storage=much", "one", told.append)
        assert record is not None
        self.assertEqual((record.account.quota_octets, record.account.quota_messages), (None, None))
        self.assertEqual(len(told), 1)
        self.assertIn("'much' is no size", told[0])
