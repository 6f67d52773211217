"""The client's side of SCRAM (RFC 5802 section 3), written from the RFC and from nothing of ours."""

from __future__ import annotations

import base64
import hashlib
import hmac


class ScramClient:
    """
    One run, with everything in the client's hands, wrong things too.

    @param flag: what stands before the first comma: "n", "y" or "p=" and a kind of channel binding
    @param binding: the channel binding itself
    @ivar gs2: the header that the first message begins with
    """

    def __init__(
        self,
        name: bytes,
        password: bytes,
        digest: str = "sha256",
        flag: bytes = b"n",
        binding: bytes = b"",
        nonce: bytes = b"fyko+d2lbbFgONRv9qkxdawL",
    ) -> None:
        self._password = password
        self._digest = digest
        self.binding = binding
        self.gs2 = flag + b",,"
        self._nonce = nonce
        self._bare = b"n=" + name.replace(b"=", b"=3D").replace(b",", b"=2C") + b",r=" + nonce

    def first(self) -> bytes:
        """The client's first message."""
        return self.gs2 + self._bare

    def final(self, server_first: bytes) -> bytes:
        """The answer to the server's first message."""
        fields = dict(part.split(b"=", 1) for part in server_first.split(b","))
        assert fields[b"r"].startswith(self._nonce)
        assert len(fields[b"r"]) > len(self._nonce)
        assert int(fields[b"i"]) >= 4096
        salt = base64.b64decode(fields[b"s"])
        salted = hashlib.pbkdf2_hmac(self._digest, self._password, salt, int(fields[b"i"]))
        client_key = self._hmac(salted, b"Client Key")
        without_proof = b"c=" + base64.b64encode(self.gs2 + self.binding) + b",r=" + fields[b"r"]
        signed = b",".join((self._bare, server_first, without_proof))
        signature = self._hmac(hashlib.new(self._digest, client_key).digest(), signed)
        proof = bytes(one ^ other for one, other in zip(client_key, signature, strict=True))
        self.expected = b"v=" + base64.b64encode(self._hmac(self._hmac(salted, b"Server Key"), signed))
        return without_proof + b",p=" + base64.b64encode(proof)

    def _hmac(self, key: bytes, data: bytes) -> bytes:
        return hmac.digest(key, data, self._digest)
