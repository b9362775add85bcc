"""`fraudline demo`, `run` and `watch`: pipeline runs on this machine or in AWS."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from pipeline.command.contract import print_change
from pipeline.command.exec import exec_module
from pipeline.command.interrupt import stoppable
from pipeline.command.options import DEFAULT_HOME, ContractOption, HomeOption, JsonOption, local_home, parse_pairs
from processing.contracts.home_contract import adopt, change_of, contract_for, propose
from processing.storage.home import Home
from processing.storage.local import LocalHome
from processing.storage.open import open_home


class Location(StrEnum):
    """Where a run executes."""

    HERE = "here"
    AWS = "aws"


def demo(
    address: HomeOption = "home/demo",
    keep_serving: Annotated[bool, typer.Option(help="Keep the API running at the end, until Ctrl-C.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run the whole loop on synthetic data: features, a model, the API, then new data and a new model.

    Example: fraudline demo --keep-serving
    """
    from pipeline.runs.demo import run_demo

    with stoppable(f"The results so far are in {address}; the next demo starts from scratch."):
        result = run_demo(local_home(address), Console(stderr=as_json), keep_serving=keep_serving)
    if as_json:
        typer.echo(json.dumps(result, indent=2))


def run(
    address: HomeOption = DEFAULT_HOME,
    contract: ContractOption = None,
    data: Annotated[list[Path] | None, typer.Option(help="File to add to incoming/ first; repeatable.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Pipeline parameter, as name=value; repeatable.")
    ] = None,
    on: Annotated[
        Location, typer.Option(help="Run on this machine, or on the system deployed to AWS.")
    ] = Location.HERE,
    force: Annotated[
        bool, typer.Option(help="Promote the model whatever the gate says. Your name is recorded.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run the pipeline once, on the files in incoming/.

    Example: fraudline run --contract handbook --data transactions.parquet --set MaxIterations=200
    """
    console, parameters = Console(stderr=as_json), parse_pairs(settings or [])
    if on is Location.AWS:
        result = _run_on_aws(contract, data or [], parameters, force, console)
    else:
        result = _run_here(local_home(address), contract, data or [], parameters, force, console)
    if as_json:
        typer.echo(json.dumps(result, indent=2))


def _run_here(
    home: LocalHome, contract: str | None, files: list[Path], parameters: dict[str, str], force: bool, console: Console
) -> dict[str, Any]:
    from pipeline.runs.add_files import add_files
    from pipeline.runs.local_run import run_and_report

    known = contract_for(home, contract)
    if change := change_of(home, known):
        print_change(change, console)
        console.print("This takes effect as soon as the run commits.", style="yellow")
    add_files(home, files, known)
    with stoppable("The serving model has not changed; uncommitted files wait in incoming/ for the next run."):
        return run_and_report(home, console, parameters | _forced_by(home, force), known if contract else None)


def _run_on_aws(
    contract: str | None, files: list[Path], parameters: dict[str, str], force: bool, console: Console
) -> dict[str, Any]:
    from pipeline.infrastructure.target import deployed_outputs, find_target
    from pipeline.runs.add_files import add_files
    from pipeline.runs.aws_run import default_contract, run_on_aws

    target = find_target()
    outputs = deployed_outputs(target)
    home = open_home(outputs["HomeUrl"])
    if files or contract:
        known = contract_for(home, contract, default_contract(outputs))
        if change_of(home, known):
            print_change(propose(home, known), console)  # the job in AWS reads the pending contract
        elif contract:
            adopt(home, known)
        add_files(home, files, known)
    with stoppable("The run continues in AWS; SageMaker Studio shows it and can stop it."):
        return run_on_aws(target, parameters | _forced_by(home, force), console)


def _forced_by(home: Home, force: bool) -> dict[str, str]:
    from pipeline.registry.caller import caller

    return {"ForcedBy": caller(home)} if force else {}


def watch(address: HomeOption = DEFAULT_HOME, contract: ContractOption = None) -> None:
    """Run the pipeline whenever files land in incoming/, until Ctrl-C.

    Example: fraudline watch --home home
    """
    home = local_home(address, must_exist=True)
    if contract:
        contract_for(home, contract)  # report a wrong contract at once
    exec_module("triggers.watch", str(home.folder), *([contract] if contract else []))
