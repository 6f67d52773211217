"""Files that share a base name, and unique-ids that a map gives."""

from __future__ import annotations

import os
from typing import Any
from unittest import mock

from twisted.logger import capturedLogs

from tests.mailbox.support import JOE, MaildirTestCase, rows
from tpops.errors import MaildropBroken, MessageVanished
from tpops.mailbox import twins, unique_ids
from tpops.mailbox.unique_ids import from_base, valid


class TwinTestCase(MaildirTestCase):
    """Message one is older and in cur, two is its twin in new; three is somebody else."""

    def setUp(self) -> None:
        """Deliver them."""
        super().setUp()
        self.twin("1.a:2,S", b"one\n", 1, "cur")
        self.twin("1.a", b"two, longer\n", 2)
        self.maildir.deliver("1.ab", b"three, the longest\n")

    def twin(self, name: str, message: bytes, age: int, directory: str = "new") -> None:
        """Deliver a message with that time."""
        os.utime(self.maildir.deliver(name, message, directory), (age, age))

    def by_content(self, driver: Any = None) -> dict[bytes, tuple[int, bytes]]:
        """Octets and unique-id of every message, by what is in it."""
        maildrop = self.open(driver)
        found = {self.content(maildrop, number): row for number, row in enumerate(rows(maildrop), 1)}
        self.assertEqual(len(found), maildrop.messages.count)
        self.wait(maildrop.close())
        return found

    def forget(self) -> None:
        """Lose the index."""
        os.unlink(self.maildir.path + b"tpops_index")

    def numbers(self, maildrop: Any) -> dict[bytes, int]:
        """Message numbers by what is in the messages."""
        return {self.content(maildrop, number): number for number in range(1, maildrop.messages.count + 1)}


class TwinTests(TwinTestCase):
    """Promise: the same base name twice gives two different unique-ids, and each message keeps its own."""

    def test_older_one_has_the_base_name(self) -> None:
        """RFC 1939 §7: different, valid unique-ids; the right size for each."""
        found = self.by_content()
        self.assertEqual({key: octets for key, (octets, _) in found.items()}, {key: len(key) + 1 for key in found})
        self.assertEqual(found[b"one\n"][1], b"1.a")
        self.assertTrue(all(valid(unique_id) for _, unique_id in found.values()))
        self.assertEqual(len({unique_id for _, unique_id in found.values()}), 3)

    def test_is_stable(self) -> None:
        """RFC 1939 §7: over sessions, restarts and index loss."""
        driver = self.driver()
        before = self.by_content(driver)
        self.assertEqual(self.by_content(driver), before)
        self.assertEqual(self.by_content(), before)
        self.forget()
        self.assertEqual(self.by_content(), before)

    def test_flags_of_either_or_both_change_nothing(self) -> None:
        """RFC 1939 §7: a twin is known by its inode, not by its name."""
        before = self.by_content()
        for old, new, source, target in (
            ("1.a", "1.a:2,", "new", "cur"),
            ("1.a:2,S", "1.a:2,RS", "cur", "cur"),
            ("1.a:2,", "1.a:2,S", "cur", "cur"),
        ):
            self.maildir.move(old, new, source, target)
            self.assertEqual(self.by_content(), before)
        self.maildir.move("1.a:2,S", "1.a:2,x", "cur")
        self.maildir.move("1.a:2,RS", "1.a:2,y", "cur")
        self.assertEqual(self.by_content(), before)

    def test_swapped_names_change_nothing(self) -> None:
        """RFC 1939 §7: not even when both get new names at once and the later one becomes the older."""
        os.utime(self.maildir.file("1.a:2,S", "cur"), (9, 9))
        self.maildir.delete("1.a")
        before = self.by_content()
        self.twin("1.a", b"two, longer\n", 2)
        before = {**before, **{key: row for key, row in self.by_content().items() if key not in before}}
        self.maildir.move("1.a:2,S", "1.a:2,x", "cur")
        self.maildir.move("1.a", "1.a:2,y")
        self.assertEqual(self.by_content(), before)

    def test_later_twin_with_an_older_date_takes_nothing(self) -> None:
        """RFC 1939 §7: who had the unique-id keeps it, and his size is not the other's."""
        before = self.by_content()
        self.twin("1.a:2,T", b"four, with the date of an old message\n", 0, "cur")
        after = self.by_content()
        self.assertEqual({key: after[key] for key in before}, before)
        self.assertEqual(after[b"four, with the date of an old message\n"][0], 39)

    def test_first_one_deleted(self) -> None:
        """RFC 1939 §7: the one that is left keeps its unique-id, also when its flags change."""
        before = self.by_content()
        self.maildir.delete("1.a:2,S", "cur")
        self.assertEqual(self.by_content()[b"two, longer\n"], before[b"two, longer\n"])
        self.maildir.move("1.a", "1.a:2,S")
        self.assertEqual(self.by_content()[b"two, longer\n"], before[b"two, longer\n"])

    def test_reused_inode_is_another_message(self) -> None:
        """RFC 1939 §7: file systems give the inode of a removed file to the next one; its unique-id stays gone."""
        before = self.by_content()
        inode = os.stat(self.maildir.file("1.a")).st_ino
        with mock.patch.object(twins.os, "lstat", self.with_inode(inode)):
            self.maildir.delete("1.a")
            self.listing()
            self.twin("1.a", b"another one\n", 7)
            after = self.by_content()
        self.assertNotIn(after[b"another one\n"][1], [unique_id for _, unique_id in before.values()])

    def with_inode(self, inode: int) -> Any:
        """An lstat for which everything has this inode."""
        real = os.lstat

        def lstat(path: bytes) -> Any:
            found = real(path)
            return mock.Mock(st_ino=inode, st_mtime_ns=found.st_mtime_ns)

        return lstat

    def test_twins_behind_all_other_mail(self) -> None:
        """RFC 1939 §7: also where new mail only extends the listing."""
        driver = self.driver()
        self.maildir.move("1.a", "1.a:2,F")
        self.maildir.move("1.ab", "1.ab:2,F")
        before = self.by_content(driver)
        self.twin("2.b", b"new one\n", 1)
        self.twin("2.b:2,", b"its twin\n", 2)
        after = self.by_content(driver)
        self.assertEqual({key: after[key] for key in before}, before)
        self.assertEqual(after[b"new one\n"][1], b"2.b")
        self.assertEqual(after, self.by_content())

    def test_hard_links(self) -> None:
        """RFC 1939 §7: several names of one file are several messages with different, stable unique-ids."""
        for name in ("1.a:2,x", "1.a:2,y", "1.a:2,z"):
            os.link(self.maildir.file("1.a"), self.maildir.file(name))
            self.maildir.touch("new")
            found = self.unique_ids()
            self.assertEqual(len(set(found)), len(found))
        self.assertEqual(len(found), 6)
        self.forget()
        self.assertEqual(set(self.unique_ids()), set(found))

    def test_both_new_at_once(self) -> None:
        """RFC 1939 §7: twins of a message that is gone are new messages, with sizes of their own."""
        self.listing()
        self.maildir.delete("1.a:2,S", "cur")
        self.maildir.delete("1.a")
        self.listing()
        self.twin("1.a:2,P", b"x\n", 4, "cur")
        self.twin("1.a:2,R", b"xy\n", 3, "cur")
        found = self.by_content()
        self.assertEqual((found[b"x\n"][0], found[b"xy\n"]), (3, (4, b"1.a")))

    def test_bad_base_names_have_twins_too(self) -> None:
        """RFC 1939 §7: the same where the base name is no unique-id."""
        self.twin("2 b", b"early\n", 1)
        self.twin("2 b:2,S", b"late\n", 2, "cur")
        before = self.by_content()
        self.assertEqual(before[b"early\n"][1], from_base(b"2 b"))
        self.maildir.move("2 b", "2 b:2,S", "new", "new")
        self.maildir.move("2 b:2,S", "2 b:2,", "cur")
        self.assertEqual(self.by_content(), before)

    def test_name_like_another_ones_hash(self) -> None:
        """RFC 1939 §7: a file named like the unique-id of a twin does not get that, nor does it take it away."""
        before = self.by_content()
        self.maildir.deliver(before[b"two, longer\n"][1], b"rival\n")
        after = self.by_content()
        self.assertEqual(len({unique_id for _, unique_id in after.values()}), 4)
        self.assertEqual({key: after[key] for key in before}, before)

    def test_twin_that_goes_while_it_is_looked_at(self) -> None:
        """Promise: a name that is gone when it is compared is no message any more."""
        with mock.patch.object(twins.os, "lstat", side_effect=FileNotFoundError):
            self.assertEqual(self.unique_ids(), [b"1.ab"])


class TwinsInSessionTests(TwinTestCase):
    """Promise: no session ever removes the other twin."""

    def test_removes_the_one_that_is_meant(self) -> None:
        """RFC 1939 §6: in their places, and after one or both were renamed."""
        for moves in (
            (),
            (("1.a", "1.a:2,F", "new", "cur"),),
            (("1.a:2,S", "1.a:2,F", "cur", "cur"),),
            (("1.a", "1.a:2,x", "new", "cur"), ("1.a:2,S", "1.a", "cur", "new")),
            (
                ("1.a", "1.a:2,x", "new", "cur"),
                ("1.a:2,S", "1.a:2,F", "cur", "cur"),
                ("1.a:2,x", "1.a:2,S", "cur", "cur"),
            ),
        ):
            for target in (b"one\n", b"two, longer\n"):
                maildrop = self.open()
                number = self.numbers(maildrop)[target]
                for move in moves:
                    self.maildir.move(*move)
                self.wait(maildrop.remove([number]))
                self.wait(maildrop.close())
                left = set(self.by_content())
                self.assertEqual(left, {b"one\n", b"two, longer\n", b"three, the longest\n"} - {target}, moves)
                for name in self.maildir.files():
                    os.unlink(os.path.join(self.maildir.root, name))
                self.twin("1.a:2,S", b"one\n", 1, "cur")
                self.twin("1.a", b"two, longer\n", 2)
                self.maildir.deliver("1.ab", b"three, the longest\n")
                self.forget()

    def test_twin_in_the_place_of_a_deleted_one_stays(self) -> None:
        """RFC 1939 §6: when one twin is gone, the other one is not taken for it, wherever it is now."""
        for gone, moved, source in (("1.a:2,S", "1.a", "new"), ("1.a", "1.a:2,S", "cur")):
            for target, directory in (("1.a", "new"), ("1.a:2,S", "cur"), ("1.a:2,F", "cur")):
                self.setUp()
                maildrop = self.open()
                numbers = self.numbers(maildrop)
                with open(self.maildir.file(gone, "cur" if source == "new" else "new"), "rb") as file:
                    removed = file.read()
                self.maildir.delete(gone, "cur" if source == "new" else "new")
                self.maildir.move(moved, target, source, directory)
                self.wait(maildrop.remove([numbers[removed]]))
                self.wait(maildrop.close())
                self.assertEqual(self.maildir.files(), sorted([f"{directory}/{target}", "new/1.ab"]))

    def test_opens_the_one_that_is_meant(self) -> None:
        """Promise: RETR of a renamed twin gives that one; one that is gone is vanished, not the other."""
        maildrop = self.open()
        numbers = self.numbers(maildrop)
        self.maildir.move("1.a", "1.a:2,F")
        self.assertEqual(self.content(maildrop, numbers[b"two, longer\n"]), b"two, longer\n")
        self.maildir.delete("1.a:2,S", "cur")
        self.fails(maildrop.open(numbers[b"one\n"]), MessageVanished)
        self.wait(maildrop.close())

    def test_a_third_one_makes_it_unsure(self) -> None:
        """RFC 1939 §6: of two files that may be the message, neither is removed."""
        maildrop = self.open()
        numbers = self.numbers(maildrop)
        self.maildir.move("1.a:2,S", "1.a:2,F", "cur")
        self.twin("1.a:2,T", b"third\n", 3, "cur")
        self.wait(maildrop.remove([numbers[b"one\n"]]))
        self.wait(maildrop.close())
        self.assertEqual(len(self.maildir.files()), 4)

    def test_flags_go_to_the_one_that_is_meant(self) -> None:
        """Promise: mark_seen does not overwrite a twin."""
        maildrop = self.open(mark_seen=True)
        numbers = self.numbers(maildrop)
        with capturedLogs() as events:
            self.wait(maildrop.mark_seen([numbers[b"one\n"], numbers[b"two, longer\n"]]))
        self.wait(maildrop.close())
        self.assertEqual(len(events), 1)
        self.assertEqual(self.maildir.files(), ["cur/1.a:2,S", "new/1.a", "new/1.ab"])

    def test_gone_while_it_is_looked_for(self) -> None:
        """Promise: a candidate that goes is none."""
        maildrop = self.open()
        self.maildir.move("1.a", "1.a:2,F")
        with mock.patch.object(twins.os, "lstat", side_effect=FileNotFoundError):
            self.fails(maildrop.open(self.numbers_of(maildrop, b"1.a")), MessageVanished)
        self.wait(maildrop.close())

    def numbers_of(self, maildrop: Any, place: bytes) -> int:
        """The number of the message that is in new under that name."""
        found = [n for n in range(1, maildrop.messages.count + 1) if maildrop._place(n) == (b"n", place)]
        return int(found[0])


class MapTests(MaildirTestCase):
    """tpops_uidl (uidl_map = true)."""

    def setUp(self) -> None:
        """Three messages."""
        super().setUp()
        for name in ("1.a", "2.b", "3.c"):
            self.maildir.deliver(name, b"x\n")

    def map(self, text: bytes) -> None:
        """Write it."""
        with open(self.maildir.path + b"tpops_uidl", "wb") as file:
            file.write(text)
        os.utime(self.maildir.path + b"tpops_uidl", ns=(len(text) * 1_000_000_001,) * 2)

    def mapped(self, *arguments: Any) -> list[bytes]:
        """Unique-ids, which are the same in a fresh look without an index."""
        found = self.unique_ids(*arguments, uidl_map=True)
        self.assertEqual(self.unique_ids(uidl_map=True, index=False), found)
        return found

    def test_overrides(self) -> None:
        """Promise: unique-ids of an older server stay; bad lines leave the message's own."""
        self.map(b"1.a\told-1\nnonsense\n2.b\ttwo words\n9.z\tgone\n")
        self.assertEqual(self.mapped(), [b"old-1", b"2.b", b"3.c"])
        maildrop = self.open(uidl_map=True)
        self.wait(maildrop.remove([1]))
        self.wait(maildrop.close())
        self.assertEqual(self.maildir.files(), ["new/2.b", "new/3.c"])

    def test_is_off_by_default(self) -> None:
        """Promise: the file counts where it is switched on only."""
        self.map(b"1.a\told-1\n")
        self.assertEqual(self.unique_ids(), [b"1.a", b"2.b", b"3.c"])
        self.assertEqual(self.mapped(), [b"old-1", b"2.b", b"3.c"])
        self.assertEqual(self.unique_ids(), [b"1.a", b"2.b", b"3.c"])

    def test_changes_are_seen(self) -> None:
        """Promise: a changed, a shorter and a removed map count at the next login, with an index or without."""
        driver = self.driver(uidl_map=True)
        for text, found in (
            (b"1.a\told-1\n", [b"old-1", b"2.b", b"3.c"]),
            (b"1.a\told-one\n2.b\told-2\n", [b"old-one", b"old-2", b"3.c"]),
            (b"2.b\told-2\n", [b"1.a", b"old-2", b"3.c"]),
        ):
            self.map(text)
            self.assertEqual(self.mapped(driver), found)
            self.assertEqual(self.mapped(), found)
        os.unlink(self.maildir.path + b"tpops_uidl")
        self.assertEqual(self.mapped(driver), [b"1.a", b"2.b", b"3.c"])

    def test_new_mail_and_flags(self) -> None:
        """Promise: mapped messages stay mapped when flags change, and new mail may be in the map already."""
        self.map(b"1.a:2,S\told-1\n4.d\told-4\n")
        driver = self.driver(uidl_map=True)
        self.mapped(driver)
        for name in ("1.a", "2.b", "3.c"):
            self.maildir.move(name, f"{name}:2,")
        self.assertEqual(self.mapped(driver), [b"old-1", b"2.b", b"3.c"])
        self.maildir.deliver("4.d")
        self.assertEqual(self.mapped(driver), [b"old-1", b"2.b", b"3.c", b"old-4"])

    def test_map_that_gives_one_unique_id_twice(self) -> None:
        """RFC 1939 §7: who had it keeps it; the others have one of their own."""
        driver = self.driver(uidl_map=True)
        self.mapped(driver)
        self.map(b"1.a\t2.b\n3.c\tsame\n")
        found = self.unique_ids(driver, uidl_map=True)
        self.assertEqual(found[1:], [b"2.b", b"same"])
        self.assertTrue(unique_ids.may_be_twin(found[0], b"1.a"))
        self.assertEqual(self.unique_ids(uidl_map=True), found)

    def test_twins_of_a_mapped_message(self) -> None:
        """RFC 1939 §7: one of them has the unique-id of the map, whatever else changes."""
        self.map(b"1.a\told-1\n")
        driver = self.driver(uidl_map=True)
        self.mapped(driver)
        self.maildir.deliver("1.a:2,S", b"longer\n", "cur")
        before = set(self.mapped(driver))
        self.assertEqual(len(before), 4)
        self.maildir.move("1.a:2,S", "1.a:2,RS", "cur")
        self.assertEqual(set(self.mapped(driver)), before)
        self.map(b"2.b\told-two\n")
        found = self.unique_ids(driver)
        self.assertEqual(set(found), (before - {b"old-1", b"2.b"}) | {b"1.a", b"old-two"})
        self.assertTrue(all(map(valid, found)))

    def test_map_that_is_no_file(self) -> None:
        """Promise: a FIFO holds nobody up; a link is an error and not somebody else's file."""
        os.mkfifo(self.maildir.path + b"tpops_uidl")
        self.assertEqual(self.mapped(), [b"1.a", b"2.b", b"3.c"])
        os.unlink(self.maildir.path + b"tpops_uidl")
        os.symlink("/etc/passwd", self.maildir.path + b"tpops_uidl")
        self.fails(self.driver(uidl_map=True).open_maildrop(JOE), MaildropBroken)
