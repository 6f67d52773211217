"""The keys of [lmtp]: where new mail comes in by LMTP (RFC 2033), and how."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from tpops.config import checks
from tpops.config.section import Network, Section, key

_PLACE = re.compile(r"(?:\[([^\]]*)\]|([^:]*)):(\d{1,5})")


def place(value: str, info: ValidationInfo) -> str:
    """A UNIX socket, or an address and a port."""
    if value.startswith("unix:"):
        return checks.listen_address(value, info)
    found = _PLACE.fullmatch(value)
    if found is None or not int(found[3]) <= 65535:
        raise ValueError('must be "unix:" and a path, or an IP address and a port such as "127.0.0.1:24" or "[::1]:24"')
    address = checks.listen_address(found[1] or found[2], info)
    return f"[{address}]:{found[3]}" if ":" in address else f"{address}:{found[3]}"


Place = Annotated[str, AfterValidator(place)]


class LMTP(Section):
    """Mail deliveries by LMTP (RFC 2033), such as Postfix makes them."""

    listen: Annotated[
        tuple[Place, ...],
        Field(strict=False),
        key(
            'Where: "unix:" and the path of a socket, or an IP address and a port ("127.0.0.1:24"); empty is nowhere. '
            "Whoever can connect can deliver: there is no password.",
            example='["unix:/var/spool/postfix/private/tpops-lmtp"]',
        ),
    ] = ()
    socket_mode: Annotated[
        str, AfterValidator(checks.octal_mode), key("Permissions of the UNIX sockets, in octal.")
    ] = "0660"
    socket_user: Annotated[
        str, key('User to whom they belong, when started as root; "" is `server.user`.', example='"postfix"')
    ] = ""
    socket_group: Annotated[
        str,
        key(
            'Group to which they belong; "" is that of the server. Other groups need a start as root.',
            example='"postfix"',
        ),
    ] = ""
    networks: Annotated[
        tuple[Network, ...],
        Field(strict=False),
        key("Networks (CIDR) from which TCP clients may connect.", example='["127.0.0.0/8", "192.0.2.25/32"]'),
    ] = ("127.0.0.0/8", "::1/128")
    message_octets: Annotated[
        int,
        key(
            "Biggest message; 0 is any. At least what the MTA lets through (Postfix: `message_size_limit`), else it "
            "bounces here.",
            ge=0,
        ),
    ] = 104857600
    recipients: Annotated[int, key("Most recipients of one message; the MTA sends it again for others.", ge=1)] = 1000
    connections: Annotated[int, key("Connections at the same time, in each worker.", ge=1)] = 100
    deliveries: Annotated[
        int, key("Deliveries at the same time, all connections together, in each worker.", ge=1, le=256)
    ] = 8
    timeout_seconds: Annotated[
        float, key("Time without anything from the client until the connection is closed.", ge=1)
    ] = 300
    over_quota: Annotated[
        Literal["bounce", "defer"],
        key('When a maildrop is full: "bounce" tells the sender at once, "defer" lets the MTA try again for days.'),
    ] = "bounce"
    return_path: Annotated[bool, key("Put `Return-Path:` before each message, in place of any that is there.")] = True
    delivered_to: Annotated[bool, key("Put `Delivered-To:` with the recipient's address before each message.")] = True
    received: Annotated[bool, key("Put a `Received:` line before each message.")] = True

    @model_validator(mode="after")
    def _fits_together(self) -> LMTP:
        if not self.listen:
            for name in type(self).model_fields:
                if name in self.model_fields_set and name != "listen":
                    raise ValueError(f"has {name}, which means nothing without listen")
        if len(set(self.listen)) < len(self.listen):
            raise ValueError("has a place in listen twice")
        return self

    def places(self) -> tuple[tuple[str, int], ...]:
        """Address and port of each listener; "unix:..." has port 0."""
        return tuple(_split(one) for one in self.listen)

    def open_to_others(self) -> list[str]:
        """The listeners that other machines get to."""
        return [
            one for one, (address, _) in zip(self.listen, self.places(), strict=True) if not checks.is_local(address)
        ]


def _split(one: str) -> tuple[str, int]:
    if one.startswith("unix:"):
        return one, 0
    address, _, port = one.rpartition(":")
    return address.strip("[]"), int(port)
