"""
What can be seen of a server without an account: greeting, CAPA and whether it is true, STLS and what it lets through,
the certificate, commands that are wrong.
"""

from __future__ import annotations

import datetime
import re

from tpops.admin import tls_probe
from tpops.admin.doctor.findings import Finding, Findings, note, ok, problem, warning
from tpops.admin.doctor.wire import Address, Broken, Wire, shown
from tpops.admin.tls_facts import Trust, facts, is_address, is_for

#: Longest first line of a reply (RFC 2449 section 4).
_REPLY_OCTETS = 512

_STAMP = re.compile(rb"<[^<>\s@]+@[^<>\s]+>")

#: Mechanisms whose first response can be left out and the exchange cancelled.
_MECHANISM = re.compile(rb"[A-Z0-9_-]{1,20}")

#: A response code (RFC 2449 section 8).
_CODE = re.compile(rb"-ERR \[[A-Z/-]+\]")


def capabilities(wire: Wire) -> dict[bytes, list[bytes]]:
    """What CAPA lists: words by tag, {} where there is no CAPA."""
    _, lines = wire.lines(b"CAPA")
    words = [line.split() for line in lines]
    return {line[0].upper(): line[1:] for line in words if line}


def greeting(address: Address) -> Findings:
    """The first line, twice."""
    stamps = []
    for _ in range(2):
        with Wire(address) as wire:
            wire.quit()
        if not wire.greeting.startswith(b"+OK"):
            yield problem(
                "greeting",
                f"the first line is {shown(wire.greeting)!r}",
                "Mail programs expect +OK and go away (RFC 1939 §4).",
            )
            return
        if len(wire.greeting) + 2 > _REPLY_OCTETS:
            yield warning("greeting", f"it has {len(wire.greeting) + 2} octets", "RFC 2449 §4 allows 512.")
        stamps.append(_STAMP.search(wire.greeting))
    first, second = stamps
    if first is None or second is None:
        yield ok("greeting", f"{shown(wire.greeting)} (no APOP)")
    elif first[0] == second[0]:
        yield problem(
            "greeting",
            f"the timestamp {shown(first[0])} is the same on two connections",
            "Whoever has seen one APOP login can repeat it (RFC 1939 §7: it must differ each time).",
        )
    else:
        yield ok("greeting", f"{shown(wire.greeting)}; the APOP timestamp differs each time")


def capa(address: Address) -> Findings:
    """CAPA, and whether what it says is true."""
    with Wire(address) as wire:
        offered = capabilities(wire)
        if not offered:
            yield warning(
                "CAPA",
                "there is none",
                "Mail programs fall back to USER and PASS, and some do not use UIDL (RFC 2449).",
            )
            wire.quit()
            return
        yield ok("CAPA", b" ".join(sorted(offered)).decode("ascii", "replace"))
        for tag in (b"UIDL", b"TOP"):
            if tag not in offered:
                yield warning(
                    "CAPA",
                    f"{tag.decode()} is not listed before login",
                    "Programs that ask CAPA once, such as JavaMail and NeoMutt, do without it.",
                )
        if b"RESP-CODES" not in offered or b"AUTH-RESP-CODE" not in offered:
            yield note(
                "CAPA",
                "no RESP-CODES or no AUTH-RESP-CODE",
                "Programs cannot tell a wrong password from a locked maildrop and ask for it again (RFC 3206).",
            )
        if wire.tls and b"STLS" in offered:
            yield problem("CAPA", "STLS is listed although TLS is on", "Programs try it and fail (RFC 2595 §4).")
        yield from _sasl(wire, offered.get(b"SASL", []))
        yield from _pipelining(wire, b"PIPELINING" in offered)
        wire.quit()


def _sasl(wire: Wire, mechanisms: list[bytes]) -> Findings:
    """Every mechanism begins, and can be cancelled (RFC 5034 section 4)."""
    for mechanism in mechanisms:
        name = mechanism.decode("ascii", "replace")
        if mechanism == b"EXTERNAL" or not _MECHANISM.fullmatch(mechanism):
            continue
        answer = wire.command(b"AUTH " + mechanism)
        if not answer.startswith(b"+ ") and answer != b"+":
            yield problem(
                f"SASL {name}",
                f"it is announced, and AUTH {name} is answered with {shown(answer)!r}",
                "Programs choose what is announced and then fail to log in.",
            )
            continue
        answer = wire.command(b"*")
        if not answer.startswith(b"-ERR"):
            yield warning(
                f"SASL {name}",
                f"'*' is answered with {shown(answer)!r}",
                "It cancels the exchange and must be answered with -ERR (RFC 5034 §4).",
            )
        else:
            yield ok(f"SASL {name}", "begins, and can be cancelled")


def _pipelining(wire: Wire, announced: bool) -> Findings:
    """Several commands in one write are all answered (RFC 2449 section 6.6)."""
    if not announced:
        yield note("PIPELINING", "not announced", "Each command costs a round trip.")
        return
    wire.send(b"CAPA\r\nCAPA\r\nXDOCTOR\r\nCAPA\r\n")
    firsts = []
    for _ in range(4):
        firsts.append(wire.line())
        if firsts[-1].startswith(b"+OK"):
            list(wire.raw_lines())
    good = [one[:1] for one in firsts] == [b"+", b"+", b"-", b"+"]
    text = "four commands in one write get four replies in order"
    yield (
        ok("PIPELINING", text)
        if good
        else problem(
            "PIPELINING",
            f"four commands in one write get {[shown(one) for one in firsts]}",
            "Programs that believe the announcement, such as mpop, get confused.",
        )
    )


def wrong_commands(address: Address) -> Findings:
    """What is no command is refused, and the connection goes on."""
    with Wire(address) as wire:
        for command in (b"XDOCTOR", b"RETR 1", b"capa ", b"", b"X" * 250):
            if not command:
                continue
            try:
                answer = wire.command(command)
                if answer.startswith(b"+OK") and command == b"capa ":
                    list(wire.raw_lines())
            except Broken as broken:
                yield problem("errors", f"{shown(command[:20])!r}: {broken}", "A mistyped command ends the session.")
                return
            if answer.startswith(b"+OK") and command != b"capa ":
                yield problem("errors", f"{shown(command[:20])!r} before login is answered with {shown(answer)!r}", "")
        wire.quit()
        yield ok("errors", "wrong and early commands get -ERR, and the session goes on")


def stls(address: Address) -> Findings:
    """STLS, and whether what stands behind it in the clear is thrown away."""
    with Wire(address, stls=False) as plain:
        if b"STLS" in capabilities(plain):
            yield from _injection(plain, address.host)
        else:
            yield note("STLS", "not announced", "Clients at this port have no TLS.")


def _injection(plain: Wire, name: str) -> Findings:
    plain.send(b"STLS\r\nCAPA\r\n")
    if not plain.line().startswith(b"+OK"):
        yield ok("STLS", "a command behind it in the clear makes the server refuse")
        return
    try:
        plain.start_tls(name)
        quiet = plain.silent(1.0)
    except Broken:
        yield ok("STLS", "a command behind it in the clear ends the connection")
        return
    if quiet:
        yield ok("STLS", "a command behind it in the clear is thrown away")
        return
    yield problem(
        "STLS",
        "a command that was sent in the clear behind STLS is carried out inside TLS",
        "Somebody between client and server can put commands into the session (CVE-2011-0411).",
    )


def certificate(address: Address, trust: Trust, name: str) -> Findings:
    """What clients see of TLS."""
    if address.tls == "none":
        yield note("TLS", "not used for this look", "See --tls.")
        return
    place = tls_probe.Place(address.host, address.port, address.tls == "stls")
    try:
        served = tls_probe.look(place, "" if is_address(name) else name)
    except OSError as error:
        yield problem("TLS", f"{error.strerror or error}", "Mail programs that want TLS cannot connect.")
        return
    if not served.chain:
        yield problem("TLS", "it serves no certificate", "Mail programs that want TLS cannot connect.")
        return
    yield ok("TLS", f"{served.version} {served.cipher}")
    found = facts(str(place), served.chain, datetime.datetime.now(datetime.UTC), trust).findings
    for one in found:
        yield Finding(one.level, "certificate", one.text, "Programs that verify it refuse." * (one.level == "problem"))
    if not is_for(served.chain[0], name):
        yield problem("certificate", f"{name} is not among its names", "Programs that verify it refuse to connect.")
    elif not found:
        yield ok("certificate", f"valid for {name}")


def refusal(address: Address, name: bytes) -> Findings:
    """A wrong password; costs one failed login."""
    with Wire(address) as wire:
        codes = b"AUTH-RESP-CODE" in capabilities(wire)
        answer = wire.command(b"USER " + name)
        if answer.startswith(b"+OK"):
            answer = wire.command(b"PASS not-the-password-of-anybody")
    if answer.startswith(b"+OK"):
        yield problem("wrong password", "it is let in", "Anybody can read this mail.")
    elif codes and not _CODE.match(answer):
        yield warning(
            "wrong password",
            f"{shown(answer)!r} has no response code",
            "AUTH-RESP-CODE is announced, so programs wait for [AUTH] (RFC 3206 §4).",
        )
    else:
        yield ok("wrong password", shown(answer))
