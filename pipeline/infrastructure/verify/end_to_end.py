"""Verify the whole chain: a file arrives, a run starts by itself and registers a model, and latest.json is right.

Name a file of transactions that the next run should read anyway. Without one, an empty file with the contract's columns
is used: it starts a run on the data that is there, which trains and evaluates a challenger like any run.
"""

import argparse
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.infrastructure.names import Output
from pipeline.infrastructure.verify.system import DeployedSystem
from processing.aws_client import client
from processing.contracts.reader import of_home

ENDED = ("Succeeded", "Failed", "Stopped")
STEPS = ("Features", "Train", "Evaluate", "Gate")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the check's own options."""
    parser.add_argument("file", nargs="?", type=Path, help="file of transactions to read")
    parser.add_argument("--start-seconds", type=float, default=600.0, help="how long to wait for the run to start")
    parser.add_argument("--run-seconds", type=float, default=7200.0, help="how long to wait for the run to end")


def check(system: DeployedSystem) -> None:
    """A run, from the file to the model."""
    before = {execution["PipelineExecutionArn"] for execution in _executions(system)}
    champion = system.registry.latest()
    key = _upload(system)
    run = system.wait_for(lambda: _new_execution(system, before), system.options.start_seconds)
    reason = f"none within the time; {key} waits there"
    if not system.expect("a file in incoming/ starts a run by itself", run, reason):
        return
    arn = run["PipelineExecutionArn"]
    execution = system.wait_for(lambda: _if_ended(arn), system.options.run_seconds) or {}
    status = execution.get("PipelineExecutionStatus", "still running")
    steps = client("sagemaker").list_pipeline_execution_steps(PipelineExecutionArn=arn)["PipelineExecutionSteps"]
    statuses = {step["StepName"]: step["StepStatus"] for step in steps}
    for name in STEPS:
        reached = statuses.get(name, "it did not run")
        system.expect(f"its step {name} succeeds", reached == "Succeeded", reached)
    system.expect("the run succeeds", status == "Succeeded", f"{status}: {execution.get('FailureReason', '')}")
    waiting = [entry.key for entry in system.home.entries(key)]
    system.expect("a run has read the file", not waiting, waiting)
    if status == "Succeeded":
        _check_model(system, arn.rpartition("/")[2], statuses, champion.version if champion else None)


def _check_model(system: DeployedSystem, run: str, statuses: dict[str, str], champion: str | None) -> None:
    """The run's model: published, registered, and serving if it passed the gate."""
    evaluation = json.loads(system.home.read(f"runs/{run}/evaluation/evaluation.json"))
    version, passed = evaluation["version"], statuses.get("Promote") == "Succeeded"
    system.registry.verify(version)
    system.expect(f"the model {version} is published, and the digests of its files are right", True)
    sagemaker, group = client("sagemaker"), system.outputs[Output.MODEL_PACKAGE_GROUP]
    listed = sagemaker.list_model_packages(ModelPackageGroupName=group)["ModelPackageSummaryList"]
    packages = [sagemaker.describe_model_package(ModelPackageName=one["ModelPackageArn"]) for one in listed]
    [status] = [
        one["ModelApprovalStatus"] for one in packages if one["CustomerMetadataProperties"].get("version") == version
    ] or ["not registered"]
    system.expect("it is registered with the gate's verdict", status == ("Approved" if passed else "Rejected"), status)
    latest = system.registry.latest()
    right = latest and latest.version == (version if passed else champion)
    system.expect("the new model is serving" if passed else "the champion is still serving", right, latest)


def _upload(system: DeployedSystem) -> str:
    """Upload the file to incoming/; returns its key."""
    with tempfile.TemporaryDirectory() as folder:
        path = system.options.file or Path(folder, f"verify-{datetime.now(UTC):%Y%m%dT%H%M%S}.csv")
        if system.options.file is None:
            path.write_text(",".join(of_home(system.home).columns) + "\n")
        system.home.upload(path, f"incoming/{path.name}")
    return f"incoming/{path.name}"


def _executions(system: DeployedSystem) -> list[dict[str, Any]]:
    """The executions of the pipeline."""
    name = system.outputs[Output.PIPELINE_NAME]
    executions: list[dict[str, Any]] = client("sagemaker").list_pipeline_executions(PipelineName=name)[
        "PipelineExecutionSummaries"
    ]
    return executions


def _new_execution(system: DeployedSystem, before: set[str]) -> dict[str, Any] | None:
    """An execution that did not exist before."""
    return next((one for one in _executions(system) if one["PipelineExecutionArn"] not in before), None)


def _if_ended(arn: str) -> dict[str, Any] | None:
    """The execution's description, once it has ended."""
    described: dict[str, Any] = client("sagemaker").describe_pipeline_execution(PipelineExecutionArn=arn)
    return described if described["PipelineExecutionStatus"] in ENDED else None
