"""Homes to serve, for tests: a contract and small, real models, published through the registry."""

import functools
import io
import itertools
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import uvicorn
from fastapi import FastAPI, testclient

from pipeline.estimators.factory import build_estimator
from pipeline.estimators.hyperparameters import Hyperparameters
from pipeline.registry.registry import Registry
from pipeline.registry.requirements import library_versions
from pipeline.scorer.packing import pack_and_prove
from processing.contract import Contract
from processing.contracts import reader as contracts
from processing.contracts.example import example_transaction
from processing.contracts.home_contract import adopt
from processing.features.feature_set import FeatureSet
from processing.storage.home import Home
from processing.storage.open import open_home
from serving.api.connection_limits import uvicorn_options
from serving.settings import Settings, read_settings


class TestClient(testclient.TestClient):
    """A client on this machine, because without keys the API answers no other."""

    def __init__(self, app: FastAPI, *, base_url: str = "http://127.0.0.1", **options: Any) -> None:
        super().__init__(app, base_url=base_url, **options)


def server_process(
    folder: Path, *, stdout: Any = subprocess.PIPE, preexec_fn: Callable[[], None] | None = None, **variables: str
) -> "subprocess.Popen[str]":
    """A server for a home in another process, on a free port, which it prints to standard error."""
    return subprocess.Popen(
        [sys.executable, "-m", "serving"],
        env=os.environ | {"FRAUDLINE_HOME": str(folder), "FRAUDLINE_PORT": "0"} | variables,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=preexec_fn,
    )


def address_of(process: "subprocess.Popen[str]") -> str:
    """The address of a server process, once it prints it."""
    assert process.stderr is not None
    return process.stderr.readline().split(" on ")[1].split()[0]


def begin(folder: Path, contract: str = "transactions") -> Home:
    """A home as after a first run, but without a model."""
    home = open_home(folder)
    adopt(home, contracts.load(contract))
    return home


def settings(folder: Path, **more: Any) -> Settings:
    return read_settings(**{"home": str(folder), "follow_seconds": 0.05, "port": 0, **more})


@functools.cache
def trained(contract: str, seed: int) -> bytes:
    """A pickled model for the contract's features. Roughly, it flags large amounts as fraud."""
    features = FeatureSet(contracts.load(contract))
    random = np.random.default_rng(seed)
    x = random.lognormal(3.0, 1.0, (400, len(features.names)))
    y = (x[:, 0] * random.lognormal(0.0, 0.3, len(x)) > 60).astype(int)
    model = build_estimator(
        Hyperparameters(max_iterations=20, learning_rate=0.3, l2_regularization=0.0, max_features=0.5)
    ).fit(x, y)
    file = io.BytesIO()
    joblib.dump(model, file)
    return file.getvalue()


def publish(
    home: Home, seed: int = 0, *, file: bytes | None = None, more: Mapping[str, bytes] | None = None, **manifest: Any
) -> str:
    """Publish a model in a home. `file` replaces the model file, `more` adds files, others replace manifest entries."""
    contract = contracts.of_home(home)
    document = {
        "contract": {"name": contract.name, "digest": contract.digest, "text": contract.text},
        "features": list(FeatureSet(contract).names),
        "threshold": 0.5,
        "libraries": library_versions(),
    }
    data = trained(contract.name, seed) if file is None else file
    metrics = {"gate": {"passed": True, "reason": "good enough"}, "metrics": {"average_precision": 0.7}}
    return Registry(home).publish(
        {"model.joblib": data, **(more or {})}, document | manifest, metrics, datetime.now(UTC)
    )


def promote(home: Home, version: str) -> str:
    return Registry(home).promote(version, by="a test", reason="to be tested").version


def serving_home(folder: Path, contract: str = "transactions") -> Home:
    """A home with a promoted model."""
    home = begin(folder, contract)
    promote(home, publish(home))
    return home


def explained_home(folder: Path, contract: str = "transactions") -> Home:
    """A home with a promoted model that is packed, and so explains its scores."""
    home = begin(folder, contract)
    promote(home, publish(home, more={"scorer.npz": packed(contract)}))
    return home


@functools.cache
def packed(contract: str, seed: int = 0) -> bytes:
    """The model of `trained`, packed."""
    width = len(FeatureSet(contracts.load(contract)).names)
    packing = pack_and_prove(joblib.load(io.BytesIO(trained(contract, seed))), np.zeros((1, width)))
    assert packing.scorer is not None
    assert "no reasons" not in packing.reason
    return packing.scorer


SECONDS = itertools.count()


def row(contract: Contract, **changes: Any) -> dict[str, Any]:
    """A transaction of about an hour ago, with changes; a field set to ... is left out.

    Each is at least a second later than the one before: transactions of the same second do not see each other.
    """
    values = example_transaction(contract)
    when = datetime.now(UTC) - timedelta(hours=1) + timedelta(seconds=next(SECONDS) % 3000)
    times = {
        "iso": when.isoformat(),
        "unix": when.timestamp(),
        "elapsed": (when - contract.time_origin).total_seconds(),
    }
    values[contract.time] = times[contract.time_format]
    return {name: value for name, value in (values | changes).items() if value is not ...}


@contextmanager
def running(app: FastAPI, limits: Settings | None = None) -> Iterator[str]:
    """The address of an app that uvicorn runs in a thread, with the limits of the settings."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", **uvicorn_options(limits or Settings())))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()
