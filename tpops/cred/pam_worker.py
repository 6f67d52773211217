"""
A program that asks PAM, one question after the other.

Purpose: PAM's modules may take their time, hang, leak or crash, and most need root's rights; so they run in processes
of their own, which a keeper starts (L{tpops.cred.keeper}).
Limits: runs by itself, on the standard library and libpam, and imports nothing of tpops.  Linux-PAM only.  Questions
come on descriptor 3 and answers leave on 4, since modules may write to the usual ones.

    pam_worker.py SERVICE DIRECTORY MINIMUM_UID STRANGERS

DIRECTORY has the service files, "" for the machine's; STRANGERS is "yes" where names without an account of the machine
are asked for.  A question is a length of four octets and so many octets of tpop3d's pairs (key NUL value NUL ... NUL):
op (password, or account for a name that is known to be right), user, pass, rhost.  The answer has no length: result,
reason, uid, gid, home.  Results:

    yes           right password (where it was asked for), and the account phase is content
    unknown       there is no such user
    wrong         PAM does not accept the password
    disabled      right password, and the account phase refuses; reason says why
    unavailable   PAM cannot say

Known deviations: delays after wrong passwords (pam_fail_delay) are not waited for: the server has its own.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import sys
from collections.abc import Callable
from ctypes import CFUNCTYPE, POINTER, Structure, byref, c_char_p, c_int, c_size_t, c_uint, c_void_p
from typing import Any, NamedTuple

LIBRARY = "libpam.so.0"

_REQUESTS, _REPLIES = 3, 4

#: Longest question.
MOST_OCTETS = 16384

_KEYS = {"op", "user", "pass", "rhost"}

# Items, styles of messages, flags and results of <security/_pam_types.h>.
_USER, _TTY, _RHOST, _FAIL_DELAY = 2, 3, 4, 10
_ECHO_OFF, _ECHO_ON = 1, 2
_DISALLOW_NULL_AUTHTOK = 1
_SUCCESS, _BUFFER_ERROR = 0, 5
_PERM_DENIED, _AUTH_ERR, _CRED_INSUFFICIENT, _USER_UNKNOWN, _MAXTRIES, _NEW_AUTHTOK_REQD = 6, 7, 8, 10, 11, 12
_ACCT_EXPIRED, _CRED_EXPIRED, _CRED_ERR, _AUTHTOK_EXPIRED = 13, 16, 17, 27

#: "No" of the authentication phase, and of the account phase.
_WRONG = {
    _PERM_DENIED,
    _AUTH_ERR,
    _CRED_INSUFFICIENT,
    _MAXTRIES,
    _ACCT_EXPIRED,
    _CRED_EXPIRED,
    _CRED_ERR,
    _AUTHTOK_EXPIRED,
}
_DISABLED = {_PERM_DENIED, _AUTH_ERR, _USER_UNKNOWN, _NEW_AUTHTOK_REQD, _ACCT_EXPIRED, _CRED_EXPIRED, _AUTHTOK_EXPIRED}

_TEXT_OCTETS = 400


class _Message(Structure):
    _fields_ = (("style", c_int), ("text", c_char_p))


class _Response(Structure):
    _fields_ = (("text", c_void_p), ("code", c_int))


_CONVERSE = CFUNCTYPE(c_int, c_int, POINTER(POINTER(_Message)), POINTER(POINTER(_Response)), c_void_p)
_DELAY = CFUNCTYPE(None, c_int, c_uint, c_void_p)


class _Conversation(Structure):
    _fields_ = (("converse", _CONVERSE), ("data", c_void_p))


class Verdict(NamedTuple):
    """
    What PAM says.

    @ivar result: see the module
    @ivar reason: for the log
    @ivar user: the name as PAM has it now; modules may change it
    """

    result: str
    reason: str
    user: str


class PAM:
    """
    libpam.

    @param service: name of the service file
    @param directory: where it is, "" for the machine's
    @raise OSError: when the library is not there
    """

    def __init__(self, service: str, directory: str) -> None:
        self._library = ctypes.CDLL(LIBRARY)
        self._library.pam_strerror.restype = c_char_p
        self._library.pam_strerror.argtypes = [c_void_p, c_int]
        self._library.pam_end.argtypes = [c_void_p, c_int]
        self._library.pam_set_item.argtypes = [c_void_p, c_int, c_void_p]
        self._library.pam_get_item.argtypes = [c_void_p, c_int, POINTER(c_void_p)]
        self._library.pam_authenticate.argtypes = [c_void_p, c_int]
        self._library.pam_acct_mgmt.argtypes = [c_void_p, c_int]
        self._libc = ctypes.CDLL(None)
        self._libc.calloc.restype = c_void_p
        self._libc.calloc.argtypes = [c_size_t, c_size_t]
        self._libc.strdup.restype = c_void_p
        self._libc.strdup.argtypes = [c_char_p]
        self._service = service.encode()
        self._directory = directory.encode()

    def judge(self, user: bytes, password: bytes | None, rhost: bytes) -> Verdict:
        """
        Authentication and account phase; without a password only the latter.

        @param rhost: the client's address, b"" where there is none
        """
        said: list[bytes] = []
        converse = _CONVERSE(self._answers(user, password or b"", said))
        # Both must live until pam_end.
        no_delay = _DELAY(lambda *_: None)
        handle = c_void_p()
        begun = self._start(user, _Conversation(converse, None), handle)
        if begun != _SUCCESS:
            return Verdict("unavailable", f"pam_start: {self._text(None, begun)}", "")
        status = _SUCCESS
        try:
            self._library.pam_set_item(handle, _FAIL_DELAY, ctypes.cast(no_delay, c_void_p))
            self._library.pam_set_item(handle, _TTY, c_char_p(b"tpops"))
            if rhost:
                self._library.pam_set_item(handle, _RHOST, c_char_p(rhost))
            if password is not None:
                status = self._library.pam_authenticate(handle, _DISALLOW_NULL_AUTHTOK)
                if status not in (_SUCCESS, _NEW_AUTHTOK_REQD):
                    return self._verdict(handle, status, _WRONG, "wrong", said)
            status = self._library.pam_acct_mgmt(handle, _DISALLOW_NULL_AUTHTOK)
            return self._verdict(handle, status, _DISABLED, "disabled", said)
        finally:
            self._library.pam_end(handle, status)

    def _start(self, user: bytes, conversation: _Conversation, handle: c_void_p) -> int:
        if self._directory:
            return int(
                self._library.pam_start_confdir(
                    c_char_p(self._service),
                    c_char_p(user),
                    byref(conversation),
                    c_char_p(self._directory),
                    byref(handle),
                )
            )
        return int(self._library.pam_start(c_char_p(self._service), c_char_p(user), byref(conversation), byref(handle)))

    def _verdict(self, handle: c_void_p, status: int, no: set[int], word: str, said: list[bytes]) -> Verdict:
        text = self._text(handle, status)
        if said:
            text += ": " + b"; ".join(said)[:_TEXT_OCTETS].decode("utf-8", "replace")
        found = c_void_p()
        self._library.pam_get_item(handle, _USER, byref(found))
        user = ctypes.string_at(found.value).decode("utf-8", "replace") if found.value else ""
        if status == _SUCCESS:
            return Verdict("yes", "", user)
        if status == _USER_UNKNOWN and word == "wrong":
            return Verdict("unknown", text, user)
        return Verdict(word if status in no else "unavailable", text, user)

    def _text(self, handle: c_void_p | None, status: int) -> str:
        return str((self._library.pam_strerror(handle, status) or b"unknown error").decode("utf-8", "replace"))

    def _answers(self, user: bytes, password: bytes, said: list[bytes]) -> Callable[..., int]:
        """What modules are answered: the password where nothing is shown, the name where it is."""

        def converse(count: int, messages: Any, responses: Any, _: object) -> int:
            block = self._libc.calloc(count, ctypes.sizeof(_Response))
            if not block:
                return _BUFFER_ERROR
            made = ctypes.cast(block, POINTER(_Response))
            for position in range(count):
                message = messages[position].contents
                if message.style == _ECHO_OFF:
                    made[position].text = self._libc.strdup(password)
                elif message.style == _ECHO_ON:
                    made[position].text = self._libc.strdup(user)
                elif message.text:
                    said.append(message.text.strip())
            responses[0] = made
            return _SUCCESS

        return converse


def _account(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def answer(pam: PAM, asked: dict[str, bytes], minimum_uid: int, strangers: bool) -> dict[str, str]:
    """
    The answer to a question.

    Accounts with a low uid are not asked PAM for: nobody tries root's password here.
    """
    name = asked["user"].decode("utf-8")
    account = _account(name)
    if account is None and not strangers:
        return {"result": "unknown", "reason": "no account of this machine"}
    if account is not None and account.pw_uid < minimum_uid:
        return {"result": "unknown", "reason": f"uid {account.pw_uid} is below the minimum"}
    password = asked.get("pass", b"") if asked["op"] == b"password" else None
    verdict = pam.judge(asked["user"], password, asked.get("rhost", b""))
    told = {"result": verdict.result, "reason": verdict.reason}
    if verdict.result != "yes":
        return told
    if verdict.user != name:
        account = _account(verdict.user)
        if account is not None and account.pw_uid < minimum_uid:
            return {"result": "unknown", "reason": f"a module made it {verdict.user!r}, uid {account.pw_uid}"}
    if account is not None:
        told.update(uid=str(account.pw_uid), gid=str(account.pw_gid), home=account.pw_dir)
    elif not strangers:
        return {"result": "unknown", "reason": f"a module made it {verdict.user!r}, no account of this machine"}
    return told


def _exactly(descriptor: int, count: int) -> bytes:
    """So many octets; ends the program when there are no more."""
    octets = b""
    while len(octets) < count:
        more = os.read(descriptor, count - len(octets))
        if not more:
            raise SystemExit(0)
        octets += more
    return octets


def _question(descriptor: int) -> dict[str, bytes]:
    """The next question.  @raise ValueError: when it has not the form"""
    length = int.from_bytes(_exactly(descriptor, 4), "big")
    if length > MOST_OCTETS:
        raise ValueError("question is too long")
    fields = _exactly(descriptor, length).split(b"\0")
    if len(fields) % 2 or fields[-2:] != [b"", b""]:
        raise ValueError("question is not made of pairs")
    asked = {fields[at].decode("ascii"): fields[at + 1] for at in range(0, len(fields) - 2, 2)}
    if not asked.keys() <= _KEYS or not asked.get("user") or asked.get("op") not in (b"password", b"account"):
        raise ValueError("question has the wrong keys")
    return asked


def main(arguments: list[str], requests: int = _REQUESTS, replies: int = _REPLIES) -> None:
    """Answer until there are no more questions."""
    service, directory, minimum_uid, strangers = arguments
    pam = PAM(service, directory)
    while True:
        told = answer(pam, _question(requests), int(minimum_uid), strangers == "yes")
        pairs = (f"{key}\0{value}\0".encode() for key, value in told.items() if value)
        os.write(replies, b"".join(pairs) + b"\0")


if __name__ == "__main__":
    main(sys.argv[1:])
