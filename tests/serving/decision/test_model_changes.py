"""Models that change while a server process is busy: no request fails, and untrusted models are refused."""

import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from serving_home import begin, packed, promote, publish, row
from serving_process import readiness, serving, wait_until

from pipeline.registry.registry import Published, Registry
from pipeline.runs.traffic import Traffic
from processing.contracts import reader as contracts
from processing.storage.home import Home

CONTRACT = contracts.load("transactions")
CALLERS = 4


@contextmanager
def busy(address: str) -> Iterator[Traffic]:
    """Keep a server busy with `CALLERS` callers during a `with` block."""
    traffic, ended, numbers = Traffic(address), threading.Event(), itertools.count()

    def call() -> None:
        while not ended.is_set():
            traffic.send(row(CONTRACT, transaction_id=f"swap-{next(numbers)}"))

    callers = [threading.Thread(target=call) for _ in range(CALLERS)]
    for caller in callers:
        caller.start()
    try:
        yield traffic
    finally:
        ended.set()
        for caller in callers:
            caller.join(30)


def model(home: Home, seed: int, **manifest: Any) -> str:
    return publish(home, seed, more={"scorer.npz": packed(CONTRACT.name, seed)}, **manifest)


def corrupted(home: Home) -> dict[str, str]:
    """Versions that must not serve, and the message for each."""
    flipped, truncated = model(home, 2), model(home, 3)
    for version, change in ((flipped, lambda data: data[:-1] + b"?"), (truncated, lambda data: data[: len(data) // 2])):
        key = f"models/{version}/scorer.npz"
        home.write(key, change(home.read(key)))
    other = contracts.load("handbook")
    foreign = model(home, 4, contract={"name": other.name, "digest": other.digest, "text": other.text})
    old = publish(home, 5, libraries={"scikit-learn": "0.24.2"})  # not packed: a pickle from another version
    return {
        flipped: "is not the published file",
        truncated: "is not the published file",
        foreign: "was trained for the contract 'handbook'",
        old: "made with scikit-learn 0.24.2",
    }


@pytest.mark.slow
def test_models_change_and_corrupted_ones_are_refused_without_a_failed_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, log = begin(tmp_path), tmp_path / "log"
    registry = Registry(home)
    first, second = promote(home, model(home, 0)), model(home, 1)
    refused = corrupted(home)
    monkeypatch.setattr(Published, "verify", lambda *_: None)  # as if they were damaged after their promotion
    with serving(tmp_path, log) as address, busy(address) as traffic:
        wait_until(lambda: traffic.versions[first] > 20)
        promote(home, second)
        wait_until(lambda: traffic.versions[second] > 20)
        registry.rollback(by="a test")
        seen = traffic.versions[first]
        wait_until(lambda: traffic.versions[first] > seen + 20)
        for version, message in refused.items():
            promote(home, version)
            wait_until(lambda version=version: version in (readiness(address)["trouble"] or ""))  # type: ignore[misc]
            assert message in readiness(address)["trouble"]
            seen = traffic.versions[first]
            wait_until(lambda seen=seen: traffic.versions[first] > seen + 20)  # type: ignore[misc]
        promote(home, second)
        seen = traffic.versions[second]
        wait_until(lambda: traffic.versions[second] > seen + 20)
        assert readiness(address)["trouble"] is None
    assert traffic.failed == []
    assert set(traffic.versions) == {first, second}
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    refusals = [line for line in lines if line["event"] == "model_refused"]
    assert [(line["level"], line["version"], line["serving"]) for line in refusals] == [
        ("error", version, first) for version in refused
    ]
