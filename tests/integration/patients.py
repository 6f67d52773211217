"""
POP3 servers with something wrong, for the doctor: each mistake can be switched on by its name.

Every connection is served in a thread; the maildrop is a list in memory that nobody can change.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import threading
from collections.abc import Collection
from typing import Any

MESSAGES = (b"Subject: one\r\n\r\nbody\r\n", b"Subject: two\r\nX: y\r\n\r\n.dot\r\n..\r\nend\r\n")

CAPA = b"TOP\r\nUIDL\r\nUSER\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\nSASL PLAIN\r\n"


class Patient:
    """
    See the module.

    @ivar port: where it listens
    @param mistakes: names, see the methods
    """

    def __init__(self, testcase: Any, mistakes: Collection[str] = (), context: ssl.SSLContext | None = None) -> None:
        self._mistakes = frozenset(mistakes)
        self._context = context
        self._numbers = itertools.count(1)
        self._locked = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()
        self._serving: list[threading.Thread] = []
        testcase.addCleanup(self.stop)

    def stop(self) -> None:
        """Serve no more."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._accepting.join()
        for thread in self._serving:
            thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connected, _ = self._listening.accept()
                connected.settimeout(60)
                self._serving.append(threading.Thread(target=self._serve, args=(connected,)))
                self._serving[-1].start()

    def _serve(self, connected: socket.socket) -> None:
        session = Session(self._mistakes, next(self._numbers), connected, self._context, self._locked)
        # A client that goes is no event here.
        with contextlib.suppress(OSError):
            session.run()
        session.end()


class Session:
    """One connection."""

    def __init__(
        self,
        mistakes: frozenset[str],
        number: int,
        connected: socket.socket,
        context: ssl.SSLContext | None,
        lock: threading.Lock,
    ) -> None:
        self._mistakes = mistakes
        self._number = number
        self._socket = connected
        self._context = context
        self._lock = lock
        self._has_lock = False
        self._in = False
        self._input = b""

    def wrong(self, mistake: str) -> bool:
        """Whether it makes this mistake."""
        return mistake in self._mistakes

    def run(self) -> None:
        """Serve until the client has enough."""
        stamp = 1 if self.wrong("same stamp") else self._number
        self.say(b"* hello" if self.wrong("greeting") else b"+OK ready <%d@host>" % stamp)
        while self.command():
            pass

    def end(self) -> None:
        """Let go of everything."""
        self.let_go()
        self._socket.close()

    def let_go(self) -> None:
        """Release the maildrop; whoever has the answer to QUIT finds it free."""
        if self._has_lock:
            self._has_lock = False
            self._lock.release()

    def say(self, line: bytes) -> None:
        """Send a line."""
        self._socket.sendall(line + b"\r\n")

    def command(self) -> bool:
        """Carry out one; whether there may be more."""
        while b"\r\n" not in self._input:
            octets = self._socket.recv(4096)
            if not octets:
                return False
            self._input += octets
        line, _, self._input = self._input.partition(b"\r\n")
        if self.wrong("no pipelining"):
            self._input = b""
        verb, _, argument = line.partition(b" ")
        if verb.upper() == b"QUIT":
            self.let_go()
            self.say(b"-ERR no" if self.wrong("quit") and self._in else b"+OK")
            return False
        method = getattr(self, "do_" + verb.decode("ascii").lower(), None)
        if method is None and self.wrong("closes"):
            return False
        if method is None or (verb in (b"STAT", b"LIST", b"UIDL", b"RETR", b"TOP", b"NOOP") and not self._in):
            self.say(b"-ERR unknown")
        else:
            method(argument.strip())
        return True

    def do_capa(self, _: bytes) -> None:
        """CAPA."""
        if self.wrong("no capa"):
            self.say(b"-ERR unknown")
            return
        lines = CAPA
        if self.wrong("uidl hidden") and not self._in:
            lines = lines.replace(b"UIDL\r\n", b"")
        if self._context is not None:
            lines += b"STLS\r\n"
        self._socket.sendall(b"+OK\r\n" + lines + b".\r\n")

    def do_stls(self, _: bytes) -> None:
        """STLS."""
        assert self._context is not None
        self.say(b"+OK")
        self._socket = self._context.wrap_socket(self._socket, server_side=True)
        if not self.wrong("injection"):
            self._input = b""

    def do_auth(self, argument: bytes) -> None:
        """AUTH PLAIN."""
        if self.wrong("sasl") or not argument.upper().startswith(b"PLAIN"):
            self.say(b"-ERR no such mechanism")
            return
        if b" " in argument:
            self.log_in()
            return
        self.say(b"+ ")
        answer = self._socket.recv(4096)
        if answer == b"*\r\n":
            self.say(b"+OK" if self.wrong("cancel") else b"-ERR cancelled")
        else:
            self.log_in()

    def do_user(self, _: bytes) -> None:
        """USER."""
        self.say(b"+OK")

    def do_pass(self, password: bytes) -> None:
        """PASS."""
        if password == b"secret" or self.wrong("lets everybody in"):
            self.log_in()
        else:
            self.say(b"-ERR wrong" if self.wrong("no codes") else b"-ERR [AUTH] wrong")

    def log_in(self) -> None:
        """The password is right."""
        if not self.wrong("no lock") and not self._lock.acquire(blocking=False):
            self.say(b"-ERR [IN-USE] locked")
            return
        self._has_lock = not self.wrong("no lock")
        self._in = True
        self.say(b"+OK")

    def do_noop(self, _: bytes) -> None:
        """NOOP."""
        self.say(b"+OK")

    def do_stat(self, _: bytes) -> None:
        """STAT."""
        count = 3 if self.wrong("stat") else len(MESSAGES)
        self.say(b"+OK %d %d" % (count, sum(map(len, MESSAGES))))

    def do_list(self, argument: bytes) -> None:
        """LIST."""
        octets = [len(one) - self.wrong("sizes") for one in MESSAGES]
        self.listing([b"%d" % one for one in octets], argument)

    def do_uidl(self, argument: bytes) -> None:
        """UIDL."""
        if self.wrong("no uidl"):
            self.say(b"-ERR unknown")
            return
        session = self._number if self.wrong("unstable") else 0
        ids = [b"same" if self.wrong("doubled") else b"id%d.%d" % (n, session) for n in range(len(MESSAGES))]
        if self.wrong("bad id"):
            ids[0] = b"x" * 71
        self.listing(ids, argument, not self.wrong("uidl n"))

    def listing(self, values: list[bytes], argument: bytes, numbered: bool = True) -> None:
        """One line, or all."""
        if not argument:
            lines = b"".join(b"%d %s\r\n" % pair for pair in enumerate(values, 1))
            self._socket.sendall(b"+OK\r\n" + lines + b".\r\n")
        elif argument.isdigit() and 0 < int(argument) <= len(values):
            value = values[int(argument) - 1]
            self.say(b"+OK %s %s" % (argument, value) if numbered else b"+OK " + value)
        else:
            self.say(b"+OK" if self.wrong("beyond") else b"-ERR no such message")

    def do_retr(self, argument: bytes) -> None:
        """RETR."""
        number = int(argument)
        if not 0 < number <= len(MESSAGES):
            self.say(b"-ERR no such message")
            return
        self.message(MESSAGES[number - 1])

    def do_top(self, argument: bytes) -> None:
        """TOP n 0."""
        message = MESSAGES[int(argument.split()[0]) - 1]
        self.message(message if self.wrong("top") else message.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")

    def message(self, text: bytes) -> None:
        """The lines of a message."""
        if self.wrong("long line"):
            text += b"x" * 3000 + b"\r\n"
        if not self.wrong("dots"):
            text = text.replace(b"\r\n.", b"\r\n..")
        if self.wrong("lf"):
            text = text.replace(b"body\r\n", b"body\n")
        self._socket.sendall(b"+OK\r\n" + text + b".\r\n")
