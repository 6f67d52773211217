"""
"tpops plugins": the drivers of other packages that are installed.

Purpose: what may stand behind "plugin:", and which keys it has.
Limits: a module in twisted/plugins that cannot be imported is missing here; Twisted says why on standard error.
"""

from __future__ import annotations

import json

import click
from rich.table import Table

from tpops import plugins as installed
from tpops.admin.context import show
from tpops.config import plugins as models
from tpops.config.reference import described
from tpops.errors import ConfigError


@click.command("plugins")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def plugins(as_json: bool) -> None:
    """List the sinks, accounts sources and mailbox drivers of other packages."""
    rows: list[dict[str, object]] = []
    for kind in installed.KINDS:
        for name, factory in installed.found(kind).items():
            keys: dict[str, str] = {}
            problem = ""
            try:
                fields = models.section(kind, factory).model_fields
                keys = {key: described(fields[key]) for key in factory.settings.model_fields}
            except ConfigError as error:
                problem = str(error)
            driver = f"{installed.PREFIX}{name}"
            rows.append(
                {
                    "table": kind,
                    "driver": driver,
                    "about": str(factory.about),
                    "module": type(factory).__module__,
                    "keys": keys,
                    "problem": problem,
                }
            )
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    if not rows:
        click.echo("no plugins are installed")
        return
    table = Table("Table", "Driver", "What it is", "From", "Keys")
    for row in rows:
        declared = row["keys"]
        assert isinstance(declared, dict)
        shown = str(row["problem"]) or "; ".join(f"{name} ({text})" for name, text in declared.items())
        table.add_row(f"[[{row['table']}]]", str(row["driver"]), str(row["about"]), str(row["module"]), shown)
    show(table)
