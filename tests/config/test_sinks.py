"""[[sink]]: what may be written there, and what is said of what may not."""

from __future__ import annotations

import os

from tests.config.test_load import LoadCase


class SinkTests(LoadCase):
    """Tables of several kinds."""

    def test_defaults(self) -> None:
        """Promise: the least that has to be written, and what holds then."""
        loaded = self.load(
            '[[sink]]\ndriver = "whoson"\nusers = ["allow .*"]\n[[sink]]\ndriver = "drac"\n'
            '[[sink]]\ndriver = "udp"\ndestination = "[2001:db8::1]:7000"\nname = "popserv"\n'
        )
        whoson, drac, udp = loaded.config.sink
        self.assertEqual([one.name for one in loaded.config.sink], ["whoson", "drac", "popserv"])
        self.assertEqual(whoson.settings(), {"servers": ("udp:127.0.0.1:9876",)})
        self.assertEqual(drac.settings(), {"host": "127.0.0.1", "port": 0, "portmapper_port": 111})
        self.assertEqual(udp.delivery()["kinds"], ("login",))
        self.assertFalse(any(one.before_ok for one in loaded.config.sink))
        self.assertEqual(loaded.warnings, ())

    def test_mistakes(self) -> None:
        """Promise: every mistake has its line, its key and what would be right."""
        for text, said in (
            ('driver = "whoson"', "sink[1].users is missing"),
            ('driver = "whoson"\nusers = []', "sink[1].users must not be empty"),
            (
                'driver = "whoson"\nusers = ["permit all"]',
                'sink[1].users must consist of "allow ..." and "deny ..." with an extended regular expression',
            ),
            ('driver = "whoson"\nusers = ["allow ("]', "sink[1].users is no extended regular expression"),
            (
                'driver = "whoson"\nusers = ["allow ."]\nevents = ["logout"]',
                'sink[1] events = ["logout"] makes no sense without "login"',
            ),
            ('driver = "whoson"\nusers = ["allow ."]\nevents = ["remove"]', 'must be "login" or "logout"'),
            ('driver = "whoson"\nusers = ["allow ."]\nevents = ["login", "login"]', "names an event twice"),
            ('driver = "whoson"\nusers = ["allow ."]\nservers = ["127.0.0.1:9876"]', 'must be "udp:" or "tcp:"'),
            ('driver = "whoson"\nusers = ["allow ."]\nservers = ["udp:[1::2::3]:1"]', "must have an IP address"),
            ('driver = "udp"', "sink[1].destination is missing"),
            ('driver = "udp"\ndestination = "192.0.2.1"', "must be a host and a port"),
            ('driver = "udp"\ndestination = "a:1"\nsecret = "x"\nsecret_file = "y"', "has both secret and secret_file"),
            ('driver = "drac"\nhost = "a b"', "must be a host such as"),
            ('driver = "drac"\nsecret = "x"', 'sink[1].secret is no key of driver "drac"'),
            ('driver = "smoke"', 'sink[1].driver must be one of "'),
            ('driver = "drac"\n[[sink]]\ndriver = "drac"', "sink names a sink twice: drac"),
        ):
            problems = self.problems(f"[[sink]]\n{text}\n")
            self.assertIn(said, problems[0], text)
            self.assertRegex(problems[0], r"^\d+: ", text)

    def test_secrets_are_not_shown(self) -> None:
        """Promise: a file that everybody may read must not have them."""
        text = '[[sink]]\ndriver = "udp"\ndestination = "a:1"\nsecret = "hidden"\n'
        self.load(text)
        os.chmod(self.path, 0o644)
        (problem,) = self.problems(text)
        self.assertIn("sink[1].secret is a secret", problem)
        self.assertNotIn("hidden", problem)

    def test_before_ok_without_a_login(self) -> None:
        """Promise: what means nothing is told."""
        loaded = self.load('[[sink]]\ndriver = "drac"\nbefore_ok = true\n')
        self.assertEqual(loaded.warnings, ())

    def test_mistakes_in_programs_statements_and_addresses(self) -> None:
        """Promise: templates are read when the file is."""
        for text, said in (
            ('driver = "program"', "sink[1].command is missing"),
            ('driver = "program"\ncommand = ["on-login"]', "must be a list that begins with the absolute path"),
            (
                'driver = "program"\ncommand = ["/bin/a", "$(usr)"]',
                "has the unknown variable $(usr); there are $(event)",
            ),
            ('driver = "program"\ncommand = ["/bin/a", "$(user"]', "has the unknown variable $(user)"),
            ('driver = "program"\ncommand = ["/bin/$(user)"]', "nothing stands for anything else"),
            ('driver = "sql"', "sink[1].statement is missing"),
            ('driver = "sql"\nstatement = "SELECT $(user)"', "must be INSERT, REPLACE"),
            ('driver = "sql"\nstatement = "INSERT INTO a VALUES ($(usr))"', "has the unknown variable $(usr)"),
            ('driver = "sql"\nstatement = "DO 1; DO 2"', "has more than one statement"),
            ('driver = "webhook"', "sink[1].address is missing"),
            ('driver = "webhook"\naddress = ""', "sink[1].address must not be empty"),
            ('driver = "webhook"\naddress = "http://example.org/"', "must begin with https://"),
            (
                'driver = "webhook"\naddress = "https://a/"\nsecret = "x"\nsecret_file = "y"',
                "both secret and secret_file",
            ),
        ):
            (problem,) = self.problems(f"[[sink]]\n{text}\n")
            self.assertIn(said, problem, text)
        loaded = self.load('[[sink]]\ndriver = "sql"\nstatement = "DO 1"\n[[sink]]\ndriver="program"\ncommand=["/a"]\n')
        sql, program = loaded.config.sink
        self.assertEqual((sql.timeout_seconds, program.at_once), (10.0, 4))
