"""The keys of the driver that asks another POP3 server."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from tpops.config import checks
from tpops.config.accounts.base import AccountSource
from tpops.config.section import key

_Location = Annotated[str, AfterValidator(lambda value, info: checks.mail_location(value, info) if value else value)]


class ProxyAccounts(AccountSource):
    """The accounts of the server in `[proxy]`, which judges the passwords; see docs/mail/proxy.md."""

    driver: Annotated[Literal["proxy"], key("Another POP3 server.")]
    domains: Annotated[
        tuple[Annotated[str, AfterValidator(checks.own_domain)], ...],
        Field(strict=False),
        key(
            "Domains of the names that are asked for there; empty for any, also for names without one. Needed where "
            "`proxy.server` depends on the name.",
            example='["example.org"]',
        ),
    ] = ()
    mailbox: Annotated[
        _Location,
        key('Where their mail is, written as `mail.location`; "" is `mail.location`.'),
    ] = "proxy:"
