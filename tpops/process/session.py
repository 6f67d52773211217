"""
The process of one session: forked by the broker, it becomes the owner of the mail and serves one client.

Purpose: opens the maildrop with the owner's rights and serves TRANSACTION and UPDATE on a connection that the front
hands over, by the same code as everywhere; or starts a program that does it (L{tpops.process.session_program}).
How: on a reactor that was made before the fork (L{tpops.process.early_reactor}), with all that sessions have in common.
There are no threads: a session waits for its own disk and for nobody else's.
Limits: nothing of a client is read before the ids have changed for good.  When the front is gone, the session ends and
removes nothing, unless it is in UPDATE, which comes to its end.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, cast

import attrs
from twisted.cred.portal import Portal
from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import globalLogBeginner
from twisted.python.failure import Failure
from zope.interface import implementer

# Loaded here: later a session may be able to read nothing but its mail.
import tpops.mailbox.maildir
import tpops.mailbox.mbox  # noqa: F401
from tpops import file_assembly
from tpops.coroutines import run
from tpops.errors import TpopsError
from tpops.mailbox.locations import Maildrops
from tpops.mailbox.tally import TALLY
from tpops.mailbox.view import Mailbox
from tpops.model import Account, Peer, Session
from tpops.process import confinement, own_places, owners, session_program
from tpops.process.dotlocks import DotlocksBeside
from tpops.process.owners import Bounds, Owner, become, group_ids, owner_of
from tpops.process.packets import Reading
from tpops.process.progress import Progress
from tpops.process.records import MOST_OCTETS, BadRecord, Ended, Go, LoginRecord, account_record, pack, parse, refusal
from tpops.process.rehearsal import rehearse
from tpops.process.session_log import MOST_LOGGED, SessionLog
from tpops.process.session_start import Start
from tpops.protocol.capabilities import Offer
from tpops.server.entered import Entered, NoLimits, NoLogins, OnlyTheEnd, TranscribedEntered
from tpops.server.offers import ALWAYS, Offers
from tpops.server.shared import Shared
from tpops.server.transport import TCPServer

if TYPE_CHECKING:
    from tpops.config.schema import Config

#: Seconds for what is told to the front before the reactor runs.
_TELL_SECONDS = 10.0

#: Who plays in the rehearsal, at least; and an id that nobody has: all that may know users is asked for him.
_NOBODY, _UNKNOWN = 65534, 0x7FFFFFF0

_MOST_DESCRIPTORS = os.sysconf("SC_OPEN_MAX")

#: Objects after which the garbage collector runs.
_COLLECT_AFTER = 50000


class Plan:
    """
    What all sessions have in common.

    @param config: the tables that sessions need
    @param reactor: on which they are served, L{tpops.process.early_reactor}
    @raise ConfigError: when there is no such group
    """

    def __init__(self, config: Config, reactor: Any) -> None:
        self.config = config
        sessions = config.sessions
        self.landlock = confinement.version_of(config)
        self.own_places = own_places.wanted(config)
        self.bounds = Bounds(sessions.memory_mib << 20, sessions.open_files)
        self.groups = group_ids(sessions.groups)
        self.options = file_assembly.server_options(config)
        self.portal = Portal(NoLogins())
        self.log = SessionLog(config.log.level)
        self.reactor = reactor
        self._maildrops: Maildrops | None = None
        globalLogBeginner.beginLoggingTo([self.log], redirectStandardIO=False)

    def warm(self) -> None:
        """Load and make what every session needs, so that the sessions share it; call it last."""
        gc.set_threshold(_COLLECT_AFTER, 20, 20)
        try:
            rehearse(self.reactor, self._play)
        except OSError as problem:
            os.write(2, f"sessions will take more time to start: {problem}\n".encode())
        self.reactor.start()
        # What the rehearsal has found out of its own Maildir is not in these.
        self._maildrops = file_assembly.file_maildrops(self.config, "", self.reactor, maybeDeferred)
        # Without a collection before, which would leave holes for the sessions to write into.
        gc.freeze()

    def maildrops_of(self, account: Account, owner: Owner, dotlocks: DotlocksBeside) -> Maildrops:
        """Those of a session, which are the same for all where nothing of them is in a place of its owner."""
        config = self.config
        own = config.maildir.index_dir or "mbox:" in (account.maildrop or config.mail.location)
        if not own and self._maildrops is not None:
            return self._maildrops
        spools = os.path.join(owner.home or "/", ".tpops", "mbox")
        return file_assembly.file_maildrops(config, spools, self.reactor, maybeDeferred, dotlocks, str(owner.uid))

    def _play(self, home: str, control: socket.SocketType) -> None:
        owner_of(Account("unknown", "", uid=_UNKNOWN, gid=_UNKNOWN), 1)
        number = max(_NOBODY, self.config.sessions.minimum_uid)
        account = Account("rehearsal", "", home=home, maildrop="maildir:~/Maildir", uid=number, gid=number)
        login = LoginRecord("password", b"rehearsal", b"")
        answer = pack({"account": account_record(account), "useropt": "", "login": login.record()})
        start = Start.of(answer, control)
        owner = verified(self, start)
        owners.rehearse()
        serving = Serving(self.reactor, self, start, owner)
        serving.confine(enforce=False)
        serve(self, serving)
        self.log.say = None
        # A real session leaves that to the end of its process.
        self.reactor.removeAll()


def serve_session(plan: Plan, answer: bytes, control: socket.SocketType) -> NoReturn:
    """
    Be the session; in a process that was forked for it.

    @param answer: the judge's
    """
    status = 1
    try:
        _let_go_of_the_broker(control.fileno())
        try:
            start = Start.of(answer, control)
            owner = verified(plan, start)
            for path in plan.own_places:
                own_places.make(path, owner)
            become(owner, plan.bounds)
            if plan.config.sessions.program:
                session_program.serve(plan.config, start.account, owner, start.useropt, start.login, control)
            else:
                _serve(plan, start, owner)
        except TpopsError as refused:
            control.send(pack(refusal(refused)))
        status = 0
    except BaseException:
        # Who is told is the front; where it is gone, nobody is.
        with contextlib.suppress(OSError):
            control.send(pack({"log": ["error", Failure().getTraceback()[-MOST_LOGGED:]]}), socket.MSG_NOSIGNAL)
    finally:
        os._exit(status)


def _let_go_of_the_broker(kept: int) -> None:
    """
    Keep nothing that was the broker's but this descriptor and the standard ones.

    Its signal handler, which does nothing, stays: to set another takes Python as long as all of this.
    """
    signal.set_wakeup_fd(-1)
    os.setsid()
    os.closerange(3, kept)
    os.closerange(kept + 1, _MOST_DESCRIPTORS)


def verified(plan: Plan, start: Start) -> Owner:
    """
    Whose session it is; the front is told, by root.

    @raise MaildropBroken: when he must not have one
    """
    account, control = start.account, start.control
    control.settimeout(_TELL_SECONDS)
    owner = owner_of(account, plan.config.sessions.minimum_uid, plan.groups)
    said = {"user": account.name, "driver": account.driver, "folder": account.folder}
    control.send(pack({"verified": said}))
    return owner


def _serve(plan: Plan, start: Start, owner: Owner) -> None:
    """Serve POP3 here."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.close(null)
    serving = Serving(plan.reactor, plan, start, owner)
    serving.confine()
    serve(plan, serving)


def serve(plan: Plan, serving: Serving) -> None:
    """Serve POP3 on the reactor until the end of the session."""
    plan.log.say = serving.say
    plan.reactor.serve(serving.begin)


def entered(
    plan: Plan, login: LoginRecord, go: Go, mailbox: Mailbox, clock: Any, ended: Callable[[Session], None]
) -> Entered:
    """The server of a session."""
    config = plan.config
    offer = Offer(
        plaintext=go.plaintext,
        mechanisms=cast(Any, {name.encode(): None for name in go.mechanisms}),
        last=config.protocol.last,
        login_delay=round(config.limits.login_delay_seconds),
        implementation=file_assembly.implementation(),
    )
    shared = Shared(
        portal=plan.portal,
        limiter=NoLimits(),
        events=OnlyTheEnd(ended),
        clock=clock,
        epoch=time.time,
        offers=Offers(offer, ALWAYS, ()),
        options=plan.options,
        hostname=config.server.hostname,
        bandwidth=file_assembly.bandwidth(config, clock.seconds) if go.paced else None,
    )
    kind = TranscribedEntered if go.transcribed else Entered
    peer = Peer(login.host, login.port, login.local_host or "unknown", login.local_port, login.session)
    server = kind(shared, peer, (mailbox, mailbox.logout), offer, go.first, go.rest)
    server.conversation.utf8, server.conversation.language = go.utf8, go.language.encode()
    return server


@implementer(IReadDescriptor)
class Serving(Reading):
    """A session on a reactor of its own; reads what the front says."""

    def __init__(self, reactor: Any, plan: Plan, start: Start, owner: Owner) -> None:
        start.control.setblocking(False)
        self._clock = reactor
        super().__init__(reactor, start.control.fileno())
        self._plan = plan
        self._login = start.login
        self._control: Any = start.control
        self._account = start.account
        self._mailbox: Mailbox | None = None
        self._server: Entered | None = None
        self._progress: Progress | None = None
        self._over = False
        self._dotlocks = DotlocksBeside()
        self._maildrops = plan.maildrops_of(start.account, owner, self._dotlocks)

    def confine(self, enforce: bool = True) -> None:
        """
        Give up what is not needed for the maildrop.

        @param enforce: else everything is made ready only
        @raise TpopsError: when there is no such maildrop
        """
        plan = self._plan
        confinement.confine(plan.config, plan.landlock, self._maildrops, self._account, self._dotlocks, enforce)

    def begin(self) -> None:
        """Open the maildrop."""
        run(self._open()).addErrback(self._broken)

    async def _open(self) -> None:
        index, scan = TALLY.index, TALLY.scan
        try:
            maildrop = await self._maildrops.open_maildrop(self._account)
        except TpopsError as refused:
            self.say(refusal(refused))
            self._stop()
            return
        self._mailbox = Mailbox(maildrop, self._account)
        if self._over:
            await self._leave()
        else:
            figures = [*self._mailbox.stat(), self._mailbox.messages.uidl_checksum()]
            found = [TALLY.index - index, TALLY.scan - scan]
            self.say({"opened": figures, "program": False, "listings": found})

    def _broken(self, failure: Failure) -> None:
        self.say({"log": ["error", failure.getTraceback()[-MOST_LOGGED:]]})
        self._stop()

    # What the front says.

    def doRead(self) -> None:
        """IReadDescriptor."""
        try:
            octets, descriptors, _, _ = socket.recv_fds(self._control, MOST_OCTETS, 1)
        except BlockingIOError:
            return
        except OSError:
            octets, descriptors = b"", []
        try:
            said = parse(octets) if octets else {"stop": True}
            if "go" in said and descriptors and self._mailbox is not None and self._server is None:
                self._go(Go.of(said["go"]), socket.socket(fileno=descriptors.pop()))
                return
        except BadRecord as problem:
            self.say({"log": ["error", f"the front says what makes no sense: {problem}"]})
        for one in descriptors:
            os.close(one)
        if not octets:
            self.stop_reading()
        self._end()

    def _go(self, go: Go, client: socket.socket) -> None:
        assert self._mailbox is not None
        client.setblocking(False)
        self._server = server = entered(self._plan, self._login, go, self._mailbox, self._clock, self._has_ended)
        if go.transcribed:
            server.shared.transcript = self
        self._progress = Progress(self._clock, server, lambda now: self.say({"now": attrs.asdict(now)}))
        server.moved = self._progress.moved
        place = (self._login.host, self._login.port)
        server.makeConnection(TCPServer(client, server, place, cast(Any, None), 0, self._reactor))

    def _end(self) -> None:
        """The front wants the session to end, or is gone."""
        self._over = True
        if self._server is None:
            if self._mailbox is not None:
                run(self._leave()).addErrback(self._broken)
        elif not self._server.busy:
            self._server.close("server shutdown")
        elif self._server.interruptible():
            self._server.abort("server shutdown")

    # The end.

    def _has_ended(self, session: Session) -> None:
        """The connection is over."""
        if self._progress is not None:
            self._progress.stop()
        pace = self._server.pace if self._server is not None else None
        slowed = sum(pace.waited.values()) if pace is not None else 0.0
        ended = Ended.as_session(session, round(slowed * 1000))
        run(self._leave(ended)).addErrback(self._broken)

    async def _leave(self, ended: Ended | None = None) -> None:
        assert self._mailbox is not None
        await self._mailbox.logout()
        if ended is not None:
            self.say({"ended": attrs.asdict(ended)})
        self._stop()

    def _stop(self) -> None:
        self._clock.callLater(0, self._clock.crash)

    # To the front.

    def wants(self, host: str) -> bool:
        """See L{tpops.server.shared.Transcript}."""
        return True

    def tell(self, session: str, text: str) -> None:
        """See L{tpops.server.shared.Transcript}."""
        self.say({"transcript": text[:MOST_LOGGED]})

    def say(self, what: dict[str, Any]) -> None:
        """Send it; nobody is told when it cannot be sent."""
        packet = pack(what)
        try:
            self._control.send(packet, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            # The front has a lot to do.  There is one client here, who can wait as well.
            if select.select([], [self._control], [], _TELL_SECONDS)[1]:
                with contextlib.suppress(OSError):
                    self._control.send(packet, socket.MSG_NOSIGNAL)
        except OSError:
            return  # the front is gone, and this process will find that out, too
