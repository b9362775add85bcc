"""The home that the notebooks work on."""

import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from rich.console import Console

from pipeline.infrastructure.deploy import find_target
from pipeline.runs.aws import run_on_aws
from pipeline.runs.here import add_files, run_shown
from processing.contract import Contract
from processing.contracts import reader as contracts
from processing.storage.home import Home
from processing.storage.local import LocalHome
from processing.storage.open import open_home
from processing.synthetic.synthesize import synthesize, write

FOLDER = Path(__file__).parent
START, WEEKS = date(2026, 3, 1), 7
CUSTOMERS, TERMINALS, SEED = 1500, 500, 6
NEXT_WEEK = "made/next-week.parquet"


def example_home() -> Home:
    """The home at FRAUDLINE_HOME, a folder or s3://bucket/prefix; without it, home/notebooks in the clone.

    A folder that is not there yet is made: six weeks of synthetic transactions, and a first, hasty model. That takes
    about a minute, once. A seventh week is kept back in made/next-week.parquet, for the third notebook.
    """
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(FOLDER), os.environ.get("PYTHONPATH")]))
    home = open_home(os.environ.get("FRAUDLINE_HOME") or FOLDER.parent / "home/notebooks")
    if isinstance(home, LocalHome) and not home.folder.exists():
        make(home)
    return home


def make(home: LocalHome) -> None:
    """Take in the synthetic transactions, and let a first model serve."""
    contract = contracts.load(FOLDER / "small.toml")
    rows = synthesize(START, 7 * WEEKS, CUSTOMERS, TERMINALS, SEED)
    last = datetime(START.year, START.month, START.day, tzinfo=UTC) + timedelta(weeks=WEEKS - 1)
    known = pc.less(rows["event_time"], last)
    file = home.path("made/transactions.parquet")
    write(rows.filter(known), file)
    write(rows.filter(pc.invert(known)), home.path(NEXT_WEEK))
    add_files(home, [file], contract)
    start(home, {"MaxIterations": "3", "MaxLeafNodes": "4"}, contract)


def start(home: Home, parameters: dict[str, str], contract: Contract | None = None) -> dict[str, Any]:
    """One pipeline run over the home, here or, for the home of the deployed stack, in SageMaker; what came of it.

    `contract`: that of a new home on this machine.
    """
    console = Console(width=100)
    return (
        run_shown(home, console, parameters, contract)
        if isinstance(home, LocalHome)
        else run_on_aws(find_target(), parameters, console)
    )
