"""From the operator's query to a statement with bound values."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tpops.cred import sql_queries
from tpops.cred.sql_presets import PRESETS

_GIVEN = {"user": "joe@example.org", "local_part": "joe", "domain": "example.org", "serverhost": "192.0.2.1"}


class TemplateTests(SynchronousTestCase):
    """What can be written, and what becomes of it."""

    def test_what_it_becomes(self) -> None:
        """Variables are placeholders, quotes around them are dropped, the rest stays."""
        for template, sql, variables in (
            ("SELECT a WHERE b = %s", "SELECT a WHERE b = %s", "user"),
            ("SELECT a WHERE b='%s'", "SELECT a WHERE b=%s", "user"),
            ('select a where b="%u" and c="%d"', "select a where b=%s and c=%s", "local_part domain"),
            ("SELECT a WHERE b = '$(user)' AND c='$(serverhost)'", "SELECT a WHERE b = %s AND c=%s", "user serverhost"),
            (
                "SELECT a WHERE b = $(local_part)\n AND c=$(domain)",
                "SELECT a WHERE b = %s\n AND c=%s",
                "local_part domain",
            ),
            ("SELECT CONCAT(%u,'@','%d')", "SELECT CONCAT(%s,'@',%s)", "local_part domain"),
            ("SELECT 5 %% 2, '%%', %s", "SELECT 5 %% 2, '%%', %s", "user"),
            ("SELECT '$$(user)', '$1$x', a$$b, c$d, %s", "SELECT '$(user)', '$1$x', a$b, c$d, %s", "user"),
            (
                "SELECT 'it''s', \"a\"\"b\", 'c\\'d', `e``f`, %s",
                "SELECT 'it''s', \"a\"\"b\", 'c\\'d', `e``f`, %s",
                "user",
            ),
            ("SELECT `a%`, %s", "SELECT `a%%`, %s", "user"),
            ("SELECT a /* %s; */ WHERE b=%d", "SELECT a   WHERE b=%s", "domain"),
            ("SELECT a -- %s\n WHERE b=%d # '\n;", "SELECT a  \n WHERE b=%s", "domain"),
            ("SELECT 3-1, 4/2, a--1 FROM x WHERE b=%s ; ", "SELECT 3-1, 4/2, a--1 FROM x WHERE b=%s", "user"),
            ("(SELECT %s)", "(SELECT %s)", "user"),
            ("WITH x AS (SELECT 1) SELECT %s", "WITH x AS (SELECT 1) SELECT %s", "user"),
        ):
            found = sql_queries.parse(template)
            self.assertEqual((found.sql, " ".join(found.variables)), (sql, variables), template)

    def test_what_is_refused(self) -> None:
        """With what was wrong, and what would be right."""
        for template, said in (
            ("SELECT a WHERE b = '%u@example.org'", "write CONCAT(%u, '@example.org')"),
            ('SELECT a WHERE b = "x-%u-%d"', 'write CONCAT("x-", %u, "-", %d)'),
            ("SELECT a WHERE b = '$(local_part)@x'", "write CONCAT($(local_part), '@x')"),
            ("SELECT a WHERE b = %u@example.org", "CONCAT(%u, '@example.org')"),
            ("SELECT a FROM mail_%d WHERE b = %u", "a part of a longer word"),
            ("SELECT N'%s'", "a part of a longer word"),
            ("SELECT '%s''%u'", "within the string"),
            ("SELECT `%s`", "in the name `%s`"),
            ("SELECT a LIKE 'x%' AND %s", "single percent sign in the string 'x%'"),
            ("SELECT 5 % 2, %s", "single percent sign; write %%"),
            ("SELECT %x", "unknown variable %x; there are %s, %u"),
            ("SELECT $(usr)", "unknown variable $(usr)"),
            ("SELECT '$(usr)', %s", "unknown variable $(usr) in the string"),
            ("SELECT %(user)s", "single percent sign"),
            ("SELECT %s; DELETE FROM x", "more than one statement"),
            ("SELECT /*!50000 %s */ %s", "comment that servers execute"),
            ("SELECT /*M! %s */ %s", "comment that servers execute"),
            ("SELECT %s, 'a", "no end of what ' begins"),
            ("SELECT %s /* a", "no end of what /* begins"),
            ("UPDATE x SET a = %s", "must be a SELECT"),
            ("", "must be a SELECT"),
            ("SELECT a FROM x", "everybody would get the same account"),
        ):
            error = self.assertRaises(ValueError, sql_queries.parse, template)
            self.assertIn(said, str(error), template)

    def test_values_are_in_order(self) -> None:
        """Also where one is used twice."""
        query = sql_queries.parse("SELECT %d, %u, %d, $(user)")
        self.assertEqual(query.values(_GIVEN), ["example.org", "joe", "example.org", "joe@example.org"])

    def test_presets_can_be_read(self) -> None:
        """Every preset is a query that an operator could have written."""
        for preset in PRESETS.values():
            for template in preset.queries:
                self.assertEqual(
                    sql_queries.parse(template).sql.count("%"), sql_queries.parse(template).sql.count("%s")
                )

    @given(st.text(alphabet="%sud$()'\"`\\;#-*/! aS\n", max_size=40))
    def test_every_sign_that_is_left_is_bound_or_doubled(self, text: str) -> None:
        """Property: whatever is written, the statement has as many placeholders as values."""
        try:
            query = sql_queries.parse("SELECT " + text)
        except ValueError as error:
            self.assertTrue(str(error))
            return
        self.assertEqual(
            query.sql % tuple("?" for _ in query.variables), query.sql.replace("%s", "?").replace("%%", "%")
        )
