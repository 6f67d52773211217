"""
What a directory's answers mean for a login.

Purpose: from the answer to a user's bind to yes, no or "not now"; from an entry to an account.
Known deviations: a lock that the directory tells without having looked at the password (ppolicy's accountLocked, Active
Directory's 775, too many tries) is a refusal like that of a wrong password, with the reason in the log only: a few
guesses lock an account, and then a text of its own would tell who guesses that the name exists.
Errors: L{LoginError}; L{ServerFailed} where the answer says nothing about the user.
"""

from __future__ import annotations

import grp
import pwd
import re
from collections.abc import Callable, Iterable, Mapping

import attrs
from sansldap import BindResponse, LDAPControl, LDAPResultCode, SearchResultEntry
from sansldap.asn1 import ASN1Reader, NotEnougData, TagClass

from tpops.cred.hashes import RunInThread
from tpops.cred.ldap_connection import PASSWORD_POLICY, ServerFailed, result_code, result_text
from tpops.errors import AccountDisabled, BadCredentials, LookupUnavailable
from tpops.model import Account

#: Errors of the password policy's control, draft-behera-ldap-password-policy §6.2.
_EXPIRED, _LOCKED, _CHANGE_FIRST = 0, 1, 2

_MUST_CHANGE = "the password must be changed first"

#: What Active Directory tells of a right password that may not be used, by the code in its text.
_ACTIVE_DIRECTORY = {
    "530": "no login at this time of the day",
    "531": "no login from this machine",
    "532": "the password has expired",
    "533": "the account is disabled in the directory",
    "701": "the account has expired",
    "773": _MUST_CHANGE,
}
_ACTIVE_DIRECTORY_LOCKED = "775"
_ACTIVE_DIRECTORY_CODE = re.compile(r"AcceptSecurityContext error, data ([0-9a-fA-F]+),")

#: Types of mailboxes by the names that directories have for them.
_TYPES = {"bsd": "mbox"}


def judge(answer: BindResponse) -> None:
    """
    Whether a user's bind was a yes.

    @raise BadCredentials: when the password is wrong, or was not looked at
    @raise AccountDisabled: when it is right and he may not log in
    @raise ServerFailed: when the directory cannot say
    """
    code = result_code(answer)
    policy = _policy_error(answer.controls)
    if code == LDAPResultCode.SUCCESS:
        if policy == _CHANGE_FIRST:
            raise AccountDisabled(_MUST_CHANGE)
    elif code == LDAPResultCode.INVALID_CREDENTIALS:
        if policy == _EXPIRED:
            raise AccountDisabled("the password has expired")
        if policy == _LOCKED:
            raise BadCredentials("the account is locked by the directory's password policy")
        raise _active_directory(answer.result.diagnostics_message)
    elif code == LDAPResultCode.UNWILLING_TO_PERFORM:
        raise AccountDisabled(f"the directory does not let him in: {result_text(answer)}")
    elif code in (
        LDAPResultCode.CONSTRAINT_VIOLATION,
        LDAPResultCode.INAPPROPRIATE_AUTHENTICATION,
        LDAPResultCode.NO_SUCH_OBJECT,
    ):
        raise BadCredentials(f"the directory does not let him in: {result_text(answer)}")
    else:
        raise ServerFailed(f"bind as a user: {result_text(answer)}")


def _active_directory(text: str) -> BadCredentials | AccountDisabled:
    """What invalidCredentials stands for."""
    found = _ACTIVE_DIRECTORY_CODE.search(text)
    why = found[1].lower() if found else ""
    if why in _ACTIVE_DIRECTORY:
        return AccountDisabled(_ACTIVE_DIRECTORY[why])
    if why == _ACTIVE_DIRECTORY_LOCKED:
        return BadCredentials("the account is locked in the directory")
    return BadCredentials("wrong password")


def _policy_error(controls: Iterable[LDAPControl]) -> int | None:
    """The error in the control of the password policy, None where there is none."""
    for control in controls:
        if control.control_type == PASSWORD_POLICY and control.value:
            try:
                parts = ASN1Reader(control.value).read_sequence()
                while parts:
                    header = parts.peek_header()
                    if header.tag.tag_class == TagClass.CONTEXT_SPECIFIC and header.tag.tag_number == 1:
                        return parts.read_integer(tag=header.tag, header=header)
                    parts.skip_value(header)
            except (ValueError, NotEnougData):
                raise ServerFailed("the directory's password policy control cannot be read") from None
    return None


@attrs.frozen
class Layout:
    """
    Which attribute of an entry is what, "" for none, and what holds where the entry has none.

    @ivar uid: of all whose entry says nothing else, or None
    """

    mailbox: str = ""
    mailbox_attribute: str = ""
    mailbox_type_attribute: str = ""
    home_attribute: str = ""
    mail_user_attribute: str = ""
    mail_group_attribute: str = ""
    uid: int | None = None
    gid: int | None = None

    def attributes(self) -> tuple[str, ...]:
        """What must be asked for."""
        named = (
            self.mailbox_attribute,
            self.mailbox_type_attribute,
            self.home_attribute,
            self.mail_user_attribute,
            self.mail_group_attribute,
        )
        return tuple(sorted({one for one in named if one}))

    async def account(self, name: str, driver: str, entry: SearchResultEntry, run_in_thread: RunInThread) -> Account:
        """
        The account of an entry.

        @param run_in_thread: for names of users and groups, which may take their time
        @raise LookupUnavailable: when the entry has something that cannot be used
        """
        values = _values(entry)
        user, group = self._value(values, self.mail_user_attribute), self._value(values, self.mail_group_attribute)
        return Account(
            name=name,
            driver=driver,
            home=self._value(values, self.home_attribute) or None,
            maildrop=self._maildrop(values) or None,
            uid=await run_in_thread(user_id, user) if user else self.uid,
            gid=await run_in_thread(group_id, group) if group else self.gid,
        )

    def _maildrop(self, values: Mapping[str, list[bytes]]) -> str:
        """Where the mail lies; a path that ends in "/" is a Maildir, as in tpop3d."""
        path = self._value(values, self.mailbox_attribute)
        kind = self._value(values, self.mailbox_type_attribute).lower()
        if not path:
            return self.mailbox
        if kind:
            return f"{_TYPES.get(kind, kind)}:{path}"
        if not path.startswith(("/", "~")):
            return path
        return f"maildir:{path}" if path.endswith("/") else f"mbox:{path}"

    def _value(self, values: Mapping[str, list[bytes]], attribute: str) -> str:
        """The one value of an attribute, "" where there is none."""
        found = values.get(attribute.lower(), []) if attribute else []
        if len(found) > 1:
            raise LookupUnavailable(f"the entry has {len(found)} values of {attribute}")
        try:
            text = found[0].decode("utf-8") if found else ""
        except UnicodeDecodeError:
            raise LookupUnavailable(f"the entry's {attribute} is not UTF-8") from None
        if not text.isprintable():
            raise LookupUnavailable(f"the entry's {attribute} has control characters")
        return text


def _values(entry: SearchResultEntry) -> dict[str, list[bytes]]:
    """Values by the name of their attribute in lower case; attributes with options (RFC 4512 §2.5) are others."""
    return {attribute.name.lower(): attribute.values for attribute in entry.attributes}


def user_id(text: str) -> int:
    """The uid of a user given by name or number.  @raise LookupUnavailable: when there is none"""
    return _number(text, "user", lambda name: pwd.getpwnam(name).pw_uid)


def group_id(text: str) -> int:
    """The gid of a group given by name or number.  @raise LookupUnavailable: when there is none"""
    return _number(text, "group", lambda name: grp.getgrnam(name).gr_gid)


def _number(text: str, what: str, by_name: Callable[[str], int]) -> int:
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        return by_name(text)
    except KeyError:
        raise LookupUnavailable(f"{what} {text!r} is neither a number nor known on this machine") from None
