"""`fraudline drift`: what is scored now beside what the model was tested on."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pipeline.commands.options import DEFAULT_HOME, HomeOption, JsonOption, existing_home
from processing.errors import RunFailed


def drift(
    home: HomeOption = DEFAULT_HOME,
    since: Annotated[str | None, typer.Option(help="A time; the serving model's promotion if not given.")] = None,
    page: Annotated[Path | None, typer.Option(help="Also write the comparison to this HTML file.")] = None,
    fail_above: Annotated[
        float | None, typer.Option(min=0.0, help="End with exit code 1 if a PSI lies above this, e.g. 0.25.")
    ] = None,
    publish: Annotated[bool, typer.Option(help="Put the metrics into CloudWatch, for an alarm.")] = False,
    as_json: JsonOption = False,
) -> None:
    """What was scored since, against the rows the serving model was tested on.

    Example: fraudline drift --since 2026-07-01 --page drift.html --fail-above 0.25
    """
    from pipeline import drift as drifting

    found = drifting.measure_drift(existing_home(home), drifting.since_of(since))
    if page:
        page.write_bytes(drifting.page_of(found))
    if publish:
        drifting.publish(found)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        _show_drift(found)
    if fail_above is not None and (over := drifting.above(found, fail_above)):
        raise RunFailed(f"PSI above {fail_above:g}: {', '.join(over)}")


def _show_drift(found: dict[str, Any]) -> None:
    console = Console()
    few = "" if found["enough"] else "; too few to say more than what chance does"
    console.print(
        f"{found['decisions']:,} transactions scored since {found['since'][:16]}, {found['scored_by_it']:,} by "
        f"{found['version']}{few}",
        highlight=False,
    )
    table = Table("", "PSI", "KS", "change", box=None, pad_edge=False)
    colours = {"small": "green", "moderate": "yellow", "great": "red", "too few": "dim"}
    score = {"score": found["score"]} if found["score"] else {}
    for name, one in {**score, **found["features"]}.items():
        level = one["level"]
        table.add_row(name, f"{one['psi']:.3f}", f"{one['ks']:.3f}", f"[{colours[level]}]{level}[/]")
    console.print(table)
    if found["alerts"]["now"] is not None:
        now, then = (100 * found["alerts"][name] for name in ("now", "reference"))
        console.print(f"of 100 transactions {now:.2f} are alerts; {then:.2f} on the test rows", highlight=False)
