"""
A lookup table in a file with the addresses from which every sender may relay, for servers that can do nothing else.

Purpose: made by Postfix' own postmap, in a directory beside the table, and put in its place in one step; only when
something has changed.
Limits: addresses alone: where the sender matters, those for which a rule allows any.  IPv6 networks are left out, so
IPv6 needs C{ipv6_prefix = 128}.  Whoever has just logged in is there after C{map_seconds}.  When the store cannot be
read, the table becomes empty; when the server is killed, it stays as it is.  Of several workers one makes it.
Errors: L{MapFailed}.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping

from tpops.db.addresses import networks_around
from tpops.db.relay import IRelayStore, Rule, StoreFailed, smallest

#: What postmap adds to the name, by the kind of table.
ENDINGS = {"hash": ".db", "btree": ".db", "cdb": ".cdb", "lmdb": ".lmdb", "texthash": ""}

_POSTMAP_SECONDS = 60


class MapFailed(Exception):
    """The table could not be made, or the store could not be read and the table is empty; with the reason."""


class MapFile:
    """
    See the module.

    @param table: its kind and name, as Postfix writes it
    @param opened: opens the store, anew for each time
    @param by_address: whether the sender does not matter
    @param value: what is found at each address
    """

    def __init__(self, table: str, opened: Callable[[], IRelayStore], by_address: bool, value: str) -> None:
        self._kind, _, self._path = table.partition(":")
        self._opened = opened
        self._by_address = by_address
        self._value = value
        self._made: str | None = None
        self._lock = -1

    def refresh(self) -> None:
        """
        Make the table if it has to be another one.  Blocks.

        @raise MapFailed: see there
        """
        if not self._ours():
            return
        why = ""
        try:
            text = self._text()
        except StoreFailed as error:
            text, why = "", str(error)
        self._put(text)
        if why:
            raise MapFailed(f"{self._kind}:{self._path} is empty: {why}")

    def close(self) -> None:
        """Leave an empty table behind, and let another process make it.  Blocks."""
        if self._lock >= 0:
            try:
                self._put("")
            finally:
                os.close(self._lock)
                self._lock = -1
                self._made = None

    def _ours(self) -> bool:
        """Whether it is this process that makes the table."""
        if self._lock >= 0:
            return True
        try:
            lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise MapFailed(f"cannot make {self._path}.lock: {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        self._lock = lock
        return True

    def _text(self) -> str:
        """The table as text, one address a line."""
        store = self._opened()
        try:
            addresses = sorted({login.address for login in store.logins() if "/" not in login.address})
            rules = store.rules()
        finally:
            store.close()
        if not self._by_address:
            any_sender = {rule.network: rule for rule in rules if rule.sender is None}
            addresses = [one for one in addresses if _allowed(any_sender, one)]
        return "".join(f"{one}\t{self._value}\n" for one in addresses)

    def _put(self, text: str) -> None:
        if text == self._made:
            return
        target = self._path + ENDINGS[self._kind]
        directory, name = os.path.split(self._path)
        try:
            with tempfile.TemporaryDirectory(prefix=".tpops-", dir=directory) as beside:
                source = os.path.join(beside, name)
                with open(source, "x", encoding="ascii") as file:
                    file.write(text)
                os.chmod(source, 0o644)
                if self._kind != "texthash":
                    _postmap(f"{self._kind}:{source}")
                os.replace(source + ENDINGS[self._kind], target)
        except (OSError, subprocess.TimeoutExpired) as error:
            why = str(error.strerror) if isinstance(error, OSError) and error.strerror else str(error)
            raise MapFailed(f"cannot make {target}: {why}; it stays as it is") from None
        self._made = text


def _allowed(any_sender: Mapping[str, Rule], address: str) -> bool:
    around = networks_around(address)
    return smallest([any_sender[network] for network in around if network in any_sender], around)[0] == 1


def _postmap(table: str) -> None:
    program = shutil.which("postmap") or "/usr/sbin/postmap"
    done = subprocess.run(
        [program, table], stdin=subprocess.DEVNULL, capture_output=True, timeout=_POSTMAP_SECONDS, check=False
    )
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise OSError(0, said[-1] if said else f"postmap: exit status {done.returncode}")
