"""L{tpops.events.log_file}."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path
from unittest import mock

from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tpops.events.log_file import LogFile


class LogFileTests(SynchronousTestCase):
    """Lines are appended whole, and nothing that goes wrong is raised."""

    def setUp(self) -> None:
        """A log file and what is logged about it."""
        self.path = Path(self.mktemp())
        self.clock = Clock()
        self.file = LogFile(str(self.path), seconds=self.clock.seconds)
        self.addCleanup(self.file.close)
        self.logged: list[LogEvent] = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)

    def reports(self, name: str) -> list[LogEvent]:
        """The entries of our own log with that event name."""
        return [entry for entry in self.logged if entry.get("event") == name]

    def test_lines_are_appended(self) -> None:
        """Promise: what is in the file stays, each line gets its line end."""
        self.path.write_bytes(b"old\n")
        self.file.write(b"one")
        self.file.write(b"two")
        self.assertEqual(self.path.read_bytes(), b"old\none\ntwo\n")

    def test_several_writers_share_the_file(self) -> None:
        """Promise: two open LogFiles of one path do not overwrite each other."""
        other = LogFile(str(self.path))
        self.addCleanup(other.close)
        for number in range(3):
            self.file.write(b"a%d" % number)
            other.write(b"b%d" % number)
        self.assertEqual(self.path.read_bytes(), b"a0\nb0\na1\nb1\na2\nb2\n")

    def test_one_write_per_line(self) -> None:
        """Promise: a line leaves in one system call, so lines of several processes never mix."""
        with mock.patch("tpops.events.log_file.os.write", wraps=os.write) as write:
            self.file.write(b"x" * 3000)
        self.assertEqual(write.call_count, 1)

    def test_new_file_has_the_mode_whatever_the_umask(self) -> None:
        """Promise: mode is the mode of a new file; that of an old one stays."""
        self.addCleanup(os.umask, os.umask(0o077))
        path = Path(self.mktemp())
        LogFile(str(path), 0o664).close()
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o664)
        path.chmod(0o600)
        LogFile(str(path), 0o664).close()
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)

    def test_default_mode(self) -> None:
        """Promise: others than owner and group cannot read a log."""
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o640)

    def test_descriptor_is_not_inherited(self) -> None:
        """Promise: a program that is started does not get the descriptor."""
        self.assertTrue(fcntl.fcntl(self.file._descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC)

    def test_missing_directory_is_an_error_at_the_start(self) -> None:
        """Promise: opening raises, so a wrong path is seen when the service starts."""
        with self.assertRaises(FileNotFoundError):
            LogFile(str(self.path.with_name("no") / "log"))

    def test_link_to_a_file_that_is_not_there_yet(self) -> None:
        """Promise: a symbolic link is followed, also to a new file."""
        link, target = Path(self.mktemp()), Path(self.mktemp()).absolute()
        link.symlink_to(target)
        file = LogFile(str(link))
        self.addCleanup(file.close)
        file.write(b"x")
        self.assertEqual(target.read_bytes(), b"x\n")

    def test_reopen_follows_logrotate(self) -> None:
        """Promise: after a rename and reopen, lines go into a new file."""
        self.file.write(b"before")
        rotated = self.path.rename(f"{self.path}.1")
        self.file.write(b"between")
        self.file.reopen()
        self.file.write(b"after")
        self.assertEqual(rotated.read_bytes(), b"before\nbetween\n")
        self.assertEqual(self.path.read_bytes(), b"after\n")

    def test_failed_reopen_keeps_the_old_file(self) -> None:
        """Promise: when the path cannot be opened, the reason is logged and no line is lost."""
        rotated = self.path.rename(f"{self.path}.1")
        self.path.mkdir()
        self.file.reopen()
        self.file.write(b"still here")
        self.assertEqual(rotated.read_bytes(), b"still here\n")
        (report,) = self.reports("log-reopen-failed")
        self.assertEqual((report["path"], report["reason"]), (str(self.path), "Is a directory"))

    def test_closed_file_drops_lines(self) -> None:
        """Promise: close is idempotent, later lines are counted, reopen does not open it again."""
        self.file.close()
        self.file.close()
        self.file.reopen()
        self.file.write(b"late")
        self.assertEqual((self.path.read_bytes(), self.file.dropped), (b"", 1))

    def test_full_disk_is_counted_and_reported_once_a_minute(self) -> None:
        """Promise: ENOSPC and EIO never raise; every line is counted, one report a minute."""
        for error in (errno.ENOSPC, errno.EIO, errno.ENOSPC):
            with mock.patch("tpops.events.log_file.os.write", side_effect=OSError(error, os.strerror(error))):
                self.file.write(b"lost")
            self.clock.advance(30)
        self.file.write(b"kept")
        self.assertEqual((self.path.read_bytes(), self.file.dropped), (b"kept\n", 3))
        self.assertEqual(
            [(report["reason"], report["dropped"]) for report in self.reports("log-dropped")],
            [("No space left on device", 1), ("No space left on device", 3)],
        )

    def test_partial_write_is_continued(self) -> None:
        """Promise: the rest of a line follows when the system took only a part."""
        real = os.write
        with mock.patch("tpops.events.log_file.os.write", side_effect=lambda d, b: real(d, b[:4])):
            self.file.write(b"0123456789")
        self.assertEqual((self.path.read_bytes(), self.file.dropped), (b"0123456789\n", 0))

    def test_line_after_a_torn_one_starts_anew(self) -> None:
        """Promise: when the disk fills up within a line, only that line suffers."""
        real = os.write
        steps = [lambda d, b: real(d, b[:4]), _no_space, _no_space, real]
        with mock.patch("tpops.events.log_file.os.write", side_effect=lambda d, b: steps.pop(0)(d, b)):
            self.file.write(b"0123456789")
            self.file.write(b"lost")
            self.file.write(b"whole")
        self.file.write(b"next")
        self.assertEqual((self.path.read_bytes(), self.file.dropped), (b"0123\nwhole\nnext\n", 2))

    def test_pipe_that_nobody_reads_does_not_block(self) -> None:
        """Promise: a FIFO that is full drops lines instead of stopping the server."""
        pipe = self.mktemp()
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        file = LogFile(pipe)
        self.addCleanup(file.close)
        for _ in range(100):
            file.write(b"x" * 4000)
        self.assertGreater(file.dropped, 0)


def _no_space(descriptor: int, data: bytes) -> int:
    """Behave like a full disk."""
    raise OSError(errno.ENOSPC, "No space left on device")
