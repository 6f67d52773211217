"""
Parts of the service, each made from what the configuration says about it.

Purpose: the translation from the words of the configuration to plain arguments; L{tpops.service} puts the parts
together.  What sessions in processes of their own need, too, is in L{tpops.file_assembly}.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from tpops import mail_database, plugins
from tpops.config.schema import Config
from tpops.cred import names, secret_file
from tpops.cred.password_file import read_secret
from tpops.file_assembly import file_stores
from tpops.mailbox.locations import Maildrops
from tpops.mailbox.plugin_stores import PluginStores
from tpops.mailbox.proxy import Lookup, ProxyStore
from tpops.mailbox.quota import Quota
from tpops.policy.limits import Limits
from tpops.policy.memory import AnyMemory
from tpops.policy.penalties import Penalties
from tpops.server.client_certificates import ClientCertificates
from tpops.upstream import tls
from tpops.upstream.servers import Settings, Upstream

_log = Logger()


def login_names(config: Config) -> names.LoginNames:
    """How login names become canonical, and where they have a folder."""
    rules, folders = config.names, config.folders
    expression = folders.expression
    if folders.separator:
        expression = names.behind(folders.separator, rules.separators)
    taken = names.NamePart(expression) if expression else None
    return names.LoginNames(rules.default_domain, rules.lowercase, rules.separators, taken)


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


def upstream(config: Config, reactor: Any) -> Upstream:
    """
    The POP3 servers behind this one.

    @raise ConfigError: when a file of [proxy] cannot be used
    """
    proxy = config.proxy
    verified = proxy.tls != "off" and proxy.tls_verify
    password = proxy.password or (
        read_secret(proxy.password_file, "proxy.password_file") if proxy.password_file else ""
    )
    settings = Settings(
        proxy.server,
        proxy.tls,
        tls.contexts(proxy.tls_ca, verified),
        user=proxy.user,
        password=password.encode() if password else None,
        way=proxy.login,
        connect_timeout_seconds=proxy.connect_timeout_seconds,
        timeout_seconds=proxy.timeout_seconds,
        keepalive_seconds=proxy.keepalive_seconds,
        connections=proxy.connections,
    )
    return Upstream(settings, lambda name: names.split(name, config.names.separators), reactor)


def maildrops(config: Config, reactor: Any, run_in_thread: Any, others: Upstream, lookup: Lookup) -> Maildrops:
    """
    Where the mail of all accounts is.

    @param others: the POP3 servers behind this one
    @param lookup: finds what an account has there
    """
    # Of an index directory that has one for each owner, whoever delivers has his own as well.
    whose = str(os.geteuid()) if config.sessions.apart else ""
    spool_state = os.path.join(config.server.state_dir, "mbox")
    stores = file_stores(config, spool_state, reactor, run_in_thread, whose=whose)
    stores["proxy"] = ProxyStore(config.proxy.unique_ids == "headers", others, lookup)
    if mail_database.used(config):
        stores["mysql"] = mail_database.driver(config, reactor)
    if config.store:
        stores["plugin"] = PluginStores(
            {
                one.name: plugins.factory("store", one.driver).make(reactor, run_in_thread, one.settings())
                for one in config.store
            }
        )
    quota = Quota(config.quota.octets, config.quota.messages)
    return Maildrops(config.mail.location, lambda name: names.split(name, config.names.separators), stores, quota)


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
