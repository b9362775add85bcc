"""The rule that turns a score into a decision. Rules that override the score belong here too."""

from typing import Literal

from processing.store.decisions import Event

Outcome = Literal["fraud", "legit"]
FRAUD: Literal["fraud"] = "fraud"
LEGIT: Literal["legit"] = "legit"


def decide(event: Event, score: float, threshold: float) -> Outcome:
    """The decision about a transaction with this score. The API and `fraudline score` both use it."""
    return FRAUD if score >= threshold else LEGIT
