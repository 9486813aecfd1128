"""Users. A deleted one stays, so that its handle is never given to somebody else."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pymongo import ASCENDING, IndexModel, ReturnDocument
from pymongo.errors import DuplicateKeyError

from app.database.driver import Document, DuplicateError, Store, new_id, now, reaching

Role = Literal["user", "admin"]


@dataclass(frozen=True)
class User:
    """A user as stored. `session` goes up when all tokens given out so far must stop working."""

    id: str
    handle: str
    email: str
    name: str
    bio: str
    role: Role
    password_hash: str
    session: int
    created_at: datetime
    deleted: bool


class UserStore(Store):
    """Users by id and by handle. Handles and email addresses are lower case."""

    indexes = (
        IndexModel([("handle", ASCENDING)], name="handle", unique=True),
        IndexModel([("email", ASCENDING)], name="email", unique=True),
    )

    async def add(self, *, handle: str, email: str, name: str, password_hash: str) -> User:
        """Store a new user. Raises DuplicateError for "handle" or "email", UnavailableError."""
        self.require_indexes()
        time = now()
        document: Document = {
            "_id": new_id(),
            "handle": handle,
            "email": email,
            "name": name,
            "bio": "",
            "role": "user",
            "password_hash": password_hash,
            "session": 0,
            "created_at": time,
            "updated_at": time,
            "deleted_at": None,
        }
        async with reaching():
            try:
                await self._collection.insert_one(document)
            except DuplicateKeyError:
                # Servers name the index in different ways; asking is the same everywhere.
                taken = await self._collection.find_one({"handle": handle})
                raise DuplicateError("handle" if taken else "email") from None
        return _user(document)

    async def by_id(self, user_id: str) -> User | None:
        """That user, deleted or not. Raises UnavailableError."""
        return await self._one({"_id": user_id})

    async def by_handle(self, handle: str) -> User | None:
        """That user, deleted or not. Raises UnavailableError."""
        return await self._one({"handle": handle})

    async def describe(self, user_id: str, *, name: str | None, bio: str | None) -> User | None:
        """Change what others see; None leaves a field as it is. Raises UnavailableError."""
        changes = {key: value for key, value in (("name", name), ("bio", bio)) if value is not None}
        return await self._change(user_id, {"$set": changes} if changes else {})

    async def set_password(self, user_id: str, password_hash: str) -> User | None:
        """Change the password and end all sessions. Raises UnavailableError."""
        return await self._change(user_id, {"$set": {"password_hash": password_hash}, "$inc": {"session": 1}})

    async def set_role(self, user_id: str, role: Role) -> User | None:
        """Raises UnavailableError."""
        return await self._change(user_id, {"$set": {"role": role}})

    async def delete(self, user_id: str) -> User | None:
        """Mark as deleted and end all sessions; None when that was done before. Raises UnavailableError."""
        return await self._change(user_id, {"$currentDate": {"deleted_at": True}, "$inc": {"session": 1}})

    async def _one(self, query: Document) -> User | None:
        async with reaching():
            document = await self._collection.find_one(query)
        return _user(document) if document else None

    async def _change(self, user_id: str, update: dict[str, Any]) -> User | None:
        update = {**update, "$currentDate": {"updated_at": True, **update.get("$currentDate", {})}}
        async with reaching():
            document = await self._collection.find_one_and_update(
                {"_id": user_id, "deleted_at": None}, update, return_document=ReturnDocument.AFTER
            )
        return _user(document) if document else None


def _user(document: Document) -> User:
    return User(
        id=document["_id"],
        handle=document["handle"],
        email=document["email"],
        name=document["name"],
        bio=document["bio"],
        role=document["role"],
        password_hash=document["password_hash"],
        session=document["session"],
        created_at=document["created_at"],
        deleted=document["deleted_at"] is not None,
    )
