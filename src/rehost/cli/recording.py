"""The final state of a move, for the record: read, not remembered."""

from __future__ import annotations

from rehost.cli import making
from rehost.cli.session import Session
from rehost.cli.site import site
from rehost.cloud import check as cloud_check
from rehost.project.config import Project
from rehost.release import decide
from rehost.run.errors import RehostError
from rehost.run.events import Json


async def final_state(session: Session, project: Project) -> dict[str, Json]:
    """What is there now, by name. A machine that cannot be read is said to be so; the record is still written."""
    state: dict[str, Json] = {"app": project.app}
    if project.source.url:
        state["source"] = project.source.url
    making.learn_secrets(session, project)
    try:
        async with site(project) as here:
            session.progress(f"reading {here.places}")
            await here.look()
            seen, instance = here.state, here.observed.instance if here.observed else None
            if instance is not None:
                state["machine"] = f"{instance.machine_type} in {instance.zone}, {instance.status}"
            if here.address:
                state["address"] = here.address
            if here.cloud is not None and instance is not None:
                state["cost"] = cloud_check.free_tier(here.cloud).what
            if seen is None:
                return state
            now = decide.current(seen)
            if now is not None:
                state["release"] = now.number
                state["image"] = str(now.record["image"])
                state["code"] = str(now.record["commit"] or "not from git")
                state["variables"] = ", ".join(now.record["env"])
            if seen.health is not None:
                state["health"] = f"{project.run.health} answers {seen.health.status}: {seen.health.text}"
    except RehostError as error:
        state["machine"] = f"could not be read: {error.what}"
    return state
