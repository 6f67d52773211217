"""The keys of [proxy], and locations on other servers."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tpops.config.load import Loaded, load
from tpops.errors import ConfigError

ACCOUNTS = '[[accounts]]\ndriver = "proxy"\n'


class ProxyTests(SynchronousTestCase):
    """See the module."""

    def load(self, text: str) -> Loaded:
        """A configuration."""
        path = Path(self.mktemp())
        path.write_text(text)
        path.chmod(0o600)
        return load(str(path))

    def problem(self, text: str) -> str:
        """What is wrong with one."""
        return str(self.assertRaises(ConfigError, self.load, text))

    def test_servers(self) -> None:
        """Promise: hosts, ports, IPv6 and variables, for all or in a location."""
        for server in ("pop.example.org", "pop.example.org:110", "[2001:db8::1]:110", "pop.$(domain)", "192.0.2.1"):
            self.assertEqual(self.load(f'[proxy]\nserver = "{server}"').config.proxy.server, server)
            self.load(f'[mail]\nlocation = "proxy:{server}"')
            self.load(f'[mail]\nlocation = "maildir:/mail/$(user) proxy:{server}"')

    def test_no_servers(self) -> None:
        """Promise: what is no server is told with an example."""
        for server in ("a b", "x:0", "x:y", "x:99999", "[::g]", "::1", "a/b"):
            self.assertIn("must be a server such as", self.problem(f'[proxy]\nserver = "{server}"'))
        self.assertIn("unknown variable $(dom)", self.problem('[proxy]\nserver = "pop.$(dom)"'))
        self.assertIn('"$" that starts no variable', self.problem('[proxy]\nuser = "$user"'))
        self.assertIn("must be a server", self.problem('[mail]\nlocation = "proxy:a b"'))
        self.assertIn('or "proxy:" and a server', self.problem('[mail]\nlocation = "proxy"'))

    def test_what_needs_a_server(self) -> None:
        """Promise: a location or a source that needs one is told so before anybody logs in."""
        self.assertIn("needs server, for mail.location", self.problem('[mail]\nlocation = "proxy:"'))
        self.assertIn('needs server, for driver = "proxy"', self.problem(ACCOUNTS))
        self.load(ACCOUNTS + '[proxy]\nserver = "x"')

    def test_no_client_chooses_the_server(self) -> None:
        """Promise: where the server depends on the name, the domains are named."""
        proxy = '[proxy]\nserver = "pop.$(domain)"\n'
        self.assertIn("need domains", self.problem(proxy + ACCOUNTS))
        self.load(proxy + ACCOUNTS + 'domains = ["example.org"]')

    def test_what_does_not_go_together(self) -> None:
        """Promise: keys that mean nothing beside others are refused."""
        for keys, why in (
            ('password = "x"\npassword_file = "y"', "both"),
            ('tls = "off"\ntls_ca = "x"', "tls_ca does not go"),
            ('tls = "off"\ntls_verify = false', "tls_verify = false goes neither"),
            ('tls_ca = "x"\ntls_verify = false', "tls_verify = false goes neither"),
        ):
            self.assertIn(why, self.problem("[proxy]\n" + keys))

    def test_warnings(self) -> None:
        """Promise: passwords without TLS or without verification do not go unnoticed, unless they stay here."""
        text = '[proxy]\nserver = "{}"\ntls = "off"'
        self.assertIn("without TLS", "".join(self.load(text.format("pop.example.org")).warnings))
        for local in ("localhost:7", "127.0.0.1", "[::1]:7"):
            self.assertNotIn("proxy", "".join(self.load(text.format(local)).warnings))
        self.assertIn("tls_verify", "".join(self.load("[proxy]\ntls_verify = false").warnings))
