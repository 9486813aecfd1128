"""A disk moves from a container that has busybox alone into a volume, by `rehost move`."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ssh_origin import UID, Origin
from suite import Lab, Laptop, until
from tiny import SERVING

VOLUME = "/var/lib/docker/volumes/tiny.disk/_data"
MOVING = "/var/lib/rehost/tiny/moving/disk"
# It does not shrink, and takes long enough to be cut off in the middle.
LARGE = random.Random(21).randbytes(48 << 20)  # noqa: S311
# Type, mode, owner and link target of everything that is to arrive; then each file's time in seconds, and its SHA-256.
LIST = (
    r"cd {} && find . -path ./lost+found -prune -o ! -type s -printf '%y %m %U:%G %p//%l\0' | sort -z && "
    r"find . -type f -printf '%Ts %p\0' | sort -z && find . -type f -print0 | sort -z | xargs -0 sha256sum -z"
)


@pytest.fixture(scope="module")
def origin(lab: Lab) -> Iterator[Origin]:
    with tempfile.TemporaryDirectory(prefix="rehost-origin-") as made:
        Path(made).chmod(0o755)
        with Origin(Path(made), lab.places.gateway).running() as found:
            fill(found.data)
            yield found


def fill(data: Path) -> None:
    """Some hundred small files, a large one, and what is awkward to copy."""
    (data / "large").write_bytes(LARGE)
    for number in range(600):
        file = data / f"d{number % 20}" / f"{number} {'x' * (number % 200)}"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"{number}\n" * number)
    for name in ("-rf", "a b", "new\nline", "back\\slash", "$(id)", "%s", "'\""):
        (data / name).write_text(name)
    Path(os.fsdecode(os.fsencode(data) + b"/latin\xe9")).write_text("l")
    (data / "hard").hardlink_to(data / "a b")
    (data / "link").symlink_to("large")
    (data / "dangling").symlink_to("t" * 150)
    (data / "empty").mkdir(mode=0o711)
    (data / "nothing").touch(mode=0o600)
    with (data / "sparse").open("wb") as sparse:
        sparse.truncate(33 << 20)
    for path in data.rglob("*"):
        os.chown(path, UID, UID, follow_symlinks=False)
    os.utime(data / "nothing", (1e9, 1e9))


@pytest.fixture(scope="module")
def app(tiny: Laptop, origin: Origin) -> Laptop:
    config = tiny.directory / "rehost.toml"
    text = config.read_text().replace("[run]\n", '[run]\nvolumes = ["disk:/data"]\n')
    config.write_text(f'{text}[moves]\ndisk = "origin:/data"\n')
    tiny.run("up", "--yes")
    return tiny


def listed(laptop: Laptop, place: str) -> str:
    return laptop.inside(f"({LIST.format(place)}) | sha256sum")


def here(data: Path) -> str:
    """The same of the origin."""
    made = subprocess.run(["sh", "-c", LIST.format(data)], capture_output=True, check=True).stdout
    return f"{hashlib.sha256(made).hexdigest()}  -\n"


def cut_off(app: Laptop, origin: Origin, *, client: bool) -> str:
    """A rehearsal that is cut off after 12 MB: its connection, or the client itself."""
    with subprocess.Popen(
        app.line("move", "--rehearse"), cwd=app.directory, env={**app.environ, "HOME": str(origin.home)},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        assert process.stdout
        until(
            lambda: process.poll() is not None or max(origin.sessions().values(), default=0) > 12 << 20,
            "12 MB were read",
        )
        assert process.poll() is None, process.stdout.read()
        if client:
            process.send_signal(signal.SIGKILL)
        else:
            origin.cut()
        said = process.stdout.read()
    assert process.returncode == (-9 if client else 1), said
    return said


def test_what_may_not_be_read_is_named_before_anything_is_copied(app: Laptop, origin: Origin) -> None:
    secret = origin.data / "d1" / "of root"
    secret.write_text("x")
    secret.chmod(0o600)
    closed = origin.data / "closed"
    closed.mkdir(mode=0o700)
    (origin.data / "lost+found").mkdir(mode=0o700)
    refused = app.run("move", "--rehearse", code=3, HOME=str(origin.home))
    assert "d1/of root" in refused.said and "closed" in refused.said and "lost+found" not in refused.said
    assert app.inside(f"ls {MOVING} 2>/dev/null || echo none").strip() == "none"
    secret.unlink()
    closed.rmdir()


def test_a_copy_that_is_cut_off_is_carried_on_and_touches_nothing(app: Laptop, origin: Origin) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(origin.data / "socket"))
    app.inside(f"touch {VOLUME}/here.before")
    assert "connection broke" in cut_off(app, origin, client=False)
    cut_off(app, origin, client=True)
    rehearsed = app.run("move", "--rehearse", HOME=str(origin.home))
    assert "socket" in rehearsed.said
    assert listed(app, f"{MOVING}/copy") == here(origin.data)
    assert app.inside(f"ls {VOLUME}").split() == ["here.before"]
    assert app.inside(f"stat -c %b {MOVING}/copy/sparse").strip() == "0"


def test_a_move_puts_the_disk_in_place_and_keeps_what_was_there(app: Laptop, origin: Origin) -> None:
    (origin.data / "-rf").unlink()
    with (origin.data / "large").open("r+b") as large:
        large.seek(20 << 20)
        large.write(b"changed")
    refused = app.run("move", code=3, HOME=str(origin.home))
    assert "--yes" in refused.said
    moved = app.run("move", "--yes", HOME=str(origin.home))
    assert listed(app, VOLUME) == here(origin.data)
    assert app.inside(f"ls {MOVING}/before").split() == ["here.before"]
    assert f"{MOVING}/before" in moved.said
    inside = f"docker exec {SERVING} sh -c 'stat -c %u:%g:%a /data /data/nothing && sha256sum </data/large'"
    digest = hashlib.sha256((origin.data / "large").read_bytes()).hexdigest()
    assert app.inside(inside).split() == [f"{UID}:{UID}:755", f"{UID}:{UID}:600", digest, "-"]
    assert app.run("health").code == 0
