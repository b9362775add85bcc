"""One pipeline run on this machine: the SageMaker definition, executed by `pipeline.local`."""

import hashlib
import json
import secrets
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console

from pipeline.definition.pipeline import FEATURE_OUTPUTS, build_definition
from pipeline.definition.requests import LOCAL_ADDRESSES
from pipeline.local import Bindings, LocalExecution, Outcome, StepEvent
from pipeline.local.abandoned_runs import close_abandoned
from pipeline.local.step_process import run_process
from pipeline.registry.registry import Registry
from pipeline.registry.versions import waits
from pipeline.runs.own_code import with_own_code
from pipeline.runs.progress import shown
from processing.contract import HOME_KEY, Contract
from processing.errors import BadInput, Damaged, NotFound, RunFailed
from processing.intake.file_names import is_readable
from processing.intake.incoming import CLAIMED, FOLDER, release_abandoned, waiting_files
from processing.processes import children
from processing.processes.lease import Lease, hold
from processing.storage.documents import read_document
from processing.storage.local import LocalHome
from processing.storage.open import open_home
from processing.storage.scratch import remove_abandoned

AGAIN = "run the pipeline again"


def run_pipeline(
    home: LocalHome,
    parameters: Mapping[str, str],
    progress: Callable[[StepEvent], None],
    say: Callable[[str], None] = lambda line: None,
    contract: Contract | None = None,
) -> Outcome:
    """Run the pipeline on the files in incoming/. The run's folder is runs/<run>/ in the home.

    First cleans up after runs that were killed; `say` gets a line about each. `contract` becomes the home's when the
    run commits; `processing.contracts.home_contract.contract_for` provides it.
    Raises Conflict if a run is in progress in this home, and BadInput if a new home has no file to read or a parameter
    is unknown or has a wrong value.
    """
    _check_input(home, parameters.get("InputDataUrl", home.url_of(FOLDER.rstrip("/"))))
    run = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    remove_abandoned()
    with hold(home, run, say=say) as lease:
        close_abandoned(home, say, alone=True)
        release_abandoned(home)
        values = {
            "HomeUrl": home.url,
            "InputDataUrl": home.url_of(FOLDER.rstrip("/")),
            **parameters,
        }
        bindings = Bindings(
            callbacks={LOCAL_ADDRESSES.features_queue_url: partial(_compute_features, lease=lease, contract=contract)},
            lambdas={LOCAL_ADDRESSES.promote_function_arn: "triggers.functions.promote:handler"},
        )
        folder = home.path(f"runs/{run}")
        execution = LocalExecution(local_definition(home), values, folder, run, bindings)

        def check_lease(event: StepEvent) -> None:
            if event.status == "Executing":
                lease.check()
            progress(event)

        return execution.execute(check_lease)


def _check_input(home: LocalHome, address: str) -> None:
    """Raise BadInput for a new home if there is no file where the run will look."""
    if home.folders("warehouse/") or waiting_files(home) or home.entries(CLAIMED):
        return
    if not any(is_readable(entry.key) for entry in open_home(address).entries("")):
        elsewhere = "" if address == home.url_of(FOLDER.rstrip("/")) else f" (there are none in {address} either)"
        raise BadInput(
            f"there are no files to read: put .csv, .csv.gz or .parquet files into {home.path(FOLDER)}{elsewhere}, or "
            "name them with --data. For synthetic ones: fraudline synthesize transactions.parquet"
        )


def local_definition(home: LocalHome) -> dict[str, Any]:
    """The pipeline's definition for this machine.

    Importing the SageMaker SDK takes some seconds, so the definition is cached in the home and built again only when
    the SDK or `pipeline.definition` has changed.
    """
    sources = sorted((Path(__file__).parents[1] / "definition").glob("*.py"))
    content = [path.read_bytes() for path in sources] + [version("sagemaker").encode()]
    key = f"runs/.definition-{hashlib.sha256(b''.join(content)).hexdigest()[:16]}.json"
    try:
        definition = read_document(home, key, "it is built again")
    except (NotFound, Damaged):
        definition = build_definition(LOCAL_ADDRESSES)
        home.write(key, json.dumps(definition).encode())
    return definition


def run_and_report(
    home: LocalHome, console: Console, parameters: dict[str, str], contract: Contract | None = None
) -> dict[str, Any]:
    """Run the pipeline, show its steps, then print and return the result.

    Raises RunFailed if the run fails, and otherwise what `run_pipeline` does.
    """

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, style="yellow")

    with shown(console) as progress:
        outcome = run_pipeline(home, with_own_code(home, parameters), progress, say, contract)
    if outcome.failure:
        raise RunFailed(f"{outcome.failure.step}: {outcome.failure.reason}\nIts log: {outcome.failure.log}")
    outcome.require_success()
    evaluation = read_document(home, f"runs/{outcome.run}/evaluation/evaluation.json", AGAIN)
    latest = Registry(home).latest()
    serving = latest.version if latest else None
    for line in (evaluation["gate"]["reason"], evaluation["in_words"]):
        console.print(line, highlight=False, markup=False, style="dim")
    for note in evaluation["gate"].get("notes", ()):
        console.print(note, highlight=False, markup=False, style="yellow")
    if serving == evaluation["version"]:
        status = "is now serving"
    else:
        status = f"is not serving; {f'{serving} still is' if serving else 'no model is'}"
    console.print(f"Model [bold]{evaluation['version']}[/] {status}. Run details: {home.path('runs') / outcome.run}")
    if waits(evaluation["gate"]):
        console.print(
            f"It waits for approval: fraudline models promote {evaluation['version']} --home {home.folder}",
            highlight=False,
            markup=False,
            style="yellow",
        )
    return {"run": outcome.run, "status": outcome.status, "serving": serving, **evaluation}


def _compute_features(
    message: dict[str, Any], log: TextIO, lease: Lease, contract: Contract | None
) -> Mapping[str, str]:
    """Run the feature job. In AWS the Callback step's queue leads to a Lambda function, which starts it in Glue."""
    arguments = message["arguments"]
    home = open_home(arguments["home"])
    assert isinstance(home, LocalHome)
    command = children.module_command("processing.job.job", "--home", arguments["home"], "--run", arguments["run"])
    command += ["--input-url", arguments["input_url"], "--code", arguments["code"]]
    if contract is not None:
        key = f"runs/{arguments['run']}/{HOME_KEY}"
        home.write(key, contract.text.encode())
        command += ["--contract", str(home.path(key))]
    path = Path(log.name)
    end = run_process(command, path.parent, children.child_environment(**lease.environment()), path, threading.Event())
    if end.code:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        raise RunFailed(errors[-1] if errors else f"the feature job {end}; its log has details")
    result = read_document(home, f"runs/{arguments['run']}/features.json", AGAIN)
    return {name: str(result[name]) for name in FEATURE_OUTPUTS}
