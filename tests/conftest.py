"""
For pytest only: run as trial does, in a directory of its own.

trial's C{mktemp} makes its directories in the current one, which would be the checkout.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def _working_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Leave the checkout for as long as tests run."""
    checkout = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("trial"))
    yield
    os.chdir(checkout)
