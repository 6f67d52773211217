"""
For pytest only: run as trial does, in a directory of its own.

trial's C{mktemp} makes its directories in the current one, which would be the checkout.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator

import pytest

#: Where mysqlclient cannot be built (scripts/test says so), the tests of MySQL are left out; not with CI=true.
collect_ignore_glob = (
    ["*/test_mysql*.py"] if importlib.util.find_spec("MySQLdb") is None and os.environ.get("CI") != "true" else []
)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was left out, by name."""
    if collect_ignore_glob:
        terminalreporter.write_line("left out: the tests of MySQL, since mysqlclient is not installed")


@pytest.fixture(autouse=True, scope="session")
def _working_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Leave the checkout for as long as tests run."""
    checkout = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("trial"))
    yield
    os.chdir(checkout)
