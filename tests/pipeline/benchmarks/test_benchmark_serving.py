"""The benchmark's tools: loads account for every request; servers are started, measured and stopped."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving_home import begin, explained_home, row

from pipeline.benchmarks.serving.driver import drive
from pipeline.benchmarks.serving.peers import FOLDER, NAMES, SPARK, chosen
from pipeline.benchmarks.serving.servers import Running, Server, running
from processing.contracts import reader as contracts
from processing.errors import BadInput, RunFailed

FLOOR = [sys.executable, "-m", "serving.benchmark.floor"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    (folder / "bodies").write_text('{"id": "@ID@"}\n{"id": "@ID@", "more": 1}\n')
    return folder


@pytest.fixture(scope="module")
def bare(folder: Path) -> Iterator[Running]:
    with running(Server("bare", FLOOR, "/", "transaction", "/", {"FLOOR": "bare"}, max_requests=50), folder) as server:
        yield server


def test_a_load_stops_after_its_number_of_requests_and_takes_cpu_time(bare: Running, folder: Path) -> None:
    before = bare.cpu_seconds()
    for callers in (1, 5):
        load = drive(bare, folder / "bodies", prefix="x", callers=callers, seconds=60)
        assert (len(load["latencies_us"]), load["failed"]) == (50, [])
        assert all(latency > 0 for latency in load["latencies_us"])
    assert bare.cpu_seconds() >= before > 0
    assert 10 < bare.peak_mib() < 10_000


def test_a_load_at_a_fixed_rate_stops_after_its_duration(bare: Running, folder: Path) -> None:
    load = drive(bare, folder / "bodies", prefix="x", callers=2, seconds=0.5, rate=40)
    assert len(load["latencies_us"]) == 20
    assert load["seconds"] > 0.4


def test_a_failed_request_ends_the_benchmark(tmp_path: Path) -> None:
    begin(tmp_path / "home")
    (tmp_path / "bodies").write_text("{}\n")
    home = {"FRAUDLINE_HOME": str(tmp_path / "home"), "FLOOR": "fastapi"}
    server = Server("plain", FLOOR, "/v1/score", "transaction", "/", home, max_requests=4)
    with running(server, tmp_path) as plain:
        with pytest.raises(RunFailed, match=r"plain failed 4 requests, the first with: 422"):
            drive(plain, tmp_path / "bodies", prefix="x", callers=2, seconds=5)
        (tmp_path / "bodies").write_text(json.dumps(row(contracts.load("transactions"))) + "\n")
        assert len(drive(plain, tmp_path / "bodies", prefix="x", callers=2, seconds=5)["latencies_us"]) == 4
        pid = plain.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_server_that_does_not_start_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    server = Server("broken", [sys.executable, "-c", "raise SystemExit('no licence')"], "/", "transaction", "/")
    with pytest.raises(RunFailed, match=r"'broken' does not start.*no licence"), running(server, tmp_path):
        pass


def test_peers_are_selected_by_name() -> None:
    assert (chosen("all"), chosen("none"), chosen("spark, mlflow")) == (list(NAMES), [], ["spark", "mlflow"])
    with pytest.raises(BadInput, match="unknown peer 'flusk'"):
        chosen("flusk")


@pytest.mark.parametrize("name", [name for name in NAMES if name != SPARK])
def test_the_requirements_of_peers_are_pinned(name: str) -> None:
    lines = (FOLDER / f"{name}.txt").read_text().split()
    assert any(line.startswith(f"{name}==") for line in lines)
    assert all("==" in line for line in lines)


def test_the_parts_of_a_request_are_measured(tmp_path: Path) -> None:
    explained_home(tmp_path / "home")
    request = row(contracts.load("transactions"), transaction_id="@ID@")
    (tmp_path / "bodies").write_text((json.dumps(request) + "\n") * 30)
    process = subprocess.run(
        [sys.executable, "-m", "serving.benchmark.parts", str(tmp_path / "home"), str(tmp_path / "bodies")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    parts = json.loads(process.stdout)
    assert {"read the store", "compute the features", "score", "write to the store"} <= set(parts)
