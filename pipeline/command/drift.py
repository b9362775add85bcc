"""`fraudline drift`: what is being scored, compared with the rows the serving model was tested on."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pipeline.command.options import DEFAULT_HOME, HomeOption, JsonOption, existing_home
from processing.errors import RunFailed


def drift(
    address: HomeOption = DEFAULT_HOME,
    since: Annotated[
        str | None, typer.Option(help="Start of the comparison. Default: when the serving model was promoted.")
    ] = None,
    page: Annotated[Path | None, typer.Option(help="Also write the comparison to this HTML file.")] = None,
    fail_above: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="Exit with 1 if a PSI exceeds this limit, e.g. 0.25, and chance does not explain it."
        ),
    ] = None,
    publish: Annotated[bool, typer.Option(help="Publish the metrics to CloudWatch, for an alarm.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare scored transactions with the rows the serving model was tested on.

    Example: fraudline drift --since 2026-07-01 --page drift.html --fail-above 0.25
    """
    from pipeline.evaluation import drift as drifting
    from pipeline.evaluation.drift_metrics import publish_metrics
    from pipeline.evaluation.report.drift_page import render_drift_page

    comparison = drifting.measure_drift(existing_home(address), drifting.parse_since(since))
    if page:
        page.write_bytes(render_drift_page(comparison))
    if publish:
        publish_metrics(comparison)
    if as_json:
        typer.echo(json.dumps(comparison, indent=2))
    else:
        _print_comparison(comparison, drifting.FEWEST_UNSAMPLED)
    if fail_above is None:
        return
    if over := drifting.above(comparison, fail_above):
        raise RunFailed(f"PSI above {fail_above:g}, beyond chance: {', '.join(over)}")
    if undecided := drifting.undecided(comparison, fail_above):
        typer.echo(f"too few transactions to tell whether PSI exceeds {fail_above:g}: {', '.join(undecided)}", err=True)


def _print_comparison(comparison: dict[str, Any], fewest_unsampled: int) -> None:
    console = Console()
    few = "" if comparison["enough"] else "; too few to tell drift from chance"
    console.print(
        f"{comparison['decisions']:,} transactions scored since {comparison['since'][:16]}, "
        f"{comparison['scored_by_it']:,} of them by {comparison['version']}{few}",
        highlight=False,
    )
    if not comparison["sampled"]:
        console.print(
            "The effect of chance is unknown: an earlier version of Fraudline tested this model. The next run's model "
            f"will have it; until then a comparison needs {fewest_unsampled:,} transactions.",
            highlight=False,
            style="dim",
        )
    psi, *others = comparison["measures"].values()
    table = Table("", psi, "by chance", *others, "change", box=None, pad_edge=False)
    colours = {"small": "green", "moderate": "yellow", "great": "red", "too few": "dim"}
    score = {"score": comparison["score"]} if comparison["score"] else {}
    for name, figure in {**score, **comparison["features"]}.items():
        level = figure["level"]
        chance = "" if figure["chance"] is None else f"{figure['chance']:.3f}"
        psi, *others = (f"{figure[key]:.3f}" for key in comparison["measures"])
        change = f"[{colours[level]}]{'large' if level == 'great' else level}[/]"
        table.add_row(name, psi, chance, *others, change)
    console.print(table)
    if comparison["alerts"]["now"] is not None:
        now, then = comparison["alerts"]["now"], comparison["alerts"]["reference"]
        console.print(f"{now:.2%} of transactions are alerts; {then:.2%} of the test rows were", highlight=False)
