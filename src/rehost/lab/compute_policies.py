"""Resource policies: when machines start and stop, when disks are snapshotted. compute_schedules acts by them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from rehost.lab.compute_addresses import check_labels, check_name
from rehost.lab.compute_body import TABLES
from rehost.lab.compute_call import AGGREGATED_QUERY, LIST_QUERY, Call, method
from rehost.lab.compute_catalog import ZONES, region_of
from rehost.lab.compute_cron import Cron
from rehost.lab.compute_errors import ApiError, already_exists, in_use, invalid, required
from rehost.lab.compute_lists import aggregated, page
from rehost.lab.compute_plans import plans
from rehost.lab.compute_power import find
from rehost.lab.compute_quotas import check_room
from rehost.lab.compute_scheduling import instant
from rehost.lab.state import Cloud, Resource, link, relative, timestamp

TABLES["ResourcePolicy"] = {
    "kind": "string",
    "name": "string",
    "description": "string",
    "region": "string",
    "instanceSchedulePolicy": "ResourcePolicyInstanceSchedulePolicy",
    "snapshotSchedulePolicy": "ResourcePolicySnapshotSchedulePolicy",
}
TABLES["ResourcePolicyInstanceSchedulePolicy"] = {
    "expirationTime": "string",
    "startTime": "string",
    "timeZone": "string",
    "vmStartSchedule": "ResourcePolicyInstanceSchedulePolicySchedule",
    "vmStopSchedule": "ResourcePolicyInstanceSchedulePolicySchedule",
}
TABLES["ResourcePolicyInstanceSchedulePolicySchedule"] = {"schedule": "string"}
TABLES["ResourcePolicySnapshotSchedulePolicy"] = {
    "retentionPolicy": "ResourcePolicySnapshotSchedulePolicyRetentionPolicy",
    "schedule": "ResourcePolicySnapshotSchedulePolicySchedule",
    "snapshotProperties": "ResourcePolicySnapshotSchedulePolicySnapshotProperties",
}
TABLES["ResourcePolicySnapshotSchedulePolicyRetentionPolicy"] = {
    "maxRetentionDays": "int32",
    "onSourceDiskDelete": "APPLY_RETENTION_POLICY|KEEP_AUTO_SNAPSHOTS|UNSPECIFIED_ON_SOURCE_DISK_DELETE",
}
TABLES["ResourcePolicySnapshotSchedulePolicySchedule"] = {
    "dailySchedule": "ResourcePolicyDailyCycle",
    "hourlySchedule": "ResourcePolicyHourlyCycle",
    "weeklySchedule": "ResourcePolicyWeeklyCycle",
}
TABLES["ResourcePolicyDailyCycle"] = {"daysInCycle": "int32", "startTime": "string"}
TABLES["ResourcePolicyHourlyCycle"] = {"hoursInCycle": "int32", "startTime": "string"}
TABLES["ResourcePolicyWeeklyCycle"] = {"dayOfWeeks": "[ResourcePolicyWeeklyCycleDayOfWeek]"}
TABLES["ResourcePolicyWeeklyCycleDayOfWeek"] = {
    "day": "MONDAY|TUESDAY|WEDNESDAY|THURSDAY|FRIDAY|SATURDAY|SUNDAY",
    "startTime": "string",
}
TABLES["ResourcePolicySnapshotSchedulePolicySnapshotProperties"] = {
    "guestFlush": "bool",
    "labels": "{string}",
    "storageLocations": "[string]",
    "chainName": "string",
}
for _family in ("Disks", "Instances"):
    TABLES[f"{_family}AddResourcePoliciesRequest"] = {"resourcePolicies": "[string]"}
    TABLES[f"{_family}RemoveResourcePoliciesRequest"] = {"resourcePolicies": "[string]"}

_KINDS = ("instanceSchedulePolicy", "snapshotSchedulePolicy")
_HOUR = re.compile(r"([01]?\d|2[0-3]):[0-5]\d")
WINDOW = "PT14400S"  # the length of the window in which Compute Engine begins a snapshot


# -- what a policy must look like --------------------------------------------------------------------------


def _complete(body: Resource) -> Resource:
    """A policy's own part as answers have it. Raises ApiError 400."""
    kinds = [kind for kind in _KINDS if kind in body]
    if len(kinds) != 1:
        raise invalid("resource", "", "Exactly one policy must be specified.")
    kind = kinds[0]
    check = _instance_schedule if kind == "instanceSchedulePolicy" else _snapshot_schedule
    return {kind: check(body[kind], f"resource.{kind}")}


def _instance_schedule(rules: Resource, at: str) -> Resource:
    if "vmStartSchedule" not in rules and "vmStopSchedule" not in rules:
        raise required(f"{at}.vmStartSchedule")
    if "timeZone" not in rules:
        raise required(f"{at}.timeZone")
    try:
        ZoneInfo(rules["timeZone"])
    except (ZoneInfoNotFoundError, ValueError, OSError):
        why = "Must be a name of the time zone database, for example 'Asia/Seoul'."
        raise invalid(f"{at}.timeZone", rules["timeZone"], why) from None
    for key in ("vmStartSchedule", "vmStopSchedule"):
        if key in rules:
            _check_cron(rules[key].get("schedule", ""), f"{at}.{key}.schedule")
    moments = {
        key: instant(rules[key], f"{at}.{key}") for key in ("startTime", "expirationTime") if key in rules
    }
    if len(moments) == 2 and moments["startTime"] >= moments["expirationTime"]:
        raise invalid(f"{at}.expirationTime", rules["expirationTime"], "Must be later than the start time.")
    return rules


def _check_cron(text: str, field: str) -> None:
    try:
        Cron.parse(text)
    except ValueError as error:
        raise invalid(field, text, f"Must be a valid cron expression: {error}.") from None


def _snapshot_schedule(rules: Resource, at: str) -> Resource:
    cycles = rules.get("schedule", {})
    if len(cycles) != 1:
        raise invalid(f"{at}.schedule", "", "Exactly one schedule must be specified.")
    [(name, cycle)] = cycles.items()
    at_cycle = f"{at}.schedule.{name}"
    if name == "weeklySchedule":
        days = cycle.get("dayOfWeeks", [])
        if not days:
            raise required(f"{at_cycle}.dayOfWeeks")
        for i, day in enumerate(days):
            if "day" not in day:
                raise required(f"{at_cycle}.dayOfWeeks[{i}].day")
        made: Resource = {
            "dayOfWeeks": [
                {"day": day["day"], **_window(day, f"{at_cycle}.dayOfWeeks[{i}]")}
                for i, day in enumerate(days)
            ]
        }
    else:
        key, largest = ("daysInCycle", 1) if name == "dailySchedule" else ("hoursInCycle", 23)
        if not 1 <= cycle.get(key, 0) <= largest:
            raise invalid(f"{at_cycle}.{key}", cycle.get(key, ""), f"Must be between 1 and {largest}.")
        made = {key: cycle[key], **_window(cycle, at_cycle)}
    kept = rules.get("retentionPolicy", {})
    if "retentionPolicy" in rules and not 1 <= kept.get("maxRetentionDays", 0) <= 65535:
        raise invalid(
            f"{at}.retentionPolicy.maxRetentionDays", kept.get("maxRetentionDays", ""), "Must be 1 or more."
        )
    check_labels(rules.get("snapshotProperties", {}).get("labels", {}), f"{at}.snapshotProperties.labels")
    told = {"retentionPolicy": {"onSourceDiskDelete": "KEEP_AUTO_SNAPSHOTS"} | kept} if kept else {}
    return rules | {"schedule": {name: made}} | told


def _window(cycle: Resource, at: str) -> Resource:
    """The start on the hour: minutes are dropped, as Compute Engine does."""
    text = cycle.get("startTime", "")
    if not _HOUR.fullmatch(text):
        raise invalid(f"{at}.startTime", text, "Must be a time of the day in the format HH:MM.")
    return {"startTime": f"{int(text.split(':')[0]):02d}:00", "duration": WINDOW}


# -- methods -----------------------------------------------------------------------------------------------

_AT = "/regions/{region}/resourcePolicies"


def _shown(call: Call, policy: Resource) -> Resource:
    """The policy with its next run."""
    if "instanceSchedulePolicy" not in policy:
        return policy
    following = [at for plan in plans(policy).values() if (at := plan.after(call.cloud.clock()))]
    status = dict(policy["resourceStatus"]["instanceSchedulePolicy"])
    if following:
        status["nextRunStartTime"] = timestamp(min(following))
    return policy | {"resourceStatus": {"instanceSchedulePolicy": status}}


def _path(call: Call) -> str:
    return f"{call.scope}/resourcePolicies/{call.path['resourcePolicy']}"


@method("resourcePolicies.get", "GET", f"{_AT}/{{resourcePolicy}}")
def _get(call: Call) -> Resource:
    return _shown(call, call.cloud.get(_path(call)))


@method("resourcePolicies.list", "GET", _AT, query=LIST_QUERY)
def _list(call: Call) -> Resource:
    found = call.cloud.under(f"{call.scope}/resourcePolicies")
    return page(call, "compute#resourcePolicyList", [_shown(call, policy) for policy in found])


@method("resourcePolicies.aggregatedList", "GET", "/aggregated/resourcePolicies", query=AGGREGATED_QUERY)
def _aggregated(call: Call) -> Resource:
    scopes = {
        f"regions/{region}": [
            _shown(call, policy)
            for policy in call.cloud.under(f"{call.project}/regions/{region}/resourcePolicies")
        ]
        for region in ZONES
    }
    return aggregated(call, "compute#resourcePolicyAggregatedList", "resourcePolicies", scopes)


@method("resourcePolicies.insert", "POST", _AT, body="ResourcePolicy")
def _insert(call: Call) -> Resource:
    cloud, body = call.cloud, call.body
    path = f"{call.scope}/resourcePolicies/{check_name(body)}"
    if path in cloud.resources:
        raise already_exists(path)
    made: Resource = {
        "kind": "compute#resourcePolicy",
        "region": link(call.scope),
        "status": "CREATING",
        **_complete(body),
    }
    if "description" in body:
        made["description"] = body["description"]
    if "instanceSchedulePolicy" in made:
        made["resourceStatus"] = {"instanceSchedulePolicy": {}}
    check_room(cloud, "RESOURCE_POLICIES", call.path["region"])
    policy = cloud.add(path, made)

    async def work() -> None:
        policy["status"] = "READY"

    return call.operations.start(call, "insert", path, work, undo=lambda: cloud.remove(path))


@method(
    "resourcePolicies.patch",
    "PATCH",
    f"{_AT}/{{resourcePolicy}}",
    body="ResourcePolicy",
    query=("updateMask",),
)
def _patch(call: Call) -> Resource:
    """Snapshot schedules change, and descriptions; an instance schedule is made anew, as at Compute Engine."""
    policy, body = call.cloud.get(_path(call)), call.body
    if body.get("name", policy["name"]) != policy["name"]:
        raise invalid("resource.name", body["name"], "Field is immutable.")
    changed: Resource = {key: body[key] for key in ("description",) if key in body}
    for kind in _KINDS:
        if kind not in body:
            continue
        if kind not in policy or kind == "instanceSchedulePolicy":
            raise invalid(f"resource.{kind}", "", "This part of the resource policy cannot be updated.")
        changed |= _complete({kind: policy[kind] | body[kind]})

    async def work() -> None:
        policy.update(changed)

    return call.operations.start(call, "patch", _path(call), work)


@method("resourcePolicies.delete", "DELETE", f"{_AT}/{{resourcePolicy}}")
def _delete(call: Call) -> Resource:
    cloud, path = call.cloud, _path(call)
    policy = cloud.get(path)
    for word in ("instances", "disks"):
        for user, item in cloud.everywhere(word):
            if policy["selfLink"] in item.get("resourcePolicies", ()):
                raise in_use(path, user)

    async def work() -> None:
        cloud.remove(path)

    return call.operations.start(call, "delete", path, work)


# -- what they are attached to -----------------------------------------------------------------------------


def attachable(cloud: Cloud, references: list[str], region: str, kind: str, field: str) -> list[str]:
    """Links of policies of that kind ("instanceSchedulePolicy") for a resource of the region. Raises ApiError 400."""
    if len(references) != 1:
        raise invalid(field, len(references), "Exactly one resource policy must be specified.")
    path = relative(references[0]).replace(f"projects/{cloud.number}/", f"projects/{cloud.project}/", 1)
    if path.startswith("regions/"):
        path = f"projects/{cloud.project}/{path}"
    policy = cloud.resources.get(path)
    if policy is None or "/resourcePolicies/" not in path:
        raise invalid(field, references[0], "The referenced resource policy cannot be found.")
    if region_of(path) != region:
        raise invalid(field, references[0], f"The resource policy must be in the region '{region}'.")
    if kind not in policy:
        raise invalid(field, references[0], f"A resource policy with {kind} is needed here.")
    return [cast(str, policy["selfLink"])]


def _add(call: Call, path: str, target: Resource, kind: str) -> Resource:
    wanted = attachable(
        call.cloud,
        call.body.get("resourcePolicies", []),
        region_of(call.scope),
        kind,
        "resource.resourcePolicies",
    )
    if target.get("resourcePolicies", wanted) != wanted:
        raise ApiError(
            400,
            "invalidResourceUsage",
            f"Invalid resource usage: 'Resource has the policy {relative(target['resourcePolicies'][0])} already.'.",
        )

    async def work() -> None:
        target["resourcePolicies"] = wanted

    return call.operations.start(call, "addResourcePolicies", path, work)


def _remove(call: Call, path: str, target: Resource, kind: str) -> Resource:
    given = call.body.get("resourcePolicies", [])
    gone = attachable(call.cloud, given, region_of(call.scope), kind, "resource.resourcePolicies")
    if not set(gone) <= set(target.get("resourcePolicies", ())):
        raise invalid("resource.resourcePolicies", given[0], "The resource policy is not attached.")

    async def work() -> None:
        target.pop("resourcePolicies", None)

    return call.operations.start(call, "removeResourcePolicies", path, work)


for _verb, _do in (("add", _add), ("remove", _remove)):

    def _on_disk(call: Call, do: Callable[[Call, str, Resource, str], Resource] = _do) -> Resource:
        path = f"{call.scope}/disks/{call.path['disk']}"
        return do(call, path, call.cloud.get(path), "snapshotSchedulePolicy")

    def _on_instance(call: Call, do: Callable[[Call, str, Resource, str], Resource] = _do) -> Resource:
        path, instance = find(call)
        return do(call, path, instance, "instanceSchedulePolicy")

    _title = f"{_verb.capitalize()}ResourcePoliciesRequest"
    method(
        f"disks.{_verb}ResourcePolicies",
        "POST",
        f"/zones/{{zone}}/disks/{{disk}}/{_verb}ResourcePolicies",
        body=f"Disks{_title}",
    )(_on_disk)
    method(
        f"instances.{_verb}ResourcePolicies",
        "POST",
        f"/zones/{{zone}}/instances/{{instance}}/{_verb}ResourcePolicies",
        body=f"Instances{_title}",
    )(_on_instance)
