"""
The commands of POP3: the one table of verbs, and the rules for lines and arguments.

Purpose: the dispatcher, CAPA and the table in docs/protocol.md come from L{COMMANDS}; nothing is looked up
by a name that a client chose.
Limits: RFC 2449 section 4 allows 255 octets for a command line; the server's configuration may allow more.
A SASL response may be longer than any command (RFC 4954 section 4 names 12288 octets).
"""

from __future__ import annotations

from dataclasses import dataclass

from tpops.errors import BadCommand, CommandError, WrongState

AUTHORIZATION = "AUTHORIZATION"
TRANSACTION = "TRANSACTION"
BOTH = (AUTHORIZATION, TRANSACTION)

#: Longest line inside a SASL exchange, and longest AUTH command, without the line end.
SASL_LINE_OCTETS = 65536

#: The largest number of digits that can still be a message number or a line count.
_MOST_DIGITS = 10


@dataclass(frozen=True, slots=True)
class Command:
    """
    One verb.

    @ivar verb: as sent, in capitals
    @ivar states: where it is legal (RFC 1939 section 3)
    @ivar syntax: its arguments, for people
    @ivar source: where it is specified
    """

    verb: bytes
    states: tuple[str, ...]
    syntax: str
    source: str


COMMANDS: dict[bytes, Command] = {
    command.verb: command
    for command in (
        Command(b"USER", (AUTHORIZATION,), "name", "RFC 1939 §7"),
        Command(b"PASS", (AUTHORIZATION,), "the rest of the line", "RFC 1939 §7"),
        Command(b"APOP", (AUTHORIZATION,), "name digest", "RFC 1939 §7"),
        Command(b"AUTH", (AUTHORIZATION,), "[mechanism [initial-response]]", "RFC 5034 §4"),
        Command(b"STLS", (AUTHORIZATION,), "", "RFC 2595 §4"),
        Command(b"UTF8", (AUTHORIZATION,), "", "RFC 6856 §2.1"),
        Command(b"LANG", BOTH, "[language]", "RFC 6856 §3.1"),
        Command(b"CAPA", BOTH, "", "RFC 2449 §5"),
        Command(b"QUIT", BOTH, "", "RFC 1939 §4, §6"),
        Command(b"STAT", (TRANSACTION,), "", "RFC 1939 §5"),
        Command(b"LIST", (TRANSACTION,), "[message]", "RFC 1939 §5"),
        Command(b"RETR", (TRANSACTION,), "message", "RFC 1939 §5"),
        Command(b"DELE", (TRANSACTION,), "message", "RFC 1939 §5"),
        Command(b"NOOP", (TRANSACTION,), "", "RFC 1939 §5"),
        Command(b"RSET", (TRANSACTION,), "", "RFC 1939 §5"),
        Command(b"TOP", (TRANSACTION,), "message lines", "RFC 1939 §7"),
        Command(b"UIDL", (TRANSACTION,), "[message]", "RFC 1939 §7"),
        Command(b"LAST", (TRANSACTION,), "", "RFC 1460 §3 (off by default)"),
    )
}


def no_argument(verb: str, rest: bytes) -> None:
    """Refuse arguments where there are none."""
    if rest.strip(b" "):
        raise BadCommand(f"{verb} takes no argument")


def message_number(verb: str, rest: bytes) -> int:
    """The one argument of a verb that needs a message number."""
    word = rest.strip(b" ")
    if not word or b" " in word:
        raise BadCommand(f"{verb} needs one message number")
    return _number(word, least=1, what=f"{verb} needs a message number from 1 up")


def number_and_lines(rest: bytes) -> tuple[int, int]:
    """The arguments of TOP."""
    words = rest.split(b" ")
    words = [word for word in words if word]
    if len(words) != 2:
        raise BadCommand("TOP needs a message number and a number of lines")
    return (
        _number(words[0], least=1, what="TOP needs a message number from 1 up"),
        _number(words[1], least=0, what="TOP needs a number of lines from 0 up"),
    )


def _number(word: bytes, least: int, what: str) -> int:
    # bytes.isdigit knows only 0 to 9: no sign, no underscore, no other script's digits.
    if not word.isdigit() or len(word) > _MOST_DIGITS:
        raise BadCommand(what)
    number = int(word)
    if number < least:
        raise BadCommand(what)
    return number


def refuse(verb: bytes) -> CommandError:
    """What a command is that this state does not have."""
    if verb in COMMANDS:
        return WrongState(f"{verb.decode('ascii')} in the wrong state")
    return BadCommand("unknown command")
