"""What every server of the comparison is: `Peer`, and what it is told about a run: `Site`.

A peer writes its configuration into ``site.directory`` and returns the command of a process that stays in the
foreground and serves POP3 on ``127.0.0.1:site.port``.  Users are ``user0000`` with password ``pw0000`` and so on; all
mail belongs to uid and gid 20000 when the benchmarks run as root.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Site:
    """What a peer needs to know about one run; `kind` is that of the maildrops, "maildir" or "mbox".

    `workers` is for tpops only.
    """

    directory: Path
    mail: Path
    users: int
    messages: int
    octets: int
    port: int
    programs: Path
    python: Path
    kind: str
    owner: int
    workers: int = 1


class Peer:
    """One server: `start` is called for every run, on a fresh directory."""

    name = ""
    needs_mail = True
    kinds = frozenset(("maildir",))

    def missing(self, python: Path) -> str:
        """Why this server cannot run here; empty if it can."""
        return ""

    def start(self, site: Site) -> list[str]:
        """Prepare `site.directory` and return the command."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """The environment of the command."""
        return dict(os.environ)

    def counters(self) -> dict[str, float]:
        """What goes up while it is used, and is not in its processes; each is shown per session.

        ``database_cpu_seconds`` is processor time of its own, too, and no noise.
        """
        return {}

    def working_directory(self, site: Site) -> Path:
        """Where the command is started."""
        return site.directory
