"""The keys of [oauth]: whose bearer tokens are good for a login."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from tpops.config import checks
from tpops.config.section import PathText, Section, key

Address = Annotated[str, AfterValidator(checks.web_address)]

#: Where the verified tokens come from; one of them turns the mechanisms on.
_SOURCES = ("jwks_file", "jwks_url", "introspection_url")

#: Keys that mean something beside some of these only.
_ONLY_WITH = {
    **dict.fromkeys(("client_id", "client_secret", "client_secret_file", "cache_ttl_seconds"), ("introspection_url",)),
    "algorithms": ("jwks_file", "jwks_url"),
    "refetch_seconds": ("jwks_url",),
}


class OAuth(Section):
    """Logins with OAuth 2.0 bearer tokens: OAUTHBEARER (RFC 7628) and XOAUTH2."""

    jwks_file: Annotated[
        PathText,
        key(
            'File with the issuer\'s public keys (JSON Web Key Set), for signed tokens; "" is none.',
        ),
    ] = ""
    jwks_url: Annotated[
        Address,
        key(
            "Address of these keys. One of `jwks_file`, `jwks_url` and `introspection_url` turns the mechanisms on.",
            example='"https://login.example.org/jwks.json"',
        ),
    ] = ""
    introspection_url: Annotated[
        Address,
        key(
            "Address of a server that tells what a token is good for (RFC 7662), instead of keys.",
        ),
    ] = ""
    client_id: Annotated[str, AfterValidator(checks.printable), key("Who tpops is for that server.")] = ""
    client_secret: Annotated[
        str, AfterValidator(checks.printable), key("Its password there; better in a file.", secret=True)
    ] = ""
    client_secret_file: Annotated[PathText, key("File with that password in its first line.")] = ""
    ca_file: Annotated[
        PathText,
        key("PEM file with the authorities whose certificates are believed.", shown="those of the machine"),
    ] = ""
    issuer: Annotated[
        str,
        key(
            "What a token must have as `iss`; needed for signed tokens.",
            example='"https://login.example.org/"',
        ),
    ] = ""
    audience: Annotated[
        tuple[str, ...],
        Field(strict=False),
        key("What a token must have as `aud`, one of these; needed for signed tokens.", example='["mail"]'),
    ] = ()
    algorithms: Annotated[
        tuple[
            Literal[
                "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
            ],
            ...,
        ],
        Field(strict=False, min_length=1),
        key("Signatures that are accepted; all are made with a key pair."),
    ] = ("RS256", "ES256", "EdDSA")  # fmt: skip
    scopes: Annotated[
        tuple[str, ...],
        Field(strict=False),
        key("Scopes that a token must have, all of them.", example='["mail"]'),
    ] = ()
    name_claim: Annotated[
        str,
        key(
            "The claim that is the login name.",
            example='"email"',
            shown='`"email"`, with an introspection server `"username"`',
        ),
    ] = Field(default_factory=lambda data: "username" if data.get("introspection_url") else "email")
    openid_configuration: Annotated[
        Address,
        key(
            "Address that a client without a good token is told, to get one (RFC 7628).",
            example='"https://login.example.org/.well-known/openid-configuration"',
        ),
    ] = ""
    timeout_seconds: Annotated[float, key("How long an answer from these addresses may take.", ge=0.1, le=60)] = 5
    leeway_seconds: Annotated[float, key("How far the issuer's clock may be off.", ge=0, le=600)] = 30
    refetch_seconds: Annotated[
        float, key("Least time between two looks at `jwks_url` for a key that is not known.", ge=0.1, le=3600)
    ] = 30
    cache_ttl_seconds: Annotated[
        float, key("How long an answer of the introspection server is remembered; 0 is not at all.", ge=0, le=3600)
    ] = 60

    @model_validator(mode="after")
    def _fits_together(self) -> OAuth:
        used = [name for name in _SOURCES if getattr(self, name)]
        if len(used) > 1:
            raise ValueError(f"may have one of {' and '.join(used)}, not both")
        others = [
            name
            for name, field in type(self).model_fields.items()
            if name in self.model_fields_set and name not in _SOURCES and getattr(self, name) != field.default
        ]
        if not used and others:
            raise ValueError(f"has {others[0]}, which means nothing without one of {', '.join(_SOURCES)}")
        for name in others:
            if used[0] not in _ONLY_WITH.get(name, _SOURCES):
                raise ValueError(f"has {name}, which goes with {' and '.join(_ONLY_WITH[name])} only")
        if used and used[0] != "introspection_url":
            for name in ("issuer", "audience"):
                if not getattr(self, name):
                    raise ValueError(f"needs {name}: else tokens for other services would be good here")
        if self.client_secret and self.client_secret_file:
            raise ValueError("may have client_secret or client_secret_file, not both")
        secret = self.client_secret or self.client_secret_file
        if bool(self.client_id) != bool(secret):
            raise ValueError("needs client_id" if secret else "needs client_secret or client_secret_file")
        return self

    @property
    def used(self) -> bool:
        """Whether tokens are good for a login."""
        return any(getattr(self, name) for name in _SOURCES)

    def settings(self) -> dict[str, object]:
        """The arguments of L{tpops.cred.oauth.OAuth}: the keys that are about tokens, by name."""
        return {name: getattr(self, name) for name in type(self).model_fields if name != "openid_configuration"}
