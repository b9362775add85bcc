"""`fraudline home`: check a home for damage, and repair it."""

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from pipeline.command.options import DEFAULT_HOME, HomeOption, JsonOption, existing_home
from pipeline.command.stopping import stoppable

HELP = """Check a home for damage, and repair it.

Example: fraudline home check
"""

app = typer.Typer(no_args_is_help=True, help=HELP)


@app.command("check")
def check_home(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Read everything in a home and say what is damaged. Changes nothing. Exit code 1 if something is.

    Example: fraudline home check --home home
    """
    from pipeline.runs.health import problems

    place, console = existing_home(home), Console(stderr=as_json)
    with stoppable("Nothing was changed."), console.status("reading the tables, the store and the models"):
        found = list(problems(place))
    if as_json:
        said = [{"where": one.where, "fault": one.fault, "repairable": one.mend is not None} for one in found]
        typer.echo(json.dumps(said, indent=2))
    else:
        for one in found:
            console.print(f"[red]✗[/] {escape(str(one))}", highlight=False)
            if one.mend:
                console.print("  `fraudline home repair` can mend this", style="dim", highlight=False)
        console.print("[green]✓[/] no damage found" if not found else f"{len(found)} problem(s) found")
    if found:
        raise typer.Exit(1)


@app.command("repair")
def repair_home(
    home: HomeOption = DEFAULT_HOME,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Mend what is damaged in a home, where that can be done. No run may be going on.

    Example: fraudline home repair --home home
    """
    from pipeline.runs.health import repaired
    from processing.processes.lease import hold

    place, console = existing_home(home), Console()
    if not yes:
        typer.confirm("Nothing else may work on this home meanwhile. Go on?", abort=True)

    def say(text: str) -> None:
        console.print(escape(text), highlight=False)

    with stoppable("What was mended until now stays mended; run it again."), hold(place, "home repair", say=say):
        left = repaired(place, say)
    for one in left:
        console.print(f"[red]✗[/] {escape(str(one))}", highlight=False)
    console.print(f"{len(left)} problem(s) left" if left else "[green]✓[/] no damage found")
    if left:
        raise typer.Exit(1)
