"""asyncssh without its search for liboqs, which starts ldconfig and a compiler at every import (about 50 ms).

It takes ML-KEM, which OpenSSH prefers, from `cryptography`, and liboqs only for sntrup761.
"""

from __future__ import annotations

import ctypes.util

_find = ctypes.util.find_library


def _without_oqs(name: str) -> str | None:
    return None if name in ("oqs", "liboqs") else _find(name)


ctypes.util.find_library = _without_oqs
try:
    import asyncssh
finally:
    ctypes.util.find_library = _find

__all__ = ["asyncssh"]
