"""The keys of [last_login]: when users logged in last, and from where."""

from __future__ import annotations

from typing import Annotated

from tpops.config.section import PathText, Section, key


class LastLogin(Section):
    """When users logged in last, and from where, for `tpops user show`."""

    keep: Annotated[bool, key("Whether that is written down.")] = False
    path: Annotated[
        PathText, key('SQLite file for it; "" is `last-logins.sqlite` in `server.state_dir`. It is made if missing.')
    ] = ""
    addresses: Annotated[int, key("Addresses that are kept of each user, those that he used last.", ge=1, le=1000)] = 20
    days: Annotated[int, key("How long a login is remembered.", ge=1, le=36500)] = 400
    write_seconds: Annotated[
        float, key("How long logins are gathered until they are written together.", ge=0.1, le=3600)
    ] = 5.0
