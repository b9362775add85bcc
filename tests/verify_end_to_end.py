"""Verify all of it together: a file lands, a run follows by itself, a model is registered, latest.json is sound.

    python tests/verify_end_to_end.py [FILE]

FILE is a file of transactions that is to be taken in anyway. Without one a file without rows does: it starts a run on
the data there is, which trains and judges a challenger as every run does.
"""

import argparse
import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from verification import System, verify

from processing.aws_client import client
from processing.contracts.reader import of_home

ENDED = ("Succeeded", "Failed", "Stopped")
WORK = ("Features", "Train", "Evaluate", "Gate")


def checks(system: System) -> None:
    """A run, from the file to the model."""
    before = {found["PipelineExecutionArn"] for found in executions(system)}
    served = system.registry.latest()
    key = land(system)
    run = system.until(lambda: begun(system, before), system.options.start_seconds)
    if not system.expect("a file in incoming/ starts a run by itself", run, f"none within the time; {key} waits there"):
        return
    arn = run["PipelineExecutionArn"]
    told = client("sagemaker").describe_pipeline_execution
    ended = system.until(lambda: over(told(PipelineExecutionArn=arn)), system.options.run_seconds) or {}
    status = ended.get("PipelineExecutionStatus", "still going on")
    steps = client("sagemaker").list_pipeline_execution_steps(PipelineExecutionArn=arn)["PipelineExecutionSteps"]
    statuses = {step["StepName"]: step["StepStatus"] for step in steps}
    for name in WORK:
        system.expect(
            f"its step {name} succeeds", statuses.get(name) == "Succeeded", statuses.get(name, "it did not run")
        )
    system.expect("the run succeeds", status == "Succeeded", f"{status}: {ended.get('FailureReason', '')}")
    left = [entry.key for entry in system.home.entries(key)]
    system.expect("the file was taken in", not left, left)
    if status == "Succeeded":
        judged(system, arn.rpartition("/")[2], statuses, served.version if served else None)


def judged(system: System, run: str, statuses: dict[str, str], served: str | None) -> None:
    """What became of the run's model."""
    evaluation = json.loads(system.home.read(f"runs/{run}/evaluation/evaluation.json"))
    version, passed = evaluation["version"], statuses.get("Promote") == "Succeeded"
    system.registry.verify(version)
    system.expect(f"the model {version} is published, each file as its digest says", True)
    sagemaker, group = client("sagemaker"), system.outputs["ModelPackageGroup"]
    listed = sagemaker.list_model_packages(ModelPackageGroupName=group)["ModelPackageSummaryList"]
    found = [sagemaker.describe_model_package(ModelPackageName=one["ModelPackageArn"]) for one in listed]
    [status] = [
        one["ModelApprovalStatus"] for one in found if one["CustomerMetadataProperties"].get("version") == version
    ] or ["not registered"]
    system.expect("and registered as the gate decided", status == ("Approved" if passed else "Rejected"), status)
    latest = system.registry.latest()
    right = latest and latest.version == (version if passed else served)
    what = "the new model serves" if passed else "the model that served still does"
    system.expect(what, right, latest)


def land(system: System) -> str:
    """Put the file to incoming/; its key."""
    with tempfile.TemporaryDirectory() as folder:
        path = system.options.file or Path(folder, f"verify-{datetime.now(UTC):%Y%m%dT%H%M%S}.csv")
        if system.options.file is None:
            path.write_text(",".join(of_home(system.home).columns) + "\n")
        system.home.upload(path, f"incoming/{path.name}")
    return f"incoming/{path.name}"


def executions(system: System) -> list[dict[str, Any]]:
    """The executions of the pipeline."""
    found: list[dict[str, Any]] = client("sagemaker").list_pipeline_executions(
        PipelineName=system.outputs["PipelineName"]
    )["PipelineExecutionSummaries"]
    return found


def begun(system: System, before: set[str]) -> dict[str, Any] | None:
    """The execution that was not there before."""
    return next((found for found in executions(system) if found["PipelineExecutionArn"] not in before), None)


def over(described: dict[str, Any]) -> dict[str, Any] | None:
    """An execution, once it has ended."""
    return described if described["PipelineExecutionStatus"] in ENDED else None


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("file", nargs="?", type=Path, help="a file of transactions to take in")
    parser.add_argument("--start-seconds", type=float, default=600.0, help="how long to wait for the run to start")
    parser.add_argument("--run-seconds", type=float, default=7200.0, help="how long to wait for the run to end")
    sys.exit(verify(str(__doc__), checks, parser))
