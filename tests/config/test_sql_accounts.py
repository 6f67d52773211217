"""The keys of driver "mysql" as far as they depend on each other."""

from __future__ import annotations

from tests.config.test_load import LoadCase
from tpops.errors import ConfigError


class MySQLTests(LoadCase):
    """What goes together."""

    def test_what_is_refused(self) -> None:
        """With what would be right."""
        query = "query = 'SELECT pw AS password FROM x WHERE y = %s'\n"
        preset = 'preset = "tpops-v2"\n'
        for text, said in (
            ("", "needs one of preset, query and queries"),
            (query + preset, "needs one of preset, query and queries"),
            (query + "queries = ['x']\n", "needs one of preset, query and queries"),
            (preset + 'columns = ["password"]\n', "columns goes with query and queries only"),
            (query + 'columns = ["name"]\n', "columns must name the password"),
            (query + 'columns = ["pasword"]\n', "columns"),
            ('preset = "postfixadmin"\n', "needs maildrop_base"),
            (preset + 'password = "x"\npassword_file = "y"\n', "has both password and password_file"),
            (preset + 'tls = "verify"\n', "needs tls_ca"),
            (preset + 'tls_key = "x"\n', "tls_key needs tls_certificate"),
            (preset + 'servers = ["localhost"]\n', '"127.0.0.1:3306", or "unix:"'),
            (preset + "servers = []\n", "servers"),
            (preset + "timeout_seconds = 1\n", "timeout_seconds"),
        ):
            problem = "\n".join(
                self.assertRaises(ConfigError, self.load, '[[accounts]]\ndriver = "mysql"\n' + text).problems
            )
            self.assertIn(said, problem, text)

    def test_defaults(self) -> None:
        """A preset alone is enough."""
        (source,) = self.load('[[accounts]]\ndriver = "mysql"\npreset = "vpopmail"\n').config.accounts
        self.assertEqual(source.name, "mysql")
        self.assertEqual(source.settings()["servers"], ("unix:/run/mysqld/mysqld.sock",))
