"""The processes of this machine, for tests of processes that end together."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def until(condition: Callable[[], Any]) -> Any:
    """Wait until a condition returns something true, even on a busy machine; returns its last result."""
    deadline = time.monotonic() + 120
    while not (result := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return result


def processes() -> Iterator[tuple[int, int, str]]:
    """Each running process: its id, its parent's id and its command."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            command = (folder / "cmdline").read_text(errors="replace")
        except OSError:  # it ended
            continue
        if state not in "ZX":
            yield int(folder.name), int(parent), command


def below(pid: int) -> dict[int, str]:
    """The descendants of a process: their commands by id."""
    every, result = list(processes()), {pid: ""}
    while more := {each: command for each, parent, command in every if parent in result and each not in result}:
        result |= more
    del result[pid]
    return result
