"""`fraudline contract`: show a home's contract, check a file, and change the contract of a home with data."""

import json
from typing import Annotated, Any

import typer
from rich.console import Console

from pipeline.command.options import DEFAULT_HOME, HomeOption, JsonOption, existing_home
from processing.contract import HOME_KEY, Contract
from processing.contracts import reader
from processing.contracts.contract_change import ContractChange
from processing.contracts.home_contract import PENDING_KEY, pending, propose

HELP = """Show, check, compare and change contracts.

Example: fraudline contract apply mine.toml
"""
FileArgument = Annotated[str, typer.Argument(help="Contract: a .toml file, or a shipped one's name.")]

app = typer.Typer(no_args_is_help=True, help=HELP)


@app.command("show")
def show_contract(address: HomeOption = DEFAULT_HOME) -> None:
    """Print the home's contract as it is, in TOML. Where it is stored goes to standard error.

    Example: fraudline contract show --home home
    """
    home = existing_home(address)
    contract = reader.of_home(home)
    source = home.url_of(HOME_KEY)
    if waiting := pending(home):
        source += f"; another one, {waiting.name!r} in {home.url_of(PENDING_KEY)}, waits for the next run"
    Console(stderr=True).print(source, style="dim", markup=False, highlight=False, soft_wrap=True)
    typer.echo(contract.text, nl=not contract.text.endswith("\n"))


@app.command("check")
def check_contract(file: FileArgument, as_json: JsonOption = False) -> None:
    """Read a contract and print what it describes. Exits with 2 and names the entry if something is wrong in it.

    Example: fraudline contract check mine.toml
    """
    summary = _summary(reader.load(file))
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
        return
    for name, value in summary.items():
        text = ", ".join(value) if isinstance(value, list) else str(value)
        typer.echo(f"{name.replace('_', ' ')}: {text or 'none'}")


@app.command("diff")
def diff_contract(file: FileArgument, address: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Say what would change if the home got another contract, and what that costs. Exits with 2 if it is refused.

    Example: fraudline contract diff mine.toml --home home
    """
    change = ContractChange(reader.of_home(existing_home(address)), reader.load(file))
    if as_json:
        typer.echo(json.dumps(change_document(change), indent=2))
    else:
        print_change(change, Console())
    if change.refusals:
        raise typer.Exit(2)


@app.command("apply")
def apply_contract(file: FileArgument, address: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Let the next run put another contract in force, and say what that changes and costs. The home's own withdraws it.

    Example: fraudline contract apply mine.toml --home home
    """
    home = existing_home(address)
    change = propose(home, reader.load(file))
    if as_json:
        typer.echo(json.dumps(change_document(change), indent=2))
        return
    print_change(change, Console())
    waits = change.before.text != change.after.text
    typer.echo(f"`fraudline run --home {address}` puts it in force" if waits else "no other contract is pending")


def print_change(change: ContractChange, console: Console) -> None:
    """Print each line of a change, then why it is refused if it is."""

    def say(text: str, style: str | None = None) -> None:
        console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    for line in change.lines:
        say(line)
    if not change.lines:
        say("nothing changes" if change.before.text == change.after.text else "nothing changes but the wording")
    for refusal in change.refusals:
        say(f"refused: {refusal}", "red")


def change_document(change: ContractChange) -> dict[str, Any]:
    """A change as JSON."""
    return {
        "changes": change.lines,
        "refusals": change.refusals,
        "features": change.features_change._asdict(),
        "store_rebuild": change.store_rebuild,
    }


def _summary(contract: Contract) -> dict[str, Any]:
    from processing.features.feature_set import FeatureSet

    entities = [
        f"{entity.name} ({entity.identified_by}) over {', '.join(entity.windows)}" for entity in contract.entities
    ]
    return {
        "name": contract.name,
        "columns": list(contract.columns),
        "entities": entities,
        "numeric": list(contract.numeric),
        "categorical": list(contract.categorical),
        "features": len(FeatureSet(contract).names),
        "lookback_days": contract.lookback_hours // 24,
    }
