"""
Builds what a Dockerfile says, in a machine of the test's own, and starts it.

Each stage is a directory that RUN sees as its root, with the machine's /usr in place of the image that FROM names.
There is no network: "python -m venv" lends the new environment the packages that the tests have, and pip installs tpops
alone.  Everything else is done as it stands, as root; an instruction that is not known here is an error.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.integration.machine import PYTHON, Machine
from tests.integration.server import CHECKOUT

#: What a stage has before its first instruction; run in an empty directory.
_BASE = """
mkdir -p usr proc dev tmp root etc opt/python opt/packages var/lib var/log srv tools
mount --bind /usr usr
mount --bind /opt/python opt/python
mount --bind /opt/packages opt/packages
mount --bind /dev dev
mount -t proc proc proc
ln -s usr/bin usr/sbin usr/lib .
[ ! -e /usr/lib64 ] || ln -s usr/lib64 .
chmod 1777 tmp
printf 'root:x:0:0:root:/root:/bin/sh\\n' >etc/passwd
printf 'root:x:0:\\n' >etc/group
cp -a /etc/ld.so.cache /etc/nsswitch.conf /etc/alternatives etc/
"""

#: In place of the image's python: a new environment gets packages, and the program that pip would make for one of them.
_TOOL = """#!/bin/sh
PYTHON "$@" || exit
[ "$2" = venv ] || exit 0
echo /opt/packages >"$(echo "$3"/lib/python*/site-packages)/lent.pth"
printf '#!%s/bin/python\\nfrom twisted.scripts.twistd import run\\nrun()\\n' "$3" >"$3/bin/twistd"
chmod 755 "$3/bin/twistd"
""".replace("PYTHON", PYTHON)

_PIP = {"PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_IGNORE_INSTALLED": "1"}

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def instructions(path: Path) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, with their words."""
    text = re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", "")
    lines = [line.split(None, 1) for line in text.splitlines() if line.strip()]
    return [(name, rest) for name, rest in lines]


def sent(path: str) -> bool:
    """Whether .dockerignore lets a file of the checkout into a build."""
    result = True
    for line in (CHECKOUT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        anywhere = pattern.removeprefix("**/")
        named = (
            pattern == "*"
            or f"{path}/".startswith(f"{pattern}/")
            or (anywhere != pattern and f"/{anywhere}/" in f"/{path}/")
        )
        if line and not line.startswith("#") and named:
            result = line.startswith("!")
    return result


class Image:
    """
    See the module.

    @ivar environment: what ENV says in the last stage
    @ivar settings: what other instructions say, by their names, as in C{"USER": "10110"}
    """

    def __init__(self, machine: Machine, path: Path) -> None:
        self._machine = machine
        self._stages: dict[str, str] = {}
        self._stage = ""
        self._arguments: dict[str, str] = {}
        self.environment: dict[str, str] = {}
        self.settings: dict[str, str] = {}
        known = {
            "FROM": self._from,
            "ARG": self._arg,
            "ENV": self._env,
            "WORKDIR": self._workdir,
            "RUN": self._run,
            "COPY": self._copy,
        }
        for name, rest in instructions(path):
            (known.get(name) or self._set(name))(rest)

    # Instructions.

    def _from(self, rest: str) -> None:
        name = rest.partition(" AS ")[2] or str(len(self._stages))
        self._stage = self._stages[name] = f"/stages/{name}"
        self._arguments, self.environment, self.settings = {}, {"PATH": _PATH}, {"USER": "0", "WORKDIR": "/"}
        self._machine.run("bash", "-ec", f"mkdir -p {self._stage}; cd {self._stage}; {_BASE}")
        self._machine.write(f"{self._stage}/tools/python", _TOOL, 0o755)

    def _arg(self, rest: str) -> None:
        name, _, value = rest.partition("=")
        self._arguments[name] = value

    def _env(self, rest: str) -> None:
        name, _, value = rest.partition("=")
        self.environment[name] = value

    def _workdir(self, rest: str) -> None:
        self.settings["WORKDIR"] = rest
        self._machine.run("mkdir", "-p", self._stage + rest)

    def _run(self, rest: str) -> None:
        lent = {"PATH": f"/tools:{self.environment['PATH']}", **_PIP}
        self._machine.run(*self._inside({**self.environment, **self._arguments, **lent}, "0", ["sh", "-ec", rest]))

    def _copy(self, rest: str) -> None:
        *sources, word = rest.split()
        target = self._stage + str(Path(self.settings["WORKDIR"], word))
        if sources[0].startswith("--from="):
            origin = self._stages[sources.pop(0).removeprefix("--from=")]
            self._machine.run("cp", "-aT", origin + sources[0], target)
            return
        for source in sources:
            self._copy_file(CHECKOUT / source, f"{target}/{source}" if word.endswith("/") else target)

    def _copy_file(self, source: Path, target: str) -> None:
        name = str(source.relative_to(CHECKOUT))
        if source.is_dir():
            for path in source.iterdir():
                self._copy_file(path, f"{target}/{path.name}")
        elif sent(name):
            there = self._machine.root / target.lstrip("/")
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, there)

    def _set(self, name: str) -> Callable[[str], None]:
        """What becomes of an instruction that only says something about the container."""
        assert name in ("USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"), f"what is {name}?"

        def keep(rest: str) -> None:
            self.settings[name] = rest

        return keep

    # What has been built.

    def _inside(self, environment: dict[str, str], user: str, words: list[str]) -> list[str]:
        """The command, in the machine, that runs this one in the stage."""
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--bounding-set=-all", "--"]
        there = f'cd {self.settings["WORKDIR"]} && exec "$@"'
        assignments = [f"{name}={value}" for name, value in environment.items()]
        inner = ["env", "-i", *assignments, "sh", "-c", there, "sh", *(become if user != "0" else ()), *words]
        return ["chroot", self._stage, *inner]

    def run(self, *words: str, status: int = 0, user: str = "", **environment: str) -> str:
        """What a command in the container says."""
        user = user or self.settings["USER"]
        return self._machine.run(*self._inside({**self.environment, **environment}, user, list(words)), status=status)

    def start(self, output: Path) -> subprocess.Popen[bytes]:
        """Start what ENTRYPOINT and CMD say, as the first process of its container."""
        words = json.loads(self.settings["ENTRYPOINT"]) + json.loads(self.settings["CMD"])
        command = self._inside(self.environment, self.settings["USER"], words)
        script = f"mount -t proc proc {self._stage}/proc && exec {shlex.join(command)}"
        alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script]
        with open(output, "wb") as file:
            return subprocess.Popen(
                self._machine.command(*alone), stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
            )

    def health(self, **environment: str) -> str:
        """What the health check says, which must be content."""
        words = json.loads(self.settings["HEALTHCHECK"].partition(" CMD ")[2])
        return self.run(*words, **environment)

    def remove(self) -> None:
        """Leave nothing in the machine."""
        mounts = "grep -o ' /stages/[^ ]*' /proc/self/mounts | sort -r | xargs -r umount -l"
        self._machine.run("sh", "-c", f"{mounts}; rm -rf --one-file-system /stages")
