"""How model promotions and batch requests affect single requests: p99 with and without them, at an even rate."""

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

from pipeline.benchmarks.serving.driver import drive
from pipeline.benchmarks.serving.servers import Running
from pipeline.benchmarks.serving.subject import ID, Subject
from pipeline.registry.registry import Registry
from processing.errors import RunFailed

RATE = 250.0  # requests per second
CALLERS = 8
SWAP_SECONDS = 0.5  # between two promotions
MIN_SECONDS = 5.0  # per measurement
BATCH_ROWS = 2_000

Disturbance = Callable[[int], AbstractContextManager[list[float]]]


def measure_disturbances(
    product: Running, subject: Subject, file: Path, seconds: float, rounds: int, console: Console
) -> dict[str, Any]:
    """Measure p50 and p99 with and without each disturbance, in turns: {"swap": {...}, "batch": {...}}.

    "p99_ratio" is p99 with the disturbance over p99 without. "swaps" counts the promotions, "batch_rows_a_second" is
    the throughput of the batches.
    """
    kinds: dict[str, Disturbance] = {
        "none": lambda number: nullcontext([]),
        "swap": lambda number: _promotions(subject),
        "batch": lambda number: _batches(product, subject, number),
    }
    latencies: dict[str, list[int]] = {kind: [] for kind in kinds}
    done: dict[str, list[float]] = {kind: [] for kind in kinds}
    turns = [(number, kind) for number in range(rounds) for kind in kinds]
    for number, kind in track(turns, "measuring with disturbances", console=console, transient=True):
        with kinds[kind](number) as results:
            prefix = f"{kind}-{number}-"
            load = drive(product, file, prefix=prefix, callers=CALLERS, seconds=max(seconds, MIN_SECONDS), rate=RATE)
        latencies[kind] += load["latencies_us"]
        done[kind] += results
    quiet = _figures(latencies["none"])
    swap, batch = ({**_figures(latencies[kind]), "without": quiet} for kind in ("swap", "batch"))
    for each in (swap, batch):
        each["p99_ratio"] = round(each["p99_ms"] / quiet["p99_ms"], 2)
    swap["swaps"] = len(done["swap"])
    batch["batch_rows_a_second"] = round(float(np.median(done["batch"]))) if done["batch"] else None
    return {"rate": RATE, "swap": swap, "batch": batch}


def _figures(latencies_us: list[int]) -> dict[str, Any]:
    p50, p99, worst = np.percentile(latencies_us, (50, 99, 100)) / 1e3
    figures = {"p50_ms": round(p50, 3), "p99_ms": round(p99, 3), "greatest_ms": round(worst, 3)}
    return {"requests": len(latencies_us), **figures}


@contextmanager
def _promotions(subject: Subject) -> Iterator[list[float]]:
    """Keep promoting one version after the other."""
    registry, done = Registry(subject.home), list[float]()

    def swap() -> None:
        latest = registry.latest()
        (other,) = (version for version in subject.versions if latest is None or version != latest.version)
        registry.promote(other, by="benchmark", reason="swap", force=True)
        done.append(1.0)

    with _repeat(swap, SWAP_SECONDS):
        yield done


@contextmanager
def _batches(product: Running, subject: Subject, number: int) -> Iterator[list[float]]:
    """Keep sending batches; yields the rows per second of each."""
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
        response = connection.getresponse()
        body = response.read()
        connection.close()
        if response.status != 200:
            raise RunFailed(f"a batch request failed with {response.status}: {body[:200]!r}")
        done.append(BATCH_ROWS / (time.perf_counter() - began))

    with _repeat(batch, 0.0):
        yield done


@contextmanager
def _repeat(step: Callable[[], None], pause: float) -> Iterator[None]:
    """Repeat a step in a thread until the `with` block ends. An error of the step is raised at its end."""
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
