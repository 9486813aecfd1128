"""The text files of a directory, read once for all that looks for something in them."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

# What tools make or fetch: nobody changes it by hand, and what was written by hand is looked at.
SKIPPED = frozenset(
    (
        *("node_modules", "bower_components", "vendor", "Pods", "site-packages", "target", "_build", "deps"),
        *("dist", "build", "out", "coverage", "htmlcov", "__pycache__", "venv", "env", "tmp", "log"),
    )
)
# Hidden directories are tools' own, but for these.
_SEEN_HIDDEN = frozenset({".github", ".circleci", ".gitlab", ".well-known", ".storybook"})
SUFFIXES = frozenset(
    (
        *(
            "py",
            "js",
            "mjs",
            "cjs",
            "jsx",
            "ts",
            "mts",
            "cts",
            "tsx",
            "vue",
            "svelte",
            "astro",
            "rb",
            "rake",
            "ru",
        ),
        *(
            "go",
            "rs",
            "ex",
            "exs",
            "heex",
            "eex",
            "erb",
            "php",
            "java",
            "kt",
            "kts",
            "swift",
            "dart",
            "cs",
            "html",
        ),
        *(
            "json",
            "yml",
            "yaml",
            "toml",
            "ini",
            "cfg",
            "conf",
            "xml",
            "plist",
            "gradle",
            "properties",
            "xcconfig",
        ),
        *("sh", "tf", "md", "txt", "lock"),
    )
)
_NAMES = re.compile(
    r"Dockerfile.*|Procfile|Gemfile|Rakefile|_redirects|_headers|Caddyfile|\.env.*|.*\.env|\.tool-versions"
)
_NOT_WRITTEN = re.compile(
    r"package-lock\.json|yarn\.lock|pnpm-lock\.yaml|poetry\.lock|uv\.lock|Cargo\.lock|composer\.lock|.*\.min\.js"
)
LARGEST_FILE = 512 * 2**10
MOST_FILES = 20_000
MOST_BYTES = 96 * 2**20


class Sources(NamedTuple):
    """Files by their path relative to the root, with "/". left: how many were not read, for their number or size."""

    root: Path
    texts: Mapping[str, bytes]
    left: int = 0

    def only(self, paths: Collection[str]) -> Sources:
        """Those of these paths alone."""
        return self._replace(
            texts=MappingProxyType({path: text for path, text in self.texts.items() if path in paths})
        )


def load(root: Path) -> Sources:
    """Reads the text files below a directory. A file that cannot be read counts as left out.

    Directories of tools and links are not followed: what they hold was written elsewhere.
    """
    texts: dict[str, bytes] = {}
    left = total = 0
    ahead = [""]
    while ahead:
        directory = ahead.pop()
        try:
            with os.scandir(root / directory) as scan:
                found = sorted(scan, key=lambda each: each.name)
        except OSError:
            left += 1
            continue
        for each in found:
            path = f"{directory}/{each.name}" if directory else each.name
            if each.is_dir(follow_symlinks=False):
                hidden = each.name.startswith(".") and each.name not in _SEEN_HIDDEN
                if not hidden and each.name not in SKIPPED and not _is_environment(each):
                    ahead.append(path)
            elif is_text(each.name) and each.is_file(follow_symlinks=False):
                size = each.stat().st_size
                if size > LARGEST_FILE or len(texts) >= MOST_FILES or total + size > MOST_BYTES:
                    left += 1
                    continue
                try:
                    texts[path] = Path(each.path).read_bytes()
                except OSError:
                    left += 1
                    continue
                total += size
    return Sources(root, MappingProxyType(texts), left)


def is_text(name: str) -> bool:
    """Whether a file of this name is one that people write."""
    if _NOT_WRITTEN.fullmatch(name):
        return False
    return posixpath.splitext(name)[1][1:].lower() in SUFFIXES or _NAMES.fullmatch(name) is not None


def _is_environment(directory: os.DirEntry[str]) -> bool:
    """A Python virtual environment, whatever its name."""
    return (Path(directory.path) / "pyvenv.cfg").is_file()


def line_of(text: bytes, position: int) -> int:
    """The number of the line, from 1, in which a position lies."""
    return text.count(b"\n", 0, position) + 1
