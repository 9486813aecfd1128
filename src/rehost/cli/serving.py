"""The doers of services beside the app. Loaded only by a run that has something to do."""

from __future__ import annotations

from rehost.cli.making import Wanted, services_of, state_of
from rehost.cli.site import Site
from rehost.release import services
from rehost.release.services import Service
from rehost.run.engine import Doer, Doing


def doers(here: Site, wanted: Wanted) -> dict[str, Doer]:
    """A doer for each service that is wanted, and for each that is there and is not."""
    app = wanted.project.app
    found = services_of(wanted.project, wanted.values)

    def make(name: str, service: Service) -> Doer:
        async def do(doing: Doing) -> None:
            machine = await here.connect(doing.progress)
            await services.set_up(machine, app, name, service, doing.progress, doing.log)

        return do

    def remove(name: str) -> Doer:
        async def do(doing: Doing) -> None:
            await services.remove(await here.connect(doing.progress), app, name)

        return do

    gone = {name: remove(name) for name in state_of(here).services if name not in found}
    made = {name: make(name, service) for name, service in found.items()}
    return {f"{services.ACTION}{name}": doer for name, doer in {**made, **gone}.items()}
