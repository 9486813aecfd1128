"""Redis's login, and that of Valkey and Key Value stores: answers of one line."""

from __future__ import annotations

from rehost.source.reach_pipe import Fault, Pipe, context
from rehost.source.reach_url import Database
from rehost.source.resp import encode


async def login(pipe: Pipe, database: Database, host: str, authority: str) -> None:
    """Logs in, chooses the database, and asks for a PONG. Raises Fault."""
    if database.tls:
        verified = database.options.get("ssl_cert_reqs", "required").lower() not in ("none", "cert_none")
        await pipe.secure(context(verified=verified, authority=authority), host)
    password = database.password.reveal()
    if password:
        await _ask(pipe, "AUTH", *([database.user] if database.user else []), password)
    number = database.path or database.options.get("db", "")
    if number.isdecimal() and int(number):
        await _ask(pipe, "SELECT", number)
    await _ask(pipe, "PING")


async def _ask(pipe: Pipe, *words: str) -> None:
    await pipe.send(encode(words))
    answer = await pipe.exactly(1)
    if answer == b"\x15":  # a TLS alert (RFC 8446, section 6)
        raise Fault(
            "tls", "it speaks TLS on this port, and the address begins with redis:// instead of rediss://"
        )
    if answer not in b"+-":
        raise Fault("protocol", "it is no Redis")
    said = (await pipe.line()).decode(errors="replace")
    if answer == b"+":
        return
    code = said.partition(" ")[0]
    if code == "NOPERM":  # the login is good; what it may do is the app's business
        return
    if code == "NOAUTH":
        raise Fault("login", "it demands a password, and the address has none")
    if code == "WRONGPASS" or words[0] == "AUTH":
        raise Fault("login", said)
    if code == "DENIED":
        raise Fault("login", "it is in protected mode, and lets in nobody from outside")
    raise Fault("database" if words[0] == "SELECT" else "protocol", f"it answers: {said}")
