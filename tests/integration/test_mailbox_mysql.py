"""tpops mailbox on mail in a real MariaDB."""

from __future__ import annotations

import os
import select
import signal
import subprocess

from tests.integration.mail_database import MailDatabaseTests
from tests.integration.server import PATIENCE_SECONDS, RunningServer, end, program, wait_until

MAIL = [b"Subject: one\n\ntext\n", b"Subject: two\n\n" + b"x" * 3000 + b"\n", b"Subject: three\n\n.\n"]


class MailboxCommandTests(MailDatabaseTests):
    """Schema v2."""

    def setUp(self) -> None:
        super().setUp()
        for message in MAIL:
            self.store(message)
        self.server: RunningServer = self.mail_server(mysql={"lock_wait_seconds": 0})

    def command(self, *arguments: str) -> list[str]:
        return [program("tpops"), "-c", str(self.server.configuration_file), "mailbox", *arguments]

    def run_it(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=60, check=False)

    def test_list_export_and_expunge(self) -> None:
        """Promise: as with files, under the lock of a session."""
        client = self.server.poplib("joe", "secret")
        ids = [line.split()[1].decode() for line in client.uidl()[1]]
        done = self.run_it("expunge", "joe", "--all", "--yes")
        self.assertEqual(done.returncode, 1)
        self.assertIn("the mail of joe is in use: ", done.stderr)
        client.quit()
        self.assertEqual(self.run_it("list", "joe", "--unique-ids").stdout.split(), ids)
        out = self.server.directory / "out"
        self.assertEqual(self.run_it("export", "joe", str(out), "--format", "eml").returncode, 0)
        self.assertEqual([path.read_bytes() for path in sorted(out.glob("*.eml"))], MAIL)
        done = self.run_it("expunge", "joe", "--larger-than", "2K", "--yes")
        self.assertIn(f"removed {ids[1]}\n", done.stdout)
        self.assertEqual(self.stored(), [MAIL[0], MAIL[2]])
        self.assertEqual(self.locks(), 0)

    def test_an_export_that_is_ended_leaves_no_lock(self) -> None:
        """Promise: Ctrl-C in the middle, and nobody waits until a lease is over."""
        self.store(b"Subject: big\n\n" + (b"x" * 1023 + b"\n") * 4096)
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        # Nobody reads from the pipe: it stands still in the middle of the big message.
        process = subprocess.Popen(
            ["env", "--default-signal=INT", *self.command("export", "joe", "-")], stdout=write, stderr=subprocess.PIPE
        )
        os.close(write)
        self.addCleanup(end, process)
        wait_until(self.locks, "it begins")
        process.send_signal(signal.SIGINT)
        wait_until(lambda: not self.locks(), "the lock goes")
        self.drain(read)
        assert process.stderr is not None
        self.addCleanup(process.stderr.close)
        self.assertNotEqual(process.wait(PATIENCE_SECONDS), 0)
        self.assertEqual(process.stderr.read(), b"interrupted\n")
        self.assertEqual(len(self.stored()), 4)

    def drain(self, pipe: int) -> None:
        """Read until the other end is closed."""
        while True:
            ready, _, _ = select.select([pipe], [], [], PATIENCE_SECONDS)
            self.assertTrue(ready, "it does not end")
            if not os.read(pipe, 1 << 20):
                return
