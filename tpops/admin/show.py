"""
"tpops config": the values in force, and where each comes from.

Purpose: answers "which limit holds, and who set it?".
Limits: secret values are shown as "(secret)".
"""

from __future__ import annotations

import json

import click
from rich.table import Column, Table

from tpops.admin.context import configuration, show
from tpops.config.model_walk import effective, label, secret, tables
from tpops.config.reference import toml


@click.command("config")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def config(context: click.Context, as_json: bool) -> None:
    """Show every value of the configuration with its origin."""
    loaded = configuration(context)
    known = tables(type(loaded.config))
    rows = {
        label(path): {
            "value": "(secret)" if secret(path, known) else value,
            "origin": loaded.origins[label(path)],
        }
        for path, value in effective(loaded.config)
    }
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    table = Table(Column("Key", no_wrap=True), Column("Value", overflow="fold"), Column("Origin", overflow="fold"))
    for name, row in rows.items():
        table.add_row(name, toml(row["value"]), str(row["origin"]))
    show(table)
