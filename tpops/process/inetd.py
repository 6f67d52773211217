"""
The program C{tpops-inetd}: started by inetd, xinetd, tcpserver or a systemd socket, when a client comes.

    tpops-inetd [-c FILE] [--listen PLACE]

Purpose: standard input (L{tpops.process.inherited}) says what to do: a connected socket gets one session, a listening
one ("wait") is served until nobody has been there for C{server.autoclose_seconds}, and goes back to inetd.
What holds is the C{[[listen]]} with the address and port of the socket; PLACE ("0.0.0.0:995", "unix:/path") names one
of them where they differ.  Other listeners, LMTP, services for Postfix and the control socket are for a
server that runs all the time.
Limits: counts and penalties end with the process.  The log goes to standard error, or to syslog (/dev/log) where that
is the client.
Errors: a client whose session cannot begin gets C{-ERR [SYS/TEMP]}; exit status 1, and the log has the reason.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tpops.process.garbage import collect_seldom


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; its exit status."""
    parser = argparse.ArgumentParser("tpops-inetd", description="Serve the client, or the port, at standard input.")
    parser.add_argument("-c", "--config", metavar="FILE", default="", help="configuration file (default: as for tpops)")
    parser.add_argument("--listen", metavar="PLACE", default="", help="the [[listen]] that holds, such as 0.0.0.0:995")
    options = parser.parse_args(arguments)
    collect_seldom()
    from tpops.process.inherited import take

    inherited = take()
    from tpops.process import inetd_start

    return inetd_start.serve(inherited, options.config, options.listen)


if __name__ == "__main__":
    sys.exit(main())
