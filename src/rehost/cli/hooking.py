"""The project's hooks around the doers of a release."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from rehost.cli.session import Session
from rehost.cli.site import Site
from rehost.release import decide, hooks
from rehost.release.container import Revision
from rehost.run.engine import Doer, Doing
from rehost.run.errors import RehostError

# The steps of a release; when one fails, the release has failed.
_STEPS = (decide.SHIP, decide.BUILD, decide.SEND, decide.PULL, decide.RELEASE)


def around(
    session: Session, here: Site, doers: Mapping[str, Doer], number: int, revision: Callable[[], Revision]
) -> dict[str, Doer]:
    """The doers with the project's hooks before and after them. The same doers when it has none.

    number: of the release that is about to be made or returned to; revision: its code.
    Raises UsageError for a hook that cannot be run.
    """
    found = hooks.find(here.project.directory)
    if not found:
        return dict(doers)
    around_them = _Around(session, here, found, number, revision())
    return {id_: around_them.wrap(id_, doer) if id_ in _STEPS else doer for id_, doer in doers.items()}


class _Around:
    def __init__(
        self, session: Session, here: Site, found: Mapping[str, Path], number: int, revision: Revision
    ) -> None:
        self._session = session
        self._here = here
        self._found = found
        self._number = number
        self._revision = revision
        self._passed: set[str] = set()
        self._tries: Counter[str] = Counter()

    def wrap(self, id_: str, doer: Doer) -> Doer:
        async def wrapped(doing: Doing) -> None:
            self._tries[id_] += 1
            try:
                if id_ in (decide.SHIP, decide.BUILD):
                    await self._before(hooks.BEFORE_BUILD, doing)
                if id_ == decide.RELEASE:
                    await self._before(hooks.BEFORE_RELEASE, doing)
                await doer(doing)
            except RehostError as error:
                if not error.retryable or self._tries[id_] > doing.action.retries:
                    await self._after(hooks.ON_FAILURE, doing, REHOST_ERROR=error.what)
                raise
            if id_ == decide.RELEASE:
                await self._after(hooks.AFTER_RELEASE, doing)

        return wrapped

    async def _before(self, name: str, doing: Doing) -> None:
        """Once, however often the step is tried."""
        if name not in self._passed:
            status, lines = await self._run(name, doing, {})
            if status != 0:
                raise hooks.failed(name, status, lines, self._here.serving)
            self._passed.add(name)

    async def _after(self, name: str, doing: Doing, **facts: str) -> None:
        try:
            status, _ = await self._run(name, doing, facts)
        except RehostError as error:
            doing.warning(f"the hook {name}: {error.what}")
            return
        if status != 0:
            doing.warning(f"the hook {name} {hooks.ending(status)}")

    async def _run(self, name: str, doing: Doing, facts: Mapping[str, str]) -> tuple[int, list[str]]:
        """Its exit status and what it wrote; 0 and nothing for a hook that the project does not have."""
        if name not in self._found:
            return 0, []
        lines: list[str] = []
        bus = self._session.bus

        def line(text: str) -> None:
            lines.append(text)
            bus.emit("log", f"{name}: {text}", shown=True)

        doing.progress(f"the hook {name}")
        # An error's text may quote what a program wrote.
        clean = {key: bus.scrubber.scrub(value) for key, value in {**self._facts(name), **facts}.items()}
        status = await hooks.run(self._found[name], self._here.project.directory, clean, line)
        return status, lines

    def _facts(self, name: str) -> dict[str, str]:
        state = self._here.state
        return {
            "REHOST_HOOK": name,
            "REHOST_COMMAND": self._session.command,
            "REHOST_APP": self._here.project.app,
            "REHOST_RELEASE": str(self._number),
            "REHOST_SERVING": str(self._here.released or (state.current if state else 0) or ""),
            "REHOST_ADDRESS": self._here.address,
            "REHOST_DOMAIN": self._here.project.domain.name or "",
            "REHOST_COMMIT": self._revision.commit,
            "REHOST_DIRTY": "1" if self._revision.dirty else "",
            "REHOST_BY": self._revision.by,
        }
