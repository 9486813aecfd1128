"""What is known of the uploaded files. Their contents lie in the data directory."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pymongo import ASCENDING, DESCENDING, IndexModel

from app.database.driver import Document, Store, now, reaching


@dataclass(frozen=True)
class StoredFile:
    """A file. `media_type` is what its content was found to be; `size` is in bytes; `sha256` in hexadecimal."""

    id: str
    name: str
    media_type: str
    size: int
    sha256: str
    owner: str
    owner_id: str
    created_at: datetime


class FileStore(Store):
    """Files by id, and those of an owner."""

    indexes = (IndexModel([("owner_id", ASCENDING)], name="owner"),)

    async def add(
        self, *, file_id: str, name: str, media_type: str, size: int, sha256: str, owner: str, owner_id: str
    ) -> StoredFile:
        """Raises UnavailableError."""
        document: Document = {
            "_id": file_id,
            "name": name,
            "media_type": media_type,
            "size": size,
            "sha256": sha256,
            "owner": owner,
            "owner_id": owner_id,
            "created_at": now(),
        }
        async with reaching():
            await self._collection.insert_one(document)
        return _file(document)

    async def by_id(self, file_id: str) -> StoredFile | None:
        """Raises UnavailableError."""
        async with reaching():
            document = await self._collection.find_one({"_id": file_id})
        return _file(document) if document else None

    async def page(self, owner_id: str, skip: int, limit: int) -> tuple[list[StoredFile], int]:
        """An owner's files, the newest first, and how many there are. Raises UnavailableError."""
        wanted = {"owner_id": owner_id}
        async with reaching():
            found = self._collection.find(wanted).sort("_id", DESCENDING).skip(skip).limit(limit)
            files = [_file(document) for document in await found.to_list()]
            return files, await self._collection.count_documents(wanted)

    async def delete(self, file_id: str) -> bool:
        """Whether it was there. Raises UnavailableError."""
        async with reaching():
            return (await self._collection.delete_one({"_id": file_id})).deleted_count == 1


def _file(document: Document) -> StoredFile:
    names = ("name", "media_type", "size", "sha256", "owner", "owner_id", "created_at")
    return StoredFile(id=document["_id"], **{name: document[name] for name in names})
