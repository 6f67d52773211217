"""The table [pop_before_smtp]."""

from __future__ import annotations

from tests.config.test_load import LoadCase


class PopBeforeSMTPTests(LoadCase):
    """What may be written, and what must not."""

    def table(self, **keys: str) -> str:
        """The table with these keys, as TOML."""
        return "[pop_before_smtp]\n" + "".join(f"{name} = {value}\n" for name, value in keys.items())

    def problem(self, **keys: str) -> str:
        """The one problem of the table."""
        (problem,) = self.problems(self.table(**keys))
        return problem

    def test_off_by_default(self) -> None:
        """Without a store there is nothing."""
        settings = self.load("").config.pop_before_smtp
        self.assertEqual((settings.store, settings.policy, settings.expire_seconds), ("", (), 1800))

    def test_sockets(self) -> None:
        """Address and port, or a path, which is made absolute."""
        text = self.table(store='"sqlite"', policy='["127.0.0.1:10040", "[::1]:10040", "unix:private/tpops"]')
        loaded = self.load(text)
        self.assertEqual(
            loaded.config.pop_before_smtp.policy,
            ("127.0.0.1:10040", "[::1]:10040", f"unix:{self.directory}/private/tpops"),
        )
        self.assertEqual(loaded.warnings, ())

    def test_wrong_sockets(self) -> None:
        """Each with what would be right."""
        for one in ("10040", "localhost:10040", "::1:10040", "127.0.0.1", "127.0.0.1:70000", "300.0.0.1:1", "unix:"):
            self.assertRegex(self.problem(store='"sqlite"', policy=f'["{one}"]'), "policy.*must (be|have)")

    def test_one_socket_for_two_services(self) -> None:
        """Said when the file is read."""
        problem = self.problem(store='"sqlite"', policy='["127.0.0.1:1"]', tcp_table='["127.0.0.1:1"]')
        self.assertIn("names an address twice: 127.0.0.1:1", problem)

    def test_services_need_a_store(self) -> None:
        """Otherwise they would know nothing."""
        self.assertIn("needs pop_before_smtp.store", self.problem(policy='["127.0.0.1:1"]'))

    def test_socket_that_others_reach(self) -> None:
        """A warning."""
        (warning,) = self.load(self.table(store='"sqlite"', policy='["0.0.0.0:10040", "127.0.0.1:1"]')).warnings
        self.assertIn("whoever reaches 0.0.0.0:10040", warning)

    def test_nothing_may_be_granted_on_an_error(self) -> None:
        """action_on_error that would let anybody relay is refused, in whatever words."""
        numbers = ("250 fine", "1103600395")
        for action in (
            *("OK", "ok", " OK", "PERMIT", "permit_mynetworks", "permit_auth_destination", "", *numbers),
            *("FILTER smtp:x", "DUNNOX", "pbs_class", "DISCARD", "REDIRECT a@b", "DUNNO\\nOK"),
        ):
            problem = self.problem(store='"sqlite"', action_on_error=f'"{action}"')
            self.assertIn("must not let anybody relay when the store fails", problem, action)

    def test_harmless_words_on_an_error(self) -> None:
        """Those that say nothing, or not now, or no."""
        later = ("DEFER_IF_REJECT try again", "DEFER", "DEFER_IF_PERMIT x", "450 4.3.0 x")
        for action in ("DUNNO", "dunno", "REJECT", *later):
            text = self.table(store='"sqlite"', action_on_error=f'"{action}"')
            self.assertEqual(self.load(text).config.pop_before_smtp.action_on_error, action)

    def test_action_is_one_line(self) -> None:
        """More would be more than one answer."""
        for action in ("OK\\n\\naction=OK", "", " ", "OK \u00e9"):
            self.assertIn("must be one line", self.problem(store='"sqlite"', action=f'"{action}"'))

    def test_tables_of_mysql(self) -> None:
        """What the old table cannot hold is said when the file is read."""
        for keys, wanted in (
            ({"store": '"sqlite"', "mysql_tables": '"both"'}, 'goes with store = "mysql" only'),
            ({"store": '"mysql"', "mysql_tables": '"classic"', "ipv6_prefix": "128"}, 'needs match = "address"'),
            ({"store": '"mysql"', "mysql_tables": '"both"'}, "needs ipv6_prefix = 128"),
        ):
            self.assertIn(wanted, self.problem(**keys))
        self.load(self.table(store='"mysql"', mysql_tables='"both"', ipv6_prefix="128"))
