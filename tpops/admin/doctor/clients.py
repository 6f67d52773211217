"""
Logins as named mail programs do them: their commands, in their order and their form.

Purpose: a server may be right by the letter and still not get on with a program.  Nothing is deleted; each
dialogue ends with QUIT.
Limits: what the programs' versions of 2020 to 2026 send; their further ways (NTLM, OAuth) are left out.
"""

from __future__ import annotations

import base64
from collections.abc import Callable

from tpops.admin.doctor.before_login import capabilities
from tpops.admin.doctor.findings import Findings, note, ok, problem
from tpops.admin.doctor.sessions import Login
from tpops.admin.doctor.wire import Address, Broken, Wire, shown

Dialogue = Callable[[Wire, Login], None]


class Stopped(Exception):
    """The program would give up here; the text says why."""


class Impossible(Exception):
    """The server does not offer what the dialogue needs."""


def _wanted(wire: Wire, command: bytes, name: bytes = b"") -> bytes:
    """A command that must get +OK; C{name} is shown instead of it."""
    answer = wire.command(command)
    if not answer.startswith(b"+OK"):
        raise Stopped(f"{shown(name or command)} is answered with {shown(answer)}")
    return answer


def _listed(wire: Wire, command: bytes) -> list[bytes]:
    """A command with a multi-line reply that must get +OK."""
    first, lines = wire.lines(command)
    if not first.startswith(b"+OK"):
        raise Stopped(f"{shown(command)} is answered with {shown(first)}")
    return lines


def _user_and_pass(wire: Wire, login: Login) -> None:
    _wanted(wire, b"USER " + login.name)
    _wanted(wire, b"PASS " + login.password, b"PASS")


def _plain(login: Login) -> bytes:
    return base64.b64encode(b"\0" + login.name + b"\0" + login.password)


def thunderbird(wire: Wire, login: Login) -> None:
    """CAPA, AUTH PLAIN in two steps where it is offered, STAT, LIST, UIDL."""
    if b"PLAIN" in capabilities(wire).get(b"SASL", ()):
        if not wire.command(b"AUTH PLAIN").startswith(b"+"):
            raise Stopped("AUTH PLAIN gets no challenge")
        _wanted(wire, _plain(login), b"the response of AUTH PLAIN")
    else:
        _user_and_pass(wire, login)
    _wanted(wire, b"STAT")
    _listed(wire, b"LIST")
    _listed(wire, b"UIDL")


def outlook(wire: Wire, login: Login) -> None:
    """AUTH alone (an error is fine), USER, PASS, STAT, UIDL, LIST; it keeps the connection short."""
    if wire.command(b"AUTH ").startswith(b"+OK"):
        list(wire.raw_lines())
    _user_and_pass(wire, login)
    _wanted(wire, b"STAT")
    _listed(wire, b"UIDL")
    _listed(wire, b"LIST")


def fetchmail(wire: Wire, login: Login) -> None:
    """CAPA, USER, PASS, STAT, LAST (an error is fine), UIDL, LIST, and the newest message by RETR."""
    capabilities(wire)
    _user_and_pass(wire, login)
    _wanted(wire, b"STAT")
    wire.command(b"LAST")
    _listed(wire, b"UIDL")
    listed = _listed(wire, b"LIST")
    if listed:
        _listed(wire, b"RETR " + listed[-1].split()[0])


def javamail(wire: Wire, login: Login) -> None:
    """CAPA once, before login; USER, PASS, STAT, NOOP, LIST n, UIDL n, TOP n 0."""
    capabilities(wire)
    _user_and_pass(wire, login)
    count = int(_wanted(wire, b"STAT").split()[1])
    _wanted(wire, b"NOOP")
    if count:
        _wanted(wire, b"LIST %d" % count)
        _wanted(wire, b"UIDL %d" % count)
        _listed(wire, b"TOP %d 0" % count)


def mpop(wire: Wire, login: Login) -> None:
    """STAT, UIDL and LIST in one write after login, where PIPELINING is announced."""
    announced = b"PIPELINING" in capabilities(wire)
    _user_and_pass(wire, login)
    if not announced:
        raise Impossible("PIPELINING is not announced, so it does not pipeline")
    wire.send(b"STAT\r\nUIDL\r\nLIST\r\n")
    for name, listing in (("STAT", False), ("UIDL", True), ("LIST", True)):
        answer = wire.line()
        if not answer.startswith(b"+OK"):
            raise Stopped(f"{name} in a row is answered with {shown(answer)}")
        if listing:
            list(wire.raw_lines())


def curl(wire: Wire, login: Login) -> None:
    """CAPA, AUTH PLAIN with the response in the same line, LIST."""
    if b"PLAIN" not in capabilities(wire).get(b"SASL", ()):
        raise Impossible("AUTH PLAIN is not offered")
    _wanted(wire, b"AUTH PLAIN " + _plain(login), b"AUTH PLAIN with a response")
    _listed(wire, b"LIST")


def poplib(wire: Wire, login: Login) -> None:
    """Python's (getmail, ticket systems): USER, PASS, STAT, LIST, UIDL, and lines of at most 2048 octets."""
    _user_and_pass(wire, login)
    _wanted(wire, b"STAT")
    _listed(wire, b"LIST")
    long = [line for line in _listed(wire, b"UIDL") if len(line) > 2048]
    if long:
        raise Stopped("UIDL has a line over 2048 octets")


DIALOGUES: dict[str, Dialogue] = {
    "Thunderbird": thunderbird,
    "Outlook": outlook,
    "fetchmail": fetchmail,
    "JavaMail": javamail,
    "mpop": mpop,
    "curl": curl,
    "Python poplib": poplib,
}


def all_of_them(address: Address, login: Login) -> Findings:
    """Every dialogue, one after the other."""
    for name, dialogue in DIALOGUES.items():
        try:
            with Wire(address) as wire:
                dialogue(wire, login)
                _wanted(wire, b"QUIT")
        except Impossible as why:
            yield note(name, f"not as it would: {why}")
        except (Stopped, Broken) as why:
            yield problem(name, str(why), f"{name} cannot fetch mail here.")
        else:
            yield ok(name, "logs in, lists and quits")
