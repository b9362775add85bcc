"""What single requests notice of a swap of models and of a batch: p99 with and without, at an even rate."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from pipeline.benchmarks.serving.home import ID, Subject
from pipeline.benchmarks.serving.servers import Running
from pipeline.registry.registry import Registry
from processing.errors import RunFailed

RATE = 250.0  # requests a second
CALLERS = 8
SWAP_SECONDS = 0.5  # between two promotions
SECONDS = 5.0  # a measurement, at least
BATCH_ROWS = 2_000

Disturbance = Callable[[int], AbstractContextManager[list[float]]]


def disturbed(
    product: Running, subject: Subject, file: Path, seconds: float, rounds: int, console: Console
) -> dict[str, Any]:
    """Gives {"swap": {...}, "batch": {...}}: p50 and p99 with and without, in turns, and p99's ratio.

    "swaps" counts the promotions that were followed, "batch_rows_a_second" what a batch got done meanwhile.
    """
    from pipeline.benchmarks.serving.measure import drive

    kinds: dict[str, Disturbance] = {
        "none": lambda number: nullcontext([]),
        "swap": lambda number: _swapping(subject),
        "batch": lambda number: _batching(product, subject, number),
    }
    latencies: dict[str, list[int]] = {kind: [] for kind in kinds}
    done: dict[str, list[float]] = {kind: [] for kind in kinds}
    turns = [(number, kind) for number in range(rounds) for kind in kinds]
    for number, kind in track(turns, "disturbing", console=console, transient=True):
        with kinds[kind](number) as results:
            prefix = f"{kind}-{number}-"
            load = drive(product, file, prefix=prefix, callers=CALLERS, seconds=max(seconds, SECONDS), rate=RATE)
        latencies[kind] += load["latencies_us"]
        done[kind] += results
    quiet = _told(latencies["none"])
    swap, batch = ({**_told(latencies[kind]), "without": quiet} for kind in ("swap", "batch"))
    for each in (swap, batch):
        each["p99_ratio"] = round(each["p99_ms"] / quiet["p99_ms"], 2)
    swap["swaps"] = len(done["swap"])
    batch["batch_rows_a_second"] = round(float(np.median(done["batch"]))) if done["batch"] else None
    return {"rate": RATE, "swap": swap, "batch": batch}


def _told(latencies_us: list[int]) -> dict[str, Any]:
    p50, p99, worst = np.percentile(latencies_us, (50, 99, 100)) / 1e3
    figures = {"p50_ms": round(p50, 3), "p99_ms": round(p99, 3), "greatest_ms": round(worst, 3)}
    return {"requests": len(latencies_us), **figures}


@contextmanager
def _swapping(subject: Subject) -> Iterator[list[float]]:
    """Promote one version after the other."""
    registry, done = Registry(subject.home), list[float]()

    def swap() -> None:
        latest = registry.latest()
        (other,) = (version for version in subject.versions if latest is None or version != latest.version)
        registry.promote(other, by="benchmark", reason="swap", force=True)
        done.append(1.0)

    with _repeated(swap, SWAP_SECONDS):
        yield done


@contextmanager
def _batching(product: Running, subject: Subject, number: int) -> Iterator[list[float]]:
    """Send one batch after the other; gives how many rows a second each got scored."""
    import time

    done, sent = list[float](), 0

    def batch() -> None:
        nonlocal sent
        rows = [
            {**subject.requests[i % len(subject.requests)], "transaction_id": ID.strip("@") + f"-{number}-{sent}-{i}"}
            for i in range(BATCH_ROWS)
        ]
        sent += 1
        began = time.perf_counter()
        connection = HTTPConnection("127.0.0.1", product.port, timeout=120)
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/score/batch", json.dumps(rows), headers)
        answer = connection.getresponse()
        said = answer.read()
        connection.close()
        if answer.status != 200:
            raise RunFailed(f"a batch was answered with {answer.status}: {said[:200]!r}")
        done.append(BATCH_ROWS / (time.perf_counter() - began))

    with _repeated(batch, 0.0):
        yield done


@contextmanager
def _repeated(step: Callable[[], None], pause: float) -> Iterator[None]:
    """A step again and again in a thread, for the time of a `with` block. Its error ends the block with it."""
    ended, failed = threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            while not ended.wait(pause):
                step()
        except BaseException as error:  # noqa: BLE001 - raised again below
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if failed:
        raise failed[0]
