"""
The operator's queries for accounts: what L{tpops.db.sql_template} reads, with the variables that there are for them.

Limits: one SELECT, with at least one variable.
Errors: ValueError, for the operator.
"""

from __future__ import annotations

import re

from tpops.db import sql_template
from tpops.db.sql_template import Query

#: TPOPS' variables, and tpop3d's; "serverhost" is the address at which the client came in.
VARIABLES = {
    "%s": "user",
    "%u": "local_part",
    "%d": "domain",
    "$(user)": "user",
    "$(local_part)": "local_part",
    "$(domain)": "domain",
    "$(serverhost)": "serverhost",
}


def parse(template: str) -> Query:
    """
    Read a template.

    @raise ValueError: when it cannot be used
    """
    query = sql_template.parse(template, VARIABLES)
    if not re.match(r"\(*\s*(?:SELECT|WITH)\b", query.sql, re.IGNORECASE):
        raise ValueError("must be a SELECT")
    if not query.variables:
        known = sql_template.listed(VARIABLES)
        raise ValueError(f"has no variable, so everybody would get the same account; there are {known}")
    return query
