"""
Another program in place of this one, in the same process.

Purpose: exec keeps the process id, the children and whatever descriptors are to stay.  The state of the supervisor goes
along in memory (L{tpops.process.handoff}).  Before that the new program is tried in a process of its own: it must load,
and be content with the configuration.

    python -m tpops.process.upgrade PATH      the trial; says what is wrong, exit status 1

Limits: for C{twistd}; it is started again with the same arguments, in the same directory, and does not go to the
background once more.
"""

from __future__ import annotations

import getopt
import os
import signal
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from twisted.scripts.twistd import ServerOptions

from tpops.config.load import load
from tpops.errors import ConfigError
from tpops.process import handoff

#: Where the new program finds the state.
_VARIABLE = "TPOPS_HANDOFF"

#: Where this one was started: twistd goes elsewhere later.
_STARTED_IN = os.getcwd()

#: These must not end the process while the new program is not ready for them.
_LATER = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def handed_over() -> dict[str, Any] | None:
    """The state that a program in this process before has left, once; None where there was none."""
    descriptor = os.environ.pop(_VARIABLE, "")
    return handoff.take(int(descriptor)) if descriptor else None


def waits() -> bool:
    """Whether there is such a state."""
    return _VARIABLE in os.environ


def replace(state: Mapping[str, Any], descriptors: Iterable[int], log_path: str) -> NoReturn:
    """
    Become the program that is installed now.

    @param state: what it must know
    @param descriptors: those that are named there
    @param log_path: of the process's log, "" where it is not known
    @raise OSError: when that fails; then everything is as before, but for the file with the process id
    """
    put = handoff.put(state)
    kept = [*descriptors, put]
    here, before = os.getcwd(), [signal.getsignal(number) for number in _LATER]
    command = _command(log_path)
    _remove_process_id()
    try:
        for number in _LATER:
            signal.signal(number, signal.SIG_IGN)
        for descriptor in kept:
            os.set_inheritable(descriptor, True)
        os.chdir(_STARTED_IN)
        sys.stdout.flush()
        os.execve(sys.executable, command, {**os.environ, _VARIABLE: str(put)})  # noqa: S606
    except OSError:
        for descriptor in kept:
            os.set_inheritable(descriptor, False)
        os.close(put)
        os.chdir(here)
        for number, handler in zip(_LATER, before, strict=True):
            signal.signal(number, handler)
        raise


def _command(log_path: str) -> list[str]:
    """twistd as it was started, but in the foreground: it is where it should be already."""
    program = sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1]
    options = ["-n"]
    if os.fstat(1).st_rdev == os.stat(os.devnull).st_rdev:
        # In the background, where twistd writes a file if nothing else is said; what is said comes later and wins.
        options += ["--logfile", log_path or os.path.abspath("twistd.log")]
    return [sys.executable, *program, *options, *sys.argv[1:]]


def _remove_process_id() -> None:
    """twistd takes its own process for another one that is running; it writes the file again."""
    options = ServerOptions()
    given, _ = getopt.getopt(sys.argv[1:], options.shortOpt, options.longOpt)
    path = dict(given).get("--pidfile", "twistd.pid")
    try:
        with open(path, encoding="ascii") as file:
            number = file.read().strip()
        if number == str(os.getpid()):
            os.unlink(path)
    except OSError:
        return  # there is none, or it is not ours: twistd tells


def main(path: str) -> int:
    """The trial: 0 when the program can be loaded and the configuration used."""
    from tpops import tap

    try:
        load(path)
    except ConfigError as problem:
        sys.stdout.write("".join(f"{line}\n" for line in problem.problems))
        return 1
    assert tap.makeService is not None
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
