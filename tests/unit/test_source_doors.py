"""Heroku, Fly and compose files: what becomes of them, that no leaf is lost, and which file counts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from rehost.cli.main import root
from rehost.project import config, dotenv
from rehost.run.errors import UsageError
from rehost.source import commands, compose, doors, fly, heroku, init, init_write, rooms
from rehost.source.leaves import leaves, plain
from rehost.source.report import Import

APP_JSON = """{
  "name": "Shop API", "description": "sells", "stack": "heroku-24", "keywords": ["a", "b"],
  "env": {
    "MODE": "live",
    "SECRET_KEY": {"description": "signs", "generator": "secret"},
    "STRIPE_KEY": {"description": "pays", "required": true},
    "OPTIONAL": {"required": false},
    "WORKERS": {"value": "2"},
    "bad name": "x"
  },
  "formation": {"web": {"quantity": 2, "size": "standard-2x"}, "worker": {"quantity": 1}},
  "addons": ["heroku-postgresql:essential-0", {"plan": "heroku-redis", "as": "CACHE"}],
  "buildpacks": [{"url": "heroku/python"}],
  "scripts": {"postdeploy": "python seed.py", "other": "x"},
  "environments": {"test": {"scripts": {"test": "pytest"}}},
  "unheard": {"of": [1, {"deep": null}]}
}"""
PROCFILE = """# comment
web: gunicorn shop:app --bind 0.0.0.0:$PORT
worker: celery -A shop worker
Clock_1: python clock.py && true
release: python manage.py migrate
what is this
"""
FLY = """
app = "shop"
primary_region = "fra"
kill_timeout = "1m30s"
kill_signal = "SIGINT"
unheard = [[1, 2], {of = 1}]
[build]
dockerfile = "deploy/Dockerfile"
build-target = "prod"
[build.args]
VERSION = "1"
[deploy]
release_command = "bin/migrate"
strategy = "rolling"
[env]
PORT = "8000"
LEVEL = 3
[processes]
app = "bin/serve"
worker = "bin/work --queue=mail"
[http_service]
internal_port = 8000
force_https = true
min_machines_running = 0
processes = ["app"]
[[http_service.checks]]
path = "/healthz"
interval = "10s"
grace_period = "5s"
[[mounts]]
source = "shop_data"
destination = "/data"
initial_size = "25gb"
[[mounts]]
source = "logs"
destination = "/var/log/shop/"
initial_size = "3gb"
[[mounts]]
source = "Shop Data"
destination = "/again"
[[vm]]
memory = "1gb"
[[services]]
internal_port = 25
"""
COMPOSE = """
name: shop
version: "3.9"
x-common: &common
  restart: unless-stopped
services:
  web:
    <<: *common
    build: {context: ., dockerfile: deploy/Dockerfile, args: {VERSION: "1", TOKEN: "${TOKEN}"}}
    command: gunicorn --reload shop:app
    ports: ["127.0.0.1:8000:80/tcp"]
    environment:
      LEVEL: info
      SECRET_KEY:
      URL: "postgres://u:${DB_PASSWORD}@db/x"
      DEFAULTED: "${REGION:-eu}"
      LITERAL: "a$$b"
    env_file: [.env.web, {path: ../other.env}]
    volumes: ["data:/data", "./src:/app", "more:/more", "/anonymous"]
    healthcheck: {test: [CMD, curl, -f, "http://localhost:80/healthz"], interval: 5s}
    deploy: {resources: {limits: {memory: 512M, cpus: "0.5"}}, replicas: 2}
    stop_grace_period: 1m
    depends_on: [db]
    unheard: {of: [1]}
  worker:
    build: {context: ., dockerfile: deploy/Dockerfile, args: {VERSION: "1", TOKEN: "${TOKEN}"}}
    command: [celery, -A, "shop app"]
    environment: [LEVEL=info, QUEUE=mail]
  db:
    image: postgres:16
    volumes: ["pg:/var/lib/postgresql/data"]
volumes: {data: {}, pg: {}, more: {}}
"""


def lists(found: Import) -> dict[str, str]:
    pairs = (("carried", found.carried), ("differently", found.differently), ("left", found.left))
    told = [(each[0], name) for name, several in pairs for each in several]
    assert len(told) == len(dict(told)), "a field is told of twice"
    return dict(told)


def lost(document: object, found: Import) -> list[str]:
    """Leaves of which nothing tells: neither they nor what they are part of."""
    told = lists(found)
    names = [".".join(map(str, leaf)) for leaf in leaves(plain(document))]
    return [name for name in names if not any(name == each or name.startswith(f"{each}.") for each in told)]


def written(text: str, file: str, directory: Path) -> Path:
    (directory / file).write_text(text)
    return directory


# -- Heroku ------------------------------------------------------------------------------------------------


def test_heroku(tmp_path: Path) -> None:
    written(APP_JSON, "app.json", written(PROCFILE, "Procfile", tmp_path))
    (tmp_path / "requirements.txt").write_text("gunicorn\n")
    found = heroku.read(tmp_path)
    settings = found.settings
    assert (settings.app, settings.runtime, settings.machine, settings.memory) == (
        "shop-api",
        "python",
        "e2-small",
        "1GB",
    )
    assert settings.start_command == "gunicorn shop:app --bind 0.0.0.0:$PORT"
    assert settings.before_release == "python manage.py migrate"
    assert settings.processes == {
        "worker": "celery -A shop worker",
        "clock-1": "sh -c 'python clock.py && true'",
    }
    assert {key: value.reveal() for key, value in settings.variables.items()} == {
        "MODE": "live",
        "WORKERS": "2",
    }
    assert settings.required == ("MODE", "SECRET_KEY", "STRIPE_KEY", "WORKERS")
    told = lists(found)
    assert lost(json.loads(APP_JSON), found) == []
    assert told["env.STRIPE_KEY"] == told["Procfile.worker"] == told["Procfile.release"] == "differently"
    assert (
        told["env.bad name"]
        == told["addons.0"]
        == told["Procfile.what is this"]
        == told["scripts.other"]
        == "left"
    )
    assert "unheard.of.1.deep" in told


def test_heroku_with_its_own_dockerfile(tmp_path: Path) -> None:
    text = (
        "build: {docker: {web: deploy/Dockerfile, worker: w.Dockerfile}, config: {A: b}}\n"
        "run: {web: serve, worker: {command: [python w.py], image: web}}\n"
        "release: {image: web, command: [./one.sh a, ./two.sh]}\nsetup: {addons: [{plan: x}], config: {B: c}}\n"
    )
    written(text, "heroku.yml", written(PROCFILE, "Procfile", tmp_path))
    found = heroku.read(tmp_path)
    assert (found.settings.dockerfile, found.settings.runtime) == ("deploy/Dockerfile", None)
    assert found.settings.processes == {"worker": "python w.py"}
    assert found.settings.before_release == "sh -c './one.sh a && ./two.sh'"
    assert lists(found)["Procfile.worker"] == "left"
    assert lost({"heroku.yml": yaml.safe_load(text)}, found) == []


def test_the_values_of_config_vars_come_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(APP_JSON, "app.json", written(PROCFILE, "Procfile", tmp_path))
    (tmp_path / "requirements.txt").write_text("gunicorn\n")
    values = {
        "SECRET_KEY": "hunter2 hunter2",
        "MODE": "live too",
        "DATABASE_URL": "postgres://u:hunter2@db.example/x",
    }
    (tmp_path / "config.json").write_text(json.dumps(values))
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(root, ["init", "--config-vars", "config.json"])
    assert done.exit_code == 0, done.output
    assert "hunter2" not in done.output
    project = config.load(tmp_path)
    got = {key: each.value.reveal() for key, each in dotenv.read(tmp_path / ".env.prod").variables.items()}
    assert got == {**values, "WORKERS": "2"}
    assert set(project.env.required) == {"MODE", "SECRET_KEY", "STRIPE_KEY", "WORKERS", "DATABASE_URL"}
    assert project.run.before_release == ("python", "manage.py", "migrate")
    assert sorted(project.processes) == ["clock-1", "worker"]
    assert ".env.prod still needs: STRIPE_KEY." in done.output
    assert "gunicorn" in (tmp_path / "Dockerfile").read_text()


@pytest.mark.parametrize("text", ["{", "[]", '{"env": {"A": "hunter2" "B"}}', "[" * 100000])
def test_a_broken_app_json_is_told_without_its_values(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError) as wrong:
        heroku.read(written(text, "app.json", tmp_path))
    assert "hunter2" not in str(wrong.value)


# -- Fly ---------------------------------------------------------------------------------------------------


def test_fly() -> None:
    import tomllib

    found = fly.parse(FLY)
    settings = found.settings
    assert (settings.app, settings.url, settings.zone) == ("shop", "https://shop.fly.dev", "europe-west3-a")
    assert (settings.port, settings.health, settings.stop_grace) == (8000, "/healthz", "90s")
    assert (settings.machine, settings.memory, settings.disk_gb) == ("e2-small", "1GB", 28)
    assert settings.volumes == ("shop-data:/data", "logs:/var/log/shop")
    assert (settings.before_release, settings.processes) == (
        "bin/migrate",
        {"worker": "bin/work --queue=mail"},
    )
    assert (settings.dockerfile, settings.args) == ("deploy/Dockerfile", {"VERSION": "1"})
    assert {key: value.reveal() for key, value in settings.variables.items()} == {
        "PORT": "8000",
        "LEVEL": "3",
    }
    told = lists(found)
    assert lost(tomllib.loads(FLY), found) == []
    assert (
        told["processes.app"]
        == told["services.0"]
        == told["unheard.0.0"]
        == told["build.build-target"]
        == "left"
    )


def test_a_broken_fly_toml_names_its_line() -> None:
    with pytest.raises(UsageError) as wrong:
        fly.parse('app = "a"\nhunter2')
    assert (wrong.value.where, "hunter2" in str(wrong.value)) == ("fly.toml:2", False)


# -- compose -----------------------------------------------------------------------------------------------


def test_compose() -> None:
    found = compose.parse(COMPOSE)
    settings = found.settings
    assert (settings.app, settings.context, settings.dockerfile) == ("shop", ".", "deploy/Dockerfile")
    assert (settings.port, settings.health, settings.memory, settings.stop_grace) == (
        80,
        "/healthz",
        "512MB",
        "1m",
    )
    assert (settings.volumes, settings.env_files) == (("data:/data", "more:/more"), (".env.web",))
    assert (settings.args, settings.processes) == ({"VERSION": "1"}, {"worker": "celery -A 'shop app'"})
    assert {key: value.reveal() for key, value in settings.variables.items()} == {
        "LEVEL": "info",
        "DEFAULTED": "eu",
        "LITERAL": "a$b",
    }
    assert settings.required == ("LEVEL", "SECRET_KEY", "URL", "DEFAULTED", "LITERAL")
    told = lists(found)
    assert lost(yaml.safe_load(COMPOSE), found) == []
    assert told["services.worker"] == told["services.web.environment.URL"] == "differently"
    assert told["services.db"] == "differently"
    assert told["services.web.command"] == told["services.web.unheard.of.0"] == "left"
    assert settings.services == {"db": {"image": "postgres:16", "volumes": ["pg:/var/lib/postgresql/data"]}}
    (worker,) = [each.how for each in found.differently if each.field == "services.worker"]
    assert "QUEUE it had besides" in worker and "LEVEL" not in worker


def test_what_fly_launch_writes_of_nothing_is_nothing_to_do() -> None:
    found = fly.parse(
        'app = "a"\n[build]\n[http_service]\nprocesses = ["app"]\n[[http_service.checks]]\npath = "/up"\n'
        'method = "GET"\ninterval = "9s"\n'
    )
    why = {each.field: each.why for each in found.left}
    assert why["build"] == "It is empty."
    assert why["http_service.checks.0.method"] == "rehost asks with GET."
    assert "half second" in why["http_service.checks.0.interval"]
    assert not [each for each in found.left if each.todo]


def test_fly_pulls_an_image_that_it_names(tmp_path: Path) -> None:
    found = fly.parse(
        'app = "a"\n[build]\nimage = "ghcr.io/me/a:1"\ndockerfile = "D"\n[build.args]\nA = "1"\n'
    )
    assert (found.settings.image, found.settings.dockerfile) == ("ghcr.io/me/a:1", None)
    assert lists(found)["build.image"] == "differently" and lists(found)["build.dockerfile"] == "left"
    wrong = fly.parse('app = "a"\n[build]\nimage = "No Image"\n')
    assert (wrong.settings.image, lists(wrong)["build.image"]) == (None, "left")


def test_compose_does_not_guess_which_service_moves() -> None:
    two = "services: {a: {build: ., ports: ['80']}, b: {build: b, ports: ['81']}, c: {image: redis}}"
    with pytest.raises(UsageError, match="2 of its services are built here") as unclear:
        compose.parse(two)
    assert "a, b, c" in unclear.value.cure
    assert compose.parse(two, "b").settings.context == "b"
    with pytest.raises(UsageError, match='no service "d"'):
        compose.parse(two, "d")
    with pytest.raises(UsageError, match="none of its services"):
        compose.parse("services: {c: {image: redis, ports: ['6379']}}")
    assert compose.parse(
        "services: {c: {image: 'me/app:1', ports: ['80']}, d: {image: redis}}"
    ).settings.image


# -- no leaf is lost, whatever stands there ------------------------------------------------------------------

_TEXTS = st.text(st.characters(codec="ascii", categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=6)
_SCALARS = st.one_of(
    _TEXTS, st.integers(-5, 70000), st.booleans(), st.sampled_from(["", "${A}", "1gb", "30s"])
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_TEXTS, inner, max_size=3)),
    max_leaves=5,
)


def _tables(*known: str) -> st.SearchStrategy[dict[str, object]]:
    """Mappings with keys that mean something, and values that may or may not fit."""
    return st.dictionaries(st.sampled_from(known), _VALUES, max_size=6)


_FLY = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("app", "primary_region", "kill_timeout", "experimental", "other"), _VALUES),
        "build": _tables("dockerfile", "image", "args", "builder", "more"),
        "env": _VALUES,
        "processes": _tables("app", "web", "worker"),
        "http_service": _tables("internal_port", "checks", "concurrency", "force_https", "more"),
        "services": st.lists(_tables("internal_port", "http_checks", "tcp_checks", "ports"), max_size=2),
        "mounts": st.one_of(
            _tables("source", "destination"), st.lists(_tables("source", "destination", "initial_size"))
        ),
        "vm": st.lists(_tables("size", "memory", "cpus"), max_size=2),
        "checks": st.dictionaries(st.sampled_from(["a", "b"]), _tables("path", "port", "type")),
        "deploy": _tables("release_command", "strategy", "more"),
    },
)
_HEROKU = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("name", "description", "addons", "buildpacks", "other"), _VALUES),
        "env": st.one_of(
            _VALUES,
            st.dictionaries(
                st.sampled_from(["A", "B", "no name"]), _tables("value", "required", "generator")
            ),
        ),
        "formation": st.dictionaries(st.sampled_from(["web", "worker"]), _tables("quantity", "size", "more")),
        "scripts": _tables("postdeploy", "test", "more"),
    },
)
_SERVICE = _tables(
    *(
        "environment",
        "env_file",
        "ports",
        "expose",
        "volumes",
        "healthcheck",
        "deploy",
        "command",
        "restart",
        "more",
    ),
    *("mem_limit", "stop_grace_period", "image", "secrets"),
)
_COMPOSE = st.fixed_dictionaries(
    {
        "services": st.fixed_dictionaries(
            {"app": _SERVICE.map(lambda one: {**one, "build": "."})},
            optional={"b": _SERVICE, "c": _SERVICE.map(lambda one: {**one, "build": "."}), "d": _VALUES},
        )
    },
    optional={"name": _VALUES, "volumes": _VALUES, "x-more": _VALUES, "other": _VALUES},
)


@given(_FLY)
def test_fly_loses_nothing(document: dict[str, object]) -> None:
    import tomlkit

    text = tomlkit.dumps(_toml_able(document))
    assert lost(_toml_able(document), fly.parse(text)) == []


def _toml_able(value: object) -> dict[str, object]:
    """Without what TOML has no word for: characters that it refuses in keys of tomlkit's making."""
    made: dict[str, object] = json.loads(json.dumps(value, ensure_ascii=True))
    return made


@given(_HEROKU)
def test_heroku_loses_nothing(tmp_path_factory: pytest.TempPathFactory, document: dict[str, object]) -> None:
    directory = tmp_path_factory.mktemp("app")
    (directory / "app.json").write_text(json.dumps(document))
    assert lost(document, heroku.read(directory)) == []


@given(_COMPOSE)
def test_compose_loses_nothing(document: dict[str, object]) -> None:
    found = compose.parse(json.dumps(document, ensure_ascii=False), "app")  # JSON is YAML
    assert lost(document, found) == []


# -- which file counts ---------------------------------------------------------------------------------------


@pytest.fixture
def several(tmp_path: Path) -> Iterator[Path]:
    written(FLY, "fly.toml", written(PROCFILE, "Procfile", written(COMPOSE, "docker-compose.yml", tmp_path)))
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "Dockerfile").write_text("FROM scratch\nEXPOSE 8000\n")
    yield tmp_path


def test_the_first_of_them_counts_and_the_others_are_named(several: Path) -> None:
    assert init.find(several).door == doors.Door("fly.toml", ("Procfile", "docker-compose.yml"))
    made = init.draft(init.find(several))
    assert any("Procfile, docker-compose.yml: there too" in note for note in made.report.notes)
    init_write.write(made)
    project = config.load(several)
    volumes = ("shop-data:/data", "logs:/var/log/shop")
    assert (project.app, project.run.port, project.run.volumes) == ("shop", 8000, volumes)
    assert project.run.exclusive
    assert list(project.processes) == ["worker"]
    assert project.build.args == {"VERSION": "1"}
    assert "# From fly.toml.\nport" not in made.text and "#[processes.worker]" in made.text


def test_herokus_files_are_read_together(tmp_path: Path) -> None:
    written(APP_JSON, "app.json", written(PROCFILE, "Procfile", written(COMPOSE, "compose.yaml", tmp_path)))
    assert doors.find(tmp_path) == doors.Door("app.json", ("compose.yaml",))


def test_another_one_is_chosen(several: Path) -> None:
    made = init.draft(init.find(several, "docker-compose.yml"))
    project = config.parse(made.text, several)
    assert (project.run.health, project.env.files, project.run.before_release) == (
        "/healthz",
        (".env.web",),
        (),
    )
    assert made.env_file == ".env.web"
    for wrong in ("none.toml", "Dockerfile"):
        with pytest.raises(UsageError):
            init.find(several, wrong)
    with pytest.raises(UsageError, match="--service names one of several"):
        init.draft(init.find(several, "fly.toml"), "web")


def test_a_compose_file_that_nobody_asked_for_is_no_hindrance(tmp_path: Path) -> None:
    written("services: {db: {image: postgres}}", "docker-compose.yml", tmp_path)
    made = init.draft(init.find(tmp_path))
    assert any(note.startswith("docker-compose.yml was not read: none of its") for note in made.report.notes)
    with pytest.raises(UsageError):
        init.draft(init.find(tmp_path, "docker-compose.yml"))


def test_expos_app_json_is_not_herokus(tmp_path: Path) -> None:
    assert doors.find(written('{"expo": {"name": "x"}}', "app.json", tmp_path)) == doors.Door("")


# -- commands and sizes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "made"),
    [
        ("python -m app.worker", "python -m app.worker"),
        ("node 'a b.js'", "node 'a b.js'"),
        ("A=1 run", "sh -c 'A=1 run'"),
        ("run $X", "sh -c 'run $X'"),
        ("it's", "sh -c 'it'\"'\"'s'"),
    ],
)
def test_what_needs_a_shell_gets_one(line: str, made: str) -> None:
    assert commands.command(line) == made


def test_sizes_and_times_of_other_platforms() -> None:
    assert [rooms.megabytes(each) for each in ("512", "512mb", "1gb", "0.5G", "256MiB", "x", "0")] == [
        *(512, 512, 1024, 512, 256, None, None)
    ]
    assert [rooms.seconds(each) for each in ("30", "30s", "1m30s", "500ms", "", "soon")] == [
        30,
        30,
        90,
        1,
        None,
        None,
    ]
    assert (rooms.room(256), rooms.room(99999)) == (rooms.room(512), None)
