"""The keys of [delivery] and [quota]: mail that arrives."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from tpops.config import checks
from tpops.config.section import PathText, Section, key


class Delivery(Section):
    """How mail is taken by tpops-pipe, tpops-store and LMTP."""

    extension_separator: Annotated[
        str,
        AfterValidator(checks.extension_separator),
        key(
            'Signs that begin the extension of an address, as Postfix\' recipient_delimiter: with "+", mail for '
            'joe+list@example.org that nobody has is joe@example.org\'s. "" is none.',
            example='"+"',
        ),
    ] = ""
    return_path: Annotated[
        bool,
        key(
            "Put the sender's address in front of the message as a field Return-Path, in place of any that it has. Not "
            "where the MTA does that (flag R of Postfix' pipe)."
        ),
    ] = False
    delivered_to: Annotated[
        bool,
        key(
            "Put the recipient's address in front of the message as a field Delivered-To. Not where the MTA does that "
            "(flag D of Postfix' pipe)."
        ),
    ] = False
    complete_sources: Annotated[
        tuple[str, ...],
        Field(strict=False),
        key(
            "Accounts sources that judge passwords themselves (pam, external, checkpassword, strcred) and whose word "
            "counts all the same when they do not know an address: mail for it comes back to its sender. Otherwise it "
            "waits, since such a source may know somebody by his password only.",
            example='["pam"]',
        ),
    ] = ()
    spool_dir: Annotated[
        PathText,
        key(
            "Directory for big messages while they are delivered.",
            shown="the system's, which TMPDIR names",
            example='"/var/spool/tpops"',
        ),
    ] = ""


class Quota(Section):
    """How much mail an account may have whose source does not say it."""

    octets: Annotated[int, key("Most octets of all messages together; 0 is any number.", ge=0)] = 0
    messages: Annotated[int, key("Most messages; 0 is any number.", ge=0)] = 0
