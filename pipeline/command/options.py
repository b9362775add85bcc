"""The options that several commands share, and what is made of them."""

from typing import Annotated

import typer

from processing.errors import BadInput
from processing.storage.home import Home
from processing.storage.local import LocalHome
from processing.storage.open import open_home

HomeOption = Annotated[str, typer.Option(envvar="FRAUDLINE_HOME", help="Folder that holds all state.")]
ContractOption = Annotated[
    str | None,
    typer.Option(
        envvar="FRAUDLINE_CONTRACT",
        help="A shipped contract's name or a .toml file; in a home with data it may change what no feature depends on.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
DEFAULT_HOME = "home"


def local_home(address: str, *, must_exist: bool = False) -> LocalHome:
    """The home at an address, for a command that works on this machine. Raises BadInput for another one."""
    home = existing_home(address) if must_exist else open_home(address)
    if not isinstance(home, LocalHome):
        raise BadInput(f"{address}: this command works on a folder of this machine")
    return home


def existing_home(address: str) -> Home:
    """The home at an address. Raises BadInput for a folder that does not exist."""
    home = open_home(address)
    if isinstance(home, LocalHome) and not home.folder.is_dir():
        raise BadInput(f"there is no home at {home.folder}; `fraudline run --home {address}` makes one")
    return home


def pairs(given: list[str], option: str = "--set", example: str = "MaxIterations=200") -> dict[str, str]:
    """The values of an option that is given as name=value, by name. Raises BadInput."""
    for pair in given:
        if "=" not in pair:
            raise BadInput(f"{option} {pair}: expected name=value, e.g. {option} {example}")
    return dict(pair.split("=", 1) for pair in given)
