"""`fraudline home`: check a home for damage, and repair it."""

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from pipeline.command.interrupt import stoppable
from pipeline.command.options import DEFAULT_HOME, HomeOption, JsonOption, existing_home

HELP = """Check a home for damage, and repair it.

Example: fraudline home check
"""

app = typer.Typer(no_args_is_help=True, help=HELP)


@app.command("check")
def check_home(address: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Read everything in a home and list what is damaged. Changes nothing; exits with 1 if anything is damaged.

    Example: fraudline home check --home home
    """
    from pipeline.runs.home_check import home_problems

    home, console = existing_home(address), Console(stderr=as_json)
    with stoppable("Nothing was changed."), console.status("reading tables, online store and models"):
        problems = list(home_problems(home))
    if as_json:
        documents = [{"where": one.where, "fault": one.what, "repairable": one.repair is not None} for one in problems]
        typer.echo(json.dumps(documents, indent=2))
    else:
        for problem in problems:
            console.print(f"[red]✗[/] {escape(str(problem))}", highlight=False)
            if problem.repair:
                console.print("  `fraudline home repair` can repair this", style="dim", highlight=False)
        console.print(f"{len(problems)} problem(s) found" if problems else "[green]✓[/] no damage found")
    if problems:
        raise typer.Exit(1)


@app.command("repair")
def repair_home(
    address: HomeOption = DEFAULT_HOME,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
) -> None:
    """Repair what is damaged in a home, where possible. No run may be in progress.

    Example: fraudline home repair --home home
    """
    from pipeline.runs import home_check
    from processing.processes.lease import hold

    home, console = existing_home(address), Console()
    if not yes:
        typer.confirm("Nothing else may use this home during the repair. Continue?", abort=True)

    def say(text: str) -> None:
        console.print(escape(text), highlight=False)

    with stoppable("Repairs made so far are kept; run the command again."), hold(home, "home repair", say=say):
        problems = home_check.repair_home(home, say)
    for problem in problems:
        console.print(f"[red]✗[/] {escape(str(problem))}", highlight=False)
    console.print(f"{len(problems)} problem(s) remain" if problems else "[green]✓[/] no damage found")
    if problems:
        raise typer.Exit(1)
