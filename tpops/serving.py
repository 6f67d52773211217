"""
Parts that only a server needs, each made from what the configuration says about it.

Purpose: the translation from the words of the configuration to plain arguments; L{tpops.generation} puts the parts
together.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable

from twisted.logger import Logger

from tpops.config.schema import Config
from tpops.cred import secret_file
from tpops.policy.limits import Limits
from tpops.policy.memory import AnyMemory
from tpops.policy.penalties import Penalties
from tpops.server.client_certificates import ClientCertificates

_log = Logger()


def limiter(config: Config, memory: AnyMemory, seconds: Callable[[], float]) -> Limits:
    """Who may connect, and how long a wrong guess takes."""
    limits, protocol = config.limits, config.protocol
    return Limits(
        limits.connections,
        limits.connections_per_address,
        limits.ipv6_prefix,
        limits.exempt,
        limits.login_delay_seconds,
        Penalties(protocol.auth_delay_seconds, protocol.auth_delay_max_seconds, seconds, memory),
        memory,
        seconds,
        limits.connections_per_user,
        limits.connections_per_user_and_address,
    )


def client_certificates(config: Config) -> ClientCertificates | None:
    """Whose certificates are accepted from clients, None where they are not asked for any."""
    tls = config.tls
    if tls.client_certificates == "off":
        return None
    required = tls.client_certificates == "require"
    return ClientCertificates(tls.client_ca, tls.client_crl, required, tls.client_name, time.time)


def scram_secret(config: Config) -> bytes:
    """From which SCRAM's salts are made."""
    path = os.path.join(config.server.state_dir, "scram_secret")
    try:
        return secret_file.read_or_make(path)
    except (OSError, ValueError) as problem:
        why = problem.strerror if isinstance(problem, OSError) else problem
        _log.warn(
            "cannot use {path}: {why}; salts of SCRAM may differ after each start, which tells who has an account",
            path=path,
            why=why,
        )
        return secrets.token_bytes(secret_file.SECRET_OCTETS)
