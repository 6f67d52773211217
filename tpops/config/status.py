"""The keys of [status]: the page that shows a running server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from tpops.config import checks
from tpops.config.section import PathText, key
from tpops.config.web import WebPlace, WebSection

#: Characters that a token has at least, and at most.
LEAST_TOKEN, MOST_TOKEN = 20, 200

#: A host name.
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


def checked_token(value: str) -> str:
    """A token that nobody can guess, and that goes through HTTP as it is."""
    if value and not re.fullmatch(rf"[!-~]{{{LEAST_TOKEN},{MOST_TOKEN}}}", value):
        raise ValueError(
            f"must be {LEAST_TOKEN} to {MOST_TOKEN} printable ASCII characters without spaces; "
            "'openssl rand -hex 20' makes one"
        )
    return value


def _hosts(value: tuple[str, ...]) -> tuple[str, ...]:
    for one in value:
        if not _HOST.fullmatch(one):
            raise ValueError(f'must have host names such as "mail.example.org", without port, not "{one}"')
    return tuple(one.lower() for one in value)


class Status(WebSection):
    """A page for web browsers that shows the running server to who has a token; see docs/sight.md."""

    listen: Annotated[
        WebPlace,
        key(
            'Where: an IP address and a port, or "unix:" and a path; "" is nowhere. The page has no TLS of its own: '
            "`ssh -L`, or a web server in front of it, brings it to other machines.",
            example='"127.0.0.1:9120"',
        ),
    ] = ""
    token: Annotated[
        str,
        AfterValidator(checked_token),
        key(
            f"Who knows it may look: {LEAST_TOKEN} to {MOST_TOKEN} printable ASCII characters without spaces. "
            "Better in a file, `token_file`.",
            secret=True,
        ),
    ] = ""
    token_file: Annotated[
        PathText,
        key(
            "File whose first line is the token, and which only the server's user may read; "
            "`openssl rand -hex 20` makes one.",
            example='"/etc/tpops/status-token"',
        ),
    ] = ""
    public: Annotated[
        bool,
        key(
            "Other machines may connect, and the token and all names go over the network as they are; without it "
            "`listen` must be a loopback address or a UNIX socket."
        ),
    ] = False
    hosts: Annotated[
        tuple[str, ...],
        Field(strict=False),
        AfterValidator(_hosts),
        key(
            "Names under which browsers may ask for the page, beside `server.hostname`, `localhost` and IP addresses.",
            example='["status.example.org"]',
        ),
    ] = ()
    socket_mode: Annotated[str, AfterValidator(checks.octal_mode), key("Permissions of a UNIX socket, in octal.")] = (
        "0660"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Status:
        if not self.listen:
            for name in type(self).model_fields:
                if name in self.model_fields_set and name != "listen":
                    raise ValueError(f"has {name}, which means nothing without listen")
            return self
        if self.token and self.token_file:
            raise ValueError("has both token and token_file")
        if not (self.token or self.token_file):
            raise ValueError("has listen, which needs token_file (or token): who knows the token may look")
        self.refuse_others(
            "the token, and the names of all who are logged in, would go over the network as they are; let it listen "
            "at 127.0.0.1 and reach it by ssh -L, or through a web server with TLS"
        )
        return self

    def warnings(self) -> Iterator[str]:
        """What is allowed and unwise."""
        if self.open_to_others:
            yield (
                f"status.listen: other machines get to {self.listen}, and there is no TLS: the token and what the page "
                "shows can be read on the way"
            )
