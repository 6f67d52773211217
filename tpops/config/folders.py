"""The keys of [folders]: what a login name may say about them."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, model_validator

from tpops.config import checks
from tpops.config.section import Section, key


class Folders(Section):
    """Folders that a client opens by its login name, such as "joe+lists" or "joe+lists@example.org"; see docs/mail."""

    separator: Annotated[
        str,
        AfterValidator(checks.master_separator),
        key(
            "Sign that parts the folder from the name before it; the folder ends at a sign of `names.separators` or at "
            'the end. It then parts no name from its domain any more. "" is none.',
            example='"+"',
        ),
    ] = ""
    expression: Annotated[
        str,
        AfterValidator(checks.name_part),
        key(
            "Instead of `separator`: an extended regular expression, as popserv's `folder`; what it finds is taken off "
            "the login name, and its one pair of parentheses has the folder, as `+([^%@/]*)`."
        ),
    ] = ""

    @model_validator(mode="after")
    def _one_way(self) -> Folders:
        if self.separator and self.expression:
            raise ValueError("has separator and expression, which do the same; use one of them")
        return self

    @property
    def used(self) -> bool:
        """Whether a login name may have a folder."""
        return bool(self.separator or self.expression)
