"""
tpops under a systemd that is the first process of a machine: units, users, directories and logs from contrib/.

What systemd is told, and what it passes, without the units: test_systemd.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time

from tests.integration import machine as machines
from tests.integration.machine_case import CONFIGURATION, MESSAGE, MachineCase, commands, innermost
from tests.integration.server import PASSWORD, USER, end, temporary, wait_until
from tests.integration.wire import Wire
from tests.pki import self_signed
from tests.support import need

#: What the server has written.
_STATE = "/var/lib/tpops"


class ServiceTests(MachineCase):
    """tpops.service alone."""

    skip = machines.missing()

    def test_what_the_documentation_wants_typed(self) -> None:
        """docs/start.md: its commands, one by one; then the service runs, and a mail program gets the mail."""
        need(self, "curl")
        lines = commands("systemd")
        self.assertIn("/opt/tpops/bin/pip install .", lines[0])  # the machine has it, without the network
        self.assertIn("tpops user add joe", lines)
        script = "\n".join(lines[1:]).replace("user add joe", f"user add joe --stdin <<<'{PASSWORD}'")
        said = self.sh(f"set -e\n{script}", status=0)
        self.assertIn(f"{CONFIGURATION} is right", said)
        self.assertNotIn("warning", said)
        self.deliver()
        fetched = self.machine.run("curl", "-sS", "-u", f"{USER}:{PASSWORD}", "pop3://127.0.0.1/1")
        self.assertEqual(fetched, MESSAGE.decode())
        self.assertIn('Status: "serving 127.0.0.1:110"', self.machine.run("systemctl", "status", "tpops"))
        journal = self.journal()
        self.assertIn("ready on 127.0.0.1:110", journal)
        self.assertNotIn("plugin cache", journal)
        self.assertNotIn("already exists but the mode is different", journal)
        modes = self.sh(
            f"stat -c '%U %G %a' /etc/tpops {CONFIGURATION} {_STATE} /var/log/tpops {_STATE}/accounts.sqlite"
        )
        self.assertEqual(
            modes.splitlines(),
            ["root tpops 750", "root tpops 640", "tpops tpops 750", "tpops tpops 750", "tpops tpops 600"],
        )
        self.assertIn("0 sessions", self.machine.run("tpops", "who"))

    def test_in_the_foreground(self) -> None:
        """README.md, docs/operate.md: the same without systemd; root opens the port and becomes the user."""
        lines = commands("Run it", "README.md")
        self.assertEqual(set(commands("Start", "docs/operate.md")) - set(lines), {"tpops check"})
        lines.remove("useradd --system tpops")  # he is there
        script = "\n".join(line for line in lines[:-1] if "pip install" not in line)
        self.sh(f"set -e\n{script.replace('add joe', f'add joe --stdin <<<{PASSWORD!r}')}", status=0)
        output = temporary(self) / "output"
        with open(output, "wb") as file:
            words = self.machine.command(*lines[-1].split())
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        self.addCleanup(end, process)
        wait_until(lambda: b"ready on" in output.read_bytes() or process.poll() is not None, "the server")
        self.fetches(count=0)
        server = innermost(process)
        self.assertEqual(self.sh("id -u tpops").strip(), str(os.stat(f"/proc/{server}").st_uid))
        os.kill(server, signal.SIGTERM)
        process.wait(60)

    def test_it_has_no_more_rights_than_it_needs(self) -> None:
        """Promise: a user without capabilities but that for ports, a filter for system calls, few places to write."""
        self.install("tpops.service")
        self.configure()
        self.deliver()
        self.sh("mkdir -p /srv/mail /home/joe")
        self.sh("chown tpops /srv/mail /home/joe")
        self.start()
        status = dict(
            line.split(":\t", 1)
            for line in self.machine.run("cat", f"/proc/{self.machine.show('MainPID')['MainPID']}/status").splitlines()
        )
        for name in ("CapEff", "CapPrm", "CapBnd"):
            self.assertEqual(int(status[name], 16), 1 << 10, name)  # CAP_NET_BIND_SERVICE
        self.assertEqual((status["NoNewPrivs"], status["Seccomp"]), ("1", "2"))
        places = {
            "/etc/tpops": False,
            "/etc": False,
            "/usr/lib": False,
            "/opt/tpops": False,
            "/home/joe": False,
            "/var/lib": False,
            "/var/lib/tpops": True,
            "/var/log/tpops": True,
            "/run/tpops": True,
            "/srv/mail": True,
            "/tmp": True,
        }
        inside = "nsenter --target=$(systemctl show -P MainPID tpops) --mount"
        for place, may in places.items():
            said = self.sh(f"{inside} setpriv --reuid=tpops --regid=tpops --clear-groups touch {place}/x && echo done")
            self.assertEqual(said == "done\n", may, f"{place}: {said}")
        self.assertNotIn("joe", self.sh(f"{inside} ls /home"))
        self.fetches()

    def test_reload(self) -> None:
        """Promise: "systemctl reload" ends when the new configuration serves; the status says why one was refused."""
        self.install("tpops.service")
        self.configure()
        self.start()
        before = self.machine.show("MainPID")
        wire = self.session()
        self.configure(listen=[{"address": "127.0.0.1", "port": 111}])
        self.machine.run("systemctl", "reload", "tpops")
        self.assertEqual(self.machine.show("StatusText")["StatusText"], "serving 127.0.0.1:111")
        self.assertRaises(ConnectionRefusedError, self.wire, 110)
        self.assertTrue(wire.command(b"QUIT").startswith(b"+OK"))
        self.fetches(111, count=0)
        self.configure(limits={"connections": -1})
        self.machine.run("systemctl", "reload", "tpops")
        status = self.machine.show("StatusText")["StatusText"]
        self.assertIn("reload refused, serving 127.0.0.1:111: /etc/tpops/tpops.toml:", status)
        self.assertIn("limits.connections must be at least", status)
        self.fetches(111, count=0)
        self.assertEqual(self.machine.show("MainPID"), before)

    def test_stop_waits_for_sessions(self) -> None:
        """Promise: "systemctl stop" lets sessions come to their end, for longer than TimeoutStopSec= if need be."""
        self.install("tpops.service")
        self.addition("TimeoutStopSec=2", "WatchdogSec=1")
        self.configure(server={"drain_seconds": 120})
        self.deliver()
        self.start()
        wire = self.session()
        self.machine.run("systemctl", "stop", "--no-block", "tpops")
        self.wait_for(ActiveState="deactivating")
        self.assertRaises(ConnectionRefusedError, self.wire)
        began = time.monotonic()
        wait_until(lambda: time.monotonic() - began > 3.5, "longer than TimeoutStopSec=")
        wire.command(b"DELE 1")
        self.assertTrue(wire.command(b"QUIT").startswith(b"+OK"))
        self.wait_for(ActiveState="inactive", Result="success")
        self.assertEqual(self.sh(f"ls {_STATE}/mail/joe/Maildir/new"), "")

    def test_killed_or_hanging_it_is_started_again(self) -> None:
        """Promise: after KILL, and when the loop does not turn any more, another process serves."""
        self.install("tpops.service")
        self.addition("WatchdogSec=3", "RestartSec=100ms")
        self.deliver()
        for workers, number, why in ((1, signal.SIGKILL, "signal"), (2, signal.SIGSTOP, "watchdog")):
            self.configure(server={"workers": workers})
            self.machine.run("systemctl", "restart", "tpops")
            before = self.machine.show("MainPID")["MainPID"]
            session = self.session()
            os.kill(self.machine.main_pid(), number)
            self.wait_for(NRestarts="1", ActiveState="active")
            self.assertNotEqual(self.machine.show("MainPID")["MainPID"], before)
            session.rest()
            self.fetches()
            self.assertIn(f"Failed with result '{why}'", self.journal())
        self.assertIn("Watchdog timeout (limit 3s)!", self.journal())

    def test_logs_are_rotated(self) -> None:
        """logrotate(8): new files get new lines, old ones keep theirs; the server is told, and no other process."""
        need(self, "logrotate")
        self.install("tpops.service")
        logs = {"access_log": "/var/log/tpops/access.log", "json_log": "/var/log/tpops/events.json"}
        self.configure(log=logs, server={"workers": 2})
        self.start()
        self.fetches(count=0)
        self.sh("install -m644 contrib/logrotate.d/tpops /etc/logrotate.d/tpops", status=0)
        before = self.machine.show("MainPID", "NRestarts")
        self.sh("logrotate --state /tmp/state --force /etc/logrotate.d/tpops", status=0)
        old = {name: self.sh(f"cat {path}.1") for name, path in logs.items()}
        self.assertIn(f" {USER} 0 0 0 0\n", old["access_log"])

        def new() -> bool:
            self.fetches(count=0)
            return all(USER in self.sh(f"cat {path}") for path in logs.values())

        wait_until(new, "new logs")
        for line in self.sh(f"cat {logs['json_log']}").splitlines():
            json.loads(line)
        self.assertEqual(old, {name: self.sh(f"cat {path}.1") for name, path in logs.items()})
        self.assertEqual(self.sh("stat -c '%U %a' /var/log/tpops/*.log /var/log/tpops/*.json"), "tpops 640\n" * 2)
        self.assertEqual(self.machine.show("MainPID", "NRestarts"), before)
        # The second time the files of the first are compressed.
        self.sh("logrotate --state /tmp/state --force /etc/logrotate.d/tpops", status=0)
        self.assertIn(USER, self.sh("zcat /var/log/tpops/access.log.2.gz"))


class AdditionTests(MachineCase):
    """tpops.service for other uses."""

    skip = machines.missing()

    def test_mail_below_home(self) -> None:
        """home.conf: mail in a home directory is served, which without it is hidden."""
        self.install("tpops.service")
        self.configure(mail={"location": "maildir:/home/vmail/$(user)/Maildir"}, maildir={"create": False})
        self.deliver("/home/vmail/joe/Maildir")
        self.sh("chown tpops /home/vmail")
        self.start()
        self.assertTrue(self.answer().startswith(b"-ERR [SYS/"))
        self.install("home.conf")
        self.machine.run("systemctl", "restart", "tpops")
        wire = self.session()
        wire.command(b"DELE 1")
        self.assertTrue(wire.command(b"QUIT").startswith(b"+OK"))
        self.assertEqual(self.sh("ls /home/vmail/joe/Maildir/new"), "")

    def test_owners(self) -> None:
        """owner.conf: accounts of the machine, homes that nobody else can enter, sessions that are their owners'."""
        need(self, "openssl", "useradd", "ps")
        self.install("tpops.service", "owner.conf")
        self.sh("id ann || useradd --create-home --shell /bin/sh ann", status=0)
        self.sh(f"usermod --password \"$(openssl passwd -6 '{PASSWORD}')\" ann; mkdir -p /home/ann", status=0)
        self.deliver("/home/ann/Maildir", "ann:")
        self.sh("touch /var/mail/ann; chown ann:mail /var/mail/ann; chmod 660 /var/mail/ann")
        self.configure(
            server={"user": "tpops"},
            accounts=[{"driver": "shadow"}],
            mail={"location": "maildir:~/Maildir"},
            sessions={"run_as": "owner"},
            log={"access_log": "/var/log/tpops/access.log"},
        )
        self.sh("install -D -m 644 contrib/systemd/tmpfiles.d/tpops.conf /etc/tmpfiles.d/tpops.conf", status=0)
        self.sh("systemd-tmpfiles --create /etc/tmpfiles.d/tpops.conf", status=0)
        self.start()
        wire = self.session(user="ann")
        owners = self.sh("ps -eo user:20,args | grep '[p]rocess.broker' | sed 's/ .*//' | sort")
        self.assertEqual(owners.split(), ["ann", "root"])
        self.assertIn("tpops", self.sh("ps -eo user:20,args | grep '[p]rocess.worker'"))
        self.assertEqual(
            set(self.sh("grep -hE 'Cap(Prm|Eff|Amb)' $(pgrep -u ann,tpops | sed 's#.*#/proc/&/status#')").split()),
            {"CapPrm:", "CapEff:", "CapAmb:", "0" * 16},
        )
        body = wire.multi_line(b"RETR 1")[1]
        self.assertEqual(body, MESSAGE.replace(b"\n", b"\r\n"))
        wire.command(b"DELE 1")
        self.assertTrue(wire.command(b"QUIT").startswith(b"+OK"))
        self.assertEqual(self.sh("ls /home/ann/Maildir/new"), "")
        self.assertTrue(self.answer("ann", "wrong").startswith(b"-ERR [AUTH]"))
        self.assertTrue(self.answer("root", "wrong").startswith(b"-ERR [AUTH]"))
        self.assertNotIn("Traceback", self.journal())
        self.assertIn("0 sessions", self.machine.run("tpops", "who"))
        self.assertIn(" ann ", self.sh("cat /var/log/tpops/access.log"))
        owners = self.sh("stat -c %U /var/log/tpops /var/log/tpops/access.log /var/lib/tpops /run/tpops")
        self.assertEqual(set(owners.split()), {"tpops"})
        self.machine.run("systemctl", "stop", "tpops")
        self.assertEqual(self.machine.show("Result")["Result"], "success")
        # What the documentation says of this start as root.
        said = self.sh("systemd-analyze security --offline=true --no-pager tpops.service")
        self.assertRegex(said, r"Overall exposure level for \S+: [34]\.\d OK")


class SocketTests(MachineCase):
    """Ports and paths that systemd opens."""

    skip = machines.missing()

    def certificate(self) -> None:
        """TLS for the configuration."""
        self.machine.write("/etc/tpops/tls.pem", b"".join(self_signed("machine.example.org")).decode())

    def test_nobody_is_refused_during_a_restart(self) -> None:
        """docs/start.md, "Ports that systemd opens": its commands; then restarts under load, without capabilities."""
        self.install("tpops.service")
        self.certificate()
        self.configure(
            tls={"certificate": "/etc/tpops/tls.pem"},
            listen=[{"address": "0.0.0.0", "port": 110}, {"address": "0.0.0.0", "tls": "implicit"}],
            server={"drain_seconds": 60},
        )
        self.deliver()
        self.start()
        self.sh("set -e\n" + "\n".join(commands("Ports that systemd opens")), status=0)
        status = self.machine.run("cat", f"/proc/{self.machine.show('MainPID')['MainPID']}/status")
        self.assertIn("CapBnd:\t0000000000000000\n", status)
        counts, problems, over = [0, 0], [], threading.Event()

        def polls(turn: int) -> None:
            while not over.is_set():
                try:
                    wire = Wire(self.machine.connect(110))
                    try:
                        greeting, end = wire.line(), wire.command(b"QUIT")
                    finally:
                        wire.close()
                except (OSError, EOFError) as problem:
                    problems.append(problem)
                    return
                if not (greeting.startswith(b"+OK") and end.startswith(b"+OK")):
                    problems.append(greeting + end)
                counts[turn] += 1

        threads = [threading.Thread(target=polls, args=(turn,)) for turn in range(len(counts))]
        for thread in threads:
            thread.start()
        try:
            for _ in range(2):
                before = list(counts)
                self.machine.run("systemctl", "restart", "tpops")
                wait_until(
                    lambda last=before: problems or all(now > one for now, one in zip(counts, last, strict=True)),
                    "service for all",
                )
        finally:
            over.set()
            for thread in threads:
                thread.join()
        self.assertEqual(problems, [])
        self.fetches()
        self.assertIn("serving 0.0.0.0:110, 0.0.0.0:995", self.machine.show("StatusText")["StatusText"])
        tls = self.machine.run("curl", "-sSk", "-u", f"{USER}:{PASSWORD}", "pop3s://127.0.0.1/1")
        self.assertEqual(tls, MESSAGE.decode())

    def test_a_client_starts_it(self) -> None:
        """Promise: with the socket alone, the first client starts the server and is served."""
        self.install("tpops.service", "tpops.socket", "ports.conf")
        self.certificate()
        self.configure(
            tls={"certificate": "/etc/tpops/tls.pem"},
            listen=[{"address": "0.0.0.0", "port": 110}, {"address": "0.0.0.0", "tls": "implicit"}],
        )
        self.deliver()
        self.machine.run("systemctl", "start", "tpops.socket")
        self.assertEqual(self.machine.show("ActiveState")["ActiveState"], "inactive")
        self.fetches()

    def test_mail_from_postfix(self) -> None:
        """tpops-lmtp.socket: Postfix' user alone can hand mail over, though tpops has no right to that directory."""
        self.sh("id postfix || useradd --system --no-create-home postfix", status=0)
        self.sh("install -d -o postfix -m 700 /var/spool/postfix/private", status=0)
        self.install("tpops.service", "tpops-lmtp.socket")
        where = "/var/spool/postfix/private/tpops-lmtp"
        self.configure(lmtp={"listen": [f"unix:{where}"]})
        self.machine.run("systemctl", "start", "tpops-lmtp.socket", "tpops.service")
        self.assertEqual(self.sh(f"stat -c '%U %a' {where}"), "postfix 600\n")
        for _ in range(2):
            wire = self.wire(where)
            self.assertTrue(wire.line().startswith(b"220 "))
            for line in (b"LHLO machine.example.org", b"MAIL FROM:<ann@example.com>", b"RCPT TO:<joe>", b"DATA"):
                wire.send(line + b"\r\n")
                while (answer := wire.line())[3:4] == b"-":
                    pass
                self.assertIn(answer[:1], (b"2", b"3"), answer)
            wire.send(MESSAGE.replace(b"\n", b"\r\n") + b".\r\n")
            self.assertTrue(wire.line().startswith(b"250 "))
            wire.command(b"QUIT")
            self.machine.run("systemctl", "restart", "tpops.service")
        self.assertEqual(len(self.sh(f"ls {_STATE}/mail/joe/Maildir/new").splitlines()), 2)

    def test_a_process_for_each_client(self) -> None:
        """tpops-inetd.socket: each client has a process of its own, which ends with it."""
        self.install("tpops-inetd.socket", "tpops-inetd@.service")
        self.configure(listen=[{"address": "127.0.0.1", "port": 110}])
        self.deliver()
        self.machine.run("systemctl", "start", "tpops-inetd.socket")
        wire = self.session()
        running = "systemctl list-units --no-legend --state=running 'tpops-inetd@*.service'"
        self.assertEqual(len(self.sh(running).splitlines()), 1)
        wire.command(b"DELE 1")
        self.assertTrue(wire.command(b"QUIT").startswith(b"+OK"))
        wait_until(lambda: not self.sh(running), "the end of its process")
        self.assertEqual(self.sh("systemctl list-units --no-legend --state=failed"), "")
        self.fetches(count=0)
