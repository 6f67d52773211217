"""
Master users: accounts that may log in as others.

Purpose: with his own password a master opens somebody else's mail, for a migration, a back-up or a search for a fault.
His name and password are verified like anybody's; then the other's account is looked up without a password.
Limits: whoever is no master, or not of whom he asks for, is refused as with a wrong password, after his own was
verified, so that nobody learns who is a master.  A folder goes with the name of the other, whose mail it is.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.internet.defer import Deferred
from zope.interface import implementer

from tpops.coroutines import run
from tpops.cred.names import LoginNames, avatar_of, read_avatar_id
from tpops.credentials import Acting, IActing, NamePassword, Proven
from tpops.errors import BadCredentials, ConfigError
from tpops.model import Peer

#: Asks the accounts sources: credentials to avatar id.
Ask = Callable[[Any], bytes | Awaitable[bytes]]


@implementer(ICredentialsChecker)
class Masters:
    """
    See the module.

    @param ask: verifies names and passwords, and finds the accounts of names
    @param login_names: makes names canonical
    @param names: the masters
    @param targets: patterns of the names as whom they may log in
    @param networks: from where they may, in CIDR notation; empty for anywhere
    @param disabled_targets: they may open the mail of disabled accounts as well
    @raise ConfigError: when a name cannot be anybody's
    """

    credentialInterfaces = (IActing,)

    def __init__(
        self,
        ask: Ask,
        login_names: LoginNames,
        names: Sequence[str],
        targets: Sequence[str] = ("*",),
        networks: Sequence[str] = (),
        disabled_targets: bool = False,
    ) -> None:
        self._ask = ask
        self._login_names = login_names
        try:
            self._masters = frozenset(login_names.canonical(name.encode()) for name in names)
        except BadCredentials as problem:
            raise ConfigError([f"masters.names has a name that nobody can have: {problem}"]) from None
        self._targets = [re.compile(fnmatch.translate(pattern)) for pattern in targets]
        self._disabled_targets = disabled_targets
        self._networks = [ipaddress.ip_network(one) for one in networks]

    def requestAvatarId(self, credentials: Acting) -> Deferred[bytes]:  # type: ignore[override]  # never anonymous
        """
        Verify the master, and find the account as which he wants to log in.

        @raise BadCredentials: when the master's password is wrong, or he is no master, or there is no such account
        @raise AccountDisabled: when the password is right, and one of both may not log in
        @raise LookupUnavailable: when that cannot be said
        """
        return run(self._verified(credentials))

    async def _verified(self, credentials: Acting) -> bytes:
        proof = NamePassword(credentials.username, credentials.password, credentials.peer)
        try:
            proven = await _settled(self._ask(proof))
        except BadCredentials as failed:
            raise BadCredentials(f"as a master user: {failed}") from None
        source, master, folder = read_avatar_id(proven)
        target, wanted = self._login_names.parted(credentials.target)
        if folder and (target, wanted) != (master, folder):
            raise BadCredentials(f"{master} names the folder {folder!r} with his own name, and {target} is wanted")
        if target == master:
            return avatar_of(source, master, wanted)
        if master not in self._masters:
            raise BadCredentials(f"{master} is no master user")
        if not any(pattern.fullmatch(target) for pattern in self._targets):
            raise BadCredentials(f"master user {master} may not log in as {target}")
        if not self._is_near(credentials.peer):
            raise BadCredentials(f"master user {master} may not come from this address")
        try:
            found = Proven(credentials.target, credentials.peer, disabled=self._disabled_targets)
            return await _settled(self._ask(found))
        except BadCredentials:
            raise BadCredentials(f"master user {master} asks for {target}, who has no account") from None

    def _is_near(self, peer: Peer | None) -> bool:
        if not self._networks or peer is None:
            return not self._networks
        try:
            address = ipaddress.ip_address(peer.host.partition("%")[0])
        except ValueError:
            return True
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            return any(address.ipv4_mapped in network for network in self._networks)
        return any(address in network for network in self._networks)


async def _settled(answer: bytes | Awaitable[bytes]) -> bytes:
    return answer if isinstance(answer, bytes) else await answer
