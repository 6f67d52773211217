"""Random histories of a Maildir: every way to a listing gives the same listing."""

from __future__ import annotations

import os
import shutil
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contracts.maildrop import on_the_wire
from tests.mailbox.support import Maildir, MaildirTestCase, content, rows, unhurried
from tpops.mailbox import sizes, unique_ids
from tpops.mailbox.unique_ids import base_name

#: Names of which some sort in front of others that are there, some are no unique-ids, some have sizes.
BASES = st.sampled_from(
    ["1.a", "2.b", "10.c", "3.d,S=2", "4.e,S=1,W=9", "x", "5 f", "7.g\n", "8." + "h" * 80, "0.i", "99.j", "100.k"]
)
FLAGS = st.sampled_from(["", ":2,", ":2,S", ":2,RS", ":1,odd"])
DIRECTORIES = st.sampled_from(["new", "cur"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("deliver"), BASES, FLAGS, DIRECTORIES, st.binary(max_size=6)),
        st.tuples(st.just("move"), st.integers(0, 20), FLAGS, DIRECTORIES),
        st.tuples(st.just("delete"), st.integers(0, 20)),
        st.tuples(st.just("look")),
        st.tuples(st.just("remove"), st.sets(st.integers(1, 6))),
        st.tuples(st.just("restart")),
        st.tuples(st.just("lose index")),
    ),
    max_size=25,
)


class HistoryTests(MaildirTestCase):
    """Promise: an index, a memory and a fresh look never differ."""

    @settings(unhurried, max_examples=150)
    @given(STEPS, st.sampled_from([sizes.EXACT, sizes.NAME, sizes.FILE]))
    def test_incremental_listing_is_a_fresh_one(self, steps: list[tuple[Any, ...]], how: str) -> None:
        """Promise: deliveries, flags, moves, deletions, restarts: same numbers, sizes, unique-ids as a first look."""
        shutil.rmtree(self.maildir.root)
        self.maildir = Maildir(self.maildir.root)
        driver = self.driver(sizes=how)
        for step in steps:
            driver = self.take(step, driver, how)
            self.assert_same(driver, how)

    def take(self, step: tuple[Any, ...], driver: Any, how: str) -> Any:
        """Do one step; gives the driver to go on with."""
        act, *rest = step
        files = self.maildir.files()
        if act == "deliver":
            base, flags, directory, message = rest
            if base_name(os.fsencode(base)) not in {base_name(os.fsencode(name[4:])) for name in files}:
                self.maildir.deliver(base + flags, message, directory)
        elif act in ("move", "delete") and files:
            directory, name = files[rest[0] % len(files)].split("/", 1)
            if act == "delete":
                self.maildir.delete(name, directory)
            else:
                self.maildir.move(name, name.split(":")[0] + rest[1], directory, rest[2])
        elif act == "look":
            self.listing(driver)
        elif act == "remove":
            maildrop = self.open(driver)
            self.wait(maildrop.remove([number for number in rest[0] if number <= maildrop.messages.count]))
            self.wait(maildrop.close())
            self.maildir.touch()
        elif act == "restart":
            driver = self.driver(sizes=how)
        elif act == "lose index" and os.path.exists(self.maildir.path + b"tpops_index"):
            os.unlink(self.maildir.path + b"tpops_index")
        return driver

    def assert_same(self, driver: Any, how: str) -> None:
        """The driver lists what a fresh one without an index lists, and that is what is there."""
        maildrop = self.open(driver)
        found = rows(maildrop)
        contents = [self.wait(content(maildrop, number)) for number in range(1, len(found) + 1)]
        self.wait(maildrop.close())
        self.assertEqual(found, self.listing(self.driver(index=False, sizes=how)))
        self.assertEqual(len(found), len(self.maildir.files()))
        self.assertTrue(all(unique_ids.valid(unique_id) for _, unique_id in found))
        if how == sizes.EXACT:
            for (octets, unique_id), message in zip(found, contents, strict=True):
                self.assertEqual(octets, 9 if b",W=9" in unique_id else len(on_the_wire(message)))


class TwinHistoryTests(MaildirTestCase):
    """The same where base names are used twice: then a listing may depend on the past, and identity must hold."""

    TWINS = st.lists(
        st.one_of(
            st.tuples(st.just("deliver"), st.sampled_from(["1.a", "2 b"]), FLAGS, DIRECTORIES, st.integers(1, 9)),
            st.tuples(st.just("move"), st.integers(0, 20), FLAGS, DIRECTORIES),
            st.tuples(st.just("delete"), st.integers(0, 20)),
            st.tuples(st.just("remove"), st.sets(st.integers(1, 4)), st.integers(0, 20), FLAGS, DIRECTORIES),
        ),
        max_size=14,
    )

    @settings(unhurried, max_examples=200)
    @given(TWINS)
    def test_unique_ids_never_pass_from_one_message_to_another(self, steps: list[tuple[Any, ...]]) -> None:
        """RFC 1939 §7: as long as a session sees every change, a unique-id means one message for good."""
        shutil.rmtree(self.maildir.root)
        self.maildir = Maildir(self.maildir.root)
        self.serial = 0
        owners: dict[bytes, bytes] = {}
        base_ids = {b"1.a", unique_ids.from_base(b"2 b")}
        driver = self.driver()
        for step in steps:
            self.take(step, driver)
            maildrop = self.open(driver)
            found = rows(maildrop)
            contents = [self.wait(content(maildrop, number)) for number in range(1, len(found) + 1)]
            self.wait(maildrop.close())
            self.assertEqual(len(set(contents)), len(self.maildir.files()))
            self.assertEqual(len({unique_id for _, unique_id in found}), len(found))
            for (octets, unique_id), message in zip(found, contents, strict=True):
                self.assertEqual(octets, len(on_the_wire(message)))
                if unique_id in base_ids and owners.get(unique_id) not in contents:
                    # A base name that is free again may be given to a new message.
                    owners[unique_id] = message
                self.assertEqual(owners.setdefault(unique_id, message), message)
            self.assertEqual(rows(maildrop), self.listing(self.driver()))

    def take(self, step: tuple[Any, ...], driver: Any) -> None:
        """Do one step; no file is ever written over another."""
        act, *rest = step
        files = self.maildir.files()
        if act == "deliver":
            base, flags, directory, age = rest
            self.serial += 1
            if f"{directory}/{base}{flags}" not in files:
                path = self.maildir.deliver(base + flags, b"%d\n" % self.serial + b"x" * self.serial, directory)
                os.utime(path, ns=(age, age * 1_000_000_000 + self.serial))
        elif act == "delete" and files:
            directory, name = files[rest[0] % len(files)].split("/", 1)
            self.maildir.delete(name, directory)
        elif act == "move":
            self.move(*rest)
        elif act == "remove":
            self.remove(driver, *rest)

    def move(self, which: int, flags: str, directory: str) -> None:
        """Another program sets flags."""
        files = self.maildir.files()
        if files:
            source, name = files[which % len(files)].split("/", 1)
            target = name.split(":")[0] + flags
            if f"{directory}/{target}" not in files:
                self.maildir.move(name, target, source, directory)

    def remove(self, driver: Any, numbers: set[int], *move: Any) -> None:
        """A session marks messages, another program moves one, and QUIT comes."""
        maildrop = self.open(driver)
        numbers = {number for number in numbers if number <= maildrop.messages.count}
        all_numbers = set(range(1, maildrop.messages.count + 1))
        contents = {number: self.wait(content(maildrop, number)) for number in all_numbers}
        self.move(*move)
        self.wait(maildrop.remove(sorted(numbers)))
        self.wait(maildrop.close())
        self.maildir.touch()
        left = set()
        for name in self.maildir.files():
            with open(os.path.join(self.maildir.root, name), "rb") as file:
                left.add(file.read())
        self.assertEqual(left, {contents[number] for number in all_numbers - numbers})
