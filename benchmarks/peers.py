"""The servers that are compared, and how each is told about the same maildrops.

What a peer does is in peer.py; those that know only the accounts of the machine are in unix_peers.py.

- ``limit``: canned replies in C (limit.c), the ceiling of this machine and of the load generator;
- ``tpops``: this repository, by the ``twistd`` of the virtual environment;
- ``dovecot-tuned``: Dovecot's documented high-performance mode, with what speeds up POP3 besides;
- ``dovecot-default``: Dovecot's own process model and settings; only its limits are raised so that the run gets
  through, and mail location, accounts and log are those of the benchmark.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from benchmarks.mail import OWNER
from benchmarks.peer import Peer, Site
from benchmarks.unix_peers import Popa3d

REPOSITORY = Path(__file__).resolve().parent.parent


def _write_passwords(site: Site) -> Path:
    path = site.directory / "passwd"
    path.write_text("".join(f"user{n:04d}:{{PLAIN}}pw{n:04d}\n" for n in range(site.users)))
    return path


class Limit(Peer):
    """No mail, no accounts, no state."""

    name = "limit"
    needs_mail = False

    def start(self, site: Site) -> list[str]:
        return [str(site.programs / "limit"), str(site.port), str(site.messages), str(site.octets)]


class Tpops(Peer):
    """This repository's server with a passwd-file and otherwise its defaults, limits aside."""

    name = "tpops"
    kinds = frozenset(("maildir", "mbox"))
    configuration = """\
[server]
hostname = "localhost"
workers = {workers}
{drop}state_dir = "{directory}/state"

[[listen]]
address = "127.0.0.1"
port = {port}

[[accounts]]
{accounts}

[mail]
location = "{location}"

[limits]
connections = 20000
connections_per_address = 20000

[log]
access_log = "{directory}/access.log"

[protocol]
auth_delay_seconds = 2
"""

    def accounts(self, site: Site) -> str:
        """The keys of the accounts."""
        return f'driver = "passwd_file"\npath = "{_write_passwords(site)}"'

    def location(self, site: Site) -> str:
        """Where the mail is."""
        return f"maildir:{site.mail}/$(user)/Maildir" if site.kind == "maildir" else f"mbox:{site.mail}/$(user)"

    def missing(self, python: Path) -> str:
        twistd = python.parent / "twistd"
        return "" if twistd.exists() else f"no {twistd} (name another interpreter with --python)"

    def start(self, site: Site) -> list[str]:
        state = site.directory / "state"
        state.mkdir()
        drop = ""
        if os.geteuid() == 0:
            drop = f'user = "{OWNER}"\ngroup = "{OWNER}"\n'
            os.chown(state, OWNER, OWNER)
            os.chown(site.directory, OWNER, OWNER)
        path = site.directory / "tpops.toml"
        path.write_text(
            self.configuration.format(
                drop=drop,
                workers=site.workers,
                directory=site.directory,
                port=site.port,
                accounts=self.accounts(site),
                location=self.location(site),
            )
        )
        twistd = site.python.parent / "twistd"
        log = site.directory / "twistd.log"
        return [str(twistd), "-n", "--pidfile=", "-l", str(log), "tpops", "--config", str(path)]

    def environment(self) -> dict[str, str]:
        return dict(os.environ, PYTHONPATH=str(REPOSITORY))

    def working_directory(self, site: Site) -> Path:
        return REPOSITORY


class Dovecot(Peer):
    """What both configurations of Dovecot have in common."""

    services = ""
    common = """\
protocols = pop3
listen = 127.0.0.1
base_dir = {directory}/base
state_dir = {directory}/state
instance_name = tpops-bench
log_path = {directory}/dovecot.log
ssl = no
disable_plaintext_auth = no
mail_location = maildir:~/Maildir
first_valid_uid = 1000
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {passwords}
}}
userdb {{
  driver = static
  args = uid={owner} gid={owner} home={mail}/%u
}}
service anvil {{
  client_limit = 40000
}}
service auth {{
  client_limit = 40000
}}
service stats {{
  client_limit = 40000
}}
service log {{
  client_limit = 40000
}}
"""

    def missing(self, python: Path) -> str:
        if os.geteuid() != 0:
            return "Dovecot has to be started by root"
        if shutil.which("dovecot") is None or not Path("/usr/lib/dovecot/pop3").exists():
            return "not installed (apt-get install dovecot-pop3d)"
        return ""

    def start(self, site: Site) -> list[str]:
        path = site.directory / "dovecot.conf"
        values = {
            "directory": site.directory,
            "mail": site.mail,
            "owner": OWNER,
            "port": site.port,
            "passwords": _write_passwords(site),
        }
        path.write_text((self.common + self.services).format(**values))
        return ["dovecot", "-F", "-c", str(path)]


class DovecotDefault(Dovecot):
    """A login process and a mail process for every connection."""

    name = "dovecot-default"
    services = """\
service pop3-login {{
  inet_listener pop3 {{
    port = {port}
  }}
  inet_listener pop3s {{
    port = 0
  }}
  process_limit = 2000
}}
service pop3 {{
  process_limit = 20000
}}
"""


class DovecotTuned(Dovecot):
    """Login processes that stay, mail processes used again, no fsync, trust in its own index."""

    name = "dovecot-tuned"
    services = """\
auth_cache_size = 64M
mail_fsync = never
maildir_very_dirty_syncs = yes
pop3_fast_size_lookups = yes
pop3_no_flag_updates = yes
service pop3-login {{
  inet_listener pop3 {{
    port = {port}
  }}
  inet_listener pop3s {{
    port = 0
  }}
  service_count = 0
  process_min_avail = 2
  client_limit = 20000
  vsz_limit = 1G
}}
service pop3 {{
  process_limit = 20000
  process_min_avail = 2
  service_count = 1000000
  client_limit = 1
}}
"""


PEERS: dict[str, Peer] = {peer.name: peer for peer in (Limit(), Tpops(), DovecotTuned(), DovecotDefault(), Popa3d())}
