"""Listings as compact values."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.mailbox.support import unhurried
from tpops.interfaces import ISnapshot
from tpops.mailbox.snapshot import Snapshot

PLACE = st.binary(max_size=12).map(lambda octets: octets.replace(b"/", b"x"))
UNIQUE_ID = st.lists(st.integers(0x21, 0x7E), min_size=1, max_size=70).map(bytes)
ROW = st.tuples(st.integers(0, 10**15), UNIQUE_ID, PLACE)
ROWS = st.lists(ROW, max_size=30, unique_by=lambda row: row[1])


def columns(rows: list[tuple[int, bytes, bytes]]) -> tuple[list[int], list[bytes], list[bytes]]:
    """Sizes, unique-ids and places."""
    return [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]


def snapshot_of(rows: list[tuple[int, bytes, bytes]]) -> Snapshot:
    """A snapshot of them."""
    return Snapshot.of(*columns(rows))


def everything(snapshot: Snapshot) -> tuple[object, ...]:
    """All that a snapshot says."""
    numbers = range(1, snapshot.count + 1)
    return (
        snapshot.count,
        snapshot.octets,
        list(snapshot.sizes),
        snapshot.list_body,
        snapshot.uidl_body,
        [snapshot.unique_id(number) for number in numbers],
        [snapshot.place(number) for number in numbers],
        snapshot.unique_ids(),
        snapshot.all_places(),
        snapshot.memory(),
    )


class SnapshotTests(SynchronousTestCase):
    """Promise: architecture.md section 3: compact arrays and ready-made bodies say what the messages are."""

    @unhurried
    @given(ROWS)
    def test_says_what_it_is_made_of(self, rows: list[tuple[int, bytes, bytes]]) -> None:
        """RFC 1939 §5 and §7: sizes, unique-ids and the bodies of LIST and UIDL; places as given, NUL and all."""
        snapshot = snapshot_of(rows)
        verifyObject(ISnapshot, snapshot)
        sizes, unique_ids, places = columns(rows)
        self.assertEqual(
            everything(snapshot)[:-1],
            (
                len(rows),
                sum(sizes),
                sizes,
                b"".join(b"%d %d\r\n" % one for one in enumerate(sizes, 1)),
                b"".join(b"%d %s\r\n" % one for one in enumerate(unique_ids, 1)),
                unique_ids,
                places,
                unique_ids,
                places,
            ),
        )

    @unhurried
    @given(ROWS, st.integers(0, 30))
    def test_extended_is_made_at_once(self, rows: list[tuple[int, bytes, bytes]], cut: int) -> None:
        """Promise: messages added later make the same snapshot, and the shorter one stays as it was."""
        shorter = snapshot_of(rows[:cut])
        before = everything(shorter)
        self.assertEqual(everything(shorter.extended(*columns(rows[cut:]))), everything(snapshot_of(rows)))
        self.assertEqual(everything(shorter), before)

    @unhurried
    @given(ROWS, st.data())
    def test_resized_changes_sizes_only(self, rows: list[tuple[int, bytes, bytes]], data: st.DataObject) -> None:
        """Promise: a corrected size changes LIST, the total and nothing else; the old snapshot stays as it was."""
        snapshot = snapshot_of(rows)
        before = everything(snapshot)
        sizes = data.draw(st.dictionaries(st.integers(1, len(rows)), st.integers(0, 10**6))) if rows else {}
        changed = [(sizes.get(number, row[0]), *row[1:]) for number, row in enumerate(rows, 1)]
        self.assertEqual(everything(snapshot.resized(sizes)), everything(snapshot_of(changed)))
        self.assertEqual(everything(snapshot), before)

    @unhurried
    @given(ROWS, st.lists(UNIQUE_ID, max_size=40))
    def test_finds_unique_ids(self, rows: list[tuple[int, bytes, bytes]], asked: list[bytes]) -> None:
        """Promise: one of few and one of many are found alike, and no part of another one is."""
        snapshot = snapshot_of(rows)
        present = {row[1] for row in rows}
        self.assertEqual(snapshot.has_any(asked), not present.isdisjoint(asked))
        if rows:
            self.assertTrue(snapshot.has_any([*asked, rows[-1][1]]))
            self.assertTrue(snapshot.has_any([rows[0][1]]))

    def test_one_among_many_is_found(self) -> None:
        """Promise: it does not matter how many are asked for."""
        snapshot = Snapshot.of([1] * 50, [b"%d" % number for number in range(50)], [b""] * 50)
        for count in (1, 16, 17, 100):
            others = [b"x%d" % number for number in range(count)]
            self.assertFalse(snapshot.has_any(others))
            self.assertTrue(snapshot.has_any([*others, b"49"]))

    def test_part_of_a_unique_id_is_none(self) -> None:
        """Promise: only whole unique-ids are found."""
        snapshot = Snapshot.of([1, 1], [b"abc", b"2"], [b"", b""])
        self.assertFalse(snapshot.has_any([b"ab", b"bc", b"1", b"b", b"abcd"]))

    def test_is_compact(self) -> None:
        """Promise: architecture.md §3: at most 120 octets a message, for names as delivery agents make them."""
        count = 10_000
        names = [b"1700000%06d.M123456P12345.mail,S=12345,W=12456" % number for number in range(count)]
        snapshot = Snapshot.of([12_456] * count, names, [b"c:2,S"] * count)
        self.assertLessEqual(snapshot.memory(), 120 * count)
