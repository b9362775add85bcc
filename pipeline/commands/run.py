"""`fraudline demo`, `run` and `watch`: pipeline runs, here or in AWS."""

import json
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from pipeline.commands.options import DEFAULT_HOME, ContractOption, HomeOption, JsonOption, local_home, pairs
from pipeline.commands.stopping import stoppable
from processing.errors import Conflict, FraudlineError
from processing.home import open_home
from processing.home_contract import adopt, change_to, contract_for


class Place(StrEnum):
    """Where a run happens."""

    HERE = "here"
    AWS = "aws"


def demo(
    home: HomeOption = "home/demo",
    keep_serving: Annotated[bool, typer.Option(help="Leave the API up at the end, until Ctrl-C.")] = False,
    as_json: JsonOption = False,
) -> None:
    """The whole loop on synthetic data: data, features, model, API, new data, new model.

    Example: fraudline demo --keep-serving
    """
    from pipeline.demo import run_demo

    with stoppable(f"What was done until now is in {home}; start again to begin anew."):
        result = run_demo(local_home(home), Console(stderr=as_json), keep_serving=keep_serving)
    if as_json:
        typer.echo(json.dumps(result, indent=2))


def run(
    home: HomeOption = DEFAULT_HOME,
    contract: ContractOption = None,
    data: Annotated[list[Path] | None, typer.Option(help="A file to take in first; may be given again.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A pipeline parameter, as name=value; may be given again.")
    ] = None,
    on: Annotated[Place, typer.Option(help="Where: here, or the system deployed to AWS.")] = Place.HERE,
    force: Annotated[
        bool, typer.Option(help="Promote the model whatever the gate says; who asked is recorded.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """One pipeline run over what waits in incoming/.

    Example: fraudline run --contract handbook --data transactions.parquet --set MaxIterations=200
    """
    from pipeline.caller import caller
    from pipeline.run import add_files, run_shown

    console, parameters = Console(stderr=as_json), pairs(settings or [])
    if on is Place.AWS:
        from pipeline.deploy import deployed, find_target
        from pipeline.run_on_aws import default_contract, run_on_aws

        target = find_target()
        outputs = deployed(target)
        cloud = open_home(outputs["HomeUrl"])
        parameters |= {"ForcedBy": caller(cloud)} if force else {}
        if data or contract:
            known = contract_for(cloud, contract, default_contract(outputs))
            for change in adopt(cloud, known) if contract else ():  # the job in AWS goes by what the home has
                console.print(change, highlight=False, markup=False, style="yellow")
            add_files(cloud, data or [], known)
        with stoppable("The run goes on in AWS: Studio shows it, and can stop it."):
            story = run_on_aws(target, parameters, console)
    else:
        place = local_home(home)
        parameters |= {"ForcedBy": caller(place)} if force else {}
        known = contract_for(place, contract)
        if change := change_to(place, known):
            console.print(f"{change}, as soon as the run commits", highlight=False, markup=False, style="yellow")
        if data:
            add_files(place, data, known)
        with stoppable("The model that served still does; files not committed wait in incoming/ for the next run."):
            story = run_shown(place, console, parameters, known if contract else None)
    if as_json:
        typer.echo(json.dumps(story, indent=2))


def watch(home: HomeOption = DEFAULT_HOME, contract: ContractOption = None) -> None:
    """Run again whenever a file lands in incoming/, until Ctrl-C.

    Example: fraudline watch --home home
    """
    from pipeline.local.abandoned import close_abandoned
    from pipeline.run import run_shown
    from processing.incoming import reclaim
    from processing.lease import hold
    from triggers.watch import watch as follow

    place = local_home(home, must_exist=True)
    known = contract_for(place, contract) if contract else None
    console = Console()

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, style="yellow")

    close_abandoned(place, say)
    with suppress(Conflict), hold(place, "watch", say=say):  # a run that goes on gives back what it does not take in
        reclaim(place)
    console.print(f"watching {place.path('incoming')}; Ctrl-C stops")

    def start() -> None:
        nonlocal known
        run_shown(place, console, {}, known)
        known = None  # it is the home's by now

    def failed(error: FraudlineError) -> None:
        what = "[yellow]waiting:[/]" if isinstance(error, Conflict) else "[red]the run failed:[/]"
        console.print(f"{what} {escape(str(error))}", highlight=False)

    with stoppable("Files that wait in incoming/ are taken in by the next run."):
        follow(place, start, failed)
