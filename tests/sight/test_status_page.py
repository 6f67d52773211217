"""The status page and its site without sockets: time, failures, clients that go."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from tpops.sight.control import Answer, Refused
from tpops.sight.gate import Gate
from tpops.sight.site import IDLE_SECONDS, LONGEST_SECONDS, MOST_CONNECTIONS, BoundedSite
from tpops.sight.status import MOST_SHOWN, WRONG_SECONDS, StatusPage

TOKEN = "0123456789abcdef0123"

CLIENT = IPv4Address("TCP", "192.0.2.1", 40000)


def session(number: int, **facts: object) -> Answer:
    """One of many, as a process tells of it."""
    told: Answer = {
        "session": f"s{number}",
        "user": "joe",
        "named": "joe",
        "peer": "192.0.2.9",
        "port": 1,
        "state": "login",
        "seconds": 1.0,
        "idle": float(number),
        "tls": "",
        "doing": "",
        "messages": 0,
        "retr": 0,
        "octets": 0,
        "process": 1,
        "worker": 0,
    }
    return {**told, **facts}


class Transport(StringTransport):
    """Can be aborted."""

    def abortConnection(self) -> None:
        """See ITCPTransport."""
        self.aborting = True
        self.loseConnection()


class StatusPageTests(SynchronousTestCase):
    """See the module."""

    def setUp(self) -> None:
        """A page."""
        self.clock = Clock()
        self.asked: list[Any] = []
        self.answered: Deferred[Answer] = Deferred()
        gate = Gate(TOKEN, lambda: 1e9, self.clock.seconds)
        about = {"version": "tpops-1", "server": "<mail>"}
        page = StatusPage(self.whole, gate, self.clock, lambda: 1e9, about, ("mail.example.org",))
        self.site = BoundedSite(page, self.clock)
        self.site.doStart()
        self.addCleanup(self.site.doStop)

    async def whole(self, request: Any) -> Answer:
        """Answers for all processes."""
        self.asked.append(request)
        return await self.answered

    def connect(self, client: Any = CLIENT) -> tuple[Any, Transport]:
        """A connection."""
        protocol = self.site.buildProtocol(client)
        transport = Transport(peerAddress=client, lenient=True)
        protocol.makeConnection(transport)
        return protocol, transport

    def send(self, head: str, body: str = "", client: Any = CLIENT) -> tuple[Any, Transport]:
        """A request."""
        protocol, transport = self.connect(client)
        length = f"Content-Length: {len(body)}\r\nContent-Type: application/x-www-form-urlencoded\r\n" if body else ""
        protocol.dataReceived(f"{head}\r\nHost: localhost\r\n{length}\r\n{body}".encode())
        return protocol, transport

    def data(self, client: Any = CLIENT) -> tuple[Any, Transport]:
        """A request for what the page shows."""
        return self.send(f"GET /data HTTP/1.1\r\nAuthorization: Bearer {TOKEN}", client=client)

    def answer(self, **more: object) -> Answer:
        """What the processes say."""
        figures = {"sessions": {}, "failures": {}}
        return {"started": 1.0, "totals": figures, "processes": [], "sessions": [], "penalties": [], **more}

    def test_data(self) -> None:
        """Promise: one question; of all sessions those that do something come first, and no more than are shown."""
        _, transport = self.data()
        self.assertEqual(self.asked, [{"do": "status", "most": MOST_SHOWN}])
        self.assertEqual(transport.value(), b"")
        many = [session(number) for number in range(2 * MOST_SHOWN)]
        many.append(session(9999, doing="RETR 1"))
        penalties = [{"kind": "name", "key": f"n{one}", "failures": one, "seconds": 1.0} for one in range(300)]
        self.answered.callback(self.answer(sessions=many, penalties=penalties, silent=["worker 2"]))
        head, _, body = transport.value().partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 200 OK\r\n"), head)
        self.assertIn(b"content-length: %d" % len(body), head.lower())
        told = json.loads(body)
        self.assertEqual([one["session"] for one in told["sessions"][:3]], ["s9999", "s0", "s1"])
        self.assertEqual((len(told["sessions"]), len(told["penalties"])), (MOST_SHOWN, MOST_SHOWN))
        self.assertEqual(told["penalties"][0]["key"], "n299")
        self.assertNotIn("port", told["sessions"][0])
        self.assertEqual((told["version"], told["at"], told["silent"]), ("tpops-1", 1e9, ["worker 2"]))
        self.assertTrue(transport.disconnecting)

    def test_nobody_answers(self) -> None:
        """Promise: 503 and a word; the log has more."""
        _, transport = self.data()
        self.answered.errback(Refused("the others are gone"))
        self.assertTrue(transport.value().startswith(b"HTTP/1.1 503 "), transport.value())
        self.assertIn(b"the server does not answer itself; its log has more\n", transport.value())
        self.assertNotIn(b"the others are gone", transport.value())
        (failure,) = self.flushLoggedErrors(Refused)
        self.assertEqual(str(failure.value), "the others are gone")

    def test_client_goes(self) -> None:
        """Promise: what is asked for him is asked no more; nothing is logged."""
        cancelled: list[object] = []
        self.answered = Deferred(cancelled.append)
        protocol, transport = self.data()
        protocol.connectionLost()
        self.assertEqual(len(cancelled), 1)
        self.assertEqual(transport.value(), b"")
        self.assertEqual(self.site.connections, set())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_connections_end(self) -> None:
        """Promise: after so long, whatever comes now and then; sooner when nothing comes."""
        trickling, one = self.connect()
        _, silent = self.connect()
        for _ in range(int(LONGEST_SECONDS)):
            self.assertFalse(one.disconnecting)
            trickling.dataReceived(b"G")
            self.clock.advance(1)
            self.assertEqual(silent.disconnecting, self.clock.seconds() >= IDLE_SECONDS)
        self.assertTrue(one.disconnecting)
        self.assertTrue(one.aborting)

    def test_many_connections(self) -> None:
        """Promise: so many and no more, until one of them has gone."""
        crowd = [self.connect()[0] for _ in range(MOST_CONNECTIONS)]
        self.assertIsNone(self.site.buildProtocol(CLIENT))
        crowd[0].connectionLost()
        self.assertIsNotNone(self.site.buildProtocol(CLIENT))

    def test_wrong_tokens_take_their_time(self) -> None:
        """Promise: the answer to a wrong one comes later than that to the right one."""
        _, transport = self.send("POST /login HTTP/1.1", "token=wrong")
        self.assertEqual(transport.value(), b"")
        self.clock.advance(WRONG_SECONDS)
        self.assertTrue(transport.value().startswith(b"HTTP/1.1 401 "))
        _, transport = self.send("POST /login HTTP/1.1", f"token={TOKEN}")
        self.assertTrue(transport.value().startswith(b"HTTP/1.1 303 "))
        _, transport = self.send("POST /login HTTP/1.1", "token=")
        self.assertTrue(transport.value().startswith(b"HTTP/1.1 401 "))

    def test_the_name_of_the_server_is_text(self) -> None:
        """Promise: it is markup nowhere."""
        _, transport = self.send("GET / HTTP/1.1")
        self.assertIn(b"<title>tpops on &lt;mail&gt;</title>", transport.value())

    def test_bodies_that_are_not_wanted(self) -> None:
        """Promise: too long, of no length, or in another form: not read, or no token."""
        for length in ("Content-Length: 5000", "Transfer-Encoding: chunked"):
            protocol, transport = self.connect()
            protocol.dataReceived(f"POST /login HTTP/1.1\r\nHost: localhost\r\n{length}\r\n\r\n".encode())
            self.assertTrue(transport.value().startswith(b"HTTP/1.1 413 "), transport.value())
            self.assertTrue(transport.disconnecting)
            protocol.dataReceived(b"x" * 65536)
            self.assertEqual(transport.producerState, "paused")
        form = '--b\r\nContent-Disposition: form-data; name="token"\r\n\r\nwrong\r\n--b--\r\n'
        protocol, transport = self.connect()
        head = f"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(form)}\r\n"
        protocol.dataReceived(f"{head}Content-Type: multipart/form-data; boundary=b\r\n\r\n{form}".encode())
        self.clock.advance(WRONG_SECONDS)
        self.assertTrue(transport.value().startswith(b"HTTP/1.1 401 "), transport.value())

    def test_requests(self) -> None:
        """Promise: what is there, for whom, and by which methods."""
        bearer, cookie = f"Authorization: Bearer {TOKEN}", f"Cookie: tpops_status={self.cookie()}"
        for head, said in (
            ("GET / HTTP/1.1", b"401 "),
            (f"GET / HTTP/1.1\r\n{bearer}", b"200 "),
            (f"GET / HTTP/1.1\r\n{cookie}", b"200 "),
            (f"GET / HTTP/1.1\r\n{cookie}0", b"401 "),
            ("GET / HTTP/1.1\r\nAuthorization: Bearer wrong", b"401 "),
            ("GET /data HTTP/1.1\r\nAuthorization: Bearer wrong", b"401 "),
            ("GET /status.js HTTP/1.1", b"200 "),
            ("GET /other HTTP/1.1", b"404 "),
            (f"GET /data HTTP/1.1\r\n{cookie}\r\nSec-Fetch-Site: same-site", b"403 "),
            ("POST /login HTTP/1.1\r\nSec-Fetch-Site: same-site", b"403 "),
            ("PUT / HTTP/1.1", b"405 "),
            ("GET /login HTTP/1.1", b"405 "),
            ("GET / HTTP/1.1\r\nHost: localhost", b"421 "),
        ):
            self.assertEqual(self.send(head)[1].value()[9:13], said, head)
        _, transport = self.send("POST /login HTTP/1.1", "leave=1")
        self.assertIn(b"\r\nSet-Cookie: tpops_status=; Path=/; Max-Age=0;", transport.value())
        for host, said in (("Mail.Example.Org", b"401 "), ("[::1]:80", b"401 "), ("mail.example.com", b"421 ")):
            protocol, transport = self.connect()
            protocol.dataReceived(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            self.assertEqual(transport.value()[9:13], said, host)

    def test_too_many_wrong_tokens(self) -> None:
        """Promise: whoever guesses is asked to wait, in words and as a number; others are not."""
        for _ in range(10):
            self.send("GET /data HTTP/1.1\r\nAuthorization: Bearer wrong")
        _, transport = self.send("POST /login HTTP/1.1", f"token={TOKEN}")
        self.assertIn(b"Too many wrong tries.", transport.value())
        self.assertIn(b"\r\nRetry-After: 60\r\n", transport.value())
        _, transport = self.send("POST /login HTTP/1.1", f"token={TOKEN}", IPv4Address("TCP", "192.0.2.2", 1))
        self.assertTrue(transport.value().startswith(b"HTTP/1.1 303 "))

    def cookie(self) -> str:
        """A cookie that the page has given."""
        _, transport = self.send("POST /login HTTP/1.1", f"token={TOKEN}")
        return transport.value().partition(b"tpops_status=")[2].partition(b";")[0].decode()

    def test_unix_clients(self) -> None:
        """Promise: those of a UNIX socket have no address, and are let in all the same."""
        _, transport = self.data(UNIXAddress(None))
        self.answered.callback(self.answer())
        self.assertTrue(transport.value().startswith(b"HTTP/1.1 200 "))
