"""Dockerfiles for Ruby, Go, Rust and Elixir."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from rehost.source.native_commands import nothing_to_start
from rehost.source.native_parts import USER, Made, Plan, cmd, copy, packages, pin, text_of, there

# -- Ruby ---------------------------------------------------------------------------------------------------------

_BUNDLE = re.compile(r"(?:gem install bundler|bundle (?:install|config|update|lock))\b")
_GEMS = {
    r"pg": ("libpq-dev", "libpq5"),
    r"mysql2": ("default-libmysqlclient-dev", "libmariadb3"),
    r"sqlite3": ("libsqlite3-dev", "libsqlite3-0"),
    r"ruby-vips|image_processing": ("", "libvips42"),
    r"mini_magick|rmagick": ("libmagickwand-dev", "imagemagick"),
}


def ruby(plan: Plan) -> Made:
    """Raises UsageError when nothing says what to start."""
    rails = bool(there(plan, "config/application.rb"))
    start = plan.start or ("bundle exec puma -C config/puma.rb" if there(plan, "config/puma.rb") else "")
    if not start:
        raise nothing_to_start('Name it as startCommand in render.yaml, as in "bundle exec puma".')
    number = r"(\d+\.\d+(?:\.\d+)?)"
    # In the order of Render's documentation ("Setting Your Ruby Version").
    locked = rf"^RUBY VERSION\s+ruby {number}"
    pinned = pin(
        plan,
        "Ruby",
        "RUBY_VERSION",
        (
            ("Gemfile.lock", locked),
            ("gems.locked", locked),
            (".ruby-version", rf"^\s*(?:ruby-)?{number}\s*$"),
            (".tool-versions", rf"^ruby\s+{number}"),
            ("Gemfile", rf"^\s*ruby\s+[\"'][^\d\"']*{number}"),
        ),
    )
    image = f"ruby:{pinned.version}-slim-bookworm"
    gems = text_of(plan.directory / "Gemfile.lock") + text_of(plan.directory / "Gemfile")
    needed = [
        pair for name, pair in _GEMS.items() if re.search(rf"(?m)^\s*(?:gem [\"'])?(?:{name})[\"' (]", gems)
    ]
    building = ["build-essential", "git", "pkg-config", "libyaml-dev"]
    building += " ".join(build for build, _ in needed).split()
    assets = [step for step in plan.build.steps if not _BUNDLE.match(step)]
    needs_node = any(re.search(r"assets:|\b(?:npm|yarn)\b", step) for step in assets) and bool(
        there(plan, "package.json")
    )
    environment = [
        "ENV BUNDLE_DEPLOYMENT=1 \\" if there(plan, "Gemfile.lock") else "ENV \\",
        "    BUNDLE_PATH=/usr/local/bundle \\",
        '    BUNDLE_WITHOUT="development:test" \\',
        "    RACK_ENV=production" + (" \\" if rails else ""),
    ]
    if rails:
        environment += [
            "    RAILS_ENV=production \\",
            "    RAILS_LOG_TO_STDOUT=1 \\",
            "    RAILS_SERVE_STATIC_FILES=1",
        ]
    lines = [
        pinned.comment("Ruby"),
        f"FROM {image} AS base",
        *environment,
        "WORKDIR /app",
        "",
        "FROM base AS build",
        *packages(*building, *(("nodejs", "npm") if needs_node else ())),
        "# The gems first: this layer is built again only when they change.",
        copy(there(plan, "Gemfile", "Gemfile.lock", ".ruby-version")),
        "RUN bundle install",
        "COPY . .",
        *(f"RUN {'SECRET_KEY_BASE_DUMMY=1 ' if rails else ''}{step}" for step in assets),
        "",
        "FROM base",
        *packages(*" ".join(run for _, run in needed).split()),
        "COPY --from=build /usr/local/bundle /usr/local/bundle",
        "COPY --from=build /app ./",
    ]
    if rails:
        lines.append("RUN mkdir -p tmp/pids log storage && chown -R 10001:10001 tmp log storage db")
    lines += [f"ENV PORT={plan.port}", USER, f"EXPOSE {plan.port}", cmd(start)]
    if rails and not there(plan, "db"):
        lines = [line.replace(" log storage db", " log storage") for line in lines]
    return Made(lines, ("log", "tmp", "vendor/bundle", ".bundle", "node_modules"))


# -- Go -----------------------------------------------------------------------------------------------------------


def go(plan: Plan) -> Made:
    """The program and the files beside it. Without a start command, what `go build -o app` makes."""
    pinned = pin(
        plan,
        "Go",
        "GO_VERSION",
        (("go.mod", r"^toolchain go(\d+\.\d+(?:\.\d+)?)"), ("go.mod", r"^go (\d+\.\d+(?:\.\d+)?)")),
    )
    builds = [step for step in plan.build.steps if not re.match(r"go (?:mod download|get)\b", step)]
    if not any("go build" in step or "go install" in step or "make" in step for step in builds):
        builds.append("go build -ldflags '-s -w' -o app .")
    start = plan.start or "./app"
    lines = [
        pinned.comment("Go"),
        f"FROM golang:{pinned.version}-bookworm AS build",
        "ENV CGO_ENABLED=0" if not _needs_c(plan) else "ENV CGO_ENABLED=1",
        "WORKDIR /app",
        "# The modules first: this layer is fetched again only when they change.",
        copy(there(plan, "go.mod", "go.sum") or ["go.mod"]),
        "RUN go mod download",
        "COPY . .",
        *(f"RUN {step}" for step in builds),
        "",
        "FROM debian:bookworm-slim",
        *packages("ca-certificates", "tzdata"),
        f"ENV PORT={plan.port}",
        "WORKDIR /app",
        "# With the files beside the program: templates, migrations, static files.",
        "COPY --from=build /app ./",
        USER,
        f"EXPOSE {plan.port}",
        cmd(start),
    ]
    return Made(lines)


def _needs_c(plan: Plan) -> bool:
    return (
        re.search(r"mattn/go-sqlite3|h2non/bimg|gographics/imagick", text_of(plan.directory / "go.mod"))
        is not None
    )


# -- Rust ---------------------------------------------------------------------------------------------------------


def rust(plan: Plan) -> Made:
    """The dependencies are built by themselves, with an empty program; a workspace is built as a whole."""
    pinned = pin(
        plan,
        "Rust",
        "RUSTUP_TOOLCHAIN",
        (
            ("rust-toolchain", r"^\s*(?:channel\s*=\s*\")?(\d+\.\d+(?:\.\d+)?)"),
            ("rust-toolchain.toml", r"channel\s*=\s*\"(\d+\.\d+(?:\.\d+)?)\""),
        ),
    )
    name, one = _crate(plan)
    start = plan.start or (f"./target/release/{name}" if name else "")
    ran = re.match(r"cargo run\b(?:.*?--bin[= ](\S+))?[^-]*(?:--release)?(.*)$", start)
    if ran:
        rest = ran[2].partition(" -- ")[2]
        start = f"./target/release/{ran[1] or name} {rest}".strip()
    if not start:
        raise nothing_to_start('Name it as startCommand in render.yaml, as in "./target/release/app".')
    program = re.search(r"target/release/([\w-]+)", start)
    builds = [step for step in plan.build.steps if "cargo" in step or "make" in step] or [
        "cargo build --release"
    ]
    others = [step for step in plan.build.steps if step not in builds]
    first = [
        "# The dependencies first, with an empty program: this layer is built again only when they change.",
        copy(there(plan, "Cargo.toml", "Cargo.lock", "rust-toolchain.toml", "rust-toolchain")),
        "RUN mkdir src && echo 'fn main() {}' > src/main.rs && cargo build --release && rm -rf src",
        "COPY . .",
        "# Cargo goes by times, and the sources may be older than the empty program.",
        "RUN touch src/main.rs",
    ]
    lines = [
        pinned.comment("Rust"),
        f"FROM rust:{pinned.version}-slim-bookworm AS build",
        *packages("build-essential", "pkg-config", "libssl-dev"),
        "WORKDIR /app",
        *(first if one else ["COPY . ."]),
        *(f"RUN {step}" for step in (*others, *builds)),
        "",
        "FROM debian:bookworm-slim",
        *packages("ca-certificates", "libssl3"),
        f"ENV PORT={plan.port} \\",
        f"    ROCKET_PORT={plan.port} \\",
        "    ROCKET_ADDRESS=0.0.0.0",
        "WORKDIR /app",
        "# With the files beside the program: templates, migrations, static files.",
        "COPY . .",
        f"COPY --from=build /app/target/release/{program[1] if program else name} "
        f"./target/release/{program[1] if program else name}",
        USER,
        f"EXPOSE {plan.port}",
        cmd(start),
    ]
    return Made(lines, ("target",))


def _crate(plan: Plan) -> tuple[str, bool]:
    """The program's name, and whether it is one plain crate whose dependencies can be built by themselves."""
    try:
        manifest: dict[str, Any] = tomllib.loads(text_of(plan.directory / "Cargo.toml"))
    except tomllib.TOMLDecodeError:
        return "", False
    bins = manifest.get("bin")
    package = manifest.get("package")
    name = str(package.get("name", "")) if isinstance(package, dict) else ""
    plain = (
        "workspace" not in manifest
        and not bins
        and not there(plan, "build.rs")
        and not there(plan, "src/lib.rs")
    )
    if isinstance(bins, list) and bins and isinstance(bins[0], dict):
        name = str(bins[0].get("name", name))
    return name, plain and bool(there(plan, "src/main.rs"))


# -- Elixir -------------------------------------------------------------------------------------------------------


def elixir(plan: Plan) -> Made:
    """A release of mix; without one, the sources with their compiled dependencies."""
    pinned = pin(
        plan, "Elixir", "ELIXIR_VERSION", (), ((".tool-versions", r"^elixir\s+(\d+\.\d+(?:\.\d+)?)"),)
    )
    if not plan.start:
        raise nothing_to_start(
            'Name it as startCommand in render.yaml, as in "_build/prod/rel/app/bin/app start".'
        )
    image = f"elixir:{'.'.join(pinned.version.split('.')[:2])}-slim"
    fetches = re.compile(r"(?:MIX_ENV=\w+\s+)?mix (?:deps\.get|local\.(?:hex|rebar)|deps\.compile)\b")
    steps = [step for step in plan.build.steps if not fetches.match(step)]
    if not any("mix" in step or step.endswith(".sh") for step in steps):
        steps.append("mix release" if "/rel/" in plan.start else "mix compile")
    lines = [
        pinned.comment("Elixir"),
        f"FROM {image} AS build",
        *packages(
            "build-essential",
            "git",
            "ca-certificates",
            *(("nodejs", "npm") if there(plan, "assets/package.json") else ()),
        ),
        "ENV MIX_ENV=prod",
        "RUN mix local.hex --force && mix local.rebar --force",
        "WORKDIR /app",
        "# The dependencies first: this layer is built again only when they change.",
        copy(there(plan, "mix.exs", "mix.lock") or ["mix.exs"]),
        "RUN mix deps.get --only prod",
        *([f"COPY {name} ./config/" for name in there(plan, "config/config.exs", "config/prod.exs")]),
        "RUN mix deps.compile",
        "COPY . .",
        *(f"RUN {step}" for step in steps),
        "",
        f"FROM {image}",
        *packages("ca-certificates", "openssl"),
        "# A release writes its own files below HOME and RELEASE_TMP.",
        "ENV MIX_ENV=prod \\",
        "    LANG=C.UTF-8 \\",
        "    HOME=/tmp \\",
        "    RELEASE_TMP=/tmp \\",
        "    PHX_SERVER=true \\",
        f"    PORT={plan.port}",
        "WORKDIR /app",
        "COPY --from=build /app ./",
        USER,
        f"EXPOSE {plan.port}",
        cmd(plan.start),
    ]
    notes = ["MIX_ENV=prod is set in the image, as at Render."]
    if "mix phx.server" in plan.start or plan.start.startswith("mix "):
        notes.append(
            "`mix` starts the app as root's own tool would: a release (mix release) starts quicker and needs none."
        )
    return Made(lines, ("_build", "deps", "assets/node_modules"), tuple(notes))
