"""
Secrets that are stored encrypted: the keys, and what they do.

Purpose: AES-256-GCM with a fresh nonce for each secret.  What the secret belongs to (the account, the name) is bound
to it, so that nobody moves one to another row.  The keys are in a text file, one in base64 per line, comments with
"#": the first encrypts, all decrypt, so that a key can be replaced while the old one is still in use.

    sealed = version (1 octet, 1), key's mark (8 octets), nonce (12 octets), ciphertext with its tag

Limits: the file is read again when it has changed.  It must not be open to everybody, nor writable by a group.
Errors: a file that is missing, open to everybody or broken, and a secret that its keys do not open, are
LookupUnavailable, which says what and never shows a key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
import stat
from collections.abc import Iterable

import attrs
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tpops.errors import LookupUnavailable

_KEY_OCTETS = 32
_VERSION = b"\1"
_MARK_OCTETS, _NONCE_OCTETS, _TAG_OCTETS = 8, 12, 16
_HEAD_OCTETS = len(_VERSION) + _MARK_OCTETS + _NONCE_OCTETS

#: What of the file's mode is refused: anything for everybody, writing for the group.
_TOO_OPEN = stat.S_IRWXO | stat.S_IWGRP

_FILE_HEAD = (
    "# Keys of tpops, the first encrypts and all decrypt.  Who has them can read secrets; without them nobody can.\n"
)


@attrs.frozen(slots=True)
class _Key:
    """
    One key.

    @ivar mark: tells it from others; says nothing about it
    """

    octets: bytes = attrs.field(repr=False)
    mark: bytes = attrs.field(init=False)

    @mark.default
    def _make_mark(self) -> bytes:
        return hashlib.sha256(b"tpops key mark\0" + self.octets).digest()[:_MARK_OCTETS]


class KeyFile:
    """
    The keys of one file.

    @ivar path: where it is
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._identity: tuple[int, ...] = ()
        self._keys: tuple[_Key, ...] = ()

    def seal(self, secret: bytes, about: bytes) -> bytes:
        """
        Encrypt with the first key.

        @param about: what the secret belongs to; needed again to open it
        @raise LookupUnavailable: when there is no key
        """
        key = self._read()[0]
        head = _VERSION + key.mark + secrets.token_bytes(_NONCE_OCTETS)
        return head + AESGCM(key.octets).encrypt(head[-_NONCE_OCTETS:], secret, head + about)

    def unseal(self, sealed: bytes, about: bytes) -> bytes:
        """
        Decrypt with the key that has encrypted it.

        @raise LookupUnavailable: when that cannot be done
        """
        head = sealed[:_HEAD_OCTETS]
        if len(sealed) < _HEAD_OCTETS + _TAG_OCTETS or not head.startswith(_VERSION):
            raise LookupUnavailable("a stored secret is broken")
        key = next((one for one in self._read() if one.mark == self._mark(sealed)), None)
        if key is None:
            raise LookupUnavailable(f"{self.path} has not the key that a stored secret was encrypted with")
        try:
            return AESGCM(key.octets).decrypt(head[-_NONCE_OCTETS:], sealed[_HEAD_OCTETS:], head + about)
        except InvalidTag:
            raise LookupUnavailable("a stored secret is broken, or belongs to another account or name") from None

    def is_current(self, sealed: bytes) -> bool:
        """Whether the first key has encrypted it."""
        return self._mark(sealed) == self._read()[0].mark

    def check(self) -> None:
        """Read the file.  @raise LookupUnavailable: when it cannot be used"""
        self._read()

    def make(self) -> None:
        """
        Make the file, mode 0600, with a new key.

        @raise FileExistsError: when it is there
        @raise OSError: when it cannot be made
        """
        self._write(self.path, (_new_key(),))

    def rotate(self) -> None:
        """Put a new key before the others.  @raise LookupUnavailable: when the file cannot be used"""
        self._replace((_new_key(), *self._read()))

    def drop_old(self) -> int:
        """Keep the first key only; gives how many went."""
        first, *others = self._read()
        self._replace((first,))
        return len(others)

    @staticmethod
    def _mark(sealed: bytes) -> bytes:
        return sealed[len(_VERSION) : len(_VERSION) + _MARK_OCTETS]

    def _read(self) -> tuple[_Key, ...]:
        """The keys, at least one; from memory where the file is as it was."""
        try:
            facts = os.stat(self.path)
            if stat.S_IMODE(facts.st_mode) & _TOO_OPEN:
                self._identity = ()
                raise LookupUnavailable(f"{self.path} is open to others; make it private with: chmod 600 {self.path}")
            identity = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns)
            if identity != self._identity:
                with open(self.path, "rb") as file:
                    self._keys = self._parse(file.read())
                self._identity = identity
        except OSError as error:
            self._identity = ()
            raise LookupUnavailable(f"cannot read the key file {self.path}: {error.strerror}") from None
        return self._keys

    def _parse(self, octets: bytes) -> tuple[_Key, ...]:
        keys = []
        for number, line in enumerate(octets.splitlines(), start=1):
            text = line.strip()
            if not text or text.startswith(b"#"):
                continue
            try:
                key = base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError):
                key = b""
            if len(key) != _KEY_OCTETS:
                raise LookupUnavailable(f"{self.path}:{number}: not a key: {_KEY_OCTETS} octets in base64")
            keys.append(_Key(key))
        if not keys:
            raise LookupUnavailable(f"{self.path} has no key")
        return tuple(keys)

    def _replace(self, keys: Iterable[_Key]) -> None:
        """Write the file anew, for the same owner and in one step."""
        new = f"{self.path}.{secrets.token_hex(8)}"
        facts = os.stat(self.path)
        self._write(new, keys, (facts.st_uid, facts.st_gid, stat.S_IMODE(facts.st_mode)))
        try:
            os.replace(new, self.path)
        except BaseException:
            os.unlink(new)
            raise
        self._identity = ()

    @staticmethod
    def _write(path: str, keys: Iterable[_Key], owner: tuple[int, int, int] | None = None) -> None:
        text = _FILE_HEAD + "".join(base64.b64encode(key.octets).decode("ascii") + "\n" for key in keys)
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            with open(descriptor, "w", encoding="ascii") as file:
                if owner is not None:
                    os.fchown(descriptor, *owner[:2])
                    os.fchmod(descriptor, owner[2])
                file.write(text)
                file.flush()
                os.fsync(descriptor)
        except BaseException:
            os.unlink(path)
            raise


def _new_key() -> _Key:
    return _Key(secrets.token_bytes(_KEY_OCTETS))
