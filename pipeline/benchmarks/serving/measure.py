"""The benchmark itself: all servers run side by side and are driven one after the other, in rounds."""

import json
import os
import statistics
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from pipeline.benchmarks.serving import peers as others
from pipeline.benchmarks.serving.disturbances import measure_disturbances
from pipeline.benchmarks.serving.driver import drive
from pipeline.benchmarks.serving.servers import Running, Server, running
from pipeline.benchmarks.serving.subject import Subject, bodies, make_subject
from pipeline.registry.requirements import library_versions
from processing.errors import BadInput, RunFailed
from processing.processes import children
from processing.storage.scratch import scratch_folder

PRODUCT, PLAIN, BARE = "fraudline", "plain FastAPI", "bare ASGI"
CALLERS = (1, 16, 64)
REQUESTS = 4_000
WARM_UP = 0.5  # seconds


@dataclass
class Measurement:
    """One server's results with one number of callers, over all rounds."""

    seconds: float = 0.0
    cpu_us: list[float] = field(default_factory=list)  # per request, one value a round
    latencies_us: list[int] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        """The results in figures; JSON-ready."""
        p50, p99 = (float(value) for value in np.percentile(self.latencies_us, (50, 99)))
        return {
            "requests": len(self.latencies_us),
            "requests_a_second": round(len(self.latencies_us) / self.seconds, 1),
            "p50_ms": round(p50 / 1e3, 3),
            "p99_ms": round(p99 / 1e3, 3),
            "cpu_us": round(statistics.median(self.cpu_us), 1),
        }


def benchmark_serving(*, peers: str, seconds: float, rounds: int, customers: int, console: Console) -> dict[str, Any]:
    """Measure the cost of a request, the least possible cost, and that of other servers; see `serving_table`.

    All servers run at once. They are driven over loopback one after the other, in rounds, each for `seconds` with 1, 16
    and 64 callers, so that outside disturbances affect all of them. CPU time is that of a server's processes, without
    the load generator's. Peers get finished features and keep no state, so they do less than the product, which gets a
    transaction, reads and writes its durable store, and computes the features.
    """
    names = others.chosen(peers)
    if not Path("/proc/self/stat").exists():
        raise BadInput("this benchmark reads processor times from /proc, which this system does not have; use Linux")
    with scratch_folder("benchmark") as folder, ExitStack() as stack:
        console.print("preparing a home with two models and a month of history")
        subject = make_subject(folder, customers=customers, requests=REQUESTS)
        skipped: dict[str, str] = {name: "not selected with --peers" for name in others.NAMES if name not in names}
        started: list[Running] = []
        for server in _own_servers(subject, folder) + _peer_servers(names, subject, skipped, console):
            try:
                started.append(stack.enter_context(running(server, folder)))
            except RunFailed as error:
                if server.name not in others.NAMES:
                    raise
                skipped[server.name] = str(error)
        files = _write_bodies(subject, folder, {each.server.body for each in started})
        measurements = _measure_all(started, files, seconds, rounds, console, skipped)
        (product,) = (each for each in started if each.server.name == PRODUCT)
        disturbances = measure_disturbances(product, subject, files["transaction"], seconds, rounds, console)
        memory = {each.server.name: round(each.peak_mib()) for each in started}
        parts = _parts(subject, files["transaction"])
    servers = {
        name: {str(callers): measurement.figures() for callers, measurement in by_callers.items()}
        for name, by_callers in measurements.items()
    }
    return {
        "servers": servers,
        "skipped": skipped,
        "ratios": _ratios(measurements),
        **disturbances,
        "memory_mib": memory,
        "parts_us": parts,
        "machine": {"cores": os.cpu_count(), "load": os.getloadavg()[0], **library_versions()},
    }


def _own_servers(subject: Subject, folder: Path) -> list[Server]:
    home = {"FRAUDLINE_HOME": str(subject.home.url), "OMP_NUM_THREADS": "1"}
    floor = children.module_command("serving.benchmark.floor")
    product = home | {"FRAUDLINE_PORT": "{port}", "FRAUDLINE_FOLLOW_SECONDS": "0.1", "FRAUDLINE_BATCH_ROWS": "20000"}
    return [
        Server(PRODUCT, children.module_command("serving"), "/v1/score", "transaction", "/health/ready", product),
        Server(PLAIN, floor, "/v1/score", "transaction", "/", home | {"FLOOR": "fastapi"}),
        Server(BARE, floor, "/v1/score", "transaction", "/", home | {"FLOOR": "bare"}),
    ]


def _peer_servers(names: list[str], subject: Subject, skipped: dict[str, str], console: Console) -> list[Server]:
    servers = []
    for name in names:
        try:
            servers.append(others.peer(name, subject.model_file, console))
        except RunFailed as error:
            skipped[name] = str(error)
    return servers


def _write_bodies(subject: Subject, folder: Path, kinds: set[str]) -> dict[str, Path]:
    files = {kind: folder / f"{kind}.ndjson" for kind in kinds}
    for kind, path in files.items():
        path.write_bytes(bodies(subject, kind))
    return files


def _measure_all(
    started: list[Running],
    files: dict[str, Path],
    seconds: float,
    rounds: int,
    console: Console,
    skipped: dict[str, str],
) -> dict[str, dict[int, Measurement]]:
    """Measure all servers: a warm-up round, then the others. A peer that fails a request is skipped from then on."""
    measurements: dict[str, dict[int, Measurement]] = {each.server.name: {} for each in started}
    turns = [
        (number, callers, each)
        for number in range(-1, rounds)
        for callers in CALLERS
        for each in started
        if callers <= each.server.max_callers
    ]
    for number, callers, each in track(turns, "measuring", console=console, transient=True):
        name, duration = each.server.name, WARM_UP if number < 0 else seconds
        if name in skipped:
            continue
        before = each.cpu_seconds()
        try:
            load = drive(
                each, files[each.server.body], prefix=f"r{number}-{callers}-", callers=callers, seconds=duration
            )
        except RunFailed as error:
            if name not in others.NAMES:
                raise
            skipped[name] = str(error)
            measurements.pop(name)
            continue
        if number < 0:
            continue
        measurement = measurements[name].setdefault(callers, Measurement())
        measurement.cpu_us.append((each.cpu_seconds() - before) / len(load["latencies_us"]) * 1e6)
        measurement.seconds += load["seconds"]
        measurement.latencies_us += load["latencies_us"]
    return measurements


def _ratios(measurements: dict[str, dict[int, Measurement]]) -> dict[str, dict[str, float]]:
    """Each server's cost relative to the product's.

    cpu: the CPU time of a request, as the median of the rounds' ratios; p50: the median latency with one caller, the
    only number of callers that Spark is driven with
    """
    product, ratios = measurements[PRODUCT], {}
    for name, other in measurements.items():
        if name != PRODUCT:
            pairs = [pair for n in other for pair in zip(other[n].cpu_us, product[n].cpu_us, strict=True)]
            p50 = np.median(other[1].latencies_us) / np.median(product[1].latencies_us)
            ratios[name] = {
                "cpu": round(statistics.median(theirs / ours for theirs, ours in pairs), 3),
                "p50": round(float(p50), 2),
            }
    return ratios


def _parts(subject: Subject, file: Path) -> dict[str, float]:
    command = children.module_command("serving.benchmark.parts", subject.home.url, str(file))
    done = children.run(command, timeout=600, env=children.child_environment())
    if done.returncode:
        raise RunFailed(f"cannot measure the parts of a request: {done.stderr.strip().splitlines()[-1]}")
    parts: dict[str, float] = json.loads(done.stdout)
    return parts
