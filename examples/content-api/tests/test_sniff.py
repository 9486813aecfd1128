"""What a content is, from its bytes."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.sniff import HEAD_BYTES, TYPES, Sniffer

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00"
WEBP = b"RIFF\x24\x00\x00\x00WEBPVP8 "
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"

KNOWN = [
    (PNG, "image/png"),
    (JPEG, "image/jpeg"),
    (b"GIF89a....", "image/gif"),
    (b"GIF87a....", "image/gif"),
    (WEBP, "image/webp"),
    (b"RIFF\x24\x00\x00\x00WAVEfmt ", None),
    (PDF, "application/pdf"),
    (b"Some text.\r\n\tMore of it.", "text/plain"),
    ("\ufeffText with a mark".encode(), "text/plain"),
    ("漢字 🙂".encode(), "text/plain"),
    (b"a < b, and no markup", "text/plain"),
    (b"  \n<!DOCTYPE html>", None),
    (b"\xef\xbb\xbf<html>", None),
    (b"<?xml version='1.0'?><svg/>", None),
    (b"<SCRIPT>", None),
    (b"\xff\xfea\x00", None),
    (b"text with \x00 in it", None),
    (b"text with \x1b[31m in it", None),
    ("cut off in a character é".encode()[:-1], None),
    (b"x" * 5000 + b"\xff", None),
    (b"", None),
    (b"\x7fELF" + b"\x00" * 5000, None),
]


def sniffed(*chunks: bytes) -> Sniffer:
    sniffer = Sniffer()
    for chunk in chunks:
        sniffer.feed(chunk)
    return sniffer


@pytest.mark.parametrize(("content", "kind"), KNOWN)
def test_known_contents(content: bytes, kind: str | None) -> None:
    assert sniffed(content).media_type() == kind
    assert sniffed(*(bytes([byte]) for byte in content)).media_type() == kind, "byte by byte"


@given(st.lists(st.binary(max_size=40), max_size=6))
@example([b"RI", b"FF....WEBPVP8"])
def test_the_pieces_do_not_matter(chunks: list[bytes]) -> None:
    whole = sniffed(b"".join(chunks)).media_type()
    assert sniffed(*chunks).media_type() == whole
    assert whole is None or whole in TYPES


@given(st.binary(max_size=30), st.binary(max_size=30))
def test_what_is_hopeless_stays_so(head: bytes, tail: bytes) -> None:
    sniffer = sniffed(head + b"\x00" * HEAD_BYTES)
    if sniffer.hopeless:
        sniffer.feed(tail)
        assert sniffer.media_type() is None
