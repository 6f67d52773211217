"""
The command "tpops": everything an operator does apart from serving, which is "twistd tpops".

Purpose: everything works on one configuration file: --config, else the environment's TPOPS_CONFIG, else ./tpops.toml if
it exists, else /etc/tpops/tpops.toml; pw and doctor need none.
Errors: one line each on standard error and exit status 1 (2 for a wrong command line; store and pipe have an MTA's);
never a traceback.
"""

from __future__ import annotations

import importlib.metadata
import sys

import click

from tpops.admin.app_passwords import apppasswd
from tpops.admin.check import check
from tpops.admin.context import Commands
from tpops.admin.database import database
from tpops.admin.deliveries import pipe, store
from tpops.admin.doctor.command import doctor
from tpops.admin.init import init
from tpops.admin.mailbox import mailbox
from tpops.admin.passwords import pw
from tpops.admin.pbs import pbs
from tpops.admin.plugins import plugins
from tpops.admin.running import drain, kick, penalty, reload, stats, who
from tpops.admin.show import config as show
from tpops.admin.tls import tls
from tpops.admin.top import top
from tpops.admin.users import user


def _version() -> str:
    """The installed version; a source tree that is not installed has none."""
    try:
        return importlib.metadata.version("tpops")
    except importlib.metadata.PackageNotFoundError:
        return "(source tree, not installed)"


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    "-c",
    metavar="FILE",
    help="Configuration file.  [default: $TPOPS_CONFIG, else ./tpops.toml if it exists, else /etc/tpops/tpops.toml]",
)
@click.version_option(_version(), prog_name="tpops", message="%(prog)s %(version)s")
def tpops(config: str | None) -> None:
    """Administer tpops, a POP3 mail access service.  Serving is "twistd tpops"."""


for _command in (
    init,
    user,
    mailbox,
    apppasswd,
    pbs,
    pw,
    check,
    database,
    tls,
    doctor,
    show,
    plugins,
    who,
    kick,
    stats,
    penalty,
    reload,
    drain,
    top,
    store,
    pipe,
):
    tpops.add_command(_command)


def main() -> None:
    """The console script."""
    try:
        tpops(prog_name="tpops")
    except Exception as error:
        print(f"Error: {type(error).__name__}: {error}; please report this", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
