"""Tests in a machine that has its own systemd; one machine serves the tests of a process."""

from __future__ import annotations

import atexit
import functools
import re
import subprocess
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.machine import Machine
from tests.integration.server import CHECKOUT, PASSWORD, USER, Table, toml, wait_until
from tests.integration.wire import Wire

CONFIGURATION = "/etc/tpops/tpops.toml"

MESSAGE = b"Subject: hello\n\nworld\n"


@functools.cache
def machine() -> Machine:
    """The machine of this process."""
    made = Machine()
    atexit.register(made.remove)
    made.run("install", "-D", "-m644", "/src/contrib/systemd/sysusers.d/tpops.conf", "/etc/sysusers.d/tpops.conf")
    made.run("systemd-sysusers")
    return made


def commands(section: str, page: str = "docs/start.md") -> list[str]:
    """The first lines that a section of the documentation wants typed."""
    text = (CHECKOUT / page).read_text().split(f"\n## {section}\n", 1)[1]
    found = re.search(r"^(?: {4}[^$\n].*\n)+", text, re.MULTILINE)
    assert found is not None, section
    return [line.strip() for line in found[0].splitlines()]


def innermost(process: subprocess.Popen[bytes]) -> int:
    """The process id, seen from here, of what a command of the machine has become: nsenter and unshare fork."""
    pid = process.pid
    while children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        pid = int(children[0])
    return pid


class MachineCase(SynchronousTestCase):
    """
    Begins with a machine that has tpops and its user, but no unit and no configuration.

    @ivar machine: the machine
    """

    timeout = 240

    def setUp(self) -> None:
        """Begin."""
        self.machine = machine()
        self._began = time.time()
        self.addCleanup(self.clean)

    def clean(self) -> None:
        """Take away what a test has made."""
        units = "tpops.socket tpops-lmtp.socket tpops-inetd.socket tpops.service 'tpops-inetd@*.service'"
        self.sh(
            f"systemctl stop {units}; systemctl disable {units}\n"
            "rm -rf /etc/systemd/system/tpops* /etc/tmpfiles.d/* /etc/tpops\n"
            "rm -rf /var/lib/tpops /var/log/tpops /run/tpops* /srv/mail\n"
            "find /home -mindepth 1 -delete; rm -f /etc/logrotate.d/* /var/lib/logrotate/*\n"
            "systemctl daemon-reload; systemctl reset-failed"
        )
        self.assertEqual(self.sh("systemctl list-units --no-legend --all 'tpops*'"), "")

    def sh(self, script: str, status: int | None = None) -> str:
        """A script in the machine, in the source tree; its exit status may be any."""
        return self.machine.run("bash", "-c", f"cd /src; {script}", status=status)

    def install(self, *units: str) -> None:
        """Put units and additions to tpops.service in place."""
        for unit in units:
            directory = "tpops.service.d/" if unit.endswith(".conf") else ""
            self.machine.run(
                "install", "-Dm644", f"/src/contrib/systemd/{directory}{unit}", f"/etc/systemd/system/{directory}{unit}"
            )
        self.machine.run("systemctl", "daemon-reload")

    def addition(self, *lines: str) -> None:
        """Another addition to tpops.service, for the sake of a test."""
        text = "\n".join(("[Service]", *lines, ""))
        self.machine.write("/etc/systemd/system/tpops.service.d/test.conf", text)
        self.machine.run("systemctl", "daemon-reload")

    def configure(self, *, listen: list[Table] | None = None, **tables: Table | list[Table]) -> None:
        """Write a configuration, with one account in a passwd-file."""
        whole = {
            "server": {"drain_seconds": 0, **tables.pop("server", {})},  # type: ignore[dict-item]
            "listen": listen or [{"address": "127.0.0.1", "port": 110}],
            "accounts": [{"driver": "passwd_file", "path": "/etc/tpops/users"}],
            "mail": {"location": "maildir:/var/lib/tpops/mail/$(user)/Maildir"},
            "maildir": {"create": True},
            **tables,
        }
        self.machine.write("/etc/tpops/users", f"{USER}:{{PLAIN}}{PASSWORD}::::::\n")
        self.machine.write(CONFIGURATION, toml(whole))
        self.machine.run("chgrp", "-R", "tpops", "/etc/tpops")

    def deliver(self, maildir: str = "/var/lib/tpops/mail/joe/Maildir", owner: str = "tpops:tpops") -> None:
        """Put a message into a Maildir, which belongs to this user, and what is above it, too."""
        self.sh(f"mkdir -p {maildir}/{{tmp,new,cur}}", status=0)
        self.machine.write(f"{maildir}/new/1.host", MESSAGE.decode())
        self.sh(f"set -e; top=$(dirname {maildir}); chown -R {owner} $top; chmod -R u=rwX,go= $top", status=0)

    def journal(self, unit: str = "tpops.service") -> str:
        """What the journal has of this test."""
        return self.machine.journal(unit, self._began)

    def start(self) -> None:
        """Start the service."""
        self.machine.run("systemctl", "start", "tpops.service")

    def session(self, port: int = 110, user: str = USER, password: str = PASSWORD) -> Wire:
        """A connection that has logged in."""
        wire = self.wire(port)
        wire.log_in(user, password)
        return wire

    def wire(self, place: int | str = 110) -> Wire:
        """A connection that has not read its greeting."""
        wire = self.machine.wire(place)
        self.addCleanup(wire.close)
        return wire

    def answer(self, user: str = USER, password: str = PASSWORD, port: int = 110) -> bytes:
        """What PASS is answered, and the end of that session."""
        wire = self.wire(port)
        wire.line()
        wire.command(f"USER {user}".encode())
        answer = wire.command(f"PASS {password}".encode())
        wire.command(b"QUIT")
        wire.close()
        return answer

    def fetches(self, port: int = 110, user: str = USER, password: str = PASSWORD, count: int = 1) -> None:
        """A whole session, which removes nothing."""
        wire = self.session(port, user, password)
        self.assertEqual(wire.command(b"STAT").split()[1], str(count).encode())
        for number in range(1, count + 1):
            status, body = wire.multi_line(b"RETR %d" % number)
            self.assertEqual((status[:3], body), (b"+OK", MESSAGE.replace(b"\n", b"\r\n")))
        self.assertTrue(wire.command(b"QUIT").startswith(b"+OK"))
        wire.close()

    def wait_for(self, **expected: str) -> None:
        """Wait until the service has these properties."""
        wait_until(lambda: self.machine.show(*expected) == expected, f"{expected}")
