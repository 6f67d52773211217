"""What contrib/docker/Dockerfile builds serves, is found healthy, and stops; dockerfile.py says what is left out."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

from tests.integration import machine as machines
from tests.integration.dockerfile import Image, sent
from tests.integration.machine_case import MachineCase, innermost
from tests.integration.server import CHECKOUT, PASSWORD, USER, end, temporary, wait_until

#: The user of the container.
_UID = "10110"


class ContainerTests(MachineCase):
    """The Dockerfile, instruction by instruction."""

    skip = machines.missing()

    def test_it_builds_and_serves(self) -> None:
        """docs/recipes/container.md: init, user add, run; reload, stop; as an ordinary user without capabilities."""
        image = Image(self.machine, CHECKOUT / "contrib" / "docker" / "Dockerfile")
        self.addCleanup(image.remove)
        page = (CHECKOUT / "docs" / "recipes" / "container.md").read_text()
        typed = re.search(r"^ +init (/etc/tpops .*)$", page, re.MULTILINE)
        assert typed is not None
        image.run("tpops", "init", *typed[1].split(), user="0")
        self.machine.write("/stages/1/tmp/password", PASSWORD + "\n")
        image.run("sh", "-c", f"tpops user add {USER} --stdin </tmp/password")
        self.deliver(f"/stages/1/var/lib/tpops/mail/{USER}/Maildir", f"{_UID}:{_UID}")
        output = temporary(self) / "output"
        process = image.start(output)
        self.addCleanup(end, process)
        wait_until(lambda: "ready on 0.0.0.0:1110" in output.read_text() or process.poll() is not None, "the server")
        self.fetches(1110)
        pid = innermost(process)
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        self.assertEqual(status["Uid"].split(), [_UID] * 4)
        self.assertEqual(status["Gid"].split(), [_UID] * 4)
        self.assertEqual((status["NSpid"].split()[-1], int(status["CapEff"], 16)), ("1", 0))
        self.assertEqual(image.health(), "")
        self.assertIn("0 sessions", image.run("tpops", "who"))
        self.assertIn("reloaded", image.run("tpops", "reload"))
        os.kill(pid, getattr(signal, image.settings["STOPSIGNAL"]))
        self.assertEqual(process.wait(60), 0)
        said = output.read_text()
        self.assertNotIn("plugin cache", said)
        self.assertNotIn("Traceback", said)
        self.assertIn("Server Shut Down", said)
        words = image.settings["HEALTHCHECK"]
        self.assertIn("/opt/tpops/healthcheck.py", words)
        self.assertIn("no POP3 server at", image.run("/opt/tpops/bin/python", "/opt/tpops/healthcheck.py", status=1))
        ports = image.settings["EXPOSE"].split()
        self.assertIn(f"-p 110:{ports[0]} -p 995:{ports[1]}", page)

    def test_what_is_sent_to_a_build(self) -> None:
        """.dockerignore: what is copied, and neither environments nor what somebody else's Python has left."""
        for name in ("tpops/service.py", "setup.cfg", "contrib/docker/healthcheck.py"):
            self.assertTrue(sent(name), name)
        for name in (".git/config", ".venv/bin/python", "tpops/__pycache__/service.pyc", "demo-data/x", "tests/pki.py"):
            self.assertFalse(sent(name), name)
