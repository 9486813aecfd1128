"""Accounts: register, log in, stay logged in; one's own profile, and those of others."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, HTTPException, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from app.database import DuplicateError, Role, User
from app.errors import answers, unauthorized
from app.identity import CurrentUser, user_of
from app.services import FromApp, Services
from app.tokens import Tokens

router = APIRouter(tags=["accounts"], responses=answers(503))

_lower = AfterValidator(str.lower)
Handle = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{3,30}$"), _lower]
# Whether an address exists is only known when mail arrives; this keeps out what is none.
Email = Annotated[str, Field(max_length=254, pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$"), _lower]
NewPassword = Annotated[SecretStr, Field(min_length=10, max_length=128)]
GivenPassword = Annotated[SecretStr, Field(max_length=128)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class Registration(_Strict):
    """A new account. Handles and email addresses are kept in lower case."""

    handle: Handle
    email: Email
    password: NewPassword
    name: str = Field("", max_length=100)


class Login(_Strict):
    """Handle and password."""

    handle: str = Field(max_length=30)
    password: GivenPassword


class Refresh(_Strict):
    """The refresh token of a login, or of the last refresh."""

    refresh_token: str = Field(max_length=2000)


class PasswordChange(_Strict):
    """The password as it is, and as it shall be."""

    current: GivenPassword
    new: NewPassword


class ProfileChange(_Strict):
    """What is left out stays."""

    name: str | None = Field(None, max_length=100)
    bio: str | None = Field(None, max_length=2000)


class Profile(BaseModel):
    """What everybody sees of a user."""

    handle: str
    name: str
    bio: str
    role: Role
    created_at: datetime


class Account(Profile):
    """What a user sees of itself."""

    id: str
    email: str


@router.post("/auth/register", status_code=201, responses=answers(400, 409, 413))
async def register(new: Registration, services: FromApp) -> Account:
    """Make an account. Everybody begins as a user; `python -m app.admin` makes admins."""
    hashed = await services.passwords.hash(new.password.get_secret_value())
    try:
        user = await services.database.users.add(
            handle=new.handle, email=new.email, name=new.name, password_hash=hashed
        )
    except DuplicateError as error:
        raise HTTPException(409, f"There is a user with this {error.field} already.") from None
    await services.database.stats.add("users", 1)
    return _account(user)


@router.post("/auth/login", responses=answers(400, 401, 413, 429))
async def login(given: Login, services: FromApp, request: Request) -> Tokens:
    """Get tokens for a handle and a password."""
    handle = given.handle.lower()
    user = await services.database.users.by_handle(handle)
    known = user if user and not user.deleted else None
    if not await _guess(services, request, handle, given.password, known) or known is None:
        raise unauthorized("The handle or the password is wrong.")
    return services.tokens.make(known.id, known.session)


@router.post("/auth/refresh", responses=answers(400, 401, 413))
async def refresh(given: Refresh, services: FromApp) -> Tokens:
    """Get new tokens for a refresh token."""
    user = await user_of(services, given.refresh_token, "refresh")
    if user is None:
        raise unauthorized("The refresh token is not valid, or not any more.")
    return services.tokens.make(user.id, user.session)


@router.get("/users/me", responses=answers(401))
async def me(user: CurrentUser) -> Account:
    """Show the own account."""
    return _account(user)


@router.patch("/users/me", responses=answers(400, 401, 413))
async def change_profile(change: ProfileChange, user: CurrentUser, services: FromApp) -> Account:
    """Change the own profile."""
    changed = await services.database.users.describe(user.id, name=change.name, bio=change.bio)
    if changed is None:
        raise unauthorized("This account was deleted.")
    return _account(changed)


@router.put("/users/me/password", responses=answers(400, 401, 403, 413, 429))
async def change_password(
    change: PasswordChange, user: CurrentUser, services: FromApp, request: Request
) -> Tokens:
    """Change the own password. All tokens given out before stop working; the answer has new ones."""
    if not await _guess(services, request, user.handle, change.current, user):
        raise HTTPException(403, "The current password is wrong.")
    hashed = await services.passwords.hash(change.new.get_secret_value())
    changed = await services.database.users.set_password(user.id, hashed)
    if changed is None:
        raise unauthorized("This account was deleted.")
    return services.tokens.make(changed.id, changed.session)


@router.delete("/users/me", status_code=204, responses=answers(401))
async def delete_me(user: CurrentUser, services: FromApp) -> None:
    """Delete the own account. What it wrote stays; the handle is not given out again."""
    await _delete(user, services)


@router.get("/users/{handle}", responses=answers(404))
async def profile(handle: str, services: FromApp) -> Profile:
    """Show somebody's profile."""
    return _profile(await _somebody(handle, services))


@router.delete("/users/{handle}", status_code=204, responses=answers(401, 403, 404))
async def delete_somebody(handle: str, user: CurrentUser, services: FromApp) -> None:
    """Delete somebody's account, as an admin."""
    if user.role != "admin":
        raise HTTPException(403, "Only an admin may do that.")
    await _delete(await _somebody(handle, services), services)


async def _guess(
    services: Services, request: Request, handle: str, password: SecretStr, user: User | None
) -> bool:
    """Whether the password fits, within the limit of attempts. Raises 429 beyond it."""
    address = request.client.host if request.client else ""
    wait = services.login_limit.begin(address, handle)
    if wait:
        services.metrics.logins.labels("limited").inc()
        raise HTTPException(429, "Too many attempts. Try again later.", headers={"Retry-After": str(wait)})
    stored = user.password_hash if user else None
    fits = await services.passwords.fits(password.get_secret_value(), stored)
    services.metrics.logins.labels("ok" if fits else "wrong").inc()
    if fits:
        services.login_limit.succeeded(address, handle)
    return fits


async def _somebody(handle: str, services: Services) -> User:
    user = await services.database.users.by_handle(handle.lower())
    if user is None or user.deleted:
        raise HTTPException(404, "There is no user with this handle.")
    return user


async def _delete(user: User, services: Services) -> None:
    if await services.database.users.delete(user.id) is not None:
        await services.database.stats.add("users", -1)


def _profile(user: User) -> Profile:
    return Profile(
        handle=user.handle, name=user.name, bio=user.bio, role=user.role, created_at=user.created_at
    )


def _account(user: User) -> Account:
    return Account(**_profile(user).model_dump(), id=user.id, email=user.email)
