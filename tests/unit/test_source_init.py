"""`rehost init`: what it writes loads again, explains itself, and never overwrites what is there."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rehost.project import dotenv
from rehost.project.config import EXAMPLE, Gce, load, parse
from rehost.project.sizes import MB
from rehost.run.errors import Refused, UsageError
from rehost.run.secret import Secret
from rehost.source.init import draft, find
from rehost.source.init_text import fill
from rehost.source.init_write import Draft, write

REFERENCE = Path(__file__).parents[2] / "examples" / "content-api"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    directory = tmp_path / "My App"
    directory.mkdir()
    return directory


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    directory = tmp_path / "content-api"
    directory.mkdir()
    for name in ("render.yaml", ".env.prod.example", "Dockerfile"):
        shutil.copy(REFERENCE / name, directory / name)
    return directory


def made(directory: Path, service: str | None = None) -> Draft:
    return draft(find(directory), service)


def env(directory: Path, name: str = ".env.prod") -> dict[str, str]:
    return {key: each.value.reveal() for key, each in dotenv.read(directory / name).variables.items()}


def test_the_reference_backend(reference: Path) -> None:
    assert write(made(reference))
    project = load(reference)
    assert isinstance(project.machine, Gce)
    assert (project.app, project.source.blueprint, project.source.url) == ("content-api", "render.yaml", None)
    assert (project.machine.zone, project.machine.type, project.machine.project) == (
        "us-west1-a",
        "e2-micro",
        None,
    )
    assert (project.build.context, project.build.dockerfile) == (".", "Dockerfile")
    assert (project.run.port, project.run.health, project.run.memory) == (8080, "/health", 400 * MB)
    assert (project.run.stop_grace, project.domain.name) == (30, "api.example.com")
    assert (project.run.volumes, project.run.exclusive) == (("uploads:/data",), True)
    assert project.env.files == (".env.prod",)
    assert {"MONGODB_URL", "SECRET_KEY", "ALLOWED_ORIGINS", "STATS_COLLECTION"} <= set(project.env.required)
    assert env(reference)["ALLOWED_ORIGINS"] == "https://www.example.com,https://admin.example.com"
    assert stat.S_IMODE((reference / ".env.prod").stat().st_mode) == 0o600
    assert {"MONGODB_URL", "SECRET_KEY"} <= set(dotenv.read_env(project).missing)


def test_a_second_run_changes_nothing(reference: Path) -> None:
    assert write(made(reference))
    before = {path.name: path.read_bytes() for path in reference.iterdir()}
    assert not write(made(reference))
    assert {path.name: path.read_bytes() for path in reference.iterdir()} == before


def test_a_run_that_died_after_the_env_file_is_finished_by_the_next(reference: Path) -> None:
    first = made(reference)
    dotenv.write(reference / first.env_file, first.additions)
    second = made(reference)
    assert second.text == first.text
    assert write(second)
    assert load(reference).app == "content-api"


def test_another_file_is_refused_before_anything_is_written(reference: Path) -> None:
    (reference / "rehost.toml").write_text("# mine\n")
    with pytest.raises(Refused, match="nothing was written"):
        write(made(reference))
    assert (reference / "rehost.toml").read_text() == "# mine\n"
    assert not (reference / ".env.prod").exists()


def test_an_empty_directory_gives_the_defaults_and_says_what_is_missing(app: Path) -> None:
    found = made(app)
    assert write(found)
    project = load(app)
    smallest = parse('app = "a"\n[machine]\nprovider = "gce"\nzone = "us-west1-a"\n', app)
    assert project == smallest._replace(app="my-app")
    assert any("Dockerfile is not there" in note for note in found.report.notes)
    assert (found.report.carried, found.additions) == ((), {})
    assert not (app / ".env.prod").exists()


def test_an_empty_directory_is_asked_about_and_one_with_a_plain_language_gets_a_dockerfile(app: Path) -> None:
    assert any("nothing here says what the app is" in note for note in made(app).report.notes)
    (app / "go.mod").write_text("module x\n\ngo 1.23\n")
    found = made(app)
    assert found.image is not None and "FROM golang:1.23-bookworm AS build" in found.image.dockerfile
    assert not any("nothing here says" in note for note in found.report.notes)


def test_a_variable_that_is_there_is_never_overwritten_and_the_rest_is_added(app: Path) -> None:
    (app / "render.yaml").write_text(
        "services: [{type: web, name: a, envVars: [{key: A, value: file}, {key: B, value: 'x y'},"
        " {key: C, sync: false}]}]"
    )
    (app / ".env.prod").write_text("# mine\nA=own-hunter2\n")
    found = made(app)
    write(found)
    assert (app / ".env.prod").read_text() == "# mine\nA=own-hunter2\nB='x y'\n"
    notes = "\n".join(found.report.notes)
    assert "A: .env.prod has another value" in notes
    assert ".env.prod still needs: C." in notes
    assert "hunter2" not in f"{notes}{found.text}{found}"
    assert load(app).env.required == ("A", "B", "C")


def test_the_first_env_file_counts_and_the_others_are_named(app: Path) -> None:
    (app / ".env").write_text("A=1\n")
    assert load_made(app).env.files == (".env",)
    (app / ".env.production").write_text("A=1\n")
    assert load_made(app).env.files == (".env.production",)
    assert any(note.startswith("not used: .env.") for note in made(app).report.notes)


def load_made(directory: Path):  # type: ignore[no-untyped-def]
    return parse(made(directory).text, directory)


def test_required_names_come_from_the_example_and_its_values_do_not_travel(app: Path) -> None:
    (app / ".env.example").write_text("OLD=1\n")
    (app / ".env.prod.example").write_text("# x\nA=change-me\nB=\n#C=1\n")
    found = made(app)
    assert parse(found.text, app).env.required == ("A", "B")
    assert "# The names in .env.prod.example." in found.text
    assert not found.additions


@pytest.mark.parametrize(
    ("dockerfile", "variables", "port", "reason"),
    [
        ("FROM a\nEXPOSE 5000\n", "", 5000, "# From EXPOSE in Dockerfile."),
        ("FROM a\nEXPOSE 5000 6000\n", "PORT=6000", 6000, "# From EXPOSE in Dockerfile."),
        ("FROM a\nEXPOSE 5000\n", "PORT=10000", 5000, "# From EXPOSE in Dockerfile."),
        ("FROM a\n", "PORT=10000", 10000, "# From the variable PORT."),
        ("FROM a\n", "PORT=x", 8080, "# Neither EXPOSE nor PORT"),
        (None, "", 8080, "# Neither EXPOSE nor PORT"),
    ],
)
def test_the_port(app: Path, dockerfile: str | None, variables: str, port: int, reason: str) -> None:
    if dockerfile is not None:
        (app / "Dockerfile").write_text(dockerfile)
    (app / ".env.prod").write_text(variables)
    found = made(app)
    assert parse(found.text, app).run.port == port
    assert f"{reason}" in found.text
    differ = any("the variable PORT says 10000" in note for note in found.report.notes)
    assert differ == (port == 5000 and variables == "PORT=10000")


@pytest.mark.parametrize(
    ("service", "files", "context", "dockerfile"),
    [
        ("rootDir: back", ["back/Dockerfile"], "back", "back/Dockerfile"),
        ("rootDir: back, dockerfilePath: ./d/Dockerfile", ["back/d/Dockerfile"], "back", "back/d/Dockerfile"),
        ("rootDir: back, dockerfilePath: back/Dockerfile", ["back/Dockerfile"], "back", "back/Dockerfile"),
        ("dockerfilePath: /d/Dockerfile, dockerContext: ./d", ["d/Dockerfile"], "d", "d/Dockerfile"),
        ("plan: free", ["Dockerfile.prod"], ".", "Dockerfile.prod"),
        ("dockerfilePath: none/Dockerfile", ["Dockerfile"], ".", "none/Dockerfile"),
    ],
)
def test_where_the_dockerfile_lies(
    app: Path, service: str, files: list[str], context: str, dockerfile: str
) -> None:
    (app / "render.yaml").write_text(f"services: [{{type: web, name: a, {service}}}]")
    for name in files:
        (app / name).parent.mkdir(parents=True, exist_ok=True)
        (app / name).write_text("FROM a\n")
    build = parse(made(app).text, app).build
    assert (build.context, build.dockerfile) == (context, dockerfile)


def test_a_prebuilt_image_stands_alone_under_build(app: Path) -> None:
    (app / "render.yaml").write_text(
        "services: [{type: web, name: a, runtime: image, dockerCommand: x, image: {url: 'ghcr.io/me/a:1.2', creds:"
        " {fromRegistryCreds: {name: hub}}}}]"
    )
    found = made(app)
    assert write(found)
    build = load(app).build
    assert (build.image, build.context, build.on) == ("ghcr.io/me/a:1.2", ".", "machine")
    assert not any("Dockerfile is not there" in note for note in found.report.notes)
    assert [each.field for each in found.report.left] == ["service.dockerCommand", "service.image.creds"]
    assert "docker login ghcr.io" in found.report.left[1].todo


def test_an_image_that_render_does_not_look_at_is_not_taken(app: Path) -> None:
    service = "type: web, name: a, image: {url: 'ghcr.io/me/a:1.2'}, runtime: docker"
    (app / "render.yaml").write_text(f"services: [{{{service}}}]")
    found = made(app)
    assert parse(found.text, app).build.image is None
    assert [each.field for each in found.report.left] == ["service.image"]
    (app / "render.yaml").write_text(
        "services: [{type: web, name: a, runtime: image, image: {url: No Name}}]"
    )
    assert any("the name of its image is not known" in note for note in made(app).report.notes)


def test_a_service_is_chosen_by_name(app: Path) -> None:
    (app / "render.yml").write_text("services: [{type: web, name: a}, {type: web, name: b}]")
    with pytest.raises(UsageError, match="--service"):
        made(app)
    assert parse(made(app, "b").text, app).app == "b"
    (app / "render.yml").unlink()
    with pytest.raises(UsageError, match="no blueprint"):
        made(app, "b")


def test_an_env_file_that_git_does_not_ignore_is_said(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(app))
    subprocess.run(["git", "init", "-q", str(app)], check=True)
    assert any("add it to .gitignore" in note for note in made(app).report.notes)
    (app / ".gitignore").write_text(".env*\n")
    assert not any("add it to .gitignore" in note for note in made(app).report.notes)


def test_a_bad_env_line_is_named(app: Path) -> None:
    (app / ".env.prod").write_text("A=1\nhunter2\n")
    with pytest.raises(UsageError, match=r"^\.env\.prod:2: "):
        made(app)


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such directory"):
        find(tmp_path / "none")


def test_a_directory_that_cannot_be_written_is_no_traceback(app: Path) -> None:
    found = made(app)
    app.rmdir()
    with pytest.raises(UsageError, match="cannot be written"):
        write(found)


def test_every_line_of_the_example_stays_or_is_a_key(reference: Path) -> None:
    """Comments are kept: what is not a value of the example stands in the file word for word."""
    text = made(reference).text
    for line in EXAMPLE.read_text().splitlines():
        if line.startswith(("# ", "[", "#[")):
            # What an app may have beside its web process is shown, and not taken.
            shown = line.startswith("[") and ("." in line or line == "[moves]")
            assert (f"#{line}" if shown else line) in text.splitlines()
    assert "#url = " in text
    assert "#args = " in text


@settings(deadline=None)
@given(st.text(), st.lists(st.text(), max_size=3), st.integers())
def test_whatever_is_filled_in_is_toml(text: str, several: list[str], number: int) -> None:
    import tomllib

    example = '# c\nkey = "a" # gone\n[t]\nlist = []\nnumber = 1\nkept = 2\nout = 3\n'
    filled = fill(
        example,
        {("", "key"): text, ("t", "list"): several, ("t", "number"): number, ("t", "out"): None},
        {("t", "list"): "why"},
    )
    assert tomllib.loads(filled) == {"key": text, "t": {"list": several, "number": number, "kept": 2}}
    assert "# why\nlist" in filled
    assert "\n#out = 3\n" in filled


def test_a_draft_shows_no_value() -> None:
    assert "hunter2" not in repr(
        Draft(Path(), "", made(Path(__file__).parent).report, "e", {"A": Secret("hunter2")})
    )
