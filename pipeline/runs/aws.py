"""A run of the deployed pipeline on AWS: started from here, and followed to its end."""

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from pipeline.infrastructure.deploy import Target, asked, deployed
from pipeline.local import StepEvent
from pipeline.local.parameters import bind_parameters
from pipeline.registry.registry import Registry
from pipeline.runs.progress import shown
from pipeline.runs.statuses import ENDED
from processing.aws_client import client
from processing.errors import Conflict, RunFailed
from processing.storage.open import open_home

POLL_SECONDS = 2.0
LOG_LINES = 30
MOST_STEPS = 100
KINDS = {"TrainingJob": "Training", "ProcessingJob": "Processing", "Condition": "Condition"}  # by a step's metadata
FEATURE_LOGS = "/fraudline/features"


def run_on_aws(target: Target, parameters: Mapping[str, str], console: Console) -> dict[str, Any]:
    """Start an execution of the deployed pipeline, show its steps, and tell what came of it, as a run here does.

    Ctrl-C leaves it going. Raises BadInput for a parameter that does not exist or fit, Conflict if a run goes on,
    RunFailed with the failed step's reason and the end of its log, FraudlineError if nothing is deployed.
    """
    outputs = deployed(target)
    run = Execution.start(outputs, parameters)
    console.print(f"started {run.arn}", highlight=False, style="dim")
    with tempfile.TemporaryDirectory() as folder, shown(console) as progress:
        described = run.follow(progress, Path(folder))
    if described["PipelineExecutionStatus"] != "Succeeded":
        raise RunFailed(run.why(described))
    home = open_home(outputs["HomeUrl"])
    evaluation = json.loads(home.read(f"runs/{run.id}/evaluation/evaluation.json"))
    latest = Registry(home).latest()
    for said in (evaluation["gate"]["reason"], *evaluation["gate"].get("notes", ())):
        console.print(said, highlight=False, markup=False, style="dim")
    return {"run": run.id, "status": "Succeeded", "serving": latest.version if latest else None, **evaluation}


def default_contract(outputs: Mapping[str, str]) -> str:
    """The contract that the deployed feature job begins a new home with. outputs: the stack's."""
    job = asked(client("glue").get_job, JobName=outputs["GlueJobName"])["Job"]
    return str(job["DefaultArguments"]["--default-contract"])


@dataclass
class Execution:
    """One execution of the deployed pipeline. outputs: the stack's."""

    arn: str
    outputs: Mapping[str, str]
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Its name among the home's runs."""
        return self.arn.rpartition("/")[2]

    @classmethod
    def start(cls, outputs: Mapping[str, str], parameters: Mapping[str, str]) -> "Execution":
        """Start one. Raises BadInput or Conflict, see `run_on_aws`."""
        sagemaker, name = client("sagemaker"), outputs["PipelineName"]
        definition = json.loads(asked(sagemaker.describe_pipeline, PipelineName=name)["PipelineDefinition"])
        bind_parameters(definition, parameters)
        listed = asked(sagemaker.list_pipeline_executions, PipelineName=name, MaxResults=20)
        for found in listed["PipelineExecutionSummaries"]:
            if found["PipelineExecutionStatus"] not in ENDED:
                raise Conflict(f"the run {found['PipelineExecutionArn']} goes on; wait for its end")
        given = [{"Name": key, "Value": value} for key, value in parameters.items()]
        token = f"by-hand-{time.time_ns():032d}"
        start = sagemaker.start_pipeline_execution
        begun = asked(start, PipelineName=name, PipelineParameters=given, ClientRequestToken=token)
        return cls(begun["PipelineExecutionArn"], outputs)

    def follow(self, progress: Callable[[StepEvent], None], folder: Path) -> dict[str, Any]:
        """Tell of each step's changes until the execution has ended; its description then."""
        sagemaker = client("sagemaker")
        while True:
            which: dict[str, Any] = {"PipelineExecutionArn": self.arn}
            described: dict[str, Any] = asked(sagemaker.describe_pipeline_execution, **which)
            which |= {"SortOrder": "Ascending", "MaxResults": MOST_STEPS}
            for step in asked(sagemaker.list_pipeline_execution_steps, **which)["PipelineExecutionSteps"]:
                before = self.steps.get(step["StepName"], {}).get("StepStatus")
                self.steps[step["StepName"]] = step
                if step["StepStatus"] != before:
                    progress(_event(step, folder))
            if described["PipelineExecutionStatus"] in ENDED:
                return described
            time.sleep(POLL_SECONDS)

    def why(self, described: Mapping[str, Any]) -> str:
        """Why it did not succeed: the step, its reason, the end of its log."""
        by_status = {step["StepStatus"]: step for step in reversed(self.steps.values())}
        failed = by_status.get("Failed") or by_status.get("Stopped")
        if failed is None:
            status = described["PipelineExecutionStatus"]
            return f"the run {self.id} ended as {status}: {described.get('FailureReason', 'no reason was given')}"
        lines = list(self.log(failed))[-LOG_LINES:]
        told = "\nThe end of its log:\n" + "\n".join(lines) if lines else "\nIt left no log."
        return f"{failed['StepName']}: {failed.get('FailureReason', failed['StepStatus'])}{told}"

    def log(self, step: Mapping[str, Any]) -> Iterator[str]:
        """A step's log in CloudWatch, line by line; nothing for a step that has none."""
        for kind, group in (("TrainingJob", "TrainingJobs"), ("ProcessingJob", "ProcessingJobs")):
            if kind in step.get("Metadata", {}):
                job = step["Metadata"][kind]["Arn"].rpartition("/")[2]
                yield from _lines(f"/aws/sagemaker/{group}", f"{job}/")
        if step["StepName"] == "Features":
            runs = asked(client("glue").get_job_runs, JobName=self.outputs["GlueJobName"])["JobRuns"]
            for run in runs:
                if run.get("Arguments", {}).get("--run") == self.id:
                    yield from _lines(FEATURE_LOGS, run["Id"])


def _event(step: Mapping[str, Any], folder: Path) -> StepEvent:
    kind = next((KINDS[key] for key in step.get("Metadata", {}) if key in KINDS), "")
    timed = {"StartTime", "EndTime"} <= step.keys()  # one that was stopped before it began has no start
    seconds = (step["EndTime"] - step["StartTime"]).total_seconds() if timed else None
    log = folder / step["StepName"]  # stays empty: it is in CloudWatch
    return StepEvent(step["StepName"], kind, step["StepStatus"], log, seconds, step.get("FailureReason"))


def _lines(group: str, stream: str) -> Iterator[str]:
    """The lines of the streams whose names begin so, in the groups whose names do."""
    logs = client("logs")
    for found in asked(logs.describe_log_groups, logGroupNamePrefix=group)["logGroups"]:
        where = {"logGroupName": found["logGroupName"]}
        for one in asked(logs.describe_log_streams, **where, logStreamNamePrefix=stream)["logStreams"]:
            events = asked(logs.get_log_events, **where, logStreamName=one["logStreamName"])["events"]
            yield from (event["message"].rstrip() for event in events)
