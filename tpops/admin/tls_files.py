"""
The certificates that a configuration names: can the server use them, and will clients take them?

Purpose: finds the files, reads them as the server does, and adds what only the machine knows: who may read the key.
"""

from __future__ import annotations

import datetime
import os
import stat
import time
from collections.abc import Iterator

import attrs
from cryptography import x509

from tpops import serving
from tpops.admin.rights import RunsAs
from tpops.admin.tls_facts import Facts, Finding, Trust, facts, is_for
from tpops.config.schema import Config
from tpops.errors import ConfigError
from tpops.server.certificates import Certificates, pem_files


@attrs.frozen
class File:
    """
    A certificate file of the configuration.

    @ivar leaf: its certificate, None where it cannot be read
    """

    facts: Facts
    leaf: x509.Certificate | None = attrs.field(repr=False)


def look(config: Config, runs_as: RunsAs, now: datetime.datetime, trust: Trust | None = None) -> list[File]:
    """Every certificate file of the configuration; none where it has no TLS."""
    tls = config.tls
    if not tls.certificate:
        return []
    paths = pem_files(tls.certificate)
    if not paths:
        what = Finding("problem", f"tls.certificate: there is no *.pem file in {tls.certificate}")
        return [File(Facts(where=tls.certificate, findings=(what,)), None)]
    files = [_file(path, config, runs_as, now, trust) for path in paths]
    return _with_hostname(files, config)


def _file(path: str, config: Config, runs_as: RunsAs, now: datetime.datetime, trust: Trust | None) -> File:
    usable = _use_findings(path, config)
    usable += _key_findings(config.tls.private_key or path, config, runs_as)
    if config.tls.private_key:
        usable += _renewal_findings(path, config, runs_as)
    try:
        with open(path, "rb") as file:
            chain = x509.load_pem_x509_certificates(file.read())
    except (OSError, ValueError):
        # _use_findings has said why.
        return File(Facts(where=path, findings=tuple(usable)), None)
    return File(facts(path, chain, now, trust).also(usable), chain[0])


def _use_findings(path: str, config: Config) -> list[Finding]:
    """What the server itself says of a file."""
    try:
        clients = serving.client_certificates(config)
        Certificates(path, config.tls.private_key, config.tls.minimum, time.monotonic, clients)
    except ConfigError as error:
        return [Finding("problem", problem) for problem in error.problems]
    return []


def _key_findings(path: str, config: Config, runs_as: RunsAs) -> list[Finding]:
    """Who may read a private key."""
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except OSError:
        return []
    if mode & stat.S_IROTH:
        what = f"everybody on this machine may read the private key {path} (mode {mode:04o}): chmod o-rwx, or a new key"
        return [Finding("problem", what)]
    return _renewal_findings(path, config, runs_as)


def _renewal_findings(path: str, config: Config, runs_as: RunsAs) -> list[Finding]:
    """Whether the server's user may read a file, at the start or later."""
    try:
        closed = runs_as.closed(path)
    except OSError:
        return []
    if closed is None:
        return []
    if config.server.user:
        what = f"root reads {path} at the start; {config.server.user} may not ({closed}), so a renewal needs a restart"
        return [Finding("warning", what)]
    return [Finding("problem", f"the server's user may not read {path} ({closed})")]


def _with_hostname(files: list[File], config: Config) -> list[File]:
    """With what there is to say where no certificate is for server.hostname, told with the first."""
    hostname = config.server.hostname
    leaves = [file.leaf for file in files if file.leaf is not None]
    if not leaves or any(is_for(leaf, hostname) for leaf in leaves):
        return files
    # Nobody may have meant the machine's own name, which is taken where none is given.
    level = "problem" if "hostname" in config.server.model_fields_set else "warning"
    what = Finding(level, f"server.hostname, {hostname}, is not among the names")
    return [attrs.evolve(files[0], facts=files[0].facts.also([what])), *files[1:]]


def problems(config: Config, runs_as: RunsAs, now: datetime.datetime) -> Iterator[tuple[str, str]]:
    """For "tpops check": problems and warnings, each with its level."""
    for file in look(config, runs_as, now):
        for finding in file.facts.findings:
            text = finding.text if finding.text.startswith("tls.") else f"{file.facts.where}: {finding.text}"
            yield finding.level, text
