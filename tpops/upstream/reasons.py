"""Why connections to other servers are not made, or end: words for the log."""

from __future__ import annotations

from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure


def reason_text(reason: Failure) -> str:
    """Why a connection was not made or has ended, for the log."""
    error = reason.value
    if isinstance(error, ConnectionDone):
        return "the server has closed the connection"
    if isinstance(error, (VerificationError, CertificateError)):
        return "the server's certificate is for another name"
    if isinstance(error, SSL.Error):
        told = error.args[0] if error.args and isinstance(error.args[0], (list, tuple)) else ()
        return f"TLS failed: {', '.join(one[-1] for one in told) or 'the server has closed the connection'}"
    return str(error) or type(error).__name__
