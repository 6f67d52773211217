"""Reading lookup tables: each format, whole and damaged."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterable

from twisted.trial.unittest import SynchronousTestCase

from tests.cred import table_samples as samples
from tpops.config import checks
from tpops.cred.tables import berkeley, cdb, gdbm, lmdb, ndbm, texthash
from tpops.cred.tables.entries import BadEntry, Damaged, Pair
from tpops.cred.tables.kinds import KINDS, file_of


def numbered(count: int, end: bytes = b"") -> dict[bytes, bytes]:
    """What the samples have in common."""
    return {b"user%d" % number + end: b"secret %d" % number + end for number in range(count)}


def make_cdb(pairs: Iterable[Pair]) -> bytes:
    """A constant database whose entries are all in its first hash table; readers of all entries look at no slot."""
    records = b"".join(struct.pack("<2L", len(key), len(value)) + key + value for key, value in pairs)
    count, end = len(list(pairs)), 2048 + len(records)
    after = end + count * 16
    header = struct.pack("<2L", end, count * 2) + struct.pack("<2L", after, 0) * 255
    return header + records + bytes(count * 16)


def make_ndbm_page(pairs: Iterable[Pair], order: str) -> bytes:
    """A page of ndbm: places at its beginning, items from its end downwards."""
    items = [item for pair in pairs for item in pair]
    places, content = [], b""
    for item in items:
        content = item + content
        places.append(1024 - len(content))
    head = struct.pack(f"{order}{len(places) + 1}H", len(places), *places)
    return head + bytes(1024 - len(head) - len(content)) + content


def make_gdbm(pairs: Iterable[Pair], order: str, offset: str, head_octets: int) -> bytes:
    """A GNU dbm of one bucket, as a machine with such offsets has it."""
    entry = f"{order}l4s{offset}2l"
    pairs = list(pairs)
    entries = (1024 - head_octets) // struct.calcsize(entry)
    directory = struct.pack(f"{order}2{offset}", 2048, 2048)
    header = struct.pack(f"{order}2L{offset}4l", 0x13579ACE, 1024, 1024, len(directory), 1, 1024, entries)
    table, data = b"", b""
    for key, value in pairs:
        table += struct.pack(entry, 7, key[:4], 3072 + len(data), len(key), len(value))
        data += key + value
    free = struct.pack(entry, -1, b"", 0, 0, 0) * (entries - len(pairs))
    bucket = bytes(head_octets - 4) + struct.pack(f"{order}l", len(pairs)) + table + free
    return header.ljust(1024, b"\0") + directory.ljust(1024, b"\0") + bucket.ljust(1024, b"\0") + data


class WholeTests(SynchronousTestCase):
    """What a table has is what its reader gives."""

    def test_berkeley_db(self) -> None:
        """Hash and btree of either order of octets, with long values; what was deleted is gone."""
        expected = {**numbered(40, b"\0"), b"long\0": b"x" * 1500 + b"\0"}
        for table in (samples.HASH, samples.HASH_BIG_ENDIAN, samples.BTREE, samples.BTREE_BIG_ENDIAN):
            self.assertEqual(dict(berkeley.read(table)), expected)

    def test_berkeley_db_of_the_version_before(self) -> None:
        """Format 8 had pages of another kind, in which entries are not sorted."""
        table = bytearray(samples.HASH)
        table[16] = 8
        for page in range(512, len(table), 512):
            if table[page + 25] == 13:
                table[page + 25] = 2
        self.assertEqual(len(dict(berkeley.read(bytes(table)))), 41)

    def test_lmdb(self) -> None:
        """A tree of two levels with a long value; and one without entries."""
        expected = {**numbered(120, b"\0"), b"long\0": b"x" * 5000 + b"\0"}
        self.assertEqual(dict(lmdb.read(samples.LMDB)), expected)
        self.assertEqual(list(lmdb.read(samples.LMDB_EMPTY)), [])

    def test_cdb(self) -> None:
        """Entries come in the order of the file."""
        pairs = [(b"joe", b"one"), (b"joe", b"two"), (b"ann\0", b"")]
        self.assertEqual(list(cdb.read(make_cdb(pairs))), pairs)
        self.assertEqual(list(cdb.read(make_cdb([]))), [])

    def test_ndbm(self) -> None:
        """Pages of either order of octets, empty ones in between."""
        pairs = [(b"joe", b"one"), (b"ann", b"")]
        for order in "<>":
            table = make_ndbm_page(pairs, order) + bytes(1024) + make_ndbm_page([(b"x\0", b"y\0")], order)
            self.assertEqual(list(ndbm.read(table)), [*pairs, (b"x\0", b"y\0")])
        self.assertEqual(list(ndbm.read(b"")), [])

    def test_gdbm(self) -> None:
        """A file of the real library, and such as other machines make."""
        self.assertEqual(dict(gdbm.read(samples.GDBM)), {**numbered(40), b"long": b"x" * 1500})
        pairs = [(b"joe", b"one"), (b"a", b"")]
        for order in "<>":
            for offset, head_octets in (("q", 112), ("q", 84), ("l", 60)):
                self.assertEqual(list(gdbm.read(make_gdbm(pairs, order, offset, head_octets))), pairs)

    def test_dbm_is_gdbm_or_ndbm(self) -> None:
        """The file's first octets tell."""
        read = KINDS["dbm"].read
        self.assertEqual(len(list(read(samples.GDBM))), 41)
        self.assertEqual(list(read(make_ndbm_page([(b"joe", b"one")], "<"))), [(b"joe", b"one")])


class TextTests(SynchronousTestCase):
    """texthash: what postmap(1) says of its input."""

    def check(self, text: bytes, *expected: Pair | BadEntry) -> None:
        """The text has these entries."""
        self.assertEqual(list(texthash.read(text)), list(expected))

    def test_comments_and_continued_lines(self) -> None:
        """A comment in between does not end a line; its key is folded to lower case."""
        self.check(
            b"# c\n\nJoe\tone  \n  two # three\n # c\n\t four\r\nann pw",
            (b"joe", b"one    two # three\t four"),
            (b"ann", b"pw"),
        )

    def test_quoted_keys(self) -> None:
        """Whitespace in quotation marks is part of the key, and the marks are too; a backslash quotes one sign."""
        self.check(b'"a b" v\n"a\\" b" "w"\nc\\ d x', (b'"a b"', b"v"), (b'"a\\" b"', b'"w"'), (b"c\\ d", b"x"))

    def test_bad_lines(self) -> None:
        """Told with their numbers; the others count."""
        bad = list(texthash.read(b' first\njoe\n"x y\njoe a\njoe b\n'))
        self.assertEqual([one.line for one in bad if isinstance(one, BadEntry)], [1, 2, 3, 5])
        self.assertIn((b"joe", b"a"), bad)
        self.check(b"")


class DamagedTests(SynchronousTestCase):
    """Whatever the octets are: entries of the table, or Damaged, and never another error."""

    TABLES: tuple[tuple[Callable[[bytes], Iterable[Pair]], bytes], ...] = (
        (berkeley.read, samples.HASH),
        (berkeley.read, samples.BTREE_BIG_ENDIAN),
        (lmdb.read, samples.LMDB),
        (cdb.read, make_cdb([(b"user%d" % number, b"secret") for number in range(40)])),
        (gdbm.read, samples.GDBM),
        (ndbm.read, make_ndbm_page([(b"joe", b"one"), (b"ann", b"two")], "<") * 3),
    )

    def outcome(self, read: Callable[[bytes], Iterable[Pair]], octets: bytes) -> int:
        """How many entries there are, -1 for a damaged table."""
        try:
            return len(list(read(octets)))
        except Damaged:
            return -1

    def test_truncated_tables_have_no_fewer_entries(self) -> None:
        """A cut is seen, or it took away nothing that counts."""
        for read, table in self.TABLES[:5]:
            whole = self.outcome(read, table)
            for length in range(0, len(table), 37):
                self.assertIn(self.outcome(read, table[:length]), (-1, whole), (read, length))
            self.assertEqual(self.outcome(read, table[: len(table) // 2]), -1)
        self.assertEqual(self.outcome(ndbm.read, bytes(1000)), -1)

    def test_changed_octets(self) -> None:
        """Also where numbers and places are anything."""
        chance = random.Random(1)
        for read, table in self.TABLES:
            seen = set()
            for _ in range(200):
                broken = bytearray(table)
                for _ in range(10):
                    page = chance.randrange(len(table)) // 512 * 512
                    broken[min(page + chance.randrange(64), len(table) - 1)] = chance.randrange(256)
                seen.add(self.outcome(read, bytes(broken)))
            self.assertIn(-1, seen, read)

    def test_says_what_it_is_not(self) -> None:
        """Another format, a version that is not known, and features that postmap does not use."""

        def changed(table: bytes, at: int, octet: int) -> bytes:
            return table[:at] + bytes((octet,)) + table[at + 1 :]

        for read, table, why in (
            (berkeley.read, b"joe secret\n" * 50, "no hash or btree"),
            (berkeley.read, changed(samples.HASH, 16, 7), "format 7"),
            (berkeley.read, changed(samples.HASH, 24, 1), "encrypted"),
            (berkeley.read, changed(samples.HASH, 26, 1), "checksums"),
            (berkeley.read, changed(samples.HASH, 21, 3), "first page"),
            (berkeley.read, changed(samples.BTREE, 48, 1), "several values"),
            (lmdb.read, bytes(9000), "no LMDB file"),
            (lmdb.read, changed(samples.LMDB, 20, 2), "format 2"),
            (gdbm.read, samples.GDBM[:4] + bytes(9000), "header"),
        ):
            with self.assertRaisesRegex(Damaged, why):
                list(read(table))

    def test_gdbm_entries_begin_as_their_bucket_says(self) -> None:
        """Which shows that the data has gone, where its place is still there."""
        with self.assertRaisesRegex(Damaged, "where it should be"):
            list(gdbm.read(samples.GDBM.replace(b"user7secret 7", bytes(13))))

    def test_pages_in_a_circle(self) -> None:
        """A page that follows itself ends the reading, not the server."""
        for table, kind in ((samples.HASH, 13), (samples.BTREE, 5)):
            broken = bytearray(table)
            for page in range(512, len(table), 512):
                if broken[page + 25] == kind:
                    broken[page + 16 : page + 20] = struct.pack("<L", page // 512)
            with self.assertRaisesRegex(Damaged, "circle"):
                list(berkeley.read(bytes(broken)))


class KindsTests(SynchronousTestCase):
    """Prefixes and endings."""

    def test_the_configuration_knows_the_same_kinds(self) -> None:
        """One list each, since neither may import the other."""
        self.assertEqual(tuple(KINDS), checks.LOOKUP_TABLES)

    def test_the_ending_may_be_there(self) -> None:
        """As Postfix names a table, or as its file is named."""
        for table, path in (
            ("hash:/a/b", "/a/b.db"),
            ("hash:/a/b.db", "/a/b.db"),
            ("btree:/a/b", "/a/b.db"),
            ("lmdb:/a/b", "/a/b.lmdb"),
            ("cdb:/a/b.cdb", "/a/b.cdb"),
            ("dbm:/a/b", "/a/b.pag"),
            ("dbm:/a/b.dir", "/a/b.pag"),
            ("sdbm:/a/b.pag", "/a/b.pag"),
            ("texthash:/a/b", "/a/b"),
            ("texthash:/a/b:c.db", "/a/b:c.db"),
        ):
            self.assertEqual(file_of(table), path)
