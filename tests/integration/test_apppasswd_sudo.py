"""Ordinary users and their own application passwords: tpops apppasswd under another uid, and through sudo itself."""

from __future__ import annotations

import json
import os
import pwd
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from tests.integration.server import CHECKOUT, PATIENCE_SECONDS, RunningServer, program, wait_until
from tests.integration.test_app_passwords import AppPasswordCase
from tests.integration.test_twistd import reachable_directory
from tests.integration.test_unix_accounts import UnixAccount
from tests.support import lacking, need, need_root

#: tpops as another user, whose Python may be unreadable for him: everything is loaded before.
_AS_ANOTHER = """
import encodings.idna, os, sys
from tpops.admin import asker
from tpops.admin.cli import main
asker.MACHINE_CONFIG, uid = sys.argv[1], int(sys.argv[2])
os.setgroups([])
os.setgid(uid)
os.setuid(uid)
sys.argv[:] = ["tpops", *sys.argv[3:]]
main()
"""


class OtherUidCase(AppPasswordCase):
    """Two accounts of the machine, and a server that runs as somebody else."""

    skip = need(None, "useradd", "userdel")

    def setUp(self) -> None:
        need_root(self, "becoming another user")
        self.joe, self.ann = UnixAccount(self), UnixAccount(self)

    def serve_as(self, user: str) -> RunningServer:
        """A server of accounts of the machine, whose database and keys are this user's."""
        directory = reachable_directory(self)
        accounts = {"driver": "shadow", "passwd_path": "passwd", "shadow_path": ""}
        entry = pwd.getpwnam(user)
        lines = [f"{one.name}:*:{pwd.getpwnam(one.name).pw_uid}:100::{one.home}:" for one in (self.joe, self.ann)]
        (directory / "passwd").write_text("\n".join(lines) + "\n")
        os.chown(directory, entry.pw_uid, entry.pw_gid)
        server = RunningServer(self, directory, users={}, protocol={"auth_delay_seconds": 0.05})
        server.configuration |= {
            "accounts": [accounts],
            "server": {"user": user},
            "app_passwords": {"path": "app.sqlite", "key_file": "app.key"},
            "mail": {"location": f"maildir:{directory}/mail/$(user)"},
            "maildir": {"create": True},
        }
        (directory / "mail").mkdir()
        os.chown(directory / "mail", entry.pw_uid, entry.pw_gid)
        self.server = server
        server.write_configuration()
        # There are no secrets in it, and whoever asks by sudo reads it under another user.
        server.configuration_file.chmod(0o644)
        self.tpops("init")
        self.tpops("key")
        return server


class OtherUidTests(OtherUidCase):
    """As sudo starts it: another uid, and the environment that sudo makes."""

    def run_as(self, user: str, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """tpops apppasswd as the user nobody, for whom sudo says that this user asks."""
        entry = pwd.getpwnam(user)
        command = [program("python"), "-c", _AS_ANOTHER, self.server.configuration_file]
        return subprocess.run(
            [*command, str(pwd.getpwnam("nobody").pw_uid), "apppasswd", *arguments],
            input=given,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
            cwd="/",
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                "SUDO_UID": str(entry.pw_uid),
                "SUDO_USER": user,
                "SUDO_GID": str(entry.pw_gid),
                "TPOPS_CONFIG": "/nonexistent",
            },
        )

    def test_a_user_has_his_own_and_nobody_elses(self) -> None:
        """Promise: add, list, log in, revoke; of ann's nothing is seen or changed."""
        server = self.serve_as("nobody").start()
        anns = self.add("phone", user=self.ann.name)
        done = self.run_as(self.joe.name, "add", "phone", "--apop")
        self.assertEqual(done.returncode, 0, done.stderr)
        joes = done.stdout.strip()
        for user, password in ((self.joe.name, joes), (self.ann.name, anns)):
            server.poplib(user, password).quit()
        listed = self.run_as(self.joe.name, "list")
        self.assertIn(self.joe.name, listed.stdout)
        self.assertNotIn(self.ann.name, listed.stdout)
        for command in (("add", "x"), ("list",), ("revoke", "phone", "--yes"), ("revoke", "--all", "--yes")):
            done = self.run_as(self.joe.name, *command, "--user", self.ann.name)
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertIn(f"so it works for {self.joe.name} only", done.stderr)
        for command in (("init",), ("key", "--rotate")):
            self.assertIn("only an administrator", self.run_as(self.joe.name, *command).stderr)
        self.assertEqual(self.run_as(self.joe.name, "revoke", "--all", given="y\n").returncode, 0)
        self.refuses(joes, self.joe.name)
        server.poplib(self.ann.name, anns).quit()

    def test_files_stay_the_servers(self) -> None:
        """Promise: what root and users write, the server can read and write afterwards."""
        server = self.serve_as("nobody")
        self.add("phone", user=self.ann.name)
        self.assertEqual(self.run_as(self.joe.name, "add", "phone").returncode, 0)
        self.tpops("key", "--rotate")
        uid = pwd.getpwnam("nobody").pw_uid
        files = [path for path in server.directory.iterdir() if path.name.startswith("app.")]
        self.assertGreaterEqual(len(files), 2)
        for path in files:
            self.assertEqual((path.stat().st_uid, path.stat().st_mode & 0o777), (uid, 0o600), path)
        done = subprocess.run(
            [program("tpops"), "-c", str(server.configuration_file), "check"], capture_output=True, text=True
        )
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_a_database_that_may_only_be_read_lets_in(self) -> None:
        """Promise: the last use cannot be noted, which is logged once, and that is all."""
        server = self.serve_as("nobody")
        password = self.add("phone", user=self.joe.name)
        path = server.directory / "app.sqlite"
        os.chown(path, 0, 0)
        path.chmod(0o644)
        server.start()
        for _ in range(3):
            server.poplib(self.joe.name, password).quit()
        wait_until(lambda: "cannot be noted: cannot use" in server.output(), "the failure is logged")
        server.poplib(self.joe.name, password).quit()
        self.refuses("wrong", self.joe.name)
        self.assertEqual(server.output().count("cannot be noted"), 1)


class SudoTests(OtherUidCase):
    """sudo itself, with the sudoers file that comes with tpops, in a copy of /etc that only the test sees."""

    skip = need(None, "useradd", "userdel", "sudo", "visudo", "unshare", "setpriv")

    def test_the_sudoers_file_is_right(self) -> None:
        """Promise: visudo accepts it as it stands."""
        done = subprocess.run(
            ["visudo", "-cf", str(CHECKOUT / "contrib" / "sudoers-apppasswd")], capture_output=True, text=True
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_a_user_has_his_own_and_nobody_elses(self) -> None:
        """Promise: through sudo by the rules of the file, with the machine's configuration, and by no other way."""
        if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
            lacking(self, "this machine lets nobody have his own /etc (unshare -m)")
        server = self.serve_as("nobody")
        tpops = self.command(server.directory)
        self.etc = self.copy_of_etc(server, tpops)
        done = self.sudo(f"{tpops} apppasswd add phone", f"{tpops} apppasswd list --json")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(f'"account": "{self.joe.name}"', done.stdout)
        for command, why in (
            (f"{tpops} apppasswd add phone --user {self.ann.name}", f"so it works for {self.joe.name} only"),
            (f"TPOPS_CONFIG=/tmp/x {tpops} apppasswd list", "not allowed to set"),
            (f"{tpops} -c /tmp/x apppasswd list", "password is required"),
            (f"{tpops} user list", "password is required"),
            (f"env -u SUDO_UID {tpops} apppasswd list", "password is required"),
            (f"{tpops} apppasswd key --rotate", "password is required"),
        ):
            done = self.sudo(command)
            self.assertEqual((done.returncode, done.stdout), (1, ""), command)
            self.assertIn(why, done.stderr)
        self.assertEqual([one["account"] for one in json.loads(self.tpops("list", "--json"))], [self.joe.name])
        self.assertEqual(self.sudo(f"{tpops} apppasswd revoke phone --yes").returncode, 0)
        self.assertEqual(json.loads(self.tpops("list", "--json")), [])

    def command(self, directory: Path) -> str:
        """tpops of this source tree: sudo takes PYTHONPATH out of the environment."""
        path = directory / "tpops"
        tree = os.pathsep.join(one for one in sys.path if one)
        path.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(tree)} exec {program("tpops")} "$@"\n')
        path.chmod(0o755)
        return str(path)

    def copy_of_etc(self, server: RunningServer, tpops: str) -> Path:
        """/etc with tpops' configuration and its sudoers file, with other paths and names in it."""
        etc = server.directory / "etc"
        subprocess.run(["cp", "-a", "/etc", etc], check=True)
        shutil.rmtree(etc / "tpops", ignore_errors=True)
        (etc / "tpops").mkdir()
        text = server.configuration_file.read_text()
        for name in ("passwd", "app.sqlite", "app.key"):
            text = text.replace(f'"{name}"', f'"{server.directory / name}"')
        (etc / "tpops" / "tpops.toml").write_text(text)
        rules = (CHECKOUT / "contrib" / "sudoers-apppasswd").read_text()
        rules = rules.replace("/usr/bin/tpops", tpops)
        # root, for Python may be unreadable for others; nobody's password is asked for.
        rules = rules.replace("%users ALL = (mail) ", f"{self.joe.name} ALL = (root) NOPASSWD: ")
        self.assertIn(self.joe.name, rules)
        (etc / "sudoers.d" / "tpops-apppasswd").write_text(rules)
        (etc / "sudoers.d" / "tpops-apppasswd").chmod(0o440)
        return etc

    def sudo(self, *commands: str) -> subprocess.CompletedProcess[str]:
        """Run commands as joe, each through sudo."""
        lines = " && ".join(f"sudo -n {command}" for command in commands)
        become = f"setpriv --reuid {self.joe.name} --regid nogroup --clear-groups sh -c {shlex.quote(lines)}"
        script = f"mount --bind {self.etc} /etc && exec {become}"
        return subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False)
