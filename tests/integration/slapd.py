"""
A directory server (OpenLDAP's slapd) for a test: its entries, its certificate, and the process.

Each has a directory of its own below /tmp and listens on ports of 127.0.0.1 that were free, and on a UNIX socket.
Entries are below dc=example,dc=org.  Only L{READER} may search; everybody may bind; the password policy is in force.
"""

from __future__ import annotations

import base64
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import attrs
from twisted.trial.unittest import SynchronousTestCase

from tests import pki
from tests.integration.server import PATIENCE_SECONDS, end, wait_until
from tpops.cred.hashes import hash_password

SUFFIX = "dc=example,dc=org"
PEOPLE = f"ou=people,{SUFFIX}"
READER, READER_PASSWORD = f"cn=tpops,{SUFFIX}", "secret of tpops"

#: Where the parts of slapd may be, by system.
_SCHEMAS = ("/etc/ldap/schema", "/etc/openldap/schema", "/usr/local/etc/openldap/schema")
_MODULES = ("/usr/lib/ldap", "/usr/lib64/openldap", "/usr/lib/openldap", "/usr/local/libexec/openldap")

_CONFIGURATION = """\
{schemas}
modulepath {modules}
moduleload back_mdb
moduleload ppolicy
pidfile {directory}/pid
argsfile {directory}/args
TLSCertificateFile {directory}/server.pem
TLSCertificateKeyFile {directory}/server.pem
database mdb
maxsize 10485760
suffix "{suffix}"
directory {directory}/data
overlay ppolicy
ppolicy_default "cn=policy,{suffix}"
ppolicy_use_lockout
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{reader}" read by anonymous auth by * none
"""

#: Attributes of an entry: text, octets, or several of them.
Attributes = Mapping[str, str | bytes | Sequence[str]]


@attrs.frozen
class Entry:
    """An entry by its name."""

    dn: str
    attributes: Attributes

    def ldif(self) -> str:
        """As slapadd reads it."""
        lines = [("dn", self.dn)]
        for key, value in self.attributes.items():
            lines += [(key, one) for one in ([value] if isinstance(value, (str, bytes)) else value)]
        coded = ((key, one if isinstance(one, bytes) else one.encode()) for key, one in lines)
        return "".join(f"{key}:: {base64.b64encode(one).decode()}\n" for key, one in coded) + "\n"


def person(uid: str, password: str | bytes = b"", **attributes: str | Sequence[str]) -> Entry:
    """Somebody in ou=people, with C{uid}, C{mail} and, where there is a password, its salted hash."""
    octets = password.encode() if isinstance(password, str) else password
    hashed = {"userPassword": hash_password(octets, "SSHA")} if octets else {}
    known: Attributes = {
        "objectClass": ["inetOrgPerson", "extensibleObject"],
        "uid": uid,
        "cn": uid,
        "sn": uid,
        "mail": f"{uid}@example.org",
        **hashed,
        **attributes,
    }
    return Entry(f"uid={uid},{PEOPLE}", known)


def _base() -> list[Entry]:
    """What every directory has."""
    return [
        Entry(SUFFIX, {"objectClass": ["dcObject", "organization"], "dc": "example", "o": "Example"}),
        Entry(PEOPLE, {"objectClass": "organizationalUnit", "ou": "people"}),
        Entry(
            READER,
            {
                "objectClass": ["organizationalRole", "simpleSecurityObject"],
                "cn": "tpops",
                "userPassword": hash_password(READER_PASSWORD.encode(), "SSHA"),
            },
        ),
        Entry(
            f"cn=policy,{SUFFIX}",
            {
                "objectClass": ["organizationalRole", "pwdPolicy"],
                "cn": "policy",
                "pwdAttribute": "userPassword",
                "pwdLockout": "TRUE",
                "pwdMaxFailure": "1000",
                "pwdMaxAge": "315360000",
                "pwdMustChange": "TRUE",
            },
        ),
    ]


def _first(paths: Sequence[str]) -> str:
    return next((path for path in paths if os.path.isdir(path)), paths[0])


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class Slapd:
    """
    See the module.

    @ivar directory: holds everything, also C{ca.pem}
    @ivar ldap: its address without TLS
    @ivar ldaps: its address with TLS
    @ivar ldapi: its address on this machine
    """

    def __init__(self, testcase: SynchronousTestCase, *entries: Entry, names: Sequence[str] = ("127.0.0.1",)) -> None:
        self.testcase = testcase
        self.directory = Path(tempfile.mkdtemp(prefix="tpops-slapd-", dir="/tmp"))  # a short path
        testcase.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        (self.directory / "data").mkdir()
        certificate, key = pki.self_signed(*names)
        (self.directory / "server.pem").write_bytes(certificate + key)
        self.ca = self.directory / "ca.pem"
        self.ca.write_bytes(certificate)
        self._choose_ports()
        self.ldapi = f"ldapi://{quote(str(self.directory / 'socket'), safe='')}"
        self.process: subprocess.Popen[bytes] | None = None
        self._write(entries)

    def _write(self, entries: Sequence[Entry]) -> None:
        schemas = (f"include {_first(_SCHEMAS)}/{name}.schema" for name in ("core", "cosine", "inetorgperson", "nis"))
        (self.directory / "slapd.conf").write_text(
            _CONFIGURATION.format(
                schemas="\n".join(schemas),
                modules=_first(_MODULES),
                directory=self.directory,
                suffix=SUFFIX,
                reader=READER,
            )
        )
        done = subprocess.run(
            ["slapadd", "-f", str(self.directory / "slapd.conf")],
            input="".join(entry.ldif() for entry in (*_base(), *entries)),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise AssertionError(f"slapadd: {done.stderr}")

    def start(self) -> Slapd:
        """Start it and wait until it answers; the first time at other ports, where somebody has taken these."""
        tries = 5 if self.process is None else 1
        while True:
            self.process = self._launch()
            wait_until(lambda: self._ended() or self._listens(), "slapd listens")
            if not self._ended():
                return self
            tries -= 1
            if not tries:
                raise AssertionError(f"slapd has ended: {(self.directory / 'output').read_text()}")
            self._choose_ports()

    def _launch(self) -> subprocess.Popen[bytes]:
        with open(self.directory / "output", "ab") as output:
            process = subprocess.Popen(
                [
                    *("slapd", "-d", "0", "-f", str(self.directory / "slapd.conf")),
                    *("-h", f"{self.ldap} {self.ldaps} {self.ldapi}"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self.testcase.addCleanup(end, process)
        return process

    def _choose_ports(self) -> None:
        self.ldap, self.ldaps = f"ldap://127.0.0.1:{free_port()}", f"ldaps://127.0.0.1:{free_port()}"

    def stop(self) -> None:
        """End it in good order."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(PATIENCE_SECONDS)

    def restart(self) -> None:
        """Stop it and start it, at the same addresses."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Let it do nothing any more; its connections stay."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        self.testcase.addCleanup(self.thaw)

    def thaw(self) -> None:
        """Let it go on."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)

    def _ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def _listens(self) -> bool:
        try:
            for url in (self.ldap, self.ldaps):
                socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), PATIENCE_SECONDS).close()
        except OSError:
            return False
        return True


def reader(slapd: Slapd, **keys: object) -> dict[str, object]:
    """The table [[accounts]] of a source that uses a directory, with these keys beside or instead of the usual ones."""
    return {
        "driver": "ldap",
        "urls": [slapd.ldap],
        "tls": "off",
        "bind_dn": READER,
        "bind_password": READER_PASSWORD,
        "base_dn": PEOPLE,
        "filter": "(uid=$(user))",
        **keys,
    }
