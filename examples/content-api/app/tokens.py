"""Access and refresh tokens: JSON Web Tokens (RFC 7519) signed with SECRET_KEY."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import jwt
from pydantic import BaseModel

ACCESS_SECONDS = 15 * 60
REFRESH_SECONDS = 14 * 24 * 3600
_ISSUER = "content-api"
_ALGORITHM = "HS256"

TokenKind = Literal["access", "refresh"]


class Tokens(BaseModel):
    """What a login gives. The access token goes into `Authorization: Bearer`, and ends after `expires_in` s."""

    access_token: str
    refresh_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - the word itself
    expires_in: int = ACCESS_SECONDS


@dataclass(frozen=True)
class Claim:
    """What a valid token says: a user, as of a session."""

    user_id: str
    session: int


class TokenMaker:
    """Makes and reads tokens with one key."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    def make(self, user_id: str, session: int) -> Tokens:
        """Both tokens."""
        return Tokens(
            access_token=self._one(user_id, session, "access", ACCESS_SECONDS),
            refresh_token=self._one(user_id, session, "refresh", REFRESH_SECONDS),
        )

    def read(self, token: str, kind: TokenKind) -> Claim | None:
        """What a token of that kind says; None when it is not ours, has ended, or is of the other kind."""
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=[_ALGORITHM],
                issuer=_ISSUER,
                options={"require": ["exp", "iss", "sub"]},
            )
        except jwt.InvalidTokenError:
            return None
        if claims.get("kind") != kind or not isinstance(claims.get("session"), int):
            return None
        return Claim(claims["sub"], claims["session"])

    def _one(self, user_id: str, session: int, kind: TokenKind, seconds: int) -> str:
        now = int(time.time())
        claims = {"iss": _ISSUER, "sub": user_id, "session": session, "kind": kind}
        return jwt.encode({**claims, "iat": now, "exp": now + seconds}, self._key, _ALGORITHM)
