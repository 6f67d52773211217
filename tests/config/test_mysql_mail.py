"""The keys about mail in MySQL."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tpops import mail_database
from tpops.config.load import load
from tpops.config.schema import Config
from tpops.errors import ConfigError

_ACCOUNTS = """
[[accounts]]
driver = "mysql"
servers = ["db1", "db2:3307"]
user = "reader"
password = "word"
database = "people"
preset = "tpops-v2"
"""


class MailInMySQLTests(SynchronousTestCase):
    """[mail] and [mysql]."""

    def config(self, text: str) -> Config:
        """A configuration."""
        path = Path(self.mktemp())
        path.touch(0o600)
        path.write_text(text)
        return load(str(path)).config

    def problem(self, text: str) -> str:
        """What is wrong with it."""
        return str(self.assertRaises(ConfigError, self.config, text))

    def test_location(self) -> None:
        """Promise: "mysql:" with or without an owner, and variables that exist."""
        for location in ("mysql:", "mysql:$(local_part)", "maildir:/m/$(user) mysql:"):
            self.assertEqual(self.config(f'[mail]\nlocation = "{location}"').mail.location, location)
        self.assertIn("did you mean $(user)?", self.problem('[mail]\nlocation = "mysql:$(usr)"'))
        self.assertIn('"mysql:", or', self.problem('[mail]\nlocation = "maildir:"'))

    def test_connection(self) -> None:
        """Promise: that of the accounts, or one of its own; the time limit is always [mysql]'s."""
        access = mail_database.access(self.config(_ACCOUNTS + "[mysql]\ntimeout_seconds = 7"))
        self.assertEqual(
            ([str(one) for one in access.servers], access.user, access.password, access.database),
            (["db1:3306", "db2:3307"], "reader", "word", "people"),
        )
        self.assertEqual(access.timeout_seconds, 7)
        own = '[mysql]\nservers = ["db3"]\ntls_ca = "/ca.pem"\n'
        access = mail_database.access(self.config(_ACCOUNTS + own))
        self.assertEqual(([str(one) for one in access.servers], access.user), (["db3:3306"], "tpops"))
        self.assertEqual(access.tls, "verify")
        password = Path(self.mktemp()).absolute()
        password.touch(0o600)
        password.write_text("other\n")
        access = mail_database.access(self.config(f'[mysql]\nservers = ["db3"]\npassword_file = "{password}"'))
        self.assertEqual(access.password, "other")

    def test_problems(self) -> None:
        """Promise: what does not go together is told."""
        self.assertIn("mysql has user and no servers", self.problem('[mysql]\nuser = "x"'))
        self.assertIn("localhost", self.problem('[mysql]\nservers = ["localhost"]'))
        self.assertIn("mysql.schema", self.problem('[mysql]\nschema = "v1"'))
        config = self.config('[mail]\nlocation = "mysql:"')
        self.assertTrue(mail_database.wanted(config))
        error = self.assertRaises(ConfigError, mail_database.access, config)
        self.assertIn("neither [mysql] `servers`", str(error))
        self.assertEqual(mail_database.problems(config), list(error.problems))

    def test_who_needs_it(self) -> None:
        """Promise: nobody is asked for a database who has not named one."""
        self.assertFalse(mail_database.used(self.config("[mysql]\n")))
        config = self.config(_ACCOUNTS)
        self.assertEqual((mail_database.used(config), mail_database.wanted(config)), (True, False))
