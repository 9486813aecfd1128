"""What would change in the cloud: pure planning from what is desired and what was observed."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping

from rehost.cloud.bodies import wanted_firewalls, wanted_labels, wanted_metadata
from rehost.cloud.model import Desired, Firewall, Instance, Observed
from rehost.cloud.names import LABEL
from rehost.run.errors import Refused
from rehost.run.events import Json
from rehost.run.findings import Finding
from rehost.run.plan import Action, Change

# The client repeats single requests; this repeats a whole action after an error that is marked retryable.
RETRIES = 2
# States in which a machine stays until somebody starts it.
AT_REST = ("TERMINATED", "STOPPED", "SUSPENDED")
# Fields of a firewall rule that can be put right in place, in the order in which they are shown.
FIREWALL_FIELDS = ("allowed", "sources", "source_tags", "target_tags", "priority", "disabled")


def plan(desired: Desired, observed: Observed) -> list[Action]:
    """The actions that make the cloud as desired; none when it is.

    Raises Refused when something of one of our names stands there that rehost did not make.
    """
    _refuse_strangers(desired, observed)
    actions = [*_address(desired, observed), *_firewalls(desired, observed)]
    if observed.instance is None:
        actions.append(_new_instance(desired, observed))
    else:
        actions += _instance(desired, observed, observed.instance)
        actions += [
            Action(
                f"instance/{other.name}@{other.zone}",
                "delete",
                f"the machine in {other.zone}",
                retries=RETRIES,
            )
            for other in observed.elsewhere
        ]
    machines = (desired.names.instance, *(f"{other.name}@{other.zone}" for other in observed.elsewhere))
    actions += [
        Action(
            f"address/{other.name}@{other.region}",
            "delete",
            f"the reserved address {other.address} in {other.region}",
            (Change("address", other.address, None),),
            needs=tuple(f"instance/{machine}" for machine in machines),
            retries=RETRIES,
        )
        for other in observed.addresses_elsewhere
    ]
    return actions


def remarks(desired: Desired, observed: Observed) -> list[Finding]:
    """What differs but is not put right, because it cannot be without loss."""
    found: list[Finding] = []
    disk = observed.disk
    if disk is not None and disk.size_gb > desired.disk_gb:
        found.append(
            Finding(
                "warning",
                f"the disk has {disk.size_gb} GB, rehost.toml says {desired.disk_gb} GB; a disk cannot shrink.",
                f'Write disk = "{disk.size_gb}GB", or move to a new machine with a smaller disk.',
                "rehost.toml, [machine] disk",
            )
        )
    if disk is not None and disk.type != desired.disk_type:
        found.append(
            Finding(
                "warning",
                f"the disk is of type {disk.type}, not {desired.disk_type}; the type stays as it was made.",
                where=f"disk {disk.name}",
            )
        )
    return found


def destroy_plan(desired: Desired, observed: Observed, *, keep_address: bool = False) -> list[Action]:
    """The actions that remove the app's machine, disk, firewall rules and address, in all zones.

    Only what rehost made is named. Raises Refused when the machine is protected against deletion.
    """
    actions: list[Action] = []
    instances = [i for i in (observed.instance, *observed.elsewhere) if i is not None and i.ours()]
    for instance in instances:
        if instance.deletion_protection:
            raise Refused(
                f"the machine {instance.name} is protected against deletion.",
                where=f"{instance.zone}, project {desired.project}",
                cure=f"`gcloud compute instances update {instance.name} --no-deletion-protection --zone "
                f"{instance.zone} --project {desired.project}` takes the protection away.",
            )
        actions.append(
            Action(
                _instance_id(desired, instance),
                "delete",
                f"the machine {instance.name} in {instance.zone}, with its disk",
                (Change("address", instance.external or None, None),),
                retries=RETRIES,
            )
        )
    if (
        observed.disk is not None
        and observed.instance is None
        and observed.disk.labels.get(LABEL) == desired.app
    ):
        actions.append(
            Action(f"disk/{observed.disk.name}", "delete", f"the disk {observed.disk.name}", retries=RETRIES)
        )
    for name, rule in observed.firewalls.items():
        if rule.description == desired.names.description:
            actions.append(Action(f"firewall/{name}", "delete", f"the firewall rule {name}", retries=RETRIES))
    if keep_address:
        return actions
    needs = tuple(action.id for action in actions if action.id.startswith("instance/"))
    for address in (observed.address, *observed.addresses_elsewhere):
        if address is not None and address.description == desired.names.description:
            here = address.region == desired.region
            actions.append(
                Action(
                    f"address/{address.name}" if here else f"address/{address.name}@{address.region}",
                    "delete",
                    f"the reserved address {address.address}",
                    (Change("address", address.address or None, None),),
                    needs=needs,
                    retries=RETRIES,
                )
            )
    return actions


def _instance_id(desired: Desired, instance: Instance) -> str:
    here = instance.zone == desired.zone
    return f"instance/{instance.name}" if here else f"instance/{instance.name}@{instance.zone}"


def _refuse_strangers(desired: Desired, observed: Observed) -> None:
    names = desired.names
    if observed.instance is not None and not observed.instance.ours():
        raise _stranger(
            desired,
            "a machine",
            names.instance,
            f"`gcloud compute instances add-labels {names.instance} --labels {LABEL}={desired.app} --zone "
            f"{desired.zone} --project {desired.project}`",
        )
    if (
        observed.instance is None
        and observed.disk is not None
        and observed.disk.labels.get(LABEL) != desired.app
    ):
        raise _stranger(
            desired,
            "a disk",
            names.disk,
            f"`gcloud compute disks add-labels {names.disk} --labels {LABEL}={desired.app} --zone {desired.zone} "
            f"--project {desired.project}`",
        )
    marked = [("an address", observed.address)] + [
        ("a firewall rule", rule) for rule in observed.firewalls.values()
    ]
    for kind, thing in marked:
        if thing is not None and thing.description != names.description:
            raise _stranger(desired, kind, thing.name, f"set its description to {names.description!r}")


def _stranger(desired: Desired, kind: str, name: str, adopt: str) -> Refused:
    return Refused(
        f"{kind} named {name} is there already, and rehost did not make it.",
        where=f"project {desired.project}",
        cure=f"Choose another app name in rehost.toml, or give it to rehost: {adopt}.",
    )


def _address(desired: Desired, observed: Observed) -> list[Action]:
    if observed.address is not None:
        return []
    name = desired.names.address
    return [
        Action(
            f"address/{name}",
            "create",
            f"a reserved address in {desired.region}",
            (Change("region", None, desired.region),),
            retries=RETRIES,
        )
    ]


def _firewalls(desired: Desired, observed: Observed) -> list[Action]:
    actions: list[Action] = []
    for wanted in wanted_firewalls(desired):
        found = observed.firewalls.get(wanted.name)
        id_ = f"firewall/{wanted.name}"
        opens = f"{', '.join(wanted.allowed)} from {', '.join(wanted.sources)}"
        if found is None:
            opened: tuple[Change, ...] = (
                Change("allowed", None, list(wanted.allowed)),
                Change("sources", None, list(wanted.sources)),
            )
            actions.append(
                Action(id_, "create", f"the firewall rule {wanted.name}: {opens}", opened, retries=RETRIES)
            )
            continue
        fixed = firewall_replace(found, wanted)
        changes = firewall_changes(found, wanted)
        if fixed:
            actions.append(
                Action(id_, "replace", f"the firewall rule {wanted.name}", fixed + changes, retries=RETRIES)
            )
        elif changes:
            actions.append(
                Action(id_, "update", f"the firewall rule {wanted.name}", changes, retries=RETRIES)
            )
    return actions


def firewall_changes(found: Firewall, wanted: Firewall) -> tuple[Change, ...]:
    """Fields that can be put right in place."""
    pairs = [(name, getattr(found, name), getattr(wanted, name)) for name in FIREWALL_FIELDS]
    return tuple(Change(name, _shown(a), _shown(b)) for name, a, b in pairs if a != b)


def firewall_replace(found: Firewall, wanted: Firewall) -> tuple[Change, ...]:
    """Fields that Google does not let change, or not together with ours: the rule is made anew."""
    pairs: list[tuple[str, Json, Json]] = [
        ("network", found.network, wanted.network),
        ("direction", found.direction, wanted.direction),
        ("denied", list(found.denied), list(wanted.denied)),
        ("service accounts", found.service_accounts, wanted.service_accounts),
    ]
    return tuple(Change(name, a, b) for name, a, b in pairs if a != b)


def _shown(value: Json | tuple[str, ...]) -> Json:
    return list(value) if isinstance(value, tuple) else value


def _new_instance(desired: Desired, observed: Observed) -> Action:
    names = desired.names
    changes: list[Change] = [
        Change("machine type", None, desired.machine_type),
        Change("image", None, desired.image),
        Change("disk", None, f"{desired.disk_gb} GB {desired.disk_type}"),
    ]
    what = f"the machine {names.instance} in {desired.zone}"
    if observed.elsewhere:
        old = observed.elsewhere[0]
        return Action(
            f"instance/{names.instance}",
            "replace",
            f"{what}; the one in {old.zone} is deleted first, with all that is on its disk",
            (Change("zone", old.zone, desired.zone), *changes),
            needs=(f"address/{names.address}",),
            retries=RETRIES,
        )
    if observed.disk is not None:
        what += ", from its disk that stands there"
        changes = changes[:1]
    return Action(
        f"instance/{names.instance}",
        "create",
        what,
        (Change("zone", None, desired.zone), *changes),
        needs=(f"address/{names.address}",),
        retries=RETRIES,
    )


def _instance(desired: Desired, observed: Observed, instance: Instance) -> list[Action]:
    name = instance.name
    actions: list[Action] = []

    def update(kind: str, what: str, changes: tuple[Change, ...], *needs: str) -> None:
        # Each try of another machine type stops the machine: that is done once.
        retries = 0 if kind == "machine-type" else RETRIES
        if changes:
            actions.append(Action(f"{kind}/{name}", "update", what, changes, needs=needs, retries=retries))

    update("metadata", f"the metadata of {name}", _metadata_changes(desired, instance.metadata))
    wanted = wanted_labels(desired, instance.labels)
    update("labels", f"the labels of {name}", _differences("label", instance.labels, wanted))
    if desired.names.tag not in instance.tags:
        tags = (Change("tags", list(instance.tags), [*instance.tags, desired.names.tag]),)
        update("tags", f"the network tags of {name}: without ours no firewall rule lets anybody in", tags)
    if observed.disk is not None and observed.disk.size_gb < desired.disk_gb:
        update(
            "disk",
            f"the disk of {name}; its file system grows at the machine's next start",
            (Change("size", f"{observed.disk.size_gb} GB", f"{desired.disk_gb} GB"),),
        )
    reserved = observed.address.address if observed.address else None
    if reserved is None or (reserved and instance.external != reserved):
        update(
            "external",
            f"the external address of {name}",
            (Change("address", instance.external or None, reserved or "the reserved one"),),
            f"address/{desired.names.address}",
        )
    before = tuple(action.id for action in actions)
    if instance.machine_type != desired.machine_type:
        update(
            "machine-type",
            f"the machine type of {name}; the app is down while the machine stops and starts, a minute or two",
            (Change("machine type", instance.machine_type, desired.machine_type),),
            *before,
        )
    elif instance.status in AT_REST:
        update("power", f"start {name}", (Change("status", instance.status, "RUNNING"),), *before)
    return actions


def _metadata_changes(desired: Desired, current: Mapping[str, str]) -> tuple[Change, ...]:
    """Scripts are shown by their size and digest, keys by their fingerprint: both are long."""
    wanted = wanted_metadata(desired, current)
    changes: list[Change] = []
    for key in sorted(wanted):
        before, after = current.get(key), wanted[key]
        if before == after:
            continue
        if key == "ssh-keys":
            user, mark = desired.ssh_user, fingerprint(desired.ssh_public_key)
            changes.append(Change(f"metadata ssh-keys, {user}", None, mark))
        elif key == "startup-script":
            field = "metadata startup-script, runs at the next start"
            changes.append(Change(field, digest(before), digest(after)))
        else:
            changes.append(Change(f"metadata {key}", before, after))
    return tuple(changes)


def _differences(kind: str, current: Mapping[str, str], wanted: Mapping[str, str]) -> tuple[Change, ...]:
    return tuple(
        Change(f"{kind} {key}", current.get(key), wanted[key])
        for key in sorted(wanted)
        if current.get(key) != wanted[key]
    )


def digest(text: str | None) -> str | None:
    """A long text by its length in bytes and the beginning of its SHA-256."""
    if text is None:
        return None
    data = text.encode()
    return f"{len(data)} bytes, {hashlib.sha256(data).hexdigest()[:12]}"


def fingerprint(public_key: str) -> str:
    """A public key's SHA-256 fingerprint, as `ssh-keygen -l` prints it."""
    kind, blob = public_key.split()[:2]
    try:
        raw = base64.b64decode(blob, validate=True)
    except binascii.Error:
        return kind
    return f"{kind} SHA256:{base64.b64encode(hashlib.sha256(raw).digest()).decode().rstrip('=')}"
