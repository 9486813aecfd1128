"""The variables that Render sets in every container by itself, and what they are on a machine of one's own.

Code may rely on them without any file of the project giving them: `"RENDER" in os.environ` turns off Django's
debug pages in Render's own guide. They are given where the sources that are built name them, and the user's own
value always wins. (Render's documentation, "Default environment variables".)
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from rehost.project import git

if TYPE_CHECKING:
    from rehost.project.config import Project

# Given with new values.
GIVEN = (
    *("IS_PULL_REQUEST", "RENDER", "RENDER_EXTERNAL_HOSTNAME", "RENDER_EXTERNAL_URL", "RENDER_GIT_BRANCH"),
    *("RENDER_GIT_COMMIT", "RENDER_SERVICE_NAME", "RENDER_SERVICE_TYPE", "WEB_CONCURRENCY"),
)
# Not given, and what the code can use in their place.
NOT_GIVEN: Mapping[str, str] = {
    "RENDER_CPU_COUNT": "ask the system, or set it in the env file",
    "RENDER_DISCOVERY_SERVICE": "there is one container: take out what looks for others",
    "RENDER_GIT_REPO_SLUG": "set it in the env file",
    "RENDER_INSTANCE_ID": "use HOSTNAME, which Docker sets to the container's id",
    "RENDER_SERVICE_ID": "set it in the env file if the app needs a fixed name",
}
_NAMED = re.compile(rb"\b(?:%s)\b" % "|".join(sorted((*GIVEN, *NOT_GIVEN), key=len, reverse=True)).encode())
# RENDER alone is a word of many programs; here it must be asked of the environment.
_ALONE = re.compile(
    rb"""(?i:env\w*)(?:[^\w\n][^\n]{0,24}?)?["'.]RENDER\b(?![.\w])|["']RENDER["']\s+(?:not\s+)?in\s+\w*\.?environ\b"""
)
# Text about the app, and the blueprint itself, ask for nothing.
_NOT_CODE = (".md", ".rst", ".txt", ".lock", "render.yaml", "render.yml", ".map")


def mentioned(path: str, text: bytes) -> frozenset[str]:
    """Render's variables that a file of code names."""
    if not (b"RENDER" in text or b"WEB_CONCURRENCY" in text or b"IS_PULL_REQUEST" in text):
        return frozenset()
    if path.lower().endswith(_NOT_CODE):
        return frozenset()
    found = {name.decode() for name in _NAMED.findall(text)} - {"RENDER"}
    return frozenset(found | {"RENDER"} if _ALONE.search(text) else found)


def values(names: Collection[str], project: Project) -> dict[str, str]:
    """The values of those that can be given; without a domain, or outside git, some cannot.

    The public address is https: what serves real traffic has TLS in the proxy, or in front of it.
    """
    domain = project.domain.name
    known: dict[str, str] = {
        "IS_PULL_REQUEST": "false",
        "RENDER": "true",
        "RENDER_SERVICE_NAME": project.app,
        "RENDER_SERVICE_TYPE": "web",
        "WEB_CONCURRENCY": "1",
    }
    if domain:
        known |= {"RENDER_EXTERNAL_HOSTNAME": domain, "RENDER_EXTERNAL_URL": f"https://{domain}"}
    if "RENDER_GIT_COMMIT" in names or "RENDER_GIT_BRANCH" in names:
        commit, branch = git.head(project.directory)
        known |= {"RENDER_GIT_COMMIT": commit} if commit else {}
        known |= {"RENDER_GIT_BRANCH": branch} if branch else {}
    return {name: known[name] for name in sorted(names) if name in known}
