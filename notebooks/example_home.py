"""The home that the notebooks work on, and runs over it."""

import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from rich.console import Console

from pipeline.infrastructure.target import find_target
from pipeline.runs.add_files import add_files
from pipeline.runs.aws_run import run_on_aws
from pipeline.runs.local_run import run_and_report
from processing.contract import Contract
from processing.contracts import reader as contracts
from processing.storage.home import Home
from processing.storage.local import LocalHome
from processing.storage.open import open_home
from processing.synthetic.synthesize import synthesize, write

FOLDER = Path(__file__).parent
START, WEEKS = date(2026, 3, 1), 7
CUSTOMERS, TERMINALS, SEED = 1500, 500, 6
NEXT_WEEK = "synthetic/next-week.parquet"


def example_home() -> Home:
    """The home at FRAUDLINE_HOME, a folder or s3://bucket/prefix. Default: home/notebooks in the clone.

    A folder that does not exist is created with six weeks of synthetic transactions and a first, quickly trained model.
    That takes about a minute. A seventh week is in synthetic/next-week.parquet, for the third notebook.
    """
    home = open_home(os.environ.get("FRAUDLINE_HOME") or FOLDER.parent / "home/notebooks")
    if isinstance(home, LocalHome) and not home.folder.exists():
        create(home)
    return home


def create(home: LocalHome) -> None:
    """Create a home: synthesize transactions, run the pipeline on them and promote the first model."""
    contract = contracts.load(FOLDER / "small.toml")
    rows = synthesize(START, 7 * WEEKS, CUSTOMERS, TERMINALS, SEED)
    last_week = datetime(START.year, START.month, START.day, tzinfo=UTC) + timedelta(weeks=WEEKS - 1)
    earlier = pc.less(rows["event_time"], last_week)
    file = home.path("synthetic/transactions.parquet")
    write(rows.filter(earlier), file)
    write(rows.filter(pc.invert(earlier)), home.path(NEXT_WEEK))
    add_files(home, [file], contract)
    run(home, {"MaxIterations": "3", "MaxLeafNodes": "4"}, contract)


def run(home: Home, parameters: dict[str, str], contract: Contract | None = None) -> dict[str, Any]:
    """Run the pipeline on a home and return the result: on this machine, or in SageMaker for the deployed stack's home.

    contract: for a new home on this machine
    """
    console = Console(width=100)
    return (
        run_and_report(home, console, parameters, contract)
        if isinstance(home, LocalHome)
        else run_on_aws(find_target(), parameters, console)
    )
