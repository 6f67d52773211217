"""
All drivers of [[sink]].

Purpose: the one place that lists the models; "driver" tells which one a table is.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tpops.config.sinks.network import Drac, UDPNotice, Whoson

AnySink = Annotated[Whoson | Drac | UDPNotice, Field(discriminator="driver")]
