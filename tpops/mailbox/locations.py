"""
Where a user's mail lies: templates such as C{maildir:/var/mail/$(domain)/$(local_part)/Maildir}.

Purpose: one syntax for all drivers: C{$(user) $(local_part) $(domain) $(home)} as tpop3d has them, and a C{~} at the
beginning for the home directory.  An account that has a location of its own does not use the configured one.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from tpops.errors import MaildropBroken
from tpops.model import Account

#: Parts a login name into local part and domain.
Split = Callable[[str], tuple[str, str]]

VARIABLES = ("user", "local_part", "domain", "home")

_VARIABLE = re.compile(r"\$\(([^)]*)\)")


def problem_with(template: str) -> str | None:
    """What is wrong with a template, for the operator; None when it is good."""
    kind, colon, path = template.partition(":")
    if not colon or kind != "maildir":
        return "must begin with 'maildir:'"
    if not path.startswith(("/", "~/", "$(home)/")):
        return "needs an absolute path, '~/...' or '$(home)/...' behind 'maildir:'"
    for name in _VARIABLE.findall(path):
        if name not in VARIABLES:
            return f"knows no variable $({name}); there are " + " ".join(f"$({one})" for one in VARIABLES)
    return None


def expand(template: str, account: Account, split: Split) -> str:
    """
    The path of an account's Maildir.

    @param split: parts a name into local part and domain
    @raise MaildropBroken: when the account has no home, or no domain, and the template needs one
    """
    template = account.maildrop or template
    wrong = problem_with(template)
    if wrong is not None:
        raise MaildropBroken(f"location {template!r} of {account.name!r} {wrong}")
    path = template.partition(":")[2]
    if path.startswith("~/"):
        path = "$(home)" + path[1:]
    return _VARIABLE.sub(lambda found: _value(found[1], account, split, template), path)


def _value(name: str, account: Account, split: Split, template: str) -> str:
    local_part, domain = split(account.name)
    values = {"user": account.name, "local_part": local_part, "domain": domain, "home": account.home or ""}
    value = values[name]
    if not value:
        raise MaildropBroken(f"location {template!r} needs $({name}), and {account.name!r} has none")
    return value
