"""Runs whose process was killed before it could record their end: a later command records it."""

import json
from collections.abc import Callable

from pipeline.local.run_record import close
from processing.errors import Damaged, NotFound
from processing.processes.identity import Process
from processing.storage.documents import read_document
from processing.storage.home import Home

REASON = "its process was killed"


def close_abandoned(home: Home, say: Callable[[str], None], *, alone: bool = False) -> list[str]:
    """Record as Stopped every run that is still recorded as Executing although its process is gone. Returns their ids.

    `say` gets a line about each.

    alone: the caller holds the home's lease, so no run is in progress on any machine. Otherwise only runs of this
        machine are closed.
    """
    closed = []
    for run in home.folders("runs/"):
        key = f"runs/{run}/outcome.json"
        try:
            outcome = read_document(home, key, "delete it; the logs of the run's steps stay")
        except NotFound:  # a run in AWS, which SageMaker records, or one that has not started
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
        say(f"run {run} is now recorded as Stopped: {REASON} ({owner or 'recorded by an earlier version'})")
    return closed
