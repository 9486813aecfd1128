"""asyncssh without three parts that it can do without and that take a third of its import.

- liboqs and nettle: looking for them starts ldconfig, and a compiler where they are absent. ML-KEM, which OpenSSH
  prefers, comes from `cryptography`; liboqs would add sntrup761, nettle the MACs called UMAC.
- X.509 certificates as keys (RFC 6187), which OpenSSH does not have.

With AES-GCM ahead of ChaCha20 where the ssh configuration names no ciphers: for each packet, the second is three
ciphers made in Python, and 200 MB take 3.5 s of processor instead of 2.2.

And with a way to log in that spares two round trips (`AtOnce`).
"""

from __future__ import annotations

import contextlib
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

_AT_ONCE = "rehost_at_once"


class AtOnce(asyncssh.SSHClient):
    """Logs in by signing with its key straight away (RFC 4252, section 7), for a machine that surely takes it.

    Otherwise asyncssh asks which methods there are (section 5.2), and then whether the key would do: each a round trip.
    Not for keys of an agent, which may ask a person about every signature. This goes by asyncssh's insides, which no
    option reaches; where they are others, both questions are asked as ever.
    """

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        conn.set_extra_info(**{_AT_ONCE: True})
        conn._auth_methods = [b"publickey"]


def _provide_at_once() -> None:
    """Raises AttributeError for an asyncssh that is built otherwise."""
    handlers = asyncssh.auth._client_auth_handlers

    class Signed(asyncssh.auth._ClientPublicKeyAuth):
        async def _start(self) -> None:
            if not self._conn.get_extra_info(_AT_ONCE):
                await super()._start()
                return
            self._keypair = await self._conn.public_key_auth_requested()
            if self._keypair is None:
                self._conn.try_next_auth(next_method=True)
            else:
                await self._send_signed_request()

    handlers[b"publickey"] = Signed


with contextlib.suppress(AttributeError):
    _provide_at_once()

__all__ = ["AtOnce", "asyncssh"]
