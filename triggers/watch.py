"""The watcher of a laptop: a run whenever files land in incoming/, what EventBridge, SQS and Lambda do in AWS.

However many files land at once, or while a run goes on, they make one run, or one more: a run takes all that waits.
"""

import time
from collections.abc import Callable

from processing.errors import Conflict, FraudlineError
from processing.home import Entry, Home
from processing.incoming import SETTLE_SECONDS, waiting

POLL_SECONDS = 0.5
BUSY_SECONDS = 5.0  # until a run is tried again that met another one


def watch(home: Home, start: Callable[[], None], failed: Callable[[FraudlineError], None]) -> None:
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
