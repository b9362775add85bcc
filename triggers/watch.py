"""The watcher of a laptop: a run whenever files land in incoming/, what EventBridge, SQS and Lambda do in AWS.

    python -m triggers.watch FOLDER [CONTRACT]

However many files land at once, or while a run goes on, they make one run, or one more: a run takes all that waits.
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
from processing.errors import Conflict, FraudlineError
from processing.intake.incoming import SETTLE_SECONDS, release_abandoned, waiting
from processing.processes.lease import hold
from processing.storage.home import Entry, Home
from processing.storage.local import LocalHome

POLL_SECONDS = 0.5
INTERRUPTED = 130
BUSY_SECONDS = 5.0  # until a run is tried again that met another one


def main(arguments: Sequence[str]) -> int:
    """Run again whenever a file lands in the home's incoming/, until Ctrl-C; the exit code."""
    place = LocalHome(Path(arguments[0]))
    known = contract_for(place, arguments[1]) if arguments[1:] else None
    console = Console()

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, style="yellow")

    def start() -> None:
        nonlocal known
        run_and_report(place, console, {}, known)
        known = None  # it is the home's by now

    def failed(error: FraudlineError) -> None:
        what = "[yellow]waiting:[/]" if isinstance(error, Conflict) else "[red]the run failed:[/]"
        console.print(f"{what} {escape(str(error))}", highlight=False)

    try:
        close_abandoned(place, say)
        with suppress(Conflict), hold(place, "watch", say=say):  # a run that goes on gives back what it does not take
            release_abandoned(place)
        console.print(f"watching {place.path('incoming')}; Ctrl-C stops")
        watch(place, start, failed)
    except KeyboardInterrupt:
        waits = "Files that wait in incoming/ are taken in by the next run."
        Console(stderr=True).print(f"\nstopped. {waits}", highlight=False)
        return INTERRUPTED
    except FraudlineError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def watch(home: Home, start: Callable[[], None], failed: Callable[[FraudlineError], None]) -> NoReturn:
    """Call `start` whenever files have come to rest in incoming/, for ever; Ctrl-C ends it.

    `start` is one run, from its beginning to its end. What a failed run leaves behind is tried again only once
    something in incoming/ has changed; `failed` is told why. A run that cannot begin while another goes on (Conflict)
    says nothing about the files: it is tried until it can, and told once.
    """
    refused: list[Entry] = []
    busy = False
    while True:
        seen = waiting(home)
        if not seen or seen == refused or not _at_rest(home, seen):
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
        # What the run did not take, as it was when the run began, would fail again; what came since has its turn.
        left = waiting(home)
        refused = left if left == seen else []


def _at_rest(home: Home, seen: list[Entry]) -> bool:
    if time.time() - max(entry.modified for entry in seen) < SETTLE_SECONDS:
        return False
    time.sleep(POLL_SECONDS)
    return waiting(home) == seen


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
