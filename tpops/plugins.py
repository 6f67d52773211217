"""
Sinks, accounts sources and mailbox stores of other packages, found as Twisted plugins.

Purpose: a factory that provides L{ISinkFactory}, L{IAccountsFactory} or L{IStoreFactory}, and
L{twisted.plugin.IPlugin}, in a module in C{twisted/plugins/}, is what C{driver = "plugin:NAME"} means.  docs/plugins.md
has an example.
Limits: looking for plugins imports all of them; it is done when a configuration names one.
Errors: ConfigError, with the factories that there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tpops.errors import ConfigError
from tpops.interfaces import IAccountsFactory, ISinkFactory, IStoreFactory

#: How a driver of another package begins.
PREFIX = "plugin:"

#: What factories there can be, by the table of the configuration.
KINDS: Mapping[str, Any] = {"accounts": IAccountsFactory, "sink": ISinkFactory, "store": IStoreFactory}


def found(table: str) -> dict[str, Any]:
    """The factories for a table, by name; of several with one name the first."""
    from twisted.plugin import getPlugins

    factories: dict[str, Any] = {}
    for factory in getPlugins(KINDS[table]):
        factories.setdefault(str(factory.name), factory)
    return dict(sorted(factories.items()))


def factory(table: str, driver: str) -> Any:
    """
    The factory that a driver names.

    @raise ConfigError: when there is none
    """
    factories = found(table)
    try:
        return factories[driver.removeprefix(PREFIX)]
    except KeyError:
        known = ", ".join(f'"{PREFIX}{name}"' for name in factories) or "none"
        raise ConfigError([f'there is no plugin for driver "{driver}" of [[{table}]]; installed are {known}']) from None
