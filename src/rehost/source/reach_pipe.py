"""A connection to a database that the machine opened: bytes both ways, in TLS when the protocol has come so far.

The connection is a channel in the ssh connection and no socket, so TLS is done in memory.
"""

from __future__ import annotations

import ssl
from typing import Final, Literal, Protocol, TypeAlias

Kind: TypeAlias = Literal[
    "host",
    "refused",
    "silent",
    "closed",
    "tls",
    "address",
    "login",
    "database",
    "protocol",
    "forbidden",
    "unprovable",
]
_CHUNK: Final = 1 << 16
_LONGEST: Final = 1 << 20  # bytes of one answer: more than any handshake needs


class Fault(Exception):
    """Why a database was not reached. words: of the server or the machine, without any secret."""

    def __init__(self, kind: Kind, words: str) -> None:
        super().__init__(words)
        self.kind: Kind = kind
        self.words = words.strip().removesuffix(".")


class Connection(Protocol):
    """What the machine opened; its methods raise ConnectionError (machine/ssh.py, Tcp)."""

    async def read(self, most: int) -> bytes: ...
    async def write(self, data: bytes) -> None: ...
    def close(self) -> None: ...


class Pipe:
    """Reads whole pieces. Raises Fault "closed" when the other side hangs up."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._kept = b""
        self._tls: ssl.SSLObject | None = None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.shaking = False  # in the middle of a TLS handshake

    @property
    def secured(self) -> bool:
        return self._tls is not None

    async def exactly(self, count: int) -> bytes:
        if count > _LONGEST:
            raise Fault("protocol", "its answer is not one of this kind of database")
        while len(self._kept) < count:
            self._kept += await self._some()
        found, self._kept = self._kept[:count], self._kept[count:]
        return found

    async def line(self) -> bytes:
        """Up to CR LF, which is left out."""
        while b"\r\n" not in self._kept:
            if len(self._kept) > _LONGEST:
                raise Fault("protocol", "its answer is not one of this kind of database")
            self._kept += await self._some()
        found, _, self._kept = self._kept.partition(b"\r\n")
        return found

    async def some(self) -> bytes:
        """What has come, at least one byte."""
        if not self._kept:
            return await self._some()
        found, self._kept = self._kept, b""
        return found

    async def send(self, data: bytes) -> None:
        if self._tls is None:
            await self._put(data)
            return
        self._tls.write(data)
        await self._put(self._outgoing.read())

    async def secure(self, context: ssl.SSLContext, name: str) -> None:
        """From here on in TLS. name: of the server, for its certificate and for SNI. Raises Fault "tls"."""
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self.shaking = True
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._put(self._outgoing.read())
                try:
                    self._incoming.write(await self._arrived())
                except Fault as gone:
                    raise Fault("tls", "it hung up in the middle of the TLS handshake") from gone
            except ssl.SSLError as wrong:
                raise Fault("tls", _reason(wrong)) from wrong
            else:
                await self._put(self._outgoing.read())
                self.shaking = False
                return

    async def _some(self) -> bytes:
        if self._tls is None:
            return await self._arrived()
        while True:
            try:
                found = self._tls.read(_CHUNK)
            except ssl.SSLWantReadError:
                self._incoming.write(await self._arrived())
                continue
            except ssl.SSLError as wrong:  # TLS 1.3 tells of a refused handshake only now
                raise Fault("tls", _reason(wrong)) from wrong
            if not found:
                raise Fault("closed", "it hung up")
            return found

    async def _arrived(self) -> bytes:
        try:
            found = await self._connection.read(_CHUNK)
        except ConnectionError as broken:
            raise Fault("closed", "it hung up") from broken
        if not found:
            raise Fault("closed", "it hung up")
        return found

    async def _put(self, data: bytes) -> None:
        try:
            await self._connection.write(data)
        except ConnectionError as broken:
            raise Fault("closed", "it hung up") from broken

    def close(self) -> None:
        self._connection.close()


def _reason(wrong: ssl.SSLError) -> str:
    if isinstance(wrong, ssl.SSLCertVerificationError):
        return f"its certificate is not to be trusted: {wrong.verify_message}"
    return {
        "WRONG_VERSION_NUMBER": "it does not speak TLS on this port",
        "RECORD_LAYER_FAILURE": "it does not speak TLS on this port",
        "UNEXPECTED_EOF_WHILE_READING": "it hung up in the middle of the TLS handshake",
    }.get(wrong.reason or "", f"TLS failed: {(wrong.reason or 'no reason given').lower().replace('_', ' ')}")


def context(*, verified: bool, authority: str = "") -> ssl.SSLContext:
    """How TLS is spoken. authority: certificates (PEM) to trust instead of the public ones. Raises Fault."""
    try:
        made = ssl.create_default_context(cadata=authority or None)
    except ssl.SSLError as wrong:
        raise Fault("tls", "the file with its authority's certificate holds none") from wrong
    if not verified:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made
