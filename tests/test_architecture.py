"""The layout and import directions of the style guide, and the checker that watches over them."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.architecture import MOST_LINES, long_files, packages_missing, violations

CHECKOUT = Path(__file__).resolve().parent.parent


class ArchitectureTests(SynchronousTestCase):
    """The tree keeps to the rules."""

    maxDiff = None

    def test_imports_go_down_only(self) -> None:
        """Promise: style.md section 2: no module imports what its layer may not; packages hold docstrings only."""
        self.assertTrue((CHECKOUT / "tpops" / "model.py").exists())
        self.assertEqual(violations(CHECKOUT), [])

    def test_no_file_is_long(self) -> None:
        """Promise: style.md section 5: modules have at most 400 lines."""
        self.assertEqual(long_files(CHECKOUT, "tpops", "tests", "benchmarks", "twisted", "scripts"), [])

    def test_folders_with_tests_are_packages(self) -> None:
        """Promise: trial and pytest find the same tests."""
        self.assertEqual(packages_missing(CHECKOUT, "tests"), [])

    def test_plugin_folder_is_no_package(self) -> None:
        """Promise: style.md section 7: a twisted/plugins/__init__.py would hide Twisted's own plugins."""
        self.assertEqual(list((CHECKOUT / "twisted").rglob("__init__.py")), [])


class CheckerTests(SynchronousTestCase):
    """The checker finds what it is there for."""

    def setUp(self) -> None:
        """A small tree without faults."""
        self.root = Path(self.mktemp())
        for package in ("", "protocol", "mailbox", "cred", "policy", "events", "config", "db", "server", "admin"):
            self.plant(f"{package}/__init__.py".lstrip("/"), '"""A package."""\n')
        for module in ("model", "errors", "interfaces", "mailbox/view", "mailbox/snapshot", "db/pool", "cred/realm"):
            self.plant(f"{module}.py", "")
        self.assertEqual(violations(self.root), [])

    def plant(self, name: str, text: str) -> None:
        """Write a module of the tree."""
        path = self.root / "tpops" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def assert_found(self, name: str, text: str, *expected: str) -> None:
        """Check what the checker says of a tree with this module, then put the old one back."""
        path = self.root / "tpops" / name
        old = path.read_text() if path.exists() else None
        self.plant(name, text)
        self.assertEqual(violations(self.root), [f"tpops/{name}:{complaint}" for complaint in expected])
        if old is None:
            path.unlink()
        else:
            path.write_text(old)

    def test_protocol_is_pure(self) -> None:
        """Promise: protocol imports the standard library, model, errors and itself."""
        self.assert_found(
            "protocol/states.py",
            "import re, zope.interface\n"
            "from tpops.model import Peer\n"
            "from tpops import errors, interfaces\n"
            "from tpops.protocol import replies\n"
            "from twisted.logger import Logger\n"
            "from tpops.mailbox import view\n",
            "1: tpops.protocol.states imports zope.interface: protocol is pure",
            "3: tpops.protocol.states imports tpops.interfaces: protocol may not",
            "5: tpops.protocol.states imports twisted.logger: protocol is pure",
            "6: tpops.protocol.states imports tpops.mailbox.view: protocol may not",
        )

    def test_core_imports_core(self) -> None:
        """Promise: the core knows no part; of mailbox only view belongs to it."""
        self.assert_found(
            "mailbox/view.py",
            "from twisted.mail.pop3 import IMailboxPOP3\n"
            "from tpops.interfaces import IMaildrop\n"
            "from tpops.mailbox.snapshot import Snapshot\n"
            "from tpops.mailbox import snapshot\n"
            "import tpops.mailbox\n",
            "3: tpops.mailbox.view imports tpops.mailbox.snapshot: core may not",
            "4: tpops.mailbox.view imports tpops.mailbox.snapshot: core may not",
            "5: tpops.mailbox.view imports tpops.mailbox: core may not",
        )

    def test_values_and_errors_are_without_twisted(self) -> None:
        """Promise: the exception for errors is twisted.cred.error alone."""
        self.assert_found(
            "errors.py",
            "from twisted.cred.error import UnauthorizedLogin\nfrom twisted.internet import defer\n",
            "2: tpops.errors imports twisted.internet: this part of the core is without Twisted",
        )

    def test_parts_do_not_know_each_other(self) -> None:
        """Promise: a part imports the core, itself and db, never a sibling, the server or a root."""
        self.assert_found(
            "mailbox/maildir.py",
            "from tpops.mailbox.snapshot import Snapshot\n"
            "from tpops.mailbox.view import Mailbox\n"
            "from tpops.protocol import transparency\n"
            "from tpops.db.pool import Pool\n"
            "from tpops.cred import realm\n"
            "def late() -> None:\n"
            "    from tpops.server.factory import Factory\n"
            "    importlib.import_module('tpops.admin.cli')\n",
            "5: tpops.mailbox.maildir imports tpops.cred.realm: mailbox may not",
            "7: tpops.mailbox.maildir imports tpops.server.factory: mailbox may not",
            "8: tpops.mailbox.maildir imports tpops.admin.cli: mailbox may not",
        )
        self.assert_found(
            "db/migrate.py",
            "import tpops.cred.realm\n",
            "1: tpops.db.migrate imports tpops.cred.realm: db may not",
        )

    def test_server_knows_the_core_only(self) -> None:
        """Promise: the server meets the parts as interface providers."""
        self.assert_found(
            "server/pop3.py",
            "from tpops.server import transfer\n"
            "from tpops.protocol.states import Transaction\n"
            "from tpops.mailbox.view import Mailbox\n"
            "if TYPE_CHECKING:\n"
            "    from tpops.events.bus import EventBus\n",
            "5: tpops.server.pop3 imports tpops.events.bus: server may not",
        )

    def test_only_roots_touch_the_reactor(self) -> None:
        """Promise: in both spellings, also within functions."""
        both = "from twisted.internet import defer, reactor\ndef f() -> None:\n    import twisted.internet.reactor\n"
        self.assert_found("service.py", both)
        self.assert_found("process/worker.py", both)
        self.assert_found(
            "server/listeners.py",
            both,
            "1: tpops.server.listeners imports twisted.internet.reactor: only roots touch the reactor",
            "3: tpops.server.listeners imports twisted.internet.reactor: only roots touch the reactor",
        )

    def test_roots_may_import_anything(self) -> None:
        """Promise: roots put the parts together."""
        self.assert_found("admin/cli.py", "from tpops.cred import realm\nfrom tpops.server import pop3\n")

    def test_relative_imports_are_found(self) -> None:
        """Promise: imports are absolute."""
        self.assert_found(
            "cred/ordered.py",
            "from . import realm\nfrom .realm import Realm\n",
            "1: tpops.cred.ordered imports .: imports are absolute",
            "2: tpops.cred.ordered imports .realm: imports are absolute",
        )

    def test_init_with_code_is_found(self) -> None:
        """Promise: an __init__.py holds a docstring only."""
        why = "1: __init__.py must hold a docstring and nothing else"
        for text in ("", "import os\n", '"""Text."""\nimport os\n'):
            self.assert_found("cred/__init__.py", text, why)

    def test_module_without_a_layer_is_found(self) -> None:
        """Promise: a new package needs a place in the layout first."""
        self.assert_found("helpers/utils.py", "", "1: tpops.helpers.utils belongs to no layer")

    def test_long_file_is_found(self) -> None:
        """Promise: a file of 400 lines passes, one of 401 does not."""
        self.plant("model.py", "#\n" * MOST_LINES)
        self.assertEqual(long_files(self.root, "tpops", "missing"), [])
        self.plant("model.py", "#\n" * (MOST_LINES + 1))
        self.assertEqual(long_files(self.root, "tpops"), ["tpops/model.py: 401 lines, at most 400"])

    def test_folder_without_init_is_found(self) -> None:
        """Promise: a folder with Python files that is no package is named."""
        self.plant("process/worker.py", "")
        self.assertEqual(packages_missing(self.root, "tpops"), ["tpops/process: no __init__.py"])
