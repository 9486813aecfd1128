"""Dockerfiles for Node and for static sites."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

from rehost.run.errors import UsageError
from rehost.source import native_caddy, native_versions
from rehost.source.native_commands import command_line, nothing_to_start
from rehost.source.native_parts import USER, Made, Pin, Plan, cmd, copy, packages, pin, text_of, there

_IGNORED = ("node_modules", "npm-debug.log*", ".next/cache", "coverage")
_INSTALLS = re.compile(
    r"(?:npm (?:ci|i|install)|yarn(?: install)?|pnpm (?:i|install)|bun (?:i|install))(?:\s+-\S+)*$"
)
_SETS_UP = re.compile(r"corepack enable|npm (?:i|install) (?:-g|--global) (?:pnpm|yarn|corepack)\S*")


def _package(plan: Plan) -> dict[str, Any]:
    try:
        found = json.loads(text_of(plan.directory / "package.json") or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def version(plan: Plan) -> Pin:
    """NODE_VERSION, .node-version, .nvmrc, then `engines`, as Render does. The major version alone."""
    number = r"v?(\d+)(?:\.\d+)*(?:\.x)?"
    found = pin(
        plan,
        "Node",
        "NODE_VERSION",
        ((".node-version", rf"^\s*{number}\s*$"), (".nvmrc", rf"^\s*{number}\s*$")),
    )
    engines = _package(plan).get("engines")
    said = {
        "the variable NODE_VERSION": plan.variables.get("NODE_VERSION", ""),
        "engines in package.json": str(engines.get("node", "")) if isinstance(engines, dict) else "",
    }
    for where, allowed in said.items():
        if not found.where and (most := highest(allowed)):
            without_end = ">" in allowed and "<" not in allowed
            note = (
                f" ({allowed}, at Render the newest of all: compare with the version that the app has today)"
            )
            return Pin(str(most), f"{where}{note if without_end else ''}")
    if not found.where:
        found = pin(plan, "Node", "", (), ((".tool-versions", rf"^nodejs?\s+{number}"),))
    return Pin(found.version.partition(".")[0], found.where)


def highest(allowed: str) -> int | None:
    """The highest major version that a range of npm allows, which is the one that Render takes; None for no range.

    One without an end means the newest of all there, whatever that is today: here the default, or what it begins with.
    """
    found: list[int] = []
    for part in allowed.split("||"):
        below = re.search(r"<(=?)\s*v?(\d+)((?:\.\d+)*)", part)
        to = re.search(r"\s-\s+v?(\d+)", part)
        starts = re.search(r"v?(\d+)", part)
        if below:
            # "<21" and "<21.0.0" end with 20, "<21.5" and "<=21" with 21.
            inside = below[1] or any(each not in ("", "0") for each in below[3].split("."))
            found.append(int(below[2]) - (not inside))
        elif to:
            found.append(int(to[1]))
        elif starts and ">" in part:
            found.append(max(int(starts[1]), int(native_versions.NEWEST["Node"])))
        elif starts:
            found.append(int(starts[1]))
    return max(found, default=None)


def _tool(plan: Plan, package: dict[str, Any]) -> tuple[str, list[str], str]:
    """The package manager, its lock file where there is one, and how it installs."""
    named = str(package.get("packageManager", ""))
    if lock := there(plan, "bun.lock", "bun.lockb"):
        return "bun", lock, "bun install --frozen-lockfile"
    if there(plan, "pnpm-lock.yaml"):
        return "pnpm", ["pnpm-lock.yaml"], "pnpm install --frozen-lockfile"
    if there(plan, "yarn.lock"):
        modern = bool(re.match(r"yarn@[2-9]", named)) or bool(there(plan, ".yarnrc.yml"))
        return (
            "yarn",
            ["yarn.lock"],
            "yarn install --immutable" if modern else "yarn install --frozen-lockfile",
        )
    if there(plan, "package-lock.json"):
        return "npm", ["package-lock.json"], "npm ci"
    return "npm", [], "npm install"


def _dependencies(plan: Plan, node: Pin) -> tuple[list[str], list[str]]:
    """The lines of the first stage up to the installed dependencies, and the build's steps that are left."""
    package = _package(plan)
    tool, locks, install = _tool(plan, package)
    named = str(package.get("packageManager", "")).partition("+")[0]
    lines = [node.comment("Node"), f"FROM node:{node.version}-bookworm-slim AS build", "WORKDIR /app"]
    if tool == "pnpm":
        lines.append(f"RUN npm install --global {named if named.startswith('pnpm@') else 'pnpm'}")
    elif tool == "bun":
        lines.append(f"RUN npm install --global {_bun(plan)}")
    elif "--immutable" in install:
        lines.append("RUN npm install --global corepack && corepack enable")
    if re.search(r'"(?:prisma|@prisma/client)"', text_of(plan.directory / "package.json")):
        lines += packages("openssl", "ca-certificates")
    if package.get("workspaces") or there(plan, "pnpm-workspace.yaml"):
        lines += ["# The dependencies of workspaces stand in files all over the sources.", "COPY . ."]
    else:
        # What an install reads besides: settings, patches, and the schema that Prisma's client is made from.
        beside = there(plan, ".npmrc", ".yarnrc.yml")
        lines.append("# The dependencies first: this layer is built again only when they change.")
        lines.append(copy([*there(plan, "package.json"), *locks, *beside]))
        lines += [f"COPY {name} ./{name}" for name in there(plan, "patches", "prisma", ".yarn")]
    lines.append(f"RUN {install}")
    if "COPY . ." not in lines:
        lines.append("COPY . .")
    steps = [step for step in plan.build.steps if not _INSTALLS.match(step) and not _SETS_UP.match(step)]
    return lines, steps


def _bun(plan: Plan) -> str:
    """Bun's package at npm, in the version that BUN_VERSION names, as at Render."""
    named = plan.variables.get("BUN_VERSION", "").strip().lstrip("v")
    return f"bun@{named}" if re.fullmatch(r"\d+(?:\.\d+){0,2}", named) else "bun"


def _start(plan: Plan, package: dict[str, Any]) -> tuple[str, str]:
    """The start command, with `npm start` and the like replaced by what they start; and a note, or ""."""
    found_scripts = package.get("scripts")
    scripts: dict[str, Any] = found_scripts if isinstance(found_scripts, dict) else {}
    start = plan.start or ("npm start" if "start" in scripts else "")
    if not start and there(plan, "server.js"):
        start = "node server.js"  # what npm itself does for `npm start`
    if not start:
        raise nothing_to_start("Name it as startCommand in render.yaml, or as scripts.start in package.json.")
    found = re.fullmatch(r"(?:npm|yarn|pnpm)\s+(?:run\s+)?([\w:.-]+)", start)
    name = found[1] if found else ""
    script = str(scripts.get(name, ""))
    hooked = any(f"{when}{name}" in scripts for when in ("pre", "post"))
    if (
        script
        and not hooked
        and len(command_line(script)) > 0
        and not re.search(r"\b(?:npm|yarn|pnpm)\b", script)
    ):
        return script, f"`{start}` starts `{script}`, so the image starts that itself: signals reach the app."
    return start, ""


def node(plan: Plan) -> Made:
    """Raises UsageError without a package.json, or when nothing says what to start."""
    if not there(plan, "package.json"):
        raise UsageError(
            "there is no package.json.", cure="Name the app's rootDir.", where=str(plan.directory)
        )
    package = _package(plan)
    start, note = _start(plan, package)
    pinned = version(plan)
    lines, steps = _dependencies(plan, pinned)
    tool, _, _ = _tool(plan, package)
    lines += [f"RUN {step}" for step in steps]
    # Plain `node file` needs no tool of development; for anything else they stay, as they did at Render.
    slim = re.match(r"node\s+(?!-)", start) is not None
    if slim and package.get("devDependencies") and tool in ("npm", "pnpm") and not package.get("workspaces"):
        lines.append(
            "RUN npm prune --omit=dev" if tool == "npm" else "RUN pnpm prune --prod --ignore-scripts"
        )
    tools = []
    if re.match(r"pnpm\b", start):
        tools = [line for line in lines if line.startswith("RUN npm install --global pnpm")]
    if re.match(r"bunx?\b", start):
        tools = [f"RUN npm install --global {_bun(plan)}"]
    with_openssl = packages("openssl", "ca-certificates") if any("openssl" in line for line in lines) else []
    lines += [
        "",
        f"FROM node:{pinned.version}-bookworm-slim",
        *with_openssl,
        *tools,
        "ENV NODE_ENV=production \\",
        "    PATH=/app/node_modules/.bin:$PATH \\",
        f"    PORT={plan.port}",
        "WORKDIR /app",
        "COPY --from=build /app ./",
    ]
    written = [name for name in (".next",) if re.match(r"next\b", start)]
    lines += [f"RUN chown -R 10001:10001 {name}" for name in written]
    lines += [USER, f"EXPOSE {plan.port}", cmd(start)]
    return Made(lines, _IGNORED, (note,) if note else ())


def _caddyfile(plan: Plan) -> list[str]:
    """Writes the file server's configuration. By printf: Docker 20.10's builder knows no COPY of lines."""
    lines = native_caddy.lines(plan.port, plan.routes, plan.headers)
    return [
        "RUN printf '%s\\n' \\",
        *(f"    {shlex.quote(line)} \\" for line in lines),
        "    >/etc/caddy/Caddyfile",
    ]


def static(plan: Plan) -> Made:
    """The built files behind a file server. Raises UsageError without a directory to publish."""
    if not plan.publish:
        raise UsageError(
            "nothing says which directory is published.", cure="Name it as staticPublishPath in render.yaml."
        )
    rules = bool(plan.routes or plan.headers)
    directory = plan.publish.removeprefix("./").strip("/") or "."
    built = bool(plan.build.steps) and bool(there(plan, "package.json"))
    lines: list[str] = []
    if built:
        lines, steps = _dependencies(plan, version(plan))
        lines += [*(f"RUN {step}" for step in steps), ""]
    origin = f"--from=build /app/{directory}" if built else directory
    lines += [
        "FROM caddy:2-alpine",
        f"COPY {origin} /srv",
        # Caddy keeps its state below these two, and this user owns nothing else.
        "ENV XDG_DATA_HOME=/tmp/data \\",
        "    XDG_CONFIG_HOME=/tmp/config",
        *(_caddyfile(plan) if rules else ()),
        USER,
        f"EXPOSE {plan.port}",
        cmd(
            "caddy run --config /etc/caddy/Caddyfile"
            if rules
            else f"caddy file-server --root /srv --listen :{plan.port}"
        ),
    ]
    notes = []
    if not plan.routes:
        notes.append(
            "a site of one page, whose index.html answers for all paths, needs a Caddyfile with try_files."
        )
    if plan.build.steps and not built:
        notes.append("the build command is not carried over: no package.json says what builds the site.")
    return Made(lines, _IGNORED, tuple(notes))
