"""How `rehost lab status` looks: pure functions from what the lab told to lines of text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rehost.lab.control import LabInfo, Status

Row = Mapping[str, Any]


def lines(info: LabInfo, found: Status, now: datetime | None = None) -> list[str]:
    """All of a lab that is up. now: for its age; the present if not given."""
    age = (now or datetime.now(UTC)) - datetime.fromisoformat(info.since)
    out = [
        f"lab        {info.name}, project {info.project}, up {span(age.total_seconds())}",
        f"API        {info.api}",
        f'variables  eval "$(rehost lab env --name {info.name})"   for rehost, gcloud and Google\'s libraries',
        f"database   {info.database}",
        f"base image {info.image}",
        f"it takes   memory {size(found.memory)}, disk {size(found.disk)} in {info.state}",
    ]
    out += _part("machines", [_machine(one) for one in found.instances], "none")
    out += _part("addresses", [_address(one) for one in found.addresses])
    out += _part("disks", [_disk(one) for one in found.disks if not _plain(one)])
    out += _part("last operations", [_operation(one) for one in found.operations])
    out += _part("faults in force", [[str(one["text"])] for one in found.faults])
    return out


def not_up(name: str, leftovers: Sequence[str]) -> list[str]:
    """Of a lab that is not up. leftovers: things, each beginning with its kind."""
    if not leftovers:
        return [f"The lab {name} is not up."]
    kinds = Counter(thing.split()[0] for thing in leftovers)
    return [
        f"The lab {name} is not up: its server ended, but {len(leftovers)} things of it are still there.",
        "  " + ", ".join(f"{kind} {count}" for kind, count in kinds.items()) + "  (--json names each)",
        f"`rehost lab down --name {name}` removes them; `rehost lab up --name {name}` does, too, and begins anew.",
    ]


def as_json(info: LabInfo, found: Status) -> dict[str, Any]:
    """All of it for programs; memory and disk in bytes."""
    return {
        "up": True,
        "name": info.name,
        "api": info.api,
        "project": info.project,
        "database": info.database,
        "image": info.image,
        "since": info.since,
        "state": str(info.state),
        "memory": found.memory,
        "disk": found.disk,
        "instances": [dict(one) for one in found.instances],
        "addresses": [dict(one) for one in found.addresses],
        "disks": [dict(one) for one in found.disks],
        "operations": [dict(one) for one in found.operations],
        "faults": [dict(one) for one in found.faults],
    }


def size(count: int) -> str:
    """Bytes as a person reads them: "98 MB", "1.4 GB"."""
    mib = count / 2**20
    return f"{mib:.0f} MB" if mib < 1000 else f"{mib / 1024:.1f} GB"


def span(seconds: float) -> str:
    """How long: "4 s", "12 min", "3 h 5 min"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(int(seconds) // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _machine(one: Row) -> list[str]:
    return [
        one["name"], one["zone"], one["machine_type"], one["status"], one["internal"], one["external"] or "-",
        size(one["memory"]) if one["memory"] else "-",
    ]  # fmt: skip


def _address(one: Row) -> list[str]:
    return [one["name"], one["region"], one["address"], _state(one["status"], one["users"])]


def _disk(one: Row) -> list[str]:
    return [one["name"], one["zone"], one["type"], f"{one['size_gb']} GB", _state("READY", one["users"])]


def _plain(disk: Row) -> bool:
    """Whether this is a machine's boot disk that bears its name: the list of machines says enough."""
    return bool(disk["users"] == [disk["name"]])


def _state(status: str, users: Sequence[str]) -> str:
    return f"in use by {', '.join(users)}" if users else status


def _operation(one: Row) -> list[str]:
    at = datetime.fromisoformat(one["at"]).astimezone()
    if one["seconds"] is None:
        end = one["status"]
    else:
        end = f"{'failed' if one['error'] else 'done'} in {one['seconds']:.1f} s"
    why = f": {one['error'].partition(': ')[0]}" if one["error"] else ""  # the code; --json has the message
    return [f"{at:%H:%M:%S}", one["type"], one["target"], end + why]


def _part(title: str, rows: Sequence[Sequence[str]], empty: str = "") -> list[str]:
    """A heading and its rows in columns; nothing without rows, unless there is a word for that."""
    if not rows:
        return ["", f"{title}: {empty}"] if empty else []
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    shown = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return ["", title, *(f"  {line}" for line in shown)]
