"""The whole loop on synthetic data, as a user would go through it: the same commands, the same API."""

import shutil
import threading
import time
from contextlib import ExitStack
from datetime import date
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.table import Table

from pipeline.evaluation.parity import measure_parity
from pipeline.registry.registry import Registry
from pipeline.runs.background import background_api, background_process
from pipeline.runs.local_run import AGAIN, run_and_report
from pipeline.runs.traffic import Traffic
from processing.errors import BadInput, NotFound, RunFailed
from processing.processes.children import module_command
from processing.storage.documents import read_document
from processing.storage.local import LocalHome
from processing.synthetic.synthesize import synthesize, write

MONTHS = [date(2026, month, 1) for month in (3, 4, 5, 6, 7)]
CUSTOMERS, TERMINALS = 5000, 2000
MARK = ".demo"
WAIT_SECONDS = 1800.0  # without any progress: a step takes minutes on a slow machine


def run_demo(home: LocalHome, console: Console, *, keep_serving: bool) -> dict[str, Any]:
    """Run the loop from start to finish in an empty home; returns its summary.

    The home of an earlier demo is emptied first. Raises BadInput for any other folder that is not empty, RunFailed if a
    step or a request fails.
    """
    empty_home(home)
    console.rule("[bold]1. Three months of transactions")
    later = make_transactions(home, console)
    console.rule("[bold]2. The first run: features, training, gate, promotion")
    first = run_and_report(home, console, {})
    with ExitStack() as stack:
        console.rule("[bold]3. The API scores the next day's transactions")
        api = stack.enter_context(background_api(home))
        next_day = Traffic(api)
        next_day.score(later["next day"], console)
        console.rule("[bold]4. A new month arrives: the watcher starts a run, and the API follows")
        stack.enter_context(background_process(module_command("pipeline.command.main", "watch"), home, "watch.log"))
        live = Traffic(api)
        stack.enter_context(live.background(later["live"]))
        write(later["next month"], home.path("incoming/2026-06.parquet"))
        second = await_run(home, first["run"], console)
        live.await_version(second["serving"], WAIT_SECONDS)
        console.rule("[bold]Summary")
        summary = summarise(home, first, second, next_day, live) | {"parity": measure_parity(home)}
        console.print(as_table(summary))
        report = home.path(f"models/{second['serving']}/report.html")
        console.print(f"Report of the serving model: {report}", highlight=False, soft_wrap=True)
        if keep_serving:
            console.print(f"The API is running at {api} (documentation: {api}/docs) until Ctrl-C.", highlight=False)
            threading.Event().wait()
    return summary


def empty_home(home: LocalHome) -> None:
    """Empty the home of an earlier demo. Raises BadInput for any other folder that is not empty."""
    if home.folder.exists() and any(home.folder.iterdir()) and not home.path(MARK).exists():
        raise BadInput(f"{home.folder} is not empty and not from an earlier demo; name another folder with --home")
    shutil.rmtree(home.folder, ignore_errors=True)
    home.write(MARK, b"Made by `fraudline demo`, which empties this folder when it starts again.\n")


def make_transactions(home: LocalHome, console: Console) -> dict[str, pa.Table]:
    """Synthesize transactions: the first three months go to incoming/, the later ones are returned."""
    with console.status("synthesizing"):
        rows = synthesize(MONTHS[0], (MONTHS[-1] - MONTHS[0]).days + 1, CUSTOMERS, TERMINALS)
        days = rows.column("event_time").cast(pa.date32())
        months = [rows.filter(_between(days, start, end)) for start, end in pairwise(MONTHS)]
        home.path("incoming").mkdir(parents=True)
        for number, (start, month) in enumerate(zip(MONTHS[:3], months, strict=False)):
            name = f"{start:%Y-%m}.{'csv.gz' if number == 0 else 'parquet'}"
            write(month, home.path(f"incoming/{name}"))
            console.print(f"incoming/{name:<16} {len(month):>8,} transactions", highlight=False)
    frauds = pc.sum(rows.column("is_fraud")).as_py()
    console.print(f"{len(rows):,} with those that arrive later; {frauds / len(rows):.2%} are fraudulent")
    june, july = MONTHS[3], MONTHS[4]
    return {
        "next day": rows.filter(pc.equal(days, june)),
        "next month": months[3],
        "live": rows.filter(pc.equal(days, july)),
    }


def await_run(home: LocalHome, earlier_run: str, console: Console) -> dict[str, Any]:
    """Wait until the watcher's run ends; returns its evaluation and the version that serves then.

    Raises RunFailed if it fails, or makes no progress for `WAIT_SECONDS`.
    """
    deadline, last_outcome = time.monotonic() + WAIT_SECONDS, dict[str, Any]()
    with console.status("waiting for the watcher") as status:
        while time.monotonic() < deadline:
            time.sleep(0.3)
            for run in home.folders("runs/"):
                if run == earlier_run:
                    continue
                outcome = _outcome(home, run)
                if outcome != last_outcome:
                    deadline, last_outcome = time.monotonic() + WAIT_SECONDS, outcome
                executing = [name for name, step in outcome["steps"].items() if step["status"] == "Executing"]
                status.update(f"run {run}: {', '.join(executing) or outcome['status']}")
                if outcome["status"] == "Succeeded":
                    evaluation = read_document(home, f"runs/{run}/evaluation/evaluation.json", AGAIN)
                    latest = Registry(home).latest()
                    console.print(f"run {run}: {evaluation['gate']['reason']}", highlight=False)
                    return {"run": run, "serving": latest.version if latest else None, **evaluation}
                if outcome["status"] in ("Failed", "Stopped"):
                    raise RunFailed(f"run {run} ended as {outcome['status']}: {outcome['reason']}")
    raise RunFailed(f"the watcher's run made no progress for {WAIT_SECONDS:.0f} s; see {home.path('watch.log')}")


def summarise(
    home: LocalHome, first: dict[str, Any], second: dict[str, Any], next_day: Traffic, live: Traffic
) -> dict[str, Any]:
    """The demo's summary; JSON-ready. Raises RunFailed if a request failed."""
    failed = next_day.failed + live.failed
    if failed:
        raise RunFailed(f"{len(failed)} requests failed, the first with: {failed[0]}")
    runs = []
    for run in (first, second):
        features = read_document(home, f"runs/{run['run']}/features.json", AGAIN)
        runs.append(
            {
                "rows_accepted": features["rows_accepted"],
                "rows_refused": features["rows_refused"],
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


def as_table(summary: dict[str, Any]) -> Table:
    """The summary as a table for the console."""
    table = Table("", "first run", "second run", box=None, pad_edge=False)
    one, two = summary["runs"]

    def row(name: str, key: str, form: str) -> None:
        table.add_row(name, format(one[key], form), format(two[key], form))

    row("rows accepted", "rows_accepted", ",")
    row("rows refused", "rows_refused", ",")
    row("model", "version", "")
    row("average precision", "average_precision", ".3f")
    if two["champion_average_precision"] is not None:
        table.add_row("  of the first model, same rows", "", f"{two['champion_average_precision']:.3f}")
    row("recall at the alert budget", "recall_at_budget", ".3f")
    table.add_row("serving afterwards", summary["serving_before"], summary["serving_after"])
    table.add_row("requests answered", "", f"{summary['requests']:,}")
    table.add_row("requests failed", "", f"{summary['failed_requests']}")
    parity = summary["parity"]
    table.add_row("decisions that differ from the job", "", f"{parity['different']} of {parity['compared']:,}")
    return table


def _between(days: Any, start: date, end: date) -> Any:
    return pc.and_(pc.greater_equal(days, start), pc.less(days, end))


def _outcome(home: LocalHome, run: str) -> dict[str, Any]:
    try:
        return read_document(home, f"runs/{run}/outcome.json", AGAIN)
    except NotFound:
        return {"status": "starting", "steps": {}}
