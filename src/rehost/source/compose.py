"""docker-compose.yml (the Compose Specification): the one service that answers HTTP, and what runs beside it."""

from __future__ import annotations

import posixpath
import re
from dataclasses import replace
from pathlib import Path

from rehost.project.dotenv import NAME
from rehost.project.sizes import MB, show_duration
from rehost.project.values import SMALLEST_MEMORY
from rehost.run.errors import UsageError
from rehost.run.secret import Secret
from rehost.source import blueprint, compose_beside, compose_parts, prebuilt, rooms, volumes, yaml_text
from rehost.source.leaves import Path as Way
from rehost.source.leaves import Tree
from rehost.source.names import app_name
from rehost.source.report import Import, Ledger, Settings
from rehost.source.yaml_text import Text

FILES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
_HEALTH_URL = re.compile(r"https?://(?:localhost|127\.0\.0\.1|0\.0\.0\.0)(?::\d+)?(/[^\s'\"|&;)]*)?")
_STORES = re.compile(
    r"(?:^|/)[\w.-]*(?:postgres|postgis|timescale|pgvector|mysql|mariadb|mongo|redis|valkey|memcached|rabbitmq|kafka"
    r"|zookeeper|elasticsearch|opensearch|minio|nginx|traefik|caddy|haproxy|adminer|pgadmin|mailhog|mailpit)[\w.-]*"
    r"(?::|@|$)"
)
_BESIDE = "the machine has one network for the app's containers, made by rehost"
_TOP = {
    "version": ("it is the version of the file's own form", ""),
    "volumes": ("volumes are named in run.volumes and under [services]", ""),
    "networks": (_BESIDE, ""),
    "secrets": ("secret files are named in env.secret_files", ""),
    "configs": ("files come with the image, or as secret files", "name them in env.secret_files"),
    "include": ("rehost reads one file", "run docker compose config, and import what that prints"),
}
_OF_SERVICE = {
    "container_name": ("rehost names its containers", ""),
    "hostname": (_BESIDE, ""),
    "networks": (_BESIDE, ""),
    "links": (_BESIDE, ""),
    "network_mode": (_BESIDE, ""),
    "restart": ("Docker starts the container again when it ends", ""),
    "depends_on": (
        "services run before the app starts, and it is not started again when one of them is",
        "let the app wait for what it needs",
    ),
    "labels": ("rehost's own labels are set", ""),
    "init": (
        "rehost starts the image as its Dockerfile says",
        "write an init into the ENTRYPOINT of the Dockerfile",
    ),
    "entrypoint": (
        "rehost starts the image as its Dockerfile says",
        "write it into the Dockerfile as ENTRYPOINT",
    ),
    "working_dir": (
        "rehost starts the image as its Dockerfile says",
        "write it into the Dockerfile as WORKDIR",
    ),
    "user": ("rehost starts the image as its Dockerfile says", "write it into the Dockerfile as USER"),
    "stop_signal": (
        "rehost starts the image as its Dockerfile says",
        "write it into the Dockerfile as STOPSIGNAL",
    ),
    "logging": ("Docker keeps the last 100 MB of what the app prints", ""),
    "secrets": ("rehost puts secret files at /etc/secrets", "name their files in env.secret_files"),
    "configs": ("rehost puts secret files at /etc/secrets", "name their files in env.secret_files"),
    "privileged": ("the container gets no rights of the machine", "see whether the app needs it"),
    "profiles": ("rehost has no profiles", ""),
    "image": ("the image is built on the machine, under a name of rehost's", ""),
    "pull_policy": ("the machine pulls an image when its tag means another one", ""),
    "develop": ("it is about developing", ""),
    "tty": ("it is about developing", ""),
    "stdin_open": ("it is about developing", ""),
    "ports": ("the proxy answers in public, and reaches the app at run.port", ""),
    "expose": ("the proxy reaches the app at run.port", ""),
    "scale": ("rehost runs one container of the app", "choose a machine.type that carries the load"),
}


def read(path: Path, service: str | None = None) -> Import:
    """The import of a file. Raises UsageError: not YAML, or not clear which service is the app."""
    return parse(blueprint.text_of(path), service, path.name)


def parse(text: str, service: str | None = None, file: str = "docker-compose.yml") -> Import:
    document, twice = yaml_text.read(text, file)
    if not isinstance(document, dict):
        raise UsageError("its top is no mapping.", cure="It begins with services:.", where=file)
    ledger = Ledger()
    for key, line in twice:
        ledger.leave(
            f"{key}, line {line}", "the key stands twice in one mapping", "remove one: the last counts"
        )
    tree = Tree(document, ledger)
    name = _chosen(tree, service, file)
    place: Way = ("services", name)
    settings = _app(tree, place, Settings(app=app_name(tree.text("name") or name)))
    if tree.text("name"):
        tree.change(("name",), f'app = "{settings.app}"')
    settings = compose_beside.carry(tree, name, settings)
    for key, (why, todo) in _TOP.items():
        tree.leave((key,), why, todo)
    for key in document:
        if key.startswith("x-"):
            tree.leave((key,), "it is an extension, which means nothing by itself")
    tree.close()
    return ledger.close(settings)


def _chosen(tree: Tree, wanted: str | None, file: str) -> str:
    """The service that is the app: the one named, else the only one that is built and has a port."""
    listed = {name: one for name, one in tree.table("services").items() if isinstance(one, dict)}
    shown = f"Services of the file: {', '.join(listed) or 'none'}."
    if wanted is not None:
        if wanted not in listed:
            raise UsageError(f'there is no service "{wanted}" in it.', cure=shown, where=file)
        return wanted
    built = [name for name, one in listed.items() if "build" in one]
    found = [name for name in built if listed[name].get("ports") or listed[name].get("expose")] or built
    if not built:
        found = [name for name, one in listed.items() if one.get("ports") and not _is_store(one.get("image"))]
    if len(found) == 1:
        return found[0]
    what = "none of its services is built here."
    if found:
        what = f"{len(found)} of its services {'are built here' if built else 'publish ports'}."
    raise UsageError(what, cure=f"Name the one that moves with --service. {shown}", where=file)


def _is_store(image: Text | None) -> bool:
    """Whether an image is one that apps use and that is no app: a database, a queue, a proxy."""
    return isinstance(image, str) and _STORES.search(image.lower()) is not None


def _app(tree: Tree, place: Way, settings: Settings) -> Settings:
    settings = _build(tree, (*place, "build"), settings)
    image = prebuilt.name_of(tree.text(*place, "image"))
    if image and tree.at(*place, "build") is None:
        tree.change((*place, "image"), prebuilt.carried(image))
        settings = replace(settings, image=image)
    elif tree.at(*place, "build") is None:
        tree.leave(
            (*place, "image"), "it is not the name of an image", "write it as `image`, alone under [build]"
        )
    settings = _environment(tree, (*place, "environment"), settings)
    settings = _env_files(tree, (*place, "env_file"), settings)
    port = _port(tree, place)
    if port is not None:
        if tree.at(*place, "ports"):
            tree.change((*place, "ports"), f"run.port = {port}; the world comes in through the proxy alone")
        else:
            tree.carry((*place, "expose"), "run.port")
        settings = replace(settings, port=port)
    settings = _volumes(tree, (*place, "volumes"), settings)
    settings = _health(tree, (*place, "healthcheck"), settings)
    settings = _limits(tree, place, settings)
    grace = rooms.seconds(tree.text(*place, "stop_grace_period"))
    if grace:
        tree.carry((*place, "stop_grace_period"), "run.stop_grace")
        settings = replace(settings, stop_grace=show_duration(grace))
    if tree.at(*place, "command"):
        why, todo = "rehost starts the image as its Dockerfile says", "write it into the Dockerfile as CMD"
        if settings.image:
            todo += f" of an image of your own that begins with FROM {settings.image}"
        tree.leave((*place, "command"), why, f"{todo}, if it is not for developing")
    for key, (why, todo) in _OF_SERVICE.items():
        tree.leave((*place, key), why, todo)
    return settings


def _build(tree: Tree, place: Way, settings: Settings) -> Settings:
    alone = tree.text(*place)
    if alone:
        tree.carry(place, "build.context")
        return replace(settings, context=alone)
    context, dockerfile = tree.text(*place, "context"), tree.text(*place, "dockerfile")
    if context:
        tree.carry((*place, "context"), "build.context")
        settings = replace(settings, context=context)
    if dockerfile:
        # Relative to the context, where rehost's is relative to the project.
        path = posixpath.normpath(posixpath.join(context or ".", dockerfile))
        tree.carry((*place, "dockerfile"), "build.dockerfile")
        settings = replace(settings, dockerfile=path)
    args: dict[str, str] = {}
    for way, key, value in compose_parts.pairs(tree, (*place, "args")):
        if value is None or "$" in value:
            tree.leave(way, "its value is of the environment of docker compose", "write it into build.args")
        else:
            tree.carry(way, "build.args")
            args[key] = value
    tree.leave((*place, "target"), "the Dockerfile is built to its last stage", "make that the last stage")
    for key in ("cache_from", "cache_to", "platforms", "tags", "labels", "pull", "no_cache"):
        tree.leave((*place, key), "the machine builds with Docker's own cache", "")
    return replace(settings, args=args)


def _environment(tree: Tree, place: Way, settings: Settings) -> Settings:
    values: dict[str, Secret] = {}
    required: list[str] = []
    named = isinstance(tree.at(*place), dict)
    for way, key, value in compose_parts.pairs(tree, place):
        if not NAME.fullmatch(key):
            tree.leave(
                way, "it names no variable, or one that no env file can hold", "see whether the app needs it"
            )
            continue
        required.append(key)
        known = compose_parts.interpolated(value) if value else None
        if value is None or (named and value == ""):
            tree.change(
                way,
                f"env.required: {key} is of the environment of docker compose; write it into the env file",
            )
        elif known is None:
            what = f"{key} is made of what docker compose finds in its environment, or in .env"
            tree.change(way, f"env.required: {what}; write it into the env file")
        elif known == value:
            tree.carry(way, "the env file")
            values[key] = Secret(value)
        else:
            tree.change(
                way, f"the env file, with the default of {key}: docker compose takes another where one is set"
            )
            values[key] = Secret(known)
    return replace(settings, variables=values, required=tuple(dict.fromkeys(required)))


def _env_files(tree: Tree, place: Way, settings: Settings) -> Settings:
    names: list[str] = []
    for way, each in tree.items(*place):
        path = each.get("path") if isinstance(each, dict) else each
        name = posixpath.normpath(path) if isinstance(path, str) and path else ""
        if not name or name.startswith(("/", "..")) or "$" in name:
            tree.leave(way, "it is no file of this directory", "copy it here, and name it in env.files")
        else:
            tree.carry(way, "env.files")
            names.append(name)
    return replace(settings, env_files=tuple(dict.fromkeys(names)))


def _port(tree: Tree, place: Way) -> int | None:
    """The port inside the container: of the first that is published, else of the first that is exposed."""
    for key in ("ports", "expose"):
        for _, each in tree.items(*place, key):
            written = str(each.get("target", "")) if isinstance(each, dict) else str(each)
            last = written.partition("/")[0].rpartition(":")[2].strip()
            if last.isascii() and last.isdecimal() and 1 <= int(last) <= 65535:
                return int(last)
    return None


def _volumes(tree: Tree, place: Way, settings: Settings) -> Settings:
    """A named volume is kept; a directory of the computer is for developing, or the owner's to move."""
    for way, each in tree.items(*place):
        try:
            volume = compose_parts.volume(each)
        except ValueError:
            tree.leave(way, "its path is no plain path", "set run.volumes in rehost.toml")
            continue
        if volume is None:
            why = "it is a directory of this computer"
            if not compose_parts.mounted(each)[0]:
                why = "it has no name, and ends with the container"
            tree.leave(way, why, "name a volume in run.volumes, if what is in it has to stay")
            continue
        settings = volumes.add(tree, way, volume, settings)
    return settings


def _health(tree: Tree, place: Way, settings: Settings) -> Settings:
    test = tree.at(*place, "test")
    written = (
        " ".join(each for each in test if isinstance(each, str))
        if isinstance(test, list)
        else str(test or "")
    )
    found = _HEALTH_URL.search(written)
    if found:
        path = found[1] or "/"
        tree.change(
            (*place, "test"), f'run.health = "{path}": rehost asks from outside, and needs no program inside'
        )
        settings = replace(settings, health=path)
    tree.leave((*place, "test"), "rehost asks over HTTP", 'set run.health in rehost.toml, as in "/health"')
    for key in tree.table(*place):
        tree.leave((*place, key), "rehost asks each half second, for as long as run.health_deadline says")
    return settings


def _limits(tree: Tree, place: Way, settings: Settings) -> Settings:
    for way in ((*place, "mem_limit"), (*place, "deploy", "resources", "limits", "memory")):
        size = tree.text(*way)
        # A number alone counts bytes here.
        memory = int(size) // MB if size.isdecimal() else rooms.megabytes(size)
        if memory and memory * MB >= SMALLEST_MEMORY and settings.memory is None:
            tree.carry(way, "run.memory")
            settings = replace(settings, memory=f"{memory}MB")
    tree.leave((*place, "deploy", "replicas"), *_OF_SERVICE["scale"])
    return settings
