"""Dockerfiles for apps that had none: held by the parser, by shellcheck, and by sample apps of each runtime."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehost.project import dockerfile
from rehost.run.errors import UsageError
from rehost.source import native, native_commands
from rehost.source.native import Draft, Service

PACKAGE = {
    "name": "shop",
    "engines": {"node": ">=18 <21"},
    "scripts": {"start": "node dist/server.js", "build": "tsc"},
    "devDependencies": {"typescript": "5"},
}
DJANGO = "#!/usr/bin/env bash\n# Render's own guide has one like it\nset -o errexit\npip install -r requirements.txt\n"

# Each: the service, its files, lines that must stand in the draft in this order, and the image at the end.
SAMPLES: dict[str, tuple[Service, Mapping[str, str], list[str], str]] = {
    "python": (
        Service(
            "python", "pip install -r requirements.txt", "uvicorn app.main:app --host 0.0.0.0 --port $PORT"
        ),
        {"requirements.txt": "fastapi\nuvicorn\n", ".python-version": "3.11.9\n", "app/main.py": ""},
        [
            "# Python 3.11: from .python-version.",
            "FROM python:3.11-slim-bookworm AS build",
            "COPY requirements.txt ./",
            "RUN pip install -r requirements.txt",
            "COPY --from=build /opt/venv /opt/venv",
            "COPY . .",
            "USER 10001:10001",
            'CMD ["sh", "-c", "exec uvicorn app.main:app --host 0.0.0.0 --port $PORT"]',
        ],
        "python:3.11-slim-bookworm",
    ),
    "django": (
        Service(
            "python", "./build.sh", "gunicorn shop.wsgi:application", variables={"PYTHON_VERSION": "3.12.3"}
        ),
        {
            "build.sh": f"{DJANGO}python manage.py collectstatic --no-input\npython manage.py migrate\n",
            "requirements.txt": "Django==5.0\npsycopg2==2.9\n",
            "manage.py": "",
            "shop/settings.py": "DEBUG = 'RENDER' not in os.environ\n",
        },
        [
            "FROM python:3.12-slim-bookworm AS build",
            "    && apt-get install -y --no-install-recommends build-essential libpq-dev \\",
            "COPY requirements.txt ./",
            "RUN pip install -r requirements.txt",
            "FROM python:3.12-slim-bookworm",
            "    && apt-get install -y --no-install-recommends libpq5 \\",
            "COPY . .",
            "ENV RENDER=true",
            "RUN python manage.py collectstatic --no-input",
            'CMD ["gunicorn", "shop.wsgi:application"]',
        ],
        "python:3.12-slim-bookworm",
    ),
    "poetry": (
        Service("python", "poetry install", "python -m app"),
        {"pyproject.toml": '[project]\nrequires-python = "~=3.12"\n', "poetry.lock": ""},
        [
            "COPY pyproject.toml poetry.lock ./",
            "RUN /usr/local/bin/pip install poetry",
            "RUN poetry install --only main --no-root",
            'CMD ["python", "-m", "app"]',
        ],
        "python:3.12-slim-bookworm",
    ),
    "uv": (
        Service("python", "uv sync --frozen", "fastapi run app.py"),
        {"pyproject.toml": "", "uv.lock": ""},
        ["COPY pyproject.toml uv.lock ./", "RUN uv sync --frozen --no-dev --no-install-project --active"],
        "python:3.14-slim-bookworm",
    ),
    "a local package": (
        Service("python", "pip install -r requirements.txt .", "shop"),
        {"requirements.txt": "", "pyproject.toml": ""},
        ["COPY . .", "RUN pip install -r requirements.txt ."],
        "python:3.14-slim-bookworm",
    ),
    "node": (
        Service("node", "npm install; npm run build", "npm start"),
        {"package.json": json.dumps(PACKAGE), "package-lock.json": "{}"},
        [
            "FROM node:20-bookworm-slim AS build",
            "COPY package.json package-lock.json ./",
            "RUN npm ci",
            "COPY . .",
            "RUN npm run build",
            "RUN npm prune --omit=dev",
            "ENV NODE_ENV=production \\",
            'CMD ["node", "dist/server.js"]',
        ],
        "node:20-bookworm-slim",
    ),
    "pnpm": (
        Service("node", "corepack enable && pnpm install --frozen-lockfile && pnpm build", "pnpm start"),
        {
            "package.json": json.dumps(
                {
                    "packageManager": "pnpm@9.1.0+sha512.aa",
                    "scripts": {"start": "next start", "prestart": "true"},
                }
            ),
            "pnpm-lock.yaml": "",
            ".nvmrc": "v18.2\n",
        },
        [
            "FROM node:18-bookworm-slim AS build",
            "RUN npm install --global pnpm@9.1.0",
            "RUN pnpm install --frozen-lockfile",
            "RUN pnpm build",
            "RUN npm install --global pnpm@9.1.0",
            'CMD ["pnpm", "start"]',
        ],
        "node:18-bookworm-slim",
    ),
    "workspaces": (
        Service("node", "yarn", "node api/index.js", variables={"NODE_VERSION": "22.3.0"}),
        {"package.json": '{"workspaces": ["api"]}', "yarn.lock": ""},
        ["COPY . .", "RUN yarn install --frozen-lockfile", 'CMD ["node", "api/index.js"]'],
        "node:22-bookworm-slim",
    ),
    "static": (
        Service("static", "npm ci && npm run build", publish="./dist"),
        {"package.json": "{}", "package-lock.json": ""},
        ["RUN npm ci", "RUN npm run build", "FROM caddy:2-alpine", "COPY --from=build /app/dist /srv"],
        "caddy:2-alpine",
    ),
    "plain static": (
        Service("static", publish="public"),
        {"public/index.html": ""},
        ["FROM caddy:2-alpine", "COPY public /srv"],
        "caddy:2-alpine",
    ),
    "rails": (
        Service(
            "ruby", "bundle install; bundle exec rails assets:precompile; bundle exec rails db:migrate", ""
        ),
        {
            "Gemfile": 'ruby "3.3.1"\ngem "pg"\n',
            "Gemfile.lock": "    pg (1.5)\n",
            "config/application.rb": "",
            "config/puma.rb": "",
            "db/schema.rb": "",
        },
        [
            "FROM ruby:3.3.1-slim-bookworm AS base",
            "ENV BUNDLE_DEPLOYMENT=1 \\",
            "    RAILS_SERVE_STATIC_FILES=1",
            "RUN bundle install",
            "RUN SECRET_KEY_BASE_DUMMY=1 bundle exec rails assets:precompile",
            "    && apt-get install -y --no-install-recommends libpq5 \\",
            "RUN mkdir -p tmp/pids log storage && chown -R 10001:10001 tmp log storage db",
            'CMD ["bundle", "exec", "puma", "-C", "config/puma.rb"]',
        ],
        "base",
    ),
    "go": (
        Service("go", "go build -tags netgo -ldflags '-s -w' -o app", "./app"),
        {"go.mod": "module shop\n\ngo 1.23\n\ntoolchain go1.23.4\n", "go.sum": ""},
        [
            "FROM golang:1.23.4-bookworm AS build",
            "COPY go.mod go.sum ./",
            "RUN go mod download",
            "RUN go build -tags netgo -ldflags '-s -w' -o app",
            "FROM debian:bookworm-slim",
            'CMD ["./app"]',
        ],
        "debian:bookworm-slim",
    ),
    "rust": (
        Service("rust", "cargo build --release", "cargo run --release"),
        {"Cargo.toml": '[package]\nname = "shop"\nversion = "0.1.0"\n', "Cargo.lock": "", "src/main.rs": ""},
        [
            "FROM rust:1-slim-bookworm AS build",
            "COPY Cargo.toml Cargo.lock ./",
            "RUN touch src/main.rs",
            "RUN cargo build --release",
            "COPY --from=build /app/target/release/shop ./target/release/shop",
            'CMD ["./target/release/shop"]',
        ],
        "debian:bookworm-slim",
    ),
    "elixir": (
        Service(
            "elixir",
            "mix deps.get --only prod && mix assets.deploy && mix release",
            "_build/prod/rel/s/bin/s start",
        ),
        {"mix.exs": "", "mix.lock": "", ".tool-versions": "elixir 1.17.2-otp-27\n", "config/config.exs": ""},
        [
            "FROM elixir:1.17-slim AS build",
            "COPY mix.exs mix.lock ./",
            "RUN mix deps.compile",
            "RUN mix assets.deploy",
            "RUN mix release",
            'CMD ["_build/prod/rel/s/bin/s", "start"]',
        ],
        "elixir:1.17-slim",
    ),
}


def put(directory: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    return directory


def drafted(directory: Path, name: str) -> Draft:
    service, files, _, _ = SAMPLES[name]
    return native.dockerfile(service, put(directory, files))


@pytest.mark.parametrize("name", SAMPLES)
def test_a_draft_for_each_runtime(tmp_path: Path, name: str) -> None:
    made = drafted(tmp_path, name)
    lines = made.dockerfile.splitlines()
    position = 0
    for wanted in SAMPLES[name][2]:
        assert wanted in lines[position:], f"{wanted!r} is not there, or not in its place:\n{made.dockerfile}"
        position = lines.index(wanted, position) + 1
    read = dockerfile.parse(made.dockerfile)
    assert read.stages[-1].image == SAMPLES[name][3]
    assert read.ports == (8080,)
    assert read.starts
    assert "USER 10001:10001" in lines
    assert not [word for word in lines if word != word.rstrip()]
    assert made.dockerignore is not None
    assert ".env*" in made.dockerignore.splitlines()


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="there is no shellcheck here")
def test_what_the_drafts_run_is_good_shell(tmp_path: Path) -> None:
    script = ["#!/bin/sh"]
    for name in SAMPLES:
        made = drafted(tmp_path / name.replace(" ", "-"), name)
        for one in dockerfile.instructions(made.dockerfile, "Dockerfile"):
            if one.name == "RUN":
                script.append(f"( {one.text} )")
            elif one.name == "CMD" and (words := json.loads(one.text))[:2] == ["sh", "-c"]:
                script.append(f"( PORT=1; {words[2]} )")
    (tmp_path / "all.sh").write_text("\n".join(script) + "\n")
    checked = subprocess.run(
        ["shellcheck", "--exclude=SC2086", str(tmp_path / "all.sh")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.stdout == ""


def test_what_needs_a_database_is_left_out_and_said(tmp_path: Path) -> None:
    made = drafted(tmp_path, "django")
    assert "migrate" not in made.dockerfile
    assert "RENDER" not in drafted(tmp_path / "plain", "python").dockerfile
    assert any("left out of the build: `python manage.py migrate`" in note for note in made.notes)
    assert any("SECRET_KEY=build" in note for note in made.notes)


def test_a_script_with_a_structure_is_run_as_it_is(tmp_path: Path) -> None:
    put(tmp_path, {"build.sh": "if true; then\n  alembic upgrade head\nfi\n"})
    made = native.dockerfile(Service("python", "./build.sh", "python app.py"), tmp_path)
    assert "RUN ./build.sh" in made.dockerfile
    assert any("build.sh changes the database's schema" in note for note in made.notes)


def test_the_procfile_says_how_to_start(tmp_path: Path) -> None:
    put(tmp_path, {"Procfile": "release: x\nweb: gunicorn app:app -b 0.0.0.0:$PORT\nworker: y\n"})
    made = native.dockerfile(Service("python"), tmp_path)
    assert 'CMD ["sh", "-c", "exec gunicorn app:app -b 0.0.0.0:$PORT"]' in made.dockerfile
    assert any("nothing that installs" in note for note in made.notes)


@pytest.mark.parametrize(
    ("service", "what"),
    [
        (Service("docker"), "docker"),
        (Service("python"), "how the app starts"),
        (Service("node"), "package.json"),
        (Service("static"), "published"),
        (Service("elixir"), "how the app starts"),
        (Service("ruby"), "how the app starts"),
        (Service("rust"), "how the app starts"),
    ],
)
def test_what_cannot_be_drafted(tmp_path: Path, service: Service, what: str) -> None:
    with pytest.raises(UsageError, match=what) as refused:
        native.dockerfile(service, tmp_path)
    assert refused.value.cure


def test_nothing_that_is_there_is_overwritten(tmp_path: Path) -> None:
    made = drafted(tmp_path, "go")
    put(tmp_path, {"Dockerfile": "FROM mine\n"})
    assert native.write(made, tmp_path) == [".dockerignore"]
    assert native.write(made, tmp_path) == []
    assert (tmp_path / "Dockerfile").read_text() == "FROM mine\n"
    assert native.dockerfile(SAMPLES["go"][0], tmp_path).dockerignore is None
    assert native.write(made, tmp_path, "Dockerfile.rehost") == ["Dockerfile.rehost"]
    with pytest.raises(UsageError, match="cannot be written"):
        native.write(made, tmp_path / "none")


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ("node server.js", ["node", "server.js"]),
        ("python -c 'print(1)'", ["python", "-c", "print(1)"]),
        ("python -c 'print(1)' $A", ["sh", "-c", "exec python -c 'print(1)' $A"]),
        ("app --name 'two words'", ["app", "--name", "two words"]),
        ("PORT=1 ./app", ["sh", "-c", "exec env PORT=1 ./app"]),
        ("alembic upgrade head && uvicorn a:b", ["sh", "-c", "alembic upgrade head && exec uvicorn a:b"]),
        ("cd api && node .", ["sh", "-c", "cd api && exec node ."]),
        ("a || b", ["sh", "-c", "a || b"]),
        ("exec ./app $PORT", ["sh", "-c", "exec ./app $PORT"]),
        ("./app > log", ["sh", "-c", "exec ./app > log"]),
        ("it's", ["sh", "-c", "exec it's"]),
    ],
)
def test_start_commands(start: str, words: list[str]) -> None:
    assert native_commands.command_line(start) == words


@pytest.mark.parametrize(
    ("command", "steps"),
    [
        ("", []),
        ("a && b; c\nd", ["a", "b", "c", "d"]),
        ("a 'b && c' && d", ["a 'b && c'", "d"]),
        ("a || b && c", ["a || b && c"]),
        ("if x; then y; fi", ["if x; then y; fi"]),
    ],
)
def test_build_commands(command: str, steps: list[str]) -> None:
    assert native_commands.split(command) == steps


@given(st.sampled_from(sorted(native.RUNTIMES)), st.text(max_size=40), st.text(min_size=1, max_size=40))
def test_whatever_the_commands_say_it_is_a_dockerfile_or_an_error(
    runtime: str, build: str, start: str
) -> None:
    service = Service(runtime, build, start, publish="site")
    try:
        made = native.dockerfile(service, Path("/nonexistent"))
    except UsageError as refused:
        assert refused.cure
        return
    assert dockerfile.parse(made.dockerfile).ports == (8080,)
