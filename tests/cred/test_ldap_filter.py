"""A login name in a search filter is a value and nothing else."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from sansldap import FilterAnd, FilterEquality, FilterSubstrings
from twisted.trial.unittest import SynchronousTestCase

from tpops.cred.ldap_filter import FilterTemplate, escape
from tpops.cred.names import split


def template(text: str) -> FilterTemplate:
    """The filter with the usual separators."""
    return FilterTemplate(text, lambda name: split(name, "@%+"))


class FilterTests(SynchronousTestCase):
    """tpops.cred.ldap_filter."""

    @settings(deadline=None)
    @given(st.text(min_size=1))
    def test_any_name_is_one_value(self, name: str) -> None:
        """RFC 4515 section 3: no name adds to the filter or takes from it."""
        for variable in ("$(user)", "%s"):
            self.assertEqual(
                template(f"(&(objectClass=person)(uid={variable}))").fill(name),
                FilterAnd([FilterEquality("objectClass", b"person"), FilterEquality("uid", name.encode())]),
            )

    @settings(deadline=None)
    @given(st.text(min_size=1))
    def test_within_a_value(self, name: str) -> None:
        """RFC 4515 section 3: an asterisk of the name is no wildcard, those of the filter are."""
        self.assertEqual(
            template("(mail=$(user)@*)").fill(name), FilterSubstrings("mail", name.encode() + b"@", [], None)
        )

    def test_escapes(self) -> None:
        """RFC 4515 section 4: the examples, and UTF-8."""
        self.assertEqual(escape("Parens R Us (for all your parenthetical needs)")[-1:], "9")
        self.assertEqual(escape("*()\\\0/"), "\\2a\\28\\29\\5c\\00\\2f")
        self.assertEqual(escape("Lučić"), "Lu\\c4\\8di\\c4\\87")
        self.assertEqual(escape("joe.user-1@example.org"), "joe.user-1@example.org")

    def test_parts(self) -> None:
        """Promise: the local part, the domain and a percent sign, in both spellings."""
        expected = "(&(uid=joe)(o=example.org)(cn=5%))"
        for text in ("(&(uid=$(local_part))(o=$(domain))(cn=5%%))", "(&(uid=%u)(o=%d)(cn=5%%))"):
            self.assertEqual(str(template(text).fill("joe@example.org")), expected)
            self.assertIsNone(template(text).fill("joe"))
            self.assertIsNone(template(text).fill("@example.org"))
        self.assertEqual(str(template("(uid=%u)").fill("joe")), "(uid=joe)")

    def test_no_filters(self) -> None:
        """Promise: what is no filter, or has a variable where no value is, is told when the server starts."""
        for text, why in (
            ("(uid=$(user)", "is no filter of RFC 4515"),
            ("", "is no filter of RFC 4515"),
            ("($(user)=x)", "is no filter of RFC 4515"),
            ("(uid=$(name))", r"knows no variable '\$\(name\)'"),
            ("(uid=%x)", "knows no variable '%x'"),
            ("(uid=50%)", r"knows no variable '%\)'"),
        ):
            with self.assertRaisesRegex(ValueError, why):
                template(text)

    def test_filter_of_active_directory(self) -> None:
        """Promise: matching rules by number work."""
        text = "(&(objectClass=user)(sAMAccountName=%u)(!(userAccountControl:1.2.840.113556.1.4.803:=2)))"
        self.assertEqual(str(template(text).fill("joe")), text.replace("%u", "joe"))
