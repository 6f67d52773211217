"""
What every sink has in the configuration.

Purpose: the base of the models in this package.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo

from tpops.config import checks
from tpops.config.section import Section, key


def _rules(value: tuple[str, ...]) -> tuple[str, ...]:
    for one in value:
        checks.user_rule(one)
    return value


def no_duplicates(value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
    """Events, each once."""
    if len(set(value)) < len(value):
        raise ValueError("names an event twice")
    return value


Rules = Annotated[tuple[str, ...], Field(strict=False, min_length=1), AfterValidator(_rules)]

#: Everything that happens in sessions.
SessionEvents = Annotated[
    tuple[
        Literal[
            "connect",
            "greeting-refused",
            "login",
            "login-failed",
            "login-refused",
            "remove",
            "logout",
            "disconnect",
            "limit",
        ],
        ...,
    ],
    Field(strict=False, min_length=1),
    AfterValidator(no_duplicates),
]


class SinkSection(Section):
    """Who is told of logins, and how; the section may be there several times."""

    driver: Annotated[str, key("How it is told; each kind has its own keys.")]
    name: Annotated[
        str,
        AfterValidator(checks.source_name),
        key("Name of the sink in logs and figures.", shown="the driver's name"),
    ] = Field(default_factory=lambda data: str(data.get("driver", "")).rpartition(":")[2])
    before_ok: Annotated[
        bool,
        key(
            "Whether the +OK of a login waits until it is told, for `timeout_seconds` and "
            "`pop_before_smtp.ok_wait_seconds` at most; a failure lets the login go on."
        ),
    ] = False
    timeout_seconds: Annotated[float, key("How long telling it may take; then it has failed.", ge=0.1, le=600)] = 5.0
    users: Annotated[
        Rules,
        key(
            'Of whom it is told: "allow" or "deny" and an extended regular expression, looked for in the user\'s name, '
            "capital letters or not. The first that is found decides; who has none is denied.",
            example='["deny ^guest", "allow @example\\\\.org$"]',
        ),
    ] = ("allow .*",)
    at_once: Annotated[int, key("How many notices are on their way at the same time.", ge=1, le=64)] = 8
    most_waiting: Annotated[int, key("How many wait for that at most; further ones are dropped.", ge=1, le=100000)] = (
        1000
    )

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of events that it is told."""
        return tuple(getattr(self, "events", ("login",)))

    def delivery(self) -> dict[str, object]:
        """The arguments of L{tpops.events.sink.Sink} that say how it is told."""
        taken = ("name", "before_ok", "timeout_seconds", "users", "at_once", "most_waiting")
        return {"kinds": self.kinds, **{one: getattr(self, one) for one in taken}}

    def settings(self) -> dict[str, object]:
        """The keys of this driver, with their values."""
        common = (*SinkSection.model_fields, "events")
        return {name: getattr(self, name) for name in type(self).model_fields if name not in common}

    def warnings(self) -> Iterable[str]:
        """What is allowed and unwise, one line each."""
        if self.before_ok and "login" not in self.kinds:
            yield f"sink {self.name}: before_ok means nothing without the event login"
