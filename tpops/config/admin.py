"""The keys of [admin]: the control socket, through which C{tpops who}, C{kick} and others ask a running server."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from tpops.config import checks
from tpops.config.section import PathText, Section, key

#: Name of the socket in server.state_dir.
SOCKET = "control.sock"


class Admin(Section):
    """The control socket of a running server: whoever may write to it may see and end sessions, and stop the server."""

    enabled: Annotated[bool, key("Whether there is one.")] = True
    socket: Annotated[
        PathText,
        key(
            f'Its path; "" is `{SOCKET}` in `server.state_dir`, which a server can do without if need be.',
            example='"/run/tpops/control.sock"',
        ),
    ] = ""
    socket_mode: Annotated[str, AfterValidator(checks.octal_mode), key("Its permissions, in octal.")] = "0600"
    socket_group: Annotated[
        str,
        key('Group to which it belongs; "" is that of the server. Other groups need a start as root.', example='"adm"'),
    ] = ""
