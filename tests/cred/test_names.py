"""Login names become canonical."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tpops.cred.names import MAX_NAME_OCTETS, LoginNames, NamePart, avatar_of, behind, read_avatar_id, split
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


class FolderTests(SynchronousTestCase):
    """Names that name a folder."""

    def names(self, separator: str = "+", default_domain: str = "", **rules: Any) -> LoginNames:
        """The rules with a separator."""
        return LoginNames(default_domain, folders=NamePart(behind(separator, "@%+")), **rules)

    def test_folder_is_taken_off(self) -> None:
        """popserv: the account is asked under the rest of the name; only that is lower case and gets a domain."""
        for raw, account, folder in (
            ("Joe+Lists", "joe@example.org", "Lists"),
            ("joe+lists@example.net", "joe@example.net", "lists"),
            ("joe+lists%example.net", "joe%example.net", "lists"),
            ("joe@example.net+lists", "joe@example.net", "lists"),
            ("joe+a+b", "joe@example.org", "a+b"),
            ("joe+Lists/tpops@example.net", "joe@example.net", "Lists/tpops"),
            ("joe+Entwürfe", "joe@example.org", "Entwürfe"),
            ("joe+../ann", "joe@example.org", "../ann"),
            ("joe+", "joe@example.org", ""),
            ("joe", "joe@example.org", ""),
            ("joe+" + "x" * 300, "joe@example.org", "x" * 300),
        ):
            self.assertEqual(self.names(default_domain="example.org").parted(raw.encode()), (account, folder), raw)

    def test_every_sign_parts(self) -> None:
        """Promise: what is special in expressions is no more than a sign as a separator."""
        for separator in "!\"#$%&'()*+,-:;<=>?[\\]^_`{|}~":
            names = self.names(separator)
            self.assertEqual(names.parted(f"joe{separator}lists@a".encode()), ("joe@a", "lists"), separator)
        strange = LoginNames(folders=NamePart(behind("+", "]^-@+")))
        for sign in "]^-@":
            self.assertEqual(strange.parted(f"joe+a{sign}b".encode()), (f"joe{sign}b", "a"))
        self.assertEqual(LoginNames(folders=NamePart(behind("+", ""))).parted(b"joe+a@b"), ("joe", "a@b"))

    def test_expression(self) -> None:
        """popserv's C{folder}, also one where the folder comes first."""
        names = LoginNames(folders=NamePart("^([^/]*)/"))
        self.assertEqual(names.parted(b"lists/joe@a"), ("joe@a", "lists"))
        self.assertRaisesRegex(ValueError, "one pair", NamePart, "a")
        self.assertRaisesRegex(ValueError, "one pair", NamePart, "(a)(b)")

    def test_without_folders_nothing_is_taken_off(self) -> None:
        """Promise: by default a plus sign means what it always meant."""
        self.assertEqual(LoginNames().parted(b"joe+lists"), ("joe+lists", ""))
        self.assertEqual(LoginNames().whole(b"joe+lists"), "joe+lists")
        self.assertTrue(LoginNames().same(b"Joe+lists", b"joe+lists"))

    def test_dangerous_names_stay_refused(self) -> None:
        """Promise: what is left is as harmless as any login name, and a folder alone is nobody's."""
        for raw in (b"+lists", b"../x+lists", b"joe/x+lists", b"joe+a\0b", b"joe+\xff"):
            self.assertRaises(BadCredentials, self.names().parted, raw)

    def test_others_vouch_for_accounts_only(self) -> None:
        """Promise: whoever gets a token or certificate for joe+x somewhere is not joe here."""
        for raw in (b"joe+x", b"joe+", b"joe+x@example.org"):
            self.assertRaises(BadCredentials, self.names().whole, raw)
            self.assertRaises(BadCredentials, self.names().same, raw, raw)
        self.assertTrue(self.names().same(b"Joe+lists@a", b"joe@A"))
        self.assertFalse(self.names().same(b"ann+lists@a", b"joe@a"))

    def test_guesses_are_counted_by_account(self) -> None:
        """Promise: another folder or spelling is no other name to who guesses; what is no name counts as it is."""
        names = self.names(default_domain="example.org")
        for raw in (b"joe", b"JOE+a", b"joe+b", b"Joe@Example.org+c"):
            self.assertEqual(names.guessed(raw), b"joe@example.org")
        self.assertEqual(names.guessed(b"a\0b"), b"a\0b")

    def test_avatar_ids_carry_the_folder(self) -> None:
        """Promise: what stands in one is read from it, whatever signs the names have."""
        for parts in (("a", "joe:x@b", "Lists: 1"), ("!a", "joe", "")):
            self.assertEqual(read_avatar_id(avatar_of(*parts)), parts)
