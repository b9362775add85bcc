"""`fraudline drift`: what is scored now beside what the model was tested on."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pipeline.command.options import DEFAULT_HOME, HomeOption, JsonOption, existing_home
from processing.errors import RunFailed

UNSAMPLED = (
    "What chance does is not known: the model was tested by an earlier version. The next run's model will tell; until "
    "then 5,000 transactions are needed to say anything."
)


def drift(
    home: HomeOption = DEFAULT_HOME,
    since: Annotated[str | None, typer.Option(help="A time; the serving model's promotion if not given.")] = None,
    page: Annotated[Path | None, typer.Option(help="Also write the comparison to this HTML file.")] = None,
    fail_above: Annotated[
        float | None,
        typer.Option(min=0.0, help="End with exit code 1 if a PSI lies above this, e.g. 0.25, and is beyond chance."),
    ] = None,
    publish: Annotated[bool, typer.Option(help="Put the metrics into CloudWatch, for an alarm.")] = False,
    as_json: JsonOption = False,
) -> None:
    """What was scored since, against the rows the serving model was tested on.

    Example: fraudline drift --since 2026-07-01 --page drift.html --fail-above 0.25
    """
    from pipeline.evaluation import drift as drifting

    found = drifting.measure_drift(existing_home(home), drifting.since_of(since))
    if page:
        page.write_bytes(drifting.page_of(found))
    if publish:
        drifting.publish(found)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        _show_drift(found)
    if fail_above is None:
        return
    if over := drifting.above(found, fail_above):
        raise RunFailed(f"PSI above {fail_above:g}, and beyond chance: {', '.join(over)}")
    if unsaid := drifting.unsaid(found, fail_above):
        typer.echo(f"too few transactions to say whether a PSI is above {fail_above:g}: {', '.join(unsaid)}", err=True)


def _show_drift(found: dict[str, Any]) -> None:
    console = Console()
    few = "" if found["enough"] else "; too few to tell drift from chance"
    console.print(
        f"{found['decisions']:,} transactions scored since {found['since'][:16]}, {found['scored_by_it']:,} by "
        f"{found['version']}{few}",
        highlight=False,
    )
    if not found["sampled"]:
        console.print(UNSAMPLED, highlight=False, style="dim")
    table = Table("", "PSI", "by chance", "KS", "change", box=None, pad_edge=False)
    colours = {"small": "green", "moderate": "yellow", "great": "red", "too few": "dim"}
    score = {"score": found["score"]} if found["score"] else {}
    for name, one in {**score, **found["features"]}.items():
        level = one["level"]
        chance = "" if one["chance"] is None else f"{one['chance']:.3f}"
        table.add_row(name, f"{one['psi']:.3f}", chance, f"{one['ks']:.3f}", f"[{colours[level]}]{level}[/]")
    console.print(table)
    if found["alerts"]["now"] is not None:
        now, then = (100 * found["alerts"][name] for name in ("now", "reference"))
        console.print(f"of 100 transactions {now:.2f} are alerts; {then:.2f} on the test rows", highlight=False)
