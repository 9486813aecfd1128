"""What other platforms keep for an app, as volumes of rehost.toml."""

from __future__ import annotations

import re
from dataclasses import replace

from rehost.project import values
from rehost.source.leaves import Path, Tree
from rehost.source.report import Settings


def named(source: str, path: str) -> str:
    """A volume as run.volumes writes it. Raises ValueError for a path that is no plain one."""
    label = re.sub(r"[^a-z0-9]+", "-", source.lower()).strip("-")[:40].strip("-")
    return values.volumes([f"{label or 'data'}:{path.rstrip('/')}"])[0]


def add(tree: Tree, way: Path, volume: str, settings: Settings) -> Settings:
    """Carries one over, unless its name or its path is that of one before it."""
    names, paths = zip(*(each.split(":") for each in (*settings.volumes, volume)), strict=True)
    for what, each in (("name", names), ("path", paths)):
        if each[-1] in each[:-1]:
            tree.leave(
                way, f'another volume has the {what} "{each[-1]}"', "set run.volumes in rehost.toml by hand"
            )
            return settings
    tree.change(
        way,
        f'"{volume}" of run.volumes; `rehost move` brings what it holds, from a directory that ssh reaches',
    )
    return replace(settings, volumes=(*settings.volumes, volume))
