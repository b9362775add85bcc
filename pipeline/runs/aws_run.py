"""One run of the pipeline deployed to AWS: started from here and followed to its end."""

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from pipeline.infrastructure.aws_errors import call_aws
from pipeline.infrastructure.target import Target, deployed_outputs
from pipeline.local import StepEvent
from pipeline.local.pipeline_parameters import bind_parameters
from pipeline.registry.registry import Registry
from pipeline.runs.own_code import with_own_code
from pipeline.runs.progress import shown
from pipeline.runs.sagemaker_statuses import ENDED
from processing.aws_client import client
from processing.errors import Conflict, RunFailed
from processing.storage.open import open_home

POLL_SECONDS = 2.0
LOG_LINES = 30
MAX_STEPS = 100
KINDS = {"TrainingJob": "Training", "ProcessingJob": "Processing", "Condition": "Condition"}  # by a step's metadata
FEATURE_LOGS = "/fraudline/features"


def run_on_aws(target: Target, parameters: Mapping[str, str], console: Console) -> dict[str, Any]:
    """Run the deployed pipeline, show its steps, and return the result, as a local run does.

    Ctrl-C leaves the run going. Raises BadInput for a parameter that is unknown or has a wrong value, Conflict if a run
    is in progress, RunFailed with the failed step's reason and the end of its log, FraudlineError if nothing is
    deployed.
    """
    outputs = deployed_outputs(target)
    home = open_home(outputs["HomeUrl"])
    run = AwsRun.start(outputs, with_own_code(home, parameters))
    console.print(f"started {run.arn}", highlight=False, style="dim")
    with tempfile.TemporaryDirectory() as folder, shown(console) as progress:
        description = run.follow(progress, Path(folder))
    if description["PipelineExecutionStatus"] != "Succeeded":
        raise RunFailed(run.failure(description))
    evaluation = json.loads(home.read(f"runs/{run.id}/evaluation/evaluation.json"))
    latest = Registry(home).latest()
    for line in (evaluation["gate"]["reason"], *evaluation["gate"].get("notes", ())):
        console.print(line, highlight=False, markup=False, style="dim")
    return {"run": run.id, "status": "Succeeded", "serving": latest.version if latest else None, **evaluation}


def default_contract(outputs: Mapping[str, str]) -> str:
    """The contract that the deployed feature job gives a new home. outputs: the stack's."""
    job = call_aws(client("glue").get_job, JobName=outputs["GlueJobName"])["Job"]
    return str(job["DefaultArguments"]["--default-contract"])


@dataclass
class AwsRun:
    """One execution of the deployed pipeline.

    outputs: the stack's; steps: the latest description of each step, by name
    """

    arn: str
    outputs: Mapping[str, str]
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The run's name in the home."""
        return self.arn.rpartition("/")[2]

    @classmethod
    def start(cls, outputs: Mapping[str, str], parameters: Mapping[str, str]) -> "AwsRun":
        """Start a run. Raises BadInput or Conflict, see `run_on_aws`."""
        sagemaker, name = client("sagemaker"), outputs["PipelineName"]
        definition = json.loads(call_aws(sagemaker.describe_pipeline, PipelineName=name)["PipelineDefinition"])
        bind_parameters(definition, parameters)
        executions = call_aws(sagemaker.list_pipeline_executions, PipelineName=name, MaxResults=20)
        for execution in executions["PipelineExecutionSummaries"]:
            if execution["PipelineExecutionStatus"] not in ENDED:
                raise Conflict(f"the run {execution['PipelineExecutionArn']} is in progress; wait for it to end")
        values = [{"Name": key, "Value": value} for key, value in parameters.items()]
        token = f"by-hand-{time.time_ns():032d}"
        start = sagemaker.start_pipeline_execution
        response = call_aws(start, PipelineName=name, PipelineParameters=values, ClientRequestToken=token)
        return cls(response["PipelineExecutionArn"], outputs)

    def follow(self, progress: Callable[[StepEvent], None], folder: Path) -> dict[str, Any]:
        """Report each step's changes until the execution ends. Returns its description at the end."""
        sagemaker = client("sagemaker")
        while True:
            which: dict[str, Any] = {"PipelineExecutionArn": self.arn}
            description: dict[str, Any] = call_aws(sagemaker.describe_pipeline_execution, **which)
            which |= {"SortOrder": "Ascending", "MaxResults": MAX_STEPS}
            for step in call_aws(sagemaker.list_pipeline_execution_steps, **which)["PipelineExecutionSteps"]:
                before = self.steps.get(step["StepName"], {}).get("StepStatus")
                self.steps[step["StepName"]] = step
                if step["StepStatus"] != before:
                    progress(_event(step, folder))
            if description["PipelineExecutionStatus"] in ENDED:
                return description
            time.sleep(POLL_SECONDS)

    def failure(self, description: Mapping[str, Any]) -> str:
        """Why the run did not succeed: the step, its reason and the end of its log."""
        by_status = {step["StepStatus"]: step for step in reversed(self.steps.values())}
        failed = by_status.get("Failed") or by_status.get("Stopped")
        if failed is None:
            status = description["PipelineExecutionStatus"]
            return f"run {self.id} ended as {status}: {description.get('FailureReason', 'SageMaker gave no reason')}"
        lines = list(self.log(failed))[-LOG_LINES:]
        log = "\nThe end of its log:\n" + "\n".join(lines) if lines else "\nIt has no log."
        return f"{failed['StepName']}: {failed.get('FailureReason', failed['StepStatus'])}{log}"

    def log(self, step: Mapping[str, Any]) -> Iterator[str]:
        """A step's log in CloudWatch, line by line; nothing for a step without one."""
        for kind, group in (("TrainingJob", "TrainingJobs"), ("ProcessingJob", "ProcessingJobs")):
            if kind in step.get("Metadata", {}):
                job = step["Metadata"][kind]["Arn"].rpartition("/")[2]
                yield from _lines(f"/aws/sagemaker/{group}", f"{job}/")
        if step["StepName"] == "Features":
            job_runs = call_aws(client("glue").get_job_runs, JobName=self.outputs["GlueJobName"])["JobRuns"]
            for job_run in job_runs:
                if job_run.get("Arguments", {}).get("--run") == self.id:
                    yield from _lines(FEATURE_LOGS, job_run["Id"])


def _event(step: Mapping[str, Any], folder: Path) -> StepEvent:
    kind = next((KINDS[key] for key in step.get("Metadata", {}) if key in KINDS), "")
    timed = {"StartTime", "EndTime"} <= step.keys()  # a step stopped before it began has no start time
    seconds = (step["EndTime"] - step["StartTime"]).total_seconds() if timed else None
    log = folder / step["StepName"]  # never written: the log is in CloudWatch
    return StepEvent(step["StepName"], kind, step["StepStatus"], log, seconds, step.get("FailureReason"))


def _lines(group_prefix: str, stream_prefix: str) -> Iterator[str]:
    """The lines of all log streams and groups with these prefixes."""
    logs = client("logs")
    for group in call_aws(logs.describe_log_groups, logGroupNamePrefix=group_prefix)["logGroups"]:
        where = {"logGroupName": group["logGroupName"]}
        for stream in call_aws(logs.describe_log_streams, **where, logStreamNamePrefix=stream_prefix)["logStreams"]:
            events = call_aws(logs.get_log_events, **where, logStreamName=stream["logStreamName"])["events"]
            yield from (event["message"].rstrip() for event in events)
