"""
PAM: the machine's own rules say who may log in.

Purpose: name and password go through a service of PAM, authentication and account phase, as tpop3d's auth-pam has it.
Modules run in a few processes of their own (L{tpops.cred.pam_worker}), which a keeper starts with the rights that the
server was started with; so a module that takes its time, hangs or crashes costs its own client a time limit and nobody
else anything.  The client's address is PAM_RHOST.
Limits: modules that ask for more than a password get the password again.  No session is opened and no credentials are
set.  Home, uid and gid come from the machine's accounts (by the name service).
Errors: what the account phase refuses is AccountDisabled; what PAM cannot say, and what takes too long, is
LookupUnavailable.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import sys
from collections.abc import Sequence
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from tpops.cred.keeper import Settings
from tpops.cred.names import of_machine
from tpops.cred.pairs import Unpacking, packed
from tpops.cred.pam_worker import LIBRARY
from tpops.cred.pam_worker import MOST_OCTETS as MOST_QUESTION_OCTETS
from tpops.cred.programs import Programs, printable
from tpops.cred.source import AskingSource, Means
from tpops.cred.workers import Answer, Workers
from tpops.credentials import NamePassword
from tpops.errors import AccountDisabled, BadCredentials, ConfigError, LookupUnavailable, UnknownUser
from tpops.model import Account, Peer
from tpops.pipes import PATH

_log = Logger()

_WORKER = str(Path(__file__).with_name("pam_worker.py"))

#: Where Linux-PAM looks for service files.
_DIRECTORIES = ("/etc/pam.d", "/usr/lib/pam.d", "/usr/share/pam.d")

#: After so many answers a process is replaced, for modules that leak.
_ANSWERS = 1000


class PAMAccounts(AskingSource):
    """
    See the module.

    @param service: the name of the service file
    @param directory: where it is, "" for the machine's
    @param domains: those of the machine; a name with another one is nobody's here, except with C{mail_user}
    @param minimum_uid: accounts with a lower uid do not exist here
    @param mail_user: whose uid and gid a name without an account of the machine has, "" where there is no such name
    @param processes: checks at the same time
    @param timeout_seconds: how long a check may take
    """

    needs_rights = True

    def __init__(
        self,
        name: str,
        means: Means,
        service: str = "tpops",
        directory: str = "",
        domains: Sequence[str] = (),
        minimum_uid: int = 1000,
        mail_user: str = "",
        processes: int = 4,
        timeout_seconds: float = 30.0,
    ) -> None:
        super().__init__(name, means)
        self._service = service
        self._directory = directory
        self._domains = frozenset(domains)
        self._split = means.split
        self._mail_user: pwd.struct_passwd | None = None
        if mail_user:
            try:
                self._mail_user = pwd.getpwnam(mail_user)
            except KeyError:
                problem = f"accounts source {name}: mail_user: there is no user {mail_user!r} on this machine"
                raise ConfigError([problem]) from None
        strangers = "yes" if mail_user else "no"
        arguments = [service, directory, str(minimum_uid), strangers]
        environment = {"PATH": PATH, "LC_ALL": "C.UTF-8"}
        settings = Settings([sys.executable, "-I", "-S", _WORKER, *arguments], [3, 4, 2], environment, [])
        programs = Programs(name, settings, means.reactor)
        self._workers = Workers(programs, Unpacking, processes, timeout_seconds, _ANSWERS)

    async def verify(self, credentials: NamePassword) -> Account:
        """See L{AskingSource.verify}."""
        if not credentials.password or b"\0" in credentials.password:
            raise BadCredentials("password is empty or has a NUL")
        name = credentials.username.decode("utf-8")
        return await self._asked(name, {"op": b"password", "pass": credentials.password}, credentials.peer)

    async def find(self, name: str) -> Account:
        """See L{AskingSource.find}: the account phase without a password."""
        return await self._asked(name, {"op": b"account"}, None)

    def start(self) -> None:
        """See L{Source.start}."""
        try:
            problem = self._library_problem()
            if problem:
                raise ConfigError([problem])
            self._workers.start()
        except (LookupUnavailable, OSError) as error:
            raise ConfigError([f"accounts source {self.name}: {error}"]) from None
        if os.geteuid() != 0:
            text = "{source}: not started by root: modules such as pam_unix know the password of one user only then"
            _log.warn(text, event="not-root", source=self.name)

    def stop(self) -> Deferred[None]:
        """See L{Source.stop}."""
        return Deferred.fromCoroutine(self._workers.stop())

    def check(self) -> list[str]:
        """See L{Source.check}."""
        problem = self._library_problem()
        if problem:
            return [problem]
        places = [os.path.join(one, self._service) for one in ((self._directory,) if self._directory else _DIRECTORIES)]
        if any(map(os.path.isfile, places)):
            return []
        text = f"there is no PAM service {self._service}: write {places[0]}, else PAM's service 'other' decides"
        return [f"accounts source {self.name}: {text}"]

    def _library_problem(self) -> str:
        """What this machine's PAM cannot do, "" for nothing.  @raise LookupUnavailable: when it has none"""
        try:
            library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise LookupUnavailable(f"cannot use PAM: {error}") from None
        if self._directory and not hasattr(library, "pam_start_confdir"):
            return f"accounts source {self.name}: directory needs Linux-PAM 1.4 or later"
        return ""

    def _name(self, name: str) -> str:
        """The name as PAM knows it."""
        try:
            return of_machine(name, self._domains, self._split)
        except UnknownUser:
            if self._mail_user is None:
                raise
            return name

    async def _asked(self, login: str, question: dict[str, bytes], peer: Peer | None) -> Account:
        name = self._name(login)
        question["user"] = name.encode()
        if peer is not None and peer.port:
            question["rhost"] = peer.host.encode()
        try:
            packet = packed(question, MOST_QUESTION_OCTETS)
        except ValueError as error:
            raise BadCredentials(str(error)) from None
        secrets = (question.get("pass", b""),)
        answer = await self._workers.ask(len(packet).to_bytes(4, "big") + packet, secrets)
        return self._account(name, answer, printable(answer.get("reason", b""), secrets))

    def _account(self, name: str, answer: Answer, reason: str) -> Account:
        result = answer.get("result", b"").decode("ascii", "replace")
        if result == "unknown":
            raise UnknownUser(reason)
        if result == "wrong":
            raise BadCredentials(f"PAM: {reason}")
        if result == "disabled":
            raise AccountDisabled(f"PAM: {reason} (accounts source {self.name})")
        if result != "yes":
            raise LookupUnavailable(f"{self.name}: PAM: {reason or 'no result'}")
        if "uid" in answer:
            home = answer.get("home", b"").decode("utf-8", "replace")
            return Account(name, self.name, home=home or None, uid=int(answer["uid"]), gid=int(answer["gid"]))
        if self._mail_user is None:
            raise UnknownUser("no account of this machine")
        return Account(name, self.name, uid=self._mail_user.pw_uid, gid=self._mail_user.pw_gid)
