"""Secret files: read whole, kept out of the image, and named when they lie open."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest

from rehost.project import config, secret_files
from rehost.project.config import Project
from rehost.run.errors import Refused, UsageError

TOML = 'app = "a"\n[machine]\nprovider = "gce"\nzone = "us-west1-a"\n'
PEM = "-----BEGIN PRIVATE KEY-----\nhunter2hunter2\n"


def project(directory: Path, files: str = '["keys/key.pem", "keys/store.p12"]', more: str = "") -> Project:
    return config.parse(f"{TOML}{more}[env]\nsecret_files = {files}\n", directory)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "keys").mkdir()
    for name, content in {"key.pem": PEM.encode(), "store.p12": b"\x00\xff\x80"}.items():
        (tmp_path / "keys" / name).write_bytes(content)
        (tmp_path / "keys" / name).chmod(0o600)
    return tmp_path


def test_contents_arrive_whole_and_only_texts_are_masked(here: Path) -> None:
    read = secret_files.read(project(here))
    assert {name: base64.b64decode(each.reveal()) for name, each in read.items()} == {
        "key.pem": PEM.encode(),
        "store.p12": b"\x00\xff\x80",
    }
    assert [each.reveal() for each in secret_files.texts(read)] == [PEM]
    assert "hunter2" not in repr(read)


def test_a_file_that_is_missing_or_too_large_is_named(here: Path) -> None:
    with pytest.raises(UsageError, match="no such secret file") as missing:
        secret_files.read(project(here, '["keys/other"]'))
    assert missing.value.where == "keys/other"
    (here / "keys" / "key.pem").write_bytes(b"x" * (secret_files.LARGEST + 1))
    with pytest.raises(UsageError, match="at most 512 kB"):
        secret_files.read(project(here))


@pytest.mark.parametrize("path", ["/etc/secrets", "/etc", "/etc/secrets/more"])
def test_no_volume_stands_in_their_place(here: Path, path: str) -> None:
    with pytest.raises(UsageError, match="in each other's way"):
        secret_files.read(project(here, more=f'[run]\nvolumes = ["data:{path}"]\n'))
    assert secret_files.read(project(here, "[]", f'[run]\nvolumes = ["data:{path}"]\n')) == {}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ('["a/key", "b/key"]', "two files are called"),
        ('["a/k y"]', "a name that is not allowed"),
        ('[".."]', "a name that is not allowed"),
        ('["/etc/key"]', "not a path relative"),
    ],
)
def test_a_wrong_name_is_a_mistake_of_the_file(here: Path, files: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        project(here, files)


def test_the_image_must_not_hold_one(here: Path) -> None:
    secret_files.refuse_shipped(project(here), {"app.py", "store.p12"})
    with pytest.raises(Refused, match="stay readable in the image"):
        secret_files.refuse_shipped(project(here), {"keys/key.pem"})
    below = project(here, more='[build]\ncontext = "keys"\n')
    with pytest.raises(Refused):
        secret_files.refuse_shipped(below, {"key.pem"})


def test_what_lies_open_is_said(here: Path) -> None:
    subprocess.run(["git", "init", "-q", str(here)], check=True)
    (here / ".gitignore").write_text("keys/store.p12\n")
    (here / "keys" / "key.pem").chmod(0o644)
    found = secret_files.findings(project(here))
    assert [(each.severity, each.where) for each in found] == [
        ("warning", "keys/key.pem"),
        ("warning", "keys/key.pem"),
        ("ok", "rehost.toml, [env] secret_files"),
    ]
    assert "mode 0644" in found[0].what and "git add" in found[1].what
    assert secret_files.findings(project(here, "[]")) == []
    (missing,) = secret_files.findings(project(here, '["gone"]'))
    assert missing.severity == "error"
