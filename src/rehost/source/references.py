"""Values that Render takes from elsewhere: from another service of the file, from the service itself, a database."""

from __future__ import annotations

from typing import NamedTuple

from rehost.project.values import domain_name
from rehost.run.secret import Secret
from rehost.source.service import kind_of
from rehost.source.yaml_text import Mapped

_DEEPEST = 5  # a reference to a reference to a reference ...
_EXTERNAL = "write {key} into the env file: its external address, from Render's dashboard (Connect), or where it moves"


class Reference(NamedTuple):
    """What became of one. value: found in the file. why and todo: when there is none."""

    value: Secret | None
    said: str
    todo: str = ""


def resolve(key: str, entry: Mapped, service: Mapped, services: list[Mapped]) -> Reference:
    """The value of an entry with `fromService` or `fromDatabase`; `service` is the one that moves."""
    database = entry.get("fromDatabase")
    if database:
        part, name = _parts(database)
        of = f"the {part} of the database {name}" if name else "a database's"
        return Reference(
            None,
            f"its value is {of}, which Render puts in; its internal address ends at Render",
            f"{_EXTERNAL.format(key=key)} (it is in env.required)",
        )
    return _of_service(key, entry.get("fromService"), service, services, _DEEPEST)


def _parts(source: object) -> tuple[str, str]:
    """The property, and whose."""
    found = source if isinstance(source, dict) else {}
    part, name = found.get("property") or found.get("envVarKey"), found.get("name")
    return part if isinstance(part, str) else "value", name if isinstance(name, str) else ""


def _of_service(key: str, source: object, service: Mapped, services: list[Mapped], deepest: int) -> Reference:
    part, name = _parts(source)
    itself = bool(name) and service.get("name") == name
    target = (
        service if itself else next((each for each in services if name and each.get("name") == name), None)
    )
    variable = source.get("envVarKey") if isinstance(source, dict) else None
    if isinstance(variable, str) and variable:
        if itself and variable in ("RENDER_EXTERNAL_URL", "RENDER_EXTERNAL_HOSTNAME"):
            return _new_address(key, variable, service)
        found = _variable(target, variable)
        if found is not None:
            value = found.get("value")
            if isinstance(value, str):
                whose = "the app itself" if itself else name
                return Reference(Secret(value), f"the env file; it is {variable} of {whose}")
            if found.get("fromService") and deepest:
                return _of_service(key, found["fromService"], service, services, deepest - 1)
    todo = f"write {key} into the env file, with an address that the machine reaches (it is in env.required)"
    if itself:
        return Reference(
            None,
            f"its value is {part} of the app itself, which Render puts in",
            f"write {key} into the env file as it will be on the machine (it is in env.required)",
        )
    if not name:
        return Reference(None, "its value is of another service, which it does not name", todo)
    if target is None:
        return Reference(
            None, f"its value is {part} of {name}, which is not in this file: Render puts it in", todo
        )
    if kind_of(target) == "keyvalue":
        todo = f"{_EXTERNAL.format(key=key)} (it is in env.required)"
    return Reference(
        None,
        f"its value is {part} of {name}, which Render puts in; Render's internal names end at Render",
        todo,
    )


def _new_address(key: str, variable: str, service: Mapped) -> Reference:
    domain = domain_of(service)
    if domain is None:
        return Reference(
            None,
            "its value is the app's address at Render, which ends with the move",
            f"write {key} into the env file with the app's new address (it is in env.required)",
        )
    url = variable == "RENDER_EXTERNAL_URL"
    # Not the value: what stands in the env file is masked wherever it is shown.
    return Reference(
        Secret(f"https://{domain}" if url else domain),
        f"the env file, with {'the address' if url else 'the name'} of domain.name; at Render it is {variable}, the "
        "app's address there",
    )


def domain_of(service: Mapped) -> str | None:
    """The first domain of the service that rehost.toml can name."""
    found = service.get("domains") or service.get("domain")
    for each in found if isinstance(found, list) else [found]:
        try:
            return domain_name(each)
        except ValueError:
            continue
    return None


def _variable(service: Mapped | None, name: str) -> Mapped | None:
    listed = service.get("envVars") if service else None
    entries = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    return next((each for each in reversed(entries) if each.get("key") == name), None)
