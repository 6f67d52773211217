"""The table [limits]: who may connect, how often, and how much everybody gets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, field_validator

from tpops.config.section import Network, Section, key

#: What a bandwidth is at least.
_LEAST_OCTETS = 1024


class Limits(Section):
    """Who may connect and how often, and how much they get."""

    connections: Annotated[int, key("Connections at the same time; 0 is no limit.", ge=0)] = 2000
    connections_per_address: Annotated[
        int, key("Connections at the same time from one address; 0 is no limit.", ge=0)
    ] = 50
    ipv6_prefix: Annotated[
        int, key("Leading bits of an IPv6 address that count as one address; 64 is one site's network.", ge=1, le=128)
    ] = 64
    connections_per_user: Annotated[
        int,
        key(
            "Sessions of one user at the same time, those that wait for his maildrop's lock among them; 0 is no limit.",
            ge=0,
        ),
    ] = 0
    connections_per_user_and_address: Annotated[
        int, key("Those of them that come from one address; 0 is no limit.", ge=0)
    ] = 10
    unauthenticated_connections: Annotated[
        int,
        key(
            "Connections at the same time that have not logged in; when there is one more, the oldest of them is "
            "closed. Each worker has its share. 0 is no limit.",
            ge=0,
        ),
    ] = 500
    exempt: Annotated[
        tuple[Network, ...],
        Field(strict=False),
        key(
            "Networks (CIDR) that of this table only `connections` and the numbers of commands and errors apply to.",
            example='["192.0.2.0/24", "2001:db8::/32"]',
        ),
    ] = ()
    login_delay_seconds: Annotated[
        float, key("Time that must pass between two logins of one user (RFC 2449 section 6.5); 0 is none.", ge=0)
    ] = 0
    commands_before_login: Annotated[
        int, key("Commands on one connection until the login; one more closes it. 0 is no limit.", ge=0)
    ] = 100
    commands_after_login: Annotated[
        int, key("Commands of one session after the login; one more closes it. 0 is no limit.", ge=0)
    ] = 0
    errors_before_login: Annotated[
        int, key("Refused commands until the login, the last of which closes the connection; 0 is no limit.", ge=0)
    ] = 20
    errors_after_login: Annotated[
        int, key("Refused commands after the login, the last of which closes the session; 0 is no limit.", ge=0)
    ] = 1000
    octets_per_second_per_session: Annotated[
        int,
        key("How fast messages and listings are sent to one session; 0 is as fast as it takes them.", ge=0),
    ] = 0
    octets_per_second: Annotated[
        int,
        key("How fast they are sent to all sessions together; each worker has its share. 0 is no limit.", ge=0),
    ] = 0

    @field_validator("octets_per_second_per_session", "octets_per_second")
    @classmethod
    def _is_enough(cls, value: int) -> int:
        if 0 < value < _LEAST_OCTETS:
            raise ValueError(f"is {value}, must be 0 or at least {_LEAST_OCTETS}")
        return value

    def warnings(self) -> Iterator[str]:
        """What is allowed and unwise."""
        strangers, together = self.unauthenticated_connections, self.connections
        if together and (not strangers or strangers >= together):
            yield (
                f"limits.unauthenticated_connections is {strangers}, limits.connections {together}: clients that "
                "never log in can take every place; make the first one smaller"
            )
