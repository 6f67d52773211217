"""The keys about maildrops: where they are, and how each kind is served."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from tpops.config import checks
from tpops.config.section import PathText, Section, key


class Mail(Section):
    """Where mail lies."""

    location: Annotated[
        str,
        AfterValidator(checks.mail_location),
        key(
            'Where the mail of an account is whose source does not say it: "maildir:" or "mbox:" and a path with `~` '
            "(the home directory) or the variables `$(user)`, `$(local_part)`, `$(domain)` and `$(home)`; `$(user[0])` "
            'is one character. "mysql:" is the database of [mysql], with the owner\'s name behind the colon where that '
            "is not the login name. Several, parted by spaces: the first where there is something. Those with "
            "`$(folder)` are for clients that name one, see [folders]."
        ),
    ] = "maildir:~/Maildir"


class Maildir(Section):
    """How Maildirs are read and changed."""

    create: Annotated[
        bool,
        key(
            "Make a Maildir that is missing at login or when mail arrives; otherwise it counts as empty at login, and "
            "mail waits until somebody makes it."
        ),
    ] = False
    sizes: Annotated[
        Literal["exact", "maildir++", "file"],
        key(
            'Where sizes come from: "exact" counts each line end as two octets, as RFC 1939 asks; "maildir++" '
            'believes ",S=" in file names; "file" takes the file\'s size. The last two are faster and not exact.'
        ),
    ] = "exact"
    mark_seen: Annotated[
        Literal["never", "retr"],
        key('"retr" gives messages that were retrieved the flag S at QUIT and moves them from new to cur.'),
    ] = "never"
    index: Annotated[bool, key("Keep the listing in the file `tpops_index`, for fast logins.")] = True
    index_dir: Annotated[
        PathText,
        key(
            'Directory for these files; "" is the Maildir itself. With `sessions.run_as = "owner"` it is root\'s, and '
            "each owner has a directory in it.",
            example='"/var/cache/tpops"',
        ),
    ] = ""
    lock_wait_seconds: Annotated[
        float, key("How long a login waits for another session of the same user to end.", ge=0, le=600)
    ] = 10.0
    uidl_map: Annotated[
        bool, key("Take unique-ids from the file `tpops_uidl` in the Maildir where it names a message.")
    ] = False
    unique_ids: Annotated[
        Literal["name", "tpop3d"],
        key(
            'Where unique-ids come from: "name" is the file name without flags, as with qmail-pop3d and Courier; '
            '"tpop3d" is what clients of that server know already.'
        ),
    ] = "name"
    recursive: Annotated[
        bool, key("Show the messages of all folders in a Maildir together with its own, as one maildrop.")
    ] = False
    ignored_folders: Annotated[
        tuple[str, ...],
        Field(strict=False),
        AfterValidator(checks.ignored_folders),
        key(
            'Folders that are left out then, as "Lists/tpops"; what begins with "^" is an extended regular expression '
            'on "Lists.tpops".'
        ),
    ] = ("Trash", "Sent")
    cache_mib: Annotated[
        int, key("Memory for the listings of maildrops, in MiB; with `recursive` as much again.", ge=0)
    ] = 64

    @model_validator(mode="after")
    def _mean_something(self) -> Maildir:
        if self.uidl_map and self.unique_ids == "tpop3d":
            raise ValueError('has uidl_map and unique_ids = "tpop3d"; only one of them can say what clients know')
        if not self.recursive and self.ignored_folders != type(self).model_fields["ignored_folders"].default:
            raise ValueError("has ignored_folders, which means nothing without recursive")
        return self


class Mbox(Section):
    """How mail spools and mbox files are read and changed."""

    unique_ids: Annotated[
        Literal["hash", "tpop3d", "x-uid"],
        key(
            'Where unique-ids come from: "hash" is of the message without the marks of mail programs; "tpop3d" and '
            '"x-uid" (UW ipop3d) are what clients of these servers know already.'
        ),
    ] = "hash"
    mark_seen: Annotated[
        Literal["never", "retr"],
        key(
            '"retr" gives messages that were retrieved and stay the mark of mail programs (`Status: RO`) at QUIT, as '
            'UW ipop3d did. Not with the unique-ids of "tpop3d", which the mark would change.'
        ),
    ] = "never"
    quoting: Annotated[
        Literal["mboxo", "mboxrd"],
        key('"mboxrd": lines that begin with ">From " have lost a sign when they are sent; with "mboxo" they stay.'),
    ] = "mboxo"
    dotlock: Annotated[
        Literal["always", "try", "never"],
        key(
            "The file `SPOOL.lock`, beside the locks fcntl and flock: must be made, is left out where there is no "
            "right or no room to make it, or is never made."
        ),
    ] = "try"
    lock_wait_seconds: Annotated[
        float, key("How long a login waits for another session, or for a delivery, to end.", ge=0, le=600)
    ] = 10.0
    index: Annotated[bool, key("Keep the listings in files, for fast logins.")] = True
    index_dir: Annotated[
        PathText,
        key(
            'Directory for these files, and for what makes rewriting safe. With `sessions.run_as = "owner"` it is '
            "root's, and each owner has a directory in it.",
            shown="`mbox` in `server.state_dir`, with owners `~/.tpops/mbox`",
            example='"/var/lib/tpops/mbox"',
        ),
    ] = ""
    cache_mib: Annotated[int, key("Memory for the listings of spools, in MiB.", ge=0)] = 64

    @field_validator("mark_seen")
    @classmethod
    def _unique_ids_stay(cls, value: str, info: ValidationInfo) -> str:
        if value == "retr" and info.data.get("unique_ids") == "tpop3d":
            raise ValueError('must be "never" with unique_ids = "tpop3d": the mark would change the unique-ids')
        return value
