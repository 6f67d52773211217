"""
The errors of tpops, one tree.

    TpopsError
    |- CommandError             the client sent something that cannot be done
    |  |- BadCommand            unknown verb, wrong arguments
    |  |- WrongState            not now (RFC 1939 section 3)
    |  |- NoSuchMessage         no message with that number
    |  |- MessageDeleted        the message is marked as deleted
    |  |- AuthenticationFailed [AUTH]  the end of an exchange whose failure was counted before
    |  `- NeedsUTF8 [UTF8]      RFC 6856 section 6
    |- LoginError
    |  |- BadCredentials [AUTH]     unknown user and wrong password alike
    |  |  `- UnknownUser            between drivers only: the next one is asked
    |  |- LookupUnavailable [SYS/TEMP]
    |  `- LoginRefused
    |     |- MaildropBusy [IN-USE]
    |     |- TooSoon [LOGIN-DELAY]
    |     `- AccountDisabled [AUTH]
    |- StorageError
    |  |- StorageUnavailable [SYS/TEMP]
    |  |- MaildropBroken [SYS/PERM]
    |  |- NoSuchFolder [SYS/PERM]
    |  |- MessageVanished
    |  |- RemoveFailed [SYS/TEMP]
    |  `- QuotaExceeded [SYS/PERM]
    |- LimitReached [SYS/TEMP]
    `- ConfigError              a configuration that cannot be used

Each class carries C{code} (the response code of RFC 2449 section 8 and RFC 3206, without brackets, or
None), C{temporary} (a later try may succeed) and C{public} (the text that the client gets).  The
exception's own text is for the log and never reaches a client.
"""

from __future__ import annotations

from collections.abc import Collection

from twisted.cred.error import UnauthorizedLogin

from tpops.model import Account


class TpopsError(Exception):
    """Base of all errors of tpops."""

    code: str | None = None
    temporary: bool = False
    public: str = "internal error"


class CommandError(TpopsError):
    """The client's command cannot be carried out."""

    public = "command refused"


class BadCommand(CommandError):
    """The command is unknown or its arguments are wrong; the text says which and is fit for the client."""

    public = "bad command"

    def __init__(self, public: str = "bad command") -> None:
        super().__init__(public)
        self.public = public


class WrongState(CommandError):
    """The command is not allowed in this state (RFC 1939 section 3)."""

    public = "command not allowed now"


class NoSuchMessage(CommandError):
    """There is no message with that number."""

    public = "no such message"


class MessageDeleted(CommandError):
    """The message is marked as deleted in this session."""

    public = "message is marked as deleted"


class AuthenticationFailed(CommandError):
    """The client has answered the news that its proof is wrong; the failure itself was told and counted before."""

    code = "AUTH"
    public = "authentication failed"


class NeedsUTF8(CommandError):
    """The message has UTF-8 header fields and the client has not said UTF8 (RFC 6856 section 6)."""

    code = "UTF8"
    public = "this message needs UTF8 mode"


class LoginError(TpopsError, UnauthorizedLogin):
    """Somebody could not log in."""

    public = "login failed"


class BadCredentials(LoginError):
    """Name or password is wrong; which of them is never told."""

    code = "AUTH"
    public = "authentication failed"


class UnknownUser(BadCredentials):
    """This source does not know the name.  Seen by the ordered checker only."""


class LookupUnavailable(LoginError):
    """The accounts source cannot say: never a wrong password."""

    code = "SYS/TEMP"
    temporary = True
    public = "authentication is temporarily unavailable, try again later"


class LoginRefused(LoginError):
    """Name and password are right, and still no."""


class MaildropBusy(LoginRefused):
    """
    Another session holds the maildrop (RFC 2449 section 8.1.2).

    @ivar lock: path of the file that is locked, b"" where it is no file
    """

    code = "IN-USE"
    temporary = True
    public = "maildrop is in use by another session"

    def __init__(self, why: str = "", lock: bytes = b"") -> None:
        super().__init__(why)
        self.lock = lock


class TooSoon(LoginRefused):
    """The last login was too short a time ago (RFC 2449 section 8.1.1)."""

    code = "LOGIN-DELAY"
    temporary = True
    public = "minimum time between logins has not passed"


class AccountDisabled(LoginRefused):
    """
    The account is locked or expired.

    @ivar account: the account, for those who may open its mail all the same; None where the source does not tell
    """

    code = "AUTH"
    public = "account is disabled"

    def __init__(self, why: str = "", account: Account | None = None) -> None:
        super().__init__(why)
        self.account = account


class StorageError(TpopsError):
    """Something is wrong with stored mail."""

    public = "mail storage failed"


class StorageUnavailable(StorageError):
    """The storage cannot be reached now."""

    code = "SYS/TEMP"
    temporary = True
    public = "mail storage is temporarily unavailable, try again later"


class MaildropBroken(StorageError):
    """The maildrop needs an administrator."""

    code = "SYS/PERM"
    public = "maildrop cannot be opened, contact the administrator"


class NoSuchFolder(StorageError):
    """
    The user has no folder of the name that he named, or his mail has no folders.

    Not [AUTH]: clients take that for a wrong password, and ask for another one (RFC 3206 section 3).
    """

    code = "SYS/PERM"
    public = "there is no such folder"


class MessageVanished(StorageError):
    """Another program removed the message during the session."""

    public = "message is no longer there"


class RemoveFailed(StorageError):
    """
    Some marked messages are still stored after UPDATE.

    @ivar kept: numbers of the messages that stayed
    """

    code = "SYS/TEMP"
    temporary = True
    public = "some deleted messages not removed"

    def __init__(self, kept: Collection[int], why: str = "") -> None:
        super().__init__(why or f"{len(kept)} messages not removed")
        self.kept = kept


class QuotaExceeded(StorageError):
    """The message does not fit into the quota."""

    code = "SYS/PERM"
    public = "quota exceeded"


class LimitReached(TpopsError):
    """
    A limit of the server refuses this client.

    @ivar limit: name of the configuration key that refused
    """

    code = "SYS/TEMP"
    temporary = True
    public = "too many connections, try again later"

    def __init__(self, limit: str, why: str, public: str = "") -> None:
        """
        @param public: what the client is told, where that is another text
        """
        super().__init__(why)
        self.limit = limit
        if public:
            self.public = public


class ConfigError(TpopsError):
    """
    The configuration cannot be used.

    @ivar problems: one line each, for the operator
    """

    public = "configuration error"

    def __init__(self, problems: Collection[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)
