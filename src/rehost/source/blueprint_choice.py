"""Which of a blueprint's services is the app, and where the file's items stand in it."""

from __future__ import annotations

from rehost.run.errors import UsageError
from rehost.source.service import kind_of
from rehost.source.yaml_text import Mapped

MOVABLE = ("web", "pserv", "static")
ITEMS = ("services", "databases", "envVarGroups")
# An item with the name that the report gives it.
Listed = tuple[str, Mapped]


def scope_of(shown: str) -> str:
    """Where an item of the file stands: "" for its top, "projects.shop.environments.production."."""
    for kind in ITEMS:
        head, found, _ = shown.rpartition(f"{kind}.")
        if found:
            return head
    return ""


def name_of(item: Mapped) -> str:
    """The name of a service, database or group, "" when it has none."""
    name = item.get("name", "")
    return name if isinstance(name, str) else ""


def choose(services: list[Listed], wanted: str | None, file: str) -> Listed:
    """The service of that name, else the only one that is meant to be seen. Raises UsageError that lists all."""
    labels = _labels(services)
    listed = ", ".join(
        f"{label} ({kind_of(each)})" for label, (_, each) in zip(labels, services, strict=True)
    )
    listed = f"Services of the file: {listed or 'none'}."
    if wanted is not None:
        found = [
            each
            for label, each in zip(labels, services, strict=True)
            if wanted == label or wanted == name_of(each[1])
        ]
        if len(found) == 1:
            movable(wanted, kind_of(found[0][1]), listed, file)
            return found[0]
        many = f'{len(found)} of its services are called "{wanted}".'
        raise UsageError(
            many if found else f'there is no service "{wanted}" in it.',
            cure=f"Name the one that moves with --service. {listed}",
            where=file,
        )
    web = [each for each in services if kind_of(each[1]) == "web"]
    sites = [each for each in services if kind_of(each[1]) == "static"]
    if len(web) == 1 or (not web and len(sites) == 1):
        return (web or sites)[0]
    answers = any(kind_of(each) in MOVABLE for _, each in services)
    raise UsageError(
        f"{len(web)} of its services are web services." if web else "it has no web service.",
        cure=f"Name the one that moves with --service. {listed}"
        if answers
        else f"rehost moves what answers HTTP. {listed}",
        where=file,
    )


def movable(name: str, kind: str, cure: str, where: str) -> None:
    """Raises UsageError for a kind of service that rehost does not move."""
    if kind not in MOVABLE:
        raise UsageError(
            f"{name}: a {kind} service answers no HTTP of its own; rehost moves web services.",
            cure=cure or "Name a web service or a private service.",
            where=where,
        )


def _labels(services: list[Listed]) -> list[str]:
    """What each service is called: its name, with its environment before it where two bear the same."""
    names = [name_of(each) for _, each in services]
    labels: list[str] = []
    for name, (shown, _) in zip(names, services, strict=True):
        place = scope_of(shown).replace("projects.", "", 1).replace(".environments.", "/", 1).strip(".")
        twice = name and names.count(name) > 1 and place
        labels.append(f"{place}/{name}" if twice else name or "(no name)")
    return labels
