"""Values that name a database or service inside Render: internal names end with the move, external ones go on."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from rehost.run.secret import Secret
from rehost.source.render_export import Live, Store
from rehost.source.variables import Moved


def moved(live: Live) -> dict[str, Moved]:
    """The service's variables as the machine needs them: internal addresses of stores become external ones."""
    return {key: _moved(value, live) for key, value in live.effective.items()}


def _moved(value: Secret, live: Live) -> Moved:
    written = value.reveal()
    for store in live.stores:
        if store.identity not in written or _host(store.external) in written:
            continue
        new = _external(written, store)
        if new is not None:
            return Moved(
                Secret(new),
                f"the env file, with the external address of {store.kind} {store.name}: the internal one ends at "
                "Render. Let the machine's address into its access list before the release",
            )
        return Moved(
            value,
            f"the env file as it is, and it names {store.kind} {store.name} by its internal address, which ends at "
            "Render: write the external one, from Render's dashboard (Connect)",
        )
    for each in live.siblings:
        slug = str(each.get("slug") or "")
        if slug and re.search(rf"(^|[/@,\s]){re.escape(slug)}(:\d+|[/,\s]|$)", written):
            return Moved(
                value,
                f"the env file as it is, and it names {each.get('name')} by its private name, which ends at Render: "
                "write an address that the machine reaches",
            )
    return Moved(value)


def _host(address: Secret) -> str:
    try:
        return urlsplit(address.reveal()).hostname or "\0"
    except ValueError:
        return "\0"  # stands in no variable


def _external(written: str, store: Store) -> str | None:
    """The value with the external address in the internal one's place; None when it is written in another way."""
    scheme, _, rest = written.partition("://")
    internal = store.internal.reveal().partition("://")[2]
    external_scheme, _, external = store.external.reveal().partition("://")
    if not internal or not external or not rest.startswith(internal):
        return None
    tail = rest.removeprefix(internal)
    if tail and tail[0] not in "/?":
        return None
    # A driver's own scheme (postgresql+asyncpg) stays; Key Value speaks TLS from outside (rediss).
    return f"{external_scheme if store.kind == 'Key Value' else scheme}://{external.rstrip('/')}{tail}"
