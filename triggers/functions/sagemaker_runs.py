"""What the functions need of SageMaker: executions of the pipeline, responses to its Callback step, model packages."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import boto3

GOING = ("Executing", "Stopping")
NEWEST = 50  # executions that are listed; there should never be more than one in progress
MAX_REASON = 256  # characters that the service accepts


@dataclass(frozen=True)
class Execution:
    """An execution of the pipeline. name: the one it was started with; going: whether it is in progress."""

    arn: str
    name: str
    going: bool


@dataclass(frozen=True)
class Package:
    """A model package.

    version: that it stands for, None if it is not one of ours
    approved: whether it is approved now
    manifest: the SHA-256 of the version's manifest as evaluated; packages of earlier versions of Fraudline have none
    """

    version: str | None
    approved: bool
    manifest: str | None = None


class PipelineRuns:
    """The runs of the deployed SageMaker pipeline. Every call raises botocore's errors."""

    def __init__(self, pipeline: str, client: Any = None) -> None:
        self.pipeline = pipeline
        self._client = client or boto3.client("sagemaker")

    def latest(self) -> list[Execution]:
        """The newest executions, newest first."""
        answer = self._client.list_pipeline_executions(
            PipelineName=self.pipeline, SortBy="CreationTime", SortOrder="Descending", MaxResults=NEWEST
        )
        return [
            Execution(
                arn=summary["PipelineExecutionArn"],
                name=summary.get("PipelineExecutionDisplayName", ""),
                going=summary.get("PipelineExecutionStatus") in GOING,
            )
            for summary in answer["PipelineExecutionSummaries"]
        ]

    def start(self, name: str, reason: str, token: str) -> str:
        """Start an execution; returns its ARN. Only the first call with a token starts one."""
        answer = self._client.start_pipeline_execution(
            PipelineName=self.pipeline,
            PipelineExecutionDisplayName=name,
            PipelineExecutionDescription=reason,
            ClientRequestToken=token,
        )
        return str(answer["PipelineExecutionArn"])


class CallbackResponses:
    """Responses to a Callback step. Every call raises botocore's errors."""

    def __init__(self, client: Any = None) -> None:
        self._client = client or boto3.client("sagemaker")

    def succeed(self, token: str, outputs: Mapping[str, str]) -> bool:
        """Let the step succeed with these outputs. Returns whether a step was waiting for it."""
        return self._respond(
            self._client.send_pipeline_execution_step_success,
            token,
            "success",
            OutputParameters=[{"Name": name, "Value": value} for name, value in outputs.items()],
        )

    def fail(self, token: str, reason: str) -> bool:
        """Let the step fail for this reason. Returns whether a step was waiting for it."""
        short = reason if len(reason) <= MAX_REASON else f"{reason[: MAX_REASON - 1]}…"
        return self._respond(self._client.send_pipeline_execution_step_failure, token, "failure", FailureReason=short)

    def _respond(self, send: Any, token: str, kind: str, **response: Any) -> bool:
        request_token = hashlib.sha256(f"{kind} {token}".encode()).hexdigest()
        try:
            send(CallbackToken=token, ClientRequestToken=request_token, **response)
        except self._client.exceptions.ResourceNotFound:
            return False
        return True


class ModelPackages:
    """SageMaker's model registry. Every call raises botocore's errors."""

    def __init__(self, client: Any = None) -> None:
        self._client = client or boto3.client("sagemaker")

    def describe(self, arn: str) -> Package:
        """The package with this ARN."""
        description = self._client.describe_model_package(ModelPackageName=arn)
        metadata = description.get("CustomerMetadataProperties", {})
        approved = description.get("ModelApprovalStatus") == "Approved"
        return Package(metadata.get("version"), approved, metadata.get("manifest"))
