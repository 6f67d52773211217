"""What folders are called, by users and on disk."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tpops.errors import NoSuchFolder
from tpops.mailbox.folder_names import Ignored, decoded, directory_of, encoded, is_inbox, path_of


class FolderNameTests(SynchronousTestCase):
    """Names of folders."""

    def test_directories(self) -> None:
        """Maildir++ and RFC 3501 section 5.1.3, with its examples."""
        for folder, directory in (
            ("Lists", b".Lists"),
            ("Lists/tpops", b".Lists.tpops"),
            ("Lists.tpops", b".Lists.tpops"),
            ("Entwürfe", b".Entw&APw-rfe"),
            ("a & b", b".a &- b"),
            ("peter/mail/台北/日本語", b".peter.mail.&U,BTFw-.&ZeVnLIqe-"),
            ("☃💌", b".&JgPYPdyM-"),
            ("~joe", b".~joe"),
        ):
            self.assertEqual(directory_of(folder), directory)

    @given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="./")))
    def test_names_come_back(self, name: str) -> None:
        """Promise: nothing is lost between a user's name and that on disk."""
        self.assertEqual(decoded(encoded(name)), name)
        self.assertNotIn(b"/", encoded(name))

    def test_what_is_not_encoded(self) -> None:
        """Promise: a directory with a name of another kind still has one to be spoken of."""
        for raw, text in (
            (b"x&!!-", "x&!!-"),
            (b"\xc3\xbc", "ü"),
            (b"\xfc", "\\xfc"),
            (b"&A-", "&A-"),
            (b"&2AA-", "&2AA-"),
        ):
            self.assertEqual(decoded(raw), text)

    def test_names_that_lead_elsewhere(self) -> None:
        """Promise: no name leaves the Maildir, names another directory of it, or has two spellings that differ."""
        bad = ("..", ".", "/", "a/../b", "../x", ".hidden", "a..b", "a//b", "a/", "/a", "a.", "a\0b", "a\nb", "a\x7f")
        for folder in bad:
            self.assertRaises(NoSuchFolder, directory_of, folder)
            self.assertRaises(NoSuchFolder, path_of, folder)
        for folder in ("a" * 255, "ü" * 100, "/".join(["level"] * 60)):
            self.assertRaises(NoSuchFolder, directory_of, folder)
        self.assertRaises(NoSuchFolder, path_of, "ü" * 128)
        self.assertEqual(path_of("Lists/tpops.old"), "Lists/tpops.old")

    def test_inbox(self) -> None:
        """RFC 3501 section 5.1: in any case."""
        self.assertTrue(is_inbox("InBox"))
        self.assertFalse(is_inbox("INBOX.x"))


class IgnoredTests(SynchronousTestCase):
    """Folders that are left out."""

    def test_names_and_expressions(self) -> None:
        """tpop3d: a name is that folder and no other, "^" begins an expression; as users or disks have names."""
        ignored = Ignored(("Trash", "Lists/old", "Gelöscht", "^Spam", "^.*&"))
        for directory, left_out in (
            (b".Trash", True),
            (b".Trash.x", False),
            (b".Lists.old", True),
            (b".Lists/.old", True),
            (b"Lists/old", True),
            (b".Lists", False),
            (b".Gel&APY-scht", True),
            (b".Spam.2020", True),
            (b".My.Spam", False),
            (b".x&APY-", True),
            (b".\xff", False),
        ):
            self.assertEqual(ignored(directory), left_out, directory)
        self.assertRaises(ValueError, Ignored, ("^(",))
