"""Files read with an error that says what is wrong with them, and written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from rehost.run.errors import UsageError


def read(path: Path, shown: str, missing: str, cure: str) -> bytes:
    """The bytes of a file that a person names as `shown`.

    Raises UsageError. missing, cure: what it says of a file that is not there.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UsageError(missing, cure=cure, where=shown) from None
    except OSError as failed:
        raise UsageError(
            f"cannot be read: {failed.strerror}.", cure="Check its owner and mode.", where=shown
        ) from None


def replace(path: Path, data: bytes, mode: int) -> None:
    """Put `data` at `path` in one step; an owner that the file had stays. Raises OSError."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600 from its first byte
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            with contextlib.suppress(FileNotFoundError):
                owner = path.stat()
                if (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
