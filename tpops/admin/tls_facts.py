"""
What there is to say about a certificate: names, validity, key, chain, trust.

Purpose: "tpops tls check" and "tpops check" look at files with it, and at what a running server serves.
Findings are problems (clients will refuse it, or the server cannot use it), warnings (soon they will) and notes.
Limits: no revocation (OCSP, CRL), no certificate transparency; nothing is fetched from the network.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Iterator, Sequence
from typing import TypeVar

import attrs
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import verify_certificate_hostname, verify_certificate_ip_address

#: Days before the end from which on a certificate is warned of; of short-lived ones the last third.
WARN_DAYS = 21

#: RSA keys below this are not taken by today's clients.
LEAST_RSA_BITS = 2048

#: OpenSSL's X509_V_ERR_* for an issuer that is in neither the chain nor the trusted ones.
_ISSUER_MISSING = (2, 20, 21)


#: Signatures that clients refuse.
_WEAK_SIGNATURES = frozenset(
    (
        x509.SignatureAlgorithmOID.RSA_WITH_MD5,
        x509.SignatureAlgorithmOID.RSA_WITH_SHA1,
        x509.SignatureAlgorithmOID.ECDSA_WITH_SHA1,
        x509.SignatureAlgorithmOID.DSA_WITH_SHA1,
    )
)

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


@attrs.frozen
class Finding:
    """
    Something to tell.

    @ivar level: "problem", "warning" or "note"
    """

    level: str
    text: str


@attrs.frozen(kw_only=True)
class Facts:
    """
    A certificate with its chain.

    @ivar where: the file, or the address that served it
    @ivar days_left: whole days until it ends, negative when it has
    @ivar chain: subject after subject, the certificate first
    @ivar trusted: whether it verifies; None where nobody asked
    """

    where: str
    names: tuple[str, ...] = ()
    issuer: str = ""
    not_before: datetime.datetime | None = None
    not_after: datetime.datetime | None = None
    days_left: int | None = None
    key: str = ""
    chain: tuple[str, ...] = ()
    trusted: bool | None = None
    findings: tuple[Finding, ...] = ()

    def also(self, findings: Sequence[Finding]) -> Facts:
        """The same with more to tell."""
        return attrs.evolve(self, findings=self.findings + tuple(findings))


class Trust:
    """
    The certificates that clients are taken to trust.

    @param ca: a file with certificates in PEM form, or a directory as C{openssl rehash} makes it; "" is the machine's
    @param strict: a self-signed certificate is a problem
    @raise OSError: when the file cannot be used
    """

    def __init__(self, ca: str, strict: bool = False) -> None:
        self.strict = strict
        self.whose = ca or "this machine"
        self._context = SSL.Context(SSL.TLS_METHOD)
        if not ca:
            self._context.set_default_verify_paths()
            return
        os.stat(ca)
        try:
            self._context.load_verify_locations(*((None, ca) if os.path.isdir(ca) else (ca,)))
        except SSL.Error:
            raise OSError(0, "no certificates in PEM form", ca) from None

    def refusal(self, chain: Sequence[x509.Certificate], moment: datetime.datetime) -> tuple[int, str]:
        """OpenSSL's error number and text for the first certificate of a chain at a time; (0, "") when it is right."""
        store = self._context.get_cert_store()
        assert store is not None
        store.set_time(moment)
        leaf, *others = (crypto.X509.from_cryptography(one) for one in chain)
        try:
            crypto.X509StoreContext(store, leaf, others).verify_certificate()
        except crypto.X509StoreContextError as error:
            return int(error.errors[0]), str(error)
        return 0, ""


def facts(where: str, chain: Sequence[x509.Certificate], now: datetime.datetime, trust: Trust | None = None) -> Facts:
    """
    Look at a certificate and the chain that is sent behind it.

    @param now: the time, with its zone
    @param trust: None leaves out whether it verifies
    """
    leaf = chain[0]
    found = [*_validity(chain, now), *_use(leaf), *_order(chain)]
    trusted = None
    if trust is not None:
        # Trust and time are two questions: an expired certificate is looked at while it was valid.
        moment = min(max(now, leaf.not_valid_before_utc), leaf.not_valid_after_utc)
        number, why = trust.refusal(chain, moment)
        trusted = not number
        found += _trust(_ordered(chain), trust, number, why)
    return Facts(
        where=where,
        names=names(leaf),
        issuer=name_of(leaf.issuer),
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
        days_left=(leaf.not_valid_after_utc - now).days,
        key=_key(leaf)[0],
        chain=tuple(name_of(one.subject) for one in chain),
        trusted=trusted,
        findings=tuple(found),
    )


def names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The names that it is for: the alternative ones, else the common name."""
    alternatives = _extension(certificate, x509.SubjectAlternativeName)
    if alternatives is None:
        common = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        return tuple(_shown(str(one.value)) for one in common)
    dns = (_shown(one) for one in alternatives.get_values_for_type(x509.DNSName))
    return (*dns, *(str(one) for one in alternatives.get_values_for_type(x509.IPAddress)))


def is_for(certificate: x509.Certificate, name: str) -> bool:
    """Whether a client that wants this host name, or IP address, takes the certificate (RFC 9525)."""
    verify = verify_certificate_ip_address if is_address(name) else verify_certificate_hostname
    try:
        verify(certificate, name)
    except (CertificateError, VerificationError, ValueError):
        return False
    return True


def is_address(name: str) -> bool:
    """Whether it is an IP address, which is never asked for by name (SNI)."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def name_of(name: x509.Name) -> str:
    """A distinguished name in short: the common name and, in parentheses, the organization."""
    by_oid = {part.oid: _shown(str(part.value)) for part in name}
    common = by_oid.get(x509.NameOID.COMMON_NAME, "")
    organization = by_oid.get(x509.NameOID.ORGANIZATION_NAME, "")
    if common and organization:
        return f"{common} ({organization})"
    return common or organization or _shown(name.rfc4514_string()) or "nobody"


def _shown(text: str) -> str:
    """A certificate's text, which anybody may have written, for a terminal."""
    return "".join(one if one.isprintable() else f"\\x{ord(one):02x}" for one in text)


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    """An extension, None where it is missing or broken."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return None


def _validity(chain: Sequence[x509.Certificate], now: datetime.datetime) -> Iterator[Finding]:
    for number, one in enumerate(chain):
        what = f"{name_of(one.subject)}, in the chain," if number else "the certificate"
        begin, end = one.not_valid_before_utc, one.not_valid_after_utc
        warn = min(datetime.timedelta(days=WARN_DAYS), (end - begin) / 3)
        if now > end:
            yield Finding("problem", f"{what} has expired: it was valid until {end:%Y-%m-%d %H:%M} UTC")
        elif now < begin:
            yield Finding("problem", f"{what} is not valid yet: it will be from {begin:%Y-%m-%d %H:%M} UTC on")
        elif end - now < warn:
            left = f"for {(end - now).days} days" if (end - now).days > 1 else f"until {end:%Y-%m-%d %H:%M} UTC"
            yield Finding("warning", f"{what} is valid {left} only; renew it")


def _key(certificate: x509.Certificate) -> tuple[str, int]:
    """Kind of key in words, and the bits of an RSA key or 0."""
    try:
        key = certificate.public_key()
    except (UnsupportedAlgorithm, ValueError):
        return "unknown", 0
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA, {key.key_size} bits", key.key_size
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {key.curve.name}, {key.key_size} bits", 0
    return type(key).__name__.removesuffix("PublicKey").lstrip("_"), 0


def _use(leaf: x509.Certificate) -> Iterator[Finding]:
    """Key, signature, purpose and names."""
    _, bits = _key(leaf)
    if 0 < bits < LEAST_RSA_BITS:
        yield Finding("warning", f"the RSA key has {bits} bits; clients want {LEAST_RSA_BITS} or more")
    if leaf.signature_algorithm_oid in _WEAK_SIGNATURES and not _self_signed(leaf):
        yield Finding("problem", "it is signed with SHA-1 or MD5, which clients refuse")
    purposes = _extension(leaf, x509.ExtendedKeyUsage)
    if purposes is not None and x509.ExtendedKeyUsageOID.SERVER_AUTH not in purposes:
        yield Finding("problem", "it is not for servers (extended key usage without serverAuth)")
    if _extension(leaf, x509.SubjectAlternativeName) is None:
        yield Finding("warning", "it has no alternative names, only a common name, which clients do not look at")


def _issued(one: x509.Certificate, by: x509.Certificate) -> bool:
    if one.signature_algorithm_oid in _WEAK_SIGNATURES:
        # The library does not look at these any more; the names say what was meant.
        return one.issuer == by.subject
    try:
        one.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _self_signed(one: x509.Certificate) -> bool:
    return _issued(one, one)


def _ordered(chain: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """The certificate and its issuers, as far as they are here, each behind the one that it issued."""
    ordered, left = [chain[0]], list(chain[1:])
    while not _self_signed(ordered[-1]):
        issuer = next((one for one in left if _issued(ordered[-1], one)), None)
        if issuer is None:
            break
        ordered.append(issuer)
        left.remove(issuer)
    return ordered


def _order(chain: Sequence[x509.Certificate]) -> Iterator[Finding]:
    ordered = _ordered(chain)
    foreign = [name_of(one.subject) for one in chain if one not in ordered]
    if foreign:
        yield Finding("warning", f"not of this chain, and sent needlessly: {', '.join(foreign)}")
    if [one for one in chain if one in ordered] != ordered:
        right = ", ".join(name_of(one.subject) for one in ordered)
        yield Finding("problem", f"the chain is not in order; some clients refuse it; right is: {right}")


def _trust(ordered: Sequence[x509.Certificate], trust: Trust, number: int, why: str) -> Iterator[Finding]:
    """
    What follows from the verdict.

    @param ordered: the chain without what does not belong to it
    """
    last = ordered[-1]
    issuer = name_of(last.issuer)
    if not number:
        if len(ordered) > 1 and _self_signed(last):
            yield Finding("note", f"the root {issuer} is sent as well, needlessly: clients have it or do not trust it")
    elif _self_signed(last) and len(ordered) == 1:
        level = "problem" if trust.strict else "note"
        yield Finding(level, "it is self-signed: clients warn, unless somebody told them to trust it")
    elif _self_signed(last):
        yield Finding("problem", f"its root {issuer} is not trusted by {trust.whose}; --ca FILE adds one of your own")
    elif number in _ISSUER_MISSING:
        yield Finding(
            "problem",
            f"the chain is incomplete, or its root not trusted by {trust.whose}: the certificate of {issuer} is "
            "missing behind it; with a CA of your own give --ca FILE",
        )
    else:
        yield Finding("problem", f"it does not verify against what {trust.whose} trusts: {why}")
