"""What a content is, from its bytes. What the client says about it counts for nothing.

The signatures are those of the WHATWG's MIME Sniffing Standard. Formats that can carry scripts (HTML, SVG) are
not among them, and no text that begins like one of them is taken for plain text.
"""

from __future__ import annotations

import codecs

HEAD_BYTES = 1024  # as much as the types below need, and PDF's header may come late
TEXT_TYPES = frozenset({"text/plain", "text/markdown", "text/csv"})
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
)
TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf", "text/plain")
_CONTROLS = bytes(set(range(0x20)) - {0x09, 0x0A, 0x0C, 0x0D})


class Sniffer:
    """Fed with a content piece by piece; text must be UTF-8 without control characters to its end."""

    def __init__(self) -> None:
        self._head = b""
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text = True

    def feed(self, chunk: bytes) -> None:
        """Take the next piece."""
        if len(self._head) < HEAD_BYTES:
            self._head += chunk[: HEAD_BYTES - len(self._head)]
        if self._text and self._signature() is None:
            self._text = self._is_text(chunk, final=False)

    @property
    def hopeless(self) -> bool:
        """Whether no further piece could make it a type that is taken."""
        return len(self._head) >= HEAD_BYTES and not self._text and self._signature() is None

    def media_type(self) -> str | None:
        """The type of the whole content; None when it is none of TYPES."""
        found = self._signature()
        if found is not None:
            return found
        text = self._head and self._text and self._is_text(b"", final=True) and not _is_markup(self._head)
        return "text/plain" if text else None

    def _signature(self) -> str | None:
        if self._head[:4] == b"RIFF" and self._head[8:14] == b"WEBPVP":
            return "image/webp"
        return next((kind for mark, kind in _SIGNATURES if self._head.startswith(mark)), None)

    def _is_text(self, chunk: bytes, *, final: bool) -> bool:
        try:
            self._decoder.decode(chunk, final)
        except UnicodeDecodeError:
            return False
        return len(chunk.translate(None, _CONTROLS)) == len(chunk)


def _is_markup(head: bytes) -> bool:
    start = head.removeprefix(codecs.BOM_UTF8).lstrip().lower()
    return start.startswith((b"<!", b"<?", b"<html", b"<svg", b"<script", b"<head", b"<body", b"<iframe"))
