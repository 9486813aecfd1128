"""Who asks: the user that an access token names."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.database import User
from app.errors import unauthorized
from app.services import FromApp, Services
from app.tokens import TokenKind

_BEARER = HTTPBearer(auto_error=False, description="The access token that /auth/login gives.")


async def user_of(services: Services, token: str, kind: TokenKind) -> User | None:
    """The user of a token; None when it is not valid, or no longer. Raises UnavailableError."""
    claim = services.tokens.read(token, kind)
    user = await services.database.users.by_id(claim.user_id) if claim else None
    if claim is None or user is None or user.deleted or user.session != claim.session:
        return None
    return user


async def _current(
    services: FromApp, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]
) -> User:
    if credentials is None:
        raise unauthorized("An access token is needed.")
    user = await user_of(services, credentials.credentials, "access")
    if user is None:
        raise unauthorized("The access token is not valid, or not any more.")
    return user


CurrentUser = Annotated[User, Depends(_current)]


def require_owner(user: User, owner_id: str) -> None:
    """Raises 403 unless the user is the owner or an admin."""
    if user.id != owner_id and user.role != "admin":
        raise HTTPException(403, "Only its author or an admin may do that.")
