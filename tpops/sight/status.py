"""
The status page: what a running server does, live, in a web browser.

    GET  /               the page; a form that asks for the token, where it was not given
    POST /login          the form: C{token}, or C{leave}
    GET  /data           what the page shows, as JSON, for all workers together
    GET  /status.css, /status.js, /icon.svg

Purpose: looks, and changes nothing.  The token comes by the form, which sets a cookie (L{tpops.sight.gate}), or as
C{Authorization: Bearer}.
Limits: L{MOST_SHOWN} sessions, those that do something first, and as many penalties.
Security: a browser is told to load nothing from elsewhere, to run no script but ours, to let nobody frame or read the
page, and to keep nothing.  Requests for names that are not ours are refused, so that no page of somebody else can make
the browser ask here under its own name.  Names of users reach the page as JSON, and are put there as text.
"""

from __future__ import annotations

import html
import ipaddress
import json
import re
from collections.abc import Callable, Iterable
from importlib.resources import files
from typing import Any

from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import Request

from tpops.sight.control import Answer
from tpops.sight.gate import Gate, Verdict
from tpops.sight.site import BoundedRequest, Whole, answer_later

_log = Logger()

#: Sessions, and penalties, that are shown.
MOST_SHOWN = 200

#: Seconds that the answer to a wrong token takes.
WRONG_SECONDS = 1.0

COOKIE = b"tpops_status"

_HEADERS = {
    b"server": b"tpops",
    b"content-security-policy": (
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        b"form-action 'self'; frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'; "
        b"trusted-types 'none'"
    ),
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-store",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
}

_ASSETS = {
    b"/status.css": ("status.css", b"text/css; charset=utf-8"),
    b"/status.js": ("status.js", b"text/javascript; charset=utf-8"),
    b"/icon.svg": ("icon.svg", b"image/svg+xml"),
}

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]/@\s]+)(?::\d{1,5})?")

#: What the page gets of the figures.
_TOTALS = (
    *("sessions", "recent", "logins", "failures", "refusals", "limits", "messages", "octets", "unfinished"),
    *("queues", "dropped", "sinks", "worker_restarts"),
)
_SESSION = (
    *("session", "user", "named", "peer", "state", "seconds", "idle", "tls", "doing", "messages", "retr", "octets"),
    "worker",
)


class StatusPage(Resource):
    """
    See the module.

    @param whole: answers for all processes
    @param clock: for the delay of answers
    @param epoch: the time since the epoch
    @param about: what the page says of the server: C{version}, C{server}
    @param hosts: names under which it may be asked for, beside C{localhost} and IP addresses
    """

    isLeaf = True

    def __init__(
        self,
        whole: Whole,
        gate: Gate,
        clock: Any,
        epoch: Callable[[], float],
        about: dict[str, str],
        hosts: Iterable[str],
    ) -> None:
        super().__init__()
        self._whole = whole
        self._gate = gate
        self._clock = clock
        self._epoch = epoch
        self._about = about
        self._hosts = frozenset(one.lower().rstrip(".") for one in (*hosts, "localhost"))
        self._page = _text("page.html", about)
        self._form = _text("login.html", about)
        self._assets = {path: (_octets(name), kind) for path, (name, kind) in _ASSETS.items()}

    def render(self, request: Request) -> bytes | int:
        """IResource."""
        for name, value in _HEADERS.items():
            request.setHeader(name, value)
        if not self._asked_for(request):
            names = b"localhost, an IP address, server.hostname or one of status.hosts"
            return _plain(request, 421, b"this server is not the one that was asked for; it is known as " + names)
        if isinstance(request, BoundedRequest) and request.too_long:
            return _plain(request, 413, b"too long")
        path = request.path
        if path == b"/login" and b"?" not in request.uri:
            return self._allowing(request, (b"POST",), self._login)
        if path in self._assets:
            return self._allowing(request, (b"GET", b"HEAD"), self._asset)
        if path == b"/":
            return self._allowing(request, (b"GET", b"HEAD"), self._front)
        if path == b"/data":
            return self._allowing(request, (b"GET", b"HEAD"), self._data)
        return _plain(request, 404, b"there is nothing here")

    def _allowing(
        self, request: Request, methods: tuple[bytes, ...], answer: Callable[[Request], bytes | int]
    ) -> bytes | int:
        if request.method in methods:
            return answer(request)
        request.setHeader(b"allow", b", ".join(methods))
        return _plain(request, 405, b"this is for " + b" and ".join(methods))

    def _asked_for(self, request: Request) -> bool:
        """Whether the name that the client knows us by is one of ours (DNS rebinding)."""
        given = request.requestHeaders.getRawHeaders(b"host", [])
        found = _HOST.fullmatch(given[0].decode("latin-1")) if len(given) == 1 else None
        if found is None:
            return False
        name = found[1].strip("[]").lower().rstrip(".")
        if name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    # What there is.

    def _asset(self, request: Request) -> bytes:
        octets, kind = self._assets[request.path]
        request.setHeader(b"content-type", kind)
        return octets

    def _front(self, request: Request) -> bytes:
        verdict = self._verdict(request)
        if verdict is Verdict.RIGHT:
            request.setHeader(b"content-type", b"text/html; charset=utf-8")
            return self._page.encode()
        if verdict is Verdict.WRONG:
            # Most often a cookie from before the token was changed, and nobody's guess.
            _set_cookie(request, b"", b"0")
            verdict = Verdict.NOTHING
        return self._ask_for_token(request, verdict)

    def _data(self, request: Request) -> bytes | int:
        if request.getHeader(b"sec-fetch-site") not in (None, b"same-origin", b"none"):
            return _plain(request, 403, b"this is not for other pages")
        verdict = self._verdict(request)
        if verdict is not Verdict.RIGHT:
            _refuse(request, verdict)
            return _plain(request, request.code, b"the token is needed, as Authorization: Bearer, or the cookie")
        request.setHeader(b"content-type", b"application/json")
        return answer_later(request, self._look(), "the status page")

    async def _look(self) -> bytes:
        answer = await self._whole({"do": "status", "most": MOST_SHOWN})
        facts = {**self._about, "at": self._epoch(), **view(answer)}
        return json.dumps(facts, separators=(",", ":")).encode("ascii")

    # The token.

    def _login(self, request: Request) -> bytes | int:
        if request.getHeader(b"sec-fetch-site") not in (None, b"same-origin"):
            return _plain(request, 403, b"this is not for other pages")
        if b"leave" in request.args:
            return _redirected(request, b"", b"0")
        given = request.args.get(b"token", [b""])[0].strip()
        verdict = self._gate.token(given, _host(request)) if given else Verdict.NOTHING
        if verdict is Verdict.RIGHT:
            _log.info("status: opened from {peer}", event="status-opened", peer=_peer(request))
            return _redirected(request, self._gate.cookie(), None)
        body = self._ask_for_token(request, verdict)
        if verdict is not Verdict.WRONG:
            return body
        self._tell_wrong(request)
        return answer_later(request, self._slowly(body), "the status page")

    async def _slowly(self, body: bytes) -> bytes:
        await deferLater(self._clock, WRONG_SECONDS, lambda: None)
        return body

    def _verdict(self, request: Request) -> Verdict:
        host = _host(request)
        scheme, _, given = (request.getHeader(b"authorization") or b"").partition(b" ")
        if scheme.lower() == b"bearer":
            verdict = self._gate.token(given.strip(), host)
        else:
            verdict = self._gate.knows(request.getCookie(COOKIE) or b"", host)
        if verdict is Verdict.WRONG:
            self._tell_wrong(request)
        return verdict

    def _tell_wrong(self, request: Request) -> None:
        _log.warn("status: wrong token from {peer}", event="status-refused", peer=_peer(request))

    def _ask_for_token(self, request: Request, verdict: Verdict) -> bytes:
        _refuse(request, verdict)
        request.setHeader(b"content-type", b"text/html; charset=utf-8")
        return self._form.replace("{{message}}", html.escape(_SAYS[verdict])).encode()


_SAYS = {
    Verdict.NOTHING: "",
    Verdict.WRONG: "That is not the token.",
    Verdict.WAIT: "Too many wrong tries. Try again in a minute.",
}


def view(answer: Answer) -> Answer:
    """What the page shows of an answer, and no more."""
    sessions = sorted(answer["sessions"], key=lambda one: (not one["doing"], one["idle"]))[:MOST_SHOWN]
    penalties = sorted(answer["penalties"], key=lambda one: (-one["failures"], one["seconds"]))[:MOST_SHOWN]
    return {
        "started": answer["started"],
        "totals": {name: answer["totals"].get(name, 0) for name in _TOTALS},
        "processes": answer["processes"],
        "silent": answer.get("silent", []),
        "sessions": [{name: one[name] for name in _SESSION} for one in sessions],
        "penalties": penalties,
    }


def _refuse(request: Request, verdict: Verdict) -> None:
    if verdict is Verdict.WAIT:
        request.setHeader(b"retry-after", b"60")
        request.setResponseCode(429)
    else:
        # A scheme that browsers do not ask for: the form is there for them.
        request.setHeader(b"www-authenticate", b'Bearer realm="tpops status"')
        request.setResponseCode(401)


def _set_cookie(request: Request, cookie: bytes, max_age: bytes | None) -> None:
    """A cookie that scripts do not see and that no other site's pages send."""
    https = request.getHeader(b"x-forwarded-proto") == b"https"
    request.addCookie(COOKIE, cookie, path=b"/", max_age=max_age, secure=https, httpOnly=True, sameSite=b"strict")


def _redirected(request: Request, cookie: bytes, max_age: bytes | None) -> bytes:
    """To the page."""
    _set_cookie(request, cookie, max_age)
    request.setResponseCode(303)
    request.setHeader(b"location", b"/")
    return b""


def _plain(request: Request, code: int, text: bytes) -> bytes:
    request.setResponseCode(code)
    request.setHeader(b"content-type", b"text/plain; charset=utf-8")
    return text + b"\n"


def _host(request: Request) -> str:
    """The client's address, "" for a UNIX socket."""
    return str(getattr(request.getClientAddress(), "host", ""))


def _peer(request: Request) -> str:
    """The same for the log."""
    return _host(request) or "the UNIX socket"


def _octets(name: str) -> bytes:
    return (files("tpops.sight") / "page" / name).read_bytes()


def _text(name: str, about: dict[str, str]) -> str:
    text = _octets(name).decode()
    for key, value in about.items():
        text = text.replace("{{" + key + "}}", html.escape(value))
    return text
