"""
A web server of a test: on loopback, in a thread, with or without TLS.

It answers as the test says at that moment, writes down what it was asked, and can keep a client waiting.
"""

from __future__ import annotations

import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import attrs
from twisted.trial.unittest import SynchronousTestCase

from tests.pki import write_pem


@attrs.frozen
class Request:
    """What was asked."""

    method: str
    path: str
    headers: dict[str, str]
    form: dict[str, str]
    body: bytes = b""


class _Server(ThreadingHTTPServer):
    """Its threads end with it; clients that go in the middle are no errors."""

    daemon_threads = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing."""


class WebServer:
    """
    See the module.

    @ivar answer: the document; bytes are sent as they are, None keeps the client waiting
    @ivar status: of the answer
    @ivar headers: further ones
    @ivar short: octets that are announced and never come
    @ivar requests: what was asked
    @ivar certificate: PEM file to believe, "" without TLS
    """

    def __init__(self, testcase: SynchronousTestCase, answer: Any = None, names: tuple[str, ...] = ()) -> None:
        self.answer = answer
        self.status = 200
        self.headers: dict[str, str] = {}
        self.short = 0
        self.requests: list[Request] = []
        self.certificate = ""
        self._names = names
        self._directory = Path(testcase.mktemp()).absolute()
        self._directory.mkdir(parents=True)
        self._server: ThreadingHTTPServer | None = None
        self.port = 0
        self.start()
        testcase.addCleanup(self.stop)

    @property
    def address(self) -> str:
        """Where it is."""
        return f"{'https' if self._names else 'http'}://127.0.0.1:{self.port}/document"

    def start(self) -> None:
        """Begin to answer, at the same port and with the same certificate as before."""
        self._released = threading.Event()
        self._server = server = _Server(("127.0.0.1", self.port), self._handler())
        self.port = server.server_address[1]
        if self._names:
            pem = self._directory / "web.pem"
            if not self.certificate:
                trusted = self._directory / "trusted.pem"
                trusted.write_bytes(write_pem(pem, *self._names))
                self.certificate = str(trusted)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pem)
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        self._thread.start()

    def stop(self) -> None:
        """Answer nobody any more.  Idempotent."""
        self._released.set()
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            self._thread.join()
            server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 60

            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(length)
                form = {name: one[0] for name, one in parse_qs(body.decode()).items()}
                outer.requests.append(Request(self.command, self.path, dict(self.headers), form, body))
                if outer.answer is None:
                    outer._released.wait()
                    self.close_connection = True
                    return
                answer = outer.answer
                octets = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(outer.status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(octets) + outer.short))
                self.end_headers()
                self.wfile.write(octets)
                if outer.short:
                    self.wfile.flush()
                    outer._released.wait()

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler
