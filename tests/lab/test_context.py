"""What travels is what Docker would send: each case of ignore rules, built by the real Docker on a machine."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from suite import Laptop

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))
from dockerignore_cases import CASES, plant

# One build a case, its files as a tar archive of names; the list of names is all that comes back.
SCRIPT = """
export DOCKER_BUILDKIT=1
cd /tmp/cases
for case in *; do
  echo "case $case"
  docker build -q -f /tmp/Dockerfile --output type=tar,dest=/tmp/out.tar "$case" >/tmp/build.log 2>&1 ||
    sed "s/^/fault /" /tmp/build.log
  tar -tf /tmp/out.tar | sed 's/^/name /'
  rm -f /tmp/out.tar
done
"""


# Debian 12's Docker (20.10) carries an older matcher than today's, whose rules we follow: it takes these otherwise.
OLDER = {
    "a bar without a star is itself",
    "what is special to regular expressions",
    "the same beside a star",
    "everything but a deep pattern",
    "an exception for a parent that was not ignored",
}
# The list comes back by lines; the unit tests have the cases with line breaks in names.
COMPARED = [case for case in CASES if not any("\n" in name for name in case.files) and case.name not in OLDER]


@pytest.fixture(scope="module")
def docker_sends(tiny: Laptop, tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """What the real Docker copies, by number of the case. The trees travel whole, ignore file and all."""
    root = tmp_path_factory.mktemp("cases")
    for number, case in enumerate(COMPARED):
        directory = root / f"{number:03}"
        directory.mkdir()
        plant(directory, case.files)
        (directory / ".dockerignore").write_bytes(case.ignore)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.add(root, "cases")
    unpack = "sudo sh -c 'rm -rf /tmp/cases; tar -xz -C /tmp && printf \"FROM scratch\\nCOPY . /\\n\" >/tmp/Dockerfile'"
    subprocess.run(
        tiny.line("ssh", "--", unpack),
        cwd=tiny.directory,
        env=dict(tiny.environ),
        input=archive.getvalue(),
        check=True,
    )
    found: dict[str, set[str]] = {}
    names: set[str] = set()
    for line in tiny.inside(SCRIPT).splitlines():
        word, _, rest = line.partition(" ")
        if word == "case":
            names = found.setdefault(rest, set())
        elif word == "name" and not rest.endswith("/"):
            names.add(rest.removeprefix("./"))
        elif word == "fault":
            names.add(f"FAULT {rest}")
    return found


def test_the_context_is_exactly_what_docker_copies(docker_sends: dict[str, set[str]]) -> None:
    wrong = []
    for number, case in enumerate(COMPARED):
        theirs, ours = (
            docker_sends[f"{number:03}"] - {".dockerignore"},
            {name.partition(" -> ")[0] for name in case.sent},
        )
        if theirs != ours:
            wrong.append(f"{case.name}: only Docker {sorted(theirs - ours)}, only we {sorted(ours - theirs)}")
    assert len(docker_sends) == len(COMPARED) > 40
    assert wrong == [], "\n".join(wrong)
