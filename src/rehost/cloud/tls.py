"""One TLS context for all clients, made when the first https URL is met: loading certificates is slow."""

from __future__ import annotations

import ipaddress
import ssl
from functools import cache
from urllib.parse import urlsplit


@cache
def _shared() -> ssl.SSLContext:
    return ssl.create_default_context()


@cache
def _empty() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def context_for(url: str) -> ssl.SSLContext:
    """The context for a URL; for plain http one that knows no certificates: trusts nobody, costs nothing."""
    return _shared() if url.startswith("https:") else _empty()


def trust_env_for(url: str) -> bool:
    """Whether the proxy named in the environment is asked: not for this computer itself."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True
