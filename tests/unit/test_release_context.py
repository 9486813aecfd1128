"""What travels, what is refused, and what names it."""

from __future__ import annotations

import hashlib
import os
import socket
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dockerignore_cases import CASES, Case, plant
from rehost.release import context
from rehost.release.context import Context, Entry, read
from rehost.release.dockerignore import parse
from rehost.run.errors import Refused, RehostError, UsageError

PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA0000000000000000000000000\n-----END RSA PRIVATE KEY-----\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    (tmp_path / "main.py").write_text("print()\n")
    return tmp_path


def paths(found: Context) -> list[str]:
    return [entry.path for entry in found.entries]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_sends_what_docker_sends(case: Case, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").touch()
    tree = tmp_path / "tree"
    plant(tree, case.files)
    (tree / ".dockerignore").write_bytes(case.ignore)
    found = read(tmp_path, context="tree")
    sent = {entry.path for entry in found.entries if entry.kind != "dir"} - {".dockerignore"}
    assert sent == {file.partition(" -> ")[0] for file in case.sent}


def test_entries_say_what_lies_there(project: Path) -> None:
    (project / "empty").mkdir(mode=0o750)
    (project / "run.sh").write_text("#!/bin/sh\n")
    (project / "run.sh").chmod(0o4755)
    (project / "gone").symlink_to("../nowhere else")
    (project / "main.py").chmod(0o640)
    (project / "Dockerfile").chmod(0o644)
    found = read(project)
    assert found.entries[1:] == (
        Entry("empty", "dir", 0o750, 0, ""),
        Entry("gone", "symlink", 0o777, 0, "../nowhere else"),
        Entry("main.py", "file", 0o640, 8, hashlib.sha256(b"print()\n").hexdigest()),
        Entry("run.sh", "file", 0o4755, 10, hashlib.sha256(b"#!/bin/sh\n").hexdigest()),
    )
    assert found.total_bytes == 22 + 8 + 10
    assert [entry.path for entry in found.largest(2)] == ["Dockerfile", "run.sh"]


@pytest.mark.parametrize(
    ("ignore", "sent"),
    [
        ("", {".dockerignore", "Dockerfile", "main.py"}),
        ("Dockerfile\n", {".dockerignore", "main.py"}),
        ("*\n", set()),
    ],
)
def test_the_dockerfile_is_read_whether_it_is_ignored_or_not(
    project: Path, ignore: str, sent: set[str]
) -> None:
    (project / ".dockerignore").write_text(ignore)
    found = read(project)
    assert found.dockerfile == b"FROM scratch\nCOPY . /\n"
    assert set(paths(found)) == sent


def test_git_stays_here_unless_the_ignore_file_says_otherwise(project: Path) -> None:
    for name in (".git/config", "vendored/.git/config", ".gitignore", ".github/ci.yml"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).touch()
    always = [".github", ".github/ci.yml", ".gitignore", "Dockerfile", "main.py", "vendored"]
    always += ["vendored/.git", "vendored/.git/config"]
    assert paths(read(project)) == always
    for ignore, more in (
        ("!**", []),
        ("!.git", [".git", ".git/config"]),
        (".git\n!.git/config", [".git", ".git/config"]),
    ):
        (project / ".dockerignore").write_text(ignore)
        assert paths(read(project)) == sorted([".dockerignore", *always, *more])


def test_the_state_directory_stays_here(project: Path) -> None:
    write(project, {".rehost/journal": "", "app/.rehost/kept": ""})
    assert paths(read(project)) == ["Dockerfile", "app", "app/.rehost", "app/.rehost/kept", "main.py"]
    assert paths(read(project / "app", context="..", dockerfile="../Dockerfile")) == [
        *(".rehost", ".rehost/journal", "Dockerfile", "app", "main.py"),
    ]


def test_the_digest_names_content_and_nothing_else(project: Path) -> None:
    (project / "link").symlink_to("main.py")
    (project / "main.py").chmod(0o644)
    first = read(project, args={"A": "1", "B": "2"}).digest
    assert first.startswith("sha256:")
    os.utime(project / "main.py", (1, 1))
    assert read(project, args={"B": "2", "A": "1"}).digest == first
    seen = {first}

    def differs(**options: object) -> None:
        digest = read(project, **({"args": {"A": "1", "B": "2"}} | options)).digest  # type: ignore[arg-type]
        assert digest not in seen
        seen.add(digest)

    differs(args={"A": "1"})
    differs(args={"A": "12", "B": ""})
    (project / "main.py").write_text("other()\n")
    differs()
    (project / "main.py").chmod(0o755)
    differs()
    (project / "link").unlink()
    differs()
    (project / "link").symlink_to("Dockerfile")
    differs()
    (project / "empty").mkdir()
    differs()
    (project / "empty").rename(project / "void")
    differs()
    (project / ".dockerignore").write_text("*")
    differs()
    (project / "Dockerfile").write_text("FROM scratch\n")
    differs()


def test_special_files_are_refused_by_name(project: Path) -> None:
    os.mkfifo(project / "queue")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(project / "app.sock"))
        with pytest.raises(Refused, match=r"app\.sock \(a socket\), queue \(a named pipe\)"):
            read(project)
        (project / ".dockerignore").write_text("queue\n*.sock\n")
        assert "main.py" in paths(read(project))


SECRETS = {
    ".env": "A=1",
    "app/.env.prod": "A=1",
    ".ENV.Local": "",
    "id_ed25519": "",
    "ssh/id_rsa": "",
    "web.p12": "",
    "web.PFX": "",
    "key.txt": PEM,
    "chain.pem": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\r\n"
    + PEM.replace("\n", "\r\n"),
    "old.pem": PEM.replace("KEY-----\nMII", "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES,0\n\nMII"),
    "gpg.asc": "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQOYBGAAAAAAAAAAAAAA\n",
    "account.json": '{"type": "service_account",\n  "private_key": "-----BEGIN PRIVATE KEY-----\\nMII"}',
}
HARMLESS = {
    ".env.example": "A=",
    ".env.prod.sample": "A=",
    ".env.template": "A=",
    ".envrc": "",
    "id_rsa.pub": "ssh-rsa AAAA",
    "keys.py": f"HEADER = '''\n-----BEGIN RSA PRIVATE KEY-----\n'''\nOTHER = {PEM!r}\n",
    "cert.pem": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
    "schema.json": '{"private_key": {"type": "string"}}',
}


def write(project: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(content, newline="")


def test_what_looks_like_a_secret_is_refused_by_name_with_its_cure(project: Path) -> None:
    write(project, SECRETS | HARMLESS)
    for _ in range(2):  # from the files, and from what was remembered of them
        with pytest.raises(Refused) as caught:
            read(project)
        for name in SECRETS:
            assert f"{name} (" in caught.value.what
            assert f'"{name}"' in caught.value.cure
        for name in HARMLESS:
            assert name not in caught.value.what.replace(".env.prod", "")
    assert ".dockerignore" in caught.value.cure
    (project / "Dockerfile.dockerignore").touch()
    with pytest.raises(Refused) as caught:
        read(project)
    assert "Dockerfile.dockerignore" in caught.value.cure


def test_what_looks_like_a_secret_travels_when_it_is_allowed(project: Path) -> None:
    write(project, SECRETS)
    assert set(paths(read(project, allow=[f"./{name}" for name in SECRETS]))) > set(SECRETS)
    with pytest.raises(Refused, match=r"image: ssh/id_rsa \(a private key\)\."):
        read(project, allow=set(SECRETS) - {"ssh/id_rsa"} | {"ss"})
    read(project, allow=set(SECRETS) - {"ssh/id_rsa"} | {"ssh/"})
    read(project, allow=["."])
    (project / ".dockerignore").write_text("\n".join(SECRETS))
    read(project)


def test_a_directory_or_link_named_env_is_none(project: Path) -> None:
    (project / ".env").mkdir()
    (project / ".env.prod").symlink_to("/etc/app.env")
    assert ".env" in paths(read(project))


class TestHashes:
    @pytest.fixture(autouse=True)
    def _settled(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As if every file had been written long ago."""
        monkeypatch.setattr(context._Hashes, "TOO_FRESH", -(10**12))

    @pytest.fixture
    def reads(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The files that were read, not remembered."""
        seen: list[str] = []
        real = context._hash

        def spy(root: Path, path: str, info: os.stat_result) -> context._Known:
            seen.append(path)
            return real(root, path, info)

        monkeypatch.setattr(context, "_hash", spy)
        return seen

    def test_what_did_not_change_is_not_read_again(self, project: Path, reads: list[str]) -> None:
        (project / os.fsdecode(b"caf\xe9 \n")).touch()
        first = read(project)
        assert len(reads) == 3
        assert read(project) == first
        assert len(reads) == 3
        assert (project / ".rehost/cache/context.json").stat().st_mode & 0o777 == 0o600
        assert list((project / ".rehost/cache").iterdir()) == [project / ".rehost/cache/context.json"]

    def test_a_change_of_the_same_size_and_time_is_seen(self, project: Path, reads: list[str]) -> None:
        os.utime(project / "main.py", ns=(5, 5))
        first = read(project)
        (project / "main.py").write_text("pront()\n")
        os.utime(project / "main.py", ns=(5, 5))
        assert read(project).digest != first.digest
        assert reads[2:] == ["main.py"]

    @pytest.mark.parametrize(
        "damage",
        [
            b"",
            b"{",
            b"[]",
            b"null",
            b'{"version": 1}',
            b'{"version": 0, "files": {}}',
            b'{"version": 1, "files": 3}',
            b'{"version": 1, "files": {"main.py": 7, "Dockerfile": []}}',
            b"\xff\xfe",
        ],
    )
    def test_a_damaged_cache_is_written_anew(self, project: Path, reads: list[str], damage: bytes) -> None:
        first = read(project)
        cache = project / ".rehost/cache/context.json"
        good = cache.read_bytes()
        cache.write_bytes(damage)
        assert read(project) == first
        assert cache.read_bytes() == good
        assert len(reads) == 4

    def test_what_went_is_forgotten(self, project: Path) -> None:
        (project / "b").touch()
        read(project)
        (project / "b").unlink()
        read(project)
        assert b'"b"' not in (project / ".rehost/cache/context.json").read_bytes()

    def test_without_a_place_for_the_cache_it_only_takes_longer(
        self, project: Path, reads: list[str]
    ) -> None:
        (project / ".rehost").write_text("in the way")
        assert read(project) == read(project)
        assert len(reads) == 4


def test_a_file_written_just_now_is_read_again(project: Path) -> None:
    read(project)
    cache = project / ".rehost/cache/context.json"
    assert not cache.exists() or b"main.py" not in cache.read_bytes()


def test_a_file_that_changes_while_it_is_read(project: Path) -> None:
    before = (project / "main.py").lstat()
    (project / "main.py").write_text("longer than before\n")
    with pytest.raises(RehostError, match=r"main\.py changed") as caught:
        context._hash(project, "main.py", before)
    assert caught.value.retryable
    (project / "main.py").unlink()
    with pytest.raises(RehostError, match=r"main\.py changed"):
        context._hash(project, "main.py", before)


def test_errors_name_the_place_and_the_cure(project: Path) -> None:
    with pytest.raises(UsageError, match="Dockerfile cannot be read") as caught:
        read(project, dockerfile="deploy/Dockerfile")
    assert caught.value.where == str(project / "deploy/Dockerfile")
    assert "[build] dockerfile" in caught.value.cure
    with pytest.raises(UsageError, match="not a directory") as caught:
        read(project, context="sub")
    assert "[build] context" in caught.value.cure
    (project / ".dockerignore").write_text("a\n[\n")
    with pytest.raises(UsageError) as caught:
        read(project)
    assert caught.value.where == f"{project}/.dockerignore:2"


def test_dockerfile_in_small_letters(project: Path) -> None:
    (project / "Dockerfile").rename(project / "dockerfile")
    assert read(project).dockerfile.startswith(b"FROM")
    (project / "dockerfile.dockerignore").write_text("*")
    assert paths(read(project)) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_cannot_be_read_is_named_unless_it_is_ignored(project: Path) -> None:
    (project / "shut").mkdir(mode=0)
    (project / "secret").touch(mode=0)
    with pytest.raises(UsageError, match=r"shut cannot be read"):
        read(project)
    (project / ".dockerignore").write_text("shut\n!shut/a\n")
    with pytest.raises(UsageError, match=r"secret cannot be read"):
        read(project)
    (project / ".dockerignore").write_text("shut\n!shut/a\nsecret\n")
    assert "main.py" in paths(read(project))


NAMES = st.sampled_from(["a", "b", "c", ".d", "a.x", "b.x"])
TREES = st.sets(st.lists(NAMES, min_size=1, max_size=4).map("/".join), max_size=8)
RULES = st.lists(
    st.sampled_from(
        [
            "*",
            "!a",
            "a",
            "a/b",
            "!a/b",
            "**/a",
            "!**/b.x",
            "b/**",
            "!b/c/*",
            "*.x",
            "!c",
            "a/*",
            "**",
            "!a/b/c",
        ]
    ),
    max_size=4,
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(TREES, RULES)
def test_the_walk_finds_what_the_rules_leave(tree: set[str], rules: list[str]) -> None:
    # A path below another one makes that a directory.
    files = {path for path in tree if not any(other.startswith(f"{path}/") for other in tree)}
    folders = {path.rsplit("/", depth)[0] for path in files for depth in range(1, path.count("/") + 1)}
    ignore = parse("\n".join(rules).encode())
    kept = {path for path in files if not ignore.ignores(path)}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        plant(root, tuple(files))
        found = set(context._walk(root, ignore, root / ".rehost"))
    assert found & files == kept
    # A directory is there for its own sake, or for what is kept below it.
    wanted = kept | {folder for folder in folders if not ignore.ignores(folder)}
    assert found & folders == {
        folder for folder in folders if folder in wanted or any(w.startswith(f"{folder}/") for w in wanted)
    }
