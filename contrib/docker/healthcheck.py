"""Whether a POP3 server greets on this machine: healthcheck.py PORT; exit status 0 when it does."""

import poplib
import sys

try:
    client = poplib.POP3("127.0.0.1", int(sys.argv[1]), timeout=4)
    client.quit()
except (OSError, poplib.error_proto) as problem:
    sys.exit(f"no POP3 server: {problem}")
