"""An issuer of bearer tokens with real keys, for tests."""

from __future__ import annotations

import base64
import hmac
import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER, AUDIENCE = "https://login.example.org/", "mail"


def _base64url(octets: bytes) -> bytes:
    return base64.urlsafe_b64encode(octets).rstrip(b"=")


class SigningKey:
    """
    A key pair.

    @ivar kid: its name
    @ivar algorithm: what it signs with
    """

    def __init__(self, kid: str, algorithm: str = "RS256", bits: int = 2048) -> None:
        self.kid = kid
        self.algorithm = algorithm
        self.key: Any
        if algorithm == "EdDSA":
            self.key, self._form = ed25519.Ed25519PrivateKey.generate(), OKPAlgorithm
        elif algorithm.startswith("ES"):
            curve = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}[algorithm]
            self.key, self._form = ec.generate_private_key(curve()), ECAlgorithm
        else:
            self.key, self._form = rsa.generate_private_key(public_exponent=65537, key_size=bits), RSAAlgorithm

    def public(self, **changes: Any) -> dict[str, Any]:
        """The public key as a JSON Web Key."""
        found = self._form.to_jwk(self.key.public_key(), as_dict=True)
        return {**found, "kid": self.kid, "use": "sig", "alg": self.algorithm, **changes}

    def public_pem(self) -> bytes:
        """The public key in PEM form."""
        pem: bytes = self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return pem

    def sign(self, claims: dict[str, Any], **headers: Any) -> str:
        """A token with these claims."""
        return jwt.encode(claims, self.key, self.algorithm, headers={"kid": self.kid, **headers})


def claims(**changes: Any) -> dict[str, Any]:
    """What a good token for joe says; None leaves a claim out."""
    good = {"iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 600, "email": "joe", "scope": "mail openid"}
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def key_set(*keys: SigningKey) -> dict[str, Any]:
    """A JSON Web Key Set."""
    return {"keys": [key.public() for key in keys]}


def raw(header: dict[str, Any], payload: bytes, secret: bytes | None = None) -> str:
    """A token put together by hand, with HMAC-SHA-256 as its signature or none."""
    text = _base64url(json.dumps(header).encode()) + b"." + _base64url(payload)
    signature = b"" if secret is None else hmac.digest(secret, text, "sha256")
    return (text + b"." + _base64url(signature)).decode()
