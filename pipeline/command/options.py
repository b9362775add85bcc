"""Options shared by several commands, and how their values are read."""

from datetime import date
from typing import Annotated

import typer

from processing.errors import BadInput
from processing.storage.home import Home
from processing.storage.local import LocalHome
from processing.storage.open import open_home

HomeOption = Annotated[
    str, typer.Option("--home", envvar="FRAUDLINE_HOME", help="The home: a folder that holds all state.")
]
ContractOption = Annotated[
    str | None,
    typer.Option(
        envvar="FRAUDLINE_CONTRACT",
        help="Contract: a shipped one's name or a .toml file. In a home with data it replaces the home's, unless that "
        "would falsify stored rows; see fraudline contract diff.",
    ),
]
StartOption = Annotated[str, typer.Option(help="First day.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DEFAULT_HOME = "home"


def local_home(address: str, *, must_exist: bool = False) -> LocalHome:
    """The home at an address, for a command that works on this machine. Raises BadInput for any other home."""
    home = existing_home(address) if must_exist else open_home(address)
    if not isinstance(home, LocalHome):
        raise BadInput(f"{address}: this command needs a folder on this machine")
    return home


def existing_home(address: str) -> Home:
    """The home at an address. Raises BadInput for a folder that does not exist."""
    home = open_home(address)
    if isinstance(home, LocalHome) and not home.folder.is_dir():
        raise BadInput(f"there is no home at {home.folder}; `fraudline run --home {address}` creates one")
    return home


def parse_pairs(texts: list[str], option: str = "--set", example: str = "MaxIterations=200") -> dict[str, str]:
    """The values of a repeatable name=value option, by name. Raises BadInput."""
    for text in texts:
        if "=" not in text:
            raise BadInput(f"{option} {text}: expected name=value, e.g. {option} {example}")
    return dict(text.split("=", 1) for text in texts)


def parse_day(text: str) -> date:
    """The value of --start. Raises BadInput."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise BadInput(f"--start {text}: expected a date such as 2026-03-01") from None
