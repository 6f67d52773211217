"""The configuration file is read, and every mistake in it is told at once."""

from __future__ import annotations

import os
import socket
from functools import partial
from importlib import import_module
from typing import Annotated

from pydantic import ValidationError
from twisted.trial.unittest import SynchronousTestCase

from tpops.config import checks, section
from tpops.config.load import RENEWING_DRIVERS, Loaded, default_path, explain, load
from tpops.config.model_walk import effective, label, secret, tables
from tpops.config.schema import Config, Listen
from tpops.config.section import Section, key
from tpops.cred import drivers
from tpops.errors import ConfigError
from tpops.interfaces import IRenewsHashes
from tpops.mailbox import locations


class LoadCase(SynchronousTestCase):
    """Writes a file and loads it."""

    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        os.mkdir(self.directory)
        self.path = os.path.join(self.directory, "tpops.toml")

    def load(self, text: str, uid: int = 1000) -> Loaded:
        # For tests with secrets in it; a file that is there keeps its mode.
        with open(self.path, "w", encoding="utf-8", newline="", opener=partial(os.open, mode=0o640)) as file:
            file.write(text)
        return load(self.path, uid)

    def problems(self, text: str) -> list[str]:
        """The problems without the file's name."""
        error = self.assertRaises(ConfigError, self.load, text)
        for problem in error.problems:
            self.assertTrue(problem.startswith(f"{self.path}:"), problem)
        return [problem.removeprefix(f"{self.path}:").strip() for problem in error.problems]


class GoodTests(LoadCase):
    """What may be written."""

    def test_an_empty_file_has_all_defaults(self) -> None:
        """One listener on 127.0.0.1:110, accounts in SQLite in the state directory."""
        loaded = self.load("")
        self.assertEqual(loaded.config, Config())
        self.assertEqual(loaded.config.listen, (Listen(address="127.0.0.1", port=110),))
        self.assertEqual(loaded.config.accounts[0].path, "/var/lib/tpops/accounts.sqlite")
        self.assertEqual(loaded.warnings, ())
        self.assertEqual(set(loaded.origins.values()), {"default"})

    def test_the_defaults_are_those_of_the_rfc_and_of_tpops(self) -> None:
        """RFC 1939 section 3: ten minutes; RFC 2449 section 4: 255 octets."""
        config = Config()
        self.assertEqual((config.protocol.idle_timeout_seconds, config.protocol.command_octets), (600, 255))
        self.assertEqual((config.maildir.sizes, config.maildir.mark_seen), ("exact", "never"))

    def test_the_host_name_is_the_machines(self) -> None:
        """Its own name where that is full, else what the resolver makes of it."""
        self.patch(socket, "gethostname", lambda: "mail.example.org")
        self.assertEqual(Config().server.hostname, "mail.example.org")
        self.patch(socket, "gethostname", lambda: "mail")
        self.patch(socket, "getfqdn", lambda: "mail.example.net")
        self.assertEqual(section.machine_name(), "mail.example.net")

    def test_tells_where_each_value_comes_from(self) -> None:
        """Every effective key is "default" or file and line, whatever the line ends are."""
        loaded = self.load("[limits]\r\nconnections = 5\r\n[[listen]]\r\n[[listen]]\r\nport = 111\r\n")
        self.assertEqual(loaded.origins["limits.connections"], f"{self.path}:2")
        self.assertEqual(loaded.origins["listen[2].port"], f"{self.path}:5")
        self.assertEqual(loaded.origins["listen[1].port"], "default")
        self.assertEqual(set(loaded.origins), {label(path) for path, _ in effective(loaded.config)})

    def test_relative_paths_are_relative_to_the_file(self) -> None:
        """Wherever the program was started."""
        loaded = self.load(
            '[server]\nstate_dir = "."\n[[listen]]\naddress = "unix:run/pop3"\n[[accounts]]\ndriver = "passwd_file"\n'
            'path = "../users"\n[mail]\nlocation = "maildir:mail/$(user)"\n[log]\naccess_log = "/var/log/x"\n'
        )
        config = loaded.config
        self.assertEqual(config.server.state_dir, self.directory)
        self.assertEqual(config.listen[0].address, f"unix:{self.directory}/run/pop3")
        self.assertEqual(config.accounts[0].path, os.path.join(os.path.dirname(self.directory), "users"))
        self.assertEqual(config.accounts[0].name, "passwd_file")
        self.assertEqual(config.mail.location, f"maildir:{self.directory}/mail/$(user)")
        self.assertEqual((config.log.access_log, config.log.json_log), ("/var/log/x", ""))

    def test_the_default_database_is_in_the_state_directory(self) -> None:
        """Where [[accounts]] is missing."""
        self.assertEqual(self.load('[server]\nstate_dir = "/s"').config.accounts[0].path, "/s/accounts.sqlite")

    def test_addresses_of_all_kinds(self) -> None:
        """IPv4, IPv6 and UNIX sockets; messages show them as people write them."""
        text = "".join(f'[[listen]]\naddress = "{one}"\n' for one in ("0.0.0.0", "::", "unix:/run/pop3"))
        listen = self.load(text).config.listen
        self.assertEqual([one.where for one in listen], ["0.0.0.0:110", "[::]:110", "unix:/run/pop3"])

    def test_several_listeners_on_free_ports(self) -> None:
        """Port 0 may be there twice."""
        self.assertEqual(len(self.load("[[listen]]\nport = 0\n[[listen]]\nport = 0\n").config.listen), 2)

    def test_the_configuration_cannot_be_changed(self) -> None:
        """Frozen: what was validated stays."""
        with self.assertRaises(ValidationError):
            Config().limits.connections = 5  # type: ignore[misc]

    def test_warns_of_what_is_allowed_and_unwise(self) -> None:
        """Below the RFC's idle timeout, sizes that are not exact, serving as root."""
        text = '[protocol]\nidle_timeout_seconds = 599\n[maildir]\nsizes = "file"\n'
        warnings = self.load(text, uid=0).warnings
        for word, warning in zip(("RFC 1939", "maildir.sizes", "server.user"), warnings, strict=True):
            self.assertIn(word, warning)
        self.assertEqual(self.load('[server]\nuser = "mail"\n', uid=0).warnings, ())
        self.assertEqual(load(self.path).warnings, ())
        self.assertEqual(self.load("[protocol]\napop_only = true\n").warnings, ())
        for limits in ("connections = 400", "unauthenticated_connections = 0"):
            (warning,) = self.load(f"[limits]\n{limits}\n").warnings
            self.assertIn("clients that never log in can take every place", warning)
        self.assertEqual(self.load("[limits]\nconnections = 0\nunauthenticated_connections = 0\n").warnings, ())
        (warning,) = self.load('[protocol]\napop_only = true\ndigests = "never"\n').warnings
        self.assertIn("lets nobody log in without TLS", warning)

    def test_warns_of_rehashing_that_changes_nothing(self) -> None:
        """No source that is written, and the second key without the first."""
        files = '[[accounts]]\ndriver = "passwd_file"\npath = "users"\n'
        for text, words in (
            ('[passwords]\nrehash = "argon2id"\n' + files, ["passwords.rehash changes nothing"]),
            ('[passwords]\nrehash = "argon2id"\n[[accounts]]\ndriver = "mysql"\npreset = "tpops-v2"\n', []),
            ("[passwords]\nrehash_plain = true\n", ["passwords.rehash_plain changes nothing"]),
            ('[passwords]\nrehash = "argon2id"\nrehash_plain = true\n', []),
        ):
            warnings = self.load(text).warnings
            self.assertEqual([one.partition(":")[0] for one in warnings], words)

    def test_rehashing_drivers_are_those_that_can(self) -> None:
        """Every driver that renews hashes is known to, and only those."""
        able = []
        for kind, (module, name, extra) in drivers._KINDS.items():
            if not extra and IRenewsHashes.implementedBy(getattr(import_module(module), name)):
                able.append(kind)
        self.assertEqual(tuple(able), RENEWING_DRIVERS)

    def test_locations_know_the_variables_that_the_drivers_expand(self) -> None:
        """What the configuration accepts, the Maildir driver understands."""
        self.assertEqual(checks.LOCATION_VARIABLES, locations.VARIABLES)
        self.assertEqual(checks.LOCATION_KINDS, locations.KINDS)

    def test_finds_the_file_without_being_told(self) -> None:
        """TPOPS_CONFIG, else ./tpops.toml, else /etc/tpops/tpops.toml."""
        self.patch(os, "environ", {"TPOPS_CONFIG": "/x"})
        self.assertEqual(default_path(), "/x")
        self.patch(os, "environ", {})
        here = os.getcwd()
        self.addCleanup(os.chdir, here)
        os.chdir(self.directory)
        self.assertEqual(default_path(), "/etc/tpops/tpops.toml")
        self.load("")
        self.assertEqual(default_path(), "tpops.toml")


class BadTests(LoadCase):
    """What is told of mistakes."""

    def test_tells_all_problems_at_once_in_the_order_of_the_file(self) -> None:
        """File, line, key, value and what would be right."""
        text = (
            'hostname = "x"\n[limitz]\n[limits]\nconnections = "many"\nconections = 1\nauth_tries = 3\n'
            "[protocol]\nauth_tries = true\nlast = 1\ndisconnect_octets = 256\ncommand_octets = 300\n"
            'utf8_headers = "maybe"\nauth_delay_seconds = -1\nidle_timeout_seconds = nan\n[maildir]\nindex = "no"\n'
        )
        self.assertEqual(
            self.problems(text),
            [
                "1: hostname is not a known section or key; did you mean server.hostname?",
                "2: limitz is not a known section or key; did you mean limits?",
                '4: limits.connections must be a whole number, not "many"',
                "5: limits.conections is not a known key; did you mean limits.connections?",
                "6: limits.auth_tries is not a known key; did you mean protocol.auth_tries?",
                "8: protocol.auth_tries must be a whole number, not true",
                "9: protocol.last must be true or false, not 1",
                "10: protocol.disconnect_octets must be at least command_octets, which is 300, not 256",
                '12: protocol.utf8_headers must be "send" or "refuse", not "maybe"',
                "13: protocol.auth_delay_seconds must be at least 0, not -1",
                "14: protocol.idle_timeout_seconds must be a finite number, not nan",
                '16: maildir.index must be true or false, not "no"',
            ],
        )

    def test_unknown_keys_without_a_likely_name_show_what_there_is(self) -> None:
        """And never their value, which may be a secret in the wrong place."""
        (problem,) = self.problems('[passwords]\nzzz = "sEcReT"\n')
        self.assertIn("known are cache_entries, cache_ttl_seconds", problem)
        self.assertNotIn("sEcReT", problem)
        (problem,) = self.problems('hostnam = "x"\n')
        self.assertIn("server.hostname", problem)
        (problem,) = self.problems('qqq = "x"\n')
        self.assertIn("known are server, tls, listen", problem)

    def test_secrets_are_not_for_everybody(self) -> None:
        """A file with secrets that everybody may read is refused, without the secret; one without is not."""
        text = '\n[[accounts]]\ndriver = "mysql"\npreset = "tpops-v2"\npassword = "{}"\n'
        with open(self.path, "w", encoding="utf-8"):
            os.chmod(self.path, 0o644)
        self.load(text.format(""))
        (problem,) = self.problems(text.format("hidden"))
        self.assertTrue(problem.startswith("5: accounts[1].password is a secret, and everybody"), problem)
        self.assertNotIn("hidden", problem)
        os.chmod(self.path, 0o640)
        self.assertEqual(self.load(text.format("hidden")).config.accounts[0].password, "hidden")

    def test_secret_values_are_not_shown(self) -> None:
        """A key that the schema calls secret is told without its value."""

        class Door(Section):
            """A door."""

            code: Annotated[int, key("The code.", secret=True)] = 0

        class House(Section):
            """A house."""

            door: Door = Door()

        with self.assertRaises(ValidationError) as caught:
            House.model_validate({"door": {"code": "sEcReT"}})
        (problem,) = explain(caught.exception, "f", {("door", "code"): 2}, House)
        self.assertEqual(problem, "f:2: door.code must be a whole number")
        self.assertTrue(secret(("door", "code"), tables(House)))
        self.assertFalse(secret(("door",), tables(House)))
        self.assertFalse(secret(("door", "bell"), tables(House)))

    def test_brackets_of_tables(self) -> None:
        """[listen] and [[server]] are told as what they are."""
        self.assertEqual(
            self.problems('[listen]\nport = 1\n[[server]]\nuser = "x"\n'),
            ["1: listen must be written as [[listen]]", "3: server must be written as [server]"],
        )

    def test_addresses_ports_and_modes(self) -> None:
        """What does not go together, and what is no address."""
        for text, words in (
            ('address = "localhost"', 'listen[1].address must be an IP address such as "127.0.0.1"'),
            ('address = "unix:"', "must have a path"),
            ("port = 65536", "listen[1].port must be at most 65535, not 65536"),
            ('address = "unix:/x"\nport = 1', "port does not go with a unix: address"),
            ('mode = "0600"', "mode goes with a unix: address only"),
            ('address = "unix:/x"\nmode = "rw"', "must be three octal digits"),
            ('[[listen]]\naddress = "127.0.0.1"', "names an address twice: 127.0.0.1:110"),
        ):
            (problem,) = self.problems(f"[[listen]]\n{text}\n")
            self.assertIn(words, problem)
        self.assertEqual(self.problems("listen = []"), ["1: listen must not be empty"])

    def test_values_of_other_sections(self) -> None:
        """Networks, domains, separators, greetings, sources and locations."""
        for text, words in (
            ('[limits]\nexempt = ["10.1.1.1/8"]', "limits.exempt[1] must be a network"),
            ('[limits]\nexempt = "10.0.0.0/8"', "limits.exempt must be a list in brackets"),
            ('[names]\ndefault_domain = "a/b"', "names.default_domain must be a domain name"),
            ('[names]\nseparators = "a"', "names.separators must consist of ASCII punctuation"),
            ('[protocol]\ngreeting = "<1@x>"', "protocol.greeting must be one line"),
            ("[protocol]\ngreeting = 5", "must be text in quotes"),
            ('[[accounts]]\ndriver = "sqlite"', "accounts[1].path is missing"),
            (
                '[[accounts]]\ndriver = "oracle"\npath = "x"',
                'accounts[1].driver must be one of "sqlite", "passwd_file", "shadow"',
            ),
            ('[[accounts]]\ndriver = "sqlite"\npath = "x"\nname = "a:b"', "accounts[1].name must be 1 to 64"),
            (2 * '[[accounts]]\ndriver = "sqlite"\npath = "x"\n', "accounts names a source twice: sqlite"),
            ('[server]\nstate_dir = "a\\u0000b"', "must not contain a NUL"),
            ('[mail]\nlocation = "mbx:/x"', "mail.location must be"),
            ('[mail]\nlocation = "maildir:~/M mbox:"', "mail.location must be"),
            ('[mail]\nlocation = "maildir:"', "mail.location must be"),
            ('[mail]\nlocation = "maildir:/m/$(usr)"', "unknown variable $(usr); did you mean $(user)?"),
            ('[mail]\nlocation = "maildir:/m/$(zzz)"', "known are $(user)"),
            ('[mail]\nlocation = "maildir:/m/$user"', "starts no variable"),
            ('[mail]\nlocation = "maildir:~joe/x"', 'as "~/"'),
            (f'[log]\nlevel = "{"x" * 100}"', "xxx..."),
        ):
            (problem,) = self.problems(text)
            self.assertIn(words, problem)

    def test_keys_of_another_driver_are_refused_where_they_stand(self) -> None:
        """Each kind of accounts source has its own keys; the line and the right keys are told."""
        for text, words in (
            (
                'driver = "shadow"\npath = "x"',
                '3: accounts[1].path is no key of driver "shadow", which has driver, name, passwd_path, ',
            ),
            (
                'driver = "sqlite"\npath = "x"\nminimum_uid = 5',
                '4: accounts[1].minimum_uid is no key of driver "sqlite"',
            ),
            ('driver = "passwd_file"\nshadow_path = ""\npath = "x"', "3: accounts[1].shadow_path is no key of"),
            ('driver = "passwd_file"\npath = ""', "3: accounts[1].path is missing"),
            ('driver = "shadow"\npasswd_path = ""', "3: accounts[1].passwd_path is missing"),
            ('driver = "shadow"\nminimum_uid = 0', "3: accounts[1].minimum_uid must be at least 1, not 0"),
            ('driver = "oracle"\nminimum_uid = 5', '2: accounts[1].driver must be one of "sqlite", '),
            ("minimum_uid = 5", "1: accounts[1].driver is missing"),
            ('driver = "shadow"\nminimum_id = 5', "3: accounts[1].minimum_id is not a known key; did you mean"),
        ):
            (problem,) = self.problems(f"[[accounts]]\n{text}\n")
            self.assertIn(words, problem)

    def test_only_the_keys_of_its_driver_are_in_force(self) -> None:
        """What an accounts source does not have is not listed for it, with its defaults or without."""
        loaded = self.load(
            '[[accounts]]\ndriver = "shadow"\n[[accounts]]\ndriver = "sqlite"\npath = "/x"\n[[accounts]]\n'
            'driver = "shadow"\nname = "old"\npasswd_path = "p"\nshadow_path = ""\nminimum_uid = 500\n'
        )
        first, second, third = loaded.config.accounts
        self.assertEqual(
            first.settings(),
            {"passwd_path": "/etc/passwd", "shadow_path": "/etc/shadow", "domains": (), "minimum_uid": 1000},
        )
        self.assertEqual(second.settings(), {"path": "/x"})
        self.assertEqual(
            third.settings(),
            {"passwd_path": f"{self.directory}/p", "shadow_path": "", "domains": (), "minimum_uid": 500},
        )
        listed = {key.partition(".")[2] for key in loaded.origins if key.startswith("accounts[2]")}
        self.assertEqual(listed, {"driver", "name", "path"})

    def test_toml_mistakes_have_line_and_column(self) -> None:
        """The parser's message, with its place in front."""
        self.assertEqual(self.problems("[server]\nuser == 3\n"), ["2:7: not valid TOML: Invalid value"])
        (problem,) = self.problems("[server]\nuser = [")
        self.assertTrue(problem.startswith("2: not valid TOML"), problem)
        (problem,) = self.problems("[server]\n[server]\n")
        self.assertTrue(problem.startswith("2:8: not valid TOML"), problem)

    def test_a_file_that_cannot_be_read(self) -> None:
        """Missing, a directory, or not UTF-8: told in one line."""
        self.assertIn("tpops init", str(self.assertRaises(ConfigError, load, self.path)))
        self.assertIn("cannot read", str(self.assertRaises(ConfigError, load, self.directory)))
        with open(self.path, "wb") as file:
            file.write(b"# j\xf6rg")
        self.assertIn("not UTF-8", str(self.assertRaises(ConfigError, load, self.path)))
