"""
The schema as data: which tables and keys it has, and the values of a configuration one by one.

Purpose: what the loader's messages, "tpops config" and the generated pages all need to know of the models.
Limits: two levels, as the configuration has: tables, and keys in them; a table is there once or is an array, and the
tables of an array may be of several kinds, which one key tells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, get_args, get_origin

import attrs
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tpops.config.positions import Path
from tpops.config.section import Section


@attrs.frozen(slots=True)
class Table:
    """
    One table of the file.

    @ivar keys: its keys, those of all kinds; for the top level the names of the tables
    @ivar array: whether it is written with two brackets and may be there several times
    @ivar text: what it is about
    @ivar kinds: where it is of several kinds: each kind's own table, by the word that tells it
    """

    keys: Mapping[str, FieldInfo]
    array: bool = False
    text: str = ""
    kinds: Mapping[str, Table] = attrs.field(factory=dict)


#: Tables by name; the top level has the name "".
Tables = Mapping[str, Table]


def tables(model: type[BaseModel]) -> Tables:
    """Every table of a configuration model."""
    found: dict[str, Table] = {"": Table(model.model_fields)}
    for name, field in model.model_fields.items():
        inner = get_args(field.annotation)
        if inner and get_origin(inner[0]) is Annotated:
            found[name] = _of_kinds(*get_args(inner[0])[:2])
        else:
            found[name] = _table(inner[0] if inner else field.annotation, array=bool(inner))
    return found


def _table(section: object, array: bool) -> Table:
    if not isinstance(section, type) or not issubclass(section, BaseModel):
        raise TypeError(f"{section} is not a table")
    return Table(section.model_fields, array, (section.__doc__ or "").strip())


def _of_kinds(union: object, told_by: FieldInfo) -> Table:
    """The table of a discriminated union of models; what they have in common is said by their base."""
    sections = get_args(union)
    kinds = {}
    keys: dict[str, FieldInfo] = {}
    for section in sections:
        kind = _table(section, array=True)
        for word in get_args(kind.keys[str(told_by.discriminator)].annotation):
            kinds[word] = kind
        keys |= kind.keys
    return Table(keys, True, (sections[0].__base__.__doc__ or "").strip(), kinds)


def without_kind(path: Path, known: Tables) -> tuple[Path, str]:
    """A key path of pydantic's without the word for the kind of a table, and that word, or ""."""
    if len(path) > 2 and isinstance(path[0], str) and path[0] in known and path[2] in known[path[0]].kinds:
        return (*path[:2], *path[3:]), str(path[2])
    return path, ""


def facts(field: FieldInfo) -> Mapping[str, object]:
    """What L{tpops.config.section.key} said about a key."""
    extra = field.json_schema_extra
    return extra if isinstance(extra, dict) else {}


def label(path: Path) -> str:
    """A key path for people: tables of an array are counted from 1."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part + 1}]"
        else:
            text += f".{part}" if text else part
    return text


def secret(path: Path, known: Tables) -> bool:
    """Whether the value of this key must not be shown."""
    names = [part for part in path if isinstance(part, str)]
    if len(names) < 2 or names[0] not in known:
        return False
    field = known[names[0]].keys.get(names[1])
    return field is not None and bool(facts(field).get("secret"))


def effective(config: BaseModel) -> Iterator[tuple[Path, object]]:
    """Every key path of a configuration with its value, without keys that mean nothing beside the others."""
    for name in type(config).model_fields:
        section = getattr(config, name)
        if isinstance(section, Section):
            yield from (((name, key), getattr(section, key)) for key in section.in_force())
        else:
            for index, entry in enumerate(section):
                yield from (((name, index, key), getattr(entry, key)) for key in entry.in_force())
