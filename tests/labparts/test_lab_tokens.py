"""Tokens that a service account signs itself (AIP-4111), as Google's own client libraries send them."""

from __future__ import annotations

import time
from typing import Any

import google.auth.jwt
import pytest
from google.oauth2 import service_account

from lab_fake import ISSUER
from rehost.lab.tokens import Issuer

COMPUTE = "https://compute.googleapis.com/"


def signed(issuer: Issuer, **claims: object) -> str:
    now = int(time.time())
    whole = {
        "iss": issuer.email,
        "sub": issuer.email,
        "aud": COMPUTE,
        "iat": now,
        "exp": now + 3600,
        **claims,
    }
    info = issuer.service_account("http://127.0.0.1/token")
    signer = service_account.Credentials.from_service_account_info(info).signer  # type: ignore[no-untyped-call]
    made: bytes = google.auth.jwt.encode(signer, whole)  # type: ignore[no-untyped-call]
    return made.decode()


def test_the_library_s_own_token_is_taken() -> None:
    info = ISSUER.service_account("http://127.0.0.1/token")
    credentials: Any = service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
        info, always_use_jwt_access=True
    )
    credentials._create_self_signed_jwt(COMPUTE)
    credentials._jwt_credentials.refresh(None)
    assert ISSUER.valid(credentials._jwt_credentials.token.decode())
    assert ISSUER.valid(signed(ISSUER))
    assert ISSUER.valid(signed(ISSUER, aud=None, scope="https://www.googleapis.com/auth/compute"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"iss": "someone@else"},
        {"sub": "someone@else"},
        {"aud": "https://storage.googleapis.com/"},
        {"exp": int(time.time()) - 1},
        {"exp": int(time.time()) + 86400},
        {"iat": int(time.time()) + 3600, "exp": int(time.time()) + 7200},
        {"exp": None},
        {"exp": "soon"},
    ],
)
def test_other_claims_are_not(wrong: dict[str, object]) -> None:
    assert not ISSUER.valid(signed(ISSUER, **wrong))


def test_another_lab_s_key_is_not() -> None:
    other = Issuer(ISSUER.project)
    assert other.email != ISSUER.email  # gcloud keeps tokens by account
    assert not ISSUER.valid(signed(other, iss=ISSUER.email, sub=ISSUER.email))
    assert not ISSUER.valid(other.token())
    for text in ("", "a.b.c", "ya29.lab.", "ya29.lab.9999999999.x.y", signed(ISSUER)[:-4] + "AAAA"):
        assert not ISSUER.valid(text)
