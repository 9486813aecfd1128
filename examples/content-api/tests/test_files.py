"""Files: what is taken, what is refused, downloads in parts (nx-27017, which is not MongoDB)."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.contents import STALE_SECONDS, Contents, NoSpaceError
from app.settings import ConfigurationError
from processes import DEADLINE, SECRET_KEY, Api, Mongo, StartApi, environment, eventually
from test_sniff import JPEG, PDF, PNG, WEBP

MB = 1024 * 1024


def upload(api: Api, content: bytes, name: str = "file", kind: str | None = None) -> dict[str, object]:
    headers = {"Content-Type": kind} if kind else {}
    answer = api.user.http.post("/files", params={"name": name}, content=content, headers=headers)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def on_disk(api: Api) -> list[Path]:
    return sorted(path for path in api.data.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("content", "said", "found"),
    [
        (PNG, "image/png", "image/png"),
        (PNG, None, "image/png"),
        (JPEG, "application/octet-stream", "image/jpeg"),
        (WEBP, "image/webp", "image/webp"),
        (PDF, "application/pdf", "application/pdf"),
        ("Grüße\n".encode(), "text/markdown; charset=utf-8", "text/plain"),
        (b"a,b\n1,2\n", "text/csv", "text/plain"),
    ],
)
def test_what_is_taken_comes_back_as_it_was(
    shared_api: Api, content: bytes, said: str | None, found: str
) -> None:
    file = upload(shared_api, content, "Über uns.bin", said)
    assert (file["media_type"], file["size"]) == (found, len(content))
    assert file["sha256"] == hashlib.sha256(content).hexdigest()
    assert shared_api.http.get(f"/files/{file['id']}/about").json() == file
    got = shared_api.http.get(f"/files/{file['id']}")
    assert got.content == content
    assert got.headers["content-type"].partition(";")[0] == found
    assert got.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in got.headers["content-security-policy"]
    shown = "inline" if found.startswith("image/") else "attachment"
    assert got.headers["content-disposition"] == f"{shown}; filename*=utf-8''%C3%9Cber%20uns.bin"


FORGED = [
    (b"<html><script>alert(1)</script>", "image/png"),
    (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"),
    (b"plain text", "image/png"),
    (PNG, "image/jpeg"),
    (PNG, "text/plain"),
    (b"MZ\x90\x00" + b"\x00" * 3000, "application/pdf"),
    (b"MZ\x90\x00" + b"\x00" * 3000, None),
    (b"\xff\xfe\x00", "text/plain"),
    (b"", "image/png"),
]


@pytest.mark.parametrize(("content", "said"), FORGED)
def test_a_forged_type_is_refused_and_leaves_nothing(
    shared_api: Api, content: bytes, said: str | None
) -> None:
    before = on_disk(shared_api), shared_api.http.get("/stats").json()["total"]["files"]
    headers = {"Content-Type": said} if said else {}
    refused = shared_api.user.http.post("/files", params={"name": "x"}, content=content, headers=headers)
    assert refused.status_code == 415
    assert refused.json()["detail"]
    assert (on_disk(shared_api), shared_api.http.get("/stats").json()["total"]["files"]) == before


@pytest.mark.parametrize("announced", [True, False])
def test_a_file_over_the_limit_is_refused_and_leaves_nothing(
    start_api: StartApi, mongo: Mongo, database_name: str, announced: bool
) -> None:
    api = start_api(MONGODB_URL=mongo.url, DATABASE_NAME=database_name, MAX_UPLOAD_MB="2")
    eventually("healthy", api.healthy)

    def pieces() -> Iterator[bytes]:
        yield PNG
        for _ in range(3):
            yield b"x" * MB

    content = b"".join(pieces()) if announced else pieces()
    refused = api.user.http.post("/files", params={"name": "large"}, content=content)
    assert refused.status_code == 413
    assert refused.json() == {"detail": "A file may have 2 MB."}
    assert on_disk(api) == []
    largest = PNG + b"x" * (2 * MB - len(PNG))
    assert upload(api, largest)["size"] == 2 * MB


def test_an_upload_that_breaks_off_leaves_nothing(shared_api: Api) -> None:
    before = on_disk(shared_api)
    head = (
        f"POST /files?name=x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n"
        f"Authorization: {shared_api.user.http.headers['Authorization']}\r\n\r\n"
    ).encode()
    with socket.create_connection(("127.0.0.1", shared_api.port), DEADLINE) as sock:
        sock.sendall(head + PNG)
        eventually("the upload has begun", lambda: on_disk(shared_api) != before)
    eventually("the part is gone", lambda: on_disk(shared_api) == before)


@pytest.mark.parametrize("name", ["", " ", "..", "a\nb", "\x00", "x" * 201, "\u202egnp.exe"])
def test_a_name_that_is_refused(shared_api: Api, name: str) -> None:
    refused = shared_api.user.http.post("/files", params={"name": name}, content=PNG)
    assert refused.status_code == 422


def test_a_name_is_no_path(shared_api: Api) -> None:
    file = upload(shared_api, PNG, "../../etc/passwd")
    assert shared_api.http.get(f"/files/{file['id']}").status_code == 200
    assert all(path.name != "passwd" for path in on_disk(shared_api))
    for path in ("..%2f..%2fetc%2fpasswd", "%2e%2e", "x", "0" * 24):
        assert shared_api.http.get(f"/files/{path}").status_code == 404


RANGES = [
    ("bytes=0-0", 206, slice(0, 1)),
    ("bytes=100-199", 206, slice(100, 200)),
    ("bytes=-10", 206, slice(-10, None)),
    ("bytes=990-5000", 206, slice(990, None)),
    ("bytes=5000-", 416, None),
    ("bytes=9-1", 400, None),
    ("pages=1", 400, None),
]


@pytest.mark.parametrize(("header", "code", "part"), RANGES)
def test_parts_of_a_file(shared_api: Api, header: str, code: int, part: slice | None) -> None:
    content = (PNG + bytes(range(256)) * 4)[:1000]
    file = upload(shared_api, content)
    got = shared_api.http.get(f"/files/{file['id']}", headers={"Range": header})
    assert got.status_code == code
    if part is not None:
        assert got.content == content[part]
        assert got.headers["content-range"].endswith("/1000")
    else:
        assert got.json()["detail"]


def test_a_range_of_another_version_gets_the_whole(shared_api: Api) -> None:
    file = upload(shared_api, PNG)
    path = f"/files/{file['id']}"
    tag = shared_api.http.get(path).headers["etag"]
    codes = [
        shared_api.http.get(path, headers={"Range": "bytes=0-3", "If-Range": each}).status_code
        for each in (tag, '"other"')
    ]
    assert codes == [206, 200]


def test_a_list_of_the_own_files(shared_api: Api) -> None:
    user, other = shared_api.sign_up(), shared_api.sign_up()
    for number in range(3):
        user.http.post("/files", params={"name": f"{number}.txt"}, content=b"x").raise_for_status()
    page = user.http.get("/files", params={"size": 2}).json()
    assert [file["name"] for file in page["items"]] == ["2.txt", "1.txt"]
    assert (page["total"], other.http.get("/files").json()["total"]) == (3, 0)
    assert shared_api.http.get("/files").status_code == 401


def test_a_deleted_file_is_gone_from_the_disk_too(shared_api: Api) -> None:
    before = on_disk(shared_api)
    file = upload(shared_api, PNG)
    assert len(on_disk(shared_api)) == len(before) + 1
    assert shared_api.sign_up().http.delete(f"/files/{file['id']}").status_code == 403
    assert shared_api.user.http.delete(f"/files/{file['id']}").status_code == 204
    assert on_disk(shared_api) == before
    assert shared_api.http.get(f"/files/{file['id']}").status_code == 404
    assert shared_api.user.http.delete(f"/files/{file['id']}").status_code == 404


def test_a_content_that_was_lost_is_told_and_logged(
    start_api: StartApi, mongo: Mongo, database_name: str
) -> None:
    api = start_api(MONGODB_URL=mongo.url, DATABASE_NAME=database_name)
    eventually("healthy", api.healthy)
    file = upload(api, PNG)
    on_disk(api)[0].unlink()
    assert api.http.get(f"/files/{file['id']}").json() == {"detail": "The content of this file is lost."}
    assert f"the content of the file {file['id']} is not in the data directory" in api.output()
    assert api.user.http.delete(f"/files/{file['id']}").status_code == 204, "it can be put right"


def test_files_outlive_the_process_and_parts_do_not(
    start_api: StartApi, mongo: Mongo, database_name: str, tmp_path: Path
) -> None:
    variables = {
        "MONGODB_URL": mongo.url,
        "DATABASE_NAME": database_name,
        "DATA_DIRECTORY": str(tmp_path / "d"),
    }
    first = start_api(**variables)
    eventually("healthy", first.healthy)
    file = upload(first, PNG)
    assert first.stop() == 0
    old, young = first.data / "parts" / "old", first.data / "parts" / "young"
    for part in (old, young):
        part.write_bytes(b"x")
    os.utime(old, (0, time.time() - STALE_SECONDS - 1))
    second = start_api(**variables)
    assert second.http.get(f"/files/{file['id']}").content == PNG
    assert not old.exists()
    assert young.exists(), "another process may be writing it"


def test_a_data_directory_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "Zx9sentinel").write_text("a file")
    env = environment(
        MONGODB_URL="mongodb://127.0.0.1:1",
        SECRET_KEY=SECRET_KEY,
        DATA_DIRECTORY=str(tmp_path / "Zx9sentinel"),
    )
    command = [sys.executable, "-m", "app"]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("content-api cannot start: DATA_DIRECTORY cannot be used: ")
    assert "sentinel" not in done.stderr


def test_a_data_directory_that_belongs_to_somebody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may write everywhere, so the refusal itself is played.
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ConfigurationError, match="DATA_DIRECTORY cannot be written"):
        Contents(tmp_path).prepare()


def test_a_disk_that_is_nearly_full_takes_no_upload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = Contents(tmp_path)
    contents.prepare()
    monkeypatch.setattr(contents, "free_bytes", lambda: 200 * MB)

    async def nothing() -> AsyncIterator[bytes]:
        yield PNG

    with pytest.raises(NoSpaceError):
        asyncio.run(contents.receive("x", nothing(), most=MB))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
