"""The moments at which a resource policy acts. Nothing here knows a clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from rehost.lab.compute_cron import Cron
from rehost.lab.state import Resource

DAYS = ("SUNDAY", "MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY")


@dataclass(frozen=True)
class Plan:
    """Moments of one kind of action: those of any cron expression in this zone, from `begins` until `ends`."""

    crons: tuple[Cron, ...]
    zone: tzinfo
    begins: datetime | None = None
    ends: datetime | None = None

    def after(self, moment: datetime) -> datetime | None:
        """The first moment later than this one."""
        if self.begins and moment < self.begins:
            moment = self.begins - timedelta(seconds=1)
        found = [at for cron in self.crons if (at := cron.after(moment, self.zone))]
        first = min(found, default=None)
        return None if first is None or (self.ends and first > self.ends) else first


def plans(policy: Resource) -> dict[str, Plan]:
    """What a policy does and when: "start", "stop", "snapshot"."""
    if rules := policy.get("instanceSchedulePolicy"):
        zone = ZoneInfo(rules["timeZone"])
        begins, ends = (
            datetime.fromisoformat(rules[key]) if key in rules else None
            for key in ("startTime", "expirationTime")
        )
        return {
            verb: Plan((Cron.parse(rules[key]["schedule"]),), zone, begins, ends)
            for verb, key in (("start", "vmStartSchedule"), ("stop", "vmStopSchedule"))
            if key in rules
        }
    return {"snapshot": Plan(_snapshot_crons(policy["snapshotSchedulePolicy"]["schedule"]), UTC)}


def _snapshot_crons(schedule: Resource) -> tuple[Cron, ...]:
    if cycle := schedule.get("hourlySchedule"):
        first, step = int(cycle["startTime"].split(":")[0]), int(cycle["hoursInCycle"])
        hours = ",".join(str((first + ahead) % 24) for ahead in range(0, 24, step))
        return (Cron.parse(f"0 {hours} * * *"),)
    if cycle := schedule.get("dailySchedule"):
        return (Cron.parse(f"0 {int(cycle['startTime'].split(':')[0])} * * *"),)
    return tuple(
        Cron.parse(f"0 {int(day['startTime'].split(':')[0])} * * {DAYS.index(day['day'])}")
        for day in schedule["weeklySchedule"]["dayOfWeeks"]
    )
