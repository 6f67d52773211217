"""
What is asked of the certificates of other servers.

Purpose: contexts for TLS as a client: the server's name is sent to it (SNI) and looked for in its certificate, which
must lead to an authority that is believed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.ssl import Certificate, CertificateOptions, optionsForClientTLS, trustRootFromCertificates

from tpops.errors import ConfigError

#: Hosts whose contexts are kept.
_MOST_HOSTS = 256


def contexts(ca_file: str, verify: bool) -> Callable[[str], Any]:
    """
    Makes the context of TLS to a host.

    @param ca_file: PEM file with the authorities to believe, "" for those of the machine
    @param verify: False takes any certificate of anybody
    @raise ConfigError: when the file cannot be used
    """
    if not verify:
        unverified = CertificateOptions(verify=False)
        return lambda host: unverified
    if not ca_file:
        return lru_cache(_MOST_HOSTS)(lambda host: optionsForClientTLS(host))
    try:
        with open(ca_file, "rb") as file:
            found = x509.load_pem_x509_certificates(file.read())
    except OSError as problem:
        raise ConfigError([f"proxy.tls_ca: cannot read {ca_file}: {problem.strerror}"]) from problem
    except ValueError:
        raise ConfigError([f"proxy.tls_ca: {ca_file} has no certificate in PEM form"]) from None
    trust = trustRootFromCertificates([Certificate.load(one.public_bytes(Encoding.DER)) for one in found])
    return lru_cache(_MOST_HOSTS)(lambda host: optionsForClientTLS(host, trust))
