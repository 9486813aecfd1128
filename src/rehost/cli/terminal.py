"""The display for terminals: finished steps stay as lines, below them lives what runs now.

Only here is rich used, and only when stderr is a terminal that takes colours.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.constrain import Constrain
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from rehost.cli.show import clean, ended, error_text, write
from rehost.run.errors import RehostError
from rehost.run.events import Event, Json
from rehost.run.record import duration, title

LOG_LINES = 6  # of what runs, below it, unless --verbose shows all

_MARKS = {
    "done": ("✓", "green"),
    "unchanged": ("=", "dim"),
    "failed": ("✗", "bold red"),
    "stopped": ("■", "yellow"),
}


@dataclass
class _Row:
    """One action that runs now."""

    title: str
    began: float
    spinner: Spinner
    progress: str = ""


@dataclass
class _State:
    rows: dict[str, _Row] = field(default_factory=dict)
    log: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=LOG_LINES))


class Terminal:
    """Shows events on stderr with rich. Nothing moves while nothing runs."""

    def __init__(
        self,
        *,
        quiet: bool = False,
        verbose: bool = False,
        console: Console | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._quiet = quiet
        self._verbose = verbose
        self._clock = clock
        self._state = _State()
        self._titles: dict[str, str] = {}
        # The refreshing thread reads the state while the event loop's thread changes it.
        self._lock = threading.Lock()
        self._live: Live | None = None

    def __call__(self, event: Event) -> None:
        with self._lock:
            line = self._take(event)
        if line is not None:
            self._console.print(line, soft_wrap=True)
        self._follow()

    def _take(self, event: Event) -> Text | None:
        """Changes the state by one event; returns the line that stays on the screen, if any."""
        rows, log = self._state.rows, self._state.log
        if event.kind in ("start", "plan", "run-end"):
            rows.pop("", None)  # what was awaited outside of any action is over
        match event.kind:
            case "start":
                self._titles[event.action] = clean(title(str(event.data.get("verb", "")), event.text))
                rows[event.action] = self._row(self._titles[event.action], event.time)
            case "progress":
                self._progress(event)
            case "log":
                if self._verbose or (event.data.get("shown") and not self._quiet):
                    return Text(f"  │ {clean(event.text)}", style="dim")
                log.append((event.action, clean(event.text)))
            case "note":
                hidden = self._quiet or event.data.get("listed")
                return None if hidden else self._said("•", "cyan", event)
            case "warning":
                return self._said("!", "yellow", event)
            case "end":
                return self._end(event)
            case "run-end":
                rows.clear()
                if self._titles and event.data.get("result") == "done" and not self._quiet:
                    return Text(f"Done in {ended(event)}.", style="bold")
        return None

    def _progress(self, event: Event) -> None:
        row = self._state.rows.get(event.action)
        if row is None:
            self._state.rows[event.action] = self._row(clean(event.text), event.time)
        elif event.action:
            row.progress = clean(event.text)
        else:
            row.title = clean(event.text)

    def _row(self, text: str, began: float) -> _Row:
        return _Row(text, began, Spinner("dots", style="cyan"))

    def _said(self, mark: str, style: str, event: Event) -> Text:
        about = self._titles.get(event.action, "")
        line = Text(f"{mark} ", style=style)
        if about:
            line.append(f"{about}: ", style="")
        return line.append(clean(event.text))

    def _end(self, event: Event) -> Text | None:
        self._state.rows.pop(event.action, None)
        others = [entry for entry in self._state.log if entry[0] != event.action]
        self._state.log.clear()
        self._state.log.extend(others)
        result = str(event.data.get("result", "done"))
        if self._quiet and result != "failed":
            return None
        mark, style = _MARKS.get(result, ("·", ""))
        line = Text(f"{mark} ", style=style).append(
            self._titles.get(event.action, event.action), style="default"
        )
        return line.append(f"  {clean(ended(event))}", style="red" if result == "failed" else "dim")

    def _follow(self) -> None:
        """Starts the moving part when something runs, and takes it away when nothing does."""
        wanted = bool(self._state.rows) and not self._quiet
        if wanted and self._live is None:
            self._live = Live(
                console=self._console,
                get_renderable=self._render,
                refresh_per_second=8,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        elif not wanted:
            self.pause()

    def _render(self) -> Constrain:
        with self._lock:
            now = self._clock()
            parts: list[Table | Text] = []
            for row in self._state.rows.values():
                line = Table.grid(padding=(0, 1))
                line.add_column(no_wrap=True)
                line.add_column(no_wrap=True, overflow="ellipsis")
                text = Text(row.title).append(f"  {duration(max(now - row.began, 0.0))}", style="dim")
                if row.progress:
                    text.append(f"  {row.progress}", style="cyan")
                line.add_row(row.spinner, text)
                parts.append(line)
            room = max(self._console.height - len(parts) - 2, 0)
            for _, text_line in list(self._state.log)[-room:] if room else []:
                parts.append(Text(f"  │ {text_line}", style="dim", no_wrap=True, overflow="ellipsis"))
            # Room for the "^C" that a terminal writes: on a full line it would scroll what rich goes back over.
            return Constrain(Group(*parts), self._console.width - 3)

    def out(self, text: str) -> None:
        self.pause()
        write(sys.stdout, text)

    def error(self, error: RehostError) -> None:
        self.pause()
        # As plain text: rich would wrap a command that somebody wants to copy.
        write(sys.stderr, error_text(error, colour=True, width=self._console.width))

    def end(self, result: Mapping[str, Json]) -> None:  # noqa: ARG002 - people have read it all above
        self.pause()

    def pause(self) -> None:
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()
