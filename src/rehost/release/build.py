"""Building the image on the machine, as a unit that goes on when the connection breaks."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from rehost.machine import units
from rehost.machine.ssh import Machine
from rehost.release.history import holder
from rehost.run.errors import RehostError

# BuildKit's plain progress: "#7 [build 3/5] RUN pip install ..." names a step, "#7 ERROR: ..." its failure.
_STEP: Final = re.compile(r"#(\d+) (\[.+)")
_ERROR: Final = re.compile(r"#(\d+) ERROR: (.*)")
LAST_LINES: Final = 25
CURE: Final = "Mend the Dockerfile or what it copies, then run `rehost up` again."
# A program that SIGKILL ended (128 + 9), as the shell of a RUN reports it.
_KILLED: Final = "exit code: 137"
_LESS_MEMORY: Final = (
    "Let the build need less memory, give the machine a larger `type`, or build on this computer "
    '(`on = "here"` under [build] in rehost.toml); then run `rehost up` again.'
)
_OTHER_FILES: Final = 72
_NO_MEMORY: Final = 73
_IMAGE: Final = "@image "
_MEMORY: Final = "@memory "


class BuildFailed(RehostError):
    """The image could not be built; what served before still does."""


def tag(app: str, context: str) -> str:
    """The image's name on the machine. context: the digest of what it is built from."""
    return f"rehost/{app}:{context.removeprefix('sha256:')[:12]}"


def root_of(app: str) -> str:
    """Where the build context lies on the machine."""
    return f"/var/lib/rehost/{app}/context"


def build_command(
    app: str,
    context: str,
    args: Mapping[str, str],
    *,
    root: str,
    platform: str = "",
    id_file: str = "",
) -> list[str]:
    """`docker build` of what lies in `root` as ship leaves it. Build arguments are never secret: they stay
    readable in the image (docs say so).
    """
    return [
        *("docker", "build", "--progress=plain"),
        *([f"--platform={platform}"] if platform else []),
        f"--label=rehost.app={app}",
        f"--label=rehost.context={context}",
        f"--tag={tag(app, context)}",
        *([f"--iidfile={id_file}"] if id_file else []),
        *(f"--build-arg={name}={value}" for name, value in sorted(args.items())),
        f"--file={root}/Dockerfile",
        f"{root}/tree",
    ]


def build_script(app: str, context: str, args: Mapping[str, str], fingerprint: str, by: str = "") -> str:
    """The build itself. by: who builds; its log begins with that, for whoever follows it. fingerprint: of what was
    shipped.
    """
    root, id_file = root_of(app), f"/var/lib/rehost/{app}/build/image"
    values = {
        "BY": by,
        "ROOT": root,
        "SHIPPED": fingerprint,
        "ID_FILE": id_file,
        "OTHER_FILES": _OTHER_FILES,
        "NO_MEMORY": _NO_MEMORY,
    }
    head = "".join(f"{name}={shlex.quote(str(value))}\n" for name, value in values.items())
    command = build_command(app, context, args, root=root, id_file=id_file)
    return f"{head}set -- {shlex.join(command)}\n" + Path(__file__).with_name("build.sh").read_text()


def step_of(line: str) -> str:
    """The step that a line of the log names, as the Dockerfile has it, or ""."""
    step = _STEP.match(line)
    return step[2] if step else ""


def failed(app: str, lines: Sequence[str], where: str, serving: str, cure: str) -> BuildFailed:
    """The error for a build that ended with this log."""
    step = failing_step(lines)
    return BuildFailed(
        f"the image of {app} could not be built" + (f"; the failing step is {step}" if step else "."),
        where=where,
        serving=serving,
        detail="\n".join(lines[-LAST_LINES:]),
        cure=cure,
    )


def failing_step(lines: Sequence[str]) -> str:
    """The step that failed, as the Dockerfile has it, or "" when the log does not say."""
    steps: dict[str, str] = {}
    failed = ""
    for line in lines:
        if error := _ERROR.match(line):
            failed = error[1]
        elif step := _STEP.match(line):
            steps.setdefault(step[1], step[2])
    return steps.get(failed, "")


async def build(
    machine: Machine,
    *,
    app: str,
    context: str,
    fingerprint: str,
    args: Mapping[str, str],
    serving: str,
    say: Callable[[str], None],
    log: Callable[[str], None],
    note: Callable[[str], None],
    by: str = "",
) -> str:
    """Builds, or attaches to the same build that runs already; returns the image's id.

    Raises BuildFailed with the failing step.

    fingerprint: of the shipped files (ship.fingerprint).
    """
    work = units.Work(
        unit=f"rehost-{app}-build.service",
        directory=f"/var/lib/rehost/{app}/build",
        about=f"rehost: build the image of {app}",
        tag=context,
        script=build_script(app, context, args, fingerprint, by),
    )

    following: list[str] = []

    def attached(running: str) -> None:
        following.append(running)
        note(f"{'this' if running == context else 'another'} build runs on the machine already; following it")

    while True:
        following.clear()
        lines: list[str] = []

        def line(text: str, lines: list[str] = lines) -> None:
            if text.startswith("@by "):
                if following and (said := holder(text)):
                    note(f"the build is {said}")
                return
            lines.append(text)
            if text.startswith((_IMAGE, _MEMORY)):
                return
            log(text)
            if step := step_of(text):
                say(step)

        ended = await units.run_unit(machine, work, line, attached)
        if ended.attached_tag in (None, context):
            break
        note("the other build has ended; now this one")
    if ended.status == _OTHER_FILES:
        raise BuildFailed(
            "somebody else has sent other files to be built at the same time.",
            where=machine.label,
            serving=serving,
            cure="Agree on who goes first, then run `rehost up` again.",
        )
    if ended.full:
        raise BuildFailed(
            f"the image of {app} could not be built: {units.DISK_FULL}",
            where=machine.label,
            serving=serving,
            detail="\n".join(lines[-LAST_LINES:]),
            cure=units.MORE_DISK,
        )
    if ended.status == _NO_MEMORY:
        left = next((text[len(_MEMORY) :] for text in lines if text.startswith(_MEMORY)), "too few")
        raise BuildFailed(
            f"the build of {app} was stopped: it left the machine {left} MB of memory and swap, and would have taken "
            "the app down with it.",
            where=machine.label,
            serving=serving,
            detail="\n".join([text for text in lines if not text.startswith(_MEMORY)][-LAST_LINES:]),
            cure=_LESS_MEMORY,
        )
    if ended.status != 0:
        killed = any(_ERROR.match(text) and text.endswith(_KILLED) for text in lines)
        cure = f"It was killed: most likely memory ran out. {_LESS_MEMORY}" if killed else CURE
        raise failed(app, lines, machine.label, serving, cure)
    image = next((text[len(_IMAGE) :] for text in reversed(lines) if text.startswith(_IMAGE)), "")
    if not image.startswith("sha256:"):
        raise BuildFailed(
            "Docker said that the build succeeded, and named no image.",
            where=machine.label,
            serving=serving,
            detail="\n".join(lines[-LAST_LINES:]),
            cure="Run `rehost up` again.",
        )
    return image
