"""
crypt(3): the hashes that the machine's libcrypt knows (DES, MD5, SHA-2, bcrypt, yescrypt, ...).

Purpose: verify a password given as octets, and let go of the interpreter's lock while libcrypt works, so
that a slow hash in a thread does not hold up the sessions in the reactor.  The functions of the package crypt_r take
only str and keep that lock, hence libcrypt's own crypt_r(3) is called through the library which that package
brings or links.
Limits: bcrypt looks at the first 72 octets of a password and traditional DES at the first 8, as everywhere.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from collections.abc import Callable

import crypt_r

#: Octets for struct crypt_data: 128 KiB in glibc, 32 KiB in libxcrypt.
_CRYPT_DATA_OCTETS = 256 * 1024

#: How new hashes are made: scheme name -> (name of the crypt_r method, rounds or None).
_METHODS: dict[str, tuple[str, int | None]] = {
    "CRYPT": ("METHOD_BLOWFISH", 1 << 11),
    "BLF-CRYPT": ("METHOD_BLOWFISH", 1 << 11),
    "DES-CRYPT": ("METHOD_CRYPT", None),
    "MD5-CRYPT": ("METHOD_MD5", None),
    "SHA256-CRYPT": ("METHOD_SHA256", 50_000),
    "SHA512-CRYPT": ("METHOD_SHA512", 50_000),
}

_Function = Callable[[bytes, bytes, ctypes.Array[ctypes.c_char]], bytes | None]


@functools.cache
def _libcrypt() -> _Function:
    """libcrypt's crypt_r, found through the extension module that is linked with it."""
    module = importlib.util.find_spec("_crypt_r")
    if module is None or module.origin is None:
        raise ValueError("the package crypt_r is not installed")
    function = ctypes.CDLL(module.origin).crypt_r
    function.restype = ctypes.c_char_p
    function.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p]
    found: _Function = function
    return found


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
    return _METHODS[scheme][1]


def setting(scheme: str) -> str:
    """
    A method and a fresh salt for a new hash.

    @raise ValueError: when libcrypt does not have the method
    """
    method, number = _METHODS[scheme]
    if not hasattr(crypt_r, method):
        raise ValueError("this machine's libcrypt does not know it")
    return str(crypt_r.mksalt(getattr(crypt_r, method), rounds=number))
