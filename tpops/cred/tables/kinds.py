"""
The kinds of lookup tables, by the prefix that Postfix puts before their name.

Purpose: "hash:/etc/tpops/apop" -> the file that postmap made of it, and who reads it.
Limits: tables are read whole, from octets in memory.  The libraries that wrote them are not used: Berkeley DB may crash
or run for ever on a damaged file, LMDB ends the process with SIGBUS on a truncated one, GNU dbm and ndbm depend on how
Python was built; and none of them can be told to leave the reactor alone.  The formats have been fixed for decades.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs

from tpops.cred.tables import berkeley, cdb, gdbm, lmdb, ndbm, texthash
from tpops.cred.tables.entries import BadEntry, Pair

#: Gives the entries of a table; raises L{tpops.cred.tables.entries.Damaged}, also half way.
Read = Callable[[bytes], Iterator[Pair | BadEntry]]


def _either_dbm(octets: bytes) -> Iterator[Pair]:
    """The file that ends in ".pag", of GNU dbm or of another ndbm."""
    return gdbm.read(octets) if gdbm.recognizes(octets) else ndbm.read(octets)


@attrs.frozen(slots=True)
class Kind:
    """
    A kind of tables.

    @ivar suffix: what Postfix puts behind the name of the table to get that of the file
    @ivar read: gives the entries
    """

    suffix: str
    read: Read


KINDS: dict[str, Kind] = {
    "hash": Kind(".db", berkeley.read),
    "btree": Kind(".db", berkeley.read),
    "lmdb": Kind(".lmdb", lmdb.read),
    "cdb": Kind(".cdb", cdb.read),
    "dbm": Kind(".pag", _either_dbm),
    "sdbm": Kind(".pag", ndbm.read),
    "texthash": Kind("", texthash.read),
}


def split(table: str) -> tuple[Kind, str]:
    """Kind and path of a table that Postfix would name so, such as "hash:/etc/tpops/apop"."""
    kind, _, path = table.partition(":")
    return KINDS[kind], path


def file_of(table: str) -> str:
    """The file of a table: the suffix may be there already, as ".db" or, of a pair, as ".dir" or ".pag"."""
    kind, path = split(table)
    if kind.suffix == ".pag":
        path = path.removesuffix(".dir")
    return path if path.endswith(kind.suffix) else path + kind.suffix
