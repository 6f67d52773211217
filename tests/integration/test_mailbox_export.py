"""tpops mailbox export, by the console script: what is written, and what is left when it is not."""

from __future__ import annotations

import contextlib
import mailbox
import os
import re
import resource
import signal
import subprocess
import sys

from tests.integration.mailbox_case import HUNDRED_MIB, LARGE, MAIL, OLD, PLAIN, MailboxCase, wire
from tests.integration.server import PATIENCE_SECONDS, USER, wait_until


class BothKinds:
    """What every kind of maildrop is to show."""

    #: What is exported to, and what ends it.
    ends: tuple[tuple[str, signal.Signals], ...] = ()

    def test_export_to_an_mbox(self) -> None:
        """Promise: another program reads the messages, and so does tpops; standard output has the same."""
        self.fill([OLD, LARGE, b"Subject: quoted\n\nFrom me\n>From you\n"])
        # A spool has had it quoted, in a way that cannot be taken back.
        quoted = self.stored()[2]
        ids = self.ids()
        self.assertIn("exported 3 messages", self.mailbox("export", USER, "out.mbox"))
        said = self.refused("export", USER, "out.mbox")
        self.assertIn("out.mbox is there already", said)
        target = self.directory / "out.mbox"
        read = mailbox.mbox(target)
        self.addCleanup(read.close)
        self.assertEqual(read[0].get_from(), "MAILER-DAEMON Mon Jan  5 09:00:00 2026")
        texts = [read.get_bytes(key).replace(b"\n>", b"\n") for key in read.iterkeys()]
        self.assertEqual(texts, [OLD, LARGE, quoted])
        keys = (self.directory / "out.mbox.uidl").read_text()
        self.assertEqual(keys, "".join(f"{number}\t{one}\n" for number, one in enumerate(ids, 1)))
        self.server.configuration["mail"] = {"location": f"mbox:{target}"}
        self.server.configuration["mbox"]["quoting"] = "mboxrd"
        client = self.server.start().poplib()
        self.assertEqual(b"\r\n".join(client.retr(3)[1]) + b"\r\n", wire(quoted))
        client.quit()
        self.server.stop()
        del self.server.configuration["mbox"]["quoting"]
        self.server.configuration["mail"] = {
            "location": "mbox:spools/$(user)" if self.kind == "mbox" else "maildir:~/Maildir"
        }
        self.server.write_configuration()
        out = self.run_it("export", USER, "-", ids[2])
        self.assertEqual(out.stderr, b"exported 1 messages, %d octets\n" % len(quoted))
        twice = re.sub(rb"\n(>*From )", rb"\n>\1", quoted)
        self.assertEqual(out.stdout.partition(b"\n")[2], twice + b"\n")

    def test_a_large_message_needs_no_memory(self) -> None:
        """Promise: memory does not depend on the size of a message: 100 MiB, exported and shown."""
        small = self.most_memory("list", USER)
        line = b"x" * 1023 + b"\n"
        message = b"Subject: huge\n\n" + line * (HUNDRED_MIB // len(line))
        self.fill([message, LARGE, PLAIN])
        self.assertLess(self.most_memory("export", USER, "huge.mbox"), small + (24 << 10))
        if self.kind == "maildir":
            self.assertLess(self.most_memory("show", USER, "1"), small + (24 << 10))
            self.assertEqual(os.path.getsize(self.directory / "output"), len(message))
        with open(self.directory / "huge.mbox", "rb") as file:
            file.readline()
            for part in (b"Subject: huge\n", b"\n"):
                self.assertEqual(file.readline(), part)
            self.assertTrue(all(file.read(1 << 20) == line * 1024 for _ in range(100)))

    def most_memory(self, *arguments: str) -> int:
        """Run it; its largest resident size in KiB, without what this process would leave it at the fork."""
        measure = (
            "import resource, subprocess, sys\n"
            "subprocess.run(sys.argv[2:], stdout=open(sys.argv[1], 'wb'), check=True)\n"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
        )
        command = [sys.executable, "-c", measure, "output", *self.command(*arguments)]
        return int(subprocess.run(command, capture_output=True, cwd=self.directory, check=True).stdout)

    def test_ended_in_the_middle_of_an_export(self) -> None:
        """Promise: killed, there is nothing under the target's name, and no lock; otherwise nothing at all."""
        self.fill([b"Subject: huge\n\n" + b"x" * (HUNDRED_MIB // 2), LARGE, PLAIN])
        ids = self.ids()
        for kind, number in self.ends:
            process = self.started("export", USER, "out", "--format", kind)
            wait_until(self.begun, "the export begins")
            process.send_signal(number)
            process.wait(PATIENCE_SECONDS)
            self.assertNotEqual(process.returncode, 0)
            self.assertFalse((self.directory / "out").exists(), kind)
            if number == signal.SIGKILL:
                subprocess.run(["rm", "-r", *self.left_behind()], cwd=self.directory, check=True)
            else:
                assert process.stderr is not None
                self.assertEqual(process.stderr.read(), b"interrupted\n")
            self.assertEqual(self.left_behind(), [])
            self.assertEqual(self.ids(), ids)

    def begun(self) -> bool:
        """Whether an export has written part of a message."""
        paths = [
            path for name in self.left_behind() for path in (self.directory / name, *(self.directory / name).rglob("*"))
        ]
        with contextlib.suppress(FileNotFoundError):
            return any(path.is_file() and path.stat().st_size > 1 << 19 for path in paths)
        return False


class MaildirTests(BothKinds, MailboxCase):
    """Maildirs, and what does not depend on the kind."""

    ends = (("maildir", signal.SIGKILL), ("eml", signal.SIGTERM), ("mbox", signal.SIGINT))

    def test_export_to_a_maildir_keeps_unique_ids(self) -> None:
        """Promise: octet by octet, and a server over it serves what the old one served."""
        ids = self.ids()
        self.mailbox("export", USER, str(self.directory / "moved"), "--format", "maildir")
        self.server.configuration["mail"] = {"location": f"maildir:{self.directory}/moved"}
        self.server.configuration["maildir"]["uidl_map"] = True
        client = self.server.start().poplib()
        self.assertEqual([line.split()[1].decode() for line in client.uidl()[1]], ids)
        fetched = [b"\r\n".join(client.retr(number)[1]) + b"\r\n" for number in (1, 2, 3)]
        self.assertEqual(fetched, [wire(one) for one in MAIL])
        client.quit()
        self.assertEqual(len(list((self.directory / "moved" / "new").iterdir())), 3)
        arrived = min(path.stat().st_mtime for path in (self.directory / "moved" / "new").iterdir())
        self.assertEqual(arrived, 1767603600)

    def test_export_to_files(self) -> None:
        """Promise: one file a message, in order, and the list of unique-ids beside them."""
        ids = self.ids()
        self.mailbox("export", USER, "files/", ids[0], ids[2], "--format", "eml")
        files = self.directory / "files"
        self.assertEqual(sorted(os.listdir(files)), ["000001.eml", "000002.eml", "tpops_uidl"])
        self.assertEqual([(files / f"00000{number}.eml").read_bytes() for number in (1, 2)], [OLD, PLAIN])
        self.assertEqual((files / "tpops_uidl").read_text(), f"000001.eml\t{ids[0]}\n000002.eml\t{ids[2]}\n")
        self.assertIn("there already", self.refused("export", USER, "files", "--format", "eml"))
        self.assertIn("No such file", self.refused("export", USER, "nowhere/out"))

    def test_no_room_for_an_export(self) -> None:
        """Promise: one line says why, and nothing is left."""

        def little() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))

        self.ids()
        for kind in ("mbox", "maildir"):
            said = self.refused("export", USER, "out", "--format", kind, preexec_fn=little)
            self.assertIn("Error: out: File too large; nothing is exported", said)
            self.assertEqual(self.left_behind(), [])
            self.assertFalse((self.directory / "out").exists())

    def test_a_reader_that_has_enough(self) -> None:
        """Promise: "| head" ends it without a word."""
        self.fill([b"Subject: huge\n\n" + b"x" * (1 << 22), LARGE, PLAIN])
        for arguments in (("export", USER, "-"), ("show", USER, "1")):
            process = self.started(*arguments)
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.read(5)
            process.stdout.close()
            process.stdout = None
            self.assertEqual(process.wait(PATIENCE_SECONDS), 1)
            self.assertEqual(process.stderr.read(), b"")


class MboxTests(BothKinds, MailboxCase):
    """Spools."""

    kind = "mbox"
    ends = (("mbox", signal.SIGKILL),)
