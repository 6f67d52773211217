"""
A private Dovecot for tests: POP3 with and without TLS on ports of 127.0.0.1, its mail below /tmp.

L{shared} is one for all tests that do not end it, started once in a test run; each test makes users of its own.
Dovecot has to be started by root.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.integration.server import PATIENCE_SECONDS, end, wait_until
from tests.integration.slapd import free_port
from tests.pki import self_signed
from tests.support import lacking, need

#: Owns all mail.
_OWNER = 20000

_CONFIGURATION = """\
protocols = pop3
listen = 127.0.0.1
base_dir = {directory}/base
state_dir = {directory}/state
instance_name = tpops-{name}
log_path = {directory}/dovecot.log
ssl = yes
ssl_cert = <{directory}/certificate.pem
ssl_key = <{directory}/key.pem
disable_plaintext_auth = no
auth_mechanisms = plain apop
auth_failure_delay = 0
mail_location = maildir:~/Maildir
mail_fsync = never
first_valid_uid = {owner}
pop3_lock_session = yes
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {directory}/users
}}
userdb {{
  driver = static
  args = uid={owner} gid={owner} home={directory}/mail/%u
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {port}
  }}
  inet_listener pop3s {{
    port = {tls_port}
    ssl = yes
  }}
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
"""


def missing() -> str | None:
    """Why Dovecot cannot run here, None when it can."""
    if os.geteuid() != 0:
        return lacking(None, "Dovecot has to be started by root")
    reason = need(None, "dovecot", "doveadm")
    if reason is None and not os.path.exists("/usr/lib/dovecot/pop3"):
        return lacking(None, "not installed: dovecot-pop3d")
    return reason


class Dovecot:
    """
    See the module.

    @ivar directory: holds everything
    @ivar certificate: PEM file with its certificate, which is its own authority
    @ivar port: without TLS, and with STLS
    @ivar tls_port: with TLS from the first octet
    @param names: names in its certificate
    """

    def __init__(self, names: Sequence[str] = ("127.0.0.1",)) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="tpops-dovecot-", dir="/tmp"))
        self.directory.chmod(0o755)
        certificate, key = self_signed(*names)
        self.certificate = self.directory / "certificate.pem"
        self.certificate.write_bytes(certificate)
        (self.directory / "key.pem").write_bytes(key)
        (self.directory / "users").touch()
        (self.directory / "mail").mkdir()
        os.chown(self.directory / "mail", _OWNER, _OWNER)
        self.port = self.tls_port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Dovecot:
        """Start it and wait until it listens; the first time at other ports, where somebody has taken these."""
        tries = 1 if self.port else 5
        for _ in range(tries):
            if tries > 1:
                self.port, self.tls_port = free_port(), free_port()
            self._launch()
            wait_until(lambda: self.ended() or self._listens(), "Dovecot listens")
            if not self.ended():
                return self
        raise AssertionError(f"Dovecot has ended: {self.log()}")

    def _launch(self) -> None:
        path = self.directory / "dovecot.conf"
        path.write_text(
            _CONFIGURATION.format(
                directory=self.directory,
                name=secrets.token_hex(4),
                owner=_OWNER,
                port=self.port,
                tls_port=self.tls_port,
            )
        )
        with open(self.directory / "output", "ab") as output:
            self._process = subprocess.Popen(
                ["dovecot", "-F", "-c", str(path)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def ended(self) -> bool:
        """Whether there is no process."""
        return self._process is None or self._process.poll() is not None

    def log(self) -> str:
        """What it has written."""
        names = ("output", "dovecot.log")
        return "".join((self.directory / name).read_text() for name in names if (self.directory / name).exists())

    def kill(self) -> None:
        """End it and all that it has started, at once."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(PATIENCE_SECONDS)

    def freeze(self) -> None:
        """Let it do nothing any more; its connections stay."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)

    def remove(self) -> None:
        """End it and remove its files."""
        if self._process is not None and not self.ended():
            os.killpg(self._process.pid, signal.SIGCONT)
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(PATIENCE_SECONDS)
            end(self._process)
        shutil.rmtree(self.directory, ignore_errors=True)

    def user(self, *messages: bytes, password: str = "secret", name: str = "") -> str:
        """A new user with these messages; gives his name."""
        name = name or f"u{secrets.token_hex(6)}"
        with open(self.directory / "users", "a") as file:
            file.write(f"{name}:{{PLAIN}}{password}\n")
        # Dovecot looks whether the file has changed once in a second.
        second = int(time.time())
        wait_until(lambda: int(time.time()) > second, "the next second")
        home = self.directory / "mail" / name
        for part in ("tmp", "new", "cur"):
            (home / "Maildir" / part).mkdir(parents=True)
        for number, message in enumerate(messages, 1):
            (home / "Maildir" / "new" / f"{1700000000 + number}.M{number}P1.host").write_bytes(message)
        for path in (home, *home.rglob("*")):
            os.chown(path, _OWNER, _OWNER)
        return name

    def stored(self, user: str) -> list[bytes]:
        """The messages of a user, in order."""
        maildir = self.directory / "mail" / user / "Maildir"
        paths = [path for part in ("new", "cur") for path in (maildir / part).iterdir()]
        return [path.read_bytes() for path in sorted(paths, key=lambda path: path.name)]

    def _listens(self) -> bool:
        try:
            for port in (self.port, self.tls_port):
                socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS).close()
        except OSError:
            return False
        return True


@functools.cache
def shared() -> Dovecot:
    """One server for all tests that do not end it; there until the run ends."""
    dovecot = Dovecot().start()
    atexit.register(dovecot.remove)
    return dovecot
