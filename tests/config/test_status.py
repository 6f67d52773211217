"""The tables [status] and [metrics]: what may be written there, and what is said of what may not."""

from __future__ import annotations

import os

from tests.config.test_load import LoadCase

TOKEN = "0123456789abcdef0123"


class StatusTests(LoadCase):
    """The status page."""

    def test_off_by_default(self) -> None:
        """Promise: nobody listens whom nobody asked for."""
        config = self.load("").config
        self.assertEqual((config.status.listen, config.metrics.listen), ("", ""))

    def test_places(self) -> None:
        """Promise: loopback addresses and UNIX sockets, without a warning."""
        for place, found in (
            ("127.0.0.1:9120", ("127.0.0.1", 9120)),
            ("[::1]:9120", ("::1", 9120)),
            ("unix:run/status", (f"unix:{self.directory}/run/status", 0)),
        ):
            loaded = self.load(f'[status]\nlisten = "{place}"\ntoken_file = "token"\n')
            self.assertEqual(loaded.config.status.place(), found)
            self.assertEqual(loaded.config.status.token_file, f"{self.directory}/token")
            self.assertEqual(loaded.warnings, ())

    def test_other_machines(self) -> None:
        """Promise: refused with what to do instead, unless the configuration says so; then there is a warning."""
        for place in ("0.0.0.0:9120", "192.0.2.1:9120", "[::]:9120"):
            text = f'[status]\nlisten = "{place}"\ntoken_file = "token"\n'
            (problem,) = self.problems(text)
            self.assertRegex(problem, r"^1: status has listen = .*, where other machines get to it: the token, and .*")
            self.assertIn("ssh -L", problem)
            self.assertIn("public = true", problem)
            (warning,) = self.load(f"{text}public = true\n").warnings
            self.assertIn(f"status.listen: other machines get to {place}", warning)

    def test_mistakes(self) -> None:
        """Promise: every mistake has its line, its key and what would be right."""
        place = 'listen = "127.0.0.1:1"\n'
        for text, said in (
            ('listen = "localhost:1"', 'must be an IP address such as "127.0.0.1"'),
            (place, "has listen, which needs token_file (or token)"),
            (f'{place}token = "x"\n', "must be 20 to 200 printable ASCII characters without spaces"),
            (f'{place}token = "{TOKEN} {TOKEN}"\n', "must be 20 to 200 printable ASCII characters without spaces"),
            (f'{place}token = "{TOKEN}"\ntoken_file = "x"\n', "has both token and token_file"),
            (f'{place}token = "{TOKEN}"\nhosts = ["a:80"]\n', 'must have host names such as "mail.example.org"'),
            (f'token = "{TOKEN}"\n', "has token, which means nothing without listen"),
        ):
            problems = self.problems(f"[status]\n{text}\n")
            self.assertEqual(len(problems), 1, problems)
            self.assertIn(said, problems[0])
            self.assertRegex(problems[0], r"^\d+: status", text)

    def test_the_token_is_a_secret(self) -> None:
        """Promise: not in a file that everybody may read, and never shown."""
        text = f'[status]\nlisten = "127.0.0.1:1"\ntoken = "{TOKEN}"\n'
        self.load(text)
        os.chmod(self.path, 0o644)
        (problem,) = self.problems(text)
        self.assertIn("status.token is a secret", problem)
        self.assertNotIn(TOKEN, problem)

    def test_names_of_hosts(self) -> None:
        """Promise: their case does not matter."""
        text = f'[status]\nlisten = "127.0.0.1:1"\ntoken = "{TOKEN}"\nhosts = ["Mail.Example.ORG"]\n'
        self.assertEqual(self.load(text).config.status.hosts, ("mail.example.org",))


class MetricsTests(LoadCase):
    """Figures for Prometheus."""

    def test_other_machines(self) -> None:
        """Promise: only where the configuration says so."""
        for place in ("0.0.0.0:9110", "[2001:db8::1]:9110"):
            (problem,) = self.problems(f'[metrics]\nlisten = "{place}"\n')
            self.assertIn(f'metrics has listen = "{place}", where other machines get to it: whoever can conn', problem)
            self.assertIn("say public = true", problem)
            self.assertEqual(self.load(f'[metrics]\nlisten = "{place}"\npublic = true\n').warnings, ())
        for place in ("127.0.0.1:9110", "127.9.9.9:9110", "[::1]:9110", "unix:/run/tpops/metrics"):
            self.assertEqual(self.load(f'[metrics]\nlisten = "{place}"\n').warnings, ())
