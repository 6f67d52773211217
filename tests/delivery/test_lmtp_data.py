"""The octets of a message, cut in any way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tpops.delivery.lmtp_data import Data, StoredLines
from tpops.protocol.transparency import Octets

#: Texts made of what matters here.
TEXTS = st.lists(
    st.sampled_from(
        [b"\r\n", b"\n", b"\r", b".", b"..", b"a", b"\0", b"\r\n.", b"\r\n.\n", b"\n.\n", b"\r.\r", b"Xy z"]
    ),
    max_size=30,
).map(b"".join)


def stuffed(text: bytes) -> bytes:
    """What a client sends behind DATA (RFC 5321 section 4.5.2): line by line, in the dullest way."""
    if not text.endswith(b"\r\n"):
        text += b"\r\n"
    lines = text.split(b"\r\n")[:-1]
    return b"".join((b"." if line[:1] == b"." else b"") + line + b"\r\n" for line in lines) + b".\r\n"


def cut(octets: bytes, places: list[int]) -> list[bytes]:
    """Pieces between these places."""
    ends = sorted({min(place, len(octets)) for place in places})
    return [octets[start:end] for start, end in zip([0, *ends], [*ends, len(octets)], strict=True)]


def received(pieces: list[bytes]) -> tuple[bytes, bytes, bool]:
    """The message, what came behind it, and whether it is complete."""
    data = Data()
    message = b""
    rest = b""
    for piece in pieces:
        if data.ended:
            rest += piece
        else:
            message += data.feed(piece)
    return message, data.rest + rest, data.ended


def stored(pieces: list[bytes]) -> bytes:
    """What is stored."""
    lines = StoredLines()
    return b"".join([lines.feed(piece) for piece in pieces]) + lines.finish()


class DataTests(SynchronousTestCase):
    """The end, and the dots."""

    CASES = (
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"a\r\n.\r\n", b"a\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b"...\r\n.\r\n", b"..\r\n"),
        (b".a\r\n.\r\n", b"a\r\n"),
        (b"a\r\n..\r\n.b\r\n.\r\n", b"a\r\n.\r\nb\r\n"),
        (b"a\n.\n.\r\n\r\n.\r\n", b"a\n.\n.\r\n\r\n"),
        (b"a\r.\r\n.\r\n", b"a\r.\r\n"),
        (b"a\r\n.\n\r\n.\r\n", b"a\r\n\n\r\n"),
        (b"a\r\n.\r\r\n.\r\n", b"a\r\n\r\r\n"),
        (b"a\n..b\r\n.\r\n", b"a\n..b\r\n"),
        (b"a\0b\r\n.\r\n", b"a\0b\r\n"),
    )

    def test_table(self) -> None:
        """RFC 5321 section 4.5.2: whole, octet by octet, and with the next command behind it."""
        for sent, message in self.CASES:
            for pieces in ([sent], [sent[at : at + 1] for at in range(len(sent))]):
                self.assertEqual(received(pieces), (message, b"", True), sent)
            self.assertEqual(received([sent + b"QUIT\r\n"]), (message, b"QUIT\r\n", True), sent)

    def test_only_crlf_dot_crlf_is_the_end(self) -> None:
        """RFC 5321 section 4.1.1.4: with no other line ends can anybody end a message early."""
        for end in (b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\r\n.\0\r\n"):
            message, rest, ended = received([b"a" + end + b"MAIL FROM:<evil@example.org>\r\n"])
            self.assertFalse(ended, end)
            self.assertEqual(rest, b"")
            self.assertIn(b"MAIL FROM", message)

    @given(TEXTS, st.lists(st.integers(0, 80), max_size=12), st.sampled_from([b"", b"QUIT\r\n", b".\r\n"]))
    def test_any_way_of_cutting(self, text: bytes, places: list[int], behind: bytes) -> None:
        """Promise: any chunking gives the octets that the client meant, and leaves what follows alone."""
        if b"\r\n.\r\n" in b"\r\n" + text:
            # The end's own octets are in the text only where the client stuffs them away.
            self.assertIn(b"..", stuffed(text))
        meant = text if text.endswith(b"\r\n") else text + b"\r\n"
        self.assertEqual(received(cut(stuffed(text) + behind, places)), (meant, behind, True))


class StoredLinesTests(SynchronousTestCase):
    """CRLF becomes LF."""

    CASES = (
        (b"", b""),
        (b"a\r\nb\r\n", b"a\nb\n"),
        (b"a\nb\r\n", b"a\nb\n"),
        (b"a\rb\r\n", b"a\rb\n"),
        (b"a\r\r\nb\r\n", b"a\r\r\nb\n"),
        (b"\r\r\r\n\r\n", b"\r\r\r\n\n"),
        (b"a\r", b"a\r"),
    )

    def test_table(self) -> None:
        """Promise: line ends of stored mail, and no other octet is touched; whole and octet by octet."""
        for came, lies in self.CASES:
            self.assertEqual(stored([came]), lies)
            self.assertEqual(stored([came[at : at + 1] for at in range(len(came))]), lies)

    @given(TEXTS, st.lists(st.integers(0, 80), max_size=12))
    def test_any_way_of_cutting(self, text: bytes, places: list[int]) -> None:
        """Promise: any chunking gives the same stored octets."""
        self.assertEqual(stored(cut(text, places)), stored([text]))

    @given(TEXTS.filter(lambda text: b"\n" not in text.replace(b"\r\n", b"")))
    def test_pop3_gives_back_what_came(self, text: bytes) -> None:
        """RFC 1939 section 3: lines with CRLF leave with CRLF; a message without bare LF is sent as it came."""
        octets = Octets()
        octets.feed(stored([text]))
        missing = 0 if not text or text.endswith(b"\r\n") else 2
        self.assertEqual(octets.total(), len(text) + missing)
