"""
Tables for drivers of other packages.

Purpose: where a file has C{driver = "plugin:NAME"}, the schema gets a model for every plugin of that kind, made of the
keys that it declares and those that all have, so that the loader says of wrong and unknown keys what it says of ours.
Limits: a file that names no plugin is read without looking for any.
Errors: ConfigError when a plugin's keys cannot be used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args

from pydantic import Field, create_model

from tpops import plugins
from tpops.config.accounts.base import AccountSource
from tpops.config.schema import Config
from tpops.config.section import Section, key
from tpops.config.sinks.base import SessionEvents, SinkSection
from tpops.config.stores import StoreSection
from tpops.errors import ConfigError


class PluginSink(SinkSection):
    """What every sink of another package has."""

    events: Annotated[
        SessionEvents,
        key("What it is told."),
    ] = ("login",)


_BASES: Mapping[str, type[Section]] = {"accounts": AccountSource, "sink": PluginSink, "store": StoreSection}


def model_for(data: Mapping[str, Any]) -> type[Config]:
    """
    The schema for a file.

    @param data: what is in it, not validated yet
    @raise ConfigError: when a plugin's keys cannot be used
    """
    wanted = [table for table in _BASES if _names_a_plugin(data.get(table))]
    if not wanted:
        return Config
    fields: dict[str, Any] = {table: _field(table) for table in wanted}
    made: type[Config] = create_model("Config", __base__=Config, __doc__=Config.__doc__, **fields)
    return made


def _names_a_plugin(tables: object) -> bool:
    each = tables if isinstance(tables, list) else []
    return any(str(one.get("driver", "")).startswith(plugins.PREFIX) for one in each if isinstance(one, dict))


def _field(table: str) -> tuple[Any, Any]:
    """The type of a table with our own drivers and those of all plugins, and what else is said about it."""
    ours = Config.model_fields[table]
    theirs = [section(table, factory) for factory in plugins.found(table).values()]
    inner: Any = get_args(ours.annotation)[0]
    known = get_args(get_args(inner)[0]) if get_args(inner) else ()
    sections: Any = (*known, *theirs)
    one: Any = sections[0] if sections else inner
    if len(sections) > 1:
        one = Annotated[Union[sections], Field(discriminator="driver")]  # noqa: UP007  # made at run time
    return tuple[one, ...], ours


def section(table: str, factory: Any) -> type[Section]:
    """
    The model of a plugin's table.

    @raise ConfigError: when its keys cannot be used
    """
    word, base, settings = f"{plugins.PREFIX}{factory.name}", _BASES[table], factory.settings
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", str(factory.name)):
        raise ConfigError([f"the plugin {factory.name!r} must have a name of letters, digits, '_', '.' and '-'"])
    if not isinstance(settings, type) or not issubclass(settings, Section):
        raise ConfigError([f'plugin "{word}": its settings must be a class derived from tpops.config.section.Section'])
    taken = sorted(set(settings.model_fields).intersection(base.model_fields))
    if taken:
        raise ConfigError([f'plugin "{word}": its key {taken[0]} is one that every [[{table}]] has'])
    driver: Any = Annotated[Literal[word], key(str(factory.about))]
    fields: dict[str, Any] = {"driver": (driver, ...)}
    made: type[Section] = create_model(
        f"{settings.__name__}Of{table.title()}", __base__=(settings, base), __doc__=str(factory.about), **fields
    )
    return made
