"""
Reading the configuration file.

Purpose: one call gives the validated configuration, where each value comes from, and warnings; or one ConfigError with
every problem at once, each as "FILE:LINE: KEY ...", with the nearest valid name for what is not known.
Limits: TOML.  Relative paths are relative to the directory of the file.  A file has no includes.
Errors: ConfigError only.  Values of secret keys, and of keys that are not known, are never shown.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping

import attrs
from pydantic import BaseModel, ValidationError

from tpops.config import checks, plugins, positions
from tpops.config.accounts.base import AccountSource
from tpops.config.model_walk import Tables, effective, label, secret, tables, without_kind
from tpops.config.positions import Path
from tpops.config.schema import Config
from tpops.errors import ConfigError

#: Where the configuration is when nobody says: the first that exists, else the last.
DEFAULT_PATHS = ("tpops.toml", "/etc/tpops/tpops.toml")

#: The least idle timeout of RFC 1939 section 3.
RFC_IDLE_SECONDS = 600

#: Longest part of a wrong value that is shown.
_SHOWN_CHARACTERS = 60

#: Validation errors of pydantic in plain English; "{...}" are its own figures.
_MESSAGES = {
    "missing": "is missing",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "string_type": 'must be text in quotes ("...")',
    "bool_type": "must be true or false",
    "tuple_type": "must be a list in brackets",
    "finite_number": "must be a finite number",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than_equal": "must be at most {le:g}",
    "literal_error": "must be {expected}",
    "too_short": "must not be empty",
    "value_error": "{error}",
    "union_tag_not_found": "is missing",
    "union_tag_invalid": "must be one of {expected_tags}, not '{tag}'",
}

#: Validation errors for which the value does not matter.
_ABOUT_THE_KEY = frozenset(("missing", "other_driver"))

#: Drivers whose stored passwords become better ones at login.
RENEWING_DRIVERS = ("sqlite",)

#: The same for the presets of drivers that have some.
RENEWING_PRESETS = ("tpops-v2",)


def _renews(source: AccountSource) -> bool:
    """Whether stored passwords of this source become better ones at login."""
    return source.driver in RENEWING_DRIVERS or getattr(source, "preset", "") in RENEWING_PRESETS


@attrs.frozen(slots=True)
class Loaded:
    """
    A configuration that can be used.

    @ivar config: the values
    @ivar path: the file
    @ivar text: what was in it
    @ivar origins: for every key ("limits.connections", "listen[1].port") either "default" or "file:line"
    @ivar warnings: what is allowed and unwise, one line each
    """

    config: Config
    path: str
    text: str = attrs.field(repr=False)
    origins: Mapping[str, str]
    warnings: tuple[str, ...]


def default_path() -> str:
    """The configuration file to use when the command line names none: $TPOPS_CONFIG, else a default place."""
    told = os.environ.get("TPOPS_CONFIG")
    return told or next((path for path in DEFAULT_PATHS if os.path.exists(path)), DEFAULT_PATHS[-1])


def load(path: str, uid: int | None = None, text: str | None = None) -> Loaded:
    """
    Read and validate a file.

    @param uid: who will run the server, for the warnings; None is the present user
    @param text: what was in it before, to be used instead of the file as it is now
    @raise ConfigError: with every problem
    """
    read_before, text = text is not None, _read(path) if text is None else text
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([_syntax(path, text, str(error))]) from None
    places = positions.lines(text)
    context = {"directory": os.path.dirname(os.path.abspath(path))}
    try:
        model = plugins.model_for(data)
        config = model.model_validate(data, context=context)
    except ValidationError as error:
        raise ConfigError(explain(error, path, places, model)) from None
    open_secrets = [] if read_before else list(_open_secrets(config, path, places))
    if open_secrets:
        raise ConfigError(open_secrets)
    origins = {
        label(key): f"{path}:{positions.find(places, key)}" if key in places else "default"
        for key, _ in effective(config)
    }
    return Loaded(config, path, text, origins, tuple(_warnings(config, os.geteuid() if uid is None else uid)))


def _open_secrets(config: Config, path: str, places: Mapping[Path, int]) -> Iterator[str]:
    """The secrets in a file that everybody on the machine may read."""
    if not os.stat(path).st_mode & stat.S_IROTH:
        return
    known = tables(type(config))
    for where, value in effective(config):
        if value and where in places and secret(where, known):
            yield (
                f"{path}:{positions.find(places, where)}: {label(where)} is a secret, and everybody on this machine "
                "may read this file; chmod 640 it"
            )


def explain(error: ValidationError, path: str, places: Mapping[Path, int], model: type[BaseModel]) -> list[str]:
    """Every problem of a validation as a line for the operator, in the order of the file."""
    known = tables(model)
    problems: list[tuple[int, str]] = []
    details = error.errors()
    for detail in details:
        problem = detail["type"]
        where, kind = without_kind(detail["loc"], known)
        if problem.startswith("union_tag"):
            where = (*where, detail["ctx"]["discriminator"].strip("'"))
        whole = detail["loc"]
        inside = any(other["loc"][: len(whole)] == whole and other is not detail for other in details)
        if problem == "default_factory_not_called" or (problem == "too_short" and inside):
            continue  # follows from other problems
        line = positions.find(places, where)
        what = _unknown(where, kind, known) if problem == "extra_forbidden" else _wrong(problem, where, detail, known)
        problems.append((line, f"{path}:{line}: {what}" if line else f"{path}: {what}"))
    return [text for _, text in sorted(problems, key=lambda one: one[0])]


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8").replace("\r\n", "\n")
    except FileNotFoundError:
        raise ConfigError([f"{path}: there is no such configuration file; 'tpops init' makes one"]) from None
    except OSError as error:
        raise ConfigError([f"{path}: cannot read the configuration file: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: the file is not UTF-8 (at octet {error.start})"]) from None


def _syntax(path: str, text: str, message: str) -> str:
    """A message of tomllib, with its place in front."""
    place = re.search(r" \(at line (\d+), column (\d+)\)$", message)
    if place is None:
        return f"{path}:{text.count(chr(10)) + 1}: not valid TOML: {message.removesuffix(' (at end of document)')}"
    return f"{path}:{place[1]}:{place[2]}: not valid TOML: {message[: place.start()]}"


def _unknown(where: Path, kind: str, known: Tables) -> str:
    """What to say of a key or section that the schema does not have, or that a table of this kind has not."""
    import difflib

    *above, name = where
    table = ".".join(part for part in above if isinstance(part, str))
    mine = known[table].kinds[kind].keys if kind else known[table].keys
    near_mine = difflib.get_close_matches(str(name), mine, n=1)
    if kind and not near_mine and name in known[table].keys:
        return f'{label(where)} is no key of driver "{kind}", which has {", ".join(mine)}'
    thing = "key" if table else "section or key"
    sections = {other: entry.keys for other, entry in known.items() if other}
    likely = [f"{other}.{name}" for other, keys in sections.items() if name in keys and other != table]
    likely += [label((*above, near)) for near in near_mine]
    for other, keys in sections.items():
        likely += [f"{other}.{near}" for near in difflib.get_close_matches(str(name), keys, n=1, cutoff=0.8)]
    hint = f"did you mean {likely[0]}?" if likely else f"known are {', '.join(mine)}"
    return f"{label(where)} is not a known {thing}; {hint}"


def _wrong(kind: str, where: Path, detail: Mapping[str, object], known: Tables) -> str:
    """What to say of a known key whose value is wrong, or missing."""
    if len(where) == 1 and str(where[0]) in known and kind in {"model_type", "tuple_type"}:
        name = str(where[0])
        return f"{name} must be written as {'[[' + name + ']]' if known[name].array else '[' + name + ']'}"
    figures = detail.get("ctx", {})
    template = _MESSAGES.get(kind)
    message = template.format_map(figures) if template and isinstance(figures, dict) else str(detail["msg"])
    if kind in {"literal_error", "union_tag_invalid"}:
        message = message.replace("'", '"')
    value = detail.get("input")
    if kind in _ABOUT_THE_KEY or secret(where, known) or isinstance(value, dict | list | BaseModel | tuple):
        return f"{label(where)} {message}"
    shown = json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool) else str(value)
    return f"{label(where)} {message}, not {_cut(shown)}"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."


def _warnings(config: Config, uid: int) -> Iterator[str]:
    idle = config.protocol.idle_timeout_seconds
    if idle < RFC_IDLE_SECONDS:
        yield f"protocol.idle_timeout_seconds is {idle:g}; RFC 1939 section 3 asks for at least {RFC_IDLE_SECONDS}"
    if config.protocol.apop_only and config.protocol.digests == "never":
        yield 'protocol.apop_only with digests = "never" lets nobody log in without TLS'
    if config.maildir.sizes != "exact":
        yield f'maildir.sizes is "{config.maildir.sizes}"; sizes that clients see are not exact as RFC 1939 asks'
    if config.passwords.rehash and not any(map(_renews, config.accounts)):
        drivers = ", ".join((*RENEWING_DRIVERS, *RENEWING_PRESETS))
        yield f"passwords.rehash changes nothing: no accounts source is one that tpops writes ({drivers})"
    if config.passwords.rehash_plain and not config.passwords.rehash:
        yield "passwords.rehash_plain changes nothing: passwords.rehash is not set"
    for source in config.accounts:
        yield from source.warnings()
    yield from config.limits.warnings()
    yield from config.pop_before_smtp.warnings()
    for sink in config.sink:
        yield from sink.warnings()
    yield from config.proxy.warnings()
    yield from config.status.warnings()
    if config.protocol.plaintext in ("tls", "networks"):
        for one in config.listen:
            if config.tls_mode(one) == "off" and not checks.is_local(one.address):
                yield (
                    f"{one.where} has no TLS: clients there cannot log in, but from protocol.plaintext_networks "
                    '(set tls.certificate, or protocol.plaintext = "always")'
                )
    for place in config.lmtp.open_to_others():
        yield (
            f"lmtp.listen: other machines get to {place}, and LMTP has no password; lmtp.networks "
            f"({', '.join(config.lmtp.networks)}) says who may deliver"
        )
    if uid == 0 and not config.server.user:
        yield "server.user is not set; started as root, tpops would serve as root"
