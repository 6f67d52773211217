"""
A secret in a file of its own, such as the password for a database.

Purpose: the secret need not be in the configuration, which many may read.
Limits: the first line counts, without its line end.
Security: a file that everybody on the machine may read is refused.
"""

from __future__ import annotations

import os
import stat

from tpops.errors import ConfigError


def read_secret(path: str, what: str) -> str:
    """
    The secret in a file.

    @param what: for the error: whose secret it is
    @raise ConfigError: when the file cannot be read, is empty, or is open to everybody
    """
    try:
        with open(path, encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            line = file.readline()
    except OSError as error:
        raise ConfigError([f"{what}: cannot read {path}: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{what}: {path} is not UTF-8"]) from None
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        raise ConfigError([f"{what}: {path} is open to everybody on this machine; chmod 600 or 640 it"])
    secret = line.rstrip("\r\n")
    if not secret:
        raise ConfigError([f"{what}: the first line of {path} is empty"])
    return secret
