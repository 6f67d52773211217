"""
Users and groups of the machine, by name or number.

Limits: asks the name service, so it may block.
Errors: ValueError that names what does not exist.
"""

from __future__ import annotations

import grp
import os
import pwd

import attrs

#: uid_t and gid_t; the highest one means "no change".
_MOST = 2**32 - 2


@attrs.frozen(slots=True)
class Identity:
    """
    Whom a program runs as.

    @ivar uid: user id, None for whoever starts it
    @ivar gid: primary group
    @ivar groups: all groups
    """

    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] = ()

    def problem(self) -> str:
        """Why this process cannot start a program as him, "" where it can."""
        if os.geteuid() == 0 or self.uid is None or (self.uid, self.gid) == (os.geteuid(), os.getegid()):
            return ""
        return "user: only a server that root has started can run the program as another user"


@attrs.frozen(slots=True)
class User:
    """A user of the machine; home is None for a number that has no account."""

    uid: int
    gid: int | None
    home: str | None = None


def user(text: str) -> User:
    """
    A user by name or number.

    @raise ValueError: when there is none of that name
    """
    if not _is_number(text):
        return named(text)
    try:
        found = pwd.getpwuid(_number(text))
    except KeyError:
        return User(_number(text), None)
    return User(found.pw_uid, found.pw_gid, found.pw_dir or None)


def named(name: str) -> User:
    """
    A user by name, whatever it looks like.

    @raise ValueError: when there is none
    """
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise ValueError(f"there is no user {name!r} on this machine") from None
    return User(found.pw_uid, found.pw_gid, found.pw_dir or None)


def group(text: str) -> int:
    """
    A group by name or number.

    @raise ValueError: when there is none of that name
    """
    try:
        return _number(text) if _is_number(text) else grp.getgrnam(text).gr_gid
    except KeyError:
        raise ValueError(f"there is no group {text!r} on this machine") from None


def find(user_text: str, group_text: str) -> Identity:
    """
    Whom to run a program as; two empty texts are whoever starts it.

    @raise ValueError: when one of them does not exist
    """
    if not user_text:
        if group_text:
            raise ValueError("group is given without user")
        return Identity()
    try:
        found = user(user_text)
    except ValueError as error:
        raise ValueError(f"user: {error}") from None
    try:
        gid = group(group_text) if group_text else found.gid
    except ValueError as error:
        raise ValueError(f"group: {error}") from None
    if gid is None:
        raise ValueError(f"group: must be given for the user {user_text}, who has no account on this machine")
    name = user_text
    if _is_number(user_text) and found.home is not None:
        name = pwd.getpwuid(found.uid).pw_name
    groups = (gid,) if _is_number(name) else tuple(os.getgrouplist(name, gid))
    return Identity(found.uid, gid, groups)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _number(text: str) -> int:
    if len(text) > 10 or int(text) > _MOST:
        raise ValueError(f"{text[:20]} is too high for a user or group id")
    return int(text)
