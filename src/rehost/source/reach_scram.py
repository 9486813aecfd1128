"""SCRAM, the login of PostgreSQL and MongoDB: the password never travels (RFC 5802, RFC 7677)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import stringprep
import unicodedata
from typing import Literal

from rehost.source.reach_pipe import Fault

# More rounds would be a server that wants to keep us busy.
_MOST_ROUNDS = 10_000_000


class Scram:
    """One login. nonce: the client's, random unless a test gives it."""

    def __init__(self, digest: Literal["sha1", "sha256"], user: str, password: str, nonce: str = "") -> None:
        self._digest = digest
        self._password = password
        self._nonce = nonce or base64.b64encode(secrets.token_bytes(24)).decode()
        name = user.replace("=", "=3D").replace(",", "=2C")
        self._bare = f"n={name},r={self._nonce}"
        self._server_signature = b""

    def first(self) -> bytes:
        return f"n,,{self._bare}".encode()

    def final(self, server_first: bytes) -> bytes:
        """Raises Fault for a server that does not speak SCRAM."""
        try:
            parts = _parts(server_first)
            nonce, salt, rounds = parts["r"], base64.b64decode(parts["s"]), int(parts["i"])
        except (KeyError, ValueError) as wrong:
            raise Fault("protocol", "its answer to the login is not understood") from wrong
        if not nonce.startswith(self._nonce) or not 1 <= rounds <= _MOST_ROUNDS:
            raise Fault("protocol", "its answer to the login is not understood")
        salted = hashlib.pbkdf2_hmac(self._digest, self._password.encode(), salt, rounds)
        client_key = self._mac(salted, b"Client Key")
        without_proof = f"c=biws,r={nonce}"
        text = f"{self._bare},{server_first.decode()},{without_proof}".encode()
        signature = self._mac(hashlib.new(self._digest, client_key).digest(), text)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        self._server_signature = self._mac(self._mac(salted, b"Server Key"), text)
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()

    def confirm(self, server_final: bytes) -> None:
        """Raises Fault when the server does not know the password itself."""
        try:
            shown = base64.b64decode(_parts(server_final)["v"])
        except (KeyError, ValueError) as wrong:
            raise Fault("login", "it does not accept the login") from wrong
        if not hmac.compare_digest(shown, self._server_signature):
            raise Fault("login", "it does not know the password itself: this is not the database")

    def _mac(self, key: bytes, text: bytes) -> bytes:
        return hmac.new(key, text, self._digest).digest()


def _parts(message: bytes) -> dict[str, str]:
    pairs = (part.partition("=") for part in message.decode().split(","))
    return {name: value for name, _, value in pairs}


def prepared(password: str) -> str:
    """The password as both sides count it (SASLprep, RFC 4013); as it is where the rule does not take it."""
    if password.isascii():
        return password
    mapped = "".join(
        " " if stringprep.in_table_c12(each) else each
        for each in password
        if not stringprep.in_table_b1(each)
    )
    normal = unicodedata.normalize("NFKC", mapped)
    forbidden = (
        *(stringprep.in_table_a1, stringprep.in_table_c12, stringprep.in_table_c21_c22),
        *(stringprep.in_table_c3, stringprep.in_table_c4, stringprep.in_table_c5, stringprep.in_table_c6),
        *(stringprep.in_table_c7, stringprep.in_table_c8, stringprep.in_table_c9),
    )
    return password if any(rule(each) for each in normal for rule in forbidden) else normal
