"""
A machine of the test's own: a real systemd as the first process of new namespaces (see machine.sh).

Its /usr is that of this machine, its Python and the packages that tpops needs are lent, everything else is new and lies
in memory; it has no network but its own loopback.  tpops is installed from a copy of the source into /opt/tpops, as
docs/start.md says, apart from what would need the network.  Needs root, and a kernel that lets root make namespaces.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

from tests.integration.server import CHECKOUT, PATIENCE_SECONDS, end, wait_until
from tests.integration.wire import Wire
from tests.support import lacking, need

#: What starts a machine, and where the package of tpops is not lent from.
_SCRIPT = Path(__file__).with_name("machine.sh")

#: The tests' Python, in the machine.
PYTHON = f"/opt/python/bin/python{sys.version_info[0]}.{sys.version_info[1]}"

_CLONE_NEWNET = 0x40000000

#: Where programs of the machine are; the same for all.
_ENVIRONMENT = ("PATH=/opt/tpops/bin:/usr/sbin:/usr/bin", "HOME=/root", "TERM=dumb", "LC_ALL=C.UTF-8", "SYSTEMD_PAGER=")

#: Instead of "python3 -m venv /opt/tpops && /opt/tpops/bin/pip install .": pip is lent, too, and there is no network.
_INSTALL = """
"$0" -m venv --without-pip /opt/tpops
echo /opt/packages >"$(/opt/tpops/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/lent.pth"
cp -r /src /tmp/source
/opt/tpops/bin/python -m pip install -q --root-user-action=ignore --disable-pip-version-check \\
    --ignore-installed --no-build-isolation --no-deps --no-index --no-warn-script-location /tmp/source
rm -r /tmp/source
printf '#!/opt/tpops/bin/python\\nfrom twisted.scripts.twistd import run\\nrun()\\n' >/opt/tpops/bin/twistd
chmod 755 /opt/tpops/bin/twistd
"""

#: What comes behind it: docs/start.md has it, too.
_PLUGINS = "/opt/tpops/bin/twistd --help >/dev/null"

#: What of the source is needed for an installation.
_SOURCE = ("pyproject.toml", "setup.cfg", "MANIFEST.in", "README.md", "LICENSE", "tpops", "twisted", "contrib")


@functools.cache
def missing() -> str | None:
    """Why there can be no machine here; what is missing is a failure with CI=true."""
    programs = ("unshare", "nsenter", "setpriv", "pivot_root", "systemctl", "systemd-sysusers", "systemd-tmpfiles")
    if os.geteuid() != 0:
        return lacking(None, "needs root")
    if not os.path.exists("/usr/lib/systemd/systemd"):
        return lacking(None, "not installed: systemd")
    if subprocess.run(["unshare", "--mount", "--cgroup", "--pid", "--fork", "true"], capture_output=True).returncode:
        return lacking(None, "namespaces cannot be made here")
    return need(None, *programs)


class Machine:
    """
    See the module.

    @ivar pid: of its systemd, seen from here
    @ivar root: its files, seen from here
    """

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="tpops-machine-"))
        root, source = self._directory / "root", self._directory / "source"
        root.mkdir()
        source.mkdir()
        for name in _SOURCE:
            copy = shutil.copytree if (CHECKOUT / name).is_dir() else shutil.copy
            copy(CHECKOUT / name, source / name)
        python = Path(sys.base_prefix)
        words = [str(root), str(python), sysconfig.get_path("purelib"), str(source)]
        with open(self._directory / "console", "wb") as console:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "bash", str(_SCRIPT), *words],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        try:
            self.pid: int = wait_until(self._find, "systemd")
            self.root = Path(f"/proc/{self.pid}/root")
            wait_until(self._is_up, "the machine is up")
            self.run("bash", "-ec", _INSTALL + _PLUGINS, PYTHON)
        except BaseException:
            self.remove()
            raise

    def _find(self) -> int | None:
        """The process id of systemd."""
        if self._process.poll() is not None:
            raise AssertionError(f"the machine does not start: {self.console()}")
        pid = self._process.pid
        for _ in range(2):  # the script, unshare, and its child
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            if not children:
                return None
            pid = int(children[0])
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        return pid if name == "systemd" else None

    def _is_up(self) -> bool:
        return self.run("systemctl", "is-system-running", status=None).strip() in ("running", "degraded")

    def console(self) -> str:
        """What the machine has said."""
        return (self._directory / "console").read_text(errors="replace")

    def remove(self) -> None:
        """End it."""
        with contextlib.suppress(ProcessLookupError, AttributeError):
            os.kill(self.pid, signal.SIGKILL)
            self._process.wait(PATIENCE_SECONDS)
        end(self._process)
        shutil.rmtree(self._directory)

    def command(self, *words: str) -> list[str]:
        """The command that runs this one in the machine."""
        inside = ("--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup")
        return ["nsenter", f"--target={self.pid}", *inside, "env", "-i", *_ENVIRONMENT, *words]

    def run(self, *words: str, status: int | None = 0, given: str = "") -> str:
        """What a command in the machine says; it must end with this status, None is any."""
        done = subprocess.run(
            self.command(*words),
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=2 * PATIENCE_SECONDS,
        )
        if status is not None and done.returncode != status:
            raise AssertionError(f"{words}: exit status {done.returncode}: {done.stdout}\n{self.journal()[-4000:]}")
        return done.stdout

    def journal(self, unit: str = "", since: float = 0.0) -> str:
        """What is in its journal."""
        chosen = [f"--unit={unit}"] if unit else []
        return self.run("journalctl", "--no-pager", "--output=cat", f"--since=@{since:.6f}", *chosen, status=None)

    def show(self, *names: str, unit: str = "tpops.service") -> Mapping[str, str]:
        """Properties of a unit."""
        chosen = [f"--property={name}" for name in names]
        said = self.run("systemctl", "show", *chosen, unit)
        return dict(line.split("=", 1) for line in said.splitlines())

    def main_pid(self, unit: str = "tpops.service") -> int:
        """The main process of a service, seen from here; 0 when there is none."""
        inside = self.show("MainPID", unit=unit)["MainPID"]
        if inside == "0":
            return 0
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                status = (path / "status").read_text()
                numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
                if numbers[-1] == inside and os.readlink(path / "ns/pid") == os.readlink(f"/proc/{self.pid}/ns/pid"):
                    return int(path.name)
        return 0

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file of the machine, with its directories."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def connect(self, place: int | str) -> socket.socket:
        """A connection from within the machine, to a port or to a UNIX socket."""
        box: list[socket.socket | OSError] = []
        family, address = (
            (socket.AF_INET, ("127.0.0.1", place))
            if isinstance(place, int)
            else (socket.AF_UNIX, str(self.root / place.lstrip("/")))
        )
        libc = ctypes.CDLL(None, use_errno=True)

        def enter() -> None:
            # A thread of its own is there only for this: its network is the machine's from now on.
            try:
                with open(f"/proc/{self.pid}/ns/net", "rb") as file:
                    if libc.setns(file.fileno(), _CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), "setns")
                with contextlib.ExitStack() as stack:
                    opened = stack.enter_context(socket.socket(family))
                    opened.settimeout(PATIENCE_SECONDS)
                    opened.connect(address)
                    stack.pop_all()
                box.append(opened)
            except OSError as problem:
                box.append(problem)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if isinstance(box[0], OSError):
            raise box[0]
        return box[0]

    def wire(self, place: int | str) -> Wire:
        """The same, for who reads lines."""
        return Wire(self.connect(place))
