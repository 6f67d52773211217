"""
A secret of this installation, made once and kept in a file.

Purpose: what is derived from it is the same after a restart and in every process.
Limits: the file is never written again.  Several processes may make it at the same time; all get the same.
"""

from __future__ import annotations

import os
import secrets
import tempfile

#: Octets of the secret.
SECRET_OCTETS = 32


def read_or_make(path: str) -> bytes:
    """
    The secret in a file, which is made with mode 0600 where it is not there.

    @raise OSError: when it can neither be read nor made
    @raise ValueError: when the file is something else, or others may read it
    """
    try:
        return _read(path)
    except FileNotFoundError:
        _make(path)
    return _read(path)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        secret = file.read(SECRET_OCTETS + 1)
    if mode & 0o077:
        raise ValueError("others than its owner may read or write it (it should have mode 0600)")
    if len(secret) != SECRET_OCTETS:
        raise ValueError(f"it does not have {SECRET_OCTETS} octets (remove it, and it is made anew)")
    return secret


def _make(path: str) -> None:
    # Under its name it is complete from the first moment on, and is not replaced when another process was faster.
    descriptor, temporary = tempfile.mkstemp(prefix=os.path.basename(path) + ".", dir=os.path.dirname(path))
    try:
        with open(descriptor, "wb") as file:
            file.write(secrets.token_bytes(SECRET_OCTETS))
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError:
        return
    finally:
        os.unlink(temporary)
