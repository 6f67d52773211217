"""
A program that says who may log in, in tpop3d's format (auth-other).

Purpose: sites with rules of their own write a program in any language, as for tpop3d: it stays, reads requests from
standard input and writes replies to standard output, key NUL value NUL ... and an empty key at the end.

    request    method (PASS or APOP), user, local_part, domain, pass or timestamp and digest, clienthost, serverhost
    reply      result (YES or NO); with YES: uid, gid, mailbox, mboxtype, domain; always: logmsg

Limits: one request at a time, in the order of the logins.  Requests and replies have at most 4096 octets.  Keys without
a value are not sent.  CRAM-MD5 is not possible: the format has no place for its challenge.
Known deviations: uid and gid need not be there; a name without a domain gets the one of the reply; there is time for
a reply (tpop3d: 0.75 s), since nobody else waits for it.
Errors: no reply in time, one that is not of the form, and the program's end are LookupUnavailable, and the program is
started again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import attrs
from twisted.cred.credentials import IUsernameHashedPassword, IUsernamePassword
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from tpops.coroutines import run
from tpops.cred import identities, names
from tpops.cred.keeper import Settings
from tpops.cred.pairs import Unpacking, packed
from tpops.cred.programs import Programs, printable, program_problem
from tpops.cred.source import AskingSource, Means
from tpops.cred.workers import Answer, Workers
from tpops.credentials import APOPCredentials, NamePassword
from tpops.errors import BadCredentials, ConfigError, LookupUnavailable, UnknownUser
from tpops.model import Account, Peer
from tpops.pipes import PATH

_log = Logger()

#: tpop3d's mailbox drivers and our locations.
_MAILBOX_TYPES = {"": "maildir", "maildir": "maildir", "bsd": "mbox", "mbox": "mbox"}

#: Accounts of the machine with a lower uid are not found without a password.
_MINIMUM_UID = 1000


class ExternalAccounts(AskingSource):
    """
    See the module.

    @param command: the program's path and its arguments
    @param user: whom it runs as, name or number, "" for whoever starts the server
    @param group: its group, "" for his primary group
    @param apop: whether it can verify APOP
    @param timeout_seconds: how long a reply may take
    """

    needs_rights = True

    credentialInterfaces = (IUsernamePassword, IUsernameHashedPassword)

    def __init__(
        self,
        name: str,
        means: Means,
        command: tuple[str, ...],
        user: str = "",
        group: str = "",
        apop: bool = False,
        timeout_seconds: float = 5.0,
    ) -> None:
        super().__init__(name, means)
        self._means = means
        self._command = command
        self._apop = apop
        try:
            identity = identities.find(user, group)
        except ValueError as error:
            raise ConfigError([f"accounts source {name}: {error}"]) from None
        self._identity = identity
        environment = {"PATH": PATH, "TPOP3D_CONTEXT": "auth_other"}
        settings = Settings(list(command), [0, 1, 2], environment, [], identity.uid, identity.gid, identity.groups)
        self._workers = Workers(Programs(name, settings, means.reactor), Unpacking, 1, timeout_seconds)

    def requestAvatarId(self, credentials: IUsernamePassword | IUsernameHashedPassword) -> bytes | Deferred[bytes]:
        """See L{Source.requestAvatarId}; digests of APOP as well, where the program can verify them."""
        if self._apop and isinstance(credentials, APOPCredentials):
            return run(self._verified_digest(credentials))
        return super().requestAvatarId(credentials)

    def mechanisms(self) -> Iterable[frozenset[str]]:
        """See L{Source.mechanisms}."""
        return (frozenset(("APOP",) if self._apop else ()),)

    async def verify(self, credentials: NamePassword) -> Account:
        """See L{AskingSource.verify}."""
        if not credentials.password:
            raise BadCredentials("password is empty")
        proof = {"pass": credentials.password}
        return await self._asked("PASS", credentials.username.decode("utf-8"), proof, credentials.peer)

    async def find(self, name: str) -> Account:
        """See L{AskingSource.find}: of the accounts of this machine, since the program judges proofs only."""
        return await self._means.run_in_thread(self._in_passwd, name)

    def start(self) -> None:
        """See L{Source.start}."""
        problems = self.check()
        if problems:
            raise ConfigError(problems)
        try:
            self._workers.start()
        except (LookupUnavailable, OSError) as error:
            raise ConfigError([f"accounts source {self.name}: {error}"]) from None

    def stop(self) -> Deferred[None]:
        """See L{Source.stop}."""
        return Deferred.fromCoroutine(self._workers.stop())

    def check(self) -> list[str]:
        """See L{Source.check}."""
        forgotten = ""
        if self._identity.uid is None and os.geteuid() == 0:
            forgotten = 'user: say whom the program runs as, since root starts the server ("root" where it has to be)'
        problems = (program_problem(self._command[0]), self._identity.problem(), forgotten)
        return [f"accounts source {self.name}: {problem}" for problem in problems if problem]

    async def _verified_digest(self, credentials: APOPCredentials) -> bytes:
        name = credentials.username.decode("utf-8")
        proof = {"timestamp": credentials.stamp, "digest": credentials.digest}
        account = await self._asked("APOP", name, proof, credentials.peer)
        self._remembered.keep(account.name, account)
        return f"{self.name}:{account.name}".encode()

    def _in_passwd(self, name: str) -> Account:
        """The account of this machine.  Blocks: the name service is asked."""
        try:
            found = identities.named(name)
        except ValueError as error:
            raise UnknownUser(str(error)) from None
        if found.uid < _MINIMUM_UID:
            raise UnknownUser(f"uid {found.uid} is below {_MINIMUM_UID}")
        return Account(name, self.name, home=found.home, uid=found.uid, gid=found.gid)

    async def _asked(self, method: str, name: str, proof: dict[str, bytes], peer: Peer | None) -> Account:
        local_part, domain = self._means.split(name)
        pairs = {
            "method": method.encode(),
            "user": name.encode(),
            "local_part": local_part.encode() if domain else b"",
            "domain": domain.encode(),
            **proof,
            "clienthost": peer.host.encode() if peer else b"",
            "serverhost": (peer.local_host if peer and peer.local_host else self._means.hostname).encode(),
        }
        try:
            request = packed(pairs)
        except ValueError as error:
            raise BadCredentials(str(error)) from None
        secrets = tuple(proof.values())
        reply = await self._workers.ask(request, secrets)
        if "logmsg" in reply:
            text = printable(reply["logmsg"], secrets)
            _log.info("{source}: {text}", event="program", source=self.name, text=text)
        result = reply.get("result")
        if result == b"NO":
            raise BadCredentials("the program says no")
        if result != b"YES":
            raise LookupUnavailable(f"{self.name}: the reply has neither YES nor NO as its result")
        added = self._text(reply, "domain") if not domain else ""
        if added and not names.harmless(added):
            raise LookupUnavailable(f"{self.name}: the domain {added!r} in the reply would be dangerous in a path")
        account = Account(f"{name}@{added}" if added else name, self.name, maildrop=self._maildrop(reply))
        return await self._means.run_in_thread(self._owned, account, reply)

    def _maildrop(self, reply: Answer) -> str | None:
        kind, path = self._text(reply, "mboxtype"), self._text(reply, "mailbox")
        if kind not in _MAILBOX_TYPES:
            raise LookupUnavailable(f"{self.name}: mailboxes of the type {kind!r} are not known")
        if not path:
            return None
        if not path.startswith("/"):
            raise LookupUnavailable(f"{self.name}: the mailbox {path!r} is no absolute path")
        return f"{_MAILBOX_TYPES[kind]}:{path}"

    def _owned(self, account: Account, reply: Answer) -> Account:
        """With uid, gid and home.  Blocks: the name service is asked."""
        uid, gid = self._text(reply, "uid"), self._text(reply, "gid")
        try:
            if uid:
                owner = identities.user(uid)
                account = attrs.evolve(account, uid=owner.uid, gid=owner.gid, home=owner.home)
            if gid:
                account = attrs.evolve(account, gid=identities.group(gid))
        except ValueError as error:
            raise LookupUnavailable(f"{self.name}: the reply cannot be used: {error}") from None
        return account

    def _text(self, reply: Answer, key: str) -> str:
        text = reply.get(key, b"").decode("utf-8", "replace")
        if not text.isprintable() or "\N{REPLACEMENT CHARACTER}" in text:
            raise LookupUnavailable(f"{self.name}: the value of {key} in the reply is not printable text")
        return text
