"""tpops tls check, against servers that run."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import threading
from typing import Any

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from tests.integration.server import RunningServer, program, wait_until
from tests.pki import Authority, self_signed
from tpops.admin import cli

ROOT = Authority("Served Root")
BETWEEN = Authority("Served Intermediate", ROOT)


class TLSCheckCase(SynchronousTestCase):
    """A server with a listener for each way to TLS."""

    def setUp(self) -> None:
        listen = [{"address": "127.0.0.1", "port": 0, "tls": mode} for mode in ("implicit", "optional", "off")]
        directory = tempfile.mkdtemp(dir="/tmp")
        self.addCleanup(shutil.rmtree, directory)
        self.path = f"{directory}/s"
        listen.append({"address": f"unix:{self.path}", "tls": "required"})
        self.server = RunningServer(
            self, listen=listen, tls={"certificate": "mail.pem"}, server={"hostname": "mail.example.org"}
        )
        self.pem = self.server.directory / "mail.pem"
        self.issue("mail.example.org", "127.0.0.1")
        (self.server.directory / "root.crt").write_bytes(ROOT.pem)
        self.server.start()
        self.ports = {one["tls"]: one.get("port") for one in self.server.configuration["listen"]}
        # With the ports that the kernel chose.
        self.server.write_configuration()

    def issue(self, *names: str) -> None:
        """Put a certificate with chain and key into the file."""
        certificate, key = BETWEEN.issue(*names)
        self.pem.touch(0o600)
        self.pem.write_bytes(certificate + BETWEEN.pem + key)

    def look(self, *options: str, status: int = 0) -> list[dict[str, Any]]:
        """What it says, after the files."""
        command = ("-c", str(self.server.configuration_file), "tls", "check", "--json")
        trust = ("--ca", str(self.server.directory / "root.crt"))
        done = CliRunner().invoke(cli.tpops, (*command, *trust, *options))
        self.assertEqual((done.exit_code, done.stderr), (status, ""), done.stdout)
        rows: list[dict[str, Any]] = json.loads(done.stdout)
        return rows

    def texts(self, row: dict[str, Any]) -> str:
        return "\n".join(f"{one['level']}: {one['text']}" for one in row["findings"])


class ListenerTests(TLSCheckCase):
    """Those of the configuration."""

    def test_shows_what_every_listener_serves(self) -> None:
        """Certificate, chain, version and cipher: from the first octet, after STLS, and over a UNIX socket."""
        file, *rows = self.look()
        self.assertEqual(file["findings"], [])
        where = [f"127.0.0.1:{self.ports['implicit']}", f"127.0.0.1:{self.ports['optional']}", f"unix:{self.path}"]
        self.assertEqual([row["where"] for row in rows], where)
        for row in rows:
            self.assertEqual((row["names"], row["trusted"], row["findings"]), (file["names"], True, []))
            self.assertEqual(row["chain"], ["mail.example.org", "Served Intermediate"])
            self.assertRegex(row["tls"], r"^TLSv1\.3 TLS_\S+$")

    def test_another_certificate_than_on_disk(self) -> None:
        """A server that has not taken over what the configuration names is seen."""
        self.server.configuration["tls"]["certificate"] = "new.pem"
        self.server.write_configuration()
        self.pem = self.server.directory / "new.pem"
        self.issue("mail.example.org")
        file, *rows = self.look(status=1)
        self.assertEqual((file["findings"], len(rows)), ([], 3))
        for row in rows:
            self.assertIn("problem: it serves another certificate than the files have", self.texts(row))

    def test_a_server_that_does_not_run(self) -> None:
        """Is a note: the files can be looked at before the first start."""
        self.server.stop()
        rows = self.look()[1:]
        self.assertEqual(len(rows), 3)
        for row in rows:
            self.assertIn("note: cannot look at it: ", self.texts(row))
            self.assertIn("; is tpops running?", self.texts(row))

    def test_a_broken_renewal(self) -> None:
        """Is a problem of the file; the server goes on with the old one."""
        self.pem.write_bytes(b"rubbish")
        file, *rows = self.look(status=1)
        self.assertIn("has no certificate in PEM form", self.texts(file))
        self.assertEqual([row["findings"] for row in rows], [[], [], []])

    def test_a_renewal_is_seen(self) -> None:
        """From the next handshakes on."""
        self.issue("mail.example.org", "pop.example.org")

        def renewed() -> bool:
            done = CliRunner().invoke(cli.tpops, ("-c", str(self.server.configuration_file), "tls", "check"))
            return "it serves another certificate" not in done.stdout

        wait_until(renewed)
        self.assertEqual([row["names"] for row in self.look()], [["mail.example.org", "pop.example.org"]] * 4)


class ConnectTests(TLSCheckCase):
    """A server elsewhere."""

    def test_any_server(self) -> None:
        """By address and by name; without a configuration."""
        for mode, options in (("implicit", ()), ("optional", ("--starttls",))):
            place = f"127.0.0.1:{self.ports[mode]}"
            (row,) = self.look("--connect", place, *options)
            self.assertEqual((row["where"], row["findings"]), (place, []))
            (row,) = self.look("--connect", place, "--name", "mail.example.org", *options)
            self.assertEqual(row["findings"], [])
            (row,) = self.look("--connect", place, "--name", "a..b", *options, status=1)
            self.assertIn("problem: cannot look at it: 'a..b' is no host name", self.texts(row))
            (row,) = self.look("--connect", place, "--name", "pop.example.org", *options, status=1)
            self.assertIn("problem: pop.example.org, which clients ask for, is not among the names", self.texts(row))

    def test_trust(self) -> None:
        """What the machine does not trust is a problem; a self-signed one a note."""
        place = f"127.0.0.1:{self.ports['implicit']}"
        command = (program("tpops"), "tls", "check", "--connect", place)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("the certificate of Served Root is missing behind it", done.stdout)
        self.pem.write_bytes(b"".join(self_signed("127.0.0.1")))
        wait_until(lambda: self.look("--connect", place)[0]["names"] == ["127.0.0.1"])
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 0)
        self.assertIn("note:    it is self-signed", done.stdout)

    def test_servers_without_tls(self) -> None:
        """Each says what was there instead."""
        with socket.create_server(("127.0.0.1", 0)) as closed:
            nobody = f"127.0.0.1:{closed.getsockname()[1]}"
        for place, options, expected in (
            (nobody, (), "problem: cannot look at it: Connection refused"),
            ("[::1]:1", (), "problem: cannot look at it: "),
            (f"127.0.0.1:{self.ports['off']}", (), "problem: cannot look at it: TLS cannot be started"),
            (f"127.0.0.1:{self.ports['off']}", ("--starttls",), "STLS is refused: '-ERR"),
        ):
            (row,) = self.look("--connect", place, *options, status=1)
            self.assertIn(expected, self.texts(row))

    def test_servers_that_are_none(self) -> None:
        """Another protocol, and one that hangs up."""
        for said, options, expected in (
            (b"SSH-2.0-x\r\n", ("--starttls",), "no greeting of a POP3 server: 'SSH-2.0-x'"),
            (b"+OK", ("--starttls",), "the server closed the connection"),
            (b"", (), "the server closed the connection instead of starting TLS"),
        ):
            with socket.create_server(("127.0.0.1", 0)) as listening:

                def serve(listening: socket.socket = listening, said: bytes = said) -> None:
                    client, _ = listening.accept()
                    with client:
                        client.sendall(said)
                        client.shutdown(socket.SHUT_WR)
                        while client.recv(1000):
                            continue

                thread = threading.Thread(target=serve)
                thread.start()
                (row,) = self.look("--connect", f"127.0.0.1:{listening.getsockname()[1]}", *options, status=1)
                thread.join()
            self.assertIn(expected, self.texts(row))
