"""
Parts of the service, each made from what the configuration says about it.

Purpose: the translation from the words of the configuration to plain arguments; L{tpops.service} puts the parts
together.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from tpops import mail_database, plugins
from tpops.config.schema import Config
from tpops.cred import names, secret_file
from tpops.cred.password_file import read_secret
from tpops.mailbox import spool_locks
from tpops.mailbox.locations import Maildrops, Store
from tpops.mailbox.maildir import MaildirDriver, MaildirOptions
from tpops.mailbox.mbox import MboxDriver, MboxOptions
from tpops.mailbox.plugin_stores import PluginStores
from tpops.mailbox.proxy import Lookup, ProxyStore
from tpops.mailbox.quota import Quota
from tpops.mailbox.spool_locks import Dotlocks
from tpops.policy.limits import Limits
from tpops.policy.memory import AnyMemory
from tpops.policy.penalties import Penalties
from tpops.server.client_certificates import ClientCertificates
from tpops.server.options import ServerOptions
from tpops.server.pace import Bandwidth
from tpops.upstream import tls
from tpops.upstream.servers import Settings, Upstream

_log = Logger()


@cache
def implementation() -> bytes:
    """Name and version, as CAPA tells it."""
    try:
        return f"tpops-{version('tpops')}".encode("ascii")
    except PackageNotFoundError:
        return b"tpops"


def server_options(config: Config) -> ServerOptions:
    """Limits and timers of sessions."""
    protocol, limits = config.protocol, config.limits
    return ServerOptions(
        auth_tries=protocol.auth_tries,
        login_timeout_seconds=protocol.login_timeout_seconds,
        idle_timeout_seconds=protocol.idle_timeout_seconds,
        session_max_seconds=protocol.session_max_seconds,
        write_timeout_seconds=protocol.write_timeout_seconds,
        command_octets=protocol.command_octets,
        disconnect_octets=protocol.disconnect_octets,
        bad_commands=protocol.bad_commands,
        commands_before_login=limits.commands_before_login,
        commands_after_login=limits.commands_after_login,
        errors_before_login=limits.errors_before_login,
        errors_after_login=limits.errors_after_login,
        master_separator=config.masters.separator.encode(),
        refuse_utf8_headers=protocol.utf8_headers == "refuse",
    )


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


def bandwidth(config: Config, seconds: Callable[[], float]) -> Bandwidth | None:
    """How fast mail is sent, None for as fast as it goes."""
    limits = config.limits
    together = share(limits.octets_per_second, config.server.processes)
    if not (limits.octets_per_second_per_session or together):
        return None
    return Bandwidth(limits.octets_per_second_per_session, together, seconds)


def share(whole: int, processes: int) -> int:
    """What one process of several has of a limit, at least 1; 0 is no limit."""
    return -(-whole // processes)


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
    stores = file_stores(config, os.path.join(config.server.state_dir, "mbox"), reactor, run_in_thread)
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


def file_maildrops(
    config: Config,
    spool_state: str,
    reactor: Any,
    run_in_thread: Any,
    dotlocks: Dotlocks = spool_locks.HERE,
    whose: str = "",
) -> Maildrops:
    """
    The same for a process that serves its owner: only what is in files.

    @param spool_state: directory for what is remembered of spools
    @param dotlocks: who makes dotlocks
    @param whose: name of the owner's directory in those for indexes
    """
    stores = file_stores(config, spool_state, reactor, run_in_thread, dotlocks, whose)
    return Maildrops(config.mail.location, lambda name: names.split(name, config.names.separators), stores)


def file_stores(
    config: Config,
    spool_state: str,
    reactor: Any,
    run_in_thread: Any,
    dotlocks: Dotlocks = spool_locks.HERE,
    whose: str = "",
) -> dict[str, Store]:
    """
    The stores of the kinds that are files.

    @param spool_state: directory for what is remembered of spools, where none is configured
    """
    maildir, mbox = config.maildir, config.mbox

    def sleep(seconds: float) -> Deferred[None]:
        return deferLater(reactor, seconds, lambda: None)

    maildirs = MaildirOptions(
        create=maildir.create,
        sizes=maildir.sizes,
        mark_seen=maildir.mark_seen == "retr",
        index=maildir.index,
        index_dir=maildir.index_dir and os.path.join(maildir.index_dir, whose),
        lock_wait_seconds=maildir.lock_wait_seconds,
        uidl_map=maildir.uidl_map,
        cache_octets=maildir.cache_mib << 20,
        tpop3d=maildir.unique_ids == "tpop3d",
        recursive=maildir.recursive,
        ignored_folders=maildir.ignored_folders,
    )
    spools = MboxOptions(
        directory=(mbox.index_dir and os.path.join(mbox.index_dir, whose)) or spool_state,
        unique_ids=mbox.unique_ids,
        unquote=mbox.quoting == "mboxrd",
        dotlock=mbox.dotlock,
        mark_seen=mbox.mark_seen == "retr",
        index=mbox.index,
        lock_wait_seconds=mbox.lock_wait_seconds,
        cache_octets=mbox.cache_mib << 20,
    )
    return {
        "maildir": MaildirDriver(maildirs, run_in_thread, sleep, reactor.seconds),
        "mbox": MboxDriver(spools, run_in_thread, sleep, reactor.seconds, dotlocks),
    }


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
