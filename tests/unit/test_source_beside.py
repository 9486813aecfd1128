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
        "envVars: [{key: A, value: other}, {key: QUEUE, value: c}, {key: K, sync: false}, {fromGroup: g}]}"
    )
    assert found.settings.processes == {"mail-queue": "python -m q"}
    (told,) = [each.how for each in found.differently if each.field == "services.Mail_Queue"]
    for part in ("A had another value there", "QUEUE of its own", "K it had besides", "it linked g"):
        assert part in told
    assert "must not run on both sides" in told and "other" not in told.replace("another", "")
    # What it needs is given to the one environment that both have.
    assert {key: value.reveal() for key, value in found.settings.variables.items()} == {
        "A": "b",
        "QUEUE": "c",
    }
    assert found.settings.required == ("A", "QUEUE")


def test_a_native_worker_with_a_build_of_its_own_is_a_process_of_the_apps_image() -> None:
    both = "runtime: python, repo: r, buildCommand: pip install ., startCommand"
    text = f"services: [{{type: web, name: a, {both}: serve}}, {{type: worker, name: q, {both}: work}}]"
    assert "buildCommand" not in str(blueprint.parse(text).differently)
    found = blueprint.parse(text.replace("pip install .", "make", 1))
    assert found.settings.processes == {"q": "work"}
    assert "its buildCommand is another one" in str(found.differently)


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
