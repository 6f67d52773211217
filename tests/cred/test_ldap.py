"""The driver "ldap" against a directory that answers as a test says; tests/integration/test_ldap.py has a real one."""

from __future__ import annotations

from pathlib import Path

from sansldap import BindRequest, FilterEquality, LDAPMessage, LDAPResultCode, SearchRequest, SearchScope
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.cred.ldap_peer import JOE, Answer, FakeDirectory, Peer, accounts, binds, disconnect, searches, usual
from tpops.cred import ldap_server
from tpops.cred.ldap import LDAPAccounts
from tpops.cred.ldap_server import Address
from tpops.credentials import NamePassword
from tpops.errors import AccountDisabled, BadCredentials, ConfigError, LoginError, LookupUnavailable, UnknownUser
from tpops.model import Account

_JOE = Account("joe", "ldap", "/home/joe")


def login(source: LDAPAccounts, name: str = "joe", password: bytes = b"secret") -> Deferred[Account]:
    """Ask the source."""
    return Deferred.fromCoroutine(source.verify(NamePassword(name.encode(), password)))


class LDAPCase(TestCase):
    """A directory and a source on it."""

    timeout = 120

    def setUp(self) -> None:
        self.directory = FakeDirectory(self)

    async def refused(self, source: LDAPAccounts, error: type[LoginError], name: str = "joe") -> str:
        """A login fails with exactly this error; gives its text."""
        problem = await self.assertFailure(login(source, name), LoginError)
        self.assertIs(type(problem), error)
        return str(problem)


class LoginTests(LDAPCase):
    """Search, then bind."""

    async def test_login(self) -> None:
        """Promise: one search as the driver, one bind as the entry, and nothing else."""
        source = accounts(self, self.directory, scope="one")
        self.assertEqual(await login(source), _JOE)
        (search,) = self.directory.questions(SearchRequest)
        self.assertEqual((search.base_object, search.scope), ("dc=example", SearchScope.ONE_LEVEL))
        self.assertEqual(search.filter, FilterEquality("uid", b"joe"))
        self.assertEqual((search.attributes, search.size_limit), (["home"], 2))
        (bind,) = self.directory.questions(BindRequest)
        self.assertEqual((bind.name, bind.authentication.password), (JOE, "secret"))

    async def test_empty_password(self) -> None:
        """RFC 4513 section 5.1.2: an empty password is never sent; neither is one that would be cut."""
        source = accounts(self, self.directory)
        for password in (b"", b"\0", b"secret\0", b"x" * 5000):
            await self.assertFailure(login(source, password=password), BadCredentials)
        self.assertEqual(self.directory.asked, [])

    async def test_entry_without_a_name(self) -> None:
        """RFC 4513 section 5.1.1: a bind without a name would be a yes to any password."""

        def answer(peer: Peer, message: LDAPMessage) -> None:
            if isinstance(message, SearchRequest):
                peer.session.search_result_entry(message.message_id, "", [])
                peer.session.search_result_done(message.message_id)
            else:
                usual(peer, message)

        self.directory.answer = answer
        await self.refused(accounts(self, self.directory), LookupUnavailable)
        self.assertEqual(self.directory.questions(BindRequest), [])

    async def test_unknown_result(self) -> None:
        """Promise: a result that nobody knows is not a yes, for users and for the driver itself."""
        self.directory.answer = binds(LDAPResultCode(4711))
        self.assertIn("unknown 0x00001267", await self.refused(accounts(self, self.directory), LookupUnavailable))
        self.directory.answer = searches(LDAPResultCode(4711))
        await self.refused(accounts(self, self.directory), LookupUnavailable)

        def answer(peer: Peer, message: LDAPMessage) -> None:
            peer.session.bind_response(message.message_id, result_code=LDAPResultCode(4711))

        self.directory.answer = answer
        self.assertIn("bind as 'cn=reader'", await self.refused(accounts(self, self.directory), LookupUnavailable))

    async def test_what_the_bind_says(self) -> None:
        """Promise: no, "not you", and "I cannot say"."""
        source = accounts(self, self.directory)
        for code, error in (
            (LDAPResultCode.INVALID_CREDENTIALS, BadCredentials),
            (LDAPResultCode.UNWILLING_TO_PERFORM, AccountDisabled),
            (LDAPResultCode.BUSY, LookupUnavailable),
            (LDAPResultCode.UNAVAILABLE, LookupUnavailable),
        ):
            self.directory.answer = binds(code)
            await self.refused(source, error)

    async def test_what_the_search_says(self) -> None:
        """Promise: no entry is nobody; referrals are not followed; too many entries are nobody's."""
        source = accounts(self, self.directory)

        def referred(peer: Peer, message: LDAPMessage) -> None:
            if isinstance(message, SearchRequest):
                peer.session.search_result_reference(message.message_id, ["ldap://elsewhere.example.org/"])
            searches(LDAPResultCode.SUCCESS)(peer, message)

        for answer, error in (
            (searches(LDAPResultCode.SUCCESS), UnknownUser),
            (referred, UnknownUser),
            (searches(LDAPResultCode.SIZE_LIMIT_EXCEEDED), BadCredentials),
            (searches(LDAPResultCode.NO_SUCH_OBJECT), LookupUnavailable),
            (searches(LDAPResultCode.REFERRAL), LookupUnavailable),
        ):
            self.directory.answer = answer
            await self.refused(source, error)
        self.assertEqual(self.directory.questions(BindRequest), [])
        self.directory.answer = usual
        self.assertEqual(await login(source), _JOE)

    async def test_names_that_nobody_has(self) -> None:
        """Promise: what a directory would take for another name is not even asked for."""
        source = accounts(self, self.directory)
        for name in ("joe ", " joe", "jo  e", "\uff4aoe", "joe\u3000x"):
            await self.refused(source, UnknownUser, name)
        self.assertEqual(self.directory.asked, [])

    async def test_without_password(self) -> None:
        """Promise: a name that was verified by other means is searched for, without a bind; enabled_filter counts."""
        source = accounts(self, self.directory, enabled_filter="(active=TRUE)")
        self.assertEqual(await source.account("joe"), _JOE)
        enabled = self.directory.questions(SearchRequest)[1]
        self.assertEqual((enabled.base_object, enabled.scope), (JOE, SearchScope.BASE))
        self.assertEqual(enabled.filter, FilterEquality("active", b"TRUE"))
        self.assertEqual(self.directory.questions(BindRequest), [])
        self.directory.answer = searches(LDAPResultCode.SUCCESS)
        await self.assertFailure(Deferred.fromCoroutine(source.account("joe")), UnknownUser)


class ConnectionsTests(LDAPCase):
    """What is kept open, and for how long."""

    async def test_two_connections_serve_many_logins(self) -> None:
        """Promise: one for searches, one for binds one after the other; searches never follow a user's bind."""
        source = accounts(self, self.directory)
        for _ in range(10):
            await login(source)
        self.assertEqual(self.directory.connections, 2)
        searching = {peer for peer, one in self.directory.asked if isinstance(one, SearchRequest)}
        binding = {peer for peer, one in self.directory.asked if isinstance(one, BindRequest) and one.name == JOE}
        self.assertEqual((len(searching), len(binding), searching & binding), (1, 1, set()))

    async def test_connections_are_bounded(self) -> None:
        """Promise: no more than C{connections} binds at a time, each on a connection of its own; the others wait."""
        waiting: list[tuple[Peer, int]] = []

        def answer(peer: Peer, message: LDAPMessage) -> None:
            if isinstance(message, BindRequest) and message.name == JOE:
                waiting.append((peer, message.message_id))
            else:
                usual(peer, message)

        self.directory.answer = answer
        source = accounts(self, self.directory, connections=3)
        logins = [login(source) for _ in range(9)]
        done = 0
        while done < len(logins):
            while len(waiting) < min(3, len(logins) - done):
                await deferLater(reactor, 0.01, lambda: None)
            self.assertEqual(len({peer for peer, _ in waiting}), len(waiting))
            peer, number = waiting.pop(0)
            peer.session.bind_response(number)
            peer.flush()
            done += 1
        self.assertEqual(await gatherResults(logins), [_JOE] * 9)
        self.assertEqual(self.directory.connections, 4)

    async def test_idle_connections_are_not_trusted(self) -> None:
        """Promise: what was idle for long is replaced before it is used: a firewall may have forgotten it."""
        source = accounts(self, self.directory)
        await login(source)
        self.patch(ldap_server, "_IDLE_SECONDS", -1.0)
        await login(source)
        self.assertEqual(self.directory.connections, 4)

    async def test_a_server_that_hangs_up(self) -> None:
        """Promise: who hangs up on a connection that was idle, or takes its leave, is asked again on a new one."""

        def hang_up(peer: Peer, message: LDAPMessage) -> None:
            peer.transport.abortConnection()

        source = accounts(self, self.directory)
        for once in (disconnect, hang_up):
            for kind in (SearchRequest, BindRequest):
                await login(source)
                self.directory.answer = self.only_once(once, kind)
                self.assertEqual(await login(source), _JOE, f"{once} {kind}")

    async def test_a_server_that_forgets_who_is_bound(self) -> None:
        """Promise: Active Directory's "a successful bind must be completed" leads to a new connection."""
        source = accounts(self, self.directory)
        await login(source)
        self.directory.answer = self.only_once(searches(LDAPResultCode.OPERATIONS_ERROR), SearchRequest)
        self.assertEqual(await login(source), _JOE)

    async def test_next_server(self) -> None:
        """Promise: a server that is busy or silent is passed over, and is asked last for a while."""
        first, second = self.directory, FakeDirectory(self)
        for answer in (binds(LDAPResultCode.BUSY), searches(LDAPResultCode.UNAVAILABLE), lambda peer, message: None):
            first.answer = answer
            source = accounts(self, first, second, timeout_seconds=2.0)
            self.assertEqual(await login(source), _JOE)
            asked = len(first.asked)
            self.assertEqual(await login(source), _JOE)
            self.assertEqual(len(first.asked), asked)
            second.answer = searches(LDAPResultCode.BUSY)
            first.answer = usual
            self.assertEqual(await login(source), _JOE)
            second.answer = usual

    async def test_silence_is_bounded(self) -> None:
        """Promise: nobody waits for longer than timeout_seconds, wherever the server falls silent."""

        def silent_bind(peer: Peer, message: LDAPMessage) -> None:
            if not isinstance(message, BindRequest) or message.name != JOE:
                usual(peer, message)

        for answer in (silent_bind, lambda peer, message: None):
            self.directory.answer = answer
            source = accounts(self, self.directory, timeout_seconds=0.3, connections=1)
            logins = [login(source) for _ in range(3)]
            for one in logins:
                await self.assertFailure(one, LookupUnavailable)
            self.directory.answer = usual
            self.assertEqual(await login(source), _JOE)

    async def test_cancelled_login(self) -> None:
        """Promise: a login that is given up leaves no answer behind for the next one."""
        source = accounts(self, self.directory, connections=1)
        for kind in (SearchRequest, BindRequest):
            arrived: Deferred[None] = Deferred()

            def hold(peer: Peer, message: LDAPMessage, arrived: Deferred[None] = arrived) -> None:
                arrived.callback(None)

            self.directory.answer = self.only_once(hold, kind)
            given_up = login(source)
            await arrived
            given_up.cancel()
            await self.assertFailure(given_up, Exception)
            self.directory.answer = usual
            self.assertEqual(await login(source), _JOE)
        await self.until_open(2)

    async def test_cancelled_connecting(self) -> None:
        """Promise: nor does a login that is given up before TLS is on."""
        arrived: Deferred[None] = Deferred()
        self.directory.answer = lambda peer, message: arrived.callback(None)
        given_up = login(accounts(self, self.directory, tls="starttls"))
        await arrived
        await self.until_open(1)
        given_up.cancel()
        await self.assertFailure(given_up, Exception)
        await self.until_open(0)

    async def test_stop(self) -> None:
        """Promise: the end closes everything, and who comes then is told to come again."""
        source = accounts(self, self.directory)
        await login(source)
        await source.stop()
        await self.until_open(0)
        await self.refused(source, LookupUnavailable)

    async def until_open(self, count: int) -> None:
        """Wait until so many connections are open."""
        while len(self.directory.peers) != count:
            await deferLater(reactor, 0.01, lambda: None)

    def only_once(self, once: Answer, kind: type[LDAPMessage]) -> Answer:
        """The first request of a kind is answered so, all others as usual."""

        def answer(peer: Peer, message: LDAPMessage) -> None:
            if isinstance(message, kind) and getattr(message, "name", "") != "cn=reader":
                self.directory.answer = usual
                once(peer, message)
            else:
                usual(peer, message)

        return answer


class SettingsTests(TestCase):
    """What the configuration may say."""

    def file(self, octets: bytes) -> str:
        """A file with these octets, for its owner alone."""
        path = Path(self.mktemp())
        path.touch(0o600)
        path.write_bytes(octets)
        return str(path)

    def test_addresses(self) -> None:
        """RFC 4516: hosts, ports and sockets; nothing else."""
        for url, host, port, path in (
            ("ldap://ldap.example.org", "ldap.example.org", 389, ""),
            ("ldaps://ldap.example.org/", "ldap.example.org", 636, ""),
            ("ldap://[2001:db8::1]:3389", "2001:db8::1", 3389, ""),
            ("ldapi://%2Frun%2Fldapi/", "", 0, "/run/ldapi"),
            ("ldapi:///run/slapd/ldapi", "", 0, "/run/slapd/ldapi"),
        ):
            made = Address.parse(url)
            self.assertEqual((made.url, made.host, made.port, made.path), (url, host, port, path))
        for url, why in (
            ("ldap://", "is not of the form"),
            ("http://ldap.example.org", "is not of the form"),
            ("ldap://h/dc=example", "more than a host and a port"),
            ("ldap://h/??sub", "more than a host and a port"),
            ("ldap://joe@h", "more than a host and a port"),
            ("ldap://h:99999", "(?i)port"),
            ("ldapi://", "path of a socket"),
            ("ldapi://relative", "path of a socket"),
        ):
            with self.assertRaisesRegex(ValueError, why):
                Address.parse(url)

    def test_what_cannot_be_used(self) -> None:
        """Promise: the server does not start, and says which key is wrong; the password is never shown."""
        directory = FakeDirectory(self)
        empty = self.file(b"")
        for keys, why in (
            ({"urls": ("ldap://",)}, "accounts source ldap: urls: 'ldap://' is not of the form"),
            ({"filter": "(uid=joe)"}, "filter: has no variable"),
            ({"filter": "(uid=$(user)"}, r"filter: '\(uid=\$\(user\)' is no filter"),
            ({"enabled_filter": "(x"}, r"enabled_filter: '\(x' "),
            ({"mail_user": "no such user"}, "mail_user: .*neither a number nor known"),
            ({"mail_group": "no such group"}, "mail_group: .*neither a number nor known"),
            ({"tls_ca": "/nowhere"}, "tls_ca: cannot read /nowhere: No such file"),
            ({"tls_ca": empty}, "tls_ca: .* has no certificate in PEM form"),
            ({"bind_password_file": "/nowhere"}, "bind_password_file: cannot read /nowhere"),
            ({"bind_password_file": empty}, "bind_password_file: the first line of .* is empty"),
        ):
            with self.assertRaisesRegex(ConfigError, why) as raised:
                accounts(self, directory, **keys)
            self.assertNotIn("secret", str(raised.exception))

    async def test_password_file(self) -> None:
        """Promise: the first line of the file, without its end."""
        directory = FakeDirectory(self)
        path = self.file(b"secret of the file\r\nmore\n")
        await login(accounts(self, directory, bind_password="", bind_password_file=path))
        first = directory.asked[0][1]
        self.assertIsInstance(first, BindRequest)
        self.assertEqual((first.name, first.authentication.password), ("cn=reader", "secret of the file"))
