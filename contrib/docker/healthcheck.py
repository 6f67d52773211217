"""
Whether a POP3 server greets: healthcheck.py, with its address in $TPOPS_HEALTH; exit status 0 when it does.

The address is pop3://HOST:PORT, or pop3s://HOST:PORT for implicit TLS; whose certificate it is does not matter here.
"""

import os
import poplib
import ssl
import sys
from urllib.parse import urlsplit

SECONDS = 4

try:
    where = urlsplit(os.environ.get("TPOPS_HEALTH", ""))
    host, port = where.hostname, where.port
except ValueError as problem:
    sys.exit(f"TPOPS_HEALTH: {problem}")
if where.scheme not in ("pop3", "pop3s") or host is None or port is None:
    sys.exit(f"TPOPS_HEALTH is {where.geturl()!r}; it should be like pop3://127.0.0.1:1110 or pop3s://127.0.0.1:1995")
try:
    if where.scheme == "pop3s":
        # An own certificate, or one for another name: the probe looks whether it serves, not who it is.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        client = poplib.POP3_SSL(host, port, timeout=SECONDS, context=context)
    else:
        client = poplib.POP3(host, port, timeout=SECONDS)
    client.quit()
except (OSError, EOFError, poplib.error_proto) as problem:
    sys.exit(f"no POP3 server at {where.geturl()}: {problem}")
