"""An execution of the pipeline in the tests' SageMaker, as a process with the pipeline's role.

It writes events as lines of JSON to standard output, and reads responses to callbacks from standard input. Each job
runs in a further process with the job's own role, which also transfers its data, as in SageMaker.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Event
from typing import Any, TextIO

import boto3
from sagemaker_service import assumed

from pipeline.local import Bindings, LocalExecution, StepEvent
from pipeline.local.jobs import Job, JobFailed, run_processing_job, run_training_job
from processing.errors import FraudlineError, RunFailed

Entry = dict[str, Any]
GROUPS = {"Training": "/aws/sagemaker/TrainingJobs", "Processing": "/aws/sagemaker/ProcessingJobs"}


def execute(order: Entry) -> None:
    """Run the definition, and write what happens."""
    kinds = {"train": "Training", "process": "Processing"}
    bindings = Bindings(
        callbacks=_AnyAddress(lambda queue: lambda message, log: call_back(queue, message)),
        lambdas=_AnyAddress(lambda arn: lambda event, context: invoke(arn, event)),
        train=lambda job, request: run_job(kinds["train"], job, request),
        process=lambda job, request: run_job(kinds["process"], job, request),
        register=lambda request, folder, run: register(request),
    )
    execution = LocalExecution(
        order["definition"], order["parameters"], Path(order["folder"]), order["run"], bindings, order["name"]
    )
    outcome = execution.execute(lambda event: write_step(order["run"], event))
    write(event="ended", status=outcome.status, reason=outcome.reason)


def write(**words: Any) -> None:
    print(json.dumps(words), flush=True)


def write_step(run: str, event: StepEvent) -> None:
    """Write a step as ListPipelineExecutionSteps lists it; steps that do not run are not listed."""
    if event.status == "NotRun":
        return
    if event.status == "Executing":  # SageMaker reports another status first
        write(event="step", StepName=event.step, StepStatus="Starting")
    step: Entry = {"StepName": event.step, "StepStatus": event.status}
    if event.kind in GROUPS:
        name = f"pipelines-{run}-{event.step}"
        kind = event.kind.lower()
        step["Metadata"] = {f"{event.kind}Job": {"Arn": f"arn:aws:sagemaker:::{kind}-job/{name}"}}
    if event.reason:
        step["FailureReason"] = event.reason[:1024]
    write(event="step", **step)


class _AnyAddress(dict[str, Any]):
    """Has a value for every address, made from the address."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self._make = make

    def __contains__(self, key: object) -> bool:
        return True

    def __missing__(self, key: str) -> Any:
        return self._make(key)


def call_back(queue: str, message: Entry) -> Mapping[str, str]:
    """Send a Callback step's message and wait for the response."""
    write(event="waits", token=message["token"])
    boto3.client("sqs").send_message(QueueUrl=queue, MessageBody=json.dumps(message))
    answer = json.loads(sys.stdin.readline())
    if "failure" in answer:
        raise RunFailed(answer["failure"])
    outputs: dict[str, str] = answer["outputs"]
    return outputs


def invoke(arn: str, event: Entry) -> Any:
    """Invoke a Lambda step's function."""
    answer = boto3.client("lambda").invoke(FunctionName=arn, Payload=json.dumps(event))
    response = json.load(answer["Payload"])
    if answer.get("FunctionError"):
        raise RunFailed(f"the function {arn.rpartition(':')[2]} failed: {response.get('errorMessage', response)}")
    return response


def register(request: Entry) -> Entry:
    """Register a model package, as the pipeline does."""
    package = boto3.client("sagemaker").create_model_package(**request)
    return {**request, **{key: value for key, value in package.items() if key != "ResponseMetadata"}}


def run_job(kind: str, job: Job, request: Mapping[str, Any]) -> Entry:
    """Run a job with its own role, which the service may assume and the pipeline may not."""
    environment = {**os.environ, **assumed(request["RoleArn"])}
    order = {"kind": kind, "name": job.name, "folder": str(job.folder), "log": str(job.log), "request": request}
    done = subprocess.run(
        [sys.executable, __file__, json.dumps(order)], env=environment, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise RunFailed(f"the job's process ended with {done.returncode}")
    answer = json.loads(done.stdout.splitlines()[-1])
    if "failure" in answer:
        raise JobFailed(answer["failure"], answer["exit_code"])
    described: Entry = answer["described"]
    return described


def work(order: Entry) -> None:
    """Run a job in its own process and role, and write its log to CloudWatch, as SageMaker does."""
    folder, log = Path(order["folder"]), Path(order["log"])
    job = Job(order["name"], folder, log, sys.executable, Event())
    run = run_training_job if order["kind"] == "Training" else run_processing_job
    answer: Entry
    try:
        answer = {"described": run(job, order["request"])}
    except JobFailed as error:
        answer = {"failure": str(error), "exit_code": error.code}
    except FraudlineError as error:
        answer = {"failure": str(error), "exit_code": 1}
    with log.open() as file:
        put_log(boto3.client("logs"), GROUPS[order["kind"]], f"{order['name']}/algo-1-1", file)
    write(**answer)


def put_log(logs: Any, group: str, stream: str, file: TextIO) -> None:
    """Write a log to CloudWatch."""
    for make, names in ((logs.create_log_group, {}), (logs.create_log_stream, {"logStreamName": stream})):
        try:
            make(logGroupName=group, **names)
        except logs.exceptions.ResourceAlreadyExistsException:
            continue
    at = int(time.time() * 1000)
    lines = [{"timestamp": at, "message": line.rstrip("\n") or " "} for line in file]
    if lines:
        logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=lines[-1000:])


if __name__ == "__main__":
    order = json.loads(sys.argv[1])
    work(order) if "kind" in order else execute(order)
