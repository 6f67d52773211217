"""C{tpops check} and the start of the server with [oauth]."""

from __future__ import annotations

import json
import os
import pathlib
import sys
from unittest import mock

from tests.admin.test_cli import CommandCase
from tests.integration.server import RunningServer
from tests.tokens import SigningKey, key_set
from tpops.admin import check
from tpops.admin.rights import RunsAs

BASE = '[[accounts]]\ndriver = "passwd_file"\npath = "users"\n[server]\nuser = "root"\n'
SIGNED = '[oauth]\njwks_file = "keys"\nissuer = "x"\naudience = ["x"]\n'


class OAuthTests(CommandCase):
    """What a login with a token would stumble over."""

    def setUp(self) -> None:
        super().setUp()
        os.makedirs(self.directory)
        self.keys = pathlib.Path(self.directory, "keys")
        pathlib.Path(self.directory, "users").touch()

    def test_looks_at_the_keys(self) -> None:
        """Promise: missing, broken and right."""
        self.configure(BASE + SIGNED)
        self.assertIn(f"oauth: cannot read {self.keys}", self.refused("check"))
        self.keys.write_text("{")
        self.assertIn(f"oauth: {self.keys} is not valid JSON", self.refused("check"))
        self.keys.write_text(json.dumps(key_set(SigningKey("one", "ES256"))))
        self.assertIn("is right", self.tpops("check"))

    def test_looks_at_the_rights(self) -> None:
        """Promise: keys that the server's user cannot read are told before he tries."""
        self.configure(BASE + SIGNED)
        self.keys.write_text(json.dumps(key_set(SigningKey("one", "ES256"))))
        self.keys.chmod(0o600)
        nobody = RunsAs(65534, frozenset())
        with mock.patch.object(check, "runs_as", return_value=nobody):
            self.assertIn(f"oauth: the server's user may not read {self.keys}", self.refused("check"))

    def test_missing_library(self) -> None:
        """Promise: the extra is named, by the check and by the server."""
        self.configure(BASE + SIGNED)
        with mock.patch.dict(sys.modules, {"tpops.cred.oauth": None}):
            self.assertIn("oauth: [oauth] needs a library", text := self.refused("check"))
            self.assertIn("pip install 'tpops[oauth]'", text)

    def test_mistakes_are_told_with_their_line(self) -> None:
        """Promise: as for any key; secrets are not shown."""
        self.configure(BASE + '[oauth]\nintrospection_url = "http://x.example/"\nclient_secret = "geheim\\u00e9"\n')
        problems = self.refused("check")
        self.assertIn("tpops.toml:7: oauth.introspection_url must begin with https://", problems)
        self.assertIn("tpops.toml:8: oauth.client_secret must consist of printable ASCII characters", problems)
        self.assertNotIn("geheim", problems)
        self.configure(BASE + SIGNED.replace('audience = ["x"]\n', ""))
        self.assertIn("tpops.toml:6: oauth needs audience: else tokens for other services", self.refused("check"))

    def test_server_refuses_to_start_without_its_files(self) -> None:
        """Promise: said on the terminal, without a traceback."""
        server = RunningServer(self, oauth={"introspection_url": "https://x.example/", "ca_file": "nowhere.pem"})
        said = server.refuses_to_start()
        self.assertIn(f"cannot read {server.directory}/nowhere.pem: No such file or directory", said)
        self.assertNotIn("Traceback", said)
