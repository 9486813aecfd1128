"""The list of a machine's jobs: its script, run by a real sh where systemd is a stand-in."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from machine_state import APP
from rehost.release import runs

RELEASE = {"settings": {"jobs": {"report": {"command": "python report.py", "schedule": "0 4 * * *"}}}}


@pytest.mark.parametrize(("meanwhile", "running"), [(":", True), ("rm {now}", False), (": >{now}", False)])
def test_a_run_that_ends_while_it_is_listed(tmp_path: Path, meanwhile: str, running: bool) -> None:
    home = tmp_path / APP
    job, now = home / "jobs/report", home / "jobs/report/now"
    for directory in (home / "live", home / "releases/3", job / "runs/7", tmp_path / "bin"):
        directory.mkdir(parents=True)
    (home / "live/a").write_text("3\n")
    (home / "releases/3/release.json").write_text(json.dumps(RELEASE))
    (job / "runs/7/run").write_text("started=1700000000\nby=ada\nrelease=3\n")
    now.write_text("7\n")
    systemctl = tmp_path / "bin/systemctl"
    systemctl.write_text(
        f'#!/bin/sh\ncase $1 in show) {meanwhile.format(now=now)}; echo active ;; *) echo "[]" ;; esac\n'
    )
    systemctl.chmod(0o755)
    script = runs.LIST.format(app=APP, otherwise="exit 0").replace("/var/lib/rehost", str(tmp_path))
    path = f"{systemctl.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-s"], input=script, env={"PATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    (listed,) = runs.parse(APP, done.stdout)
    assert [(run.number, run.by, run.running) for run in listed.runs] == [(7, "ada", running)]
