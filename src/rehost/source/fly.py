"""Fly's fly.toml (Fly's documentation, "App configuration"). Secrets are not in it, and Fly gives them out nowhere."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from pathlib import Path

from rehost.project.dotenv import NAME
from rehost.project.sizes import show_duration
from rehost.project.values import web_path
from rehost.run.errors import UsageError
from rehost.run.secret import Secret
from rehost.source import blueprint, commands, prebuilt, rooms, volumes
from rehost.source.leaves import Path as Way
from rehost.source.leaves import Tree, plain
from rehost.source.names import app_name
from rehost.source.report import Import, Ledger, Settings

FILE = "fly.toml"
_SCALES = ("the machine runs all the time, and rehost starts no more of them", "")
_EDGE = ("the proxy on the machine does this by itself", "")
_LEFT: tuple[tuple[Way, tuple[str, str]], ...] = (
    (("experimental",), ("it is about Fly's own machines", "")),
    (("swap_size_mb",), ("rehost gives the machine swap by itself", "")),
    (("console_command",), ("rehost has no such shortcut", "use rehost exec")),
    (
        ("kill_signal",),
        ("Docker sends SIGTERM, or what STOPSIGNAL of the Dockerfile says", "write STOPSIGNAL there"),
    ),
    (("deploy", "strategy"), ("the old release serves until the new one has proved itself", "")),
    (("deploy", "max_unavailable"), ("the old release serves until the new one has proved itself", "")),
    (("deploy", "wait_timeout"), ("run.health_deadline says how long a release may take", "")),
    (("restart",), ("Docker starts the container again when it ends", "")),
    (("statics",), ("the app serves its files itself", "see that it does, or leave them where they are")),
    (("metrics",), ("rehost collects no metrics of the app", "")),
    (("files",), ("files come with the image, or as secret files", "name them in env.secret_files")),
    (("build", "builder"), ("the image is built from a Dockerfile", "see that the Dockerfile does the same")),
    (
        ("build", "buildpacks"),
        ("the image is built from a Dockerfile", "see that the Dockerfile does the same"),
    ),
    (("build", "image"), ("it is not the name of an image", "write it as `image`, alone under [build]")),
    (("build", "build-target"), ("the Dockerfile is built to its last stage", "make that the last stage")),
    (("build", "ignorefile"), ("the build sees what .dockerignore lets through", "move its lines there")),
)


def read(path: Path) -> Import:
    """The import of a file. Raises UsageError for one that is no TOML."""
    return parse(blueprint.text_of(path), path.parent)


def parse(text: str, directory: Path = Path()) -> Import:
    """directory: where the app's own files lie."""
    try:
        document = plain(tomllib.loads(text))
    except tomllib.TOMLDecodeError as wrong:
        found = re.search(r"at line (\d+)", str(wrong))
        where = f"{FILE}:{found[1] if found else text.count(chr(10)) + 1}"
        raise UsageError(
            "not valid TOML.", cure="Correct the line, or the one above it.", where=where
        ) from None
    except RecursionError:
        raise UsageError("it is nested too deep.", cure="Simplify it.", where=FILE) from None
    ledger = Ledger()
    tree = Tree(document if isinstance(document, dict) else {}, ledger)
    settings = _top(tree, Settings())
    settings = _build(tree, settings, directory)
    settings = _env(tree, settings)
    settings = _processes(tree, settings)
    settings = _service(tree, settings)
    settings = _mounts(tree, settings)
    settings = _machine(tree, settings)
    for way, (why, todo) in _LEFT:
        tree.leave(way, why, todo)
    for key, value in tree.document.items():
        if value in ({}, []):
            tree.leave((key,), "it is empty")
    tree.close()
    return ledger.close(settings)


def _top(tree: Tree, settings: Settings) -> Settings:
    name = tree.text("app")
    if name:
        made = app_name(name)
        if made == name:
            tree.carry(("app",), "app")
        else:
            tree.change(("app",), f'app = "{made}"')
        settings = replace(settings, app=made, url=f"https://{made}.fly.dev" if made == name else None)
    region = tree.text("primary_region")
    if region in rooms.FLY_ZONES:
        zone = rooms.FLY_ZONES[region]
        tree.change(("primary_region",), f'machine.zone = "{zone}", the nearest of Google\'s')
        settings = replace(settings, zone=zone)
    tree.leave(("primary_region",), "rehost does not know this region", "choose machine.zone in rehost.toml")
    grace = rooms.seconds(tree.text("kill_timeout"))
    if grace:
        tree.carry(("kill_timeout",), "run.stop_grace")
        settings = replace(settings, stop_grace=show_duration(grace))
    release = tree.text("deploy", "release_command")
    if release:
        tree.change(("deploy", "release_command"), "run.before_release: in a container of the new image")
        settings = replace(settings, before_release=commands.command(release))
    limit = rooms.seconds(tree.text("deploy", "release_command_timeout"))
    if limit and release:
        tree.leave(
            ("deploy", "release_command_timeout"),
            "it is a setting of its own",
            "set run.before_release_limit",
        )
    return settings


def _build(tree: Tree, settings: Settings, directory: Path) -> Settings:
    dockerfile = tree.text("build", "dockerfile")
    image = prebuilt.name_of(tree.text("build", "image"))
    if image:  # it counts before a Dockerfile, for Fly's command line as well
        tree.change(("build", "image"), prebuilt.carried(image))
        for key in ("dockerfile", "args"):
            tree.leave(("build", key), "an image that is pulled is not built")
        return replace(settings, image=image)
    if dockerfile:
        tree.carry(("build", "dockerfile"), "build.dockerfile")
        return _args(tree, replace(settings, dockerfile=dockerfile))
    if not (directory / "Dockerfile").is_file():
        settings = replace(settings, runtime=commands.language(directory))
    return _args(tree, settings)


def _args(tree: Tree, settings: Settings) -> Settings:
    args = {name: value for name, value in tree.table("build", "args").items() if isinstance(value, str)}
    for name in args:
        tree.carry(("build", "args", name), "build.args")
    return replace(settings, args=args)


def _env(tree: Tree, settings: Settings) -> Settings:
    values: dict[str, Secret] = {}
    for key, value in tree.table("env").items():
        if isinstance(value, str) and NAME.fullmatch(key):
            tree.carry(("env", key), "the env file")
            values[key] = Secret(value)
        else:
            tree.leave(("env", key), "no env file can hold a variable of this name or kind", "rename it")
    return replace(settings, variables=values, required=tuple(values))


def _processes(tree: Tree, settings: Settings) -> Settings:
    found = tree.table("processes")
    web = next((name for name in ("web", "app") if name in found), next(iter(found), ""))
    processes: dict[str, str] = {}
    for name, run in found.items():
        path = ("processes", name)
        line = commands.of_list(run)
        if name == web:
            settings = replace(settings, start_command=line or None)
            if settings.runtime:
                tree.change(path, "CMD of the Dockerfile")
            tree.leave(
                path, "rehost starts the image as its Dockerfile says", "see that its CMD does the same"
            )
        else:
            commands.process(tree, path, name, line, processes)
    return replace(settings, processes=processes)


def _service(tree: Tree, settings: Settings) -> Settings:
    """[http_service], or the first of [[services]]: the rest is another service."""
    listed = [way for way, _ in tree.items("services")]
    place: Way = (
        ("http_service",) if tree.table("http_service") else listed[0] if listed else ("http_service",)
    )
    port = tree.text(*place, "internal_port")
    if port.isdecimal() and 1 <= int(port) <= 65535:
        tree.carry((*place, "internal_port"), "run.port")
        settings = replace(settings, port=int(port))
    settings = _checks(tree, settings, place)
    for key in ("force_https", "ports", "http_options", "tls_options", "protocol"):
        tree.leave((*place, key), *_EDGE)
    for key in (
        "auto_stop_machines",
        "auto_start_machines",
        "min_machines_running",
        "concurrency",
    ):
        tree.leave((*place, key), *_SCALES)
    tree.leave((*place, "processes"), "the proxy asks the app's own process, and no other")
    for way in listed:
        if way != place:
            tree.leave(way, "rehost runs one service behind the proxy", "serve it under a path of the app")
    return settings


def _checks(tree: Tree, settings: Settings, place: Way) -> Settings:
    ways = [way for key in ("checks", "http_checks") for way, _ in tree.items(*place, key)]
    ways += [("checks", name) for name in tree.table("checks")]
    for way in ways:
        try:
            path = web_path(tree.text(*way, "path"))
        except ValueError:
            tree.leave(way, "it asks for no path", 'set run.health in rehost.toml, as in "/health"')
            continue
        if settings.health not in (None, path):
            tree.leave(way, "rehost asks one path", "see that run.health is the right one")
            continue
        settings = replace(settings, health=path)
        tree.change((*way, "path"), "run.health; 2xx is healthy")
        tree.leave((*way, "method"), "rehost asks with GET")
        for key in ("headers", "protocol", "tls_skip_verify", "tls_server_name", "type", "port"):
            tree.leave((*way, key), "rehost asks run.port over plain HTTP", "see that the path answers so")
        for key in tree.table(*way):
            tree.leave((*way, key), "rehost asks each half second, for as long as run.health_deadline says")
    tree.leave((*place, "tcp_checks"), "rehost asks over HTTP", "")
    return settings


def _mounts(tree: Tree, settings: Settings) -> Settings:
    for way, _ in tree.items("mounts"):
        try:
            volume = volumes.named(tree.text(*way, "source"), tree.text(*way, "destination"))
        except ValueError:
            tree.leave(way, "its destination is no plain path", "set run.volumes in rehost.toml")
            continue
        settings = volumes.add(tree, way, volume, settings)
        if size := rooms.megabytes(tree.text(*way, "initial_size") or ""):
            settings = replace(settings, disk_gb=(settings.disk_gb or 0) + -(-size // 1024))
    return settings


def _machine(tree: Tree, settings: Settings) -> Settings:
    """[[vm]]; without memory its size's own, shared-cpu-1x where none is named."""
    for way, _ in tree.items("vm"):
        size = tree.text(*way, "size") or tree.text(*way, "preset") or "shared-cpu-1x"
        memory = rooms.megabytes(tree.text(*way, "memory") or tree.text(*way, "memory_mb"))
        room = (
            rooms.room(memory or rooms.FLY_SIZES.get(size, 0)) if memory or size in rooms.FLY_SIZES else None
        )
        if room is None or settings.machine is not None:
            tree.leave(
                way, "it is not understood, or of another process", "choose machine.type and run.memory"
            )
            continue
        tree.change(
            way, f'machine.type = "{room.machine}" and run.memory = "{room.memory}", the nearest to it'
        )
        settings = replace(settings, machine=room.machine, memory=room.memory)
    return settings
