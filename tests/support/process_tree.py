"""The processes of this machine, for tests of who ends with whom."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def until(condition: Callable[[], Any]) -> Any:
    """Wait, with patience for a busy machine, until a condition gives something; what it gave last."""
    deadline = time.monotonic() + 120
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def processes() -> Iterator[tuple[int, int, str]]:
    """Each process that runs: its number, its parent's, its command."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            command = (folder / "cmdline").read_text(errors="replace")
        except OSError:  # it ended
            continue
        if state not in "ZX":
            yield int(folder.name), int(parent), command


def below(pid: int) -> dict[int, str]:
    """The processes that a process has started, and theirs."""
    every, found = list(processes()), {pid: ""}
    while more := {each: command for each, parent, command in every if parent in found and each not in found}:
        found |= more
    del found[pid]
    return found
