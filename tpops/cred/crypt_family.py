"""
crypt(3): the hashes that the machine's libcrypt knows (DES, MD5, SHA-2, bcrypt, yescrypt, ...).

Purpose: verify a password given as octets, and let go of the interpreter's lock while libcrypt works, so
that a slow hash in a thread does not hold up the sessions in the reactor.  libcrypt's own crypt_r(3) is called, which
every Linux has for its own logins; packages for it have to be compiled where tpops is installed.
Limits: bcrypt looks at the first 72 octets of a password and traditional DES at the first 8, as everywhere.
"""

from __future__ import annotations

import ctypes
import functools
import secrets
import string
from collections.abc import Callable

#: Octets for struct crypt_data: 128 KiB in glibc, 32 KiB in libxcrypt.
_CRYPT_DATA_OCTETS = 256 * 1024

#: Where crypt_r(3) is: Debian and Ubuntu, Fedora and Arch, musl (in the C library, which is loaded already).
_LIBRARIES = ("libcrypt.so.1", "libcrypt.so.2", None)

#: How new hashes are made: scheme name -> (what a setting begins with, letters of salt, rounds or None).
_METHODS: dict[str, tuple[str, int, int | None]] = {
    "CRYPT": ("$2b$11$", 22, 1 << 11),
    "BLF-CRYPT": ("$2b$11$", 22, 1 << 11),
    "DES-CRYPT": ("", 2, None),
    "MD5-CRYPT": ("$1$", 8, None),
    "SHA256-CRYPT": ("$5$rounds=50000$", 16, 50_000),
    "SHA512-CRYPT": ("$6$rounds=50000$", 16, 50_000),
}

_SALT = "./" + string.digits + string.ascii_uppercase + string.ascii_lowercase

#: The last letter of a salt of bcrypt has two bits only.
_BCRYPT_LAST = ".Oeu"

_Function = Callable[[bytes, bytes, ctypes.Array[ctypes.c_char]], bytes | None]


@functools.cache
def _libcrypt() -> _Function:
    """crypt_r(3).  @raise ValueError: when there is none"""
    for library in _LIBRARIES:
        try:
            function = ctypes.CDLL(library).crypt_r
        except (OSError, AttributeError):
            continue
        function.restype = ctypes.c_char_p
        function.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p]
        found: _Function = function
        return found
    raise ValueError("this machine has no libcrypt")


def crypt(password: bytes, setting: str) -> str:
    """
    Hash a password with the method and salt of C{setting}, which may be a whole hash.

    @raise ValueError: when libcrypt does not know the method, or the setting is broken
    """
    work = ctypes.create_string_buffer(_CRYPT_DATA_OCTETS)
    made = _libcrypt()(password, setting.encode("ascii"), work)
    if not made or made.startswith(b"*"):
        raise ValueError("not a hash that this machine's libcrypt knows")
    return made.decode("ascii")


def rounds(scheme: str) -> int | None:
    """The rounds of new hashes, None where the method has a fixed number."""
    return _METHODS[scheme][2]


def setting(scheme: str) -> str:
    """
    A method and a fresh salt for a new hash.

    @raise ValueError: when libcrypt does not have the method
    """
    if not _known(scheme):
        raise ValueError("this machine's libcrypt does not know it")
    return _setting(scheme)


def _setting(scheme: str) -> str:
    begin, letters, _ = _METHODS[scheme]
    salt = "".join(secrets.choice(_SALT) for _ in range(letters))
    if begin.startswith("$2"):
        salt = salt[:-1] + secrets.choice(_BCRYPT_LAST)
    return begin + salt


@functools.cache
def _known(scheme: str) -> bool:
    """Whether libcrypt has the method: musl and some builds of libxcrypt leave old ones out."""
    try:
        made = crypt(b"", _setting(scheme))
    except ValueError:
        return False
    # A libcrypt that does not know the sign takes it for a salt of DES.
    return made.startswith(_METHODS[scheme][0][:3])
