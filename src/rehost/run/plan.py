"""A plan: what would change, as data. Capabilities write actions; `run` only orders, shows and applies them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Literal, NamedTuple

from rehost.run.events import Json

Verb = Literal["create", "update", "replace", "delete", "run"]


class Change(NamedTuple):
    """One field of a thing, before and after. None means absent."""

    field: str
    before: Json
    after: Json


class Action(NamedTuple):
    """One step of a plan.

    id: short, stable and unique in the plan, e.g. "firewall/content-api-web".
    what: the thing, in words. needs: ids of actions that must be done first (ids not in the plan are
    things that are in place already, and are ignored). retries: how often an error marked retryable is tried again.
    kept: what is replaced stays somewhere, as `what` says.
    """

    id: str
    verb: Verb
    what: str
    changes: tuple[Change, ...] = ()
    needs: tuple[str, ...] = ()
    retries: int = 0
    kept: bool = False

    @property
    def destructive(self) -> bool:
        return self.verb in ("replace", "delete")

    def as_json(self) -> dict[str, Json]:
        return {
            "id": self.id,
            "verb": self.verb,
            "what": self.what,
            "changes": [{"field": c.field, "before": c.before, "after": c.after} for c in self.changes],
            "needs": list(self.needs),
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """Actions in an order in which they can be done one after the other."""

    actions: tuple[Action, ...]

    @classmethod
    def of(cls, actions: Iterable[Action]) -> Plan:
        """Raises ValueError for two actions of one id, or needs that go in a circle: both are our own mistakes."""
        listed = tuple(actions)
        by_id = {action.id: action for action in listed}
        if len(by_id) != len(listed):
            raise ValueError("two actions of a plan have the same id")
        sorter: TopologicalSorter[str] = TopologicalSorter()
        for action in listed:
            sorter.add(action.id, *(need for need in action.needs if need in by_id))
        try:
            order = list(sorter.static_order())
        except CycleError as circle:
            raise ValueError(f"the needs of these actions go in a circle: {circle.args[1]}") from circle
        return cls(tuple(by_id[id_] for id_ in order))

    def __bool__(self) -> bool:
        return bool(self.actions)

    @property
    def destructive(self) -> tuple[Action, ...]:
        return tuple(action for action in self.actions if action.destructive)
