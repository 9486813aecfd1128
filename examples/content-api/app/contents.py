"""The contents of uploaded files, in the data directory.

A file is written beside its place and renamed into it when it is whole, so a crash leaves parts and no half files.
Two processes may share the directory (the old release and the new one during a switch): names are never reused.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from app.settings import ConfigurationError
from app.sniff import Sniffer

log = logging.getLogger(__name__)

LEFT_FREE_BYTES = 200 * 1024 * 1024  # a full disk stops more than the uploads
STALE_SECONDS = 3600.0  # a part that nobody has written to for so long belongs to a process that is gone


class TooLargeError(Exception):
    """More came than is taken."""


class UnknownTypeError(Exception):
    """The content is of no type that is taken."""


class NoSpaceError(Exception):
    """The disk is nearly full."""


@dataclass(frozen=True)
class Received:
    """A whole upload that waits to be kept. `size` in bytes, `sha256` in hexadecimal."""

    part: Path
    media_type: str
    size: int
    sha256: str


class Contents:
    """The data directory."""

    def __init__(self, directory: Path) -> None:
        self._files = directory / "files"
        self._parts = directory / "parts"

    def prepare(self) -> None:
        """Make the directories and drop old parts. Raises ConfigurationError."""
        try:
            self._files.mkdir(parents=True, exist_ok=True)
            self._parts.mkdir(exist_ok=True)
            writable = os.access(self._files, os.W_OK | os.X_OK) and os.access(self._parts, os.W_OK | os.X_OK)
            for part in self._parts.iterdir():
                if part.stat().st_mtime < time.time() - STALE_SECONDS:
                    part.unlink(missing_ok=True)
                    log.warning("dropped an upload that was never finished: %s", part.name)
        except OSError as error:
            raise ConfigurationError([f"DATA_DIRECTORY cannot be used: {error.strerror}"]) from None
        if not writable:
            raise ConfigurationError(["DATA_DIRECTORY cannot be written by this user"])

    def free_bytes(self) -> int:
        """What this user may still write. Raises OSError."""
        return shutil.disk_usage(self._files).free

    def path(self, file_id: str) -> Path:
        """Where the content of a file lies. The id must be one of the database's."""
        # The last characters count up, so the files spread evenly.
        return self._files / file_id[-2:] / file_id

    async def receive(self, file_id: str, chunks: AsyncIterator[bytes], most: int) -> Received:
        """Write an upload of at most so many bytes. Nothing stays of one that fails.

        Raises TooLargeError, UnknownTypeError (as soon as the content shows it), NoSpaceError.
        """
        part = self._parts / file_id
        if await asyncio.to_thread(self.free_bytes) < LEFT_FREE_BYTES + most:
            raise NoSpaceError
        size, digest, sniffer = 0, hashlib.sha256(), Sniffer()
        try:
            output = await asyncio.to_thread(part.open, "xb")
            try:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > most:
                        raise TooLargeError
                    digest.update(chunk)
                    sniffer.feed(chunk)
                    if sniffer.hopeless:
                        raise UnknownTypeError
                    await asyncio.to_thread(output.write, chunk)
                media_type = sniffer.media_type()
                if media_type is None:
                    raise UnknownTypeError
                await asyncio.to_thread(_flush, output)
            finally:
                await asyncio.to_thread(output.close)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return Received(part, media_type, size, digest.hexdigest())

    async def keep(self, file_id: str, received: Received) -> None:
        """Put an upload in its place."""
        await asyncio.to_thread(self._keep, file_id, received.part)

    async def drop(self, file_id: str) -> None:
        """Remove a content, whether it is there or not."""
        await asyncio.to_thread(self.path(file_id).unlink, missing_ok=True)

    def _keep(self, file_id: str, part: Path) -> None:
        place = self.path(file_id)
        place.parent.mkdir(exist_ok=True)
        part.replace(place)
        # The name itself is on the disk only when its directory is.
        directory = os.open(place.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _flush(output: BinaryIO) -> None:
    output.flush()
    os.fsync(output.fileno())
