"""
What fronts, broker and session processes say to each other.

Purpose: one packet (SOCK_SEQPACKET) is one JSON object of bounded length.  What comes from a process that talks to
clients is looked at here, field by field, before anything is done with it.

    front to broker           a L{LoginRecord}, with one descriptor: the session's end of a socket pair, the control
    broker or session         {"refused": class, "why": text}
    to front, on the control  {"verified": {"user", "driver", "folder"}}    said by root, before anything of the user's
                              {"opened": [messages, octets, checksum of the unique-ids], "program": bool,
                              "listings": [from an index, from a scan]}
                              {"log": [level, text]}, {"transcript": text}
                              {"now": {...}}, see L{Now}; now and then
                              {"ended": {...}}, see L{Ended}
    front to session          {"go": {...}} with the client's descriptor, see L{Go}; {"stop": true}
    broker to judge           L{NUMBER}, and the record as it came
    judge to broker           L{VERDICT}, and {"account": {...}, "useropt": text, "login": {...} without the proof} for
                              the session, {"refused", "why"}, {"step": {...}} for a message of an exchange, which goes
                              on to the front, or {"bad": why it is no record}

Limits: pure.  What is not exactly of this form is L{BadRecord}.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import attrs

from tpops import errors
from tpops.errors import TpopsError
from tpops.model import Account, Session

#: Longest packet.
MOST_OCTETS = 65536

#: Longest name, password or digest, in octets.
MOST_SECRET_OCTETS = 4096

#: Longest text, in characters.
MOST_TEXT = 1024

_MOST_NUMBER = 1 << 62

#: Stands before a record that the broker hands on.
NUMBER = struct.Struct("!Q")

#: The number of a record, and whether a session may begin.
VERDICT = struct.Struct("!Q?")

_T = TypeVar("_T")

Kind = Literal["password", "apop", "cram-md5", "sasl", "ticket"]
KINDS: tuple[Kind, ...] = ("password", "apop", "cram-md5", "sasl", "ticket")

#: Refusals that can be passed on.
_REFUSALS: Mapping[str, type[TpopsError]] = {
    one.__name__: one
    for one in (
        errors.BadCredentials,
        errors.LookupUnavailable,
        errors.MaildropBusy,
        errors.TooSoon,
        errors.AccountDisabled,
        errors.StorageUnavailable,
        errors.MaildropBroken,
        errors.NoSuchFolder,
    )
}

#: Reasons for which a session process may say that it has ended.
REASONS = frozenset(
    (
        *("quit", "client closed", "idle", "session limit", "write stalled", "line too long", "too many errors"),
        *("too many errors after the login", "too many commands after the login", "server shutdown", "error"),
    )
)


class BadRecord(ValueError):
    """A packet that is none of ours."""


def parse(octets: bytes) -> dict[str, Any]:
    """
    The object in a packet.

    @raise BadRecord: when there is none
    """
    if len(octets) > MOST_OCTETS:
        raise BadRecord("it is too long")
    try:
        found = json.loads(octets)
    except (ValueError, RecursionError):
        raise BadRecord("it is not JSON") from None
    if not isinstance(found, dict):
        raise BadRecord("it is no object")
    return found


def pack(what: Mapping[str, object]) -> bytes:
    """The packet of an object."""
    return json.dumps(what).encode("ascii")


def _only(found: Mapping[str, Any], keys: frozenset[str]) -> None:
    if found.keys() != keys:
        raise BadRecord("it has other fields than it should")


def text(value: object, most: int = MOST_TEXT) -> str:
    """Text that can be written in UTF-8 and is not too long."""
    if not isinstance(value, str) or len(value) > most:
        raise BadRecord("a text is none, or too long")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise BadRecord("a text is not Unicode") from None
    return value


def number(value: object, most: int = _MOST_NUMBER) -> int:
    """A number from 0 on."""
    if type(value) is not int or not 0 <= value <= most:
        raise BadRecord("a number is none, or too large")
    return value


def octets(value: object, most: int = MOST_SECRET_OCTETS) -> bytes:
    """Octets in base 64."""
    if not isinstance(value, str) or len(value) > 4 * (most // 3 + 1):
        raise BadRecord("octets are none, or too many")
    try:
        found = base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error):
        raise BadRecord("octets are not in base 64") from None
    if len(found) > most:
        raise BadRecord("octets are too many")
    return found


def based(value: bytes) -> str:
    """The same the other way round."""
    return base64.b64encode(value).decode("ascii")


@attrs.frozen
class LoginRecord:
    """
    A login as a front tells it; nothing of it is believed before it is verified.

    @ivar kind: how the client proves himself; "sasl" is a message of an exchange that the judge conducts, "ticket" is
        its end
    @ivar name: whose proof it is, as he sent it; the mechanism of a message
    @ivar proof: password, digest or message
    @ivar challenge: what the digest is over; the ticket of an exchange; b"" for passwords
    @ivar target: for whom he wants to act, b"" for himself; the channel bindings of a message
    """

    kind: Kind
    name: bytes
    proof: bytes = attrs.field(repr=False)
    challenge: bytes = b""
    target: bytes = b""
    host: str = "unknown"
    port: int = 0
    local_host: str = ""
    local_port: int = 0
    session: str = ""

    def record(self) -> dict[str, object]:
        """As an object."""
        found = attrs.asdict(self)
        return {key: based(value) if isinstance(value, bytes) else value for key, value in found.items()}

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> LoginRecord:
        """@raise BadRecord: when it is none"""
        _only(found, _LOGIN_KEYS)
        if not isinstance(found["kind"], str) or found["kind"] not in KINDS:
            raise BadRecord("it has an unknown kind of proof")
        return cls(
            kind=found["kind"],
            name=octets(found["name"]),
            proof=octets(found["proof"], MOST_REST_OCTETS if found["kind"] == "sasl" else MOST_SECRET_OCTETS),
            challenge=octets(found["challenge"]),
            target=octets(found["target"]),
            host=text(found["host"], 256),
            port=number(found["port"], 65535),
            local_host=text(found["local_host"], 256),
            local_port=number(found["local_port"], 65535),
            session=text(found["session"], 256),
        )


_LOGIN_KEYS = frozenset(field.name for field in attrs.fields(LoginRecord))


@attrs.frozen
class Ended:
    """
    What a session process says when it is over.

    @ivar reason: one of L{REASONS}
    @ivar slowed: milliseconds that it has waited for the limit of its bandwidth
    @ivar update: microseconds that QUIT took in UPDATE, at least 1; 0 where it did not come to that
    """

    reason: str
    messages_left: int
    octets_left: int
    retr_count: int = 0
    retr_octets: int = 0
    top_count: int = 0
    top_octets: int = 0
    dele_count: int = 0
    slowed: int = 0
    update: int = 0

    @classmethod
    def of(cls, found: object) -> Ended:
        """@raise BadRecord: when it is none"""
        if not isinstance(found, dict):
            raise BadRecord("it is no object")
        _only(found, _ENDED_KEYS)
        if not isinstance(found["reason"], str) or found["reason"] not in REASONS:
            raise BadRecord("it has an unknown reason")
        reason: str = found["reason"]
        return cls(reason, **{key: number(value) for key, value in found.items() if key != "reason"})

    @classmethod
    def as_session(cls, session: Session, slowed: int = 0) -> Ended:
        """What is known of one."""
        reason = session.reason if session.reason in REASONS else "error"
        figures = {key: getattr(session, key) for key in _ENDED_KEYS - {"reason", "slowed", "update"}}
        seconds = session.update_seconds
        return cls(reason, **figures, slowed=slowed, update=0 if seconds is None else max(1, round(seconds * 1e6)))

    @property
    def update_seconds(self) -> float | None:
        """How long QUIT took, as L{Session} has it."""
        return self.update / 1e6 if self.update else None


_ENDED_KEYS = frozenset(field.name for field in attrs.fields(Ended))


@attrs.frozen
class Now:
    """
    What a session process says meanwhile.

    @ivar doing: what it does, "" when it waits for its client's next command
    @ivar updating: it is in UPDATE
    @ivar idle: milliseconds since the client was heard of
    """

    doing: str
    updating: bool
    idle: int
    retr_count: int
    retr_octets: int
    top_count: int
    top_octets: int

    @classmethod
    def of(cls, found: object) -> Now:
        """@raise BadRecord: when it is none"""
        if not isinstance(found, dict):
            raise BadRecord("it is no object")
        _only(found, _NOW_KEYS)
        if type(found["updating"]) is not bool:
            raise BadRecord("a flag is none")
        doing = text(found["doing"], 64)
        if not doing.isprintable():
            # An administrator's terminal shows it.
            raise BadRecord("a text cannot be shown")
        figures = {key: number(value) for key, value in found.items() if key not in ("doing", "updating")}
        return cls(doing, found["updating"], **figures)


_NOW_KEYS = frozenset(field.name for field in attrs.fields(Now))


@attrs.frozen
class Go:
    """
    What a session begins with.

    @ivar first: what the client is to be sent first
    @ivar rest: what he has sent already
    @ivar plaintext: CAPA says USER
    @ivar mechanisms: the names of SASL mechanisms that CAPA says
    @ivar utf8: the client has said UTF8
    @ivar language: and LANG
    @ivar transcribed: a transcript of the session is kept
    @ivar paced: it may send so much a second and no more
    """

    first: bytes
    rest: bytes
    plaintext: bool
    mechanisms: tuple[str, ...]
    utf8: bool
    language: str
    transcribed: bool = False
    paced: bool = False

    def record(self) -> dict[str, object]:
        """As an object."""
        return {"go": {**attrs.asdict(self), "first": based(self.first), "rest": based(self.rest)}}

    @classmethod
    def of(cls, found: object) -> Go:
        """@raise BadRecord: when it is none"""
        if not isinstance(found, dict):
            raise BadRecord("it is no object")
        _only(found, _GO_KEYS)
        mechanisms = found["mechanisms"]
        if not isinstance(mechanisms, list) or len(mechanisms) > 64:
            raise BadRecord("mechanisms are no list")
        if any(type(found[flag]) is not bool for flag in ("plaintext", "utf8", "transcribed", "paced")):
            raise BadRecord("a flag is none")
        return cls(
            octets(found["first"], 1024),
            octets(found["rest"], MOST_REST_OCTETS),
            found["plaintext"],
            tuple(text(one, 64) for one in mechanisms),
            found["utf8"],
            text(found["language"], 32),
            found["transcribed"],
            found["paced"],
        )


_GO_KEYS = frozenset(field.name for field in attrs.fields(Go))

#: Octets that a client may have sent behind his login and that can be handed on; more go through a pump.
MOST_REST_OCTETS = 16384


def refusal(problem: TpopsError) -> dict[str, object]:
    """How an error is passed on."""
    name = next((one.__name__ for one in type(problem).__mro__ if one.__name__ in _REFUSALS), "LookupUnavailable")
    return {"refused": name, "why": str(problem)[:MOST_TEXT].encode("utf-8", "replace").decode()}


def error_of(found: Mapping[str, Any]) -> TpopsError:
    """
    The error that was passed on.

    @raise BadRecord: when it is none
    """
    kind = found.get("refused")
    if not isinstance(kind, str) or kind not in _REFUSALS:
        raise BadRecord("it has an unknown refusal")
    return _REFUSALS[kind](text(found.get("why")))


def account_record(account: Account) -> dict[str, object]:
    """An account as an object."""
    return attrs.asdict(account)


def account_of(found: Mapping[str, Any]) -> Account:
    """The account in an object that the judge has made."""
    return Account(**found)
