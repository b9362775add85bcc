"""`fraudline demo`, `run` and `watch`: pipeline runs, here or in AWS."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipeline.command.entry import become_module
from pipeline.command.options import DEFAULT_HOME, ContractOption, HomeOption, JsonOption, local_home, pairs
from pipeline.command.stopping import stoppable
from processing.contracts.home_contract import adopt, contract_change, contract_for
from processing.storage.open import open_home


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
    from pipeline.runs.demo import run_demo

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
    from pipeline.registry.caller import caller
    from pipeline.runs.here import add_files, run_shown

    console, parameters = Console(stderr=as_json), pairs(settings or [])
    if on is Place.AWS:
        from pipeline.infrastructure.deploy import deployed, find_target
        from pipeline.runs.aws import default_contract, run_on_aws

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
        if change := contract_change(place, known):
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
    place = local_home(home, must_exist=True)
    if contract:
        contract_for(place, contract)  # so that a wrong one is said at once
    become_module("triggers.watch", str(place.folder), *([contract] if contract else []))
