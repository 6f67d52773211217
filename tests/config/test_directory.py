"""The keys of the driver "ldap"."""

from __future__ import annotations

import re
from pathlib import Path

from tests.config.test_load import LoadCase
from tests.cred.fakes import means
from tpops.config.accounts.directory import LDAP
from tpops.config.model_walk import secret, tables
from tpops.config.schema import Config
from tpops.cred import drivers

ROOT = Path(__file__).parents[2]

_NEEDED = {
    "urls": '["ldap://ldap.example.org"]',
    "base_dn": '"dc=example,dc=org"',
    "filter": '"(uid=$(user))"',
}


def source(**keys: str) -> str:
    """A configuration with one source; the values are TOML, "" leaves a key out."""
    lines = [f"{key} = {value}" for key, value in {**_NEEDED, **keys}.items() if value]
    return "\n".join(["[[accounts]]", 'driver = "ldap"', *lines]) + "\n"


class DirectoryTests(LoadCase):
    """What may be written, and what not."""

    def test_defaults(self) -> None:
        """Promise: TLS is on and verified unless somebody says otherwise."""
        loaded = self.load(source())
        (made,) = loaded.config.accounts
        assert isinstance(made, LDAP)
        self.assertEqual((made.tls, made.tls_verify, made.tls_ca), ("starttls", True, ""))
        self.assertEqual((made.name, made.scope, made.timeout_seconds, made.connections), ("ldap", "subtree", 10, 10))
        self.assertEqual(loaded.warnings, ())

    def test_the_driver_takes_every_key(self) -> None:
        """Promise: no key is parsed and then ignored."""
        (made,) = self.load(source(bind_dn='"cn=x"', bind_password='"secret of x"', mail_user='"4711"')).config.accounts
        driver = drivers.make(made.driver, made.name, made.settings(), means())
        self.assertEqual(driver.name, "ldap")
        self.assertTrue(secret(("accounts", 0, "bind_password"), tables(Config)))
        self.assertNotIn("secret of x", repr(driver.__dict__))

    def test_mistakes(self) -> None:
        """Promise: what does not go together is told, with the line of the source."""
        for keys, why in (
            ({"urls": "[]"}, "urls must not be empty"),
            ({"urls": '["ldap.example.org"]'}, 'must begin with "ldap://"'),
            ({"base_dn": ""}, "base_dn is missing"),
            ({"filter": '""'}, "filter must not be empty"),
            ({"tls": '"on"'}, '"starttls" or "off"|starttls'),
            ({"urls": '["ldaps://h"]', "tls": '"starttls"'}, "tls is for ldap:// only"),
            ({"urls": '["ldapi://%2Fx"]', "tls_ca": '"/ca.pem"', "tls": ""}, "tls_ca and tls_verify need TLS"),
            ({"tls": '"off"', "tls_ca": '"/ca.pem"'}, "tls_ca and tls_verify need TLS"),
            ({"tls_ca": '"/ca.pem"', "tls_verify": "false"}, "tls_ca does not go with"),
            ({"bind_dn": '"cn=x"'}, "need each other"),
            ({"bind_password_file": '"/x"'}, "need each other"),
            (
                {"bind_dn": '"cn=x"', "bind_password": '"x"', "bind_password_file": '"/x"'},
                "bind_password and bind_password_file do not go together",
            ),
            ({"mailbox_type_attribute": '"x"'}, "needs mailbox_attribute"),
            ({"mailbox": '"maildir:/m/$(name)"'}, r"unknown variable \$\(name\)"),
            ({"timeout_seconds": "0"}, "timeout_seconds"),
        ):
            self.assertRegex("\n".join(self.problems(source(**keys))), why)

    def test_warnings(self) -> None:
        """Promise: who sends passwords without TLS, or to anybody, is told."""
        for keys, why in (
            ({"tls": '"off"'}, "ldap://ldap.example.org gets all passwords without TLS"),
            ({"tls_verify": "false"}, "whoever is in between can read all passwords"),
        ):
            self.assertRegex("\n".join(self.load(source(**keys)).warnings), why)
        for url in ("ldap://127.0.0.1:3389", "ldap://[::1]", "ldap://localhost", "ldapi://%2Fx"):
            tls = "" if url.startswith("ldapi") else '"off"'
            self.assertEqual(self.load(source(urls=f'["{url}"]', tls=tls)).warnings, ())

    def test_examples_of_the_documentation(self) -> None:
        """docs/accounts/ldap.md: what an operator copies is accepted as it stands, by the driver, too."""
        text = (ROOT / "docs" / "accounts" / "ldap.md").read_text("utf-8")
        examples = re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)
        examples = [one.replace("\n    ", "\n").strip() for one in examples if "[[accounts]]" in one]
        self.assertEqual(len(examples), 2)
        for example in examples:
            loaded = self.load(example)
            self.assertEqual(loaded.warnings, ())
            (made,) = loaded.config.accounts
            self.assertEqual(drivers.make(made.driver, made.name, made.settings(), means()).name, "ldap")
