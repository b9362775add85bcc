"""`fraudline models`: list a home's model versions, and choose which one serves."""

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

HELP = """List, inspect, promote and roll back a home's models.

Example: fraudline models list
"""

FIGURES = ("average_precision", "recall_at_budget")

VersionArgument = Annotated[str, typer.Argument(help="A version, as `fraudline models list` shows it.")]

app = typer.Typer(no_args_is_help=True, help=HELP)


@app.command("list")
def list_models(address: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List all versions, newest first, with their main metrics. `models show` has the rest.

    Example: fraudline models list
    """
    registry = Registry(existing_home(address))
    versions = registry.versions()
    if as_json:
        typer.echo(json.dumps([{**asdict(item), "created": item.created.isoformat()} for item in versions], indent=2))
    else:
        _print_versions(versions)
    registry.latest()  # raises if the pointer is damaged: the statuses above are then unreliable


def _print_versions(versions: list[Listed]) -> None:
    table = Table("version", "status", "contract", "average precision", "recall at budget", box=None, pad_edge=False)
    table.columns[0].no_wrap = table.columns[1].no_wrap = True
    for item in versions:
        table.add_row(item.version, item.status, item.contract, *(_figure(item, name) for name in FIGURES))
    console = Console()
    console.print(table)
    for item in versions:
        if item.status == "damaged":
            console.print(f"{item.version} is damaged: {item.reason}", style="red", markup=False, highlight=False)
        reasons = [item.reason] if item.status == WAITS else []
        for note in (*reasons, *item.notes):
            console.print(f"{item.version}: {note}", style="yellow", markup=False, highlight=False)


def _figure(item: Listed, name: str) -> str:
    value = item.metrics.get(name)
    return f"{value:.3f}" if isinstance(value, (int, float)) else ""


@app.command("show")
def show_model(version: VersionArgument, address: HomeOption = DEFAULT_HOME) -> None:
    """Show a version's manifest, its metrics and the address of its report, as JSON.

    Example: fraudline models show 20261122T103000Z-baf3f
    """
    registry = Registry(existing_home(address))
    model = registry.open(version)
    document = {"report": registry.report(model.version), "manifest": model.manifest, "metrics": model.metrics()}
    typer.echo(json.dumps(document, indent=2))


@app.command("history")
def promotions(address: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List the versions that have served, newest first: since when, who promoted them and why.

    Example: fraudline models history
    """
    latest = Registry(existing_home(address)).latest()
    changes = [asdict(latest), *latest.history] if latest else []
    if as_json:
        keys = ("version", "promoted_at", "by", "reason", "forced")
        typer.echo(json.dumps([{key: change[key] for key in keys} for change in changes], indent=2))
        return
    table = Table("version", "since", "by", "reason", "forced", box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    for change in changes:
        since, forced = change["promoted_at"][:16].replace("T", " "), "yes" if change["forced"] else ""
        table.add_row(change["version"], since, escape(change["by"]), escape(change["reason"]), forced)
    Console().print(table)


@app.command("promote")
def promote_model(
    version: VersionArgument,
    address: HomeOption = DEFAULT_HOME,
    reason: Annotated[str, typer.Option(help="Reason, for the record.")] = "promoted by hand",
    force: Annotated[
        bool, typer.Option(help="Promote even if the gate rejected the version; this is recorded.")
    ] = False,
) -> None:
    """Promote a version: it becomes the serving model, and the API follows within seconds.

    The version is first loaded as the API would load it. Promoting a version that waits for approval approves it.

    Example: fraudline models promote 20261122T103000Z-baf3f --reason "approved by the risk board"
    """
    from pipeline.registry.caller import caller

    home = existing_home(address)
    registry = Registry(home)
    latest = registry.promote(
        version, by=caller(home), reason=reason, force=force, approved=True, check=check_in_process
    )
    gate = registry.metrics(latest.version).get("gate", {})
    for note in (*([gate["reason"]] if waits(gate) else []), *gate.get("notes", ())):
        typer.echo(note)
    _report_serving(latest)


@app.command("rollback")
def roll_back(address: HomeOption = DEFAULT_HOME) -> None:
    """Return to the previous version. It is first loaded as the API would load it.

    Example: fraudline models rollback
    """
    from pipeline.registry.caller import caller

    home = existing_home(address)
    _report_serving(Registry(home).rollback(by=caller(home), check=check_in_process))


def _report_serving(latest: Latest) -> None:
    typer.echo(f"{latest.version} is now serving ({latest.reason}); previously: {', '.join(latest.previous) or 'none'}")
