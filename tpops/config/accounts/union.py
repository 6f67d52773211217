"""
All drivers of [[accounts]].

Purpose: the one place that lists the models; "driver" tells which one a table is.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tpops.config.accounts.directory import LDAP
from tpops.config.accounts.files import PasswdFile, Shadow, SQLite
from tpops.config.accounts.programs import PAM, Checkpassword, External, Strcred
from tpops.config.accounts.proxy import ProxyAccounts
from tpops.config.accounts.sql import MySQL
from tpops.config.accounts.tables import ApopDB

AnyAccounts = Annotated[
    SQLite | PasswdFile | Shadow | ApopDB | LDAP | PAM | External | Checkpassword | Strcred | MySQL | ProxyAccounts,
    Field(discriminator="driver"),
]
