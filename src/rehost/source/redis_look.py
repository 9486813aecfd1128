"""What a Redis or Valkey tells of itself, and whether the content of one fits into another. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from rehost.run.errors import Refused

_SKEW: Final = 2000  # ms between two clocks that are worth a word: NTP keeps them within some
# A server that saves by a fork needs room for what changes meanwhile.
_FULL: Final = 0.75


class Facts(NamedTuple):
    """A server. keys: how many each database number holds. used, dataset, maxmemory: bytes, 0 for "not told" or none.

    functions: libraries' functions of Redis 7 and later. clock: ms that it is ahead of this computer. changes: since
    its last save, but for what expired or was evicted since its start.
    """

    version: str
    keys: Mapping[int, int]
    used: int = 0
    dataset: int = 0
    maxmemory: int = 0
    policy: str = "noeviction"
    appends: bool = False
    cluster: bool = False
    modules: tuple[str, ...] = ()
    functions: int = 0
    clock: float = 0
    changes: int = 0


class Place(NamedTuple):
    """How the service is set. saves, directory: `save` and `dir` of its configuration. memory: of its container."""

    service: str
    databases: int
    saves: str
    directory: str
    memory: int
    kept: tuple[str, ...]


def facts(info: str, clock: float = 0) -> Facts:
    """INFO, read leniently: stores of providers leave lines out."""
    told = dict(re.findall(r"^(\w+):(.*?)\r?$", info, re.MULTILINE))
    valkey = told.get("valkey_version")
    version = f"Valkey {valkey}" if valkey else f"Redis {told.get('redis_version', '(version not told)')}"
    keys = {
        int(number): int(count)
        for number, count in re.findall(r"^db(\d+):keys=(\d+)", info, re.MULTILINE)
        if int(count)
    }
    return Facts(
        version,
        keys,
        _number(told, "used_memory"),
        _number(told, "used_memory_dataset"),
        _number(told, "maxmemory"),
        told.get("maxmemory_policy", "noeviction"),
        told.get("aof_enabled") == "1",
        told.get("cluster_enabled") == "1",
        tuple(re.findall(r"^module:name=([^,\r\n]+)", info, re.MULTILINE)),
        _number(told, "number_of_functions"),
        clock,
        _number(told, "rdb_changes_since_last_save")
        - _number(told, "expired_keys")
        - _number(told, "evicted_keys"),
    )


def _number(told: Mapping[str, str], name: str) -> int:
    text = told.get(name, "")
    return int(text) if text.isdecimal() else 0


def place(service: str, inspected: Mapping[str, Any], configured: Mapping[str, str]) -> Place:
    """inspected: Docker's word on the container (Engine API 1.41). configured: CONFIG GET, what it may tell."""
    # A volume without a name of its own goes with its container.
    named = (
        each["Destination"]
        for each in inspected.get("Mounts") or ()
        if each["Type"] != "volume" or not re.fullmatch("[0-9a-f]{64}", each.get("Name", ""))
    )
    databases = configured.get("databases", "")
    return Place(
        service,
        int(databases) if databases.isdecimal() else 16,
        configured.get("save", ""),
        configured.get("dir", ""),
        inspected["HostConfig"]["Memory"],
        tuple(named),
    )


def spare(there: Facts, place: Place, number: int, marked: Sequence[int]) -> int:
    """Which database takes the copy: the one that has the mark already, else the last that is empty. Raises Refused."""
    if there.cluster or place.databases < 2:
        raise Refused(
            f"service {place.service} has one database only, and the copy needs a second one beside it",
            cure="Let it have more, without cluster mode: `--databases 2` in its `command`; then `rehost up`.",
            where=place.service,
        )
    for each in marked:
        if each != number:
            return each
    for each in reversed(range(place.databases)):
        if each != number and not there.keys.get(each):
            return each
    raise Refused(
        f"each of the {place.databases} databases of service {place.service} holds keys",
        cure="Empty one, or raise `--databases` in the service's `command`; then `rehost up`.",
        where=place.service,
    )


def fits(origin: Facts, number: int, there: Facts, copy: int, place: Place) -> list[str]:
    """Remarks on the memory that both contents take together. copy: the number of the copy. Raises Refused."""
    need = share(origin, number) + there.used - share(there, copy)
    limits = [limit for limit in (there.maxmemory, place.memory) if limit]
    if not origin.dataset or not limits:
        return []
    limit = min(limits)
    figures = (
        f"the content takes about {size(share(origin, number))}, which with what service {place.service} holds is "
        f"{size(need)} of its {size(limit)}"
    )
    if need > limit:
        then = (
            "it would refuse the rest"
            if there.policy == "noeviction" or limit != there.maxmemory
            else f"with {there.policy} it would throw keys away"
        )
        raise Refused(
            f"it does not fit: {figures}; {then}",
            cure=f"Raise `memory` of service {place.service} in rehost.toml"
            + (", and `--maxmemory` in its command" if there.maxmemory == limit else "")
            + "; then `rehost up`.",
            where=place.service,
        )
    if need > _FULL * limit:
        return [f"{figures}: while it saves it needs more. Raise `memory` of the service."]
    return []


def share(there: Facts, number: int) -> int:
    """Bytes that one database takes, if all keys were alike: no server tells it of one alone."""
    return there.dataset * there.keys.get(number, 0) // (sum(there.keys.values()) or 1)


def size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count < 10**9 else f"{count / 1e9:,.2f} GB"


def remarks(origin: Facts, number: int, there: Facts, place: Place) -> list[str]:
    """What a person should know before it moves: one sentence or two each."""
    found = []
    others = ", ".join(f"{each} ({count:,} keys)" for each, count in origin.keys.items() if each != number)
    if others:
        found.append(
            f"Database {number} is moved; others hold keys and are not: {others}. For each, a service of its own."
        )
    if origin.modules and not set(origin.modules) <= set(there.modules):
        lacks = ", ".join(sorted(set(origin.modules) - set(there.modules)))
        found.append(
            f"The origin has modules that the service lacks ({lacks}): their values cannot be moved."
        )
    if origin.functions:
        found.append(
            f"The origin has {origin.functions} functions (FUNCTION LOAD), which are not moved: load them again."
        )
    skew = origin.clock - there.clock
    if abs(skew) > _SKEW:
        found.append(
            f"The origin's clock is {abs(skew) / 1000:,.0f} s {'ahead of' if skew > 0 else 'behind'} the machine's: "
            "keys expire by that much too late or too early. Does the machine's clock run (`timedatectl`)?"
        )
    if not there.appends and not place.saves:
        found.append(
            f"Service {place.service} keeps nothing on its disk: what is moved is gone when it starts anew. To keep "
            "it, `--appendonly yes` in its `command`."
        )
    elif place.directory and not any(
        place.directory == each or place.directory.startswith(f"{each}/") for each in place.kept
    ):
        found.append(
            f"Service {place.service} has no volume at {place.directory}: what is moved is gone with its container. "
            f'Write volumes = ["{place.service}-data:{place.directory}"] into it.'
        )
    return found
