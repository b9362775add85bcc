"""Stand-ins on this machine for the AWS services that a pipeline's steps use: SQS, Lambda, the model registry."""

import json
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO, TypeVar

from pipeline.local import jobs
from pipeline.local.pipeline_parameters import cast
from processing.errors import BadInput, RunFailed

Callback = Callable[[dict[str, Any], TextIO], Mapping[str, Any]]
Function = Callable[[dict[str, Any], Any], Any]
JobRunner = Callable[[jobs.Job, Mapping[str, Any]], dict[str, Any]]
Registrar = Callable[[dict[str, Any], Path, str], dict[str, Any]]

Bound = TypeVar("Bound")

ACCOUNT = "arn:aws:sagemaker:local:000000000000"


def record_package(request: dict[str, Any], folder: Path, run: str) -> dict[str, Any]:
    """Check a CreateModelPackage request against the API's own model and record it.

    A local run has no model registry service. Instead it writes `model-package.json` to the step's folder; the
    package's ARN names the run. Raises RunFailed for a request that the service would refuse.
    """
    botocore_session: Any = import_module("botocore.session")
    validate: Any = import_module("botocore.validate")
    service = botocore_session.get_session().get_service_model("sagemaker")
    shape = service.operation_model("CreateModelPackage").input_shape
    report = validate.ParamValidator().validate(request, shape)
    if report.has_errors():
        raise RunFailed(f"SageMaker would refuse the model package: {report.generate_report()}")
    name = request.get("ModelPackageGroupName") or request.get("ModelPackageName", "model")
    package = {
        **request,
        "ModelPackageArn": f"{ACCOUNT}:model-package/{name}/{run}",
        "ModelPackageStatus": "Completed",
    }
    (folder / "model-package.json").write_text(json.dumps(package, indent=2), encoding="utf-8")
    return package


@dataclass(frozen=True)
class Bindings:
    """What this machine uses in place of the AWS resources that a definition addresses.

    callbacks: by SQS queue URL, a function that does the work of a Callback step. It gets the message ({"token",
        "pipelineExecutionArn", "arguments"}) and the step's log, and returns the step's output parameters
    lambdas: by function ARN, a Lambda handler (event, context), or its address as "module:function"
    python: the interpreter for `python3` in a step's command
    train, process: run a CreateTrainingJob or CreateProcessingJob request and return its Describe call's response
    register: gets a CreateModelPackage request, the step's folder and the run's id; returns the package's properties
    """

    callbacks: Mapping[str, Callback] = field(default_factory=dict)
    lambdas: Mapping[str, Function | str] = field(default_factory=dict)
    python: str = sys.executable
    train: JobRunner = jobs.run_training_job
    process: JobRunner = jobs.run_processing_job
    register: Registrar = record_package

    def callback(self, queue_url: str) -> Callback:
        """The function bound to a queue. Raises BadInput if there is none."""
        return _bound(self.callbacks, queue_url, "the queue")

    def function(self, arn: str) -> Function:
        """The handler bound to a Lambda function. Raises BadInput if there is none or it cannot be imported."""
        handler = _bound(self.lambdas, arn, "the function")
        if not isinstance(handler, str):
            return handler
        module, _, name = handler.partition(":")
        try:
            function: Function = getattr(import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise BadInput(f"the function {arn} is bound to {handler!r}, which cannot be imported: {error}") from error
        return function


@dataclass(frozen=True)
class LambdaContext:
    """The part of Lambda's context object that handlers and Powertools read."""

    invoked_function_arn: str
    aws_request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    memory_limit_in_mb: int = 512
    function_version: str = "$LATEST"
    deadline: float = field(default_factory=lambda: time.monotonic() + 900)

    @property
    def function_name(self) -> str:
        """The last part of the function's ARN."""
        return self.invoked_function_arn.rpartition(":")[2]

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda would end the call."""
        return max(0, int((self.deadline - time.monotonic()) * 1000))


def call_back(
    bindings: Bindings, step: Mapping[str, Any], arguments: dict[str, Any], execution_arn: str, log: Path
) -> dict[str, Any]:
    """Send a Callback step's message and wait for the response. Returns the step's properties."""
    message = {"token": str(uuid.uuid4()), "pipelineExecutionArn": execution_arn, "arguments": arguments}
    with log.open("a", encoding="utf-8", buffering=1) as file:
        response = bindings.callback(step["SqsQueueUrl"])(message, file)
    declared = [output["OutputName"] for output in step.get("OutputParameters", [])]
    for name in response:
        if name not in declared:
            raise RunFailed(f"the response has the output {name!r}; declared are {', '.join(declared) or 'none'}")
    return _outputs(step, response)


def invoke(bindings: Bindings, step: Mapping[str, Any], arguments: dict[str, Any], log: Path) -> dict[str, Any]:
    """Call a Lambda step's function, with event and response passed as JSON. Returns the step's properties."""
    arn = step["FunctionArn"]
    handler = bindings.function(arn)
    with log.open("a", encoding="utf-8", buffering=1) as file, redirect_stdout(file):
        response = json.loads(json.dumps(handler(json.loads(json.dumps(arguments)), LambdaContext(arn))))
    return _outputs(step, response if isinstance(response, dict) else {})


def _outputs(step: Mapping[str, Any], response: Mapping[str, Any]) -> dict[str, Any]:
    outputs = {}
    for output in step.get("OutputParameters", []):
        name = output["OutputName"]
        if name not in response:
            raise RunFailed(f"the response lacks the output {name!r}; it has {', '.join(response) or 'none'}")
        outputs[name] = cast(response[name], output.get("OutputType", "String"), f"the output {name}")
    return {"OutputParameters": outputs}


def _bound(bound: Mapping[str, Bound], address: str, what: str) -> Bound:
    if address not in bound:
        known = ", ".join(bound) or "none"
        raise BadInput(f"nothing on this machine is bound to {what} {address}; bound are {known}")
    return bound[address]
