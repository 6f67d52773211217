"""The kinds of accounts sources."""

from __future__ import annotations

from typing import get_args

from twisted.trial.unittest import SynchronousTestCase

from tests.cred.fakes import verifier
from tpops.config.schema import AccountSource
from tpops.cred import drivers


def settings(kind: str) -> dict[str, str | int]:
    """What the configuration has for a source of this kind."""
    return AccountSource.model_validate({"driver": kind, **_NEEDED.get(kind, {})}).settings()


#: Keys without a default.
_NEEDED = {"sqlite": {"path": "/nowhere"}, "passwd_file": {"path": "/nowhere"}}


class DriverTests(SynchronousTestCase):
    """From the configuration's word to an object."""

    def test_every_kind_of_the_configuration_can_be_made(self) -> None:
        """The schema and the table have the same words; making opens nothing."""
        self.assertEqual(set(get_args(AccountSource.model_fields["driver"].annotation)), set(drivers.kinds()))
        for kind in drivers.kinds():
            self.assertEqual(drivers.make(kind, "name", settings(kind), verifier()).name, "name")
