"""
Accounts in an LDAP directory: search, then bind.

Purpose: looks for the entry of a login name with the driver's own rights, then asks the directory whether it is the
entry's password, with a bind in the entry's name, as tpop3d does.  Hashes never leave the directory, and its policies
hold.
Limits: nothing here waits in the reactor's turn; everything together takes C{timeout_seconds} at most.  Referrals are
not followed.  A name that is not in its normal form (Unicode NFKC, single spaces) is nobody's: a directory takes it
for the same as the normal one, and mail locations and limits would not.
Security: a name is only ever a value in the filter; an empty password is refused here, since directories say yes to
it (RFC 4513 §5.1.2).
Errors: no entry is UnknownUser; several are a refusal, with an error in the log; whatever keeps the directory from
saying is LookupUnavailable.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sansldap import LDAPFilter, SearchResultEntry, SearchScope
from twisted.internet.defer import Deferred
from twisted.internet.ssl import Certificate, CertificateOptions, optionsForClientTLS, trustRootFromCertificates
from twisted.logger import Logger

from tpops.cred.ldap_answers import Layout, group_id, judge, user_id
from tpops.cred.ldap_connection import Question, ServerFailed
from tpops.cred.ldap_directory import Directory
from tpops.cred.ldap_filter import FilterTemplate
from tpops.cred.ldap_server import Access, Address, Server, TLSContext
from tpops.cred.password_file import read_secret
from tpops.cred.private_reactor import run_until_done
from tpops.cred.schemes import MAX_PASSWORD_OCTETS
from tpops.cred.source import AskingSource, Means
from tpops.credentials import NamePassword
from tpops.errors import AccountDisabled, BadCredentials, ConfigError, LookupUnavailable, UnknownUser
from tpops.model import Account

_T = TypeVar("_T")

_SCOPES = {"subtree": SearchScope.SUBTREE, "one": SearchScope.ONE_LEVEL, "base": SearchScope.BASE}

#: Stands for a login name in C{tpops check}.
_NOBODY = "tpops-check-of-a-name-that-does-not-exist"


@attrs.frozen
class Settings:
    """The keys of the configuration."""

    urls: tuple[str, ...]
    tls: str
    tls_ca: str
    tls_verify: bool
    bind_dn: str
    bind_password: str = attrs.field(repr=False)
    bind_password_file: str
    base_dn: str
    filter: str
    scope: str
    enabled_filter: str
    mailbox: str
    mailbox_attribute: str
    mailbox_type_attribute: str
    home_attribute: str
    mail_user: str
    mail_user_attribute: str
    mail_group: str
    mail_group_attribute: str
    timeout_seconds: float
    connections: int


class LDAPAccounts(AskingSource):
    """
    Accounts of one directory.

    @param settings: see L{Settings}
    @raise ConfigError: when they cannot be used
    """

    log = Logger()

    def __init__(self, name: str, means: Means, **settings: Any) -> None:
        super().__init__(name, means)
        self._means = means
        self._settings = mine = Settings(**settings)
        self._addresses = [self._made("urls", Address.parse, url) for url in mine.urls]
        self._filter = self._made("filter", lambda text: FilterTemplate(text, means.split), mine.filter)
        if not self._filter.needs:
            raise self._wrong("filter", "has no variable for the login name, such as $(user)")
        self._enabled = (
            self._made("enabled_filter", LDAPFilter.from_string, mine.enabled_filter) if mine.enabled_filter else None
        )
        self._layout = Layout(
            mailbox=mine.mailbox,
            mailbox_attribute=mine.mailbox_attribute,
            mailbox_type_attribute=mine.mailbox_type_attribute,
            home_attribute=mine.home_attribute,
            mail_user_attribute=mine.mail_user_attribute,
            mail_group_attribute=mine.mail_group_attribute,
            uid=self._made("mail_user", user_id, mine.mail_user) if mine.mail_user else None,
            gid=self._made("mail_group", group_id, mine.mail_group) if mine.mail_group else None,
        )
        self._directory: Directory | None = None

    def start(self) -> None:
        """See L{AskingSource.start}: reads the files with passwords and certificates."""
        access = self._access()
        servers = [Server(address, access, self._means.reactor) for address in self._addresses]
        self._directory = Directory(self.name, servers, self._settings.timeout_seconds, self._means.reactor)

    def stop(self) -> Deferred[None] | None:
        """See L{AskingSource.stop}."""
        directory, self._directory = self._directory, None
        return directory.close() if directory is not None else None

    async def verify(self, credentials: NamePassword) -> Account:
        """See L{AskingSource.verify}."""
        password = credentials.password
        if not password:
            raise BadCredentials("the password is empty")
        if b"\0" in password or len(password) > MAX_PASSWORD_OCTETS:
            raise BadCredentials("the password has a NUL or is too long")
        return await self._ask(credentials.username.decode("utf-8"), password)

    async def find(self, name: str) -> Account:
        """See L{AskingSource.find}."""
        return await self._ask(name, b"")

    def check(self) -> list[str]:
        """See L{AskingSource.check}: a search on every server for a name that does not exist."""
        try:
            access = self._access()
        except ConfigError as problem:
            return list(problem.problems)
        return [found for address in self._addresses if (found := self._problem_of(address, access))]

    # A login.

    async def _ask(self, name: str, password: bytes) -> Account:
        """The account of a name, whose password it must be unless that is empty."""
        if self._directory is None:
            raise LookupUnavailable("the server is not running")
        wanted = self._filter.fill(name)
        if wanted is None or " ".join(unicodedata.normalize("NFKC", name).split()) != name:
            raise UnknownUser(f"{self.name} cannot have such a name")
        question = Question(self._settings.base_dn, _SCOPES[self._settings.scope], wanted, self._layout.attributes())

        async def ask(server: Server, until: float) -> Account:
            entry = await self._entry(server, question, until)
            if password:
                judge(await server.bind(entry.object_name, password, until))
            await self._must_be_enabled(server, entry, until)
            return await self._layout.account(name, self.name, entry, self._means.run_in_thread)

        return await self._directory.ask(ask)

    async def _entry(self, server: Server, question: Question, until: float) -> SearchResultEntry:
        found = await server.search(question, 2, until)
        if not found.entries and not found.more:
            raise UnknownUser(f"not in {self.name}")
        if found.more or len(found.entries) > 1:
            self.log.error(
                "accounts source {name}: {filter} fits several entries; nobody gets in with that name",
                event="ldap-ambiguous",
                name=self.name,
                filter=str(question.filter),
            )
            raise BadCredentials("several entries of the directory have this name")
        if not found.entries[0].object_name:
            raise LookupUnavailable("the directory gives an entry without a name")
        return found.entries[0]

    async def _must_be_enabled(self, server: Server, entry: SearchResultEntry, until: float) -> None:
        if self._enabled is not None:
            question = Question(entry.object_name, SearchScope.BASE, self._enabled)
            if not (await server.search(question, 1, until)).entries:
                raise AccountDisabled(f"does not fit enabled_filter (accounts source {self.name})")

    # Preparing.

    def _access(self) -> Access:
        """
        How to get in.

        @raise ConfigError: when a file cannot be used
        """
        mine = self._settings
        password = mine.bind_password.encode("utf-8")
        if mine.bind_password_file:
            what = f"accounts source {self.name}: bind_password_file"
            password = read_secret(mine.bind_password_file, what).encode("utf-8")
        return Access(mine.bind_dn, password, mine.tls == "starttls", self._tls_context(), mine.connections)

    def _tls_context(self) -> TLSContext:
        """Reads the certificates once for each host; that takes its time where they are the machine's."""
        mine = self._settings
        if not mine.tls_verify:
            unverified = CertificateOptions(verify=False)
            return lambda host: unverified
        if not mine.tls_ca:
            return cache(lambda host: optionsForClientTLS(host))
        pem = self._read("tls_ca", mine.tls_ca)
        try:
            found = x509.load_pem_x509_certificates(pem)
        except ValueError:
            raise self._wrong("tls_ca", f"{mine.tls_ca} has no certificate in PEM form") from None
        trust = trustRootFromCertificates([Certificate.load(one.public_bytes(Encoding.DER)) for one in found])
        return cache(lambda host: optionsForClientTLS(host, trust))

    def _read(self, key: str, path: str) -> bytes:
        try:
            with open(path, "rb") as file:
                return file.read()
        except OSError as problem:
            raise self._wrong(key, f"cannot read {path}: {problem.strerror}") from problem

    def _made(self, key: str, make: Callable[[str], _T], value: str) -> _T:
        try:
            return make(value)
        except (ValueError, LookupUnavailable) as problem:
            raise self._wrong(key, f"{value!r} {problem}") from None

    def _wrong(self, key: str, why: str) -> ConfigError:
        return ConfigError([f"accounts source {self.name}: {key}: {why}"])

    def _problem_of(self, address: Address, access: Access) -> str:
        """What is wrong with a server, "" for nothing."""
        question = Question(
            self._settings.base_dn,
            _SCOPES[self._settings.scope],
            self._filter.sample(_NOBODY),
            self._layout.attributes(),
        )

        async def search(reactor: Any) -> str:
            server = Server(address, access, reactor)
            try:
                found = await server.search(question, 1, reactor.seconds() + self._settings.timeout_seconds)
            except ServerFailed as problem:
                return str(problem)
            finally:
                await server.close()
            return f"{question.filter} should fit nobody and fits an entry" if found.entries else ""

        found = run_until_done(search)
        return f"accounts source {self.name}: {address.url}: {found}" if found else ""
