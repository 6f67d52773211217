"""L{tests.support}."""

from __future__ import annotations

import os
from unittest import SkipTest, mock

from twisted.trial.unittest import SynchronousTestCase

from tests.support import lacking, need


class NeedTests(SynchronousTestCase):
    """A missing program skips a test for a user and fails it in continuous integration."""

    def test_nothing_missing(self) -> None:
        """Promise: where everything is there, there is no reason to skip."""
        for ci in ("true", ""):
            with mock.patch.dict(os.environ, CI=ci):
                self.assertIsNone(need(None, "sh"))
                self.assertIsNone(need(self, "sh", "ls"))

    def test_user_gets_a_reason(self) -> None:
        """Promise: the reason names what is missing and nothing else."""
        with mock.patch.dict(os.environ, CI=""):
            reason = need(None, "sh", "tpops-no-such-program")
            assert reason is not None
            self.assertTrue(reason.startswith("not installed: tpops-no-such-program ("))
            with self.assertRaises(SkipTest):
                need(self, "tpops-no-such-program")

    def test_continuous_integration_fails(self) -> None:
        """Promise: with CI=true nothing is left out silently."""
        with mock.patch.dict(os.environ, CI="true"):
            for testcase in (None, self):
                with self.assertRaisesRegex(AssertionError, "not installed: tpops-no-such-program"):
                    need(testcase, "tpops-no-such-program")

    def test_other_things_that_a_machine_lacks(self) -> None:
        """Promise: the same for what is no program: ports, rights, kinds of networks."""
        with mock.patch.dict(os.environ, CI=""):
            self.assertEqual(lacking(None, "no such thing"), "no such thing")
            with self.assertRaisesRegex(SkipTest, "no such thing"):
                lacking(self, "no such thing")
        with (
            mock.patch.dict(os.environ, CI="true"),
            self.assertRaisesRegex(AssertionError, "no such thing; with CI=true"),
        ):
            lacking(self, "no such thing")
