"""Where the time of a request goes: its parts, one by one, on a copy of the store. For a benchmark.

    python -m serving.benchmark.parts HOME BODIES

BODIES has a request on each line. Prints {part: microseconds of processor time per request}.
"""

import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.registry.registry import Registry
from processing.contracts.reader import of_home
from processing.features.feature_set import FeatureSet
from processing.storage.local import LocalHome
from processing.storage.open import open_home
from processing.storage.scratch import scratch_folder
from processing.store.decisions import Decision
from processing.store.open import open_replay
from serving.api.responses import score_response
from serving.api.transaction import to_event, transaction_model
from serving.decision.decider import Answer
from serving.decision.loaded_model import load_model
from serving.decision.rules import LEGIT


def measure(home: LocalHome, bodies: list[bytes]) -> dict[str, float]:
    """Microseconds of processor time, by part of a request."""
    contract, registry = of_home(home), Registry(home)
    features, latest = FeatureSet(contract), registry.latest()
    assert latest is not None
    model, request = load_model(registry, latest.version, contract, latest=latest), transaction_model(contract)
    sent = [body.replace(b"@ID@", f"part-{i}".encode()) for i, body in enumerate(bodies)]
    spent: dict[str, float] = {}

    def timed(part: str, step: Callable[[Any], Any], inputs: list[Any]) -> list[Any]:
        began = time.process_time()
        results = [step(value) for value in inputs]
        spent[part] = round((time.process_time() - began) / len(inputs) * 1e6, 1)
        return results

    with scratch_folder("parts") as folder:
        store = open_replay(home, contract, folder)  # a copy to write to
        requests = timed("validate the request", request.model_validate_json, sent)
        events = timed("turn it into an event", lambda value: to_event(value, contract, features), requests)
        states = timed("read the store", lambda pair: store.recall(pair[0])[1], events)
        inputs = [
            (event.amount, event.time_us, state, extras) for (event, extras), state in zip(events, states, strict=True)
        ]
        rows = timed("compute the features", lambda values: features.compute_one(*values), inputs)
        scores = timed("score", model.score, rows)
        timed("explain one that is flagged", model.reasons_for, rows[:200])
        decisions = [
            Decision(event, LEGIT, score, model.threshold, model.version, row.tobytes(), datetime.now(UTC))
            for (event, _), row, score in zip(events, rows, scores, strict=True)
        ]
        timed("write to the store", store.record, decisions)
        timed(
            "build and write the response",
            lambda decision: score_response(Answer(decision, False, "known")).model_dump_json(),
            decisions,
        )
        store.close()
    return spent


def main() -> None:
    """Measure with the home and the bodies given as arguments."""
    home = open_home(sys.argv[1])
    assert isinstance(home, LocalHome)
    print(json.dumps(measure(home, Path(sys.argv[2]).read_bytes().splitlines())))


if __name__ == "__main__":
    main()
