"""
A statement in a database for each event, as popserv's loginfo and tpop3d's onlogin queries.

Purpose: sites that keep logins in tables of theirs.  What stands for a value, such as C{$(user)}, is bound: it never
becomes part of the statement's text.
Limits: MySQL and MariaDB.  A statement whose connection is lost while it is being completed is a failure, and not run
again: it may count.
Errors: NotTold, with what the server said.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from tpops.db.mysql import Client, DatabaseFailed, Execute
from tpops.db.mysql_pool import Pool
from tpops.db.mysql_servers import Access
from tpops.db.sql_template import Query
from tpops.events.deliveries import NotTold
from tpops.interfaces import IReceiver
from tpops.model import Notice


def values(notice: Notice) -> Mapping[str, str]:
    """What the variables stand for."""
    return {
        "event": notice.kind,
        "user": notice.user,
        "local_part": notice.local_part,
        "domain": notice.domain,
        "named": notice.named,
        "master": notice.master,
        "clienthost": notice.peer,
        "serverhost": notice.local_host,
        "hostname": notice.server,
        "session": notice.session,
        "mechanism": notice.mechanism,
        "driver": notice.driver,
        "folder": notice.folder,
        "detail": notice.detail,
        "epoch": f"{int(notice.at)}",
        "time": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(notice.at)),
    }


@implementer(IReceiver)
class SQLLog:
    """
    See the module.

    @param connections: how many there are at most
    """

    def __init__(self, reactor: Any, access: Access, query: Query, connections: int) -> None:
        self._query = query
        self._pool = Pool(access, connections, reactor, writable=True)

    def start(self) -> None:
        """Be ready; nothing is opened yet."""
        self._pool.start()

    def line(self, notice: Notice) -> str | None:
        """Each session by itself."""
        return notice.session

    async def send(self, notice: Notice) -> None:
        """See L{IReceiver.send}."""
        given = self._query.values(values(notice))

        def insert(execute: Execute) -> None:
            execute(self._query.sql, given)

        def run(client: Client, until: float) -> None:
            client.transaction(insert, until)

        done: Deferred[None] = self._pool.run(run)
        try:
            await done
        except DatabaseFailed as problem:
            raise NotTold(str(problem)) from None

    async def stop(self) -> None:
        """Close the connections."""
        self._pool.stop()
