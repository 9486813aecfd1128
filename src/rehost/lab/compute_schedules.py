"""Does what is due: instance schedules, snapshot schedules, time limits of machines."""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from rehost.lab.compute_errors import ApiError
from rehost.lab.compute_firewalls import Packets
from rehost.lab.compute_lifetimes import end_run
from rehost.lab.compute_operations import Operations
from rehost.lab.compute_plans import plans
from rehost.lab.compute_power import power_off, power_on
from rehost.lab.compute_scheduling import run_ends
from rehost.lab.compute_snapshots import drop, take
from rehost.lab.state import Cloud, Resource, relative, timestamp

log = logging.getLogger(__name__)

TICK = 1.0  # seconds between two looks at the clock


@dataclass(frozen=True)
class Due:
    """verb: "start", "stop", "snapshot" by a policy, whose path is `policy`; "end" by a time limit."""

    at: datetime
    verb: str
    path: str
    policy: str = ""


def due(cloud: Cloud, since: datetime, until: datetime) -> list[Due]:
    """What falls later than `since` and not later than `until`, earliest first."""
    found = []
    for path, instance in cloud.everywhere("instances"):
        end = run_ends(instance)
        if instance["status"] == "RUNNING" and end and end <= until:
            found.append(Due(end, "end", path))
        found += _wanted(cloud, path, instance, since, until)
    for path, disk in cloud.everywhere("disks"):
        found += _wanted(cloud, path, disk, since, until)
    return sorted(found, key=lambda one: one.at)


def _wanted(cloud: Cloud, path: str, target: Resource, since: datetime, until: datetime) -> list[Due]:
    links = target.get("resourcePolicies", ())
    found = []
    for policy_path, policy in cloud.everywhere("resourcePolicies") if links else ():
        if policy["selfLink"] not in links:
            continue
        for verb, plan in plans(policy).items():
            at = plan.after(since)
            if at and at <= until:
                found.append(Due(at, verb, path, policy_path))
    return found


def _name(disk: Resource, one: Due) -> str:
    """As Compute Engine composes it: disk, zone, moment, something of chance; 63 letters at most."""
    rest = f"-{one.path.split('/')[3]}-{one.at:%Y%m%d%H%M%S}-{secrets.token_hex(4)}"
    return str(disk["name"])[: 63 - len(rest)] + rest


def _details(policy: Resource) -> Resource:
    """What a schedule's snapshot has beside its content."""
    properties = policy["snapshotSchedulePolicy"].get("snapshotProperties", {})
    return {
        "autoCreated": True,
        "sourceSnapshotSchedulePolicy": policy["selfLink"],
        "sourceSnapshotSchedulePolicyId": policy["id"],
        "labels": properties.get("labels", {}),
        "storageLocations": properties.get("storageLocations", ["us"]),
    }


def expired(cloud: Cloud, until: datetime) -> list[str]:
    """Paths of snapshots that schedules made, older than their schedule keeps them. Those of a disk that is gone
    stay, unless the schedule says APPLY_RETENTION_POLICY; those of a schedule that is gone stay."""
    policies = {policy["selfLink"]: policy for _, policy in cloud.everywhere("resourcePolicies")}
    found = []
    for path, snapshot in cloud.everywhere("snapshots"):
        policy = policies.get(snapshot.get("sourceSnapshotSchedulePolicy", ""))
        rules = policy["snapshotSchedulePolicy"].get("retentionPolicy") if policy else None
        if rules is None or snapshot["status"] != "READY":
            continue
        orphan = relative(snapshot["sourceDisk"]) not in cloud.resources
        if orphan and rules["onSourceDiskDelete"] != "APPLY_RETENTION_POLICY":
            continue
        born = datetime.fromisoformat(snapshot["creationTimestamp"])
        if born + timedelta(days=rules["maxRetentionDays"]) <= until:
            found.append(path)
    return found


class Schedules:
    """Looks at the clock and acts. Moments that passed while the lab was down are not made up for."""

    def __init__(self, cloud: Cloud, operations: Operations, packets: Packets) -> None:
        self._cloud = cloud
        self._operations = operations
        self._packets = packets
        self._since = cloud.clock()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(TICK)
            try:
                self.tick()
            except Exception:  # the next look may go well; the reason stands in the log
                log.exception("the schedules broke")

    def tick(self) -> list[Resource]:
        """Starts what became due since the last look; the operations."""
        until = self._cloud.clock()
        since, self._since = self._since, until
        started = []
        for one in due(self._cloud, since, until):
            try:
                started += self._start(one)
            except ApiError as error:
                log.warning("%s of %s by schedule: %s", one.verb, one.path, error.message)
        return started + [drop(self._cloud, self._operations, path) for path in expired(self._cloud, until)]

    def _start(self, one: Due) -> list[Resource]:
        cloud, operations = self._cloud, self._operations
        target, scope = cloud.get(one.path), one.path.rsplit("/", 2)[0]
        if one.verb == "end":
            return [end_run(cloud, operations, self._packets, one.path)]
        policy = cloud.get(one.policy)
        if one.verb == "snapshot":
            return [take(cloud, operations, one.path, _name(target, one), _details(policy))]
        policy["resourceStatus"] = {"instanceSchedulePolicy": {"lastRunStartTime": timestamp(one.at)}}
        if target["status"] != {"start": "TERMINATED", "stop": "RUNNING"}[one.verb]:
            return []
        power = power_on if one.verb == "start" else power_off

        async def work() -> None:
            await power(cloud, self._packets, target)

        # Compute Engine's service agent does it.
        agent = f"service-{cloud.number}@compute-system.iam.gserviceaccount.com"
        return [operations.begin(scope, one.verb, one.path, work, user=agent)]
