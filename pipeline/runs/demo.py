"""The whole loop on synthetic data, as a user would go through it: the same commands, the same API."""

import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.table import Table

from pipeline.registry.registry import Registry
from pipeline.runs.here import AGAIN, run_shown
from pipeline.runs.traffic import Traffic
from processing.errors import BadInput, NotFound, RunFailed
from processing.processes.children import Child, child_environment, module_command
from processing.storage.documents import read_document
from processing.storage.local import LocalHome
from processing.synthetic.synthesize import synthesize, write

MONTHS = [date(2026, month, 1) for month in (3, 4, 5, 6, 7)]
CUSTOMERS, TERMINALS = 5000, 2000
MARK = ".demo"
WAIT_SECONDS = 300.0


def run_demo(home: LocalHome, console: Console, *, keep_serving: bool) -> dict[str, Any]:
    """The loop, start to finish, in an empty home; what came of it.

    A home that an earlier demo made is begun anew; any other folder that is not empty is left alone (BadInput).
    Raises RunFailed where something went wrong.
    """
    begin_anew(home)
    console.rule("[bold]1. Three months of transactions")
    kept_back = make_transactions(home, console)
    console.rule("[bold]2. First run: features, training, gate, promotion")
    first = run_shown(home, console, {})
    with ExitStack() as stack:
        console.rule("[bold]3. The model serves; the next day's transactions are scored")
        api = stack.enter_context(served(home))
        next_day = Traffic(api)
        next_day.score(kept_back["next day"], console)
        console.rule("[bold]4. The next month lands: the watcher starts a run, the API follows")
        stack.enter_context(started(module_command("pipeline.command.main", "watch"), home, "watch.log"))
        live = Traffic(api)
        stack.enter_context(live.going_on(kept_back["live"]))
        write(kept_back["next month"], home.path("incoming/2026-06.parquet"))
        second = await_run(home, first["run"], console)
        live.await_version(second["serving"], WAIT_SECONDS)
        console.rule("[bold]What came of it")
        result = summed_up(home, first, second, next_day, live)
        console.print(as_table(result))
        report = home.path(f"models/{second['serving']}/report.html")
        console.print(f"The report of the model that serves: {report}", highlight=False, soft_wrap=True)
        if keep_serving:
            console.print(f"The API is up at {api} (see {api}/docs) until Ctrl-C.", highlight=False)
            threading.Event().wait()
    return result


def begin_anew(home: LocalHome) -> None:
    """Empty the home of an earlier demo."""
    if home.folder.exists() and any(home.folder.iterdir()) and not home.path(MARK).exists():
        raise BadInput(f"{home.folder} is not empty, and no demo made it; give another folder with --home")
    shutil.rmtree(home.folder, ignore_errors=True)
    home.write(MARK, b"Made by `fraudline demo`, which empties this folder when it starts again.\n")


def make_transactions(home: LocalHome, console: Console) -> dict[str, pa.Table]:
    """Synthesize. The earlier months lie in incoming/ afterwards; the later ones are returned."""
    with console.status("synthesizing"):
        rows = synthesize(MONTHS[0], (MONTHS[-1] - MONTHS[0]).days + 1, CUSTOMERS, TERMINALS)
        days = rows.column("event_time").cast(pa.date32())
        months = [rows.filter(_between(days, a, b)) for a, b in pairwise(MONTHS)]
        home.path("incoming").mkdir(parents=True)
        for number, (start, month) in enumerate(zip(MONTHS[:3], months, strict=False)):
            name = f"{start:%Y-%m}.{'csv.gz' if number == 0 else 'parquet'}"
            write(month, home.path(f"incoming/{name}"))
            console.print(f"incoming/{name:<16} {len(month):>8,} transactions", highlight=False)
    frauds = pc.sum(rows.column("is_fraud")).as_py()
    console.print(f"{len(rows):,} in all with the month to come, {frauds / len(rows):.2%} of them fraudulent")
    june, july = MONTHS[3], MONTHS[4]
    return {
        "next day": rows.filter(pc.equal(days, june)),
        "next month": months[3],
        "live": rows.filter(pc.equal(days, july)),
    }


@contextmanager
def served(home: LocalHome) -> Iterator[str]:
    """The API as a process of its own; yields its address once it is ready to score."""
    variables = {"FRAUDLINE_PORT": "0"}
    with started(module_command("serving"), home, "serving.log", variables) as (process, log):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            found = re.search(r"http://[\d.]+:\d+", log.read_text())
            if found and _ready(found[0]):
                yield found[0]
                return
            time.sleep(0.1)
        raise RunFailed(f"the API did not become ready; its log: {log}")


@contextmanager
def started(
    command: list[str], home: LocalHome, log_name: str, variables: dict[str, str] | None = None
) -> Iterator[tuple[Child, Path]]:
    """A process that works on the home and ends with the `with` block."""
    log = home.path(log_name)
    told = child_environment(FRAUDLINE_HOME=str(home.folder), **(variables or {}))
    with open(log, "wb") as output, Child(command, grace=30, env=told, stdout=output, stderr=output) as process:
        yield process, log


def await_run(home: LocalHome, not_this: str, console: Console) -> dict[str, Any]:
    """Wait for the end of the run that the watcher starts; what it evaluated, and which version serves then."""
    deadline = time.monotonic() + WAIT_SECONDS
    with console.status("waiting for the watcher") as status:
        while time.monotonic() < deadline:
            time.sleep(0.3)
            for run in home.folders("runs/"):
                if run == not_this:
                    continue
                story = _story(home, run)
                going_on = [name for name, step in story["steps"].items() if step["status"] == "Executing"]
                status.update(f"run {run}: {', '.join(going_on) or story['status']}")
                if story["status"] == "Succeeded":
                    evaluation = read_document(home, f"runs/{run}/evaluation/evaluation.json", AGAIN)
                    latest = Registry(home).latest()
                    console.print(f"run {run}: {evaluation['gate']['reason']}", highlight=False)
                    return {"run": run, "serving": latest.version if latest else None, **evaluation}
                if story["status"] in ("Failed", "Stopped"):
                    raise RunFailed(f"run {run} ended as {story['status']}: {story['reason']}")
    raise RunFailed(f"no run of the watcher came to its end within {WAIT_SECONDS:.0f} s; see {home.path('watch.log')}")


def summed_up(
    home: LocalHome, first: dict[str, Any], second: dict[str, Any], next_day: Traffic, live: Traffic
) -> dict[str, Any]:
    """What the demo ends with. Raises RunFailed if a request failed."""
    failed = next_day.failed + live.failed
    if failed:
        raise RunFailed(f"{len(failed)} requests failed, the first with: {failed[0]}")
    runs = []
    for run in (first, second):
        taken = read_document(home, f"runs/{run['run']}/features.json", AGAIN)
        runs.append(
            {
                "rows_accepted": taken["rows_accepted"],
                "rows_refused": taken["rows_refused"],
                "version": run["version"],
                "average_precision": run["metrics"]["average_precision"],
                "recall_at_budget": run["metrics"]["recall_at_budget"],
                "champion_average_precision": (run["champion"] or {}).get("average_precision"),
                "gate": run["gate"]["reason"],
            }
        )
    return {
        "runs": runs,
        "serving_before": first["serving"],
        "serving_after": second["serving"],
        "requests": next_day.answered + live.answered,
        "failed_requests": len(failed),
        "answered_by": {v: next_day.versions[v] + live.versions[v] for v in {*next_day.versions, *live.versions}},
    }


def as_table(result: dict[str, Any]) -> Table:
    """The summary, to read."""
    table = Table("", "first run", "second run", box=None, pad_edge=False)
    one, two = result["runs"]

    def row(name: str, key: str, form: str) -> None:
        table.add_row(name, format(one[key], form), format(two[key], form))

    row("rows taken in", "rows_accepted", ",")
    row("rows refused", "rows_refused", ",")
    row("model", "version", "")
    row("average precision", "average_precision", ".3f")
    row("recall at the alert budget", "recall_at_budget", ".3f")
    if two["champion_average_precision"] is not None:
        table.add_row("the first model there", "", f"{two['champion_average_precision']:.3f}")
    table.add_row("serves afterwards", result["serving_before"], result["serving_after"])
    table.add_row("requests answered, failed", "", f"{result['requests']:,}, {result['failed_requests']}")
    return table


def _between(days: Any, start: date, end: date) -> Any:
    return pc.and_(pc.greater_equal(days, start), pc.less(days, end))


def _ready(api: str) -> bool:
    try:
        with urlopen(f"{api}/health/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:  # not listening yet, or 503 because no model is loaded
        return False


def _story(home: LocalHome, run: str) -> dict[str, Any]:
    try:
        return read_document(home, f"runs/{run}/outcome.json", AGAIN)
    except NotFound:
        return {"status": "beginning", "steps": {}}
