"""What is done to an instance that exists: power, settings; its console and guest attributes."""

from __future__ import annotations

from rehost.lab.compute_addresses import check_tags, set_labels
from rehost.lab.compute_call import Call, method
from rehost.lab.compute_catalog import MACHINE_TYPES, machine_type
from rehost.lab.compute_errors import (
    ApiError,
    check_fingerprint,
    invalid,
    not_ready,
    required,
    unchanged_since,
)
from rehost.lab.compute_instances import tags
from rehost.lab.compute_power import find, power_off, power_on
from rehost.lab.compute_project import check_metadata, metadata
from rehost.lab.state import Resource, link

_AT = "/zones/{zone}/instances/{instance}"
SERIAL_CHUNK = 1024 * 1024  # bytes that one answer holds


# -- power -------------------------------------------------------------------------------------------------


@method("instances.start", "POST", f"{_AT}/start")
def _start(call: Call) -> Resource:
    path, instance = find(call)

    return call.operations.start(call, "start", path, lambda: power_on(call.cloud, call.packets, instance))


@method("instances.stop", "POST", f"{_AT}/stop", query=("discardLocalSsd", "noGracefulShutdown"))
def _stop(call: Call) -> Resource:
    path, instance = find(call)
    return call.operations.start(call, "stop", path, lambda: power_off(call.cloud, call.packets, instance))


@method("instances.reset", "POST", f"{_AT}/reset")
def _reset(call: Call) -> Resource:
    path, instance = find(call)
    if instance["status"] != "RUNNING":
        raise not_ready(path)

    async def work() -> None:
        await call.cloud.machines.reset(instance["name"])

    return call.operations.start(call, "reset", path, work)


# -- settings ----------------------------------------------------------------------------------------------


@method("instances.setMetadata", "POST", f"{_AT}/setMetadata", body="Metadata")
def _set_metadata(call: Call) -> Resource:
    """All items are replaced by those given."""
    path, instance = find(call)
    check_metadata(call.body, instance["metadata"])

    async def work() -> None:
        unchanged_since(call.body.get("fingerprint"), instance["metadata"]["fingerprint"], "metadata")
        instance["metadata"] = metadata(call.body.get("items", []))

    return call.operations.start(call, "setMetadata", path, work)


@method("instances.setTags", "POST", f"{_AT}/setTags", body="Tags")
def _set_tags(call: Call) -> Resource:
    path, instance = find(call)
    check_fingerprint(call.body.get("fingerprint"), instance["tags"]["fingerprint"], "tags")
    check_tags(call.body.get("items", ()), "resource.items")

    async def work() -> None:
        unchanged_since(call.body.get("fingerprint"), instance["tags"]["fingerprint"], "tags")
        instance["tags"] = tags(call.body.get("items", []))
        await call.packets.apply()

    return call.operations.start(call, "setTags", path, work)


@method("instances.setLabels", "POST", f"{_AT}/setLabels", body="InstancesSetLabelsRequest")
def _set_labels(call: Call) -> Resource:
    return set_labels(call, find(call)[0], "setLabels")


@method("instances.setMachineType", "POST", f"{_AT}/setMachineType", body="InstancesSetMachineTypeRequest")
def _set_machine_type(call: Call) -> Resource:
    path, instance = find(call)
    if "machineType" not in call.body:
        raise required("resource.machineType")
    kind = machine_type(
        call.body["machineType"], call.cloud.project, call.path["zone"], "resource.machineType"
    )
    if instance["status"] != "TERMINATED":
        raise ApiError(
            400,
            "invalidResourceUsage",
            "Invalid resource usage: 'Machine type can only be changed while the instance is TERMINATED.'.",
        )

    async def work() -> None:
        await call.cloud.machines.set_hardware(instance["name"], MACHINE_TYPES[kind].hardware)
        instance["machineType"] = link(f"{call.scope}/machineTypes/{kind}")

    return call.operations.start(call, "setMachineType", path, work)


@method(
    "instances.setDeletionProtection",
    "POST",
    "/zones/{zone}/instances/{resource}/setDeletionProtection",
    query=("deletionProtection",),
)
def _set_deletion_protection(call: Call) -> Resource:
    path, instance = find(call, "resource")
    wanted = call.query.get("deletionProtection", "true")
    if wanted not in ("true", "false"):
        raise invalid("deletionProtection", wanted, "Must be true or false.")

    async def work() -> None:
        instance["deletionProtection"] = wanted == "true"

    return call.operations.start(call, "setDeletionProtection", path, work)


# -- reading -----------------------------------------------------------------------------------------------


@method("instances.getSerialPortOutput", "GET", f"{_AT}/serialPort", query=("port", "start"))
def _serial(call: Call) -> Resource:
    """Positions count bytes since the first boot. Without `start`, or before what is kept: the last part."""
    path, instance = find(call)
    port, start = call.query.get("port", "1"), call.query.get("start", "0")
    if port not in ("1", "2", "3", "4"):
        raise invalid("port", port, "Must be between 1 and 4, inclusive.")
    if not start.removeprefix("-").isdigit():
        raise invalid("start", start, "Must be a number of bytes.")
    log = call.cloud.machines.serial(instance["name"])
    size = log.stat().st_size if port == "1" and log.exists() else 0
    first = max(size + int(start), 0) if start.startswith("-") else int(start)
    if "start" not in call.query:
        first = max(size - SERIAL_CHUNK, 0)
    data = b""
    if size > first:
        with log.open("rb") as file:
            file.seek(first)
            data = _whole(file.read(SERIAL_CHUNK))
    return {
        "kind": "compute#serialPortOutput",
        "contents": data.decode(errors="replace"),
        "start": str(first),
        "next": str(first + len(data)),
        "selfLink": link(f"{path}/serialPort"),
    }


def _whole(data: bytes) -> bytes:
    """Without a character that is cut at the end: its other bytes come with the next call."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 == 0xC0:
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return data[:-back] if needed > back else data
        if byte < 0x80:
            return data
    return data


@method(
    "instances.getGuestAttributes", "GET", f"{_AT}/getGuestAttributes", query=("queryPath", "variableKey")
)
def _guest_attributes(call: Call) -> Resource:
    path, _ = find(call)
    kept = call.cloud.guest_attributes.get(path, {})
    answer: Resource = {"kind": "compute#guestAttributes", "selfLink": link(f"{path}/guestAttributes/")}
    if key := call.query.get("variableKey"):
        space, _, name = key.partition("/")
        if name not in kept.get(space, {}):
            raise not_found_attribute(key)
        return answer | {"variableKey": key, "variableValue": kept[space][name]}
    wanted = call.query.get("queryPath", "")
    space, _, name = wanted.partition("/")
    items = [
        {"namespace": here, "key": key, "value": value}
        for here, values in sorted(kept.items())
        for key, value in sorted(values.items())
        if space in ("", here) and name in ("", key)
    ]
    if not items:
        raise not_found_attribute(wanted)
    return answer | {"queryPath": wanted, "queryValue": {"items": items}}


def not_found_attribute(path: str) -> ApiError:
    return ApiError(404, "notFound", f"The resource '{path}' of type 'Guest Attribute' was not found.")
