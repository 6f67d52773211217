"""
Names and mail, made from what the configuration says about them: what the service, deliveries and commands need.

Purpose: the translation from the words of the configuration to plain arguments; L{tpops.serving} has what only a server
needs.  A kind of store is loaded when there may be mail in it: commands start for each message.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from tpops import file_stores, mail_database, plugins
from tpops.config.schema import Config
from tpops.cred import names
from tpops.cred.password_file import read_secret
from tpops.mailbox.locations import Maildrops, Store
from tpops.mailbox.plugin_stores import PluginStores
from tpops.mailbox.quota import Quota

if TYPE_CHECKING:
    from tpops.mailbox.proxy import Lookup
    from tpops.upstream.servers import Upstream


def login_names(config: Config) -> names.LoginNames:
    """How login names become canonical, and where they have a folder."""
    rules, folders = config.names, config.folders
    expression = folders.expression
    if folders.separator:
        expression = names.behind(folders.separator, rules.separators)
    taken = names.NamePart(expression) if expression else None
    return names.LoginNames(rules.default_domain, rules.lowercase, rules.separators, taken)


def proxied(config: Config) -> bool:
    """Whether the configuration says that mail is on other servers."""
    return bool(config.proxy.model_fields_set) or any(one.driver == "proxy" for one in config.accounts)


def upstream(config: Config, reactor: Any) -> Upstream:
    """
    The POP3 servers behind this one.

    @raise ConfigError: when a file of [proxy] cannot be used
    """
    from tpops.upstream import servers, tls

    proxy = config.proxy
    verified = proxy.tls != "off" and proxy.tls_verify
    password = proxy.password or (
        read_secret(proxy.password_file, "proxy.password_file") if proxy.password_file else ""
    )
    settings = servers.Settings(
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
    return servers.Upstream(settings, lambda name: names.split(name, config.names.separators), reactor)


def maildrops(config: Config, reactor: Any, run_in_thread: Any, others: Upstream, lookup: Lookup) -> Maildrops:
    """
    Where the mail of all accounts is.

    @param others: the POP3 servers behind this one
    @param lookup: finds what an account has there
    """
    # Of an index directory that has one for each owner, whoever delivers has his own as well.
    whose = str(os.geteuid()) if config.sessions.apart else ""
    spool_state = os.path.join(config.server.state_dir, "mbox")
    makers = file_stores.makers(config, spool_state, reactor, run_in_thread, whose=whose)
    makers["proxy"] = partial(_proxy_store, config, others, lookup)
    stores: dict[str, Store] = {}
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
    return Maildrops(config.mail.location, _split(config), stores, quota, makers)


def _split(config: Config) -> Callable[[str], tuple[str, str]]:
    return lambda name: names.split(name, config.names.separators)


def _proxy_store(config: Config, others: Upstream, lookup: Lookup) -> Store:
    from tpops.mailbox.proxy import ProxyStore

    return ProxyStore(config.proxy.unique_ids == "headers", others, lookup)
