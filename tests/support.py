"""What tests of several folders share."""

from __future__ import annotations

import os
import shutil

from twisted.trial.unittest import SynchronousTestCase, TestCase


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
    reason = f"not installed: {', '.join(missing)} (scripts/test installs what tests need)"
    if os.environ.get("CI") == "true":
        raise AssertionError(reason)
    if testcase is not None:
        testcase.skipTest(reason)
    return reason
