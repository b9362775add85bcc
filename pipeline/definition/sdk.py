"""The SageMaker SDK, set up to build a definition offline, without an account and without side effects.

Its import takes 3 to 5 seconds and it has no type stubs; this module keeps both away from the rest.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

DESCRIBED = {  # the response whose fields are a step's properties, `Steps.<name>.<property>`
    "Training": "DescribeTrainingJobResponse",
    "Processing": "DescribeProcessingJobResponse",
    "RegisterModel": "DescribeModelPackageOutput",
}


@dataclass(frozen=True)
class Sdk:
    """The SDK's modules, and a session without access to anything.

    values: parameters, Join, JsonGet, ExecutionVariables; steps: the steps and the Pipeline;
    request_step(name, kind, description, request, property_files=()): a step made from a SageMaker API request
    """

    values: Any
    conditions: Any
    steps: Any
    request_step: Any
    session: Any

    def parameter(self, name: str, default: str | int | float | None) -> Any:
        """A pipeline parameter of its default's type. Without a default it is text, and every run must set it."""
        kinds = {int: self.values.ParameterInteger, float: self.values.ParameterFloat}
        return kinds.get(type(default), self.values.ParameterString)(name, default_value=default)

    def function(self, arn: str) -> Any:
        """An existing Lambda function; without this the SDK would create one."""
        return import_module("sagemaker.core.lambda_helper").Lambda(function_arn=arn, session=self.session)


@contextmanager
def offline_sdk() -> Iterator[Sdk]:
    """The SDK, for a `with` block.

    On import the SDK creates a client from boto3's default session. That fails without a region, and looks for missing
    credentials on the network, so the block replaces the default session by one with placeholders. The SDK also sets up
    the root logger, which is the program's business; the block undoes that.
    """
    boto3: Any = import_module("boto3")
    nowhere = boto3.Session(aws_access_key_id="none", aws_secret_access_key="none", region_name="us-east-1")
    root = logging.getLogger()
    default_session, handlers, level = boto3.DEFAULT_SESSION, list(root.handlers), root.level
    boto3.DEFAULT_SESSION = nowhere
    try:
        with warnings.catch_warnings():
            # The SDK warns about its own deprecated imports, and that it will not upload the function's code.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.filterwarnings("ignore", message="Lambda function won't be updated")
            steps = import_module("sagemaker.mlops.workflow")
            yield Sdk(
                values=import_module("sagemaker.core.workflow"),
                conditions=import_module("sagemaker.core.workflow.conditions"),
                steps=steps,
                request_step=_request_step(steps),
                # With a configuration of its own the result does not depend on the builder's SageMaker config files.
                session=import_module("sagemaker.core.workflow.pipeline_context").PipelineSession(
                    boto_session=nowhere, default_bucket="unused", sagemaker_config={"SchemaVersion": "1.0"}
                ),
            )
    finally:
        boto3.DEFAULT_SESSION = default_session
        root.handlers[:] = handlers
        root.setLevel(level)


def _request_step(steps: Any) -> Any:
    """The class of steps that contain a SageMaker API request as it is written.

    With the SDK's ModelTrainer one cannot choose the command of one's own image without uploading sources. An API
    request can, and can be checked against the API's model.
    """
    properties: Any = import_module("sagemaker.core.workflow.properties")
    faults = steps.StepRetryPolicy(
        exception_types=[steps.StepExceptionTypeEnum.SERVICE_FAULT, steps.StepExceptionTypeEnum.THROTTLING],
        interval_seconds=5,
        backoff_rate=2.0,
        max_attempts=6,
    )
    shortages = steps.SageMakerJobStepRetryPolicy(
        exception_types=[steps.SageMakerJobExceptionTypeEnum.RESOURCE_LIMIT],
        failure_reason_types=[
            steps.SageMakerJobExceptionTypeEnum.INTERNAL_ERROR,
            steps.SageMakerJobExceptionTypeEnum.CAPACITY_ERROR,
        ],
        interval_seconds=60,
        backoff_rate=2.0,
        max_attempts=5,
    )

    class RequestStep(steps.ConfigurableRetryStep):  # type: ignore[misc]
        def __init__(
            self,
            name: str,
            kind: str,
            description: str,
            request: dict[str, Any],
            property_files: Sequence[Any] = (),
        ) -> None:
            policies = [faults] if kind == "RegisterModel" else [faults, shortages]
            kind_of_step = steps.StepTypeEnum(kind)
            super().__init__(name, kind_of_step, description=description, retry_policies=policies)
            self.request = request
            self.property_files = list(property_files)
            self.response = properties.Properties(step_name=name, step=self, shape_name=DESCRIBED[kind])

        @property
        def arguments(self) -> dict[str, Any]:
            return self.request

        @property
        def properties(self) -> Any:
            return self.response

        def to_request(self) -> dict[str, Any]:
            request: dict[str, Any] = super().to_request()
            if self.property_files:
                request["PropertyFiles"] = [file.expr for file in self.property_files]
            return request

    return RequestStep
