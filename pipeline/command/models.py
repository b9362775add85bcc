"""`fraudline models`: the versions of a home, and which of them serves."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.command.options import DEFAULT_HOME, HomeOption, JsonOption, existing_home
from pipeline.registry.registry import WAITS, Latest, Listed, Registry
from pipeline.registry.servable import check_in_process
from pipeline.registry.versions import waits

HELP = """The models of a home: list, show, promote, roll back.

Example: fraudline models list
"""

FIGURES = ("average_precision", "recall_at_budget")

app = typer.Typer(no_args_is_help=True, help=HELP)


@app.command("list")
def list_models(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """All versions, newest first, with what they were measured at (`models show` tells the rest).

    Example: fraudline models list
    """
    registry = Registry(existing_home(home))
    listed = registry.versions()
    if as_json:
        typer.echo(json.dumps([{**asdict(item), "created": item.created.isoformat()} for item in listed], indent=2))
    else:
        _show_list(listed)
    registry.latest()  # raises if it is damaged: the statuses are then not to be relied on


def _show_list(listed: list[Listed]) -> None:
    table = Table("version", "status", "contract", "average precision", "recall at budget", box=None, pad_edge=False)
    table.columns[0].no_wrap = table.columns[1].no_wrap = True
    for item in listed:
        table.add_row(item.version, item.status, item.contract, *(_figure(item, name) for name in FIGURES))
    console = Console()
    console.print(table)
    for item in listed:
        if item.status == "damaged":
            console.print(f"{item.version} is damaged: {item.reason}", style="red", markup=False, highlight=False)
        told = [item.reason] if item.status == WAITS else []
        for note in (*told, *item.notes):
            console.print(f"{item.version}: {note}", style="yellow", markup=False, highlight=False)


def _figure(item: Listed, name: str) -> str:
    value = item.metrics.get(name)
    return f"{value:.3f}" if isinstance(value, (int, float)) else ""


@app.command("show")
def show_model(version: str, home: HomeOption = DEFAULT_HOME) -> None:
    """A version's manifest and metrics, and where its report is, as JSON.

    Example: fraudline models show 20261122T103000Z-baf3f
    """
    registry = Registry(existing_home(home))
    found = registry.open(version)
    told = {"report": registry.report(found.version), "manifest": found.manifest}
    typer.echo(json.dumps({**told, "metrics": found.metrics()}, indent=2))


@app.command("history")
def promotions(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Which versions served, newest first: since when, by whom, why, and whether the gate was overruled.

    Example: fraudline models history
    """
    latest = Registry(existing_home(home)).latest()
    changes = [asdict(latest), *latest.history] if latest else []
    if as_json:
        told = ("version", "promoted_at", "by", "reason", "forced")
        typer.echo(json.dumps([{name: change[name] for name in told} for change in changes], indent=2))
        return
    table = Table("version", "since", "by", "reason", "forced", box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    for change in changes:
        since, forced = change["promoted_at"][:16].replace("T", " "), "yes" if change["forced"] else ""
        table.add_row(change["version"], since, escape(change["by"]), escape(change["reason"]), forced)
    Console().print(table)


@app.command("promote")
def promote_model(
    version: str,
    home: HomeOption = DEFAULT_HOME,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "promoted by hand",
    force: Annotated[bool, typer.Option(help="Also a version that did not pass the gate; is recorded.")] = False,
) -> None:
    """Let a version serve; the API follows within seconds. It is loaded first, as the API would.

    A version that waits for approval is approved by this.

    Example: fraudline models promote 20261122T103000Z-baf3f --reason "approved by the risk board"
    """
    from pipeline.registry.caller import caller

    place = existing_home(home)
    registry = Registry(place)
    latest = registry.promote(
        version, by=caller(place), reason=reason, force=force, approved=True, check=check_in_process
    )
    gate = registry.metrics(latest.version).get("gate", {})
    for note in (*([gate["reason"]] if waits(gate) else []), *gate.get("notes", ())):
        typer.echo(note)
    _serves(latest)


@app.command("rollback")
def roll_back(home: HomeOption = DEFAULT_HOME) -> None:
    """Let the version serve again that did before. It is loaded first, as the API would.

    Example: fraudline models rollback
    """
    from pipeline.registry.caller import caller

    place = existing_home(home)
    _serves(Registry(place).rollback(by=caller(place), check=check_in_process))


def _serves(latest: Latest) -> None:
    typer.echo(f"{latest.version} serves now ({latest.reason}); before it: {', '.join(latest.previous) or 'none'}")
