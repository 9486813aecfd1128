"""Files: upload, show, download (whole or in part), delete."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel

from app.contents import NoSpaceError, Received, TooLargeError, UnknownTypeError
from app.database import StoredFile, User
from app.database.driver import new_id
from app.errors import answers, invalid
from app.identity import CurrentUser, require_owner
from app.pages import WantedPage
from app.services import FromApp, Services
from app.settings import MOST_UPLOAD_MB
from app.sniff import TEXT_TYPES, TYPES

log = logging.getLogger(__name__)

router = APIRouter(prefix="/files", tags=["files"], responses=answers(503))

MB = 1024 * 1024
_SAYS_NOTHING = ("", "application/octet-stream", "application/x-www-form-urlencoded")
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": dict.fromkeys(("application/octet-stream", *TYPES), _BINARY),
    }
}


class FileOut(BaseModel):
    """A file: `media_type` is what its content was found to be, `size` in bytes, `sha256` in hexadecimal."""

    id: str
    name: str
    media_type: str
    size: int
    sha256: str
    owner: str
    created_at: datetime


class FilePage(BaseModel):
    """One page of the own files, the newest first."""

    items: list[FileOut]
    page: int
    size: int
    total: int


@router.post(
    "",
    status_code=201,
    responses=answers(400, 401, 413, 415, 507),
    openapi_extra=_UPLOAD,
    max_body_size=MOST_UPLOAD_MB * MB,
)
async def upload(
    request: Request,
    user: CurrentUser,
    services: FromApp,
    response: Response,
    name: Annotated[str, Query(min_length=1, max_length=200, description="as the user knows it")],
) -> FileOut:
    """Store the body of the request as a file: an image (PNG, JPEG, GIF, WebP), a PDF or a text.

    The type is found from the content; a Content-Type that says otherwise is refused.
    """
    if not name.isprintable() or not name.strip(" ."):
        raise invalid("name", "A name has printable characters only.", "query")
    file_id = new_id()
    received = await _receive(file_id, request, services)
    try:
        _compare_type(request.headers.get("content-type", ""), received.media_type)
        await services.contents.keep(file_id, received)
        try:
            stored = await _remember(file_id, name, received, user, services)
        except BaseException:
            await services.contents.drop(file_id)
            raise
    finally:
        received.part.unlink(missing_ok=True)
    await services.database.stats.add("files", 1)
    response.headers["Location"] = f"/files/{file_id}"
    return _shown(stored)


@router.get("", responses=answers(401))
async def mine(user: CurrentUser, page: WantedPage, services: FromApp) -> FilePage:
    """List the own files."""
    found, total = await services.database.files.page(user.id, page.skip, page.size)
    return FilePage(items=[_shown(file) for file in found], page=page.page, size=page.size, total=total)


@router.get("/{file_id}/about", responses=answers(404))
async def about(file_id: str, services: FromApp) -> FileOut:
    """Show what is known of a file."""
    return _shown(await _wanted(file_id, services))


@router.get(
    "/{file_id}",
    response_class=FileResponse,
    responses={
        **answers(400, 404, 416),
        200: {"content": dict.fromkeys(TYPES, _BINARY), "description": "The whole file."},
        206: {
            "content": dict.fromkeys((*TYPES, "multipart/byteranges"), _BINARY),
            "description": "The parts that the Range header asks for.",
        },
    },
)
async def download(file_id: str, services: FromApp) -> FileResponse:
    """Download a file, or parts of it."""
    file = await _wanted(file_id, services)
    path = services.contents.path(file.id)
    if not path.is_file():
        log.error("the content of the file %s is not in the data directory", file.id)
        raise HTTPException(404, "The content of this file is lost.")
    return FileResponse(
        path,
        media_type=file.media_type,
        filename=file.name,
        content_disposition_type="inline" if file.media_type.startswith("image/") else "attachment",
        # An id never gets another content.
        headers={"Cache-Control": "public, max-age=86400, immutable"},
    )


@router.delete("/{file_id}", status_code=204, responses=answers(401, 403, 404))
async def delete(file_id: str, user: CurrentUser, services: FromApp) -> None:
    """Delete a file, as its owner or an admin."""
    file = await _wanted(file_id, services)
    require_owner(user, file.owner_id)
    if await services.database.files.delete(file.id):
        await services.contents.drop(file.id)
        await services.database.stats.add("files", -1)


async def _receive(file_id: str, request: Request, services: Services) -> Received:
    most = services.settings.max_upload_mb * MB
    try:
        return await services.contents.receive(file_id, request.stream(), most)
    except TooLargeError:
        raise HTTPException(413, f"A file may have {services.settings.max_upload_mb} MB.") from None
    except UnknownTypeError:
        raise HTTPException(
            415, f"The content is none of the types that are taken: {', '.join(TYPES)}."
        ) from None
    except NoSpaceError:
        raise HTTPException(507, "There is not enough space left for uploads.") from None


def _compare_type(header: str, found: str) -> None:
    """Raises 415 when the client says another type than the content has."""
    said = header.partition(";")[0].strip().lower()
    is_text = said in TEXT_TYPES and found == "text/plain"
    if said not in (*_SAYS_NOTHING, found) and not is_text:
        raise HTTPException(415, f"The content is {found}, and the Content-Type says otherwise.")


async def _remember(
    file_id: str, name: str, received: Received, user: User, services: Services
) -> StoredFile:
    return await services.database.files.add(
        file_id=file_id,
        name=name,
        media_type=received.media_type,
        size=received.size,
        sha256=received.sha256,
        owner=user.handle,
        owner_id=user.id,
    )


async def _wanted(file_id: str, services: Services) -> StoredFile:
    file = await services.database.files.by_id(file_id)
    if file is None:
        raise HTTPException(404, "There is no such file.")
    return file


def _shown(file: StoredFile) -> FileOut:
    return FileOut(
        id=file.id,
        name=file.name,
        media_type=file.media_type,
        size=file.size,
        sha256=file.sha256,
        owner=file.owner,
        created_at=file.created_at,
    )
