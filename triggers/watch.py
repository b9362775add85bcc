"""The watcher on a laptop: starts a run whenever files arrive in incoming/, as EventBridge, SQS and Lambda do in AWS.

    python -m triggers.watch FOLDER [CONTRACT]

A run takes all files that wait. So all that arrive together make one run, and all that arrive during a run make one
more.
"""

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.markup import escape

from pipeline.local.abandoned_runs import close_abandoned
from pipeline.runs.local_run import run_and_report
from processing.contracts.home_contract import contract_for
from processing.errors import INTERRUPTED, Conflict, FraudlineError, report
from processing.intake.incoming import SETTLE_SECONDS, release_abandoned, waiting_files
from processing.processes.lease import hold
from processing.storage.home import Entry, Home
from processing.storage.local import LocalHome

POLL_SECONDS = 0.5
BUSY_SECONDS = 5.0  # before retrying a run that found another one in progress


def main(arguments: Sequence[str]) -> int:
    """Run the pipeline whenever files arrive in the home's incoming/, until Ctrl-C; returns the exit code."""
    home = LocalHome(Path(arguments[0]))
    contract = contract_for(home, arguments[1]) if arguments[1:] else None
    console = Console()

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, style="yellow")

    def start() -> None:
        nonlocal contract
        run_and_report(home, console, {}, contract)
        contract = None  # the home has it from now on

    def failed(error: FraudlineError) -> None:
        label = "[yellow]waiting:[/]" if isinstance(error, Conflict) else "[red]the run failed:[/]"
        console.print(f"{label} {escape(str(error))}", highlight=False)

    try:
        close_abandoned(home, say)
        with suppress(Conflict), hold(home, "watch", say=say):  # a run in progress releases files itself
            release_abandoned(home)
        console.print(f"watching {home.path('incoming')}; Ctrl-C stops")
        watch(home, start, failed)
    except KeyboardInterrupt:
        message = "\nstopped. The next run reads the files that wait in incoming/."
        Console(stderr=True).print(message, highlight=False)
        return INTERRUPTED
    except FraudlineError as error:
        return report(error)


def watch(home: Home, start: Callable[[], None], failed: Callable[[FraudlineError], None]) -> NoReturn:
    """Call `start`, which performs a whole run, whenever files in incoming/ have stopped changing. Ctrl-C ends it.

    `failed` is called with the error of a run that fails. The files of a failed run are retried only once something in
    incoming/ has changed. A run that cannot start because another is in progress (Conflict) is retried until it can,
    and `failed` is called for it once.
    """
    failing: list[Entry] = []
    busy = False
    while True:
        seen = waiting_files(home)
        if not seen or seen == failing or not _at_rest(home, seen):
            time.sleep(POLL_SECONDS)
            continue
        try:
            start()
        except Conflict as error:
            if not busy:
                failed(error)
            busy = True
            time.sleep(BUSY_SECONDS)
            continue
        except FraudlineError as error:
            failed(error)
        busy = False
        # Files that are as they were before the run would fail again. If others have arrived since, a run is due.
        remaining = waiting_files(home)
        failing = remaining if remaining == seen else []


def _at_rest(home: Home, seen: list[Entry]) -> bool:
    if time.time() - max(entry.modified for entry in seen) < SETTLE_SECONDS:
        return False
    time.sleep(POLL_SECONDS)
    return waiting_files(home) == seen


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
