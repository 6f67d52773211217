"""The store of POP before SMTP, for the commands of "tpops pbs"."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from tpops.admin.context import configuration
from tpops.config.schema import Config
from tpops.db.addresses import site
from tpops.db.relay import IRelayStore, StoreFailed
from tpops.postfix import stores

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON array.")


@contextmanager
def opened(context: click.Context) -> Iterator[tuple[Config, IRelayStore]]:
    """The configuration and its store; what is wrong with the store ends the command."""
    config = configuration(context).config
    if not config.pop_before_smtp.store:
        raise click.ClickException("there is no POP before SMTP here: store is not set in [pop_before_smtp]")
    store = stores.store(config)
    try:
        yield config, store
    except StoreFailed as error:
        raise click.ClickException(str(error)) from None
    finally:
        store.close()


def place(config: Config, address: str) -> str:
    """The place of a client, also as "tpops pbs list" shows it."""
    found = site(address.partition("/")[0], config.pop_before_smtp.ipv6_prefix)
    if found is None:
        raise click.ClickException(f"{address!r} is no IP address")
    return found
