"""Login names become canonical."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tpops.cred.names import MAX_NAME_OCTETS, LoginNames, split
from tpops.errors import BadCredentials


class CanonicalTests(SynchronousTestCase):
    """What the server makes of the octets of USER."""

    def test_lowers_case(self) -> None:
        """Names differ by more than case; unless the operator says that case counts."""
        self.assertEqual(LoginNames().canonical("JÖrg".encode()), "jörg")
        self.assertEqual(LoginNames(lowercase=False).canonical(b"Joe"), "Joe")

    def test_appends_the_default_domain_where_none_is(self) -> None:
        """TPOPS --domain: a name without any of "@%+" gets "@" and the domain."""
        names = LoginNames("example.org")
        self.assertEqual(names.canonical(b"joe"), "joe@example.org")
        for given_name in (b"joe@a", b"joe%a", b"joe+a"):
            self.assertEqual(names.canonical(given_name), given_name.decode())

    def test_appends_a_domain_that_starts_with_a_sign_as_it_is(self) -> None:
        """TPOPS 0.8: a domain that starts with neither letter nor digit is appended without "@"."""
        self.assertEqual(LoginNames("%example.org").canonical(b"joe"), "joe%example.org")

    def test_other_separators_decide(self) -> None:
        """Only the configured separators part a name from its domain."""
        self.assertEqual(LoginNames("x", separators="@").canonical(b"joe+list"), "joe+list@x")
        self.assertEqual(LoginNames("x", separators="").canonical(b"joe@a"), "joe@a@x")

    def test_refuses_what_cannot_be_a_name(self) -> None:
        """Empty, overlong, undecodable names and control characters are wrong credentials, nothing else."""
        for raw in (b"", b"a" * (MAX_NAME_OCTETS + 1), b"j\xf6rg", b"a\0b", b"a\rb", b"a\x7fb", "a\u2028b".encode()):
            self.assertRaises(BadCredentials, LoginNames().canonical, raw)

    def test_refuses_names_that_are_dangerous_in_a_path(self) -> None:
        """A name can never climb out of the directory that a mail location puts it into."""
        for raw in (b"a/b", b"/", b".", b"..", b"..@a", b"a@..", b".@a", b"a@.", b"a@..+b", b"a+..%b"):
            self.assertRaises(BadCredentials, LoginNames().canonical, raw)
        self.assertEqual(LoginNames().canonical(b"a..b@c.d"), "a..b@c.d")

    @given(st.binary(max_size=40), st.sampled_from(["", "example.org", "+x"]))
    def test_any_octets_give_a_safe_name_or_a_refusal(self, raw: bytes, domain: str) -> None:
        """Whatever a client sends: a name safe in paths, the same when made canonical again, or BadCredentials."""
        names = LoginNames(domain)
        try:
            name = names.canonical(raw)
        except BadCredentials:
            return
        self.assertNotIn("/", name)
        self.assertTrue({name, *names.split(name)}.isdisjoint((".", "..")))
        self.assertTrue(name.isprintable())
        self.assertEqual(names.canonical(name.encode()), name)


class SplitTests(SynchronousTestCase):
    """Local part and domain."""

    def test_the_last_separator_counts(self) -> None:
        """The domain stands behind the last separator."""
        self.assertEqual(split("joe+list@example.org", "@%+"), ("joe+list", "example.org"))
        self.assertEqual(split("joe", "@%+"), ("joe", ""))
        self.assertEqual(split("joe@x", ""), ("joe@x", ""))
