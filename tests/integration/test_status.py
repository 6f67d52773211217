"""The status page, as programs see it."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import socket
import stat
import tempfile
from pathlib import Path
from typing import Any

from tests.integration import corpus
from tests.integration.apart_case import ApartCase
from tests.integration.server import PATIENCE_SECONDS, USER, RunningServer, wait_until
from tests.integration.status_case import HOSTILE, TOKEN, Answer, StatusCase, token_file

_ASSETS = ("/status.css", "/status.js", "/icon.svg")


class DoorTests(StatusCase):
    """Who gets in."""

    def test_nothing_without_the_token(self) -> None:
        """Promise: without the token there is a form and nothing of the server; programs are told what is missing."""
        server = self.server()
        server.session()
        form = self.ask(server)
        self.assertEqual(form.status, 401)
        self.assertIn('type="password"', form.text)
        self.assertEqual(form.headers["WWW-Authenticate"], 'Bearer realm="tpops status"')
        data = self.ask(server, "/data")
        self.assertEqual((data.status, data.headers["Content-Type"]), (401, "text/plain; charset=utf-8"))
        for wrong in ("Bearer wrong", "Bearer", f"Basic {TOKEN}", TOKEN):
            self.assertEqual(self.ask(server, "/data", Authorization=wrong).status, 401, wrong)
        for path in (f"/?token={TOKEN}", f"/data?token={TOKEN}"):
            self.assertEqual(self.ask(server, path).status, 401)
        self.assertEqual(self.ask(server, f"/login?token={TOKEN}", "POST", "").status, 404)
        self.assertNotIn(USER, form.text + data.text)

    def test_form_and_cookie(self) -> None:
        """Promise: the form gives a cookie that neither scripts nor other sites get; it opens the page."""
        server = self.server()
        answer = self.log_in(server)
        self.assertEqual((answer.status, answer.headers["Location"]), (303, "/"))
        cookie = answer.headers["Set-Cookie"]
        self.assertRegex(cookie, r"^tpops_status=[0-9a-f.]+; Path=/; HttpOnly; SameSite=strict$")
        self.assertNotIn(TOKEN, cookie)
        self.assertIn("status: opened from 127.0.0.1", server.output())
        value = cookie.partition(";")[0]
        page = self.ask(server, Cookie=value)
        self.assertEqual(page.status, 200)
        self.assertIn("/status.js", page.text)
        self.assertEqual(self.ask(server, "/data", Cookie=f"other=1; {value}").status, 200)
        self.assertEqual(self.ask(server, "/data", Cookie=value[:-1]).status, 401)
        gone = self.ask(server, "/login", "POST", "leave=1", Cookie=value)
        self.assertEqual(gone.status, 303)
        self.assertEqual(gone.headers["Set-Cookie"], "tpops_status=; Path=/; Max-Age=0; HttpOnly; SameSite=strict")
        behind = self.log_in(server, X_Forwarded_Proto="https")
        self.assertIn("; Secure", behind.headers["Set-Cookie"])

    def test_wrong_tokens(self) -> None:
        """Promise: told on the form, slowed, limited, logged without the token; who is in already stays in."""
        server = self.server()
        cookie = self.log_in(server).headers["Set-Cookie"].partition(";")[0]
        wrong = self.log_in(server, "a-wrong-token-of-somebody")
        self.assertEqual(wrong.status, 401)
        self.assertIn("That is not the token.", wrong.text)
        self.assertNotIn("Set-Cookie", wrong.headers)

        def exhaust() -> None:
            """Guess until there are no tries left."""
            while (status := self.ask(server, "/data", Authorization="Bearer wrong").status) == 401:
                pass
            self.assertEqual(status, 429)

        exhaust()
        answer = self.ask(server, "/data", Authorization=f"Bearer {TOKEN}")
        self.assertEqual((answer.status, answer.headers["Retry-After"]), (429, "60"))
        exhaust()
        answer = self.log_in(server)
        self.assertEqual((answer.status, answer.headers["Retry-After"]), (429, "60"))
        self.assertIn("Too many wrong tries.", answer.text)
        self.assertEqual(self.ask(server, "/data", Cookie=cookie).status, 200)
        output = server.output()
        self.assertIn("status: wrong token from 127.0.0.1", output)
        self.assertNotIn(TOKEN, output)
        self.assertNotIn("a-wrong-token-of-somebody", output)

    def test_names_of_the_server(self) -> None:
        """Promise: pages that have made their name point here (DNS rebinding) are refused, ours is not."""
        server = self.server(status={"hosts": ["status.example.org"]})
        bearer = f"Bearer {TOKEN}"
        for name in ("evil.example", "127.0.0.1.evil.example", "", "localhost:x", "a b", "localhost@evil.example"):
            for path in ("/", "/data", "/status.js"):
                answer = self.ask(server, path, Host=name, Authorization=bearer)
                self.assertEqual(answer.status, 421, name)
                self.assertIn("status.hosts", answer.text)
        for name in ("localhost:9120", "[::1]:1", "192.0.2.1", "Status.Example.ORG.:443"):
            self.assertEqual(self.ask(server, "/data", Host=name, Authorization=bearer).status, 200, name)
        connected = self.raw(server)
        connected.sendall(b"GET /data HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
        self.assertIn(b" 421 ", connected.makefile("rb").readline())

    def test_other_pages(self) -> None:
        """Promise: what a browser says that it asks for somebody else's page is refused, cookie or not."""
        server = self.server()
        cookie = self.log_in(server).headers["Set-Cookie"].partition(";")[0]
        for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)):
            self.assertEqual(self.ask(server, "/data", Cookie=cookie, Sec_Fetch_Site=site).status, status)
        self.assertEqual(self.log_in(server, Sec_Fetch_Site="cross-site").status, 403)
        self.assertEqual(self.log_in(server, Sec_Fetch_Site="same-origin").status, 303)


class HTTPTests(StatusCase):
    """What is spoken."""

    def test_headers(self) -> None:
        """Promise: every answer forbids what could be misused."""
        server = self.server()
        bearer = f"Bearer {TOKEN}"
        answers = [self.ask(server, path, Authorization=bearer) for path in ("/", "/data", *_ASSETS, "/nothing")]
        answers += [self.ask(server), self.log_in(server), self.log_in(server, "wrong"), self.ask(server, Host="x")]
        answers += [self.ask(server, method="PUT"), self.ask(server, method="OPTIONS"), self.ask(server, method="X")]
        for answer in answers:
            policy = answer.headers["Content-Security-Policy"]
            self.assertTrue(policy.startswith("default-src 'none'; script-src 'self';"), policy)
            self.assertIn("frame-ancestors 'none'", policy)
            self.assertNotIn("unsafe", policy)
            for name, value in (
                ("X-Content-Type-Options", "nosniff"),
                ("Cache-Control", "no-store"),
                ("Referrer-Policy", "no-referrer"),
                ("X-Frame-Options", "DENY"),
                ("Cross-Origin-Resource-Policy", "same-origin"),
                ("Server", "tpops"),
            ):
                self.assertEqual(answer.headers.get_all(name), [value])
            self.assertNotIn("Access-Control-Allow-Origin", answer.headers)
        self.assertEqual(answers[5].status, 404)

    def test_methods(self) -> None:
        """Promise: GET and HEAD, and POST for the form alone."""
        server = self.server()
        bearer = f"Bearer {TOKEN}"
        for path, allowed in (
            ("/", "GET, HEAD"),
            ("/data", "GET, HEAD"),
            ("/status.js", "GET, HEAD"),
            ("/login", "POST"),
        ):
            for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
                answer = self.ask(server, path, method, Authorization=bearer)
                if method in allowed.split(", "):
                    self.assertIn(answer.status, (200, 401))
                else:
                    self.assertEqual((answer.status, answer.headers["Allow"]), (405, allowed), (path, method))
        head = self.ask(server, "/data", "HEAD", Authorization=bearer)
        self.assertEqual((head.status, head.body), (200, b""))

    def test_no_foreign_resources(self) -> None:
        """Promise: nothing is loaded from elsewhere, and there is no script or style within a page."""
        server = self.server()
        page = self.ask(server, Authorization=f"Bearer {TOKEN}").text
        for text in (page, self.ask(server).text):
            self.assertNotRegex(
                text, r"(?i)(src|href|action)=.?(https?:)?//|<style|style=|\son\w+=|<script(?! src=\"/)"
            )
            for target in re.findall(r'(?:src|href)="(/[^"]*)"', text):
                self.assertEqual(self.ask(server, target).status, 200, target)
        kinds = [self.ask(server, path).headers["Content-Type"] for path in _ASSETS]
        self.assertEqual(kinds, ["text/css; charset=utf-8", "text/javascript; charset=utf-8", "image/svg+xml"])

    def test_long_requests(self) -> None:
        """Promise: long headers and bodies are refused before they are read, and nothing is kept of them."""
        server = self.server()
        for body in ("token=" + "x" * 5000, "x" * 10_000_000):
            self.assertEqual(self.refusal(server, body), 413)
        connected = self.raw(server)
        connected.sendall(b"POST /login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        self.assertIn(b" 413 ", connected.makefile("rb").readline())
        for header in (b"X: " + b"x" * 9000 + b"\r\n", b"X: y\r\n" * 100):
            connected = self.raw(server)
            connected.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + header + b"\r\n")
            self.assertIn(b" 400 ", connected.makefile("rb").readline())
        self.assertLess(server.memory_mib(), 200)
        self.assertNotIn("Traceback", server.output())

    def refusal(self, server: RunningServer, body: str) -> int:
        """The status for a body that is announced, and not sent."""
        connected = self.raw(server)
        connected.sendall(f"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        return int(connected.makefile("rb").readline().split()[1])

    def test_many_connections(self) -> None:
        """Promise: so many at the same time; further ones are closed, and clients of POP3 are served."""
        server = self.server()
        crowd = [self.raw(server) for _ in range(32)]

        def refused() -> bool:
            with socket.create_connection(self.place(server), PATIENCE_SECONDS) as one:
                one.settimeout(0.2)
                try:
                    return one.recv(1) == b""
                except (TimeoutError, ConnectionResetError) as problem:
                    return isinstance(problem, ConnectionResetError)

        wait_until(refused)
        server.session().command(b"NOOP")
        for one in crowd:
            one.close()

        def served() -> bool:
            try:
                return self.ask(server).status == 401
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                return False

        wait_until(served)

    def test_one_request_a_connection(self) -> None:
        """Promise: a connection ends with its request, whatever is sent behind it."""
        server = self.server()
        connected = self.raw(server)
        connected.sendall(b"GET /icon.svg HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3)
        octets = connected.makefile("rb").read()
        self.assertEqual(octets.count(b"HTTP/1.1 200"), 1)
        self.assertIn(b"connection: close", octets.lower())

    def test_unix_socket(self) -> None:
        """Promise: a UNIX socket, with the permissions of the configuration."""
        directory = tempfile.mkdtemp(prefix="tpops-")
        self.addCleanup(shutil.rmtree, directory)
        path = Path(directory, "status.sock")
        server = self.server(status={"listen": f"unix:{path}", "socket_mode": "0666"})
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o666)

        def ask(authorization: str) -> int:
            connection = http.client.HTTPConnection("localhost")
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect(str(path))
            connection.request("GET", "/data", headers={"Authorization": authorization})
            status = connection.getresponse().status
            connection.close()
            return status

        self.assertEqual((ask(f"Bearer {TOKEN}"), ask("Bearer wrong")), (200, 401))
        self.assertIn("wrong token from the UNIX socket", server.output())


class ShownTests(StatusCase):
    """What there is to see."""

    def work(self, server: RunningServer) -> dict[str, Any]:
        """A session that has read a message, and one that has failed to log in; what the page then shows."""
        server.deliver("1.host", corpus.ALL["lf"])
        wire = server.session()
        wire.send(b"RETR 1\r\n")
        while wire.line() != b".":
            pass
        self.held = [wire, self.guess(server)]
        return self.data(server)

    def check(self, server: RunningServer, workers: int) -> None:
        """All of it."""
        data = self.work(server)
        octets = len(corpus.wire(corpus.ALL["lf"]))
        totals = data["totals"]
        self.assertEqual(totals["sessions"], {"login": 1, "transaction": 1, "update": 0})
        self.assertEqual(totals["failures"], {"wrong_password": 1})
        self.assertEqual(totals["unfinished"], {"messages": 1, "octets": octets})
        self.assertEqual((totals["recent"]["logins"], totals["recent"]["failures"]), (1, 1))
        self.assertEqual(len(data["processes"]), workers)
        self.assertRegex(data["version"], r"^tpops-\d")
        self.assertLessEqual(data["started"], data["at"])
        by_user = {one["user"]: one for one in data["sessions"]}
        joe, nobody = by_user[USER], by_user[None]
        self.assertEqual(
            (joe["peer"], joe["state"], joe["retr"], joe["octets"]), ("127.0.0.1", "transaction", 1, octets)
        )
        self.assertEqual((nobody["named"], nobody["state"]), (HOSTILE, "login"))
        self.assertIn(joe["worker"], range(workers + 1))
        self.assertEqual(
            {(one["kind"], one["key"], one["failures"]) for one in data["penalties"]},
            {("client", "127.0.0.1", 1), ("name", HOSTILE.lower(), 1)},
        )

    def test_one_process(self) -> None:
        """Promise: sessions, rates, failures, penalties, version and start."""
        self.check(self.server(), 1)

    def test_workers(self) -> None:
        """Promise: the same of all workers together, whichever is asked."""
        server = self.server(2)
        self.check(server, 2)
        pids = {process["pid"] for process in self.data(server)["processes"]}
        self.assertEqual(pids, set(server.workers()))
        cookie = self.log_in(server).headers["Set-Cookie"].partition(";")[0]
        self.assertEqual({self.ask(server, "/data", Cookie=cookie).status for _ in range(20)}, {200})

    def test_no_more_than_is_needed(self) -> None:
        """Promise: neither passwords nor cookies nor anything that is not shown."""
        data = self.work(self.server())
        session = data["sessions"][0]
        self.assertEqual(
            set(session),
            {
                *("session", "user", "named", "peer", "state", "seconds", "idle", "tls", "doing", "messages"),
                *("retr", "octets", "worker"),
            },
        )
        self.assertNotIn(TOKEN, json.dumps(data))

    def test_reload(self) -> None:
        """Promise: HUP brings another token; a bad one changes nothing, and says why."""
        server = self.server()
        path = server.directory / "token"
        cookie = self.log_in(server).headers["Set-Cookie"].partition(";")[0]
        path.write_text("short\n")
        assert server.process is not None
        server.process.send_signal(1)
        wait_until(lambda: "reload-failed: the configuration stays as it was" in server.output())
        self.assertIn(f"status.token_file: the first line of {path} must be 20 to 200 printable", server.output())
        self.assertEqual(self.ask(server, "/data", Cookie=cookie).status, 200)
        path.write_text(TOKEN[::-1] + "\n")
        server.process.send_signal(1)
        wait_until(lambda: self.ask(server, "/data", Authorization=f"Bearer {TOKEN[::-1]}").status == 200)
        self.assertEqual(self.ask(server, "/data", Cookie=cookie).status, 401)
        form = self.ask(server, Cookie=cookie)
        self.assertEqual(form.status, 401)
        self.assertIn("tpops_status=; Path=/; Max-Age=0", form.headers["Set-Cookie"])
        self.assertNotIn("That is not the token.", form.text)

    def test_token_files(self) -> None:
        """Promise: a token that everybody can read, or that is not there, keeps the server from starting."""
        server = self.server()
        server.stop()
        path = server.directory / "token"
        path.chmod(0o644)
        self.assertIn(f"status.token_file: {path} is open to everybody", server.refuses_to_start())
        path.unlink()
        self.assertIn(f"status.token_file: cannot read {path}", server.refuses_to_start())


class ApartTests(ApartCase):
    """Sessions in processes of their own."""

    ask, place, data = StatusCase.ask, StatusCase.place, StatusCase.data

    def test_owners(self) -> None:
        """Promise: with run_as = "owner" the page is the same, and the token may be for root alone."""
        server: RunningServer = self.server(status={"listen": "127.0.0.1:0", "token_file": "token"})
        token_file(server.directory)
        server.start()
        wire = self.session(server)
        (session,) = self.data(server)["sessions"]
        self.assertEqual(
            (session["user"], session["state"], session["messages"], session["worker"]),
            (self.account.name, "transaction", 1, 1),
        )
        wire.command(b"QUIT")
        wait_until(lambda: self.data(server)["sessions"] == [])
        answer: Answer = self.ask(server)
        self.assertEqual(answer.status, 401)
