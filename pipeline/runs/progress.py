"""The progress of a pipeline run on the console: a line per step, with its latest log line while it runs."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from pipeline.local import StepEvent
from pipeline.runs.sagemaker_statuses import ENDED, NOT_RUN

MARKS = {"Succeeded": "[green]✓[/]", "Failed": "[red]✗[/]", "Stopped": "[yellow]■[/]"}
CLOCK = re.compile(r"^\d\d:\d\d:\d\d ")
QUIET = ("Condition",)  # takes no time, and the next steps show its result


@contextmanager
def shown(console: Console) -> Iterator[Callable[[StepEvent], None]]:
    """For a `with` block: a function that shows the events of one run as they come.

    On a terminal the running step has a spinner and its latest log line; elsewhere each step is a line when it ends.
    """
    steps = _Steps(console)
    if not console.is_terminal:
        yield steps.show
        return
    with Live(console=console, get_renderable=steps.running_line, refresh_per_second=8, transient=True):
        yield steps.show


class _Steps:
    def __init__(self, console: Console) -> None:
        self.console = console
        self.running: StepEvent | None = None
        self.since = 0.0
        self.spinner = Spinner("dots")

    def show(self, event: StepEvent) -> None:
        if event.status == NOT_RUN:
            return
        if event.status not in ENDED:
            if self.running is None or self.running.step != event.step:
                self.since = time.monotonic()
            self.running = event
            return
        self.running = None
        if event.kind in QUIET and event.status == "Succeeded":
            return
        seconds = f"{event.seconds:5.1f} s" if event.seconds is not None else "       "
        note = event.reason.splitlines()[0] if event.reason else _last_line(event.log)
        line = Text.assemble(Text.from_markup(MARKS[event.status]), f" {event.step:<17}{seconds}  ", (note, "dim"))
        self.console.print(line, soft_wrap=not self.console.is_terminal, no_wrap=True, overflow="ellipsis")

    def running_line(self) -> Table:
        grid = Table.grid(padding=(0, 1))
        if self.running is not None:
            seconds = f"{time.monotonic() - self.since:5.1f} s"
            grid.add_row(self.spinner, f"{self.running.step:<16}", seconds, Text(_last_line(self.running.log), "dim"))
        return grid


def _last_line(log: Path) -> str:
    """The last line that a step wrote itself, not Spark or a JSON logger."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - 2000))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except FileNotFoundError:
        return ""
    own = [
        line
        for line in lines
        if not line.startswith(("{", "Setting ", "To adjust", "WARNING")) and " WARN " not in line
    ]
    return CLOCK.sub("", own[-1].strip()) if own else ""
