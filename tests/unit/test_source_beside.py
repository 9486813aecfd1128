"""Workers and cron jobs of a blueprint: what is the app's own code comes along, what is not stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from rehost.project import config
from rehost.source import blueprint, init, init_write
from rehost.source.report import Import

APP = "{type: web, name: api, runtime: docker, repo: r, envVars: [{key: A, value: b}], disk: {mountPath: /data}}"


def imported(other: str) -> Import:
    return blueprint.parse(f"services: [{APP}, {other}]")


def test_a_worker_of_the_same_image_is_a_process() -> None:
    found = imported(
        "{type: worker, name: Mail_Queue, runtime: docker, repo: r, dockerCommand: 'python -m q', "
        "envVars: [{key: A, value: b}, {key: QUEUE, value: c}, {fromGroup: g}]}"
    )
    assert found.settings.processes == {"mail-queue": "python -m q"}
    (told,) = [each.how for each in found.differently if each.field == "services.Mail_Queue"]
    assert "QUEUE it had besides" in told and "must not run on both sides" in told


def test_a_cron_job_of_the_same_image_is_a_job() -> None:
    found = imported(
        "{type: cron, name: n, env: docker, repo: r, schedule: '5 4 * * *', dockerCommand: 'run $X'}"
    )
    assert found.settings.jobs == {"n": ("sh -c 'run $X'", "5 4 * * *")}


@pytest.mark.parametrize(
    "other",
    [
        "{type: worker, name: q, runtime: docker, repo: another, dockerCommand: run}",
        "{type: worker, name: q, runtime: docker, repo: r, dockerfilePath: q.Dockerfile, dockerCommand: run}",
        "{type: worker, name: q, runtime: python, repo: r, startCommand: run}",
        "{type: worker, name: q, runtime: docker, repo: r}",
        "{type: worker, name: web, runtime: docker, repo: r, dockerCommand: run}",
        "{type: cron, name: q, runtime: docker, repo: r, dockerCommand: run, schedule: often}",
        "{type: pserv, name: q, runtime: docker, repo: r, dockerCommand: run}",
    ],
)
def test_anything_else_stays_and_is_listed(other: str) -> None:
    found = imported(other)
    assert (found.settings.processes, found.settings.jobs) == ({}, {})
    assert [each.field for each in found.left if each.field.startswith("services.")] != []


def test_what_init_writes_of_them_loads(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "render.yaml").write_text(
        f"services: [{APP}, {{type: worker, name: q, runtime: docker, repo: r, dockerCommand: 'a \"b c\"'}}, "
        "{type: cron, name: n, runtime: docker, repo: r, schedule: '0 3 * * *', dockerCommand: run}]"
    )
    init_write.write(init.draft(init.find(tmp_path)))
    project = config.load(tmp_path)
    assert (project.processes["q"].command, project.jobs["n"].schedule) == ('a "b c"', "0 3 * * *")
    assert project.run.volumes == ("data:/data",)
