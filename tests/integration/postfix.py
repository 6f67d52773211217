"""
A private Postfix for tests: configuration, queue and log below /tmp, SMTP on 127.0.0.1 only.

For each purpose a part of it is added: L{Postfix.configure} writes lines of main.cf and services of master.cf and has a
running Postfix read them.  What is sent from C{anybody@sender.test} and comes back is in L{Postfix.bounces}; ask
for that of a message by its number: the names in a Maildir say nothing of the order within a second.

    postfix = shared()
    postfix.configure(
        self,
        {"transport_maps": "inline:{ example.org=lmtp:unix:/tmp/socket }", "relay_domains": "example.org"},
        ["tpops unix - n n - - pipe user=nobody argv=..."],
    )
    postfix.send("ann@sender.test", ["joe@example.org"], b"Subject: x\\n\\ntext\\n")
    postfix.wait_log("status=sent")

Needs root: Postfix starts its parts under several users.
"""

from __future__ import annotations

import atexit
import functools
import os
import pwd
import re
import shutil
import signal
import smtplib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.server import PATIENCE_SECONDS, wait_until
from tests.support import lacking

#: What tests of this need on the machine.
PROGRAMS = ("postfix", "postqueue", "postsuper", "gcc")

#: Under whom pipe(8) and virtual(8) work.
USER = "nobody"

#: Where bounces go.
SENDER_DOMAIN = "sender.test"

_MAIN = {
    "compatibility_level": "3.6",
    "mail_owner": "postfix",
    "setgid_group": "postdrop",
    "inet_interfaces": "127.0.0.1",
    "inet_protocols": "ipv4",
    "myhostname": "mx.test",
    "mydestination": "",
    "mynetworks": "127.0.0.0/8",
    "smtpd_relay_restrictions": "permit_mynetworks, reject",
    "smtpd_peername_lookup": "no",
    "disable_dns_lookups": "yes",
    "default_transport": "error:no mail leaves this machine",
    "alias_maps": "",
    "local_recipient_maps": "",
    "virtual_mailbox_domains": SENDER_DOMAIN,
    "virtual_mailbox_maps": "static:all/",
    "virtual_minimum_uid": "1",
    "message_size_limit": "0",
    "mailbox_size_limit": "0",
    "virtual_mailbox_limit": "0",
    "minimal_backoff_time": "1s",
    "maximal_backoff_time": "1s",
    "queue_run_delay": "1s",
    "smtputf8_enable": "yes",
    "enable_long_queue_ids": "yes",
    "maillog_file_prefixes": "/tmp",
}

_MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
lmtp unix - - n - - lmtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
showq unix n - n - - showq
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""

#: Runs a console command of tpops as another user, who may not read the Python: all is loaded before.
_AS_USER = """
import encodings.idna, importlib, os, sys
import tpops.cred.passwd_file, tpops.cred.mysql_tables, tpops.delivery.deliver, tpops.db.sqlite
import tpops.mailbox.maildir, tpops.mailbox.mbox, tpops.mailbox.proxy, tpops.upstream.servers, tpops.upstream.tls
import tpops.process.garbage
from twisted.internet import reactor
tpops.db.sqlite.latest_version("pbs")
uid, gid, module = int(sys.argv[1]), int(sys.argv[2]), importlib.import_module(sys.argv[3])
os.setgroups([])
os.setgid(gid)
os.setuid(uid)
sys.argv[:] = sys.argv[3:]
sys.exit(module.main())
"""


#: Every message has both lines in the log: the first before anything else is done with it, the other at its end.
_QUEUED = re.compile(r"/cleanup\[\d+\]: (\w+): message-id=")
_REMOVED = re.compile(r": (\w+): removed$", re.MULTILINE)

#: A bounce says which message it is about.
_BOUNCED = re.compile(r"^X-Postfix-Queue-ID: (\w+)$", re.MULTILINE)


def reason_to_skip() -> str | None:
    """Why there can be no Postfix here, besides programs that are missing."""
    if os.geteuid() != 0:
        return lacking(None, "Postfix needs root")
    if os.statvfs("/tmp").f_flag & os.ST_NOSUID:
        return lacking(None, "the mail user's programs need a /tmp that is not mounted nosuid")
    return None


class Postfix:
    """
    See the module.

    @ivar directory: holds everything; others may enter it
    @ivar port: of SMTP
    """

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="tpops-mx-", dir="/tmp"))
        self.directory.chmod(0o755)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._user = pwd.getpwnam(USER)
        self._running = False
        self._sent: set[str] = set()
        for name, owner in (("queue", 0), ("data", pwd.getpwnam("postfix").pw_uid), ("bounces", self._user.pw_uid)):
            (self.directory / name).mkdir(mode=0o755)
            os.chown(self.directory / name, owner, -1)

    # The process.

    def start(self) -> Postfix:
        """Start it and wait until it takes mail."""
        self._write({}, [])
        self._command("start")
        self._running = True
        wait_until(self._answers, "Postfix answers")
        return self

    def remove(self) -> None:
        """End it and remove everything."""
        if self._running:
            self._running = False
            self._command("abort")
        shutil.rmtree(self.directory, ignore_errors=True)

    def configure(self, testcase: SynchronousTestCase, main: Mapping[str, str], services: Sequence[str] = ()) -> None:
        """Add to the configuration until the test ends; then what is left in the queue goes, too."""
        self._sent.clear()
        self._reload(main, services)
        testcase.addCleanup(self._clear)

    def _clear(self) -> None:
        self._run("postsuper", "-d", "ALL")
        self._reload({}, [])
        for path in self.directory.glob("bounces/*/new/*"):
            path.unlink()

    def _reload(self, main: Mapping[str, str], services: Sequence[str]) -> None:
        self._write(main, services)
        before = self.log().count("reload -- version")
        # What "postfix reload" does in the end; that one looks at every file of Postfix before, for two seconds.
        os.kill(int((self.directory / "queue/pid/master.pid").read_text()), signal.SIGHUP)
        wait_until(lambda: self.log().count("reload -- version") > before, "Postfix has read its configuration")

    def _write(self, main: Mapping[str, str], services: Sequence[str]) -> None:
        here = {
            "queue_directory": str(self.directory / "queue"),
            "data_directory": str(self.directory / "data"),
            "maillog_file": str(self.directory / "log"),
            "virtual_mailbox_base": str(self.directory / "bounces"),
            "virtual_uid_maps": f"static:{self._user.pw_uid}",
            "virtual_gid_maps": f"static:{self._user.pw_gid}",
        }
        lines = [f"{name} = {value}\n" for name, value in {**_MAIN, **here, **main}.items()]
        (self.directory / "main.cf").write_text("".join(lines))
        master = _MASTER.format(port=self.port) + "".join(f"{one}\n" for one in services)
        (self.directory / "master.cf").write_text(master)

    def _command(self, word: str) -> None:
        self._run("postfix", word)

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [program, "-c", str(self.directory), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        if done.returncode:
            raise AssertionError(f"{program} {arguments}: {done.stdout} {done.stderr} {self.log()}")
        return done.stdout

    def _answers(self) -> bool:
        try:
            with smtplib.SMTP("127.0.0.1", self.port, timeout=PATIENCE_SECONDS):
                return True
        except (OSError, smtplib.SMTPException):
            return False

    # Mail.

    def send(self, sender: str, recipients: Sequence[str], message: bytes, *options: str) -> str:
        """Give it a message with LF line ends by SMTP; gives its number in the queue."""
        with smtplib.SMTP("127.0.0.1", self.port, timeout=PATIENCE_SECONDS) as client:
            client.ehlo("client.test")
            answers = [client.mail(sender, list(options)), *(client.rcpt(one) for one in recipients)]
            if any(code >= 300 for code, _ in answers):
                raise AssertionError(f"Postfix refuses: {answers}")
            answers.append(client.data(message.replace(b"\n", b"\r\n")))
        found = re.search(rb"queued as (\w+)", answers[-1][1])
        assert found is not None, answers
        queue_id = found[1].decode()
        self._sent.add(queue_id)
        return queue_id

    def log(self) -> str:
        """All that it has logged."""
        path = self.directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def status(self, queue_id: str, recipient: str) -> str:
        """Wait until a message has been tried for a recipient; gives the log's words of the last try."""
        pattern = re.compile(rf" {queue_id}: to=<{re.escape(recipient)}>, .*?dsn=(\S+), (status=.*)$", re.MULTILINE)
        found = wait_until(lambda: pattern.findall(self.log()), f"{queue_id} for {recipient}: {self.log()}")
        return f"dsn={found[-1][0]} {found[-1][1]}"

    def waiting(self) -> set[str]:
        """
        The numbers of the messages that are not done with, bounces too.

        From the log, which comes a little later than Postfix' answers but in order: a message that goes from one
        directory of the queue to the next can be missed in a listing.
        """
        log = self.log()
        return self._sent.union(_QUEUED.findall(log)).difference(_REMOVED.findall(log))

    def wait_empty(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Try what waits, until nothing does."""
        end = time.monotonic() + seconds
        while waiting := self.waiting():
            if time.monotonic() > end:
                raise AssertionError(f"still in the queue after {seconds:g} seconds: {waiting}: {self.log()}")
            self._run("postqueue", "-f")
            time.sleep(0.3)

    def bounces(self, queue_id: str = "") -> list[str]:
        """What has come back about a message, or about any that was sent since L{configure}; in no order."""
        about = {queue_id} if queue_id else self._sent
        texts = [path.read_text(errors="replace") for path in self.directory.glob("bounces/all/new/*")]
        return [text for text in texts if about & set(_BOUNCED.findall(text))]

    def bounce(self, queue_id: str) -> str:
        """Wait for the one bounce of a message."""
        (text,) = wait_until(lambda: self.bounces(queue_id), f"a bounce of {queue_id}: {self.log()}")
        return text

    # Programs.

    def console_command(self, module: str, *arguments: str) -> str:
        """The words for argv= in master.cf that run a module's C{main} as the service's user."""
        program = self.directory / "as_user"
        if not program.exists():
            script = self.directory / "as_user.py"
            script.write_text(_AS_USER)
            source = Path(__file__).with_name("as_user.c")
            defines = [f'-DPYTHON="{sys.executable}"', f'-DSCRIPT="{script}"']
            subprocess.run(["gcc", "-O1", *defines, "-o", str(program), str(source)], check=True, timeout=120)
            os.chown(program, 0, self._user.pw_gid)
            program.chmod(0o4750)
        return " ".join((str(program), module, *arguments))


@functools.cache
def shared() -> Postfix:
    """One for all tests of a run; there until that ends."""
    postfix = Postfix()
    atexit.register(postfix.remove)
    return postfix.start()
