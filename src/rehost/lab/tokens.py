"""Who may call: the lab's service account, and the access tokens that its key earns.

The exchange is RFC 7523 (a signed JWT as authorisation grant), as Google's token endpoint does it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
LIFETIME = 3600  # seconds that an access token is good for
SKEW = 300  # seconds that the two clocks may differ
# google-auth always names this audience, whatever token_uri says.
_GOOGLE_AUDIENCE = "https://oauth2.googleapis.com/token"
_COMPUTE_AUDIENCE = "https://compute.googleapis.com/"
_PREFIX = "ya29.lab."  # of the access tokens that the lab gives


class TokenError(Exception):
    """The token endpoint refuses: OAuth's `error` and `error_description` (RFC 6749, 5.2)."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.error = error
        self.description = description

    def body(self) -> dict[str, str]:
        return {"error": self.error, "error_description": self.description}


@dataclass
class Issuer:
    """Makes the service account's key, and knows its tokens again without keeping them."""

    project: str
    # gcloud keeps tokens by account: a new lab of the same name must not be met with those of the old one.
    _account: str = field(default_factory=lambda: f"rehost-{secrets.token_hex(3)}")
    _key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048), repr=False)
    _seal: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    @property
    def email(self) -> str:
        return f"{self._account}@{self.project}.iam.gserviceaccount.com"

    def service_account(self, token_uri: str) -> dict[str, str]:
        """The content of a service-account file. It holds the private key: write it 0600."""
        pem = self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return {
            "type": "service_account",
            "project_id": self.project,
            "private_key_id": hashlib.sha256(pem).hexdigest()[:40],
            "private_key": pem.decode(),
            "client_email": self.email,
            "client_id": "100000000000000000001",
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": token_uri,
            "universe_domain": "googleapis.com",
        }

    def exchange(self, form: dict[str, str], token_uri: str, now: float | None = None) -> dict[str, Any]:
        """The token endpoint's answer to a form. Raises TokenError."""
        now = time.time() if now is None else now
        if form.get("grant_type") != GRANT:
            raise TokenError("unsupported_grant_type", f"Invalid grant_type: {form.get('grant_type', '')}")
        claims = self._claims(form.get("assertion", ""))
        if claims.get("iss") != self.email:
            raise TokenError("invalid_grant", "Invalid grant: account not found")
        issued, expires = claims.get("iat"), claims.get("exp")
        if not isinstance(issued, int | float) or not isinstance(expires, int | float):
            raise TokenError("invalid_grant", "Invalid JWT: iat and exp must be given.")
        if issued > now + SKEW or expires < now - SKEW or expires - issued > LIFETIME + SKEW:
            raise TokenError(
                "invalid_grant",
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. "
                "Check your iat and exp values in the JWT claim.",
            )
        if claims.get("aud") not in (token_uri, _GOOGLE_AUDIENCE):
            raise TokenError("invalid_grant", "Invalid JWT: Failed audience check.")
        if not claims.get("scope"):
            raise TokenError("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
        return {"access_token": self.token(now), "expires_in": LIFETIME - 1, "token_type": "Bearer"}

    def _claims(self, assertion: str) -> dict[str, Any]:
        try:
            head, body, signature = assertion.split(".")
            header, claims = json.loads(_decoded(head)), json.loads(_decoded(body))
            signed = _decoded(signature)
        except (ValueError, binascii.Error):
            raise TokenError("invalid_grant", "Invalid JWT.") from None
        if not isinstance(header, dict) or not isinstance(claims, dict) or header.get("alg") != "RS256":
            raise TokenError("invalid_grant", "Invalid JWT: RS256 is needed.")
        try:
            self._key.public_key().verify(
                signed, f"{head}.{body}".encode(), padding.PKCS1v15(), hashes.SHA256()
            )
        except InvalidSignature:
            raise TokenError("invalid_grant", "Invalid JWT Signature.") from None
        return claims

    def token(self, now: float | None = None) -> str:
        """A fresh access token: its end and a seal over it."""
        end = int((time.time() if now is None else now) + LIFETIME)
        text = f"{end}.{secrets.token_hex(8)}"
        return f"{_PREFIX}{text}.{self._sealed(text)}"

    def valid(self, token: str, now: float | None = None) -> bool:
        """Whether this is a token of ours that has not ended: one that was earned, or one that the key signed."""
        now = time.time() if now is None else now
        if not token.startswith(_PREFIX):
            return self._self_signed(token, now)
        text, _, seal = token.removeprefix(_PREFIX).rpartition(".")
        end = text.partition(".")[0]
        if not end.isascii() or not end.isdigit():
            return False
        return hmac.compare_digest(seal.encode(), self._sealed(text).encode()) and int(end) > now

    def _self_signed(self, token: str, now: float) -> bool:
        """A JWT that the service account signed itself, which Google takes without an exchange (AIP-4111). Google's
        own client libraries send these."""
        try:
            claims = self._claims(token)
        except TokenError:
            return False
        issued, expires = claims.get("iat"), claims.get("exp")
        return (
            claims.get("iss") == claims.get("sub") == self.email
            and (claims.get("aud") == _COMPUTE_AUDIENCE or bool(claims.get("scope")))
            and isinstance(issued, int | float)
            and isinstance(expires, int | float)
            and issued - SKEW <= now < expires <= issued + LIFETIME + SKEW
        )

    def _sealed(self, text: str) -> str:
        return hmac.new(self._seal, text.encode(), hashlib.sha256).hexdigest()


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
