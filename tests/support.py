"""What tests of several folders share."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator

from twisted.trial.unittest import SynchronousTestCase, TestCase

from tpops.process import landlock


def need(testcase: TestCase | SynchronousTestCase | None, *programs: str) -> str | None:
    """
    Look for programs that a test starts.

    On a user's machine their absence is a reason to skip, in continuous integration (CI=true) a failure.
    For a whole class: C{skip = need(None, "curl")}.

    @param testcase: the running test, which is then skipped or failed; None to get the reason
    @return: the reason to skip, None when everything is there
    """
    missing = [program for program in programs if shutil.which(program) is None]
    if not missing:
        return None
    return lacking(testcase, f"not installed: {', '.join(missing)} (scripts/test installs what tests need)")


def lacking(testcase: TestCase | SynchronousTestCase | None, reason: str) -> str:
    """
    Do without a test, because the machine lacks something; as L{need}: in continuous integration that is a failure.

    @param testcase: the running test, which is then skipped or failed; None to get the reason back
    """
    if os.environ.get("CI") == "true":
        raise AssertionError(f"{reason}; with CI=true every test has to run")
    if testcase is not None:
        testcase.skipTest(reason)
    return reason


@contextlib.contextmanager
def caught_stderr() -> Iterator[Callable[[], str]]:
    """What is written to the descriptor of standard error within C{with}: a function that gives it."""
    with tempfile.TemporaryFile() as file:
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)

        def said() -> str:
            file.seek(0)
            return file.read().decode()

        text = ""
        try:
            yield lambda: text or said()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            text = said()


def need_landlock(testcase: TestCase | SynchronousTestCase) -> None:
    """Skip the test where the kernel has no Landlock; as L{need}, that is a failure in continuous integration."""
    if landlock.abi() < landlock.LEAST_ABI:
        lacking(testcase, "this kernel has no Landlock (Linux 5.19 or newer, and not turned off)")


def need_root(testcase: TestCase | SynchronousTestCase, why: str) -> None:
    """Skip the test of somebody who is not root; as L{need}, that is a failure in continuous integration."""
    if os.geteuid() != 0:
        lacking(testcase, f"{why} needs root")
