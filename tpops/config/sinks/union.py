"""
All drivers of [[sink]].

Purpose: the one place that lists the models; "driver" tells which one a table is.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tpops.config.sinks.network import Drac, UDPNotice, Whoson
from tpops.config.sinks.programs import ProgramSink, SQLSink, WebhookSink

AnySink = Annotated[Whoson | Drac | UDPNotice | SQLSink | ProgramSink | WebhookSink, Field(discriminator="driver")]
