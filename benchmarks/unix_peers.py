"""Servers that know only the accounts of the machine: they run in a mount namespace with accounts of its own.

The machine's passwd, shadow, group and PAM rules stay as they are; the namespace ends with the server.

- ``popa3d``: Debian's 1.0.3, with a process for each connection, as inetd starts it.  Its package excludes those of
  other POP3 servers, so it is only unpacked; see README.md.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peer import Peer, Site

#: Where README.md has it unpacked.
POPA3D = Path(os.environ.get("POPA3D", "/tmp/tpops-bench/popa3d/usr/sbin/popa3d"))

_DAEMONS = {"popa3d": 20101}


class Popa3d(Peer):
    """Reads the whole spool at each login."""

    name = "popa3d"
    kinds = frozenset(("mbox",))

    def missing(self, python: Path) -> str:
        if os.geteuid() != 0:
            return "popa3d has to be started by root"
        for program in ("unshare", "openssl"):
            if shutil.which(program) is None:
                return f"no {program} here"
        if not POPA3D.exists():
            return f"not unpacked: apt-get download popa3d && dpkg -x popa3d_*.deb {POPA3D.parents[2]}"
        return ""

    def start(self, site: Site) -> list[str]:
        etc = _accounts(site)
        # Spools of the machine are in a directory where everybody may make locks.
        os.chmod(site.mail, 0o1777)
        # It shuts itself in while it reads the password.
        before = ["mount -t tmpfs none /var/lib", "mkdir /var/lib/popa3d"]
        binds = [(site.mail, "/var/mail"), (etc, "/etc")]
        return _apart(binds, before, [site.programs / "inetd", site.port, POPA3D])


def _accounts(site: Site) -> Path:
    """What is to be /etc: accounts that share one uid, with MD5-crypt, PAM's cheapest."""
    etc = site.directory / "etc"
    (etc / "pam.d").mkdir(parents=True)
    users = [f"user{number:04d}" for number in range(site.users)]
    passwords = "".join(f"pw{number:04d}\n" for number in range(site.users))
    argv = ["openssl", "passwd", "-1", "-salt", "bench", "-stdin"]
    hashes = subprocess.run(argv, input=passwords, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    owner = site.owner
    # Nothing of the machine's own accounts is copied.
    passwd, shadow, group = ["root:x:0:0::/root:/bin/sh"], ["root:*:19000:0:99999:7:::"], ["root:x:0:", "mail:x:8:"]
    for name, uid in _DAEMONS.items():
        passwd.append(f"{name}:x:{uid}:{uid}::/nonexistent:/usr/sbin/nologin")
        shadow.append(f"{name}:*:19000:0:99999:7:::")
        group.append(f"{name}:x:{uid}:")
    group.append(f"benchmail:x:{owner}:")
    for user, stored in zip(users, hashes, strict=True):
        passwd.append(f"{user}:x:{owner}:{owner}::/nonexistent:/bin/false")
        shadow.append(f"{user}:{stored}:19000:0:99999:7:::")
    for name, lines in (("passwd", passwd), ("shadow", shadow), ("group", group)):
        (etc / name).write_text("\n".join(lines) + "\n")
    (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\nshadow: files\nhosts: files\n")
    for name in (*_DAEMONS, "other"):
        (etc / "pam.d" / name).write_text("auth required pam_unix.so nodelay\naccount required pam_permit.so\n")
    return etc


def _apart(binds: Sequence[tuple[Path, str]], before: Sequence[str], argv: Sequence[object]) -> list[str]:
    """The command, in a namespace where these directories have these places."""
    # Directories: a bind on a file such as /etc/passwd ends when somebody on the machine replaces that file.
    script = ["set -e", *(f"mount --bind {source} {place}" for source, place in binds), *before, 'exec "$@"']
    return ["unshare", "-m", "--propagation", "private", "sh", "-c", "\n".join(script), "sh", *map(str, argv)]
