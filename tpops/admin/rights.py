"""
Who the server will be, and what he may do with files.

Purpose: "tpops check" and "tpops tls check" run as an administrator and judge for the server's user.
Limits: owner, group and mode only, not access lists.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterator

import attrs

from tpops.config.schema import Config


@attrs.frozen(slots=True)
class RunsAs:
    """Who the server will be."""

    uid: int
    groups: frozenset[int]

    def may(self, path: str, bits: int) -> bool:
        """Whether he has these rights (os.R_OK, os.W_OK, os.X_OK) on a file or directory."""
        if self.uid == 0:
            return True
        facts = os.stat(path)
        mode = stat.S_IMODE(facts.st_mode)
        if facts.st_uid == self.uid:
            mode >>= 6
        elif facts.st_gid in self.groups:
            mode >>= 3
        return mode & bits == bits

    def closed(self, path: str) -> str | None:
        """The first place on the way to a file that keeps him from reading it, None where he can."""
        for directory in _above(path):
            if not self.may(directory, os.X_OK):
                return directory
        return None if self.may(path, os.R_OK) else path


def _above(path: str) -> Iterator[str]:
    """The directories above a path as it is written, and as it is without symbolic links."""
    for one in (os.path.abspath(path), os.path.realpath(path)):
        parts = one.split(os.sep)[1:-1]
        yield from (os.sep + os.sep.join(parts[:count]) for count in range(len(parts) + 1))


def runs_as(config: Config) -> RunsAs:
    """The server's user.  @raise KeyError: when the machine does not know him or the group"""
    if not config.server.user:
        return RunsAs(os.geteuid(), frozenset((os.getegid(), *os.getgroups())))
    entry = pwd.getpwnam(config.server.user)
    gid = grp.getgrnam(config.server.group).gr_gid if config.server.group else entry.pw_gid
    return RunsAs(entry.pw_uid, frozenset((gid, *os.getgrouplist(config.server.user, gid))))
