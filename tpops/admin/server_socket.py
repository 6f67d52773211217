"""
Asks a running server through its control socket, for commands.

Errors: one line that names the socket, and what may be the reason.
"""

from __future__ import annotations

import json
import socket
from typing import Any

import click

from tpops.admin.context import configuration
from tpops.sight.control import MOST_ANSWER, short
from tpops.sight.place import path_of

#: Seconds that an answer may take; a reload starts processes.
_PATIENCE_SECONDS = 90.0


class Server:
    """
    The server of a configuration.

    @ivar path: its control socket
    """

    def __init__(self, context: click.Context) -> None:
        self.path = path_of(configuration(context).config)
        if not self.path:
            raise click.ClickException("admin.enabled is false in the configuration: there is no control socket")

    def ask(self, do: str, **fields: object) -> dict[str, Any]:
        """The answer to a request; what is silent is told on standard error."""
        request = {"do": do, **{name: value for name, value in fields.items() if value is not None}}
        try:
            answer = self._exchange(json.dumps(request).encode("ascii") + b"\n")
        except (FileNotFoundError, ConnectionRefusedError):
            raise click.ClickException(
                f"no server answers at {self.path}; is it running, with this configuration?"
            ) from None
        except PermissionError:
            raise click.ClickException(f"you may not use {self.path}: admin.socket_mode and its group decide") from None
        except TimeoutError:
            raise click.ClickException(f"the server at {self.path} does not answer") from None
        if "error" in answer:
            raise click.ClickException(str(answer["error"]))
        for one in answer.pop("silent", ()):
            click.echo(f"warning: {one} does not answer; what follows is without it", err=True)
        return answer

    def _exchange(self, request: bytes) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as connected, short(self.path) as name:
            connected.settimeout(_PATIENCE_SECONDS)
            connected.connect(name)
            connected.sendall(request)
            octets = bytearray()
            while not octets.endswith(b"\n") and len(octets) < MOST_ANSWER:
                more = connected.recv(1 << 20)
                if not more:
                    raise ConnectionRefusedError
                octets += more
        answer: dict[str, Any] = json.loads(octets)
        return answer
