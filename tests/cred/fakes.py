"""What the tests of tpops.cred share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from twisted.internet.defer import Deferred, succeed

from tpops.cred.hashes import Verifier
from tpops.cred.names import LoginNames
from tpops.cred.source import Means
from tpops.credentials import NamePassword
from tpops.errors import UnknownUser
from tpops.model import Account

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Threads:
    """
    Runs "blocking" functions when the test says so.

    @ivar waiting: what is to be run
    @ivar runs: how often something was asked for
    """

    def __init__(self, at_once: bool = True) -> None:
        self.at_once = at_once
        self.waiting: list[Callable[[], None]] = []
        self.runs = 0

    def __call__(self, f: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Awaitable[_T]:
        self.runs += 1
        if self.at_once:
            try:
                return succeed(f(*args, **kwargs))
            except Exception:
                failed: Deferred[_T] = Deferred()
                failed.errback()
                return failed
        later: Deferred[_T] = Deferred()
        self.waiting.append(lambda: later.callback(f(*args, **kwargs)))
        return later

    def run(self) -> None:
        """Run what waits."""
        while self.waiting:
            self.waiting.pop(0)()


class Time:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Answers:
    """An accounts source with a fixed answer: bytes, an exception or a Deferred."""

    def __init__(self, name: str, answer: object) -> None:
        self.name = name
        self.answer = answer
        self.asked: list[bytes] = []

    def requestAvatarId(self, credentials: NamePassword):
        self.asked.append(credentials.username)
        self.last = credentials
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def account(self, name: str) -> Account:
        if isinstance(self.answer, UnknownUser):
            raise self.answer
        return Account(name=name, driver=self.name)


def verifier(threads: Threads | None = None, seconds: Time | None = None, **settings: float) -> Verifier:
    """A verifier whose threads and time the test holds."""
    return Verifier(threads or Threads(), seconds or Time(), **settings)


def means(threads: Threads | None = None, seconds: Time | None = None, **others: object) -> Means:
    """What sources work with, where the test holds threads and time."""
    threads, seconds = threads or Threads(), seconds or Time()
    given = {
        "verifier": verifier(threads, seconds),
        "run_in_thread": threads,
        "seconds": seconds,
        "reactor": None,
        "split": LoginNames().split,
        "hostname": "mail.example.org",
        **others,
    }
    return Means(**given)


def login(name: str, password: str = "secret") -> NamePassword:
    """Credentials as an octet protocol gives them."""
    return NamePassword(name.encode(), password.encode())
