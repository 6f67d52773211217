"""The kinds of accounts sources."""

from __future__ import annotations

import importlib.util
import os
from typing import get_args
from unittest import mock

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.cred.fakes import means
from tests.upstream.fakes import upstream
from tpops.config.accounts.base import AccountSource
from tpops.config.accounts.union import AnyAccounts
from tpops.cred import drivers
from tpops.errors import ConfigError


def models() -> dict[str, type[AccountSource]]:
    """The configuration's models by the word for their driver."""
    union = get_args(AnyAccounts)[0]
    return {get_args(model.model_fields["driver"].annotation)[0]: model for model in get_args(union)}


#: Keys without a default.
NEEDED = {
    "sqlite": {"path": "/nowhere"},
    "passwd_file": {"path": "/nowhere"},
    "apop_db": {"table": "hash:/nowhere"},
    "external": {"command": ["/nowhere"]},
    "checkpassword": {"command": ["/nowhere"]},
    "strcred": {"checker": "memory:joe:secret"},
    "ldap": {"urls": ["ldap://nowhere"], "base_dn": "dc=example", "filter": "(uid=$(user))"},
    "mysql": {"preset": "tpops-v2"},
}


class DriverTests(SynchronousTestCase):
    """From the configuration's word to an object."""

    def test_every_kind_of_the_configuration_can_be_made(self) -> None:
        """The schema and the table have the same words; making opens nothing."""
        self.assertEqual(set(models()), set(drivers.kinds()))
        behind = means(upstream=upstream(None, Clock()))
        built = importlib.util.find_spec("MySQLdb") is not None or os.environ.get("CI") == "true"
        for kind, model in models().items():
            if kind == "mysql" and not built:
                continue
            settings = model.model_validate({"driver": kind, **NEEDED.get(kind, {})}).settings()
            self.assertEqual(drivers.make(kind, "name", settings, behind).name, "name")

    def test_a_missing_library_is_a_configuration_error_that_names_the_extra(self) -> None:
        """Its traceback would help nobody."""
        with mock.patch.dict(drivers._KINDS, {"odd": ("tpops.cred.no_such_module", "Odd", "odd")}):
            problem = self.assertRaises(ConfigError, drivers.make, "odd", "mine", {}, means())
        self.assertIn('accounts source mine: driver "odd" needs a library', str(problem))
        self.assertIn("pip install 'tpops[odd]'", str(problem))
