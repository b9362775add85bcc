"""One pipeline run on this machine: the SageMaker definition, executed by `pipeline.local`."""

import hashlib
import json
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console

from pipeline.definition.pipeline import FEATURE_OUTPUTS, build
from pipeline.definition.requests import LOCAL_ADDRESSES
from pipeline.local import Bindings, LocalExecution, Outcome, StepEvent
from pipeline.local.abandoned import close_abandoned
from pipeline.local.child import run_process
from pipeline.registry.registry import Registry
from pipeline.registry.versions import waits
from pipeline.runs.progress import shown
from processing.contract import HOME_KEY, Contract
from processing.errors import BadInput, Damaged, NotFound, RunFailed
from processing.intake.files import check_file, is_readable
from processing.intake.incoming import CLAIMED, FOLDER, SETTLE_SECONDS, release_abandoned, waiting
from processing.processes import children
from processing.processes.lease import Lease, hold
from processing.storage.documents import read_document
from processing.storage.home import Home
from processing.storage.local import LocalHome
from processing.storage.open import open_home
from processing.storage.scratch import remove_abandoned

AGAIN = "run it again"


def run_pipeline(
    home: LocalHome,
    parameters: Mapping[str, str],
    progress: Callable[[StepEvent], None],
    say: Callable[[str], None] = lambda line: None,
    contract: Contract | None = None,
) -> Outcome:
    """Execute the pipeline over what is in incoming/; its folder is runs/<run>/ in the home.

    It first puts in order what runs that were killed left behind; `say` is told of that, a line each. `contract`: what
    the home is to go by from this run's commit on, as `processing.contracts.home_contract.contract_for` gives it.
    Raises Conflict if a run is going on in this home, BadInput if there is nothing to take in and never was, or for a
    parameter that does not exist or fit.
    """
    _check_input(home, parameters.get("InputDataUrl", home.url_of(FOLDER.rstrip("/"))))
    run = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    remove_abandoned()
    with hold(home, run, say=say) as lease:
        close_abandoned(home, say, alone=True)
        release_abandoned(home)
        given = {
            "HomeUrl": home.url,
            "InputDataUrl": home.url_of(FOLDER.rstrip("/")),
            **parameters,
        }
        bindings = Bindings(
            callbacks={LOCAL_ADDRESSES.features_queue_url: partial(_compute_features, lease=lease, contract=contract)},
            lambdas={LOCAL_ADDRESSES.promote_function_arn: "triggers.functions.promote:handler"},
        )
        folder = home.path(f"runs/{run}")
        execution = LocalExecution(local_definition(home), given, folder, run, bindings)

        def checked(event: StepEvent) -> None:
            if event.status == "Executing":
                lease.check()
            progress(event)

        return execution.execute(checked)


def _check_input(home: LocalHome, address: str) -> None:
    """Raise BadInput for a new home if no file lies where the run is told to look."""
    if home.folders("warehouse/") or waiting(home) or home.entries(CLAIMED):
        return
    if not any(is_readable(entry.key) for entry in open_home(address).entries("")):
        elsewhere = "" if address == home.url_of(FOLDER.rstrip("/")) else f" (nor is there any in {address})"
        raise BadInput(
            f"there is nothing to take in: put .csv, .csv.gz or .parquet files into {home.path(FOLDER)}{elsewhere}, or "
            "name them with --data. For synthetic ones: fraudline synthesize transactions.parquet"
        )


def local_definition(home: LocalHome) -> dict[str, Any]:
    """The pipeline's definition for this machine, built by the SageMaker SDK whenever what it is made of has changed.

    It is kept in the home, since importing the SDK takes some seconds.
    """
    sources = sorted((Path(__file__).parents[1] / "definition").glob("*.py"))
    made_of = [path.read_bytes() for path in sources] + [version("sagemaker").encode()]
    key = f"runs/.definition-{hashlib.sha256(b''.join(made_of)).hexdigest()[:16]}.json"
    try:
        definition = read_document(home, key, "it is made again")
    except (NotFound, Damaged):
        definition = build(LOCAL_ADDRESSES)
        home.write(key, json.dumps(definition).encode())
    return definition


def run_shown(
    home: LocalHome, console: Console, parameters: dict[str, str], contract: Contract | None = None
) -> dict[str, Any]:
    """A run with its steps shown; what came of it, printed and returned. Raises RunFailed, else as `run_pipeline`."""

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, style="yellow")

    with shown(console) as progress:
        outcome = run_pipeline(home, parameters, progress, say, contract)
    if outcome.failure:
        raise RunFailed(f"{outcome.failure.step}: {outcome.failure.reason}\nIts log: {outcome.failure.log}")
    outcome.require_success()
    evaluation = read_document(home, f"runs/{outcome.run}/evaluation/evaluation.json", AGAIN)
    latest = Registry(home).latest()
    serving = latest.version if latest else None
    for said in (evaluation["gate"]["reason"], evaluation["in_words"]):
        console.print(said, highlight=False, markup=False, style="dim")
    for note in evaluation["gate"].get("notes", ()):
        console.print(note, highlight=False, markup=False, style="yellow")
    became = "serves now" if serving == evaluation["version"] else f"does not serve; {serving or 'no version'} does"
    console.print(
        f"Model [bold]{evaluation['version']}[/] {became}. The run's story: {home.path('runs') / outcome.run}"
    )
    if waits(evaluation["gate"]):
        console.print(
            f"It waits for a person's approval: fraudline models promote {evaluation['version']} --home {home.folder}",
            highlight=False,
            markup=False,
            style="yellow",
        )
    return {"run": outcome.run, "status": outcome.status, "serving": serving, **evaluation}


def add_files(home: Home, files: Sequence[Path], contract: Contract) -> None:
    """Copy a user's files into incoming/, all or none. Raises BadInput naming the file that cannot be taken in."""
    for path in files:
        if not path.is_file():
            raise BadInput(f"there is no file {path}")
        if not is_readable(path.name):
            raise BadInput(f"{path}: only .csv, .csv.gz and .parquet files (not hidden ones) can be taken in")
        check_file(path, contract, str(path))
    names = [path.name for path in files]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"two of the files are called {name}; rename one")
        if any(entry.key == FOLDER + name for entry in home.entries(FOLDER)):
            raise BadInput(f"{home.url_of(FOLDER + name)} waits to be taken in already; rename the new file")
    for path in files:
        if not isinstance(home, LocalHome):
            home.upload(path, FOLDER + path.name)
            continue
        target = home.path(FOLDER + path.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{path.name}.part")
        shutil.copyfile(path, partial)
        modified = datetime.now(UTC).timestamp() - SETTLE_SECONDS  # it is whole: the job need not wait for it to settle
        os.utime(partial, (modified, modified))
        partial.rename(target)


def _compute_features(
    message: dict[str, Any], log: TextIO, lease: Lease, contract: Contract | None
) -> Mapping[str, str]:
    """What the Callback step's queue leads to in AWS (a Lambda function, then Glue): the feature job, run here."""
    given = message["arguments"]
    home = open_home(given["home"])
    assert isinstance(home, LocalHome)
    command = children.module_command("processing.job.job", "--home", given["home"], "--run", given["run"])
    command += ["--input-url", given["input_url"]]
    if contract is not None:
        key = f"runs/{given['run']}/{HOME_KEY}"
        home.write(key, contract.text.encode())
        command += ["--contract", str(home.path(key))]
    path = Path(log.name)
    ended = run_process(
        command, path.parent, children.child_environment(**lease.environment()), path, threading.Event()
    )
    if ended.code:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        told = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        raise RunFailed(told[-1] if told else f"the feature job {ended}; its log has more")
    done = read_document(home, f"runs/{given['run']}/features.json", AGAIN)
    return {name: str(done[name]) for name in FEATURE_OUTPUTS}
