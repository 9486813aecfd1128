"""Building here: a stand-in for docker(1) in a real process, and a real directory of what is built."""

from __future__ import annotations

import asyncio
import fcntl
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from rehost.release import context, local_build
from rehost.release.build import BuildFailed
from rehost.run.errors import RehostError, UsageError
from saved_image import written

# $S/version, $S/saved: what those commands answer; $S/built: what stood in the directory, and which words there were.
DOCKER = """#!/bin/sh
S=${0%/*}/..
case $1 in
  version) [ -f "$S/version" ] || { echo 'Cannot connect to the Docker daemon' >&2; exit 1; }; cat "$S/version" ;;
  buildx) [ -f "$S/buildx" ] ;;
  build)
    printf '%s\\n' "$DOCKER_BUILDKIT" "$@" >"$S/words"
    for root; do :; done
    cp -a "${root%/tree}" "$S/built"
    cat "$S/log"
    exit "$(cat "$S/status")" ;;
  save) [ -f "$S/saved" ] || { echo 'No such image' >&2; exit 1; }; cat "$S/saved" ;;
esac
"""


class Here:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.project = directory / "project"
        self.state = self.project / ".rehost"
        (directory / "bin").mkdir()
        (directory / "bin" / "docker").write_text(DOCKER)
        (directory / "bin" / "docker").chmod(0o755)
        self.project.mkdir()
        (self.project / "Dockerfile").write_text("FROM scratch\nCOPY . .\n")
        (self.project / ".dockerignore").write_text("ignored\n")
        self.write(version="20.10.24 linux/amd64 20.10.24\n", log="", status="0")
        self.steps: list[str] = []

    def write(self, **files: str | bytes) -> None:
        for name, content in files.items():
            (self.directory / name).write_bytes(content.encode() if isinstance(content, str) else content)

    def read(self) -> context.Context:
        return context.read(self.project)

    def build(self, read: context.Context | None = None, **changes: Any) -> None:
        parts: dict[str, Any] = {
            "app": "shop",
            "context": read or self.read(),
            "args": {"B": "2", "A": "it's"},
            "platform": "linux/amd64",
            "state": self.state,
            "serving": "release 1",
            "say": self.steps.append,
            "log": lambda _line: None,
        }
        asyncio.run(local_build.build(**{**parts, **changes}))

    def take(self, platform: str = "linux/amd64") -> str:
        async def take() -> str:
            async with local_build.taken_out(
                "shop", "sha256:" + "c" * 64, platform=platform, state=self.state, progress=lambda _text: None
            ) as saved:
                return saved.image

        (self.state / "cache").mkdir(parents=True, exist_ok=True)
        return asyncio.run(take())


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return Here(tmp_path)


def test_the_build_sees_what_the_digest_names(here: Here) -> None:
    (here.project / "app").mkdir()
    (here.project / "app" / "run").write_text("#!/bin/sh\n")
    (here.project / "app" / "run").chmod(0o755)
    (here.project / "app" / "link").symlink_to("run")
    (here.project / "ignored").write_text("not this")
    (here.project / "app").chmod(0o555)
    os.utime(here.project / "app" / "run", (1e9, 1e9))
    os.utime(here.project / "app", (1.1e9, 1.1e9))
    read = here.read()
    here.write(log="#5 [1/2] FROM base\n#6 [2/2] COPY . .\n")
    here.build(read)
    (here.project / "app").chmod(0o755)
    built = here.directory / "built" / "tree"
    assert sorted(str(path.relative_to(built)) for path in built.rglob("*")) == [
        *(".dockerignore", "Dockerfile", "app", "app/link", "app/run")
    ]
    run, app = (built / "app" / "run").stat(), (built / "app").stat()
    assert (stat.S_IMODE(run.st_mode), run.st_mtime) == (0o755, 1e9)
    assert (stat.S_IMODE(app.st_mode), app.st_mtime) == (0o555, 1.1e9)
    assert (built / "app" / "link").readlink() == Path("run")
    (built / "app").chmod(0o755)
    root = f"{here.state}/cache/build"
    assert (here.directory / "words").read_text().splitlines() == [
        "1",
        "build",
        "--progress=plain",
        "--platform=linux/amd64",
        "--label=rehost.app=shop",
        f"--label=rehost.context={read.digest}",
        f"--tag=rehost/shop:{read.digest[7:19]}",
        "--build-arg=A=it's",
        "--build-arg=B=2",
        f"--file={root}/Dockerfile",
        f"{root}/tree",
    ]
    assert not Path(root).exists()
    assert here.steps == ["[1/2] FROM base", "[2/2] COPY . ."]


def test_a_file_that_changed_meanwhile_is_not_built(here: Here) -> None:
    (here.project / "code").write_text("one")
    read = here.read()
    (here.project / "code").write_text("two")
    with pytest.raises(RehostError, match="chang"):
        here.build(read)
    assert not (here.directory / "words").exists()
    assert not (here.state / "cache" / "build").exists()


def test_a_second_build_of_the_project_waits(here: Here) -> None:
    (here.state / "cache").mkdir(parents=True)
    with (here.state / "cache" / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        told = list[str]()

        def say(text: str) -> None:
            told.append(text)
            if len(told) == 1:
                assert not (here.directory / "words").exists()
                fcntl.flock(lock, fcntl.LOCK_UN)

        here.build(say=say)
    assert told == ["another rehost builds this project here; waiting until that is done"]
    assert (here.directory / "words").exists()


@pytest.mark.parametrize(
    ("log", "platform", "cure"),
    [
        ("#6 [2/2] RUN make\n#6 ERROR: exit code: 2\n", "linux/amd64", "Mend the Dockerfile"),
        ("#6 [2/2] RUN make\n#6 exec format error\n#6 ERROR: no\n", "linux/arm64", "install an emulator"),
        ("#6 [2/2] RUN make\n#6 exec format error\n#6 ERROR: no\n", "linux/amd64", "Mend the Dockerfile"),
        ("#6 [2/2] RUN make\n#6 ERROR: no match for platform in manifest\n", "linux/arm64", "not there for"),
    ],
)
def test_a_build_that_fails_names_its_step_and_the_cure(
    here: Here, log: str, platform: str, cure: str
) -> None:
    here.write(log=log, status="1")
    with pytest.raises(BuildFailed) as failed:
        here.build(platform=platform)
    assert "the failing step is [2/2] RUN make" in failed.value.what
    assert cure in failed.value.cure
    assert failed.value.serving == "release 1"
    assert failed.value.detail == log.strip()


def test_a_docker_that_cannot_build(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    assert local_build.look() == local_build.Local("20.10.24", "linux/amd64")
    here.write(version="28.2.2 linux/arm64 28.2.2\n")
    with pytest.raises(UsageError, match="buildx, is missing"):
        local_build.look()
    here.write(buildx="")
    assert local_build.look().platform == "linux/arm64"
    (here.directory / "version").unlink()
    with pytest.raises(RehostError, match="Docker does not run") as away:
        local_build.look("release 1")
    assert (away.value.serving, away.value.detail) == ("release 1", "Cannot connect to the Docker daemon")
    monkeypatch.setenv("PATH", str(here.project))
    with pytest.raises(UsageError, match="no Docker on this computer"):
        local_build.look()


def test_the_image_is_taken_out_and_leaves_nothing(here: Here) -> None:
    here.write(saved=written([b"a layer"]))
    assert here.take().startswith("sha256:")
    assert list((here.state / "cache").iterdir()) == []
    with pytest.raises(BuildFailed, match="is for linux/amd64, the machine is linux/arm64"):
        here.take("linux/arm64")
    (here.directory / "saved").unlink()
    with pytest.raises(RehostError, match="did not give the image") as failed:
        here.take()
    assert failed.value.detail == "No such image"
