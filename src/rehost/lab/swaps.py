"""Each machine's own view of its swap. The kernel has one list of swap for the whole computer, /proc/swaps, and
writes a path in it as its reader would: another machine's `/swap` looks like one's own.

A machine therefore sees a file in its place, rewritten whenever the list changes.
"""

from __future__ import annotations

import errno
import os
import select
import threading
from collections.abc import Callable
from pathlib import Path

LIST = Path("/proc/swaps")
HEADER = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority"
_PAGE = 4096


def view(table: str, own: Callable[[str], int | None]) -> tuple[str, int]:
    """A machine's list and the bytes of swap in it (pure). `own` gives the size of a file that is the machine's
    own swap, None for any other."""
    lines: dict[str, str] = {}
    total = 0
    for line in table.splitlines()[1:]:
        words = line.split()
        if len(words) < 5 or words[1] != "file":
            continue
        size = own(words[0])
        if size is None:
            continue
        # Of two machines' files of one name, the line with this one's size; the first page is the header's.
        exact = int(words[2]) == (size - _PAGE) // 1024
        if words[0] not in lines:
            total += size
        if words[0] not in lines or exact:
            lines[words[0]] = line
    return "\n".join([HEADER, *lines.values()]) + "\n", total


def in_use(root: Path, file: str) -> int | None:
    """The size of a file below that root when the kernel swaps to it, else None.

    The kernel refuses to write to such a file (ETXTBSY), even nothing at all.
    """
    try:
        handle = os.open(root / file.lstrip("/"), os.O_WRONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        os.pwrite(handle, b"", 0)
    except OSError as refused:
        return os.fstat(handle).st_size if refused.errno == errno.ETXTBSY else None
    finally:
        os.close(handle)
    return None


def show(file: Path, leader: int) -> int:
    """Rewrites the machine's view, in place: it is bound over /proc/swaps there. Returns its bytes of swap."""
    root = Path(f"/proc/{leader}/root")
    text, total = view(LIST.read_text(), lambda path: in_use(root, path))
    with file.open("r+") as handle:
        handle.write(text)
        handle.truncate()
    return total


class Watcher:
    """Calls `changed` from a thread of its own each time that the kernel's list changes, until closed."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._wake, self._waker = os.pipe()
        self._thread = threading.Thread(target=self._watch, name="swaps", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        with LIST.open("rb") as handle:
            poll = select.poll()
            poll.register(handle, select.POLLPRI)
            poll.register(self._wake, select.POLLIN)
            while True:
                ready = {descriptor for descriptor, _ in poll.poll()}
                if self._wake in ready:
                    return
                self._changed()

    def close(self) -> None:
        os.write(self._waker, b".")
        self._thread.join()
        os.close(self._wake)
        os.close(self._waker)
