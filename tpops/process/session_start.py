"""What a session's process is told: by the broker that forks it, and by the configuration."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import attrs

from tpops.model import Account
from tpops.process.records import LoginRecord, account_of, parse

if TYPE_CHECKING:
    from tpops.config.schema import Config


def settings(tables: Mapping[str, Any]) -> Config:
    """
    The tables of a configuration (L{tpops.process.broker_link.session_settings}) as plain objects.

    They were looked at where they come from; the classes of the configuration would be half of what a session's
    process has in memory.
    """
    return cast("Config", _frozen(tables))


def _frozen(value: object) -> object:
    if isinstance(value, dict):
        return SimpleNamespace(**{key: _frozen(one) for key, one in value.items()})
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


@attrs.frozen
class Start:
    """
    A session that is to be started.

    @ivar account: whose, as the judge says
    @ivar useropt: what his name says for a program
    @ivar login: where he comes from, without the proof
    @ivar control: the socket to the front
    """

    account: Account
    useropt: str
    login: LoginRecord
    control: socket.SocketType

    @classmethod
    def of(cls, answer: bytes, control: socket.SocketType) -> Start:
        """From what the judge has answered."""
        found = parse(answer)
        return cls(account_of(found["account"]), found["useropt"], LoginRecord.of(found["login"]), control)
