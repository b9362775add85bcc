"""Runs whose process was killed: nobody was left to write how they ended, so a later command does."""

import json
from collections.abc import Callable

from pipeline.local.story import close
from processing.errors import Damaged, NotFound
from processing.processes.identity import Process
from processing.storage.documents import read_document
from processing.storage.home import Home

REASON = "its process ended without a word"


def close_abandoned(home: Home, say: Callable[[str], None], *, alone: bool = False) -> list[str]:
    """Record as Stopped every run that still counts as Executing and whose process is gone; which these were.

    alone: the caller holds the home's lease, so that no run goes on, not even one of another machine. Without it, only
        what a process of this machine left behind is closed. `say` is told each in a line.
    """
    closed = []
    for run in home.folders("runs/"):
        key = f"runs/{run}/outcome.json"
        try:
            outcome = read_document(home, key, "remove it; the logs of the run's steps stay")
        except NotFound:  # a run in AWS, which SageMaker tells of, or one that has not begun
            continue
        except Damaged as error:
            say(str(error))
            continue
        if outcome.get("status") != "Executing":
            continue
        owner = Process.parse(outcome.get("owner"))
        if owner.is_running() if owner and owner.is_here() else not alone:
            continue
        close(outcome, "Stopped", REASON)
        home.write(key, json.dumps(outcome, indent=2).encode())
        closed.append(run)
        say(f"run {run} was recorded as Stopped: {REASON} ({owner or 'of an earlier version'})")
    return closed
