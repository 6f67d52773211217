"""
Whose mail it is: from an address to an account.

Purpose: an address is made canonical as a login name is (lower case, default domain).  A source that has addresses
of its own (L{IAddresses}) is asked for the address; for the others the address is the name.  What nobody has is tried
without its extension ("joe+list@example.org" is joe's), where the configuration has separators for those.
"No such user" makes a message come back to its sender for good, so it is said only when every source is sure.  A source
that judges passwords itself may know somebody whom it cannot find without his password; there the answer is "cannot
say", unless the configuration calls the source complete.  Likewise where a file has a line for the name that cannot be
used.
Limits: an account that may not log in gets mail all the same, where its source tells which one it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from tpops.cred.names import LoginNames
from tpops.cred.source import AskingSource, Source
from tpops.errors import AccountDisabled, BadCredentials, LookupUnavailable, UnknownUser
from tpops.interfaces import IAddresses
from tpops.model import Account


class Recipients:
    """
    See the module.

    @param sources: the accounts sources, in order
    @param separators: signs that begin an extension
    @param complete: names of sources whose "no such user" counts though they judge passwords
    """

    def __init__(
        self, sources: Sequence[Source], names: LoginNames, separators: str = "", complete: Collection[str] = ()
    ) -> None:
        self._sources = tuple(sources)
        self._names = names
        self._separators = separators
        self._complete = frozenset(complete)

    async def account(self, address: bytes | str) -> Account:
        """
        The account that mail for an address belongs to.

        @raise UnknownUser: when surely nobody has it
        @raise AccountDisabled: when its account may not log in, and the source tells no more
        @raise LookupUnavailable: when a source that was asked cannot say
        """
        octets = address if isinstance(address, bytes) else address.encode("utf-8", "surrogateescape")
        unsure: dict[str, str] = {}
        for candidate in self._candidates(octets):
            found = await self._find(candidate, unsure)
            if found is not None:
                return found
        if unsure:
            doubts = "; ".join(f"{source} {why}" for source, why in unsure.items())
            raise LookupUnavailable(f"nobody is known by this address, but {doubts}")
        raise UnknownUser("no source has this address")

    def _candidates(self, address: bytes) -> Iterator[str]:
        """The names to look for; none for what cannot be anybody's."""
        local_part, at, domain = address.rpartition(b"@") if b"@" in address else (address, b"", b"")
        bare = local_part
        for position, sign in enumerate(local_part.decode("utf-8", "replace")):
            if position and sign in self._separators:
                bare = local_part.decode("utf-8", "replace")[:position].encode("utf-8")
                break
        for one in dict.fromkeys((local_part, bare)):
            try:
                yield self._names.canonical(one + at + domain)
            except BadCredentials:
                continue

    async def _find(self, name: str, unsure: dict[str, str]) -> Account | None:
        """The first account of a canonical address; sources that cannot know all are noted."""
        for source in self._sources:
            try:
                if IAddresses.providedBy(source):
                    return await IAddresses(source).account_of_address(name)
                return await source.account(name)
            except UnknownUser:
                trusted = isinstance(source, AskingSource) and source.name in self._complete
                why = "" if trusted else source.unsure_of(name)
                if why:
                    unsure[source.name] = why
            except AccountDisabled as refused:
                if refused.account is None:
                    raise
                return refused.account
        return None
