"""What stands at Render alone, read by its API: one service with its values, and who else names its address.

Every value is a `Secret` as soon as the answer is taken apart; no answer is kept.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from rehost.run.errors import UsageError
from rehost.run.secret import Secret

if TYPE_CHECKING:  # who only reads a blueprint loads no HTTP client
    from rehost.source.render_api import Render

T = TypeVar("T")
Item = dict[str, Any]
Progress = Callable[[str], None]
_SERVICE_ID = re.compile(r"(srv|crn)-[a-z0-9]+")
_LISTED = 40  # services that an error names
# The API's names of the types, and those of a blueprint (documented as serviceType and serviceTypeShort).
TYPES = {
    "web_service": "web",
    "private_service": "pserv",
    "background_worker": "worker",
    "cron_job": "cron",
    "static_site": "static",
}


class Group(NamedTuple):
    """An environment group that the service uses. created: ISO 8601, UTC."""

    name: str
    created: str
    variables: Mapping[str, Secret]
    files: Mapping[str, Secret]


class Store(NamedTuple):
    """A database or Key Value store of Render's. identity: its ID, which its internal host name begins with."""

    name: str
    kind: str
    identity: str
    internal: Secret
    external: Secret


class Live(NamedTuple):
    """One service as it stands at Render. service: the API's own description, which holds no variables.

    stores: those that a variable's value names. siblings: other services of the same repository or environment.
    routes, headers: of a static site, in their order.
    """

    service: Item
    variables: Mapping[str, Secret]
    files: Mapping[str, Secret]
    groups: tuple[Group, ...] = ()
    domains: tuple[Item, ...] = ()
    deploy: Item | None = None
    stores: tuple[Store, ...] = ()
    siblings: tuple[Item, ...] = ()
    routes: tuple[Item, ...] = ()
    headers: tuple[Item, ...] = ()

    @property
    def name(self) -> str:
        return str(self.service.get("name") or "")

    @property
    def kind(self) -> str:
        return kind(self.service)

    @property
    def by_age(self) -> tuple[Group, ...]:
        """The groups, the newest last. The API says when a group was made, not when it was linked."""
        return tuple(sorted(self.groups, key=lambda group: group.created))

    @property
    def effective(self) -> dict[str, Secret]:
        """What the running service has: its own variables beat those of groups, and the newest group the others."""
        found: dict[str, Secret] = {}
        for group in self.by_age:
            found |= group.variables
        return found | dict(self.variables)

    @property
    def effective_files(self) -> dict[str, Secret]:
        found: dict[str, Secret] = {}
        for group in self.by_age:
            found |= group.files
        return found | dict(self.files)

    @property
    def unsure(self) -> tuple[str, ...]:
        """Variables that two groups give different values and the service none: which counts is Render's to say."""
        values: dict[str, set[Secret]] = {}
        for group in self.groups:
            for key, value in group.variables.items():
                values.setdefault(key, set()).add(value)
        return tuple(
            sorted(key for key, found in values.items() if len(found) > 1 and key not in self.variables)
        )

    @property
    def secrets(self) -> list[Secret]:
        """Everything that must not be shown."""
        stores = [part for store in self.stores for part in (store.internal, store.external)]
        grouped = [
            value for group in self.groups for value in (*group.variables.values(), *group.files.values())
        ]
        return [*self.variables.values(), *self.files.values(), *grouped, *stores]


class Mention(NamedTuple):
    """A variable elsewhere at Render whose value holds the app's address. owner: a service or group."""

    owner: str
    variable: str


def kind(service: Item) -> str:
    """A service's type as a blueprint writes it; the API's own word when it is a new one."""
    written = str(service.get("type") or "")
    return TYPES.get(written, written or "untyped")


async def find(api: Render, wanted: str) -> Item:
    """The service by ID or name; "" is the only one that answers HTTP. Raises UsageError that lists all."""
    if _SERVICE_ID.fullmatch(wanted):
        return await api.get("services", wanted)
    services = await every_service(api)
    found = [each for each in services if (each.get("name") == wanted if wanted else kind(each) == "web")]
    if len(found) == 1:
        return found[0]
    if wanted:
        what = f'{len(found) or "no"} services are called "{wanted}"' + (" there." if found else ".")
    else:
        what = f"{len(found) or 'none'} of the {len(services)} services there answers HTTP in public."
    raise UsageError(
        what,
        where=api.endpoint,
        cure=f"Name one by its ID: rehost init --render srv-... {_listed(found or services)}",
    )


async def every_service(api: Render) -> list[Item]:
    return await api.items("service", "services", includePreviews="false")


def _listed(services: Sequence[Item]) -> str:
    if not services:
        return "This key sees no service."
    ordered = sorted(services, key=lambda each: (str(each.get("name")), str(each.get("id"))))
    shown = ", ".join(f"{each.get('id')} {each.get('name')} ({kind(each)})" for each in ordered[:_LISTED])
    more = len(ordered) - _LISTED
    return f"Services: {shown}{f', and {more} more' if more > 0 else ''}."


async def export(api: Render, service: Item, progress: Progress) -> Live:
    """All of one service. Raises RenderError."""
    name, identity = str(service.get("name") or ""), str(service.get("id") or "")
    owner = {"ownerId": str(service["ownerId"])} if service.get("ownerId") else {}
    progress(f"reading {name} at Render")
    variables, files, domains, deploys, metas, services, routes, headers = await _together(
        api.items("envVar", "services", identity, "env-vars"),
        api.items("secretFile", "services", identity, "secret-files"),
        _domains(api, service, identity),
        api.items("deploy", "services", identity, "deploys", status="live"),
        api.items("envGroup", "env-groups", **owner),
        api.items("service", "services", includePreviews="false", **owner),
        _of_site(api, service, "route"),
        _of_site(api, service, "header"),
    )
    linked = [str(meta["id"]) for meta in metas if _links(meta, identity)]
    progress(f"reading {len(linked)} environment groups of {name}")
    groups = await _together(*(api.get("env-groups", each) for each in linked))
    live = Live(
        service,
        _values(variables, "key", "value"),
        _values(files, "name", "content"),
        tuple(_group(each) for each in groups),
        tuple(domains),
        deploys[0] if deploys else None,
        siblings=tuple(each for each in services if _belongs(each, service)),
        routes=tuple(sorted(routes, key=_priority)),
        headers=tuple(headers),
    )
    progress(f"reading the databases that {name} uses")
    return live._replace(stores=await _stores(api, owner, live.effective.values()))


async def _together(*questions: Coroutine[Any, Any, T]) -> list[T]:
    """All answers; when one fails the others are given up, so that nothing more is asked."""
    tasks = [asyncio.ensure_future(each) for each in questions]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _priority(route: Item) -> int:
    """Its place among the rules; those that say none stay in the order in which Render lists them."""
    found = route.get("priority")
    return found if isinstance(found, int) else 0


async def _of_site(api: Render, service: Item, noun: str) -> list[Item]:
    """The rules of a static site ("List redirect/rewrite rules", "List header rules"); no other service has any."""
    if kind(service) != "static":
        return []
    return await api.items(noun, "services", str(service.get("id") or ""), f"{noun}s")


async def _domains(api: Render, service: Item, identity: str) -> list[Item]:
    if kind(service) not in ("web", "static"):  # nobody else has any
        return []
    return await api.items("customDomain", "services", identity, "custom-domains")


def _links(meta: Item, identity: str) -> bool:
    links = meta.get("serviceLinks")
    return isinstance(links, list) and any(
        isinstance(each, dict) and each.get("id") == identity for each in links
    )


def _group(answer: Item) -> Group:
    return Group(
        str(answer.get("name") or ""),
        str(answer.get("createdAt") or ""),
        _values(answer.get("envVars"), "key", "value"),
        _values(answer.get("secretFiles"), "name", "content"),
    )


def _values(items: object, key: str, value: str) -> dict[str, Secret]:
    found = [each for each in items if isinstance(each, dict)] if isinstance(items, list) else []
    return {str(each[key]): Secret(str(each.get(value) or "")) for each in found if each.get(key)}


def _belongs(other: Item, service: Item) -> bool:
    if other.get("id") == service.get("id"):
        return False
    return any(service.get(key) and other.get(key) == service[key] for key in ("environmentId", "repo"))


async def _stores(api: Render, owner: Mapping[str, str], values: Iterable[Secret]) -> tuple[Store, ...]:
    """The stores that the values name, with what they are reached by. Others are not asked for their passwords."""
    text = "\n".join(value.reveal() for value in values)
    lists = await _together(
        api.items("postgres", "postgres", **owner), api.items("keyValue", "key-value", **owner)
    )
    used = [
        (path, item)
        for path, items in zip(("postgres", "key-value"), lists, strict=True)
        for item in items
        if item.get("id") and str(item["id"]) in text
    ]
    asked = await _together(*(api.get(path, str(item["id"]), "connection-info") for path, item in used))
    return tuple(
        Store(
            str(item.get("name") or item["id"]),
            "Postgres" if path == "postgres" else "Key Value",
            str(item["id"]),
            Secret(str(answer.get("internalConnectionString") or "")),
            Secret(str(answer.get("externalConnectionString") or "")),
        )
        for (path, item), answer in zip(used, asked, strict=True)
    )


async def mentions(api: Render, addresses: Sequence[str], but: str, progress: Progress) -> list[Mention]:
    """Where else at Render an address of the app stands in a variable: all services and groups are read.

    `but`: the ID of the app's own service. Values are looked at and dropped. Raises RenderError.
    """
    services = [each for each in await every_service(api) if each.get("id") != but]
    metas = await api.items("envGroup", "env-groups")
    done = 0

    def holding(owner: str, items: object) -> list[Mention]:
        nonlocal done
        done += 1
        progress(f"looking through the variables at Render: {done} of {len(services) + len(metas)}")
        return [
            Mention(owner, key)
            for key, value in _values(items, "key", "value").items()
            if any(address in value.reveal() for address in addresses)
        ]

    async def service(each: Item) -> list[Mention]:
        found = await api.items("envVar", "services", str(each["id"]), "env-vars")
        return holding(f"{kind(each)} {each.get('name')}", found)

    async def group(each: Item) -> list[Mention]:
        found = await api.get("env-groups", str(each["id"]))
        return holding(f"environment group {each.get('name')}", found.get("envVars"))

    found = await _together(*map(service, services), *map(group, metas))
    return sorted(mention for each in found for mention in each)
