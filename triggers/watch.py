"""The watcher of a laptop: a run whenever files land in incoming/, what EventBridge, SQS and Lambda do in AWS.

However many files land at once, or while a run goes on, they make one run, or one more: a run takes all that waits.
"""

import time
from collections.abc import Callable

from processing.errors import FraudlineError
from processing.home import Entry, Home
from processing.incoming import SETTLE_SECONDS, waiting

POLL_SECONDS = 0.5


def watch(home: Home, start: Callable[[], None], failed: Callable[[FraudlineError], None]) -> None:
    """Call `start` whenever files have come to rest in incoming/, for ever; Ctrl-C ends it.

    `start` is one run, from its beginning to its end. What a failed run leaves behind is tried again only once
    something in incoming/ has changed; `failed` is told why.
    """
    refused: list[Entry] = []
    while True:
        seen = waiting(home)
        if not seen or seen == refused or not _at_rest(home, seen):
            time.sleep(POLL_SECONDS)
            continue
        try:
            start()
        except FraudlineError as error:
            failed(error)
        # What the run did not take, as it was when the run began, would fail again; what came since has its turn.
        left = waiting(home)
        refused = left if left == seen else []


def _at_rest(home: Home, seen: list[Entry]) -> bool:
    if time.time() - max(entry.modified for entry in seen) < SETTLE_SECONDS:
        return False
    time.sleep(POLL_SECONDS)
    return waiting(home) == seen
