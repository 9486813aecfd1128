"""asyncssh without three parts that it can do without and that take a third of its import.

- liboqs and nettle: looking for them starts ldconfig, and a compiler where they are absent. ML-KEM, which OpenSSH
  prefers, comes from `cryptography`; liboqs would add sntrup761, nettle the MACs called UMAC.
- X.509 certificates as keys (RFC 6187), which OpenSSH does not have.

And with AES-GCM ahead of ChaCha20 where the ssh configuration names no ciphers: for each packet, the second is three
ciphers made in Python, and 200 MB take 3.5 s of processor instead of 2.2.
"""

from __future__ import annotations

import ctypes.util
import sys

_find = ctypes.util.find_library
_LEFT_OUT = ("asyncssh.crypto.umac", "asyncssh.crypto.x509")


def _without_oqs(name: str) -> str | None:
    return None if name in ("oqs", "liboqs") else _find(name)


ctypes.util.find_library = _without_oqs
# What stands as None there cannot be imported; asyncssh takes that for "not available".
sys.modules |= dict.fromkeys(_LEFT_OUT)  # type: ignore[arg-type]
try:
    import asyncssh
finally:
    ctypes.util.find_library = _find
    for _name in _LEFT_OUT:
        sys.modules.pop(_name, None)

asyncssh.encryption.get_default_encryption_algs().sort(key=lambda name: b"gcm" not in name)

__all__ = ["asyncssh"]
