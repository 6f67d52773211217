"""
What the server offers, and the CAPA list made from it (RFC 2449, RFC 3206, RFC 5034, RFC 6856).

Purpose: one value, L{Offer}, holds what is possible on a connection; the states ask it, and CAPA tells it, so
that nothing is announced that would be refused.
TOP, USER, UIDL and the like are announced in both states: clients read CAPA once, before or after login.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tpops.protocol.sasl import Mechanisms

#: Languages of the reply texts (RFC 6856 section 3): tag and description.
LANGUAGES: tuple[tuple[bytes, bytes], ...] = ((b"en", b"English"), (b"i-default", b"Default language"))


@dataclass(frozen=True, slots=True)
class Offer:
    """
    What the server offers on a connection.

    @ivar greeting: text of the first line
    @ivar plaintext: USER and PASS are possible
    @ivar apop: APOP is possible
    @ivar apop_only: whoever tries USER or PASS where they are not possible is sent away
    @ivar stls: TLS can be started
    @ivar mechanisms: SASL mechanisms by name
    @ivar last: LAST is on
    @ivar login_delay: seconds between logins that are announced, 0 for none
    @ivar implementation: name and version, announced after login only
    """

    greeting: str = "tpops ready"
    plaintext: bool = True
    apop: bool = False
    apop_only: bool = False
    stls: bool = False
    mechanisms: Mechanisms = field(default_factory=dict)
    last: bool = False
    login_delay: int = 0
    implementation: bytes = b"tpops"


def capabilities(offer: Offer, transaction: bool) -> list[bytes]:
    """The lines of CAPA's answer."""
    lines = [b"TOP", b"UIDL", b"RESP-CODES", b"AUTH-RESP-CODE", b"PIPELINING", b"EXPIRE NEVER"]
    if offer.plaintext:
        lines.append(b"USER")
    if offer.mechanisms:
        lines.append(b"SASL " + b" ".join(offer.mechanisms))
    if offer.stls and not transaction:
        lines.append(b"STLS")
    if offer.login_delay:
        lines.append(b"LOGIN-DELAY %d" % offer.login_delay)
    lines += [b"UTF8", b"LANG"]
    if transaction:
        lines.append(b"IMPLEMENTATION " + offer.implementation)
    return lines
