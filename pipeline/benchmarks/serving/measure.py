"""The benchmark: all servers side by side, each driven in turn, in rounds."""

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
from pipeline.benchmarks.serving.home import Subject, bodies, make_subject
from pipeline.benchmarks.serving.servers import Running, Server, running
from pipeline.training.fit import library_versions
from processing.errors import BadInput, RunFailed
from processing.processes import children
from processing.storage.scratch import scratch_folder

PRODUCT, PLAIN, BARE = "fraudline", "plain FastAPI", "bare ASGI"
CALLERS = (1, 16, 64)
REQUESTS = 4_000
WARM_UP = 0.5  # seconds


@dataclass
class Measured:
    """What came of one server at one number of callers, over all rounds."""

    seconds: float = 0.0
    cpu_us: list[float] = field(default_factory=list)  # a request, one value a round
    latencies_us: list[int] = field(default_factory=list)

    def told(self) -> dict[str, float]:
        """The figures."""
        p50, p99 = (float(value) for value in np.percentile(self.latencies_us, (50, 99)))
        return {
            "requests": len(self.latencies_us),
            "requests_a_second": round(len(self.latencies_us) / self.seconds, 1),
            "p50_ms": round(p50 / 1e3, 3),
            "p99_ms": round(p99 / 1e3, 3),
            "cpu_us": round(statistics.median(self.cpu_us), 1),
        }


def benchmark_serving(*, peers: str, seconds: float, rounds: int, customers: int, console: Console) -> dict[str, Any]:
    """What a request costs, beside the least it could cost and beside others' servers. See `table` for the figures.

    All servers run at once and are driven over loopback one after the other, in rounds, each for `seconds` at 1, 16
    and 64 callers, so that a disturbance from outside meets all. Processor time is that of a server's processes, the
    load generator's is not counted. Peers get finished features and keep no state, so they have less to do than the
    product, which gets a transaction, reads and writes its durable store, and computes the features.
    """
    names = others.chosen(peers)
    if not Path("/proc/self/stat").exists():
        raise BadInput("this benchmark reads processor times from /proc, which this system does not have; use Linux")
    from pipeline.benchmarks.serving.swaps import disturbed

    with scratch_folder("benchmark") as folder, ExitStack() as stack:
        console.print("making a home with two models and a month of history")
        subject = make_subject(folder, customers=customers, requests=REQUESTS)
        skipped: dict[str, str] = {name: "not asked for" for name in others.NAMES if name not in names}
        started: list[Running] = []
        for server in _ours(subject, folder) + _theirs(names, subject, skipped, console):
            try:
                started.append(stack.enter_context(running(server, folder)))
            except RunFailed as error:
                if server.name not in others.NAMES:
                    raise
                skipped[server.name] = str(error)
        files = _write_bodies(subject, folder, {each.server.body for each in started})
        found = _compare(started, files, seconds, rounds, console, skipped)
        (product,) = (each for each in started if each.server.name == PRODUCT)
        swaps = disturbed(product, subject, files["transaction"], seconds, rounds, console)
        memory = {each.server.name: round(each.peak_mib()) for each in started}
        parts = _parts(subject, files["transaction"])
    servers = {
        name: {str(callers): measured.told() for callers, measured in by_callers.items()}
        for name, by_callers in found.items()
    }
    return {
        "servers": servers,
        "skipped": skipped,
        "ratios": _ratios(found),
        **swaps,
        "memory_mib": memory,
        "parts_us": parts,
        "machine": {"cores": os.cpu_count(), "load": os.getloadavg()[0], **library_versions()},
    }


def _ours(subject: Subject, folder: Path) -> list[Server]:
    home = {"FRAUDLINE_HOME": str(subject.home.url), "OMP_NUM_THREADS": "1"}
    floor = children.module_command("serving.benchmark.floor")
    product = home | {"FRAUDLINE_PORT": "{port}", "FRAUDLINE_FOLLOW_SECONDS": "0.1", "FRAUDLINE_BATCH_ROWS": "20000"}
    return [
        Server(PRODUCT, children.module_command("serving"), "/v1/score", "transaction", "/health/ready", product),
        Server(PLAIN, floor, "/v1/score", "transaction", "/", home | {"FLOOR": "fastapi"}),
        Server(BARE, floor, "/v1/score", "transaction", "/", home | {"FLOOR": "bare"}),
    ]


def _theirs(names: list[str], subject: Subject, skipped: dict[str, str], console: Console) -> list[Server]:
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


def _compare(
    started: list[Running],
    files: dict[str, Path],
    seconds: float,
    rounds: int,
    console: Console,
    skipped: dict[str, str],
) -> dict[str, dict[int, Measured]]:
    """A round for warming up, and the others; a peer that fails a request is left out from there on, and said."""
    found: dict[str, dict[int, Measured]] = {each.server.name: {} for each in started}
    turns = [
        (number, callers, each)
        for number in range(-1, rounds)
        for callers in CALLERS
        for each in started
        if callers <= each.server.most_callers
    ]
    for number, callers, each in track(turns, "measuring", console=console, transient=True):
        name, lasting = each.server.name, WARM_UP if number < 0 else seconds
        if name in skipped:
            continue
        before = each.cpu_seconds()
        try:
            load = drive(
                each, files[each.server.body], prefix=f"r{number}-{callers}-", callers=callers, seconds=lasting
            )
        except RunFailed as error:
            if name not in others.NAMES:
                raise
            skipped[name] = str(error)
            found.pop(name)
            continue
        if number < 0:
            continue
        measured = found[name].setdefault(callers, Measured())
        measured.cpu_us.append((each.cpu_seconds() - before) / len(load["latencies_us"]) * 1e6)
        measured.seconds += load["seconds"]
        measured.latencies_us += load["latencies_us"]
    return found


def drive(
    target: Running, file: Path, *, prefix: str, callers: int, seconds: float, rate: float | None = None
) -> dict[str, Any]:
    """Send a load, see `pipeline.benchmarks.serving.load`. Raises RunFailed if a request fails."""
    given = {"port": target.port, "path": target.server.path, "bodies": str(file), "prefix": prefix, "rate": rate}
    given |= {"callers": callers, "seconds": seconds, "most": target.server.most}
    command = children.module_command("pipeline.benchmarks.serving.load", json.dumps(given))
    done = children.run(command, timeout=seconds + 300, env=children.child_environment())
    if done.returncode:
        raise RunFailed(f"the load generator failed: {done.stderr.strip().splitlines()[-1]}")
    load: dict[str, Any] = json.loads(done.stdout)
    if load["failed"] or not load["latencies_us"]:
        why = load["failed"][0] if load["failed"] else "no request was answered in time"
        raise RunFailed(f"{target.server.name} failed {len(load['failed'])} requests, the first with: {why}")
    return load


def _ratios(found: dict[str, dict[int, Measured]]) -> dict[str, dict[str, float]]:
    """How many times the processor time of a request on the product others need; medians of the rounds' ratios.

    `p50` is how many times the product's p50 theirs is, at one caller. Spark is driven by one caller alone.
    """
    product, ratios = found[PRODUCT], {}
    for name, measured in found.items():
        if name != PRODUCT:
            pairs = [pair for n in measured for pair in zip(measured[n].cpu_us, product[n].cpu_us, strict=True)]
            p50 = np.median(measured[1].latencies_us) / np.median(product[1].latencies_us)
            ratios[name] = {
                "cpu": round(statistics.median(theirs / ours for theirs, ours in pairs), 3),
                "p50": round(float(p50), 2),
            }
    return ratios


def _parts(subject: Subject, file: Path) -> dict[str, float]:
    command = children.module_command("serving.benchmark.parts", subject.home.url, str(file))
    done = children.run(command, timeout=600, env=children.child_environment())
    if done.returncode:
        raise RunFailed(f"the parts of a request could not be measured: {done.stderr.strip().splitlines()[-1]}")
    parts: dict[str, float] = json.loads(done.stdout)
    return parts
