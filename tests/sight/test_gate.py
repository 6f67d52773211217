"""Who may see the status page."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tpops.sight.gate import COOKIE_SECONDS, MOST_CLIENTS, MOST_TRIES, TRY_SECONDS, Gate, Verdict

TOKEN = "0123456789abcdef0123"


class GateTests(SynchronousTestCase):
    """Tokens and cookies."""

    def setUp(self) -> None:
        """A gate, whose clocks stand still."""
        self.now = 1000.0
        self.at = self.gate(TOKEN)

    def gate(self, token: str) -> Gate:
        """One with the clocks of this test."""
        return Gate(token, lambda: self.now + 1e9, lambda: self.now)

    def guess(self, host: str = "192.0.2.1", times: int = MOST_TRIES) -> list[Verdict]:
        """What wrong tokens get."""
        return [self.at.token(b"wrong %d" % number, host) for number in range(times)]

    def test_token(self) -> None:
        """Promise: that token, and nothing that begins like it or is longer."""
        self.assertIs(self.at.token(TOKEN.encode(), ""), Verdict.RIGHT)
        for wrong in (b"", TOKEN[:-1].encode(), TOKEN.encode() + b"0", b"\xff" * 20):
            self.assertIs(self.at.token(wrong, ""), Verdict.WRONG)

    def test_wrong_tokens_are_limited(self) -> None:
        """Promise: after so many nothing is tried any more, not even the right one, for some seconds each."""
        self.assertEqual(set(self.guess()), {Verdict.WRONG})
        self.assertIs(self.at.token(TOKEN.encode(), "192.0.2.1"), Verdict.WAIT)
        self.assertIs(self.at.token(TOKEN.encode(), "192.0.2.2"), Verdict.RIGHT)
        self.now += TRY_SECONDS
        self.assertEqual(self.guess(times=2), [Verdict.WRONG, Verdict.WAIT])
        self.now += TRY_SECONDS
        self.assertIs(self.at.token(TOKEN.encode(), "192.0.2.1"), Verdict.RIGHT)
        self.now += TRY_SECONDS * MOST_TRIES * 3
        self.assertEqual(self.guess(times=MOST_TRIES + 1), [Verdict.WRONG] * MOST_TRIES + [Verdict.WAIT])

    def test_networks(self) -> None:
        """Promise: an IPv6 network of 64 bits is one client; IPv4 within IPv6 is that address; scopes do not count."""
        self.guess("2001:db8::1")
        self.assertIs(self.at.token(TOKEN.encode(), "2001:db8::ffff"), Verdict.WAIT)
        self.assertIs(self.at.token(TOKEN.encode(), "2001:db8:0:1::1"), Verdict.RIGHT)
        self.guess("::ffff:192.0.2.9")
        self.assertIs(self.at.token(TOKEN.encode(), "::ffff:192.0.2.8"), Verdict.RIGHT)
        self.guess("fe80::1%eth0")
        self.assertIs(self.at.token(TOKEN.encode(), "fe80::1"), Verdict.WAIT)

    def test_bounded(self) -> None:
        """Promise: of many clients those are forgotten who have not tried for the longest time."""
        self.guess()
        for number in range(MOST_CLIENTS):
            self.at.token(b"wrong", f"10.0.{number >> 8}.{number & 255}")
        self.assertEqual(len(self.at._tries), MOST_CLIENTS)
        self.assertIs(self.at.token(TOKEN.encode(), "192.0.2.1"), Verdict.RIGHT)

    def test_cookies(self) -> None:
        """Promise: good everywhere the token is known, until they expire; void with another token."""
        cookie = self.at.cookie()
        self.assertNotIn(TOKEN.encode(), cookie)
        self.assertIs(self.gate(TOKEN).knows(cookie, ""), Verdict.RIGHT)
        self.assertIs(self.gate(TOKEN + "x").knows(cookie, ""), Verdict.WRONG)
        self.now += COOKIE_SECONDS
        self.assertIs(self.at.knows(cookie, ""), Verdict.RIGHT)
        self.now += 1
        self.assertIs(self.at.knows(cookie, ""), Verdict.NOTHING)

    def test_changed_cookies(self) -> None:
        """Promise: one that somebody has made counts as a wrong token; what is no cookie is nothing."""
        expires, _, mac = self.at.cookie().partition(b".")
        later = b"%x" % (int(expires, 16) - 1)
        self.assertIs(self.at.knows(later + b"." + mac, "192.0.2.1"), Verdict.WRONG)
        never = b"%x" % (int(expires, 16) + 1000)
        for nothing in (b"", b".", b"x", never + b"." + mac, expires + b"." + mac + b"0", b"-1." + mac):
            self.assertIs(self.at.knows(nothing, "192.0.2.1"), Verdict.NOTHING)
        self.guess(times=MOST_TRIES - 1)
        self.assertIs(self.at.knows(later + b"." + mac, "192.0.2.1"), Verdict.WAIT)
        self.assertIs(self.at.knows(expires + b"." + mac, "192.0.2.1"), Verdict.RIGHT)
