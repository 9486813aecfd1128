"""Building the image with the Docker of this computer."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import IO, Final, NamedTuple

from rehost.release import saved, ship
from rehost.release.build import CURE, BuildFailed, build_command, failed, step_of, tag
from rehost.release.context import Context
from rehost.release.saved import Saved
from rehost.run.errors import RehostError, UsageError

WHERE: Final = "Docker on this computer"
_ANSWER_SECONDS: Final = 30
# The same file at each build: BuildKit takes over what it read last time from a directory of the same name.
_DIRECTORY: Final = "cache/build"
_WITHOUT_BUILDX: Final = ("17.", "18.", "19.", "20.")
_BUILDX: Final = "Install it (the package docker-buildx or docker-buildx-plugin)"
_INSTEAD: Final = 'or let the machine build: `on = "machine"` in [build] of rehost.toml'
# BuildKit also where it is not the default, and no attestations: with them an image is a list of two.
_ENVIRONMENT: Final = {"DOCKER_BUILDKIT": "1", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}


class Local(NamedTuple):
    """This computer's Docker. platform: what it builds for by itself, "linux/arm64"."""

    version: str
    platform: str


def look(serving: str = "") -> Local:
    """Asks Docker whether it can build. Raises UsageError where it is missing, RehostError where it does not run."""
    form = "{{.Server.Version}} {{.Server.Os}}/{{.Server.Arch}} {{.Client.Version}}"
    done = _docker("version", "--format", form)
    words = done.stdout.split()
    if done.returncode != 0 or len(words) != 3:
        raise RehostError(
            "Docker does not run, or you may not use it.",
            where=WHERE,
            serving=serving,
            detail=done.stderr.strip()[-2000:],
            cure=f"Start it (Docker Desktop, or `sudo systemctl start docker`), {_INSTEAD}.",
        )
    version, platform, client = words
    # Up to 20.10 docker(1) has BuildKit's client in itself.
    if not client.startswith(_WITHOUT_BUILDX) and _docker("buildx", "version").returncode != 0:
        raise UsageError(
            "Docker's builder, buildx, is missing.",
            where=WHERE,
            serving=serving,
            cure=f"{_BUILDX}, {_INSTEAD}.",
        )
    return Local(version, platform)


def _docker(*words: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["docker", *words],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_ANSWER_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise UsageError(
            "there is no Docker on this computer.",
            where='rehost.toml, [build] on = "here"',
            cure=f"Install Docker, {_INSTEAD}.",
        ) from None
    except subprocess.TimeoutExpired:
        raise RehostError(
            f"Docker does not answer within {_ANSWER_SECONDS} s.",
            where=WHERE,
            cure=f"Start it anew, {_INSTEAD}.",
        ) from None


@contextlib.asynccontextmanager
async def laid_out(context: Context, state: Path, say: Callable[[str], None]) -> AsyncIterator[Path]:
    """A directory with exactly what the digest names, as the machine would have it; gone afterwards.

    state: the project's `.rehost`. Raises RehostError when a file has changed since it was read.
    """
    root = state / _DIRECTORY
    root.parent.mkdir(parents=True, exist_ok=True)
    with root.with_suffix(".lock").open("w") as lock:
        while not _locked(lock):
            say("another rehost builds this project here; waiting until that is done")
            await asyncio.sleep(0.2)
        _remove(root)
        try:
            await asyncio.to_thread(_lay_out, context, root)
            yield root
        finally:
            _remove(root)


def _locked(file: IO[str]) -> bool:
    """Takes the lock, unless somebody has it. Waiting for it would keep the connection waiting too."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove(root: Path) -> None:
    if root.exists():
        # What forbids its owner to write cannot be emptied.
        for directory, _, _ in os.walk(root):
            Path(directory).chmod(0o700)
        shutil.rmtree(root)


def _lay_out(context: Context, root: Path) -> None:
    tree = root / ship.TREE
    tree.mkdir(parents=True)
    (root / ship.DOCKERFILE).write_bytes(context.dockerfile)
    (root / ship.IGNORE).write_bytes(ship.IGNORE_CONTENT)
    for entry in context.entries:
        path = tree / entry.path
        if entry.kind == "dir":
            path.mkdir(mode=0o700)
        elif entry.kind == "symlink":
            path.symlink_to(entry.content)
        else:
            with path.open("xb") as file:
                file.writelines(ship.content(context.root, entry))
    # Times as in the context: a web server tells them to browsers. From below, since filling a directory changes its
    # time, and its mode may forbid to.
    for entry in reversed(context.entries):
        if entry.kind != "symlink":
            (tree / entry.path).chmod(entry.mode)
            with contextlib.suppress(FileNotFoundError):
                changed = (context.root / entry.path).stat().st_mtime_ns
                os.utime(tree / entry.path, ns=(changed, changed))


async def build(
    *,
    app: str,
    context: Context,
    args: Mapping[str, str],
    platform: str,
    state: Path,
    serving: str,
    say: Callable[[str], None],
    log: Callable[[str], None],
) -> None:
    """Builds the image for the machine's platform; afterwards Docker here has it under `tag`.

    state: the project's `.rehost`. Raises BuildFailed with the failing step.
    """
    local = await asyncio.to_thread(look, serving)
    lines: list[str] = []

    def line(text: str) -> None:
        lines.append(text)
        log(text)
        if step := step_of(text):
            say(step)

    async with laid_out(context, state, say) as root:
        status = await _run(build_command(app, context.digest, args, root=str(root), platform=platform), line)
    if status != 0:
        raise failed(app, lines, WHERE, serving, cure=_cure(lines, local, platform))


def _cure(lines: list[str], local: Local, platform: str) -> str:
    """What mends a failed build. Pure."""
    said = "\n".join(lines)
    if "exec format error" in said and local.platform != platform:
        return (
            f"This computer ({local.platform}) does not run programs for {platform}: install an emulator "
            f"(`docker run --privileged --rm tonistiigi/binfmt --install all`), {_INSTEAD}."
        )
    if "no match for platform" in said or "no matching manifest" in said:
        return f"The image that it builds on is not there for {platform}: take another, or a machine of its kind."
    return CURE


async def _run(command: list[str], on_line: Callable[[str], None]) -> int:
    """Runs a program that ends with us, handing over its output by lines; returns its exit status."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, **_ENVIRONMENT},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    if process.stdout is None:
        raise RuntimeError("a pipe was asked for")
    try:
        ahead = b""
        while data := await process.stdout.read(1 << 16):
            *whole, ahead = (ahead + data).split(b"\n")
            for line in whole:
                on_line(line.decode(errors="replace").rstrip("\r"))
        if ahead:
            on_line(ahead.decode(errors="replace"))
        return await process.wait()
    finally:
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        await process.wait()


@contextlib.asynccontextmanager
async def taken_out(
    app: str, context: str, *, platform: str, state: Path, progress: Callable[[str], None]
) -> AsyncIterator[Saved]:
    """The built image as a file, gone afterwards. Raises RehostError.

    On the disk and not in memory: it may be large, and what is needed of it is known at its end only.
    """
    name = tag(app, context)
    # Without a name: it goes with this process, however that ends.
    with tempfile.TemporaryFile(dir=state / "cache") as file:
        await _save(name, file, progress)
        image = await asyncio.to_thread(saved.read, file)
        if platform and image.platform != platform:
            raise BuildFailed(
                f"the image is for {image.platform}, the machine is {platform}.",
                where=WHERE,
                cure=f"Take out what the Dockerfile says of `--platform`, {_INSTEAD}.",
            )
        yield image


async def _save(name: str, file: IO[bytes], progress: Callable[[str], None]) -> None:
    process = await asyncio.create_subprocess_exec(
        *("docker", "save", name), stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.PIPE
    )
    try:
        said = asyncio.create_task(process.communicate())
        while not said.done():
            await asyncio.wait([said], timeout=0.5)
            progress(f"taking the image out of Docker: {os.fstat(file.fileno()).st_size >> 20} MB")
        _, errors = await said
    finally:
        await _end(process)
    if process.returncode != 0:
        raise RehostError(
            f"Docker did not give the image {name} away.",
            where=WHERE,
            detail=errors.decode(errors="replace").strip()[-2000:],
            cure="Run the same command again; is this computer's disk full?",
        )
