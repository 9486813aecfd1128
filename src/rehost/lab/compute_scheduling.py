"""When an instance may run: its `scheduling`, and the moment at which a time limit ends it."""

from __future__ import annotations

from datetime import datetime, timedelta

from rehost.lab.compute_body import TABLES
from rehost.lab.compute_errors import invalid
from rehost.lab.state import Resource, timestamp

TABLES["Scheduling"] |= {
    "maxRunDuration": "Duration",
    "terminationTime": "string",
    "onInstanceStopAction": "SchedulingOnInstanceStopAction",
}
TABLES["Duration"] = {"seconds": "int64", "nanos": "int32"}
TABLES["SchedulingOnInstanceStopAction"] = {"discardLocalSsd": "bool"}

# Limits of maxRunDuration, and how long a preemptible machine that is not Spot may run:
# cloud.google.com/compute/docs/instances/limit-vm-runtime and .../instances/preemptible.
SHORTEST, LONGEST = timedelta(seconds=30), timedelta(days=120)
PREEMPTIBLE_LIFE = timedelta(hours=24)
_UNSPECIFIED = "INSTANCE_TERMINATION_ACTION_UNSPECIFIED"


def scheduling(given: Resource, now: datetime, at: str) -> Resource:
    """The whole of an instance's scheduling, for what a request says of it. Raises ApiError 400."""
    spot = given.get("provisioningModel") == "SPOT"
    preemptible = given.get("preemptible", spot)
    if spot and not preemptible:
        raise invalid(f"{at}.preemptible", "false", "Spot instances must be preemptible.")
    if preemptible:
        _check_preemptible(given, at)
    made: Resource = {
        "automaticRestart": not preemptible,
        "onHostMaintenance": "TERMINATE" if preemptible else "MIGRATE",
        "preemptible": preemptible,
        "provisioningModel": "STANDARD",
    } | given
    limited = _limits(made, now, at)
    action = made.pop("instanceTerminationAction", _UNSPECIFIED)
    if action != _UNSPECIFIED and not (spot or limited):
        raise invalid(
            f"{at}.instanceTerminationAction",
            action,
            "You cannot specify a termination action for a VM instance that has the standard provisioning model "
            "(default) and no time limit.",
        )
    if spot or limited:
        made["instanceTerminationAction"] = "STOP" if action == _UNSPECIFIED else action
    return made


def _check_preemptible(given: Resource, at: str) -> None:
    if given.get("automaticRestart"):
        why = "Scheduling must have preemptible be false when AutomaticRestart is true."
        raise invalid(f"{at}.preemptible", "true", why)
    if given.get("onHostMaintenance", "TERMINATE") != "TERMINATE":
        why = "Scheduling must have preemptible be false when OnHostMaintenance isn't TERMINATE."
        raise invalid(f"{at}.preemptible", "true", why)


def _limits(made: Resource, now: datetime, at: str) -> bool:
    """Whether there is a time limit; writes it as answers have it."""
    if "maxRunDuration" in made and "terminationTime" in made:
        raise invalid(
            f"{at}.terminationTime",
            made["terminationTime"],
            "Only one of maxRunDuration and terminationTime may be specified.",
        )
    if "maxRunDuration" in made:
        seconds = int(made["maxRunDuration"].get("seconds", 0))
        nanos = int(made["maxRunDuration"].get("nanos", 0))
        if nanos or not SHORTEST.total_seconds() <= seconds <= LONGEST.total_seconds():
            raise invalid(
                f"{at}.maxRunDuration", seconds, "Must be whole seconds between 30 seconds and 120 days."
            )
        made["maxRunDuration"] = {"seconds": str(seconds)}
        return True
    if "terminationTime" in made:
        moment = instant(made["terminationTime"], f"{at}.terminationTime")
        if moment < now + SHORTEST:
            raise invalid(
                f"{at}.terminationTime", made["terminationTime"], "Must be 30 seconds or more from now."
            )
        return True
    return False


def instant(text: str, field: str) -> datetime:
    """An RFC 3339 time. Raises ApiError 400."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = datetime.min
    if moment.tzinfo is None or "T" not in text.upper():
        raise invalid(field, text, "Must be a timestamp in RFC 3339 text format.")
    return moment


def limit_run(instance: Resource, now: datetime) -> None:
    """Writes down when a machine that starts to run now will be ended, if ever."""
    rules = instance["scheduling"]
    end: datetime | None = None
    if "maxRunDuration" in rules:
        end = now + timedelta(seconds=int(rules["maxRunDuration"]["seconds"]))
    elif "terminationTime" in rules:
        end = datetime.fromisoformat(rules["terminationTime"])
    elif rules["preemptible"] and rules["provisioningModel"] != "SPOT":
        end = now + PREEMPTIBLE_LIFE
    told = {"terminationTimestamp": timestamp(end)} if end else {}
    instance["resourceStatus"] = {"scheduling": told}


def run_ends(instance: Resource) -> datetime | None:
    """When a time limit ends the machine that runs."""
    text = instance.get("resourceStatus", {}).get("scheduling", {}).get("terminationTimestamp")
    return datetime.fromisoformat(text) if text else None
