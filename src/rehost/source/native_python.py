"""A Dockerfile for Python: dependencies into a virtual environment in one stage, which the second takes over."""

from __future__ import annotations

import re

from rehost.source.native_commands import nothing_to_start
from rehost.source.native_parts import USER, Made, Pin, Plan, cmd, copy, packages, pin, text_of, there

VENV = "/opt/venv"
_INSTALLS = re.compile(
    r"(?:python3? -m )?pip3? install\b|poetry (?:install|config|self)\b|uv (?:sync|pip install)\b"
    r"|pipenv (?:install|sync)\b"
)
# Packages that are compiled against a library of the system: what the build needs, and what running needs.
_SYSTEM = {
    r"psycopg2(?!-binary)\b|psycopg\[c\]": ("libpq-dev", "libpq5"),
    r"mysqlclient": ("default-libmysqlclient-dev pkg-config", "libmariadb3"),
    r"pycurl": ("libcurl4-openssl-dev libssl-dev", "libcurl4"),
    r"python-ldap": ("libldap2-dev libsasl2-dev", "libldap-2.5-0 libsasl2-2"),
    r"xmlsec": ("libxmlsec1-dev pkg-config", "libxmlsec1-openssl"),
    r"uwsgi": ("", ""),
    r"weasyprint": (None, "libpango-1.0-0 libpangoft2-1.0-0"),
    r"opencv-python(?!-headless)": (None, "libgl1 libglib2.0-0"),
    r"python-magic": (None, "libmagic1"),
}
_IGNORED = ("**/__pycache__", "**/*.py[cod]", ".venv", "venv", ".pytest_cache", ".mypy_cache", ".ruff_cache")


def version(plan: Plan) -> Pin:
    """PYTHON_VERSION, then .python-version, as Render does; then what others read."""
    found = pin(
        plan,
        "Python",
        "PYTHON_VERSION",
        ((".python-version", r"^\s*(?:python-)?(\d+\.\d+(?:\.\d+)?)\s*$"),),
        (
            ("runtime.txt", r"^\s*python-(\d+\.\d+(?:\.\d+)?)\s*$"),
            (".tool-versions", r"^python\s+(\d+\.\d+(?:\.\d+)?)"),
            ("Pipfile", r"python_(?:full_)?version\s*=\s*\"(\d+\.\d+(?:\.\d+)?)\""),
            ("pyproject.toml", r"requires-python\s*=\s*\"(?:==|~=)\s*(\d+\.\d+)"),
        ),
    )
    # The image of a minor version has its latest patch; patches of long ago are not all there.
    return Pin(".".join(found.version.split(".")[:2]), found.where)


def draft(plan: Plan) -> Made:
    """Raises UsageError when nothing says what to start."""
    if not plan.start:
        raise nothing_to_start('Name it as startCommand in render.yaml, as in "gunicorn app:app".')
    python = version(plan)
    image = f"python:{python.version}-slim-bookworm"
    manifest, install, ignored_steps = _install(plan)
    listed = "\n".join(text_of(plan.directory / name) for name in manifest).lower()
    needed = [pair for pattern, pair in _SYSTEM.items() if re.search(rf"(?m)^[\s\"'-]*(?:{pattern})", listed)]
    compiled = [build for build, _ in needed if build is not None]
    building = packages("build-essential", *" ".join(compiled).split()) if compiled else []
    running = packages(*" ".join(run for _, run in needed).split())
    steps = [step for step in plan.build.steps if step not in ignored_steps]
    lines = [
        python.comment("Python"),
        f"FROM {image} AS build",
        "ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \\",
        "    PIP_NO_CACHE_DIR=1",
        *building,
        f"RUN python -m venv {VENV}",
        f"ENV PATH={VENV}/bin:$PATH \\",
        f"    VIRTUAL_ENV={VENV}",
        "WORKDIR /app",
        *(["# The dependencies first: this layer is built again only when they change."] if manifest else []),
        *([copy(manifest)] if manifest else ["COPY . ."] if install else []),
        *(f"RUN {step}" for step in install),
        "",
        f"FROM {image}",
        *running,
        "# FORWARDED_ALLOW_IPS: the proxy's X-Forwarded-* are believed; nobody else reaches the container's port.",
        f"ENV PATH={VENV}/bin:$PATH \\",
        f"    VIRTUAL_ENV={VENV} \\",
        "    PYTHONUNBUFFERED=1 \\",
        "    FORWARDED_ALLOW_IPS=* \\",
        f"    PORT={plan.port}",
        "WORKDIR /app",
        f"COPY --from=build {VENV} {VENV}",
        "COPY . .",
        *(f"RUN {step}" for step in steps),
        USER,
        f"EXPOSE {plan.port}",
        cmd(plan.start),
    ]
    notes: list[str] = []
    if not install:
        notes.append("nothing that installs dependencies was found: add it where the first stage ends.")
    if steps and (plan.directory / "manage.py").is_file():
        notes.append(
            "collectstatic and the like import the settings: give what they demand a value in that one RUN line, "
            "as in RUN SECRET_KEY=build python manage.py collectstatic --no-input."
        )
    if re.match(r"uvicorn\b", plan.start) and "--host" not in plan.start:
        notes.append("uvicorn listens on 127.0.0.1 alone without --host 0.0.0.0: add it to CMD.")
    return Made(lines, _IGNORED, tuple(notes))


def _pinned(plan: Plan, tool: str) -> str:
    """A package manager in the version that POETRY_VERSION or UV_VERSION names, as at Render."""
    named = plan.variables.get(f"{tool.upper()}_VERSION", "").strip()
    return f"{tool}=={named}" if re.fullmatch(r"\d+(?:\.\d+){0,2}", named) else tool


def _install(plan: Plan) -> tuple[list[str], list[str], set[str]]:
    """The files that name the dependencies, the commands that install them, and the build's steps that those are."""
    steps = [step for step in plan.build.steps if _INSTALLS.match(step)]
    said = " && ".join(steps)
    if there(plan, "poetry.lock") and ("poetry" in said or not steps):
        files = there(plan, "pyproject.toml", "poetry.lock")
        # By the image's own pip: the environment that is handed on stays free of it.
        install = [
            f"/usr/local/bin/pip install {_pinned(plan, 'poetry')}",
            "poetry install --only main --no-root",
        ]
        return files, install, {*steps}
    if there(plan, "uv.lock") and ("uv " in said or not steps):
        files = there(plan, "pyproject.toml", "uv.lock", ".python-version")
        return (
            files,
            [
                f"/usr/local/bin/pip install {_pinned(plan, 'uv')}",
                "uv sync --frozen --no-dev --no-install-project --active",
            ],
            {*steps},
        )
    if there(plan, "Pipfile.lock") and ("pipenv" in said or not steps):
        return (
            there(plan, "Pipfile", "Pipfile.lock"),
            ["/usr/local/bin/pip install pipenv", "pipenv sync"],
            {*steps},
        )
    listed = list(dict.fromkeys(re.findall(r"(?:-r|--requirement)[ =]?([\w./-]+)", said)))
    flat = listed and all("/" not in name.removeprefix("./") for name in listed)
    if flat and len(there(plan, *listed)) == len(listed):
        more = [name for name in there(plan, "constraints.txt") if name not in listed]
        inner = [
            name
            for each in listed
            for name in re.findall(r"(?m)^\s*(?:-r|-c)\s+([\w.-]+)", text_of(plan.directory / each))
            if there(plan, name)
        ]
        # An editable or local package needs the whole of the sources.
        if not re.search(r"\s(?:-e\s|\.(?:[\s\[]|$))", said):
            return list(dict.fromkeys((*listed, *inner, *more))), steps, {*steps}
    if steps:
        return [], steps, {*steps}
    if there(plan, "requirements.txt"):
        return ["requirements.txt"], ["pip install -r requirements.txt"], set()
    return [], [], set()
