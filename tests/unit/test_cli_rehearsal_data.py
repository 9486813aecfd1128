"""What a rehearsal says when the app refuses, or has lost something. The rest is done in a real lab."""

from __future__ import annotations

import httpx
import pytest

from rehost.cli import rehearsal_data
from rehost.run.errors import RehostError


def test_a_refusal_tells_the_answer_and_not_what_was_sent() -> None:
    request = httpx.Request("POST", "http://192.0.2.1/auth/login", json={"password": "s3cret"})
    with pytest.raises(RehostError) as refused:
        rehearsal_data._json(httpx.Response(401, text="The password is wrong.", request=request))
    assert "401 to POST /auth/login: The password is wrong." in str(refused.value)
    assert "s3cret" not in str(refused.value) + str(refused.value.cure)


def test_a_loss_is_told_by_name() -> None:
    rehearsal_data._same("the post", {"a": 1}, {"a": 1})
    with pytest.raises(RehostError, match="the uploaded file is not what was written"):
        rehearsal_data._same("the uploaded file", b"", b"x")


def test_the_picture_is_one_for_the_reference_backend() -> None:
    assert rehearsal_data.PICTURE.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(rehearsal_data.PICTURE) < 2**20
