"""How a machine in the cloud is reached: its address, the host keys that it published, its serial console."""

from __future__ import annotations

import time

from rehost.cloud.client import Client, Progress
from rehost.cloud.errors import CloudError, NotFound, NotReady
from rehost.cloud.model import Desired, Instance, Reach
from rehost.cloud.names import LABEL
from rehost.cloud.observe import look_at_instance, together
from rehost.cloud.plan import AT_REST
from rehost.run.errors import Refused

# A machine publishes its host keys late in its first boot: some seconds in the lab, a minute at Google.
HOST_KEYS_SECONDS = 300.0
SERIAL_LINES = 30


async def reach(
    client: Client, desired: Desired, progress: Progress | None = None, *, deadline: float = HOST_KEYS_SECONDS
) -> Reach:
    """The machine's address and host keys, waiting until it has published them. deadline: seconds.

    Raises NotFound when there is no machine, Refused when it is not ours, CloudError when it is stopped or its keys
    do not come in time; then with the serial console's last lines.
    """
    end = time.monotonic() + deadline
    while True:
        instance, keys = await _look(client, desired)
        _refuse_unreachable(desired, instance)
        if instance.external and keys:
            return Reach(instance.external, desired.ssh_user, keys, instance.id)
        if time.monotonic() > end:
            raise await _no_keys(client, desired, instance, deadline)
        if progress is not None:
            progress(
                f"{instance.name} is {instance.status}"
                + ("; waiting for its host keys" if instance.external else "; waiting for its address")
            )
        await client.pause(1.0)


async def serial(client: Client, desired: Desired, start: int = 0) -> tuple[str, int]:
    """What the machine has written to its serial console since byte `start`, and where to read on."""
    path = client.path("zones", desired.zone, "instances", desired.names.instance, "serialPort")
    try:
        answer = await client.get(path, port="1", start=str(start))
    except NotReady:
        return "", start
    return str(answer.get("contents") or ""), int(answer.get("next") or start)


async def _look(client: Client, desired: Desired) -> tuple[Instance, tuple[str, ...]]:
    async def keys() -> None:
        found.extend(await _host_keys(client, desired))

    async def machine() -> None:
        instance = await look_at_instance(client, desired)
        if instance is None:
            raise NotFound(
                f"there is no machine {desired.names.instance} in {desired.zone}.",
                where=f"project {desired.project}",
                cure="`rehost up` makes it.",
            )
        machines.append(instance)

    found: list[str] = []
    machines: list[Instance] = []
    await together(machine(), keys())
    return machines[0], tuple(found)


async def _host_keys(client: Client, desired: Desired) -> list[str]:
    """The published keys as "TYPE BASE64". "None yet" is a 404.

    https://cloud.google.com/compute/docs/metadata/manage-guest-attributes
    """
    path = client.path("zones", desired.zone, "instances", desired.names.instance, "getGuestAttributes")
    answer = await client.maybe(path, queryPath="hostkeys/") or {}
    items = (answer.get("queryValue") or {}).get("items") or ()
    return [f"{item['key']} {item['value'].strip()}" for item in items if item.get("namespace") == "hostkeys"]


def _refuse_unreachable(desired: Desired, instance: Instance) -> None:
    if not instance.ours():
        raise Refused(
            f"the machine {instance.name} in {desired.zone} does not carry the label {LABEL}: rehost did not make it.",
            where=f"project {desired.project}",
            cure="Choose another app name in rehost.toml.",
        )
    if instance.status in AT_REST:
        raise CloudError(
            f"the machine {instance.name} is {instance.status}.",
            where=f"{desired.zone}, project {desired.project}",
            cure="`rehost up` starts it.",
        )


async def _no_keys(client: Client, desired: Desired, instance: Instance, deadline: float) -> CloudError:
    text, _ = await serial(client, desired)
    lines = "\n".join(text.rstrip().splitlines()[-SERIAL_LINES:])
    if instance.metadata.get("enable-guest-attributes", "").upper() != "TRUE":
        cure = (
            "Its metadata did not allow guest attributes when it was made, so it never will: "
            "`rehost down` and `rehost up` make a new one."
        )
    else:
        cure = (
            "Run the same command again if it is still starting; the last lines of its console are below. A machine "
            "publishes its keys in its first boot alone: if that has ended, or never will, `rehost down` and "
            "`rehost up` make a new one."
        )
    return CloudError(
        f"the machine has not published its ssh host keys within {deadline:.0f} s, so who answers cannot be proved.",
        where=f"{instance.name} in {instance.zone}, project {desired.project}",
        cure=cure,
        detail=lines,
        retryable=True,
    )
