r"""
The grammar of LMTP: one line of a client becomes one command (RFC 2033, RFC 5321 section 4.1).

Purpose: pure code, no I/O.  A line that is no command raises L{Refused} with the reply that it gets.
Taken beyond the standards, because clients do it: spaces behind C{FROM:} and C{TO:}, recipients without a domain, local
parts with dots in odd places.  Source routes (C{<@a,@b:joe@c>}) are left out, as RFC 5321 appendix C says.
Limits: the length of a line is the reader's business.  Octets below 0x20 and 0x7F are nowhere allowed.
"""

from __future__ import annotations

import re

import attrs

from tpops.delivery import lmtp_replies as replies

#: A path: the source route, then quoted strings and what may stand outside of them.
_PATH = re.compile(
    rb"""<(?:@[^<>:\s]+:)?((?:"(?:[^"\\\x00-\x1f\x7f]|\\[\x20-\x7e])*"|[^"<>\\\x00-\x20\x7f])*)>(?=\s|$)(.*)""",
    re.DOTALL,
)
_DOMAIN = re.compile(rb"[A-Za-z0-9._\x80-\xff-]+|\[[\x21-\x5a\x5e-\x7e]+\]")
_PARAMETER = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([\x21-\x3c\x3e-\x7e]+))?")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_BACKSLASH = re.compile(r"\\(.)")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")

#: Digits of a number of octets (RFC 1870 section 3).
_MOST_DIGITS = 20


class Refused(Exception):
    """
    The line is no command that can be carried out.

    @ivar reply: what the client gets
    @ivar closes: whether nothing that follows can be understood any more
    """

    def __init__(self, reply: bytes, closes: bool = False) -> None:
        super().__init__(reply.decode("ascii").rstrip())
        self.reply = reply
        self.closes = closes


@attrs.frozen(slots=True)
class Lhlo:
    """
    The client says who he is.

    @ivar name: as he calls himself
    """

    name: str


@attrs.frozen(slots=True)
class Mail:
    """
    A transaction begins.

    @ivar sender: the reverse-path, "" for the null sender
    @ivar octets: how big the message will be, 0 where that is not said
    @ivar utf8: whether addresses and header may have UTF-8 (RFC 6531)
    """

    sender: str
    octets: int = 0
    utf8: bool = False


@attrs.frozen(slots=True)
class Rcpt:
    """
    One recipient.

    @ivar address: the forward-path
    """

    address: str


def unquoted(address: str) -> str:
    """An address with the quotation marks and backslashes taken off that the local part is written with."""
    local_part, at, domain = address.rpartition("@") if "@" in address else (address, "", "")
    return _QUOTED.sub(lambda found: _BACKSLASH.sub(r"\1", found[1]), local_part) + at + domain


@attrs.frozen(slots=True)
class Bdat:
    """
    A piece of the message follows (RFC 3030 section 2).

    @ivar octets: how long it is
    @ivar last: whether the message is complete then
    """

    octets: int
    last: bool


@attrs.frozen(slots=True)
class Plain:
    """
    A command that is nothing but its verb here.

    @ivar verb: DATA RSET NOOP QUIT VRFY HELP
    """

    verb: bytes


Command = Lhlo | Mail | Rcpt | Bdat | Plain


def parse(line: bytes) -> Command:
    """
    Understand a line.

    @param line: without its line end
    @raise Refused: when it is no command
    """
    verb, _, rest = line.partition(b" ")
    verb = verb.upper()
    if _CONTROL.search(line):
        raise Refused(replies.BAD_BDAT, closes=True) if verb == b"BDAT" else Refused(replies.BAD_LINE_END)
    rest = rest.strip(b" ")
    if verb == b"MAIL":
        return _mail(rest)
    if verb == b"RCPT":
        return _rcpt(rest)
    if verb == b"BDAT":
        return _bdat(rest)
    if verb == b"LHLO":
        if not rest:
            raise Refused(replies.NAME_MISSING)
        return Lhlo(rest.decode("utf-8", "replace"))
    if verb in (b"HELO", b"EHLO"):
        raise Refused(replies.NOT_SMTP)
    if verb in (b"DATA", b"RSET", b"QUIT"):
        if rest:
            raise Refused(replies.NO_ARGUMENTS)
        return Plain(verb)
    if verb in (b"NOOP", b"VRFY", b"HELP"):
        return Plain(verb)
    raise Refused(replies.UNKNOWN_COMMAND)


def _mail(rest: bytes) -> Mail:
    address, parameters = _path(rest, b"FROM:", replies.BAD_SENDER)
    octets = 0
    for name, value in parameters.items():
        if name == b"SIZE":
            octets = _number(value, replies.BAD_PARAMETER)
        elif name == b"BODY":
            if value.upper() not in (b"7BIT", b"8BITMIME"):
                raise Refused(replies.BAD_PARAMETER)
        elif name == b"SMTPUTF8":
            if value:
                raise Refused(replies.BAD_PARAMETER)
        else:
            raise Refused(replies.UNKNOWN_PARAMETER)
    return Mail(_address(address, replies.BAD_SENDER) if address else "", octets, b"SMTPUTF8" in parameters)


def _rcpt(rest: bytes) -> Rcpt:
    address, parameters = _path(rest, b"TO:", replies.BAD_RECIPIENT)
    if not address:
        raise Refused(replies.BAD_RECIPIENT)
    if parameters:
        raise Refused(replies.UNKNOWN_PARAMETER)
    return Rcpt(_address(address, replies.BAD_RECIPIENT))


def _bdat(rest: bytes) -> Bdat:
    words = rest.split()
    last = len(words) == 2 and words[1].upper() == b"LAST"
    if len(words) - last != 1:
        raise Refused(replies.BAD_BDAT, closes=True)
    try:
        return Bdat(_number(words[0], replies.BAD_BDAT), last)
    except Refused as refused:
        raise Refused(refused.reply, closes=True) from None


def _number(digits: bytes, otherwise: bytes) -> int:
    if not digits.isdigit() or len(digits) > _MOST_DIGITS:
        raise Refused(otherwise)
    return int(digits)


def _path(rest: bytes, begins: bytes, otherwise: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """The address and the parameters behind it."""
    found = _PATH.fullmatch(rest[len(begins) :].lstrip(b" ")) if rest[: len(begins)].upper() == begins else None
    if found is None:
        raise Refused(otherwise)
    parameters: dict[bytes, bytes] = {}
    for word in found[2].split():
        parameter = _PARAMETER.fullmatch(word)
        if parameter is None or parameter[1].upper() in parameters:
            raise Refused(replies.BAD_PARAMETER)
        parameters[parameter[1].upper()] = parameter[2] or b""
    return found[1], parameters


def _address(address: bytes, otherwise: bytes) -> str:
    """An address as text, looked at for what no address can have."""
    local_part, at, domain = address.rpartition(b"@")
    if at and not (local_part and _DOMAIN.fullmatch(domain)):
        raise Refused(otherwise)
    try:
        return address.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(otherwise) from None
