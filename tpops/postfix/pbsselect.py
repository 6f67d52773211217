"""
tpops-pbsselect: Postfix' policy service on standard input and output, for spawn(8) in master.cf.

Purpose: for who does not want the policy service inside the POP3 server; the same answers from the same store.
Limits: spawn(8) connects standard error to Postfix too, so what is wrong goes to syslog (facility mail) alone.
Without a usable configuration it answers DUNNO to everything.
Known deviation from PBS: logins in the future are removed at its start, too.
"""

from __future__ import annotations

import os
import sys
import syslog
import time
from collections.abc import Callable
from functools import partial

import click
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogBeginner
from zope.interface import provider

from tpops.db.relay import StoreFailed
from tpops.errors import ConfigError
from tpops.postfix import policy
from tpops.postfix.answering import Broken
from tpops.postfix.console import config_option, open_store
from tpops.postfix.policy_server import DUNNO, PolicyQuestions
from tpops.postfix.relaying import Relaying

#: Octets that are read at a time.
_PIECE = 65536


@click.command("tpops-pbsselect")
@config_option
def main(config: str | None) -> None:
    """Answer Postfix' policy service on standard input and output; for spawn(8) in master.cf."""
    syslog.openlog("tpops-pbsselect", syslog.LOG_PID, syslog.LOG_MAIL)
    globalLogBeginner.beginLoggingTo([_to_syslog], redirectStandardIO=False)
    if not serve(_questions(config), partial(os.read, 0, _PIECE), partial(os.write, 1)):
        sys.exit(1)


def serve(questions: PolicyQuestions | None, read: Callable[[], bytes], write: Callable[[bytes], int]) -> bool:
    """
    Answer until there is no more; whether it came to that.

    @param questions: who answers, None where everything is answered with DUNNO
    """
    unknowing = policy.Requests()
    try:
        while octets := read():
            if questions is None:
                replies = [policy.reply(DUNNO) for _ in unknowing.feed(octets)]
            else:
                replies = [_now(questions, one) for one in questions.feed(octets)]
            text = b"".join(replies)
            while text:
                text = text[write(text) :]
    except (OSError, Broken, policy.Hopeless) as error:
        syslog.syslog(syslog.LOG_ERR, f"{type(error).__name__}: {error}")
        return False
    return True


def _questions(path: str | None) -> PolicyQuestions | None:
    """Who answers; None where there is no configuration to answer from."""
    try:
        config, store = open_store(path)
    except (ConfigError, OSError) as error:
        for problem in error.problems if isinstance(error, ConfigError) else [str(error)]:
            syslog.syslog(syslog.LOG_ERR, f"everything is answered with {DUNNO}: {problem}")
        return None
    settings = config.pop_before_smtp
    try:
        store.purge()
    except StoreFailed as error:
        syslog.syslog(syslog.LOG_ERR, str(error))
    relaying = Relaying(store, settings.match == "address", settings.ipv6_prefix, time.monotonic)
    return PolicyQuestions(relaying, settings.action, settings.action_on_error)


def _now(questions: PolicyQuestions, request: policy.Request | None) -> bytes:
    answer = questions.answer(request)
    assert isinstance(answer, bytes)
    return answer


@provider(ILogObserver)
def _to_syslog(event: LogEvent) -> None:
    syslog.syslog(syslog.LOG_ERR, formatEvent(event))
