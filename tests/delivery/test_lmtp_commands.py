"""The grammar of LMTP."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tpops.delivery import lmtp_replies as replies
from tpops.delivery.lmtp_commands import Bdat, Command, Lhlo, Mail, Plain, Rcpt, Refused, parse, unquoted


class ParseTests(SynchronousTestCase):
    """One line, one command."""

    GOOD: tuple[tuple[bytes, Command], ...] = (
        (b"LHLO mx.example.org", Lhlo("mx.example.org")),
        (b"lhlo [192.0.2.1]", Lhlo("[192.0.2.1]")),
        (b"MAIL FROM:<>", Mail("")),
        (b"mail from:<joe@example.org>", Mail("joe@example.org")),
        (b"MAIL FROM: <joe@example.org>", Mail("joe@example.org")),
        (b"MAIL FROM:<joe@example.org> SIZE=1000 BODY=8BITMIME", Mail("joe@example.org", 1000)),
        (b"MAIL FROM:<joe@example.org> body=7bit  size=0", Mail("joe@example.org")),
        ("MAIL FROM:<jörg@example.org> SMTPUTF8".encode(), Mail("jörg@example.org", utf8=True)),
        (b"MAIL FROM:<@a.example,@b.example:joe@c.example>", Mail("joe@c.example")),
        (b'MAIL FROM:<"joe smith"@example.org>', Mail('"joe smith"@example.org')),
        (b'MAIL FROM:<"joe>@\\""@example.org> SIZE=5', Mail('"joe>@\\""@example.org', 5)),
        (b"MAIL FROM:<SRS0=a+b=cc=example.com=joe@example.org>", Mail("SRS0=a+b=cc=example.com=joe@example.org")),
        (b"MAIL FROM:<joe..x.@example.org>", Mail("joe..x.@example.org")),
        (b"RCPT TO:<joe@example.org>", Rcpt("joe@example.org")),
        (b"rcpt to:<joe>", Rcpt("joe")),
        (b"RCPT TO:<joe@[192.0.2.1]>", Rcpt("joe@[192.0.2.1]")),
        (b"RCPT TO:<joe@[IPv6:2001:db8::1]>", Rcpt("joe@[IPv6:2001:db8::1]")),
        (b"DATA", Plain(b"DATA")),
        (b"data ", Plain(b"DATA")),
        (b"RSET", Plain(b"RSET")),
        (b"QUIT", Plain(b"QUIT")),
        (b"NOOP anything at all", Plain(b"NOOP")),
        (b"VRFY joe", Plain(b"VRFY")),
        (b"HELP", Plain(b"HELP")),
        (b"HELP MAIL", Plain(b"HELP")),
        (b"BDAT 0 LAST", Bdat(0, True)),
        (b"bdat 123456789 last", Bdat(123456789, True)),
        (b"BDAT 7", Bdat(7, False)),
    )

    BAD: tuple[tuple[bytes, bytes], ...] = (
        (b"", replies.UNKNOWN_COMMAND),
        (b"EXPN all", replies.UNKNOWN_COMMAND),
        (b"STARTTLS", replies.UNKNOWN_COMMAND),
        (b"HELO me", replies.NOT_SMTP),
        (b"EHLO me", replies.NOT_SMTP),
        (b"LHLO", replies.NAME_MISSING),
        (b"LHLO  ", replies.NAME_MISSING),
        (b"DATA now", replies.NO_ARGUMENTS),
        (b"RSET all", replies.NO_ARGUMENTS),
        (b"QUIT please", replies.NO_ARGUMENTS),
        (b"MAIL", replies.BAD_SENDER),
        (b"MAIL TO:<joe@example.org>", replies.BAD_SENDER),
        (b"MAIL FROM:joe@example.org", replies.BAD_SENDER),
        (b"MAIL FROM:<joe@example.org", replies.BAD_SENDER),
        (b"MAIL FROM:<joe@example.org>SIZE=5", replies.BAD_SENDER),
        (b"MAIL FROM:<joe@>", replies.BAD_SENDER),
        (b"MAIL FROM:<@example.org>", replies.BAD_SENDER),
        (b"MAIL FROM:<joe smith@example.org>", replies.BAD_SENDER),
        (b"MAIL FROM:<joe@example org>", replies.BAD_SENDER),
        (b"MAIL FROM:<joe@a/b>", replies.BAD_SENDER),
        (b"MAIL FROM:<j\xf6rg@example.org> SMTPUTF8", replies.BAD_SENDER),
        (b"MAIL FROM:<> SIZE", replies.BAD_PARAMETER),
        (b"MAIL FROM:<> SIZE=-1", replies.BAD_PARAMETER),
        (b"MAIL FROM:<> SIZE=" + b"9" * 21, replies.BAD_PARAMETER),
        (b"MAIL FROM:<> SIZE=1 SIZE=1", replies.BAD_PARAMETER),
        (b"MAIL FROM:<> BODY=BINARYMIME", replies.BAD_PARAMETER),
        (b"MAIL FROM:<> SMTPUTF8=yes", replies.BAD_PARAMETER),
        (b"MAIL FROM:<> =5", replies.BAD_PARAMETER),
        (b"MAIL FROM:<> AUTH=<>", replies.UNKNOWN_PARAMETER),
        (b"MAIL FROM:<> RET=HDRS", replies.UNKNOWN_PARAMETER),
        (b"RCPT TO:<>", replies.BAD_RECIPIENT),
        (b"RCPT FROM:<joe@example.org>", replies.BAD_RECIPIENT),
        (b"RCPT TO:<joe@example.org> NOTIFY=NEVER", replies.UNKNOWN_PARAMETER),
        (b"RCPT TO:<\xff@example.org>", replies.BAD_RECIPIENT),
        (b"RCPT TO:<joe\0@example.org>", replies.BAD_LINE_END),
        (b"NOOP\rRSET", replies.BAD_LINE_END),
        (b"RCPT TO:<a@b>\rRCPT TO:<c@d>", replies.BAD_LINE_END),
    )

    FATAL = (b"BDAT", b"BDAT x", b"BDAT -5", b"BDAT 5 LAST NOW", b"BDAT 5 FIRST", b"BDAT LAST", b"BDAT 5\0")

    def test_good_lines(self) -> None:
        """RFC 2033, RFC 5321 section 4.1: commands of every kind, in any case."""
        for line, command in self.GOOD:
            self.assertEqual(parse(line), command, line)

    def test_bad_lines(self) -> None:
        """RFC 5321 section 4.2.4: what is wrong is told with the code that says so, and the session goes on."""
        for line, reply in self.BAD:
            refused = self.assertRaises(Refused, parse, line)
            self.assertEqual((refused.reply, refused.closes), (reply, False), line)

    def test_bad_bdat_ends_the_session(self) -> None:
        """RFC 3030: nobody knows how much of what follows a malformed BDAT is a message; nothing of it is a command."""
        for line in self.FATAL:
            refused = self.assertRaises(Refused, parse, line)
            self.assertEqual((refused.reply, refused.closes), (replies.BAD_BDAT, True), line)

    def test_quoted_addresses(self) -> None:
        """RFC 5321 section 4.1.2: quotation marks and backslashes are how an address is written, not what it is."""
        for written, meant in (
            ("joe@example.org", "joe@example.org"),
            ("joe", "joe"),
            ('"joe"@example.org', "joe@example.org"),
            ('"joe smith"@example.org', "joe smith@example.org"),
            ('"a@b\\"\\\\c".d@example.org', 'a@b"\\c.d@example.org'),
        ):
            self.assertEqual(unquoted(written), meant)

    @given(st.one_of(st.binary(max_size=80), st.binary(max_size=80).map(lambda rest: b"MAIL FROM:<" + rest)))
    def test_any_line(self, line: bytes) -> None:
        """Promise: any line is a command or refused; an address never has a control character or an angle bracket."""
        try:
            command = parse(line)
        except Refused as refused:
            self.assertRegex(refused.reply, rb"\A5\d\d 5\.\d\.\d [ -~]+\r\n\Z")
            return
        if isinstance(command, Mail):
            self.assertFalse(any(ord(one) < 32 for one in command.sender))

    def test_replies_are_well_formed(self) -> None:
        """RFC 2034 section 4: each reply but 220, 250 of LHLO and 354 has a status code of the same class."""
        for name, reply in vars(replies).items():
            if isinstance(reply, bytes) and name != "SEND_DATA":
                self.assertRegex(reply, rb"\A([245])\d\d \1\.\d\.\d [ -~]+\r\n\Z", name)
                self.assertLess(len(reply), 512)
