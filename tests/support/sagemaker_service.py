"""SageMaker on this machine, for tests: it runs pipelines, and leaves everything else to moto.

    python sagemaker_service.py PORT FOLDER

Moto keeps model packages, groups and pipelines. An execution is a process of its own, `sagemaker_execution.py`, with
the pipeline's role; its files are in FOLDER. This service adds what moto lacks: the steps of an execution, responses to
callbacks, idempotence by ClientRequestToken.
"""

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from moto.moto_server.werkzeug_app import create_backend_app
from moto.sagemaker.models import sagemaker_backends
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

Entry = dict[str, Any]
RUN_ENDED = "SageMaker Model Building Pipeline Execution Status Change"
ENDED = ("Succeeded", "Failed", "Stopped")
STATUSES = boto3.client("sagemaker", region_name="us-east-1").meta.service_model.shape_for("StepStatus").enum


@dataclass
class Execution:
    """An execution: its description, its steps as ListPipelineExecutionSteps lists them, its process."""

    described: Entry
    process: subprocess.Popen[str]
    steps: dict[str, Entry] = field(default_factory=dict)

    def answer(self, message: Entry) -> None:
        """Pass the response of a callback to the process."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()


class Refused(Exception):
    """An error of the API: its code, and a message."""


class Service:
    """The operations that moto lacks. folder: of the executions' files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.executions: dict[str, Execution] = {}  # by ARN, oldest first
        self.tokens: dict[str, str] = {}  # ClientRequestToken -> ARN
        self.waiting: dict[str, Execution] = {}  # callback token -> the execution that waits for it
        self.lock = threading.RLock()

    def start_pipeline_execution(self, request: Entry) -> Entry:
        with self.lock:
            token = request["ClientRequestToken"]
            if token not in self.tokens:
                self.tokens[token] = self._start(request)
            return {"PipelineExecutionArn": self.tokens[token]}

    def _start(self, request: Entry) -> str:
        name = request["PipelineName"]
        pipeline = boto3.client("sagemaker").describe_pipeline(PipelineName=name)
        run = uuid.uuid4().hex[:12]
        arn = f"{pipeline['PipelineArn']}/execution/{run}"
        parameters = {each["Name"]: each["Value"] for each in request.get("PipelineParameters", [])}
        order = {
            "definition": json.loads(pipeline["PipelineDefinition"]),
            "parameters": parameters,
            "folder": str(self.folder / run),
            "run": run,
            "name": name,
        }
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("sagemaker_execution.py")), json.dumps(order)],
            env={**os.environ, **assumed(pipeline["RoleArn"])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        described = {
            "PipelineArn": pipeline["PipelineArn"],
            "PipelineExecutionArn": arn,
            "PipelineExecutionDisplayName": request.get("PipelineExecutionDisplayName", run),
            "PipelineExecutionDescription": request.get("PipelineExecutionDescription", ""),
            "PipelineExecutionStatus": "Executing",
            "CreationTime": time.time(),
        }
        self.executions[arn] = Execution(described, process)
        threading.Thread(target=self._follow, args=[self.executions[arn]], daemon=True).start()
        return arn

    def _follow(self, execution: Execution) -> None:
        assert execution.process.stdout
        for line in execution.process.stdout:
            self._record(execution, json.loads(line))
        if execution.process.wait() and execution.described["PipelineExecutionStatus"] not in ENDED:
            self._end(execution, "Failed", f"its process ended with {execution.process.returncode}")

    def _record(self, execution: Execution, event: Entry) -> None:
        with self.lock:
            match event.pop("event"):
                case "step":
                    assert event["StepStatus"] in STATUSES, event
                    step = execution.steps.setdefault(event["StepName"], {"StartTime": time.time()})
                    step.update(event, **({"EndTime": time.time()} if event["StepStatus"] in ENDED else {}))
                case "waits":
                    self.waiting[event["token"]] = execution
                case "ended":
                    self._end(execution, event["status"], event["reason"])

    def _end(self, execution: Execution, status: str, reason: str | None) -> None:
        described = execution.described
        described.update(PipelineExecutionStatus=status, LastModifiedTime=time.time())
        if reason:
            described["FailureReason"] = reason
        detail = {
            "pipelineArn": described["PipelineArn"],
            "pipelineExecutionArn": described["PipelineExecutionArn"],
            "currentPipelineExecutionStatus": status,
        }
        put_event(RUN_ENDED, detail)

    def stop_pipeline_execution(self, request: Entry) -> Entry:
        execution = self._execution(request)
        execution.described["PipelineExecutionStatus"] = "Stopping"
        for step in execution.steps.values():
            if step["StepStatus"] not in ENDED:
                step["StepStatus"] = "Stopping"
        execution.process.terminate()
        return {"PipelineExecutionArn": request["PipelineExecutionArn"]}

    def describe_pipeline_execution(self, request: Entry) -> Entry:
        return self._execution(request).described

    def list_pipeline_executions(self, request: Entry) -> Entry:
        name = f":pipeline/{request['PipelineName']}/"
        executions = [one.described for arn, one in self.executions.items() if name in arn]
        return {
            "PipelineExecutionSummaries": [
                {**one, "StartTime": one["CreationTime"]}
                for one in reversed(executions[-request.get("MaxResults", 100) :])
            ]
        }

    def list_pipeline_execution_steps(self, request: Entry) -> Entry:
        steps = list(self._execution(request).steps.values())
        return {"PipelineExecutionSteps": steps if request.get("SortOrder") == "Ascending" else steps[::-1]}

    def send_pipeline_execution_step_success(self, request: Entry) -> Entry:
        outputs = {each["Name"]: each["Value"] for each in request.get("OutputParameters", [])}
        return self._respond(request["CallbackToken"], {"outputs": outputs})

    def send_pipeline_execution_step_failure(self, request: Entry) -> Entry:
        return self._respond(request["CallbackToken"], {"failure": request["FailureReason"]})

    def _respond(self, token: str, answer: Entry) -> Entry:
        with self.lock:
            execution = self.waiting.pop(token, None)
            if execution is None:
                raise Refused("ResourceNotFound", "no step waits for this token")
            execution.answer(answer)
            return {"PipelineExecutionArn": execution.described["PipelineExecutionArn"]}

    def delete_model_package(self, request: Entry) -> Entry:
        arn = request["ModelPackageName"]
        region, account = arn.split(":")[3:5]
        if sagemaker_backends[account][region].model_packages.pop(arn, None) is None:
            raise Refused("ValidationException", f"no model package {arn}")
        return {}

    def _execution(self, request: Entry) -> Execution:
        try:
            return self.executions[request["PipelineExecutionArn"]]
        except KeyError:
            raise Refused("ResourceNotFound", f"no execution {request['PipelineExecutionArn']}") from None

    def operation(self, target: str) -> Callable[[Entry], Entry] | None:
        """The method for an X-Amz-Target; None if moto has it."""
        words = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in target.split(".")[-1])
        return getattr(self, words[1:], None) if words else None


def assumed(role: str) -> dict[str, str]:
    """The environment of a process that has a role, which the service assumes for it."""
    # With the emulator's root credentials, since the service may assume roles that the caller may not.
    sts = boto3.client("sts", aws_access_key_id="test", aws_secret_access_key="test", aws_session_token="")
    credentials = sts.assume_role(RoleArn=role, RoleSessionName="sagemaker")["Credentials"]
    return {
        "AWS_ACCESS_KEY_ID": credentials["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": credentials["SecretAccessKey"],
        "AWS_SESSION_TOKEN": credentials["SessionToken"],
    }


def put_event(kind: str, detail: Entry) -> None:
    """Send an event of the service. Only AWS can send from `aws.*`, so its source is `test`."""
    answer = boto3.client("events").put_events(
        Entries=[{"Source": "test", "DetailType": kind, "Detail": json.dumps(detail)}]
    )
    assert not answer["FailedEntryCount"], answer


def main(port: int, folder: Path) -> None:
    """Serve until the process ends."""
    folder.mkdir(parents=True, exist_ok=True)
    service, moto = Service(folder), create_backend_app("sagemaker")

    def answer(environ: Entry, start_response: Any) -> Iterable[bytes]:
        operation = service.operation(environ.get("HTTP_X_AMZ_TARGET", ""))
        if operation is None:
            return moto(environ, start_response)
        try:
            body, status = operation(json.loads(Request(environ).get_data())), 200
        except Refused as error:
            body, status = {"__type": error.args[0], "message": error.args[1]}, 400
        return Response(json.dumps(body), status, content_type="application/x-amz-json-1.1")(environ, start_response)

    make_server("127.0.0.1", port, answer, threaded=True).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
