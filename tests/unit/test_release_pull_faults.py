"""What Docker says of a pull is told apart."""

from __future__ import annotations

import pytest

from rehost.release.pull import RegistryAway, Said, problem
from rehost.release.registry import Login, parse
from rehost.run.secret import Secret

NAME = parse("ghcr.io/me/app:1.2")
LOGIN = Login(Secret("header"), Secret("password"))
# As Docker 20.10 and 26 wrote them.
SAID = [
    ("manifest unknown: manifest unknown", "there is no image ghcr.io/me/app:1.2"),
    ("manifest for ghcr.io/me/app:1.2 not found: manifest unknown", "there is no image"),
    ("name unknown: repository name not known to registry", "there is no image"),
    ('Head "https://ghcr.io/v2/me/app/manifests/1": no basic auth credentials', "nobody is logged in"),
    ("unauthorized: authentication required", "nobody is logged in"),
    (
        "pull access denied for me/app, repository does not exist or may require 'docker login'",
        "nobody is logged in",
    ),
    ("no matching manifest for linux/amd64 in the manifest list entries", "not for the machine, linux/amd64"),
    ('Get "https://ghcr.io/v2/": dial tcp: lookup ghcr.io: no such host', "does not answer"),
    ("dial tcp 127.0.0.1:5099: connect: connection refused", "does not answer"),
    ("net/http: TLS handshake timeout", "does not answer"),
    ("x509: certificate signed by unknown authority", "does not answer"),
    ("toomanyrequests: You have reached your pull rate limit", "does not answer"),
    ("something else", "could not be pulled"),
]


@pytest.mark.parametrize(("message", "what"), SAID)
def test_what_docker_says(message: str, what: str) -> None:
    found = problem(NAME, message, None, "linux/amd64", "vm")
    assert what in found.what
    assert found.cure
    assert isinstance(found, RegistryAway) == found.retryable == ("does not answer" in what)
    if "machine" not in what:
        assert found.detail == message


def test_who_is_logged_in_and_may_not_read() -> None:
    found = problem(NAME, "denied: requested access to the resource is denied", LOGIN, "linux/amd64", "vm")
    assert "may not read it" in found.what
    assert "docker login ghcr.io" in found.cure


def test_progress_is_summed_over_layers() -> None:
    told: list[str] = []
    said = Said(told.append)
    for line in (
        '{"status":"Pulling from me/app","id":"1.2"}',
        '{"status":"Downloading","progressDetail":{"current":1048576,"total":4194304},"id":"a"}',
        '{"status":"Downloading","progressDetail":{"current":1048576,"total":2097152},"id":"b"}',
        '{"status":"Download complete","progressDetail":{},"id":"b"}',
        "",
        "[]",
        '{"status":"Downloading","progressDetail":{"current":2097152,"total":4194304},"id":"a"}',
        "@status 200",
        "@image sha256:1",
    ):
        said.line(line)
    assert told == [
        "1.2: Pulling from me/app",
        "1.0 of 4.0 MB",
        "2.0 of 6.0 MB",
        "b: Download complete",
        "4.0 of 6.0 MB",
    ]
    assert (said.image, said.other, said.fault) == ("sha256:1", "", "")


def test_an_error_in_the_middle_and_one_at_the_start() -> None:
    said = Said(lambda _text: None)
    said.line('{"errorDetail":{"message":"unexpected EOF"},"error":"unexpected EOF"}')
    assert said.fault == "unexpected EOF"
    said.line('{"message":"denied"}')
    assert said.fault == "denied"
